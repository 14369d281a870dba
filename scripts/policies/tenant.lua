-- Tenants that must not see each other: each reads and writes below tenant/NAME/ only, and proves
-- who it is with a secret of its own in two request headers:
--
--   curl -N -H 'X-Tenant: acme' -H 'X-Tenant-Secret: ...' 'http://localhost:8080/events?topic=orders'

-- EXAMPLE VALUES: replace them, and keep this file readable for the broker only.
local TENANTS = {
  acme = { reader = "example-acme-reader-secret", writer = "example-acme-writer-secret" },
  umbrella = { reader = "example-umbrella-reader-secret", writer = "example-umbrella-writer-secret" },
}

---@type tg.Policy
local P = { api = 1, version = "tenant-1" }

function P.authenticate(req)
  local name, secret = req.headers["x-tenant"], req.headers["x-tenant-secret"]
  local tenant = name and TENANTS[name]
  if not tenant or not secret then
    return tg.deny(401, "unknown tenant or wrong secret")
  end
  for role, expected in pairs(tenant) do
    if secret == expected then
      return { sub = name, tenant = name, role = role }
    end
  end
  return tg.deny(401, "unknown tenant or wrong secret")
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
