-- Connections that carry more than one request: their deadlines, their order, their end.
local eventually = require "support.eventually"
local http = require "support.http"
local sockets = require "support.sockets"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

describe("a connection that is used", function()
  local broker = tidegate.shared { config = {
    limits = { head_timeout_s = 1, body_timeout_s = 1, idle_timeout_s = 1 },
  } }

  it("is not idle, though each request is answered at once", function()
    for _, target in ipairs { broker(), broker().admin } do
      local c = http.connect(target)
      for i = 1, 6 do
        local r = assert(c:request("GET", "/nothing"), "request " .. i)
        assert.equal(404, r.status)
        assert.is_false(c:closed(0.3))
      end
    end
  end)

  -- Sends 7 requests, each packet the end of one and the beginning of the next.
  local function in_pieces(one, cut)
    local c = http.connect(broker())
    local all = one:rep(7)
    local from = 1
    for i = 1, 6 do
      local to = i * #one + cut
      assert(c:send(all:sub(from, to)))
      from = to + 1
      assert.equal(201, assert(c:response(), "answer " .. i).status)
      assert.is_false(c:closed(0.3))
    end
  end

  it("has the whole time for the body of each request", function()
    local one = http.render("POST", "/events?topic=a", nil, ("x"):rep(100))
    in_pieces(one, #one - 10)
  end)

  it("has the whole time for the head of each request", function()
    in_pieces(http.render("POST", "/events?topic=a", nil, "x"), 10)
  end)
end)

describe("a request that is the last of its connection", function()
  local broker = tidegate.shared()

  -- What was published behind it was not acknowledged: it must not have happened.
  local function ends_with(last)
    local stream = sse.open(broker(), { topic = "a" })
    local c = http.connect(broker())
    c:send(last .. http.render("POST", "/events?topic=a", nil, "behind"):rep(3))
    assert.equal(201, c:response().status)
    assert.is_true(c:closed())
    broker():publish("a", "later")
    assert.equal("last", stream:next().data)
    assert.equal("later", stream:next().data)
  end

  it("is one with Connection: close", function()
    ends_with(http.render("POST", "/events?topic=a", { Connection = "close" }, "last"))
  end)

  it("is one of HTTP/1.0", function()
    ends_with "POST /events?topic=a HTTP/1.0\r\nContent-Length: 4\r\n\r\nlast"
  end)
end)

describe("a client that says it will send nothing more", function()
  local broker = tidegate.shared { config = { limits = { body_timeout_s = 60 } } }
  local one = http.render("POST", "/events?topic=a", nil, "x")

  it("is answered first", function()
    local c = http.connect(broker())
    c:send(one:rep(3))
    c:shutdown()
    for _ = 1, 3 do
      assert.equal(201, c:response().status)
    end
    assert.is_true(c:closed())
  end)

  -- A client that leaves sends nothing else: to wait for a write that fails would keep the streams of all who leave.
  it("has left, where it reads a stream", function()
    local c = http.connect(broker())
    c:send(http.render("GET", "/events?topic=a", { Accept = "text/event-stream" }))
    eventually("the stream is open", function() return broker():metric "tidegate_subscribers" == 1 end)
    c:shutdown()
    eventually("the stream has ended", function() return broker():metric "tidegate_subscribers" == 0 end)
    c:close()
  end)

  it("is not waited for in the middle of a body", function()
    for _, before in ipairs { 0, 2 } do
      local c = http.connect(broker())
      c:send(one:rep(before) .. one:sub(1, -2))
      c:shutdown()
      for _ = 1, before do
        assert.equal(201, c:response().status)
      end
      assert.is_true(c:closed())
    end
  end)
end)

describe("a malformed request behind publishes", function()
  local broker = tidegate.shared()

  it("is answered after them, and counted once", function()
    local c = http.connect(broker())
    c:send(http.render("POST", "/events?topic=a", nil, "x"):rep(20) .. "BAD\r\n\r\n")
    for _ = 1, 20 do
      assert.equal(201, c:response().status)
    end
    assert.equal(400, c:response().status)
    assert.equal(1, broker():metric "tidegate_http_bad_requests_total")
  end)
end)

describe("an answer that the socket does not take at once", function()
  -- What the client still sends must not turn into a reset that takes the end of the answer with it.
  it("arrives in full though its connection closes and the client goes on sending", function()
    local broker = tidegate.start { config = { limits = { send_buffer_bytes = 4608 } } }
    local whole = http.get(broker, "/").body
    for _ = 1, 3 do
      local c = http.connect(broker, { rcvbuf = 2304 })
      assert(c:send(http.render("GET", "/", { Connection = "close" })))
      c:send(("x"):rep(300000), 0.2)
      for _ = 1, 25 do -- slowly, so that its end waits in the kernel while the connection closes
        http.get(broker.admin, "/healthz") -- a few turns of the loop
        c.buffer = c.buffer .. assert(sockets.read_available(c.socket, 300))
      end
      assert.equal(whole, assert(c:response()).body)
    end
    assert.is_true(broker:metric "tidegate_writes_blocked_total" > 0)
  end)
end)
