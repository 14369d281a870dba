-- Around HTTPS: listeners that send clients there, Strict-Transport-Security, the challenges of an ACME client.
local http = require "support.http"
local sse = require "support.sse"
local tidegate = require "support.tidegate"
local tls = require "support.tls"

describe("a setting that does nothing as things are", function()
  -- What `tidegate check` warns of, and what `serve` does.
  local function warnings(config)
    config.listen = config.listen or { "127.0.0.1:0" }
    local broker = tidegate.prepare { config = config }
    tidegate.forget_later(broker)
    local _, _, err = tidegate.run(tidegate.binary(), { args = { "check", broker.conf_path, "--no-luacheck",
      "--no-samples" } })
    local checked, served = {}, {}
    for key in err:gmatch "warning: ([%w_.%[%]]+): " do
      checked[#checked + 1] = key
    end
    broker:start()
    for _, line in ipairs(broker:log_lines()) do
      if line.sub == "config" then
        assert.equal("warn", line.level)
        served[#served + 1] = line.setting
      end
    end
    broker:stop()
    return checked, served
  end

  local www = { acme_webroot = "/" }
  for _, case in ipairs {
    { "http.hsts_s", { http = { hsts_s = 60 } } },
    { "http.https_port", { http = { https_port = 8443 } } },
    { "listen[1].redirect_https", { listen = { { address = "127.0.0.1:0", redirect_https = true } } } },
    { "listen[1].proxy_protocol", { listen = { { address = "127.0.0.1:0", proxy_protocol = true } } } },
    { "listen[1].proxy_protocol",
      { listen = { { address = "unix:@DIR/s", proxy_protocol = true } }, trusted_proxies = { "127.0.0.1" } } },
    { "trusted_proxies", { trusted_proxies = { "unix" } } },
    { "http.cors_credentials", { http = { cors_credentials = true } } },
    { "sse.on_lag", { sse = { on_lag = "skip" } } },
  } do
    it("is told by check and serve: " .. case[1], function()
      local checked, served = warnings(case[2])
      assert.same({ case[1] }, checked)
      assert.same({ case[1] }, served)
    end)
  end

  it("is told by check alone where something else may make it right", function()
    local checked, served = warnings { http = www }
    assert.same({ "http.acme_webroot" }, checked)
    assert.same({}, served)
  end)

  it("is not told of settings that do something", function()
    local ca = tls.authority()
    finally(function() ca:remove() end)
    local listener = tls.listener { ca:issue { names = { "a.example" } } }
    local checked, served = warnings {
      listen = { listener, { address = "127.0.0.1:0", redirect_https = true },
        { address = "unix:@DIR/s", proxy_protocol = true } },
      trusted_proxies = { "127.0.0.1", "unix" },
      http = { hsts_s = 60, https_port = 8443, acme_webroot = "/", cors_credentials = true,
        cors_origins = { "https://a.example" } },
      sse = { on_lag = "skip", max_lag_events = 1000 },
      workers = 2,
    }
    assert.same({}, checked)
    assert.same({}, served)
  end)
end)

describe("a broker on the internet", function()
  local ca, broker, redirecting, plain

  setup(function()
    ca = tls.authority()
    broker = tidegate.start {
      keep = true,
      config = {
        listen = {
          tls.listener { ca:issue { names = { "a.example" } } },
          { address = "127.0.0.1:0", redirect_https = true },
          "127.0.0.1:0",
        },
        trusted_proxies = { "127.0.0.7" },
        http = {
          hosts = { "a.example", "b.example" },
          acme_webroot = "www", hsts_s = 600, https_port = 8443, cors_origins = { "https://app.example" },
        },
      },
    }
    broker.tls = { ca = ca.cert, name = "a.example" }
    redirecting, plain = broker.addresses[2], broker.addresses[3]
  end)
  teardown(function()
    broker:dispose()
    ca:remove()
  end)

  it("sends who comes without TLS to https, whatever the request is", function()
    local function location(method, target, headers, body)
      headers = headers or {}
      headers.Host = headers.Host or "a.example"
      local r = http.request(redirecting, method, target, headers, body)
      assert.equal(308, r.status, target)
      assert.equal("", r.body)
      return r.headers.location, r
    end
    assert.equal("https://a.example:8443/events?topic=a%2Fb&x=1", (location("GET", "/events?topic=a%2Fb&x=1")))
    assert.equal("https://a.example:8443/", (location("GET", "/", { Host = "a.example:80" })))
    assert.equal("https://[::1]:8443/", (location("HEAD", "/", { Host = "[::1]:8080" })))
    assert.equal("https://a.example:8443/nowhere?", (location("DELETE", "/nowhere?")))
    assert.equal("https://b.example:8443/x", (location("GET", "http://b.example/x", { Host = "b.example" })))
    local where, r = location("POST", "/events?topic=t", { Origin = "https://app.example" }, ("x"):rep(100000))
    assert.equal("https://a.example:8443/events?topic=t", where)
    assert.equal("https://app.example", r.headers["access-control-allow-origin"])
    assert.equal(1, broker:metric 'tidegate_https_redirects_total{what="publishes"}')
    assert.equal(5, broker:metric 'tidegate_https_redirects_total{what="others"}')
    local line = broker:logged { msg = "sent a publish to https: its credentials and its data have come in clear; "
      .. "give the publisher the https address" }
    assert.equal("a.example", line.host)
    assert.equal(400, http.request(redirecting, "OPTIONS", "*", { Host = "a.example" }).status)
    local c = http.connect(redirecting)
    c:send "GET / HTTP/1.0\r\n\r\n"
    assert.equal(400, c:response().status)
  end)

  it("does not send away who came by TLS to a proxy that is trusted", function()
    local function status(from, proto)
      return http.get(redirecting, "/", { { "X-Forwarded-Proto", proto } }, { from = from }).status
    end
    assert.equal(200, status("127.0.0.7", "https"))
    assert.equal(200, status("127.0.0.7", "http, HTTPS"))
    assert.equal(308, status("127.0.0.7", "https, http"))
    assert.equal(308, status("127.0.0.1", "https"))
  end)

  it("says that browsers shall keep to https, and only by TLS", function()
    assert.equal("max-age=600", http.get(broker, "/").headers["strict-transport-security"])
    assert.equal("max-age=600", http.get(broker, "/nowhere").headers["strict-transport-security"])
    assert.equal("max-age=600", sse.open(broker, { topic = "t" }).headers["strict-transport-security"])
    assert.is_nil(http.get(plain, "/").headers["strict-transport-security"])
    assert.is_nil(http.get(redirecting, "/").headers["strict-transport-security"])
  end)

  it("shows an ACME server what the webroot holds, and nothing else", function()
    local at = broker.dir .. "/www/.well-known/acme-challenge"
    local target = "/.well-known/acme-challenge/"
    local function status(name)
      return http.get(redirecting, target .. name).status
    end
    assert.equal(404, status "token") -- there is no webroot yet
    tls.run("mkdir -p " .. at)
    local function write(path, text)
      local f = assert(io.open(path, "wb"))
      f:write(text)
      f:close()
    end
    write(at .. "/to-ken_1", "to-ken_1.digest")
    for _, listener in ipairs { redirecting, plain, broker } do
      local r = http.get(listener, target .. "to-ken_1")
      assert.equal(200, r.status)
      assert.equal("to-ken_1.digest", r.body)
    end
    assert.equal("15", http.request(plain, "HEAD", target .. "to-ken_1").headers["content-length"])
    assert.equal(405, http.post(plain, target .. "to-ken_1", "x").status)

    write(broker.dir .. "/www/secret", "s")
    write(at .. "/with.dot", "s")
    write(at .. "/huge", ("s"):rep(5000))
    tls.run(("ln -s ../../secret %s/link; mkdir %s/folder; mkfifo %s/pipe"):format(at, at, at))
    for _, name in ipairs { "", "missing", "with.dot", "../../secret", "..%2F..%2Fsecret", "link", "folder", "folder/",
      "pipe", "huge", "to-ken_1/", "to-ken%5F1", ("x"):rep(200) } do
      assert.equal(404, status(name), name)
    end
    tls.run(("mv %s %s/elsewhere; ln -s %s/elsewhere %s"):format(at, broker.dir, broker.dir, at))
    assert.equal(404, status "to-ken_1")
  end)
end)
