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

-- Publishes events from..to of `size` bytes on one connection.
local function flood(broker, topic, from, to, size)
  local c = http.connect(broker)
  for i = from, to do
    local r = assert(c:request("POST", "/events?topic=" .. topic, nil, payload(i, size)))
    assert.equal(201, r.status)
  end
  c:close()
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
    assert.is_true(grown < 6 * KIB, ("memory grew by %d KiB while 6 readers were 12 MiB behind"):format(grown))
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

  it("skips to the newest event with a gap where the configuration says that", function()
    local broker = tidegate.start { config = with(SMALL, {
      sse = { max_lag_events = 50, on_lag = "skip" }, event_log = { max_bytes = 8 * 1024 * KIB },
    }) }
    local c = sse.open(broker, { topic = "lag", rcvbuf = 4096 })
    flood(broker, "lag", 1, 150, 32 * KIB)
    c:wait("the skip", function() return broker:metric "tidegate_lag_skips_total" >= 1 end)
    broker:publish("lag", "000151")
    local list = c:collect_until("000151", 20)
    local gaps, last = 0, 0
    for _, ev in ipairs(list) do
      if ev.type == "gap" then
        gaps = gaps + 1
        local told = http.json.decode(ev.data)
        assert.equal(ev.id, told.resumed_from)
        assert.is_string(told.reason)
      else
        local n = tonumber(ev.data:sub(1, 6))
        assert.is_true(n > last)
        assert.is_true(n == last + 1 or gaps > 0, "nothing is left out without a gap")
        last = n
      end
    end
    assert.is_true(gaps >= 1)
    assert.is_true(last < 150 or gaps > 0)
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
