-- For `run.lua --also`: Tidegate with two workers, to be compared with one in the same arrangement:
--
--   lua5.4 spec/bench/run.lua --also spec/bench/two_workers.lua --only tidegate,tidegate-2 --cores shared fan-out-1k
--
-- With `--cores shared` nothing is pinned: server and generator share all cores.
local servers = dofile((arg[0]:match "^(.*)/[^/]*$" or ".") .. "/servers.lua")
local one = servers[1]

local two = { name = "tidegate-2" }
for k, v in pairs(one) do
  two[k] = two[k] or v
end

function two.command(place)
  place.workers = 2
  return one.command(place)
end

return { two }
