-- What an application gets that may only INSERT into tidegate.outbox: on COMMIT the event reaches every
-- client on every broker of the database, on ROLLBACK nothing does.
local eventually = require "support.eventually"
local http = require "support.http"
local pg = require "support.pg"
local sse = require "support.sse"

local ATTRS_POLICY = [[
return {
  api = 1,
  authenticate = function() return { sub = "anyone" } end,
  subscribe = function(req) return { topics = req.topics, format = "show" } end,
  publish = function(pub) return pub end,
  formats = { show = function(ev)
    local a = ev.attrs
    return json.encode({ tostring(a.branch), tostring(a.amount), tostring(a.open), ev.key or "-" })
  end },
}
]]

describe("an INSERT into tidegate.outbox", function()
  local server = pg.shared {}
  local db, a, b
  before_each(function()
    db = server():database()
    a, b = db:broker(), db:broker()
  end)

  -- The events of a topic that came before one that is inserted now.
  local function so_far(c, topic)
    db:insert { topic = topic, data = "end" }
    local list = c:collect_until "end"
    for i, ev in ipairs(list) do
      list[i] = ev.data
    end
    return list
  end

  it("reaches the clients of every broker after COMMIT, with one id", function()
    local ca, cb = sse.open(a, { topic = "t/**" }), sse.open(b, { topic = "t/*" })
    db:insert { topic = "t/x", type = "reserved", data = '{"book":1}' }
    local ev = ca:next()
    assert.same({ "reserved", '{"book":1}' }, { ev.type, ev.data })
    assert.same(ev, cb:next())
    assert.matches("^%d+$", ev.id)
    db:insert { topic = "t/x", data = "two\nlines, and ünïcödé ✓" }
    local second = ca:next()
    assert.same({ "message", "two\nlines, and ünïcödé ✓" }, { second.type, second.data })
    assert.is_true(tonumber(second.id) > tonumber(ev.id))
    db:insert { topic = "t/x", data = "" }
    assert.equal("", ca:next().data)
  end)

  it("counts in the time from publish to socket from when the row was taken, on every broker", function()
    local ca, cb = sse.open(a, { topic = "t" }), sse.open(b, { topic = "t" })
    local function sum(broker, count)
      assert.equal(count, broker:metric "tidegate_publish_to_socket_seconds_count")
      return broker:metric "tidegate_publish_to_socket_seconds_sum"
    end
    local s = db:session(pg.APP) -- what the application takes for its transaction is not the broker's
    s:run "BEGIN; INSERT INTO tidegate.outbox (topic, data) VALUES ('t', '1');"
    local from = eventually.now()
    eventually.pass(0.2, "that is what must not be counted")
    local open_s = eventually.now() - from
    from = eventually.now()
    s:run "COMMIT;"
    assert.same({ "1", "1" }, { ca:next().data, cb:next().data })
    for _, broker in ipairs { a, b } do
      local took = sum(broker, 1)
      assert.is_true(took > 0 and took <= eventually.now() - from, ("%f, open for %f"):format(took, open_s))
    end
    -- what another broker gives an id counts from then on, however late this one reads it
    local before = sum(b, 1)
    b:signal "STOP"
    local ok, why = pcall(function()
      a:publish("t", "2")
      from = eventually.now()
      eventually.pass(0.2, "that is what is measured")
    end)
    local late = eventually.now() - from
    b:signal "CONT"
    assert(ok, why)
    assert.same({ "2", "2" }, { ca:next().data, cb:next().data })
    assert.is_true(sum(b, 2) - before >= late)
  end)

  it("cannot hide where nobody looks", function()
    for _, id in ipairs { "0", "-1", "-9223372036854775808" } do
      local ok, err = db:try(("INSERT INTO tidegate.outbox (id, topic, data) OVERRIDING SYSTEM VALUE "
        .. "VALUES (%s, 't', 'x')"):format(id), pg.APP)
      assert.is_nil(ok)
      assert.matches("id: leave it to the table", err, 1, true)
    end
  end)

  it("is seen within a second, without any traffic that could help", function()
    local c = sse.open(a, { topic = "quiet" })
    local soonest = math.huge -- a busy machine may make some of them late
    for i = 1, 5 do
      eventually.pass(1.2, "what polls has slowed down by now")
      local from = eventually.now()
      db:insert { topic = "quiet", data = tostring(i) }
      assert.equal(tostring(i), c:next().data)
      soonest = math.min(soonest, eventually.now() - from)
    end
    assert.is_true(soonest < 1.3, "within a second")
  end)

  it("is not seen before COMMIT, and never after ROLLBACK", function()
    local c = sse.open(a, { topic = "t" })
    local s = db:session(pg.APP)
    s:run "BEGIN; INSERT INTO tidegate.outbox (topic, data) VALUES ('t', 'later');"
    assert.same({}, so_far(c, "t"))
    s:run "COMMIT;"
    assert.equal("later", c:next().data)
    s:run "BEGIN; INSERT INTO tidegate.outbox (topic, data) VALUES ('t', 'never');"
    s:run "ROLLBACK;"
    s:run "BEGIN; INSERT INTO tidegate.outbox (topic, data) VALUES ('t', 'never');"
    server():terminate(pg.APP)
    assert.same({}, so_far(c, "t"))
    assert.same({}, so_far(sse.open(b, { topic = "t", query = { last_event_id = c.last_id } }), "t"))
  end)

  it("needs USAGE and INSERT, and gives nothing else", function()
    db:insert { topic = "t", data = "fine" }
    for _, text in ipairs {
      "SELECT * FROM tidegate.outbox", "DELETE FROM tidegate.outbox", "UPDATE tidegate.outbox SET data = 'x'",
      "TRUNCATE tidegate.outbox", "SELECT * FROM tidegate.events", "DELETE FROM tidegate.events",
      "SELECT * FROM tidegate.head", "UPDATE tidegate.head SET seq = 0", "SELECT * FROM tidegate.rejected",
      "SELECT tidegate.lead(1000000)", "DELETE FROM tidegate.leap", "SELECT * FROM tidegate.dedup",
      "SELECT nextval('tidegate.outbox_id_seq')", "CREATE TABLE tidegate.mine (x int)",
    } do
      local out, err = db:try(text, pg.APP)
      assert.is_nil(out, text .. " was allowed")
      assert.matches("permission denied", err, 1, true)
    end
    server():sql "CREATE ROLE stranger LOGIN"
    finally(function() server():sql "DROP ROLE stranger" end)
    local _, err = db:try("INSERT INTO tidegate.outbox (topic, data) VALUES ('t', 'x')", "stranger")
    assert.matches("permission denied", err, 1, true)
  end)

  it("keeps the order of a transaction, and of transactions that follow one another", function()
    local ca, cb = sse.open(a, { topic = "t" }), sse.open(b, { topic = "t" })
    local expected, s = {}, db:session(pg.APP)
    for i = 1, 30 do
      local text = {}
      for j = 1, 3 do
        text[j] = ("INSERT INTO tidegate.outbox (topic, data) VALUES ('t', '%d.%d');"):format(i, j)
        expected[#expected + 1] = ("%d.%d"):format(i, j)
      end
      s:run("BEGIN; " .. table.concat(text, " ") .. " COMMIT;")
    end
    for _, c in ipairs { ca, cb } do
      local last = 0
      for i, ev in ipairs(c:collect(#expected)) do
        assert.equal(expected[i], ev.data)
        assert.is_true(tonumber(ev.id) > last)
        last = tonumber(ev.id)
      end
    end
  end)

  it("keeps the order in which conflicting transactions changed a row", function()
    db:sql [[CREATE TABLE stock (book text PRIMARY KEY, n int); GRANT ALL ON stock TO app;
      INSERT INTO stock VALUES ('emma', 0)]]
    local c = sse.open(a, { topic = "stock" })
    local sessions = {}
    for i = 1, 4 do
      sessions[i] = db:session(pg.APP)
    end
    local text = "BEGIN; UPDATE stock SET n = n + 1 WHERE book = 'emma'; INSERT INTO tidegate.outbox (topic, data) "
      .. "SELECT 'stock', n FROM stock WHERE book = 'emma'; COMMIT;"
    for _, s in ipairs(sessions) do
      s:send(text:rep(25, "\n"))
    end
    for i, ev in ipairs(c:collect(100)) do
      assert.equal(tostring(i), ev.data)
    end
  end)

  -- Even when the first took so long that rows with greater numbers were handled long before.
  it("comes before one whose transaction began after this one's COMMIT", function()
    local c = sse.open(a, { topic = "order" })
    local long, other = db:session(pg.APP), db:session(pg.APP)
    for round = 1, 2 do
      long:run(("BEGIN; INSERT INTO tidegate.outbox (topic, data) VALUES ('order', 'long %d');"):format(round))
      for i = 1, 30 do
        other:run(("INSERT INTO tidegate.outbox (topic, data) VALUES ('noise', '%d');"):format(i))
        eventually.pass(0.1, "the transaction is to stay open for seconds")
      end
      long:run(("COMMIT;\nINSERT INTO tidegate.outbox (topic, data) VALUES ('order', 'next %d');"):format(round))
      assert.same({ "long " .. round, "next " .. round }, { c:next().data, c:next().data })
    end
  end)

  it("carries attrs and key to the policy", function()
    local with = db:broker { policy = ATTRS_POLICY }
    local c = sse.open(with, { topic = "t" })
    db:insert { topic = "t", data = "x", attrs = '{"branch": "north", "amount": 7, "open": true}', key = "k1" }
    assert.same({ "north", "7", "true", "k1" }, http.json.decode(c:next().data))
    db:insert { topic = "t", data = "x" }
    assert.same({ "nil", "nil", "nil", "-" }, http.json.decode(c:next().data))
  end)

  it("with a key that is known is no event", function()
    local c = sse.open(a, { topic = "t" })
    db:insert({ topic = "t", data = "1", key = "k" }, { topic = "t", data = "twice at once", key = "k" })
    db:insert { topic = "t", data = "twice", key = "k" }
    assert.same({ "1" }, so_far(c, "t"))
    -- published over HTTP before, or after
    local id = a:publish("t", "2", { key = "h" })
    db:insert { topic = "t", data = "known from HTTP", key = "h" }
    assert.same({ "2" }, so_far(c, "t"))
    db:insert { topic = "t", data = "3", key = "s" }
    local ev = c:next()
    assert.equal("3", ev.data)
    local again, r = b:publish("t", "known from SQL", { key = "s" })
    assert.same({ ev.id, true, 200 }, { again, r.json.duplicate, r.status })
    assert.is_true(tonumber(again) > tonumber(id))
    assert.same({}, so_far(c, "t"))
  end)

  it("may be a COPY, a savepoint, a statement of its own, a trigger", function()
    local c = sse.open(a, { topic = "t" })
    local s = db:session(pg.APP)
    local lines = {}
    for i = 1, 500 do
      lines[i] = "t\tcopied " .. i
    end
    s:run("COPY tidegate.outbox (topic, data) FROM STDIN;\n" .. table.concat(lines, "\n") .. "\n\\.")
    for i, ev in ipairs(c:collect(500)) do
      assert.equal("copied " .. i, ev.data)
    end
    s:run [[BEGIN; INSERT INTO tidegate.outbox (topic, data) VALUES ('t', 's1'); SAVEPOINT a;
      INSERT INTO tidegate.outbox (topic, data) VALUES ('t', 'undone'); ROLLBACK TO a;
      INSERT INTO tidegate.outbox (topic, data) VALUES ('t', 's2'); SAVEPOINT b;
      INSERT INTO tidegate.outbox (topic, data) VALUES ('t', 's3'); RELEASE b; COMMIT;]]
    assert.same({ "s1", "s2", "s3" }, so_far(c, "t"))
    db:sql [[CREATE TABLE loans (book text); GRANT INSERT ON loans TO app;
      CREATE FUNCTION announce() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN INSERT INTO tidegate.outbox (topic, type, data) VALUES ('t', 'lent', NEW.book); RETURN NULL; END $$;
      CREATE TRIGGER announce AFTER INSERT ON loans FOR EACH ROW EXECUTE FUNCTION announce()]]
    s:run "INSERT INTO loans VALUES ('emma'), ('dune');"
    assert.same({ "emma", "dune" }, so_far(c, "t"))
  end)

  it("returns its id to libraries that ask for it, where that column is granted, and shows nothing else", function()
    local insert = "INSERT INTO tidegate.outbox (topic, data) VALUES ('t', 'of an ORM') RETURNING id"
    assert.is_nil((db:try(insert, pg.APP)))
    db:sql "GRANT SELECT (id) ON tidegate.outbox TO app"
    local c = sse.open(a, { topic = "t" })
    assert.matches("^%d+", db:sql(insert, pg.APP))
    assert.equal("of an ORM", c:next(30).data)
    assert.is_nil((db:try("SELECT data FROM tidegate.outbox", pg.APP)))
    db:sql "REVOKE SELECT (id) ON tidegate.outbox FROM app"
  end)

  it("of a prepared transaction waits for COMMIT PREPARED, over a crash of the server", function()
    local c = sse.open(a, { topic = "t" })
    local s = db:session(pg.APP)
    for _, name in ipairs { "yes", "no" } do
      s:run(("BEGIN; INSERT INTO tidegate.outbox (topic, data) VALUES ('t', '%s'); PREPARE TRANSACTION '%s';")
        :format(name, name))
    end
    assert.same({}, so_far(c, "t"))
    server():kill()
    server():start()
    db:sql("ROLLBACK PREPARED 'no'", pg.APP)
    db:sql("COMMIT PREPARED 'yes'", pg.APP)
    assert.equal("yes", c:next(30).data)
    assert.same({}, so_far(c, "t"))
  end)

  it("waits for a broker while none runs", function()
    local id = a:publish("t", "before")
    a:stop()
    b:stop()
    for i = 1, 5 do
      db:insert { topic = "t", data = tostring(i) }
    end
    a:start()
    local c = sse.open(a, { topic = "t", last_event_id = id })
    for i, ev in ipairs(c:collect(5)) do
      assert.equal(tostring(i), ev.data)
    end
  end)

  it("is delivered by a broker that reaches the server through its Unix socket", function()
    local over_socket = db:broker { config = { store = {
      conninfo = ("host=%s port=%d user=%s dbname=%s"):format(server().dir, server().port, pg.OWNER, db.name) } } }
    local c = sse.open(over_socket, { topic = "t" })
    db:insert { topic = "t", data = "x" }
    assert.equal("x", c:next().data)
  end)
end)
