-- A primary that is frozen, not dead, when its standby is promoted: what it answers when it wakes is not believed, and
-- that it is silent is found out once. And a broker that was frozen itself.
local eventually = require "support.eventually"
local http = require "support.http"
local pg = require "support.pg"
local sse = require "support.sse"
local uv = require "luv"

local CONFIG = { sse = { heartbeat_s = 1, retry_ms = 100 } }

local function publish_at_last(broker, data)
  return eventually(data .. " is published", function()
    local r = http.post(broker, "/events?topic=t&key=" .. http.escape(data), data)
    return (r.status == 200 or r.status == 201) and r.json.id
  end, 60)
end

local function assert_data(c, ...)
  for _, data in ipairs { ... } do
    local ev = c:next(30)
    assert.same({ "message", data }, { ev.type, ev.data })
  end
end

local function numbered(from, upto)
  local list = {}
  for i = from, upto do
    list[#list + 1] = tostring(i)
  end
  return list
end

-- A primary with its standby (which has it all), and a broker that knows both and has used all of its connections.
local function pair(options)
  local primary = pg.start {}
  local db = primary:database()
  local standby = primary:standby {}
  local broker = db:broker { config = { sse = CONFIG.sse, store = { servers = { primary, standby },
    history_connections = options and options.history_connections } } }
  return primary, standby, db, broker
end

-- The server that each connection of the broker leads to is asked for them: how many are there?
local function connections(server)
  return tonumber(server:sql "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'tidegate %'")
end

describe("a primary that is frozen while its standby is promoted", function()
  it("and wakes: its history is not believed, and nobody misses anything", function()
    local primary, standby, db, broker = pair()
    local from = publish_at_last(broker, "before")
    local clients = {}
    for i = 1, 3 do
      clients[i] = sse.open(broker, { topic = "t" })
    end
    -- somebody who resumes when all of it has happened, and makes the broker read
    assert_data(sse.open(broker, { topic = "t", last_event_id = "earliest" }), "before")
    standby:catch_up()
    primary:freeze()
    standby:promote()
    local over = db:on(standby)
    for i = 1, 100 do
      over:insert { topic = "t", data = tostring(i) }
    end
    eventually("the broker has leapt: what streams miss is asked of connections for history", function()
      return http.get(broker.admin, "/metrics").body:find "tidegate_store_leaps_total [1-9]"
    end, 60)
    primary:thaw() -- and answers what it was asked, until it is fenced
    local expected = numbered(1, 100)
    for _, c in ipairs(clients) do
      assert_data(c, table.unpack(expected))
    end
    assert_data(sse.open(broker, { topic = "t", last_event_id = from }), table.unpack(expected))
    -- both take writes now, and the one from before is named first
    for i = 1, 2 do
      standby:restart()
      local data = "after " .. i
      publish_at_last(broker, data)
      assert.equal("1", over:sql(("SELECT count(*) FROM tidegate.events WHERE data = '%s'"):format(data)))
      for _, c in ipairs(clients) do
        assert_data(c, data)
      end
    end
    assert.equal("0", db:sql "SELECT count(*) FROM tidegate.events WHERE data LIKE 'after%'")
    eventually("no connection leads to the server from before", function() return connections(primary) == 0 end, 20)
    assert.matches('level=warn[^\n]*msg="a server is refused" reason="is on timeline', broker:log())
  end)

  it("and stays silent: that is found out once, and all connections are made anew", function()
    local primary, standby, db, broker = pair { history_connections = 4 }
    local clients = { sse.open(broker, { topic = "t" }), sse.open(broker, { topic = "t" }) }
    publish_at_last(broker, "before")
    assert_data(clients[1], "before")
    assert_data(clients[2], "before")
    eventually("history connections are there", function() return connections(primary) == 8 end)
    standby:catch_up()
    primary:freeze()
    local frozen = uv.hrtime()
    standby:promote()
    publish_at_last(broker, "1")
    local published = (uv.hrtime() - frozen) / 1e9
    for _, c in ipairs(clients) do
      assert_data(c, "1")
    end
    local delivered = (uv.hrtime() - frozen) / 1e9
    eventually("all of them lead to the other server", function() return connections(standby) >= 8 end, 60)
    local moved = (uv.hrtime() - frozen) / 1e9
    if os.getenv "TIDEGATE_SPEC_FIGURES" then
      io.stderr:write(("published after %.1f s, delivered after %.1f s, all moved after %.1f s\n"):format(published,
        delivered, moved))
    end
    -- each that had to find out by itself would take 12 seconds more
    assert.is_true(delivered - published < 10 * eventually.factor, ("%.1f s later"):format(delivered - published))
    assert.is_true(moved < 24 * eventually.factor, ("%.1f s"):format(moved))
    local _, errors = broker:log():gsub("level=error", "")
    assert.equal(1, errors, broker:log())
    primary:thaw()
    db:on(standby):insert { topic = "t", data = "2" }
    assert_data(clients[1], "2")
  end)
end)

describe("a broker that was frozen itself", function()
  local server = pg.shared {}

  it("does not blame the server when it wakes", function()
    local db = server():database()
    local broker = db:broker { config = { store = { append_timeout_ms = 5000 } } }
    local watch = db:session()
    local c = sse.open(broker, { topic = "t" })
    publish_at_last(broker, "before")
    assert_data(c, "before")
    for i = 1, 2 do
      -- a statement is under way whenever it is stopped: the head is locked
      local s = db:session()
      s:run "BEGIN; SELECT 1 FROM tidegate.head FOR UPDATE;"
      local publisher = http.connect(broker)
      publisher:send(http.render("POST", "/events?topic=t", nil, "frozen " .. i))
      eventually("the publish waits for the lock", function()
        return watch:run [[SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'
          AND application_name = 'tidegate append';]]:find "1" ~= nil
      end)
      uv.kill(broker.pid, "sigstop")
      s:run "COMMIT;"
      local thaw = uv.hrtime() + 6.5e9
      eventually("longer than it would wait", function() return uv.hrtime() > thaw end)
      uv.kill(broker.pid, "sigcont")
      local r = publisher:response { timeout = 20 }
      assert.equal(201, r.status, r.body)
      publisher:close()
      assert_data(c, "frozen " .. i)
      s:close()
    end
    assert.is_nil(broker:log():find("level=error", 1, true), broker:log())
    assert.is_nil(broker:log():find("does not answer", 1, true), broker:log())
  end)
end)

describe("an outage", function()
  it("is one line in the log, its end another one, with how long it took and the server's own words", function()
    local server = pg.start {}
    local db = server:database()
    local broker = db:broker { config = CONFIG }
    local c = sse.open(broker, { topic = "t" })
    publish_at_last(broker, "before")
    assert_data(c, "before")
    for i, way in ipairs {
      { function() server:stop() end, "terminating connection due to administrator command" },
      -- a session that is killed may be gone before it has said why
      { function() server:stop "immediate" end, "connection" },
    } do
      local from = #broker:log()
      way[1]()
      eventually("it is known", function() return http.get(broker.admin, "/readyz").status == 503 end, 20)
      server:start()
      local data = "after " .. i
      publish_at_last(broker, data)
      assert_data(c, data)
      eventually("it is ready", function() return http.get(broker.admin, "/readyz").status == 200 end, 20)
      local log = broker:log():sub(from + 1)
      local _, errors = log:gsub("level=error", "")
      assert.equal(1, errors, log)
      assert.matches("level=error[^\n]*" .. way[2], log)
      local _, ends = log:gsub("works again[^\n]*after_seconds=%d", "")
      assert.equal(1, ends, log)
    end
  end)

  it("is none where the server, the database or the role would end sessions that are idle", function()
    local server = pg.start { settings = { idle_session_timeout = "700ms" } }
    local db = server:database()
    for setting, value in pairs { idle_session_timeout = "500ms", statement_timeout = "2s", lock_timeout = "1ms",
      idle_in_transaction_session_timeout = "300ms", standard_conforming_strings = "off" } do
      server:sql(("ALTER ROLE %s IN DATABASE %s SET %s = '%s'"):format(pg.OWNER, db.name, setting, value))
    end
    local broker = db:broker { config = CONFIG }
    local lost = tonumber(http.get(broker.admin, "/metrics").body:match "tidegate_store_connections_lost_total (%d+)")
    local c = sse.open(broker, { topic = "t" })
    local till = uv.hrtime() + 3e9
    eventually("idle for longer than that", function()
      assert.equal(200, http.get(broker.admin, "/readyz").status)
      return uv.hrtime() > till
    end)
    assert.equal(201, http.post(broker, "/events?topic=t", "x").status)
    assert_data(c, "x")
    assert.equal(lost, tonumber(http.get(broker.admin, "/metrics").body:match "connections_lost_total (%d+)"))
    assert.is_nil(broker:log():find("level=error", 1, true), broker:log())
    assert.is_nil(broker:log():find "level=warn[^\n]* sub=store", broker:log())
  end)
end)
