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
  if a.how == "foreign" then pub.topic = tg.topic(a.tenant, ({ "a/b", "" })[a.n]) end
  if a.how == "absent" then pub.topic = tg.topic(a.tenant) end
  if a.how == "data" then pub.topic = tg.topic(json.decode(pub.raw).tenant) end
  if a.how == "lazy" then pub.topic = tg.topic(pub.data.tenant) end
  if a.how == "other" then pub.raw = '{"a":1,"a":2}' pub.topic = pub.data.topic end
  if pub.topic == "decoded" then pub.type = pub.data.kind end
  if a.how == "named" then pub.topic = tg.topic(pub.topic) end
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
  local broker = tidegate.shared { policy = POLICY, config = {
    admin_identity = { "sub" }, policy = { error_log_interval_s = 0 },
  } }

  local function event(attrs)
    return { topic = "t/" .. attrs.how, data = {}, attrs = attrs }
  end

  local function publish(body)
    return http.post(broker(), "/events", http.json.encode(body), { ["Content-Type"] = "application/json" })
  end

  local CANNOT = "the policy cannot take this event: a text in it cannot be used, as part of a topic for example"

  it("is the publisher's fault where tg refuses a text of it: 400, a line, and no error of the policy", function()
    for i, sent in ipairs {
      event { how = "topic", tenant = "a/b" }, event { how = "topic", tenant = "" }, event { how = "named" },
      event { how = "topic", tenant = ("x"):rep(1100) }, event { how = "geohash", lat = "north", lon = 7 },
      { topic = "t/data", data = { tenant = "*" }, attrs = { how = "data" } },
      { topic = "t/lazy", data = { tenant = "*" }, attrs = { how = "lazy" } },
    } do
      local r = publish(sent)
      assert.equal(400, r.status, i .. r.body)
      assert.equal(CANNOT, r.json.detail)
      local line = eventually("the line", function()
        return broker():logged { msg = "publish cannot take an event", request = r.json.request_id }
      end)
      assert.matches("bad argument #%d to '%l+'", line.error)
      assert.equal("127.0.0.1", line.client)
    end
    assert.equal(0, broker():metric 'tidegate_policy_errors_total{hook="publish"}')
    assert.is_true(broker():metric 'tidegate_refused_denied_total{status="400"}' >= 6)
  end)

  it("is at fault where data that the hook reads is JSON that nobody can read safely", function()
    for _, body in ipairs { '{"kind":"a","kind":"b"}', '{"kind":"' .. ("x"):rep(2000) .. '","kind":"b"}' } do
      local r = http.post(broker(), "/events?topic=decoded", body, { ["Content-Type"] = "text/plain" })
      assert.equal(400, r.status, r.body)
      local line = eventually("the line", function()
        return broker():logged { msg = "publish cannot take an event", request = r.json.request_id }
      end)
      assert.matches("pub.data cannot be decoded: ", line.error, 1, true)
    end
  end)

  it("is not at fault where what was refused is no text of it: 503, and an error of the policy", function()
    local before = broker():metric 'tidegate_policy_errors_total{hook="publish"}'
    for i, attrs in ipairs {
      { how = "foreign", tenant = "fine", n = 1 }, { how = "foreign", tenant = "fine", n = 2 }, { how = "absent" },
      { how = "geohash" }, { how = "geohash", lat = 91, lon = 0 }, { how = "encode", n = 1 }, { how = "decode" },
      { how = "other" },
    } do
      local r = publish(event(attrs))
      assert.equal(503, r.status, i .. r.body)
      eventually("the line", function() return broker():logged { level = "error", request = r.json.request_id } end)
    end
    assert.equal(before + 8, broker():metric 'tidegate_policy_errors_total{hook="publish"}')
  end)

  it("is named by its place in a batch, of which nothing is stored", function()
    local r = publish { { topic = "fine", data = 1 }, event { how = "topic", tenant = "*" } }
    assert.equal(400, r.status, r.body)
    assert.equal("event 1: " .. CANNOT, r.json.detail)
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
      assert.equal("sub=ann", line.who)
      assert.equal(r.json.request_id, line.request)
    end
    publish(event { how = "later" })
    local line = eventually("the line", function() return broker():logged { reason = "not now" } end)
    assert.same({ "t/later", "127.0.0.1", "sub=ann" }, { line.topic, line.client, line.who })
    assert.is_nil(line.index)
  end)
end)

describe("the publisher of an event that publish cannot take", function()
  it("is nobody's business unless the configuration says so", function()
    local broker = tidegate.start { policy = POLICY }
    for how, text in pairs { raise = "tg.topic: no", later = "not now" } do
      http.post(broker, "/events", http.json.encode { topic = "t", data = 1, attrs = { how = how } },
        { ["Content-Type"] = "application/json" })
      local line = eventually("the line", function()
        for _, l in ipairs(broker:log_lines()) do
          if l.topic == "t" and (l.error or l.reason):find(text, 1, true) then return l end
        end
      end)
      assert.is_nil(line.who)
    end
    broker:stop()
  end)
end)
