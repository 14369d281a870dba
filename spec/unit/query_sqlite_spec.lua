-- Look-ups of policies in a SQLite file (store/query_sqlite, store/query_pool).
local child = require "support.child"
local eventually = require "support.eventually"
local query = require "native.query"
local tidegate = require "support.tidegate"
local uv = require "luv"

describe("the SQLite database of policies", function()
  local dir, path, db
  local ENDLESS = "with recursive n(i) as (select 1 union all select i + 1 from n) select max(i) from n"

  -- As the application that owns the file.
  local function sql(text)
    local code, out, err = tidegate.run("/usr/bin/sqlite3", { args = { path, text } })
    assert(code == 0, err)
    return out
  end

  local function open(options)
    options = options or {}
    options.path = options.path or path
    db = query.open(options)
    return db
  end

  local function done(n)
    return eventually(n .. " answers", function()
      local all = db:turn()
      return #all >= n and all, #all
    end)
  end

  local function ask(question)
    local before = #db:turn()
    local token, code, text = db:ask(question)
    assert(token, ("%s: %s"):format(code, text))
    return done(before + 1)[before + 1]
  end

  local function look_up(text, ...)
    local which = assert(db:declare("q", text))
    return ask { query = which, n = select("#", ...), ... }
  end

  before_each(function()
    dir = child.directory()
    path = dir .. "/app.db"
    sql [[create table t(id integer primary key, name text, n, b blob);
      insert into t values (1, 'one', 1.5, x'00ff41'), (2, null, 9223372036854775807, null), (3, 'it''s', -1, x'')]]
  end)

  after_each(function()
    if db then
      assert.equal(0, db:close())
    end
    db = nil
    child.remove_tree(dir)
  end)

  it("answers rows of scalars", function()
    open()
    assert.same({
      { id = 1, name = "one", n = 1.5, b = "\0\xffA" },
      { id = 2, n = math.maxinteger },
      { id = 3, name = "it's", n = -1, b = "" },
    }, look_up("select id, name, n, b from t order by id").rows)
    local r = look_up "select id from t where id > 100"
    assert.same({}, r.rows)
    assert.same({ { one = 1 } }, look_up("select 1 as one").rows)
  end)

  it("takes scalars as parameters, by their number", function()
    open()
    local r = look_up("select $2 as b, $1 as a, $3 as c, $1 as again, $4 as d, $5 as e", "x'; drop table t; --", 7,
      1.25, true, nil)
    assert.same({ { a = "x'; drop table t; --", again = "x'; drop table t; --", b = 7, c = 1.25, d = 1 } }, r.rows)
    assert.same({ { name = "it's" } }, look_up("select name from t where name = $1", "it's").rows)
    assert.same({}, look_up("select name from t where name = $1", "' or '1'='1").rows)
    assert.same({ { x = "a\0\xff" } }, look_up("select $1 as x", "a\0\xff").rows)
  end)

  it("refuses the wrong number of them without asking", function()
    open()
    db:declare("q", "select $1, $2")
    for _, n in ipairs { 0, 1, 3 } do
      local token, code, text = db:ask { n = n, 1, 2, 3 }
      assert.is_nil(token)
      assert.equal("EINVAL", code)
      assert.matches('"q" takes 2 arguments', text)
    end
  end)

  it("cannot write, attach, or change its own settings", function()
    open()
    for _, text in ipairs {
      "with x as (select 1) insert into t(name) select 'x'",
      "with x as (select 1) delete from t",
      "with x as (select 1) update t set name = 'x'",
      "select load_extension('x')",
      "select * from pragma_query_only",
      "select * from pragma_table_info('t')",
      "select writefile('/tmp/x', 'y')",
    } do
      local r = look_up(text)
      assert.equal("EINVAL", r.error, text)
    end
    assert.equal("3\n", sql "select count(*) from t")
    assert.equal(3, #look_up("select * from t").rows)
  end)

  it("says what is wrong with a query, also when it is only prepared", function()
    open()
    assert.equal("EINVAL", look_up("select nothing from t").error)
    assert.equal("no such column: nope (line 2, column 1)", look_up("select 'é',\nnope from t").text)
    assert.matches("nowhere", look_up("select 1 from nowhere").text)
    assert.matches('"id"', look_up("select id, id from t").text)
    assert.matches("%?", look_up("select ?").text)
    assert.matches(":a", look_up("select :a").text)
    local good = assert(db:declare("good", "select $1 from t"))
    local bad = assert(db:declare("bad", "select $1 from nowhere"))
    local r = ask { query = good, only_prepare = true }
    assert.same({ {}, 0 }, { r.rows, r.columns })
    assert.matches("nowhere", ask({ query = bad, only_prepare = true }).text)
  end)

  it("bounds rows and bytes", function()
    open { rows = 10, bytes = 1000 }
    local numbers = "with recursive n(i) as (select 1 union all select i + 1 from n where i < $1) select i from n"
    assert.equal(10, #look_up(numbers, 10).rows)
    local r = look_up(numbers, 11)
    assert.equal("EMSGSIZE", r.error)
    assert.matches("10 rows", r.text)
    assert.equal("EMSGSIZE", look_up("select $1 as x", ("x"):rep(1000)).error)
    assert.equal(984, #look_up("select $1 as x", ("x"):rep(984)).rows[1].x)
    assert.equal("EMSGSIZE", look_up(numbers, 1 << 60).error) -- ends at once
  end)

  it("stops a query that takes too long, and is free for the next", function()
    open { timeout_ms = 100 }
    local r = look_up(ENDLESS)
    assert.equal("ETIMEDOUT", r.error)
    eventually("it is free", function() return look_up("select 1 as x").rows end)
  end)

  it("stops a query at the end of its caller's patience where that comes first", function()
    open { timeout_ms = 600000 }
    assert.equal("ETIMEDOUT", ask({ query = db:declare("q", ENDLESS), timeout_ms = 100 }).error)
    eventually("it is free", function() return look_up("select 1 as x").rows end)
  end)

  it("stops a query that is cancelled, and answers nothing for it", function()
    open { timeout_ms = 60000 }
    local endless = db:declare("q", ENDLESS)
    local quick = db:declare("quick", "select 1 as x")
    local first = assert(db:ask { query = endless })
    local waiting = assert(db:ask { query = quick })
    local second = assert(db:ask { query = quick })
    db:cancel(waiting)
    db:cancel(first)
    assert.equal(second, done(1)[1].token)
    db:cancel(second)
    db:cancel(first)
    for _ = 1, 20 do
      db:turn()
    end
    assert.equal(1, #db:turn())
    assert.equal(0, db:metric "database_running")
  end)

  it("sheds what does not fit the queue or waits too long", function()
    open { timeout_ms = 200, queue = 3 }
    local endless = db:declare("q", ENDLESS)
    local quick = db:declare("quick", "select 1 as x")
    assert(db:ask { query = endless })
    for _ = 1, 3 do
      assert(db:ask { query = quick, timeout_ms = 50 })
    end
    local _, code = db:ask { query = quick }
    assert.equal("EAGAIN", code)
    local all = done(4)
    for i = 1, 4 do
      assert.equal("ETIMEDOUT", all[i].error)
    end
    assert.equal(4, db:metric "database_shed") -- one at once, three later
    assert.equal(0, db:metric "database_queued")
    eventually("it is free", function() return ask({ query = quick }).rows end)
  end)

  it("completes everything when it is closed, also what runs", function()
    open { timeout_ms = 60000 }
    local endless = db:declare("q", ENDLESS)
    for _ = 1, 5 do
      assert(db:ask { query = endless })
    end
    db:turn()
    assert.equal(0, db:close())
    local all = db:turn()
    assert.equal(5, #all)
    for _, r in ipairs(all) do
      assert.equal("ECANCELED", r.error)
    end
  end)

  it("gets over a file that is missing, put in its place, replaced or damaged", function()
    open { path = dir .. "/later.db" }
    local q = db:declare("q", "select name from t where id = 1")
    assert.equal("ENOTCONN", ask({ query = q }).error)
    assert.equal(0, db:metric "database_up")
    path = dir .. "/later.db"
    sql "create table t(id, name); insert into t values (1, 'first')"
    assert.equal("first", ask({ query = q }).rows[1].name)
    assert.equal(1, db:metric "database_up")
    path = dir .. "/other.db"
    sql "create table t(id, name, more); insert into t values (1, 'second', 2)"
    assert(uv.fs_rename(path, dir .. "/later.db"))
    assert.equal("second", ask({ query = q }).rows[1].name)
    local f = assert(io.open(dir .. "/broken.db", "wb"))
    f:write(("not a database"):rep(1000))
    f:close()
    assert(uv.fs_rename(dir .. "/broken.db", dir .. "/later.db"))
    assert.equal("ENOTCONN", ask({ query = q }).error)
  end)

  it("sees what the application commits, and a changed schema", function()
    open()
    local q = db:declare("q", "select * from t where id = $1")
    assert.same({ { id = 3, name = "it's", n = -1, b = "" } }, ask({ query = q, 3 }).rows)
    sql "pragma journal_mode = wal; alter table t add column extra default 'x'; update t set name = 'new' where id = 3"
    assert.same({ { id = 3, name = "new", n = -1, b = "", extra = "x" } }, ask({ query = q, 3 }).rows)
  end)

  it("waits for a writer that locks the file, but not for ever", function()
    open { timeout_ms = 300 }
    local app = child.start("/usr/bin/sqlite3", { path }, { stdin = true })
    finally(function() app:stop() end)
    app:write "begin exclusive; select 'locked';\n"
    eventually("it is locked", function()
      return app:output():find "locked"
    end)
    assert.equal("ETIMEDOUT", look_up("select count(*) as n from t").error)
    db:ask { query = 1 }
    app:write "commit; select 'done';\n"
    eventually("it is not", function()
      return app:output():find "done"
    end)
    local rows = eventually("it is read", function() return look_up("select count(*) as n from t").rows end)
    assert.equal(3, rows[1].n)
  end)

  it("answers equal declarations with the same query", function()
    open()
    for _ = 1, 100 do
      assert(db:declare("q", "select 1 as x"))
    end
    local nothing, code, text = db:declare("q", "delete from t")
    assert.same({ nil, "EINVAL" }, { nothing, code })
    assert.matches("no look%-up", text)
    assert.equal(1, #ask({ query = 1 }).rows)
    assert.equal(1, #ask({ query = 100 }).rows)
  end)
end)
