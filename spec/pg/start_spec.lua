-- A broker that is started while PostgreSQL is away, or will not let it in.
local eventually = require "support.eventually"
local http = require "support.http"
local pg = require "support.pg"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

describe("a broker that starts while PostgreSQL is away", function()
  for _, workers in ipairs { 1, 2 } do
    it("says why, tells streams to come back, and serves when it is there; workers: " .. workers, function()
      local server = pg.start {}
      local db = server:database()
      server:stop()
      local b = db:broker { config = { workers = workers, sse = { refusal_hold_s = 0 } }, unready = true }
      local ready
      eventually("it says why it is not ready", function()
        ready = http.get(b.admin, "/readyz")
        return ready.status == 503 and ready.json.detail:find("the store is not open yet: PostgreSQL at ", 1, true)
      end, 20)
      assert.matches("Connection refused", ready.json.detail, 1, true)
      local status = http.get(b.admin, "/status").json
      assert.is_false(status.ready)
      assert.is_false(status.store.ok)
      assert.matches("Connection refused", status.store.detail, 1, true)
      assert.equal(0, b:metric "tidegate_store_healthy")
      local stream = http.get(b, "/events?topic=t", { Accept = "text/event-stream" })
      assert.equal(200, stream.status) -- an EventSource gives up on anything else
      assert.matches("retry: %d+", stream.body)
      assert.matches("the event store is unavailable", stream.body, 1, true)
      local published = http.post(b, "/events?topic=t", "x")
      assert.equal(503, published.status)
      assert.is_truthy(published.headers["retry-after"])
      assert.is_truthy(b:running())
      server:start()
      eventually("it is ready", function() return http.get(b.admin, "/readyz").status == 200 end, 30)
      assert.equal(200, http.get(b.admin, "/readyz").status)
      local c = sse.open(b, { topic = "t" })
      b:publish("t", "x")
      assert.equal("x", c:next().data)
    end)
  end

  it("ends at once when it is told to", function()
    local server = pg.start {}
    local db = server:database()
    server:stop()
    local b = db:broker { unready = true }
    b:stop()
    assert.equal(0, b.exit_code)
  end)

  it("waits for a server that takes no more connections", function()
    local server = pg.start { settings = { max_connections = 12, superuser_reserved_connections = 1 } }
    local db = server:database()
    db:sql "SELECT 1"
    server:sql("ALTER ROLE " .. pg.OWNER .. " CONNECTION LIMIT 0")
    local b = db:broker { unready = true }
    eventually("it says so", function()
      return (http.get(b.admin, "/readyz").json or {}).detail:find("too many connections", 1, true)
    end, 20)
    server:sql("ALTER ROLE " .. pg.OWNER .. " CONNECTION LIMIT -1")
    eventually("it is ready", function() return http.get(b.admin, "/readyz").status == 200 end, 30)
  end)
end)

describe("a broker that PostgreSQL will not let in", function()
  local server = pg.shared {}

  local function refused(options)
    local code, log = tidegate.start_refused(options)
    assert.equal(78, code, log)
    return log
  end

  it("ends with 78 and says what to do: no such role", function()
    local db = server():database()
    local conninfo = db:conninfo():gsub("user=%S+", "user=nobody")
    local log = refused(db:broker_options { config = { store = { conninfo = conninfo } } })
    assert.matches("nobody", log, 1, true)
    assert.matches("check user, password and passfile of conninfo", log, 1, true)
    assert.is_nil(log:find("28000", 1, true))
  end)

  it("ends with 78 and says what to do: no such database", function()
    local db = server():database()
    local conninfo = db:conninfo():gsub("dbname=%S+", "dbname=none")
    local log = refused(db:broker_options { config = { store = { conninfo = conninfo } } })
    assert.matches("correct dbname of conninfo", log, 1, true)
  end)

  it("ends with 78 and says what to do: a schema of a newer program", function()
    local db = server():database()
    db:sql("INSERT INTO tidegate.version (version, compatible_from) VALUES (4711, 4711)", pg.OWNER)
    assert.matches("install that version of Tidegate here, too", refused(db:broker_options()), 1, true)
  end)

  it("ends with 78 and says what to do: no schema, which only `tidegate migrate` may make", function()
    local db = server():database { schema = false }
    local log = refused(db:broker_options { config = { store = { migrate = "manual" } } })
    assert.matches("run `tidegate migrate CONF`", log, 1, true)
  end)
end)
