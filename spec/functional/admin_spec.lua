-- The admin listener: health, metrics, and what an operator can do.
local eventually = require "support.eventually"
local http = require "support.http"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

describe("the admin listener", function()
  local broker = tidegate.shared()

  it("says that it is alive and ready", function()
    assert.equal(200, http.get(broker().admin, "/healthz").status)
    assert.equal(200, http.get(broker().admin, "/readyz").status)
    local c = http.connect(broker().admin)
    c:send(http.render("HEAD", "/healthz", { Connection = "close" }))
    assert.equal(200, c:response { head = true }.status)
  end)

  -- Any local user could silence it: an orchestrator would have killed the broker.
  for _, workers in ipairs { 1, 2 } do
    it(("answers, however many connections are held open, with workers = %d"):format(workers), function()
      local own = tidegate.start { config = { workers = workers } }
      local list, half = {}, { "", "GET /healthz HTTP/1.1\r\nHost: localhost\r\n",
        http.render("POST", "/connections/1/explain", { ["Content-Length"] = "100" }) .. "{" }
      for i = 1, 150 do
        list[i] = http.connect(own.admin)
        list[i]:send(half[i % #half + 1])
      end
      assert.equal(200, http.get(own.admin, "/healthz").status)
      assert.equal(200, http.get(own.admin, "/readyz").status)
      assert.is_true(own:metric "tidegate_admin_gave_way_total" >= 150 - 64)
      local said = 0
      for _, line in ipairs(own:log_lines()) do
        if line.msg:find("closed the oldest connection whose client asked nothing", 1, true) then
          said = said + 1
          assert.equal("admin", line.server)
        end
      end
      assert.is_true(said >= 1 and said < 86, said)
      for _, c in ipairs(list) do c:close() end
    end)
  end

  it("is not the public one", function()
    for _, path in ipairs { "/healthz", "/readyz", "/metrics", "/status", "/connections" } do
      assert.equal(404, http.get(broker(), path).status, path)
    end
    assert.equal(404, http.get(broker().admin, "/events?topic=a").status)
    assert.equal(404, http.post(broker(), "/drain").status)
  end)

  it("answers unknown paths and methods as problems", function()
    local r = http.get(broker().admin, "/nothing")
    assert.equal(404, r.status)
    assert.equal("application/problem+json", r.headers["content-type"])
    r = http.request(broker().admin, "POST", "/metrics", nil, "")
    assert.equal(405, r.status)
    assert.matches("GET", r.headers.allow)
    r = http.get(broker().admin, "/drain")
    assert.equal(405, r.status)
    assert.matches("POST", r.headers.allow)
  end)

  it("describes the process", function()
    broker():publish("a", "x")
    local r = http.get(broker().admin, "/status")
    assert.equal(200, r.status)
    assert.equal(broker().pid, r.json.pid)
    assert.is_string(r.json.version)
    assert.is_false(r.json.draining)
    assert.is_true(r.json.store.ok)
    assert.is_true(r.json.policy.loaded)
    assert.matches("^%d+$", r.json.head_id)
  end)

  it("lists the streams, and closes one", function()
    local a = sse.open(broker(), { topic = { "x/b", "x/a" } })
    local b = sse.open(broker(), { topic = "y/**" })
    broker():publish("x/a", "1")
    a:next()
    local r = http.get(broker().admin, "/connections")
    assert.equal(200, r.status)
    assert.equal(2, r.json.total)
    local target
    for _, c in ipairs(r.json.connections) do
      assert.equal("127.0.0.1", c.client)
      assert.matches("^%d+$", c.cursor)
      assert.equal(0, c.lag)
      if c.topics[1] == "x/a" then
        target = c
        assert.same({ "x/a", "x/b" }, c.topics)
        assert.equal(1, c.delivered)
      end
    end
    r = http.request(broker().admin, "DELETE", "/connections/" .. target.id)
    assert.equal(204, r.status)
    a:wait_end()
    assert.is_true(a.whole)
    broker():publish("y/z", "2")
    assert.equal("2", b:next().data)
    assert.equal(404, http.request(broker().admin, "DELETE", "/connections/" .. target.id).status)
    for _, bad in ipairs { "", "0", "x", "-1", "99999999999999999999999" } do
      assert.equal(404, http.request(broker().admin, "DELETE", "/connections/" .. bad).status, bad)
    end
    assert.equal(1, broker():metric 'tidegate_connections_closed_total{reason="admin"}')
  end)

  it("refuses requests of web pages", function()
    local r = http.request(broker().admin, "POST", "/drain", { Origin = "https://evil.example" }, "")
    assert.equal(403, r.status)
    assert.equal(200, http.get(broker().admin, "/readyz").status)
  end)

  it("drains", function()
    local b = tidegate.start()
    local c = sse.open(b, { topic = "a" })
    local r = http.post(b.admin, "/drain")
    assert.equal(202, r.status)
    c:wait_end()
    assert.is_number(c.retry_ms)
    assert.equal(0, (b:wait_exit()))
  end)

  it("may be a Unix socket, or absent", function()
    local b = tidegate.start { config = { admin = "unix:@DIR/admin" } }
    assert.equal(200, http.get(b.admin, "/readyz").status)
    local bare = tidegate.start { config = { admin = false } }
    assert.equal(201, http.post(bare, "/events?topic=a", "x").status)
    assert.is_nil(bare.admin)
  end)
end)

describe("metrics", function()
  local broker = tidegate.shared()

  it("are well formed: HELP and TYPE once each, units in the names, all series told", function()
    local c = sse.open(broker(), { topic = "a" })
    broker():publish("a", "x")
    c:next()
    local r = http.get(broker().admin, "/metrics")
    assert.equal(200, r.status)
    assert.matches("^text/plain; version=0%.0%.4", r.headers["content-type"])
    local help, kind, seen = {}, {}, {}
    for line in r.body:gmatch "[^\n]+" do
      local name, rest = line:match "^# HELP (%S+) (.+)$"
      if name then
        assert.is_nil(help[name], "HELP twice: " .. name)
        help[name] = rest
      elseif line:find "^# TYPE" then
        name, rest = line:match "^# TYPE (%S+) (%a+)$"
        assert.is_nil(kind[name], "TYPE twice: " .. name)
        kind[name] = rest
      elseif not line:find "^# RULE %S+ m[ai][xn]$" then -- how the values of several workers become one
        name = line:match "^([%a_:][%w_:]*)" or error("malformed: " .. line)
        assert.is_number(tonumber(line:match " (%S+)$"), line)
        local base = name:gsub("_bucket$", ""):gsub("_sum$", ""):gsub("_count$", "")
        base = kind[base] == "histogram" and base or name
        assert.is_string(help[base], "no HELP: " .. name)
        assert.is_string(kind[base], "no TYPE: " .. name)
        if kind[base] == "counter" then
          assert.matches("_total$", name)
        end
        local series = line:match "^(.-) %S+$"
        assert.is_nil(seen[series], "twice: " .. series)
        seen[series] = true
      end
    end
    for _, name in ipairs { "tidegate_connections", "tidegate_subscribers", "tidegate_audiences",
      "tidegate_events_published_total", "tidegate_events_delivered_total", "tidegate_sent_bytes_total",
      "tidegate_head_id", 'tidegate_policy_errors_total{hook="filter"}', "tidegate_store_append_seconds_count",
      'tidegate_connections_closed_total{reason="client-closed"}' } do
      assert.is_true(seen[name], "missing: " .. name)
    end
  end)

  it("count", function()
    local b = broker()
    local published, delivered = b:metric "tidegate_events_published_total", b:metric "tidegate_events_delivered_total"
    local duplicates = b:metric "tidegate_publish_duplicates_total"
    local c = sse.open(b, { topic = "counted" })
    for i = 1, 10 do
      b:publish("counted", "x", { key = "count-" .. i % 5 })
    end
    c:collect(5)
    assert.equal(published + 5, b:metric "tidegate_events_published_total")
    assert.equal(duplicates + 5, b:metric "tidegate_publish_duplicates_total")
    assert.equal(delivered + 5, b:metric "tidegate_events_delivered_total")
    local gone = b:metric 'tidegate_connections_closed_total{reason="client-closed"}'
    c:close()
    eventually("the close is counted", function()
      return b:metric 'tidegate_connections_closed_total{reason="client-closed"}' > gone
    end)
  end)
end)
