-- For spec/bench/strangers.lua: who shows the token of the benchmarks may do everything, all others nothing.
local P = { api = 1 }

function P.authenticate(req)
  if req.bearer ~= "of-the-benchmarks" then
    return tg.deny(401, "a token was expected")
  end
  return { sub = "bench" }
end

function P.subscribe(req)
  return { topics = req.topics }
end

function P.publish(pub)
  return pub
end

return P
