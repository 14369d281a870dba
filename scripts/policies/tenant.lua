-- Tenants that must not see each other: each reads and writes below tenant/NAME/ only. Who somebody is
-- says a token (JWT) of your identity provider, with the claims `tenant` and, for those who may publish,
-- `role = "writer"`. The keys it is signed with are in the configuration:
--
--   keys = { main = { jwks_url = "https://id.example/.well-known/jwks.json" } }
--
--   curl -N -H "Authorization: Bearer $TOKEN" 'http://localhost:8080/events?topic=orders'
--
-- Browsers cannot send that header from an EventSource: put the token into the cookie `tidegate_token`.

-- EXAMPLE VALUES: what your tokens say of themselves.
local TOKEN = {
  keys = "main", alg = { "RS256", "ES256", "EdDSA" }, iss = "https://id.example", aud = "sse", leeway = 30,
}

---@type tg.Policy
local P = { api = 1, version = "tenant-2" }

function P.authenticate(req)
  local c, err = tg.jwt(req.bearer or req.cookies.tidegate_token, TOKEN)
  if not c then
    return tg.deny(401, err)
  end
  if not tg.topic_ok(c.tenant) or type(c.sub) ~= "string" then
    return tg.deny(403, "the token names no tenant, or nobody")
  end
  return { sub = c.sub, tenant = c.tenant, role = c.role == "writer" and "writer" or "reader", expires = c.exp }
end

-- Clients ask for topics relative to their tenant. tg.topic() takes each segment literally: a "*"
-- of the client's making cannot reach into another tenant, and is refused here as a bad request.
local function own(who, topic)
  local segments = {}
  for segment in (topic .. "/"):gmatch("([^/]*)/") do
    if not tg.topic_ok(segment) then
      return nil
    end
    segments[#segments + 1] = segment
  end
  return #segments <= 16 and tg.pattern_ok("tenant/" .. who.tenant .. "/" .. topic)
    and tg.topic("tenant", who.tenant, table.unpack(segments)) or nil
end

function P.subscribe(req, who)
  local topics = {}
  for i, topic in ipairs(req.topics) do
    topics[i] = own(who, topic)
    if not topics[i] then
      return tg.deny(400, "topic: a name like orders/eu was expected, without '*'")
    end
  end
  if #topics == 0 then
    topics[1] = tg.topic("tenant", who.tenant) .. "/**"
  end
  if #topics > 100 then
    return tg.deny(400, "at most 100 topics")
  end
  return { topics = topics, replay = { max_age = 3600 } }
end

function P.publish(pub, who)
  local prefix = "tenant/" .. who.tenant .. "/"
  if who.role ~= "writer" or pub.topic:sub(1, #prefix) ~= prefix then
    return tg.deny(403, "this tenant cannot publish to that topic")
  end
  if pub.key then -- keys are one name space: without this, one tenant could take another's
    pub.key = who.tenant .. ":" .. pub.key
    if #pub.key > 255 then
      return tg.deny(400, "key: too long")
    end
  end
  return pub
end

return P
