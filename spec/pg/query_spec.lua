-- Look-ups of policies in PostgreSQL (lookup/query_pg, lookup/query_pool), against a real server and its faults.
local eventually = require "support.eventually"
local pg = require "support.pg"
local query = require "native.query"

describe("the PostgreSQL database of policies", function()
  local server = pg.shared { settings = { max_connections = 20 } }
  local db

  local function open(options)
    options = options or {}
    options.conninfo = options.conninfo
      or ("host=127.0.0.1 port=%d user=%s dbname=postgres"):format(server().port, options.role or "reader")
    db = query.open(options)
    return db
  end

  local function done(n, timeout)
    return eventually(n .. " answers", function()
      local all = db:turn()
      return #all >= n and all, #all
    end, timeout)
  end

  local function ask(question)
    local before = #db:turn()
    local token, code, text = db:ask(question)
    if not token then
      return { error = code, text = text }
    end
    return done(before + 1)[before + 1]
  end

  local function look_up(text, ...)
    local which = assert(db:declare("q", text))
    return ask { query = which, n = select("#", ...), ... }
  end

  -- The pool has noticed whether the server is there.
  local function is(up)
    eventually(up and "the database is back" or "the database is away", function()
      db:turn()
      return db:metric "database_up" == (up and 1 or 0)
    end, 20)
  end

  local function working_sessions()
    return tonumber(server():sql [[select count(*) from pg_stat_activity
      where application_name = 'tidegate policy' and state = 'active']])
  end

  setup(function()
    server():sql [[create role reader login; create table t(id bigint primary key, name text, n numeric, at timestamptz,
      b bytea, f float8, ok boolean, small smallint, j jsonb, u uuid, list int[]);
      grant select on t to reader; grant select, insert, update, delete on t to app;
      insert into t values
      (9223372036854775807, 'it''s', 12345678901234567890.123, '2026-01-02 03:04:05.678+00', '\x00ff41', 0.1, true, -1,
        '{"a": 1}', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{1,2}'),
      (1, null, null, null, null, null, null, null, null, null, null),
      (2, '', 0, 'infinity', '', 'NaN', false, 0, '[]', null, '{}')]]
  end)

  after_each(function()
    if db then
      assert.equal(0, db:close())
    end
    db = nil
  end)

  it("answers rows of scalars: what Lua has no type for comes as text", function()
    open()
    local rows = look_up("select * from t order by id").rows
    assert.same({ id = 1 }, rows[1])
    rows[2].f = rows[2].f ~= rows[2].f and "NaN"
    assert.same({ id = 2, name = "", n = "0", at = "infinity", b = "", f = "NaN", ok = false, small = 0, j = "[]",
      list = "{}" }, rows[2])
    assert.same({ id = math.maxinteger, name = "it's", n = "12345678901234567890.123",
      at = server():sql "select at from t where name = 'it''s'", b = "\0\xffA", f = 0.1, ok = true, small = -1,
      j = '{"a": 1}', u = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", list = "{1,2}" }, rows[3])
    local none = look_up "select id, name from t where false"
    assert.same({}, none.rows)
    assert.equal(2, none.columns)
  end)

  it("takes scalars as parameters, whose types the server infers", function()
    open()
    assert.same({ { name = "it's" } }, look_up("select name from t where id = $1", math.maxinteger).rows)
    assert.same({ { name = "it's" } }, look_up("select name from t where id = $1", "9223372036854775807").rows)
    assert.same({ { id = 2 } }, look_up("select id from t where ok = $1", false).rows)
    assert.same({ { a = "x", b = 0.1, c = 3, d = true } },
      look_up("select $1::text as a, $2::float8 as b, $3::int as c, $4::bool as d, $5::text as e", "x", 0.1, 3, true,
        nil).rows)
    for _, attack in ipairs { "it's", "x'; drop table t; --", "' or '1'='1", "\\'; --", "$1", "%s%n",
      ("x"):rep(100000) } do
      assert.same({ { x = attack } }, look_up("select $1::text as x", attack).rows)
      assert.is_true(#look_up("select id from t where name = $1", attack).rows <= 1)
    end
    assert.equal("3", server():sql "select count(*) from t")
  end)

  it("refuses arguments that cannot be text, and says what the server says", function()
    open()
    assert.matches("NUL", look_up("select $1::text as x", "a\0b").text)
    assert.equal("EINVAL", look_up("select $1::text as x", "\xff").error)
    local r = look_up("select name from t where id = $1", "abc")
    assert.equal("EINVAL", r.error)
    assert.equal("invalid input syntax for type bigint (SQLSTATE 22P02, the value is not shown)", r.text)
    assert.matches("takes 1 argument", look_up("select $1::text as x").text)
    assert.equal(1, #look_up("select 1 as x").rows)
  end)

  it("keeps values out of what it says is wrong with them", function()
    open()
    for text, value in pairs {
      ["select 1 as x where $1::date > now()"] = "secret",
      ["select $1::text::smallint as x"] = "4711474747",
      ["select 1 as x where 'a' ~ $1"] = "secret(",
      ["select $1::text::jsonb as x"] = "{secret",
      ["select ('secret ' || $1::text)::int as x"] = "secret",
    } do
      local r = look_up(text, value)
      assert.equal("EINVAL", r.error, text)
      assert.matches("SQLSTATE 22", r.text, 1, true)
      assert.is_nil(r.text:find("secret", 1, true), r.text)
      assert.is_nil(r.text:find("4711", 1, true), r.text)
    end
  end)

  it("does not take in a cell of any size to find that it is too large", function()
    open { connections = 1, timeout_ms = 20000 }
    local function backend()
      return look_up("select pg_backend_pid() as pid").rows[1].pid
    end
    local before = backend()
    assert.equal("EMSGSIZE", look_up("select repeat('x', 1500000) as x").error) -- this one can be read and dropped
    assert.equal(before, backend())
    -- libpq reads for as long as more is there: now and then a server that is quick enough gets all of it in at once
    local after = before
    for _ = 1, 5 do
      local r = look_up("select repeat('x', 120000000) as x")
      assert.equal("EMSGSIZE", r.error)
      assert.matches("ask for fewer rows or columns", r.text, 1, true)
      is(true)
      after = eventually("the server is asked again", function()
        db:turn()
        local answer = look_up("select pg_backend_pid() as pid")
        return answer.rows and answer.rows[1].pid
      end)
      if after ~= before then
        break
      end
    end
    assert.are_not.equal(before, after) -- what is not wanted was not read
  end)

  it("cannot write, even where the role could", function()
    open { role = "app" }
    for _, text in ipairs {
      "with x as (insert into t(id) values (5) returning id) select * from x",
      "with x as (delete from t returning id) select * from x",
      "select nextval('s')",
      "select pg_catalog.set_config('transaction_read_only', 'off', false), lo_create(0)",
    } do
      assert.equal("EINVAL", look_up(text).error, text)
    end
    assert.equal("3", server():sql "select count(*) from t")
  end)

  it("says what is wrong with a query, also when it is only prepared", function()
    open()
    assert.matches("nowhere", look_up("select 1 from nowhere").text)
    assert.equal('column "nothing" does not exist (line 1, column 13)', look_up("select 'é', nothing from t").text)
    assert.matches('"id"', look_up("select id, id from t").text)
    local good = assert(db:declare("good", "select name from t where id = $1"))
    local bad = assert(db:declare("bad", "select $1 from nowhere"))
    for _ = 1, 3 do
      assert.same({}, ask({ query = good, only_prepare = true }).rows)
      assert.matches("nowhere", ask({ query = bad, only_prepare = true }).text)
    end
    assert.equal(1, #ask({ query = good, 1 }).rows)
  end)

  it("bounds rows and bytes without reading everything into memory", function()
    open { rows = 10, bytes = 1000, connections = 1, timeout_ms = 1000 }
    assert.equal(10, #look_up("select i from generate_series(1, $1::int) i", 10).rows)
    local r = look_up("select i from generate_series(1, $1::int) i", 11)
    assert.equal("EMSGSIZE", r.error)
    assert.matches("10 rows", r.text)
    assert.equal("EMSGSIZE", look_up("select repeat('x', 1000) as x").error)
    -- would be gigabytes: the server is told to stop, and the connection is good again
    local before = collectgarbage "count"
    local endless = look_up("select repeat('x', 100) as x from generate_series(1, $1::int) i", 100000000)
    assert.is_true(endless.error == "EMSGSIZE" or endless.error == "ETIMEDOUT", endless.error)
    assert.is_true(collectgarbage "count" - before < 10000)
    eventually("it answers again", function()
      return look_up("select 1 as x").rows
    end)
  end)

  it("is told by the server to stop what is too slow, and has the connection back", function()
    open { connections = 1, timeout_ms = 200 }
    local r = look_up("select pg_sleep(60) as x")
    assert.equal("ETIMEDOUT", r.error)
    eventually("it answers again", function()
      return look_up("select 1 as x").rows
    end)
    assert.equal(0, working_sessions())
  end)

  it("keeps to the time of the asker, who may have less", function()
    open { connections = 1, timeout_ms = 1000 }
    local slow = db:declare("slow", "select pg_sleep(60) as x")
    local quick = db:declare("quick", "select 1 as x")
    assert(db:ask { query = slow, timeout_ms = 30 })
    local waits = assert(db:ask { query = quick })
    local all = done(2)
    assert.equal("ETIMEDOUT", all[1].error)
    assert.equal(waits, all[2].token)
    assert.is_truthy(all[2].rows or all[2].error == "ETIMEDOUT")
  end)

  it("answers nothing for what was cancelled", function()
    open { connections = 1, timeout_ms = 300 }
    local slow = db:declare("slow", "select pg_sleep(0.1) as x")
    local first = assert(db:ask { query = slow })
    local second = assert(db:ask { query = slow })
    local third = assert(db:ask { query = slow })
    eventually("the first runs", function()
      db:turn()
      return db:metric "database_running" == 1
    end)
    db:cancel(second)
    db:cancel(first)
    assert.equal(third, done(1)[1].token)
    db:cancel(third)
    eventually.pass(0.1, "an answer to the third would show by now")
    assert.equal(1, #db:turn())
    assert.equal(0, db:metric "database_running")
  end)

  it("asks a thousand at once with two connections: some now, the rest is shed, nobody waits for ever", function()
    open { connections = 2, queue = 256, timeout_ms = 500 }
    local q = db:declare("q", "select pg_sleep(0.02), $1::int as x")
    local slow = db:declare("slow", "select pg_sleep(0.2) as x")
    eventually("both connections are there", function()
      db:turn()
      if db:metric "database_running" == 0 then
        for _ = 1, 2 do db:ask { query = slow } end
        db:turn()
      end
      return db:metric "database_running" == 2
    end, 20)
    eventually("both are free", function()
      db:turn()
      return db:metric "database_running" == 0 and db:metric "database_queued" == 0
    end)
    local before = #db:turn()
    local shed_before = db:metric "database_shed"
    local accepted, shed = 0, 0
    for i = 1, 1000 do
      local token, code = db:ask { query = q, i }
      accepted = accepted + (token and 1 or 0)
      shed = shed + (code == "EAGAIN" and 1 or 0)
    end
    assert.equal(1000, accepted + shed)
    assert.equal(258, accepted)
    local good, late = 0, 0
    for i, r in ipairs(done(before + accepted)) do
      if i > before then
        good = good + (r.rows and 1 or 0)
        late = late + (r.error == "ETIMEDOUT" and 1 or 0)
      end
    end
    assert.equal(accepted, good + late)
    assert.is_true(good > 0)
    assert.is_true(db:metric "database_shed" - shed_before >= shed)
    assert.equal(0, db:metric "database_queued")
  end)

  it("prepares each query once per connection, and forgets when there are too many", function()
    open { connections = 1 }
    for i = 1, 300 do
      assert.equal(i, look_up(("select %d as x"):format(i)).rows[1].x)
    end
    assert.equal(1, look_up("select 1 as x").rows[1].x)
    assert.equal(300, look_up("select 300 as x").rows[1].x)
    local n = look_up("select count(*) as n from pg_prepared_statements").rows[1].n
    assert.is_true(n <= 256, tostring(n))
  end)

  it("gets over a table that changes under a prepared query", function()
    open { connections = 1 }
    server():sql "create table changing as select 1 as a; grant select on changing to reader"
    local q = db:declare("q", "select * from changing")
    assert.same({ { a = 1 } }, ask({ query = q }).rows)
    server():sql "alter table changing add b text default 'x'"
    assert.same({ { a = 1, b = "x" } }, ask({ query = q }).rows)
    server():sql "alter table changing alter a type text"
    assert.same({ { a = "1", b = "x" } }, ask({ query = q }).rows)
    server():sql "drop table changing"
    assert.equal("EINVAL", ask({ query = q }).error)
    server():sql "create table changing as select 2 as a; grant select on changing to reader"
    assert.same({ { a = 2 } }, ask({ query = q }).rows)
  end)

  it("works with a role that may only read, on a server that is told so", function()
    server():sql "create role only_reads login; alter role only_reads set default_transaction_read_only = on"
    open { role = "only_reads" }
    assert.equal(1, look_up("select 1 as x").rows[1].x)
  end)

  it("keeps its sessions where the role would end those that are idle", function()
    server():sql "alter role reader set idle_session_timeout = '300ms'"
    finally(function() server():sql "alter role reader reset idle_session_timeout" end)
    open { connections = 1, timeout_ms = 5000 }
    local q = assert(db:declare("q", "select pg_backend_pid() as pid"))
    local first = ask { query = q }
    eventually("it has been idle for longer than that", function()
      db:turn()
      return server():sql [[select coalesce(max(extract(epoch from clock_timestamp() - state_change)), 9) > 1.5
        from pg_stat_activity where application_name = 'tidegate policy']] == "t"
    end, 20)
    assert.same(first.rows, ask({ query = q }).rows)
  end)

  it("completes everything when it is closed", function()
    open { connections = 2, timeout_ms = 60000 }
    local q = db:declare("q", "select pg_sleep(60) as x")
    for _ = 1, 6 do
      assert(db:ask { query = q })
    end
    is(true)
    assert.equal(0, db:close())
    local all = db:turn()
    assert.equal(6, #all)
    for _, r in ipairs(all) do
      assert.equal("ECANCELED", r.error)
    end
  end)

  it("waits for the first connection, then says that nobody is there", function()
    open { conninfo = "host=127.0.0.1 port=1 user=x dbname=y" }
    local q = db:declare("q", "select 1 as x")
    assert(db:ask { query = q })
    assert.equal("ENOTCONN", done(1)[1].error)
    local _, code, text = db:ask { query = q }
    assert.equal("ENOTCONN", code)
    assert.matches("away", text)
  end)

  it("refuses a connection string that cannot be read, without showing it", function()
    local nothing, code, text = query.open { conninfo = "host=a password='secret nonsense" }
    assert.same({ nil, "EINVAL" }, { nothing, code })
    assert.not_matches("secret", text)
  end)

  describe("when the server", function()
    local function works()
      open { connections = 2, timeout_ms = 1000 }
      local q = db:declare("q", "select 1 as x")
      assert.equal(1, #ask({ query = q }).rows)
      return q
    end

    local function comes_back(q)
      is(true)
      eventually("it answers", function()
        return ask({ query = q }).rows
      end)
    end

    it("is stopped: errors at once, and it comes back by itself", function()
      local q = works()
      local slow = db:declare("slow", "select pg_sleep(60) as x")
      assert(db:ask { query = slow })
      server():stop()
      assert.is_truthy(done(2)[2].error)
      is(false)
      local t = eventually.now()
      for _ = 1, 100 do
        assert.equal("ENOTCONN", ask({ query = q }).error)
      end
      assert.is_true(eventually.now() - t < 20) -- 300 ms each, were they waited for
      server():start()
      comes_back(q)
    end)

    it("is killed", function()
      local q = works()
      assert(db:ask { query = db:declare("slow", "select pg_sleep(60) as x") })
      server():kill()
      local r = done(2)[2]
      assert.is_true(r.error == "ECONNRESET" or r.error == "ETIMEDOUT", r.error)
      is(false)
      server():start()
      comes_back(q)
    end)

    it("is silent: each question ends in time, connections are given up, and it comes back", function()
      local q = works()
      server():freeze()
      assert.equal("ETIMEDOUT", ask({ query = q, timeout_ms = 100 }).error)
      assert.equal("ETIMEDOUT", ask({ query = q, timeout_ms = 100 }).error)
      is(false)
      assert.equal("ENOTCONN", ask({ query = q }).error)
      server():thaw()
      comes_back(q)
    end)

    it("ends our sessions one by one", function()
      local q = works()
      for _ = 1, 5 do
        server():terminate "reader"
        eventually("it answers", function()
          return ask({ query = q }).rows
        end)
      end
    end)
  end)
end)
