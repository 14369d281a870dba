-- transports: tls h2tls
-- Readers that do not read: they cost nobody else, and bounded memory; then they get everything.
local eventually = require "support.eventually"
local http = require "support.http"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

local KIB = 1024
local SMALL = {
  sse = { turn_bytes = 64 * KIB, dead_peer_s = 120 },
  event_log = { max_events = 64, max_bytes = 1024 * KIB, page_events = 16, page_bytes = 256 * KIB,
    page_cache_bytes = 1024 * KIB },
  limits = { send_buffer_bytes = 16 * KIB, event_bytes = 256 * KIB, body_bytes = 1024 * KIB },
}
-- freed memory goes back soon, so that resident memory tells something under the sanitizer
local ENV = { ASAN_OPTIONS = "quarantine_size_mb=1:exitcode=86:" .. (os.getenv "ASAN_OPTIONS" or "") }

local function with(base, over)
  local out = {}
  for section, fields in pairs(base) do
    out[section] = {}
    for k, v in pairs(fields) do
      out[section][k] = v
    end
    for k, v in pairs(over[section] or {}) do
      out[section][k] = v
    end
  end
  return out
end

local function payload(i, size)
  return ("%06d"):format(i) .. ("x"):rep(size - 6)
end

-- Publishes events from..to of `size` bytes on one connection; returns their ids.
local function flood(broker, topic, from, to, size)
  local c = http.connect(broker)
  local ids = {}
  for i = from, to do
    local r = assert(c:request("POST", "/events?topic=" .. topic, nil, payload(i, size)))
    assert.equal(201, r.status)
    ids[#ids + 1] = tonumber(r.json.id)
  end
  c:close()
  return ids
end

-- What a stream got, against the ids of all that was published: in order, no event twice, and whatever is missing
-- is announced by a gap that stands in its place and spans exactly what is missing. Returns the number of gaps.
local function check_announced(events, published)
  local at, gaps = 1, 0
  for _, ev in ipairs(events) do
    if ev.type == "gap" then
      local told = http.json.decode(ev.data)
      assert.equal("lagged", told.reason)
      assert.equal(ev.id, told.resumed_from)
      assert.equal(published[at - 1], tonumber(told.requested), "the hole does not begin where the stream stood")
      local upto = tonumber(told.resumed_from)
      assert.is_true(upto >= published[at], "nothing is missing here")
      while published[at] and published[at] <= upto do
        at = at + 1
      end
      gaps = gaps + 1
    else
      assert.equal(published[at], tonumber(ev.id), "left out without a gap, twice, or out of order")
      at = at + 1
    end
  end
  assert.equal(#published + 1, at, "the end is missing")
  return gaps
end

local function numbers(events)
  local list = {}
  for i, ev in ipairs(events) do
    list[i] = tonumber(ev.data:sub(1, 6))
  end
  return list
end

local function range(from, to)
  local list = {}
  for i = from, to do
    list[#list + 1] = i
  end
  return list
end

describe("a reader that stops reading", function()
  it("costs bounded memory, harms nobody, and gets everything in the end", function()
    local broker = tidegate.start { config = SMALL, env = ENV }
    flood(broker, "warm", 1, 300, 64 * KIB) -- until the database's own cache is full
    local stalled = {}
    for i = 1, 6 do
      stalled[i] = sse.open(broker, { topic = "flood", rcvbuf = 4096 })
    end
    local before = broker:memory_kb()
    local fast = sse.open(broker, { topic = "flood" })
    for round = 0, 9 do -- 12 MiB for each of them; the fast one keeps up
      flood(broker, "flood", round * 20 + 1, round * 20 + 20, 64 * KIB)
      assert.same(range(round * 20 + 1, round * 20 + 20), numbers(fast:collect(20)))
    end
    local grown = broker:memory_kb() - before
    local most = 10 * KIB -- with TLS, sessions, and AddressSanitizer's memory of what was freed; all of it were 72 MiB
    assert.is_true(grown < most, ("memory grew by %d KiB while 6 readers were 12 MiB behind"):format(grown))
    assert.equal(6, broker:metric "tidegate_subscribers_behind")
    for i, c in ipairs(stalled) do
      assert.same(range(1, 200), numbers(c:collect(200, 30)), "reader " .. i)
    end
    eventually("nobody is behind", function() return broker:metric "tidegate_subscribers_behind" == 0 end)
  end)

  local function closed_and_back(log_bytes)
    local broker = tidegate.start { config = with(SMALL, {
      sse = { max_lag_events = 50, on_lag = "close" }, event_log = { max_bytes = log_bytes },
    }) }
    local c = sse.open(broker, { topic = "lag", rcvbuf = 4096 })
    flood(broker, "lag", 1, 150, 32 * KIB)
    eventually("it is given up", function() return broker:metric "tidegate_subscribers" == 0 end)
    c:wait_end() -- the event that was under way is finished first
    assert.equal(1, broker:metric 'tidegate_connections_closed_total{reason="lagged"}')
    local got = #c.queue
    assert.is_true(got < 150)
    assert.same(range(1, got), numbers(c:collect(got)))
    -- more than max_lag behind, it must be able to come back all the same
    local seen = got
    local id = c.last_id
    for _ = 1, 20 do
      if seen == 150 then
        break
      end
      local back = sse.open(broker, { topic = "lag", last_event_id = id })
      back:wait("the rest", function() return #back.queue >= 150 - seen or back.ended end)
      assert.same(range(seen + 1, seen + #back.queue), numbers(back.queue))
      seen, id = seen + #back.queue, back.last_id
      back:close()
    end
    assert.equal(150, seen)
  end

  it("is closed beyond max_lag where the configuration says so, and resumes without loss", function()
    closed_and_back(8 * 1024 * KIB)
  end)

  it("is closed beyond max_lag, too, where the event log holds fewer events than that", function()
    closed_and_back(1024 * KIB)
  end)

  it("is not held responsible for what was published before it came", function()
    local broker = tidegate.start { config = with(SMALL, {
      sse = { max_lag_events = 200, on_lag = "close" }, event_log = { max_events = 16 },
      limits = { head_timeout_s = 2 },
    }) }
    flood(broker, "other", 1, 300, 6)
    local c = sse.open(broker, { topic = "lag", rcvbuf = 4096 })
    local batch = {}
    for i = 1, 25 do -- one commit, more than the event log holds
      batch[i] = { topic = "lag", data = payload(i, 32 * KIB) }
    end
    broker:publish_all(batch)
    eventually("it is behind", function() return broker:metric "tidegate_subscribers_behind" == 1 end)
    flood(broker, "other", 301, 400, 6)
    assert.is_true(http.connect(broker):closed(5)) -- by its timeout: meanwhile the rule was applied
    assert.same(range(1, 25), numbers(c:collect(25, 20)))
    assert.equal(0, broker:metric 'tidegate_connections_closed_total{reason="lagged"}')
  end)

  it("skips to the newest event where the configuration says that, and each hole is announced by a gap", function()
    local broker = tidegate.start { config = with(SMALL, {
      sse = { max_lag_events = 50, on_lag = "skip" }, event_log = { max_bytes = 8 * 1024 * KIB },
    }) }
    local first, second = sse.open(broker, { topic = "lag", rcvbuf = 4096 }),
      sse.open(broker, { topic = "lag", rcvbuf = 4096 })
    local published, got = {}, { [first] = {}, [second] = {} }
    local function publish(from, to, size)
      table.move(flood(broker, "lag", from, to, size), 1, to - from + 1, #published + 1, published)
    end
    publish(1, 1, 6)
    for round = 1, 3 do
      publish(round * 1000, round * 1000 + 149, 32 * KIB)
      for _, c in ipairs { first, second } do
        c:wait("its gap", function()
          for _, ev in ipairs(c.queue) do
            if ev.type == "gap" then
              return true
            end
          end
        end, 20)
      end
      publish(round * 1000 + 500, round * 1000 + 500, 6)
      for c, list in pairs(got) do
        local mark = payload(round * 1000 + 500, 6)
        table.move(c:collect_until(mark, 20), 1, 1000, #list + 1, list)
        list[#list + 1] = { type = "message", id = tostring(published[#published]) }
      end
    end
    local gaps = 0
    for _, list in pairs(got) do
      local n = check_announced(list, published)
      assert.is_true(n >= 3, n .. " gaps in three rounds")
      gaps = gaps + n
    end
    assert.same({ gaps, gaps }, { broker:metric "tidegate_gaps_total", broker:metric "tidegate_lag_skips_total" })
  end)
end)

describe("limits of one stream", function()
  local broker = tidegate.shared { policy = [[
    local P = { api = 1 }
    function P.authenticate(req) return { per_s = req.query.per_s, max_lag = req.query.max_lag } end
    function P.subscribe(req, who)
      return { topics = req.topics, limits = { events_per_s = tonumber(who.per_s),
        max_lag = tonumber(who.max_lag), on_lag = who.max_lag and "skip" or nil } }
    end
    function P.publish(pub) return pub end
    return P
  ]] }

  local function publish(topic, n)
    local batch = {}
    for i = 1, n do
      batch[i] = { topic = topic, data = tostring(i) }
    end
    broker():publish_all(batch) -- one commit: they are behind by all of it, or not at all
  end

  it("let it be behind by max_lag events, not by one more", function()
    local function open(topic)
      local c = sse.open(broker(), { topic = topic, query = { per_s = "500", max_lag = "20" } })
      publish(topic, 1) -- from now on it is one that was caught up
      c:next()
      eventually("it is caught up", function() return broker():metric "tidegate_subscribers_behind" == 0 end)
      return c
    end
    local c = open "exact"
    publish("exact", 20)
    for i, ev in ipairs(c:collect(20)) do
      assert.same({ "message", tostring(i) }, { ev.type, ev.data })
    end
    c:close()
    c = open "more"
    publish("more", 21)
    assert.equal("gap", c:next().type)
    publish("more", 1)
    assert.equal("1", c:next().data)
    c:close()
  end)

  it("let it make up for a second of silence at once, not for more", function()
    local c = sse.open(broker(), { topic = "pace", query = { per_s = "200" } })
    publish("pace", 1)
    c:next()
    eventually.pass(2, "the time in which a stream saves up what it may be sent")
    local from = eventually.now()
    publish("pace", 400)
    c:collect(400)
    assert.is_true(eventually.now() - from > 0.9, "400 events came sooner than 200 + 200 a second can")
    c:close()
  end)
end)

describe("a replay", function()
  it("is written in pieces of turn_bytes, so that others have their turns", function()
    local broker = tidegate.start { config = { sse = { turn_bytes = 8192 } } }
    local batch = {}
    for i = 1, 256 do
      batch[i] = { topic = "a", data = i .. (" "):rep(2000) }
    end
    broker:publish_all(batch)
    local before = broker:metric "tidegate_writes_total"
    local c = sse.open(broker, { topic = "a", last_event_id = "earliest", rcvbuf = 4 << 20 })
    c:collect(256)
    -- each piece ends with the event that makes it full: 10 KiB at most
    assert.is_true(broker:metric "tidegate_writes_total" - before >= 256 * 2000 / (10 * 1024))
    c:close()
  end)
end)

describe("a fast publisher and many readers at different speeds", function()
  it("get everything in order", function()
    local broker = tidegate.start { config = SMALL }
    local clients = {}
    for i = 1, 8 do
      clients[i] = sse.open(broker, { topic = "speed", rcvbuf = i % 2 == 0 and 4096 or nil })
    end
    local c = http.connect(broker)
    for i = 1, 200 do
      assert.equal(201, c:request("POST", "/events?topic=speed", nil, payload(i, 8 * KIB)).status)
      for k, reader in ipairs(clients) do
        if i % k == 0 then
          reader:pump(1)
        end
      end
    end
    for k, reader in ipairs(clients) do
      assert.same(range(1, 200), numbers(reader:collect(200, 20)), "reader " .. k)
    end
  end)
end)

describe("a slow reader of a stream that is told positions and the newest of each interval", function()
  it("gets all that in the order of ids", function()
    local broker = tidegate.start { policy = [[
return {
  api = 1,
  authenticate = function() return {} end,
  subscribe = function(req)
    return { topics = req.topics, filter = "mine", limits = req.query.every and { every_s = 0.25 } or nil }
  end,
  publish = function(pub) return pub end,
  filters = { mine = "not has(attrs.other)" },
}]], config = { limits = { send_buffer_bytes = 4 * KIB },
      sse = { heartbeat_s = 1, position_s = 1, dead_peer_s = 60 } } }
    local clients = {}
    for i = 1, 4 do
      clients[i] = sse.open(broker, { topic = "v/*", rcvbuf = 4096, query = { every = i % 2 == 0 and "1" or nil } })
    end
    local filler, n, until_s = ("x"):rep(2000), 0, eventually.now() + 4.5
    while eventually.now() < until_s do
      n = n + 1
      local other = until_s - eventually.now() > 2 -- nothing is for them, and they are told positions
      broker:publish("v/" .. n % 5, n .. " " .. filler, { attrs = { other = other and "1" or nil } })
      clients[n % 4 + 1]:pump(n % 16 < 4 and 1 or 0)
    end
    broker:publish("v/0", "end")
    local positions = 0
    for i, c in ipairs(clients) do
      c:collect_until("end", 60)
      local last = 0
      for _, block in ipairs(c.blocks) do
        local text = table.concat(block.lines, "\n")
        local id = tonumber(("\n" .. text):match "\nid: ?(%d+)")
        if id then
          assert.is_true(id > last, ("client %d: %d behind %d"):format(i, id, last))
          last = id
        end
        positions = positions + (text:find '{"position"' and 1 or 0)
      end
    end
    assert.is_true(positions > #clients, positions) -- each begins with one
  end)
end)
