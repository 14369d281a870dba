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
