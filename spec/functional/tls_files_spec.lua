-- What becomes of the files of certificates: changed ones, what `tidegate check` says of them, tickets over restarts.
local eventually = require "support.eventually"
local http = require "support.http"
local json = require "dkjson"
local sockets = require "support.sockets"
local sse = require "support.sse"
local tidegate = require "support.tidegate"
local tls = require "support.tls"

describe("certificates", function()
  local ca, first, second
  setup(function()
    ca = tls.authority()
    first = ca:issue { names = { "a.example" } }
    second = ca:issue { names = { "a.example" } }
  end)
  teardown(function() ca:remove() end)

  local function use(broker, cert)
    tls.replace(cert.cert, broker.dir .. "/cert.pem")
    tls.replace(cert.key, broker.dir .. "/key.pem")
  end

  local function prepare(config)
    config = config or {}
    config.listen = { { address = "127.0.0.1:0", tls = { { cert = "cert.pem", key = "key.pem" } } } }
    local broker = tidegate.prepare { config = config }
    tidegate.forget_later(broker)
    use(broker, first)
    broker.tls = { ca = ca.cert, name = "a.example" }
    return broker
  end

  local function serial(broker)
    local s = assert(sockets.connect(broker))
    local n = s:info().serial
    sockets.close(s)
    return n
  end

  it("that change are loaded under open streams; a key that does not fit yet changes nothing", function()
    local broker = prepare():start()
    local streams = {}
    for i = 1, 20 do
      streams[i] = sse.open(broker, { topic = "t" })
    end
    tls.replace(second.key, broker.dir .. "/key.pem")
    eventually("the key alone is noticed", function()
      return broker:metric "tidegate_tls_reload_failures_total" == 1
    end)
    assert.equal(first.serial, serial(broker))
    assert.truthy(broker:logged { msg = "changed certificates cannot be loaded, the earlier ones stay" })
    tls.replace(second.cert, broker.dir .. "/cert.pem")
    eventually("the other certificate is served", function() return serial(broker) == second.serial end)
    assert.equal(1, broker:metric "tidegate_tls_reloads_total")
    assert.equal(1, broker:metric "tidegate_tls_reload_failures_total")
    broker:publish("t", "to all")
    for _, c in ipairs(streams) do
      assert.equal("to all", c:next().data)
    end
    assert.equal(20, broker:metric "tidegate_subscribers")
    local expiry = broker:metric(('tidegate_tls_certificate_not_after_seconds{certificate="%s/cert.pem"}')
      :format(broker.dir))
    assert.near(os.time() + 30 * 86400, expiry, 3600)
  end)

  it("are checked: pair, chain, expiry, names, modes", function()
    local broker = prepare()
    local function check()
      return tidegate.run(tidegate.binary(), { args = { "check", broker.conf_path, "--no-luacheck", "--no-samples" } })
    end
    local function expect(code, ...)
      local got, _, err = check()
      assert.equal(code, got, err)
      for _, text in ipairs { ... } do
        assert.truthy(err:find(text, 1, true), err)
      end
    end
    tls.run(("chmod 640 %s/key.pem"):format(broker.dir))
    assert.equal(0, (check()))
    use(broker, ca:issue { names = { "a.example" }, days = -1 })
    expect(0, "warning: listen[1].tls[1]: ", "expired 1 days ago: renew it") -- a restart must not make it worse
    use(broker, first)
    tls.replace(second.key, broker.dir .. "/key.pem")
    expect(78, "is not the key of the first certificate")
    os.remove(broker.dir .. "/key.pem")
    expect(78, "cannot read it: no such file")
    use(broker, first)
    tls.run(("openssl x509 -in %s -out %s/cert.pem"):format(first.cert, broker.dir))
    tls.run(("chmod 644 %s/key.pem"):format(broker.dir))
    broker.config.listen[1].tls[1].names = { "other.example" }
    broker:write_conf()
    local _, _, err = tidegate.run(tidegate.binary(), { args = { "check", broker.conf_path, "--no-luacheck",
      "--no-samples", "--strict" } })
    for _, text in ipairs { "stands alone", "can be read by every user", 'not a certificate for "other.example"' } do
      assert.truthy(err:find(text, 1, true), err)
    end
  end)

  it("are checked together with what else the edge needs", function()
    local broker = prepare()
    broker.config.listen[1].proxy_protocol = true
    broker.config.http = { acme_webroot = "nowhere" }
    broker:write_conf()
    local code, _, err = tidegate.run(tidegate.binary(), { args = { "check", broker.conf_path, "--no-luacheck",
      "--no-samples" } })
    assert.equal(78, code)
    assert.matches("error: http.acme_webroot: /.*/nowhere: is not a directory", err)
    assert.matches("warning: listen%[1%].proxy_protocol: every client may claim any address", err)
    assert.matches("warning: http.acme_webroot: has no effect: challenges come without TLS", err)
    assert.equal(1, select(2, err:gsub("acme_webroot: /", "")))
  end)

  it("are checked with the authorities of clients: which file, once", function()
    local broker = prepare()
    local listener = broker.config.listen[1]
    listener.client, listener.client_ca = "required", ca.cert
    local function problems()
      broker:write_conf()
      local _, _, err = tidegate.run(tidegate.binary(), { args = { "check", broker.conf_path, "--no-luacheck",
        "--no-samples" } })
      local found = {}
      for text in err:gmatch "error: ([^\n]+)" do
        found[#found + 1] = text:match "^listen.-: %l+_%l+" or text:match "^listen.-: " or text
      end
      return found
    end
    assert.same({}, problems())
    listener.client_crl = ca.cert
    assert.same({ "listen[1]: client_crl" }, problems())
    listener.client_ca = "nowhere.pem"
    tls.replace(second.key, broker.dir .. "/key.pem")
    assert.same({ "listen[1].tls[1]: ", "listen[1]: client_ca" }, problems())
  end)

  local function ticket(broker, session)
    local c = http.connect(broker, { tls = { ca = ca.cert, name = "a.example", session = session } })
    assert(c:request("GET", "/", {}).status == 200) -- reads the ticket behind the handshake, too
    local resumed, next_session = c.socket:info().resumed, c.socket.tls:session()
    c:close()
    return resumed, next_session
  end

  it("are not shown again to clients that come back: over all workers, a killed one, a rolling restart", function()
    local broker = prepare({ workers = 2 }):start()
    assert.equal("https", broker:logged({ msg = "listening", server = "public" }).scheme)
    local resumed, session = ticket(broker)
    assert.is_false(resumed)
    for _ = 1, 10 do -- the kernel spreads them
      resumed, session = ticket(broker, session)
      assert.is_true(resumed)
    end
    local function worker_pids()
      local pids = {}
      for pid in broker:log():gmatch "worker started\" number=%d+ pid=(%d+)" do
        pids[#pids + 1] = tonumber(pid)
      end
      return pids
    end
    local before = worker_pids()
    assert.equal(2, #before)
    require("luv").kill(before[1], "sigkill")
    eventually("it has a successor", function()
      return #worker_pids() == 3 and http.get(broker.admin, "/readyz").status == 200
    end)
    for _ = 1, 6 do
      resumed, session = ticket(broker, session)
      assert.is_true(resumed)
    end
    broker:signal "USR2"
    eventually("all workers are replaced", function()
      return broker:logged { msg = "restarted" }
    end)
    for _ = 1, 6 do
      resumed, session = ticket(broker, session)
      assert.is_true(resumed)
    end
  end)

  it("lend nothing to each other: a ticket is good for the listener and the name it was given for", function()
    local broker = prepare()
    local other = ca:issue { names = { "b.example" } }
    broker.config.listen = {
      tls.listener({ first, other }), tls.listener({ first }, { client = "optional", client_ca = ca.cert }),
    }
    broker:write_conf()
    broker:start()
    for _, version in ipairs { "1.2", "1.3" } do
      local function come(address, name, session)
        local how = { ca = ca.cert, name = name, session = session, max = version }
        local c = assert(http.connect(address, { tls = how }))
        assert(c:request("GET", "/", {}).status == 200)
        local resumed, next_session = c.socket:info().resumed, c.socket.tls:session()
        c:close()
        return resumed, next_session
      end
      local here, there = broker.addresses[1], broker.addresses[2]
      local _, session = come(here, "a.example")
      assert.is_true((come(here, "a.example", session)), version)
      _, session = come(here, "a.example")
      assert.is_false((come(here, "b.example", session)), version)
      _, session = come(here, "a.example")
      assert.is_false((come(there, "a.example", session)), version)
    end
  end)
end)

describe("certificates of clients", function()
  local ca, server, authority, good, bad
  setup(function()
    ca = tls.authority()
    authority = tls.authority "clients"
    server = ca:issue { names = { "a.example" } }
    good = authority:issue { client = true, subject = "/CN=device 7" }
    bad = authority:issue { client = true, subject = "/CN=device 8" }
  end)
  teardown(function()
    ca:remove()
    authority:remove()
  end)

  local function start(mode, crl)
    local broker = tidegate.start { config = { listen = {
      tls.listener({ server }, { client = mode, client_ca = authority.cert, client_crl = crl }) } } }
    return broker, function(cert)
      local r
      local c, why = http.connect(broker, { tls = { ca = ca.cert, name = "a.example", cert = cert and cert.cert,
        key = cert and cert.key } })
      if c then -- TLS 1.3: the client learns of a refusal when it reads
        c:send(http.render("GET", "/", {}))
        r, why = c:response()
        c:close()
      end
      return r and r.status or why
    end
  end

  it("are required, optional, verified", function()
    local broker, ask = start "required"
    assert.equal(200, ask(good))
    assert.not_equal(200, ask())
    assert.not_equal(200, ask(server))
    eventually("they are counted", function()
      return broker:metric 'tidegate_tls_handshake_failures_total{reason="client-certificate"}' == 2
    end)
    local _, ask_optional = start "optional"
    assert.equal(200, ask_optional(good))
    assert.equal(200, ask_optional())
    assert.not_equal(200, ask_optional(server))
  end)

  it("are known to the policy, also when the session is resumed", function()
    local device = authority:issue { client = true, subject = "/O=Example/CN=device 7",
      san = "DNS:d7.example,URI:urn:device:7,email:d7@example.com,DNS:other.example" }
    local broker = tidegate.start {
      config = {
        listen = { tls.listener({ server }, { client = "optional", client_ca = authority.cert }), "127.0.0.1:0" },
      },
      policy = [[
        return { api = 1,
          authenticate = function(r)
            local t = r.tls or {}
            local c = t.client or { dns = {}, uri = {}, email = {} }
            return { subject = c.subject, serial = c.serial, sha = c.sha256 and #c.sha256, expires = c.not_after,
              dns = table.concat(c.dns, " "), uri = c.uri[1], email = c.email[1], issuer = c.issuer, sni = t.sni,
              alpn = t.alpn, resumed = t.resumed, version = t.version }
          end,
          subscribe = function() return { topics = { "t" } } end,
          publish = function(pub, who) pub.raw = json.encode(who) return pub end }]] }
    local how = { ca = ca.cert, name = "a.example", cert = device.cert, key = device.key, alpn = { "http/1.1" } }
    local function ask(address, options, body)
      local c = assert(http.connect(address, options))
      local r = assert(c:request("POST", "/events?topic=t", {}, body))
      local session = options.tls and c.socket.tls:session()
      c:close()
      assert.equal(201, r.status)
      return session
    end
    local reader = sse.open(broker, { topic = "t", tls = { ca = ca.cert } })
    local function read(resumed)
      local who = json.decode(reader:next().data)
      assert.near(os.time() + 30 * 86400, who.expires, 3600)
      who.expires = nil
      assert.same({ subject = "CN=device 7,O=Example", issuer = "CN=clients", serial = ("%04x"):format(device.serial),
        sha = 64, dns = "d7.example other.example", uri = "urn:device:7", email = "d7@example.com", sni = "a.example",
        alpn = "http/1.1", resumed = resumed, version = "TLSv1.3" }, who)
    end
    how.session = ask(broker, { tls = how }, "small")
    read(false)
    ask(broker, { tls = how }, ("x"):rep(200000)) -- whose head is judged before the body is there
    read(true)
    ask(broker, { tls = { ca = ca.cert } }, "no certificate")
    assert.same({ dns = "", resumed = false, version = "TLSv1.3" }, json.decode(reader:next().data))
    ask(broker.addresses[2], {}, "no tls")
    assert.same({ dns = "" }, json.decode(reader:next().data))
    reader:close()

    broker:reload [[return { api = 1, authenticate = function() return { sub = "x" } end,
      subscribe = function(r) return { topics = { r.tls.sni } } end }]]
    local c = assert(sse.start(broker, { topic = "t", tls = how }))
    eventually("the mistake is logged", function()
      return broker:log():find("subscribe sees no request.tls", 1, true)
    end)
    c:close()
  end)

  it("that their authority took back are refused", function()
    local dir = authority.dir
    local function run(command)
      tls.run(("cd %s && %s"):format(dir, command))
    end
    local f = assert(io.open(dir .. "/ca.cnf", "w"))
    f:write("[ca]\ndefault_ca = d\n[d]\ndatabase = index.txt\ndefault_md = sha256\ndefault_crl_days = 30\n")
    f:close()
    run(": > index.txt")
    run(("openssl ca -config ca.cnf -cert ca.pem -keyfile ca.key -revoke %s"):format(bad.cert))
    run("openssl ca -config ca.cnf -cert ca.pem -keyfile ca.key -gencrl -out crl.pem")
    local _, ask = start("required", dir .. "/crl.pem")
    assert.equal(200, ask(good))
    assert.not_equal(200, ask(bad))
  end)
end)
