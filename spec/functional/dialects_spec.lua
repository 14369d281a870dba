-- transports: tls h2
-- The shipped policies for clients of other servers, over real sockets.
local child = require "support.child"
local files = require "support.files"
local http = require "support.http"
local json = require "dkjson"
local pages = require "support.pages"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

local KEY = "of-thirty-two-bytes-or-some-more"
local BEARER = { Authorization = "Bearer " .. KEY }

local function with(headers)
  for name, value in pairs(BEARER) do
    headers[name] = value
  end
  return headers
end

local function broker_of(policy, routes)
  return tidegate.shared {
    policy_file = SPEC_SOURCE_DIR .. "/scripts/policies/" .. policy,
    config = { http = { routes = routes }, policy = { settings = { publisher = KEY } } },
  }
end

describe("nchan.lua", function()
  local broker = broker_of("nchan.lua", {
    { path = "/sub/{channel}", subscribe = true },
    { path = "/pub/{channel}", publish = "raw", topic = "chan/{channel}", status = 202 },
  })

  it("takes what is posted to /pub and gives it to /sub, history first, and again from a position", function()
    local b = broker()
    local text = { ["Content-Type"] = "text/plain", ["X-EventSource-Event"] = "greeting" }
    assert.equal(202, http.post(b, "/pub/a%2Fb", "one", with(text)).status)
    local c = sse.open(b, { path = "/sub/a%2Fb" })
    local one = c:next()
    assert.same({ "greeting", "one" }, { one.type, one.data })
    assert.equal(202, http.post(b, "/pub/a%2Fb", "two", with {}).status)
    local two = c:next()
    assert.same({ "message", "two" }, { two.type, two.data })
    assert.equal("two", sse.open(b, { path = "/sub/a%2Fb", last_event_id = one.id }):next().data)
    assert.equal(403, http.post(b, "/pub/a%2Fb", "three", {}).status)
  end)

  it("refuses for good what is no type, or no channel", function()
    local b = broker()
    for _, type in ipairs { ("a"):rep(256), ("a"):rep(3000), "a\xff" } do
      assert.equal(400, http.post(b, "/pub/a", "x", with { ["X-EventSource-Event"] = type }).status)
    end
    assert.equal(202, http.post(b, "/pub/a", "x", with { ["X-EventSource-Event"] = ("é"):rep(127) }).status)
    assert.equal(404, http.get(b, "/sub/" .. ("a"):rep(300), { Accept = "text/event-stream" }).status)
  end)
end)

describe("nchan.lua, as it is told", function()
  local function first(settings)
    settings.publisher = KEY
    local b = tidegate.start { policy_file = SPEC_SOURCE_DIR .. "/scripts/policies/nchan.lua", config = {
      http = { routes = { { path = "/sub/{channel}", subscribe = true },
        { path = "/pub/{channel}", publish = "raw", topic = "chan/{channel}", status = 202 } } },
      policy = { settings = settings } } }
    for i = 1, 12 do
      assert.equal(202, http.post(b, "/pub/a", "old" .. i, with {}).status)
    end
    local c = sse.open(b, { path = "/sub/a" })
    assert.equal(202, http.post(b, "/pub/a", "new", with {}).status)
    return c:next().data
  end

  it("begins with the oldest of the buffer, or with what comes", function()
    assert.equal("old3", first {})
    assert.equal("old12", first { message_buffer = 1, message_timeout = 0 })
    assert.equal("new", first { message_buffer = 0 })
    assert.equal("new", first { first_message = "newest" })
  end)
end)

describe("eventstreams.lua", function()
  local broker = broker_of("eventstreams.lua", { { path = "/v2/stream/{streams}", subscribe = true } })

  it("gives several streams as one, from a time or a position on", function()
    local b = broker()
    for _, name in ipairs { "edits", "logs", "pages" } do
      assert.equal(201, http.post(b, "/events?topic=stream/" .. name, name, with {}).status)
    end
    local c = sse.open(b, { path = "/v2/stream/edits,pages", query = { since = "-1h" } })
    local first = c:next()
    assert.same({ "edits", "pages" }, { first.data, c:next().data })
    assert.equal("pages", sse.open(b, { path = "/v2/stream/pages,edits", last_event_id = first.id }):next().data)
    assert.equal(404, http.get(b, "/events?topic=stream/edits", { Accept = "text/event-stream" }).status)
  end)

  it("refuses names that are none, and all of a request that has one of a stream that is not there", function()
    local b = tidegate.start { policy_file = SPEC_SOURCE_DIR .. "/scripts/policies/eventstreams.lua", config = {
      http = { routes = { { path = "/v2/stream/{streams}", subscribe = true } } },
      policy = { settings = { publisher = KEY, streams = { "edits", "logs" } } } } }
    local function status(where, path)
      local c = sse.request(where, { path = path })
      c:close()
      return c.status
    end
    assert.equal(200, status(b, "/v2/stream/edits,logs"))
    for _, bad in ipairs { "edits,pages", "pages", ",", "edits,", ",edits", "a*", "edits,%2A",
      "edits?since=yesterday" } do
      assert.equal(400, status(b, "/v2/stream/" .. bad), bad)
      assert.equal(bad:find "pages" and 200 or 400, status(broker(), "/v2/stream/" .. bad), bad)
    end
    assert.equal(403, http.post(b, "/events?topic=stream/pages", "x", with {}).status)
    assert.equal(201, http.post(b, "/events?topic=stream/edits", "x", with {}).status)
  end)
end)

describe("the page's policy for a payment provider", function()
  local SECRET = "of-the-provider"
  local broker = tidegate.shared {
    policy = assert(pages.read("scripts/DIALECTS.md"):match "```lua\n(%-%- tidegate%.lua: http = { routes = .-)```"),
    config = { http = { routes = { { path = "/pay", publish = "raw", topic = "pay", answer = "empty" } } },
      policy = { settings = { pay = SECRET } } },
  }

  -- As anybody makes it.
  local function mac(body)
    local path = os.tmpname()
    files.write(path, body)
    local signed = child.start(assert(child.find "openssl"), { "dgst", "-sha256", "-hmac", SECRET, "-r", path })
    assert.equal(0, signed:wait(30), signed:errors())
    os.remove(path)
    local digits = assert(signed:output():match "^%x+")
    signed:stop()
    return digits
  end

  local function pay(body, signature)
    return http.post(broker(), "/pay", body, { ["Content-Type"] = "application/json", ["X-Signature"] = signature })
  end

  it("takes a signed body to the topic of its customer, once, and answers 204", function()
    local body = '{"id":"p1", "customer":"ann", "sum": 12.50}'
    local c = sse.open(broker(), { topic = "payments/ann" })
    for _ = 1, 2 do
      local r = pay(body, mac(body))
      assert.same({ 204, "" }, { r.status, r.body })
    end
    local other = '{"id":"p2","customer":"ben"}'
    assert.equal(204, pay(other, mac(other)).status)
    local first = c:next()
    assert.same({ "payment", body }, { first.type, first.data })
    assert.equal(other, c:next().data)
    c:close()
  end)

  it("refuses for good what the provider has not signed, or what makes no sense", function()
    assert.equal(401, pay("{}").status)
    assert.equal(401, pay("{}", ("0"):rep(64)).status)
    for _, body in ipairs { "{}", "text", '{"id":1,"customer":"ann"}', '{"id":"a","customer":["ann"]}',
      '{"id":"a","customer":"a/b"}', '{"id":"a","customer":"ann","n":1e999}' } do
      assert.equal(400, pay(body, mac(body)).status, body)
    end
    assert.equal(401, http.post(broker(), "/events?topic=pay", "{}", { ["X-Signature"] = mac "{}" }).status)
  end)
end)

describe("tidegate check", function()
  local function problem(hooks)
    local b = tidegate.prepare { files = {
      ["conf.lua"] = [[return { policy = { file = "try.lua" }, http = { routes = {
        { path = "/sub/{name}", subscribe = true },
        { path = "/ask/{name}", publish = "raw", topic = "a/{name}" } } } }]],
      ["try.lua"] = "local P = { api = 1 }\nfunction P.authenticate() return {} end\n" .. hooks .. "\nreturn P\n",
    } }
    tidegate.forget_later(b)
    local _, out = tidegate.run(tidegate.binary(), { args = { "check", "conf.lua", "--no-luacheck", "--json" },
      cwd = b.dir })
    local problems = json.decode(out).problems
    assert(#problems < 2, out)
    return problems[1]
  end
  local SUBSCRIBE = "function P.subscribe() return { topics = { 'a/*' }, filter = 'none' } end\n"
  local PUBLISH = "function P.publish(pub) return pub end\n"

  it("warns of routes that publish where the policy has no such hook", function()
    local p = problem(SUBSCRIBE)
    assert.same({ "warning", "configuration",
      "http.routes[2]: publishes, and the policy has no hook publish: every POST gets 403" },
      { p.severity, p.source, p.message })
    assert.is_nil(problem(SUBSCRIBE .. PUBLISH))
  end)

  it("tells how requests of a route are named where the policy needs one", function()
    local p = problem(PUBLISH .. "function P.subscribe(req) return { topics = { tg.topic(req.params.name) } } end")
    assert.matches('work with %-%-samples FILE, those of routes with their path: "path": "/ask/7"$', p.hint)
  end)
end)
