-- What pages of other sites can do with a user's browser, cookies and network.
local http = require "support.http"
local tidegate = require "support.tidegate"

-- The one of README.md: a key, as a field or as a cookie.
local POLICY = [[
  return {
    api = 1,
    authenticate = function(req)
      if (req.headers["x-api-key"] or req.cookies.key) ~= "secret" then return tg.deny(401, "send your key") end
      return { sub = "user" }
    end,
    subscribe = function() return { topics = { "**" } } end,
    publish = function(pub) return pub end,
  }
]]
local APP = "https://app.example"

local function publish(broker, headers)
  headers.Cookie = headers.Cookie or "key=secret"
  headers.Host = ("%s:%d"):format(broker.host, broker.port)
  return http.post(broker, "/events?topic=news", "forged", headers)
end

local REFUSED = "tidegate_refused_cross_site_total"

describe("a page of another site", function()
  local broker = tidegate.shared { policy = POLICY, config = { http = { cors_origins = { APP } } } }

  it("cannot publish with the cookie of its visitor", function()
    local b, before = broker(), broker():metric(REFUSED)
    local host = ("%s:%d"):format(b.host, b.port)
    local refused = {
      { Origin = "https://evil.example" }, { Origin = "null" }, { Origin = "http://localhost:" .. b.port },
      { ["Sec-Fetch-Site"] = "cross-site" }, { ["Sec-Fetch-Site"] = "same-site" },
      { Origin = "http://" .. host, ["Sec-Fetch-Site"] = "cross-site" },
      { Origin = "https://evil.example", ["Content-Type"] = "application/x-www-form-urlencoded" },
    }
    for _, headers in ipairs(refused) do
      local r = publish(b, headers)
      assert.equal(403, r.status)
      assert.truthy(r.json.detail:find("http.cors_origins", 1, true), r.json.detail)
    end
    assert.equal(before + #refused, b:metric(REFUSED))
    assert.equal(0, b:metric "tidegate_events_published_total")
  end)

  it("is told what was compared", function()
    local b = broker()
    local detail = publish(b, { Origin = "https://evil.example" }).json.detail
    assert.truthy(detail:find('"https://evil.example"', 1, true), detail)
    assert.truthy(detail:find(('"%s:%d"'):format(b.host, b.port), 1, true), detail)
  end)

  it("can where it is the broker's own, or listed; programs can", function()
    local b, before = broker(), broker():metric(REFUSED)
    local host = ("%s:%d"):format(b.host, b.port)
    for _, headers in ipairs {
      {}, { Origin = "http://" .. host }, { Origin = "https://" .. host }, { ["Sec-Fetch-Site"] = "same-origin" },
      { Origin = APP }, { Origin = APP, ["Sec-Fetch-Site"] = "cross-site" },
    } do
      assert.equal(201, publish(b, headers).status)
    end
    assert.equal(before, b:metric(REFUSED))
  end)

  it("can subscribe: it cannot read the stream", function()
    local c = http.connect(broker())
    c:send(http.render("GET", "/events?topic=a", { Origin = "https://evil.example", Cookie = "key=secret",
      ["Sec-Fetch-Site"] = "cross-site" }))
    local r = c:head()
    assert.equal(200, r.status)
    assert.is_nil(r.headers["access-control-allow-origin"])
    c:close()
  end)
end)

describe("http.cross_site_publish", function()
  it("lets the policy alone judge", function()
    local b = tidegate.start { policy = POLICY, config = { http = { cross_site_publish = true } } }
    assert.equal(201, publish(b, { Origin = "https://evil.example", ["Sec-Fetch-Site"] = "cross-site" }).status)
    assert.equal(401, publish(b, { Origin = "https://evil.example", Cookie = "key=other" }).status)
  end)
end)
