-- Newest events on PostgreSQL follow the log: a publish does not change tidegate.latest, and who reads sees all that
-- was delivered before. Nothing that is yet to be folded is lost: not by retention, erasure, a crash or a refusal.
local eventually = require "support.eventually"
local http = require "support.http"
local pg = require "support.pg"
local sse = require "support.sse"

local POLICY = [[
return {
  api = 1,
  authenticate = function() return {} end,
  subscribe = function(req) return { topics = req.topics, start = req.query.start } end,
  publish = function(pub) return pub end,
}
]]

describe("newest events that are yet to be folded", function()
  local server = pg.shared {}
  local db, broker, follower

  local function start(store, on)
    store.latest = { "score/*" }
    return (on or db):broker { policy = POLICY, config = { store = store } }
  end

  local function snapshot(of)
    local list, c = {}, sse.open(of or broker, { topic = "score/*", query = { start = "latest" } })
    while true do
      local ev = c:next(60)
      if ev.type == "live" then
        c:close()
        return table.concat(list, " ")
      end
      list[#list + 1] = ev.data == "" and "-" or ev.data
    end
  end

  -- Snapshots of the last second may be shared: what came since follows them.
  local function soon(expected, of)
    eventually("a snapshot has " .. expected, function() return snapshot(of) == expected end, 30)
  end

  -- Nobody folds meanwhile: `within` is called with a session that has the lock.
  local function unfolded(within)
    local session = db:session()
    session:run "BEGIN; SELECT 1 FROM tidegate.latest_state FOR UPDATE;"
    within(session)
    session:run "COMMIT;"
    session:close()
  end

  local function behind()
    return tonumber(db:sql "SELECT h.seq - s.done FROM tidegate.head h, tidegate.latest_state s")
  end

  -- Returns when the broker has delivered it, for that is what a snapshot is of. Returns the id.
  local function publish(topic, data)
    local id = broker:publish(topic, data)
    follower:collect_until(data, 30)
    return id
  end

  before_each(function()
    db = server():database()
    broker = start {}
    assert.equal("", snapshot()) -- it leads, and has said what is kept
    follower = sse.open(broker, { topic = "score/*" })
  end)

  it("are in a snapshot that begins after they were delivered, or follow it", function()
    for i = 1, 20 do
      publish("score/" .. i % 3, "v" .. i)
      local c = sse.open(broker, { topic = "score/*", query = { start = "latest" } })
      local got = table.concat({ c:next().data, i > 1 and c:next().data or "", i > 2 and c:next().data or "" }, " ")
      if not got:find("v" .. i, 1, true) then
        c:collect_until("v" .. i, 30)
      end
      c:close()
    end
    soon "v18 v19 v20"
  end)

  it("keep no publisher waiting for who folds", function()
    unfolded(function()
      for i = 1, 20 do
        broker:publish("score/a", "v" .. i)
      end
      db:insert { topic = "score/b", data = "by SQL" }
      eventually("it has its id", function() return db:sql "SELECT count(*) FROM tidegate.outbox" == "0" end, 30)
      assert.equal(21, behind())
      assert.equal("0", db:sql "SELECT count(*) FROM tidegate.latest")
    end)
    soon "v20 by SQL"
    assert.equal(0, behind())
  end)

  it("are the same for two brokers", function()
    local other = start {}
    local of_other = sse.open(other, { topic = "score/*" })
    unfolded(function()
      for i = 1, 10 do
        local by = i % 2 == 0 and broker or other
        by:publish("score/" .. i % 4, "v" .. i)
      end
      of_other:collect_until("v10", 30)
      follower:collect_until("v10", 30)
    end)
    soon("v7 v8 v9 v10", other)
    soon "v7 v8 v9 v10"
  end)

  it("stay, whatever retention removes", function()
    broker:stop()
    broker = start { retain_events = 2 }
    assert.equal("", snapshot())
    unfolded(function()
      for i = 1, 30 do
        broker:publish("score/" .. i, "v" .. i)
      end
      local step = 'tidegate_store_upkeep_timestamp_seconds{step="events"}'
      local at = broker:metric(step)
      eventually("retention has come by", function() return broker:metric(step) > at end, 60)
      assert.equal("30", db:sql "SELECT count(*) FROM tidegate.events")
    end)
    eventually("retention goes on", function() return db:sql "SELECT count(*) FROM tidegate.events" == "2" end, 60)
    local all = {}
    for i = 1, 30 do
      all[i] = "v" .. i
    end
    soon(table.concat(all, " "))
  end)

  it("that are erased let no older one take their place", function()
    publish("score/a", "a1")
    publish("score/b", "b1")
    publish("score/c", "c1")
    soon "a1 b1 c1"
    unfolded(function(session)
      local ids = {}
      for i, topic in ipairs { "score/a", "score/b", "score/b" } do
        ids[i] = publish(topic, "erased " .. i)
      end
      publish("score/b", "b2")
      assert.truthy(session:run(("SELECT tidegate.erase('{%s}');"):format(table.concat(ids, ","))):find "^3\n")
    end)
    soon "c1 b2"
    assert.equal("2|0", db:sql "SELECT topics, (SELECT count(*) FROM tidegate.latest_gone) FROM tidegate.latest_state")
    publish("score/a", "a2")
    soon "c1 b2 a2"
  end)

  it("outlive brokers and servers that are killed", function()
    unfolded(function()
      for i = 1, 10 do
        broker:publish("score/" .. i % 2, "v" .. i)
      end
      broker:kill()
    end)
    broker:restart()
    soon "v9 v10"
    for round = 1, 3 do
      follower = sse.open(broker, { topic = "score/*" })
      for i = 1, 10 do
        publish("score/" .. i % 2, ("v%d.%d"):format(round, i))
      end
      local now = ("v%d.9 v%d.10"):format(round, round)
      soon(now)
      server():restart "immediate" -- what was folded may be lost with it, for that is not waited for
      eventually("a snapshot is as before", function()
        local ok, got = pcall(snapshot)
        return ok and got == now
      end, 60)
      eventually("it takes events again", function()
        return http.post(broker, "/events?topic=noise", "x").status == 201
      end, 60)
    end
  end)

  it("count for store.latest_topics, exactly", function()
    broker:stop()
    broker = start { latest_topics = 4 }
    assert.equal("", snapshot())
    local function status(topic, data)
      return http.post(broker, "/events?topic=" .. topic, data).status
    end
    for i = 1, 50 do
      assert.equal(201, status("score/" .. i % 4, "v" .. i))
    end
    assert.equal(507, status("score/one-more", "x"))
    assert.equal(201, status("score/3", ""))
    assert.equal(201, status("score/one-more", "x"))
    assert.equal(507, status("score/3", "y"))
    assert.equal(201, status("other", "not of those"))
    local all = broker:publish_all { { topic = "score/0", data = "" }, { topic = "score/4", data = "new" } }
    assert.equal(2, #all)
    soon "v49 v50 x new"
    assert.equal(2, broker:metric "tidegate_store_latest_refused_total")
    assert.equal("4", db:sql "SELECT topics FROM tidegate.latest_state")
  end)

  for name, half in pairs { ["all of them"] = false, ["some of them, while older ones were looked for"] = true } do
    it("begin behind what the trigger of version 10 has kept: " .. name, function()
      broker:stop()
      db = server():database_of_version(10)
      local function drain(topic, data)
        db:insert { topic = topic, data = data }
        db:sql("SELECT tidegate.drain_events(0, 100, 1000000, 10000, 65536, false, 0, 0)", pg.OWNER)
      end
      drain("score/old", "from before")
      db:sql("SELECT tidegate.latest_step('{score/*}', 10000, 100)", pg.OWNER)
      drain("score/a", "a1")
      drain("score/b", "b1")
      drain("score/a", "a2")
      drain("score/b", "")
      drain("other", "x")
      assert.equal("2", db:sql "SELECT count(*) FROM tidegate.latest")
      if half then
        db:sql "DELETE FROM tidegate.latest WHERE topic = 'score/old'"
        db:sql "UPDATE tidegate.latest_state SET done = 0, topics = 1"
      end
      db:migrate()
      assert.equal("0|1", db:sql [[SELECT count(*) FILTER (WHERE tgname = 'latest_keep'),
        count(*) FILTER (WHERE tgname = 'latest_follow') FROM pg_trigger]])
      broker = start {}
      soon "from before a2"
      follower = sse.open(broker, { topic = "score/*" })
      publish("score/b", "b2")
      soon "from before a2 b2"
      assert.equal("3", db:sql "SELECT topics FROM tidegate.latest_state")
    end)
  end
end)

-- The functions by themselves, against a model: batches by the outbox, tombstones, topics that are not kept, erasures,
-- folds of some events, and changes of the bound, in an order that a seed draws.
describe("folding newest events", function()
  local server = pg.shared {}

  local function run(seed)
    local draw = math.random
    math.randomseed(seed)
    local db = server():database()
    db:migrate()
    local session = db:session()
    local function sql(text)
      return (session:run(text .. ";"):gsub("%s+$", ""))
    end
    local most, newest, at, alive = 5, {}, {}, {}
    local function advance(rows)
      sql(("SELECT tidegate.latest_advance('{a/*}', %d, %d)"):format(most, rows))
    end
    advance(10)

    local function kept(topic)
      return topic:sub(1, 2) == "a/"
    end

    local function count()
      local n = 0
      for topic in pairs(newest) do
        n = n + (kept(topic) and 1 or 0)
      end
      return n
    end

    local function append()
      local rows, changed = {}, {}
      for _ = 1, draw(1, 4) do
        local topic = ("%s/%d"):format(draw(4) == 1 and "b" or "a", draw(7))
        local data = draw(5) == 1 and "" or "v" .. draw(1000000)
        rows[#rows + 1] = ("('%s', '%s')"):format(topic, data)
        changed[#changed + 1] = { topic, data }
      end
      local before, was, fresh = {}, count(), false
      for topic, data in pairs(newest) do
        before[topic] = data
      end
      for _, c in ipairs(changed) do
        newest[c[1]] = c[2] ~= "" and c[2] or nil
      end
      for topic in pairs(newest) do
        fresh = fresh or kept(topic) and not before[topic]
      end
      local full = fresh and count() > most
      sql(("INSERT INTO tidegate.outbox (topic, data) VALUES %s"):format(table.concat(rows, ", ")))
      local ok = sql [[DO $$ BEGIN PERFORM tidegate.drain_events(0, 100, 1000000, 10000, 65536, false, 0, 0);
        EXCEPTION WHEN SQLSTATE '23T01' THEN
          DELETE FROM tidegate.outbox;
          PERFORM set_config('x.full', 'yes', false);
        END $$;
        SELECT current_setting('x.full', true) = 'yes', set_config('x.full', 'no', false)]]
      local refused = ok:find "^t" ~= nil
      assert.equal(full, refused, ("seed %d: %s, %d of %d before"):format(seed, table.concat(rows), was, most))
      if refused then
        newest = before
        return
      end
      local head = tonumber(sql "SELECT seq FROM tidegate.head")
      for i, c in ipairs(changed) do
        at[c[1]] = head - #changed + i
        alive[#alive + 1] = { id = at[c[1]], topic = c[1] }
      end
    end

    local function erase()
      if #alive > 0 then
        local e = table.remove(alive, math.max(1, #alive - draw(0, 5)))
        sql(("SELECT tidegate.erase('{%d}')"):format(e.id))
        if at[e.topic] == e.id then
          newest[e.topic], at[e.topic] = nil, nil
        end
      end
    end

    local function check()
      sql "SELECT tidegate.latest_fold('{a/*}', (SELECT seq FROM tidegate.head), 1000)"
      local want = {}
      for topic, data in pairs(newest) do
        if kept(topic) then
          want[#want + 1] = topic .. "=" .. data
        end
      end
      table.sort(want)
      assert.equal(("%s|%d|0"):format(table.concat(want, " "), #want), sql [[
        SELECT coalesce((SELECT string_agg(topic || '=' || data, ' ' ORDER BY topic) FROM tidegate.latest), ''), topics,
               (SELECT count(*) FROM tidegate.latest_gone) FROM tidegate.latest_state]], "seed " .. seed)
    end

    for _ = 1, 150 do
      local what = draw(20)
      if what <= 10 then
        append()
      elseif what <= 12 then
        erase()
      elseif what <= 15 then
        advance(draw(1, 4))
      elseif what <= 18 then
        check()
      elseif what == 19 then
        most = draw(3, 60)
        advance(1)
      end
    end
    check()
    assert.equal("", session:errors())
    session:close()
  end

  local first = tonumber(os.getenv "TIDEGATE_SPEC_SEED") or os.time()
  for i = 1, tonumber(os.getenv "TIDEGATE_FOLD_SEEDS") or 4 do
    it("ends with what the last event of each topic says, run " .. i, function()
      run(first * 100 + i)
    end)
  end
end)
