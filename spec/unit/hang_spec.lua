-- What could keep the loop busy for good (support/hangs.lua): each line is stopped by the budget, ends by
-- itself after bounded work, or is impossible. Nothing here is about speed: what hangs gets the whole run killed
-- by the hard limit of native.budget (5 s of CPU time in one call).
local budget = require "native.budget"

local HANGS = require "support.hangs"

describe("hang list", function()
  local vm

  setup(function()
    -- as a policy has it; calls of the list that only prepare need more than a hook may use
    vm = budget.open { cpu_ms = 20, hard_ms = 5000, memory_bytes = 64 << 20 }
  end)

  teardown(function()
    vm:close()
  end)

  for _, case in ipairs(HANGS) do
    local what, code, ending = case[1], case[2], case[3]
    it(what, function()
      local answer, err, _, _, name = vm:run(code)
      if ending == "stopped" then
        assert.equal("EINTR", name, answer or err)
        assert.matches("stopped after more than 20 ms of CPU time", err, 1, true)
      elseif ending ~= "bounded" and name ~= "EINTR" then -- preparing may have taken too long already
        assert.matches(ending, answer or err, 1, true)
      end
      assert.equal("2", vm:run "return 1 + 1", "usable afterwards")
    end)
  end

  it("takes the same in a coroutine", function()
    for _, case in ipairs(HANGS) do
      local _, _, answer, err, _, _, name = vm:pieces("local spin, poll, pause = ... pause() " .. case[2])
      if case[3] == "stopped" then
        assert.equal("EINTR", name, ("%s: %s"):format(case[1], answer or err))
      end
      assert.equal("2", vm:run "return 1 + 1", case[1])
    end
  end)
end)
