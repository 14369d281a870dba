-- transports: tls h2tls
-- `ends`: a stream ends behind the event that its subscription says is the last.
local connections = require "support.connections"
local eventually = require "support.eventually"
local http = require "support.http"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

local POLICY = [[
local ended = {}
return {
  api = 1,
  authenticate = function(req) return { sub = req.query.sub or "x" } end,
  subscribe = function(req)
    local q = req.query
    if q.over then
      return tg.deny(204, "the answer is complete")
    end
    return { topics = req.topics, filter = q.filter or "none", format = q.format or "raw", ends = q.ends,
      params = { last = q.last or "done" }, limits = q.pace and { events_per_s = tonumber(q.pace) } }
  end,
  publish = function(pub) return pub end,
  disconnect = function(who, info)
    if who.sub == "told" then
      log.warn("gone", { reason = info.reason, delivered = info.delivered })
    end
  end,
  filters = {
    finished = "type == $last",
    finished_lua = function(ev, params)
      if ev.data == "boom" then error "cannot say" end
      return ev.type == params.last
    end,
    visible = "not has(attrs.hidden)",
  },
  formats = {
    short = function(ev)
      if ev.data == "left out" then return nil end
      return { data = "<" .. ev.data .. ">" }
    end,
  },
}
]]

local function data(events)
  local list = {}
  for i, ev in ipairs(events) do
    list[i] = ev.data
  end
  return table.concat(list, " ")
end

-- All events of a stream up to its end.
local function read_to_end(c)
  c:wait_end()
  assert.equal("closed", c.ended)
  assert.is_true(c.whole)
  local events = c.queue
  c.queue = {}
  return events
end

describe("a stream with `ends`", function()
  local broker = tidegate.shared {
    policy = POLICY,
    config = { limits = { event_bytes = 16 << 20, body_bytes = 32 << 20 } },
  }
  local topics = 0

  local function new_topic()
    topics = topics + 1
    return "answer/" .. topics
  end

  for _, filter in ipairs { "finished", "finished_lua" } do
    it(("ends behind the event that %s says yes to, and no other does"):format(filter), function()
      local topic = new_topic()
      local c = sse.open(broker(), { topic = topic, query = { ends = filter } })
      local other = sse.open(broker(), { topic = topic, query = { ends = filter, last = "never" } })
      local plain = sse.open(broker(), { topic = topic })
      broker():publish(topic, "a")
      assert.equal("a", c:next().data)
      local last = broker():publish(topic, "b", { type = "done" })
      broker():publish(topic, "c")
      local events = read_to_end(c)
      assert.same({ { type = "done", data = "b", id = last } }, events)
      assert.equal("a b c", data(other:collect(3)))
      assert.equal("a b c", data(plain:collect(3)))
    end)
  end

  it("ends in replay, too, behind the first such event", function()
    local topic = new_topic()
    local from = broker():publish(topic, "before")
    for _, text in ipairs { "a", "b" } do
      broker():publish(topic, text)
    end
    broker():publish(topic, "c", { type = "done" })
    broker():publish(topic, "d")
    broker():publish(topic, "e", { type = "done" })
    local c = sse.request(broker(), { topic = topic, last_event_id = from, query = { ends = "finished" } })
    assert.equal("a b c", data(read_to_end(c)))
    local paced = sse.request(broker(), { topic = topic, last_event_id = from,
      query = { ends = "finished", pace = "1000" } })
    assert.equal("a b c", data(read_to_end(paced)))
  end)

  it("ends at such an event that has expired, which it is not sent, and is told of its place", function()
    local topic = new_topic()
    local live = sse.open(broker(), { topic = topic, query = { ends = "finished" } })
    local hidden = sse.open(broker(), { topic = topic, query = { ends = "finished", filter = "visible" } })
    local expired = broker():metric "tidegate_events_expired_total"
    local acks = broker():publish_all {
      { topic = topic, data = "a" },
      { topic = topic, data = "hidden", type = "done", expires = os.time() - 10, attrs = { hidden = "1" } },
      { topic = topic, data = "b" },
      { topic = topic, data = "past", type = "done", expires = os.time() - 10 },
      { topic = topic, data = "c" },
    }
    local function check(c, expected, id)
      assert.equal(expected, data(read_to_end(c)))
      assert.equal(id, c.last_id)
      c = sse.request(broker(), { topic = topic, last_event_id = id, query = { ends = "finished" } })
      assert.equal(204, c.status)
    end
    check(live, "a", acks[2].id)
    check(hidden, "a b", acks[4].id)
    assert.equal(expired + 2, broker():metric "tidegate_events_expired_total")
    local from = acks[1].id
    check(sse.request(broker(), { topic = topic, last_event_id = from, query = { ends = "finished" } }), "", acks[2].id)
    check(sse.request(broker(), { topic = topic, last_event_id = from,
      query = { ends = "finished", filter = "visible" } }), "b", acks[4].id)
    check(sse.request(broker(), { topic = topic, last_event_id = acks[2].id, query = { ends = "finished",
      filter = "visible", pace = "1000" }, gzip = true }), "b", acks[4].id)
  end)

  it("does not end behind what it was not given", function()
    local topic = new_topic()
    local hidden = sse.open(broker(), { topic = topic, query = { ends = "finished", filter = "visible" } })
    local formatted = sse.open(broker(), { topic = topic, query = { ends = "finished", format = "short" } })
    broker():publish(topic, "left out", { type = "done", attrs = { hidden = "1" } })
    broker():publish(topic, "b")
    assert.equal("b", hidden:next().data)
    assert.equal("<b>", formatted:next().data)
    broker():publish(topic, "c", { type = "done" })
    assert.equal("c", data(read_to_end(hidden)))
    assert.equal("<c>", data(read_to_end(formatted)))
  end)

  it("goes on where the filter fails", function()
    local topic = new_topic()
    local c = sse.open(broker(), { topic = topic, query = { ends = "finished_lua" } })
    broker():publish(topic, "boom", { type = "done" })
    assert.equal("boom", c:next().data)
    broker():publish(topic, "b", { type = "done" })
    assert.equal("b", data(read_to_end(c)))
  end)

  it("is given all of a last event that its socket takes in parts", function()
    local topic = new_topic()
    local slow = sse.open(broker(), { topic = topic, query = { ends = "finished" }, rcvbuf = 4096 })
    local text = ("x"):rep(12 << 20) .. "!"
    broker():publish(topic, text, { type = "done" })
    eventually("the socket is full", function() return broker():metric "tidegate_subscribers_behind" == 1 end)
    local events = read_to_end(slow)
    assert.equal(1, #events)
    assert.is_true(events[1].data == text)
    eventually("the stream has ended", function() return broker():metric "tidegate_subscribers_behind" == 0 end)
  end)

  it("says so: to disconnect, in a metric and in the list of streams", function()
    local topic = new_topic()
    local before = broker():metric "tidegate_streams_ended_total"
    local c = sse.open(broker(), { topic = topic, query = { ends = "finished", sub = "told" } })
    local list = http.get(broker().admin, "/connections?topic=" .. http.escape(topic)).json
    assert.equal("finished", list.connections[1].ends)
    broker():publish(topic, "last", { type = "done" })
    assert.equal("last", data(read_to_end(c)))
    eventually("disconnect is told", function()
      return broker():logged { msg = "gone", reason = "ended", delivered = "1" }
    end)
    assert.equal(before + 1, broker():metric "tidegate_streams_ended_total")
  end)

  it("explains what an event will do to it", function()
    local topic = new_topic()
    local c = sse.open(broker(), { topic = topic, query = { ends = "finished" } })
    local path = ("/connections/%s/explain"):format(connections.of(broker(), topic))
    local function ends_of(kind)
      local x = http.post(broker().admin, path, http.json.encode { topic = topic, data = "x", type = kind },
        { ["Content-Type"] = "application/json" }).json
      for _, step in ipairs(x.steps) do
        if step.step == "ends" then
          return step.text
        end
      end
    end
    assert.equal("finished: false, the stream goes on", ends_of "message")
    assert.equal("finished: true, the stream ends with it", ends_of "done")
    assert.is_nil(c.ended)
  end)

  it("asks the filter once for all streams of an audience, and where there is none not at all", function()
    local topic = new_topic()
    local all = {}
    for i = 1, 20 do
      all[i] = sse.open(broker(), { topic = topic, query = { ends = i <= 10 and "finished" or nil } })
    end
    local before = broker():metric "tidegate_policy_filter_calls_total"
    broker():publish(topic, "a")
    for _, c in ipairs(all) do
      assert.equal("a", c:next().data)
    end
    assert.equal(before + 1, broker():metric "tidegate_policy_filter_calls_total")
  end)

  it("answers 204 to the client that comes back with the id of its last event", function()
    local own = tidegate.start { policy = POLICY }
    local topic = new_topic()
    local before = own:publish(topic, "a")
    local last = own:publish(topic, "b", { type = "done" })
    local hidden = own:publish(topic, "hidden", { type = "done", attrs = { hidden = "1" } })
    own:publish(topic, "c", { type = "done" })
    local function status(id, filter)
      local c = sse.request(own, { topic = topic, last_event_id = id, query = { ends = "finished", filter = filter } })
      return c.status, c.status == 200 and data(read_to_end(c)) or nil
    end
    local function check()
      assert.same({ 204 }, { status(last) })
      assert.same({ 200, "b" }, { status(before) })
      assert.same({ 204 }, { status(hidden) })
      assert.same({ 200, "c" }, { status(hidden, "visible") })
      local c = sse.open(own, { topic = "other", last_event_id = last, query = { ends = "finished" } })
      own:publish("other", "d", { type = "done" })
      assert.equal("d", data(read_to_end(c)))
    end
    check()
    own:restart() -- nothing is in memory any more
    check()
    assert.equal(2, own:metric "tidegate_nothing_more_total")
    assert.equal(0, own:metric 'tidegate_refused_denied_total{status="204"}')
  end)

  it("is refused with a 204 when the policy says so", function()
    local c = sse.request(broker(), { topic = "a", query = { over = "1" } })
    assert.equal(204, c.status)
  end)
end)
