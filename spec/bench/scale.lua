-- How cost grows: for each law some curves, as an SVG chart and as rows of a Markdown table.
--
--   lua5.4 spec/bench/scale.lua [options] [LAW ...]        (none: all)
--
--   --tidegate FILE    the release binary (build/release/tidegate)
--   --seconds S        (2) of each run
--   --only A,B  --also FILE    as in run.lua
--   --out DIR          (build/bench) where the charts go
--   --record FILE      puts the table into it, between its lines `<!-- scale -->` and `<!-- end of scale -->`
--   --list             names the laws
local uv = require "luv"

local HERE = arg[0]:match "^(.*)/[^/]*$" or "."
local harness = dofile(HERE .. "/harness.lua")
local plot = dofile(HERE .. "/plot.lua")
local print = harness.print
local options = {
  tidegate = harness.root .. "/build/release/tidegate", seconds = "2", out = harness.root .. "/build/bench",
  only = false, also = false, record = false,
}

local CPU = { "CPU us per delivery", "server.cpu_us_per_delivery" }
local MEMORY = { "PSS bytes per connection", "server.pss_bytes_per_connection" }
-- an event for one subscriber, who is found by a filter on a number, not by the topic
local FILTERED = "/events?topic=bench/**&audience={n}&filter="
local JSON = "/events?topic=json/{topic}"

-- `args` with %d for x. Curves are those of the servers in `servers` (none: Tidegate and nchan), or, with `curves`,
-- Tidegate alone with what they change; %d in `subscribe` is x, too. `most` is where the curve of a server ends.
local laws = {
  { name = "connections", title = "Saturated fan-out over subscribers of one topic", x = "subscribers", y = CPU,
    at = { 100, 300, 1000, 3000, 10000, 19000 }, args = "fan-out --window 8 --connections %d",
    servers = "tidegate,nchan,limit-coalesce" },
  { name = "memory", title = "Idle connections (above 19,000: fifty_thousand.lua)", x = "connections", y = MEMORY,
    at = { 1000, 3000, 10000, 19000 }, args = "idle --seconds 1 --settle 1 --connections %d" },
  { name = "topics", title = "Topics with one subscriber each, saturation", x = "topics", y = CPU,
    at = { 10, 100, 1000, 10000 }, args = "topics --publishers 8 --pipeline 64 --connections %d",
    servers = "tidegate,nchan,limit-coalesce" },
  { name = "audiences", title = "Events for one of so many audiences", x = "audiences", y = CPU,
    at = { 1, 10, 100, 1000, 10000 }, args = "topics --publishers 1 --pipeline 32 --window 32 --connections %d",
    policy = "policy.lua",
    curves = {
      { name = "text filter, found by its value", subscribe = FILTERED .. "index" },
      { name = "text filter, asked one by one", subscribe = FILTERED .. "text" },
      { name = "Lua filter", subscribe = FILTERED .. "lua" },
    } },
  { name = "grouping", title = "Events for all of 1,000 subscribers in so many audiences", x = "audiences", y = CPU,
    at = { 1, 10, 100, 1000 }, args = "fan-out --connections 1000", policy = "policy.lua", publish = JSON,
    curves = {
      { name = "Lua filter", subscribe = JSON .. "&audience={connection}&of=%d&filter=level" },
      { name = "Lua filter, Lua format", subscribe = JSON .. "&audience={connection}&of=%d&filter=level&format=label" },
      { name = "the same with JSON", subscribe = JSON .. "&audience={connection}&of=%d&filter=level&format=order" },
    } },
  { name = "payload", title = "Fan-out to 100 subscribers, saturation", x = "payload bytes", y = CPU,
    at = { 100, 1024, 4096, 16384, 65536 }, args = "fan-out --connections 100 --size %d",
    servers = "tidegate,nchan,limit-coalesce" },
  { name = "log", title = "Replay of the whole history to 20 clients", x = "events in the log", y = CPU,
    at = { 1000, 3000, 10000, 30000, 100000 }, args = "replay --connections 20 --preload %d",
    most = { nchan = 30000 } }, -- with more of them it sends nothing for seconds
}

local remarks = {}

local function curve(law, name, server, change)
  local points = {}
  for _, x in ipairs(law.at) do
    if law.most and x > (law.most[name] or math.huge) then
      break
    end
    local work = { seconds = options.seconds, policy = law.policy, publish = law.publish }
    for k, v in pairs(change or {}) do work[k] = v end
    work.args = law.args:gsub("%%d", tostring(x))
    work.subscribe = work.subscribe and work.subscribe:gsub("%%d", tostring(x))
    io.stderr:write(("bench: %s: %s, %d\n"):format(law.name, name, x))
    local doc, why = harness.measure(server, work, options.tidegate)
    local y = doc and harness.pick(doc, law.y[2])
    if y and y > 0 then
      points[#points + 1] = { x, y }
    end
    if not doc or not doc.ok then
      remarks[#remarks + 1] = ("%s, %s, %d: %s"):format(law.name, name, x, why)
    end
  end
  return #points > 0 and { name = name, points = points } or nil
end

local function row(law, series)
  for _, s in ipairs(series) do
    local cells = {}
    for i, p in ipairs(s.points) do
      cells[i] = ("%d: %s"):format(p[1], harness.text(p[2]))
    end
    print(("| %s | %s | %s | %s |"):format(law.title, law.y[1], s.name, table.concat(cells, ", ")))
  end
end

local function draw(law, servers)
  local series = {}
  for _, change in ipairs(law.curves or {}) do
    series[#series + 1] = curve(law, change.name, servers[1], change)
  end
  for _, server in ipairs(law.curves and {} or servers) do
    if ("," .. (law.servers or "tidegate,nchan") .. ","):find("," .. server.name .. ",", 1, true) then
      series[#series + 1] = curve(law, server.name, server)
    end
  end
  row(law, series)
  if #series > 0 then
    local f = assert(io.open(("%s/%s.svg"):format(options.out, law.name), "w"))
    f:write(plot { title = law.title, x = law.x, y = law.y[1], series = series })
    assert(f:close())
  end
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
print(harness.machine() .. "\n")
print "| law | figure | curve | at |\n|---|---|---|---|"
for _, law in ipairs(chosen) do
  draw(law, servers)
end
print(("\nOne run of %s s for each point."):format(options.seconds))
for _, remark in ipairs(remarks) do
  print("- " .. remark)
end
if options.record then
  harness.record(options.record, "scale")
end
os.exit(#remarks == 0 and 0 or 1)
