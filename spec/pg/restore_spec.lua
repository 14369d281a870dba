-- A database that is older, or another one, than the broker remembers, on a server that was not restarted: no id is
-- handed out twice, and those who hold an id that is gone are told `reset`.
local child = require "support.child"
local eventually = require "support.eventually"
local http = require "support.http"
local pg = require "support.pg"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

local CONFIG = { sse = { heartbeat_s = 1, retry_ms = 100 } }

local function run(name, db, ...)
  return tidegate.run(assert(child.find(name), name .. " (package postgresql-client) is not installed"),
    { args = { "-h", db.server.dir, "-p", tostring(db.server.port), "-U", "postgres", ... }, timeout = 60 })
end

local function run_well(...)
  local code, _, err = run(...)
  assert.equal(0, code, err)
end

local function dump(db)
  local path = db.server.dir .. "/" .. db.name .. ".dump"
  run_well("pg_dump", db, "-Fc", "-d", db.name, "-f", path)
  return path
end

local function restore(db, path, ...)
  run_well("pg_restore", db, "-d", db.name, path, ...)
end

-- In several transactions, with errors that are ignored ("cannot drop inherited constraint").
local function restore_over(db, path)
  local _, _, err = run("pg_restore", db, "-d", db.name, "--clean", path)
  assert.is_nil(err:gsub("[^\n]*cannot drop inherited constraint[^\n]*", ""):find "ERROR", err)
end

-- As conf/POSTGRESQL.md says.
local function restore_at_once(db, path)
  local script = path .. ".sql"
  run_well("pg_restore", db, "--schema=tidegate", "-f", script, path)
  -- PostgreSQL may end it where a broker reads meanwhile (40P01); nothing has changed then
  for _ = 1, 10 do
    local code, _, err = run("psql", db, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", db.name, "--single-transaction",
      "-c", "SET client_min_messages = warning",
      "-c", ("DROP SCHEMA tidegate CASCADE; CREATE SCHEMA tidegate AUTHORIZATION %s; "
        .. "GRANT USAGE ON SCHEMA tidegate TO %s")
        :format(pg.OWNER, pg.APP), "-f", script)
    if code == 0 then
      return
    end
    assert.truthy(err:find("deadlock detected", 1, true), err)
  end
  error "ten deadlocks in a row"
end

local function publish_at_last(broker, data)
  return eventually(data .. " is published", function()
    local r = http.post(broker, "/events?topic=t&key=" .. http.escape(data), data)
    return (r.status == 200 or r.status == 201) and r.json.id
  end, 120)
end

local function publish_all(broker, ...)
  local ids = {}
  for i, data in ipairs { ... } do
    ids[i] = publish_at_last(broker, data)
  end
  return ids
end

local function assert_data(c, ...)
  for _, data in ipairs { ... } do
    local ev = c:next(20)
    assert.same({ "message", data }, { ev.type, ev.data })
  end
end

local function assert_reset(c, requested)
  local ev = c:next(20)
  assert.equal("gap", ev.type, ev.data)
  local gap = http.json.decode(ev.data)
  assert.equal("reset", gap.reason)
  assert.equal(requested, gap.requested)
end

local NEW = { "new 1", "new 2", "new 3", "new 4", "new 5" }

-- What must hold once "kept 1..3" are in the database and "lost 1..3" are not: publishes more than were lost.
local function goes_on(broker, kept, lost)
  local last
  for _, data in ipairs(NEW) do
    last = publish_at_last(broker, data)
    assert.is_true(tonumber(last) > tonumber(lost[3]), ("id %s after %s, which somebody holds"):format(last, lost[3]))
  end
  for _, id in ipairs(lost) do
    local c = sse.open(broker, { topic = "t", last_event_id = id })
    assert_reset(c, id)
    assert_data(c, table.unpack(NEW))
  end
  assert_data(sse.open(broker, { topic = "t", last_event_id = kept[2] }), "kept 3", table.unpack(NEW))
  return last
end

describe("a database that is put back to an older state while the server runs", function()
  local server = pg.shared {}
  local db, a, kept, path

  before_each(function()
    db = server():database()
    a = db:broker { config = CONFIG }
    kept = publish_all(a, "kept 1", "kept 2", "kept 3")
    path = dump(db)
  end)

  local function lose()
    return publish_all(a, "lost 1", "lost 2", "lost 3")
  end

  it("has streams with tags asked about again: an event that the policy observes may be among the lost", function()
    local b = db:broker { config = CONFIG, policy = [[
      return { api = 1, authenticate = function() return {} end, publish = function(pub) return pub end,
        subscribe = function() return { topics = { "t" }, tags = { "all" } } end,
        observe = { { topics = { "right/*" }, run = function() tg.ask_again("all") end } } }]] }
    local c = sse.open(b)
    lose()
    restore_at_once(db, path)
    eventually("all are asked about", function()
      return b:metric 'tidegate_observe_effects_total{effect="ask_all"}' >= 1
    end, 60)
    publish_at_last(b, "after")
    c:collect_until("after", 60)
    assert.equal(0, b:metric "tidegate_streams_barred")
    assert.is_truthy(b:log():find("events may be lost that the policy observes", 1, true))
  end)

  -- With the broker stopped.
  for what, put_back in pairs {
    ["as a dump that is restored into a new database of the same name"] = function()
      db:sql "CHECKPOINT"
      server():sql(("DROP DATABASE %s"):format(db.name))
      server():sql(("CREATE DATABASE %s TEMPLATE template0"):format(db.name))
      restore(db, path)
    end,
    ["as a dump that is restored beside it, and takes its name"] = function()
      server():sql(("ALTER DATABASE %s RENAME TO %s_old"):format(db.name, db.name))
      server():sql(("CREATE DATABASE %s TEMPLATE template0"):format(db.name))
      restore(db, path)
    end,
    ["as a dump that is restored over it"] = function()
      restore_over(db, path)
    end,
    ["as rows of a dump, into tables that were emptied"] = function()
      db:sql(("TRUNCATE %s"):format(db:sql [[SELECT string_agg(format('tidegate.%I', c.relname), ', ') FROM pg_class c
        WHERE c.relnamespace = 'tidegate'::regnamespace AND c.relkind IN ('r', 'p')]]))
      restore(db, path, "--data-only", "--disable-triggers")
    end,
  } do
    it(what, function()
      local lost = lose()
      a:stop()
      put_back()
      a:start()
      goes_on(a, kept, lost)
    end)
  end

  it("as a copy that was made on the same server, and takes its name", function()
    a:stop()
    server():sql(("CREATE DATABASE %s_copy TEMPLATE %s"):format(db.name, db.name))
    a:start()
    local lost = lose()
    a:stop()
    server():sql(("ALTER DATABASE %s RENAME TO %s_old"):format(db.name, db.name))
    server():sql(("ALTER DATABASE %s_copy RENAME TO %s"):format(db.name, db.name))
    a:start()
    goes_on(a, kept, lost)
  end)

  -- Under running brokers, with a client that was there all the time.
  for what, put_back in pairs {
    ["as a dump that is restored over it in one transaction"] = function()
      restore_at_once(db, path)
    end,
    ["as a dump that is restored over it, table by table"] = function()
      restore_over(db, path)
    end,
    ["as a dump that is restored while the schema of before is kept under another name"] = function()
      db:sql "ALTER SCHEMA tidegate RENAME TO before"
      restore(db, path, "--single-transaction")
    end,
    ["as rows: the newest events are removed, and the head is set back"] = function()
      db:sql(("BEGIN; DELETE FROM tidegate.events WHERE seq > %s; DELETE FROM tidegate.dedup WHERE seq > %s; "
        .. "UPDATE tidegate.head SET seq = %s; COMMIT"):format(kept[3], kept[3], kept[3]))
    end,
  } do
    it("under running brokers, " .. what, function()
      local b = db:broker { config = CONFIG }
      local clients = { sse.open(a, { topic = "t", last_event_id = kept[2] }),
        sse.open(b, { topic = "t", last_event_id = kept[2] }) }
      local lost = lose()
      for _, c in ipairs(clients) do
        assert_data(c, "kept 3", "lost 1", "lost 2", "lost 3")
      end
      put_back()
      goes_on(a, kept, lost)
      for _, c in ipairs(clients) do
        assert_reset(c, lost[3])
        assert_data(c, table.unpack(NEW))
        assert.is_nil(c.ended)
      end
      db:insert { topic = "t", data = "inserted" }
      for _, c in ipairs(clients) do
        assert_data(c, "inserted")
      end
    end)
  end

  it("gives rows of the outbox no id that was handed out before", function()
    local lost = lose()
    db:sql(("BEGIN; DELETE FROM tidegate.events WHERE seq > %s; UPDATE tidegate.head SET seq = %s; %s; COMMIT")
      :format(kept[3], kept[3], pg.insert { topic = "t", data = "inserted" }))
    local id = eventually("the row is an event", function()
      return math.tointeger(db:sql "SELECT max(seq) FROM tidegate.events WHERE data = 'inserted'")
    end, 20)
    assert.is_true(id > math.tointeger(lost[3]), id .. " was handed out before")
    assert_data(sse.open(a, { topic = "t", last_event_id = kept[3] }), "inserted")
  end)

  it("does not take the answer to a publish that was lost for good", function()
    local lost = lose()
    restore_at_once(db, path)
    local id = publish_at_last(a, "lost 1") -- the key is not known any more: it is stored, under a new id
    assert.is_true(tonumber(id) > tonumber(lost[3]))
    assert.equal(id, db:sql "SELECT seq FROM tidegate.events WHERE data = 'lost 1'")
  end)
end)

describe("rows of the outbox that are put back under a running broker", function()
  local server = pg.shared {}
  local PUT_BACK = "INSERT INTO tidegate.outbox (id, topic, data) OVERRIDING SYSTEM VALUE VALUES (1, 't', '%s')"

  it("come before those that are inserted after them", function()
    local db = server():database()
    local broker = db:broker { config = CONFIG }
    for i = 1, 20 do
      db:insert { topic = "t", data = "row " .. i }
    end
    -- it does not look below the ids of these any more, but now and then
    eventually("a row below is found late", function()
      db:sql(PUT_BACK:format "late")
      eventually("it is moved", function() return db:sql "SELECT count(*) FROM tidegate.outbox" == "0" end)
      return broker:metric "tidegate_store_sweep_found_total" > 0
    end, 20)
    local c = sse.open(broker, { topic = "t" })
    db:sql(("BEGIN; TRUNCATE tidegate.outbox; %s; %s; COMMIT"):format(PUT_BACK:format "before",
      pg.insert { topic = "t", data = "after" }))
    assert_data(c, "before", "after")
  end)
end)

describe("a table of the store that somebody has truncated", function()
  local server = pg.shared {}

  it("tidegate.head: ids go on above all that were handed out", function()
    local db = server():database()
    local a = db:broker { config = CONFIG }
    local c = sse.open(a, { topic = "t" })
    local before = publish_all(a, "1", "2")
    assert_data(c, "1", "2")
    local after = before[2]
    for _ = 1, 5 do -- several connections find that out at once, and make it anew
      db:sql "TRUNCATE tidegate.head"
      local id = publish_at_last(a, "again")
      db:sql "DELETE FROM tidegate.dedup"
      assert.is_true(tonumber(id) > tonumber(after))
      assert_data(c, "again") -- nothing was lost: nobody is told anything
      after = id
    end
    db:insert { topic = "t", data = "4" }
    assert_data(c, "4")
    assert_data(sse.open(a, { topic = "t", last_event_id = before[1] }), "2", "again", "again", "again", "again",
      "again", "4")
    a:stop()
    db:sql "TRUNCATE tidegate.head, tidegate.retention"
    a:start()
    assert.is_true(tonumber(publish_at_last(a, "5")) > tonumber(after))
    assert_data(sse.open(a, { topic = "t", last_event_id = after }), "4", "5")
  end)

  it("tidegate.retention: it is made anew", function()
    local db = server():database()
    local a = db:broker { config = CONFIG }
    local c = sse.open(a, { topic = "t" })
    local before = publish_all(a, "1", "2")
    assert_data(c, "1", "2")
    db:sql "TRUNCATE tidegate.retention"
    eventually("it has a row", function() return db:sql "SELECT count(*) FROM tidegate.retention" == "1" end)
    publish_at_last(a, "3")
    assert_data(c, "3")
    assert_data(sse.open(a, { topic = "t", last_event_id = before[1] }), "2", "3")
    eventually("it is ready", function() return http.get(a.admin, "/readyz").body == "ready\n" end, 20)
  end)

  it("tidegate.leap, in which somebody has put one over events: those are left out, and said so", function()
    local db = server():database()
    local a = db:broker { config = CONFIG }
    local c = sse.open(a, { topic = "t" })
    local id = math.tointeger(publish_at_last(a, "1"))
    assert_data(c, "1")
    db:sql(("BEGIN; INSERT INTO tidegate.leap VALUES (%d, %d, 'x'); UPDATE tidegate.head SET seq = %d; "
      .. "INSERT INTO tidegate.events VALUES (%d, 't', NULL, 'in it', NULL, NULL, now(), now()); COMMIT")
      :format(id, id + 9, id + 9, id + 5))
    assert.equal(id + 10, math.tointeger(publish_at_last(a, "2")))
    assert_data(c, "2")
    assert.matches("lies in a leap", a:log(), 1, true)
  end)

  it("tidegate.events: who has not read them is told that they are gone", function()
    local db = server():database()
    local a = db:broker { config = CONFIG }
    local ids = publish_all(a, "1", "2", "3")
    a:stop()
    db:sql "TRUNCATE tidegate.events"
    a:start()
    local c = sse.open(a, { topic = "t", last_event_id = ids[1] })
    local ev = c:next(20)
    assert.equal("gap", ev.type, ev.data)
    assert.equal("expired", http.json.decode(ev.data).reason)
    local up_to_date = sse.open(a, { topic = "t", last_event_id = ids[3] })
    publish_at_last(a, "4")
    assert_data(c, "4")
    assert_data(up_to_date, "4")
  end)
end)
