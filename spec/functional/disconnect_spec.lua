-- The disconnect hook runs once for each grant, whatever becomes of its stream.
local eventually = require "support.eventually"
local http = require "support.http"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

local POLICY = [[
local P = { api = 1, version = "%s" }
function P.authenticate(req) return { sub = req.query.who } end
function P.subscribe(req, who)
  if req.query.wait then
    local ended <close> = setmetatable({}, { __close = function() log.info("over", { who = who.sub }) end })
    log.info("waits", { who = who.sub })
    repeat sleep(0.02) until cache.fetch("gate", 60, function() return nil, "closed" end)
  end
  return { topics = req.topics, filter = "%s" }
end
function P.publish(pub)
  cache.fetch("gate", 60, function() return "open" end)
  return pub
end
P.filters = { %s = "true" }
function P.disconnect(who, info)
  log.info("disconnect", { who = who.sub, reason = info.reason, delivered = info.delivered })
end
return P
]]

describe("the disconnect hook", function()
  local broker

  local function logged(fields)
    return eventually("the line " .. fields.msg, function() return broker:logged(fields) end)
  end

  it("runs for a stream that closed, and for a grant whose stream could not begin", function()
    broker = tidegate.start { policy = POLICY:format("one", "f", "f") }
    sse.open(broker, { topic = "a", query = { who = "ann" } }):close()
    assert.equal("client-closed", logged { msg = "disconnect", who = "ann" }.reason)

    local c = sse.start(broker, { topic = "a", query = { who = "bob", wait = "1" } })
    logged { msg = "waits", who = "bob" }
    assert.equal("reloaded", broker:reload(POLICY:format("two", "g", "g")).json.result) -- has no filter f
    assert.equal(201, http.post(broker, "/events?topic=x&who=w", "go").status)
    assert.equal("transient", logged { msg = "disconnect", who = "bob" }.reason)
    c:close()
  end)

  it("does not run for a client that left while subscribe waited: what that holds is closed", function()
    broker = tidegate.start { policy = POLICY:format("one", "f", "f") }
    local c = sse.start(broker, { topic = "a", query = { who = "cid", wait = "1" } })
    logged { msg = "waits", who = "cid" }
    c:close()
    logged { msg = "over", who = "cid" }
    sse.open(broker, { topic = "a", query = { who = "dan" } }):close()
    logged { msg = "disconnect", who = "dan" }
    assert.is_nil(broker:logged { msg = "disconnect", who = "cid" })
  end)
end)
