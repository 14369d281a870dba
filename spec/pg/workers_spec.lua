-- Several workers on PostgreSQL are several brokers of one machine: what is said of those holds for them.
local eventually = require "support.eventually"
local http = require "support.http"
local pg = require "support.pg"
local sse = require "support.sse"
local steady_load = require "support.steady_load"

local WORKERS, HISTORY = 2, 2

describe("several workers on PostgreSQL", function()
  local server = pg.shared {}

  local function start()
    local db = server():database()
    local broker = db:broker { config = {
      workers = WORKERS, drain = { retry_ms = 100 }, store = { history_connections = HISTORY },
    } }
    return broker, db
  end

  it("hand on what applications insert and what each of them is given, once", function()
    local broker, db = start()
    local clients = {}
    for i = 1, 12 do
      clients[i] = sse.open(broker, { topic = "a" })
    end
    for i = 1, 20 do
      if i % 2 == 0 then
        db:insert { topic = "a", data = tostring(i) }
      else
        broker:publish("a", tostring(i))
      end
      for _, c in ipairs(clients) do -- an INSERT and a publish have no order of their own
        assert.equal(tostring(i), c:next().data)
      end
    end
    assert.equal(1, broker:metric "tidegate_store_sequencer_is_leader")
  end)

  it("hold as many connections as documented, each", function()
    local _, db = start()
    local most = WORKERS * (HISTORY + 4)
    local n = tonumber(db:sql "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
      AND pid <> pg_backend_pid()")
    assert.is_true(n > 0 and n <= most, n .. " connections")
  end)

  it("are replaced one by one without a loss", function()
    local broker = start()
    local load = steady_load.new(broker, { publishers = 4, subscribers = 8 })
    load:run_until("it is under way", function() return load:published() > 50 end)
    broker:signal "USR2"
    local last
    load:run_until("the restart has ended", function()
      local ok, s = pcall(function() return http.get(broker.admin, "/status").json.restart end)
      last = ok and s
      return last and last.count == 1 and last.state ~= "running"
    end, 60)
    assert.equal("done", last.state, last.error)
    local n = load:published()
    load:run_until("it goes on", function() return load:published() > n + 20 end)
    load:finish()
    eventually("one of the new ones moves the outbox", function()
      return broker:metric "tidegate_store_sequencer_is_leader" == 1
    end, 30)
  end)
end)
