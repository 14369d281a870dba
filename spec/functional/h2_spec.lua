-- HTTP/2 without TLS, with clients that know beforehand: curl, nghttp, and streams of one connection side by side.
local eventually = require "support.eventually"
local h2 = require "support.h2"
local http = require "support.http"
local sse = require "support.sse"
local tidegate = require "support.tidegate"
local tls = require "support.tls"

local function open(broker, conn, options)
  local all = { h2 = conn }
  for k, v in pairs(options or { topic = "a" }) do
    all[k] = v
  end
  return sse.open(broker, all)
end

local function url(broker, path)
  return ("http://%s:%d%s"):format(broker.host, broker.port, path)
end

local function numbers(from, to)
  local list = {}
  for i = from, to do
    list[#list + 1] = { topic = "a", data = tostring(i) }
  end
  return list
end

local function assert_counts_on(events, from)
  for i, ev in ipairs(events) do
    assert.equal(tostring(from + i - 1), ev.data)
  end
end

describe("HTTP/2", function()
  local broker = tidegate.shared {}

  it("is what curl and nghttp speak", function()
    local id = broker():publish("curl", "hello")
    local code, out = tidegate.run("/usr/bin/curl", { args = { "-sN", "--http2-prior-knowledge", "--max-time", "1",
      "-w", "%{http_version} %{http_code}", url(broker(), "/events?topic=curl&last_event_id=earliest") } })
    assert.equal(28, code) -- it was still open
    assert.matches("id: " .. id .. "\ndata: hello\n\n.*2 200$", out)
    code, out = tidegate.run("/usr/bin/curl", { args = { "-s", "--http2-prior-knowledge", "-d", "x", "-H",
      "Content-Type: text/plain", "-w", " %{http_version} %{http_code}", url(broker(), "/events?topic=curl") } })
    assert.equal(0, code)
    assert.matches('^{"id":"%d+"}\n 2 201$', out)
    code, out = tidegate.run("/usr/bin/nghttp", { args = { "-v", url(broker(), "/nothing") } })
    assert.equal(0, code)
    assert.matches(":status: 404", out)
  end)

  it("can be switched off", function()
    local plain = tidegate.start { config = { http = { h2 = false } } }
    local c = http.connect(plain)
    c:send(h2.PREFACE)
    local r = assert(c:response())
    assert.equal(505, r.status)
    assert.matches("HTTP/2 is not served here", r.body)
    c:close()
    assert.equal(1, plain:metric 'tidegate_http_foreign_total{kind="h2"}')
    assert.equal(plain.addresses[1].host .. ":" .. plain.port,
      plain:logged({ msg = "refused what is not HTTP", kind = "h2" }).address)
  end)

  it("is not what the admin service speaks", function()
    local c = http.connect(broker().admin)
    c:send(h2.PREFACE)
    assert.equal(505, assert(c:response()).status)
    c:close()
  end)

  it("carries every answer that HTTP/1.1 does", function()
    local c = h2.connect(broker())
    for _, case in ipairs {
      { "GET", "/nothing", 404 }, { "PUT", "/events", 405 }, { "POST", "/events", 415, "x" },
      { "GET", "/events?topic=%zz", 400 }, { "GET", "/" .. ("x"):rep(9000), 414 }, { "HEAD", "/events", 200 },
      { "HEAD", "/nothing", 404 }, { "OPTIONS", "*", 404 }, { "OPTIONS", "/events", 204 }, { "GET", "/", 200 },
    } do
      local method, path, status, body = table.unpack(case)
      local r = c:exchange(method, path, body)
      assert.equal(status, r.status, method .. " " .. path)
      local length = tonumber(r.headers["content-length"])
      assert.equal(method == "HEAD" and 0 or length or 0, #r.body, method .. " " .. path)
      assert.is_nil(r.headers.connection)
    end
    local many = {}
    for i = 1, 150 do
      many[i] = { "x-" .. i, "y" }
    end
    assert.equal(431, c:exchange("GET", "/", nil, { headers = many }).status)
    assert.equal(431, c:exchange("GET", "/", nil, { headers = { { "x", ("y"):rep(17000) } } }).status)
    assert.equal(417, c:exchange("POST", "/events", "x", { headers = { { "expect", "something" } } }).status)
    assert.equal(400, c:exchange("GET", "/", nil, { headers = { { "host", "another" } } }).status)
    assert.equal(200, c:exchange("GET", "/", nil, { headers = { { "host", "localhost" } } }).status)
    assert.equal(400, c:exchange("GET", "/", nil, { authority = "a,b" }).status)
    assert.is_nil(c.ended)
    c:close()
  end)

  it("answers 413 before the body is there, and keeps the connection", function()
    local small = tidegate.start { config = { limits = { body_bytes = 100000, event_bytes = 100000 } } }
    local c = h2.connect(small)
    local r = c:exchange("POST", "/events?topic=a", ("x"):rep(1000000))
    assert.equal(413, r.status)
    r = c:exchange("POST", "/events?topic=a", ("x"):rep(1000000), { headers = { { "content-length", "1000000" } } })
    assert.equal(413, r.status)
    r = c:exchange("POST", "/events?topic=a", ("x"):rep(100000), { headers = { { "content-type", "text/plain" } } })
    assert.equal(201, r.status)
    c:close()
  end)

  it("says 100 to who expects it", function()
    local c = h2.connect(broker())
    local s = c:request("POST", "/events?topic=a", "", { incomplete = true,
      headers = { { "expect", "100-continue" }, { "content-length", "2" }, { "content-type", "text/plain" } } })
    c:wait("100", function() return s.informational end)
    c:append(s, "ab", true)
    c:wait("an answer", function() return s.ended end)
    assert.equal(201, s.status)
    c:close()
  end)

  it("takes bodies of several requests at once, each in full", function()
    local c = h2.connect(broker())
    local reader = open(broker(), c, { topic = "big/*" })
    local list = {}
    for i = 1, 20 do
      list[i] = c:request("POST", "/events?topic=big/" .. i, ("%02d"):format(i):rep(100000),
        { headers = { { "content-type", "text/plain" } } })
    end
    local events = reader:collect(20)
    for i, s in ipairs(list) do
      c:wait("an answer", function() return s.ended end)
      assert.equal(201, s.status, i)
    end
    for _, ev in ipairs(events) do
      assert.equal(ev.data:sub(1, 2):rep(100000), ev.data)
    end
    c:close()
  end)

  it("does not let a body that stalls hold the others up", function()
    local c = h2.connect(broker())
    local plain = { headers = { { "content-type", "text/plain" } } }
    local stalled = {}
    for i = 1, 3 do
      stalled[i] = c:request("POST", "/events?topic=stalled", "begun", { incomplete = true, headers = plain.headers })
    end
    c:settle()
    for _ = 1, 10 do
      local list = {}
      for i = 1, 5 do
        list[i] = c:request("POST", "/events?topic=others", ("x"):rep(200000), plain)
      end
      for _, s in ipairs(list) do
        c:wait("an answer", function() return s.ended end)
        assert.equal(201, s.status)
      end
    end
    for _, s in ipairs(stalled) do
      assert.is_nil(s.status or s.reset)
      c:append(s, ("y"):rep(100000), true)
      c:wait("an answer", function() return s.ended end)
      assert.equal(201, s.status)
    end
    c:close()
  end)

  it("holds no more of the bodies of one connection than the oldest and as much again, and a window of each", function()
    local most, n = 100000, 8
    local small = tidegate.start { config = { limits = { body_bytes = most, event_bytes = most } } }
    local c = h2.connect(small)
    local list = {}
    for i = 1, n do
      list[i] = c:request("POST", "/events?topic=a", ("x"):rep(most - 1),
        { incomplete = true, headers = { { "content-type", "text/plain" } } })
    end
    c:settle()
    c:settle() -- what is sent when the first windows come
    local held = small:metric "tidegate_http_bodies_bytes"
    assert.is_true(held > 2 * most and held <= 2 * most + n * 16384, held)
    for _, s in ipairs(list) do
      c:append(s, "y", true)
      c:wait("an answer", function() return s.ended end)
      assert.equal(201, s.status)
    end
    assert.equal(0, small:metric "tidegate_http_bodies_bytes")
    c:close()
  end)

  it("shows what a stream speaks", function()
    local c = h2.connect(broker())
    local one = open(broker(), c, { topic = "shown" })
    local two = sse.open(broker(), { topic = "shown", transport = "h1" })
    local spoken = {}
    for _, entry in ipairs(http.get(broker().admin, "/connections").json.connections) do
      if entry.topics[1] == "shown" then
        spoken[entry.protocol] = (spoken[entry.protocol] or 0) + 1
      end
    end
    assert.same({ ["HTTP/1.1"] = 1, ["HTTP/2"] = 1 }, spoken)
    one:close()
    two:close()
    c:close()
  end)
end)

describe("HTTP/2 upon TLS", function()
  it("is agreed on by ALPN: streams, publishes, curl, the end", function()
    local ca = tls.authority()
    local broker = tidegate.start { config = { listen = { tls.listener { ca:issue { names = { "localhost" } } } } } }
    broker.tls = { ca = ca.cert, name = "localhost" }
    local c = h2.connect(broker)
    assert.equal("h2", c.socket:info().alpn)
    local one, two = open(broker, c), open(broker, c)
    for i = 1, 50 do
      local r = c:exchange("POST", "/events?topic=a", ("%d"):format(i),
        { headers = { { "content-type", "text/plain" } } })
      assert.equal(201, r.status)
    end
    assert_counts_on(one:collect(50), 1)
    assert_counts_on(two:collect(50), 1)
    local code, out = tidegate.run("/usr/bin/curl", { args = { "-s", "--cacert", ca.cert, "-w", "%{http_version}",
      ("https://localhost:%d/nothing"):format(broker.port) } })
    assert.equal(0, code)
    assert.matches("}2$", out)
    code, out = tidegate.run("/usr/bin/curl", { args = { "-s", "--http1.1", "--cacert", ca.cert,
      "-w", "%{http_version}", ("https://localhost:%d/nothing"):format(broker.port) } })
    assert.equal(0, code)
    assert.matches("}1.1$", out)
    broker:signal "TERM"
    assert.equal("closed", one:wait_end())
    assert.is_true(one.stream.ended and two.stream.ended)
    c:wait_end()
    assert.equal(0, (broker:wait_exit()))
    ca:remove()
  end)
end)

describe("streams of one connection", function()
  it("all get every event, with few system calls", function()
    local broker = tidegate.start()
    local c = h2.connect(broker)
    local streams = {}
    for i = 1, 100 do
      streams[i] = open(broker, c)
    end
    assert.equal(1, broker:metric "tidegate_h2_connections")
    assert.equal(100, broker:metric "tidegate_subscribers")
    local before = broker:metric "tidegate_writes_total"
    for i = 1, 10 do
      broker:publish("a", tostring(i))
    end
    for _, s in ipairs(streams) do
      assert_counts_on(s:collect(10), 1)
    end
    -- 10 publishes and this look at the metrics are answered, too
    local writes = broker:metric "tidegate_writes_total" - before
    assert.is_true(writes < 100, writes .. " writes for 1000 deliveries")
    c:close()
    eventually("all are gone", function() return broker:metric "tidegate_subscribers" == 0 end)
    assert.equal(0, broker:metric "tidegate_h2_streams")
  end)

  it("end one by one, at once", function()
    local broker = tidegate.start()
    local c = h2.connect(broker)
    local streams = {}
    for i = 1, 5 do
      streams[i] = open(broker, c)
    end
    streams[3]:close()
    eventually("it is gone", function() return broker:metric "tidegate_subscribers" == 4 end)
    assert.equal(1, broker:metric "tidegate_h2_resets_received_total")
    assert.equal(1, broker:metric 'tidegate_connections_closed_total{reason="client-closed"}')
    broker:publish("a", "1")
    for i, s in ipairs(streams) do
      if i ~= 3 then
        assert.equal("1", s:next().data)
      end
    end
    c:close()
  end)

  it("wait for a slow policy although the client has ended its half", function()
    local broker = tidegate.start { policy = [[
      return {
        api = 1,
        authenticate = function() sleep(0.2); return { sub = "x" } end,
        subscribe = function(req) return { topics = req.topics } end,
        publish = function(pub) return pub end,
      }]] }
    local c = h2.connect(broker)
    local one, two = open(broker, c), open(broker, c)
    broker:publish("a", "1")
    assert.equal("1", one:next().data)
    assert.equal("1", two:next().data)
    c:close()
  end)

  it("resume where they were", function()
    local broker = tidegate.start()
    broker:publish_all(numbers(1, 1000))
    local c = h2.connect(broker)
    local all = open(broker, c, { topic = "a", last_event_id = "earliest" })
    assert_counts_on(all:collect(1000), 1)
    local back = open(broker, c, { topic = "a", last_event_id = all.blocks[501].event.id })
    assert.equal(tostring(tonumber(all.blocks[501].event.data) + 1), back:next().data)
    c:close()
  end)

  it("stop one without a window, and no other; it goes on when there is one", function()
    local broker = tidegate.start()
    local c = h2.connect(broker, { manual = true, window = 1000 })
    local stalled = open(broker, c)
    local reader = h2.connect(broker)
    local other = open(broker, reader)
    for i = 1, 100 do
      broker:publish("a", ("%d"):format(i))
    end
    assert_counts_on(other:collect(100), 1)
    eventually("it has got its window", function() c:pump(); return stalled.stream.bytes == 1000 end)
    for i = 100, 2000, 1000 do
      broker:publish_all(numbers(i + 1, i + 1000))
    end
    local given = 0
    stalled:wait("all events", function()
      local unread = stalled.stream.bytes - given
      if unread > 0 then
        given = stalled.stream.bytes
        c.session:consume(stalled.stream.id, unread)
        c:flush()
      end
      return #stalled.queue == 2100
    end)
    assert_counts_on(stalled.queue, 1)
    c:close()
    reader:close()
  end)

  it("end when their window stays shut, the others go on", function()
    local broker = tidegate.start { config = { sse = { heartbeat_s = 1, dead_peer_s = 2 } } }
    local c = h2.connect(broker, { manual = true, window = 300 })
    local stalled, other = open(broker, c), open(broker, c, { topic = "b" })
    for i = 1, 100 do
      broker:publish("a", ("%d"):format(i))
    end
    c:wait("a reset", function() return stalled.stream.reset end, 10)
    assert.equal(1, broker:metric 'tidegate_connections_closed_total{reason="dead-peer"}')
    assert.equal(1, broker:metric "tidegate_subscribers")
    assert.is_nil(c.ended)
    c.session:consume(other.stream.id, other.stream.bytes)
    c:flush()
    broker:publish("b", "1")
    assert.equal("1", other:next().data)
    c:close()
  end)

  it("get everything in order although the client did not read for a while", function()
    local broker = tidegate.start { config = { limits = { send_buffer_bytes = 8192 } } }
    local c = h2.connect(broker, { rcvbuf = 4096, window = 1 << 20 })
    local streams = { open(broker, c), open(broker, c), open(broker, c) }
    local text = ("x"):rep(1000)
    for i = 1, 20 do
      local batch = {}
      for k = 1, 100 do
        batch[k] = { topic = "a", data = ("%d %s"):format((i - 1) * 100 + k, text) }
      end
      broker:publish_all(batch)
    end
    eventually("they are behind", function() return broker:metric "tidegate_subscribers_behind" == 3 end)
    for _, s in ipairs(streams) do
      for i, ev in ipairs(s:collect(2000)) do
        assert.equal(tostring(i), ev.data:match "^%d+")
      end
    end
    c:close()
  end)

  it("are told of a gap when they lag", function()
    local broker = tidegate.start { config = { sse = { max_lag_events = 100, on_lag = "skip" },
      limits = { send_buffer_bytes = 8192 } } }
    local c = h2.connect(broker, { rcvbuf = 4096, manual = true, window = 4096 })
    local s = open(broker, c)
    local batch = {}
    for k = 1, 500 do
      batch[k] = { topic = "a", data = ("x"):rep(1000) }
    end
    broker:publish_all(batch)
    broker:publish_all(batch)
    eventually("it is behind", function() return broker:metric "tidegate_subscribers_behind" == 1 end)
    local given, gap = 0, nil
    s:wait("a gap", function()
      local unread = s.stream.bytes - given
      if unread > 0 then
        given = s.stream.bytes
        c.session:consume(s.stream.id, unread)
        c:flush()
      end
      for _, ev in ipairs(s.queue) do
        gap = gap or ev.type == "gap" and ev
      end
      return gap
    end)
    assert.matches('"reason":"lagged"', gap.data)
    c:close()
  end)

  it("get live events while another replays its history", function()
    local broker = tidegate.start { config = { limits = { send_buffer_bytes = 65536 } } }
    local text = ("x"):rep(10000)
    for _ = 1, 8 do
      local batch = {}
      for k = 1, 100 do
        batch[k] = { topic = "history", data = text }
      end
      broker:publish_all(batch)
    end
    local c = h2.connect(broker, { rcvbuf = 65536, window = (1 << 31) - 1 })
    local live = open(broker, c, { topic = "live" })
    local replay = open(broker, c, { topic = "history", last_event_id = "earliest" })
    broker:publish("live", "1")
    live:wait("the live event", function() c:pump(1); return #live.queue > 0 end)
    assert.is_true(#replay.queue < 800, "the history came first")
    replay:collect(800)
    c:close()
  end)

  it("count as connections for limits.max_connections, but for the first", function()
    local broker = tidegate.start { config = { limits = { max_connections = 4 } } }
    local c = h2.connect(broker)
    local streams = {}
    for i = 1, 4 do
      streams[i] = open(broker, c)
    end
    local refused = c:request("GET", "/events?topic=a")
    c:wait("a reset", function() return refused.reset end)
    assert.equal(h2.CODES.REFUSED_STREAM, refused.reset)
    assert.equal(1, broker:metric "tidegate_h2_streams_refused_total")
    streams[4]:close()
    eventually("there is room", function() return broker:metric "tidegate_subscribers" == 3 end)
    streams[4] = open(broker, c)
    c:close()
  end)
end)

describe("the limit of connections for an address", function()
  local function refused(c, options)
    local s = c:request("GET", "/events?topic=a", nil, options)
    c:wait("the outcome", function() return s.reset or s.status end)
    return s.reset or s.status
  end

  it("counts streams, but for the first of each connection", function()
    local broker = tidegate.start { config = { limits = { max_connections_per_address = 3 } } }
    local c = h2.connect(broker)
    local streams = { open(broker, c), open(broker, c), open(broker, c) }
    assert.equal(h2.CODES.REFUSED_STREAM, refused(c))
    streams[2]:close()
    eventually("there is room", function() return broker:metric "tidegate_subscribers" == 2 end)
    assert.equal(200, refused(c))
    c:close()
    eventually("there is room", function() return broker:metric "tidegate_h2_streams" == 0 end)
    c = h2.connect(broker)
    assert.equal(200, refused(c))
    c:close()
  end)

  it("counts the clients behind a trusted proxy", function()
    local broker = tidegate.start { config = { trusted_proxies = { "127.0.0.1" },
      limits = { max_connections_per_address = 2 } } }
    local c = h2.connect(broker)
    local function of(address)
      return { headers = { { "x-forwarded-for", address } } }
    end
    assert.equal(200, refused(c, of "6.6.6.6"))
    assert.equal(200, refused(c, of "6.6.6.6"))
    assert.equal(429, refused(c, of "6.6.6.6"))
    assert.equal(200, refused(c, of "6.6.6.7"))
    local post = c:request("POST", "/events?topic=a", "x", { incomplete = true, headers = of "6.6.6.6".headers })
    c:wait("an answer", function() return post.status end)
    assert.equal(429, post.status)
    c:close()
  end)
end)

describe("HTTP/2 and SIGTERM", function()
  it("says GOAWAY, retry, and ends each stream", function()
    local broker = tidegate.start { config = { drain = { retry_ms = 400 } } }
    local c = h2.connect(broker)
    local streams = {}
    for i = 1, 10 do
      streams[i] = open(broker, c)
    end
    broker:publish("a", "last")
    broker:signal "TERM"
    for _, s in ipairs(streams) do
      assert.equal("closed", s:wait_end())
      assert.is_true(s.stream.ended)
      assert.is_nil(s.stream.reset)
      assert.equal("last", s:next().data)
      assert.is_true(s.retry_ms >= 200 and s.retry_ms <= 1600, s.retry_ms)
    end
    c:wait_end()
    assert.equal(h2.CODES.NO_ERROR, c.goaway.code)
    assert.equal(streams[10].stream.id, c.goaway.last)
    assert.equal(0, (broker:wait_exit()))
  end)

  it("answers what was under way", function()
    local broker = tidegate.start { config = { drain = { timeout_s = 5 } } }
    local c = h2.connect(broker)
    local s = c:request("POST", "/events?topic=a", "he",
      { incomplete = true, headers = { { "content-type", "text/plain" } } })
    eventually("it is under way", function() return broker:metric "tidegate_h2_streams" == 1 end)
    broker:signal "TERM"
    c:wait("GOAWAY", function() return c.goaway end)
    c:append(s, "llo", true)
    c:wait("an answer", function() return s.ended end)
    assert.is_true(s.status == 201 or s.status == 503, s.status)
    c:wait_end()
    assert.equal(0, (broker:wait_exit()))
  end)
end)
