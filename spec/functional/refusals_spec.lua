-- Two ways to say no: denied (do not come back unchanged) and transient (come back with your id).
local eventually = require "support.eventually"
local http = require "support.http"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

-- The hook that misbehaves is chosen by ?hook=, how by ?how=.
local POLICY = [[
  local function misbehave(hook, req)
    if req.query.hook ~= hook then
      return false
    end
    local how = req.query.how
    if how == "deny" then
      return true, tg.deny(tonumber(req.query.status), "SHOWN to the client")
    elseif how == "transient" then
      return true, nil, "HIDDEN database is down"
    elseif how == "error" then
      error("HIDDEN error")
    elseif how == "nothing" then
      return true
    elseif how == "true" then
      return true, true
    elseif how == "text" then
      return true, "HIDDEN"
    elseif how == "unknown-key" then
      return true, { topics = { "a" }, HIDDENfilter = "x", topic = 5 }
    elseif how == "unknown-field" then
      return true, req.qury
    elseif how == "memory" then
      return true, { topics = { ("x"):rep(1 << 30) } }
    end
  end
  return {
    api = 1,
    authenticate = function(req)
      local bad, value, why = misbehave("authenticate", req)
      if bad then return value, why end
      return { sub = "x", hook = req.query.hook or "", how = req.query.how or "", status = req.query.status or "" }
    end,
    subscribe = function(req)
      local bad, value, why = misbehave("subscribe", req)
      if bad then return value, why end
      return { topics = { "a" } }
    end,
    publish = function(pub, who)
      local bad, value, why = misbehave("publish", { query = who })
      if bad then return value, why end
      return pub
    end,
  }
]]

local TRANSIENT = { "transient", "error", "nothing", "true", "text", "unknown-key", "unknown-field", "memory" }

describe("a refusal", function()
  local broker = tidegate.shared { policy = POLICY,
    config = { policy = { error_log_interval_s = 0 }, sse = { refusal_hold_s = 0 } } }

  local function query(hook, how, status)
    return { hook = hook, how = how, status = status }
  end

  for _, hook in ipairs { "authenticate", "subscribe" } do
    for _, status in ipairs { 400, 401, 403, 404, 409, 410, 413, 422, 429 } do
      it(("by %s with %d reaches an event stream as that status"):format(hook, status), function()
        local c = sse.request(broker(), { query = query(hook, "deny", status) })
        assert.equal(status, c.status)
        assert.equal("application/problem+json", c.headers["content-type"])
        local problem = http.json.decode(c:rest_of_body())
        assert.equal(status, problem.status)
        assert.matches("SHOWN to the client", problem.detail)
      end)
    end

    it(("by %s reaches others the same way"):format(hook), function()
      local r = http.get(broker(), "/events?" .. http.query(query(hook, "deny", 403)))
      assert.equal(403, r.status)
      assert.matches("SHOWN to the client", r.json.detail)
    end)

    for _, how in ipairs(TRANSIENT) do
      it(("is transient for an event stream when %s answers: %s"):format(hook, how), function()
        local c = sse.request(broker(), { query = query(hook, how), keep_bytes = true })
        assert.equal(200, c.status)
        assert.equal("text/event-stream; charset=utf-8", c.headers["content-type"])
        assert.equal("closed", c:wait_end())
        assert.is_true(c.whole)
        assert.is_number(c.retry_ms)
        assert.is_true(#c.comments > 0, "a comment that says why")
        assert.equal(0, #c.queue)
        assert.equal(0, #c.blocks) -- some parsers make an empty message of one
        assert.equal("", c.last_id) -- the client keeps the id it has
        assert.is_nil(c:bytes():find("HIDDEN", 1, true), c:bytes())
      end)

      it(("is transient for others when %s answers: %s"):format(hook, how), function()
        local r = http.get(broker(), "/events?" .. http.query(query(hook, how)), { Accept = "application/json, */*" })
        assert.equal(503, r.status)
        assert.matches("^%d+$", r.headers["retry-after"])
        assert.equal("application/problem+json", r.headers["content-type"])
        assert.is_nil(r.body:find("HIDDEN", 1, true), r.body)
      end)
    end
  end

  it("with 204 ends a client for good, and is no success of a publish", function()
    for _, hook in ipairs { "authenticate", "subscribe" } do
      local r = http.get(broker(), "/events?" .. http.query(query(hook, "deny", 204)), { Accept = "text/event-stream" })
      assert.same({ 204, "" }, { r.status, r.body })
      assert.is_nil(r.headers["content-type"])
    end
    for _, hook in ipairs { "authenticate", "publish" } do
      local r = http.post(broker(), "/events?topic=a&" .. http.query(query(hook, "deny", 204)), "no")
      assert.equal(403, r.status)
      assert.equal("SHOWN to the client", r.json.detail)
    end
  end)

  it("of a publish is that status, and nothing is stored", function()
    local c = sse.open(broker())
    for _, hook in ipairs { "authenticate", "publish" } do
      for _, status in ipairs { 400, 401, 403, 404, 409, 410, 413, 422, 429 } do
        local r = http.post(broker(), "/events?topic=a&" .. http.query(query(hook, "deny", status)), "no")
        assert.equal(status, r.status)
        assert.matches("SHOWN", r.json.detail)
      end
    end
    broker():publish("a", "yes")
    assert.equal("yes", c:next().data)
  end)

  for _, how in ipairs(TRANSIENT) do
    it("of a publish is 503 when the policy answers: " .. how, function()
      local c = sse.open(broker())
      for _, hook in ipairs { "authenticate", "publish" } do
        if not (hook == "publish" and how == "unknown-field") then
          local r = http.post(broker(), "/events?topic=a&" .. http.query(query(hook, how)), "no")
          assert.equal(503, r.status)
          assert.matches("^%d+$", r.headers["retry-after"])
          assert.is_nil(r.body:find("HIDDEN", 1, true), r.body)
        end
      end
      broker():publish("a", "yes")
      assert.equal("yes", c:next().data)
    end)
  end

  it("by an error is logged with file and line, and counted", function()
    local before = broker():metric 'tidegate_policy_errors_total{hook="subscribe"}'
    sse.request(broker(), { query = query("subscribe", "error") }):wait_end()
    assert.equal(before + 1, broker():metric 'tidegate_policy_errors_total{hook="subscribe"}')
    assert.matches("policy%.lua:%d+: HIDDEN error", broker():log())
  end)

  it("cannot have another status: that is an error of the policy", function()
    for _, status in ipairs { 200, 302, 418, 500 } do
      local c = sse.request(broker(), { query = query("subscribe", "deny", status) })
      assert.equal(200, c.status)
      c:wait_end()
      assert.is_number(c.retry_ms)
    end
  end)

  it("asks clients to come back at different times", function()
    local seen, different = {}, 0
    for _ = 1, 20 do
      local c = sse.request(broker(), { query = query("subscribe", "transient") })
      c:wait_end()
      if not seen[c.retry_ms] then
        seen[c.retry_ms], different = true, different + 1
      end
      c:close()
    end
    assert.is_true(different >= 10, different .. " different values")
  end)
end)

describe("a stream that is refused for now", function()
  local policy = [[
    return {
      api = 1,
      authenticate = function(req)
        if req.query.fine then return { sub = "x" } end
        return nil, "not now"
      end,
      subscribe = function() return { topics = { "a" } } end,
    }
  ]]
  local function refused(broker)
    local c = sse.request(broker, { topic = "a" })
    c:wait("why, and when to come back", function() return c.retry_ms and c.comments[1] end)
    assert.is_nil(c.ended)
    return c
  end

  it("is held open, so that a client without a pause does not come back at once", function()
    local broker = tidegate.start { policy = policy, config = { sse = { refusal_hold_s = 2 } } }
    local before = broker:metric 'tidegate_refused_transient_total{reason="policy"}'
    local from, rounds = eventually.now(), 0
    repeat
      refused(broker):wait_end()
      rounds = rounds + 1
    until eventually.now() - from >= 4
    assert.is_true(rounds <= (eventually.now() - from) / 2 + 0.1, rounds .. " rounds")
    assert.equal(before + rounds, broker:metric 'tidegate_refused_transient_total{reason="policy"}')
    assert.equal(0, broker:metric "tidegate_refused_streams_held")
    local r = http.get(broker, "/events?topic=a")
    assert.equal(503, r.status, "who asks for no stream hears at once")
  end)

  it("is freed when its client leaves, and when the broker drains", function()
    local broker = tidegate.start { policy = policy,
      config = { sse = { refusal_hold_s = 30 }, drain = { timeout_s = 300 } } }
    local function held() return broker:metric "tidegate_refused_streams_held" end
    local leaves, resets, stays = refused(broker), refused(broker), refused(broker)
    assert.equal(3, held())
    leaves:close()
    resets:reset()
    eventually("those that left are freed", function() return held() == 1 end)
    broker:signal "TERM"
    stays:wait_end() -- which waits for less than the drain would
    broker:wait_exit()
  end)

  it("ends early when they are a quarter of all connections there may be", function()
    local broker = tidegate.start { policy = policy,
      config = { sse = { refusal_hold_s = 30 }, limits = { max_connections = 12 } } }
    local list = {}
    for i = 1, 5 do
      list[i] = refused(broker)
    end
    list[1]:wait_end()
    list[2]:wait_end()
    assert.equal(3, broker:metric "tidegate_refused_streams_held")
    for i = 3, 5 do
      list[i]:pump()
      assert.is_nil(list[i].ended)
    end
    assert.is_string(sse.open(broker, { topic = "a", query = { fine = "1" } }).start_id, "there is room for others")
  end)
end)

describe("a filter or a format that fails", function()
  local broker = tidegate.shared { policy = [[
    return {
      api = 1,
      authenticate = function() return { sub = "x" } end,
      subscribe = function(req)
        return { topics = { "a" }, filter = req.query.filter or "none", format = req.query.format or "raw" }
      end,
      publish = function(pub) return pub end,
      filters = {
        raises = function(ev) if ev.raw == "bad" then error("x") end return true end,
        answers = function(ev) if ev.raw == "bad" then return "yes" end return true end,
      },
      formats = {
        raises = function(ev) if ev.raw == "bad" then error("SECRET") end return ev.raw end,
        answers = function(ev) if ev.raw == "bad" then return 5 end return ev.raw end,
        unknown = function(ev) if ev.raw == "bad" then return { dat = "x" } end return ev.raw end,
      },
    }
  ]] }

  for _, case in ipairs { { filter = "raises" }, { filter = "answers" }, { format = "raises" },
    { format = "answers" }, { format = "unknown" } } do
    local what = next(case) .. " that " .. case[next(case)]
    it("delivers nothing of that event, and goes on: " .. what, function()
      local c = sse.open(broker(), { query = case })
      for _, data in ipairs { "good", "bad", "better" } do
        broker():publish("a", data)
      end
      assert.equal("good", c:next().data)
      assert.equal("better", c:next().data)
      c:close()
    end)
  end

  it("is refused where the name does not exist", function()
    for _, case in ipairs { { filter = "nope" }, { format = "nope" } } do
      local c = sse.request(broker(), { query = case })
      assert.equal(200, c.status)
      c:wait_end()
      assert.is_number(c.retry_ms)
    end
  end)
end)
