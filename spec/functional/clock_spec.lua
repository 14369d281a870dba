-- A wall clock that is wrong: ids are made from it.
local child = require "support.child"
local http = require "support.http"
local sse = require "support.sse"
local tidegate = require "support.tidegate"
local wrong_clock = require "support.wrong_clock"

local SQLITE = assert(child.find "sqlite3", "the package sqlite3 is not installed")
local WARNING = "the clock is behind the newest id: if an older copy was restored without its events.db-lock, "
  .. "ids may be handed out a second time"

-- Publishes, copies, publishes what is lost, restores the copy; from then on the clock is an hour slow. The lost ids.
local function restore_slow(broker)
  local file, lost = broker.dir .. "/store/events.db", {}
  broker:publish("a", "kept")
  local code, _, err = tidegate.run(SQLITE, { args = { file, ("VACUUM INTO '%s.copy'"):format(file) } })
  assert.equal(0, code, err)
  for i = 1, 3 do
    lost[i] = tonumber((broker:publish("a", "lost " .. i)))
  end
  broker:stop()
  os.remove(file .. "-wal")
  os.remove(file .. "-shm")
  assert(os.rename(file .. ".copy", file))
  broker.options.env = wrong_clock(-3600)
  return lost
end

describe("a clock that is an hour slow", function()
  it("hands out no id of a version that is lost, warns, and has clients told", function()
    local broker = tidegate.start()
    local lost = restore_slow(broker)
    broker:start()
    assert.is_true(tonumber((broker:publish("a", "new"))) > lost[3])
    local c = sse.open(broker, { topic = "a", last_event_id = tostring(lost[2]) })
    local ev = c:next()
    assert.equal("gap", ev.type)
    assert.equal("reset", http.json.decode(ev.data).reason)
    assert.equal("new", c:next().data)
    local line = assert(broker:logged { level = "warn", msg = WARNING })
    assert.is_true(tonumber(line.seconds_behind) >= 3595 and tonumber(line.seconds_behind) <= 3605)
    assert.is_true(tonumber(line.newest) > tonumber(line.clock_says))
    broker:stop()
    broker.options.env = nil
    broker:start()
    assert.is_nil(broker:logged { msg = WARNING }, "the clock is right again")
  end)

  it("warns also where the lock file did not come along", function()
    local broker = tidegate.start()
    restore_slow(broker)
    assert(os.remove(broker.dir .. "/store/events.db-lock"))
    broker:start()
    assert.is_truthy(broker:logged { level = "warn", msg = WARNING })
  end)
end)
