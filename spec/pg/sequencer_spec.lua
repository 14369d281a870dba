-- From outbox to events: one order for all brokers, whoever hands out the ids, and whatever happens to it.
local eventually = require "support.eventually"
local http = require "support.http"
local pg = require "support.pg"
local sse = require "support.sse"

local SEED = tonumber(os.getenv "TIDEGATE_SPEC_SEED") or os.time()

local function many(n, topic)
  return ("INSERT INTO tidegate.outbox (topic, data) SELECT '%s', i::text FROM generate_series(1, %d) i")
    :format(topic, n)
end

-- All n, once, in order, ids growing.
local function assert_all(c, n, timeout)
  local last = 0
  for i, ev in ipairs(c:collect(n, timeout)) do
    if ev.data ~= tostring(i) or tonumber(ev.id) <= last then
      error(("event %d is %s with id %s after %d (seed %d)"):format(i, ev.data, ev.id, last, SEED))
    end
    last = tonumber(ev.id)
  end
end

describe("several brokers on one database", function()
  local server = pg.shared {}
  local db
  before_each(function() db = server():database() end)

  it("hand out one order of ids to everybody", function()
    local brokers = { db:broker(), db:broker(), db:broker() }
    local clients = {}
    for i, b in ipairs(brokers) do
      clients[i] = sse.open(b, { topic = "**" })
    end
    local s = db:session(pg.APP)
    for i = 1, 60 do
      s:send(("INSERT INTO tidegate.outbox (topic, data) VALUES ('sql', 'sql %d');"):format(i))
      brokers[i % 3 + 1]:publish("http", "http " .. i)
    end
    db:insert { topic = "sql", data = "end" }
    local first = clients[1]:collect(121)
    for i = 2, 3 do
      assert.same(first, clients[i]:collect(121))
    end
    local next_of = { sql = 1, http = 1 }
    for _, ev in ipairs(first) do
      local kind, n = ev.data:match "(%a+) (%d+)"
      if kind then
        assert.equal(next_of[kind], tonumber(n))
        next_of[kind] = next_of[kind] + 1
      end
    end
  end)

  it("take the very first row first, however long the outbox was empty before", function()
    local c = sse.open(db:broker(), { topic = "t" })
    local until_hint = eventually.now() + 2.5 -- the hint moves a second after nobody holds the outbox
    eventually("the outbox has been idle", function() return eventually.now() > until_hint end)
    db:insert { topic = "t", data = "first", key = "k" }
    db:insert { topic = "t", data = "second", key = "k" }
    db:insert { topic = "t", data = "end" }
    assert.same({ "first", "end" }, { c:next().data, c:next().data })
  end)

  it("go on when the one that hands out ids is killed in the middle of it, again and again", function()
    math.randomseed(SEED)
    local brokers = { db:broker(), db:broker() }
    local rounds, n = 4, 8000
    local followers = {
      sse.follower(brokers[1], { topic = "load", last_event_id = "0" }),
      sse.follower(brokers[2], { topic = "load", last_event_id = "0" }),
    }
    for round = 1, rounds do
      local s = db:session(pg.APP)
      s:send(("INSERT INTO tidegate.outbox (topic, data) SELECT 'load', i::text FROM generate_series(%d, %d) i;")
        :format((round - 1) * n + 1, round * n))
      local until_ = eventually.now() + 0.05 + math.random() * 0.3
      eventually("a while", function()
        for _, f in ipairs(followers) do
          f:step()
        end
        return eventually.now() > until_
      end)
      local victim = brokers[math.random(2)]
      for _, b in ipairs(brokers) do
        if b:metric "tidegate_store_sequencer_is_leader" == 1 then
          victim = b
        end
      end
      victim:kill()
      eventually("the other one goes on", function()
        followers[victim == brokers[1] and 2 or 1]:step()
        local f = followers[victim == brokers[1] and 2 or 1]
        return #f.events >= round * n
      end, 60)
      victim:start()
    end
    for i, f in ipairs(followers) do
      eventually("follower " .. i .. " has everything", function()
        f:step()
        return #f.events >= rounds * n
      end, 60)
      for k, ev in ipairs(f.events) do
        if ev.data ~= tostring(k) then
          error(("follower %d: event %d is %s (seed %d)"):format(i, k, ev.data, SEED))
        end
      end
      assert.equal(rounds * n, #f.events)
    end
  end)

  it("go on when the one that hands out ids stops answering, and forgive it when it comes back", function()
    local brokers = { db:broker(), db:broker() }
    local leader, other
    eventually("one of them leads", function()
      for i, b in ipairs(brokers) do
        if b:metric "tidegate_store_sequencer_is_leader" == 1 then
          leader, other = b, brokers[3 - i]
        end
      end
      return leader
    end)
    local cl, co = sse.open(leader, { topic = "t" }), sse.open(other, { topic = "t" })
    db:sql(many(3000, "t"), pg.APP)
    leader:signal "STOP"
    finally(function() leader:signal "CONT" end)
    db:insert { topic = "t", data = "meanwhile" }
    assert_all(co, 3000, 90)
    assert.equal("meanwhile", co:next(90).data)
    leader:signal "CONT"
    assert_all(cl, 3000, 90)
    assert.equal("meanwhile", cl:next(90).data)
    db:insert { topic = "t", data = "after" }
    assert.equal("after", cl:next().data)
    assert.equal("after", co:next().data)
  end)

  it("are not held up by a transaction that stays open, nor by one that holds a snapshot", function()
    local b = db:broker()
    local c = sse.open(b, { topic = "t" })
    local long, old = db:session(pg.APP), db:session()
    old:run "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM tidegate.events;"
    long:run "BEGIN; INSERT INTO tidegate.outbox (topic, data) VALUES ('t', 'long');"
    for i = 1, 20 do
      db:insert { topic = "t", data = tostring(i) }
      assert.equal(tostring(i), c:next().data) -- it stays open until all have come
      eventually.pass(0.1, "the transaction is to stay open for seconds")
    end
    eventually("it is shown to the operator", function()
      return b:metric "tidegate_store_open_publisher_seconds" >= 1
    end)
    long:run "COMMIT;"
    assert.equal("long", c:next(60).data)
    old:run "ROLLBACK;"
  end)

  it("are not driven mad by notifications that are not theirs", function()
    local broker = db:broker()
    local c = sse.open(broker, { topic = "t/**" })
    local function statements()
      return tonumber(db:sql("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"))
    end
    for _, payload in ipairs { "", "9007199254740991", "18446744073709551616", "-1", "1x", "leap" } do
      db:sql(("NOTIFY tidegate, '%s'"):format(payload), pg.APP)
    end
    local before, from = statements(), eventually.now()
    eventually.pass(2, "what would drive it mad has the time for it")
    local each_s = (statements() - before) / (eventually.now() - from)
    assert.is_true(each_s < 500, each_s .. " a second") -- an idle sequencer looks 50 times a second
    db:insert { topic = "t/1", data = "x" }
    assert.equal("x", c:next().data)
    assert.equal(200, http.get(broker.admin, "/readyz").status)
  end)

  it("drain a backlog from before they started", function()
    db:sql(many(20000, "t"), pg.APP)
    local b = db:broker()
    assert_all(sse.open(b, { topic = "t", last_event_id = "0" }), 20000, 60)
    eventually("the outbox is empty", function() return db:sql "SELECT count(*) FROM tidegate.outbox" == "0" end)
  end)
end)

describe("a row that cannot be an event", function()
  local server = pg.shared {}

  local BAD = {
    { "('a//b', 'x', NULL, NULL, NULL)", "topic" },
    { "('/a', 'x', NULL, NULL, NULL)", "topic" },
    { "('a/*', 'x', NULL, NULL, NULL)", "topic" },
    { "(E'a\\x01b', 'x', NULL, NULL, NULL)", "topic" },
    { "('a', 'x', E'x\\nid: 1', NULL, NULL)", "type" },
    { "('a', 'x', E'x\\rdata: 1', NULL, NULL)", "type" },
    { "('a', 'x', NULL, '[1]', NULL)", "attrs" },
    { "('a', 'x', NULL, '{\"deep\": {\"x\": 1}}', NULL)", "attrs" },
    { "('a', 'x', NULL, jsonb_build_object('long', repeat('x', 5000)), NULL)", "attrs" },
    { "('a', repeat('x', 70000), NULL, NULL, NULL)", "data" },
    { "('a', 'x', NULL, NULL, E'k\\nid: 1')", "key" },
  }

  it("is set aside with the reason, counted and logged; everything around it is delivered", function()
    local db = server():database()
    local b = db:broker { config = { limits = { event_bytes = 65536 } } }
    local c = sse.open(b, { topic = "**" })
    local refused = 0
    for i, bad in ipairs(BAD) do
      local statement = ("BEGIN; INSERT INTO tidegate.outbox (topic, data) VALUES ('good', 'before %d');"
        .. "INSERT INTO tidegate.outbox (topic, data, type, attrs, key) VALUES %s;"
        .. "INSERT INTO tidegate.outbox (topic, data) VALUES ('good', 'after %d'); COMMIT"):format(i, bad[1], i)
      local _, err = db:try(statement, pg.APP)
      if err then -- told at once is even better, if it says what is wrong
        refused = refused + 1
        assert.matches(bad[2], err, 1, true)
      else
        assert.equal("before " .. i, c:next().data)
        assert.equal("after " .. i, c:next().data)
        assert.matches(bad[2], db:sql "SELECT reason FROM tidegate.rejected ORDER BY id DESC LIMIT 1", 1, true)
      end
    end
    assert.is_true(refused < #BAD, "nothing reached the sequencer")
    assert.equal(tostring(#BAD - refused), db:sql "SELECT count(*) FROM tidegate.rejected")
    assert.equal("0", db:sql "SELECT count(*) FROM tidegate.outbox")
    eventually("it is counted", function()
      return b:metric "tidegate_store_rejected_rows_total" == #BAD - refused
    end)
    assert.matches("level=warn[^\n]*rejected", b:log())
  end)

  it("does not stop the stream even if it is one nobody has thought of", function()
    local db = server():database()
    local b = db:broker()
    local c = sse.open(b, { topic = "**" })
    -- an operator's own constraint on the events table
    db:sql "ALTER TABLE tidegate.events ADD CONSTRAINT no_seven CHECK (data <> '7')"
    db:sql(many(20, "t"), pg.APP)
    local seen = {}
    for i, ev in ipairs(c:collect(19, 30)) do
      seen[i] = tonumber(ev.data)
    end
    assert.same({ 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20 }, seen)
    assert.equal("7", db:sql "SELECT data FROM tidegate.rejected")
  end)

  -- An operator's constraint that takes its time to refuse `data`, and counts how often.
  local function slow_refusal(db, data, seconds)
    db:sql "CREATE SCHEMA ops; CREATE SEQUENCE ops.tries"
    db:sql(([[CREATE FUNCTION ops.fits(d text) RETURNS boolean LANGUAGE plpgsql AS $$
      BEGIN
        IF d LIKE '%s' THEN
          PERFORM nextval('ops.tries'), pg_sleep(%g);
          RETURN false;
        END IF;
        RETURN true;
      END $$]]):format(data, seconds))
    db:sql "ALTER TABLE tidegate.events ADD CONSTRAINT fits CHECK (ops.fits(data))"
    db:sql(("GRANT USAGE ON SCHEMA ops TO %s; GRANT ALL ON SEQUENCE ops.tries TO %s"):format(pg.OWNER, pg.OWNER))
  end

  it("does not bring the rows around it out of order, however many wait behind it", function()
    local db = server():database()
    slow_refusal(db, "bad", 0.6) -- longer than between two looks at who may still insert
    local c = sse.open(db:broker { config = { store = { batch_rows = 5 } } }, { topic = "**" })
    local long = db:session(pg.APP)
    long:run [[BEGIN; INSERT INTO tidegate.outbox (topic, data)
      SELECT 't', CASE i WHEN 3 THEN 'bad' ELSE i::text END FROM generate_series(1, 40) i;]]
    eventually.pass(2.5, "the sequencer has seen that nobody else holds ids as low as these")
    long:send "COMMIT;"
    local late = db:session(pg.APP)
    eventually("it is committed", function() return long:answer() end)
    for i = 1, 40 do
      late:run(("INSERT INTO tidegate.outbox (topic, data) VALUES ('t', 'late %d');"):format(i))
      eventually.turn()
    end
    local expected, got = {}, {}
    for i = 1, 40 do
      expected[#expected + 1] = i ~= 3 and tostring(i) or nil
    end
    for i = 1, 40 do
      expected[#expected + 1] = "late " .. i
    end
    for i, ev in ipairs(c:collect(#expected, 30)) do
      got[i] = ev.data
    end
    assert.equal(table.concat(expected, " "), table.concat(got, " "))
    assert.equal("bad", db:sql "SELECT string_agg(data, ',') FROM tidegate.rejected")
  end)

  it("is set aside itself, not the one that is committed before it meanwhile", function()
    local db = server():database()
    slow_refusal(db, "bad", 1)
    local c = sse.open(db:broker(), { topic = "**" })
    local before, look = db:session(pg.APP), db:session()
    before:run "BEGIN; INSERT INTO tidegate.outbox (topic, data) VALUES ('t', 'good');"
    db:insert { topic = "t", data = "bad" }
    eventually("it is tried on its own", function()
      return look:run "SELECT last_value FROM ops.tries;" == "2\n"
    end)
    before:run "COMMIT;"
    db:insert { topic = "t", data = "after" }
    assert.same({ "good", "after" }, { c:next(20).data, c:next(20).data })
    assert.equal("bad", db:sql "SELECT string_agg(data, ',') FROM tidegate.rejected")
  end)

  it("is set aside also where its constraint is looked at on COMMIT only", function()
    local db = server():database()
    local c = sse.open(db:broker(), { topic = "**" })
    db:sql [[CREATE FUNCTION public.no_seven() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN
        IF NEW.data = '7' THEN
          RAISE EXCEPTION 'no seven, please' USING ERRCODE = 'check_violation';
        END IF;
        RETURN NULL;
      END $$]]
    db:sql [[CREATE CONSTRAINT TRIGGER no_seven AFTER INSERT ON tidegate.events DEFERRABLE INITIALLY DEFERRED
      FOR EACH ROW EXECUTE FUNCTION public.no_seven()]]
    db:sql(many(9, "t"), pg.APP)
    local got = {}
    for i, ev in ipairs(c:collect(8, 20)) do
      got[i] = ev.data
    end
    assert.same({ "1", "2", "3", "4", "5", "6", "8", "9" }, got)
    assert.equal("7|no seven, please", db:sql "SELECT data, reason FROM tidegate.rejected")
  end)

  it("is not set aside for where it would go: the id that comes next has no partition", function()
    local db = server():database()
    local b = db:broker()
    local c = sse.open(b, { topic = "t" })
    db:insert { topic = "t", data = "before" }
    assert.equal("before", c:next().data)
    local name, lo, hi = db:sql "SELECT name, lo, hi FROM tidegate.partition":match "^([^|]+)|(%d+)|(%d+)"
    db:sql(("ALTER TABLE tidegate.events DETACH PARTITION tidegate.%s"):format(name))
    db:insert { topic = "t", data = "one" }
    db:insert { topic = "t", data = "two" }
    eventually("it says so", function()
      return b:log():find "sqlstate=55000[^\n]*the outbox waits[^\n]*no partition"
    end, 20)
    assert.equal("0", db:sql "SELECT count(*) FROM tidegate.rejected")
    assert.equal("2", db:sql "SELECT count(*) FROM tidegate.outbox")
    db:sql(("ALTER TABLE tidegate.events ATTACH PARTITION tidegate.%s FOR VALUES FROM (%d) TO (%d)")
      :format(name, lo, hi))
    assert.same({ "one", "two" }, { c:next(20).data, c:next(20).data })
  end)
end)
