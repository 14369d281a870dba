-- One stream of orders, shown with different detail to different roles. Formats see the event and
-- the params, never the connection; an error in one means "not delivered", never "delivered whole".

-- EXAMPLE VALUES: bearer tokens and whom they stand for. Replace them.
local TOKENS = {
  ["example-admin-token"] = { sub = "ada", role = "admin" },
  ["example-support-token"] = { sub = "sam", role = "support" },
  ["example-viewer-token"] = { sub = "vic", role = "viewer", region = true },
}

---@type tg.Policy
local P = { api = 1, version = "redact-2" }

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
  local known = req.bearer and TOKENS[req.bearer]
  if not known then
    return tg.deny(401, "unknown token")
  end
  return { sub = known.sub, role = known.role, region = known.region or false }
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
