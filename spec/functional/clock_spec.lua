-- A wall clock that is wrong: ids are made from it.
local child = require "support.child"
local eventually = require "support.eventually"
local http = require "support.http"
local sse = require "support.sse"
local tidegate = require "support.tidegate"
local wrong_clock = require "support.wrong_clock"

local SQLITE = assert(child.find "sqlite3", "the package sqlite3 is not installed")
local WARNING = "the clock is behind the newest id: if an older copy was restored without its events.db-lock, "
  .. "ids may be handed out a second time"

-- Publishes, copies, publishes what is lost, restores the copy; from then on the clock is an hour slow. The lost ids.
local function restore_slow(broker)
  local file, lost = broker.dir .. "/store/events.db", {}
  broker:publish("a", "kept")
  local code, _, err = tidegate.run(SQLITE, { args = { file, ("VACUUM INTO '%s.copy'"):format(file) } })
  assert.equal(0, code, err)
  for i = 1, 3 do
    lost[i] = tonumber((broker:publish("a", "lost " .. i)))
  end
  broker:stop()
  os.remove(file .. "-wal")
  os.remove(file .. "-shm")
  assert(os.rename(file .. ".copy", file))
  wrong_clock(broker, -3600)
  return lost
end

describe("a clock that is an hour slow", function()
  it("hands out no id of a version that is lost, warns, and has clients told", function()
    local broker = tidegate.start()
    local lost = restore_slow(broker)
    broker:start()
    assert.is_true(tonumber((broker:publish("a", "new"))) > lost[3])
    local c = sse.open(broker, { topic = "a", last_event_id = tostring(lost[2]) })
    local ev = c:next()
    assert.equal("gap", ev.type)
    assert.equal("reset", http.json.decode(ev.data).reason)
    assert.equal("new", c:next().data)
    local line = assert(broker:logged { level = "warn", msg = WARNING })
    assert.is_true(tonumber(line.seconds_behind) >= 3595 and tonumber(line.seconds_behind) <= 3605)
    assert.is_true(tonumber(line.newest) > tonumber(line.clock_says))
    broker:stop()
    broker.options.env = nil
    broker:start()
    assert.is_nil(broker:logged { msg = WARNING }, "the clock is right again")
  end)

  it("warns also where the lock file did not come along", function()
    local broker = tidegate.start()
    restore_slow(broker)
    assert(os.remove(broker.dir .. "/store/events.db-lock"))
    broker:start()
    assert.is_truthy(broker:logged { level = "warn", msg = WARNING })
  end)
end)

describe("a clock that is set", function()
  local HOUR = 3600
  local broker, set

  before_each(function()
    broker = tidegate.prepare { policy = [[
return {
  api = 1,
  authenticate = function(req) return { expires = tonumber(req.query.expires) } end,
  subscribe = function(req)
    return { topics = req.topics, start = req.query.start, limits = req.query.every and { every_s = 1 } or nil }
  end,
  publish = function(pub) return pub end,
}]], config = { event_log = { max_events = 16 }, store = { latest = { "score/*" } } } }
    tidegate.forget_later(broker)
    local at = wrong_clock(broker, 0)
    function set(to)
      at(to)
      local later = eventually.now() + 0.005
      eventually("the broker looks again: it does once a millisecond", function() return eventually.now() > later end)
    end
    broker:start()
  end)

  local function history(n)
    local list, c = {}, sse.open(broker, { topic = "a", last_event_id = "0" })
    for i, ev in ipairs(c:collect(n)) do
      list[i] = ev.data
    end
    c:close()
    return table.concat(list, " ")
  end

  local function put(data, ttl)
    local r = http.post(broker, "/events?topic=a" .. (ttl and "&ttl=" .. ttl or ""), data)
    assert.equal(201, r.status, r.body)
    return tonumber(r.json.id)
  end

  it("says whether an event has expired, and ids rise all the same", function()
    local live = sse.open(broker, { topic = "a" })
    local ids = { put("hour", HOUR), put("end 1") }
    assert.equal("hour end 1", history(2))
    set(2 * HOUR)
    ids[3], ids[4] = put("two hours", HOUR), put("end 2")
    assert.equal("end 1 two hours end 2", history(3))
    set(-2 * HOUR)
    ids[5], ids[6] = put("long", 3 * HOUR), put("end 3")
    assert.equal("hour end 1 two hours end 2 long end 3", history(6))
    set(2 * HOUR)
    ids[7] = put "end 4"
    assert.equal("end 1 two hours end 2 end 3 end 4", history(5))
    for i = 2, #ids do
      assert.is_true(ids[i] > ids[i - 1], i)
    end
    local got = {}
    for i, ev in ipairs(live:collect(7)) do
      got[i] = ev.data
    end
    assert.equal("hour end 1 two hours end 2 long end 3 end 4", table.concat(got, " "))
  end)

  it("ends no interval of every_s late, and none at once", function()
    local c = sse.open(broker, { topic = "a", query = { every = "1" } })
    for i, offset in ipairs { 0, 2 * HOUR, -2 * HOUR, 0 } do
      set(offset)
      put("first " .. i)
      put("not " .. i)
      put("second " .. i)
      c:collect_until("second " .. i, 10)
    end
  end)

  it("ends an identity soon where it is set behind that, and not before", function()
    local now = os.time()
    local c = sse.open(broker, { topic = "a", query = { expires = now + HOUR } })
    set(-HOUR)
    put "one"
    assert.equal("one", c:next().data)
    set(2 * HOUR)
    c:wait_end(30)
    assert.equal(1, broker:metric 'tidegate_connections_closed_total{reason="grant-expired"}')
  end)

  it("takes expired topics out of snapshots", function()
    local function snapshot()
      local c, list = sse.open(broker, { topic = "score/*", query = { start = "latest" } }), {}
      for ev in function() return c:next() end do
        if ev.type == "live" then
          c:close()
          return table.concat(list, " ")
        end
        list[#list + 1] = ev.data
      end
    end
    http.post(broker, "/events?topic=score/1&ttl=" .. HOUR, "hour")
    broker:publish("score/2", "stays")
    assert.equal("hour stays", snapshot())
    set(2 * HOUR)
    broker:publish("score/3", "new")
    eventually("a snapshot of now", function() return snapshot() == "stays new" end)
  end)
end)
