-- What a refusal leaves behind: a line for the operator, a count, and an id that client and operator share.
local eventually = require "support.eventually"
local h2 = require "support.h2"
local http = require "support.http"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

local POLICY = [[
  return {
    api = 1,
    authenticate = function(req)
      if req.query.as == "nobody" then return tg.deny(401, "send your key") end
      if req.query.as == "each" then return tg.deny(403, "not " .. req.query.n) end
      if req.query.as == "later" then return nil, "the directory is away" end
      if req.query.as == "bug" then error("oops") end
      log.info("asked", { id = req.id })
      return { sub = "x", as = req.query.as or "" }
    end,
    subscribe = function(req)
      if req.query.as == "reader" then return tg.deny(404, "no such room") end
      return { topics = { "a" } }
    end,
    publish = function(pub, who)
      if who.as == "reader" then return tg.deny(403, "readers do not publish") end
      return pub
    end,
  }
]]

-- The fields of the last line with that msg for which `where` holds.
local function line_of(broker, msg, where)
  return eventually("a line: " .. msg, function()
    local found
    for _, fields in ipairs(broker:log_lines()) do
      if fields.msg == msg and where(fields) then
        found = fields
      end
    end
    return found
  end)
end

local function by_request(id)
  return function(fields) return fields.request == id end
end

describe("a denial", function()
  local broker = tidegate.shared { policy = POLICY, config = {
    http = { cors_origins = { "https://app.example" } }, sse = { refusal_hold_s = 0 }, log = { level = "debug" },
    policy = { error_log_interval_s = 0 }, trusted_proxies = { "unix" },
    listen = { "127.0.0.1:0", "unix:@DIR/http.sock" },
  } }

  it("is a line that names hook, status, reason and the id that the client got", function()
    local b = broker()
    local before = b:metric 'tidegate_refused_denied_total{status="401"}'
    local r = http.get(b, "/events?as=nobody")
    local id = r.headers["x-request-id"]
    assert.matches("^%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x$", id)
    assert.equal(id, r.json.request_id)
    local line = line_of(b, "denied", by_request(id))
    assert.same({ "401", "send your key", "authenticate" }, { line.status, line.reason, line.hook })
    assert.equal(before + 1, b:metric 'tidegate_refused_denied_total{status="401"}')
  end)

  it("names the hook that denied", function()
    local b = broker()
    local r = http.get(b, "/events?as=reader")
    local line = line_of(b, "denied", by_request(r.headers["x-request-id"]))
    assert.same({ "404", "subscribe" }, { line.status, line.hook })
    r = http.post(b, "/events?topic=a&as=reader", "x")
    line = line_of(b, "denied", by_request(r.headers["x-request-id"]))
    assert.same({ "403", "publish", "readers do not publish" }, { line.status, line.hook, line.reason })
  end)

  it("has an id of its own each time, which hooks see, and whatever the answer is", function()
    local b, seen = broker(), {}
    for _ = 1, 20 do
      local id = http.post(b, "/events?topic=a", "x").headers["x-request-id"]
      assert.is_nil(seen[id])
      seen[id] = true
      line_of(b, "asked", function(fields) return fields.id == id end)
    end
    local c = sse.request(b, {})
    assert.equal(200, c.status)
    assert.is_nil(seen[c.headers["x-request-id"]])
    line_of(b, "subscribed", by_request(c.headers["x-request-id"]))
  end)

  it("is told a stream that is refused for now in its comment; errors of hooks have the id, too", function()
    local b = broker()
    for _, case in ipairs {
      { as = "later", msg = "the policy refused temporarily" },
      { as = "bug", msg = "policy error, nothing was granted" },
    } do
      local before = b:metric 'tidegate_refused_transient_total{reason="policy"}'
      local c = sse.request(b, { query = { as = case.as } })
      local id = c.headers["x-request-id"]
      assert.equal("closed", c:wait_end())
      assert.truthy(table.concat(c.comments, "\n"):find(id, 1, true))
      line_of(b, case.msg, by_request(id))
      assert.equal("the policy could not decide", line_of(b, "refused for now", by_request(id)).reason)
      assert.equal(before + 1, b:metric 'tidegate_refused_transient_total{reason="policy"}')
    end
  end)

  it("has a line for what was asked wrongly", function()
    local b = broker()
    local r = http.get(b, "/evnts")
    local line = line_of(b, "refused request", by_request(r.headers["x-request-id"]))
    assert.equal("404", line.status)
    assert.equal(r.json.detail, line.why)
  end)

  it("has an id of its own where the request itself is malformed, too, and over HTTP/2", function()
    local b, seen = broker(), {}
    local function check(r, status, msg)
      local id = r.headers["x-request-id"]
      assert.equal(status or 400, r.status)
      assert.matches("^%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x$", id)
      assert.is_nil(seen[id])
      assert.equal(id, http.json.decode(r.body).request_id)
      line_of(b, msg or "refused request", by_request(id))
      seen[id] = true
    end
    local chunked = "POST /events?topic=a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    local host = "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n"
    for _, bytes in ipairs { host, host, chunked .. "x\r\n" } do
      local c = assert(http.connect(b))
      assert(c:send(bytes))
      check(assert(c:response()))
      c:close()
    end
    local c = assert(h2.connect(b))
    for _ = 1, 2 do
      check(c:exchange("GET", "/events?as=nobody"), 401, "denied")
      check(c:exchange("GET", "/", nil, { authority = "a:b" }))
    end
    c:close()
  end)

  it("takes the id of a trusted proxy, and of nobody else", function()
    local b = broker()
    local function ask(target, given)
      return http.get(target, "/events?as=nobody", { ["X-Request-Id"] = given })
    end
    local proxy = { unix = b.dir .. "/http.sock" }
    local r = ask(proxy, "4bf92f3577b34da6-a3ce:1.x/y+z=@_")
    assert.equal("4bf92f3577b34da6-a3ce:1.x/y+z=@_", r.headers["x-request-id"])
    assert.equal(r.headers["x-request-id"], r.json.request_id)
    line_of(b, "denied", by_request(r.headers["x-request-id"]))
    r = http.get(proxy, "/nothing", { ["X-Request-Id"] = "a-b" }) -- with CORS fields, and without
    assert.equal("a-b", r.headers["x-request-id"])
    r = http.post(proxy, "/events?topic=a", "x", { ["X-Request-Id"] = "a-c" })
    assert.same({ 201, "a-c" }, { r.status, r.headers["x-request-id"] })
    local c = assert(http.connect(proxy)) -- the head comes before the body
    assert(c:send("POST /events?topic=a HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: a-d\r\n" ..
      "Origin: https://app.example\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n"))
    assert.equal(100, c:response().status)
    assert(c:send("x"))
    r = assert(c:response())
    c:close()
    assert.same({ 201, "a-d", "https://app.example" },
      { r.status, r.headers["x-request-id"], r.headers["access-control-allow-origin"] })
    assert.equal(16, #ask(b, "forged").headers["x-request-id"])
    for _, bad in ipairs { ("x"):rep(65), "two words", 'quo"te', "" } do
      assert.equal(16, #ask(proxy, bad).headers["x-request-id"], bad)
    end
  end)

  it("counts answers by their class", function()
    local b = broker()
    local function count(class)
      return b:metric(('tidegate_http_answers_total{class="%s"}'):format(class))
    end
    local before = { count "2xx", count "4xx", count "5xx" }
    http.post(b, "/events?topic=a", "x")
    http.get(b, "/nothing")
    http.get(b, "/events?as=bug", { Accept = "*/*" })
    local after = { count "2xx", count "4xx", count "5xx" }
    assert.is_true(after[1] > before[1]) -- /metrics is one, too
    assert.same({ before[2] + 1, before[3] + 1 }, { after[2], after[3] })
  end)
end)

describe("refusals in the log", function()
  local broker = tidegate.shared { policy = POLICY, config = { sse = { refusal_hold_s = 0 } } }

  local function lines(msg)
    local n = 0
    for _, fields in ipairs(broker():log_lines()) do
      n = n + (fields.msg == msg and 1 or 0)
    end
    return n
  end

  it("are one line for each reason in ten seconds, and few whatever clients send", function()
    local b = broker()
    for n = 1, 40 do
      http.get(b, "/events?as=nobody")
      http.get(b, "/events?as=each&n=" .. n)
    end
    assert.is_true(lines "denied" >= 2)
    assert.is_true(lines "denied" <= 2 * 17) -- 16 kinds at a time; a slow machine may see ten seconds pass
    assert.equal(40, b:metric 'tidegate_refused_denied_total{status="401"}')
  end)

  it("name an origin whose pages cannot read the answer", function()
    local b = broker()
    http.get(b, "/events?topic=a&as=nobody", { Origin = "http://localhost:3000" })
    http.request(b, "OPTIONS", "/events",
      { Origin = "http://localhost:3000", ["Access-Control-Request-Method"] = "GET" })
    local line = line_of(b, "browsers hide answers from pages of an origin that is not in http.cors_origins",
      function(fields) return fields.origin == "http://localhost:3000" end)
    assert.equal("info", line.level)
    assert.equal(2, b:metric "tidegate_foreign_origins_total")
    local host = ("http://%s:%d"):format(b.host, b.port)
    http.get(b, "/events?topic=a&as=nobody", { Origin = host, Host = host:sub(8) })
    http.get(b, "/events?topic=a&as=nobody")
    assert.equal(2, b:metric "tidegate_foreign_origins_total")
  end)
end)
