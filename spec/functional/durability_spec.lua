-- Promises P1, P2, P4: the broker is killed again and again under load; what was acknowledged reaches
-- every subscriber that keeps reconnecting, exactly once, in an order that never changes.
local eventually = require "support.eventually"
local http = require "support.http"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

local SEED = tonumber(os.getenv "TIDEGATE_SPEC_SEED") or os.time()
local KILLS = 20

-- Publishes without end: several requests in flight. Request n is one event, or, every fifth, a batch of
-- three. Every second request has keys and is repeated until it is acknowledged; the others are given up
-- when the connection breaks: they may exist or not.
local load_maker = {}
load_maker.__index = load_maker

-- acked: data -> id
local function new_load(broker)
  return setmetatable({
    broker = broker, n = 0, acked = {}, acked_count = 0, retry = {}, in_flight = {}, interrupted = 0,
  }, load_maker)
end

local function topic_of(data)
  return tonumber(data:match "^e(%d+)") % 3
end

-- The data of request n, a list.
local function data_of(n)
  local first = "e" .. n
  return n % 5 == 0 and { first, first .. "/2", first .. "/3" } or { first }
end

local function request_of(n)
  local list, keyed = data_of(n), n % 2 == 0
  local topic = "load/" .. n % 3
  if #list == 1 then
    return http.render("POST", "/events?topic=" .. topic, keyed and { ["Idempotency-Key"] = list[1] } or nil, list[1])
  end
  for i, data in ipairs(list) do
    list[i] = http.json.encode { topic = topic, data = data, key = keyed and data or nil }
  end
  return http.render("POST", "/events", { ["Content-Type"] = "application/x-ndjson" }, table.concat(list, "\n"))
end

function load_maker:send_one()
  local n = table.remove(self.retry, 1)
  if not n then
    self.n = self.n + 1
    n = self.n
  end
  -- counted before it is sent: bytes of a failed send may have arrived
  self.in_flight[#self.in_flight + 1] = n
  return self.conn:send(request_of(n), 0.5)
end

function load_maker:broken()
  if self.conn then
    self.conn:close()
    self.conn = nil
  end
  self.interrupted = self.interrupted + #self.in_flight
  for _, n in ipairs(self.in_flight) do
    if n % 2 == 0 then
      self.retry[#self.retry + 1] = n
    end
  end
  self.in_flight = {}
end

-- One answer. false: none within `timeout`, or the connection is broken.
function load_maker:receive(timeout)
  local ok, r = pcall(self.conn.response, self.conn, { timeout = timeout })
  if not ok or not r then
    return false
  end
  assert.is_true(r.status == 201 or r.status == 200, r.status .. r.body)
  local list = data_of(table.remove(self.in_flight, 1))
  local acks = #list == 1 and { r.json } or r.json
  assert.equal(#list, #acks)
  for i, data in ipairs(list) do
    assert.is_nil(self.acked[data], "acknowledged twice")
    self.acked[data] = acks[i].id
    self.acked_count = self.acked_count + 1
  end
  return true
end

-- Keeps up to 16 requests in flight and takes what answers are there.
function load_maker:step()
  if not self.conn then
    self.conn = http.connect(self.broker)
    if not self.conn then
      return
    end
  end
  while #self.in_flight < 16 do
    if not self:send_one() then
      return self:broken()
    end
  end
  if not self:receive(2) then
    self:broken()
  end
end

describe("a broker that is killed " .. KILLS .. " times under load", function()
  it("loses nothing it acknowledged, doubles nothing, and never reuses an id", function()
    math.randomseed(SEED)
    local broker = tidegate.start { config = { event_log = { max_events = 64, page_events = 16 },
      sse = { retry_ms = 100 } } }
    local load = new_load(broker)
    local start = sse.open(broker, { topic = "load/**" }).start_id
    local followers = {
      sse.follower(broker, { topic = "load/**", last_event_id = start }),
      sse.follower(broker, { topic = "load/*", last_event_id = start, rcvbuf = 4096 }),
      sse.follower(broker, { topic = { "load/0", "load/1", "load/2" }, query = { last_event_id = "earliest" } }),
      sse.follower(broker, { topic = "load/1", last_event_id = start }),
    }
    local topics = { nil, nil, nil, 1 }

    for _ = 1, KILLS do
      local wanted = load.acked_count + math.random(5, 60)
      eventually("some more are acknowledged", function()
        load:step()
        for _, f in ipairs(followers) do
          f:step()
        end
        return load.acked_count >= wanted
      end, 20)
      for _ = 1, math.random(0, 6) do -- in the middle of something
        load:send_one()
      end
      broker:kill()
      load:broken()
      for _, f in ipairs(followers) do -- what was sent before the end is there to be read
        f:step()
      end
      broker:start()
    end
    eventually("everything with a key is acknowledged", function()
      if not load.conn then
        load.conn = http.connect(broker)
      end
      if #load.retry > 0 then
        load:send_one()
      end
      while #load.in_flight > 0 and load:receive(1) do
      end
      return #load.retry == 0 and #load.in_flight == 0
    end)
    broker:publish("load/0", "end")
    broker:publish("load/1", "end")
    for i, f in ipairs(followers) do
      eventually("follower " .. i .. " is at the end", function()
        f:step()
        local last = f.events[#f.events]
        return last and last.data == "end" and (topics[i] or f.events[#f.events - 1].data == "end")
      end, 20)
    end

    assert.is_true(load.interrupted > KILLS, "the broker was busy when it was killed")
    local payload_of, note = {}, ("seed %d"):format(SEED)
    for data, id in pairs(load.acked) do
      assert.is_nil(payload_of[id], note)
      payload_of[id] = data
    end
    for i, f in ipairs(followers) do
      assert.is_true(f.connects > KILLS, "it came back every time")
      local last, seen = 0, {}
      for _, ev in ipairs(f.events) do
        assert.equal("message", ev.type, note) -- no gap
        assert.is_true(tonumber(ev.id) > last, ("%s: id %s after %d"):format(note, ev.id, last))
        last = tonumber(ev.id)
        if ev.data ~= "end" then
          assert.is_nil(seen[ev.data], note .. ": twice: " .. ev.data)
          seen[ev.data] = ev.id
          assert.is_true(payload_of[ev.id] == nil or payload_of[ev.id] == ev.data, note .. ": an id with two payloads")
          payload_of[ev.id] = ev.data
        end
      end
      for data, id in pairs(load.acked) do
        if not topics[i] or topic_of(data) == topics[i] then
          assert.equal(id, seen[data], ("%s: follower %d, event %s"):format(note, i, data))
        end
      end
      for n = 5, load.n, 5 do -- a batch is there as a whole, or not at all
        local list = data_of(n)
        assert.equal(seen[list[1]] == nil, seen[list[2]] == nil, note)
        assert.equal(seen[list[1]] == nil, seen[list[3]] == nil, note)
      end
    end
    -- what nobody was told about is seen by all or by none
    local first = {}
    for _, ev in ipairs(followers[1].events) do
      first[#first + 1] = ev.id
    end
    for i = 2, 3 do
      local ids = {}
      for _, ev in ipairs(followers[i].events) do
        ids[#ids + 1] = ev.id
      end
      assert.same(first, ids)
    end
  end)
end)

describe("a store that is new", function()
  it("does not hand out the ids of the one it replaces; who holds one of those is told", function()
    local first = tidegate.start()
    local id = first:publish("a", "old")
    first:stop()
    -- ids begin at what the clock says, to the second
    local now = os.time()
    eventually("the next second", function() return os.time() > now end)
    local second = tidegate.start()
    local c = sse.open(second, { topic = "a", last_event_id = id })
    local new = second:publish("a", "new")
    assert.is_true(tonumber(new) > tonumber(id))
    local ev = c:next()
    assert.equal("gap", ev.type)
    assert.equal("reset", http.json.decode(ev.data).reason)
    assert.equal("new", c:next().data)
  end)
end)
