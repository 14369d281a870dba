-- transports: tls h2tls
-- A client of a pattern can tell which topic an event is of: `envelope` of subscriptions, `sse.topic`.
local connections = require "support.connections"
local http = require "support.http"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

local POLICY = [[
return {
  api = 1,
  authenticate = function() return { sub = "x" } end,
  subscribe = function(req)
    return { topics = req.topics, format = req.query.format or "raw", envelope = req.query.envelope == "1" }
  end,
  publish = function(pub) return pub end,
  formats = {
    upper = function(ev)
      if ev.raw == "left out" then return nil end
      return { data = ev.raw:upper(), event = ev.raw == "named" and "nickname" or nil }
    end,
    rules = { keep = { "a" } },
  },
}
]]

-- What a client of orders/** gets of three events.
local function three(broker)
  local ids = {}
  ids[1] = broker:publish("orders/7", '{"a":1,"b":"hidden"}', { type = "paid", attrs = { secret = "s" } })
  ids[2] = broker:publish("orders/8", "text \"x\"")
  ids[3] = broker:publish("orders/9", "named", { type = "paid" })
  return ids
end

local function envelopes(events)
  local list = {}
  for i, ev in ipairs(events) do
    local value = assert(http.json.decode(ev.data))
    assert.equal("number", type(value.time))
    value.time = nil
    list[i] = { ev.type, value }
  end
  return list
end

describe("an envelope", function()
  local broker = tidegate.shared { policy = POLICY }

  it("says id, topic, type and time beside the data, as the format json does", function()
    local c = sse.open(broker(), { topic = "orders/**", query = { envelope = "1" } })
    local same = sse.open(broker(), { topic = "orders/**", query = { format = "json" } })
    local both = sse.open(broker(), { topic = "orders/**", query = { format = "json", envelope = "1" } })
    local ids = three(broker())
    local events = c:collect(3)
    assert.same({
      { "paid", { id = ids[1], topic = "orders/7", type = "paid", data = { a = 1, b = "hidden" },
        attrs = { secret = "s" } } },
      { "message", { id = ids[2], topic = "orders/8", type = "message", data = 'text "x"', attrs = {} } },
      { "paid", { id = ids[3], topic = "orders/9", type = "paid", data = "named", attrs = {} } },
    }, envelopes(events))
    assert.same(events, same:collect(3))
    assert.same(events, both:collect(3))
  end)

  it("holds what the format made, and nothing that it may have removed", function()
    local query = { format = "upper", envelope = "1" }
    local all = { sse.open(broker(), { topic = "orders/**", query = query }),
      sse.open(broker(), { topic = { "orders/**", "more" }, query = query }) }
    local plain = sse.open(broker(), { topic = "orders/**", query = { format = "upper" } })
    local rules = sse.open(broker(), { topic = "orders/7", query = { format = "rules", envelope = "1" } })
    broker():publish("orders/7", "left out")
    local ids = three(broker())
    for _, c in ipairs(all) do
      assert.same({
        { "paid", { id = ids[1], topic = "orders/7", type = "paid", data = { A = 1, B = "HIDDEN" } } },
        { "message", { id = ids[2], topic = "orders/8", type = "message", data = 'TEXT "X"' } },
        { "nickname", { id = ids[3], topic = "orders/9", type = "nickname", data = "NAMED" } },
      }, envelopes(c:collect(3)))
    end
    local texts = {}
    for i, ev in ipairs(plain:collect(3)) do
      texts[i] = ev.data
    end
    assert.same({ '{"A":1,"B":"HIDDEN"}', 'TEXT "X"', "NAMED" }, texts)
    assert.same({ { "paid", { id = ids[1], topic = "orders/7", type = "paid", data = { a = 1 } } } },
      envelopes(rules:collect(1)))
  end)

  it("is shown to operators", function()
    sse.open(broker(), { topic = "shown", query = { envelope = "1" } })
    local id = connections.of(broker(), "shown")
    for _, c in ipairs(http.get(broker().admin, "/connections").json.connections) do
      assert.is_true(c.id ~= id or c.envelope)
    end
  end)
end)

-- What a page of history says of each event: the object, without its time.
local function page(broker, query)
  query.topic, query.last_event_id = "orders/**", "earliest"
  local r = http.get(broker, "/events?" .. http.query(query), { Accept = "application/json" })
  assert.equal(200, r.status, r.body)
  for _, event in ipairs(r.json.events) do
    event.time = nil
  end
  return r.json.events
end

describe("a page of history", function()
  it("has an envelope once, and types whatever sse.topic says", function()
    local broker = tidegate.start { policy = POLICY, config = { sse = { topic = "event" } } }
    local ids = three(broker)
    local enveloped = page(broker, { format = "upper", envelope = "1" })
    assert.same({ id = ids[1], topic = "orders/7", type = "paid", data = { A = 1, B = "HIDDEN" } }, enveloped[1])
    assert.same({ id = ids[3], topic = "orders/9", type = "nickname", data = "NAMED" }, enveloped[3])
    assert.equal("paid", page(broker, {})[1].type)
    assert.equal("nickname", page(broker, { format = "upper" })[3].type)
  end)
end)

describe("sse.topic", function()
  local large = ("x"):rep(20000)

  local function start(how)
    local broker = tidegate.start { policy = POLICY, config = { sse = { topic = how } } }
    local plain = sse.open(broker, { topic = "orders/**", keep_bytes = true })
    local named = sse.open(broker, { topic = "orders/**", query = { format = "upper" } })
    three(broker)
    broker:publish("orders/10", large)
    return plain, named, plain:collect(4), named:collect(4)
  end

  local function types(events)
    local list = {}
    for i, ev in ipairs(events) do
      list[i] = ev.type
    end
    return list
  end

  it("as a comment is seen by people, and changes nothing for programs", function()
    local plain, named, events, formatted = start "comment"
    assert.same({ "topic orders/7", "topic orders/8", "topic orders/9", "topic orders/10" }, plain.comments)
    assert.same(plain.comments, named.comments)
    assert.same({ "paid", "message", "paid", "message" }, types(events))
    assert.same({ "paid", "message", "nickname", "message" }, types(formatted))
    assert.matches('\n:topic orders/7\nid: %d+\nevent: paid\ndata: {"a":1,', plain:bytes())
    assert.is_true(events[4].data == large)
  end)

  it("as the name of the event replaces its type, but not the name that a format gave", function()
    local plain, _, events, formatted = start "event"
    assert.same({ "orders/7", "orders/8", "orders/9", "orders/10" }, types(events))
    assert.same({ "orders/7", "orders/8", "nickname", "orders/10" }, types(formatted))
    assert.same({}, plain.comments)
    assert.is_true(events[4].data == large)
  end)
end)
