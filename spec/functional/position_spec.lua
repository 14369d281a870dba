-- transports: tls h2tls
-- A stream that gets nothing is told how far it has come, so that its client comes back to there.
local eventually = require "support.eventually"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

local POLICY = [[
return {
  api = 1,
  authenticate = function() return { sub = "x" } end,
  subscribe = function(req)
    return { topics = req.topics, filter = req.query.filter or "none", prime = req.query.prime }
  end,
  publish = function(pub) return pub end,
  filters = { nothing = "attrs.no == 'such'" },
}
]]

local function start(sse_config, more)
  sse_config.heartbeat_s = sse_config.heartbeat_s or 1
  sse_config.dead_peer_s = 30
  local config = more or {}
  config.sse = sse_config
  return tidegate.start { policy = POLICY, config = config }
end

-- Waits for a last id of `id`.
local function wait_for(c, id, timeout)
  c:wait("the position " .. id, function() return c.last_id == id end, timeout or 15)
end

local function comments_after(c, n)
  c:wait(("%d more comments"):format(n), function() return #c.comments >= n end, 20)
end

describe("a quiet stream", function()
  it("is told the new position instead of a heartbeat, once", function()
    local broker = start { position_s = 1 }
    local quiet = sse.open(broker, { topic = "quiet", keep_bytes = true })
    local hidden = sse.open(broker, { topic = "busy", query = { filter = "nothing" } })
    local id
    for i = 1, 3 do
      id = broker:publish("busy", tostring(i))
    end
    local told = 0
    for _, c in ipairs { quiet, hidden } do
      wait_for(c, id)
      assert.same({ type = "position", data = ('{"position":"%s"}'):format(id), id = id }, c.positions[#c.positions])
      told = told + #c.positions - 1 -- the first one began the stream; one for each event where a second lies between
      assert.is_true(#c.positions <= 1 + 3)
    end
    local before, positions = #quiet.comments, #quiet.positions
    comments_after(quiet, before + 2)
    assert.equal(positions, #quiet.positions)
    assert.same({}, quiet.queue)
    assert.equal(told, broker:metric "tidegate_positions_told_total")
    -- in the way of nothing
    local mine = broker:publish("quiet", "mine")
    assert.same({ type = "message", data = "mine", id = mine }, quiet:next())
  end)

  it("is not told more often than sse.position_s says", function()
    local broker = start { position_s = 3 }
    local told, from = {}, eventually.now() -- before it: this process may be late to see anything, never early
    local c = sse.open(broker, { topic = "quiet" })
    c:wait("two positions", function()
      broker:publish("busy", "x")
      eventually.turn()
      if #c.positions > #told + 1 then
        told[#told + 1] = eventually.now()
      end
      return #told == 2
    end, 30)
    assert.is_true(told[1] - from >= 2.7, told[1] - from)
    assert.is_true(told[2] - from >= 5.4, told[2] - from)
    assert.is_true(#c.comments >= 4, #c.comments .. " heartbeats") -- two before each
  end)

  it("is told nothing where sse.position_s is 0", function()
    local broker = start { position_s = 0 }
    local c = sse.open(broker, { topic = "quiet" })
    broker:publish("busy", "x")
    comments_after(c, 3)
    assert.equal(1, #c.positions)
    assert.equal(c.start_id, c.last_id)
    broker:signal "TERM"
    c:wait_end()
    assert.equal(c.start_id, c.last_id)
  end)

  it("is told as `prime` says", function()
    local broker = start { position_s = 1 }
    local forms = { id = "id: %s\n\n", data = "id: %s\ndata:\n\n" }
    local clients = {}
    for prime in pairs(forms) do
      clients[prime] = sse.open(broker, { topic = "quiet", query = { prime = prime }, keep_bytes = true })
    end
    local none = sse.request(broker, { topic = "quiet", query = { prime = "none" }, keep_bytes = true })
    local id = broker:publish("busy", "x")
    for prime, form in pairs(forms) do
      local c = clients[prime]
      wait_for(c, id)
      local rest = c:bytes():gsub("^.-\n\n", ""):gsub(":heartbeat\n", "")
      assert.equal(form:format(id), rest)
    end
    comments_after(none, 3)
    assert.equal("", (none:bytes():gsub("^retry: %d+\n", ""):gsub(":heartbeat\n", "")))
  end)

  it("is told its position when the broker sends it away", function()
    local broker = start { position_s = 60 }
    local quiet, busy = sse.open(broker, { topic = "quiet" }), sse.open(broker, { topic = "busy" })
    local id = broker:publish("busy", "x")
    assert.equal("x", busy:next().data)
    broker:signal "TERM"
    for _, c in ipairs { quiet, busy } do
      assert.equal("closed", c:wait_end())
      assert.equal(id, c.last_id)
    end
    assert.equal(2, #quiet.positions)
    assert.equal(1, #busy.positions, "it has the position by its last event")
  end)

  it("comes back after retention without a gap: it missed nothing", function()
    local broker = start({ position_s = 1 }, { store = { retain_events = 20 }, event_log = { max_events = 16 } })
    local c = sse.open(broker, { topic = "quiet" })
    local id
    for i = 1, 60 do
      id = broker:publish("busy", tostring(i))
    end
    wait_for(c, id)
    eventually("retention has worked", function()
      return broker:metric "tidegate_store_retention_removed_total" >= 40
    end, 20)
    broker:kill()
    assert.is_truthy(c:wait_end())
    broker:start()
    broker:publish("quiet", "next")
    local back = sse.open(broker, { topic = "quiet", last_event_id = c.last_id })
    assert.equal("next", back:next().data)
  end)

  it("misses nothing and sees nothing twice, whenever it is cut", function()
    local seed = tonumber(os.getenv "TIDEGATE_SPEC_SEED") or os.time()
    math.randomseed(seed)
    -- a log so small that who comes back reads pages
    local broker = start({ position_s = 1 }, { event_log = { max_events = 64, page_events = 16 } })
    local STREAMS = 30
    local followers, sent, told = {}, {}, 0
    for i = 1, STREAMS do
      followers[i] = sse.follower(broker, { topic = "own/" .. i })
      sent[i] = {}
      followers[i]:step()
    end
    -- however fast the machine is, a stream has an event of its own each three seconds or so: else no stream is
    -- ever quiet for a heartbeat
    local started = eventually.now()
    local n, own_due = 0, started
    local function busy()
      local took = eventually.now() - started
      return took < 8 or told < 10 and took < 60
    end
    while busy() do
      local batch = {}
      for k = 1, 40 do
        n = n + 1
        local i
        if eventually.now() >= own_due then
          i = math.random(STREAMS)
          own_due = eventually.now() + 0.2 * math.random()
        end
        batch[k] = { topic = i and "own/" .. i or "busy", data = tostring(n) }
        if i then
          sent[i][#sent[i] + 1] = tostring(n)
        end
      end
      broker:publish_all(batch)
      for _, f in ipairs(followers) do
        f:step()
        local c = f.client
        if c and #c.positions > 1 and math.random(3) == 1 then
          told = told + 1
          f:cut()
        end
      end
    end
    for i = 1, STREAMS do
      broker:publish("own/" .. i, "last")
      sent[i][#sent[i] + 1] = "last"
    end
    eventually("everybody has the last event", function()
      for i, f in ipairs(followers) do
        f:step()
        if #f.events < #sent[i] then
          return false, ("stream %d has %d of %d"):format(i, #f.events, #sent[i])
        end
      end
      return true
    end, 30)
    for i, f in ipairs(followers) do
      local data = {}
      for k, ev in ipairs(f.events) do
        data[k] = ev.data
      end
      assert.same(sent[i], data, ("stream %d, seed %d"):format(i, seed))
    end
    assert.is_true(told >= 10, ("only %d streams were cut behind a position, seed %d"):format(told, seed))
  end)
end)
