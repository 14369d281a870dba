-- What every answer has, and requests whose credentials two readers could understand differently.
local h2 = require "support.h2"
local http = require "support.http"
local tidegate = require "support.tidegate"

local POLICY = [[
  return {
    api = 1,
    authenticate = function(req)
      if req.bearer ~= "good" and not req.cookies.c255 then return tg.deny(401, "no") end
      return { sub = "x" }
    end,
    subscribe = function() return tg.deny(403, "no") end,
    publish = function(pub) return pub end,
  }
]]

describe("an answer", function()
  local broker = tidegate.shared { policy = POLICY, config = { http = { cors_origins = { "https://app.example" } },
    limits = { body_bytes = 2000, event_bytes = 2000 }, event_log = { max_bytes = 65536 } } }
  local GOOD = { "Authorization", "Bearer good" }

  local function request(method, path, headers, body)
    return http.request(broker(), method, path, headers, body)
  end

  it("is not kept, not guessed at, and says on what it depends", function()
    local function check(status, r)
      assert.equal(status, r.status)
      assert.equal("no-store", r.headers["cache-control"])
      assert.equal("nosniff", r.headers["x-content-type-options"])
      return r.headers.vary
    end
    for _, origin in ipairs { "https://app.example", "https://other.example", false } do
      local o = { "Origin", origin }
      assert.equal("Origin", check(401, request("GET", "/events?topic=a", { o })))
      assert.equal("Origin", check(403, request("GET", "/events?topic=a", { o, GOOD })))
      assert.equal("Origin", check(404, request("GET", "/nothing", { o })))
      assert.equal("Origin", check(405, request("PUT", "/events", { o })))
      assert.equal("Origin", check(400, request("GET", "/events?topic=%", { o })))
    end
    check(201, request("POST", "/events?topic=a", { GOOD }, "x"))
    check(415, request("POST", "/events", { GOOD }, "x"))
    check(413, request("POST", "/events?topic=a", { GOOD }, ("x"):rep(3000)))
    check(501, request("CONNECT", "/"))
    check(421, request("GET", "/", { Host = "evil.example" }))
    check(404, http.get(broker().admin, "/nothing"))
    check(200, http.get(broker().admin, "/status"))
    assert.equal("no-referrer", http.get(broker(), "/").headers["referrer-policy"])
  end)

  it("can be read by the pages that may ask, also where nobody was asked for it", function()
    local function check(status, r, origin)
      assert.equal(status, r.status)
      assert.equal(origin, r.headers["access-control-allow-origin"])
      assert.equal("Origin", r.headers.vary)
    end
    local function big(headers, body)
      return http.request(broker(), "POST", "/events?topic=a", headers, body)
    end
    for _, origin in ipairs { "https://app.example", "https://other.example" } do
      local allowed = origin == "https://app.example" and origin or nil
      local o = { "Origin", origin }
      check(413, big({ o, GOOD }, ("x"):rep(3000)), allowed)
      check(413, big({ o, GOOD, { "Transfer-Encoding", "chunked" } }, "bb9\r\n" .. ("x"):rep(3001)), allowed)
      check(431, request("GET", "/events", { o, { "Cookie", ("x"):rep(17000) } }), allowed)
      check(400, request("GET", "/events", { o, { "Bad", "x\1" } }), allowed)
      check(421, request("GET", "/events", { o, { "Host", "evil.example" } }), allowed)
      local many = { o }
      for i = 1, 100 do
        many[#many + 1] = { "X-" .. i, "y" }
      end
      check(431, request("GET", "/events", many), allowed)
      local c = h2.connect(broker())
      local large = { { "origin", origin }, { "x", ("y"):rep(17000) } }
      check(431, c:exchange("GET", "/", nil, { headers = large }), allowed)
      check(413, c:exchange("POST", "/events?topic=a", ("x"):rep(3000), { headers = { { "origin", origin },
        { "authorization", "Bearer good" } } }), allowed)
      c:close()
    end
    local r = request("GET", "/events", { { "Cookie", ("x"):rep(17000) }, { "Origin", "https://app.example" } })
    assert.equal(431, r.status) -- it ends before the field has come
    assert.is_nil(r.headers["access-control-allow-origin"])
  end)

  it("to fields that may be there once is a refusal where they are there twice", function()
    for _, name in ipairs { "Idempotency-Key", "Content-Type", "Origin" } do
      local r = request("POST", "/events?topic=a", { GOOD, { name, "text/plain" }, { name, "text/plain" } }, "x")
      assert.equal(400, r.status)
      assert.matches("more than one " .. name .. " field", r.json.detail, 1, true)
    end
  end)

  it("counts all lines of a list", function()
    local one, two = { "Accept", "application/json" }, { "Accept", "text/event-stream" }
    assert.equal(403, request("GET", "/events?topic=a", { GOOD, one, two }).status)
    assert.equal(403, request("GET", "/events?topic=a", { GOOD, two, one }).status)
    local html = { "Accept", "text/html" }
    assert.equal(406, request("GET", "/events?topic=a", { GOOD, html, html }).status)
  end)

  it("to several Authorization fields is a refusal, whatever their order", function()
    for _, others in ipairs { { "Bearer bad" }, { "Basic eDp5" }, { "Bearer good" }, { "" } } do
      local bad = { "Authorization", others[1] }
      for _, headers in ipairs { { GOOD, bad }, { bad, GOOD } } do
        assert.equal(400, request("POST", "/events?topic=a", headers, "x").status)
        assert.equal(400, request("GET", "/events?topic=a", headers).status)
      end
    end
    assert.equal(201, request("POST", "/events?topic=a", { GOOD }, "x").status)
  end)

  it("to more than 256 cookies is a refusal", function()
    local list = {}
    for i = 1, 256 do list[i] = ("c%d=%d"):format(i, i) end
    local function publish(fields) return request("POST", "/events?topic=a", fields, "x").status end
    assert.equal(201, publish { { "Cookie", table.concat(list, "; ") } })
    assert.equal(431, publish { { "Cookie", table.concat(list, "; ") .. "; c=1" } })
    assert.equal(431, publish { { "Cookie", table.concat(list, "; ") }, { "Cookie", "c=1" } })
    assert.equal(431, publish { { "Cookie", (";"):rep(300) } })
  end)

  it("to more cookies than longer heads may have is a refusal that names the limit", function()
    local wide = tidegate.start { config = { limits = { head_bytes = 32768 } } }
    local function publish(n)
      return http.post(wide, "/events?topic=a", "x", { Cookie = ("a=1; "):rep(n - 1) .. "a=1" })
    end
    assert.equal(201, publish(512).status)
    local r = publish(513)
    assert.equal(431, r.status)
    assert.matches("more than 512 cookies: one for each 64 bytes of limits.head_bytes", r.body, 1, true)
  end)
end)
