-- What filters and formats cost, one call after the other and in the broker:
--   cmake --preset release && cmake --build --preset release
--   TIDEGATE_BIN=build/release/tidegate build/release/tidegate_spec spec/bench/policy_costs.lua
-- The least of some runs: on a machine that is shared the others say what its neighbours did. The last part opens
-- 10,000 connections (ulimit -n 20000), 6 times, and 4 times for tags. TIDEGATE_BENCH=calls,sets,fan-out,reach,broker:
-- only those. TIDEGATE_BENCH_PG="host=... dbname=... user=...": `sets` loads from there, too, out of a table `blocked`.
local audience = require "native.audience"
local child = require "support.child"
local eventually = require "support.eventually"
local filter = require "native.filter"
local http = require "support.http"
local loop_turns = require "bench.loop_turns"
local policies = require "support.policies"
local quota = require "native.quota"
local tidegate = require "support.tidegate"

local CHOSEN = (os.getenv "TIDEGATE_BENCH" or "calls,sets,fan-out,reach,broker") .. ","
local ROUNDS = 7
local CONNECTIONS = tonumber(os.getenv "TIDEGATE_BENCH_CONNECTIONS" or "10000")

local function chosen(name)
  return CHOSEN:find(name .. ",", 1, true)
end

local function row(what, seconds, note)
  local ns = seconds * 1e9
  local text = ns < 1e4 and ("%.0f ns"):format(ns) or ns < 1e7 and ("%.1f us"):format(ns / 1e3)
    or ("%.1f ms"):format(ns / 1e6)
  io.write(("| %s | %s |%s\n"):format(what, text, note and " " .. note .. " |" or ""))
  io.flush()
end

local function least(measure)
  local best
  for _ = 1, ROUNDS do
    local seconds = measure()
    best = best and math.min(best, seconds) or seconds
  end
  return best
end

-- The time of one call of `f`, with that of the loop around it.
local function timed(n, f)
  return least(function()
    local start = os.clock()
    for i = 1, n do f(i) end
    return (os.clock() - start) / n
  end)
end

local TEXT = "starts_with(attrs.cell, $cell) and attrs.severity >= $min "
  .. "and (not has(attrs.lang) or attrs.lang == $lang)"
local POLICY = [[
local P = { api = 1 }
function P.authenticate(req) return { sub = "u", role = "viewer" } end
local RATE = { per_s = 1000000, burst = 1000000 }
function P.subscribe(req, who)
  for _ = 1, tonumber(req.query.rates or 0) do tg.rate("publish", "user:u-0123456789", RATE) end
  return { topics = { "alert/**" }, filter = "text", format = "lua",
    params = { cell = req.query.cell, min = 1, lang = "de", role = who.role } }
end
P.filters = {
  text = "]] .. TEXT .. [[",
  data = "data.customer.name == $cell or data.total >= $min",
  lua = function(ev, params)
    local attrs = ev.attrs
    local lang = attrs.lang
    return attrs.cell:sub(1, #params.cell) == params.cell and attrs.severity >= params.min
      and (lang == nil or lang == params.lang)
  end,
}
P.formats = {
  mask = { mask = { ["customer.ssn"] = "***" } },
  keep = { keep = { "id", "status", "region" } },
  drop = { drop = { "customer.ssn" } },
  hash = { hash = { "customer.ssn" }, hash_key = "0123456789abcdef" },
  round = { round = { ["items.price"] = 0 } },
  cut = { cut = { note = 10 } },
  rename = { rename = { ["customer.name"] = "buyer" } },
  set = { set = { seen_as = "$role" } },
  lua = function(ev, params)
    local o = ev.data
    return { event = "order", data = { id = o.id, status = o.status, region = params.role == "x" and o.region or nil } }
  end,
}
return P
]]
local DATA = '{"id":7,"status":"paid","region":"eu","total":10,"customer":{"name":"Ann","ssn":"123-45","street":"'
  .. ("x"):rep(90) .. '"},"items":[{"sku":"a1","n":1,"price":1.50},{"sku":"b2","n":2,"price":20.00}],"note":"'
  .. ("y"):rep(20) .. '"}'
local PARAMS = '{"cell":"u33d","lang":"de","min":2,"role":"viewer"}'

local function event(i, attrs)
  return policies.event { topic = "alert/eu", data = DATA, id = i, attrs = attrs
    or '{"cell":"u33dc1","lang":"de","severity":3}' }
end

-- CPU time of one of `n` calls that `f` makes.
local function cpu_of(n, f)
  return least(function()
    local start = os.clock()
    f(n)
    return (os.clock() - start) / n
  end)
end

local function filters(p)
  local one, many = event(1), {}
  for i = 1, 1000 do many[i] = event(i) end
  for _, name in ipairs { "text", "data", "lua" } do
    local b = assert(p:bind { filter = name, params = PARAMS })
    assert(p:filter(b, one))
    row(("filter `%s`, same event as before"):format(name),
      cpu_of(100000, function(n) p:filter(b, one, n) end))
    row(("filter `%s`, another event each time"):format(name), timed(1000, function(i) p:filter(b, many[i]) end))
    p:unbind(b)
  end
end

local function formats(p)
  local one = event(1)
  for _, name in ipairs { "mask", "keep", "drop", "hash", "round", "cut", "rename", "set", "lua" } do
    local b = assert(p:bind { format = name, params = PARAMS })
    assert.equal("deliver", (p:format(b, one)))
    row(("format `%s`"):format(name), cpu_of(20000, function(n) p:format_key(b, one, n) end),
      #DATA .. " bytes of data")
    row(("format `%s`: keys of what is known"):format(name),
      cpu_of(100000, function(n) p:format_keys(b, n) end))
    p:unbind(b)
  end
end

local function gates(p)
  for _, case in ipairs { { "text filter", { filter = "text" } }, { "Lua filter", { filter = "lua" } },
    { "Lua format", { format = "lua" } } } do
    case[2].params = PARAMS
    row("bind and unbind, " .. case[1], timed(2000, function() p:unbind((p:bind(case[2]))) end))
  end
  local request = policies.request { query = { cell = "u33d" } }
  row("authenticate + subscribe, verdict read, loop turned twice", timed(2000, function() p:subscribe(request) end))
end

-- The whole call, that of the spec with it; data of which the hook reads one field, or nothing.
local function publishes()
  local request = policies.request { method = "POST" }
  local events = { { topic = "alert/eu", data = DATA } }
  for _, case in ipairs { { "passes the event on", "" },
    { "reads `json.decode(pub.raw).id`", "local _ = json.decode(pub.raw).id " },
    { "reads `pub.data.id`", "local _ = pub.data and pub.data.id " } } do
    local p = policies.with { publish = case[2] .. "return pub" }
    row("authenticate + publish that " .. case[1], timed(2000, function() p:publish(request, events) end))
    p:close()
  end
end

-- What is counted in memory that workers share; one process here.
local function counts(p)
  local stream, rate
  for _ = 1, ROUNDS do
    local s, r = quota.area(1000, 1000):cost(200000)
    stream, rate = math.min(s, stream or s), math.min(r, rate or r)
  end
  row("a stream that opens and closes, one quota: both", stream / 1e9)
  row("a rate, without Lua", rate / 1e9)
  local function many(n)
    local request = policies.request { query = { cell = "u33d", rates = tostring(n) } }
    return least(function()
      local start = os.clock()
      p:subscribe(request)
      return os.clock() - start
    end)
  end
  row("`tg.rate`", (many(100000) - many(0)) / 100000)
end

-- in_set: what it takes, and what a set takes.
local function in_set()
  local events = {}
  for i = 1, 20000 do
    events[i] = event(i, ('{"u":"user-%08d"}'):format(i * 7919 % 2000000 + 1)) -- half of them are in a million
  end
  local function per_event(set, text)
    local args = assert(set:bind(assert(set:compile(text))))
    return timed(#events, function(i) args:test(events[i]) end),
      cpu_of(200000, function(n) args:test(events[1], n) end)
  end
  for _, n in ipairs { 1, 1000, 1000000 } do
    local set = filter.new()
    local entries, bytes, seconds = set:values("s", n)
    local plain_other, plain_same = per_event(set, "has(attrs.u)")
    local other, same = per_event(set, 'in_set(attrs.u, "s")')
    row(("in_set, %d entries: the same value; another one each time, without the event"):format(n), same - plain_same,
      ("%.0f ns"):format((other - plain_other) * 1e9))
    row(("a set of %d entries of 13 bytes: filled and sealed"):format(n), seconds,
      ("%.1f bytes for each"):format(bytes / entries))
  end
end

local SETS = [[
local P = { api = 1 }
P.queries = { blocked = "select person from blocked" }
P.sets = { blocked = { query = "blocked", every = %d, stale = 7200 } }
P.filters = { quiet = 'not in_set(attrs.person, "blocked")' }
function P.authenticate() return { sub = "x" } end
function P.subscribe(req) return { topics = req.topics, filter = "quiet" } end
return P
]]

local function loads(what, database)
  for _, every in ipairs { 3600, 1 } do
    local dir = child.directory()
    local turns = loop_turns.new(dir)
    local broker = tidegate.start { policy = SETS:format(every), config = { database = database }, env = turns.env }
    local line = broker:logged { msg = "a set is loaded" }
    local first = turns:read()
    turns:reset()
    local cpu, from = broker:cpu_seconds(), broker:metric 'tidegate_policy_set_loads_total{result="ok"}'
    local link, due = http.connect(broker), os.time() + 12
    repeat -- the loop has other work as well
      assert.equal(200, link:request("GET", "/").status)
    until os.time() >= due
    link:close()
    local n = broker:metric 'tidegate_policy_set_loads_total{result="ok"}' - from
    local cost = n > 0 and ("CPU %.2f s for each"):format((broker:cpu_seconds() - cpu) / n) or ""
    local later = turns:read()
    io.write(("| %s, %s entries: the first load, %s ms | %.2f ms | %.2f ms | |\n"):format(what, line.entries, line.ms,
      first.longest * 1e3, first.most * 1e3))
    io.write(("| %s, %d further loads | %.2f ms | %.2f ms | %s |\n"):format(what, n, later.longest * 1e3,
      later.most * 1e3, cost))
    broker:stop()
    child.remove_tree(dir)
  end
end

local function set_loads()
  local dir = child.directory()
  local path = dir .. "/app.db"
  assert(tidegate.run("/usr/bin/sqlite3", { args = { path, [=[create table blocked(person text);
    with recursive n(i) as (select 1 union all select i + 1 from n where i < 1000000)
    insert into blocked select printf('user-%08d', i) from n]=] } }) == 0)
  loads("SQLite", { driver = "sqlite", path = path })
  child.remove_tree(dir)
  local conninfo = os.getenv "TIDEGATE_BENCH_PG"
  if conninfo then
    loads("PostgreSQL", { driver = "postgres", conninfo = conninfo })
  end
end

-- One event for many audiences, of which ten want it; filters only.
local function fan_out()
  for _, n in ipairs { 100, 10000 } do
    local index, plain = audience.new(), audience.new()
    local equal, no_index = "attrs.t == $t", "starts_with(attrs.t, $t)"
    local by_value, asked = index:compile(equal), plain:compile(no_index)
    local lua = assert(policies.open_text(
      "local P = { api = 1, filters = { f = function(ev, p) return ev.attrs.t == p.t end } }\n"
      .. "function P.authenticate() return {} end function P.subscribe() return { topics = { 'a' } } end return P"))
    for i = 1, n do
      local params = ('{"t":"tenant-%06d"}'):format(i % (n // 10))
      index:add(i, { "alert/**" }, by_value, params)
      plain:add(i, { "alert/**" }, asked, params)
      assert(lua:bind { filter = "f", params = params })
    end
    local ev = event(1, '{"t":"tenant-000001"}')
    assert.equal(10, (index:route(ev)))
    assert.equal(10, (plain:route(ev)))
    assert.equal(10, (lua:filter_all(ev)))
    local times = math.max(1, 200000 // n)
    local function measure(what, f)
      row(("%d audiences, %s"):format(n, what), least(function() return select(2, f()) end))
    end
    measure("text by an attribute", function() return index:route(ev, times) end)
    measure("text asked one by one", function() return plain:route(ev, times) end)
    measure("Lua", function() return lua:filter_all(ev, times) end)
    lua:close()
  end
end

local BROKER = [[
local P = { api = 1 }
function P.authenticate() return { sub = "x" } end
function P.publish(pub) return pub end
function P.subscribe(req)
  local number = math.tointeger(tonumber(req.query.c)) % math.tointeger(tonumber(req.query.a))
  return { topics = { "alert/**" }, filter = req.query.filter or "none",
    params = { t = ("tenant-%06d"):format(number) } }
end
P.filters = {
  index = "attrs.t == $t",
  text = "starts_with(attrs.t, $t)",
  lua = function(ev, params) return ev.attrs.t == params.t end,
}
return P
]]

-- Time of the broker's process per event, each of which is for one audience. `tidegate-bench idle` holds the
-- connections.
local function broker_cost(name, audiences)
  local broker = tidegate.start { policy = BROKER }
  local holder = child.start(tidegate.bench_binary(), { "idle", "--port", tostring(broker.port), "--connections",
    tostring(CONNECTIONS), "--seconds", "120", "--subscribe-path",
    ("/events?filter=%s&a=%d&c={connection}"):format(name, audiences) })
  eventually("all connections", function() return broker:metric "tidegate_subscribers" == CONNECTIONS end, 60)
  assert.equal(audiences, broker:metric "tidegate_audiences")
  local batch, batches = {}, 25
  local before = broker:cpu_seconds()
  for n = 1, batches do
    for i = 1, 20 do
      batch[i] = { topic = "alert/x", data = "x", attrs = { t = ("tenant-%06d"):format((n * 20 + i) % audiences) } }
    end
    broker:publish_all(batch)
  end
  local per_event = (broker:cpu_seconds() - before) / (batches * 20)
  assert.equal(batches * 20 * CONNECTIONS // audiences, broker:metric "tidegate_events_delivered_total")
  holder:stop()
  broker:kill()
  return per_event
end

local REACH = [[
local P = { api = 1 }
function P.authenticate() return { sub = "x" } end
function P.publish(pub) return pub end
function P.subscribe(req)
  local tags = {}
  for i = 1, math.tointeger(tonumber(req.query.tags)) do tags[i] = "user:" .. req.query.c .. "/" .. i end
  return { topics = { "alert/**" }, tags = tags }
end
P.observe = {
  { topics = { "rights/*" }, run = function(ev) tg.ask_again("user:" .. ev.topic:match "^rights/(.*)$") end },
  { topics = { "rooms/*/closed" }, run = function(ev) tg.end_streams("room:" .. ev.topic, "closed") end },
}
return P
]]

local function observe()
  local p = assert(policies.open_text(REACH))
  local function of(what, topic)
    local ev = policies.event { topic = topic, data = "x", id = 1 }
    row(what, least(function() return select(2, p:observe(ev, 100000)) end))
  end
  of("observe: `run` that orders one thing", "rights/ann")
  of("observe: an event of another topic", "alert/eu")
  p:close()
  p = assert(policies.open_text(POLICY))
  of("a policy without observe", "alert/eu")
  p:close()
end

-- Bytes of the broker per stream with so many tags, each of which no other stream has.
local function memory_of(tags)
  local broker = tidegate.start { policy = REACH }
  local before = broker:memory_kb()
  local holder = child.start(tidegate.bench_binary(), { "idle", "--port", tostring(broker.port), "--connections",
    tostring(CONNECTIONS), "--seconds", "120", "--subscribe-path", ("/events?tags=%d&c={connection}"):format(tags) })
  eventually("all connections", function() return broker:metric "tidegate_subscribers" == CONNECTIONS end, 60)
  local bytes = (broker:memory_kb() - before) * 1024 / CONNECTIONS
  holder:stop()
  broker:kill()
  return bytes
end

describe("costs of policies:", function()
  local function section(name, body)
    if chosen(name) then
      it(name, body)
    end
  end

  section("calls", function()
    io.write("\n| call | least |\n|---|---|\n")
    local p = assert(policies.open_text(POLICY))
    filters(p)
    formats(p)
    gates(p)
    publishes()
    counts(p)
    p:close()
  end)

  section("sets", function()
    io.write("\n| sets | least | |\n|---|---|---|\n")
    in_set()
    io.write("\n| loads | CPU of a turn of the loop, at most | 99.9 % | |\n|---|---|---|---|\n")
    set_loads()
  end)

  section("fan-out", function()
    io.write("\n| one event | least |\n|---|---|\n")
    fan_out()
  end)

  section("reach", function()
    io.write("\n| reaching streams | least |\n|---|---|\n")
    observe()
    for _, tags in ipairs { 0, 1, 2, 8 } do
      io.write(("| memory per idle stream with %d tags | %.0f bytes |\n"):format(tags, memory_of(tags)))
    end
  end)

  section("broker", function()
    io.write(("\n| %d connections, CPU of the broker per event | |\n|---|---|\n"):format(CONNECTIONS))
    for _, name in ipairs { "index", "text", "lua" } do
      for _, audiences in ipairs { 100, CONNECTIONS } do
        row(("%d audiences, filter `%s`"):format(audiences, name), broker_cost(name, audiences))
      end
    end
  end)
end)
