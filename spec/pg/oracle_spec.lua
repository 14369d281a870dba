-- Promises P1-P4 over PostgreSQL, told from the outside: a workload that writes down everything, a schedule of
-- faults, and a checker that knows what was committed. By hand for as long as wanted, then in random order (what it has
-- noted takes about 20 MB on disk a minute, the checker 60 MB of memory a minute under sanitizers):
--   TIDEGATE_ORACLE_SECONDS=1800 TIDEGATE_SPEC_SEED=7 make test SPEC=spec/pg/oracle_spec.lua
-- It prints how long live clients and publishers stood still, for each kind of fault.
-- TIDEGATE_ORACLE_FAULTS: names separated by commas, or none; TIDEGATE_ORACLE_EVERY: seconds between faults.
local oracle = require "oracle.checker"
local oracle_load = require "oracle.load"
local oracle_pg = require "oracle.pg"
local oracle_run = require "oracle.run"
local pg = require "support.pg"

local SETTINGS = { max_connections = 80 }

-- What the run of all specs has time for.
local BRIEF = { "restore_stopped", "crash", "restore_running", "frozen_primary", "big_rows", "publication" }

describe("the oracle, on PostgreSQL,", function()
  it("finds what a tail that asks for `id > last` misses", function()
    math.randomseed(oracle_run.SEED)
    local world = oracle_pg.new { server = pg.start { settings = SETTINGS }, writers = 8, pause = 0.005 }
    local load = oracle_load.new { world = world }
    finally(function() load:remove() end)
    load:run { seconds = 3 }
    load:finish()
    local report = oracle.check(world:naive_files())
    assert.is_true(report.stats.committed > 200, oracle.text(report))
    assert.is_true((report.count.P1 or 0) > 0, oracle.text(report))
  end)

  it("finds nothing to object to in two brokers, whatever happens to them and their server", function()
    math.randomseed(oracle_run.SEED)
    oracle_run.judge(oracle_pg.new {
      server = pg.start { settings = SETTINGS }, brokers = 2, writers = 6, pause = 0.04,
      config = { event_log = { max_events = 512, page_events = 64 }, sse = { retry_ms = 100, heartbeat_s = 1 } },
    }, BRIEF, finally)
  end)
end)
