-- Promises P1-P4 over PostgreSQL, told from the outside: a workload that writes down everything, a seeded
-- schedule of faults, and a checker that knows what was committed. By hand for as long as wanted (what it has noted
-- takes about 20 MB on disk a minute, the checker 60 MB of memory a minute under sanitizers):
--   TIDEGATE_ORACLE_SECONDS=3600 TIDEGATE_SPEC_SEED=7 make test SPEC=spec/pg/oracle_spec.lua
-- TIDEGATE_ORACLE_FAULTS: names separated by commas, or none; TIDEGATE_ORACLE_EVERY: seconds between faults.
local oracle = require "support.oracle"
local oracle_load = require "support.oracle_load"
local pg = require "support.pg"

local SEED = tonumber(os.getenv "TIDEGATE_SPEC_SEED") or os.time()
local SECONDS = tonumber(os.getenv "TIDEGATE_ORACLE_SECONDS") or 30
local EVERY = tonumber(os.getenv "TIDEGATE_ORACLE_EVERY") or 3

local function chosen_faults()
  local text = os.getenv "TIDEGATE_ORACLE_FAULTS"
  if not text then
    return nil
  end
  local list = {}
  for name in text:gmatch "[%w_]+" do
    list[#list + 1] = name ~= "none" and name or nil
  end
  return list
end

local function explain(load, report)
  return ("seed %d\n%s\n%s"):format(SEED, table.concat(load.history, "\n"), oracle.text(report))
end

describe("the oracle", function()
  local server = pg.shared { settings = { max_connections = 80 } }

  it("finds what a tail that asks for `id > last` misses", function()
    math.randomseed(SEED)
    local load = oracle_load.new { db = server():database { schema = false }, writers = 8, pause = 0.005 }
    finally(function() load:remove() end)
    load:run(3)
    load:finish()
    local report = oracle.check(load:naive_files())
    assert.is_true(report.stats.committed > 200, explain(load, report))
    assert.is_true((report.count.P1 or 0) > 0, explain(load, report))
  end)

  it(("finds nothing to object to in two brokers over %d s of faults"):format(SECONDS), function()
    math.randomseed(SEED)
    local db = server():database()
    local config = { event_log = { max_events = 512, page_events = 64 }, sse = { retry_ms = 100, heartbeat_s = 1 } }
    local load = oracle_load.new { db = db, brokers = { db:broker { config = config }, db:broker { config = config } },
      writers = 6, publishers = 3, subscribers = 9, pause = 0.04 }
    finally(function() load:remove() end)
    local kinds = chosen_faults()
    load:run(SECONDS, (not kinds or #kinds > 0) and oracle_load.schedule(SECONDS, EVERY, kinds) or nil)
    load:finish()
    local report = oracle.check(load:files())
    assert.same({}, load.problems, explain(load, report))
    assert.same({}, report.count, explain(load, report))
    -- it has looked at something
    local stats = report.stats
    assert.is_true(stats.committed > SECONDS * 20, explain(load, report))
    assert.is_true(stats.acknowledged > SECONDS * 10, explain(load, report))
    assert.is_true(stats.streams > SECONDS, explain(load, report))
    -- and the same writers, faults and checker do find the losses of the naive tail
    assert.is_true((oracle.check(load:naive_files()).count.P1 or 0) > 0, "the naive tail lost nothing: too calm a load")
    if os.getenv "TIDEGATE_ORACLE_SECONDS" then
      print(explain(load, report), load.refused .. " refused", load.ended_by_broker .. " streams ended by a broker")
    end
  end)
end)
