-- The promise of `observe` with two workers on SQLite: a right that is taken away before an event about it is published
-- ends with that event. spec/pg/revoke_spec.lua says how to run it for longer.
local revoke = require "oracle.revoke"

describe("rights that are taken away before an event says so", function()
  it("end with the event, on every worker, under faults", function()
    revoke.judge(assert, { world = revoke.sqlite { workers = 2 }, users = 12, streams = 60, per_s = 200 },
      3, { "reload", "kill", "cut" })
  end)
end)
