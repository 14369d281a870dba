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
    for _, admitted in ipairs(loop.admitted(5)) do -- the machine may be busy
      assert.is_true(admitted <= loop.ADMITTED and admitted >= loop.ADMITTED_LEAST, tostring(admitted))
    end
  end)

  it("admits few, and runs few late tasks, where each takes long", function()
    for _, admitted in ipairs(loop.admitted(3, 1000)) do
      assert.equal(loop.ADMITTED_LEAST, admitted)
    end
    local before = 0
    for _, ran in ipairs(loop.late(20, 1000)) do
      assert.is_true(ran - before <= loop.ADMITTED_LEAST, ran - before .. " at once")
      before = ran
    end
    assert.is_true(before >= 20 - loop.ADMITTED_LEAST, tostring(before))
  end)

  it("lets others have their turn where many deadlines are due at once", function()
    local n, before, most = 5 * loop.EXPIRED_LEAST, 0, 0
    for _, ran in ipairs(loop.deadlines(n, 1000)) do
      most, before = math.max(most, ran - before), ran
    end
    assert.equal(n, before)
    assert.equal(loop.EXPIRED_LEAST, most)
  end)

  it("deals with all deadlines that are due in the end, also where each takes no time", function()
    local steps = loop.deadlines(1000, 0)
    assert.equal(1000, steps[#steps])
  end)
end)
