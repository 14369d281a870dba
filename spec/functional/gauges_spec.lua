-- Gauges count what they say.
local child = require "support.child"
local eventually = require "support.eventually"
local tidegate = require "support.tidegate"
local uv = require "luv"

describe("the size of the store", function()
  it("is that of its file and of the write-ahead log, which a program that reads keeps long", function()
    local broker = tidegate.start()
    local file = broker.dir .. "/store/events.db"
    local function size(path)
      local st = uv.fs_stat(path)
      return st and st.size or 0
    end
    local reader = child.start(assert(child.find "sqlite3"), { "-batch", file }, { stdin = true })
    finally(function() reader:stop() end)
    reader:write "BEGIN; SELECT 'events ' || count(*) FROM events;\n"
    eventually("it reads", function() return reader:output():find "events 0" end)
    for i = 1, 8 do
      broker:publish("t", ("x"):rep(900000) .. i)
    end
    local log = size(file .. "-wal")
    assert.is_true(log > 7e6, "the log has " .. log .. " bytes")
    local shown
    eventually("it is shown", function()
      shown, log = broker:metric "tidegate_store_size_bytes", size(file .. "-wal")
      return shown == size(file) + log, ("%d, not %d and %d"):format(shown, size(file), log)
    end, 40)
    assert.is_true(shown >= log)
  end)
end)
