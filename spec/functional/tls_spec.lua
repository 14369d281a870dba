-- HTTPS listeners: streams, publishing, names, protocols, what goes wrong in a handshake.
local eventually = require "support.eventually"
local http = require "support.http"
local native = require "native.tls"
local socket = require "socket"
local sockets = require "support.sockets"
local sse = require "support.sse"
local tidegate = require "support.tidegate"
local tls = require "support.tls"

for _, compact in ipairs { true, false } do
describe("a listener with tls, tls.compact = " .. tostring(compact), function()
  local ca, first, wild, rsa, broker

  local function failures(reason)
    return broker:metric(('tidegate_tls_handshake_failures_total{reason="%s"}'):format(reason))
  end

  local function start(more, options)
    options = options or {}
    options.config = options.config or {}
    options.config.listen = { tls.listener({ first, wild, rsa }, more), "127.0.0.1:0" }
    options.config.tls = { compact = compact }
    local b = tidegate.start(options)
    b.tls = { ca = ca.cert, name = "a.example" }
    b.plain = b.addresses[2]
    return b
  end

  setup(function()
    ca = tls.authority()
    first = ca:issue { names = { "a.example" } }
    wild = ca:issue { names = { "*.b.example" } }
    rsa = ca:issue { names = { "rsa.example" }, key = "rsa" }
    broker = start(nil, { keep = true, config = { limits = { send_buffer_bytes = 16384 } } })
  end)
  teardown(function()
    broker:dispose()
    ca:remove()
  end)

  it("serves streams and publishes, resumes, and ends a stream so that it differs from a cut", function()
    local own = start()
    local c = sse.open(own, { topic = "t" })
    for i = 1, 5 do
      own:publish("t", "event " .. i)
    end
    for i, ev in ipairs(c:collect(5)) do
      assert.equal("event " .. i, ev.data)
    end
    c:close()
    own:publish("t", "meanwhile")
    local again = sse.open(own, { topic = "t", last_event_id = c.last_id })
    assert.equal("meanwhile", again:next().data)
    own:signal "TERM"
    assert.equal("closed", again:wait_end()) -- close_notify; a cut would be "cut"
    own:wait_exit()
  end)

  it("carries large answers and large bodies", function()
    local data = ("x"):rep(700 * 1024)
    local c = sse.open(broker, { topic = "t" })
    broker:publish("t", data)
    broker:publish("t", "small")
    assert.equal(data, c:next().data)
    assert.equal("small", c:next().data)
  end)

  it("blocks a client that does not read, and goes on when it does", function()
    local blocked = broker:metric "tidegate_writes_blocked_total"
    local c = sse.open(broker, { topic = "t", rcvbuf = 8192 })
    local data = ("y"):rep(20000)
    for i = 1, 40 do
      broker:publish("t", data .. i)
    end
    eventually("a write was not taken in full", function()
      return broker:metric "tidegate_writes_blocked_total" > blocked
    end)
    for i, ev in ipairs(c:collect(40)) do
      assert.equal(data .. i, ev.data)
    end
  end)

  it("chooses the certificate by name: exactly, by wildcard, else the first", function()
    for name, cert in pairs { ["a.example"] = first, ["x.b.example"] = wild, ["rsa.example"] = rsa,
      ["RSA.Example"] = rsa } do
      local s = assert(sockets.connect(broker, { tls = { ca = ca.cert, name = name } }))
      assert.equal(cert.serial, s:info().serial, name)
    end
    for _, name in ipairs { "b.example", "x.y.b.example", "else.example" } do
      local s, why = sockets.connect(broker, { tls = { ca = ca.cert, name = name } })
      assert.is_nil(s)
      assert.equal("hostname mismatch", why)
    end
    local s = assert(sockets.connect(broker, { tls = { ca = ca.cert } }))
    assert.equal(first.serial, s:info().serial)
  end)

  it("speaks TLS 1.3 and 1.2 and nothing older, and http/1.1 by ALPN", function()
    local function info(more)
      local options = { ca = ca.cert, name = "a.example" }
      for k, v in pairs(more) do
        options[k] = v
      end
      local s, why = sockets.connect(broker, { tls = options })
      return s and s:info(), why
    end
    assert.equal("TLSv1.3", info({}).version)
    assert.equal("TLSv1.2", info({ max = "1.2" }).version)
    assert.equal("http/1.1", info({ alpn = { "foo", "http/1.1" } }).alpn)
    local none, why = info { alpn = { "foo" } }
    assert.is_nil(none)
    assert.truthy(why:find "no application protocol", why)
    local code = tidegate.run("/usr/bin/openssl", { args = { "s_client", "-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0",
      "-connect", broker.host .. ":" .. broker.port } })
    assert.not_equal(0, code)
    eventually("both failures are counted", function() return failures "alpn" == 1 and failures "version" == 1 end)
  end)

  it("serves curl and gnutls-cli", function()
    broker:publish("t", "for others")
    local code, out = tidegate.run("/usr/bin/curl", { args = { "-sS", "--max-time", "20", "--cacert", ca.cert,
      "--resolve", ("a.example:%d:127.0.0.1"):format(broker.port), "-d", "by curl",
      ("https://a.example:%d/events?topic=t"):format(broker.port) } })
    assert.equal(0, code)
    assert.truthy(out:find('"id"', 1, true), out)
    code, out = tidegate.run("/bin/sh", { args = { "-c", ('printf "GET / HTTP/1.1\\r\\nHost: x\\r\\nConnection: close'
      .. '\\r\\n\\r\\n" | gnutls-cli --x509cafile %s --sni-hostname a.example --verify-hostname a.example '
      .. "-p %d 127.0.0.1"):format(ca.cert, broker.port) } })
    assert.equal(0, code, out)
    assert.truthy(out:find("HTTP/1.1 200 OK", 1, true), out)
  end)

  it("explains itself to who speaks HTTP without TLS", function()
    local answers = broker:metric 'tidegate_http_answers_total{class="4xx"}'
    local r = http.get(broker, "/", nil, { tls = false })
    assert.equal(400, r.status)
    assert.truthy(r.json.detail:find("https://", 1, true), r.body)
    assert.equal(1, failures "plain-http")
    assert.equal(answers + 1, broker:metric 'tidegate_http_answers_total{class="4xx"}')
    assert.truthy(broker:logged { msg = "handshake failed", reason = "plain-http" })
  end)

  it("closes on what is neither, and on who leaves in the middle", function()
    local c = http.connect(broker, { tls = false })
    c:send "\1\2\3"
    assert.is_true(c:closed())
    c = http.connect(broker, { tls = false })
    c:send "\22\3\1"
    c:shutdown()
    assert.is_true(c:closed())
    c = http.connect(broker, { tls = false }) -- a check whether the port is open is no failure
    c:shutdown()
    assert.is_true(c:closed())
    assert.equal(1, failures "not-tls")
    assert.equal(1, failures "closed")
    local ended = broker:metric 'tidegate_connections_closed_total{reason="tls-handshake"}'
    assert.is_true(ended >= 2, ended)
  end)

  it("ends a handshake that does not end", function()
    local own = start(nil, { config = { limits = { head_timeout_s = 1 } } })
    local c = http.connect(own, { tls = false })
    c:send "\22\3\1\2\0\1"
    assert.is_true(c:closed(20))
    assert.equal(1, own:metric 'tidegate_tls_handshake_failures_total{reason="timeout"}')
    assert.equal(1, own:metric 'tidegate_connections_closed_total{reason="head-timeout"}')
  end)

  it("survives nonsense where records should be", function()
    math.randomseed(7)
    for _ = 1, 30 do
      local bytes = {}
      for i = 1, math.random(5, 300) do
        bytes[i] = string.char(math.random(0, 255))
      end
      local c = http.connect(broker, { tls = false })
      c:send("\22\3\1\1\0" .. table.concat(bytes))
      c:shutdown()
      eventually("it is closed", function() return not sockets.read_available(c.socket) end) -- behind an alert or not
    end
    local s = assert(sockets.connect(broker)) -- after a good handshake, too
    s.socket:send "\23\3\3\0\32this is not what was agreed upon"
    eventually("it is closed", function()
      local _, why = s:receive(100)
      return why ~= "timeout"
    end)
    assert.equal(200, http.get(broker, "/").status)
  end)

  it("changes its keys when a client asks for that", function()
    local c = sse.open(broker, { topic = "t" })
    for i = 1, 20 do
      assert.is_true(c.socket.tls:key_update(true))
      assert(c.socket:send "x")
      broker:publish("t", "event " .. i)
      assert.equal("event " .. i, c:next().data)
    end
  end)

  it("says its end behind what else it has to say, to a client that leaves as soon as it has come", function()
    local door = assert(socket.bind("127.0.0.1", 0))
    local ip, port = door:getsockname()
    local near, far = assert(socket.connect(ip, port)), assert(door:accept())
    local out = assert(sockets.connect(broker, { tls = false }))
    near:settimeout(0)
    local client = assert(native.connect(assert(native.context { ca = ca.cert }), near:getfd(), "a.example", nil))
    local function pass(from, to)
      local bytes = sockets.read_available(from)
      return bytes and (bytes == "" or sockets.send(to, bytes))
    end
    eventually("the handshake is done", function()
      local done, why = client:handshake()
      assert.is_true(done or why == "read", why)
      return done or (pass(far, out) and pass(out, far) and false)
    end)
    client:shutdown()
    near:shutdown "send"
    far:settimeout(10)
    assert(sockets.send(out, assert(far:receive "*a"))) -- the end of the handshake, and that of the connection
    eventually("the broker has closed", function() return not pass(out, far) end)
    local _, why = client:receive(100)
    assert.equal("closed", why)
    client:free()
    for _, s in ipairs { door, near, far } do
      s:close()
    end
    sockets.close(out)
  end)

  it("lets a connection have several requests, pipelined", function()
    local c = http.connect(broker)
    local all = {}
    for i = 1, 30 do
      all[i] = http.render("POST", "/events?topic=t", nil, ("z"):rep(3000) .. i)
    end
    assert(c:send(table.concat(all)))
    for _ = 1, 30 do
      assert.equal(201, c:response().status)
    end
  end)

  it("is what the other listener of the same broker is not", function()
    assert.equal(200, http.get(broker.plain, "/").status)
    local s, why = sockets.connect(broker.plain, { tls = { ca = ca.cert } })
    assert.is_nil(s)
    assert.truthy(why:find("handshake", 1, true), why)
  end)

  it("refuses to start with files that do not fit", function()
    local code, log = tidegate.start_refused { config = { listen = { { address = "127.0.0.1:0",
      tls = { { cert = first.cert, key = wild.key } } } } } }
    assert.equal(78, code)
    assert.truthy(log:find("listen[1]: ", 1, true), log)
    assert.truthy(log:find("is not the key of the first certificate", 1, true), log)
  end)
end)
end
