-- Retention over PostgreSQL: what is removed is removed for every broker, and whoever stood there is told.
local eventually = require "support.eventually"
local http = require "support.http"
local pg = require "support.pg"
local sse = require "support.sse"

local function numbers(events)
  local list = {}
  for i, ev in ipairs(events) do
    list[i] = ev.type == "gap" and "gap " .. http.json.decode(ev.data).reason or ev.data
  end
  return list
end

describe("retention", function()
  local server = pg.shared {}

  local function fill(broker, from, to)
    local batch, ids = {}, {}
    for i = from, to do
      batch[#batch + 1] = { topic = "t", data = tostring(i), key = "k" .. i }
    end
    for i, ack in ipairs(broker:publish_all(batch)) do
      ids[from + i - 1] = ack.id
    end
    return ids
  end

  it("of what a broker that stood still has not seen is told to its clients, whether they stay or come back", function()
    local db = server():database()
    local config = { store = { retain_events = 100 } }
    local a, b = db:broker { config = config }, db:broker { config = config }
    local live = sse.open(b, { topic = "t" })
    local first = fill(a, 0, 0)[0]
    assert.equal("0", live:next().data)
    b:signal "STOP"
    for from = 1, 1501, 500 do
      fill(a, from, from + 499)
    end
    eventually("the oldest are gone", function()
      return tonumber(db:sql "SELECT count(*) FROM tidegate.events") <= 150
    end, 60)
    b:signal "CONT"
    local gaps, last = 0, tonumber(first)
    repeat
      local ev = live:next(30)
      if ev.type == "gap" then
        local gap = http.json.decode(ev.data)
        assert.same({ "expired", ("%d"):format(last) }, { gap.reason, gap.requested })
        gaps = gaps + 1
      else
        assert.equal(last + 1, tonumber(ev.id), "a hole without a gap")
      end
      last = tonumber(ev.id)
    until ev.data == "2000"
    assert.equal(1, gaps)
    assert.is_truthy(b:logged { msg = "events were removed before they could be delivered" })
    local back = sse.open(b, { topic = "t", last_event_id = first })
    assert.equal("gap", back:next().type)
  end)

  it("by number keeps the newest; who stood before them gets a gap, on every broker", function()
    local db = server():database()
    local config = { store = { retain_events = 100 }, event_log = { max_events = 16 } }
    local a, b = db:broker { config = config }, db:broker { config = config }
    local ids = fill(a, 1, 400)
    local kept
    eventually("the oldest are gone", function()
      kept = tonumber(db:sql "SELECT count(*) FROM tidegate.events")
      return kept <= 150
    end, 30)
    assert.is_true(kept >= 100, "kept " .. kept)
    local first = tonumber(db:sql "SELECT min(data::int) FROM tidegate.events")
    for _, broker in ipairs { a, b } do
      eventually("this broker knows", function()
        local c = sse.open(broker, { topic = "t", last_event_id = ids[1] })
        local ev = c:next()
        assert.equal("gap", ev.type)
        local gap = http.json.decode(ev.data)
        assert.same({ "expired", ids[1] }, { gap.reason, gap.requested })
        local rest = numbers(c:collect(401 - first))
        assert.equal(tostring(first), rest[1])
        assert.equal("400", rest[#rest])
        return true
      end)
      -- at the last id that is gone nothing is missing
      local c = sse.open(broker, { topic = "t", last_event_id = ids[first - 1] })
      assert.equal(tostring(first), c:next().data)
      -- earliest is what there is, without a gap
      assert.equal(tostring(first), sse.open(broker, { topic = "t", last_event_id = "earliest" }):next().data)
    end
    assert.is_true(a:metric "tidegate_store_retention_removed_total" + b:metric "tidegate_store_retention_removed_total"
      >= 250)
  end)

  it("by age removes what is old, and ids go on growing over an empty store", function()
    local db = server():database()
    local a = db:broker { config = { store = { retain_age_s = 2 } } }
    local ids = fill(a, 1, 50)
    eventually("everything is gone", function() return db:sql "SELECT count(*) FROM tidegate.events" == "0" end, 30)
    local id = a:publish("t", "new")
    assert.is_true(tonumber(id) > tonumber(ids[50]))
    local b = db:broker()
    local c = sse.open(b, { topic = "t", last_event_id = ids[10] })
    assert.equal("gap", c:next().type)
    assert.equal("new", c:next().data)
    c = sse.open(b, { topic = "t", last_event_id = ids[50] })
    assert.equal("new", c:next().data)
  end)

  it("knows how old is what it has removed, whether as rows, as whole partitions or by hand", function()
    local db = server():database { config = { store = { partition_ids = 1000 } } }
    local a = db:broker { config = { store = { partition_ids = 1000, retain_age_s = 0 } } }
    local function newest()
      return db:sql "SELECT extract(epoch FROM newest)::bigint FROM tidegate.retention"
    end
    local function seek(s)
      return db:sql(("SELECT tidegate.seek(to_timestamp(%d)) - (SELECT trimmed FROM tidegate.retention)"):format(s))
    end
    db:sql("INSERT INTO tidegate.outbox (topic, data) SELECT 't', i FROM generate_series(1, 2500) i", pg.APP)
    eventually("all are events", function() return db:sql "SELECT count(*) FROM tidegate.events" == "2500" end, 20)
    db:sql "UPDATE tidegate.events SET at = to_timestamp(1700000000 + data::int)"
    local retain = "SELECT removed FROM tidegate.retain_events(0, 1, 0, 100)"
    local function retained() -- since then
      local n = tonumber(db:sql(retain))
      local gone = 2500 - tonumber(db:sql "SELECT count(*) FROM tidegate.events")
      assert.equal(("%d"):format(1700000000 + gone), newest())
      assert.equal("0", seek(1700000001 + gone))
      assert.is_true(tonumber(seek(1700000000 + gone)) < 0)
      return n, gone
    end
    local n, gone = retained() -- the first partition
    assert.is_true(n > 0)
    while gone < 2499 do
      gone = select(2, retained())
    end
    a:stop()
    db:sql "TRUNCATE tidegate.events"
    assert.is_true(tonumber(seek(1700000000 + 2501)) < 0)
    assert.equal("0", seek(os.time() + 3600))
  end)

  it("tells nobody of it where the policy would have hidden all of that", function()
    local db = server():database()
    local a = db:broker()
    local c = sse.open(a, { topic = "t" })
    c:wait("the first block", function() return c.start_id end)
    fill(a, 1, 4)
    a:stop()
    db:sql "UPDATE tidegate.events SET at = now() - interval '2 hours' WHERE data IN ('1', '2')"
    local b = db:broker { config = { store = { retain_events = 2 } }, policy = [[return {
      api = 1,
      authenticate = function() return {} end,
      publish = function() return true end,
      subscribe = function(req) return { topics = req.topics, replay = { max_age = 3600 } } end,
    }]] }
    eventually("two are gone", function() return b:metric "tidegate_store_retention_removed_total" == 2 end, 30)
    assert.equal("3", sse.open(b, { topic = "t", last_event_id = c.start_id }):next().data)
    assert.equal(0, b:metric "tidegate_gaps_total")
    db:sql "UPDATE tidegate.retention SET newest = now()" -- what it would have shown
    assert.equal("gap", sse.open(b, { topic = "t", last_event_id = c.start_id }):next().type)
  end)

  it("forgets keys after their window, not before", function()
    local db = server():database()
    local a = db:broker { config = { store = { key_window_s = 3 } } }
    local id = a:publish("t", "x", { key = "k" })
    assert.equal(id, (a:publish("t", "x", { key = "k" })))
    eventually("the key is forgotten", function() return db:sql "SELECT count(*) FROM tidegate.dedup" == "0" end, 30)
    assert.is_true(tonumber((a:publish("t", "x", { key = "k" }))) > tonumber(id))
  end)

  it("does not disturb those who read and write meanwhile", function()
    local db = server():database()
    local config = { store = { retain_events = 200 }, event_log = { max_events = 64 } }
    local a, b = db:broker { config = config }, db:broker { config = config }
    local c = sse.open(b, { topic = "t" })
    for round = 0, 19 do
      fill(a, round * 50 + 1, round * 50 + 50)
      for i, text in ipairs(numbers(c:collect(50))) do
        assert.equal(tostring(round * 50 + i), text)
      end
      eventually.pass(0.1, "retention has its turns between")
    end
  end)
end)
