-- What thousands bring along at once is spread over turns of the loop, so that those who are there do not wait for it.
local loop = require "native.loop"

describe("the loop", function()
  it("runs late tasks behind all else, some in each step, until none is left", function()
    local n = 10 * loop.LATE_TASKS + 1
    local before = 0
    local steps = loop.late(n)
    for _, ran in ipairs(steps) do
      assert.is_true(ran - before <= loop.LATE_TASKS, ran - before .. " at once")
      before = ran
    end
    assert.is_true(#steps > 10)
    -- the last few run behind the flush callbacks of the last step
    assert.is_true(before >= n - loop.LATE_TASKS and before <= n, tostring(before))
  end)

  it("sleeps when there are none", function()
    assert.is_true(#loop.late(0) < 5)
  end)

  it("admits a number of newcomers in each turn", function()
    for _, admitted in ipairs(loop.admitted(5)) do
      assert.equal(loop.ADMITTED, admitted)
    end
  end)
end)
