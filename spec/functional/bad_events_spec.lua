-- Events that a publish hook cannot take: what their publisher is answered, and what the log says.
local eventually = require "support.eventually"
local http = require "support.http"
local tidegate = require "support.tidegate"

local POLICY = [[
local P = { api = 1 }
function P.authenticate(req)
  return { sub = "ann" }
end
function P.subscribe(req)
  return { topics = req.topics }
end
function P.publish(pub)
  local a = pub.attrs
  if a.how == "topic" then pub.topic = tg.topic("orders", a.tenant) end
  if a.how == "geohash" then pub.topic = "cell/" .. tg.geohash(a.lat, a.lon, 5) end
  if a.how == "encode" then pub.raw = json.encode { n = a.n / 0 } end
  if a.how == "decode" then pub.topic = json.decode(a.missing).topic end
  if a.how == "index" then pub.topic = json.decode(pub.raw).a.b.c end
  if a.how == "raise" then error("tg.topic: no") end
  if a.how == "constant" then pcall(tg.topic, "*") error("after that") end
  if a.how == "later" then return nil, "not now" end
  return pub
end
return P
]]

describe("an event that publish cannot take", function()
  local broker = tidegate.shared { policy = POLICY, config = { policy = { error_log_interval_s = 0 } } }

  local function event(attrs)
    return { topic = "t/" .. attrs.how, data = {}, attrs = attrs }
  end

  local function publish(body)
    return http.post(broker(), "/events", http.json.encode(body), { ["Content-Type"] = "application/json" })
  end

  it("is the publisher's fault where json or tg refuse what is in it: 400, and no error of the policy", function()
    for what, attrs in pairs {
      ["a string that is one topic segment was expected"] = { how = "topic", tenant = "a/b" },
      ["number expected, got nil"] = { how = "geohash" },
      ["an infinite number has no JSON form"] = { how = "encode", n = 1 },
      ["string expected, got nil"] = { how = "decode" },
    } do
      local r = publish(event(attrs))
      assert.equal(400, r.status, r.body)
      assert.matches("the policy cannot take this event: ", r.json.detail, 1, true)
      assert.matches(what, r.json.detail, 1, true)
      assert.is_nil(r.json.detail:find("policy.lua", 1, true), "places in the file are not the client's to know")
    end
    assert.equal(0, broker():metric 'tidegate_policy_errors_total{hook="publish"}')
    assert.is_true(broker():metric 'tidegate_refused_denied_total{status="400"}' >= 4)
  end)

  it("is named by its place in a batch, of which nothing is stored", function()
    local r = publish { { topic = "fine", data = 1 }, event { how = "topic", tenant = "*" } }
    assert.equal(400, r.status, r.body)
    assert.matches("event 1: the policy cannot take this event: bad argument", r.json.detail, 1, true)
  end)

  it("is to be sent again after any other error; the line says which event it was, and whose", function()
    for how, text in pairs { index = "attempt to index", raise = "tg.topic: no", constant = "after that" } do
      local r = publish { { topic = "fine", data = 1 }, event { how = how } }
      assert.equal(503, r.status, how .. r.body)
      local line = eventually("the line", function()
        return broker():logged { hook = "publish", topic = "t/" .. how, index = "1" }
      end)
      assert.matches(text, line.error, 1, true)
      assert.equal("127.0.0.1", line.client)
      assert.equal("ann", line.who)
      assert.equal(r.json.request_id, line.request)
    end
    publish(event { how = "later" })
    local line = eventually("the line", function() return broker():logged { reason = "not now" } end)
    assert.same({ "t/later", "127.0.0.1", "ann" }, { line.topic, line.client, line.who })
    assert.is_nil(line.index)
  end)
end)
