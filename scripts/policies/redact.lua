-- One stream of orders, shown with different detail to different roles. Formats see the event and
-- the params, never the connection; an error in one means "not delivered", never "delivered whole".
--
--   keys = { main = { jwks_url = "https://id.example/.well-known/jwks.json" } },
--
-- Tokens say who somebody is (`sub`), in which role (admin, support, viewer), and of a viewer
-- whether regions may be shown (`region`).

---@type tg.Policy
local P = { api = 1, version = "redact-3" }

-- Where tokens come from: yours.
local TOKENS = { keys = "main", alg = { "ES256" }, iss = "https://id.example", aud = "tidegate", leeway = 30 }

-- role -> format
local FORMATS = { admin = "raw", support = "masked", viewer = "public" }

P.formats = {
  -- Everything but the social security number: rules on the JSON text, no Lua per event. What is not
  -- JSON is not delivered.
  masked = { mask = { ["customer.ssn"] = "***" } },

  -- Only what is listed here: fields added later stay private.
  public = function(ev, params)
    local order = ev.data
    if type(order) ~= "table" or order.total == nil then return nil end
    return {
      event = "order",
      data = { id = order.id, status = order.status, region = params.region and order.region or nil },
    }
  end,
}

function P.authenticate(req)
  local claims, err = tg.jwt(req.bearer or req.cookies.access_token, TOKENS) -- an EventSource sets no headers
  if not claims then
    return tg.deny(401, err or "a token was expected")
  end
  return { sub = claims.sub, role = claims.role, region = claims.region == true, expires = claims.exp }
end

function P.subscribe(_, who)
  local format = FORMATS[who.role]
  if not format then
    return tg.deny(403, "unknown role") -- refused, not defaulted
  end
  return {
    topics = { "orders/**" },
    format = format,
    params = format == "public" and { region = who.region } or nil,
  }
end

return P
