-- Who is in a room (?room=7): a client gets those who are there, then who comes and goes, and what is said.
--
--   keys  = { main = { secret = env "JWT_SECRET" } },     -- better: jwks_url, and other algorithms
--   store = { latest = { "room/*/members/*" } },          -- presence is the newest events of these topics
---@type tg.Policy
local P = { api = 1, version = "presence-1" }

function P.authenticate(req)
  local claims, err = tg.jwt(req.bearer or req.cookies.access_token, { keys = "main", alg = { "HS256" } })
  if not claims or not claims.sub or #claims.sub > 100 then
    return tg.deny(401, err or "the token names no user")
  end
  return { sub = claims.sub, name = claims.name, expires = claims.exp }
end

function P.subscribe(req, who)
  local room = req.query.room
  if not tg.topic_ok(room) or #room > 50 then
    return tg.deny(400, "room: the name of a room was expected")
  end
  local members = tg.topic("room", room, "members")
  return {
    topics = { members .. "/*", tg.topic("room", room, "said") },
    start = "latest", -- first those who are there
    envelope = true, -- the topic says who
    presence = { topic = members, member = who.sub, data = { name = who.name or who.sub } },
  }
end

function P.publish(pub)
  if not pub.topic:find "^room/[^/]+/said$" then
    return tg.deny(403, "only room/ROOM/said") -- who is there says the broker alone
  end
  return pub
end

return P
