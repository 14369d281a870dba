-- transports: tls h2tls
-- The seam between history and live: a client that resumes at any id, at any moment, gets every event
-- of its topics exactly once and in order, whether it comes from the event log or from the store.
local http = require "support.http"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

local SEED = tonumber(os.getenv "TIDEGATE_SPEC_SEED") or os.time()

-- A publisher that never waits: sends batches as it likes, reads the answers when asked.
local function publisher(broker)
  local pub = { conn = http.connect(broker), n = 0, sent = {}, acked = 0, pending = {} }
  function pub:burst(size)
    local lines = {}
    for i = 1, size do
      self.n = self.n + 1
      local ev = { topic = self.n % 3 == 0 and "seam/b" or "seam/a", data = "e" .. self.n }
      self.sent[self.n] = ev
      lines[i] = http.json.encode(ev)
    end
    self.pending[#self.pending + 1] = size
    assert(self.conn:send(http.render("POST", "/events", { ["Content-Type"] = "application/x-ndjson" },
      table.concat(lines, "\n"))))
  end
  function pub:settle()
    for _, size in ipairs(self.pending) do
      local r = assert(self.conn:response())
      assert.equal(201, r.status)
      assert.equal(size, #r.json)
      for _, ack in ipairs(r.json) do
        self.acked = self.acked + 1
        self.sent[self.acked].id = ack.id
      end
    end
    self.pending = {}
  end
  return pub
end

-- Must have received exactly the events behind `after` (an index of pub.sent) that `wanted` accepts.
local function check(c, pub, after, wanted, label)
  local expected = {}
  for i = after + 1, pub.n do
    if wanted(pub.sent[i]) then
      expected[#expected + 1] = pub.sent[i]
    end
  end
  local got = c:collect(#expected, 30)
  for i, ev in ipairs(got) do
    if ev.data ~= expected[i].data or ev.id ~= expected[i].id then
      error(("%s (seed %d): event %d is %s (%s) instead of %s (%s)"):format(label, SEED, i, ev.data, ev.id,
        expected[i].data, expected[i].id))
    end
  end
  assert.equal(0, #c.queue, label .. ": more than was published")
end

local function everything()
  return true
end
local function only_a(ev)
  return ev.topic == "seam/a"
end

describe("the seam between store and event log", function()
  for _, log in ipairs {
    { max_events = 16, page_events = 4 },
    { max_events = 16, page_events = 1, page_cache_bytes = 0 },
    { max_events = 64, page_events = 1000 },
  } do
    it(("holds with a log of %d events and pages of %d"):format(log.max_events, log.page_events), function()
      math.randomseed(SEED)
      local broker = tidegate.start { config = { event_log = log } }
      local pub = publisher(broker)
      local origin = sse.open(broker, { topic = "seam/**" })
      for _ = 1, 10 do
        pub:burst(8)
        pub:settle()
      end
      local clients = {}
      for at = 0, 80 do -- every id, while more are being published
        if at % 2 == 0 then
          pub:burst(math.random(1, 20))
        end
        local all = at % 4 ~= 1
        clients[#clients + 1] = {
          at = at, wanted = all and everything or only_a,
          c = assert(sse.start(broker, { topic = all and "seam/**" or "seam/a",
            last_event_id = at == 0 and origin.start_id or pub.sent[at].id })),
        }
        if math.random() < 0.3 then
          pub:settle()
        end
      end
      for _, from in ipairs { "earliest", "0" } do
        clients[#clients + 1] = { at = 0, wanted = everything,
          c = assert(sse.start(broker, { topic = "seam/**", query = { last_event_id = from } })) }
      end
      pub:burst(20)
      pub:settle()
      check(origin, pub, 0, everything, "the one that was there from the start")
      for _, x in ipairs(clients) do
        check(x.c, pub, x.at, x.wanted, "resumed at " .. x.at)
      end
      assert.is_true(broker:metric "tidegate_log_events" <= log.max_events)
    end)
  end

  it("holds for a client that resumes again and again while events are published", function()
    math.randomseed(SEED)
    local broker = tidegate.start { config = { event_log = { max_events = 16, page_events = 4 } } }
    local pub = publisher(broker)
    pub:burst(1)
    pub:settle()
    local id, got = pub.sent[1].id, {}
    for _ = 1, 60 do
      pub:burst(math.random(1, 30))
      local c = assert(sse.open(broker, { topic = "seam/**", last_event_id = id }))
      local take = math.min(math.random(0, 15), pub.n - 1 - #got)
      c:wait("some events", function() return #c.queue >= take end)
      for _, ev in ipairs(c.queue) do
        got[#got + 1] = ev
      end
      id = c.last_id
      c:close()
      pub:settle()
    end
    local c = sse.open(broker, { topic = "seam/**", last_event_id = id })
    for _, ev in ipairs(c:collect(pub.n - 1 - #got)) do
      got[#got + 1] = ev
    end
    for i, ev in ipairs(got) do
      assert.equal(pub.sent[i + 1].data, ev.data, "seed " .. SEED)
      assert.equal(pub.sent[i + 1].id, ev.id)
    end
  end)

  it("reads a page once for all that stand at the same place", function()
    local broker = tidegate.start { config = { event_log = { max_events = 16, page_events = 10 } } }
    local pub = publisher(broker)
    pub:burst(200)
    pub:settle()
    local clients = {}
    for i = 1, 50 do
      clients[i] = assert(sse.start(broker, { topic = "seam/**", last_event_id = "0" }))
    end
    for _, c in ipairs(clients) do
      check(c, pub, 0, everything, "one of many")
    end
    local read = broker:metric "tidegate_store_pages_read_total"
    -- 20 pages hold the history; each client for itself would have read 950
    assert.is_true(read <= 100, ("%d pages read for 50 clients"):format(read))
  end)
end)
