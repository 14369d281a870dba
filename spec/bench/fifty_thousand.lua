-- 50,000 open streams on one machine: 3 workers (20,000 open files each), 3 generators, which reach them at three
-- addresses. One generator publishes an event a second, the others one each, all of them for all 50,000; every single
-- delivery is counted. Prints what a connection takes and how long the last subscriber waits, of those of the generator
-- that publishes: to the others its events are a stranger's, and they do not measure them.
--
--   lua5.4 spec/bench/fifty_thousand.lua [--tidegate FILE] [--connections N] [--events N] [--record FILE]
--
-- --record: as in run.lua, between `<!-- fifty thousand -->` and `<!-- end of fifty thousand -->`.
local harness = dofile((arg[0]:match "^(.*)/[^/]*$" or ".") .. "/harness.lua")
local print, text = harness.print, harness.text
local options = {
  tidegate = harness.root .. "/build/release/tidegate", connections = "50000", events = "5", record = false,
}
harness.read_options(options)
local server = harness.choose_servers { tidegate = options.tidegate, only = "tidegate" } [1]
local connections, events = math.tointeger(tonumber(options.connections)), math.tointeger(tonumber(options.events))
harness.shared = true

local ADDRESSES = { "127.0.0.1", "127.0.0.2", "127.0.0.3" }
local TOPIC = "/events?topic=bench/all" -- one for all generators, who tell each other's events from their own
local SETTLE = 8 -- s, less than limits.head_timeout_s: until then all are connected, or deliveries are missing
local each = connections // #ADDRESSES

local process, place = harness.start(server, { workers = 3, addresses = ADDRESSES }, options.tidegate)
if not process then
  harness.fail("%s", place)
end

local function generator(i, ...)
  local args = { "fan-out", "--json", "--host", ADDRESSES[i], "--port", tostring(place.port), "--connections",
    tostring(i == 1 and connections - each * (#ADDRESSES - 1) or each), "--subscribe-path", TOPIC, "--publish-path",
    TOPIC, "--settle", tostring(SETTLE), "--warmup", "0", "--drain", "20", ... }
  return harness.generator(place, 0, "result" .. i, args)
end

-- the one that publishes first: its first sample of the memory is that of a server without clients
local running = { generator(1, "--rate", "1", "--events", options.events, "--pid", tostring(process.pid)) }
for i = 2, #ADDRESSES do
  running[i] = generator(i, "--rate", "0.001", "--seconds", tostring(events + 10))
end
local expected = connections * (events + #ADDRESSES - 1)
local ended = harness.wait("the end", 180, function()
  for _, p in ipairs(running) do
    if not p.code then return false end
  end
  return true
end)
for _, p in ipairs(ended and {} or running) do
  harness.stop(p)
end
local docs, whys = {}, {}
for i = 1, #ADDRESSES do
  docs[i], whys[i] = harness.document(place, "result" .. i)
end
harness.leave(process, place)
for i = 1, #ADDRESSES do
  if not docs[i] or not docs[i].complete then
    harness.fail("generator %d: %s", i, whys[i])
  end
end

local opened, per_s, delivered, problems = 0, 0, 0, {}
for i, doc in ipairs(docs) do
  opened = opened + doc.connections.opened
  per_s = per_s + doc.connections.per_s
  delivered = delivered + doc.deliveries.received + doc.deliveries.strange
  problems[#problems + 1] = not doc.ok and whys[i] or nil
end
if opened ~= connections or delivered ~= expected then
  problems[#problems + 1] = ("%d streams of %d, %d deliveries of %d"):format(opened, connections, delivered,
    expected)
end
local memory = docs[1].server
print(harness.machine())
print(("%s streams over 3 workers, opened at %s a second: %s bytes of PSS each (%s MB in all). "
  .. "%s deliveries, an event a second to all: p50 %s ms, the last after %s ms, "
  .. "of the %s streams of the generator that publishes. %s"):format(text(opened),
  text(per_s), text((memory.pss_bytes - memory.pss_bytes_before) / opened),
  text(memory.pss_bytes / 1e6), text(delivered), text(docs[1].deliveries.latency_ms.p50),
  text(docs[1].deliveries.latency_ms.max), text(docs[1].connections.opened),
  #problems == 0 and "None was lost or doubled." or "WRONG: " .. table.concat(problems, "; ")))
if options.record then
  harness.record(options.record, "fifty thousand")
end
os.exit(#problems == 0 and 0 or 1)
