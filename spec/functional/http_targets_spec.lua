-- http.get and http.post in policies of a running broker, against a server that does as it is told. What the client
-- does with hostile servers is in spec/unit/http_client_spec.lua.
local eventually = require "support.eventually"
local http = require "support.http"
local http_server = require "support.http_server"
local prometheus = require "support.prometheus"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

local POLICY = [[
  local function run(code, q)
    return ({
      get = function() return http.get("app", { path = q.path, query = { q = q.q, n = 1.5, b = true } }) end,
      plain = function() return http.get("app") end,
      segments = function() return http.get("app", { path = { "users", q.id, 7 } }) end,
      post = function()
        return http.post("app", { json = { id = q.id, list = json.array { 1 } }, headers = { ["X-A"] = q.h } })
      end,
      body = function() return http.post("app", { body = "raw", headers = { ["Content-Type"] = "text/x" } }) end,
      slow = function() return http.get("app", { path = "/never", timeout_ms = 100 }) end,
      never = function() return http.get("app", { path = "/never" }) end,
      down = function() return http.get("down") end,
      unknown = function() return http.get("ap") end,
      option = function() return http.get("app", { pth = "/x" }) end,
      body_of_get = function() return http.get("app", { body = "x" }) end,
      header = function() return http.get("app", { headers = { Host = "other" } }) end,
      crlf = function() return http.get("app", { headers = { ["X-A"] = "a\r\nX-B: c" } }) end,
      table = function() return http.get("app", { query = { a = {} } }) end,
      both = function() return http.post("app", { body = "x", json = 1 }) end,
      url = function() return http.get("http://127.0.0.1:1/") end,
    })[code]()
  end
  return {
    api = 1,
    authenticate = function(req) return { sub = "x", login = req.query.login } end,
    subscribe = function(req, who)
      if req.query.run then
        local res, err = run(req.query.run, req.query)
        if not res then return nil, err end
        return tg.deny(404, json.encode { status = res.status, json = res.json, test = res.headers["x-test"],
          body = #res.body < 200 and res.body or nil })
      end
      local res, err = http.get("app", { path = { "users", who.login } })
      if not res then return nil, err end
      if res.status == 404 then return tg.deny(403, "nobody knows you") end
      if res.status ~= 200 then return nil, "status " .. res.status end
      return { topics = res.json.topics, filter = "none" }
    end,
    publish = function(pub) return pub end,
    filters = { asks = function() return http.get("app") ~= nil end },
  }
]]

describe("http.get and http.post", function()
  local server, broker

  local function answer(request, client)
    local path = request.target:match "^[^?]*"
    if path == "/api/never" then
      return
    elseif path == "/api/users/ann" then
      http_server.answer(client, { headers = { ["Content-Type"] = "application/json" }, body = '{"topics":["a"]}' })
    elseif path:find "^/api/users/" and request.method == "GET" and path ~= "/api/users/it%27s%20me%3F%26/7" then
      http_server.answer(client, { status = 404 })
    elseif path == "/api/status" then
      http_server.answer(client, { status = 500, headers = { ["X-Test"] = "one", ["x-test"] = "two" }, body = "oops" })
    elseif path == "/api/badjson" then
      http_server.answer(client, { headers = { ["Content-Type"] = "application/json" }, body = "{" })
    elseif path == "/api/moved" then
      http_server.answer(client, { status = 302, headers = { Location = server.url .. "/api/users/ann" } })
    elseif path == "/api/large" then
      http_server.answer(client, { body = ("x"):rep(5000) })
    else
      http_server.answer(client, { headers = { ["Content-Type"] = "application/problem+json; charset=utf-8" },
        body = http.json.encode { method = request.method, target = request.target, body = request.body,
          type = request.headers["content-type"] or "none", key = request.headers["x-key"] or "none",
          a = request.headers["x-a"] or "none" } })
    end
  end

  setup(function()
    server = http_server.start(answer)
  end)

  teardown(function()
    server:stop()
  end)

  before_each(function()
    broker = tidegate.start { policy = POLICY, config = {
      http_targets = {
        app = { url = server.url .. "/api/", timeout_ms = 2000, max_response_bytes = 4000,
          headers = { "X-Key: secret key " } },
        down = { url = "http://127.0.0.1:1" },
      },
      policy = { error_log_interval_s = 0 },
    } }
  end)

  -- Asks through the policy; both sides' loops run in this process.
  local function request(params)
    local c = http.connect(broker)
    c:send(http.render("GET", "/events?" .. http.query(params), { Accept = "application/json, */*" }))
    local asked = #server.requests
    local deadline = eventually.deadline(10)
    while true do
      local readable = require("socket").select({ c.socket }, nil, 0.002)
      if #readable > 0 or eventually.now() > deadline then
        break
      end
      eventually.turn(0)
    end
    local r = c:response()
    c:close()
    return r, server.requests[asked + 1]
  end

  local function result(params)
    local r, asked = request(params)
    assert.equal(404, r.status, r.body .. broker:log():sub(-500))
    return http.json.decode(r.json.detail), asked
  end

  it("decides what a stream gets", function()
    local c = sse.start(broker, { query = { login = "ann" } })
    sse.pump_until("it is open", { c }, function()
      eventually.turn(0)
      return #c.blocks > 0
    end)
    assert.equal(201, http.post(broker, "/events?topic=a", "1").status)
    assert.equal("1", c:next().data)
    assert.equal(403, request({ login = "eve" }).status)
  end)

  it("sends path, query, headers and bodies as they are meant", function()
    local r = result { run = "get", path = "/x/y%20z", q = "a b&c=d/é" }
    assert.equal(200, r.status)
    assert.equal("/api/x/y%20z?b=true&n=1.5&q=a%20b%26c%3Dd%2F%C3%A9", r.json.target)
    assert.equal("secret key", r.json.key)
    assert.equal("/api/", result({ run = "plain" }).json.target)
    assert.equal("/api/users/it%27s%20me%3F%26/7", result({ run = "segments", id = "it's me?&" }).json.target)
    r = result { run = "post", id = "x", h = "v" }.json
    assert.same({ "POST", '{"id":"x","list":[1]}', "application/json", "v" }, { r.method, r.body, r.type, r.a })
    r = result { run = "body" }.json
    assert.same({ "POST", "raw", "text/x" }, { r.method, r.body, r.type })
  end)

  it("gives every complete answer, and JSON only where it is", function()
    local r = result { run = "get", path = "/status" }
    assert.equal(500, r.status)
    assert.equal("oops", r.body)
    assert.is_nil(r.json)
    assert.is_true(r.test == "one, two" or r.test == "two, one", r.test)
    r = result { run = "get", path = "/badjson" }
    assert.same({ 200, "{" }, { r.status, r.body })
    assert.is_nil(r.json)
    assert.equal(302, result({ run = "get", path = "/moved" }).status)
  end)

  it("lets nothing out of the target", function()
    for _, path in ipairs { "x", "//evil/x", "/../x", "/a/..", "/%2e%2e/x", "/a/.%2E/b", "/..%2fx", "/a\\..\\b",
      "/%5c..%5cx", "/a b",
      "/a\r\nX: y", "/a%0d%0aX:%20y", "/a?b=c", "/a#b", "/%zz", "/%", "/a%00b", "@evil/", ":80/", "",
      "/..;/x", "/a/..;p=1/b", "/..%3b/x", "/%252e%252e/x", "/a%255c.." } do
      local before = #server.requests
      assert.equal(503, request({ run = "get", path = path }).status, path)
      assert.equal(before, #server.requests, path)
    end
    for _, id in ipairs { "..", ".", "", "a/b", "a\\b", "a\nb" } do
      assert.equal(503, request({ run = "segments", id = id }).status, id)
    end
    assert.equal(200, result({ run = "get", path = "/a/...b/c..d" }).status)
  end)

  it("answers nil and why when nobody answers: the client is told to come back", function()
    for run, why in pairs { slow = "no answer in time", down = "127.0.0.1" } do
      local r = request { run = run }
      assert.equal(503, r.status)
      assert.is_truthy(r.headers["retry-after"])
      assert.is_truthy(broker:log():find(why, 1, true), broker:log():sub(-500))
    end
    assert.equal(503, request({ run = "get", path = "/large" }).status)
    assert.is_truthy(broker:log():find("larger than 4000 bytes", 1, true))
    assert.is_truthy(broker:logged { sub = "http", msg = "a target does not answer", target = "down" })
    assert.equal(200, result({ run = "plain" }).status)
    assert.is_truthy(broker:logged { sub = "http", msg = "a target answers again", target = "app" })
  end)

  it("raises for mistakes of the policy, naming them", function()
    for run, why in pairs {
      unknown = "unknown target 'ap' (did you mean 'app'?)",
      url = "unknown target 'http://127.0.0.1:1/'",
      option = "'pth'",
      body_of_get = "'body'",
      header = "\\\"host\\\" is not yours to set",
      crlf = "has a control character",
      table = "a string, number or boolean was expected, got table",
      both = "body and json exclude each other",
    } do
      assert.equal(503, request({ run = run }).status)
      assert.is_truthy(broker:log():find(why, 1, true), why .. "\n" .. broker:log():sub(-700))
    end
  end)

  it("forgets a question whose client has left", function()
    local c = http.connect(broker)
    c:send(http.render("GET", "/events?run=never"))
    local function active()
      return prometheus.parse(http.get(broker.admin, "/metrics").body).values.tidegate_http_client_active
    end
    eventually("it is under way", function() return active() == 1 end)
    c:close()
    eventually("it is dropped", function() return active() == 0 end)
    assert.equal(200, result({ run = "plain" }).status)
  end)

  it("ends well with questions under way", function()
    local b = tidegate.start { policy = POLICY, config = { drain = { timeout_s = 0 },
      policy = { subscribe_timeout_ms = 60000 },
      http_targets = { app = { url = server.url .. "/api", timeout_ms = 60000 } } } }
    local clients = {}
    for i = 1, 5 do
      clients[i] = http.connect(b)
      clients[i]:send(http.render("GET", "/events?run=never"))
    end
    eventually("they are under way", function()
      return prometheus.parse(http.get(b.admin, "/metrics").body).values.tidegate_http_client_active == 5
    end)
    b:stop()
  end)

  it("knows only targets that make sense", function()
    for _, case in ipairs {
      { { url = "ftp://a/" }, "http_targets.t.url: .*begins with http" },
      { { url = "http://u:p@a/" }, "http_targets.t.url" },
      { { url = "http://a/?b=c" }, "http_targets.t.url: .*has a query" },
      { { url = "http://a/", headers = { "x" } }, "http_targets.t.headers" },
      { { url = "http://a/", headers = { "Host: b" } }, "http_targets.t.headers" },
      { {}, "http_targets.t.url" },
    } do
      local b = tidegate.prepare { policy = POLICY, config = { http_targets = { t = case[1] } } }
      tidegate.forget_later(b)
      local code, out, err = tidegate.run(tidegate.binary(), { args = { "check", b.conf_path }, cwd = b.dir })
      assert.equal(78, code)
      assert.matches(case[2], out .. err)
    end
  end)
end)
