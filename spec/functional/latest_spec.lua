-- What clients hold that begin with a snapshot, on SQLite with two workers, under faults: what the store holds.
-- spec/pg/latest_spec.lua says how to run it for longer.
local latest = require "oracle.latest"

describe("what a client holds that began with a snapshot", function()
  it("is what the store holds, whatever happens to workers, clients and policies", function()
    latest.judge(assert, { world = latest.sqlite { workers = 2, retain = 300 }, streams = 60, topics = 50,
      per_s = 200, mixed = true }, 4, { "cut", "erase", "reload", "kill", "erase", "anew", "away" })
  end)
end)
