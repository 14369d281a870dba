-- Tenants with roles, and what one user may take of it all: five streams, ten publishes a second. Tokens come from your
-- identity provider; counts are the broker's, so reloads and further workers change nothing.
--
--   keys   = { main = { jwks_url = "https://id.example/.well-known/jwks.json" } },
--   policy = { file = "saas.lua", settings = { issuer = "https://id.example", streams = 5, over = "oldest" } },
--
-- A token says { sub = "ann", tenant = "acme", role = "editor" }; other roles only read.

local settings = tg.settings {
  issuer = "string",
  audience = { "string", default = "tidegate" },
  streams = { "integer", default = 5, min = 1, max = 1000 }, -- of a user at a time
  over = { "string", default = "oldest", one_of = { "oldest", "deny" } }, -- the sixth ends the first, or gets 429
  publishes_per_s = { "number", default = 10, min = 0.01, max = 10000 }, -- of a user; twice as many at once
}

---@type tg.Policy
local P = { api = 1, version = "saas-1" }

local TOKENS = {
  keys = "main", alg = { "RS256", "ES256" }, iss = settings.issuer, aud = settings.audience, leeway = 30,
}
local LOGINS = { per_s = 2, burst = 60 } -- a browser that restarts opens all its tabs again
local PUBLISHES = { per_s = settings.publishes_per_s, burst = math.ceil(2 * settings.publishes_per_s) }

-- Of two tenants' users of one name, each has its own: the length keeps the parts apart.
local function user(who)
  return ("%d:%s:%s"):format(#who.tenant, who.tenant, who.sub)
end

function P.authenticate(req)
  local claims, err = tg.jwt(req.bearer or req.cookies.access_token, TOKENS)
  if not claims then
    return tg.deny(401, err or "a token was expected")
  end
  -- The tenant becomes a part of topics: "*" or "a/b" must not get that far.
  if type(claims.sub) ~= "string" or not tg.topic_ok(claims.tenant) or #claims.sub + #claims.tenant > 100 then
    return tg.deny(403, "the token names no user or no tenant")
  end
  local who = { sub = claims.sub, tenant = claims.tenant, editor = claims.role == "editor", expires = claims.exp }
  local ok, wait = tg.rate("login", user(who), LOGINS)
  if not ok then
    return tg.deny(429, "too many requests", { retry_after = wait })
  end
  return who
end

function P.subscribe(req, who)
  local topics = {}
  for i, topic in ipairs(#req.topics > 0 and req.topics or { "**" }) do
    topics[i] = "tenant/" .. who.tenant .. "/" .. topic -- who.tenant is one literal segment
    if i > 100 or not tg.pattern_ok(topics[i]) then
      return tg.deny(400, "topic: at most 100 names like orders/eu were expected")
    end
  end
  return { topics = topics, quota = { { key = user(who), max = settings.streams, over = settings.over } } }
end

function P.publish(pub, who)
  local prefix = "tenant/" .. who.tenant .. "/"
  if not who.editor or pub.topic:sub(1, #prefix) ~= prefix then
    return tg.deny(403, "not yours to write")
  end
  local ok, wait = tg.rate("publish", user(who), PUBLISHES)
  if not ok then
    return tg.deny(429, "too many publishes", { retry_after = wait })
  end
  if pub.key then -- keys are one name space
    pub.key = ("%d:%s:%s"):format(#who.tenant, who.tenant, pub.key)
    if #pub.key > 255 then
      return tg.deny(400, "key: too long")
    end
  end
  return pub
end

return P
