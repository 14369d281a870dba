-- The PROXY protocol: who the client is, what is refused, and what listeners say that do not expect it.
local eventually = require "support.eventually"
local http = require "support.http"
local sockets = require "support.sockets"
local tidegate = require "support.tidegate"
local tls = require "support.tls"

local SIGNATURE = "\r\n\r\n\0\r\nQUIT\n"

-- A header of version 2.
local function v2(command, family, body)
  return SIGNATURE .. string.char(0x20 | command, family) .. (">s2"):pack(body)
end

local V4 = string.char(198, 51, 100, 7, 192, 0, 2, 1) .. (">I2I2"):pack(1234, 443)
local V6 = ("\x20\x01\x0d\xb8" .. ("\0"):rep(11) .. "\7"):rep(2) .. (">I2I2"):pack(1234, 443)

describe("a listener with proxy_protocol", function()
  local ca, broker, plain, secure, ordinary

  setup(function()
    ca = tls.authority()
    local cert = ca:issue { names = { "a.example" } }
    broker = tidegate.start {
      keep = true,
      config = {
        listen = {
          { address = "127.0.0.1:0", proxy_protocol = true },
          tls.listener({ cert }, { proxy_protocol = true }),
          tls.listener { cert },
          "127.0.0.1:0",
          { address = "127.0.0.1:0", proxy_protocol = true, redirect_https = true },
        },
        trusted_proxies = { "127.0.0.1" },
        limits = { max_connections_per_address = 3 },
      },
      policy = [[return { api = 1, authenticate = function(r) return { ip = r.ip } end,
        subscribe = function() return { topics = { "t" } } end,
        publish = function(pub, who) return tg.deny(403, who.ip) end }]],
    }
    plain, secure, ordinary = broker.addresses[1], broker.addresses[2], broker.addresses[4]
  end)
  teardown(function()
    broker:dispose()
    ca:remove()
  end)

  local function refused()
    return broker:metric "tidegate_proxy_protocol_refused_total"
  end

  -- The address that the policy sees.
  local function ip(header, options)
    options = options or {}
    local c = assert(http.connect(plain, { from = options.from }))
    local request = http.render("POST", "/events?topic=t", options.headers, "x")
    if options.slowly then
      assert(c:send_slowly(header .. request:sub(1, 20)))
      assert(c:send(request:sub(21)))
    else
      assert(c:send(header .. request))
    end
    local r = assert(c:response())
    c:close()
    return r.json.detail or r.body, r.status
  end

  it("takes the client's address from either version, in whatever pieces it comes", function()
    for _, slowly in ipairs { false, true } do
      local how = { slowly = slowly }
      assert.equal("198.51.100.7", (ip("PROXY TCP4 198.51.100.7 192.0.2.1 1234 443\r\n", how)))
      assert.equal("2001:db8::7", (ip("PROXY TCP6 2001:db8::7 2001:db8::1 1 65535\r\n", how)))
      assert.equal("127.0.0.1", (ip("PROXY UNKNOWN\r\n", how)))
      assert.equal("127.0.0.1", (ip("PROXY UNKNOWN ffff::1 ffff::2 1 2 and more\r\n", how)))
      assert.equal("198.51.100.7", (ip(v2(1, 0x11, V4), how)))
      assert.equal("198.51.100.7", (ip(v2(1, 0x11, V4 .. "\4\0\2ab" .. "\5\0\0"), how)))
      assert.equal("2001:db8::7", (ip(v2(1, 0x21, V6), how)))
      assert.equal("127.0.0.1", (ip(v2(0, 0x00, ""), how)))
      assert.equal("127.0.0.1", (ip(v2(0, 0x11, V4), how))) -- LOCAL: what it says is not meant
      assert.equal("127.0.0.1", (ip(v2(1, 0x00, "xyz"), how)))
      assert.equal("127.0.0.1", (ip(v2(1, 0x31, ("\0"):rep(216)), how)))
    end
  end)

  it("believes no further claim of a client that is not a proxy", function()
    local headers = { ["X-Forwarded-For"] = "203.0.113.9" }
    assert.equal("198.51.100.7", (ip("PROXY TCP4 198.51.100.7 192.0.2.1 1 2\r\n", { headers = headers })))
    -- one that is: this listener is behind a proxy for TCP, and that is behind one for HTTP
    assert.equal("203.0.113.9", (ip("PROXY TCP4 127.0.0.1 192.0.2.1 1 2\r\n", { headers = headers })))
  end)

  -- HAProxy sends LOCAL for clients of a Unix socket as well as for its own checks, and UNKNOWN for both.
  it("believes no claim behind a header that names nobody, whoever the proxy is", function()
    local headers = { ["X-Forwarded-For"] = "203.0.113.9", ["X-Forwarded-Proto"] = "https" }
    for _, header in ipairs { "PROXY UNKNOWN\r\n", v2(0, 0x00, ""), v2(0, 0x11, V4), v2(1, 0x00, ""),
      v2(1, 0x31, ("\0"):rep(216)) } do
      assert.equal("127.0.0.1", (ip(header, { headers = headers })), header)
      local c = http.connect(broker.addresses[5]) -- redirect_https
      assert(c:send(header .. http.render("GET", "/", headers)))
      assert.equal(308, c:response().status)
      c:close()
    end
  end)

  it("is what TLS is spoken behind", function()
    local s = assert(sockets.connect(secure))
    assert(sockets.send(s, v2(1, 0x11, V4)))
    local t = assert(tls.wrap(s, { ca = ca.cert, name = "a.example" }))
    assert(t:send(http.render("POST", "/events?topic=t", {}, "x")))
    local text = ""
    eventually("there is an answer", function()
      local data, _, part = t:receive(65536)
      text = text .. (data or part)
      return text:find("198.51.100.7", 1, true)
    end)
  end)

  it("refuses what is malformed, and says why", function()
    local before, answers = refused(), broker:metric 'tidegate_http_answers_total{class="4xx"}'
    local bad = {
      "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
      "PROXY TCP5 1.1.1.1 2.2.2.2 1 2\r\n",
      "PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n",
      "PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n",
      "PROXY TCP4  1.1.1.1 2.2.2.2 1 2\r\n",
      "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n",
      "PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n",
      "PROXY TCP4 1.1.1.1 2.2.2.2 1 65536\r\n",
      "PROXY TCP4 1.1.1 2.2.2.2 1 2\r\n",
      "PROXY TCP4 ::1 ::1 1 2\r\n",
      "PROXY TCP6 1.1.1.1 2.2.2.2 1 2\r\n",
      "PROXY TCP4\r\n",
      "PROXY UNKNOWN " .. ("x"):rep(100) .. "\r\n",
      v2(2, 0x11, V4), v2(1, 0x12, V4), v2(1, 0x11, V4:sub(1, 11)), v2(1, 0x21, V6:sub(1, 35)),
      v2(1, 0x11, V4 .. "\4\0\3ab"), v2(1, 0x11, V4 .. "x"), v2(1, 0x21, ("\0"):rep(36)),
      SIGNATURE .. "\x11\x11\0\x0c" .. V4,
      SIGNATURE .. "\x21\x11\xff\xff",
    }
    for i, bytes in ipairs(bad) do
      local c = http.connect(plain)
      assert(c:send(bytes))
      local r = assert(c:response(), bytes)
      assert.equal(400, r.status, bytes)
      assert.truthy(r.json.detail:find("PROXY", 1, true), r.body)
      assert.is_true(c:closed())
      assert.equal(before + i, refused())
    end
    assert.equal(answers + #bad, broker:metric 'tidegate_http_answers_total{class="4xx"}')
    local c = http.connect(secure) -- TLS comes next: there is no way to say why
    assert(c:send "\22\3\1\0\5hello")
    assert.is_true(c:closed())
    assert.equal(before + #bad + 1, refused())
    assert.truthy(broker:logged { msg = "refused a connection on a listener with proxy_protocol" })
  end)

  it("is for the proxies that are trusted", function()
    local before = refused()
    local detail, status = ip("PROXY TCP4 198.51.100.7 192.0.2.1 1 2\r\n", { from = "127.0.0.9" })
    assert.equal(400, status)
    assert.equal("this listener is for the proxies in trusted_proxies", detail)
    assert.equal(before + 1, refused())
  end)

  it("counts those who are not trusted before they say anything", function()
    local held = {}
    for i = 1, 3 do
      held[i] = assert(http.connect(plain, { from = "127.0.0.9" }))
    end
    local one_more = assert(http.connect(plain, { from = "127.0.0.9" }))
    assert.is_true(one_more:closed())
    for _, c in ipairs(held) do
      c:close()
    end
    eventually("their places are free again", function()
      return select(2, pcall(ip, "PROXY UNKNOWN\r\n", { from = "127.0.0.9" })):find "trusted_proxies"
    end)
  end)

  it("counts clients, not the proxy, against max_connections_per_address", function()
    local open = {}
    for i = 1, 8 do -- of two addresses, and of the proxy itself
      open[i] = http.connect(plain)
      assert(open[i]:send(("PROXY TCP4 198.51.100.%d 192.0.2.1 1 2\r\n"):format(50 + i % 4)))
      local r = open[i]:request("POST", "/events?topic=t", {}, "x")
      assert.equal(403, r.status)
    end
    for i = 9, 12 do
      open[i] = http.connect(plain)
      assert(open[i]:send(("PROXY TCP4 198.51.100.%d 192.0.2.1 1 2\r\n"):format(50 + i % 4)))
      assert.equal(403, open[i]:request("POST", "/events?topic=t", {}, "x").status)
    end
    local one_more = http.connect(plain)
    assert(one_more:send "PROXY TCP4 198.51.100.50 192.0.2.1 1 2\r\n")
    assert.equal(429, one_more:response().status)
    for _, c in ipairs(open) do
      c:close()
    end
    eventually("their places are free again", function()
      return select(2, ip "PROXY TCP4 198.51.100.50 192.0.2.1 1 2\r\n") == 403
    end)
  end)

  it("is told apart by those who do not expect it", function()
    local function detail(address, bytes)
      local c = http.connect(address)
      assert(c:send(bytes))
      local r = c:response()
      c:close()
      return r and r.status == 400 and r.json.detail
    end
    local expected = "this listener does not expect the PROXY protocol: set proxy_protocol = true for it"
    assert.equal(expected, detail(ordinary, "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\nGET / HTTP/1.1\r\n\r\n"))
    assert.equal(expected, detail(ordinary, v2(1, 0x11, V4)))
    assert.truthy(detail(ordinary, "\22\3\1\2\0\1\0\1\252\3\3"):find("HTTP without TLS", 1, true))
    -- each kind has a line of its own: where it came, and from whom
    local at = ("127.0.0.1:%d"):format(ordinary.port)
    for _, kind in ipairs { "proxy", "tls" } do
      local line = broker:logged { msg = "refused what is not HTTP", kind = kind }
      assert.equal(at, line.address)
      assert.equal("127.0.0.1", line.peer)
    end
    assert.equal(2, broker:metric 'tidegate_http_foreign_total{kind="proxy"}')
    assert.equal(1, broker:metric 'tidegate_http_foreign_total{kind="tls"}')
    local c = http.connect(broker.addresses[3])
    assert(c:send "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n")
    assert.is_true(c:closed())
    assert.truthy(broker:log():find("set proxy_protocol = true", 1, true))
  end)
end)
