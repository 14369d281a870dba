-- What many clients do to the others: all of them come back at once, by TLS with and without tickets, and without TLS,
-- while the latencies of 100 streams are measured; and certificates are replaced under them.
--
--   lua5.4 spec/bench/tls_storm.lua [--tidegate FILE] [--connections N] [--rounds N] [storms] [renewal]
--
-- `storms` alone takes less than 3 minutes. Every round measures the 100 alone, then beside the storm: 200 events a
-- second, so that p99 is about the sixteenth worst of 1,600, and of as many as there are until the storm is over. Put
-- TMPDIR into memory: one fsync(2) that a disk holds up for 100 ms delays as many events as p99 leaves out. The
-- generator of the storm yields to theirs (nice) on the same core. Those who come back are spread over 100 topics,
-- and their events come one by one: one event to 10,000 streams, which takes a turn of some 100 ms, is not what is
-- asked here.
local uv = require "luv"

local harness = dofile((arg[0]:match "^(.*)/[^/]*$" or ".") .. "/harness.lua")
local print, text, median = harness.print, harness.text, harness.median
local options = {
  tidegate = harness.root .. "/build/release/tidegate", connections = "10000", rounds = "2",
}
local words = harness.read_options(options)
local server = harness.choose_servers { tidegate = options.tidegate, only = "tidegate" } [1]
local problems = {}

local function start(tls)
  local process, place = harness.start(server, { tls = tls }, options.tidegate)
  return process or harness.fail("%s", place), place
end

local function generator(place, name, yields, ...)
  local args = { (...), "--json", "--port", tostring(place.port), select(2, ...) }
  args[#args + 1] = place.tls and "--tls"
  return harness.generator(place, 1, name, args, yields)
end

local function wait(process, seconds)
  if not harness.wait("the end", seconds, function() return process.code end) then
    harness.stop(process)
  end
end

local function document(place, name, complain)
  local doc, why = harness.document(place, name)
  if not doc or complain and not doc.ok then
    problems[#problems + 1] = name .. ": " .. why
  end
  return doc or {}
end

local function p99(doc)
  return harness.pick(doc, "deliveries.latency_ms.p99")
end

-- The 100; until the storm is over where there is one.
local function others(place, process, ...)
  return generator(place, "others", false, "fan-out", "--connections", "100", "--rate", "200", "--warmup", "1",
    "--pid", tostring(process.pid), ...)
end

local function storm(tls, word)
  local process, place = start(tls)
  local quiet = others(place, process, "--seconds", "8")
  wait(quiet, 60)
  local before = p99(document(place, "others", true))
  local running = others(place, process, "--seconds", "300")
  harness.wait("the others are there", 3, function() return false end)
  local back = generator(place, "storm", true, "storm", "--connections", options.connections, "--preload", "1",
    "--topics", "100", "--publishers", "1", "--pipeline", "1", "--spread", "0", "--drain", "60", word)
  wait(back, 280)
  uv.kill(running.pid, "sigint")
  wait(running, 60)
  local meanwhile, returned = document(place, "others", true), document(place, "storm", true)
  harness.leave(process, place)
  return before, p99(meanwhile), harness.pick(returned, "storm.live_after_ms.max"),
    harness.pick(returned, "storm.answer_ms.p99")
end

local function storms(what, tls, word)
  local columns = { {}, {}, {}, {}, {} }
  for round = 1, tonumber(options.rounds) do
    io.stderr:write(("bench: %s, round %d\n"):format(what, round))
    local before, meanwhile, live, answer = storm(tls, word)
    for i, value in pairs { before, meanwhile, before and meanwhile and meanwhile / before, live, answer } do
      table.insert(columns[i], value)
    end
  end
  for i, list in ipairs(columns) do
    columns[i] = text(median(list))
  end
  print(("| %s clients come back at once, %s | %s |"):format(text(tonumber(options.connections)), what,
    table.concat(columns, " | ")))
end

-- The serial number of the certificate that a new connection is shown.
local function serial(place)
  local p = assert(io.popen(("openssl s_client -connect 127.0.0.1:%d </dev/null 2>/dev/null | openssl x509 -noout "
    .. "-serial 2>/dev/null"):format(place.port)))
  local line = p:read "l"
  p:close()
  return line
end

local function renewal()
  local process, place = start(true)
  local running = generator(place, "held", false, "fan-out", "--connections", options.connections, "--rate", "1",
    "--warmup", "0", "--seconds", "25", "--drain", "20", "--pid", tostring(process.pid))
  local slowest = 0
  for _ = 1, 3 do
    harness.wait("a pause", 8, function() return running.code end)
    local before, dir = serial(place), place.dir .. "/next"
    uv.fs_mkdir(dir, 448)
    local fresh = harness.certificate(dir)
    local from = uv.hrtime()
    assert(os.rename(fresh.key, place.tls.key) and os.rename(fresh.cert, place.tls.cert))
    local seen = harness.wait("the new certificate", 20, function() return serial(place) ~= before end)
    if not seen or not before then
      problems[#problems + 1] = "a replaced certificate was not served"
    end
    slowest = math.max(slowest, (uv.hrtime() - from) / 1e9)
  end
  wait(running, 120)
  local doc = document(place, "held", true)
  harness.leave(process, place)
  print(("%s open streams, certificate replaced 3 times: new connections got it after at most %s s; %d streams ended, "
    .. "%d events lost of %s deliveries."):format(text(harness.pick(doc, "connections.opened")), text(slowest),
    harness.pick(doc, "connections.ended_by_server") or -1, harness.pick(doc, "deliveries.lost") or -1,
    text(harness.pick(doc, "deliveries.received"))))
end

local all = not next(words)
print(harness.machine() .. "\n")
if all or words.storms then
  print "| load | p99 ms of 100 others: quiet | meanwhile | ratio | the last is back after ms | answer p99 ms |"
  print "|---|---|---|---|---|---|"
  storms("whole handshakes", true)
  storms("with tickets", true, "--resume")
  storms("without TLS", false)
end
if all or words.renewal then
  print ""
  renewal()
end
for _, problem in ipairs(problems) do
  print("- " .. problem)
end
os.exit(#problems == 0 and 0 or 1)
