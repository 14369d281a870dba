-- Who may read and write what. `tidegate test .` runs its tests, `tidegate reload` puts a change into effect.
---@type tg.Policy
local P = { api = 1, version = "first-1" }

-- What differs between installations: policy.settings in tidegate.lua.
local settings = tg.settings { public = { "string", default = "news" } }
local public = tg.topic(settings.public) .. "/"

-- Once per connection, and per publish: who is it? What it returns goes to the hooks below.
function P.authenticate(req)
  local token = req.bearer or req.cookies.access_token or req.query.access_token -- an EventSource sets no headers
  local claims, err = tg.jwt(token, { keys = "main", alg = { "HS256" } })
  if not claims then
    return tg.deny(401, err or "a token was expected")
  end
  if not tg.topic_ok(claims.sub) then -- it becomes a part of a topic: "*" or "a/b" must not get that far
    return tg.deny(403, "the token names nobody")
  end
  return { sub = claims.sub, writer = claims.writer == true, expires = claims.exp }
end

-- Once per connection: everybody reads what is public, and what is addressed to them: all of it, or the topics they
-- ask for.
function P.subscribe(req, who)
  local own = tg.topic("users", who.sub) .. "/"
  for _, topic in ipairs(req.topics) do
    if not tg.pattern_ok(topic) or #req.topics > 100 then
      return tg.deny(400, "at most 100 topics were expected, each a name like news/today or a pattern like news/**")
    elseif topic:sub(1, #public) ~= public and topic:sub(1, #own) ~= own then
      return tg.deny(403, ("topic: something in %s** or %s** was expected"):format(public, own))
    end
  end
  return { topics = #req.topics > 0 and req.topics or { public .. "**", own .. "**" } }
end

-- Once per event: writers publish.
function P.publish(pub, who)
  if not who.writer then
    return tg.deny(403, "your token is not one of a writer")
  end
  return pub
end

return P
