-- A server that is replaced by another one: those whose position was lost are told `reset`, exactly those;
-- no id is ever used for a second event.
local child = require "support.child"
local eventually = require "support.eventually"
local http = require "support.http"
local pg = require "support.pg"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

local function publish_at_last(broker, topic, data)
  return eventually(data .. " is published", function()
    local r = http.post(broker, "/events?topic=" .. topic .. "&key=" .. http.escape(data), data)
    return (r.status == 200 or r.status == 201) and r.json.id
  end, 40)
end

local function assert_gap(c, reason, requested)
  local ev = c:next(20)
  assert.equal("gap", ev.type, ev.data)
  local gap = http.json.decode(ev.data)
  assert.equal(reason, gap.reason)
  if requested then
    assert.equal(requested, gap.requested)
  end
  return ev
end

local function assert_data(c, ...)
  for _, data in ipairs { ... } do
    local ev = c:next(20)
    assert.same({ "message", data }, { ev.type, ev.data })
  end
end

local CONFIG = { sse = { heartbeat_s = 1, retry_ms = 100 } }

-- A primary with its standby, a broker that knows both.
local function pair()
  local primary = pg.start {}
  local db = primary:database()
  local standby = primary:standby {}
  local config = { sse = CONFIG.sse, store = { servers = { primary, standby } } }
  return primary, standby, db, db:broker { config = config }, db:broker { config = config }
end

describe("a promoted standby", function()
  it("that missed the last events: who saw those is told, who did not is not", function()
    local primary, standby, db, a, b = pair()
    local saw_all = sse.open(a, { topic = "t" })
    local kept = { a:publish("t", "1"), a:publish("t", "2") }
    standby:catch_up()
    local behind = sse.open(b, { topic = "t" })
    behind:close()
    local quiet = sse.open(a, { topic = "other" }) -- its place is behind the lost ones, too, but it got none of them
    standby:detach()
    local lost = { a:publish("t", "lost 1"), b:publish("t", "lost 2") }
    db:insert { topic = "t", data = "lost 3" }
    assert_data(saw_all, "1", "2", "lost 1", "lost 2", "lost 3")
    lost[3] = saw_all.last_id
    primary:kill()
    standby:promote()

    local id = publish_at_last(b, "t", "3")
    assert.is_true(tonumber(id) > tonumber(lost[3]), "an id of a lost event is used again")
    db:on(standby):insert { topic = "t", data = "4" }
    -- the stream that was open all the time
    local gap = assert_gap(saw_all, "reset", lost[3])
    assert.is_true(tonumber(gap.id) > tonumber(lost[3]))
    assert_data(saw_all, "3", "4")
    publish_at_last(a, "other", "mine")
    assert_data(quiet, "mine")
    for _, broker in ipairs { a, b } do
      for i = 1, 3 do
        local c = sse.open(broker, { topic = "t", last_event_id = lost[i] })
        assert_gap(c, "reset", lost[i])
        assert_data(c, "3", "4")
      end
      for _, from in ipairs { behind.last_id, kept[2] } do
        assert_data(sse.open(broker, { topic = "t", last_event_id = from }), "3", "4")
      end
      assert_data(sse.open(broker, { topic = "t", last_event_id = kept[1] }), "2", "3", "4")
      assert_data(sse.open(broker, { topic = "t", query = { last_event_id = "earliest" } }), "1", "2", "3", "4")
    end
    local _, elsewhere = http.get(a.admin, "/metrics").body:find "tidegate_store_leaps_total [1-9]"
    assert.is_truthy(elsewhere)
  end)

  it("that missed nothing: nobody is told anything, nothing comes twice", function()
    local primary, standby, db, a, b = pair()
    local clients = { sse.open(a, { topic = "t" }), sse.open(b, { topic = "t" }) }
    a:publish("t", "1")
    db:insert { topic = "t", data = "2" }
    assert_data(clients[1], "1", "2")
    assert_data(clients[2], "1", "2")
    standby:catch_up()
    local s = db:session(pg.APP) -- committed, perhaps not handled any more by the old primary
    s:run "INSERT INTO tidegate.outbox (topic, data) VALUES ('t', '3');"
    standby:catch_up()
    primary:kill()
    s:close()
    standby:promote()
    eventually("what was in the outbox is an event", function()
      return db:on(standby):sql "SELECT count(*) FROM tidegate.outbox" == "0"
    end, 30)
    publish_at_last(a, "t", "4")
    for _, c in ipairs(clients) do
      assert_data(c, "3", "4")
      assert_data(sse.open(b, { topic = "t", last_event_id = c.start_id }), "1", "2", "3", "4")
    end
  end)
end)

describe("a database that is restored into a new cluster", function()
  it("knows who was ahead of the copy", function()
    local old, new = pg.start {}, pg.start {}
    local db = old:database()
    local a = db:broker { config = CONFIG }
    local kept = { a:publish("t", "1"), a:publish("t", "2") }
    a:stop()
    db:insert { topic = "t", data = "3" } -- in the outbox, not an event yet
    local dump = old.dir .. "/dump"
    assert.equal(0, (tidegate.run(assert(child.find "pg_dump"), { args = { "-h", old.dir, "-p", tostring(old.port),
      "-U", "postgres", "-d", db.name, "-f", dump }, timeout = 60 })))
    a:start()
    local ahead = sse.open(a, { topic = "t", last_event_id = kept[2] })
    assert_data(ahead, "3")
    local lost = a:publish("t", "lost")
    a:stop()

    new:sql(("CREATE DATABASE %s TEMPLATE template0"):format(db.name))
    local code, _, err = tidegate.run(assert(child.find "psql"), { args = { "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h",
      new.dir, "-p", tostring(new.port), "-U", "postgres", "-d", db.name, "-f", dump }, timeout = 60 })
    assert.equal(0, code, err)
    local restored = db:on(new)
    local b = restored:broker { config = CONFIG }
    eventually("what was in the outbox is an event", function()
      return restored:sql "SELECT count(*) FROM tidegate.outbox" == "0"
    end)
    local id = b:publish("t", "4")
    assert.is_true(tonumber(id) > tonumber(lost))
    for _, from in ipairs { lost, ahead.last_id } do
      local c = sse.open(b, { topic = "t", last_event_id = from })
      assert_gap(c, "reset", from)
    end
    -- "3" is an event of this cluster now, with an id of its own
    assert_data(sse.open(b, { topic = "t", last_event_id = kept[1] }), "2", "3", "4")
    assert_data(sse.open(b, { topic = "t", query = { last_event_id = "earliest" } }), "1", "2", "3", "4")
  end)
end)

describe("a server that comes back with older data", function()
  it("does not make the running broker use an id twice", function()
    local server = pg.start {}
    local db = server:database()
    local a = db:broker { config = CONFIG }
    local c = sse.open(a, { topic = "t" })
    local kept = a:publish("t", "1")
    server:stop()
    local copy = server.dir .. "/copy"
    assert.equal(0, (tidegate.run("/bin/cp", { args = { "-a", server.data, copy } })))
    server:start()
    local lost = publish_at_last(a, "t", "lost")
    assert_data(c, "1", "lost")
    server:kill()
    child.remove_tree(server.data)
    assert.equal(0, (tidegate.run("/bin/mv", { args = { copy, server.data } })))
    server:start()
    local id = publish_at_last(a, "t", "2")
    assert.is_true(tonumber(id) > tonumber(lost), ("id %s after %s, which somebody holds"):format(id, lost))
    assert_gap(c, "reset", lost)
    assert_data(c, "2")
    assert_data(sse.open(a, { topic = "t", last_event_id = kept }), "2")
  end)
end)
