-- Who may read and write what. `tidegate test .` runs its tests, `tidegate reload` puts a change into effect.
---@type tg.Policy
local P = { api = 1, version = "first-1" }

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

-- Once per connection: everybody reads the news, and what is addressed to them, whatever topics they ask for.
function P.subscribe(_, who)
  return { topics = { "news/**", tg.topic("users", who.sub) .. "/**" } }
end

-- Once per event: writers publish.
function P.publish(pub, who)
  if not who.writer then
    return tg.deny(403, "your token is not one of a writer")
  end
  return pub
end

return P
