-- For spec/bench/scale.lua: connection c of those that ask for a audiences gets number c % a, and everything.
local P = { api = 1 }

function P.subscribe(req)
  local a, c = math.tointeger(tonumber(req.query.a)) or 1, math.tointeger(tonumber(req.query.c)) or 0
  return { topics = req.topics, filter = "all", params = { audience = c % a } }
end

P.filters = { all = function() return true end }

function P.publish(pub)
  return pub
end

return P
