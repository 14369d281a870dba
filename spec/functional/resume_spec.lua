-- transports: tls h2tls
-- Last-Event-ID in every form, and what is said about history that is gone.
local child = require "support.child"
local eventually = require "support.eventually"
local http = require "support.http"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

local SQLITE = assert(child.find "sqlite3", "the package sqlite3 is not installed")

local function data_of(events)
  local list = {}
  for i, ev in ipairs(events) do
    list[i] = ev.data
  end
  return list
end

-- A topic of its own with n events; returns its name and their ids.
local serial = 0
local function history(broker, n)
  serial = serial + 1
  local topic, batch, ids = "history/" .. serial, {}, {}
  for i = 1, n do
    batch[i] = { topic = topic, data = tostring(i) }
  end
  for i, ack in ipairs(broker:publish_all(batch)) do
    ids[i] = ack.id
  end
  return topic, ids
end

describe("a store without a single event", function()
  for _, asked in ipairs { "earliest", "0" } do
    it("gives a position to resume from to a client that asks for " .. asked, function()
      local broker = tidegate.start()
      local c = sse.open(broker, { topic = "a", query = { last_event_id = asked } })
      c:wait("the first block", function() return c.start_id end)
      assert.matches("^[1-9]%d*$", c.start_id)
      c:close()
      broker:publish("a", "first")
      local back = sse.open(broker, { topic = "a", last_event_id = c.start_id })
      assert.equal("first", back:next().data)
    end)
  end
end)

describe("a position that was given out", function()
  local function leave(broker, how)
    local c = sse.open(broker, { topic = "a" })
    c:wait("the first block", function() return c.start_id end)
    c:close()
    if how == "KILL" then
      broker:kill()
    else
      broker:stop()
    end
    broker:start()
    return c.start_id
  end

  for _, how in ipairs { "KILL", "TERM" } do
    it("of a store without a single event is good after restarts by SIG" .. how, function()
      local broker = tidegate.start()
      local first, second = leave(broker, how), leave(broker, how)
      broker:publish("a", "first")
      for _, position in ipairs { first, second } do
        assert.equal("first", sse.open(broker, { topic = "a", last_event_id = position }):next().data)
      end
      assert.equal(0, broker:metric "tidegate_gaps_total")
    end)
  end

  it("between two restarts without an event is good after them", function()
    local broker = tidegate.start()
    broker:publish("a", "before")
    broker:restart()
    local position = leave(broker, "TERM")
    broker:publish("a", "after")
    assert.equal("after", sse.open(broker, { topic = "a", last_event_id = position }):next().data)
  end)
end)

describe("replay.max_age", function()
  local POLICY = [[return {
    api = 1,
    authenticate = function() return {} end,
    publish = function() return true end,
    subscribe = function(req) return { topics = req.topics, replay = { max_age = 3600 } } end,
  }]]

  -- Inserts a row of so many hours ago for each.
  local function insert(broker, hours)
    local now, rows = "CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER)", {}
    for i, ago in ipairs(hours) do
      rows[i] = ("('a', '%d hours ago', %s - %d)"):format(ago, now, ago * 3600000)
    end
    local code, _, err = tidegate.run(SQLITE, { args = { "-bail", broker.dir .. "/store/events.db",
      "PRAGMA busy_timeout = 5000; INSERT INTO events(topic, data, created) VALUES " .. table.concat(rows, ",") } })
    assert.equal(0, code, err)
  end

  local function wait_for(broker, n)
    eventually("all are there", function() return broker:metric "tidegate_events_tailed_total" == n end)
  end

  it("hides what is older without a gap, whatever was asked for", function()
    local broker = tidegate.start { policy = POLICY }
    local c = sse.open(broker, { topic = "a" })
    c:wait("the first block", function() return c.start_id end)
    insert(broker, { 3, 2, 0 })
    wait_for(broker, 3)
    for _, asked in ipairs { c.start_id, "earliest", "0" } do
      assert.equal("0 hours ago", sse.open(broker, { topic = "a", query = { last_event_id = asked } }):next().data)
    end
    assert.equal(0, broker:metric "tidegate_gaps_total")
  end)

  it("does not hide that retention has removed what it would have shown", function()
    local broker = tidegate.start { policy = POLICY, config = { store = { retain_events = 2 } } }
    local c = sse.open(broker, { topic = "a" })
    c:wait("the first block", function() return c.start_id end)
    insert(broker, { 0, 0, 0, 0 })
    eventually("two are gone", function() return broker:metric "tidegate_store_retention_removed_total" == 2 end)
    broker:restart() -- the event log still had them
    local ev = sse.open(broker, { topic = "a", last_event_id = c.start_id }):next()
    assert.equal("gap", ev.type)
    assert.equal("expired", http.json.decode(ev.data).reason)
  end)

  it("tells nobody of what retention has removed when all of that was older", function()
    local broker = tidegate.start { policy = POLICY, config = { store = { retain_events = 2 } } }
    local c = sse.open(broker, { topic = "a" })
    c:wait("the first block", function() return c.start_id end)
    insert(broker, { 3, 2, 0, 0 })
    eventually("two are gone", function() return broker:metric "tidegate_store_retention_removed_total" == 2 end)
    broker:restart() -- the event log still had them
    assert.equal("0 hours ago", sse.open(broker, { topic = "a", last_event_id = c.start_id }):next().data)
    assert.equal(0, broker:metric "tidegate_gaps_total")
  end)
end)

describe("resuming", function()
  local broker = tidegate.shared()

  -- Opens with `options`, publishes "end", returns the data of what came before it.
  local function replay(topic, options)
    options.topic = topic
    local c = sse.open(broker(), options)
    broker():publish(topic, "end")
    return data_of(c:collect_until("end")), c
  end

  it("starts after the id of the Last-Event-ID field", function()
    local topic, ids = history(broker(), 5)
    local list, c = replay(topic, { last_event_id = ids[2] })
    assert.same({ "3", "4", "5" }, list)
    assert.equal(ids[2], c.start_id)
  end)

  for _, name in ipairs { "last_event_id", "lastEventId", "lastEventID", "Last-Event-ID" } do
    it("takes it from the query as " .. name, function()
      local topic, ids = history(broker(), 5)
      assert.same({ "4", "5" }, (replay(topic, { query = { [name] = ids[3] } })))
    end)

    it("takes earliest from the query as " .. name, function()
      local topic = history(broker(), 3)
      assert.same({ "1", "2", "3" }, (replay(topic, { query = { [name] = "earliest" } })))
    end)
  end

  it("starts after the greatest of several positions", function()
    local topic, ids = history(broker(), 5)
    -- a page whose address holds where it began; what comes back of it holds both
    assert.same({ "5" }, (replay(topic, { last_event_id = ids[4], query = { last_event_id = ids[1] } })))
    assert.same({ "5" }, (replay(topic, { last_event_id = ids[1], query = { last_event_id = ids[4] } })))
    assert.same({ "5" }, (replay(topic, { query = { last_event_id = ids[1], lastEventId = ids[4] } })))
    assert.same({ "5" }, (replay(topic, { query = { last_event_id = "earliest", lastEventID = ids[4] } })))
    assert.same({ "5" }, (replay(topic, { headers = { { "Last-Event-ID", ids[1] }, { "last-event-id", ids[4] },
      { "Last-Event-ID", ids[2] } } })))
    assert.same({ "5" }, (replay(topic, { last_event_id = ids[1] .. ", " .. ids[4] })))
  end)

  it("goes on after a good position, and names the one beside it that is none", function()
    local topic, ids = history(broker(), 5)
    for _, options in ipairs {
      { last_event_id = ids[3], query = { last_event_id = "nonsense" } },
      { last_event_id = "nonsense", query = { last_event_id = ids[3] } },
      { last_event_id = "nonsense", query = { last_event_id = ids[3], lastEventId = "earliest" } },
    } do
      options.topic = topic
      local c = sse.open(broker(), options)
      local gap = c:next()
      assert.equal("gap", gap.type)
      assert.same({ reason = "unknown", requested = "nonsense", resumed_from = ids[3] },
        require "dkjson".decode(gap.data))
      assert.same({ "4", "5" }, data_of(c:collect(2)))
      c:close()
    end
  end)

  it("refuses a parameter that is nearly one, instead of losing the position", function()
    local before = broker():metric "tidegate_refused_invalid_total"
    for _, name in ipairs { "last-event-id", "lasteventid", "LAST_EVENT_ID" } do
      local r = http.get(broker(), "/events?topic=a&" .. name .. "=5")
      assert.equal(400, r.status)
      assert.equal(('the query has "%s": did you mean "last_event_id"?'):format(name), r.json.detail)
    end
    assert.equal(before + 3, broker():metric "tidegate_refused_invalid_total")
  end)

  it("takes an empty value for none", function()
    local topic, ids = history(broker(), 2)
    assert.same({}, (replay(topic, { last_event_id = "" })))
    assert.same({}, (replay(topic, { query = { last_event_id = "" } })))
    assert.same({ "2" }, (replay(topic, { last_event_id = "", query = { last_event_id = ids[1] } })))
  end)

  it("starts with what comes when nothing is asked", function()
    local topic = history(broker(), 2)
    assert.same({}, (replay(topic, {})))
  end)

  it("takes 0 for the position before everything, without a gap", function()
    local topic = history(broker(), 3)
    assert.same({ "1", "2", "3" }, (replay(topic, { last_event_id = "0" })))
  end)

  it("delivers nothing twice when it is already at the head", function()
    local topic, ids = history(broker(), 3)
    assert.same({}, (replay(topic, { last_event_id = ids[3] })))
  end)

  it("works after ids of other topics, too", function()
    local topic = history(broker(), 2)
    local other = broker():publish("another/topic", "x")
    broker():publish(topic, "3")
    assert.same({ "3" }, (replay(topic, { last_event_id = other })))
  end)

  it("announces an id from the future as a reset", function()
    local topic, ids = history(broker(), 3)
    local future = tostring(math.tointeger(ids[3]) + 1000000000)
    local c = sse.open(broker(), { topic = topic, last_event_id = future })
    local gap = c:next()
    assert.equal("gap", gap.type)
    local told = require "dkjson".decode(gap.data)
    assert.equal("reset", told.reason)
    assert.equal(future, told.requested)
    assert.equal(gap.id, told.resumed_from)
    assert.is_true(tonumber(gap.id) <= tonumber(ids[3]))
    local id = broker():publish(topic, "live")
    local rest = c:collect_until("live")
    for i, ev in ipairs(rest) do -- whatever it continues with: all that is behind resumed_from
      assert.equal(ids[#ids - #rest + i], ev.id)
      assert.is_true(tonumber(ev.id) > tonumber(gap.id))
    end
    assert.equal(id, c.last_id)
  end)

  for _, text in ipairs { "abc", "-5", "+5", "1.5", "0x10", "99999999999999999999999", "9007199254740993",
    "earliest2", "null", "caf\u{e9}", "a\"b\\c" } do
    it("announces what is no id of ours: " .. text, function()
      local topic = history(broker(), 2)
      local c = sse.open(broker(), { topic = topic, last_event_id = text })
      local gap = c:next()
      assert.equal("gap", gap.type)
      local told = require "dkjson".decode(gap.data)
      assert.equal("unknown", told.reason)
      assert.equal(text, told.requested)
      assert.equal(gap.id, told.resumed_from)
      broker():publish(topic, "live")
      c:collect_until("live")
      c:close()
      -- and the id of the gap is a good one
      local again = sse.open(broker(), { topic = topic, last_event_id = gap.id })
      assert.is_not.equal("gap", again:next().type)
    end)
  end
end)

describe("history that retention removed", function()
  local broker = tidegate.shared { config = { store = { retain_events = 10 },
    event_log = { max_events = 16, page_events = 4 } } }
  local topic = "retained"
  local ids = {}
  local emptied, last_of_emptied
  local passed -- what is said of an event that a stream passed, and that was removed then

  local function explain(pattern, event)
    for _, c in ipairs(http.get(broker().admin, "/connections").json.connections) do
      if c.topics[1] == pattern then
        return http.get(broker().admin, ("/connections/%s/explain?event=%s"):format(c.id, event))
      end
    end
  end

  setup(function()
    emptied = tidegate.start { keep = true, config = { store = { retain_age_s = 1 } } }
    for i = 1, 20 do
      last_of_emptied = emptied:publish("a", tostring(i))
    end
    local batch = {}
    for i = 1, 100 do
      batch[i] = { topic = topic, data = tostring(i) }
    end
    local live = sse.open(broker(), { topic = topic })
    for i, ack in ipairs(broker():publish_all(batch)) do
      ids[i] = ack.id
    end
    eventually("retention has worked", function()
      return broker():metric "tidegate_store_retention_removed_total" >= 80
    end, 20)
    passed = explain(topic, ids[5])
    live:close()
    broker():restart() -- so that the event log does not help
  end)

  teardown(function()
    emptied:dispose()
  end)

  it("does not let ids start anew, not even where nothing is left", function()
    eventually("nothing is left", function()
      return emptied:metric "tidegate_store_retention_removed_total" == 20
    end, 20)
    emptied:restart()
    assert.is_true(tonumber((emptied:publish("a", "next"))) > tonumber(last_of_emptied))
    local c = sse.open(emptied, { topic = "a", query = { last_event_id = "earliest" } })
    assert.equal("next", c:next().data)
  end)

  it("is told of, as far as that is known, when somebody asks why it did not come", function()
    assert.same({ 410, true }, { passed.status, passed.json.detail:find("removed event " .. ids[5], 1, true) ~= nil })
    local late = sse.open(broker(), { topic = "*", last_event_id = ids[1] })
    assert.equal("gap", late:next().type)
    late:collect_until "100"
    local function about(pattern, event)
      local doc = explain(pattern, event).json
      return { doc.outcome, doc.reason or "-", doc.place, doc.event.removed }
    end
    assert.same({ "not-delivered", "expired", "skipped", true }, about("*", ids[5]))
    assert.same({ "delivered", "-", "passed", false }, about("*", ids[99])) -- read from the store
    local now = sse.open(broker(), { topic = "**" })
    assert.same({ "not-delivered", "before-connect", "before-start", true }, about("**", ids[5]))
    assert.same({ "not-delivered", "before-connect", "before-start", false }, about("**", ids[99]))
    late:close()
    now:close()
  end)

  for _, asked in ipairs { "first", "0" } do
    it("is announced as expired when it was asked for: " .. asked, function()
      local from = asked == "first" and ids[1] or asked
      local c = sse.open(broker(), { topic = topic, last_event_id = from })
      local gap = c:next()
      assert.equal("gap", gap.type)
      local told = require "dkjson".decode(gap.data)
      assert.equal("expired", told.reason)
      assert.equal(from, told.requested)
      assert.equal(gap.id, told.resumed_from)
      c:collect_until("100")
    end)
  end

  it("is followed by all that is left, in order", function()
    local c = sse.open(broker(), { topic = topic, last_event_id = ids[1] })
    local gap = c:next()
    local list = c:collect_until("100")
    assert.is_true(#list >= 9, #list .. " events are left")
    for i, ev in ipairs(list) do
      assert.equal(ids[100 - #list + i - 1], ev.id)
      assert.is_true(tonumber(ev.id) > tonumber(gap.id))
    end
    assert.equal(ids[100 - #list - 1], gap.id)
  end)

  it("is no gap for earliest, which is what is left", function()
    local c = sse.open(broker(), { topic = topic, query = { last_event_id = "earliest" } })
    local list = c:collect_until("100")
    assert.is_true(#list >= 9)
    for i, ev in ipairs(list) do
      assert.equal(ids[100 - #list + i - 1], ev.id)
    end
  end)

  it("is no gap for one that has seen all of it", function()
    local c = sse.open(broker(), { topic = topic, last_event_id = ids[100] })
    broker():publish(topic, "next")
    assert.same({}, c:collect_until("next"))
  end)
end)

describe("the gap event", function()
  local broker = tidegate.shared { config = { sse = { gap_event = "lost" } } }

  it("has the configured name", function()
    local c = sse.open(broker(), { topic = "a", last_event_id = "nonsense" })
    assert.equal("lost", c:next().type)
  end)
end)

describe("a policy that grants no history", function()
  local broker = tidegate.shared { policy = [[
    return {
      api = 1,
      authenticate = function() return { sub = "x" } end,
      subscribe = function(req) return { topics = req.topics, replay = false } end,
      publish = function(pub) return pub end,
    }
  ]] }

  it("starts its subscribers at the head, whatever they ask", function()
    local topic = history(broker(), 3)
    local c = sse.open(broker(), { topic = topic, query = { last_event_id = "earliest" } })
    broker():publish(topic, "now")
    for _, ev in ipairs(c:collect_until("now")) do
      assert.equal("gap", ev.type)
    end
  end)
end)

describe("history", function()
  local POLICY = [[
    return {
      api = 1,
      authenticate = function() return { sub = "x" } end,
      subscribe = function(req) return { topics = req.topics, filter = "wanted" } end,
      publish = function(pub) return pub end,
      filters = { wanted = function(ev) return %s end },
    }
  ]]

  it("passes the policy of now, not the one under which it was published", function()
    local broker = tidegate.start { policy = POLICY:format "true" }
    local c = sse.open(broker, { topic = "a" })
    broker:publish("a", "open")
    broker:publish("a", "hidden", { attrs = { secret = "yes" } })
    assert.equal("open", c:next().data)
    assert.equal("hidden", c:next().data)
    broker:stop()
    broker:write_file("policy.lua", POLICY:format "not ev.attrs.secret")
    broker:start()
    local back = sse.open(broker, { topic = "a", query = { last_event_id = "earliest" } })
    broker:publish("a", "end")
    assert.same({ "open" }, data_of(back:collect_until("end")))
  end)
end)
