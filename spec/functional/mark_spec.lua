-- transports: tls h2
-- `mark`: a text that a stream's ids are told with, and that its client brings back with them.
local eventually = require "support.eventually"
local http = require "support.http"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

-- ?mark=M: marked so. Else the client goes on with the mark that it brings, or has none. The topic is t/MARK, and all.
local POLICY = [[
  return {
    api = 1,
    filters = { done = "type == 'done'" },
    formats = { short = { drop = { "secret" } } },
    authenticate = function(req) return { brought = req.mark } end,
    subscribe = function(req, who)
      local mark = req.query.mark or req.mark
      assert(not who.brought or who.brought == mark, "authenticate saw another one")
      return { topics = { "all", "snap/*", mark and "t/" .. mark }, mark = mark, ends = "done", filter = "none",
        format = req.query.short and "short" or "raw", start = req.query.snap and "latest" or nil,
        limits = { max_lag = req.query.lag and 2 or nil, on_lag = req.query.lag and "skip" or nil } }
    end,
    publish = function(pub) return pub end,
  }
]]

describe("a stream with a mark", function()
  local broker = tidegate.shared { policy = POLICY, config = {
    store = { latest = { "snap/*" } }, sse = { heartbeat_s = 1, position_s = 1, retry_ms = 200 },
  } }

  local function open(query, options)
    options = options or {}
    options.query, options.path = query, "/events"
    return sse.open(broker(), options)
  end

  it("tells it with every id", function()
    local head = broker():publish("elsewhere", "x")
    local c = open { mark = "g-7_.x" }
    c:wait("its position", function() return #c.positions > 0 end)
    assert.equal(head .. "~g-7_.x", c.positions[1].id)
    local plain = open {}
    for _, size in ipairs { 1, 100000 } do -- large frames are made elsewhere, and shared
      local id = broker():publish("all", ("x"):rep(size))
      assert.equal(id .. "~g-7_.x", c:next().id)
      assert.equal(id, plain:next().id)
    end
    local moved = broker():publish("elsewhere", "x")
    c:wait("its new position", function() return c.positions[#c.positions].id == moved .. "~g-7_.x" end)
    c:close()
    plain:close()
  end)

  it("does not share frames with those of another mark", function()
    local a, b, plain = open { mark = "a", short = 1 }, open { mark = "b", short = 1 }, open { short = 1 }
    local id = broker():publish("all", '{"v":1,"secret":2}')
    for c, want in pairs { [a] = id .. "~a", [b] = id .. "~b", [plain] = id } do
      local ev = c:next()
      assert.same({ want, '{"v":1}' }, { ev.id, ev.data })
      c:close()
    end
  end)

  it("is known again by it when its client comes back", function()
    local id = broker():publish("all", "before")
    broker():publish("t/a", "for a")
    broker():publish("t/b", "for b")
    for _, mark in ipairs { "a", "b" } do
      local c = sse.open(broker(), { last_event_id = id .. "~" .. mark })
      local ev = c:next()
      assert.equal("for " .. mark, ev.data)
      assert.matches("~" .. mark .. "$", ev.id)
      c:close()
      c = open { last_event_id = id .. "~" .. mark }
      assert.equal("for " .. mark, c:next().data)
      c:close()
    end
  end)

  it("keeps it over a reload", function()
    local id = broker():publish("all", "before")
    local c = sse.open(broker(), { last_event_id = id .. "~kept" })
    local function same() return broker():metric('tidegate_policy_resubscribes_total{outcome="same"}') end
    local before = same()
    assert.equal(200, broker():reload(POLICY .. "-- again").status)
    eventually("it was asked again", function() return same() > before end)
    local last = broker():publish("t/kept", "x")
    assert.equal(last .. "~kept", c:next().id)
    c:close()
  end)

  it("tells it with gaps, snapshots, ends of windows", function()
    local c = sse.open(broker(), { last_event_id = "none-of-ours, 5~x y", query = { mark = "m" } })
    local gap = c:next()
    assert.same({ "gap", true }, { gap.type, gap.id:find "^%d+~m$" ~= nil })
    c:close()
    local snap = broker():publish("snap/1", "now")
    c = open { mark = "m", snap = 1 }
    assert.equal(snap .. "~m", c:next().id)
    local live = c:next()
    assert.same({ "live", true }, { live.type, live.id:find "^%d+~m$" ~= nil })
    c:close()
    local id = broker():publish("all", "one")
    broker():publish("all", "two")
    c = open({ mark = "m", limit = 1 }, { last_event_id = id .. "~m" })
    assert.equal("two", c:next().data)
    local last = c:next()
    assert.matches("^%d+%-end~m$", last.id)
    c:wait_end()
    assert.equal(204, http.get(broker(), "/events?mark=m&limit=1",
      { Accept = "text/event-stream", ["Last-Event-ID"] = last.id }).status)
  end)

  it("has ended for who comes back behind its last event", function()
    local id = broker():publish("t/e", "bye", { type = "done" })
    assert.equal(204, http.get(broker(), "/events",
      { Accept = "text/event-stream", ["Last-Event-ID"] = id .. "~e" }).status)
  end)
end)
