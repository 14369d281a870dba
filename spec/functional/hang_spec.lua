-- Hostile policies beside well-behaved streams. `tidegate_spec spec/bench/hang.lua` does it with 1,000 of
-- them and prints the table.
local hang_run = require "support.hang_run"

describe("a policy with every line of the hang list", function()
  it("costs its own requests and events, and 100 streams miss neither event nor heartbeat", function()
    local _, broker = hang_run.run(100)
    assert.is_true(broker:metric 'tidegate_policy_overdue_total{hook="filter"}' > 0)
    assert.is_true(broker:metric 'tidegate_policy_overdue_total{hook="authenticate"}' > 0)
    assert.equal(0, broker:metric "tidegate_policy_stack_repairs_total")
  end)
end)
