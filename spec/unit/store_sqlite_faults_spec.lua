-- A store on a machine that fails: full, slow or broken disks, locks, damage.
local store = require "native.store"
local driver = require "support.store_driver"

local ev, rows, data_of = driver.ev, driver.rows, driver.data_of

local function assert_rising(events)
  for i = 2, #events do
    assert.is_true(events[i].id > events[i - 1].id, "ids went backwards")
  end
end

describe("store_sqlite", function()
  local d
  local open_store, other = driver.sqlite(before_each, after_each)
  local function open(options)
    d = open_store(options)
  end

  describe("faults", function()
    local function assert_recovers()
      d:wait(function() return d.store:health().ok end)
    end

    it("disk full: fails the append whole, says so, recovers", function()
      open()
      assert(d:put { ev "before" })
      assert.is_true(d.store:writer_sql "PRAGMA max_page_count = 1")
      local big = {}
      for i = 1, 20 do
        big[i] = ev(("x"):rep(20000))
      end
      local acks, why = d:put(big)
      assert.is_nil(acks)
      assert.equal("ENOSPC", why)
      local h = d.store:health()
      assert.is_false(h.ok)
      assert.matches("cannot store events: .*full: free some space on its disk, or lower store.retain_bytes$", h.detail)
      assert.equal(1, d.store:metrics().store_errors)
      assert.is_true(d.store:writer_sql "PRAGMA max_page_count = 1000000")
      assert_recovers()
      assert(d:put { ev "after" })
      assert.same({ "before", "after" }, data_of(d.store:tail()))
      assert.same({ "before", "after" }, data_of(assert(d:history())))
    end)

    it("an append that cannot be stored does not fail its neighbours", function()
      open()
      d:append { ev "0" } -- keeps the writer busy, so that the next three are one group
      d:append { ev "1" }
      d:append { ev "2", ev("out of time", { time = 5 }) }
      d:append { ev "3" }
      local done = d:settle()
      assert.same({ nil, nil, "EINVAL", nil }, { done[1].error, done[2].error, done[3].error, done[4].error })
      assert.same({ "0", "1", "3" }, data_of(d.store:tail()))
      assert.same({ "0", "1", "3" }, data_of(assert(d:history())))
      assert.is_true(d.store:health().ok)
    end)

    it("a lock held too long: fails after the timeout, whole, then works again", function()
      open { busy_timeout_ms = 100 }
      local db = other()
      assert(db "BEGIN IMMEDIATE")
      assert(db "INSERT INTO events(topic, data) VALUES ('t', 'theirs')")
      local from = store.now()
      d:append { ev "1" }
      d:append { ev "2" }
      local done = d:settle()
      assert.same({ "EBUSY", "EBUSY" }, { done[1].error, done[2].error })
      assert.is_true(store.now() - from >= 100)
      assert.is_false(d.store:health().ok)
      assert.equal(0, #d.store:tail())
      assert(db "COMMIT")
      assert_recovers()
      assert(d:put { ev "3" })
      assert.same({ "theirs", "3" }, data_of(d.store:tail()))
    end)

    it("a lock held for a while only delays", function()
      open()
      local db = other()
      assert(db "BEGIN IMMEDIATE")
      d:append { ev "1" }
      d.store:run { ms = 50 }
      assert.same({}, d.store:completions())
      assert(db "ROLLBACK")
      assert.is_nil(d:settle()[1].error)
    end)

    it("an fsync that fails: nothing is acknowledged or told, then it works again", function()
      open()
      assert(d:put { ev "before" })
      store.vfs_fail { sync = 1 }
      local acks, why = d:put { ev "unsure" }
      assert.is_nil(acks)
      assert.equal("ECONNABORTED", why) -- a crash now, and it would be there
      assert.is_false(d.store:health().ok)
      assert.same({ "before" }, data_of(d.store:tail()))
      assert_recovers()
      assert(d:put { ev "after" })
      assert.same({ "before", "after" }, data_of(assert(d:history())))
      assert.same({ "after" }, data_of(d.store:tail()))
    end)

    it("a commit that fails and a crash: the event may be there, and nobody was told otherwise", function()
      open()
      assert(d:put { ev "before" })
      store.vfs_fail { sync = 1000000 }
      d:append { ev "0" } -- keeps the writer busy, so that the others are one group
      for i = 1, 12 do
        d:append { ev("unsure " .. i) }
      end
      local crashed = driver.new { kind = "sqlite" }
      for _, c in ipairs(d:settle()) do
        assert.equal("ECONNABORTED", c.error)
      end
      assert(os.execute("mkdir " .. crashed.path))
      for _, suffix in ipairs { "", "-wal" } do -- what a crash would leave
        assert(os.execute(("cp %s%s %s%s"):format(d.file, suffix, crashed.file, suffix)))
      end
      store.vfs_fail {}
      assert(crashed:open())
      local found = data_of(assert(crashed:history()))
      crashed:discard()
      assert.is_true(#found > 1, "the frames of the last try are in the log")
    end)

    it("what fails before its commit is known not to be stored, also behind a commit in doubt", function()
      open { busy_timeout_ms = 50 }
      assert(d:put { ev "before" })
      store.vfs_fail { sync = 1 }
      assert.equal("ECONNABORTED", select(2, d:put { ev "unsure" }))
      local db = other()
      assert(db "BEGIN IMMEDIATE")
      assert.equal("EBUSY", select(2, d:put { ev "no" }))
      assert(db "ROLLBACK")
    end)

    it("a write that fails: the group is retried one by one, what fails again fails whole", function()
      open()
      assert(d:put { ev "before" })
      store.vfs_fail { write = 1 }
      d:append(rows(2, "a "))
      d:append(rows(2, "b "))
      d:append(rows(2, "c "))
      local failed = 0
      for _, c in ipairs(d:settle()) do
        if c.error then
          assert.equal("ECONNABORTED", c.error)
          failed = failed + 1
        end
      end
      assert.is_true(failed <= 1)
      local tail = d.store:tail()
      assert.equal(1 + 2 * (3 - failed), #tail)
      assert.same(tail, assert(d:history()))
      assert_rising(tail)
    end)

    it("a disk that is gone fails everything quickly, and keeps nothing", function()
      open()
      store.vfs_fail { write = 1000000 }
      for i = 1, 200 do
        d:append { ev("x" .. i) }
      end
      for _, c in ipairs(d:settle()) do
        assert.equal("ECONNABORTED", c.error)
      end
      assert.equal(0, d.store:metrics().append_queue)
      assert.is_true(d.store:metrics().store_errors >= 200)
      store.vfs_fail {}
      assert_recovers()
      assert(d:put { ev "after" })
      assert.same({ "after" }, data_of(assert(d:history())))
    end)

    it("rows of programs that do not fsync are made durable before they are told", function()
      open { poll_ms = 5 }
      local db = other()
      assert(db "PRAGMA synchronous = OFF")
      d.store:run { ms = 30 }
      local syncs = store.vfs_syncs()
      assert(db "INSERT INTO events(topic, data) VALUES ('t', 'theirs')")
      assert.is_true(d.store:run { tail = 1 })
      assert.is_true(store.vfs_syncs() > syncs)
      store.vfs_fail { sync = 1 }
      assert(db "INSERT INTO events(topic, data) VALUES ('t', 'again')")
      assert.is_true(d.store:run { tail = 2 }) -- told by the next look, once
      assert.same({ "theirs", "again" }, data_of(d.store:tail()))
      assert.is_true(d.store:metrics().store_errors >= 1)
      assert_recovers()
      assert.equal(2, d.store:health().events) -- each was counted once: retention goes by it
    end)

    it("a count of the rows that fails is made again: retention needs it", function()
      open()
      assert(other() [[WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000)
        INSERT INTO events(topic, data) SELECT 't', 'x' FROM n]])
      d:close()
      assert(d:open { retain_events = 59990 })
      store.vfs_fail { read = 1 } -- the first 50000 rows are being counted; this hits the next
      d:wait(function() return d.store:metrics().retained_removed == 10 end)
      assert.is_true(d.store:metrics().store_errors >= 1)
    end)

    it("a damaged page fails the read of it, not the store", function()
      open()
      local list = {}
      for i = 1, 400 do
        list[i] = ev(("x"):rep(1000))
      end
      assert(d:put(list))
      d:close()
      local f = io.open(d.file, "r+b")
      f:seek("set", 60 * 4096)
      f:write(("\xff"):rep(4096))
      f:close()
      assert(d:open())
      local events, why = d:history()
      assert.is_nil(events)
      assert.equal("EIO", why)
      assert.matches("cannot read history", d.store:health().detail)
      assert(d:put { ev "still stores" })
      local page = d:read { after = d:head() - 1 }
      assert.same({ "still stores" }, data_of(page.events))
    end)

    it("a file that was moved away takes no more events", function()
      open()
      assert(d:put { ev "1" })
      assert(os.rename(d.file, d.file .. ".moved"))
      local acks, why = d:put { ev "2" }
      assert(os.rename(d.file .. ".moved", d.file))
      assert.is_nil(acks)
      assert.equal("EIO", why)
      assert.matches("moved or deleted", d.store:health().detail)
    end)
  end)
end)
