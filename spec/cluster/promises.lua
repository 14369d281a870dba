-- What the documentation promises, read from the table of conf/POSTGRESQL.md: judge.lua holds a run to exactly this. By
-- kind of replication, then by fault:
--   lost        events that were acknowledged may be missing afterwards ("the last commits", not "nothing")
-- What is promised always, whatever the fault, is in judge.lua.
local M = { FAULTS = {}, promised = { synchronous = {}, asynchronous = {} } }

local LOST = { nothing = false, ["the last commits"] = true }

-- The rows of the table; `page` is the text.
function M.read(page)
  M.FAULTS = {}
  for fault, synchronous, asynchronous in page:gmatch "\n| `([^`|]+)` | [^|]+ | ([^|]+) | ([^|]+) |" do
    assert(LOST[synchronous] ~= nil and LOST[asynchronous] ~= nil, fault .. ": the promise cannot be read")
    M.FAULTS[#M.FAULTS + 1] = fault
    M.promised.synchronous[fault] = { lost = LOST[synchronous] }
    M.promised.asynchronous[fault] = { lost = LOST[asynchronous] }
  end
  assert(#M.FAULTS > 0, "no table of promises")
end

local here = debug.getinfo(1, "S").source:match "^@(.*)/[^/]*$"
local f <close> = assert(io.open(here .. "/../../conf/POSTGRESQL.md", "rb"))
M.read(f:read "a")

return M
