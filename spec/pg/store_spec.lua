-- The contract of store/store.h, held against PostgreSQL (the other stores: spec/unit/store_spec.lua).
local contract = require "support.store_contract"
local driver = require "support.store_driver"
local pg = require "support.pg"

local server = pg.shared { settings = { max_connections = 30 } }

contract("postgres", {
  new = function()
    local db = server():database { schema = false }
    local d = driver.new { conninfo = db:conninfo() }
    d.db = db
    return d
  end,
  insert = function(d, e)
    d.db:sql(pg.insert(e))
  end,
  date = function(d, e)
    d.db:sql(("UPDATE tidegate.events SET at = timestamptz 'epoch' + %d * interval '1 millisecond' WHERE seq = %d")
      :format(e.time, e.id))
  end,
})
