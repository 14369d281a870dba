-- For spec/bench: every client shows a token, and is asked for its rights in Lua.
local P = { api = 1 }

function P.authenticate(req)
  local c, err = tg.jwt(req.bearer, { keys = "bench", alg = { "HS256" }, aud = "sse" })
  if not c then
    return tg.deny(401, err)
  end
  return { sub = c.sub, tenant = c.tenant, expires = c.exp }
end

function P.subscribe(req, who)
  for _, topic in ipairs(req.topics) do
    if not tg.pattern_ok(topic) then
      return tg.deny(400, "topic: a name or a pattern was expected")
    end
  end
  return { topics = req.topics, filter = "tenant", params = { tenant = who.tenant } }
end

P.filters = { tenant = "attrs.tenant == $tenant" }

return P
