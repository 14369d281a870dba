-- transports: tls h2tls
-- Silence, and peers that are gone without a word.
local eventually = require "support.eventually"
local sockets = require "support.sockets"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

local function heartbeats(c)
  local n = 0
  for _, comment in ipairs(c.comments) do
    assert.equal("heartbeat", comment)
    n = n + 1
  end
  return n
end

describe("the heartbeat", function()
  local broker = tidegate.shared { config = { sse = { heartbeat_s = 1, dead_peer_s = 30 },
    limits = { send_buffer_bytes = 16384 } } }

  it("is a comment after silence, again and again", function()
    local from = eventually.now()
    local c = sse.open(broker(), { topic = "quiet" })
    c:wait("a heartbeat", function() return heartbeats(c) >= 1 end, 5)
    assert.is_true(eventually.now() - from >= 0.9, "not before a second of silence")
    c:wait("the next", function() return heartbeats(c) >= 3 end, 5)
    assert.is_true(eventually.now() - from >= 2.7)
    assert.equal(0, #c.queue)
  end)

  it("is one line and no block: some parsers make an empty message of one", function()
    local c = sse.open(broker(), { topic = "line", keep_bytes = true })
    c:wait("two heartbeats", function() return heartbeats(c) >= 2 end, 10)
    local id = broker():publish("line", "x")
    assert.same({ type = "message", data = "x", id = id }, c:next())
    assert.equal((":heartbeat\n"):rep(heartbeats(c)) .. ("id: %s\ndata: x\n\n"):format(id),
      (c:bytes():gsub("^.-\n\n", "")))
  end)

  it("stays away while events flow, and does not wait for other topics", function()
    local busy = sse.open(broker(), { topic = "busy" })
    local quiet = sse.open(broker(), { topic = "quiet" })
    local n, pauses, last = 0, 0, eventually.now()
    quiet:wait("three heartbeats", function()
      n = n + 1
      broker():publish("busy", tostring(n))
      pauses = pauses + (eventually.now() - last > 0.8 and 1 or 0)
      last = eventually.now()
      eventually.pass(0.05, "events flow, with pauses shorter than a heartbeat's")
      return heartbeats(quiet) >= 3
    end, 10)
    busy:collect(n)
    -- where the machine made the publisher pause for longer, each pause may have had one
    assert.is_true(heartbeats(busy) <= pauses, heartbeats(busy) .. " heartbeats")
  end)

  it("is never queued behind an unfinished write", function()
    local stalled = sse.open(broker(), { topic = "stall", rcvbuf = 4096 })
    local quiet = sse.open(broker(), { topic = "quiet" })
    for i = 1, 4 do
      broker():publish("stall", ("%d"):format(i) .. ("x"):rep(300000))
    end
    quiet:wait("three heartbeats elsewhere", function() return heartbeats(quiet) >= 3 end, 10)
    assert.equal(4, #stalled:collect(4, 20))
    assert.equal(0, heartbeats(stalled))
    stalled:wait("its own, afterwards", function() return heartbeats(stalled) == 1 end, 5)
  end)

  it("may be the policy's choice", function()
    local b = tidegate.start { policy = [[
      return {
        api = 1,
        authenticate = function() return { sub = "x" } end,
        subscribe = function(req) return { topics = { "a" }, heartbeat = 1 } end,
      }
    ]] }
    local c = sse.open(b)
    c:wait("a heartbeat", function() return heartbeats(c) == 1 end, 5)
  end)
end)

describe("a peer that takes nothing", function()
  local broker = tidegate.shared { config = { sse = { heartbeat_s = 1, dead_peer_s = 2 },
    limits = { send_buffer_bytes = 16384 } } }

  local function dead()
    return broker():metric 'tidegate_connections_closed_total{reason="dead-peer"}'
  end

  local function errors()
    return broker():metric 'tidegate_connections_closed_total{reason="client-error"}'
  end

  it("is freed within the configured time", function()
    local c = sse.open(broker(), { topic = "dead", rcvbuf = 4096 })
    local before = dead()
    local from = eventually.now()
    for _ = 1, 4 do
      broker():publish("dead", ("x"):rep(300000))
    end
    eventually("it is freed", function() return dead() == before + 1 end, 6)
    assert.is_true(eventually.now() - from >= 1.8, "not before")
    assert.equal(0, broker():metric "tidegate_subscribers")
    c:close()
  end)

  it("is counted alike where even its acknowledgements are lost", function()
    local before = { dead(), errors() }
    -- one that waits in silence, so that only heartbeats go to it, and one that events go to
    local idle, busy = sse.open(broker(), { topic = "hole/idle" }), sse.open(broker(), { topic = "hole/busy" })
    sockets.deafen(idle.socket)
    sockets.deafen(busy.socket)
    local n = 0
    eventually("both are freed", function()
      n = n + 1
      broker():publish("hole/busy", tostring(n))
      return broker():metric "tidegate_subscribers" == 0
    end, 12)
    assert.same({ before[1] + 2, before[2] }, { dead(), errors() })
    idle:close()
    busy:close()
  end)

  it("is told from one that resets its connection", function()
    local before = { dead(), errors() }
    sse.open(broker(), { topic = "reset" }):reset()
    eventually("it is freed", function() return errors() == before[2] + 1 end)
    assert.equal(before[1], dead())
  end)

  it("is told from one that is only slow", function()
    -- more time than the others have: a busy machine may keep this client from reading for two seconds
    local patient = tidegate.start { config = { sse = { heartbeat_s = 1, dead_peer_s = 4 },
      limits = { send_buffer_bytes = 16384 } } }
    local c = sse.open(patient, { topic = "slow", rcvbuf = 4096 })
    for i = 1, 3 do
      patient:publish("slow", i .. ("x"):rep(200000))
    end
    local from = eventually.now()
    while eventually.now() - from < 6 * eventually.factor and #c.queue < 3 do
      c:pump(1)
      eventually.pass(0.2, "it reads, but slowly")
    end
    assert.equal(3, #c:collect(3))
    assert.equal(0, patient:metric 'tidegate_connections_closed_total{reason="dead-peer"}')
  end)

  it("is not an idle one: it acknowledges heartbeats", function()
    local c = sse.open(broker(), { topic = "idle" })
    c:wait("four heartbeats", function() return heartbeats(c) >= 4 end, 10)
    assert.is_nil(c.ended)
  end)
end)
