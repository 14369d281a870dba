-- Query parameters that nobody reads: a misspelt topic must not mean all topics, or none.
local eventually = require "support.eventually"
local http = require "support.http"
local sse = require "support.sse"
local store = require "native.store"
local tidegate = require "support.tidegate"

local function detail_of(r)
  assert.equal(400, r.status)
  return r.json.detail
end

describe("a misspelt query parameter", function()
  local broker = tidegate.shared {}

  it("of a subscription is refused, with the name that was meant", function()
    for given, meant in pairs {
      ["topics=a"] = "topic", ["topic[]=a"] = "topic", ["topic%5B0%5D=a"] = "topic", ["Topic=a"] = "topic",
      ["TOPIC=a"] = "topic", ["topc=a"] = "topic", ["tpoic=a"] = "topic", ["topic=a&topics=b"] = "topic",
      ["topic=a&last_eventid=5"] = "last_event_id",
    } do
      local detail = detail_of(http.get(broker(), "/events?" .. given))
      assert.truthy(detail:find(('did you mean "%s"'):format(meant), 1, true), given .. ": " .. detail)
    end
  end)

  it("of a publish is refused, and nothing is stored", function()
    for given, meant in pairs {
      ["topics=a"] = "topic", ["topic=a&types=x"] = "type", ["topic=a&Type=x"] = "type", ["topic=a&keys=1"] = "key",
      ["topic=a&KEY=1"] = "key", ["topic=a&attrs.x=1"] = "attr.NAME", ["topic=a&atr.x=1"] = "attr.NAME",
      ["Topic=a"] = "topic",
    } do
      local detail = detail_of(http.post(broker(), "/events?" .. given, "data"))
      assert.truthy(detail:find(('did you mean "%s"'):format(meant), 1, true), given .. ": " .. detail)
    end
    assert.equal(0, broker():metric "tidegate_events_published_total")
  end)

  it("is not one that a policy may well have", function()
    for _, given in ipairs { "tenant=x", "t=x", "key=5", "type=x", "access_token=x", "tonics=1", "" } do
      sse.open(broker(), { query = { [given:match "^[^=]+" or "x"] = "x" }, topic = "a" }):close()
      assert.equal(201, http.post(broker(), "/events?topic=a&" .. given, "x").status, given)
    end
  end)

  it("of a part of history is refused, of a publish it means nothing", function()
    for _, name in ipairs { "since", "until", "limit" } do
      assert.truthy(detail_of(http.get(broker(), ("/events?topic=a&%ss=5"):format(name))):find(name, 1, true))
      assert.equal(201, http.post(broker(), ("/events?topic=a&%s=5"):format(name), "x").status)
    end
  end)

  it("is not a list of topics: commas belong to names", function()
    local detail = detail_of(http.get(broker(), "/events?x=1&topic=a,b"))
    assert.truthy(detail:find("topic=a&topic=b", 1, true), detail)
    local c = sse.open(broker(), { topic = "a,b" }) -- escaped by the client
    broker():publish("a,b", "one topic")
    assert.equal("one topic", c:next().data)
  end)
end)

describe("where the policy's own parameters are listed", function()
  local broker = tidegate.shared { config = { http = { query_params = { "since", "topics" } } } }

  it("these are fine, and all others are refused", function()
    for _, given in ipairs { "since=1", "topics=1", "access_token=1" } do
      assert.equal(201, http.post(broker(), "/events?topic=a&" .. given, "x").status, given)
    end
    sse.open(broker(), { query = { topics = "1", last_event_id = "earliest" }, topic = "a" })
    local detail = detail_of(http.get(broker(), "/events?topic=a&sinc=1"))
    assert.truthy(detail:find('did you mean "since"', 1, true), detail)
    detail = detail_of(http.post(broker(), "/events?topic=a&channel=1", "x"))
    assert.truthy(detail:find("http.query_params", 1, true), detail)
  end)
end)

describe("the path /", function()
  local broker = tidegate.shared { config = { trusted_proxies = { "127.0.0.1" } } }

  it("has the page for clients of this machine, and the place of the events for others", function()
    assert.matches("^text/html", http.get(broker(), "/").headers["content-type"])
    local r = http.get(broker(), "/", { ["X-Forwarded-For"] = "203.0.113.9" })
    assert.same({ 200, "events are at /events\n" }, { r.status, r.body })
    local b = tidegate.start { config = { http = { page_public = true }, trusted_proxies = { "127.0.0.1" } } }
    r = http.get(b, "/", { ["X-Forwarded-For"] = "203.0.113.9" })
    assert.matches("^text/html", r.headers["content-type"])
  end)

  it("does not take who comes through an unknown proxy for a client of this machine", function()
    local b = tidegate.start {}
    local r = http.get(b, "/", { ["X-Forwarded-For"] = "127.0.0.1" })
    assert.matches("^text/plain", r.headers["content-type"])
  end)

  it("answers what balancers ask by default, with the page and without", function()
    local without = tidegate.start { config = { http = { page = false } } }
    for _, b in ipairs { broker(), without } do
      local c = http.connect(b)
      c:send "OPTIONS / HTTP/1.0\r\n\r\n" -- HAProxy's option httpchk
      assert.equal(204, c:response().status)
      assert.equal(200, http.request(b, "HEAD", "/").status)
      assert.equal(200, http.get(b, "/").status)
      assert.equal(405, http.post(b, "/", "x").status)
    end
  end)
end)

describe("the health path", function()
  it("says whether the worker is ready, to everyone, and nothing else", function()
    local b = tidegate.start { config = { http = { health_path = "/healthz", page = false },
      store = { busy_timeout_ms = 1 } } }
    local function health(method)
      local r = http.request(b, method, "/healthz")
      return r.status, r.body
    end
    assert.same({ 200, "ready\n" }, { health "GET" })
    assert.equal(200, (health "HEAD"))
    assert.equal(405, (health "DELETE"))
    local db = store.sql(b.dir .. "/store/events.db")
    finally(function() db:close() end)
    assert(db "BEGIN IMMEDIATE")
    assert.equal(503, http.post(b, "/events?topic=a", "x").status)
    assert.same({ 503, "not ready\n" }, { health "GET" })
    assert(db "ROLLBACK")
    eventually("it is ready again", function() return health "GET" == 200 end)
  end)

  it("is not there unless it is configured", function()
    assert.equal(404, http.get(tidegate.start {}, "/healthz").status)
  end)
end)
