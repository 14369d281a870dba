-- Notifications: to one user, to everybody in a role, to all. The application's database says who has which role;
-- its backend publishes to notify/user/NAME, notify/role/NAME and notify/all.
--
--   keys     = { main = { secret = env "JWT_SECRET" } },       -- better: jwks_url, and other algorithms
--   policy   = { file = "notifications.lua", settings = { backend = secret(env "BACKEND_SECRET") },
--                queued = 16384 },    -- a quarter is for one address: an office whose 3,000 users come back at once
--   database = { driver = "postgres", conninfo = "..." },
--
--   CREATE TABLE role (login TEXT, role TEXT);
--
-- Where a user has read to is the id of the newest notification that the application has marked as read. It gives it
-- to the page, which asks for ?last_event_id=ID: everything behind it comes first, on any device.

local settings = tg.settings { backend = "secret", days = { "integer", default = 30, min = 1, max = 365 } }

---@type tg.Policy
local P = { api = 1, version = "notifications-1" }

local TOKENS = { keys = "main", alg = { "HS256" }, iss = "https://id.example", aud = "tidegate", leeway = 30 }

P.queries = { roles_of = "select role from role where login = $1 order by role limit 50" }

function P.authenticate(req)
  if req.bearer and tg.equal(req.bearer, settings.backend) then
    return { backend = true }
  end
  local claims, err = tg.jwt(req.bearer or req.cookies.access_token, TOKENS)
  if not claims then
    return tg.deny(401, err or "a token was expected")
  end
  -- The name becomes a part of topics, and of a tag, which has 64 bytes.
  if not tg.topic_ok(claims.sub) or #claims.sub > 50 then
    return tg.deny(403, "the token names no user")
  end
  return { sub = claims.sub, expires = claims.exp }
end

function P.subscribe(_, who)
  if not who.sub then
    return tg.deny(403, "the backend only publishes")
  end
  -- Everybody comes back at once after a break: `stale` keeps that from being as many questions, and from an outage.
  local roles, err = cache.fetch("roles:" .. who.sub, { ttl = 60, neg_ttl = 60, stale = 600 }, function()
    return db.query("roles_of", who.sub)
  end)
  if not roles then
    return nil, err -- the database is away: the client reconnects later
  end
  local topics = { "notify/all", "notify/user/" .. who.sub }
  for _, row in ipairs(roles) do
    topics[#topics + 1] = tg.topic("notify", "role", row.role)
  end
  return { topics = topics, tags = { "user:" .. who.sub }, replay = { max_age = settings.days * 86400 } }
end

function P.publish(pub, who)
  if not who.backend then
    return tg.deny(403, "only the backend notifies")
  end
  return pub
end

P.observe = {
  { topics = { "roles/*" }, run = function(ev) -- the application says roles/NAME beside each change of the table
    local login = ev.topic:match "[^/]*$"
    cache.forget("roles:" .. login)
    tg.ask_again("user:" .. login)
  end },
}

return P
