-- Several brokers of one machine on one file: what each promises to the others.
local store = require "native.store"
local driver = require "support.store_driver"

local ev, rows, data_of = driver.ev, driver.rows, driver.data_of

describe("store_sqlite, shared", function()
  local d, second
  local open_store, other = driver.sqlite(before_each, after_each)
  after_each(function()
    if second then
      second:close()
      second = nil
    end
  end)

  -- `d` is the first broker on the file, `second` joins it.
  local function open_both(options)
    d = open_store()
    second = driver.new { kind = "sqlite" }
    second.path, second.file = d.path, d.file
    assert(second:open(options))
  end

  it("leaps only where no other broker has the file open", function()
    d = open_store()
    local db = other()
    -- as if the file were two seconds older
    assert(db "UPDATE sqlite_sequence SET seq = seq - 2000000 WHERE name = 'events'")
    db:close()
    local from = d:head() - 2000000
    local joins = assert(store.open { kind = "sqlite", path = d.path })
    assert.equal(from, joins:bounds().head)
    joins:close()
    d:close()
    assert(d:open()) -- alone
    assert.is_true(d:head() > from)
  end)

  it("leaps on a copy that was put in the place of a file somebody still serves", function()
    d = open_store()
    assert(d:put(rows(3)))
    local db = other()
    assert(db "PRAGMA wal_checkpoint(TRUNCATE)")
    local f = assert(io.open(d.file, "rb"))
    local bytes = f:read "a"
    f:close()
    local lost = assert(d:put { ev "is not in the copy" })[1].id
    db:close()
    f = assert(io.open(d.file .. ".new", "wb"))
    f:write(bytes)
    f:close()
    assert(os.remove(d.file))
    os.remove(d.file .. "-wal")
    os.remove(d.file .. "-shm")
    assert(os.rename(d.file .. ".new", d.file))
    store.quiet(true) -- the first complains
    local joins = assert(store.open { kind = "sqlite", path = d.path })
    assert.is_true(joins:bounds().head > lost)
    joins:close()
  end)

  it("gives every event to the tail of both, in one order", function()
    open_both { poll_ms = 10000 }
    for i = 1, 40 do
      (i % 2 == 0 and d or second):append { ev("event " .. i), ev("event+ " .. i) }
      if i % 3 == 0 then
        d.store:run { ms = 1 }
        second.store:run { ms = 1 }
      end
    end
    assert(d:settle())
    assert(second:settle())
    assert.is_true(d.store:run { tail = 80, ms = 5000 })
    assert.is_true(second.store:run { tail = 80, ms = 5000 })
    local a, b = d.store:tail(), second.store:tail()
    assert.same(data_of(a), data_of(b))
    for i = 2, #a do
      assert.is_true(a[i].id > a[i - 1].id)
    end
  end)

  it("sync() completes when what the other has committed has come through the tail", function()
    open_both { poll_ms = 10000 }
    for i = 1, 20 do
      assert(d:put(rows(50, "row " .. i .. ".")))
      second.store:sync()
      second.asked = second.asked + 1
      local done = second:settle()
      assert.equal("sync", done[1].kind)
      assert.is_nil(done[1].error)
      assert.equal(i * 50, done[1].tailed)
    end
  end)

  it("sync() is answered when the store closes meanwhile, and refused afterwards", function()
    open_both()
    second.store:sync()
    second.store:begin_close()
    assert.same({ nil, "ECANCELED" }, { second.store:sync() })
    local done = second.store:finish_close()
    second.store = nil
    assert.equal(1, #done)
    assert.is_nil(done[1].error)
  end)

  it("knows the keys of the other", function()
    open_both()
    local id = assert(d:put { ev("first", { key = "k" }) })[1].id
    assert.same({ { id = id, duplicate = true } }, assert(second:put { ev("again", { key = "k" }) }))
  end)

  it("leaves removing to the other when told to, and finds what is left", function()
    open_both { no_retention = true, retain_events = 1 }
    local acks = assert(d:put(rows(20)))
    d:close()
    assert(d:open { retain_events = 5 })
    second.store:run { ms = 1200 } -- a tick of its timer
    assert.equal(0, second.store:health().events, "it counts what the other one counts")
    d:wait(function() return d.store:bounds().trimmed == acks[15].id end, 15000)
    local page = second:read { after = 0 }
    assert.equal(acks[15].id, page.trimmed)
    assert.same({ "row 16", "row 17", "row 18", "row 19", "row 20" }, data_of(page.events))
  end)
end)
