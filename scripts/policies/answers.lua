-- Answers of a language model, piece by piece: one producer, one reader, and an end. The same for jobs and downloads.
--
--   keys = { main = { secret = env "JWT_SECRET" } }, -- better: jwks_url, and other algorithms
--
-- The producer's token says { sub = "model-1", role = "producer" }. It publishes to answers/USER/CONVERSATION with
-- attrs = { seq = 1 }, 2, 3 ... and gives the last piece the type `done` or `failed`. What it repeats is stored once.
-- The user opens /events?conversation=7&last_event_id=earliest: the answer from its first piece on, whenever that is.
-- The stream ends behind the last piece; the browser, which comes back with its id, gets 204 and stays quiet.

---@type tg.Policy
local P = { api = 1, version = "answers-1" }

local TOKENS = { keys = "main", alg = { "HS256" }, iss = "https://id.example", aud = "tidegate", leeway = 30 }

P.filters = { complete = "type == 'done' or type == 'failed'" }

function P.authenticate(req)
  local claims, err = tg.jwt(req.bearer or req.cookies.access_token, TOKENS)
  if not claims then
    return tg.deny(401, err or "a token was expected")
  elseif not tg.topic_ok(claims.sub) then -- it becomes a part of topics
    return tg.deny(403, "the token names no user")
  end
  return { sub = claims.sub, producer = claims.role == "producer", expires = claims.exp }
end

function P.subscribe(req, who)
  if not tg.topic_ok(req.query.conversation) then
    return tg.deny(400, "conversation: a name was expected")
  end
  return { topics = { tg.topic("answers", who.sub, req.query.conversation) }, filter = "none", ends = "complete" }
end

function P.publish(pub, who)
  local seq = math.tointeger(tonumber(pub.attrs and pub.attrs.seq))
  if not who.producer or not pub.topic:find "^answers/[^/]+/[^/]+$" then
    return tg.deny(403, "only producers publish, to answers/USER/CONVERSATION")
  elseif not seq or seq < 1 or #pub.topic > 200 then
    return tg.deny(400, "attrs.seq: 1, 2, 3 ... was expected, and a topic of at most 200 bytes")
  end
  pub.key = ("%s#%d"):format(pub.topic, seq) -- a piece that was sent twice is answered with the first id
  return pub
end

return P
