-- How cost grows: for each law one curve per server, as an SVG chart and as a row of a Markdown table.
--
--   lua5.4 spec/bench/scale.lua [options] [LAW ...]        (none: all)
--
--   --tidegate FILE    the release binary (build/release/tidegate)
--   --seconds S        (2) of each run
--   --only A,B  --also FILE    as in run.lua
--   --out DIR          (build/bench) where the charts go
--   --list             names the laws
local uv = require "luv"

local HERE = arg[0]:match "^(.*)/[^/]*$" or "."
local harness = dofile(HERE .. "/harness.lua")
local plot = dofile(HERE .. "/plot.lua")
local options = {
  tidegate = harness.root .. "/build/release/tidegate", seconds = "2", out = harness.root .. "/build/bench",
  only = false, also = false,
}

local CPU = { "CPU us per delivery", "server.cpu_us_per_delivery" }
local MEMORY = { "PSS bytes per connection", "server.pss_bytes_per_connection" }

-- `args` and `query` with %d for x; `only` is the one server that can do it.
local laws = {
  { name = "connections", title = "Saturated fan-out over subscribers of one topic", x = "subscribers", y = CPU,
    at = { 100, 300, 1000, 3000, 10000, 19000 }, args = "fan-out --window 8 --connections %d" },
  { name = "memory", title = "Idle connections", x = "connections", y = MEMORY,
    at = { 1000, 3000, 10000, 19000 }, args = "idle --seconds 1 --settle 1 --connections %d" },
  { name = "topics", title = "Topics with one subscriber each", x = "topics", y = CPU,
    at = { 10, 100, 1000, 10000 }, args = "topics --window 512 --connections %d" },
  { name = "audiences", title = "1,000 subscribers in audiences with a Lua filter", x = "audiences", y = CPU,
    at = { 1, 10, 100, 1000 }, args = "fan-out --connections 1000",
    policy = harness.root .. "/spec/bench/audiences_policy.lua",
    query = "&c={connection}&a=%d", only = "tidegate" },
  { name = "payload", title = "Fan-out to 100 subscribers", x = "payload bytes", y = CPU,
    at = { 100, 1024, 4096, 16384, 65536 }, args = "fan-out --connections 100 --size %d" },
  { name = "log", title = "Replay of the whole history to 20 clients", x = "events in the log", y = CPU,
    at = { 1000, 3000, 10000, 30000 }, args = "replay --connections 20 --preload %d" },
}

local remarks = {}

-- The points of one server.
local function curve(law, server)
  local points = {}
  for _, x in ipairs(law.at) do
    local work = {
      args = law.args:gsub("%%d", tostring(x)), seconds = options.seconds, policy = law.policy,
      query = law.query and law.query:gsub("%%d", tostring(x)),
    }
    io.stderr:write(("bench: %s: %s, %d\n"):format(law.name, server.name, x))
    local doc, why = harness.measure(server, work, options.tidegate)
    local y = doc and harness.pick(doc, law.y[2])
    if y and y > 0 then
      points[#points + 1] = { x, y }
    end
    if not doc or not doc.ok then
      remarks[#remarks + 1] = ("%s, %s, %d: %s"):format(law.name, server.name, x, why)
    end
  end
  return points
end

local function row(law, series)
  for _, s in ipairs(series) do
    local cells = {}
    for i, p in ipairs(s.points) do
      cells[i] = ("%d: %s"):format(p[1], harness.text(p[2]))
    end
    print(("| %s | %s | %s | %s |"):format(law.title, law.y[1], s.name, table.concat(cells, ", ")))
  end
  io.stdout:flush()
end

local words = harness.read_options(options)
if options.list then
  for _, law in ipairs(laws) do
    print(("%-14s %s"):format(law.name, law.title))
  end
  return
end
local chosen, servers = harness.choose(laws, words), harness.choose_servers(options)
uv.fs_mkdir(options.out:match "^(.*)/[^/]*$" or ".", 493)
uv.fs_mkdir(options.out, 493)
print "| law | figure | server | at |\n|---|---|---|---|"
for _, law in ipairs(chosen) do
  local series = {}
  for _, server in ipairs(servers) do
    if not law.only or law.only == server.name then
      local points = curve(law, server)
      series[#series + 1] = #points > 0 and { name = server.name, points = points } or nil
    end
  end
  row(law, series)
  if #series > 0 then
    local path = ("%s/%s.svg"):format(options.out, law.name)
    local f = assert(io.open(path, "w"))
    f:write(plot { title = law.title, x = law.x, y = law.y[1], series = series })
    assert(f:close())
  end
end
for _, remark in ipairs(remarks) do
  print("- " .. remark)
end
os.exit(#remarks == 0 and 0 or 1)
