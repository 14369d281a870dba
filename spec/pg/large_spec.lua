-- Batches of the outbox that cannot succeed as batches: they get smaller, down to the row, which is set aside.
-- Publishing over HTTP goes on meanwhile, and operators are told.
local eventually = require "support.eventually"
local http = require "support.http"
local pg = require "support.pg"
local sse = require "support.sse"

local MIB = 1024 * 1024

-- Whatever is written to the events takes that long, by its size. (As on a slow disk.)
local function slow(db, seconds_per_byte)
  db:sql(([[CREATE FUNCTION public.slowly() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN PERFORM pg_sleep(octet_length(NEW.data) * %.12f); RETURN NEW; END $$]]):format(seconds_per_byte))
  db:sql [[CREATE TRIGGER slowly BEFORE INSERT ON tidegate.events FOR EACH ROW EXECUTE FUNCTION public.slowly()]]
end

-- No more than that many rows at once: there is no memory. Not even for one that says `never`.
local function tight(db, rows)
  db:sql "CREATE SEQUENCE public.refused; GRANT ALL ON SEQUENCE public.refused TO PUBLIC"
  db:sql(([[CREATE FUNCTION public.tight() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN IF (SELECT count(*) FROM fresh) > %d OR EXISTS (SELECT FROM fresh WHERE data = 'never') THEN
      PERFORM nextval('public.refused');
      RAISE EXCEPTION 'out of memory, says the spec' USING ERRCODE = 'out_of_memory'; END IF; RETURN NULL; END $$]])
    :format(rows))
  db:sql [[CREATE TRIGGER tight AFTER INSERT ON tidegate.events REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION public.tight()]]
end

-- Publishes one event after the other while `done` is not true; how many were refused, and how many stored.
local function publish_until(broker, what, done, timeout)
  local refused, stored = 0, 0
  eventually(what, function()
    local r = http.request(broker, "POST", "/events?topic=http", { ["Content-Type"] = "text/plain" }, "x",
      { timeout = 20 })
    if r.status == 201 then
      stored = stored + 1
    else
      refused = refused + 1
    end
    return done()
  end, timeout)
  return refused, stored
end

local function rows(db)
  return tonumber(db:sql "SELECT count(*) FROM tidegate.outbox")
end

-- Publishes n events at once, each in a request of its own. How many were stored.
local function burst(broker, n)
  local conns, done = {}, 0
  for i = 1, n do
    conns[i] = assert(http.connect(broker))
    assert(conns[i]:send(http.render("POST", "/events?topic=t", { ["Content-Type"] = "text/plain" }, "x")))
  end
  for _, c in ipairs(conns) do
    done = done + (assert(c:response { timeout = 60 }).status == 201 and 1 or 0)
    c:close()
  end
  return done
end

describe("a batch of publishes over HTTP that takes longer than they may wait", function()
  local server = pg.shared {}

  it("is followed by smaller ones, which are stored", function()
    local db = server():database()
    local b = db:broker()
    slow(db, 0.2) -- a second for five
    eventually("a burst of 30 is stored", function() return burst(b, 30) == 30 end, 120)
    eventually("and the next", function() return burst(b, 30) == 30 end, 120)
  end)

  it("is divided where the server has no memory for it", function()
    local db = server():database()
    local b = db:broker()
    tight(db, 4)
    for _ = 1, 3 do
      assert.equal(30, burst(b, 30))
    end
    assert.is_true(tonumber(db:sql "SELECT nextval('public.refused')") > 1)
  end)
end)

describe("a batch of the outbox that takes longer than any statement may", function()
  local server = pg.shared {}

  it("is moved in parts, in order; publishing over HTTP goes on", function()
    local db = server():database()
    local b = db:broker { config = { limits = { event_bytes = 2 * MIB } } }
    local c = sse.open(b, { topic = "t" })
    slow(db, 0.3 / (100 * 1024)) -- 60 rows: 18 s at least
    db:sql([[INSERT INTO tidegate.outbox (topic, data)
      SELECT 't', i || ' ' || repeat('x', 100 * 1024) FROM generate_series(1, 60) i]], pg.APP)
    local refused, stored = publish_until(b, "all are moved", function() return rows(db) == 0 end, 120)
    for i = 1, 60 do
      assert.equal(tostring(i), c:next(20).data:match "^(%d+) x")
    end
    assert.equal("0", db:sql "SELECT count(*) FROM tidegate.rejected")
    assert.is_true(refused <= stored / 3, ("%d refused, %d stored"):format(refused, stored))
    eventually("all is well", function() return http.get(b.admin, "/readyz").body == "ready\n" end)
  end)

  it("is set aside when it is a single row; what is behind it is delivered, HTTP publishes are stored", function()
    local db = server():database()
    local b = db:broker { config = { limits = { event_bytes = 2 * MIB } } }
    local c = sse.open(b, { topic = "t" })
    slow(db, 60 / MIB) -- a minute for a megabyte
    db:sql([[INSERT INTO tidegate.outbox (topic, data)
      VALUES ('t', 'before'), ('t', repeat('x', 1048576)), ('t', 'after')]], pg.APP)
    assert.equal("before", c:next(60).data)
    local told
    local refused, stored = publish_until(b, "it is set aside", function()
      told = told or http.get(b.admin, "/readyz").body:find "degraded: [^\n]*row 2: [^\n]*timeout"
      return db:sql "SELECT count(*) FROM tidegate.rejected" == "1"
    end, 120)
    assert.equal("after", c:next(20).data)
    assert.truthy(told)
    assert.equal(MIB .. "|t", db:sql [[SELECT octet_length(data),
      reason LIKE 'takes too much time or memory, tried 3 times: row 2: canceling statement due to statement timeout%'
      FROM tidegate.rejected]])
    assert.is_true(refused <= stored / 2, ("%d refused, %d stored"):format(refused, stored))
    assert.matches("tidegate.rejected", b:log(), 1, true)
  end)

  it("has all of its tries again on a new connection, which may lead to another database", function()
    local db = server():database()
    db:broker { config = { store = { batch_rows = 1 }, limits = { event_bytes = 2 * MIB } } }
    db:sql "CREATE SEQUENCE public.tried; GRANT ALL ON SEQUENCE public.tried TO PUBLIC"
    db:sql [[CREATE FUNCTION public.tries() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN IF nextval('public.tried') = 3 THEN
          PERFORM pg_terminate_backend(pg_backend_pid());
        END IF;
        RAISE EXCEPTION 'out of memory, says the spec' USING ERRCODE = 'out_of_memory'; END $$]]
    db:sql "CREATE TRIGGER tries BEFORE INSERT ON tidegate.events FOR EACH ROW EXECUTE FUNCTION public.tries()"
    db:sql("INSERT INTO tidegate.outbox (topic, data) SELECT 't', repeat('x', 1048576)", pg.APP)
    eventually("it is set aside", function() return db:sql "SELECT count(*) FROM tidegate.rejected" == "1" end, 60)
    assert.equal("6", db:sql "SELECT last_value FROM public.tried") -- two, the one that broke, and three
  end)

  it("is set aside at once when it is a row larger than any event, without the lock of the head", function()
    local db = server():database()
    local b = db:broker()
    local c = sse.open(b, { topic = "t" })
    local holder = db:session()
    holder:run "BEGIN; SELECT 1 FROM tidegate.head FOR UPDATE;"
    db:sql("INSERT INTO tidegate.outbox (topic, data) SELECT 't', repeat('x', 40000000)", pg.APP)
    eventually("it is set aside", function() return db:sql "SELECT count(*) FROM tidegate.rejected" == "1" end, 30)
    assert.equal("40000000|data: is longer than limits.event_bytes",
      db:sql "SELECT octet_length(data), reason FROM tidegate.rejected")
    db:insert { topic = "t", data = "after" }
    holder:run "COMMIT;"
    assert.equal("after", c:next(20).data)
  end)

  it("is not even taken in where it is larger than 64 MiB", function()
    local db = server():database()
    local _, err = db:try("INSERT INTO tidegate.outbox (topic, data) SELECT 't', repeat('x', 70000000)", pg.APP)
    assert.matches("data: at most 64 MiB", err, 1, true)
    _, err = db:try([[INSERT INTO tidegate.outbox (topic, data, attrs)
      SELECT 't', 'x', jsonb_build_object('a', repeat('x', 2000000))]], pg.APP)
    assert.matches("attrs: at most", err, 1, true)
  end)

  it("from before that was refused is set aside with its beginning", function()
    local db = server():database()
    db:sql [[ALTER TABLE tidegate.outbox DROP CONSTRAINT "data: at most 64 MiB"]]
    db:sql("INSERT INTO tidegate.outbox (topic, data) SELECT 't', repeat('x', 200000000)", pg.APP)
    local c = sse.open(db:broker(), { topic = "t" })
    db:insert { topic = "t", data = "after" }
    assert.equal("after", c:next(60).data)
    assert.equal("4096|data: is longer than limits.event_bytes (200000000 bytes, of which the first 4096 characters"
      .. " are kept here)",
      db:sql "SELECT octet_length(data), reason FROM tidegate.rejected")
  end)

  it("for which the server has no memory is moved in parts, too, and a small row is not blamed", function()
    local db = server():database()
    tight(db, 10)
    local b = db:broker()
    local c = sse.open(b, { topic = "t" })
    db:sql("INSERT INTO tidegate.outbox (topic, data) SELECT 't', i::text FROM generate_series(1, 50) i", pg.APP)
    for i = 1, 50 do
      assert.equal(tostring(i), c:next(20).data)
    end
    db:insert({ topic = "t", data = "never" }, { topic = "t", data = "behind" })
    eventually("it is told", function()
      return http.get(b.admin, "/readyz").body:find "the outbox does not move[^\n]*row 51: out of memory, says the spec"
    end, 30)
    assert.equal("0", db:sql "SELECT count(*) FROM tidegate.rejected")
    db:sql "DROP TRIGGER tight ON tidegate.events"
    assert.same({ "never", "behind" }, { c:next(30).data, c:next(30).data })
  end)
end)
