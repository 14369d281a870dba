-- What only the SQLite store promises: ids over restarts, the file it opens, keys, retention.
local files = require "support.files"
local uv = require "luv"
local log = require "native.log"
local store = require "native.store"
local driver = require "support.store_driver"

local ev, rows, data_of = driver.ev, driver.rows, driver.data_of

local function copy_file(from, to)
  files.write(to, files.read(from))
end

describe("store_sqlite", function()
  local d
  local open_store, other, make = driver.sqlite(before_each, after_each)
  local function open(options)
    d = open_store(options)
  end

  describe("over restarts", function()
    it("keeps events, goes on with greater ids, and remembers each leap", function()
      open()
      local first = d:head()
      local a = assert(d:put(rows(3)))[3].id
      d:close()
      assert(d:open())
      local b = d.store:bounds()
      assert.is_true(b.head >= a)
      local id = assert(d:put { ev "4" })[1].id
      assert.is_true(id > a and id > b.head)
      assert.same({ "row 1", "row 2", "row 3", "4" }, data_of(assert(d:history())))
      assert.same({ "4" }, data_of(d.store:tail())) -- history is not tailed again
      assert.equal(0, b.leaps[1].after)
      assert.equal(first, b.leaps[1].upto)
      -- the clock may not have moved; when it has, the hole is recorded
      assert.is_true(#b.leaps == 1 and b.head == a or b.leaps[2].after == a and b.leaps[2].upto == b.head)
    end)

    it("keeps the position between two leaps, though no event was in between", function()
      open()
      local heads = { d:head() }
      for i = 2, 3 do
        d:close()
        -- as if the file were two seconds older
        local db = other()
        assert(db "UPDATE sqlite_sequence SET seq = seq - 2000000 WHERE name = 'events'")
        assert(db "UPDATE leaps SET after = max(after - 2000000, 0), upto = upto - 2000000")
        db:close()
        for k = 1, i - 1 do
          heads[k] = heads[k] - 2000000
        end
        assert(d:open())
        heads[i] = d:head()
      end
      assert.same({ { after = 0, upto = heads[1] }, { after = heads[1], upto = heads[2] },
        { after = heads[2], upto = heads[3] } }, d.store:bounds().leaps)
    end)

    it("keeps the list of leaps bounded", function()
      open()
      d:close()
      local db = other()
      assert(db "DELETE FROM leaps")
      assert(db [[WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 1024)
        INSERT INTO leaps SELECT i * 10, i * 10 + 5 FROM n]])
      assert(db "UPDATE sqlite_sequence SET seq = 20000")
      db:close()
      assert(d:open())
      local b = d.store:bounds()
      assert.equal(1024, #b.leaps)
      assert.same({ after = 10, upto = 25 }, b.leaps[1]) -- the two oldest became one
      assert.same({ after = 20000, upto = b.head }, b.leaps[1024])
    end)

    it("never hands an id out twice, though an old copy is put back", function()
      open()
      d:close()
      local db = other()
      -- as if all of this were seconds ago
      assert(db "UPDATE sqlite_sequence SET seq = seq - 3000000")
      assert(db "UPDATE leaps SET upto = upto - 3000000")
      assert(db "INSERT INTO events(topic, data) VALUES ('t', 'kept')")
      db:close()
      copy_file(d.file, d.file .. ".old")
      db = other()
      assert(db "INSERT INTO events(topic, data) VALUES ('t', 'lost 1'), ('t', 'lost 2')")
      local lost = assert(db "SELECT seq FROM events WHERE data LIKE 'lost%' ORDER BY seq")
      db:close()
      assert(os.rename(d.file .. ".old", d.file))
      assert(d:open())
      local b = d.store:bounds()
      local hole = b.leaps[#b.leaps]
      for _, row in ipairs(lost) do
        assert.is_true(row[1] > hole.after and row[1] <= hole.upto, "a client with a lost id is not told")
      end
      assert.is_true(assert(d:put { ev "new" })[1].id > lost[2][1])
      assert.same({ "kept", "new" }, data_of(assert(d:history())))
    end)

    it("does not go back when the clock does", function()
      open()
      d:close()
      local db = other()
      local future = store.floor((os.time() + 3600) * 1000)
      assert(db("UPDATE sqlite_sequence SET seq = " .. future))
      assert(db("UPDATE leaps SET upto = " .. future))
      db:close()
      assert(d:open())
      assert.equal(future, d:head())
      assert.equal(future + 1, assert(d:put { ev "x" })[1].id)
    end)

    it("delivers as history what others wrote while it was down", function()
      open()
      d:close()
      local db = other()
      assert(db "INSERT INTO events(topic, data) VALUES ('t', 'meanwhile')")
      assert(d:open())
      assert(d:put { ev "after" })
      assert.same({ "meanwhile", "after" }, data_of(assert(d:history())))
      assert.same({ "after" }, data_of(d.store:tail()))
    end)
  end)

  describe("opening", function()
    local function refused(what)
      local ok, why, code = d:open()
      assert.is_nil(ok)
      assert.matches(what, why)
      assert.is_true(why:find(d.path, 1, true) ~= nil, "does not name the file: " .. why)
      return code
    end

    it("refuses a file that is no database, and leaves it alone", function()
      open()
      d:close()
      files.write(d.file, ("no database"):rep(1000))
      assert.equal("EINVAL", refused "is not a SQLite database")
      local f = io.open(d.file)
      assert.equal("no database", f:read(11))
      f:close()
    end)

    it("refuses a file of which it cannot know whether others serve it", function()
      open()
      d:close()
      local head = d.file .. "-lock"
      assert(os.remove(head))
      assert(uv.fs_mkdir(head, 448))
      assert.equal("EISDIR", refused "%-lock: cannot be opened: illegal operation on a directory")
      assert(uv.fs_rmdir(head))
      assert(d:open())
    end)

    it("refuses a damaged database", function()
      open()
      assert(d:put(rows(200)))
      d:close()
      local f = io.open(d.file, "r+b")
      f:seek("set", 100) -- the first page behind its header: the schema
      f:write(("\xff"):rep(3000))
      f:close()
      refused "malformed"
    end)

    it("refuses a schema from the future, and a stranger's database", function()
      open()
      d:close()
      local db = other()
      assert(db "PRAGMA user_version = 7")
      db:close()
      assert.equal("ENOTSUP", refused "newer Tidegate %(schema 7")
      db = other()
      assert(db "PRAGMA application_id = 0")
      db:close()
      refused "another program"
    end)

    it("refuses a path that is a file, or that cannot be made", function()
      d = make()
      files.write(d.path, "x")
      assert.equal("ENOTDIR", refused "is not a directory")
      os.remove(d.path)
      local ok, why, code = d:open { path = d.path .. "/deep/er" }
      assert.is_nil(ok)
      assert.matches("cannot make this directory", why)
      assert.equal("ENOENT", code)
    end)

    it("makes files that only their owner may read, and says where others can", function()
      local function modes()
        local names = "events.db events.db-wal events.db-shm events.db-lock"
        local p = io.popen(("cd '%s' && stat -c %%a %s"):format(d.path, names))
        local text = p:read "a"
        p:close()
        return text
      end
      log.collect()
      local function warned()
        local from = log.size()
        assert(d:open())
        local found = log.text(from):find("every user of this machine", 1, true) ~= nil
        d:close()
        return found
      end
      d = make()
      os.execute(("mkdir -p '%s' && chmod 755 '%s'"):format(d.path, d.path))
      assert(d:open())
      assert.equal("600\n600\n600\n600\n", modes())
      d:close()
      assert.is_false(warned())
      os.execute(("chmod 644 '%s/events.db'"):format(d.path))
      assert.is_true(warned())
      os.execute(("chmod 700 '%s'"):format(d.path))
      assert.is_false(warned())
    end)

    it("makes a directory that only its owner may enter", function()
      open()
      local p = io.popen("stat -c %a " .. d.path)
      assert.equal("700", p:read "l")
      p:close()
    end)
  end)

  describe("keys", function()
    it("are forgotten after their window", function()
      open { key_window_s = 2 }
      local first = assert(d:put { ev("a", { key = "k" }) })[1].id
      assert.same({ { id = first, duplicate = true } }, assert(d:put { ev("b", { key = "k" }) }))
      local acks
      d:wait(function()
        acks = assert(d:put { ev("c", { key = "k" }) })
        return not acks[1].duplicate
      end)
      assert.is_true(acks[1].id > first)
      local db = other()
      d:wait(function() return #assert(db "SELECT 1 FROM dedup") == 0 end, 15000)
    end)

    it("are known after a restart", function()
      open()
      local first = assert(d:put { ev("a", { key = "k" }) })[1].id
      d:close()
      assert(d:open())
      assert.same({ { id = first, duplicate = true } }, assert(d:put { ev("b", { key = "k" }) }))
    end)

    it("are not remembered when the window is 0", function()
      open { key_window_s = 0 }
      local acks = assert(d:put { ev("a", { key = "k" }), ev("b", { key = "k" }) })
      assert.is_false(acks[2].duplicate)
    end)
  end)

  describe("retention", function()
    local function fill_and_reopen(n, options, more)
      open { synchronous_full = false }
      local list = rows(n)
      for _, e in ipairs(list) do
        for k, v in pairs(more or {}) do
          e[k] = v
        end
      end
      local acks = assert(d:put(list))
      d:close()
      assert(d:open(options))
      return acks
    end
    local function removed()
      return d.store:metrics().retained_removed
    end

    it("by count keeps the newest, and says what is gone", function()
      local acks = fill_and_reopen(2500, { retain_events = 100 })
      d:wait(function() return removed() == 2400 end)
      assert.equal(acks[2400].id, d.store:bounds().trimmed)
      local page = d:read { after = 0, max_events = 500 }
      assert.equal(100, #page.events)
      assert.equal(acks[2401].id, page.events[1].id)
      assert.equal(acks[2400].id, page.trimmed)
      assert.equal(100, d.store:health().events)
      d:close()
      assert(d:open { retain_events = 100 }) -- it is known after a restart
      assert.equal(acks[2400].id, d.store:bounds().trimmed)
      assert(d:put(rows(50)))
      assert.is_true(d:head() > acks[2500].id)
      d:wait(function() return removed() == 50 end, 15000)
    end)

    it("removes rows that came in below what it had removed, and keeps its place", function()
      local acks = fill_and_reopen(20, { retain_events = 10 })
      d:wait(function() return removed() == 10 end)
      local db = other() -- against the rules: an id of its own choice
      assert(db "INSERT INTO events(seq, topic, data) VALUES (5, 't', 'low')")
      d:close()
      assert(d:open { retain_events = 10 })
      d:wait(function() return removed() == 1 end)
      assert.equal(acks[10].id, d.store:bounds().trimmed)
      assert.equal(acks[11].id, assert(d:history())[1].id)
    end)

    it("by age removes what is old, up to the first that is not", function()
      local now = os.time() * 1000
      open()
      local acks = assert(d:put {
        ev("old 1", { time = now - 100000 }), ev("old 2", { time = now - 90000 }),
        ev("from the future", { time = now + 900000 }), ev("old 3", { time = now - 90000 }),
        ev("young", { time = now }), ev("older than the one before", { time = now - 90000 }),
      })
      d:close()
      assert(d:open { retain_age_s = 60 })
      d:wait(function() return removed() == 4 end)
      assert.same({ "young", "older than the one before" }, data_of(assert(d:history())))
      assert.equal(acks[4].id, d.store:bounds().trimmed)
    end)

    it("by age removes nothing early", function()
      local function now_ms()
        local seconds, microseconds = uv.gettimeofday()
        return seconds * 1000 + microseconds // 1000
      end
      for attempt = 1, 5 do
        local born = now_ms() - 60000 + 950 -- old enough in 950 ms
        open()
        assert(d:put { ev("old", { time = born - 5000 }), ev("not yet", { time = born }) })
        d:close()
        assert(d:open { retain_age_s = 60 })
        d:wait(function() return removed() > 0 end)
        if removed() == 1 then
          return assert.same({ "not yet" }, data_of(assert(d:history())))
        end -- else the machine took its time, or the rule is wrong
        assert.is_true(now_ms() >= born + 60000, "removed before its time, in attempt " .. attempt)
        d:close()
      end
    end)

    it("by size removes about as much as is over", function()
      fill_and_reopen(3000, { retain_bytes = 1000000 }, { data = ("x"):rep(2000) })
      d:wait(function()
        local held = d.store:health().events
        return held > 0 and held < 500
      end, 15000)
      d.store:run { ms = 200 }
      local kept = #assert(d:history())
      assert.is_true(kept > 300 and kept < 500, "kept " .. kept)
      assert.equal(3000 - kept, removed())
    end)

    it("gives pages back when many are free", function()
      fill_and_reopen(6000, { retain_events = 10 }, { data = ("x"):rep(5000) })
      local size = d.store:health().bytes
      d:wait(function()
        size = math.max(size, d.store:health().bytes)
        return removed() == 5990 and d.store:health().bytes < size - 10000000
      end, 15000)
    end)

    it("that has emptied the store does not make ids start anew", function()
      local acks = fill_and_reopen(10, { retain_age_s = 1 }, { time = os.time() * 1000 - 60000 })
      d:wait(function() return removed() == 10 end)
      assert.same({}, assert(d:history()))
      assert.equal(acks[10].id, d.store:bounds().trimmed)
      d:close()
      local db = other() -- even a file whose counter is all that is left
      assert.equal(0, assert(db "SELECT count(*) FROM events")[1][1])
      assert(d:open())
      assert.is_true(assert(d:put { ev "x" })[1].id > acks[10].id)
      d:wait(function() return d.store:health().events == 1 end)
    end)

    it("drops leaps that lie below what it removed", function()
      local acks = fill_and_reopen(10, { retain_events = 1 })
      d:wait(function() return removed() == 9 end)
      for _, leap in ipairs(d.store:bounds().leaps) do
        assert.is_true(leap.upto > acks[9].id)
      end
    end)

    it("does not hold publishes up", function()
      fill_and_reopen(20000, { retain_events = 10 })
      local n = 0
      while removed() < 10000 do
        assert(d:put { ev("during " .. n) })
        n = n + 1
        assert.is_true(n < 1000)
      end
      assert.is_true(n > 2)
      d:wait(function() return removed() == 20000 + n - 10 end, 15000)
    end)

    it("counts anew when another broker on the file has removed rows", function()
      open { synchronous_full = false }
      assert(d:put(rows(100)))
      local db = other()
      assert(db("DELETE FROM events WHERE seq <= " .. d:head() - 40))
      assert(db("REPLACE INTO meta VALUES ('trimmed', " .. d:head() - 40 .. ")"))
      d:wait(function() return d.store:health().events == 40 end, 15000)
      assert.equal(d:head() - 40, d.store:bounds().trimmed)
    end)
  end)

  it("tells how fast it commits (printed, not judged)", function()
    for _, full in ipairs { true, false } do
      open { synchronous_full = full }
      local line = {}
      for _, flight in ipairs { 1, 16, 256 } do
        local seconds, n, before = 0.5, 0, (d.store:counts())
        local from = store.now()
        for _ = 1, flight do
          assert(d.store:append { ev(("x"):rep(200)) })
          n = n + 1
        end
        repeat
          local done = d.store:counts()
          assert(d.store:run { completions = done + 1 })
          for _ = 1, d.store:counts() - done do
            assert(d.store:append { ev(("x"):rep(200)) })
            n = n + 1
          end
        until store.now() - from > seconds * 1000
        assert(d.store:run { completions = before + n })
        line[#line + 1] = ("%d in flight %.0f/s"):format(flight, n / (store.now() - from) * 1000)
        d.store:completions()
        d.store:tail()
      end
      print(("\nsynchronous %s: %s"):format(full and "full" or "normal", table.concat(line, ", ")))
      d:discard()
    end
  end)
end)
