-- Promise P6: memory is bounded by configuration, whatever clients do. Sizes are those of a build with
-- sanitizers, so the bounds are wide; what they catch is growth that follows the load.
local http = require "support.http"
local eventually = require "support.eventually"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

local KIB = 1024
local ENV = { ASAN_OPTIONS = "quarantine_size_mb=1:exitcode=86:" .. (os.getenv "ASAN_OPTIONS" or "") }
local CONFIG = {
  sse = { turn_bytes = 64 * KIB },
  event_log = { max_events = 500, max_bytes = 2048 * KIB, page_events = 100, page_bytes = 256 * KIB,
    page_cache_bytes = 1024 * KIB },
  limits = { event_bytes = 256 * KIB, body_bytes = 1024 * KIB, send_buffer_bytes = 16 * KIB },
}

-- What all kinds of clients do at once; everything is closed at the end.
local function mischief(broker)
  local sockets = {}
  local function keep(c)
    sockets[#sockets + 1] = c
    return c
  end
  for i = 1, 30 do
    keep(sse.open(broker, { topic = "m/" .. i % 5, rcvbuf = 4096 })) -- reads nothing more
    keep(assert(sse.start(broker, { topic = "m/**", last_event_id = "0" })))
    keep(http.connect(broker)) -- silent
    local half = keep(http.connect(broker))
    half:send("GET /events?topic=" .. ("x"):rep(5000)) -- never finished
    local body = keep(http.connect(broker))
    body:send(http.render("POST", "/events?topic=a", { ["Content-Length"] = "900000" }) .. ("x"):rep(20000))
    local junk = keep(http.connect(broker))
    junk:send(("\0"):rep(1000))
  end
  local p = http.connect(broker)
  for i = 1, 300 do
    local r = assert(p:request("POST", "/events?topic=m/" .. i % 5, nil, ("x"):rep(i % 10 == 0 and 100000 or 2000)))
    assert.equal(201, r.status)
  end
  p:close()
  for i, c in ipairs(sockets) do
    if i % 2 == 0 then
      c:close()
    else
      c:reset()
    end
  end
  eventually("they are gone", function() return broker:metric "tidegate_connections" == 0 end)
end

describe("memory", function()
  it("does not grow with what clients do", function()
    local broker = tidegate.start { config = CONFIG, env = ENV }
    for i = 1, 100 do -- until the database's own cache is full
      broker:publish("m/" .. i % 5, ("x"):rep(200000))
    end
    mischief(broker)
    local before = broker:memory_kb()
    for _ = 1, 3 do
      mischief(broker)
    end
    local grown = broker:memory_kb() - before
    assert.is_true(grown < 6 * KIB, ("grew by %d KiB"):format(grown))
    assert.is_true(broker:metric "tidegate_log_events" <= CONFIG.event_log.max_events)
    assert.is_true(broker:metric "tidegate_log_bytes" <= CONFIG.event_log.max_bytes)
    assert.equal(0, broker:metric "tidegate_subscribers")
    assert.equal(0, broker:metric "tidegate_audiences")
  end)

  it("of many streams is small, and given back", function()
    local broker = tidegate.start { config = CONFIG, env = ENV }
    local function crowd(n)
      local list = {}
      for i = 1, n do
        list[i] = assert(sse.start(broker, { topic = "quiet/" .. i % 10 }))
      end
      sse.pump_until("all are open", list, function()
        for _, c in ipairs(list) do
          if not c.status then
            return false
          end
        end
        return true
      end)
      return list
    end
    local list = crowd(50)
    local before = broker:memory_kb()
    local more = crowd(400)
    local each = (broker:memory_kb() - before) / 400
    assert.is_true(each < 24, ("%.1f KiB for each stream"):format(each))
    for _, c in ipairs(more) do
      c:close()
    end
    eventually("they are gone", function() return broker:metric "tidegate_subscribers" == 50 end)
    for _, c in ipairs(list) do
      assert.is_nil(c.ended)
    end
  end)

  it("of the policy is capped: a greedy hook fails, the broker goes on", function()
    local broker = tidegate.start { config = { policy = { memory_bytes = 1024 * KIB } }, policy = [[
      return {
        api = 1,
        authenticate = function() return { sub = "x" } end,
        subscribe = function(req)
          if req.query.greedy then
            local t = {}
            for i = 1, 10000000 do t[i] = "text " .. i end
          end
          return { topics = req.topics }
        end,
        publish = function(pub) return pub end,
      }
    ]] }
    for _ = 1, 5 do
      local c = sse.request(broker, { topic = "a", query = { greedy = 1 } })
      c:wait_end()
      assert.is_number(c.retry_ms)
    end
    local c = sse.open(broker, { topic = "a" })
    broker:publish("a", "x")
    assert.equal("x", c:next().data)
    assert.is_true(broker:metric "tidegate_policy_memory_bytes" <= 1024 * KIB)
  end)
end)
