-- Upkeep of the PostgreSQL store: each step on its own, what fails for long is told, and what holds things up is shown.
local eventually = require "support.eventually"
local http = require "support.http"
local pg = require "support.pg"
local sse = require "support.sse"

local function ready(broker)
  local r = http.get(broker.admin, "/readyz")
  assert.equal(200, r.status, r.body) -- taking it out of service would not help
  return r.body
end

local keys = 0

local function publish_many(broker, n)
  local batch = {}
  for i = 1, n do
    keys = keys + 1
    batch[i] = { topic = "t", data = tostring(i), key = "k" .. keys }
  end
  broker:publish_all(batch)
end

describe("retention", function()
  local server = pg.shared { settings = { wal_level = "logical" } }

  it("goes on under CREATE PUBLICATION ... FOR ALL TABLES, in every table", function()
    local db = server():database { config = { store = { partition_ids = 1000 } } }
    db:sql "CREATE PUBLICATION everything FOR ALL TABLES"
    local b = db:broker { config = { store = { retain_events = 50, key_window_s = 1, partition_ids = 1000 } } }
    publish_many(b, 400)
    publish_many(b, 400)
    db:sql [[INSERT INTO tidegate.rejected (id, data, reason, at) VALUES (1, 'old', 'x', now() - interval '31 days'),
      (1, repeat('long', 1000000), 'x', now() - interval '31 days')]]
    db:sql "INSERT INTO tidegate.writer VALUES (gen_random_uuid(), 1, 1, NULL, NULL, now() - interval '8 days')"
    eventually("events, keys and rejected rows are gone", function()
      return tonumber(db:sql "SELECT count(*) FROM tidegate.events") <= 1050
        and db:sql "SELECT count(*) FROM tidegate.dedup" == "0"
        and db:sql "SELECT count(*) FROM tidegate.rejected" == "0"
        and db:sql "SELECT count(*) FROM tidegate.writer" == "1"
    end, 40)
    assert.is_nil(b:log():find("upkeep was refused", 1, true))
    -- whatever table comes later needs a key, too
    assert.equal("", db:sql [[SELECT coalesce(string_agg(c.relname, ','), '') FROM pg_class c
      WHERE c.relnamespace = 'tidegate'::regnamespace AND c.relkind = 'r' AND c.relreplident = 'd'
        AND NOT EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)]])
  end)

  it("goes on where one step fails, which is told by name once it has failed for long, and shown", function()
    local db = server():database()
    local b = db:broker { config = { store = { retain_events = 50, key_window_s = 1, upkeep_alarm_s = 4 } } }
    publish_many(b, 300)
    db:sql [[CREATE FUNCTION public.no() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN RAISE EXCEPTION 'keys stay, says the auditor'; END $$]]
    db:sql [[CREATE TRIGGER no BEFORE DELETE ON tidegate.dedup FOR EACH ROW EXECUTE FUNCTION public.no()]]
    publish_many(b, 300)
    eventually("events are removed", function()
      return tonumber(db:sql "SELECT count(*) FROM tidegate.events") <= 50
    end, 30)
    eventually("it is told", function()
      return ready(b):find("ready\ndegraded: the store: [^\n]*\"keys\", has failed for %d+ s: [^\n]*says the auditor")
    end, 30)
    local status = http.json.decode(http.get(b.admin, "/status").body)
    assert.matches("says the auditor", status.store.degraded, 1, true)
    assert.equal(1, b:metric "tidegate_store_degraded")
    local function age(step)
      return os.time() - b:metric(('tidegate_store_upkeep_timestamp_seconds{step="%s"}'):format(step))
    end
    assert.is_true(age "keys" >= 4, "keys " .. age "keys")
    for _, step in ipairs { "figures", "sessions", "partitions", "events", "rejected", "writers", "vacuum" } do
      eventually(step .. " is done", function() return age(step) < 4 end)
    end
    local _, lines = b:log():gsub("upkeep was refused", "")
    assert.equal(1, lines)
    db:sql "DROP TRIGGER no ON tidegate.dedup"
    eventually("all is well", function() return ready(b) == "ready\n" end, 30)
    assert.equal(0, b:metric "tidegate_store_degraded")
    eventually("the keys are gone", function() return db:sql "SELECT count(*) FROM tidegate.dedup" == "0" end)
  end)

  it("does not say that the outbox stands still when it only cannot look", function()
    local db = server():database()
    local b = db:broker { config = { store = { upkeep_alarm_s = 1 } } }
    local c = sse.open(b, { topic = "t" })
    local head, table = db:session(), db:session()
    head:run "BEGIN; SELECT 1 FROM tidegate.head FOR UPDATE;"
    db:insert { topic = "t", data = "1" }
    eventually("it is told", function() return ready(b):find("its first row, 1, is the same", 1, true) end, 20)
    table:run "BEGIN; LOCK TABLE tidegate.version;" -- its size is one of the figures
    eventually("it cannot look", function() return ready(b):find('step "figures", has failed', 1, true) end, 20)
    head:run "COMMIT;"
    assert.equal("1", c:next(20).data)
    eventually("it is told no more", function()
      local body = ready(b)
      assert.matches('step "figures", has failed', body, 1, true)
      return not body:find("first row", 1, true)
    end, 12)
    table:close()
    head:close()
  end)

  it("makes nobody wait for a partition that somebody reads, and says who it is", function()
    local db = server():database { config = { store = { partition_ids = 1000 } } }
    local b = db:broker { config = { store = { retain_events = 100, partition_ids = 1000, upkeep_alarm_s = 3 } } }
    local reader = db:session()
    reader:run "BEGIN; SELECT count(*) FROM tidegate.events;"
    for _ = 1, 8 do
      publish_many(b, 300)
    end
    local waited = false
    eventually("it is told", function()
      waited = waited or db:sql [[SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'
        AND relation IS NOT NULL]] ~= "0"
      return ready(b):find("degraded: [^\n]*\"events\", has failed[^\n]*cannot be dropped[^\n]*psql")
    end, 60)
    assert.is_false(waited, "a DROP waits")
    reader:run "COMMIT;"
    eventually("they are dropped", function()
      return tonumber(db:sql "SELECT count(*) FROM tidegate.events") <= 1100 and ready(b) == "ready\n"
    end, 60)
  end)
end)

describe("what keeps things up without a session", function()
  local server = pg.shared { settings = { wal_level = "logical", max_replication_slots = 4 } }

  it("is shown: a prepared transaction that has written to the outbox", function()
    local db = server():database()
    local b = db:broker()
    local c = sse.open(b, { topic = "t" })
    db:sql("BEGIN; " .. pg.insert { topic = "t", data = "late" } .. "; PREPARE TRANSACTION 'forgotten'", pg.APP)
    finally(function() db:try("ROLLBACK PREPARED 'forgotten'") end)
    eventually("it is shown", function() return b:metric "tidegate_store_open_publisher_seconds" >= 2 end, 20)
    local before = b:metric "tidegate_store_xmin_age"
    for _ = 1, 60 do
      db:sql "SELECT txid_current()"
    end
    eventually("its age is", function() return b:metric "tidegate_store_xmin_age" >= before + 60 end, 20)
    db:sql("COMMIT PREPARED 'forgotten'", pg.APP)
    assert.equal("late", c:next(20).data)
    eventually("it is gone", function()
      return b:metric "tidegate_store_open_publisher_seconds" == 0 and b:metric "tidegate_store_xmin_age" < 50
    end, 20)
  end)

  it("is shown: a replication slot whose consumer is away", function()
    local db = server():database()
    local b = db:broker()
    db:sql "SELECT pg_create_logical_replication_slot('gone', 'test_decoding')"
    finally(function() db:try("SELECT pg_drop_replication_slot('gone')") end)
    for _ = 1, 60 do
      db:sql "SELECT txid_current()"
    end
    eventually("its age is", function() return b:metric "tidegate_store_xmin_age" >= 60 end, 20)
    db:sql "SELECT pg_drop_replication_slot('gone')"
    eventually("it is gone", function() return b:metric "tidegate_store_xmin_age" < 50 end, 20)
  end)
end)

describe("partitions", function()
  local server = pg.shared {}

  it("count in the size of the store, with indexes and what is stored beside them", function()
    local db = server():database()
    local b = db:broker()
    -- what does not get shorter goes to a table beside, in pieces
    db:sql([[INSERT INTO tidegate.outbox (topic, data) SELECT 't', (SELECT string_agg(md5(random()::text || g), '')
      FROM generate_series(1, 20000) g) FROM generate_series(1, 5)]], pg.APP)
    local shown, measured
    eventually("it is shown", function()
      shown = b:metric "tidegate_store_size_bytes"
      measured = tonumber(db:sql [[SELECT sum(pg_table_size(oid) + pg_indexes_size(oid)) FROM pg_class
        WHERE relnamespace = 'tidegate'::regnamespace AND relkind = 'r']])
      return shown > 5 * 640000 and shown == measured, ("%s, not %s"):format(shown, measured)
    end, 40)
  end)

  it("are made whatever advisory lock somebody holds who may publish and nothing else", function()
    local config = { store = { partition_ids = 1000, retain_events = 500 } }
    local db = server():database { config = config }
    local s = db:session(pg.APP)
    s:run "SELECT pg_advisory_lock(1952736100, 2);"
    local b = db:broker { config = config }
    for _ = 1, 8 do
      publish_many(b, 300)
    end
    eventually("those behind are removed", function()
      return tonumber(db:sql "SELECT count(*) FROM tidegate.events") <= 1500
    end, 20)
    local _, err = db:try("BEGIN; LOCK TABLE tidegate.partition IN SHARE UPDATE EXCLUSIVE MODE", pg.APP)
    assert.matches("permission denied", err)
    s:close()
  end)

  it("are made once, however many make them and remove events at the same time", function()
    local db, sessions = server():database { config = { store = { partition_ids = 1000 } } }, {}
    for i = 1, 6 do
      sessions[i] = db:session(pg.OWNER)
    end
    for i, s in ipairs(sessions) do
      s:send(([[DO $$ BEGIN FOR i IN 1..20 LOOP
          PERFORM tidegate.ahead((SELECT seq FROM tidegate.head) + (i + %d) * 500, 1000);
          COMMIT;
        END LOOP; END $$;]]):format(i))
    end
    for _, s in ipairs(sessions) do
      eventually("it is done", function() return s:answer() end, 60)
      assert.equal("", s:errors())
    end
    -- none twice; a session that was faster than the others by a partition may have left one out, as after a leap
    assert.equal("0|t", db:sql [[SELECT count(*) FILTER (WHERE lo < before), count(*) > 10 FROM (
      SELECT lo, lag(hi, 1, lo) OVER (ORDER BY lo) AS before FROM tidegate.partition) p]])
  end)
end)

it("too many partitions for the server's table of locks are told in the log", function()
  local server = pg.start { settings = { max_connections = 20, max_locks_per_transaction = 10,
    max_prepared_transactions = 0 } }
  local config = { store = { partition_ids = 1000 } }
  local db = server:database { config = config }
  local b = db:broker { config = config }
  assert.is_nil(b:log():find("too many partitions", 1, true))
  db:sql [[DO $$ DECLARE s bigint; BEGIN
    SELECT seq INTO s FROM tidegate.head;
    FOR i IN 1..20 LOOP
      PERFORM tidegate.ahead(s + i * 1000, 1000);
    END LOOP; END $$]]
  eventually("it is told", function()
    return b:log():find "too many partitions[^\n]*partitions=%d+ sane=%d+ locks=200"
  end, 20)
  eventually("it is shown", function() return b:metric "tidegate_store_partitions" >= 20 end)
end)
