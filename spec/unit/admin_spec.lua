local admin = require "native.admin"
local json = require "dkjson"
local prometheus = require "support.prometheus"

local FINE = { store = "ok", policy = "/etc/tidegate/policy.lua", version = "v7" }

local function ask(method, target, now, fields)
  local r, drains = admin.request(("%s %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n"):format(method, target, fields or ""),
    now or FINE)
  if type(r) == "table" and r.type and r.type:find "json" then
    r.json = assert(json.decode(r.body, 1, json.null))
  end
  return r, drains
end

describe("the admin service", function()
  it("is alive whatever else is wrong", function()
    assert.equal(200, ask("GET", "/healthz", { draining = true }).status)
  end)

  it("is ready only with a healthy store and a policy, and not while draining", function()
    assert.equal(200, ask("GET", "/readyz").status)
    local cases = {
      { { store = "ok", policy = "p", draining = true }, "draining" },
      { { store = "ok" }, "no policy is loaded" },
      { { policy = "p" }, "the store is not open yet" },
      { { policy = "p", store = "disk full" }, "the store is not healthy: disk full" },
    }
    for _, case in ipairs(cases) do
      local r = ask("GET", "/readyz", case[1])
      assert.equal(503, r.status)
      assert.equal("application/problem+json", r.type)
      assert.equal(case[2], r.json.detail)
    end
    local all = ask("GET", "/readyz", { draining = true })
    assert.equal("draining; no policy is loaded; the store is not open yet", all.json.detail)
  end)

  it("is ready also when something is wrong that does not keep it from serving, and says what", function()
    local r = ask("GET", "/readyz", { store = "ok", policy = "p", degraded = "retention fails" })
    assert.equal(200, r.status)
    assert.equal("ready\ndegraded: the store: retention fails\n", r.body)
    assert.equal("ready\n", ask("GET", "/readyz").body)
  end)

  it("gives a metrics page that Prometheus can read", function()
    local r = ask("GET", "/metrics")
    assert.equal("text/plain; version=0.0.4; charset=utf-8", r.type)
    local page = prometheus.parse(r.body)
    assert.equal(5, page.values.tidegate_connections)
    assert.equal(1, page.values.tidegate_ready)
    assert.equal(1, page.values.tidegate_store_healthy)
    assert.equal("v7", page.families.tidegate_policy_info.samples[1].labels.version)
    page = prometheus.parse(ask("GET", "/metrics", { draining = true, store = "broken" }).body)
    assert.equal(0, page.values.tidegate_ready)
    assert.equal(1, page.values.tidegate_draining)
    assert.equal(0, page.values.tidegate_store_healthy)
  end)

  it("gives its status", function()
    local r = ask("GET", "/status")
    assert.equal("application/json", r.type)
    local s = r.json
    assert.truthy(s.version:find "^%d+%.%d+%.%d+")
    assert.is_true(s.pid > 0)
    assert.truthy(s.started:find "^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%dZ$")
    assert.is_true(s.uptime_s >= 2.5 and s.uptime_s < 60)
    assert.truthy(r.body:find '"uptime_s": %d+%.%d%d?%d?,', r.body) -- milliseconds, not 2.5009999999999999
    assert.is_false(s.draining)
    assert.equal(5, s.connections)
    assert.equal("9007199254740991", s.head_id) -- a string: exact in every language
    assert.same({ events = 0, bytes = 0 }, s.log)
    assert.same({ ok = true, detail = "ok", events = 3, bytes = 0 }, s.store)
    assert.same({ loaded = true, file = FINE.policy, version = "v7", label = json.null, settings = {}, sets = {} },
      s.policy)
    assert.same({ true, json.null }, { s.ready, s.not_ready })
    assert.equal(1, #s.workers) -- as with several workers
    assert.same({ 1, true, s.pid, 0, 5 },
      { s.workers[1].worker, s.workers[1].answers, s.workers[1].pid, s.workers[1].restarts, s.workers[1].connections })
    assert.same({ state = "none", count = 0 }, s.restart)
    assert.same({ false, "worker 1: no policy is loaded; the store is not open yet" },
      (function(t) return { t.ready, t.not_ready } end)(ask("GET", "/status", {}).json))
    s = ask("GET", "/status", {}).json
    assert.same({ loaded = false, file = json.null, version = json.null, label = json.null, settings = {}, sets = {} },
      s.policy)
    assert.is_false(s.store.ok)
  end)

  it("lists streams, and takes only a sensible limit", function()
    local r = ask("GET", "/connections")
    assert.same({ total = 0, matched = 0, truncated = false, connections = {} }, r.json)
    for _, target in ipairs { "?limit=1", "?limit=10000" } do
      assert.equal(200, ask("GET", "/connections" .. target).status, target)
    end
    for _, target in ipairs { "?limit=0", "?limit=10001", "?limit=", "?limit=-1", "?limit=1e3", "?limit=0x10",
      "?limit=99999999999999999999", "?limit=%zz" } do
      assert.equal(400, ask("GET", "/connections" .. target).status, target)
    end
  end)

  it("says that a stream is not there", function()
    for _, id in ipairs { "1", "0", "x", "-1", "18446744073709551616", "1/2", "2-1", "1-1-1", "0-1" } do
      assert.equal(404, ask("DELETE", "/connections/" .. id).status, id)
    end
  end)

  it("drains once it has answered", function()
    local r, drains = ask("POST", "/drain")
    assert.equal(202, r.status)
    assert.is_true(r.json.draining)
    assert.equal(1, drains)
  end)

  it("answers HEAD where it answers GET", function()
    for _, path in ipairs { "/healthz", "/readyz", "/metrics", "/status", "/connections" } do
      assert.equal(200, ask("HEAD", path).status, path)
    end
  end)

  it("names the methods of a path", function()
    for target, allow in pairs {
      ["/drain"] = "POST", ["/connections/1"] = "DELETE", ["/connections/1/explain"] = "GET, HEAD, POST",
      ["/policy/reload"] = "POST", ["/status"] = "GET, HEAD",
    } do
      local r, drains = ask("OPTIONS", target)
      assert.equal(405, r.status)
      assert.equal(0, drains)
      assert.truthy(r.fields:find("Allow: " .. allow .. "\r\n", 1, true), r.fields)
    end
    assert.equal(405, ask("GET", "/drain").status)
    assert.equal(405, ask("HEAD", "/drain").status)
    assert.equal(405, ask("POST", "/status").status)
  end)

  it("knows no other paths", function()
    for _, target in ipairs { "/", "/connections/", "/healthz/", "/statusx", "/metric", "//status", "/Status" } do
      local r = ask("GET", target)
      assert.equal(404, r.status, target)
      assert.truthy(r.json.detail:find("/readyz", 1, true))
    end
  end)

  it("refuses requests of a web page", function()
    local r, drains = ask("POST", "/drain", FINE, "Origin: https://evil.example\r\n")
    assert.equal(403, r.status)
    assert.equal(0, drains)
    assert.equal(403, ask("DELETE", "/connections/1", FINE, "Origin: null\r\n").status)
    assert.equal(403, ask("GET", "/status", FINE, "Origin: https://evil.example\r\n").status)
    assert.equal(200, ask("GET", "/status", FINE).status)
  end)

  it("keeps its answers out of caches", function()
    for _, target in ipairs { "/healthz", "/readyz", "/metrics", "/status", "/connections", "/nothing" } do
      assert.truthy(ask("GET", target).fields:find("Cache-Control: no-store\r\n", 1, true), target)
    end
  end)
end)
