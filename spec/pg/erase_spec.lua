-- Events that are erased in PostgreSQL: by one of two brokers, which the other one hears of.
local erasures = require "support.erasures"
local eventually = require "support.eventually"
local pg = require "support.pg"

local P1, replay = erasures.P1, erasures.replay

describe("erase on PostgreSQL", function()
  local server = pg.shared {}
  local db, a, b

  local function start(config)
    db = server():database()
    a, b = db:broker { config = config }, db:broker { config = config }
  end

  local function gone_at(broker, others)
    eventually("it has only the others", function()
      local got = replay(broker, #others)
      for i, data in ipairs(others) do
        if got[i] ~= data then
          return false
        end
      end
      return true
    end, 30)
    assert.equal(0, broker:metric "tidegate_gaps_total")
  end

  for where, log in pairs { ["event log"] = {}, ["pages"] = { max_events = 16, page_events = 8 } } do
    it("takes events out of the " .. where .. " of both brokers", function()
      start { event_log = log }
      local others = erasures.fill(a, 60, "p1 ")
      assert.equal(60, #replay(a, 60))
      assert.equal(60, #replay(b, 60))
      local r = a:erase { topic = P1.topic, where = P1.where, dry_run = true }
      assert.same({ 200, 20, 0 }, { r.status, r.json.matched, r.json.erased })
      assert.equal(60, #replay(b, 60))
      r = a:erase(P1)
      assert.same({ 200, 60, 20, 20 }, { r.status, r.json.examined, r.json.matched, r.json.erased }, r.body)
      assert.same(others, replay(a, #others))
      gone_at(b, others)
      assert.equal("0", db:sql "SELECT count(*) FROM tidegate.events WHERE data LIKE 'p1%'")
      assert.equal(20, a:metric "tidegate_store_erased_events_total")
      assert.equal(0, b:metric "tidegate_store_erased_events_total")
      assert.is_true(math.tointeger((b:publish("crm/c1", "later"))) > math.tointeger(r.json.upto))
      b:restart()
      others[#others + 1] = "later"
      gone_at(b, others)
    end)
  end

  it("needs no notification", function()
    start {}
    local others = erasures.fill(a, 30, "p1 ")
    assert.equal(30, #replay(b, 30))
    db:sql [[WITH d AS (DELETE FROM tidegate.events WHERE data LIKE 'p1%' RETURNING seq)
             INSERT INTO tidegate.erased (batch, seq) SELECT tidegate.floor_now(), seq FROM d]]
    gone_at(b, others)
    gone_at(a, others)
  end)

  it("takes more than one answer names, and a broker that was away for it", function()
    start {}
    db:sql [[INSERT INTO tidegate.outbox (topic, data, attrs)
             SELECT 'crm/c', CASE WHEN n % 2 = 0 THEN 'p1 ' ELSE 'plain ' END || n,
                    jsonb_build_object('person', 'p' || 1 + n % 2) FROM generate_series(1, 5000) n]]
    assert.equal(5000, #replay(b, 5000))
    b:signal "STOP"
    local r = a:erase(P1)
    b:signal "CONT"
    assert.equal(2500, r.json.erased, r.body)
    eventually("it has only the others", function()
      local got = replay(b, 2500)
      return got[2] == "plain 3" and got[2500] == "plain 4999"
    end, 30)
  end)

  it("lets others have the head while a change of store.latest waits for it", function()
    db = server():database()
    local erasing, change = db:session(), db:session()
    erasing:run "BEGIN; SELECT pg_advisory_xact_lock(1952736100, 4); DELETE FROM tidegate.events WHERE seq = 0;"
    change:send "SELECT tidegate.latest_configure('{x/*}', 10);"
    eventually("it waits", function()
      return db:sql "SELECT count(*) FROM pg_locks WHERE NOT granted AND database = \
        (SELECT oid FROM pg_database WHERE datname = current_database())" == "1"
    end, 30)
    assert.is_truthy(db:try "SELECT seq FROM tidegate.head FOR UPDATE NOWAIT")
    erasing:run "COMMIT;"
    eventually("it has changed", function()
      return db:sql "SELECT patterns FROM tidegate.latest_state" == "{x/*}"
    end, 30)
  end)

  it("takes out what only store.latest has kept, and the keys", function()
    db = server():database()
    a = db:broker { config = { store = { latest = { "crm/*" }, retain_events = 5 } } }
    a:publish("crm/c1", "p1 old", { key = "k1", attrs = { person = "p1" } })
    a:publish("crm/c2", "plain", { key = "k2", attrs = { person = "p2" } })
    for i = 1, 20 do
      a:publish("noise", tostring(i))
    end
    eventually("both are kept", function() return db:sql "SELECT count(*) FROM tidegate.latest" == "2" end, 30)
    db:sql "DELETE FROM tidegate.events WHERE topic LIKE 'crm/%'" -- as retention does, and its mark
    db:sql "UPDATE tidegate.retention SET trimmed = (SELECT max(seq) FROM tidegate.latest)"
    eventually("it knows of the mark", function()
      local r = a:erase { topic = P1.topic, where = P1.where, dry_run = true }
      return r.status == 200 and r.json.matched == 1
    end, 30)
    local r = a:erase(P1)
    assert.same({ 200, 1 }, { r.status, r.json.erased }, r.body)
    assert.equal("crm/c2|1", db:sql "SELECT l.topic, s.topics FROM tidegate.latest l, tidegate.latest_state s")
    assert.equal("k2", db:sql "SELECT key FROM tidegate.dedup")
  end)
end)
