-- All clients come back at once, each with the id it saw last: everybody is live and complete in the end. The same with
-- 10,000 of them is a scenario of spec/bench.
local http = require "support.http"
local tidegate = require "support.tidegate"

-- A storm by `tidegate-bench`, which checks every event of every subscriber.
local function storm(broker, ...)
  local args = {
    "storm", "--port", tostring(broker.port), "--json", "--publishers", "2", "--topics", "4", ...,
  }
  local code, out, err = tidegate.run(tidegate.bench_binary(), { args = args, timeout = 120 })
  assert.equal("", err:gsub("ok: %d+ workers? replaced\n", ""))
  assert.equal(0, code)
  return http.json.decode(out)
end

describe("a storm of clients", function()
  it("finds everything after a rolling restart, when no worker has anything in memory", function()
    local broker = tidegate.start { config = { workers = 2, drain = { retry_ms = 100 } } }
    local restart = ("%q restart %q --admin %s:%d"):format(tidegate.binary(), broker.conf_path, broker.admin.host,
      broker.admin.port)
    local doc = storm(broker, "--connections", "200", "--preload", "50", "--spread", "0.2",
      "--restart-command", restart)
    assert.equal(200, doc.storm.live)
    assert.equal((50 + 50 + 1) * 200, doc.deliveries.received)
  end)

  it("finds everything where the policy has to wait for each, and only so many at a time may", function()
    local started = os.time()
    local broker = tidegate.start {
      -- most are refused for now, and come again: held open for some seconds each, they would take minutes
      config = { policy = { suspended = 8, suspended_per_address = 8, queued = 0 }, sse = { refusal_hold_s = 0 } },
      policy = [[
return {
  api = 1,
  authenticate = function() return { sub = "anyone" } end,
  subscribe = function(req)
    if req.last_event_id then sleep(0.02) end
    return { topics = req.topics }
  end,
  publish = function(pub) return pub end,
}
]],
    }
    local doc = storm(broker, "--connections", "80", "--preload", "20", "--spread", "0.1")
    assert.equal(80, doc.storm.live)
    assert.is_true(doc.storm.retries > 0, "nobody had to come again")
    assert.equal(0, broker:metric "tidegate_subscribers_behind")
    assert.is_true(broker:metric "tidegate_caught_up_timestamp_seconds" >= started)
  end)
end)
