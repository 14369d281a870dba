-- A public ticker: no authentication, anybody may read ticker/*, all of it or some symbols
-- (?symbols=ACME,INIT). Prices come from another program, so nobody may publish. A stream begins with the newest price
-- of each symbol. One that falls behind is sent the newest prices, never stale ones, and fast ones get everything.
--
--   store = { latest = { "ticker/*" } },
---@type tg.Policy
local P = { api = 1, version = "ticker-3" }

P.filters = { symbols = "one_of(attrs.symbol, $symbols)" }

function P.authenticate(req)
  return { sub = "anon:" .. req.ip }
end

function P.subscribe(req)
  local symbols, seen = {}, {}
  for symbol in (req.query.symbols or ""):gmatch("[A-Z0-9]+") do
    if not seen[symbol] then
      seen[symbol] = true
      symbols[#symbols + 1] = symbol
    end
    if #symbols > 50 then
      return tg.deny(400, "at most 50 symbols")
    end
  end
  table.sort(symbols) -- equal sets make equal audiences, whatever order they are asked in
  local some = #symbols > 0
  return {
    topics = { "ticker/*" },
    filter = some and "symbols" or "none",
    params = some and { symbols = symbols } or nil,
    start = "latest",
    limits = { max_lag = 64, on_lag = "latest" },
  }
end

return P
