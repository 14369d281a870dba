-- Rows that other programs write into the store with plain SQL.
local store = require "native.store"
local driver = require "support.store_driver"

local ev, data_of = driver.ev, driver.data_of

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

  describe("rows of other programs", function()
    it("are tailed when they are committed, not only when polled", function()
      open { poll_ms = 10000 }
      local db = other()
      for i = 1, 5 do
        d.store:run { ms = 20 }
        assert(db("INSERT INTO events(topic, type, data, attrs, key) VALUES ('o/1', 'made', ?, ?, 'k')", "row " .. i,
          '{ "b": 1, "a": "x" }'))
        assert.is_true(d.store:run { tail = i, ms = 8000 }) -- long before it would poll
      end
      local e = d.store:tail()[5]
      assert.same({ "o/1", "made", "row 5", '{"a":"x","b":1}', "k" }, { e.topic, e.type, e.data, e.attrs, e.key })
      assert.is_true(math.abs(e.time / 1000 - os.time()) < 5)
      assert.equal(e.id, d:head())
    end)

    it("keep the newest event of a topic, or are refused by the file itself, with the reason", function()
      open { latest = { "score/*" }, latest_topics = 2 }
      local db = other()
      assert(db "BEGIN IMMEDIATE")
      for i = 1, 6 do
        assert(db("INSERT INTO events(topic, data) VALUES (?, ?)", "score/" .. i % 2, "v" .. i))
      end
      assert(db "COMMIT")
      assert(db "BEGIN IMMEDIATE")
      assert(db "INSERT INTO events(topic, data) VALUES ('score/1', 'rolled back')")
      assert(db "ROLLBACK")
      local done, why = db "INSERT INTO events(topic, data) VALUES ('score/9', 'x')"
      assert.is_nil(done)
      assert.matches("topic: would be one more than store.latest_topics", why, 1, true)
      assert(db "INSERT INTO events(topic, data) VALUES ('t/1', 'x')")
      assert.is_true(d.store:run { tail = 7 })
      local page = d:read { latest = true }
      assert.same({ "v5", "v6" }, data_of(page.events))
      assert(db "INSERT INTO events(topic, data) VALUES ('score/1', '')")
      assert(db "INSERT INTO events(topic, data) VALUES ('score/9', 'x')")
      assert.same({ "v6", "x" }, data_of(d:read { latest = true }.events))
      d:close()
      assert(d:open { latest = {} })
      assert(db "INSERT INTO events(topic, data) VALUES ('score/10', 'x')") -- nothing keeps it from there on
      assert.equal(0, #assert(db "SELECT name FROM sqlite_master WHERE name LIKE 'latest%'"))
      db:close()
    end)

    it("leave the newest of its own to the broker, unless the file has something else in mind", function()
      local names = { "score/*" }
      open { latest = names, latest_topics = 3 }
      local db = other()
      local function kept()
        return data_of(d:read { latest = true }.events)
      end
      local function put(...)
        local batch = {}
        for i, text in ipairs { ... } do
          local topic, data = text:match "^(%S+)=(.*)$"
          batch[i] = ev(data, { topic = topic })
        end
        return d:put(batch)
      end
      assert(put("score/1=a", "t/1=x", "score/2=b", "score/1=c", "score/3=d", "score/3="))
      assert.same({ "b", "c" }, kept())
      assert.equal(2, assert(db "SELECT topics FROM latest_state")[1][1])
      assert.is_nil(put("score/3=e", "score/4=f")) -- one too many: nothing of the batch is stored
      assert.same({ "b", "c" }, kept())
      assert(put("score/3=e", "score/2=", "score/4=f"))
      assert.same({ "c", "e", "f" }, kept())
      assert.equal(3, assert(db "SELECT topics FROM latest_state")[1][1])

      -- rows of others among ours
      assert(db "INSERT INTO events(topic, data) VALUES ('score/1', 'theirs')")
      assert(put("score/3=ours"))
      assert.same({ "f", "theirs", "ours" }, kept())

      -- triggers of somebody else run for our rows, too
      assert(db "CREATE TABLE seen(data TEXT)")
      assert(db "CREATE TRIGGER theirs AFTER INSERT ON events BEGIN INSERT INTO seen VALUES (NEW.data); END")
      assert(put("score/1=g", "score/1=h"))
      assert.same({ "f", "ours", "h" }, kept())
      assert.equal("g h", assert(db "SELECT group_concat(data, ' ') FROM seen")[1][1])
      assert(db "DROP TRIGGER theirs")
      assert(put("score/1=i"))
      assert.equal(2, assert(db "SELECT count(*) FROM seen")[1][1])

      -- a later version keeps more of each event
      assert(db "ALTER TABLE latest ADD COLUMN more INTEGER")
      assert(db "DROP TRIGGER latest_keep")
      assert(db([[CREATE TRIGGER latest_keep AFTER INSERT ON events WHEN NEW.topic GLOB 'score/*' BEGIN
        UPDATE latest SET seq = NEW.seq, data = NEW.data, more = 7 WHERE topic = NEW.topic; END]]))
      assert(put("score/1=j"))
      assert.equal(7, assert(db "SELECT more FROM latest WHERE data = 'j'")[1][1])

      -- what another broker named since is what is kept
      assert(db "UPDATE latest_state SET patterns = 'tick/*'")
      assert(db "DROP TRIGGER latest_keep")
      assert(put("score/1=k"))
      assert.equal(0, assert(db "SELECT count(*) FROM latest WHERE data = 'k'")[1][1])
      assert(db "DROP TABLE latest")
      assert(db "DROP TABLE latest_state")
      assert(put("score/1=l"))
      db:close()
    end)

    it("are tailed as soon when they come in the moment of a commit of ours", function()
      open { poll_ms = 60000, synchronous_full = false }
      local db = other()
      local insert = "INSERT INTO events(topic, data) VALUES ('o', ?)"
      for i = 1, 200 do
        d:append { ev("own " .. i) }
        if i % 2 == 0 then -- else while the commit is under way
          d:settle()
        end
        assert(db(insert, "row " .. i))
        assert.is_true(d.store:run { tail = 2 * i, ms = 8000 })
        d:settle()
      end
      assert_rising(d.store:tail())
    end)

    it("are tailed in one order with ours, from several writers that dawdle and roll back", function()
      open { synchronous_full = false }
      local writers, expected = {}, 0
      for i = 1, 3 do
        writers[i] = store.writer {
          file = d.file, tag = "w" .. i, transactions = 60, rollback_every = 5, dawdle_us = 2000,
        }
      end
      for i = 1, 150 do
        d:append { ev("own " .. i), ev("own+ " .. i) }
        if i % 4 == 0 then
          d.store:run { ms = 2 }
        end
      end
      local acks = d:settle(20000)
      for _, w in ipairs(writers) do
        local committed, rc = w:join()
        assert.equal(0, rc)
        expected = expected + committed
      end
      assert.is_true(expected > 300)
      assert.is_true(d.store:run { tail = expected + 300, ms = 10000 })
      d.store:run { ms = 50 }
      local tail = d.store:tail()
      assert.equal(expected + 300, #tail)
      assert_rising(tail)
      assert.same(assert(d:history()), tail)
      -- each writer's rows in its own order, none that was rolled back
      local last = {}
      for _, e in ipairs(tail) do
        local tag, n = e.data:match "^(w%d):(%d+)$"
        if tag then
          assert.equal((last[tag] or 0) + 1, tonumber(n))
          last[tag] = tonumber(n)
        else
          assert.matches("^own", e.data)
        end
      end
      for _, c in ipairs(acks) do
        assert.equal(c.acks[1].id + 1, c.acks[2].id)
      end
    end)

    it("arrive all when there are more than one job reads, and ours go behind them", function()
      open { synchronous_full = false }
      local db = other()
      assert(db "BEGIN IMMEDIATE")
      assert(db [[WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 10000)
        INSERT INTO events(topic, data) SELECT 'bulk', i FROM n]])
      d:append { ev "own" }
      assert(db "COMMIT")
      d:settle()
      assert.is_true(d.store:run { tail = 10001 })
      local tail = d.store:tail()
      assert.equal(10001, #tail)
      assert_rising(tail)
      assert.equal("own", tail[10001].data)
      assert.equal("10000", tail[10000].data)
    end)

    it("that cannot be delivered are left out, counted, and stop nobody", function()
      open { event_bytes = 10 }
      local db = other()
      local insert = "INSERT INTO events(topic, type, data) VALUES (?, ?, ?)"
      assert(db(insert, "t", "x", "good 1"))
      assert(db(insert, "a//b", "x", "bad"))
      assert(db(insert, "a/*", "x", "bad"))
      assert(db(insert, "t", "two\nlines", "bad"))
      assert(db(insert, "t", "x", "\xff\xfe"))
      assert(db(insert, "t", "x", "longer than ten"))
      assert(db "INSERT INTO events(topic, data, attrs) VALUES ('t', 'bad', '{\"a\":[1]}')")
      assert(db(insert, "t", "x", "good 2"))
      assert.is_true(d.store:run { tail = 2 })
      assert(d:put { ev "own" })
      assert.same({ "good 1", "good 2", "own" }, data_of(d.store:tail()))
      assert.equal(6, d.store:metrics().rejected_rows)
      -- history says the same, and does not report them again
      assert.same({ "good 1", "good 2", "own" }, data_of(assert(d:history())))
      assert.equal(6, d.store:metrics().rejected_rows)
      assert.is_true(d.store:health().ok)
      -- a bad row at the end is passed as well
      assert(db(insert, "a//b", "x", "bad"))
      d:wait(function() return d.store:metrics().rejected_rows == 7 end)
      local page = d:read { after = d:head() - 1 }
      assert.same({}, page.events)
      assert.equal(d:head(), page.upto)
    end)

    it("are refused at once, with a message that helps, when the schema can tell", function()
      open()
      local db = other()
      local insert = "INSERT INTO events(topic, data, "
      for message, sql in pairs {
        ["topic: text of 1 to 255 bytes"] = "INSERT INTO events(topic, data) VALUES ('', 'x')",
        ["NOT NULL constraint failed: events.topic"] = "INSERT INTO events(data) VALUES ('x')",
        ["NOT NULL constraint failed: events.data"] = "INSERT INTO events(topic) VALUES ('t')",
        ["type: text of at most 255 bytes"] = insert .. "type) VALUES ('t', 'x', printf('%300d', 1))",
        ["attrs: a JSON object"] = insert .. "attrs) VALUES ('t', 'x', '{nonsense')",
        ["attrs: a JSON object of at most 4096 bytes"] = insert .. "attrs) VALUES ('t', 'x', '[1]')",
        ["key: text of 1 to 255 bytes"] = insert .. "key) VALUES ('t', 'x', '')",
        ["created: Unix time in ms %(13 digits%)"] = insert .. "created) VALUES ('t', 'x', unixepoch())",
        ["data: text"] = "INSERT INTO events(topic, data) VALUES ('t', x'00ff')",
        ["seq: leave it out"] = "INSERT INTO events(seq, topic, data) VALUES (9007199254740992, 't', 'x')",
        ["events cannot be changed"] = "UPDATE events SET data = 'y'",
      } do
        if message:find "changed" then
          assert(db "INSERT INTO events(topic, data) VALUES ('t', 'x')")
        end
        local ok, why = db(sql)
        assert.is_nil(ok, sql)
        assert.matches(message, why)
      end
      assert.is_true(d.store:run { tail = 1 })
    end)

    it("do not make an id go backwards when somebody resets the counter", function()
      open()
      local first = assert(d:put { ev "1" })[1].id
      local db = other()
      assert(db "DELETE FROM events")
      assert(db "UPDATE sqlite_sequence SET seq = 5")
      local second = assert(d:put { ev "2" })[1].id
      assert.is_true(second > first)
      local leap = d.store:leaps()[1]
      assert.is_true(leap.after < first and leap.upto > first and leap.upto < second)
      assert.equal(1, leap.tailed)
      assert.same({ "1", "2" }, data_of(d.store:tail()))
    end)
  end)
end)
