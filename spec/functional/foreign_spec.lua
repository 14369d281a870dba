-- Other programs write events with plain SQL: they are delivered like any other.
local child = require "support.child"
local eventually = require "support.eventually"
local http = require "support.http"
local sse = require "support.sse"
local store = require "native.store"
local tidegate = require "support.tidegate"

local SQLITE = assert(child.find "sqlite3", "the package sqlite3 is not installed")
local INSERT = "BEGIN IMMEDIATE; INSERT INTO events(topic, type, data) VALUES ('foreign/a', 'sql', 'row %d'); COMMIT"

-- Runs SQL in a process of its own.
local function sql(broker, text)
  local code, out, err = tidegate.run(SQLITE, { args = { "-bail", broker.dir .. "/store/events.db",
    "PRAGMA busy_timeout = 5000; " .. text } })
  assert.equal(0, code, err)
  return out
end

describe("a disk, or a lock, that lets some writes through", function()
  it("is a line in the log, not one for each of them", function()
    local broker = tidegate.start { config = { store = { busy_timeout_ms = 1 } } }
    local from = eventually.now()
    for _ = 1, 5 do
      local db = store.sql(broker.dir .. "/store/events.db")
      assert(db "BEGIN IMMEDIATE")
      assert.equal(503, http.post(broker, "/events?topic=a", "x").status)
      assert(db "ROLLBACK")
      db:close()
      eventually("it works again", function() return http.get(broker.admin, "/readyz").status == 200 end)
    end
    local lines = { ["cannot store events"] = 0, ["works again"] = 0 }
    for _, line in ipairs(broker:log_lines()) do
      if lines[line.msg] then
        lines[line.msg] = lines[line.msg] + 1
      end
    end
    local allowed = 1 + math.floor((eventually.now() - from) / 10)
    for msg, n in pairs(lines) do
      assert.is_true(n >= 1 and n <= allowed, ("%d x %s"):format(n, msg))
    end
    assert.is_truthy(broker:logged { msg = "works again" }.after_seconds)
  end)
end)

describe("events inserted by another program", function()
  local broker = tidegate.shared()

  it("are delivered within a second, with everything", function()
    local c = sse.open(broker(), { topic = "foreign/**" })
    local soonest = math.huge -- a busy machine may make some of them late
    for i = 1, 5 do
      local from = eventually.now()
      sql(broker(), INSERT:format(i))
      local ev = c:next()
      soonest = math.min(soonest, eventually.now() - from)
      assert.same({ "sql", "row " .. i }, { ev.type, ev.data })
    end
    assert.is_true(soonest < 1.2, "within a second")
  end)

  it("have one order with those that were published", function()
    local c = sse.open(broker(), { topic = "mixed" })
    local expected = {}
    for i = 1, 10 do
      broker():publish("mixed", "http " .. i)
      sql(broker(), ("INSERT INTO events(topic, data) VALUES ('mixed', 'sql %d')"):format(i))
      expected[#expected + 1] = "http " .. i
      expected[#expected + 1] = "sql " .. i
    end
    local last = 0
    for i, ev in ipairs(c:collect(20)) do
      assert.equal(expected[i], ev.data)
      assert.is_true(tonumber(ev.id) > last)
      last = tonumber(ev.id)
    end
  end)

  it("arrive all, from several writers at once while others are published", function()
    local c = sse.open(broker(), { topic = "crowd" })
    local script = {}
    for i = 1, 100 do
      script[i] = ("BEGIN IMMEDIATE; INSERT INTO events(topic, data) VALUES ('crowd', 'sql %d'); %s;"):format(i,
        i % 7 == 0 and "ROLLBACK" or "COMMIT")
    end
    sql(broker(), table.concat(script, "\n"))
    for i = 1, 50 do
      broker():publish("crowd", "http " .. i)
    end
    broker():publish("crowd", "end")
    local seen, n = {}, 0
    for _, ev in ipairs(c:collect_until("end")) do
      assert.is_nil(seen[ev.data])
      seen[ev.data] = true
      n = n + 1
    end
    assert.equal(50 + 100 - 100 // 7, n)
  end)

  it("are resumed like others, also after a restart", function()
    local id = broker():publish("later", "before")
    sql(broker(), "INSERT INTO events(topic, data) VALUES ('later', 'while it ran')")
    broker():stop()
    sql(broker(), "INSERT INTO events(topic, data) VALUES ('later', 'while it was down')")
    broker():start()
    local c = sse.open(broker(), { topic = "later", last_event_id = id })
    assert.equal("while it ran", c:next().data)
    assert.equal("while it was down", c:next().data)
  end)

  it("that cannot be delivered are left out, counted, and hold up nobody", function()
    local before = broker():metric "tidegate_store_rejected_rows_total"
    local c = sse.open(broker(), { topic = "**" })
    local bad = {
      "INSERT INTO events(topic, data) VALUES ('', 'x')",
      "INSERT INTO events(topic, data) VALUES ('a//b', 'x')",
      "INSERT INTO events(topic, data) VALUES ('a/*', 'x')",
      "INSERT INTO events(topic, type, data) VALUES ('a', 'x' || char(10) || 'id: 1', 'x')",
      "INSERT INTO events(topic, data) VALUES ('a', CAST(x'ff' AS TEXT))",
      "INSERT INTO events(topic, data, attrs) VALUES ('a', 'x', '[1]')",
    }
    local accepted = 0
    for _, statement in ipairs(bad) do
      local code = tidegate.run(SQLITE, { args = { "-bail", broker().dir .. "/store/events.db", statement } })
      accepted = accepted + (code == 0 and 1 or 0) -- the schema may refuse it already
    end
    broker():publish("good", "after")
    assert.equal("after", c:next().data)
    assert.equal(before + accepted, broker():metric "tidegate_store_rejected_rows_total")
  end)
end)

describe("another program that holds the lock", function()
  it("delays a start, which says what it waits for, and does not end it", function()
    local broker = tidegate.start { config = { store = { busy_timeout_ms = 1 } } }
    broker:stop()
    local db = store.sql(broker.dir .. "/store/events.db")
    assert(db "BEGIN IMMEDIATE")
    broker:spawn()
    eventually("it says so", function() return broker:log():find("waiting to open it", 1, true) end)
    assert(db "ROLLBACK")
    db:close()
    broker:wait_ready()
    broker:publish("a", "x")
    assert.equal(1, select(2, broker:log():gsub("waiting to open it", "")))
  end)

  it("delays publishers and sheds them when too many wait; nothing acknowledged is lost", function()
    local broker = tidegate.start { config = {
      store = { max_queue_events = 10, busy_timeout_ms = 20000 }, limits = { batch_events = 10 },
    } }
    local c = sse.open(broker, { topic = "a" })
    local lock = child.start(SQLITE, { broker.dir .. "/store/events.db" }, { stdin = true })
    finally(function() lock:stop() end)
    lock:write "BEGIN IMMEDIATE;\n.print locked\n"
    eventually("the lock is held", function() return lock:output():find("locked", 1, true) end)

    local waiting, shed = {}, 0
    for i = 1, 40 do
      local p = http.connect(broker)
      p:send(http.render("POST", "/events?topic=a", nil, "p" .. i))
      waiting[i] = p
    end
    eventually("some are shed", function()
      for i = #waiting, 1, -1 do
        local r = waiting[i]:response { timeout = 0.02 }
        if r then
          assert.equal(503, r.status)
          assert.matches("^%d+$", r.headers["retry-after"])
          shed = shed + 1
          table.remove(waiting, i):close()
        end
      end
      return shed >= 20
    end)
    assert.equal(200, http.get(broker.admin, "/healthz").status) -- the loop is free meanwhile
    c:pump()
    assert.equal(0, #c.queue) -- nothing is delivered before it is durable
    lock:write "COMMIT;\n.quit\n"
    assert.equal(0, lock:wait())

    local acked, stored = {}, 0
    for _, p in ipairs(waiting) do
      local r = assert(p:response())
      if r.status == 201 then
        acked[r.json.id] = true
        stored = stored + 1
      else
        assert.equal(503, r.status) -- it was shed, and had not been read yet
        shed = shed + 1
      end
    end
    assert.equal(40, shed + stored)
    assert.is_true(stored >= 10)
    broker:publish("a", "end")
    local list = c:collect_until("end")
    assert.equal(stored, #list)
    for _, ev in ipairs(list) do
      assert.is_true(acked[ev.id])
    end
  end)
end)
