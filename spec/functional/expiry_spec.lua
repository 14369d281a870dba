-- Events that expire, on SQLite.
local child = require "support.child"
local eventually = require "support.eventually"
local expiry = require "support.expiry"
local http = require "support.http"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

local SQLITE = assert(child.find "sqlite3", "the package sqlite3 is not installed")

local function sql(broker, text)
  local code, out, err = tidegate.run(SQLITE,
    { args = { "-cmd", ".timeout 30000", broker.dir .. "/store/events.db", text } })
  return code == 0 and out or nil, err
end

local function insert(broker, row)
  assert(sql(broker, ("INSERT INTO events(topic, data, expires) VALUES ('%s', '%s', %s)"):format(row.topic, row.data,
    row.expires and ("%d"):format(row.expires * 1000 // 1) or "NULL")))
end

for _, workers in ipairs { 1, 2 } do
  expiry.describe(("with workers = %d,"):format(workers), workers, tidegate.start, insert)
end

describe("a file of before there was expiry", function()
  -- As version 1 made it: with rows, and with topics of store.latest.
  local function of_version_1(broker)
    broker:publish("score/1", "old")
    broker:publish("a/1", "plain")
    broker:stop()
    assert(sql(broker, [[
      DROP TRIGGER latest_keep; DROP INDEX latest_expires; ALTER TABLE latest DROP COLUMN expires;
      CREATE TRIGGER latest_keep AFTER INSERT ON events WHEN NEW.topic GLOB 'score/?*' BEGIN
        UPDATE latest SET seq = NEW.seq, data = NEW.data WHERE topic = NEW.topic;
        INSERT INTO latest SELECT NEW.seq, NEW.topic, NEW.type, NEW.data, NEW.attrs, NEW.key, NEW.created
          WHERE NOT EXISTS (SELECT 1 FROM latest WHERE topic = NEW.topic);
      END;
      DROP TRIGGER events_immutable; ALTER TABLE events RENAME TO e;
      CREATE TABLE events(seq INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, type TEXT, data TEXT NOT NULL,
        attrs TEXT, key TEXT, created INTEGER NOT NULL
          DEFAULT (CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER)));
      INSERT INTO events SELECT seq, topic, type, data, attrs, key, created FROM e;
      UPDATE sqlite_sequence SET seq = (SELECT seq FROM sqlite_sequence WHERE name = 'e') WHERE name = 'events';
      DROP TABLE e; PRAGMA user_version = 1]]))
  end

  it("is brought up to date, with what it keeps of store.latest, and no program has to change", function()
    local broker = tidegate.start { config = { store = { latest = { "score/*" } } } }
    of_version_1(broker)
    broker:start()
    assert.truthy(broker:logged { msg = "schema migrated", from = "1", to = "3" })
    local c = sse.open(broker, { topic = "**", last_event_id = "0" })
    assert.equal("old", c:next().data)
    assert.equal("plain", c:next().data)
    assert(sql(broker, "INSERT INTO events(topic, data) VALUES ('score/2', 'by SQL')"))
    assert.equal("by SQL", c:next().data)
    local r = http.post(broker, "/events?topic=score/1&ttl=3600", "hour")
    assert.equal(201, r.status, r.body)
    assert.equal("3600000\n", (sql(broker, "SELECT expires - created FROM events WHERE data = 'hour'")))
    assert(sql(broker, "INSERT INTO events(topic, data, expires) VALUES ('score/3', 'seconds', 1700000000)"))
    eventually("the row is refused", function()
      return broker:logged { level = "warn", reason = "expires: expected a time between 2001 and 2286" }
    end)
    broker:publish("score/4", "last")
    assert.equal("hour", c:next().data)
    assert.equal("last", c:next().data)
    broker:restart()
    assert.equal("3\n", (sql(broker, "PRAGMA user_version")))
  end)

  it("refuses a wrong time at once where it is new", function()
    local broker = tidegate.start()
    local done, err = sql(broker, "INSERT INTO events(topic, data, expires) VALUES ('a', 'seconds', 1700000000)")
    assert.is_nil(done)
    assert.matches("expires: Unix time in ms (13 digits), or NULL", err, 1, true)
  end)
end)

describe("what expires while store.latest is looked for in older events", function()
  it("is followed by nothing older, and by what is newer", function()
    local broker = tidegate.start { config = { store = { latest = { "score/*" } } } }
    broker:publish("score/1", "old")
    broker:stop()
    -- As if the looking through had just begun: it has found `found`, and `live` has come since.
    assert(sql(broker, [[
      INSERT INTO events(topic, data, expires) VALUES ('score/2', 'found', 1700000000000);
      INSERT INTO events(topic, data) VALUES ('score/2', 'newer');
      UPDATE latest SET (seq, data, expires) = (SELECT seq, data, expires FROM events WHERE data = 'found')
        WHERE topic = 'score/2';
      UPDATE latest_state SET done = 0, upto = (SELECT max(seq) FROM events);
      INSERT INTO events(topic, data, expires) VALUES ('score/1', 'live', 1700000000000)]]))
    broker:start()
    eventually("all were looked through", function()
      return sql(broker, "SELECT done < upto FROM latest_state") == "0\n"
    end, 60)
    assert.equal("newer\n", (sql(broker, "SELECT data FROM latest")))
    assert.equal("1\n", (sql(broker, "SELECT topics FROM latest_state")))
  end)
end)
