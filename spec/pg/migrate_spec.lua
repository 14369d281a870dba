-- `tidegate migrate`: versioned, safe to repeat and to run twice at once, and clear about what does not fit.
local child = require "support.child"
local eventually = require "support.eventually"
local pg = require "support.pg"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

describe("tidegate migrate", function()
  local server = pg.shared {}

  -- Everything in the schema, as text.
  local function shape(db)
    return db:sql [[
      SELECT string_agg(t, E'\n' ORDER BY t) FROM (
        SELECT c.relkind::text || ' ' || c.relname || ' ' || coalesce(c.relacl::text, '') AS t
          FROM pg_class c WHERE c.relnamespace = 'tidegate'::regnamespace
        UNION ALL SELECT 'f ' || p.proname || ' ' || md5(p.prosrc)
          FROM pg_proc p WHERE p.pronamespace = 'tidegate'::regnamespace
        UNION ALL SELECT 'head ' || seq FROM tidegate.head
        UNION ALL SELECT 'version ' || version FROM tidegate.version) x]]
  end

  local function assert_refused(code, out, err, ...)
    assert.is_true(code > 0 and code ~= 86 and code < 128, ("code %d: %s%s"):format(code, out, err))
    for _, text in ipairs { ... } do
      assert.matches(text, err, 1, true)
    end
    assert.is_nil(err:find("password=", 1, true))
  end

  it("makes what is missing, says so, and changes nothing when it is run again", function()
    local db = server():database { schema = false }
    local code, out, err = db:migrate()
    assert.equal(0, code, out .. err)
    assert.matches("version", out .. err, 1, true)
    local before = shape(db)
    code, out, err = db:migrate()
    assert.equal(0, code, out .. err)
    assert.equal(before, shape(db))
    db:grant(pg.APP)
    local b = db:broker()
    local c = sse.open(b, { topic = "t" })
    db:insert { topic = "t", data = "x" }
    local id = c:next().id
    assert.equal(0, (db:migrate()))
    assert.equal(id, sse.open(b, { topic = "t", last_event_id = "0" }):next().id) -- nothing was lost
  end)

  it("may run several times at once", function()
    local db = server():database { schema = false }
    local runs = {}
    for i = 1, 6 do
      local b = tidegate.prepare(db:broker_options())
      tidegate.forget_later(b)
      runs[i] = child.start(tidegate.binary(), { "migrate", b.conf_path })
    end
    for _, run in ipairs(runs) do
      local code, text = run:wait(30), run:output() .. run:errors()
      run:stop()
      assert.equal(0, code, text)
    end
    assert.equal("1", db:sql "SELECT count(*) FROM tidegate.head")
    assert.equal("1", db:sql "SELECT count(*) FROM tidegate.leap")
    db:grant(pg.APP)
    local c = sse.open(db:broker(), { topic = "t" })
    db:insert { topic = "t", data = "x" }
    assert.equal("x", c:next().data)
  end)

  -- As `tidegate migrate` of an older version left it, with an event.
  local function of_version(n)
    local db = server():database_of_version(n)
    db:sql("SELECT tidegate.lead(1000000); " .. pg.insert { topic = "t", data = "old" }
      .. "; SELECT n FROM tidegate.drain(0, 10, 1000000, 65536, true, 0)", pg.OWNER)
    return db
  end

  it("brings an older schema up to date, whoever comes first, and loses nothing", function()
    local db, runs = of_version(1), {}
    local id = db:sql "SELECT seq FROM tidegate.events"
    for i = 1, 4 do
      local b = tidegate.prepare(db:broker_options())
      tidegate.forget_later(b)
      runs[i] = child.start(tidegate.binary(), { i == 1 and "serve" or "migrate", b.conf_path })
    end
    finally(function() runs[1]:stop() end)
    for i = 2, 4 do
      local code, text = runs[i]:wait(30), runs[i]:output() .. runs[i]:errors()
      runs[i]:stop()
      assert.equal(0, code, text)
    end
    eventually("it serves", function() return runs[1]:errors():find("msg=ready", 1, true) end, 20)
    local fresh = server():database()
    local function versions(d)
      return (shape(d):gsub("head %d+", "head"):gsub("events_%d+[%w_]*", "events_n"))
    end
    assert.equal(versions(fresh), versions(db))
    local c = sse.open(db:broker(), { topic = "t", last_event_id = "0" })
    assert.equal(id, c:next().id)
    db:insert { topic = "t", data = "new" }
    assert.equal("new", c:next().data)
  end)

  it("keeps nobody waiting who publishes, also over version 2, while it waits for tables that are read", function()
    local db = of_version(2)
    -- what a broker of version 2 and a program do, in the time that they have
    local function go_on(data)
      db:sql("SET statement_timeout = 5000; " .. pg.insert { topic = "t", data = data }, pg.APP)
      for _, call in ipairs { "drain(0, 10, 1000000, 65536, true, 0)", "drain_row(0, 1000000, 65536, true, 0)",
        "lead(1000000)", "retain(0, 100000, 0, 3600, 1000)", "stats()",
        "append(gen_random_uuid(), 1, 1000000, false, ARRAY['t'], ARRAY[NULL], ARRAY['x'], ARRAY[NULL], ARRAY[NULL], "
        .. "ARRAY[1800000000000])" } do
        db:sql("SET lock_timeout = 1000; SELECT count(*) FROM tidegate." .. call, pg.OWNER)
      end
    end
    local reader = db:session()
    reader:run "BEGIN; SELECT count(*) FROM tidegate.head, tidegate.retention;" -- as pg_dump does
    local b = tidegate.prepare(db:broker_options())
    tidegate.forget_later(b)
    local run = child.start(tidegate.binary(), { "migrate", b.conf_path })
    finally(function() run:stop() end)
    for i = 1, 3 do
      eventually("it waits", function()
        return db:sql "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'" ~= "0"
      end, 20)
      go_on(tostring(i))
    end
    assert.is_true(run:running())
    reader:run "COMMIT;"
    assert.equal(0, run:wait(30), run:output() .. run:errors())
    go_on "4"
    assert.equal("old,1,x,2,x,3,x,4,x", db:sql "SELECT string_agg(data, ',' ORDER BY seq) FROM tidegate.events")
    assert.equal("1", db:sql "SELECT count(*) FROM tidegate.leap")
  end)

  it("leaves an older schema alone where it may not change it", function()
    local db = of_version(1)
    local before = shape(db)
    local code, log = tidegate.start_refused(db:broker_options { config = { store = { migrate = "manual" } } })
    assert.is_true(code > 0 and code ~= 86, log)
    assert.matches("tidegate migrate", log, 1, true)
    assert.equal(before, shape(db))
  end)

  it("says which right is missing, and leaves nothing half done", function()
    local db = server():database { schema = false }
    db:sql(("REVOKE CREATE ON DATABASE %s FROM %s"):format(db.name, pg.OWNER))
    local code, out, err = db:migrate()
    assert_refused(code, out, err, "CREATE", db.name)
    assert.equal("0", db:sql "SELECT count(*) FROM pg_namespace WHERE nspname = 'tidegate'")
  end)

  it("does not take over a schema of somebody else's", function()
    local db = server():database { schema = false }
    db:sql "CREATE SCHEMA tidegate; CREATE TABLE tidegate.head (mine int)"
    local code, out, err = db:migrate()
    assert_refused(code, out, err, "tidegate")
    assert.equal("1", db:sql "SELECT count(*) FROM pg_class WHERE relnamespace = 'tidegate'::regnamespace")
  end)

  it("wants a database in UTF-8", function()
    local db = server():database { schema = false, encoding = "LATIN1" }
    local code, out, err = db:migrate()
    assert_refused(code, out, err, "LATIN1", "UTF8")
    assert.equal("0", db:sql "SELECT count(*) FROM pg_namespace WHERE nspname = 'tidegate'")
  end)

  it("leaves a newer schema alone, and so does serve", function()
    local db = server():database()
    db:sql "INSERT INTO tidegate.version VALUES (4711)"
    local before = shape(db)
    local code, out, err = db:migrate()
    assert_refused(code, out, err, "4711")
    local serve_code, log = tidegate.start_refused(db:broker_options())
    assert.is_true(serve_code > 0 and serve_code ~= 86, log)
    assert.matches("4711", log, 1, true)
    assert.equal(before, shape(db))
  end)

  it("leaves a newer schema alone, and works with it, where that says that it may", function()
    local db = server():database()
    local known = tonumber(db:sql "SELECT max(version) FROM tidegate.version")
    db:sql(("INSERT INTO tidegate.version VALUES (4711, DEFAULT, %d)"):format(known + 1))
    assert_refused(db:migrate())
    db:sql(("UPDATE tidegate.version SET compatible_from = %d WHERE version = 4711"):format(known))
    local before = shape(db)
    local code, out, err = db:migrate()
    assert.equal(0, code, out .. err)
    assert.equal(before, shape(db))
    local c = sse.open(db:broker(), { topic = "t" })
    db:insert { topic = "t", data = "x" }
    assert.equal("x", c:next().data)
  end)

  it("says where it could not connect, and why, without the password", function()
    local db = server():database { schema = false }
    local code, out, err = db:migrate { config = { store = {
      conninfo = ("host=127.0.0.1 port=%d user=tidegate dbname=x password=hunter2"):format(child.free_port()) } } }
    assert_refused(code, out, err, "127.0.0.1")
    assert.is_nil(err:find("hunter2", 1, true))
    code, out, err = db:migrate { config = { store = {
      conninfo = ("host=127.0.0.1 port=%d user=nobody_here dbname=%s"):format(server().port, db.name) } } }
    assert_refused(code, out, err, "nobody_here")
    code, out, err = db:migrate { config = { store = {
      conninfo = ("host=127.0.0.1 port=%d user=tidegate dbname=not_there"):format(server().port) } } }
    assert_refused(code, out, err, "not_there")
  end)

  it("refuses a connection string that is none, and tells nothing of it", function()
    local db = server():database { schema = false }
    local code, out, err = db:migrate { config = { store = { conninfo = "host=127.0.0.1 passwort=hunter2" } } }
    assert_refused(code, out, err, "conninfo")
    assert.is_nil((out .. err):find("hunter2", 1, true))
  end)

  it("says which right would let it see more", function()
    local db = server():database { schema = false }
    finally(function() server():sql(("GRANT pg_read_all_stats TO %s"):format(pg.OWNER)) end)
    local _, out, err = db:migrate()
    assert.is_nil((out .. err):find "pg_read_all_stats")
    server():sql(("REVOKE pg_read_all_stats FROM %s"):format(pg.OWNER))
    local code
    code, out, err = db:migrate()
    assert.equal(0, code)
    assert.matches("pg_read_all_stats", out .. err)
  end)

  it("has nothing to do for the embedded store", function()
    local b = tidegate.prepare {}
    tidegate.forget_later(b)
    local code, out, err = tidegate.run(tidegate.binary(), { args = { "migrate", b.conf_path }, cwd = b.dir })
    assert.is_true(code ~= 86 and code < 128, out .. err)
    assert.matches("sqlite", (out .. err):lower(), 1, true)
  end)
end)

describe("serve on a database without the schema", function()
  local server = pg.shared {}

  it("makes it, or says which command does", function()
    local db = server():database { schema = false }
    local b = tidegate.prepare(db:broker_options())
    tidegate.forget_later(b)
    local p = child.start(tidegate.binary(), { "serve", b.conf_path })
    finally(function() p:stop() end)
    eventually("it decides", function()
      return not p:running() or p:errors():find("msg=ready", 1, true)
    end, 20)
    if p:running() then
      assert.equal("1", db:sql "SELECT count(*) FROM tidegate.head")
    else
      assert.is_true(p.exit_code > 0 and p.exit_code ~= 86)
      assert.matches("tidegate migrate", p:errors(), 1, true)
    end
  end)
end)
