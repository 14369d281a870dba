-- tidegate-bench: it measures, its counts add up, and it sees through servers that do wrong.
local child = require "support.child"
local eventually = require "support.eventually"
local http = require "support.http"
local socket = require "socket"
local sse_server = require "support.sse_server"
local tidegate = require "support.tidegate"
local tls = require "support.tls"

-- Runs a mode; returns exit code, the document it printed, what it said on stderr.
local function bench(mode, port, ...)
  local args = { mode, "--port", tostring(port), "--json", ... }
  local code, out, err = tidegate.run(tidegate.bench_binary(), { args = args, timeout = 60 })
  local doc = out ~= "" and http.json.decode(out) or nil
  return code, doc, err
end

describe("tidegate-bench against the broker", function()
  -- an allocator that sanitizers bring may take milliseconds at a time, which no hook is to blame for
  local shared = tidegate.shared { config = { policy = { publish_cpu_ms = 1000 } } }

  -- A run of at most a second that must be flawless.
  local function flawless(mode, ...)
    local b = shared()
    local code, doc, err = bench(mode, b.port, "--seconds", "1", "--warmup", "0.1", "--pid", tostring(b.pid), ...)
    assert.equal("", err, "the broker's log ends with:\n" .. b:tail(10))
    assert.equal(0, code)
    assert.is_true(doc.ok)
    assert.same({}, doc.problems)
    assert.equal(mode, doc.mode)
    assert.is_true(doc.complete)
    if doc.deliveries then
      for _, name in ipairs { "lost", "doubled", "reordered", "misrouted", "damaged", "gaps", "strange" } do
        assert.equal(0, doc.deliveries[name], name)
      end
    end
    if doc.publishes then
      assert.equal(doc.publishes.sent, doc.publishes.acknowledged)
    end
    assert.equal(1, doc.server.processes)
    return doc
  end

  local function ordered(times)
    assert.is_true(times.p50 > 0 and times.p50 <= times.p99 and times.p99 <= times.max)
  end

  it("measures fan-out", function()
    local doc = flawless("fan-out", "--connections", "20")
    assert.is_true(doc.publishes.sent > 10)
    assert.equal(doc.publishes.sent * 20, doc.deliveries.received)
    assert.equal(20, doc.connections.opened)
    assert.is_true(doc.deliveries.per_s > 0 and doc.publishes.per_s > 0)
    ordered(doc.deliveries.latency_ms)
    ordered(doc.publishes.ack_ms)
    assert.is_true(doc.server.cpu_us_per_delivery > 0)
    assert.is_true(doc.server.pss_bytes > 0)
  end)

  it("keeps a rate", function()
    local doc = flawless("fan-out", "--connections", "3", "--rate", "100", "--warmup", "0")
    assert.is_true(doc.publishes.sent >= 90 and doc.publishes.sent <= 200, doc.publishes.sent)
  end)

  it("ends after a number of events, of a size, over several topics and publishers", function()
    local doc = flawless("fan-out", "--events", "70", "--connections", "10", "--topics", "5", "--publishers", "3",
      "--size", "5000")
    assert.equal(70, doc.publishes.sent)
    assert.equal(140, doc.deliveries.received)
  end)

  local LATEST = [[return { api = 1, publish = function(pub) return pub end, subscribe = function(req)
    return { topics = req.topics, start = "latest", limits = { max_lag = 20, on_lag = "latest" } } end }]]

  it("measures snapshots, and finds out what is wrong with one", function()
    local kept = tidegate.start { policy = LATEST, config = { policy = { auth = "open" },
      store = { latest = { "bench/**" } } } }
    local code, doc, err = bench("snapshot", kept.port, "--connections", "5", "--topics", "300")
    assert.equal("", err)
    assert.equal(0, code)
    assert.equal(600, doc.publishes.acknowledged)
    assert.equal(5 * 300, doc.deliveries.received)
    ordered(doc.deliveries.replay_ms)
    -- all history instead: what is not the newest comes, too
    code, doc = bench("snapshot", kept.port, "--connections", "2", "--topics", "10", "--subscribe-path",
      "/events?topic=bench/{run}/*&last_event_id=earliest", "--drain", "0.3")
    assert.equal(1, code)
    assert.same({ "20 not the newest of their topic" }, doc.problems)
    -- one topic of them
    code, doc = bench("snapshot", kept.port, "--connections", "2", "--topics", "10", "--subscribe-path",
      "/events?topic=bench/{run}/7", "--drain", "0.3")
    assert.equal(1, code)
    assert.same({ "18 lost" }, doc.problems)
  end)

  it("measures streams that are conflated", function()
    local kept = tidegate.start { policy = LATEST, config = { policy = { auth = "open" },
      store = { latest = { "bench/**" } }, limits = { send_buffer_bytes = 16384 } } }
    local code, doc, err = bench("conflate", kept.port, "--connections", "6", "--slow", "3", "--topics", "10", "--rate",
      "500", "--size", "16000", "--seconds", "2", "--warmup", "0", "--drain", "20")
    assert.equal("", err)
    assert.equal(0, code)
    assert.is_true(doc.slow.gaps > 0 and doc.slow.ended == 0)
  end)

  it("shows what it has when it is interrupted", function()
    local p = child.start(tidegate.bench_binary(), { "fan-out", "--port", tostring(shared().port), "--json", "--rate",
      "50", "--seconds", "600", "--warmup", "0", "--connections", "3" })
    finally(function() p:stop() end)
    local before = shared():metric "tidegate_events_published_total"
    eventually("it publishes", function()
      return shared():metric "tidegate_events_published_total" > before + 10
    end)
    p:signal "sigint"
    local code, doc = p:wait(30), http.json.decode(p:output())
    assert.equal(0, code)
    assert.is_true(doc.deliveries.received >= 30)
    ordered(doc.deliveries.latency_ms)
  end)

  it("measures many topics", function()
    local doc = flawless("topics", "--connections", "50")
    assert.equal(50, doc.topics)
    assert.equal(doc.publishes.sent, doc.deliveries.received)
    ordered(doc.deliveries.latency_ms)
  end)

  it("measures replay, of this run's events only", function()
    for _ = 1, 2 do
      local doc = flawless("replay", "--connections", "7", "--preload", "300", "--topics", "2")
      assert.equal(600, doc.publishes.sent)
      assert.equal(2100, doc.deliveries.received)
      ordered(doc.deliveries.replay_ms)
      assert.is_number(doc.server.pss_bytes_per_event)
    end
  end)

  it("measures churn", function()
    local doc = flawless("churn", "--connections", "8")
    assert.is_true(doc.connections.opened > 8)
    assert.is_true(doc.connections.per_s > 0)
    ordered(doc.connections.head_ms)
    assert.is_nil(doc.deliveries)
  end)

  it("measures publishing", function()
    local doc = flawless("publish", "--publishers", "4", "--topics", "4", "--pipeline", "4")
    assert.is_true(doc.publishes.sent > 10)
    ordered(doc.publishes.ack_ms)
    assert.is_nil(doc.deliveries)
    assert.is_nil(doc.connections)
  end)

  it("measures a storm: all streams end, all come back and get what they missed", function()
    local doc = flawless("storm", "--connections", "60", "--topics", "3", "--publishers", "2", "--preload", "40",
      "--spread", "0.1")
    assert.equal((40 + 40 + 1) * 3, doc.publishes.sent)
    assert.equal((40 + 40 + 1) * 60, doc.deliveries.received)
    assert.equal(60, doc.storm.live)
    ordered(doc.storm.live_after_ms)
    ordered(doc.storm.answer_ms)
  end)

  it("has some subscribers read nothing, who get everything afterwards", function()
    local doc = flawless("fan-out", "--connections", "12", "--slow", "3", "--size", "2000")
    assert.equal(doc.publishes.sent * 9, doc.deliveries.received)
    assert.equal(doc.publishes.sent * 3, doc.slow.received)
    assert.equal(0, doc.slow.gaps)
    assert.equal(0, doc.slow.ended)
  end)

  it("measures idle connections", function()
    local doc = flawless("idle", "--connections", "100")
    assert.equal(100, doc.connections.opened)
    assert.is_number(doc.server.pss_bytes_per_connection)
    assert.is_nil(doc.publishes)
  end)

  it("tells subscribers apart where the server should", function()
    local b = tidegate.start { policy = [[
local seen = {}
return { api = 1, authenticate = function() return {} end, subscribe = function(req)
  local c = tonumber(req.query.c)
  if not c or c < 0 or c > 6 or seen[c] or req.topics[1] ~= "t" .. c % 2 .. "{}" then return tg.deny(403, "no") end
  seen[c] = true
  return { topics = req.topics }
end }
]] }
    local code, doc, err = bench("idle", b.port, "--seconds", "0.1", "--connections", "7", "--topics", "2",
      "--subscribe-path", "/events?topic=t{n}{}&c={connection}")
    assert.equal("", err)
    assert.equal(0, code)
    assert.equal(7, doc.connections.opened)
  end)

  it("prints for people, too", function()
    local code, out = tidegate.run(tidegate.bench_binary(), { args = {
      "fan-out", "--port", tostring(shared().port), "--events", "5", "--connections", "2",
    } })
    assert.equal(0, code)
    assert.matches("received +10\n", out)
    assert.matches("all well", out)
  end)

  it("says that the server's processes cannot be seen", function()
    local code, doc, err = bench("idle", shared().port, "--seconds", "0.1", "--pid", "4194304")
    assert.equal(1, code)
    assert.matches("%-%-pid 4194304", err)
    assert.is_false(doc.ok)
  end)
end)

describe("tidegate-bench with HTTP/2", function()
  local ca, broker
  setup(function()
    ca = tls.authority()
    broker = tidegate.start { keep = true, config = { policy = { publish_cpu_ms = 1000 },
      listen = { "127.0.0.1:0", tls.listener { ca:issue { names = { "a.example" } } } } } }
  end)
  teardown(function()
    broker:dispose()
    ca:remove()
  end)

  for _, over in ipairs { "plain", "TLS" } do
    it("delivers to all streams of shared connections: " .. over, function()
      local words = over == "TLS" and { "--tls" } or {}
      local port = over == "TLS" and broker.addresses[2].port or broker.addresses[1].port
      local code, doc, err = bench("fan-out", port, "--h2", "--streams-per-connection", "20", "--connections", "50",
        "--events", "40", "--size", "20000", table.unpack(words))
      assert.equal("", err, broker:tail(10))
      assert.equal(0, code)
      assert.equal(50, doc.connections.opened)
      assert.equal(2000, doc.deliveries.received)
      code, doc, err = bench("idle", port, "--h2", "--streams-per-connection", "4", "--connections", "10",
        "--seconds", "0.1", "--pid", tostring(broker.pid), table.unpack(words))
      assert.equal("", err)
      assert.equal(0, code)
      assert.equal(10, doc.connections.opened)
      assert.is_number(doc.server.pss_bytes_per_connection)
      assert.is_number(doc.server.pss_bytes_per_further_stream)
    end)
  end

  it("uses so many connections, and as many streams", function()
    local streams = broker:metric "tidegate_h2_streams"
    assert.equal(0, streams)
    local p = child.start(tidegate.bench_binary(), { "idle", "--port", tostring(broker.addresses[1].port), "--h2",
      "--connections", "10", "--streams-per-connection", "4", "--seconds", "600" })
    finally(function() p:stop() end)
    eventually("all are open", function() return broker:metric "tidegate_subscribers" == 10 end)
    assert.equal(3, broker:metric "tidegate_h2_connections")
  end)

  it("replays, and tells topics apart", function()
    for mode, words in pairs { replay = { "--preload", "50" }, topics = { "--events", "30" } } do
      local code, doc, err = bench(mode, broker.addresses[1].port, "--h2", "--streams-per-connection", "5",
        "--connections", "15", table.unpack(words))
      assert.equal("", err)
      assert.equal(0, code)
      assert.is_true(doc.deliveries.received >= 15)
    end
  end)

  it("says what went wrong", function()
    for _, case in ipairs {
      { "subscribe: protocol error", { listen = { tls.listener { ca:issue { names = { "b.example" } } } },
        http = { h2 = false } }, "--tls" },
      { "subscribe: .*", { http = { h2 = false } } }, -- which bytes HTTP/1.1 answers with is not our business
      { "subscribe: status 404", {}, "--subscribe-path", "/nothing" },
    } do
      local other = tidegate.start { config = case[2] }
      local code, doc, err = bench("idle", other.port, "--h2", "--connections", "4", "--streams-per-connection", "2",
        table.unpack(case, 3))
      assert.equal(1, code)
      assert.matches(case[1], err)
      assert.equal(2, doc.connections.failed) -- the first of each connection; then it gives up
    end
  end)

  it("sees a broker that ends its streams", function()
    local other = tidegate.start()
    local p = child.start(tidegate.bench_binary(), { "idle", "--port", tostring(other.port), "--h2", "--json",
      "--connections", "6", "--streams-per-connection", "3", "--seconds", "600" })
    finally(function() p:stop() end)
    eventually("all are open", function() return other:metric "tidegate_subscribers" == 6 end)
    other:signal "TERM"
    other:wait_exit()
    require("luv").kill(p.pid, "sigint")
    assert.equal(1, p:wait(30))
    assert.matches("6 streams ended by the server", p:output())
  end)

  it("refuses what it cannot do", function()
    for _, args in ipairs { { "storm", "--h2" }, { "churn", "--h2" }, { "fan-out", "--h2", "--slow", "1" },
      { "idle", "--streams-per-connection", "2" } } do
      local code, _, err = tidegate.run(tidegate.bench_binary(), { args = args })
      assert.equal(64, code)
      assert.matches("%-%-h2", err)
    end
  end)
end)

describe("tidegate-bench with gzip", function()
  local broker = tidegate.shared { config = { compress = { gzip = true, min_members = 1 },
    policy = { publish_cpu_ms = 1000 } } }

  it("checks what it inflates, and counts the bytes that came", function()
    local bytes = {}
    for _, words in ipairs { {}, { "--gzip" }, { "--gzip", "--h2", "--streams-per-connection", "4" } } do
      local code, doc, err = bench("fan-out", broker().port, "--connections", "12", "--events", "60", "--orders",
        table.unpack(words))
      assert.equal("", err)
      assert.equal(0, code)
      assert.equal(720, doc.deliveries.received)
      bytes[#bytes + 1] = doc.deliveries.bytes_each
    end
    assert.is_true(bytes[1] > 350 and bytes[1] < 500, bytes[1])
    assert.is_true(bytes[2] < 0.6 * bytes[1] and bytes[3] < 0.6 * bytes[1], bytes[2] .. " " .. bytes[3])
  end)

  it("insists on it", function()
    local plain = tidegate.start()
    local code, doc, err = bench("idle", plain.port, "--gzip", "--connections", "3")
    assert.equal(1, code)
    assert.matches("the answer is not compressed", err)
    assert.equal(3, doc.connections.failed)
  end)
end)

describe("tidegate-bench with TLS", function()
  local ca, broker
  setup(function()
    ca = tls.authority()
    broker = tidegate.start { keep = true, config = { policy = { publish_cpu_ms = 1000 },
      listen = { tls.listener { ca:issue { names = { "a.example" } } } } } }
  end)
  teardown(function()
    broker:dispose()
    ca:remove()
  end)

  it("delivers as without, also what is larger than a record and than a socket takes at once", function()
    local code, doc, err = bench("fan-out", broker.port, "--tls", "--connections", "5", "--events", "30", "--size",
      "300000")
    assert.equal("", err, broker:tail(10))
    assert.equal(0, code)
    assert.equal(150, doc.deliveries.received)
    assert.is_true(broker:metric "tidegate_tls_handshakes_total" >= 6)
  end)

  it("comes back with tickets, when that is asked for", function()
    for resumed, words in pairs { [0] = { "--tls" }, [20] = { "--tls", "--resume" } } do
      local before = broker:metric "tidegate_tls_resumed_total"
      local code, doc, err = bench("storm", broker.port, "--connections", "20", "--preload", "5", "--spread", "0",
        table.unpack(words))
      assert.equal("", err, broker:tail(10))
      assert.equal(0, code)
      assert.equal(20, doc.storm.live)
      assert.is_true(broker:metric "tidegate_tls_resumed_total" - before >= resumed)
      assert.is_true(resumed > 0 or broker:metric "tidegate_tls_resumed_total" == before)
    end
  end)

  it("says that a server does not speak it", function()
    local plain = tidegate.start()
    local code, _, err = bench("idle", plain.port, "--tls", "--connections", "1")
    assert.equal(1, code)
    assert.matches("subscribe: protocol error", err)
  end)
end)

describe("tidegate-bench against a server", function()
  local server

  after_each(function()
    if server then
      server:stop()
      server = nil
    end
  end)

  local function run(options, ...)
    server = sse_server.start(options)
    return bench("fan-out", server.port, "--connections", "3", "--events", "20", "--drain", "0.3", "--settle", "0.05",
      ...)
  end

  -- Every event but the fifth as it should be.
  local function fifth(wrong)
    return function(n, frame)
      return n == 5 and wrong(frame) or { frame }
    end
  end

  it("that says gzip, and sends something else: says so", function()
    local code, doc, err = run({ fields = "Content-Encoding: gzip\r\n" }, "--gzip")
    assert.equal(1, code)
    assert.matches("what it sends is not gzip", err)
    assert.equal(3, doc.connections.ended_by_server)
    server:stop()
    code, doc, err = run { fields = "Content-Encoding: gzip\r\n" }
    assert.equal(1, code)
    assert.matches("the answer is compressed", err)
    assert.equal(3, doc.connections.failed)
  end)

  for what, options in pairs {
    ["that does right"] = {}, ["that sends chunks"] = { chunked = true },
    ["that ends lines with CRLF"] = { crlf = true },
    ["that sends crumbs"] = { chunked = true, crlf = true, pieces = 3 },
    ["that wraps the data"] = { wrap = function(data) return '{"data":"' .. data .. '"}' end },
  } do
    it(what .. ": finds nothing", function()
      local code, doc, err = run(options)
      assert.equal("", err)
      assert.equal(0, code)
      assert.equal(60, doc.deliveries.received)
    end)
  end

  it("that loses an event", function()
    local code, doc, err = run { fault = fifth(function() return {} end) }
    assert.equal(1, code)
    assert.matches("3 lost", err)
    assert.equal(3, doc.deliveries.lost)
    assert.equal(57, doc.deliveries.received)
    assert.is_false(doc.ok)
  end)

  it("that loses the last event", function()
    local code, doc = run { fault = function(n, frame) return n == 20 and {} or { frame } end }
    assert.equal(1, code)
    assert.equal(3, doc.deliveries.lost)
  end)

  it("that doubles an event", function()
    local code, doc, err = run { fault = fifth(function(frame) return { frame, frame } end) }
    assert.equal(1, code)
    assert.matches("3 doubled", err)
    assert.equal(3, doc.deliveries.doubled)
    assert.equal(0, doc.deliveries.lost)
    assert.equal(60, doc.deliveries.received)
  end)

  it("that changes the order", function()
    local held
    local code, doc, err = run { fault = function(n, frame)
      held = n == 5 and frame or held
      return n == 5 and {} or n == 6 and { frame, held } or { frame }
    end }
    assert.equal(1, code)
    assert.matches("3 reordered", err)
    assert.equal(3, doc.deliveries.reordered)
    assert.equal(0, doc.deliveries.lost)
    assert.equal(0, doc.deliveries.doubled)
  end)

  it("that cuts data short", function()
    local code, doc, err = run { wrap = function(data) return data:sub(1, -2) end }
    assert.equal(1, code)
    assert.matches("damaged", err)
    assert.equal(60, doc.deliveries.damaged)
  end)

  it("that announces a gap", function()
    local code, doc = run { fault = fifth(function() return { "event: gap\ndata: {}\n\n" } end) }
    assert.equal(1, code)
    assert.equal(3, doc.deliveries.gaps)
    assert.equal(3, doc.deliveries.lost)
  end)

  it("that forgets the empty line", function()
    local code, doc = run { fault = fifth(function(frame) return { (frame:gsub("\n\n$", "\n")) } end) }
    assert.equal(1, code)
    assert.equal(3, doc.deliveries.lost)
  end)

  it("that ends streams", function()
    local code, doc, err = run { hang_up = 10 }
    assert.equal(1, code)
    assert.matches("3 streams ended by the server", err)
    assert.equal(3, doc.connections.ended_by_server)
  end)

  it("that refuses publishes: those are not losses", function()
    local code, doc, err = run { status = 503, fault = function() return {} end }
    assert.equal(1, code)
    assert.matches("20 publishes refused", err)
    assert.matches("publish: status 503", err)
    assert.equal(0, doc.deliveries.lost)
  end)

  it("that does not answer publishes: those are not losses", function()
    local code, doc, err = run({ status = 0 }, "--pipeline", "7")
    assert.equal(1, code)
    assert.matches("7 publishes without an answer", err)
    assert.equal(0, doc.deliveries.lost)
  end)

  it("that refuses streams", function()
    local code, _, err = run { subscribe_status = 403 }
    assert.equal(1, code)
    assert.matches("3 streams not opened", err)
    assert.matches("subscribe: status 403", err)
  end)

  it("that mixes up topics", function()
    local code, doc = run({ fault = function(n, frame)
      return { n == 5 and frame:gsub("(tgb%.%x+%.)%d", "%11") or frame }
    end }, "--topics", "1")
    assert.equal(1, code)
    assert.equal(3, doc.deliveries.misrouted)
    assert.equal(3, doc.deliveries.lost)
  end)

  it("that is not there", function()
    server = sse_server.start()
    local port = server.port
    server:stop()
    server = nil
    local code, _, err = bench("fan-out", port)
    assert.equal(1, code)
    assert.matches("connection refused", err)
  end)
end)

describe("the options of tidegate-bench", function()
  for what, words in pairs {
    ["no mode"] = {}, ["an unknown mode"] = { "fanout" }, ["an unknown option"] = { "idle", "--conections", "5" },
    ["a missing value"] = { "idle", "--port" }, ["a value where none is taken"] = { "idle", "--json=1" },
    ["a word that is no option"] = { "idle", "5" }, ["what is not a number"] = { "idle", "--seconds", "nan" },
    ["tickets without TLS"] = { "idle", "--resume" },
    ["half a connection"] = { "idle", "--connections", "1.5" }, ["a payload too small"] = { "publish", "--size", "79" },
    ["a name of a host"] = { "idle", "--host", "example.org" },
    ["a path that is none"] = { "idle", "--subscribe-path", "x" },
    ["a header of two lines"] = { "idle", "--header", "A: b\r\nC: d" },
    ["more connections than elsewhere has room for"] = { "idle", "--host", "192.0.2.1", "--connections", "20001" },
  } do
    it("refuse " .. what, function()
      local code, out, err = tidegate.run(tidegate.bench_binary(), { args = words })
      assert.equal(64, code)
      assert.equal("", out)
      assert.matches("^tidegate%-bench: ", err)
    end)
  end

  it("are told", function()
    local code, out = tidegate.run(tidegate.bench_binary(), { args = { "--help" } })
    assert.equal(0, code)
    for line in out:gmatch "[^\n]+" do
      assert.is_true(#line <= 80, line)
    end
    for _, word in ipairs { "fan%-out", "replay", "%-%-pid", "%-%-window" } do
      assert.matches(word, out)
    end
    assert.equal(out, (select(2, tidegate.run(tidegate.bench_binary(), { args = { "idle", "--help" } }))))
  end)

  -- with --help behind them they are read, and nothing is done
  it("that the documentation and the scenarios show exist", function()
    local lines, count = {}, 0
    for line in require("support.pages").text():gmatch "\ntidegate-bench ([^\n#]+)" do
      lines[#lines + 1] = line:gsub('"%$%b()"', "1")
    end
    for _, scenario in ipairs(dofile(SPEC_SOURCE_DIR .. "/spec/bench/scenarios.lua")) do
      lines[#lines + 1] = scenario.args
    end
    for _, line in ipairs(lines) do
      local words = {}
      for word in line:gmatch "%S+" do
        words[#words + 1] = word
      end
      words[#words + 1] = "--help"
      local code, _, err = tidegate.run(tidegate.bench_binary(), { args = words })
      assert.equal(0, code, line .. ": " .. err)
      count = count + 1
    end
    assert.is_true(count > 15)
  end)

  it("leave no doubt about the version", function()
    local code, out = tidegate.run(tidegate.bench_binary(), { args = { "--version" } })
    assert.equal(0, code)
    assert.matches("^tidegate%-bench %d+%.%d+%.%d+\n$", out)
  end)

  it("say what the limit on open files is", function()
    local code, _, err = tidegate.run("/bin/sh", { args = {
      "-c", 'ulimit -n 100; exec "$0" "$@"', tidegate.bench_binary(), "idle", "--connections", "200",
    } })
    assert.equal(71, code)
    assert.matches("the limit is 100", err)
  end)
end)

-- What spec/bench compares: they must answer, and everything of them must arrive.
describe("the benchmarks' own", function()
  local function well(port, mode, ...)
    local code, doc, err = bench(mode, port, "--settle", "0", ...)
    assert.equal("", err)
    assert.equal(0, code)
    assert.is_true(doc.deliveries.received > 0)
    assert.equal(0, doc.deliveries.strange)
    return doc
  end

  for _, mode in ipairs { "send", "coalesce" } do
    it("limit server delivers, with " .. mode, function()
      local port = child.free_port()
      local limit = child.start(tidegate.binary():gsub("[^/]*$", "") .. "tidegate_limit", { tostring(port), mode })
      finally(function() limit:stop() end)
      eventually("it listens", function()
        local s = socket.connect("127.0.0.1", port)
        return s and s:close()
      end)
      assert.equal(200 * 5, well(port, "fan-out", "--connections", "5", "--events", "200").deliveries.received)
      assert.equal(100, well(port, "topics", "--connections", "10", "--events", "100").deliveries.received)
      -- requests and answers that come in pieces
      well(port, "fan-out", "--connections", "5", "--events", "50", "--size", "200000")
    end)
  end

  it("limit server says how to call it", function()
    local code, _, err = tidegate.run(tidegate.binary():gsub("[^/]*$", "") .. "tidegate_limit", { args = { "1", "x" } })
    assert.equal(64, code)
    assert.matches("usage: tidegate_limit PORT", err)
  end)

  it("policy selects and formats as its head says", function()
    local f = assert(io.open(SPEC_SOURCE_DIR .. "/spec/bench/policy.lua"))
    local broker = tidegate.start { policy = f:read "a", config = { policy = { auth = "open" } } }
    f:close()
    for _, filter in ipairs { "index", "text", "lua" } do
      local doc = well(broker.port, "topics", "--connections", "5", "--events", "50", "--subscribe-path",
        "/events?topic=bench/**&audience={n}&filter=" .. filter)
      assert.equal(50, doc.deliveries.received)
    end
    for _, format in ipairs { "label", "order" } do
      local path = "/events?topic=json/{topic}"
      local doc = well(broker.port, "fan-out", "--connections", "6", "--events", "20", "--publish-path", path,
        "--subscribe-path", path .. "&audience={connection}&of=3&filter=level&format=" .. format)
      assert.equal(120, doc.deliveries.received)
    end
  end)
end)
