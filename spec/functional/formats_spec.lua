-- What a format made for one audience is what others get that it cannot tell apart: once per event,
-- in whatever size, and never across a difference that the format has looked at.
local sse = require "support.sse"
local tidegate = require "support.tidegate"

local POLICY = [[
local P = { api = 1 }
local kept = {}
function P.authenticate() return { sub = "x" } end
function P.publish(pub) return pub end
function P.subscribe(req)
  local params = { cell = req.query.cell, role = req.query.role }
  return { topics = req.topics, format = req.query.format or "raw", params = params }
end
P.formats = {
  by_role = function(ev, params)
    if ev.data.fail then error("no") end
    if ev.data.skip then return nil end
    local pad = ("x"):rep(ev.data.pad or 0)
    return { data = { role = params.role, n = ev.data.n, pad = pad }, event = "e-" .. params.role }
  end,
  kept = function(ev, params) -- what it made of params it finds again by their identity
    local prefix = kept[params]
    if not prefix then
      prefix = params.role .. ":"
      kept[params] = prefix
    end
    return prefix .. ev.raw
  end,
  by_all = function(ev, params) return params.role .. params.cell end,
  mask = { mask = { secret = "***" } },
  blow = { mask = { ["list.*"] = ("x"):rep(300) } },
}
return P
]]

describe("formats", function()
  local broker

  local function open(format, role, count)
    local clients = {}
    for i = 1, count do
      clients[i] = sse.open(broker, { keep_bytes = true,
        query = { topic = "**", format = format, role = role, cell = role .. i } })
    end
    return clients
  end

  local function calls()
    return broker:metric "tidegate_policy_format_calls_total", broker:metric "tidegate_policy_format_cache_hits_total"
  end

  before_each(function()
    broker = tidegate.start { policy = POLICY }
  end)

  it("share nothing that was made of params in an earlier call", function()
    local a, b = open("kept", "a", 2), open("kept", "b", 2)
    for n = 1, 4 do
      broker:publish("t", tostring(n))
      for i = 1, 2 do
        assert.equal("a:" .. n, a[i]:next().data)
        assert.equal("b:" .. n, b[i]:next().data)
      end
    end
  end)

  it("in Lua run once for all that differ in what they do not read", function()
    local a, b = open("by_role", "a", 20), open("by_role", "b", 10)
    assert.equal(30, broker:metric "tidegate_audiences")
    for n, pad in ipairs { 0, 10, 20000, 3 } do
      broker:publish("t", ('{"n":%d,"pad":%d}'):format(n, pad))
      for _, c in ipairs(a) do
        local ev = c:next()
        assert.same({ "e-a", ('{"n":%d,"pad":"%s","role":"a"}'):format(n, ("x"):rep(pad)) }, { ev.type, ev.data })
      end
      for _, c in ipairs(b) do
        assert.equal(('{"n":%d,"pad":"%s","role":"b"}'):format(n, ("x"):rep(pad)), c:next().data)
      end
      assert.same({ 2 * n, 28 * n }, { calls() })
    end
  end)

  it("that fail, fail once for all of them; nothing raw gets out", function()
    local a = open("by_role", "a", 10)
    broker:publish("t", '{"fail":true}')
    broker:publish("t", '{"skip":true}')
    broker:publish("t", '{"n":1}')
    for _, c in ipairs(a) do
      assert.equal('{"n":1,"pad":"","role":"a"}', c:next().data)
      assert.truthy(c:bytes():find("skipped id=%d+ reason=format%-error"))
      assert.is_nil(c:bytes():find("fail", 1, true))
      assert.is_nil(c:bytes():find("skip\"", 1, true))
    end
    assert.same({ 3, 27 }, { calls() })
    assert.equal(1, broker:metric 'tidegate_policy_errors_total{hook="format"}')
  end)

  it("that read everything run for everybody", function()
    local a = open("by_all", "a", 5)
    broker:publish("t", "1")
    for i, c in ipairs(a) do
      assert.equal("aa" .. i, c:next().data)
    end
    assert.same({ 5, 0 }, { calls() })
  end)

  it("that are rules, or built in, run once per event", function()
    local masked, json = open("mask", "a", 8), open("json", "a", 8)
    broker:publish("t", '{"secret":1,"n":2.0}')
    for i, c in ipairs(masked) do
      assert.equal('{"secret":"***","n":2.0}', c:next().data)
      assert.truthy(json[i]:next().data:find('"secret":1,"n":2.0', 1, true))
    end
    assert.same({ 2, 14 }, { calls() })
  end)

  it("change with the policy", function()
    local a = open("by_role", "a", 3)
    for n = 1, 3 do
      broker:publish("t", ('{"n":%d}'):format(n))
      for _, c in ipairs(a) do
        assert.equal(('{"n":%d,"pad":"","role":"%s"}'):format(n, n == 1 and "a" or "A" .. n), c:next().data)
      end
      local policy = POLICY:gsub("role = params.role, n", ("role = 'A%d', n"):format(n + 1))
      assert.equal(200, broker:reload(policy).status)
    end
  end)

  -- The sanitizer refuses what is larger, as a machine without memory would. Nothing else does: not tested there.
  local it_with_little_memory = tidegate.sanitized() and it or pending
  it_with_little_memory("that run out of memory end the stream instead of leaving the event out", function()
    local scarce = tidegate.start { policy = POLICY, env = {
      ASAN_OPTIONS = "max_allocation_size_mb=2:allocator_may_return_null=1:" .. (os.getenv "ASAN_OPTIONS" or ""),
    } }
    local data = {
      json = ("\1"):rep(600000), -- each becomes \u0001
      blow = ('{"list":[%s]}'):format(("1,"):rep(9000) .. "1"),
    }
    for format, text in pairs(data) do
      local query = { topic = "**", format = format, role = "a", cell = "a" }
      local c = sse.open(scarce, { keep_bytes = true, query = query })
      scarce:publish("t", text)
      c:wait_end()
      assert.is_nil(c:bytes():find("skipped", 1, true))
    end
    scarce:stop()
  end)
end)
