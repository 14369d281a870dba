-- Filters and formats that keep failing.
local logfmt = require "support.logfmt"
local policies = require "support.policies"

describe("quarantine", function()
  local p, good, id

  -- each one an event of its own: what a function raises on counts once
  local function bad()
    id = id + 1
    return policies.event { topic = "a", data = "bad", attrs = '{"n":2}', id = id }
  end

  local function open(parts)
    p = policies.with(parts, { error_log_interval_s = 0 })
    good = policies.event { topic = "a", data = "good", attrs = '{"n":1}', id = 1 }
    id = 1
  end

  after_each(function()
    if p then p:close() end
    p = nil
  end)

  local RAISES = "if ev.attrs.n == 2 then error 'no' end return %s"

  local function quarantine_lines(log)
    local lines = {}
    for line in log:gmatch("[^\n]+") do
      local fields = logfmt.parse(line)
      if fields and fields.msg:find("disabled", 1, true) then lines[#lines + 1] = fields end
    end
    return lines
  end

  it("does not count what fails in a dry run", function()
    open { filters = { f = RAISES:format "true" } }
    p:stage "tried"
    local binding = assert(p:bind { filter = "f" })
    for _ = 1, 200 do assert.is_false((p:filter(binding, bad()))) end
    p:stage "live"
    assert.is_true((p:filter(binding, good)))
    assert.equal(0, p:metrics().policy_quarantined)
  end)

  it("takes a filter out of use after more than 50 errors in 100 calls, and says so once", function()
    open { filters = { f = RAISES:format "true" } }
    local binding = assert(p:bind { filter = "f" })
    local log = policies.capture(function()
      for _ = 1, 49 do assert.is_true((p:filter(binding, good))) end
      for _ = 1, 50 do assert.is_false((p:filter(binding, bad()))) end
      assert.equal(0, p:metrics().policy_quarantined)
      p:filter(binding, bad()) -- the 100th call, the 51st error
      for _ = 1, 10 do assert.is_false((p:filter(binding, good))) end
    end)
    local lines = quarantine_lines(log)
    assert.equal(1, #lines)
    assert.equal("filter disabled until the policy is reloaded: its audiences get no events", lines[1].msg)
    assert.equal("f", lines[1]["function"])
    assert.equal("filter", lines[1].hook)
    assert.matches("^p.lua:%d+$", lines[1].at)
    assert.equal("51", lines[1].errors)
    assert.equal("100", lines[1].calls)
    local m = p:metrics()
    assert.equal(1, m.policy_quarantined)
    assert.equal(10, m.policy_quarantined_calls)
    assert.equal(51, m.policy_errors_filter)
  end)

  it("counts one event once, however many audiences it is for", function()
    open { filters = { f = RAISES:format "true" } }
    local binding, poison = assert(p:bind { filter = "f" }), bad()
    policies.capture(function()
      for _ = 1, 300 do assert.is_false((p:filter(binding, poison))) end
    end)
    assert.equal(0, p:metrics().policy_quarantined)
    assert.is_true((p:filter(binding, good)))
  end)

  it("leaves one in use that fails half of the time, for ever", function()
    open { filters = { f = RAISES:format "true" } }
    local binding = assert(p:bind { filter = "f" })
    policies.capture(function()
      for _ = 1, 400 do
        assert.is_true((p:filter(binding, good)))
        assert.is_false((p:filter(binding, bad())))
      end
    end)
    assert.equal(0, p:metrics().policy_quarantined)
    assert.is_true((p:filter(binding, good)))
  end)

  it("delivers nothing through a format out of use, least of all the data as it is", function()
    open { formats = { f = RAISES:format "ev.raw" } }
    local binding = assert(p:bind { format = "f" })
    local log = policies.capture(function()
      assert.same({ "deliver", "good", "" }, { p:format(binding, good) })
      for _ = 1, 51 do assert.equal("failed", (p:format(binding, bad()))) end
      local result, data = p:format(binding, good)
      assert.equal("failed", result)
      assert.is_true(data == nil or data == "")
    end)
    local lines = quarantine_lines(log)
    assert.equal(1, #lines)
    assert.equal("format", lines[1].hook)
    assert.equal(1, p:metrics().policy_quarantined)
    assert.equal(1, p:metrics().policy_quarantined_calls)
  end)

  it("concerns one function, not the others of the policy", function()
    open { filters = { f = "error 'no'", g = "return true" }, formats = { f = "return ev.raw" } }
    local f, g = assert(p:bind { filter = "f" }), assert(p:bind { filter = "g", format = "f" })
    policies.capture(function()
      for _ = 1, 60 do p:filter(f, bad()) end
    end)
    assert.equal(1, p:metrics().policy_quarantined)
    assert.is_true((p:filter(g, good)))
    assert.same({ "deliver", "good", "" }, { p:format(g, good) })
  end)

  it("counts what comes back wrong, too", function()
    open { filters = { f = "return 'yes'" } }
    local binding = assert(p:bind { filter = "f" })
    policies.capture(function()
      for _ = 1, 51 do p:filter(binding, bad()) end
    end)
    assert.equal(1, p:metrics().policy_quarantined)
  end)
end)
