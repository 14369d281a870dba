-- Why a client did, did not or would not get an event: every reason there is, and that asking has no effect.
local connections = require "support.connections"
local eventually = require "support.eventually"
local http = require "support.http"
local tidegate = require "support.tidegate"

local POLICY = [[
local P = { api = 1, version = "geo-2" }
function P.authenticate() return { sub = "u" } end
function P.subscribe(req)
  local q = req.query
  local replay = q.max_age and { max_age = tonumber(q.max_age) }
  if q.replay == "none" then replay = false end
  return { topics = req.topics, filter = q.filter or "none", format = q.format or "raw", params = { cell = "u2yh" },
    replay = replay, start = q.start,
    limits = q.pace and { events_per_s = tonumber(q.pace), max_lag = tonumber(q.lag),
      on_lag = q.lag and "latest" } or nil }
end
function P.publish(pub) return pub end
P.filters = {
  near = "starts_with(attrs.cell, $cell) and attrs.level >= '2'",
  says = function(ev, p)
    if ev.attrs.cell == p.cell then return true end
    return false, "it is in " .. tostring(ev.attrs.cell) .. ", you are in " .. p.cell
  end,
  odd = function(ev) return false, ev.attrs.odd == "table" and {} or "\xff" end,
  raises = function(ev) error("no such cell") end,
  maybe = function(ev)
    log.info("maybe looked")
    if ev.attrs.bad then error("bad") end
    return true
  end,
  hangs = function(ev) if ev.attrs.hang then while true do end end return true end,
}
P.formats = {
  drops = function(ev) return nil end,
  raises = function(ev) return ev.data.a.b.c end,
  rules = { drop = { "secret" } },
  short = function(ev) return { data = ev.data.text, event = "short" } end,
}
return P
]]

local open, close_all = connections.keeper()

local function ask(broker, connection, event)
  local r = http.get(broker.admin, ("/connections/%s/explain?event=%s"):format(connection, event))
  return r.json, r
end

local function step(doc, name)
  for _, s in ipairs(doc.steps) do
    if s.step == name then
      return s
    end
  end
end

-- A line of the policy that holds `text`, as the policy's errors name it.
local function line_of(text)
  local n = 0
  for line in POLICY:gmatch "([^\n]*)\n" do
    n = n + 1
    if line:find(text, 1, true) then
      return "policy.lua:" .. n
    end
  end
end

local count = 0
local function topic_name()
  count = count + 1
  return "t" .. count
end

describe("explain", function()
  after_each(close_all)

  local broker = tidegate.shared { policy = POLICY, config = { policy = { error_log_interval_s = 0 } } }

  -- A client with that query, one event published behind its start, and what is said of the two.
  local function case(query, data, attrs)
    local topic = topic_name()
    local client = open(broker(), { topic = topic, query = query })
    local id = broker():publish(topic, data or '{"text":"hi","secret":1}', { attrs = attrs })
    local fence = broker():publish(topic, '{"text":"fence"}', { attrs = { cell = "u2yh", level = "2" } })
    eventually("the stream has passed both", function()
      local doc = ask(broker(), connections.of(broker(), topic), fence)
      return doc.place == "passed"
    end)
    local doc, r = ask(broker(), connections.of(broker(), topic), id)
    assert.equal(200, r.status)
    assert.same({ id, topic, false }, { doc.event.id, doc.event.topic, doc.event.removed })
    assert.same({ "geo-2", 12 }, { doc.policy.label, #doc.policy.version })
    return doc, client
  end

  local function verdict(doc)
    return { doc.outcome, doc.reason, doc.where, doc.place }
  end

  it("tells what was delivered", function()
    local doc, client = case({})
    assert.same({ "delivered", nil, nil, "passed" }, verdict(doc))
    assert.equal("hi", http.json.decode(client:next().data).text)
    assert.equal("live", doc.connection.state)
    assert.equal(client.start_id, doc.connection.began_behind)
    assert.is_true(step(doc, "filter").ok)
    assert.matches("^raw: %d+ bytes in the stream$", step(doc, "format").text)
    doc, client = case({ filter = "says", format = "short" }, nil, { cell = "u2yh" })
    assert.same({ "delivered", nil, nil, "passed" }, verdict(doc))
    local ev = client:next()
    assert.same({ "short", "hi" }, { ev.type, ev.data })
    local bytes = #("id: %s\nevent: short\ndata: hi\n\n"):format(ev.id)
    assert.equal(("short: %d bytes in the stream"):format(bytes), step(doc, "format").text)
  end)

  it("tells that an event has expired, and when", function()
    local function of(fields)
      local topic = topic_name()
      open(broker(), { topic = topic })
      fields.topic, fields.data = topic, "x"
      local id = broker():publish_all({ fields })[1].id
      local fence = broker():publish(topic, "fence")
      eventually("the stream has passed both", function()
        return ask(broker(), connections.of(broker(), topic), fence).place == "passed"
      end)
      local doc = ask(broker(), connections.of(broker(), topic), id)
      return doc, step(doc, "expiry")
    end
    local doc, expiry = of { expires = "2020-01-02T03:04:05Z" }
    assert.same({ "not-delivered", "event-expired", nil, "passed" }, verdict(doc))
    assert.same({ false, "it expired at 2020-01-02T03:04:05Z, before the stream could be given it" },
      { expiry.ok, expiry.text })
    assert.equal("2020-01-02T03:04:05Z", doc.event.expires)
    doc, expiry = of { ttl = 3600 }
    assert.same({ "delivered", nil, nil, "passed" }, verdict(doc))
    assert.matches("^it expires at 20%d%d%-", expiry.text)
    doc, expiry = of {}
    assert.same({ "delivered", nil }, { doc.outcome, expiry })
    local path = ("/connections/%s/explain"):format(doc.connection.id)
    local past = '{"topic":"%s","data":"x","expires":1500000000}'
    local r = http.post(broker().admin, path, past:format(doc.event.topic), { ["Content-Type"] = "application/json" })
    assert.same({ 200, "would-not-deliver", "event-expired" }, { r.status, r.json.outcome, r.json.reason })
  end)

  it("tells that no topic matches", function()
    local topics = {}
    for i = 1, 7 do
      topics[i] = ("none/%d/**"):format(i)
    end
    open(broker(), { topic = topics })
    local id = broker():publish("elsewhere", "x")
    local doc = ask(broker(), connections.of(broker(), "none/1/**"), id)
    assert.same({ "not-delivered", "topic", nil, "passed" }, verdict(doc))
    assert.equal("elsewhere ~ none/1/**, none/2/**, none/3/**, none/4/**, none/5/**, 2 more: no",
      step(doc, "topic").text)
    assert.is_nil(step(doc, "filter"))
  end)

  it("shows the conditions of a filter text, with the values seen", function()
    local doc = case({ filter = "near" }, nil, { cell = "u2ed", level = "3" })
    assert.same({ "not-delivered", "filtered", line_of "near =", "passed" }, verdict(doc))
    assert.same({ 'starts_with(attrs.cell="u2ed", $cell="u2yh") = false' }, step(doc, "filter").lines)
    assert.is_nil(step(doc, "format"))
    doc = case({ filter = "near" }, nil, { cell = "u2yh5", level = "1" })
    assert.same({ 'starts_with(attrs.cell="u2yh5", $cell="u2yh") = true', [[attrs.level="1" >= '2' = false]] },
      step(doc, "filter").lines)
    local filter = step(doc, "filter")
    assert.same({ "text", "near", false }, { filter.kind, filter.name, filter.ok })
  end)

  it("says why, where a filter says why", function()
    local doc = case({ filter = "says" }, nil, { cell = "u2ed" })
    assert.same({ "not-delivered", "filtered", line_of "says =", "passed" }, verdict(doc))
    assert.equal("it is in u2ed, you are in u2yh", step(doc, "filter").why)
    assert.equal("says: false, it is in u2ed, you are in u2yh", step(doc, "filter").text)
    doc = case({ filter = "odd" })
    assert.same({ "filtered", "(not UTF-8)" }, { doc.reason, step(doc, "filter").why })
    doc = case({ filter = "odd" }, nil, { odd = "table" })
    assert.same({ "filtered", "(not a text)" }, { doc.reason, step(doc, "filter").why })
  end)

  it("shows the error of a filter, and stops one that hangs", function()
    local doc = case({ filter = "raises" })
    assert.same({ "not-delivered", "filter-error", line_of "raises = function(ev) error", "passed" }, verdict(doc))
    assert.matches("no such cell", step(doc, "filter").text)
    doc = case({ filter = "hangs" }, nil, { hang = "yes" })
    assert.same({ "not-delivered", "filter-error", line_of "hangs =", "passed" }, verdict(doc))
    assert.matches("filter_cpu_ms", step(doc, "filter").text)
  end)

  it("tells what formats make of it", function()
    local doc = case({ format = "drops" })
    assert.same({ "not-delivered", "format-nil", line_of "drops =", "passed" }, verdict(doc))
    doc = case({ format = "raises" })
    assert.same({ "not-delivered", "format-error", line_of "ev.data.a.b.c", "passed" }, verdict(doc))
    assert.matches("attempt to index a nil value", step(doc, "format").text)
    doc = case({ format = "rules" }, "not JSON")
    assert.same({ "not-delivered", "format-error", "policy.lua", "passed" }, verdict(doc))
    assert.equal("rules", step(doc, "format").kind)
  end)

  it("tells where the stream began, and why there", function()
    local topic = topic_name()
    local first = broker():publish(topic, "1")
    local second = broker():publish(topic, "2")
    local function start(query, last_event_id)
      local c = open(broker(), { topic = { topic, "a" .. topic }, query = query, last_event_id = last_event_id })
      local id = connections.of(broker(), "a" .. topic)
      return c, function(event) return verdict((ask(broker(), id, event))) end
    end
    local c, about = start()
    assert.same({ "not-delivered", "before-connect", nil, "before-start" }, about(second))
    c:close()
    c, about = start({ replay = "none" }, first)
    assert.same({ "not-delivered", "no-replay", nil, "before-start" }, about(second))
    assert.same({ "not-delivered", "before-connect", nil, "before-start" }, about(first))
    c:close()
    c, about = start({}, first)
    assert.equal("2", c:next().data)
    assert.same({ "delivered", nil, nil, "passed" }, about(second))
    assert.same({ "not-delivered", "before-connect", nil, "before-start" }, about(first))
    c:close()
    c, about = start({}, "some id of another broker")
    assert.same({ "not-delivered", "before-connect", nil, "before-start" }, about(second))
    c:close()
    -- what the rules say comes first: it would not have come anyway
    c, about = start({ filter = "near" })
    assert.same({ "not-delivered", "filtered", line_of "near =", "before-start" }, about(second))
    c:close()
    local deadline = eventually.now() + 1.2
    eventually("the events are older than a second", function() return eventually.now() > deadline end)
    c, about = start({ max_age = "1" }, first)
    c:wait("the first block", function() return c.start_id end)
    assert.same({ "not-delivered", "expired", nil, "before-start" }, about(second))
    c:close()
  end)

  it("tells what is still to come", function()
    local topic = topic_name()
    local c = open(broker(), { topic = topic, query = { pace = "0.01" } })
    local ids = {}
    for i = 1, 4 do
      ids[i] = broker():publish(topic, tostring(i))
    end
    c:next()
    local doc
    eventually("it may have no more for now", function()
      doc = ask(broker(), connections.of(broker(), topic), ids[4])
      return doc.connection.state == "paced"
    end)
    assert.same({ "would-deliver", nil, nil, "ahead" }, verdict(doc))
    assert.matches("events_per_s", step(doc, "place").text)
    assert.is_true(doc.connection.lag > 0)
    assert.same({ "delivered", nil, nil, "passed" }, verdict((ask(broker(), connections.of(broker(), topic), ids[1]))))
  end)

  it("judges an event that is not stored", function()
    local topic = topic_name()
    open(broker(), { topic = topic, query = { filter = "near" } })
    local path = ("/connections/%s/explain"):format(connections.of(broker(), topic))
    local function given(body, headers)
      return http.post(broker().admin, path, body, headers or { ["Content-Type"] = "application/json" })
    end
    local head = http.get(broker().admin, "/status").json.head_id
    local r = given(http.json.encode { topic = topic, attrs = { cell = "u2yh", level = "2" }, data = 1 })
    assert.same({ "would-deliver", nil, nil, "not-stored" }, verdict(r.json))
    r = given(http.json.encode { topic = topic, attrs = { cell = "u2yh", level = "1" }, data = 1 })
    assert.same({ "would-not-deliver", "filtered", line_of "near =", "not-stored" }, verdict(r.json))
    assert.equal(head, http.get(broker().admin, "/status").json.head_id)
    r = given '{"topic":"a","data":1,"no":1}'
    assert.equal(400, r.status)
    assert.matches("no", r.json.detail)
    assert.equal(400, given('[{"topic":"a","data":1},{"topic":"b","data":2}]').status)
    assert.equal(415, given("x", { ["Content-Type"] = "text/plain" }).status)
    assert.equal(403, given("{}", { Origin = "https://evil.example" }).status)
  end)

  it("has no effect on delivery", function()
    local topic = topic_name()
    local c = open(broker(), { topic = topic, query = { filter = "maybe", format = "short" } })
    local connection = connections.of(broker(), topic)
    local bad = http.json.encode { topic = topic, attrs = { bad = true }, data = { text = "x" } }
    local names = { 'tidegate_policy_errors_total{hook="filter"}', 'tidegate_policy_errors_total{hook="format"}',
      "tidegate_policy_quarantined", 'tidegate_policy_overdue_total{hook="filter"}', "tidegate_events_delivered_total",
      "tidegate_policy_filter_calls_total", "tidegate_policy_format_calls_total",
      "tidegate_policy_filter_type_mismatches_total" }
    local function figures()
      local values = {}
      for i, name in ipairs(names) do
        values[i] = broker():metric(name)
      end
      return values
    end
    local log, before = #broker():log(), figures()
    local admin = http.connect(broker().admin)
    for _ = 1, 120 do -- live, half as many would put it out of use
      local r = admin:request("POST", ("/connections/%s/explain"):format(connection),
        { ["Content-Type"] = "application/json" }, bad)
      assert.equal("filter-error", r.json.reason)
    end
    admin:close()
    assert.same(before, figures())
    local since = broker():log():sub(log + 1)
    assert.same({}, { since:find("hook=filter", 1, true), since:find("maybe looked", 1, true) })
    broker():publish(topic, '{"text":"through"}')
    assert.equal("through", c:next().data)
  end)

  it("says that an id was left out, which a restart leaps over", function()
    local b = tidegate.start { keep = true }
    local before = tonumber((b:publish("left/out", "x")))
    b:stop()
    b:start()
    local c = open(b, { topic = "left/out", last_event_id = before })
    assert.is_true(tonumber((b:publish("left/out", "y"))) > before + 1)
    assert.equal("y", c:next().data)
    local _, r = ask(b, connections.of(b, "left/out"), before + 1)
    assert.equal(404, r.status)
    assert.matches("There never was an event", r.json.detail)
    b:dispose()
  end)

  it("says what is wrong with a question", function()
    local topic = topic_name()
    local c = open(broker(), { topic = topic })
    local connection = connections.of(broker(), topic)
    local id = broker():publish(topic, "x")
    for _, query in ipairs { "", "?event=", "?event=x", "?event=0", "?event=-1", "?event=9007199254740992", "?events=1",
      "?event=1&event=2", "?event=%zz" } do
      local r = http.get(broker().admin, ("/connections/%s/explain%s"):format(connection, query))
      assert.equal(400, r.status, query)
    end
    for _, path in ipairs { "/connections/x/explain", "/connections//explain", "/connections/1/explain/",
      "/connections/1-1/explain" } do
      assert.equal(404, http.get(broker().admin, path .. "?event=" .. id).status, path)
    end
    assert.equal(405, http.get(broker().admin, "/connections/" .. connection).status)
    local _, r = ask(broker(), connection, tonumber(id) + 5000000000)
    assert.equal(404, r.status)
    assert.matches("There is no event %d+ yet: the newest is " .. id, r.json.detail)
    _, r = ask(broker(), connection, 1)
    assert.equal(404, r.status)
    assert.matches("There never was an event 1:", r.json.detail)
    c:close()
    eventually("it is gone", function() return #http.get(broker().admin, "/connections").json.connections >= 0
      and select(2, ask(broker(), connection, id)).status == 404 end)
    _, r = ask(broker(), connection, id)
    assert.equal("No open event stream has that id; `tidegate connections` lists them.", r.json.detail)
    assert.equal(405, http.request(broker().admin, "OPTIONS", "/connections/1/explain").status)
  end)

  it("takes 16 questions at once", function()
    local topic = topic_name()
    open(broker(), { topic = topic })
    local id = broker():publish(topic, "x")
    local path = ("/connections/%s/explain?event=%s"):format(connections.of(broker(), topic), id)
    local all = {}
    for i = 1, 20 do
      all[i] = http.connect(broker().admin)
      assert.equal(200, all[i]:request("GET", "/healthz").status)
    end
    broker():signal "STOP" -- so that all of them arrive in one turn
    eventually("it has stopped", function()
      local f <close> = assert(io.open(("/proc/%d/stat"):format(broker().pid)))
      return f:read("a"):find ") T "
    end)
    for _, c in ipairs(all) do
      c:send(http.render("GET", path))
    end
    broker():signal "CONT"
    local seen = {}
    for _, c in ipairs(all) do
      local status = c:response().status
      seen[status] = (seen[status] or 0) + 1
      c:close()
    end
    assert.same({ [200] = 16, [503] = 4 }, seen)
    assert.equal(200, http.get(broker().admin, path).status)
  end)
end)

describe("explain, of a slow client,", function()
  after_each(close_all)

  it("knows what it had to leave out", function()
    local broker = tidegate.start { policy = POLICY, config = {
      sse = { turn_bytes = 65536, max_lag_events = 8, on_lag = "skip" },
      limits = { send_buffer_bytes = 16384 } } }
    local c = open(broker, { topic = "lag", rcvbuf = 4096 })
    local big, ids = ("x"):rep(32768), {}
    for _ = 1, 20 do
      for _, ack in ipairs(broker:publish_all { { topic = "lag", data = big }, { topic = "lag", data = big } }) do
        ids[#ids + 1] = ack.id
      end
    end
    local connection = connections.of(broker, "lag")
    local doc = ask(broker, connection, ids[#ids])
    assert.same({ "would-deliver", "ahead", "blocked" }, { doc.outcome, doc.place, doc.connection.state })
    local gap
    c:wait("a gap", function()
      for _, ev in ipairs(c.queue) do
        gap = gap or ev.type == "gap" and http.json.decode(ev.data)
      end
      return gap
    end, 20)
    local skipped
    for _, id in ipairs(ids) do
      if tonumber(id) > tonumber(gap.requested) and tonumber(id) <= tonumber(gap.resumed_from) then
        skipped = (skipped or 0) + 1
        doc = ask(broker, connection, id)
        assert.same({ "not-delivered", "lag-skipped", "skipped" }, { doc.outcome, doc.reason, doc.place })
      end
    end
    assert.is_true(skipped > 8)
    doc = ask(broker, connection, ids[1])
    assert.same({ "delivered", "passed" }, { doc.outcome, doc.place })
  end)
end)

describe("explain, of a stream that is sent the newest events,", function()
  after_each(close_all)

  local function verdict(broker, topic, id)
    local doc = ask(broker, connections.of(broker, topic), id)
    return { doc.outcome, doc.reason, doc.place }, step(doc, "place").text
  end

  it("tells which it began with, and which had made room", function()
    local broker = tidegate.start { policy = POLICY, config = {
      store = { latest = { "score/*" }, retain_events = 10 } } }
    local old, kept = broker:publish("score/1", "1:0"), broker:publish("score/2", "0:0")
    local newest, ended = broker:publish("score/1", "1:1"), broker:publish("score/3", "2:2")
    local removal, other = broker:publish("score/3", ""), broker:publish("other/1", "x")
    local c = open(broker, { topic = { "score/*", "other/*" }, query = { start = "latest" } })
    c:wait("it is live", function() return #c.queue == 3 and c.queue[3].type == "live" end)
    local told, why = verdict(broker, "other/*", old)
    assert.same({ "not-delivered", "superseded", "skipped" }, told)
    assert.matches(newest .. " is a newer one of this topic", why, 1, true)
    for _, id in ipairs { kept, newest } do
      told, why = verdict(broker, "other/*", id)
      assert.same({ "delivered", nil, "passed" }, { told[1], told[2], told[3] })
      assert.matches("sent the newest events up to " .. other, why, 1, true)
    end
    assert.same({ "not-delivered", "superseded", "skipped" }, (verdict(broker, "other/*", ended)))
    told, why = verdict(broker, "other/*", removal)
    assert.same({ "not-delivered", "superseded", "skipped" }, told)
    assert.matches("removed its topic", why, 1, true)
    told, why = verdict(broker, "other/*", other)
    assert.same({ "would-deliver", nil, "passed-before" }, { told[1], told[2], told[3] })
    assert.matches("store.latest does not name it", why, 1, true)
    -- what comes then is the log's, and what it replaces is not known for sure
    local live = broker:publish("score/1", "2:1")
    eventually("the stream has passed it", function()
      told = verdict(broker, "other/*", live)
      return told[3] == "passed"
    end)
    assert.same({ "delivered", nil, "passed" }, { told[1], told[2], told[3] })
    told = verdict(broker, "other/*", newest) -- the store may still have it among those that it keeps
    assert.truthy(("delivered passed, would-deliver passed-before"):find(told[1] .. " " .. told[3], 1, true))
    -- retention takes it from the log, not from those that are kept
    for i = 1, 60 do
      broker:publish("other/2", tostring(i))
    end
    eventually("the older ones are gone", function()
      return broker:metric "tidegate_store_retention_removed_total" >= 50
    end)
    broker:restart()
    c = open(broker, { topic = { "score/*", "other/*" }, query = { start = "latest" } })
    c:wait("it is live", function() return #c.queue == 3 and c.queue[3].type == "live" end)
    told = verdict(broker, "other/*", kept)
    assert.same({ "delivered", nil, "passed" }, { told[1], told[2], told[3] })
  end)

  it("tells which of those it got that it was too far behind for", function()
    local broker = tidegate.start { policy = POLICY, config = { store = { latest = { "score/*" } } } }
    local c = open(broker, { topic = "score/*", query = { pace = "2", lag = "10" } })
    broker:publish("score/1", "first")
    assert.equal("first", c:next().data)
    local batch = {}
    for i = 1, 200 do
      batch[i] = { topic = "score/" .. i % 3, data = "v" .. i }
    end
    local acks = broker:publish_all(batch)
    local gap
    c:wait("it is live again", function()
      for _, ev in ipairs(c.queue) do
        gap = ev.type == "gap" and http.json.decode(ev.data) or gap
      end
      return c.queue[#c.queue] and c.queue[#c.queue].type == "live"
    end, 60)
    for i, ack in ipairs(acks) do
      if tonumber(ack.id) > tonumber(gap.requested) and i % 13 == 0 or i > 197 then
        assert.same(i > 197 and { "delivered", "passed" } or { "not-delivered", "skipped" },
          { verdict(broker, "score/*", ack.id)[1], verdict(broker, "score/*", ack.id)[3] })
      end
    end
    assert.equal("superseded", verdict(broker, "score/*", acks[190].id)[2])
  end)
end)

describe("explain, when another policy takes over,", function()
  after_each(close_all)

  local function policy(parts)
    return ([[
local P = { api = 1 }
function P.authenticate() return { sub = "u" } end
function P.subscribe(req) %s end
function P.publish(pub) return pub end
P.filters = { %s }
return P
]]):format(parts.subscribe or 'return { topics = req.topics, filter = "f" }', parts.filters)
  end

  it("tells rules of now from those the event was passed under, and what is held", function()
    local broker = tidegate.start { policy = policy { filters = [[f = "attrs.n == '1'"]] } }
    local c = open(broker, { topic = "a" })
    local first = broker:publish("a", "1", { attrs = { n = "1" } })
    c:next()
    local connection = connections.of(broker, "a")
    local function about(id)
      local doc = ask(broker, connection, id)
      return { doc.outcome, doc.reason, doc.place }
    end
    assert.same({ "delivered", nil, "passed" }, about(first))
    assert.equal(200, broker:reload(policy { filters = [[f = "attrs.n == '2'"]] }).status)
    assert.same({ "would-not-deliver", "filtered", "passed-before" }, about(first))
    local second = broker:publish("a", "2", { attrs = { n = "2" } })
    assert.equal("2", c:next().data)
    assert.same({ "delivered", nil, "passed" }, about(second))
    assert.equal(200, broker:reload(policy { filters = [[g = "attrs.n == '2'"]],
      subscribe = 'return nil, "the database is away"' }).status)
    local third = broker:publish("a", "3", { attrs = { n = "2" } })
    local doc = ask(broker, connection, third)
    assert.same({ "would-not-deliver", "held", "ahead" }, { doc.outcome, doc.reason, doc.place })
    assert.same({ "held", true }, { doc.connection.state, doc.connection.resubscribing })
    assert.same({ "would-not-deliver", "held", "passed-before" }, about(second))
  end)

  it("tells a grant of now from the one before it", function()
    local broker = tidegate.start { policy = "local asked = 0\n" .. policy { -- another answer each time
      subscribe = 'asked = asked + 1 return { topics = req.topics, filter = asked > 1 and "nothing" or "none" }',
      filters = "nothing = function() return false end" } }
    local c = open(broker, { topic = "a" })
    local first = broker:publish("a", "1")
    c:next()
    local connection = connections.of(broker, "a")
    assert.equal(202, http.post(broker.admin, ("/connections/%s/resubscribe"):format(connection)).status)
    local doc
    eventually("it was asked about", function()
      doc = ask(broker, connection, first)
      return doc.connection.filter == "nothing"
    end)
    assert.same({ "would-not-deliver", "filtered", "passed-before" }, { doc.outcome, doc.reason, doc.place })
    local second = broker:publish("a", "2")
    eventually("it has passed the second", function()
      doc = ask(broker, connection, second)
      return doc.place ~= "ahead"
    end)
    assert.same({ "not-delivered", "filtered", "passed" }, { doc.outcome, doc.reason, doc.place })
  end)

  it("shows as much of a filter text as fits, and decides by all of it", function()
    local terms = {}
    for i = 1, 450 do
      terms[i] = "attrs.a~=$b"
    end
    terms[#terms] = "attrs.a==$b"
    local broker = tidegate.start { policy = policy { filters = ("f = [[%s]]"):format(table.concat(terms, " and ")),
      subscribe = 'return { topics = req.topics, filter = "f", params = { b = ("b"):rep(200) } }' } }
    open(broker, { topic = "a" })
    local id = broker:publish("a", "1", { attrs = { a = ("a"):rep(200) } })
    local doc = ask(broker, connections.of(broker, "a"), id)
    assert.equal("filtered", doc.reason)
    local lines = step(doc, "filter").lines
    assert.is_true(#lines > 100 and #lines < 450, #lines)
    assert.matches("too much to be shown", lines[#lines])
  end)

  it("shows a filter that is out of use as what it is", function()
    local broker = tidegate.start { policy = policy { filters = "f = function() error('always') end" } }
    open(broker, { topic = "a" })
    local batch = {}
    for i = 1, 60 do
      batch[i] = { topic = "a", data = i }
    end
    local ids = broker:publish_all(batch)
    eventually("it is out of use", function() return broker:metric "tidegate_policy_quarantined" == 1 end)
    local doc = ask(broker, connections.of(broker, "a"), ids[1].id)
    assert.same({ "not-delivered", "filter-error" }, { doc.outcome, doc.reason })
    assert.matches("disabled", step(doc, "filter").text)
    assert.is_nil(step(doc, "filter").why) -- it was not run
  end)
end)

describe("explain, of several workers,", function()
  after_each(close_all)

  it("asks the one whose connection it is", function()
    local broker = tidegate.start { policy = POLICY, config = { workers = 2 } }
    local seen, found = {}, 0
    for i = 1, 60 do -- until both have one
      local topic = "only/" .. i
      open(broker, { topic = { topic, "x" }, query = { filter = "says" } })
      for _, c in ipairs(http.get(broker.admin, "/connections").json.connections) do
        if c.topics[1] == topic and not seen[c.worker] then
          seen[c.worker], found = c.id, found + 1
        end
      end
      if found == 2 then
        break
      end
    end
    assert.equal(2, found)
    local id = broker:publish("x", '{"text":"hi"}', { attrs = { cell = "elsewhere" } })
    for worker, connection in pairs(seen) do
      local doc
      eventually("the worker has heard of it", function()
        doc = ask(broker, connection, id)
        return doc.place == "passed"
      end)
      assert.same({ "not-delivered", "filtered", connection, worker },
        { doc.outcome, doc.reason, doc.connection.id, doc.connection.worker })
      assert.equal("it is in elsewhere, you are in u2yh", step(doc, "filter").why)
      local path = ("/connections/%s/explain"):format(connection)
      local r = http.post(broker.admin, path, '{"topic":"x","attrs":{"cell":"u2yh"},"data":{"text":"hi"}}',
        { ["Content-Type"] = "application/json" })
      assert.same({ 200, "would-deliver", connection }, { r.status, r.json.outcome, r.json.connection.id })
      assert.equal(200, http.post(broker.admin, path .. "?topic=x&attr.cell=u2yh", "hi").status)
      r = http.post(broker.admin, path, '{"topic":"x"', { ["Content-Type"] = "application/json" })
      assert.equal(400, r.status)
    end
    local _, r = ask(broker, seen[1], 1)
    assert.same({ 404, true }, { r.status, r.json.detail:find("never was", 1, true) ~= nil })
    for _, path in ipairs { "/connections/3-1/explain?event=1", "/connections/1/explain?event=1",
      "/connections/1-77/explain?event=1" } do
      assert.equal(404, http.get(broker.admin, path).status, path)
    end
    assert.equal(400, http.get(broker.admin, ("/connections/%s/explain"):format(seen[1])).status)
  end)
end)
