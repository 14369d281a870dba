-- transports: tls h2
-- Paths for events beside http.events_path: http.routes.
local http = require "support.http"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

-- What `subscribe` saw of a request is what its stream gets told: topics show/KEY=VALUE.
local POLICY = [[
  local function list(t)
    local out = {}
    for name, values in pairs(t) do out[#out + 1] = name .. "=" .. table.concat(values, "+") end
    table.sort(out)
    return table.concat(out, ";")
  end
  return {
    api = 1,
    authenticate = function(req)
      return { sub = "anyone", at = req.path, channel = req.params.channel, token = list(req.query_all) }
    end,
    subscribe = function(req, who)
      if not req.params.channel then return { topics = #req.topics > 0 and req.topics or { "**" }, format = "raw" } end
      return { topics = { "chan/" .. tg.segment(req.params.channel) },
        params = { path = req.path, query = list(req.query_all), first = req.query.a, was = who.token },
        format = "told" }
    end,
    formats = {
      told = function(ev, params) return { data = json.encode { params = params, data = ev.raw } } end,
    },
    publish = function(pub, who)
      pub.attrs.at = who.at
      return pub
    end,
  }
]]

local ROUTES = {
  { path = "/pub/{channel}", publish = "raw", topic = "chan/{channel}" },
  { path = "/sub/{channel}", subscribe = true, position_field = "Last-Event-ID" },
  { path = "/hub", subscribe = true, publish = "form", topic = "forms", answer = "id" },
  { path = "/gone/{channel}", publish = "raw", topic = "chan/{channel}", delete = true },
  { path = "/mercure", subscribe = true, position_field = "Mercure-Last-Event-ID" },
  { path = "/quiet/{channel}", publish = "raw", topic = "chan/{channel}", answer = "empty" },
  { path = "/both/{channel}/x", subscribe = true, publish = "envelope", status = 202 },
}
local APP = "https://app.example"

local function told(c)
  return require("dkjson").decode(c:next().data)
end

describe("a route", function()
  local broker = tidegate.shared {
    policy = POLICY, config = { http = { routes = ROUTES, cors_origins = { APP } } },
  }

  it("subscribes, and hands the policy what its path says", function()
    local b = broker()
    local c = sse.open(b, { path = "/sub/a%2Fb%C3%BC+", query = { a = { "1", "2" } } })
    local r = http.post(b, "/pub/a%2Fb%C3%BC+", "hello")
    assert.equal(201, r.status)
    local said = told(c)
    assert.equal("hello", said.data)
    assert.same({ path = "/sub/a%2Fb%C3%BC+", query = "a=1+2", first = "1", was = "a=1+2" }, said.params)
    c:close()
  end)

  it("publishes by DELETE an event without data", function()
    local b = broker()
    local c = sse.open(b, { topic = "chan/d" })
    local r = http.request(b, "DELETE", "/gone/d?type=over")
    assert.same({ 204, "" }, { r.status, r.body })
    local ev = c:next()
    assert.same({ "over", "" }, { ev.type, ev.data })
    r = http.request(b, "DELETE", "/gone/d", nil, "a body, which is dropped")
    assert.equal(204, r.status)
    assert.equal("", c:next().data)
    assert.equal("POST, DELETE, OPTIONS", http.get(b, "/gone/d").headers.allow)
    assert.equal(405, http.request(b, "DELETE", "/pub/d").status)
    assert.equal(405, http.request(b, "DELETE", "/events").status)
    r = http.request(b, "DELETE", "/gone/d", { Origin = "https://foreign.example", ["Sec-Fetch-Site"] = "cross-site" })
    assert.equal(403, r.status)
    r = http.request(b, "OPTIONS", "/gone/d", { Origin = APP, ["Access-Control-Request-Method"] = "DELETE" })
    assert.matches("DELETE", r.headers["access-control-allow-methods"])
    c:close()
  end)

  it("publishes the body as it is, to the topic of its path, one literal segment", function()
    local b = broker()
    local all = sse.open(b, { topic = "chan/*" })
    for given, topic in pairs {
      ["a"] = "chan/a", ["a%2Fb"] = "chan/a%2Fb", ["%2A"] = "chan/%2A", ["%2a%2a"] = "chan/%2A%2A",
      ["50%25"] = "chan/50%25",
      ["a+b"] = "chan/a+b", ["%0A%C2%85"] = "chan/%0A%C2%85", ["."] = "chan/.",
    } do
      local target = "/pub/" .. given .. "?type=t&attr.x=1"
      assert.equal(201, http.post(b, target, topic, { ["Content-Type"] = "text/plain" }).status)
      local ev = all:next()
      assert.equal(topic, ev.data)
      assert.equal("t", ev.type)
      local own = sse.open(b, { topic = topic, last_event_id = tostring(math.tointeger(ev.id) - 1) })
      assert.equal(topic, own:next().data, "its topic is another one")
      own:close()
    end
    all:close()
  end)

  it("refuses what its path cannot say", function()
    local b = broker()
    for target, status in pairs {
      ["/pub/%"] = 400, ["/pub/%zz"] = 400, ["/pub/%00"] = 400, ["/pub/%FF"] = 400, ["/pub/a?topic=b"] = 400,
      ["/pub/"] = 404, ["/pub"] = 404, ["/pub/a/b"] = 404, ["/PUB/a"] = 404, ["/pub/" .. ("a"):rep(251)] = 400,
      ["/quiet/%"] = 400,
    } do
      local r = http.post(b, target, "x")
      assert.equal(status, r.status, target)
      assert.truthy(r.json.detail, target)
    end
    assert.equal(201, http.post(b, "/pub/" .. ("a"):rep(250), "x").status)
  end)

  it("takes the methods that it is for", function()
    local b = broker()
    for path, allow in pairs {
      ["/pub/a"] = "POST, OPTIONS", ["/sub/a"] = "GET, HEAD, OPTIONS", ["/hub"] = "GET, HEAD, POST, OPTIONS",
    } do
      local r = http.request(b, "DELETE", path)
      assert.equal(405, r.status)
      assert.equal(allow, r.headers.allow)
      r = http.request(b, "OPTIONS", path, { Origin = APP, ["Access-Control-Request-Method"] = "POST" })
      assert.equal(204, r.status)
      assert.equal(allow, r.headers.allow)
      assert.equal(allow, r.headers["access-control-allow-methods"])
      assert.equal(APP, r.headers["access-control-allow-origin"])
    end
    assert.equal(405, http.get(b, "/pub/a").status)
    assert.equal(405, http.request(b, "HEAD", "/pub/a").status)
    assert.equal(405, http.post(b, "/sub/a", "x").status)
    assert.equal(200, http.request(b, "HEAD", "/sub/a").status)
  end)

  it("keeps pages of other sites out, and lets those of cors_origins in", function()
    local b = broker()
    for _, path in ipairs { "/pub/a", "/quiet/a", "/both/a/x?topic=a" } do
      assert.equal(403, http.post(b, path, "x", { Origin = "https://evil.example" }).status)
      local r = http.post(b, path, "x", { Origin = APP })
      assert.equal(2, r.status // 100)
      assert.equal(APP, r.headers["access-control-allow-origin"])
    end
    local r = http.post(b, "/pub/%", "x", { Origin = APP })
    assert.equal(400, r.status)
    assert.equal(APP, r.headers["access-control-allow-origin"])
  end)

  it("makes JSON of a form, a list for each name, and answers with the id", function()
    local b = broker()
    local c = sse.open(b, { path = "/hub", topic = "forms" })
    local r = http.post(b, "/hub", "topic=a&data=x%0Ay+z&topic=b%26&private=on&empty=", {
      ["Content-Type"] = "application/x-www-form-urlencoded; charset=utf-8",
    })
    assert.equal(201, r.status)
    assert.equal("text/plain; charset=utf-8", r.headers["content-type"])
    local ev = c:next()
    assert.equal('{"topic":["a","b&"],"data":["x\\ny z"],"private":["on"],"empty":[""]}', ev.data)
    assert.equal(ev.id, r.body)
    c:close()
    local form = { ["Content-Type"] = "application/x-www-form-urlencoded" }
    assert.equal(415, http.post(b, "/hub", "{}", { ["Content-Type"] = "application/json" }).status)
    for _, bad in ipairs { "a=%", "a=%00", "a=%FF", ("a&"):rep(257) } do
      assert.equal(400, http.post(b, "/hub", bad, form).status)
    end
  end)

  it("answers as it says", function()
    local b = broker()
    local r = http.post(b, "/quiet/a", "x")
    assert.equal(204, r.status)
    assert.equal("", r.body)
    r = http.post(b, "/both/a/x", '[{"topic":"t","data":1},{"topic":"t","data":2}]',
      { ["Content-Type"] = "application/json" })
    assert.equal(202, r.status)
    assert.equal(2, #r.json)
    r = http.post(b, "/pub/a?key=once", "x")
    local again = http.post(b, "/pub/a?key=once", "x")
    assert.same({ 201, 200 }, { r.status, again.status })
    assert.same({ id = r.json.id, duplicate = true }, again.json)
  end)

  it("says where a stream starts, where it shall", function()
    local b = broker()
    local id = http.post(b, "/pub/pos", "x").json.id
    local c = sse.open(b, { path = "/sub/pos", headers = { Origin = APP } })
    assert.equal(id, c.headers["last-event-id"])
    assert.truthy(c.headers["access-control-expose-headers"]:find("Last-Event-ID", 1, true))
    c:close()
    c = sse.open(b, { path = "/mercure", last_event_id = id })
    assert.equal(id, c.headers["mercure-last-event-id"])
    assert.is_nil(c.headers["last-event-id"])
    c:close()
    c = sse.open(b, { path = "/hub" })
    assert.is_nil(c.headers["last-event-id"])
    c:close()
  end)

  it("knows names in the query that http.events_path refuses", function()
    local b = broker()
    local c = sse.open(b, { path = "/hub", query = { topics = "x", match = "y" } })
    assert.truthy(c)
    c:close()
    assert.equal(400, http.get(b, "/events?topics=x").status)
  end)
end)

describe("a stream of a route", function()
  it("is asked about again with its path and what that says", function()
    local b = tidegate.start { policy = POLICY, config = { http = { routes = ROUTES } } }
    local c = sse.open(b, { path = "/sub/x", query = { a = { "1", "2" }, token = "secret" } })
    b:write_file("policy.lua", (POLICY:gsub("first = req.query.a", "first = 'again ' .. req.params.channel")))
    assert.equal(200, http.post(b.admin, "/policy/reload", "").status)
    local said
    repeat -- until the stream has been asked about
      assert.equal(201, http.post(b, "/pub/x", "y").status)
      said = told(c).params
    until said.first ~= "1"
    assert.same({ path = "/sub/x", query = "a=1+2", first = "again x", was = "a=1+2;token=secret" }, said)
    c:close()
  end)
end)
