-- transports: tls h2
-- Where history begins and ends: since=, until=, limit=, and what the policy grants of it.
local child = require "support.child"
local eventually = require "support.eventually"
local http = require "support.http"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

local SQLITE = assert(child.find "sqlite3", "the package sqlite3 is not installed")

-- What the query `replay` says is what subscribe grants.
local POLICY = [[
local grants = {
  [''] = true, none = false, age = { max_age = 5400 }, last = { last = 2 }, since = { since = os.time() - 5400 },
  quiet = { gap = false }, iso = { since = "-90m" }, both = { max_age = 9000, last = 2 },
}
return {
  api = 1,
  authenticate = function() return {} end,
  publish = function(pub) return pub end,
  subscribe = function(req)
    return { topics = req.topics, filter = req.query.only or "none", replay = grants[req.query.replay or ''] }
  end,
  filters = { odd = "attrs.odd == true", fn = function(ev) return ev.raw ~= "2" end },
}
]]

-- Stores events, each so many hours ago, and waits for them.
local function store_past(broker, events)
  local rows = {}
  for i, ev in ipairs(events) do
    local ms = math.floor((os.time() - ev.hours * 3600) * 1000)
    local odd = tonumber(ev.data) and tonumber(ev.data) % 2 == 1
    rows[i] = ("('%s', '%s', '%s', %d)"):format(ev.topic or "a", ev.data, odd and '{"odd":true}' or "{}", ms)
  end
  local code, _, err = tidegate.run(SQLITE, { args = { "-bail", broker.dir .. "/store/events.db",
    "PRAGMA busy_timeout = 5000; INSERT INTO events(topic, data, attrs, created) VALUES " .. table.concat(rows, ",")
  } })
  assert.equal(0, code, err)
  eventually("all are there", function() return broker:metric "tidegate_events_tailed_total" >= #events end)
end

local function iso(hours)
  return os.date("!%Y-%m-%dT%H:%M:%SZ", os.time() - math.floor(hours * 3600))
end

-- A stream that has an end: what it held before the end, the end, and the client.
local function finite(broker, options)
  local c = sse.open(broker, options)
  c:wait("the end of the stream", function() return c.ended end)
  local data, last = {}, table.remove(c.queue)
  for i, ev in ipairs(c.queue) do
    data[i] = ev.data
  end
  assert.equal("end", last and last.type)
  return table.concat(data, " "), last, c
end

-- The first n of a stream that goes on.
local function first(broker, n, options)
  local c = sse.open(broker, options)
  local data = {}
  for i, ev in ipairs(c:collect(n)) do
    data[i] = ev.type == "message" and ev.data or ev.type .. ":" .. ev.data
  end
  c:close()
  return table.concat(data, " ")
end

describe("a part of history", function()
  local shared = tidegate.shared { policy = POLICY }
  local broker, ids
  setup(function()
    broker = shared()
    store_past(broker, {
      { data = "1", hours = 4 }, { data = "2", hours = 3 }, { data = "x", hours = 2.5, topic = "b" },
      { data = "3", hours = 2 }, { data = "4", hours = 1 }, { data = "x", hours = 0.7, topic = "b" },
      { data = "5", hours = 0.5 },
    })
    broker:restart() -- what there is comes from the store
    ids = {}
    local c = sse.open(broker, { topic = "a", query = { last_event_id = "earliest" } })
    for i, ev in ipairs(c:collect(5)) do
      ids[i] = ev.id
    end
    c:close()
  end)

  local function q(query) return { topic = "a", query = query } end

  it("begins with since=, in each of its forms", function()
    local now = os.time()
    for _, since in ipairs {
      iso(2.2), "-132m", ("-%ds"):format(7920), tostring(now - 7920), tostring((now - 7920) * 1000),
      iso(2.2):sub(1, -2),
      (iso(2.2):gsub("Z", "+00:00")), (iso(4.2):gsub("Z", "-02:00")), (iso(2.2):gsub("Z", ".250Z")),
    } do
      assert.equal("3 4 5", first(broker, 3, q { since = since }), since)
    end
    assert.equal("1 2 3 4 5", first(broker, 5, q { since = "-2d" }))
    assert.equal("1 2 3 4 5", first(broker, 5, q { since = "0" }))
    assert.equal(0, broker:metric "tidegate_gaps_total")
  end)

  it("begins behind a position, where there is one, and not at since=", function()
    assert.equal("2 3 4 5", first(broker, 4, q { since = "-132m", last_event_id = ids[1] }))
    assert.equal("5", first(broker, 1, q { since = "-132m", last_event_id = ids[4] }))
    assert.equal("3 4 5", first(broker, 3, q { since = "-132m", last_event_id = "earliest" }))
  end)

  it("ends with until=, a time or an id", function()
    for _, till in ipairs { iso(1.5), "-90m", tostring(os.time() - 5400), ids[3] } do
      local data, last = finite(broker, q { last_event_id = "earliest", ["until"] = till })
      assert.equal("1 2 3", data, till)
      assert.matches('^{"reason":"until","position":"%d+"}$', last.data)
      assert.matches("^%d+%-end$", last.id)
      assert.is_true(math.tointeger(last.id:match "%d+") >= math.tointeger(ids[3]))
    end
    assert.equal("3", (finite(broker, q { since = "-132m", ["until"] = "-90m" })))
    assert.equal("2 3", (finite(broker, q { last_event_id = ids[1], ["until"] = ids[3] })))
    assert.equal("", (finite(broker, q { since = "-10m", ["until"] = "-5m" })), "nothing is in there")
    assert.equal("", (finite(broker, q { last_event_id = "earliest", ["until"] = "-9h" })))
  end)

  it("ends with limit=", function()
    local data, last = finite(broker, q { last_event_id = "earliest", limit = 2 })
    assert.equal("1 2", data)
    assert.equal(('{"reason":"limit","position":"%s"}'):format(ids[2]), last.data)
    assert.equal(ids[2] .. "-end", last.id)
    assert.equal("1 3", (finite(broker, q { last_event_id = "earliest", limit = 2, only = "odd" })))
    assert.equal("1 3", (finite(broker, q { last_event_id = "earliest", limit = 2, only = "fn" })))
    assert.equal("1 2 3", (finite(broker, q { last_event_id = "earliest", limit = 9, ["until"] = ids[3] })))
    assert.equal("4 5", (finite(broker, q { since = "-75m", limit = 2 })))
  end)

  it("is over for a client that comes back, which is answered 204", function()
    local before = broker:metric "tidegate_nothing_more_total"
    for _, query in ipairs {
      { last_event_id = "earliest", limit = 2 }, { last_event_id = "earliest", ["until"] = ids[3] },
      { since = "-200m", ["until"] = "-90m" }, { since = "-200m", ["until"] = "-90m", limit = 1 },
    } do
      local _, last = finite(broker, q(query))
      local back = sse.request(broker, { topic = "a", query = query, last_event_id = last.id })
      assert.equal(204, back.status)
      back:close()
    end
    assert.equal(before + 4, broker:metric "tidegate_nothing_more_total")
    -- it did not get the end event, but the last one before it
    local back = sse.request(broker, { topic = "a", query = { ["until"] = ids[3] }, last_event_id = ids[3] })
    assert.equal(204, back.status)
    local _, last = finite(broker, q { last_event_id = ids[2], ["until"] = "-90m" })
    back = sse.request(broker, { topic = "a", query = { ["until"] = "-90m" }, last_event_id = last.id:match "%d+" })
    assert.equal(204, back.status)
  end)

  it("is a position like any other for a stream that has no end", function()
    local _, last = finite(broker, q { last_event_id = "earliest", limit = 2 })
    assert.equal("3 4 5", first(broker, 3, { topic = "a", last_event_id = last.id }))
  end)

  it("is refused where it makes no sense, with the field, its value and what was expected", function()
    for query, words in pairs {
      ["since=yesterday"] = 'since is "yesterday": a time was expected',
      ["since=5"] = 'since is "5": a time was expected', ["since="] = 'since is "": a time was expected',
      ["since=2026-02-30"] = 'since is "2026-02-30"', ["since=-5y"] = 'since is "-5y"', ["since=-m"] = 'since is "-m"',
      ["since=2026-01-01T25:00Z"] = "a time was expected", ["since=2026-01-01T10:00Zz"] = "a time was expected",
      ["since=" .. ids[1]] = "that is an id: last_event_id=",
      ["last_event_id=0&until=soon"] = 'until is "soon": an id, or a time was expected',
      ["limit=0"] = 'limit is "0": a number of events from 1 to 1000000', ["limit=-1"] = 'limit is "-1"',
      ["limit=1e3"] = 'limit is "1e3"', ["limit=1000001"] = "limit", ["limit=1&limit=2"] = '"limit" more than once',
      ["until=-1h"] = "until is in the past, and nothing says where to begin",
      ["until=" .. ids[1]] = "until is in the past, and nothing says where to begin",
      ["limits=5"] = 'did you mean "limit"', ["Since=5"] = 'did you mean "since"',
    } do
      local r = http.get(broker, "/events?topic=a&" .. query)
      assert.equal(400, r.status, query)
      assert.truthy(r.json.detail:find(words, 1, true), query .. ": " .. r.json.detail)
    end
  end)

  it("is never more than the policy grants", function()
    assert.equal("4 5", first(broker, 2, q { replay = "age", since = "-9h" }))
    assert.equal("5", first(broker, 1, q { replay = "age", since = "-40m" }))
    assert.equal("4 5", first(broker, 2, q { replay = "since", since = "-9h" }))
    assert.equal("4 5", first(broker, 2, q { replay = "since", last_event_id = "earliest" }))
    assert.equal("4 5", first(broker, 2, q { replay = "iso", last_event_id = ids[1] }))
    assert.equal("", (finite(broker, q { replay = "none", since = "-9h", ["until"] = "-1m" })))
    assert.equal("4", (finite(broker, q { replay = "age", last_event_id = "earliest", ["until"] = "-50m" })))
    assert.equal(0, broker:metric "tidegate_gaps_total")
  end)

  it("is the newest events that are for the stream, where the policy says last", function()
    assert.equal("4 5", first(broker, 2, q { replay = "last", last_event_id = "earliest" }))
    assert.equal("3 5", first(broker, 2, q { replay = "last", last_event_id = "earliest", only = "odd" }))
    assert.equal("4 5", first(broker, 2, q { replay = "last", since = "-9h", only = "fn" }))
    assert.equal("5", first(broker, 1, q { replay = "last", last_event_id = ids[4] }))
    assert.equal("4 5", first(broker, 2, q { replay = "both", last_event_id = ids[1] }))
    assert.equal(0, broker:metric "tidegate_gaps_total")
  end)
end)

describe("a stream with an end that is still to come", function()
  local broker = tidegate.shared { policy = POLICY }

  it("ends with the limit, of live events", function()
    local c = sse.open(broker(), { topic = "a", query = { limit = 2 } })
    broker():publish("b", "not for it")
    for i = 1, 3 do
      broker():publish("a", tostring(i))
    end
    c:wait("the end", function() return c.ended end)
    assert.same({ "1", "2", "end" }, { c.queue[1].data, c.queue[2].data, c.queue[3].type })
    assert.is_nil(c.queue[4])
  end)

  it("ends at its time, without any event", function()
    local c = sse.open(broker(), { topic = "quiet", query = { ["until"] = os.time() + 3 } })
    local before = c.ended
    c:wait("the end", function() return c.ended end)
    assert.is_nil(before)
    assert.equal("end", c.queue[1].type)
    local back = sse.request(broker(), { topic = "quiet", query = { ["until"] = os.time() - 1 },
      last_event_id = c.queue[1].id })
    assert.equal(204, back.status)
  end)

  it("ends at its time before the first event behind it", function()
    local till = os.time() + 4 -- a loaded machine takes some of that
    local c = sse.open(broker(), { topic = "late", query = { ["until"] = till } })
    broker():publish("late", "in time")
    eventually("that time is over", function() return os.time() > till end)
    broker():publish("late", "too late")
    c:wait("the end", function() return c.ended end)
    assert.equal("in time", c.queue[1].data)
    assert.equal("end", c.queue[2].type)
  end)

  it("ends at its id although the events there are not for it", function()
    local head = math.tointeger(broker():publish("a", "head"))
    local c = sse.open(broker(), { topic = "other", query = { ["until"] = tostring(head + 2) } })
    for i = 1, 3 do
      broker():publish("a", tostring(i))
    end
    c:wait("the end", function() return c.ended end)
    assert.equal(("%d-end"):format(head + 3), c.queue[1].id)
  end)

  it("shares nothing of its end with those who have none", function()
    local batch = {}
    for i = 1, 50 do
      batch[i] = { topic = "shared", data = tostring(i) }
    end
    broker():publish_all(batch)
    local streams = {}
    for i = 1, 6 do
      local n = i % 2 == 0 and 5 * i or nil
      streams[i] = sse.start(broker(), { topic = "shared", query = { last_event_id = "earliest", limit = n } })
    end
    for i, c in ipairs(streams) do
      local n = i % 2 == 0 and 5 * i or 50
      local list = c:collect(n)
      assert.equal(tostring(n), list[n].data)
      if i % 2 == 0 then
        c:wait("the end", function() return c.ended end)
        assert.equal("end", c.queue[1].type)
      end
      c:close()
    end
  end)
end)

describe("history that retention has removed", function()
  local shared = tidegate.shared { policy = POLICY, config = { store = { retain_events = 2 } } }
  local broker
  setup(function()
    broker = shared()
    store_past(broker, { { data = "1", hours = 4 }, { data = "2", hours = 3 }, { data = "3", hours = 2 },
      { data = "4", hours = 1 } })
    broker:publish("a", "5")
    eventually("retention has run", function() return broker:metric "tidegate_store_events" == 2 end)
    broker:restart() -- and not in memory either
  end)

  it("is a gap for a client that asked for a time before it", function()
    local c = sse.open(broker, { topic = "a", query = { since = "-200m" } })
    local gap = c:next()
    assert.equal("gap", gap.type)
    assert.matches('"reason":"expired","requested":"%-200m"', gap.data)
    assert.equal("4", c:next().data)
  end)

  it("is none where all of it was before that time", function()
    assert.equal("4 5", first(broker, 2, { topic = "a", query = { since = "-90m" } }))
  end)

  it("is none where the policy says gap = false", function()
    local gaps = broker:metric "tidegate_gaps_total"
    assert.equal("4 5", first(broker, 2, { topic = "a", query = { replay = "quiet", since = "-200m" } }))
    assert.equal("4 5", first(broker, 2, { topic = "a", query = { replay = "quiet", last_event_id = "earliest" } }))
    local id = sse.open(broker, { topic = "a", query = { last_event_id = "earliest" } }):next().id
    local old = tostring(math.tointeger(id) - 2) -- event 2
    assert.equal("4 5", first(broker, 2, { topic = "a", query = { replay = "quiet", last_event_id = old } }))
    assert.equal(gaps, broker:metric "tidegate_gaps_total")
    assert.equal("gap", sse.open(broker, { topic = "a", last_event_id = old }):next().type)
  end)
end)

describe("a name that the policy reads", function()
  it("is left to it: until, limit and since of http.query_params", function()
    local broker = tidegate.start { policy = POLICY, config = { http = { query_params = { "limit", "since" } } } }
    local c = sse.open(broker, { topic = "a", query = { limit = "few", since = "monday" } })
    broker:publish("a", "1")
    assert.equal("1", c:next().data)
    assert.equal(400, http.get(broker, "/events?topic=a&until=tuesday").status)
  end)
end)
