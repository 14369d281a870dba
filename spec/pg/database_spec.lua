-- Policies that ask PostgreSQL while the server stops, dies, or falls silent: clients are told to come back, and
-- are let in again when it is there; streams that are open are not touched.
local eventually = require "support.eventually"
local http = require "support.http"
local pg = require "support.pg"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

local POLICY = [[
  return {
    api = 1,
    queries = {
      allowed = "select topic from entitlement where login = $1",
      slow = "select pg_sleep($1), 'x' as topic",
    },
    authenticate = function(req) return { sub = req.query.login or "ann", slow = tonumber(req.query.slow) or 0 } end,
    subscribe = function(req, who)
      local rows, err
      if who.slow > 0 then
        rows, err = db.query("slow", who.slow)
      else
        rows, err = db.query("allowed", who.sub)
      end
      if not rows then return nil, err end
      if #rows == 0 then return tg.deny(403, "nothing for you") end
      return { topics = { rows[1].topic } }
    end,
    publish = function(pub) return pub end,
  }
]]

describe("a policy that asks PostgreSQL", function()
  local server = pg.shared { settings = { max_connections = 20 } }
  local broker

  local function start(options)
    options = options or {}
    options.driver = "postgres"
    options.conninfo = ("host=127.0.0.1 port=%d user=reader dbname=postgres"):format(server().port)
    options.timeout_ms = options.timeout_ms or 1000
    broker = tidegate.start { policy = POLICY, config = { database = options,
      sse = { heartbeat_s = 1, retry_ms = 100 }, policy = { suspended = 10000 } } }
    return broker
  end

  -- A stream says where it starts; an answer for now does not.
  local function is_stream(c)
    return #c.blocks > 0 and table.concat(c.blocks[1].lines, "\n"):find "%f[%w]id: " ~= nil
  end

  local function let_in(login)
    local c = sse.request(broker, { query = { login = login or "ann" } })
    assert.equal(200, c.status)
    c:wait("its first block", function() return #c.blocks > 0 or c.ended end)
    local is = is_stream(c)
    c:close()
    return is
  end

  -- The answer is one of the two for now, never a denial.
  local function told_to_come_back()
    local c = sse.request(broker, { query = { login = "ann" } })
    assert.equal(200, c.status)
    assert.equal("closed", c:wait_end())
    assert.is_number(c.retry_ms)
    local r = http.get(broker, "/events?login=ann", { Accept = "application/json, */*" })
    assert.equal(503, r.status)
    assert.is_truthy(r.headers["retry-after"])
  end

  setup(function()
    server():sql [[create role reader login; create table entitlement(login text, topic text);
      grant select on entitlement to reader; insert into entitlement values ('ann', 'a'), ('it''s', 'b')]]
  end)

  it("lets in whom the database knows", function()
    start()
    assert.is_true(let_in "ann")
    assert.is_true(let_in "it's")
    for _, login in ipairs { "eve", "' or '1'='1", "ann'; drop table entitlement; --" } do
      assert.equal(403, sse.request(broker, { query = { login = login } }).status, login)
    end
  end)

  for name, fault in pairs {
    ["is stopped"] = { function() server():stop() end, function() server():start() end },
    ["is killed"] = { function() server():kill() end, function() server():start() end },
    ["is silent"] = { function() server():freeze() end, function() server():thaw() end },
  } do
    it(("tells clients to come back while the server %s, and lets them in afterwards"):format(name), function()
      start()
      local stream = sse.open(broker, { query = { login = "ann" } })
      fault[1]()
      for _ = 1, 3 do
        told_to_come_back()
      end
      assert.equal(201, http.post(broker, "/events?topic=a", "meanwhile").status)
      assert.equal("meanwhile", stream:next().data)
      fault[2]()
      eventually("clients are let in", function() return let_in() end, 20)
      assert.is_truthy(broker:logged { sub = "database", msg = "away: policies that ask it get an error" })
      eventually("the log says so", function()
        return broker:logged { sub = "database", msg = "back" }
      end)
    end)
  end

  it("has its connection back when a query was too slow", function()
    start { connections = 1, timeout_ms = 300 }
    for _ = 1, 3 do
      local r = http.get(broker, "/events?slow=60", { Accept = "application/json, */*" })
      assert.equal(503, r.status)
    end
    eventually("others are let in", function() return let_in() end)
  end)

  it("sheds a thousand clients at once as for now, and serves those who come back", function()
    start { connections = 2, queue = 50, timeout_ms = 1000 }
    local clients = {}
    for i = 1, 1000 do
      clients[i] = sse.start(broker, { query = { slow = "0.02" } })
    end
    local let, told = 0, 0
    sse.pump_until("everybody has an answer", clients, function()
      let, told = 0, 0
      for _, c in ipairs(clients) do
        assert(not c.status or c.status == 200, c.status)
        told = told + (c.ended and not is_stream(c) and 1 or 0)
        let = let + (is_stream(c) and 1 or 0)
      end
      return let + told == 1000
    end, 30)
    assert.is_true(let > 0 and told > 0, ("%d let in, %d told to come back"):format(let, told))
    for _, c in ipairs(clients) do
      c:close()
    end
    eventually("others are let in", function() return let_in() end)
  end)
end)
