-- What every answer has, and requests whose credentials two readers could understand differently.
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
end)
