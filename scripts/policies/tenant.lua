-- Tenants that must not see each other: a token says who somebody is and of which tenant, the
-- application's database what they may read and write there. The page scripts/policies/README.md walks through it.
--
--   keys     = { main = { secret = env "JWT_SECRET" } },       -- better: jwks_url, and other settings
--   database = { driver = "sqlite", path = "app.db" },         -- or postgres
--
--   CREATE TABLE entitlement (tenant TEXT, login TEXT, topic TEXT, role TEXT);
--   INSERT INTO entitlement VALUES ('acme', 'ann', 'orders/**', 'writer');

---@type tg.Policy
local P = { api = 1, version = "tenant-4" }

-- Where tokens come from: policy.settings in the configuration.
local settings = tg.settings {
  keys = { "string", default = "main" },
  alg = { "list", default = { "HS256" }, min = 1 },
  issuer = { "string", default = "https://id.example" },
  audience = { "string", default = "tidegate" },
}
local TOKENS = {
  keys = settings.keys, alg = settings.alg, iss = settings.issuer, aud = settings.audience, leeway = 30,
}

-- A minute old is good enough; while the database is away, ten.
local FRESH = { ttl = 60, neg_ttl = 5, stale = 600 }

P.queries = {
  entitled = "select topic, role from entitlement where tenant = $1 and login = $2 order by topic limit 200",
}

function P.authenticate(req)
  local token = req.bearer or req.cookies.access_token or req.query.access_token -- an EventSource sets no headers
  local claims, err = tg.jwt(token, TOKENS)
  if not claims then
    return tg.deny(401, err or "a token was expected")
  end
  -- The tenant becomes a part of topics: "*" or "a/b" must not get that far.
  if type(claims.sub) ~= "string" or #claims.sub > 200 or not tg.topic_ok(claims.tenant) then
    return tg.deny(403, "the token names no user or no tenant")
  end
  return { sub = claims.sub, tenant = claims.tenant, expires = claims.exp }
end

-- What the database says of somebody: rows of topic and role; nil and why while nobody knows; false:
-- nothing. Lengths keep the parts of the key apart, whatever characters names have.
local function entitled(who)
  local key = ("entitled:%d:%s:%s"):format(#who.tenant, who.tenant, who.sub)
  return cache.fetch(key, FRESH, function()
    local rows, err = db.query("entitled", who.tenant, who.sub)
    if not rows then
      return nil, err
    end
    return #rows > 0 and rows
  end)
end

-- Does the topic or pattern `asked` lie within `granted`? Both are relative to the tenant.
local function covers(granted, asked)
  local prefix = granted == "**" and "" or granted:match "^([^*]*/)%*%*$"
  return granted == asked or prefix ~= nil and asked:sub(1, #prefix) == prefix
end

local function any(rows, asked, role)
  for _, row in ipairs(rows) do
    if covers(row.topic, asked) and (not role or row.role == role) then
      return true
    end
  end
  return false
end

function P.subscribe(req, who)
  local rows, err = entitled(who)
  if rows == nil then
    return nil, err -- the database is away: the client reconnects later
  elseif not rows then
    return tg.deny(403, "nothing to see for you")
  end
  local asked = #req.topics > 0 and req.topics or nil
  local topics = {}
  for i, topic in ipairs(asked or rows) do
    topic = asked and topic or topic.topic
    topics[i] = "tenant/" .. who.tenant .. "/" .. topic -- who.tenant is one literal segment
    if not tg.pattern_ok(topics[i]) then
      return tg.deny(400, "topic: a name like orders/eu was expected")
    elseif not any(rows, topic) then
      return tg.deny(403, "not yours to read")
    elseif i > 100 then
      return tg.deny(400, "at most 100 topics")
    end
  end
  return { topics = topics, replay = { max_age = 3600 } }
end

function P.publish(pub, who)
  local prefix = "tenant/" .. who.tenant .. "/"
  local rows, err = entitled(who)
  if rows == nil then
    return nil, err
  elseif not rows or pub.topic:sub(1, #prefix) ~= prefix or not any(rows, pub.topic:sub(#prefix + 1), "writer") then
    return tg.deny(403, "not yours to write")
  end
  if pub.key then -- keys are one name space: without this, one tenant could take another's, also "a" that of "a:b"
    pub.key = ("%d:%s:%s"):format(#who.tenant, who.tenant, pub.key)
    if #pub.key > 255 then
      return tg.deny(400, "key: too long")
    end
  end
  return pub
end

return P
