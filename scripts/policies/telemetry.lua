-- Telemetry of many devices: one log, three views of it. Operators see everything as it came; dashboards an area, the
-- newest event of each device once a second; guests the same with places rounded to a kilometre.
-- Devices post {"lat": 52.5163, "lon": 13.3777, "speed": 13} to the topic devices/NAME.
--
--   keys   = { main = { jwks_url = "https://id.example/.well-known/jwks.json" } },
--   policy = { file = "telemetry.lua" },
--   store  = { latest = { "devices/*" } },                     -- dashboards begin with the state of now
--
-- A token says { sub = "d-17", role = "device" }; those of people say "operator" or "viewer". Guests have none.

---@type tg.Policy
local P = { api = 1, version = "telemetry-2" }

local TOKENS = { keys = "main", alg = { "ES256" }, iss = "https://id.example", aud = "tidegate", leeway = 30 }

P.filters = { area = "starts_with(attrs.cell, $cell)" }
P.formats = { rounded = { round = { lat = 2, lon = 2 } } } -- all else stays as the device wrote it

function P.authenticate(req)
  local token = req.bearer or req.cookies.access_token
  if not token then
    return { role = "guest" }
  end
  local claims, err = tg.jwt(token, TOKENS)
  if not claims then
    return tg.deny(401, err)
  end
  return { sub = claims.sub, role = claims.role, expires = claims.exp }
end

local VIEWS = { viewer = "raw", guest = "rounded" }

function P.subscribe(req, who)
  if who.role == "operator" then
    return { topics = { "devices/**" }, filter = "none", format = "raw" }
  end
  local format = VIEWS[who.role]
  if not format then
    return tg.deny(403, "not a role that reads")
  end
  local lat, lon = tonumber(req.query.lat), tonumber(req.query.lon)
  if not lat or not lon or not (math.abs(lat) <= 90 and math.abs(lon) <= 180) then -- refuses NaN, too
    return tg.deny(400, "lat (-90 to 90) and lon (-180 to 180) wanted")
  end
  return {
    topics = { "devices/**" }, filter = "area", format = format,
    params = { cell = tg.geohash(lat, lon, 4) }, -- about 39 x 20 km: many dashboards, few audiences
    start = "latest",
    limits = { every_s = 1 }, -- per audience: dashboards of an area share the work
  }
end

local function within(value, most)
  return math.type(value) and math.abs(value) <= most -- refuses NaN, too
end

function P.publish(pub, who)
  if who.role ~= "device" or not tg.topic_ok(who.sub) or pub.topic ~= "devices/" .. who.sub then
    return tg.deny(403, "not a device, or not its topic")
  end
  local data = pub.data
  if type(data) ~= "table" or not within(data.lat, 90) or not within(data.lon, 180) then
    return tg.deny(422, "an object with the numbers lat and lon was expected")
  end
  pub.attrs = { cell = tg.geohash(data.lat, data.lon, 8) }
  return pub
end

return P
