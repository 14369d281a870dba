-- Hooks that wait: who leaves, who is too many, who takes too long, and what keeps its order.
local eventually = require "support.eventually"
local http = require "support.http"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

-- ?auth=, ?sub=: seconds that authenticate and subscribe wait; a publish waits for attrs.wait.
local POLICY = [[
  return {
    api = 1,
    authenticate = function(req)
      if req.query.auth then sleep(tonumber(req.query.auth)) end
      return { sub = "x", bye = req.query.bye }
    end,
    subscribe = function(req)
      local guard <close> = setmetatable({}, { __close = function()
        if req.query.sub then log.info("closed " .. req.query.sub) end
      end })
      if req.query.sub then sleep(tonumber(req.query.sub)) end
      return { topics = { "a/**" }, limits = {} }
    end,
    publish = function(pub)
      if pub.attrs.wait then sleep(tonumber(pub.attrs.wait)) end
      if pub.raw == "denied" then return tg.deny(403, "no") end
      if pub.raw == "dropped" then return tg.drop("no") end
      return pub
    end,
    disconnect = function(who)
      if who.bye then
        sleep(tonumber(who.bye))
        log.info("bye " .. who.bye)
      end
    end,
  }
]]

local CONFIG = { policy = { suspended = 4, queued = 0, suspended_per_address = 0, subscribe_timeout_ms = 60000,
  publish_timeout_ms = 60000 } }

describe("a hook that waits", function()
  local broker = tidegate.shared { policy = POLICY, config = CONFIG }

  local function suspended(n)
    eventually(n .. " hooks wait", function()
      return broker():metric "tidegate_policy_suspended_hooks" == n
    end)
  end

  local function ask(query, headers)
    local c = assert(http.connect(broker()))
    headers = headers or { Accept = "text/event-stream" }
    c:send(http.render("GET", "/events?" .. http.query(query), headers))
    return c
  end

  local function post(c, topic, data, wait, headers)
    local query = { topic = topic, ["attr.wait"] = wait }
    c:send(http.render("POST", "/events?" .. http.query(query), headers or {}, data))
  end

  it("holds nobody else up, and the stream begins where it was asked to", function()
    local waiting = sse.start(broker(), { query = { sub = "0.3" } })
    local open = sse.open(broker())
    broker():publish("a/b", "meanwhile")
    assert.equal("meanwhile", open:next().data)
    waiting:wait("the stream", function() return waiting.status end)
    assert.equal(200, waiting.status)
    broker():publish("a/b", "later")
    assert.equal("later", waiting:next().data)
    suspended(0)
  end)

  for _, how in ipairs { "close", "reset", "shutdown" } do
    for _, hook in ipairs { "auth", "sub" } do
      it(("ends at once when its client leaves: %s, in %s"):format(how, hook), function()
        local c = ask { [hook] = "50" }
        suspended(1)
        c[how](c)
        suspended(0)
        if hook == "sub" then
          eventually("what was to be closed is closed", function()
            return broker():logged { msg = "closed 50" }
          end)
        end
      end)
    end
  end

  it("ends when its client leaves though it had asked for more", function()
    local c = ask { sub = "50" }
    c:send "GET /events HTTP/1.1\r\nHost: x\r\n"
    suspended(1)
    c:reset()
    suspended(0)
  end)

  it("drops a publish that was not judged when its client is reset", function()
    for _, headers in ipairs { {}, { Connection = "close" } } do
      local stream = sse.open(broker())
      local c = assert(http.connect(broker()))
      post(c, "a/lost", "lost", 50, headers)
      suspended(1)
      c:reset()
      suspended(0)
      broker():publish("a/b", "next")
      assert.equal("next", stream:next().data)
    end
  end)

  it("answers a publisher that has only stopped sending", function()
    local c = assert(http.connect(broker()))
    post(c, "a/half", "half", 0.2)
    c:shutdown()
    assert.equal(201, c:response().status)
  end)

  it("sheds an EventSource by retry, others by 503, when too many wait", function()
    local waiting = {}
    for i = 1, 4 do waiting[i] = ask { sub = "50" } end
    suspended(4)
    local shed = broker():metric "tidegate_policy_shed_total"
    local c = sse.request(broker(), { query = { sub = "50" } })
    assert.equal(200, c.status)
    assert.equal("closed", c:wait_end())
    assert.is_number(c.retry_ms)
    assert.equal(0, #c.queue)
    local r = http.get(broker(), "/events?sub=50", { Accept = "application/json, */*" })
    assert.equal(503, r.status)
    assert.matches("^%d+$", r.headers["retry-after"])
    local p = assert(http.connect(broker()))
    post(p, "a/shed", "shed", 50)
    r = p:response()
    assert.equal(503, r.status)
    assert.matches("^%d+$", r.headers["retry-after"])
    assert.equal(shed + 3, broker():metric "tidegate_policy_shed_total")
    assert.equal(200, sse.request(broker()).status) -- who need not wait gets in
    for _, w in ipairs(waiting) do w:close() end
    suspended(0)
  end)

  it("stores the publishes of one connection in their order, whichever hook is faster", function()
    local stream = sse.open(broker())
    local c = assert(http.connect(broker()))
    post(c, "a/1", "1", 0.3)
    post(c, "a/2", "2")
    post(c, "no/such name with \1", "refused") -- 400: in nobody's way
    post(c, "a/3", "3", 0.1)
    post(c, "a/4", "4")
    local ids = {}
    for i, status in ipairs { 201, 201, 400, 201, 201 } do
      local r = c:response()
      assert.equal(status, r.status)
      if status == 201 then ids[#ids + 1] = tonumber(r.json.id) end
      assert.is_true(i < 2 or #ids < 2 or ids[#ids] > ids[#ids - 1])
    end
    for i = 1, 4 do assert.equal(tostring(i), stream:next().data) end
  end)

  it("keeps that order where one between them is not stored", function()
    for data, status in pairs { denied = 403, dropped = 200 } do
      local stream = sse.open(broker())
      local c = assert(http.connect(broker()))
      post(c, "a/1", "1", 0.4)
      post(c, "a/2", data, 0.1)
      post(c, "a/3", "3")
      for _, expected in ipairs { 201, status, 201 } do
        assert.equal(expected, c:response().status)
      end
      assert.same({ "1", "3" }, { stream:next().data, stream:next().data })
      stream:close()
    end
  end)

  it("lets other connections overtake", function()
    local slow, fast = assert(http.connect(broker())), assert(http.connect(broker()))
    local stream = sse.open(broker())
    post(slow, "a/slow", "slow", 0.3)
    post(fast, "a/fast", "fast")
    assert.equal("fast", stream:next().data)
    assert.equal("slow", stream:next().data)
    assert.equal(201, slow:response().status)
  end)

  it("runs after the stream closed, too", function()
    local c = sse.open(broker(), { query = { bye = "0.05" } })
    c:close()
    eventually("the farewell", function() return broker():logged { msg = "bye 0.05" } end)
    suspended(0)
  end)
end)

describe("a hook that waits too long", function()
  local broker = tidegate.shared {
    policy = POLICY, config = { policy = { subscribe_timeout_ms = 100, publish_timeout_ms = 100 } },
  }

  it("is given up: transient, with a line in the log", function()
    local c = sse.request(broker(), { query = { sub = "50" } })
    assert.equal(200, c.status)
    assert.equal("closed", c:wait_end())
    assert.is_number(c.retry_ms)
    local line = eventually("the log", function()
      return broker():logged { sub = "policy", hook = "subscribe" }
    end)
    assert.equal("given up after 100 ms: it waited for sleep", line.reason)
    assert.matches("^policy.lua:%d+$", line.at)
    local r = http.post(broker(), "/events?topic=a/b&attr.wait=50", "x")
    assert.equal(503, r.status)
    assert.equal(2, broker():metric "tidegate_policy_timeouts_total")
    assert.equal(0, broker():metric "tidegate_policy_suspended_hooks")
  end)
end)

describe("a broker with hooks that wait", function()
  it("stops cleanly: clients are told to come back, nothing is left", function()
    local broker = tidegate.start {
      policy = POLICY,
      config = { drain = { timeout_s = 1 }, policy = { subscribe_timeout_ms = 60000, publish_timeout_ms = 60000 } },
    }
    local c = sse.start(broker, { query = { sub = "50" } })
    local leaving = sse.open(broker, { query = { bye = "50" } })
    leaving:close()
    local p = assert(http.connect(broker))
    p:send(http.render("POST", "/events?topic=a/b&attr.wait=50", {}, "x"))
    eventually("three wait", function() return broker:metric "tidegate_policy_suspended_hooks" == 3 end)
    broker:stop() -- exit code 0, no leak
    c:close()
  end)

  it("goes on in its own policy when another takes over, and is asked again by that one", function()
    local text = [[
      return {
        api = 1,
        authenticate = function() return {} end,
        subscribe = function(req)
          if NAME == "one" then sleep(tonumber(req.query.s)) end
          log.info(NAME .. " decides for " .. req.query.s)
          if NAME == "two" and req.query.s == "3.1" then return tg.deny(403, "not any more") end
          return { topics = { "a/" .. NAME } }
        end,
        publish = function(pub)
          if NAME == "one" then sleep(3) end
          pub.raw = pub.raw .. " by " .. NAME
          return pub
        end,
      }
    ]]
    local broker = tidegate.start {
      policy = (text:gsub("NAME", '"one"')),
      config = { policy = { subscribe_timeout_ms = 60000, publish_timeout_ms = 60000 } },
    }
    local kept = sse.start(broker, { query = { s = "3" } })
    local revoked = sse.start(broker, { query = { s = "3.1" } })
    local p = assert(http.connect(broker))
    p:send(http.render("POST", "/events?topic=a/judged", {}, "judged"))
    eventually("three wait", function() return broker:metric "tidegate_policy_suspended_hooks" == 3 end)
    assert.equal(200, broker:reload((text:gsub("NAME", '"two"'))).status)
    assert.equal(3, broker:metric "tidegate_policy_suspended_hooks")
    assert.equal(201, p:response().status)
    kept:wait("the stream", function() return kept.status end)
    assert.equal(200, kept.status)
    eventually("the new policy decided", function() return broker:logged { msg = "two decides for 3" } end)
    assert.truthy(broker:logged { msg = "one decides for 3" })
    assert.equal("revoked", revoked:next().type)
    eventually("it has the topics of the new policy", function()
      local list = http.get(broker.admin, "/connections").json.connections
      return #list == 1 and list[1].topics[1] == "a/two"
    end)
    broker:publish("a/two", "later")
    assert.equal("later by two", kept:next().data)
    broker:stop()
  end)

  it("waits for its turn behind those of its address: an office comes in", function()
    local broker = tidegate.start { policy = POLICY, config = { policy = { subscribe_timeout_ms = 60000 } } }
    local clients = {}
    for i = 1, 100 do clients[i] = sse.start(broker, { query = { sub = "0.02" } }) end
    sse.pump_until("all are open", clients, function()
      for _, c in ipairs(clients) do
        if not c.status or #c.blocks == 0 then return false end
      end
      return true
    end)
    for _, c in ipairs(clients) do
      assert.equal(200, c.status)
      assert.is_nil(c.ended, "refused for now")
    end
    assert.equal(100, broker:metric "tidegate_subscribers")
    assert.equal(0, broker:metric "tidegate_policy_shed_total")
    assert.equal(0, broker:metric "tidegate_policy_queued_hooks")
    broker:stop()
  end)

  it("caps those of one client", function()
    local broker = tidegate.start { policy = POLICY, config = {
      policy = { suspended_per_address = 2, queued = 0, subscribe_timeout_ms = 60000 } } }
    local waiting = {}
    for i = 1, 2 do waiting[i] = sse.start(broker, { query = { sub = "50" }, from = "127.0.0.2" }) end
    eventually("two wait", function() return broker:metric "tidegate_policy_suspended_hooks" == 2 end)
    local c = sse.request(broker, { query = { sub = "50" }, from = "127.0.0.2" })
    assert.equal("closed", c:wait_end())
    assert.is_number(c.retry_ms)
    local other = sse.request(broker, { query = { sub = "0.05" }, from = "127.0.0.3" })
    assert.equal(200, other.status)
    for _, w in ipairs(waiting) do w:close() end
    broker:stop()
  end)
end)

describe("cache.fetch", function()
  it("runs its function once for many clients, whoever of them leaves", function()
    local broker = tidegate.start {
      policy = [[
        return {
          api = 1,
          authenticate = function() return {} end,
          subscribe = function(req)
            local topic, err = cache.fetch("topic", { ttl = 100, stale = 100 }, function()
              log.info("runs for " .. req.query.name)
              sleep(tonumber(req.query.s or 0.2))
              return "a/b"
            end)
            if not topic then return nil, err end
            return { topics = { topic } }
          end,
          publish = function(pub) return pub end,
        }
      ]],
      config = { policy = { suspended_per_address = 0, subscribe_timeout_ms = 60000 } },
    }
    local first = sse.start(broker, { query = { name = "first", s = "50" } })
    eventually("the first one runs it", function() return broker:logged { msg = "runs for first" } end)
    local clients = {}
    for i = 1, 100 do clients[i] = sse.start(broker, { query = { name = "n" .. i } }) end
    eventually("all wait", function() return broker:metric "tidegate_policy_suspended_hooks" == 101 end)
    first:reset()
    sse.pump_until("all are open", clients, function()
      for _, c in ipairs(clients) do
        if not c.status then return false end
      end
      return true
    end)
    for _, c in ipairs(clients) do assert.equal(200, c.status) end
    assert.equal(2, broker:metric "tidegate_policy_cache_misses_total")
    assert.equal(100, broker:metric "tidegate_policy_cache_shared_total")
    broker:publish("a/b", "hello")
    for _, c in ipairs(clients) do assert.equal("hello", c:next().data) end
    assert.equal(200, sse.request(broker, { query = { name = "late" } }).status)
    assert.equal(1, broker:metric "tidegate_policy_cache_hits_total")
    assert.equal(0, broker:metric "tidegate_policy_suspended_hooks")
    broker:stop()
  end)
end)
