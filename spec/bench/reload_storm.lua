-- The policy is replaced 100 times while 10,000 streams in 100 audiences are open and events are published: prints what
-- that costs, and fails where a stream ended, an event was lost, doubled or late, memory grew, or a policy of the past
-- stayed. From the root of the tree (two minutes; ulimit -Hn of 20000):
--   cmake --preset release && cmake --build --preset release
--   build/release/tidegate_spec spec/bench/reload_storm.lua
-- Other figures: TIDEGATE_BENCH_CONNECTIONS, _AUDIENCES, _RELOADS, _RATE (events/s), _INTERVAL (seconds between
-- reloads). `tidegate-bench` holds the streams and publishes: it checks every event of every one of them.
local child = require "support.child"
local eventually = require "support.eventually"
local files = require "support.files"
local http = require "support.http"
local tidegate = require "support.tidegate"

local function setting(name, default)
  return tonumber(os.getenv("TIDEGATE_BENCH_" .. name) or default)
end
local CONNECTIONS, AUDIENCES = setting("CONNECTIONS", 10000), setting("AUDIENCES", 100)
local RELOADS, RATE, INTERVAL = setting("RELOADS", 100), setting("RATE", 200), setting("INTERVAL", 0.4)
local WARM_S = 2
local REST = 20 -- every twentieth generation stays until it was asked about every stream, some 1,500 a second
local LOAD_S = RELOADS * INTERVAL + RELOADS // REST * (CONNECTIONS / 1400 + 1) + 10

-- Generation n. Filters are text and Lua by turns, under one name: audiences are bound anew. Every third generation
-- has a format, every fifth asks for another param: their streams move to other audiences.
local function policy(n)
  local subscription = ('filter = "mine", params = { topic = req.topics[1]%s }%s'):format(
    n % 5 == 0 and ", five = true" or "", n % 3 == 0 and ', format = "same"' or ', format = "raw"')
  return ([[
local P = { api = 1, version = "%d" }
function P.authenticate(req) return { sub = "c" .. (req.query.c or "") } end
function P.subscribe(req, who) return { topics = req.topics, %s } end
function P.publish(pub) return pub end
P.filters = { mine = %s }
P.formats = { same = function(ev, params) return params.topic == ev.topic and { data = ev.raw } or nil end }
return P
]]):format(n, subscription, n % 2 == 0 and '"topic == $topic"'
    or "function(ev, params) return ev.topic == params.topic end")
end

-- Everything about the broker at a moment.
local function look(broker)
  local m = {}
  for name, value in http.get(broker.admin, "/metrics").body:gmatch "\n(tidegate_%S+) (%S+)" do
    m[name] = tonumber(value)
  end
  m.rss_kb = broker:memory_kb()
  m.pss_kb = tonumber(files.read(("/proc/%d/smaps_rollup"):format(broker.pid)):match "\nPss:%s+(%d+)")
  return m
end

local function column(list, f)
  table.sort(list)
  return f and f(list) or list[(#list + 1) // 2]
end

local function row(...)
  io.write("| ", table.concat({ ... }, " | "), " |\n")
  io.flush()
end

local function mib(kb)
  return ("%.1f"):format(kb / 1024)
end

local function show(n, m, answers)
  row(n, answers and ("%.1f"):format(column(answers)) or "-",
    answers and ("%.1f"):format(column(answers, function(l) return l[#l] end)) or "-",
    ("%d"):format(m['tidegate_policy_resubscribes_total{outcome="same"}']),
    ("%d"):format(m['tidegate_policy_resubscribes_total{outcome="moved"}']), ("%d"):format(m.tidegate_audiences),
    ("%d"):format(m.tidegate_policy_generations), ("%.0f"):format(m.tidegate_policy_memory_bytes / 1024), mib(m.rss_kb),
    mib(m.pss_kb))
end

local function settled(broker)
  eventually("every stream was asked about", function()
    return broker:metric "tidegate_policy_resubscribes_waiting" == 0
  end, 60)
end

local function pause_until(moment)
  while eventually.now() < moment do
    eventually.turn()
  end
end

-- Without streams, with generation 0 freshly loaded and nothing before it in memory; the Lua state when it is smallest,
-- while hooks run that leave garbage to be collected.
local function at_rest(broker)
  assert.equal("reloaded", broker:reload(policy(0), "?force=1").json.result)
  eventually("only the policy in force is in memory", function()
    return broker:metric "tidegate_policy_generations" == 1
  end, WARM_S + 20)
  local m, least
  for _ = 1, 300 do
    assert.equal(201, http.post(broker, "/events?topic=probe", "x").status)
    m = look(broker)
    least = math.min(least or math.huge, m.tidegate_policy_memory_bytes)
  end
  m.lua_bytes = least
  return m
end

-- One order; milliseconds until its answer.
local function reload(broker, n)
  local from = eventually.now()
  local r = broker:reload(policy(n))
  local ms = (eventually.now() - from) * 1000
  assert(r.status == 200 and r.json.result == "reloaded", r.body)
  assert.equal(tostring(n), r.json.policy.label)
  assert.equal(CONNECTIONS, r.json.streams)
  return ms
end

-- All generations but those that rest are replaced while they ask about the streams.
local function storm(broker)
  local answers, all, last, quiet = {}, {}, nil, nil
  local due = eventually.now()
  row("reloads", "answer ms, median", "worst", "asked: same", "moved", "audiences", "policies", "Lua KiB", "RSS MiB",
    "PSS MiB")
  row(("---:|"):rep(9) .. "---:")
  show(0, look(broker))
  for n = 1, RELOADS do
    due = math.max(due + INTERVAL, eventually.now())
    pause_until(due)
    answers[#answers + 1] = reload(broker, n)
    all[#all + 1] = answers[#answers]
    if n % REST == 0 then
      settled(broker)
    end
    if n % 10 == 0 then
      last = look(broker)
      quiet = quiet or n >= RELOADS // 5 and last or nil
      show(n, last, answers)
      answers = {}
    end
  end
  return all, quiet, last
end

-- What caches events is full from now on: if memory grows, it is not for them.
local function fill_caches(broker)
  local batch, filler = {}, ("x"):rep(800)
  for i = 1, 1000 do
    batch[i] = { topic = "filler", data = filler }
  end
  for _ = 1, 40 do -- 32 MB: twice SQLite's page cache
    broker:publish_all(batch)
  end
end

local function show_log(broker)
  for _, line in ipairs(broker:log_lines()) do
    if line.level == "warn" or line.level == "error" then
      print(("log: %s: %s %s"):format(line.level, line.msg, line.error or line.reason or ""))
    end
  end
end

local function check_counts(m)
  for name, expected in pairs {
    ['tidegate_policy_reloads_total{result="ok"}'] = RELOADS + 2, -- before and after the storm, one each
    ['tidegate_policy_reloads_total{result="refused"}'] = 0,
    ['tidegate_policy_resubscribes_total{outcome="revoked"}'] = 0,
    ['tidegate_policy_resubscribes_total{outcome="later"}'] = 0,
    ['tidegate_policy_resubscribes_total{outcome="gave-up"}'] = 0,
    ['tidegate_policy_resubscribes_total{outcome="reconnect"}'] = 0,
    tidegate_policy_rollbacks_total = 0, tidegate_policy_quarantined_calls_total = 0, tidegate_gaps_total = 0,
    tidegate_policy_stack_repairs_total = 0, tidegate_subscribed_total = CONNECTIONS, tidegate_subscribers = 0,
    tidegate_audiences = 0, tidegate_policy_generations = 1,
  } do
    assert.equal(expected, m[name], name)
  end
  for name, value in pairs(m) do
    assert(not name:find "^tidegate_policy_errors_total" or value == 0, name)
  end
end

it("replaces the policy under load", function()
  local broker = tidegate.start {
    policy = policy(0),
    config = {
      policy = {
        warm_s = WARM_S, resubscribe_per_s = 2 * CONNECTIONS,
        -- where the machine is a virtual one, what its host does counts as CPU time
        subscribe_cpu_ms = 2000, publish_cpu_ms = 2000, filter_cpu_ms = 2000,
      },
      event_log = { max_events = 1000 },
    },
  }
  fill_caches(broker)
  local before = at_rest(broker)
  local load = child.start(tidegate.bench_binary(), {
    "fan-out", "--json", "--port", tostring(broker.port), "--connections", tostring(CONNECTIONS),
    "--topics", tostring(AUDIENCES), "--rate", tostring(RATE), "--publishers", "2", "--seconds", tostring(LOAD_S),
    "--subscribe-path", "/events?topic=bench/{topic}&c={connection}",
  })
  eventually("all streams are open", function()
    return broker:metric "tidegate_subscribers" == CONNECTIONS
  end, 60)
  local published = broker:metric "tidegate_events_published_total"
  eventually("events flow", function()
    return broker:metric "tidegate_events_published_total" > published + 2 * RATE
  end, 60)
  assert.equal(AUDIENCES, broker:metric "tidegate_audiences")
  local cpu = broker:cpu_seconds()
  local began = eventually.now()
  local answers, quiet, last = storm(broker)
  local took = eventually.now() - began
  cpu = broker:cpu_seconds() - cpu
  assert(load:running(), "the load ended before the last reload")
  assert.equal(CONNECTIONS, broker:metric "tidegate_subscribers")
  load:wait(120)
  local doc = assert(http.json.decode(load:output()), load:errors())
  load:stop()
  eventually("the streams are closed", function() return broker:metric "tidegate_subscribers" == 0 end, 30)
  local after = at_rest(broker)

  print(("\n%d reloads in %.1f s, answered after %.1f ms (median), %.1f ms (worst); %.0f %% of a core"):format(RELOADS,
    took, column(answers), answers[#answers], 100 * cpu / took))
  print(("%d deliveries of %d events to %d streams: %s"):format(doc.deliveries.received, doc.publishes.acknowledged,
    CONNECTIONS, #doc.problems == 0 and "none lost, doubled, reordered; no stream ended"
      or table.concat(doc.problems, "; ")))
  print(("latency p50 %.1f ms, p99 %.1f ms, worst %.1f ms"):format(doc.deliveries.latency_ms.p50,
    doc.deliveries.latency_ms.p99, doc.deliveries.latency_ms.max))
  print(("at rest before and after, generation 0, no streams: Lua state %d and %d bytes, PSS %s and %s MiB"):format(
    before.lua_bytes, after.lua_bytes, mib(before.pss_kb), mib(after.pss_kb)))
  show_log(broker)

  assert.same({}, doc.problems)
  assert.equal(0, load.exit_code)
  check_counts(after)
  -- the same file, loaded into a state of its own, comes to the same size: nothing of the others is left in it
  local apart = math.abs(after.lua_bytes - before.lua_bytes)
  assert(apart <= 8 * 1024, ("the Lua state differs by %d bytes"):format(apart))
  assert(last.pss_kb <= quiet.pss_kb * 1.05 + 1024,
    ("memory grew from %s to %s MiB of PSS in the storm"):format(mib(quiet.pss_kb), mib(last.pss_kb)))
end)
