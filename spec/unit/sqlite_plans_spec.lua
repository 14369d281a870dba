-- How SQLite finds what history asks for: by an index, whatever else the file holds.
local store = require "native.store"
local driver = require "support.store_driver"

local ev = driver.ev

describe("the plans of SQLite", function()
  local open = driver.sqlite(before_each, after_each)

  it("look into an index for pages, times and newest events", function()
    local d = open { latest = { "room/*/*" } }
    d:put { ev("x", { topic = "room/1/2" }), ev("y", { topic = "a" }) }
    local db = store.sql(d.file)
    local texts = store.statements()
    for name, plan in pairs {
      rows = "SEARCH events USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)",
      row_at = "SEARCH events USING INTEGER PRIMARY KEY (rowid>?)", -- each step towards a time
      latest_rows = "SEARCH latest USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)",
      latest_of_topic = "SEARCH latest USING COVERING INDEX sqlite_autoindex_latest_1 (topic=?)",
      latest_of_prefix = "SEARCH latest USING COVERING INDEX sqlite_autoindex_latest_1 (topic>? AND topic<?)",
    } do
      local lines = {}
      for i, row in ipairs(assert(db("EXPLAIN QUERY PLAN " .. texts[name]))) do
        lines[i] = row[4]
      end
      assert.equal(plan, table.concat(lines, "; "), name)
    end
    db:close()
  end)
end)
