-- A run of the oracle on a world, and its judgement: brief in the run of all specs, or as long as the environment says
-- (spec/pg/oracle_spec.lua).
local assert = require "luassert"
local oracle = require "oracle.checker"
local oracle_load = require "oracle.load"

local M = {}

M.SEED = tonumber(os.getenv "TIDEGATE_SPEC_SEED") or os.time()

local SECONDS = tonumber(os.getenv "TIDEGATE_ORACLE_SECONDS")
local EVERY = tonumber(os.getenv "TIDEGATE_ORACLE_EVERY") or 3

local function chosen()
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

local function schedule(world, brief)
  if SECONDS then
    return oracle_load.schedule(world, SECONDS, EVERY, chosen())
  end
  local list = {}
  for i, kind in ipairs(chosen() or brief) do
    list[i] = { kind = kind, pause = 1 }
  end
  return list
end

-- brief: kinds of faults, each once, in this order. finally: of the spec.
function M.judge(world, brief, finally)
  local load = oracle_load.new { world = world, publishers = 3, subscribers = 9, pause = 0.04 }
  finally(function() load:remove() end)
  load:run(schedule(world, brief))
  load:finish()
  local report = oracle.check(load:files())
  local text = ("seed %d\n%s\n%s\n%d refused, %d streams ended by a broker"):format(M.SEED, load:text(),
    oracle.text(report), load.refused, load.ended_by_broker)
  if SECONDS or os.getenv "TIDEGATE_ORACLE_FAULTS" then
    print(text)
  end
  assert.same({}, report.count, text)
  assert.same({}, load.problems, text)
  -- it has looked at something
  assert.is_true(report.stats.committed > 50, text)
  assert.is_true(report.stats.acknowledged > 20, text)
  assert.is_true(report.stats.streams > 9, text)
end

return M
