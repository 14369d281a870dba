-- Another policy takes over while streams are open: what they notice, and what they must not.
local eventually = require "support.eventually"
local http = require "support.http"
local policy = require "support.policy_of"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

local function version(broker)
  return http.get(broker.admin, "/status").json.policy.version
end

local function settled(broker)
  eventually("all streams were asked about", function()
    return broker:metric "tidegate_policy_resubscribes_waiting" == 0
  end)
end

describe("a reload", function()
  it("puts another policy in force without a stream noticing", function()
    local broker = tidegate.start { policy = policy { version = "one" } }
    local c = sse.open(broker, { topic = "a" })
    broker:publish("a", "1")
    local first = version(broker)
    local r = broker:reload(policy { version = "two" })
    assert.equal(200, r.status)
    assert.equal("reloaded", r.json.result)
    assert.same({ version = first, label = "one" }, r.json.previous)
    assert.equal("two", r.json.policy.label)
    assert.matches("^%x+$", r.json.policy.version)
    assert.equal(r.json.policy.version, version(broker))
    assert.same({ 1, "resubscribe" }, { r.json.streams, r.json.mode })
    settled(broker)
    broker:publish("a", "2")
    assert.same({ "1", "2" }, { c:next().data, c:next().data })
    assert.equal(1, broker:metric 'tidegate_policy_resubscribes_total{outcome="same"}')
    assert.equal(1, broker:metric 'tidegate_policy_reloads_total{result="ok"}')
    assert.truthy(broker:logged { msg = "reloaded", from = first, to = r.json.policy.version, label = "two" })
  end)

  it("does nothing where the files are the same, unless it must", function()
    local broker = tidegate.start { policy = policy {} }
    local r = broker:reload()
    assert.same({ 200, "unchanged" }, { r.status, r.json.result })
    r = broker:reload(nil, "?force=1")
    assert.same({ 200, "reloaded" }, { r.status, r.json.result })
    assert.equal(400, broker:reload(nil, "?dryrun=1").status)
    assert.equal(400, broker:reload(nil, "?force=yes").status)
  end)

  it("leaves the policy in force where the new one is broken, and says file and line", function()
    local broker = tidegate.start { policy = policy {}, config = { policy = { load_cpu_ms = 500 } } }
    local c = sse.open(broker, { topic = "a" })
    local before = version(broker)
    for text, why in pairs {
      ["return {\n api = = 1 }"] = "policy.lua:2: unexpected symbol near '='",
      ["\n\nlocal t = nil\nreturn t.x"] = "policy.lua:4: attempt to index a nil value",
      ["return { api = 1, subscrbe = print }"] = "unknown key 'subscrbe' (did you mean 'subscribe'?)",
      ["return require 'missing'"] = "module 'missing' not found",
      [policy { more = "function P.setup() error('the table is missing') end" }] = "policy.lua:7: the table is missing",
      [policy { more = "function P.reload() return 'maybe' end" }] = 'reload returned maybe: "resubscribe"',
      [policy { more = "function P.reload() while true do end end" }] = "policy.load_cpu_ms",
      [("x"):rep(1024 * 1024 + 1)] = "is longer than 1048576 bytes",
    } do
      local r = broker:reload(text)
      assert.equal(422, r.status)
      assert.equal("refused", r.json.result)
      assert.truthy(r.json.error:find(why, 1, true), r.json.error)
      assert.equal(before, r.json.previous.version)
      assert.equal(before, version(broker))
      local line = broker:logged { msg = "reload failed, the current policy stays", error = r.json.error }
      assert.equal(before, line.in_force)
    end
    assert.equal(8, broker:metric 'tidegate_policy_reloads_total{result="refused"}')
    local counted = {}
    for i, name in ipairs { 'errors_total{hook="setup"}', 'errors_total{hook="reload"}', 'overdue_total{hook="setup"}',
      'overdue_total{hook="reload"}' } do
      counted[i] = broker:metric("tidegate_policy_" .. name)
    end
    assert.same({ 1, 2, 0, 1 }, counted)
    broker:publish("a", "still")
    assert.equal("still", c:next().data)
    eventually("the refused ones are gone", function() return broker:metric "tidegate_policy_generations" == 1 end)
  end)

  it("refuses a file that is gone", function()
    local broker = tidegate.start { policy = policy {} }
    os.remove(broker.dir .. "/policy.lua")
    local r = broker:reload()
    assert.equal(422, r.status)
    assert.truthy(r.json.error:find("cannot read policy.lua: No such file", 1, true), r.json.error)
  end)

  it("changes nothing on a dry run", function()
    local broker = tidegate.start { policy = policy {} }
    local c = sse.open(broker, { topic = "a" })
    local before = version(broker)
    local r = broker:reload(policy { version = "dry", subscribe = "return tg.deny(403, 'no')" }, "?dry_run=1")
    assert.same({ 200, "would-reload", "dry" }, { r.status, r.json.result, r.json.policy.label })
    assert.equal(before, version(broker))
    assert.equal(422, broker:reload("return 1", "?dry_run=1").status)
    assert.equal(0, broker:metric 'tidegate_policy_reloads_total{result="ok"}')
    assert.equal(0, broker:metric 'tidegate_policy_reloads_total{result="refused"}')
    broker:publish("a", "on")
    assert.equal("on", c:next().data)
  end)

  it("follows SIGHUP, and the last of several counts", function()
    local broker = tidegate.start { policy = policy {} }
    for i = 1, 5 do
      broker:write_file("policy.lua", policy { version = "v" .. i })
      broker:signal "HUP"
    end
    eventually("the last one is in force", function()
      return http.get(broker.admin, "/status").json.policy.label == "v5"
    end)
    broker:write_file("policy.lua", "return nil")
    broker:signal "HUP"
    eventually("the refusal is logged", function()
      return broker:logged { msg = "reload failed, the current policy stays", by = "SIGHUP" }
    end)
    assert.equal("v5", http.get(broker.admin, "/status").json.policy.label)
  end)

  it("stays where a text filter gains a param that open streams have not", function()
    local function filtered(text, param)
      return policy { subscribe = "return { topics = req.topics, filter = 'f', params = { n = req.topics[1], " ..
        param .. " } }", filters = "f = '" .. text .. "'" }
    end
    local broker = tidegate.start { policy = filtered("topic == $n", "") }
    local streams = {}
    for i = 1, 30 do
      streams[i] = sse.open(broker, { topic = "t" .. i })
    end
    assert.equal("reloaded", broker:reload(filtered("topic == $n or topic == $m", "m = 'x'")).json.result)
    local good = version(broker)
    settled(broker)
    broker:publish("t1", "on")
    assert.equal("on", streams[1]:next().data)
    local from = eventually.now()
    eventually("the watch had time to look", function() return eventually.now() - from > 2.5 end)
    assert.equal(good, version(broker))
    assert.equal(0, broker:metric "tidegate_policy_rollbacks_total")
  end)

  it("reaches modules", function()
    local main = policy { more = "P.version = require 'lib'" }
    local broker = tidegate.start { policy = main, files = { ["lib.lua"] = "return 'old'" } }
    broker:write_file("lib.lua", "return 'new'")
    assert.equal("new", broker:reload().json.policy.label)
  end)

  it("counts at once for new streams and publishes", function()
    local broker = tidegate.start { policy = policy {} }
    broker:reload(policy { subscribe = "return tg.deny(403, 'closed')", more = "P.publish = nil" })
    assert.equal(403, sse.request(broker, { topic = "a" }).status)
    assert.equal(403, http.post(broker, "/events?topic=a", "x", {}).status)
  end)
end)

describe("an open stream, when another policy takes over,", function()
  local MASKED = 'mask = function(ev) return "masked " .. ev.raw end'
  local RAW = 'mask = function(ev) return ev.raw end'
  local WITH_MASK = "return { topics = req.topics, format = 'mask' }"

  it("gets everything in the new format from that moment on, live and replayed", function()
    -- one resubscribe a second: what changes at once does not come from being asked again
    local broker = tidegate.start {
      policy = policy { subscribe = WITH_MASK, formats = RAW }, config = { policy = { resubscribe_per_s = 1 } } }
    local streams = {}
    for i = 1, 20 do
      streams[i] = sse.open(broker, { topic = "a" })
    end
    local from = broker:publish("a", "1")
    for _, c in ipairs(streams) do
      assert.equal("1", c:next().data)
    end
    assert.equal(200, broker:reload(policy { subscribe = WITH_MASK, formats = MASKED }).status)
    broker:publish("a", "2")
    for _, c in ipairs(streams) do
      assert.equal("masked 2", c:next().data)
    end
    assert.is_true(broker:metric "tidegate_policy_resubscribes_waiting" > 10)
    local late = sse.open(broker, { topic = "a", last_event_id = from - 1 })
    assert.same({ "masked 1", "masked 2" }, { late:next().data, late:next().data })
  end)

  it("gets nothing until it was asked about where its filter or format is gone", function()
    local broker = tidegate.start {
      policy = policy { subscribe = WITH_MASK, formats = RAW }, config = { policy = { resubscribe_timeout_s = 2 } } }
    local c = sse.open(broker, { topic = "a" })
    broker:publish("a", "1")
    assert.equal("1", c:next().data)
    -- cannot say: held, then told to come back
    broker:reload(policy { subscribe = "return nil, 'later'", more = "function P.reload() return 'keep' end" })
    broker:publish("a", "2")
    c:wait_end()
    assert.equal(0, #c.queue)
    assert.is_true(c.retry_ms > 0)
    assert.equal(1, broker:metric 'tidegate_policy_resubscribes_total{outcome="gave-up"}')
    assert.is_true(broker:metric 'tidegate_policy_resubscribes_total{outcome="later"}' > 0)
    -- says something else: goes on where it was
    broker:reload(policy { subscribe = WITH_MASK, formats = RAW })
    local d = sse.open(broker, { topic = "a", last_event_id = c.last_id })
    assert.equal("2", d:next().data)
    broker:reload(policy { subscribe = "return { topics = req.topics, format = 'other' }",
      formats = 'other = function(ev) return "other " .. ev.raw end' })
    broker:publish("a", "3")
    assert.equal("other 3", d:next().data)
  end)

  it("goes on at once where a later policy has its format again, whatever it missed meanwhile", function()
    local broker = tidegate.start { policy = policy {
      subscribe = "return { topics = req.topics, format = 'mask', limits = { max_lag = 2, on_lag = 'close' } }",
      formats = RAW }, config = { policy = { resubscribe_timeout_s = 60 } } }
    local c = sse.open(broker, { topic = "a" })
    broker:publish("a", "1")
    assert.equal("1", c:next().data)
    local keep = "function P.reload() return 'keep' end"
    broker:reload(policy { subscribe = "return nil, 'later'", more = keep })
    for i = 2, 9 do
      broker:publish("a", tostring(i))
    end
    -- cannot say either, but has the format
    broker:reload(policy { subscribe = "return nil, 'still later'", formats = RAW, more = keep })
    for i = 2, 9 do
      assert.equal(tostring(i), c:next().data)
    end
  end)

  it("moves to another audience and goes on where it was", function()
    local broker = tidegate.start { policy = policy {
      subscribe = "return { topics = { 't/' .. who.sub }, filter = 'all' }",
      filters = "all = function() return true end" } }
    local c = sse.open(broker, { query = { user = "x" } })
    broker:publish("t/x", "1")
    assert.equal("1", c:next().data)
    local r = broker:reload(policy { subscribe = "return { topics = { 't/' .. who.sub, 'more' }, heartbeat = 1 }" })
    assert.equal("reloaded", r.json.result)
    settled(broker)
    broker:publish("t/x", "2")
    broker:publish("more", "3")
    assert.same({ "2", "3" }, { c:next().data, c:next().data })
    c:wait("the new heartbeat", function() return #c.comments > 0 end, 5)
    assert.equal(1, broker:metric 'tidegate_policy_resubscribes_total{outcome="moved"}')
    assert.equal(1, broker:metric "tidegate_audiences")
  end)

  it("is told when its grant was withdrawn, and is refused when it comes back", function()
    local broker = tidegate.start { policy = policy {}, config = { sse = { revoked_event = "gone" } } }
    local bad, good = sse.open(broker, { topic = "a", query = { user = "bad" } }), sse.open(broker, { topic = "a" })
    broker:reload(policy { subscribe = [[if who.sub == "bad" then return tg.deny(403, 'no "longer"') end
      return { topics = req.topics }]] })
    local ev = bad:next()
    assert.same({ "gone", '{"reason":"no \\"longer\\""}' }, { ev.type, ev.data })
    bad:wait_end()
    assert.is_true(bad.whole)
    assert.equal(403, sse.request(broker, { topic = "a", query = { user = "bad" } }).status)
    broker:publish("a", "on")
    assert.equal("on", good:next().data)
    assert.equal(1, broker:metric 'tidegate_connections_closed_total{reason="revoked"}')
    assert.equal(1, broker:metric 'tidegate_policy_resubscribes_total{outcome="revoked"}')
  end)

  it("keeps what it has where the policy says so", function()
    local broker = tidegate.start { policy = policy {} }
    local c = sse.open(broker, { topic = "a" })
    local r = broker:reload(policy { subscribe = "return tg.deny(403, 'no')",
      more = "function P.reload(prev) assert(#prev == 12) return 'keep' end" })
    assert.equal("keep", r.json.mode)
    broker:publish("a", "on")
    assert.equal("on", c:next().data)
    assert.equal(0, broker:metric "tidegate_policy_resubscribes_waiting")
  end)

  it("is sent away where the policy says so, and misses nothing", function()
    local broker = tidegate.start { policy = policy {} }
    local c = sse.open(broker, { topic = "a" })
    broker:publish("a", "1")
    assert.equal("1", c:next().data)
    assert.equal("reconnect", broker:reload(policy { more = "function P.reload() return 'reconnect' end" }).json.mode)
    c:wait_end()
    assert.is_true(c.whole)
    assert.is_true(c.retry_ms > 0)
    broker:publish("a", "2")
    assert.equal("2", sse.open(broker, { topic = "a", last_event_id = c.last_id }):next().data)
    assert.equal(1, broker:metric 'tidegate_connections_closed_total{reason="policy-reload"}')
  end)

  it("is asked about at the pace that is configured", function()
    local broker = tidegate.start { policy = policy {}, config = { policy = { resubscribe_per_s = 20 } } }
    local streams = {}
    for i = 1, 60 do
      streams[i] = sse.open(broker, { topic = "a" })
    end
    local from = eventually.now()
    broker:reload(policy { version = "slowly" })
    settled(broker)
    assert.is_true(eventually.now() - from > 2)
    assert.equal(#streams, broker:metric 'tidegate_policy_resubscribes_total{outcome="same"}')
  end)

  it("gets its turn although policies follow each other", function()
    local asks = "log.info('asked ' .. req.id) return { topics = req.topics }"
    local broker = tidegate.start { policy = policy {}, config = { policy = { resubscribe_per_s = 40 } } }
    local streams = {}
    for i = 1, 50 do
      streams[i] = sse.open(broker, { topic = "a" })
    end
    local function asked()
      local ids = {}
      for id in broker:log():gmatch 'msg="asked (%x+)"' do ids[#ids + 1] = id end
      return ids
    end
    broker:reload(policy { version = "one", subscribe = asks })
    eventually("some were asked about", function() return #asked() >= 10 end)
    broker:reload(policy { version = "two", subscribe = asks })
    eventually("as many were asked about as there are", function() return #asked() >= #streams end)
    local seen, ids = {}, asked()
    for i = 1, #streams do
      assert.is_nil(seen[ids[i]], "asked about twice while others waited")
      seen[ids[i]] = true
    end
    settled(broker)
  end)

  it("may be asked about by an operator", function()
    -- denied when it is asked about again: no connect has the id of this stream
    local broker = tidegate.start { policy = policy {
      subscribe = "if req.last_event_id then return { topics = req.topics } end return tg.deny(403, 'again')" } }
    local one = sse.open(broker, { topic = "a", last_event_id = "earliest" })
    local two = sse.open(broker, { topic = "a", last_event_id = "earliest" })
    local list = http.get(broker.admin, "/connections").json.connections
    local r = http.post(broker.admin, "/connections/" .. list[1].id .. "/resubscribe", "", {})
    assert.same({ 202, 1 }, { r.status, r.json.streams })
    assert.equal("revoked", one:next().type)
    assert.equal(404, http.post(broker.admin, "/connections/" .. list[1].id .. "/resubscribe", "", {}).status)
    assert.equal(404, http.post(broker.admin, "/connections/x/resubscribe", "", {}).status)
    assert.equal(202, http.post(broker.admin, "/policy/resubscribe", "", {}).status)
    assert.equal("revoked", two:next().type)
  end)
end)
