-- transports: tls h2tls
-- Leaving: streams are told to come back, what was accepted is answered, the process ends with 0.
local child = require "support.child"
local eventually = require "support.eventually"
local http = require "support.http"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

-- A publish whose body came in full only after the signal: accepted or to be repeated, but answered.
local function answered(conn)
  local r = assert(conn:response())
  assert.is_true(r.status == 201 or r.status == 503, r.status)
  if r.status == 503 then
    assert.matches("^%d+$", r.headers["retry-after"])
  end
end

describe("SIGTERM", function()
  it("ends streams with a retry of their own, and the process with 0", function()
    local broker = tidegate.start { config = { drain = { retry_ms = 400 } } }
    local clients = {}
    for i = 1, 20 do
      clients[i] = sse.open(broker, { topic = "a" })
    end
    broker:publish("a", "last")
    broker:signal "TERM"
    local seen, different = {}, 0
    for _, c in ipairs(clients) do
      assert.equal("closed", c:wait_end())
      assert.is_true(c.whole)
      assert.equal("last", c:next().data)
      for _, block in ipairs(c.blocks) do
        assert.truthy(block.event, "a block without an event, which some parsers make an empty message of")
      end
      assert.is_true(c.retry_ms >= 200 and c.retry_ms <= 1600, c.retry_ms)
      if not seen[c.retry_ms] then
        seen[c.retry_ms], different = true, different + 1
      end
    end
    assert.is_true(different >= 5, different .. " different values")
    assert.equal(0, (broker:wait_exit()))
  end)

  it("is the same for SIGINT", function()
    local broker = tidegate.start()
    local c = sse.open(broker, { topic = "a" })
    broker:stop { signal = "INT" }
    assert.equal("closed", c:wait_end())
  end)

  it("stops accepting at once", function()
    local broker = tidegate.start { config = { drain = { timeout_s = 5 } } }
    local held = http.connect(broker)
    held:send(http.render("POST", "/events?topic=a", { ["Content-Length"] = "5" }) .. "he")
    eventually("the request is under way", function() return broker:metric "tidegate_http_bodies_bytes" > 0 end)
    broker:signal "TERM"
    eventually("it does not accept", function() return not http.connect(broker) end)
    held:send "llo"
    answered(held)
    assert.is_true(held:closed())
    held:close()
    assert.equal(0, (broker:wait_exit()))
  end)

  it("answers publishes under way; what is acknowledged is stored", function()
    local broker = tidegate.start()
    local c = http.connect(broker)
    local n = 300
    for i = 1, n do
      if not c:send(http.render("POST", "/events?topic=a", nil, tostring(i))) then
        break -- closed between two requests: this one was not read
      end
      if i == n // 2 then
        broker:signal "TERM"
      end
    end
    local acked = {}
    while true do
      local ok, r = pcall(c.response, c)
      if not ok or not r then
        break
      end
      assert.is_true(r.status == 201 or r.status == 503, r.status)
      if r.status == 201 then
        acked[#acked + 1] = r.json.id
      end
    end
    assert.equal(0, (broker:wait_exit()))
    broker:start()
    local back = sse.open(broker, { topic = "a", query = { last_event_id = "earliest" } })
    for i, ev in ipairs(back:collect(#acked)) do
      assert.same({ tostring(i), acked[i] }, { ev.data, ev.id })
    end
  end)

  it("answers all pipelined publishes under way, whichever commit they are part of", function()
    local broker = tidegate.start()
    local lock = child.start(assert(child.find "sqlite3"), { "-bail", broker.dir .. "/store/events.db" },
      { stdin = true })
    finally(function() lock:stop() end)
    lock:write "BEGIN IMMEDIATE;\n.print locked\n"
    eventually("it is locked", function() return lock:output():find "locked" end)
    local c = http.connect(broker)
    local one = http.render("POST", "/events?topic=a", nil, "x")
    c:send(one) -- a commit of its own, which waits for the lock
    eventually("it is under way", function() return broker:metric "tidegate_http_requests_total" == 1 end)
    c:send(one:rep(3)) -- the next commit
    eventually("all are", function() return broker:metric "tidegate_http_requests_total" == 4 end)
    broker:signal "TERM"
    eventually("it drains", function() return not http.connect(broker) end)
    lock:write "ROLLBACK;\n"
    for i = 1, 4 do
      local r = assert(c:response(), "answer " .. i)
      assert.equal(201, r.status)
      assert.equal(i == 4 and "close" or "keep-alive", r.headers.connection)
    end
    assert.is_true(c:closed())
    assert.equal(0, (broker:wait_exit()))
  end)

  it("serves no request behind the answer that says close", function()
    local broker = tidegate.start()
    local lock = child.start(assert(child.find "sqlite3"), { "-bail", broker.dir .. "/store/events.db" },
      { stdin = true })
    finally(function() lock:stop() end)
    lock:write "BEGIN IMMEDIATE;\n.print locked\n"
    eventually("it is locked", function() return lock:output():find "locked" end)
    local c = http.connect(broker)
    c:send(http.render("POST", "/events?topic=a", nil, "x") .. http.render("GET", "/nothing"))
    eventually("it is under way", function() return broker:metric "tidegate_http_requests_total" == 1 end)
    broker:signal "TERM"
    eventually("it drains", function() return not http.connect(broker) end)
    lock:write "ROLLBACK;\n"
    local r = assert(c:response())
    assert.same({ 201, "close" }, { r.status, r.headers.connection })
    assert.is_nil((c:response()))
    assert.is_true(c:closed())
    assert.equal(0, (broker:wait_exit()))
  end)

  it("closes connections that wait for a request", function()
    local broker = tidegate.start()
    local fresh, used = http.connect(broker), http.connect(broker)
    assert.equal(404, used:request("GET", "/nothing").status)
    eventually("both are there", function() return broker:metric "tidegate_connections" >= 2 end)
    broker:signal "TERM"
    assert.is_true(fresh:closed())
    assert.is_true(used:closed())
    assert.equal(0, (broker:wait_exit()))
  end)

  it("gives up on those that take nothing when the time is over", function()
    local broker = tidegate.start { config = { drain = { timeout_s = 1 }, limits = { send_buffer_bytes = 16384 } } }
    local stalled = sse.open(broker, { topic = "a", rcvbuf = 4096 })
    for _ = 1, 4 do
      broker:publish("a", ("x"):rep(300000))
    end
    local from = eventually.now()
    broker:signal "TERM"
    assert.equal(0, (broker:wait_exit(8)))
    assert.is_true(eventually.now() - from >= 0.8, "it was given the time")
    stalled:close()
  end)

  it("a second time means now", function()
    local broker = tidegate.start { config = { drain = { timeout_s = 60 } } }
    local held = http.connect(broker)
    held:send(http.render("POST", "/events?topic=a", { ["Content-Length"] = "5" }) .. "he")
    eventually("the request is under way", function() return broker:metric "tidegate_http_bodies_bytes" > 0 end)
    broker:signal "TERM"
    eventually("it drains", function() return not http.connect(broker) end)
    assert.is_true(broker:running())
    broker:signal "TERM"
    broker:wait_exit(5)
    assert.equal(0, broker.exit_signal)
  end)

  it("before a request is complete refuses it as something to try again", function()
    local broker = tidegate.start { config = { drain = { timeout_s = 20 } } }
    local stream, other, blocker = http.connect(broker), http.connect(broker), http.connect(broker)
    blocker:send(http.render("POST", "/events?topic=a", { ["Content-Length"] = "5" }) .. "he")
    local s = http.render("GET", "/events?topic=a", { Accept = "text/event-stream" })
    local o = http.render("GET", "/events?topic=a", { Accept = "*/*" })
    stream:send(s:sub(1, 10))
    other:send(o:sub(1, 10))
    eventually("all are there", function() return broker:metric "tidegate_connections" >= 3 end)
    broker:signal "TERM"
    eventually("it drains", function() return not http.connect(broker) end)
    if stream:send(s:sub(11)) then
      local r = stream:response()
      if r then -- it may also just be closed: nothing of it was accepted
        assert.equal(200, r.status)
        assert.matches("retry: %d+\n", r.body)
      end
    end
    if other:send(o:sub(11)) then
      local r = other:response()
      if r then
        assert.equal(503, r.status)
        assert.matches("^%d+$", r.headers["retry-after"])
      end
    end
    blocker:send "llo"
    blocker:response()
    blocker:close()
    assert.equal(0, (broker:wait_exit()))
  end)

  it("is told by readyz while it lasts", function()
    local broker = tidegate.start { config = { drain = { timeout_s = 20 } } }
    local held = http.connect(broker)
    held:send(http.render("POST", "/events?topic=a", { ["Content-Length"] = "5" }) .. "he")
    eventually("the request is under way", function() return broker:metric "tidegate_http_bodies_bytes" > 0 end)
    broker:signal "TERM"
    eventually("it drains", function() return not http.connect(broker) end)
    local probe = http.connect(broker.admin) -- the admin listener stays until the end
    assert(probe, "the admin listener still answers")
    assert.equal(503, probe:request("GET", "/readyz").status)
    held:send "llo"
    answered(held)
    held:close()
    assert.equal(0, (broker:wait_exit()))
  end)
end)
