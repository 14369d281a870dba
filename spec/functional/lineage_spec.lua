-- A store that becomes older, shorter or another one under the running broker: nobody misses events in
-- silence, and no id names two events.
local child = require "support.child"
local connections = require "support.connections"
local eventually = require "support.eventually"
local http = require "support.http"
local sse = require "support.sse"
local tidegate = require "support.tidegate"
local uv = require "luv"

local SQLITE = assert(child.find "sqlite3", "the package sqlite3 is not installed")

local function file_of(broker)
  return broker.dir .. "/store/events.db"
end

-- Runs SQL and dot-commands in a process of its own.
local function sql(broker, ...)
  local code, out, err = tidegate.run(SQLITE, { args = { "-bail", "-cmd", ".timeout 5000", file_of(broker), ... } })
  assert.equal(0, code, err)
  return out
end

local function publish(broker, from, upto, ids)
  for i = from, upto do
    ids[#ids + 1] = tonumber((broker:publish("a", tostring(i))))
  end
  return ids
end

local function gap_of(ev)
  assert.equal("gap", ev.type, ev.data)
  return http.json.decode(ev.data)
end

-- While the broker stands still, so that it sees only what came of it.
local function frozen(broker, what)
  broker:signal "STOP"
  local ok, why = pcall(what)
  broker:signal "CONT"
  assert(ok, why)
end

describe("an older state of events.db under the running broker", function()
  local broker, ids, copy, quiet
  before_each(function()
    broker, ids = tidegate.start(), {}
    quiet = sse.open(broker, { topic = "b" })
    publish(broker, 1, 3, ids)
    copy = broker.dir .. "/copy.db"
    sql(broker, ("VACUUM INTO '%s'"):format(copy))
  end)

  local function expect_told(live)
    local gap = gap_of(live:next())
    assert.equal("reset", gap.reason)
    assert.equal(tostring(ids[#ids]), gap.requested)
    local new = publish(broker, 101, 103, {})
    for i, id in ipairs(new) do
      assert.is_true(id > ids[#ids], "an id was handed out again")
      local ev = live:next()
      assert.same({ tostring(100 + i), tostring(id) }, { ev.data, ev.id })
    end
    local late = sse.open(broker, { topic = "a", last_event_id = tostring(ids[#ids]) })
    assert.equal("reset", gap_of(late:next()).reason)
    assert.equal("101", late:next().data)
    assert.equal(1, broker:metric "tidegate_store_leaps_total")
    assert.is_truthy(broker:logged { level = "warn",
      msg = "ids are left out, so that none is used twice: events.db is older than what was delivered, or was "
        .. "emptied" })
  end

  it("that was restored into it is leapt over, and clients are told", function()
    local live = sse.open(broker, { topic = "a", last_event_id = tostring(ids[3]) })
    publish(broker, 4, 6, ids)
    live:collect(3)
    sql(broker, (".restore '%s'"):format(copy))
    expect_told(live)
    assert.equal("1\n2\n3\n101\n102\n103\n", sql(broker, "SELECT data FROM events ORDER BY seq"))
  end)

  it("takes what was read of the lost one out of memory", function()
    broker, ids = tidegate.start { config = { event_log = { max_events = 16 } } }, {}
    publish(broker, 1, 3, ids)
    copy = broker.dir .. "/copy.db"
    sql(broker, ("VACUUM INTO '%s'"):format(copy))
    local live = sse.open(broker, { topic = "a", last_event_id = tostring(ids[3]) })
    publish(broker, 4, 40, ids)
    live:collect(37)
    sse.open(broker, { topic = "a", query = { last_event_id = "earliest" } }):collect(40) -- a page is kept
    sql(broker, (".restore '%s'"):format(copy))
    assert.equal("reset", gap_of(live:next()).reason)
    publish(broker, 101, 101, ids)
    local seen = {}
    for _, ev in ipairs(sse.open(broker, { topic = "a", query = { last_event_id = "earliest" } }):collect(4)) do
      seen[#seen + 1] = ev.data
    end
    assert.same({ "1", "2", "3", "101" }, seen)
  end)

  it("is found out though other programs have gone on writing to it", function()
    local live = sse.open(broker, { topic = "a", last_event_id = tostring(ids[3]) })
    publish(broker, 4, 6, ids)
    live:collect(3)
    frozen(broker, function()
      local rows = {}
      for i = 1, 20 do
        rows[i] = ("('a', 'other %d')"):format(i)
      end
      sql(broker, (".restore '%s'"):format(copy), "INSERT INTO events(topic, data) VALUES " .. table.concat(rows, ","),
        "INSERT INTO events(topic, data) VALUES ('b', 'for the quiet one')")
    end)
    expect_told(live)
    assert.equal("for the quiet one", quiet:next().data) -- it was sent nothing that is lost
  end)

  it("whose tables were emptied hands out no id twice", function()
    local live = sse.open(broker, { topic = "a", last_event_id = tostring(ids[3]) })
    publish(broker, 4, 6, ids)
    live:collect(3)
    sql(broker, "BEGIN IMMEDIATE; DELETE FROM events; DELETE FROM sqlite_sequence; DELETE FROM meta;"
      .. " DELETE FROM leaps; COMMIT")
    expect_told(live)
  end)

  for _, with_log in ipairs { true, false } do
    it(("that took its place %s its log stores nothing, says so, and is leapt over by the next start"):format(
      with_log and "beside" or "without"), function()
      local live = sse.open(broker, { topic = "a", last_event_id = tostring(ids[3]) })
      publish(broker, 4, 6, ids)
      live:collect(3)
      assert(os.rename(copy, file_of(broker)))
      if not with_log then
        assert(os.remove(file_of(broker) .. "-wal"))
        assert(os.remove(file_of(broker) .. "-shm"))
      end
      assert.equal(503, http.post(broker, "/events?topic=a", "lost?").status)
      assert.equal(503, http.get(broker.admin, "/readyz").status)
      broker:kill()
      os.remove(file_of(broker) .. "-wal")
      os.remove(file_of(broker) .. "-shm")
      broker:start()
      local late = sse.open(broker, { topic = "a", last_event_id = tostring(ids[6]) })
      assert.equal("reset", gap_of(late:next()).reason)
      assert.is_true(publish(broker, 7, 7, {})[1] > ids[6])
      assert.equal("7", late:next().data)
    end)
  end

  it("whose log alone was removed, or that was cut to nothing, stores nothing and says so", function()
    for _, break_it in ipairs {
      function() assert(os.remove(file_of(broker) .. "-wal")) end,
      function() assert(io.open(file_of(broker), "w")):close() end,
    } do
      break_it()
      assert.equal(503, http.post(broker, "/events?topic=a", "lost?").status)
      assert.matches("under the running store", http.get(broker.admin, "/readyz").body)
      broker:kill()
      for _, suffix in ipairs { "", "-wal", "-shm" } do
        os.remove(file_of(broker) .. suffix)
      end
      broker:start()
    end
  end)
end)

describe("rows that somebody has removed by hand", function()
  it("are a gap to those who come back for them, and to nobody else", function()
    local broker = tidegate.start()
    local ids = publish(broker, 1, 6, {})
    local live = sse.open(broker, { topic = "a", last_event_id = tostring(ids[5]) })
    assert.equal("6", live:next().data)
    sql(broker, ("DELETE FROM events WHERE seq IN (%d, %d)"):format(ids[2], ids[5]))
    broker:restart() -- the event log still had them
    publish(broker, 7, 7, ids)
    local seen = {}
    for _, ev in ipairs(sse.open(broker, { topic = "a", last_event_id = tostring(ids[1] - 1) }):collect(7)) do
      seen[#seen + 1] = ev.type == "gap" and gap_of(ev).resumed_from or ev.data
    end
    assert.same({ "1", tostring(ids[2]), "3", "4", tostring(ids[5]), "6", "7" }, seen)
    local late = sse.open(broker, { topic = "a", last_event_id = tostring(ids[5]) })
    assert.same({ "6", "7" }, { late:next().data, late:next().data })
  end)

  it("end a page of history, and the next one says the gap", function()
    local broker = tidegate.start()
    local ids = publish(broker, 1, 6, {})
    sql(broker, ("DELETE FROM events WHERE seq IN (%d, %d)"):format(ids[3], ids[4]))
    broker:restart()
    local function page(after)
      local r = http.get(broker, "/events?topic=a&last_event_id=" .. after, { Accept = "application/json" })
      assert.equal(200, r.status, r.body)
      local data = {}
      for i, ev in ipairs(r.json.events) do
        data[i] = tostring(ev.data)
      end
      return table.concat(data, " "), r
    end
    for _, start in ipairs { "earliest", tostring(ids[1] - 1) } do
      local data, r = page(start)
      assert.equal("1 2", data)
      assert.same({ tostring(ids[2]), true }, { r.json.next, r.json.more })
      assert.matches('"gap":null}\n$', r.body)
    end
    local data, r = page(ids[2])
    assert.equal("5 6", data)
    assert.same({ reason = "expired", requested = tostring(ids[2]), resumed_from = tostring(ids[4]) }, r.json.gap)
    assert.is_false(r.json.more)
  end)

  it("are a gap when nothing is left", function()
    local broker = tidegate.start()
    local ids = publish(broker, 1, 3, {})
    sql(broker, "DELETE FROM events")
    broker:restart()
    local late = sse.open(broker, { topic = "a", last_event_id = tostring(ids[1]) })
    assert.equal("expired", gap_of(late:next()).reason)
    local all = sse.open(broker, { topic = "a", query = { last_event_id = "earliest" } })
    publish(broker, 4, 4, {})
    assert.same({ "4", "4" }, { late:next().data, all:next().data })
  end)

  it("before they were delivered, are a gap to those who are there", function()
    local broker = tidegate.start()
    local live = sse.open(broker, { topic = "a" })
    frozen(broker, function()
      sql(broker, "BEGIN IMMEDIATE; INSERT INTO events(topic, data) VALUES ('a', '1'), ('a', '2'), ('a', '3');"
        .. "DELETE FROM events WHERE data < '3'; COMMIT")
    end)
    assert.equal("expired", gap_of(live:next()).reason)
    assert.equal("3", live:next().data)
  end)
end)

describe("retention by one worker", function()
  it("of what another one has not seen yet is told to the clients of that one", function()
    local broker = tidegate.start { config = { workers = 2, store = { retain_events = 100 } } }
    local by_worker = connections.on_each(broker, 2)
    local held = http.get(broker.admin, "/status").json.workers[2].pid
    local first = tonumber((broker:publish("a", "first")))
    for _, c in pairs(by_worker) do
      assert.equal("first", c:next().data)
    end
    assert(uv.kill(held, "sigstop"))
    sql(broker, "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 2000)"
      .. " INSERT INTO events(topic, data) SELECT 'a', 'row ' || i FROM n")
    eventually("most are removed", function()
      return tonumber(sql(broker, "SELECT count(*) FROM events")) <= 100
    end, 40)
    assert(uv.kill(held, "sigcont"))
    for worker, c in pairs(by_worker) do
      local gaps, rows, last = 0, 0, first
      repeat
        local ev = c:next(20)
        if ev.type == "gap" then
          assert.equal("expired", gap_of(ev).reason)
          assert.equal(tostring(last), gap_of(ev).requested)
          gaps = gaps + 1
        else
          assert.is_true(tonumber(ev.id) == last + 1, "a hole without a gap")
          rows = rows + 1
        end
        last = tonumber(ev.id)
      until ev.data == "row 2000"
      assert.same(worker == 1 and { 0, 2000 } or { 1, 100 }, { gaps, rows })
    end
    assert.is_truthy(broker:logged { msg = "events were removed before they could be delivered" })
    -- the log of the second worker has no hole that it keeps quiet about
    for _ = 1, 8 do
      local c = sse.open(broker, { topic = "a", last_event_id = tostring(first) })
      local ev = c:next(20)
      assert.is_true(ev.type == "gap" or tonumber(ev.id) == first + 1)
      c:close()
    end
  end)
end)
