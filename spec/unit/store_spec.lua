-- The contract of store/store.h, held against the stores that need no server (spec/pg/store_spec.lua: PostgreSQL).
local contract = require "support.store_contract"
local store = require "native.store"

contract("sqlite", {
  insert = function(d, e)
    local db = store.sql(d.file)
    assert(db("INSERT INTO events(topic, data) VALUES (?, ?)", e.topic, e.data))
    db:close()
  end,
})

contract("memory", {
  insert = function(d, e)
    d.store:insert(e)
  end,
  forgets = true, -- it is gone with its process, and removes nothing before
})
