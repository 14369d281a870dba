-- Event streams over HTTP/1.1 are bodies in chunks: their end can be told from a failure. support/sse.lua checks the
-- framing of every stream of every spec; here is what it is made of.
local child = require "support.child"
local eventually = require "support.eventually"
local http = require "support.http"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

local KIB = 1024

describe("an event stream over HTTP/1.1", function()
  local broker = tidegate.shared()

  it("is a body in chunks, one for all that leaves at once", function()
    local c = sse.open(broker(), { topic = "one", keep_bytes = true })
    assert.equal("chunked", c.headers["transfer-encoding"])
    assert.same({ #c:bytes() }, c.chunks.sizes)
    local before = #c:bytes()
    broker():publish_all { { topic = "one", data = "1" }, { topic = "one", data = "2" } }
    c:collect(2)
    assert.same({ before, #c:bytes() - before }, c.chunks.sizes)
    assert.equal(0, #c.chunks.rest, "the chunk has not come in full")
  end)

  it("has the bytes in it that a client of HTTP/1.0 gets without chunks", function()
    local new = sse.open(broker(), { topic = "same", keep_bytes = true })
    local old = sse.open(broker(), { request = "GET /events?topic=same HTTP/1.0\r\n\r\n", keep_bytes = true })
    assert.is_nil(old.headers["transfer-encoding"])
    assert.equal("close", old.headers["connection"])
    for i = 1, 40 do
      broker():publish("same", ("x\n"):rep(i * i * i))
      new:next()
      old:next()
    end
    assert.equal((old:bytes():gsub("^retry: %d+\n", "")), (new:bytes():gsub("^retry: %d+\n", "")))
  end)

  it("is announced by HEAD with the fields that a body of its kind has, and nothing else", function()
    local c = http.connect(broker())
    c:send(http.render("HEAD", "/events?topic=a", { Connection = "close" }))
    assert.equal("", c:response { head = true }.body)
    assert.is_true(c:closed())
  end)
end)

describe("the chunks of a slow reader", function()
  local function start(config)
    config.limits = config.limits or { send_buffer_bytes = 4 * KIB, event_bytes = 1024 * KIB, body_bytes = 4096 * KIB }
    return tidegate.start { config = config }
  end

  it("are whole, whatever the size of the events and wherever the socket takes no more", function()
    local seed = tonumber(os.getenv "TIDEGATE_SPEC_SEED") or os.time()
    math.randomseed(seed)
    local broker = start { sse = { turn_bytes = 64 * KIB, heartbeat_s = 1 } }
    local readers = {}
    for i, max in ipairs { 700, 5003, 65536 } do
      readers[i] = sse.open(broker, { topic = "slow", rcvbuf = 4096, read_max = max })
    end
    local sizes, batch = { 1, 100, 4000, 9000, 70 * KIB }, {}
    for i = 1, 60 do
      batch[i] = { topic = "slow", data = ("%d "):format(i) .. ("x"):rep(math.random(sizes[math.random(#sizes)])) }
    end
    batch[20].data = "20 " .. ("y"):rep(1024 * KIB - 3)
    for from = 1, 60, 20 do
      broker:publish_all(table.move(batch, from, from + 19, 1, {}))
    end
    for i, c in ipairs(readers) do
      for k, ev in ipairs(c:collect(60, 30)) do
        assert.is_true(ev.data == batch[k].data, ("reader %d, event %d, seed %d"):format(i, k, seed))
      end
    end
  end)

  it("are filled by what comes next, also where that is a gap", function()
    local broker = start { sse = { turn_bytes = 1024 * KIB, max_lag_events = 3, on_lag = "skip" } }
    local c = sse.open(broker, { topic = "slow", rcvbuf = 4096 })
    local batch = { { topic = "slow", data = ("x"):rep(900 * KIB) } }
    for i = 2, 9 do
      batch[i] = { topic = "slow", data = ("%d"):format(i):rep(i) }
    end
    broker:publish_all(batch)
    eventually("it is behind", function() return broker:metric "tidegate_subscribers_behind" == 1 end)
    assert.equal(900 * KIB, #c:next(20).data)
    assert.equal("gap", c:next().type)
    local id = broker:publish("slow", "on")
    c:collect_until "on"
    assert.equal(id, c.last_id)
  end)

  it("are filled with blank lines where the stream ends", function()
    local broker = start { sse = { turn_bytes = 1024 * KIB } }
    local c = sse.open(broker, { topic = "slow", rcvbuf = 4096, keep_bytes = true })
    local acks = broker:publish_all { { topic = "slow", data = ("x"):rep(900 * KIB) }, { topic = "slow", data = "1" },
      { topic = "slow", data = "2" } }
    eventually("it is behind", function() return broker:metric "tidegate_subscribers_behind" == 1 end)
    broker:signal "TERM"
    c:wait_end(20)
    assert.is_true(c.whole)
    assert.equal(900 * KIB, #c:next().data)
    assert.equal(acks[1].id, c.last_id)
    assert.equal(0, #c.queue)
    assert.matches("x\n\n\n+$", c:bytes():sub(-500))
    assert.equal(0, (broker:wait_exit()))
  end)
end)

describe("the end of an event stream", function()
  -- What curl makes of the body of a stream that the signal ends.
  local function curl(signal)
    local broker = tidegate.start()
    local c = child.start("curl", { "-sSN", ("http://%s:%d/events?topic=a"):format(broker.host, broker.port) })
    finally(function() c:stop() end)
    eventually("it is open", function() return broker:metric "tidegate_subscribers" == 1 end)
    broker:publish("a", "seen")
    eventually("it has the event", function() return c:output():find "data: seen\n\n" end)
    broker:signal(signal)
    broker:wait_exit()
    return c:wait(), c:output(), c:errors()
  end

  it("is a success for clients that know of chunks where the broker wants it", function()
    local code, output, errors = curl "TERM"
    assert.equal(0, code, errors)
    assert.matches("\nretry: %d+\n$", output)
  end)

  it("is an error for them where the broker fails", function()
    local code, _, errors = curl "KILL"
    assert.equal(18, code) -- "partial file"
    assert.matches("outstanding read data", errors)
  end)
end)
