-- Those who hold what all wait for, and do not read their socket: they must not stop the others.
local eventually = require "support.eventually"
local http = require "support.http"
local pg = require "support.pg"
local sse = require "support.sse"

local function stored(broker)
  return http.request(broker, "POST", "/events?topic=http", { ["Content-Type"] = "text/plain" }, "x").status == 201
end

describe("a broker that is frozen, on a Unix socket,", function()
  local server = pg.shared {}

  it("does not keep the lock of the head, whatever the answer it does not read", function()
    local db = server():database()
    local conninfo = ("host=%s port=%d user=%s dbname=%s"):format(server().dir, server().port, pg.OWNER, db.name)
    local config = { store = { conninfo = conninfo } }
    for round = 1, 3 do
      local brokers = { db:broker { config = config }, db:broker { config = config } }
      local leader, other
      eventually("one of them leads", function()
        for i, b in ipairs(brokers) do
          if b:metric "tidegate_store_sequencer_is_leader" == 1 then
            leader, other = b, brokers[3 - i]
          end
        end
        return leader
      end, 20)
      local before = tonumber(db:sql "SELECT count(*) FROM tidegate.events")
      local s = db:session(pg.APP)
      s:send [[INSERT INTO tidegate.outbox (topic, data)
        SELECT 't', repeat('x', 900) FROM generate_series(1, 30000) i;]]
      eventually("it is being moved", function()
        return tonumber(db:sql "SELECT count(*) FROM tidegate.events") > before
      end, 20)
      leader:signal "STOP"
      finally(function()
        if leader:running() then
          leader:signal "CONT"
        end
      end)
      eventually("the other one publishes, round " .. round, function() return stored(other) end, 8)
      eventually("and moves the outbox", function() return db:sql "SELECT count(*) FROM tidegate.outbox" == "0" end, 60)
      leader:signal "CONT"
      for _, b in ipairs(brokers) do
        b:stop()
      end
    end
  end)

  it("is cut off by the others where it holds a lock nevertheless", function()
    local db = server():database()
    local b = db:broker()
    local c = sse.open(b, { topic = "**" })
    local frozen = db:session(pg.OWNER) -- psql in the place of a broker
    frozen:run "SET application_name = 'tidegate append';"
    frozen:send "SELECT pg_sleep(1), repeat('x', 50000000) FROM (SELECT 1 FROM tidegate.head FOR UPDATE) h;"
    eventually("it runs", function()
      return db:sql "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'" == "1"
    end)
    frozen.process:signal "sigstop"
    finally(function() frozen.process:signal "sigcont" end)
    eventually("it hangs", function()
      return db:sql "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'ClientWrite'" == "1"
    end, 20)
    eventually("it is ended", function() return stored(b) end, 40)
    assert.matches("do not read", (b:log():gsub("does not read its answers", "do not read")), 1, true)
    assert.equal(1, b:metric "tidegate_store_sessions_ended_total")
    assert.equal("x", c:next(20).data)
  end)
end)
