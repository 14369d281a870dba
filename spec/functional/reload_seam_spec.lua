-- Streams that move from one audience to another while events are published, wherever they stand:
-- live, slow, resuming from the store, out of events_per_s. Each gets every event once, in order.
local eventually = require "support.eventually"
local http = require "support.http"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

-- Every version puts everybody into another audience, and stamps what it delivers.
local function policy(version)
  return ([[
local P = { api = 1 }
function P.authenticate(req) return { pace = tonumber(req.query.pace) } end
function P.subscribe(req, who)
  return { topics = { "load/**" }, format = "v%d", params = { kind = req.query.kind },
    limits = who.pace and { events_per_s = who.pace } or nil }
end
function P.publish(pub) return pub end
P.formats = { v%d = function(ev) return "%d " .. ev.raw end }
return P
]]):format(version, version, version)
end

local function publisher(broker)
  local pub = { conn = http.connect(broker), n = 0, pending = {} }
  function pub:burst(size)
    local lines = {}
    for i = 1, size do
      self.n = self.n + 1
      lines[i] = http.json.encode { topic = "load/" .. self.n % 3, data = self.n .. (" "):rep(300) }
    end
    self.pending[#self.pending + 1] = size
    assert(self.conn:send(http.render("POST", "/events", { ["Content-Type"] = "application/x-ndjson" },
      table.concat(lines, "\n"))))
  end
  function pub:settle()
    for _ = 1, #self.pending do
      assert.equal(201, assert(self.conn:response()).status)
    end
    self.pending = {}
  end
  return pub
end

-- All events behind the `skipped` first, once and in order; returns the versions that stamped them.
local function check(c, pub, skipped, label)
  local versions = {}
  local got = c:collect(pub.n - skipped, 60)
  for i, ev in ipairs(got) do
    local version, n = ev.data:match "^(%d+) (%d+) *$"
    if tonumber(n) ~= i + skipped then
      error(("%s: event %d is %s"):format(label, i + skipped, ev.data:sub(1, 20)))
    end
    versions[version] = true
  end
  return versions
end

describe("a stream that is moved under load", function()
  for _, log in ipairs { { max_events = 16, page_events = 8 }, { max_events = 4096 } } do
    it(("misses nothing and gets nothing twice, with a log of %d events"):format(log.max_events), function()
      local broker = tidegate.start { policy = policy(1),
        config = { event_log = log, policy = { resubscribe_per_s = 100000 }, limits = { send_buffer_bytes = 16384 } } }
      local pub = publisher(broker)
      local clients = {}
      local function join(kind, options)
        options.query = { kind = kind, pace = options.pace }
        local skipped = options.last_event_id and 0 or pub.n
        clients[#clients + 1] = { c = assert(sse.start(broker, options)), kind = kind, skipped = skipped }
      end
      for _ = 1, 8 do
        join("live", {})
        join("slow", { rcvbuf = 4096 })
        join("paced", { pace = 100000 })
      end
      for _, x in ipairs(clients) do
        x.c:wait("its start", function() return #x.c.blocks > 0 end)
      end
      for version = 2, 16 do
        pub:burst(math.random(1, 60))
        join("resuming", { last_event_id = "0" })
        local r = broker:reload(policy(version))
        assert.equal("reloaded", r.json.result, r.body)
        for _, x in ipairs(clients) do
          if x.kind ~= "slow" then
            x.c:pump(1)
          end
        end
        pub:burst(math.random(1, 60))
        pub:settle()
      end
      eventually("all were asked about", function()
        return broker:metric "tidegate_policy_resubscribes_waiting" == 0
      end, 30)
      pub:burst(5)
      pub:settle()
      for i, x in ipairs(clients) do
        local versions = check(x.c, pub, x.skipped, x.kind .. " " .. i)
        assert.is_true(versions["16"], "the policy in force delivers in the end")
        assert.equal(0, #x.c.queue)
      end
      assert.is_true(broker:metric 'tidegate_policy_resubscribes_total{outcome="moved"}' > 0)
      assert.equal(#clients, broker:metric "tidegate_subscribers")
    end)
  end
end)

describe("reloads without end", function()
  it("keep streams, references and memory as they are", function()
    local broker = tidegate.start { policy = policy(1),
      config = { policy = { resubscribe_per_s = 100000, warm_s = 1 } } }
    local pub = publisher(broker)
    local clients = {}
    for i = 1, 200 do
      clients[i] = sse.open(broker, { query = { kind = tostring(i % 20) } })
    end
    local function reload_all(from, to)
      for version = from, to do
        assert.equal("reloaded", broker:reload(policy(version)).json.result)
        pub:burst(1)
        pub:settle()
      end
      eventually("all of them were moved, the policies of the past are closed", function()
        return broker:metric "tidegate_policy_resubscribes_waiting" == 0
          and broker:metric "tidegate_policy_generations" == 1
      end, 30)
    end
    reload_all(2, 30)
    local memory = broker:metric "tidegate_policy_memory_bytes"
    reload_all(31, 100)
    assert.equal(20, broker:metric "tidegate_audiences")
    assert.equal(200, broker:metric "tidegate_subscribers")
    assert.is_true(broker:metric "tidegate_policy_memory_bytes" < 2 * memory)
    for i, c in ipairs(clients) do
      check(c, pub, 0, "client " .. i)
    end
  end)

  it("answer what was asked before: a publish that waits goes on in the policy it was asked of", function()
    local function waiting(text)
      return ([[return { api = 1, authenticate = function() return {} end,
        subscribe = function() return { topics = { "a" } } end,
        publish = function(pub) sleep(1) pub.raw = %q return pub end }]]):format(text)
    end
    local broker = tidegate.start { policy = waiting "old", config = { policy = { warm_s = 1 } } }
    local c = sse.open(broker)
    local conn = http.connect(broker)
    assert(conn:send(http.render("POST", "/events?topic=a", {}, "x")))
    eventually("the hook waits", function() return broker:metric "tidegate_policy_suspended_hooks" == 1 end)
    assert.equal("reloaded", broker:reload(waiting "new").json.result)
    assert.equal(201, assert(conn:response()).status)
    assert.equal("old", c:next().data)
    broker:publish("a", "y")
    assert.equal("new", c:next().data)
    eventually("the old one is closed", function() return broker:metric "tidegate_policy_generations" == 1 end)
  end)
end)
