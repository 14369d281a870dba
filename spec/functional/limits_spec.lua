-- What strangers can make the broker do, and where it ends.
local eventually = require "support.eventually"
local http = require "support.http"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

local function closed_because(broker, reason)
  return broker:metric(('tidegate_connections_closed_total{reason="%s"}'):format(reason))
end

describe("the number of connections", function()
  it("has a limit; who comes later waits until one leaves", function()
    local broker = tidegate.start { config = { limits = { max_connections = 5 } } }
    local clients = {}
    for i = 1, 5 do
      clients[i] = sse.open(broker, { topic = "a" })
    end
    local late = assert(sse.start(broker, { topic = "a" }))
    eventually("accepting pauses", function() return broker:metric "tidegate_accept_paused_total" >= 1 end)
    late:pump()
    assert.is_nil(late.status)
    clients[1]:close()
    late:wait("an answer", function() return late.status end)
    assert.equal(200, late.status)
    clients[2]:close()
    eventually("there is room", function() return broker:metric "tidegate_subscribers" == 4 end)
    broker:publish("a", "x")
    for i = 3, 5 do
      assert.equal("x", clients[i]:next().data)
    end
    assert.equal("x", late:next().data)
  end)

  it("has a limit for each address, which does not concern others", function()
    local broker = tidegate.start { config = { limits = { max_connections_per_address = 2 } } }
    local mine = { sse.open(broker, { topic = "a" }), sse.open(broker, { topic = "a" }) }
    local third = assert(http.connect(broker))
    third:send(http.render("GET", "/events?topic=a", { Accept = "text/event-stream" }))
    assert.equal(429, third:head().status)
    local other = sse.open(broker, { topic = "a", from = "127.0.0.2" })
    mine[1]:close()
    eventually("there is room again", function()
      local c = http.connect(broker)
      c:send(http.render("GET", "/nothing", { Connection = "close" }))
      local r = c:response()
      c:close()
      return r and r.status == 404
    end)
    eventually("the connection that found room is gone", function()
      return pcall(broker.publish, broker, "a", "x", { headers = { Connection = "close" } })
    end)
    assert.equal("x", other:next().data)
    assert.equal("x", mine[2]:next().data)
  end)

  it("survives a lack of file descriptors", function()
    local broker = tidegate.start { ulimit = "-n 64" }
    local admin = http.connect(broker.admin)
    assert.equal(200, admin:request("GET", "/healthz").status)
    local clients = {}
    for i = 1, 90 do
      clients[i] = http.connect(broker)
    end
    eventually("accepting pauses", function()
      local r = admin:request("GET", "/metrics")
      return tonumber(r.body:match "\ntidegate_accept_paused_total (%d+)") >= 1
    end)
    local asked, served = {}, 0
    for _, c in ipairs(clients) do
      asked[#asked + 1] = c:send(http.render("GET", "/nothing")) and c or nil
    end
    eventually("those that were accepted are served", function()
      for i = #asked, 1, -1 do
        if asked[i]:response { timeout = 0 } then
          table.remove(asked, i)
          served = served + 1
        end
      end
      return served > 10
    end)
    local before, from = broker:cpu_seconds(), eventually.now()
    eventually.pass(0.5, "what spins would show by now")
    local busy = (broker:cpu_seconds() - before) / (eventually.now() - from)
    assert.is_true(busy < 0.7, ("it does not spin: %.2f of a processor"):format(busy))
    for _, c in ipairs(clients) do
      c:close()
    end
    eventually("it serves again", function() return http.get(broker, "/nothing").status == 404 end)
    local lines = select(2, broker:log():gsub("\n", "\n"))
    assert.is_true(lines < 60, lines .. " log lines")
  end)
end)

describe("time", function()
  local broker = tidegate.shared { config = {
    limits = { head_timeout_s = 1, body_timeout_s = 1, idle_timeout_s = 1 },
  } }

  -- The connection must end after a second, and long before the ten of the default; returns what was said before.
  local function ends(c, from)
    local said
    local r = c:response { timeout = 9 }
    if r then
      said = r.status
      assert.is_true(c:closed())
    end
    local took = eventually.now() - from
    assert.is_true(took >= 0.9, ("not before: %.2f s"):format(took))
    assert.is_true(took < 9 * eventually.factor, ("in time: %.2f s"):format(took))
    return said
  end

  it("ends for one that says nothing", function()
    local c, from = http.connect(broker()), eventually.now()
    assert.is_nil(ends(c, from))
  end)

  it("ends for one whose head is never complete, however it drips", function()
    local before = closed_because(broker(), "head-timeout")
    local c, from = http.connect(broker()), eventually.now()
    local bytes = "GET /events HTTP/1.1\r\nHost: x\r\n" .. ("X: y\r\n"):rep(200)
    local at = 1
    while at < #bytes and eventually.now() - from < 10 do
      if not c:send(bytes:sub(at, at)) or c:closed(0.05) then
        break
      end
      at = at + 1
    end
    local took = eventually.now() - from
    assert.is_true(took >= 0.9 and took < 9 * eventually.factor, ("%.2f s"):format(took))
    assert.equal(before + 1, closed_because(broker(), "head-timeout"))
  end)

  it("ends for one whose body is never complete", function()
    local before = closed_because(broker(), "body-timeout")
    local c, from = http.connect(broker()), eventually.now()
    c:send(http.render("POST", "/events?topic=a", { ["Content-Length"] = "10" }) .. "abc")
    local said = ends(c, from)
    assert.is_nil(said)
    assert.equal(before + 1, closed_because(broker(), "body-timeout"))
  end)

  it("ends quietly for one that asks nothing more", function()
    local c = http.connect(broker())
    assert.equal(201, c:request("POST", "/events?topic=a", nil, "x").status)
    local from = eventually.now()
    assert.is_nil(ends(c, from))
    assert.is_true(closed_because(broker(), "idle-timeout") >= 1)
  end)

  it("does not end for a stream", function()
    local c = sse.open(broker(), { topic = "long" })
    local idle = http.connect(broker())
    assert.is_true(idle:closed(6)) -- a timeout later
    idle = http.connect(broker())
    assert.is_true(idle:closed(6))
    broker():publish("long", "x")
    assert.equal("x", c:next().data)
  end)
end)

describe("sizes", function()
  local broker = tidegate.shared { config = { limits = { target_bytes = 200, head_bytes = 1024, headers = 10,
    body_bytes = 2000, event_bytes = 2000 } } }

  local function answer(bytes)
    local c = http.connect(broker())
    c:send(bytes)
    local r = c:response()
    assert.equal("application/problem+json", r.headers["content-type"])
    assert.is_true(c:closed())
    return r.status
  end

  it("of a target end in 414", function()
    assert.equal(414, answer(http.render("GET", "/events?topic=" .. ("a"):rep(200))))
    assert.equal(414, answer("GET /" .. ("a"):rep(5000))) -- as soon as it is known
  end)

  it("of a head end in 431", function()
    assert.equal(431, answer(http.render("GET", "/events", { X = ("a"):rep(1024) })))
    assert.equal(431, answer("GET /events HTTP/1.1\r\nHost: x\r\nX: " .. ("a"):rep(5000)))
    local many = {}
    for i = 1, 11 do
      many["X-" .. i] = "y"
    end
    assert.equal(431, answer(http.render("GET", "/events", many)))
  end)

  it("of a body end in 413", function()
    assert.equal(413, answer(http.render("POST", "/events?topic=a", nil, ("x"):rep(2001))))
    assert.equal(413, answer(http.render("POST", "/events?topic=a", { ["Content-Length"] = "99999999999" })))
  end)

  it("are no business of those within them", function()
    assert.equal(201, http.post(broker(), "/events?topic=a", ("x"):rep(2000)).status)
  end)
end)

describe("pipelining", function()
  local broker = tidegate.shared { config = { limits = { pipeline = 2 } } }

  it("beyond its limit waits, it is not refused", function()
    local c = http.connect(broker())
    c:send((http.render("POST", "/events?topic=a", nil, "x")):rep(50))
    for _ = 1, 50 do
      assert.equal(201, c:response().status)
    end
  end)

  it("by one that never reads its answers ends, and harms nobody", function()
    local c = http.connect(broker(), { rcvbuf = 4096 })
    local one = http.render("GET", "/nothing/" .. ("x"):rep(100))
    for _ = 1, 200 do
      if not c:send(one:rep(100), 0.05) then
        break -- it does not take more: back pressure
      end
    end
    assert.equal(201, http.post(broker(), "/events?topic=a", "x").status)
    assert.is_true(broker():memory_kb() < 400 * 1024)
  end)
end)

describe("a policy's grant", function()
  local broker = tidegate.shared { policy = [[
    return {
      api = 1,
      authenticate = function(req)
        return { sub = "x", expires = req.query.expires and math.tointeger(tonumber(req.query.expires)) }
      end,
      subscribe = function(req)
        return { topics = { "a" }, limits = req.query.rate and { events_per_s = tonumber(req.query.rate) } }
      end,
      publish = function(pub) return pub end,
    }
  ]] }

  it("ends when the identity expires", function()
    local c = sse.open(broker(), { query = { expires = os.time() + 4 } })
    c:wait_end(8)
    assert.is_true(closed_because(broker(), "grant-expired") >= 1)
  end)

  it("may bound the rate; what waits is not lost", function()
    local c = sse.open(broker(), { query = { rate = 20 } })
    eventually.pass(2, "what a quiet stream saves up is bounded: one second's worth")
    local from = eventually.now()
    local batch = {}
    for i = 1, 60 do
      batch[i] = { topic = "a", data = tostring(i) }
    end
    broker():publish_all(batch)
    for i, ev in ipairs(c:collect(60, 20)) do
      assert.equal(tostring(i), ev.data)
    end
    local took = eventually.now() - from
    assert.is_true(took >= 1.8, ("60 events at 20/s, 20 of them at once, took %.2f s"):format(took))
  end)
end)
