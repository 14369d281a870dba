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

-- A name of another site that was made to point to this machine (DNS rebinding): its page is of the same origin then.
describe("a loopback address", function()
  local broker = tidegate.shared { config = { http = { hosts = { "Events.example", "[2001:db8::1]" } } } }
  local GOOD = { "localhost", "LOCALHOST:80", "localhost.", "127.0.0.1", "127.5.6.7:9", "[::1]", "[::1]:8080",
    "events.EXAMPLE:1", "[2001:db8::1]:443" }
  local BAD = { "evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", "127.0.0.1x",
    "10.0.0.1", "0.0.0.0", "[::]", "[::ffff:127.0.0.1]", "2130706433", "127.1", "notevents.example", "xlocalhost" }

  it("answers to names of the machine, and those that are listed", function()
    for _, target in ipairs { broker(), broker().admin } do
      for _, host in ipairs(GOOD) do
        assert.equal(404, http.get(target, "/nothing", { Host = host }).status, host)
      end
      for _, host in ipairs(BAD) do
        local r = http.get(target, "/nothing", { Host = host })
        assert.equal(421, r.status, host)
        assert.truthy(r.json.detail:find(host, 1, true))
        assert.truthy(r.json.detail:find("http.hosts", 1, true))
        assert.truthy(r.json.detail:find("trusted_proxies", 1, true))
      end
    end
    assert.equal(#BAD, broker():metric "tidegate_http_misdirected_total")
    local said = 0 -- once in ten seconds
    for _, line in ipairs(broker():log_lines()) do
      said = said + (line.level == "warn" and line.server == "public" and line.host and 1 or 0)
    end
    assert.is_true(said >= 1 and said < #BAD, said)
    assert.truthy(broker():logged { level = "warn", server = "public", host = BAD[1] })
  end)

  it("looks at the head alone, and at absolute targets", function()
    local c = http.connect(broker())
    c:send(http.render("POST", "/events?topic=a", { Host = "evil.example", ["Content-Length"] = "1000" }))
    assert.equal(421, c:response().status)
    assert.is_true(c:closed())
    c = http.connect(broker())
    c:send "GET http://evil.example/events HTTP/1.0\r\n\r\n"
    assert.equal(421, c:response().status)
  end)

  it("does not mind old clients that name no host", function()
    local c = http.connect(broker().admin)
    c:send "GET /healthz HTTP/1.0\r\n\r\n"
    assert.equal(200, c:response().status)
  end)

  it("believes a proxy that is trusted, and Unix sockets", function()
    local b = tidegate.start { config = { listen = { "127.0.0.1:0", "unix:@DIR/s" },
      trusted_proxies = { "127.0.0.2" } } }
    local host = { Host = "events.example" }
    assert.equal(404, http.get(b, "/nothing", host, { from = "127.0.0.2" }).status)
    assert.equal(421, http.get(b, "/nothing", host, { from = "127.0.0.3" }).status)
    assert.equal(404, http.get(b.addresses[2], "/nothing", host).status)
  end)
end)

describe("the admin service", function()
  local broker = tidegate.shared {}

  it("tells pages nothing", function()
    for _, path in ipairs { "/status", "/connections", "/metrics", "/healthz" } do
      for _, headers in ipairs {
        { Origin = "https://evil.example" }, { Origin = "null" }, { ["Sec-Fetch-Site"] = "cross-site" },
        { ["Sec-Fetch-Site"] = "same-site" },
      } do
        assert.equal(403, http.get(broker().admin, path, headers).status)
      end
      assert.equal(200, http.get(broker().admin, path, { ["Sec-Fetch-Site"] = "none" }).status)
      assert.equal(200, http.get(broker().admin, path).status)
    end
  end)
end)

describe("http.cross_site_publish", function()
  it("lets the policy alone judge", function()
    local b = tidegate.start { policy = POLICY, config = { http = { cross_site_publish = true } } }
    assert.equal(201, publish(b, { Origin = "https://evil.example", ["Sec-Fetch-Site"] = "cross-site" }).status)
    assert.equal(401, publish(b, { Origin = "https://evil.example", Cookie = "key=other" }).status)
  end)
end)
