-- Hooks that use up their CPU time: what that costs, and what it does not.
local eventually = require "support.eventually"
local http = require "support.http"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

local POLICY = [[
local P = { api = 1 }
local function loop() while true do end end
local function hang() while true do pcall(loop) end end

function P.authenticate(req)
  if req.query.hang == "authenticate" then hang() end
  return { sub = "u" }
end

function P.subscribe(req, who)
  if req.query.hang == "subscribe" then hang() end
  return { topics = req.topics, filter = req.query.filter or "none", format = req.query.format or "raw" }
end

function P.publish(pub, who)
  if pub.attrs.hang == "publish" then hang() end
  return pub
end

P.filters = { hangs = function(ev) if ev.attrs.hang == "filter" then hang() end return true end }
P.formats = { hangs = function(ev) if ev.attrs.hang == "format" then hang() end return ev.raw end }
return P
]]

describe("a hook that does not end", function()
  local broker = tidegate.shared { policy = POLICY, config = { policy = { error_log_interval_s = 0 } } }

  local function overdue(hook)
    return broker():metric(('tidegate_policy_overdue_total{hook="%s"}'):format(hook))
  end

  local function assert_logged(hook, setting, fields)
    local want = { level = "error", hook = hook, at = "policy.lua:2", policy = "policy.lua" }
    for k, v in pairs(fields or {}) do want[k] = v end
    local line = eventually("the log line", function() return broker():logged(want) end)
    assert.matches(("^policy.lua:2: stopped after more than %%d+ ms of CPU time %%(%s%%)"):format(setting), line.error)
    return line
  end

  it("costs the request it was asked for", function()
    for _, hook in ipairs { "authenticate", "subscribe" } do
      local before = overdue(hook)
      local r = http.get(broker(), "/events?topic=a&hang=" .. hook)
      assert.equal(503, r.status)
      assert.equal(before + 1, overdue(hook))
      assert_logged(hook, "policy.subscribe_cpu_ms")
    end
    local before = overdue "publish"
    local r = http.post(broker(), "/events?topic=a&attr.hang=publish", "x")
    assert.equal(503, r.status)
    assert.equal(before + 1, overdue "publish")
    assert_logged("publish", "policy.publish_cpu_ms")
    broker():publish("a", "still there")
  end)

  it("costs one event in a filter or format, of the audiences that use it", function()
    local plain = sse.open(broker(), { topic = "b" })
    local filtered = sse.open(broker(), { topic = "b", query = { filter = "hangs" } })
    local formatted = sse.open(broker(), { topic = "b", query = { format = "hangs" } })
    broker():publish("b", "1", { attrs = { hang = "filter" } })
    broker():publish("b", "2", { attrs = { hang = "format" } })
    broker():publish("b", "3")
    local function data(c)
      local list = {}
      for _, ev in ipairs(c:collect_until "3") do list[#list + 1] = ev.data end
      return list
    end
    assert.same({ "1", "2" }, data(plain))
    assert.same({ "2" }, data(filtered))
    assert.same({ "1" }, data(formatted))
    assert_logged("filter", "policy.filter_cpu_ms", { ["function"] = "hangs" })
    assert_logged("format", "policy.filter_cpu_ms", { ["function"] = "hangs" })
    assert.equal(1, overdue "filter")
    assert.equal(1, overdue "format")
  end)
end)

describe("a policy file that does not end", function()
  it("is refused at the start, and by `tidegate check`", function()
    local options = { policy = "\nwhile true do end", config = { policy = { load_cpu_ms = 100 } } }
    local code, log = tidegate.start_refused(options)
    assert.equal(78, code)
    assert.matches("policy.lua:2: stopped after more than 100 ms of CPU time %(policy.load_cpu_ms%)", log)
    local b = tidegate.prepare(options)
    tidegate.forget_later(b)
    local _, err
    code, _, err = tidegate.run(tidegate.binary(), { args = { "check", b.conf_path } })
    assert.equal(78, code)
    assert.matches("policy.lua:2: error: stopped after more than 100 ms", err)
  end)
end)
