-- Alerts near a place: ?lat=52.52&lon=13.40&min=2. Places are quantised to a geohash cell, so that
-- neighbours share one audience and the filter runs once for all of them. Publishers set the attrs
-- `cell` (a geohash), `severity` (1 to 5) and, where it matters, `lang`.
---@type tg.Policy
local P = { api = 1, version = "geo-2" }

P.filters = {
  -- Text is compiled when the policy is loaded: no Lua runs per event.
  near = [[
    starts_with(attrs.cell, $cell)
    and attrs.severity >= $min
    and (not has(attrs.lang) or attrs.lang == $lang) ]],
}

local function language(header)
  local lang = (header or ""):sub(1, 2):lower()
  return lang:find("^%l%l$") and lang or "en"
end

-- Headers are for this hook only: subscribe is run again, without them, when the policy changes.
function P.authenticate(req)
  return { sub = "public", lang = language(req.headers["accept-language"]) }
end

function P.subscribe(req, who)
  local lat, lon = tonumber(req.query.lat), tonumber(req.query.lon)
  if not lat or not lon or not (math.abs(lat) <= 90 and math.abs(lon) <= 180) then -- refuses NaN, too
    return tg.deny(400, "lat (-90 to 90) and lon (-180 to 180) wanted")
  end
  local min = math.tointeger(tonumber(req.query.min)) or 1
  return {
    topics = { "alert/**" },
    filter = "near",
    params = {
      cell = tg.geohash(lat, lon, 4), -- about 39 x 20 km: many clients, few audiences
      min = math.min(math.max(min, 1), 5),
      lang = who.lang,
    },
  }
end

return P
