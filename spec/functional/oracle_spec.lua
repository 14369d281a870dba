-- Promises P1-P4 over SQLite, told from the outside, as in spec/pg/oracle_spec.lua, which says how to run it for long.
local oracle_run = require "oracle.run"
local oracle_sqlite = require "oracle.sqlite"

-- What the run of all specs has time for.
local BRIEF = { "worker_behind", "restore_stopped", "worker_kill", "lock", "broker_behind", "big_rows", "broker_kill" }

describe("the oracle, on SQLite,", function()
  it("finds nothing to object to in two workers and another broker, whatever happens to them and their file", function()
    math.randomseed(oracle_run.SEED)
    oracle_run.judge(oracle_sqlite.new {
      writers = 4, workers = 2, pause = 0.1,
      config = { sse = { retry_ms = 100, heartbeat_s = 1 } },
    }, BRIEF, finally)
  end)
end)
