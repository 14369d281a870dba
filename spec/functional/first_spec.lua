-- transports: tls h2tls
-- `first`: frames that a stream begins with, its own, before history and without an id.
local connections = require "support.connections"
local eventually = require "support.eventually"
local http = require "support.http"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

-- The state is the newest event of a topic, as `observe` has seen it.
local POLICY = [[
local state = {}
return {
  api = 1,
  authenticate = function() return { sub = "x" } end,
  subscribe = function(req)
    local q, topic = req.query, req.topics[1]
    local first = { { event = "put", data = { state = state[topic] or "none" } } }
    if q.first then
      first = json.decode(q.first)
    elseif q.parts then
      for i = 1, tonumber(q.parts) do
        first[i] = { data = ("x"):rep(1000000) }
      end
    elseif q.wait then
      local before = state[topic]
      log.info("has read", { state = before })
      while state[topic] == before do sleep(0.01) end
    end
    return { topics = req.topics, first = first, prime = q.prime, tags = { "t:" .. topic },
      replay = q.replay ~= "no" and { last = tonumber(q.last) } }
  end,
  publish = function(pub) return pub end,
  observe = { { topics = { "**" }, run = function(ev) state[ev.topic] = ev.raw end } },
}
]]

describe("what a stream begins with", function()
  local broker = tidegate.shared { policy = POLICY, config = {
    policy = { first_bytes = 16 << 20, memory_bytes = 256 << 20, subscribe_timeout_ms = 60000,
      subscribe_cpu_ms = 1000 },
    compress = { gzip = true, min_members = 1 },
  } }
  local topics = 0

  local function new_topic()
    topics = topics + 1
    return "first/" .. topics
  end

  local function frames(list)
    return { first = http.json.encode(list) }
  end

  it("comes behind the position, in the first packet, without an id", function()
    local topic = new_topic()
    local c = sse.open(broker(), { topic = topic, keep_bytes = true, query = frames {
      { event = "put", data = { b = 1, a = { "x" } } }, { data = "two\nlines" }, { event = "message", data = "" } } })
    assert.matches('^retry: %d+\nid: %d+\nevent: position\ndata: {"position":"%d+"}\n\n'
      .. 'event: put\ndata: {"a":%["x"%],"b":1}\n\ndata: two\ndata: lines\n\ndata:\n\n$', c.first_read)
    local id = broker():publish(topic, "after")
    c:collect_until "after"
    assert.equal(id, c.last_id)
    local none = sse.request(broker(), { topic = topic, query = { prime = "none" } })
    assert.same({ type = "put", data = '{"state":"after"}', id = "" }, none:next())
  end)

  it("is not all that is new: what is published while the policy reads its state comes behind it", function()
    local topic = new_topic()
    broker():publish(topic, "1")
    eventually("it is seen", function()
      local c = sse.open(broker(), { topic = topic })
      local seen = c:next().data == '{"state":"1"}'
      c:close()
      return seen
    end)
    local c = assert(sse.start(broker(), { topic = topic, query = { wait = "1" } }))
    eventually("the hook waits", function() return broker():logged { msg = "has read", state = "1" } end)
    local id = broker():publish(topic, "2")
    c:wait("the events", function() return #c.queue == 2 end)
    assert.same({ { type = "put", data = '{"state":"1"}' }, { type = "message", data = "2", id = id } },
      { { type = c.queue[1].type, data = c.queue[1].data }, c.queue[2] })
    assert.is_true(tonumber(c.positions[1].id) < tonumber(id))
  end)

  it("is not cut short by the number of newest events that the policy grants", function()
    local topic = new_topic()
    local from = broker():publish(topic, "1")
    broker():publish(topic, "2")
    for n, asked in ipairs { "", from } do
      local before = n == 1 and "2" or "5"
      eventually("it is seen", function()
        local c = sse.open(broker(), { topic = topic })
        local seen = c:next().data == ('{"state":"%s"}'):format(before)
        c:close()
        return seen
      end)
      local c = assert(sse.start(broker(), { topic = topic, last_event_id = n == 2 and asked or nil,
        query = { wait = "1", last = 1 } }))
      eventually("the hook waits", function() return broker():logged { msg = "has read", state = before } end)
      broker():publish_all { { topic = topic, data = n == 1 and "3" or "6" }, { topic = topic, data = "4" },
        { topic = topic, data = n == 1 and "5" or "end" } }
      local got = {}
      for i, ev in ipairs(c:collect_until(n == 1 and "5" or "end")) do
        got[i] = ev.data
      end
      assert.equal(('{"state":"%s"} %s 4'):format(before, n == 1 and "3" or "6"), table.concat(got, " "))
    end
  end)

  it("comes before history, also for a client that resumes", function()
    local topic = new_topic()
    local from = broker():publish(topic, "1")
    local last = broker():publish(topic, "2")
    local back = sse.open(broker(), { topic = topic, last_event_id = from, query = frames { { data = "f" } } })
    assert.equal("f", back:next().data)
    assert.same({ type = "message", data = "2", id = last }, back:next())
    local new = sse.open(broker(), { topic = topic, last_event_id = from,
      query = { first = frames { { data = "f" } }.first, replay = "no" } })
    assert.equal(last, new.positions[1].id)
    assert.equal("f", new:next().data)
    assert.same({}, new.queue)
  end)

  it("is not sent again when the policy is asked again", function()
    local topic = new_topic()
    local c = sse.open(broker(), { topic = topic })
    assert.equal("put", c:next().type)
    local asked = 'tidegate_policy_resubscribes_total{outcome="same"}'
    local before = broker():metric(asked)
    local path = ("/connections/%s/resubscribe"):format(connections.of(broker(), topic))
    assert.is_true(http.post(broker().admin, path, "").status < 300)
    eventually("it was asked", function() return broker():metric(asked) > before end)
    broker():publish(topic, "next")
    assert.equal("next", c:next().data)
  end)

  it("is shared by streams that begin with the same", function()
    local name, all = "tidegate_streams_first_shared_total", {}
    local topic = new_topic()
    local before = broker():metric(name)
    for i = 1, 2 do
      all[i] = sse.open(broker(), { topic = topic, rcvbuf = 4096, query = { parts = 12 } })
    end
    assert.equal(before + 1, broker():metric(name))
    broker():publish(topic, "behind")
    for _, c in ipairs(all) do
      for _ = 1, 12 do
        assert.is_true(c:next().data == ("x"):rep(1000000))
      end
      assert.equal("behind", c:next().data)
    end
  end)

  it("is in streams that are compressed, too", function()
    local topic = new_topic()
    local c = sse.open(broker(), { topic = topic, gzip = true })
    assert.is_truthy(c.gzip)
    assert.same('{"state":"none"}', c:next().data)
    broker():publish(topic, "more")
    assert.equal("more", c:next().data)
  end)

  it("is refused where it is too large, and the log says what to do", function()
    local r = http.get(broker(), "/events?topic=a&parts=17")
    assert.equal(503, r.status)
    local line = eventually("a line", function()
      return broker():logged { msg = "policy error, nothing was granted" }
    end)
    assert.matches("first%[17%]: all of `first` may have 16777216 bytes %(policy.first_bytes%)", line.error)
  end)
end)
