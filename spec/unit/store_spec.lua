-- The contract of store/store.h, held against the stores that need no server (spec/pg/store_spec.lua: PostgreSQL).
local contract = require "support.store_contract"
local driver = require "support.store_driver"
local store = require "native.store"

local ev = driver.ev

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
})

describe("store_memory", function()
  it("fails the next append or read when told to, whole", function()
    local s = assert(store.open { kind = "memory", first_id = 100 })
    s:fail { append = true, read = true }
    assert.is_false(s:health().ok)
    s:append { ev "1", ev "2" }
    s:read { after = 0 }
    assert.is_true(s:run { completions = 2 })
    local done = s:completions()
    assert.equal("EIO", done[1].error)
    assert.equal("EIO", done[2].error)
    assert.equal(0, #s:tail())
    s:append { ev "3" }
    assert.is_true(s:run { completions = 3 })
    assert.equal(101, s:completions()[1].acks[1].id)
    s:trim(101)
    s:leap(500)
    s:append { ev "4" }
    s:read { after = 0 }
    assert.is_true(s:run { completions = 5 })
    local page = s:completions()[2]
    assert.equal(1, #page.events)
    assert.equal(101, page.trimmed)
    assert.same({ { after = 0, upto = 100 }, { after = 101, upto = 500 } }, s:bounds().leaps)
    s:close()
  end)
end)
