-- Compressed event streams: what a client reads is what the others read, whatever happens on the way.
local child = require "support.child"
local eventually = require "support.eventually"
local http = require "support.http"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

local KIB = 1024
local ON = { gzip = true, min_members = 1 }

local function order(i)
  local n = i * 7919
  return table.concat({ '{"order":"', n, '","customer":"c-', n % 997, '","items":[{"sku":"A-', n % 300, '","quantity":',
    i % 5 + 1, ',"price":', n % 200, '.50},{"sku":"B-', n % 333, '","quantity":1,"price":9.99}],"status":"accepted",',
    '"currency":"EUR","address":{"city":"Bremen","zip":"28', n % 1000, '","street":"Osterstrasse ', n % 90,
    '"},"created":"2026-11-30T12:', i % 60, ':', n % 60, 'Z","note":"please ring twice","channel":"web"}' })
end

describe("whether a stream is compressed", function()
  local broker = tidegate.shared { config = { compress = ON } }

  for accept, expected in pairs {
    ["gzip"] = true, ["deflate, gzip, br, zstd"] = true, ["x-gzip"] = true, ["GZIP;q=0.5"] = true, ["*"] = true,
    ["gzip;q=0"] = false, ["gzip; q=0.000, *"] = false, ["identity"] = false, ["br, deflate"] = false,
    ["*;q=0"] = false, [""] = false,
  } do
    it(("is %s for Accept-Encoding: %s"):format(expected, accept), function()
      local c = sse.request(broker(), { topic = "a", gzip = true, headers = { ["Accept-Encoding"] = accept },
        request = http.render("GET", "/events?topic=a", { ["Accept-Encoding"] = accept }) })
      assert.equal(expected, c.gzip ~= nil)
      assert.equal("Accept, Accept-Encoding", c.headers["vary"])
      assert.equal("no-store, no-transform", c.headers["cache-control"])
      c:wait("the first block", function() return #c.blocks > 0 end)
    end)
  end

  it("does not depend on a client that does not ask", function()
    assert.is_nil(sse.open(broker(), { topic = "a" }).gzip)
  end)

  it("is the operator's decision: not, unless the configuration says so", function()
    assert.is_nil(sse.open(tidegate.start(), { topic = "a", gzip = true }).gzip)
  end)

  it("depends on how many have the same subscription", function()
    local b = tidegate.start { config = { compress = { gzip = true, min_members = 3 } } }
    local kept = {}
    for i = 1, 4 do
      kept[i] = sse.open(b, { topic = "a", gzip = true })
      assert.equal(i >= 3, kept[i].gzip ~= nil, i)
    end
    assert.equal(2, b:metric "tidegate_gzip_streams")
    b:publish("a", "x")
    for _, c in ipairs(kept) do
      assert.equal("x", c:next().data)
    end
  end)

  it("is what the policy says about the subscription", function()
    local function policy(secret)
      return ([[
        return {
          api = 1,
          authenticate = function(req) return { sub = "x" } end,
          subscribe = function(req)
            return { topics = req.topics, compress = not (req.topics[1]:find "^secret" or %s) }
          end,
          publish = function(pub) return pub end,
        }
      ]]):format(secret)
    end
    local b = tidegate.start { config = { compress = ON }, policy = policy "false" }
    local secret = sse.open(b, { topic = "secret/a", gzip = true })
    assert.is_nil(secret.gzip)
    secret:close()
    eventually("it has gone", function() return b:metric "tidegate_subscribers" == 0 end)
    local c = sse.open(b, { topic = "a", gzip = true })
    b:publish("a", ("x"):rep(5000))
    c:next()
    assert.is_true(c.wire_bytes < 1000)
    b:reload(policy "true") -- it is compressed already: from now on in form only
    eventually("it was asked about", function()
      return b:metric 'tidegate_policy_resubscribes_total{outcome="same"}' == 1
    end)
    b:publish("a", ("y"):rep(5000))
    c:next()
    assert.is_true(c.wire_bytes > 5000)
    b:stop()
    c:wait_end()
    assert.is_true(c.over)
  end)
end)

describe("a compressed stream", function()
  it("is complete where the broker ends it", function()
    local broker = tidegate.start { config = { compress = ON, sse = { heartbeat_s = 1 } } }
    local c = sse.open(broker, { topic = "a", gzip = true })
    local old = sse.open(broker, { gzip = true,
      request = "GET /events?topic=a HTTP/1.0\r\nAccept-Encoding: gzip\r\n\r\n" })
    for i = 1, 20 do
      broker:publish("a", order(i))
    end
    for _, s in ipairs { c, old } do
      for i = 1, 20 do
        assert.equal(order(i), s:next().data)
      end
      s:wait("a heartbeat", function() return #s.comments > 0 end)
    end
    broker:publish("a", "after it")
    assert.equal("after it", c:next().data)
    broker:signal "TERM"
    c:wait_end()
    old:wait_end()
    assert.is_true(c.whole and c.over and old.over)
    assert.is_true(c.retry_ms > 0)
  end)

  it("is what curl makes of it", function()
    local broker = tidegate.start { config = { compress = ON } }
    local c = child.start("curl", { "-sSN", "--compressed",
      ("http://%s:%d/events?topic=a"):format(broker.host, broker.port) })
    finally(function() c:stop() end)
    eventually("it is open", function() return broker:metric "tidegate_gzip_streams" == 1 end)
    for i = 1, 5 do
      broker:publish("a", order(i))
      eventually("it has the event", function() return c:output():find(order(i), 1, true) end)
    end
    broker:stop()
    assert.equal(0, c:wait(), c:errors())
  end)

  it("replays, with gaps, and is live afterwards", function()
    local broker = tidegate.start { config = { compress = ON, store = { retain_events = 100 },
      sse = { turn_bytes = 16 * KIB } } }
    local batch = {}
    for i = 1, 400 do
      batch[i] = { topic = "a", data = order(i) }
    end
    local acks = broker:publish_all(batch)
    local c = sse.open(broker, { topic = "a", gzip = true, last_event_id = acks[100].id })
    for i = 101, 400 do
      local ev = c:next()
      if ev.type ~= "gap" then -- retention may have come first
        assert.equal("message", ev.type)
      end
      if ev.id == acks[400].id then
        assert.equal(order(400), ev.data)
        break
      end
      assert(i < 400, "the last event is missing")
    end
    local unknown = sse.open(broker, { topic = "a", gzip = true, last_event_id = "never" })
    assert.equal("gap", unknown:next().type)
    broker:publish("a", "live")
    assert.equal("live", c:collect(1)[1].data)
    assert.equal("live", unknown:next().data)
  end)

  it("costs a quarter of the bytes where many have it", function()
    local broker = tidegate.start { config = { compress = ON } }
    local clients = {}
    for i = 1, 10 do
      clients[i] = sse.open(broker, { topic = "a", gzip = true })
    end
    for from = 1, 281, 20 do
      for i = from, from + 19 do
        broker:publish("a", order(i))
      end
      for _, c in ipairs(clients) do
        assert.equal(20, #c:collect(20))
      end
    end
    local plain = broker:metric "tidegate_gzip_plain_bytes_total"
    local sent = broker:metric "tidegate_gzip_compressed_bytes_total"
    assert.is_true(sent < plain * 0.27, sent / plain)
    assert.equal(1, broker:metric "tidegate_gzip_encoders")
    for _, c in ipairs(clients) do
      c:close()
    end
    eventually("the encoder has gone with its audience", function()
      return broker:metric "tidegate_gzip_encoders" == 0
    end)
  end)

  it("gets the encoder of an audience that has had no events for five seconds, where there are no more", function()
    local broker = tidegate.start { config = { compress = { gzip = true, min_members = 1, bytes = 1024 * KIB } } }
    local clients = {}
    for i = 1, 4 do -- three encoders
      clients[i] = sse.open(broker, { topic = "t" .. i, gzip = true })
      broker:publish("t" .. i, order(i))
      assert.equal(order(i), clients[i]:next().data)
    end
    assert.equal(3, broker:metric "tidegate_gzip_epochs_total")
    eventually("the fourth has one", function()
      broker:publish("t4", "again")
      return broker:metric "tidegate_gzip_epochs_total" == 4
    end)
    assert.equal(3, broker:metric "tidegate_gzip_encoders")
    for i = 1, 4 do
      broker:publish("t" .. i, "last")
      clients[i]:collect_until "last"
    end
    broker:stop()
    for i = 1, 4 do
      clients[i]:wait_end()
      assert.is_true(clients[i].over, i)
    end
  end)

  it("is the same as a plain one, whoever joins, stalls or leaves when", function()
    local seed = tonumber(os.getenv "TIDEGATE_SPEC_SEED") or os.time()
    math.randomseed(seed)
    local broker = tidegate.start { config = { compress = ON, sse = { turn_bytes = 64 * KIB, heartbeat_s = 1 },
      limits = { send_buffer_bytes = 4 * KIB } } }
    local published, clients = {}, {}
    local sizes = { 1, 400, 400, 3000, 100 * KIB }
    for i = 1, 120 do
      if i % 12 == 1 then
        local slow = math.random(2) == 1
        clients[#clients + 1] = sse.open(broker, { topic = "a", gzip = true, rcvbuf = slow and 4096 or nil,
          read_max = slow and 3001 or nil })
        clients[#clients].from = i
      end
      local size = sizes[math.random(#sizes)]
      published[i] = (order(i):rep(size // 300 + 1)):sub(1, size)
      broker:publish("a", published[i])
      if math.random(3) == 1 then -- the others are read in the end
        clients[math.random(#clients)]:pump()
      end
      if i % 40 == 0 then -- a client that leaves, and comes back behind what it has
        local k = math.random(#clients)
        local c = clients[k]
        c:pump()
        c:close()
        local back = sse.open(broker, { topic = "a", gzip = true, last_event_id = c.last_id })
        back.from = c.from + #c.queue
        clients[k] = back
      end
    end
    broker:publish("a", "end")
    for k, c in ipairs(clients) do
      local got = c:collect_until("end", 30)
      assert.equal(#published - c.from + 1, #got, ("client %d, seed %d"):format(k, seed))
      for n, ev in ipairs(got) do
        assert.is_true(ev.data == published[c.from + n - 1], ("client %d, event %d, seed %d"):format(k, n, seed))
      end
    end
    broker:signal "TERM"
    for k, c in ipairs(clients) do
      c:wait_end(20)
      assert.is_true(c.over, ("client %d, seed %d"):format(k, seed))
    end
    assert.equal(0, (broker:wait_exit()))
  end)
end)
