-- Snapshots of two brokers on one database: the newest events are those of all publishers, by HTTP and by the outbox.
local eventually = require "support.eventually"
local http = require "support.http"
local pg = require "support.pg"
local sse = require "support.sse"

local POLICY = [[
return {
  api = 1,
  authenticate = function() return { sub = "x" } end,
  subscribe = function(req) return { topics = req.topics, start = "latest" } end,
  publish = function(pub) return pub end,
}
]]

describe("snapshots from PostgreSQL", function()
  local server = pg.shared {}

  local function snapshot(c)
    local list = {}
    while true do
      local ev = c:next(60)
      if ev.type == "live" then
        return table.concat(list, " ")
      end
      list[#list + 1] = ev.data
    end
  end

  it("wait where a broker names other topics than the one that leads, who says so", function()
    local db = server():database()
    local function start(...)
      return db:broker { policy = POLICY, config = { store = { latest = { ... } } } }
    end
    local a = start("score/*", "one")
    a:publish("score/1", "x")
    assert.equal("x", snapshot(sse.open(a, { topic = "score/*" })))
    local b = start "score/*"
    eventually("b says it", function()
      local body = http.get(b.admin, "/readyz").body
      return body:find "ready\ndegraded: [^\n]*store.latest[^\n]*%(score/%* one%): snapshots wait"
    end, 30)
    assert.truthy(b:logged { sub = "store", theirs = "score/* one" })
    assert.equal(1, b:metric "tidegate_store_degraded")
    assert.same({ 1, 0 }, { a:metric "tidegate_store_latest_topics", b:metric "tidegate_store_latest_topics" })
    a:stop()
    eventually("b leads, and keeps what it names", function()
      return b:metric "tidegate_store_latest_topics" == 1 and b:metric "tidegate_store_degraded" == 0
    end, 30)
    assert.truthy(b:logged { msg = "store.latest names the same topics as the broker that leads" })
    assert.equal("x", snapshot(sse.open(b, { topic = "score/*" })))
  end)

  it("are counted by the broker that leads", function()
    local db = server():database()
    local a = db:broker { policy = POLICY, config = { store = { latest = { "score/*" } } } }
    a:publish("score/1", "x")
    eventually("a counts", function() return a:metric "tidegate_store_latest_topics" == 1 end, 30)
    local b = db:broker { policy = POLICY, config = { store = { latest = { "score/*" } } } }
    a:signal "STOP"
    server():terminate()
    eventually("b leads", function() return b:metric "tidegate_store_latest_topics" == 1 end, 30)
    a:signal "CONT"
    eventually("a does not count any more", function() return a:metric "tidegate_store_latest_topics" == 0 end, 30)
    assert.equal(0, a:metric "tidegate_store_sequencer_is_leader")
  end)

  it("are the same at both brokers, and bound the topics of both ways to publish", function()
    local db = server():database()
    local function start(...)
      return db:broker { policy = POLICY, config = { store = { latest = { ... }, latest_topics = 3 } } }
    end
    local a, b = start("score/*", "none"), start("none", "score/*") -- the order says nothing
    assert.equal("", snapshot(sse.open(a, { topic = "score/*" }))) -- from here on the bound holds
    db:insert { topic = "score/1", data = "by SQL" }
    local follower = sse.open(b, { topic = "score/*", query = { start = "now" } })
    eventually("it has its id", function() return db:sql "SELECT count(*) FROM tidegate.outbox" == "0" end, 30)
    a:publish("score/2", "by a")
    b:publish("score/3", "by b")
    follower:collect_until("by b", 30)
    for _, broker in ipairs { a, b } do
      eventually("a snapshot is of now", function()
        return snapshot(sse.open(broker, { topic = "score/*" })) == "by SQL by a by b"
      end, 30)
    end
    local r = http.post(b, "/events", http.json.encode { topic = "score/4", data = "no" },
      { ["Content-Type"] = "application/json" })
    assert.equal(507, r.status)
    db:insert { topic = "score/4", data = "no" }
    db:insert { topic = "score/1", data = "" }
    follower:collect_until("", 30)
    assert.equal("topic: would be one more than store.latest_topics", db:sql "SELECT reason FROM tidegate.rejected")
    a:publish("score/4", "now there is room")
    follower:collect_until("now there is room", 30)
    eventually("a snapshot is of now", function()
      return snapshot(sse.open(b, { topic = "score/*" })) == "by a by b now there is room"
    end, 30)
    assert.equal("score/2 score/3 score/4", db:sql "SELECT string_agg(topic, ' ' ORDER BY seq) FROM tidegate.latest")
  end)
end)
