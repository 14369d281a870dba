-- Brokers of an older version, and new ones, on one database, while it is migrated and all of them publish, at some
-- hundred events a second: nothing is lost, doubled or inverted for clients of either (P1, P2), and what new brokers
-- keep of each topic is right, whoever gave the ids.
--
-- The older broker is what version 4 of the schema (before store.latest) does, by SQL: it leads, drains the outbox and
-- appends until it is told to go. With a program of whatever older version, which has clients of its own:
--   TIDEGATE_OLD_BIN=... TIDEGATE_LATEST_SECONDS=60 TIDEGATE_LATEST_STREAMS=150 TIDEGATE_LATEST_PER_S=200 \
--     .ci/test build/release spec/pg/upgrade_spec.lua
local eventually = require "support.eventually"
local latest = require "oracle.latest"
local pg = require "support.pg"

local OLD = os.getenv "TIDEGATE_OLD_BIN"

local OLD_POLICY = [[
return {
  api = 1,
  authenticate = function() return { sub = "x" } end,
  subscribe = function(req) return { topics = { "k/*" }, filter = "none", format = "told" } end,
  formats = { told = function(ev) return ev.topic .. " " .. ev.raw end },
  publish = function(pub) return pub end,
}
]]

local AT_ONCE = 3 -- events of one transaction

-- One session does `step` again and again, as long as `going` has that kind, and then says how many events that were,
-- by its name. Where it fails it tries again.
local function loop(db, role, kind, name, step)
  local s = db:session(role)
  s:send(([[
    DO $loop$ DECLARE n int := 0; BEGIN
      WHILE EXISTS (SELECT FROM going WHERE kind = '%s') LOOP
        n := n + 1;
        LOOP
          BEGIN %s; EXIT; EXCEPTION WHEN OTHERS THEN PERFORM pg_sleep(0.01); END;
        END LOOP;
        COMMIT;
        PERFORM pg_sleep(0.01);
      END LOOP;
      INSERT INTO done VALUES ('%s', n * %d);
    END $loop$;]]):format(kind, step, name, AT_ONCE))
  return s
end

-- Of the events of one step, in their order: `n` is the step, `i` an event of it.
local function each(what)
  return ("(SELECT array_agg(%s ORDER BY i) FROM generate_series((n - 1) * %d + 1, n * %d) i)"):format(what, AT_ONCE,
    AT_ONCE)
end

local TOPIC = "'k/' || (1 + i * 7 % 50)"

describe("brokers of a version before, beside new ones that migrate their database,", function()
  local server = pg.shared { settings = { max_connections = 100 } }

  local function database()
    if not OLD then
      return server():database_of_version(4)
    end
    local db = server():database { schema = false }
    local b = db:broker { program = OLD, policy = OLD_POLICY } -- which migrates it
    b:stop()
    db:grant(pg.APP)
    return db
  end

  local function prepare()
    local db = latest.keep_everything(database())
    db:sql(("CREATE TABLE going AS VALUES ('old'), ('new'); ALTER TABLE going RENAME column1 TO kind;"
      .. "CREATE TABLE done (kind text, n int); GRANT ALL ON going, done TO %s, %s"):format(pg.OWNER, pg.APP))
    return db
  end

  -- What the older version does; in the end: what it has done is whole.
  local function start_old(db)
    if OLD then
      local list = {}
      for i = 1, 2 do
        list[i] = db:broker { program = OLD, policy = OLD_POLICY, config = {
          event_log = { max_events = 256, page_events = 16 }, sse = { retry_ms = 100, heartbeat_s = 1 } } }
      end
      return list
    end
    db:sql("SELECT tidegate.lead(1000000, 0)", pg.OWNER)
    local leader = loop(db, pg.OWNER, "old", "lead", [[PERFORM pg_try_advisory_lock(1952736100, 1);
      PERFORM tidegate.drain_some(0, 200, 1000000, 1000000, 65536, true, 0, 0)]])
    loop(db, pg.OWNER, "old", "a", ([[PERFORM tidegate.append('00000000-0000-4000-8000-000000000001', n, 1000000, false,
      %s, %s, %s, %s, %s, %s)]]):format(each(TOPIC), each "NULL::text", each "'a' || i", each "NULL::text",
      each "NULL::text", each "1800000000000"))
    return {}, leader
  end

  it("lose and double nothing, and the newest events are right", function()
    local db = prepare()
    local old, leader = start_old(db)
    loop(db, pg.APP, "new", "o", ("INSERT INTO tidegate.outbox (topic, data) SELECT * FROM unnest(%s, %s)"):format(
      each(TOPIC), each "'o' || i"))
    eventually("the older version has given out ids", function()
      return tonumber(db:sql "SELECT count(*) FROM everything") > 20
    end)
    local version = tonumber(db:sql "SELECT max(version) FROM tidegate.version")
    local w = latest.pg { server = server(), db = db, brokers = 2 }
    local newest = tonumber(db:sql "SELECT max(version) FROM tidegate.version")
    assert.is_true(newest > version or OLD ~= nil and newest == version)
    w.old = old
    function w.FAULTS.old_kill() -- and it starts again, on a schema that is newer than it knows
      for i, broker in ipairs(old) do
        if i == 1 then
          broker:kill()
          broker:start()
        end
      end
    end
    function w.FAULTS.old_ends()
      db:sql "DELETE FROM going WHERE kind = 'old'"
      if leader then -- snapshots wait for one who knows of them
        leader:run("", 60)
        leader:close()
      end
      for i = #old, 1, -1 do
        old[i]:stop()
        old[i] = nil
      end
    end
    function w.finish()
      db:sql "DELETE FROM going"
      eventually("all have said what they did", function()
        return db:sql "SELECT count(*) FROM done" == (OLD and "1" or "3")
      end)
    end
    latest.judge(assert, { world = w, streams = 30, followers = OLD and 50 or 10, topics = 50, per_s = 150,
      pace = 300 }, 2, { "cut", "old_kill", "reload", "old_ends", "kill", "anew" })
    for _, kind in ipairs { "o", not OLD and "a" or nil } do
      local said = tonumber(db:sql(("SELECT n FROM done WHERE kind = '%s'"):format(kind)))
      assert.equal(("%d|%d|%d"):format(said, said, said), db:sql(([[SELECT count(*), count(DISTINCT data),
        max(substr(data, 2)::int) FROM everything WHERE data ~ '^%s[0-9]+$']]):format(kind)))
      assert.equal("t", db:sql(([[SELECT bool_and(n > before) FROM (SELECT substr(data, 2)::int AS n,
        lag(substr(data, 2)::int, 1, 0) OVER (ORDER BY seq) AS before FROM everything WHERE data ~ '^%s[0-9]+$') x]])
        :format(kind)))
    end
  end)
end)
