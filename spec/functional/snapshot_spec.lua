-- transports: tls h2tls
-- Streams that begin with the newest event of each topic (store.latest, start = "latest"), and those that are sent it
-- because retention, or their own slowness, took the events between.
local eventually = require "support.eventually"
local http = require "support.http"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

local SEED = tonumber(os.getenv "TIDEGATE_SPEC_SEED") or os.time()

local POLICY = [[
return {
  api = 1,
  authenticate = function() return { sub = "x" } end,
  subscribe = function(req)
    local q = req.query
    return { topics = req.topics, filter = q.filter or "none", start = q.start or "latest",
      limits = q.lag and { max_lag = tonumber(q.lag), on_lag = "latest", events_per_s = 2 } or nil }
  end,
  publish = function(pub) return pub end,
  filters = { even = "topic == 'score/2' or topic == 'score/4' or topic == 'score/6'" },
}
]]

local function start(config, latest)
  config = config or {}
  config.store = config.store or {}
  config.store.latest = latest or { "score/*", "tick/**" }
  return tidegate.start { policy = POLICY, config = config }
end

local function told(events)
  local list = {}
  for i, ev in ipairs(events) do
    list[i] = ev.type == "live" and "live" or ev.data
  end
  return table.concat(list, " ")
end

--- Events up to `live`, and its id.
local function snapshot(c)
  local list = {}
  while true do
    local ev = c:next(30)
    if ev.type == "live" then
      assert.equal(('{"position":"%s"}'):format(ev.id), ev.data)
      return list, ev.id
    end
    list[#list + 1] = ev
  end
end

describe("a stream that starts with the newest events", function()
  it("gets that of each topic with its own id, then live, then what comes", function()
    local broker = start()
    local ids = {}
    for _, e in ipairs { { "score/1", "1:0" }, { "score/2", "0:0" }, { "tick/a/b", "7" }, { "score/1", "1:1" },
      { "other", "x" }, { "score/3", "gone" }, { "score/3", "" } } do
      ids[e[2]] = broker:publish(e[1], e[2])
    end
    local c = sse.open(broker, { topic = "score/*" })
    local list, head = snapshot(c)
    assert.equal("0:0 1:1", told(list))
    assert.same({ ids["0:0"], ids["1:1"] }, { list[1].id, list[2].id })
    assert.equal(ids[""], head)
    broker:publish("score/2", "")
    broker:publish("tick/c", "8")
    broker:publish("score/3", "back")
    local live = c:collect(2)
    assert.same({ "", "back" }, { live[1].data, live[2].data })
    eventually("a snapshot is of now", function() -- for a moment those that begin share one
      return told((snapshot(sse.open(broker, { topic = "score/*" })))) == "1:1 back"
    end)
    assert.equal("7 8", told((snapshot(sse.open(broker, { topic = "tick/**" })))))
    assert.equal("1:1", told((snapshot(sse.open(broker, { topic = "score/1" })))))
    assert.equal("", told((snapshot(sse.open(broker, { topic = "other" }))))) -- none that the store keeps
    assert.equal("7", told((snapshot(sse.open(broker, { topic = "tick/a/*" })))))
    assert.is_true(broker:metric "tidegate_snapshots_total" >= 6)
    local resumed = sse.open(broker, { topic = "score/*", last_event_id = c.last_id })
    broker:publish("score/1", "1:2")
    assert.equal("1:2", resumed:next().data)
  end)

  it("passes the filter, and is bounded by the rate of the stream like any history", function()
    local broker = start()
    for i = 1, 6 do
      broker:publish("score/" .. i, "v" .. i)
    end
    local list = snapshot(sse.open(broker, { topic = "score/*", query = { filter = "even" } }))
    assert.equal("v2 v4 v6", told(list))
  end)

  it("outlives retention and restarts; where the policy says so it starts elsewhere", function()
    local broker = start { store = { retain_events = 3 } }
    broker:publish("score/1", "kept")
    local last
    for i = 1, 20 do
      last = broker:publish("other", "o" .. i)
    end
    eventually("the older ones are gone", function()
      return broker:metric "tidegate_store_retention_removed_total" >= 18
    end, 30)
    broker:restart()
    assert.equal("kept", told((snapshot(sse.open(broker, { topic = "score/*" })))))
    assert.equal("o20", sse.open(broker, { topic = "other",
      query = { start = ("%d"):format(math.tointeger(last) - 1) } }):next().data)
    assert.equal("o20", sse.open(broker, { topic = "other", query = { start = "earliest" } }):collect(3)[3].data)
    local now = sse.open(broker, { topic = "score/*", query = { start = "now" } })
    broker:publish("score/1", "new")
    assert.equal("new", now:next().data)
  end)

  it("is refused for now where the store keeps none, and the log says what to do", function()
    local broker = tidegate.start { policy = POLICY }
    local refused = sse.request(broker, { topic = "score/*" })
    eventually("it is refused", function()
      return broker:metric 'tidegate_refused_transient_total{reason="policy"}' == 1
    end)
    assert.matches('start = "latest" needs store.latest', (broker:log():gsub('\\"', '"')), 1, true)
    refused:close()
    local c = sse.open(broker, { topic = "score/*", query = { start = "now" } })
    broker:publish("score/1", "x")
    assert.equal("x", c:next().data)
  end)

  it("reads a page once for all that begin within a moment", function()
    local broker = start { event_log = { page_events = 10 } }
    local batch = {}
    for i = 1, 100 do
      batch[i] = { topic = "score/" .. i, data = "v" .. i }
    end
    broker:publish_all(batch)
    local clients = {}
    for i = 1, 40 do
      clients[i] = assert(sse.start(broker, { topic = "score/*" }))
    end
    for _, c in ipairs(clients) do
      assert.equal(100, #(snapshot(c)))
    end
    -- 10 pages a snapshot; each client for itself would have read 400
    local read = broker:metric "tidegate_store_pages_read_total"
    assert.is_true(read <= 200, ("%d pages read"):format(read))
  end)

  -- Everything that was ever published, in order: { id, topic, data }.
  local function publisher(broker, topics)
    local pub = { conn = http.connect(broker), log = {} }
    function pub:burst(n)
      local lines, batch = {}, {}
      for i = 1, n do
        local e = { topic = "score/" .. math.random(topics) }
        e.data = math.random() < 0.2 and "" or tostring(#self.log + i)
        batch[i], lines[i] = e, http.json.encode(e)
      end
      assert(self.conn:send(http.render("POST", "/events", { ["Content-Type"] = "application/x-ndjson" },
        table.concat(lines, "\n"))))
      self.pending = batch
    end
    function pub:settle()
      local r = assert(self.conn:response())
      assert.equal(201, r.status)
      for i, ack in ipairs(r.json) do
        self.pending[i].id = math.tointeger(tonumber(ack.id))
        self.log[#self.log + 1] = self.pending[i]
      end
    end
    function pub:state(upto)
      local state = {}
      for _, e in ipairs(self.log) do
        if e.id <= upto then
          state[e.topic] = e.data ~= "" and e or nil
        end
      end
      return state
    end
    return pub
  end

  -- `events` are what a client got from the beginning on: a snapshot that ends at `head`, and then the log.
  local function check(pub, snapshot_events, head, live, label)
    local state, seen, last = pub:state(head), {}, 0
    for _, ev in ipairs(snapshot_events) do
      local id = math.tointeger(tonumber(ev.id))
      assert.is_true(id > last and id <= head, label .. ": ids rise up to the head")
      last = id
      local e
      for _, x in pairs(state) do
        e = x.id == id and x or e
      end
      assert.is_table(e, ("%s: %s is the newest of no topic"):format(label, ev.data))
      assert.equal(e.data, ev.data)
      seen[e.topic] = true
    end
    local newer, expected = {}, {}
    for _, e in ipairs(pub.log) do
      if e.id > head then
        newer[e.topic] = true
        expected[#expected + 1] = e.data
      end
    end
    for topic in pairs(state) do
      assert.is_true(seen[topic] or newer[topic], ("%s: %s is missing"):format(label, topic))
    end
    local got = {}
    for i, ev in ipairs(live) do
      got[i] = ev.data
    end
    assert.same(expected, got, label)
  end

  for _, log in ipairs { { max_events = 16, page_events = 4 }, { max_events = 4096, page_events = 1000 } } do
    it("loses and doubles nothing while events are published, with a log of " .. log.max_events, function()
      math.randomseed(SEED)
      local broker = start { event_log = log }
      local pub = publisher(broker, 40)
      pub:burst(200)
      pub:settle()
      local clients = {}
      for i = 1, 40 do
        pub:burst(math.random(1, 30))
        clients[i] = assert(sse.start(broker, { topic = "score/*" }))
        if i % 3 == 0 then
          clients[i - 1]:pump(1)
        end
        pub:settle()
      end
      for i, c in ipairs(clients) do
        local list, head = snapshot(c)
        head = math.tointeger(tonumber(head))
        local behind = 0
        for _, e in ipairs(pub.log) do
          behind = behind + (e.id > head and 1 or 0)
        end
        check(pub, list, head, c:collect(behind, 30), ("client %d, seed %d"):format(i, SEED))
        assert.equal(0, #c.queue)
      end
    end)
  end

  it("leads to the newest of all topics also for who is cut off in the middle, again and again", function()
    math.randomseed(SEED)
    local broker = start { event_log = { max_events = 16, page_events = 3 } }
    local pub = publisher(broker, 30)
    pub:burst(300)
    pub:settle()
    for round = 1, 25 do
      local state, last, id, id_of = {}, 0, nil, {}
      local function take(c)
        for _, ev in ipairs(c.queue) do
          local at = math.tointeger(tonumber(ev.id))
          if ev.type == "live" then -- may be at the last event of the snapshot
            assert.is_true(at >= last)
          else
            assert.is_true(at > last, "ids rise over reconnects, seed " .. SEED)
            id_of[at] = ev
          end
          last = at
        end
        c:drop(#c.queue)
      end
      for cut = 1, 4 do
        local c = assert(sse.start(broker, { topic = "score/*", last_event_id = id }))
        if cut % 2 == 0 then
          pub:burst(math.random(1, 40))
        end
        local some = cut == 1 and math.random(1, 12) or 0
        c:wait("some of it", function() return #c.queue >= some and #c.blocks > 0 end, 30)
        take(c)
        id = c.last_id
        c:close()
        if cut % 2 == 0 then
          pub:settle()
        end
      end
      local c = assert(sse.start(broker, { topic = "score/*", last_event_id = id }))
      local newest = pub.log[#pub.log].id
      c:wait("the newest", function()
        return (tonumber(c.last_id) or 0) >= newest
      end, 30)
      take(c)
      for _, e in ipairs(pub.log) do -- what this client knows
        if id_of[e.id] then
          state[e.topic] = e.data ~= "" and e.data or nil
        end
      end
      local expected = {}
      for topic, e in pairs(pub:state(newest)) do
        expected[topic] = e.data
      end
      assert.same(expected, state, ("round %d, seed %d"):format(round, SEED))
      c:close()
    end
  end)
end)

describe("a stream of newest events whose position is gone", function()
  it("gets what is newer than it, said as a gap that is compacted, then live", function()
    local broker = start { store = { retain_events = 2 } }
    broker:publish("score/1", "a")
    local id = broker:publish("score/2", "b")
    broker:publish("score/3", "c")
    for i = 1, 20 do
      broker:publish("score/4", "d" .. i)
    end
    eventually("the older ones are gone", function()
      return broker:metric "tidegate_store_retention_removed_total" >= 21
    end, 30)
    broker:restart() -- its event log is empty now
    local c = sse.open(broker, { topic = "score/*", last_event_id = id })
    local gap = c:next()
    assert.equal("gap", gap.type)
    assert.same({ reason = "compacted", requested = id, resumed_from = id }, http.json.decode(gap.data))
    assert.equal(id, gap.id)
    local list = snapshot(c)
    assert.equal("c d20", told(list))
    broker:publish("score/1", "e")
    assert.equal("e", c:next().data)
    local other = sse.open(broker, { topic = "score/*", last_event_id = id, query = { start = "now" } })
    assert.equal("expired", http.json.decode(other:next().data).reason)
  end)
end)

describe("a stream that is too far behind", function()
  it("gets the newest event of each topic above its place, and goes on", function()
    local broker = start()
    broker:publish("score/1", "old")
    local c = sse.open(broker, { topic = "score/*", query = { lag = "10", start = "now" } })
    broker:publish("score/1", "first")
    assert.equal("first", c:next().data)
    local batch = {}
    for i = 1, 200 do
      batch[i] = { topic = "score/" .. i % 3, data = "v" .. i }
    end
    broker:publish_all(batch)
    local list = {}
    repeat
      list[#list + 1] = c:next(30)
    until list[#list].data == "v200" or #list > 20
    local gaps, datas = 0, {}
    for _, ev in ipairs(list) do
      if ev.type == "gap" then
        gaps = gaps + 1
        assert.equal("compacted", http.json.decode(ev.data).reason)
        assert.equal(http.json.decode(ev.data).resumed_from, ev.id)
        datas = {}
      else
        datas[#datas + 1] = ev.data
      end
    end
    assert.equal(1, gaps)
    assert.same({ "v198", "v199", "v200" }, datas)
    assert.equal("live", c:next(30).type)
    broker:publish("score/9", "live again")
    assert.equal("live again", c:next(30).data)
    assert.equal(1, broker:metric "tidegate_lag_skips_total")
  end)

  it("gets them also where it was never at the head, and after a reload", function()
    local broker = start()
    for i = 1, 4 do
      broker:publish("score/" .. i, "old" .. i)
    end
    local function put_more(name)
      local batch = {}
      for i = 1, 60 do
        batch[i] = { topic = "score/" .. 1 + i % 2, data = name .. i }
      end
      broker:publish_all(batch)
    end
    local c = sse.open(broker, { topic = "score/*", query = { lag = "10" } })
    assert.equal("old1", c:next(30).data)
    put_more "a" -- more comes than it may have, all the time
    snapshot(c)
    assert.equal("gap", c:next(30).type)
    put_more "b"
    assert.equal(200, broker:reload("-- another\n" .. POLICY).status)
    local list = {}
    repeat
      list[#list + 1] = c:next(30)
    until list[#list].data == "b60" or #list > 20
    assert.equal("b59 b60", told { list[#list - 1], list[#list] })
    assert.equal(2, broker:metric "tidegate_lag_skips_total")
  end)
end)

describe("a publish to a topic beyond store.latest_topics", function()
  it("gets 507 and the reason, is counted, and another's does not", function()
    local broker = start { store = { latest_topics = 2 } }
    broker:publish("score/1", "a")
    broker:publish("score/2", "a")
    local r = http.post(broker, "/events", http.json.encode { topic = "score/3", data = "no" },
      { ["Content-Type"] = "application/json" })
    assert.equal(507, r.status)
    assert.matches("store.latest_topics", r.body, 1, true)
    broker:publish("score/1", "b")
    broker:publish("other", "fine")
    broker:publish("score/1", "")
    broker:publish("score/3", "now there is room")
    assert.equal(1, broker:metric "tidegate_store_latest_refused_total")
    assert.equal(200, http.get(broker.admin, "/readyz").status)
  end)
end)
