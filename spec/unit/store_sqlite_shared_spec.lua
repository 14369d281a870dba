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

  it("leaps over what a restored state has lost once, and both hear of it", function()
    open_both { poll_ms = 10000 }
    local lost = assert(d:put(rows(3)))[3].id
    assert.is_true(second.store:run { tail = 3 })
    local db = other()
    assert(db "BEGIN IMMEDIATE")
    assert(db "DELETE FROM events")
    assert(db "UPDATE sqlite_sequence SET seq = seq - 3")
    assert(db "COMMIT")
    local id = assert(second:put { ev "new" })[1].id
    assert.is_true(d.store:run { tail = 4 })
    for _, s in ipairs { d, second } do
      local leaps = s.store:leaps()
      assert.equal(1, #leaps)
      assert.equal(3, leaps[1].tailed)
      assert.is_true(leaps[1].after < lost and lost < leaps[1].upto and leaps[1].upto < id)
      local bounds = s.store:bounds()
      assert.equal(leaps[1].upto, bounds.leaps[#bounds.leaps].upto)
      assert.same({ "row 1", "row 2", "row 3", "new" }, data_of(s.store:tail()))
      assert.equal(1, s.store:metrics().store_leaps)
    end
  end)

  it("tells of a leap that could not be written only when it is", function()
    d = open_store()
    local lost = assert(d:put(rows(3)))[3].id
    local db = other()
    assert(db "DELETE FROM events")
    assert(db "UPDATE sqlite_sequence SET seq = seq - 3")
    store.vfs_fail { write = 1000000 }
    assert.is_nil((d:put { ev "new" }))
    assert.same({}, d.store:leaps())
    store.vfs_fail {}
    d:wait(function() return #d.store:bounds().leaps > 1 end)
    assert.is_true(d.store:leaps()[1].upto > lost)
    assert.is_true(assert(d:put { ev "new" })[1].id > lost)
  end)

  it("passes what the other has removed before it was seen, and says so in pages", function()
    open_both { poll_ms = 10000, no_retention = true }
    local from = second:head()
    local db = other()
    assert(db "BEGIN IMMEDIATE")
    assert(db "INSERT INTO events(topic, data) VALUES ('t', '1'), ('t', '2'), ('t', '3')")
    assert(db "DELETE FROM events WHERE data < '3'")
    assert(db("REPLACE INTO meta VALUES ('trimmed', " .. from + 2 .. ")"))
    assert(db "COMMIT")
    for _, s in ipairs { d, second } do
      assert.is_true(s.store:run { tail = 1 })
      assert.same({ { after = from, upto = from + 2, tailed = 0 } }, s.store:leaps())
      assert.same({ "3" }, data_of(s.store:tail()))
      assert.equal(from + 2, s.store:bounds().trimmed)
      local page = s:read { after = from }
      assert.same({ from + 2, "3" }, { page.trimmed, page.events[1].data })
    end
  end)

  it("names a row that cannot be delivered once, not once a worker, and not again after a restart", function()
    open_both { no_retention = true }
    assert(other() "INSERT INTO events(topic, data) VALUES ('//', 'bad'), ('t', 'good')")
    assert.is_true(d.store:run { tail = 1 })
    assert.is_true(second.store:run { tail = 1 })
    assert.equal(1, #assert(second:history()))
    assert.equal(1, d.store:metrics().rejected_rows)
    assert.equal(0, second.store:metrics().rejected_rows)
    local db = other()
    d:wait(function()
      local row = assert(db "SELECT value FROM meta WHERE name = 'reported'")[1]
      return row and row[1] > 0
    end, 20000)
    second:close()
    second = nil
    d:close()
    assert(d:open())
    assert.equal(1, #assert(d:history()))
    assert.equal(0, d.store:metrics().rejected_rows)
    assert(other() "INSERT INTO events(topic, data) VALUES ('//', 'another')")
    d:wait(function() return d.store:metrics().rejected_rows == 1 end)
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
