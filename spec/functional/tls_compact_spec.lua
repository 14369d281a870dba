-- Connections of TLS 1.3 that are compact: OpenSSL shakes hands, the broker's own record layer goes on. Here over real
-- sockets, with OpenSSL and GnuTLS as clients, and with one that has the right keys and breaks the rules.
local child = require "support.child"
local eventually = require "support.eventually"
local http = require "support.http"
local record = require "native.tls_record"
local sockets = require "support.sockets"
local sse = require "support.sse"
local tidegate = require "support.tidegate"
local tls = require "support.tls"

local SUITES = { "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256" }
local DATA, HANDSHAKE = "\23", "\22"

describe("a compact TLS connection", function()
  local ca, cert, broker

  local function start(options)
    options = options or {}
    options.config = options.config or {}
    options.config.listen = { tls.listener { cert } }
    local b = tidegate.start(options)
    b.tls = { ca = ca.cert, name = "a.example" }
    return b
  end

  local function client(more)
    local options = { ca = ca.cert, name = "a.example" }
    for k, v in pairs(more or {}) do
      options[k] = v
    end
    return assert(sockets.connect(broker, { tls = options }))
  end

  local function compact(b)
    return (b or broker):metric "tidegate_tls_compact_connections"
  end

  setup(function()
    ca = tls.authority()
    cert = ca:issue { names = { "a.example" } }
    broker = start { keep = true }
  end)
  teardown(function()
    broker:dispose()
    ca:remove()
  end)

  it("is one of TLS 1.3, with each of its suites, and none of TLS 1.2", function()
    for i, suite in ipairs(SUITES) do
      local s = client { suites = suite }
      assert.equal(suite, s:info().cipher)
      eventually("it is compact", function() return compact() == i end)
    end
    local old = client { max = "1.2" }
    assert.equal(200, http.get(broker, "/").status)
    eventually("the one of TLS 1.2 is not", function() return compact() == #SUITES end)
    old:close()
    sockets.close_all()
    eventually("none is left", function() return compact() == 0 end)
    local own = start { config = { tls = { compact = false } } }
    local c = sse.open(own, { topic = "t" })
    own:publish("t", "x")
    assert.equal("x", c:next().data)
    assert.equal(1, own:metric "tidegate_tls_handshakes_total" - 1) -- the stream's and the publisher's
    assert.equal(0, compact(own))
  end)

  it("carries streams, bodies and ends, with each suite", function()
    for i, suite in ipairs(SUITES) do
      local target = { host = broker.host, port = broker.port,
        tls = { ca = ca.cert, name = "a.example", suites = suite } }
      local topic = "carries/" .. i
      local c = sse.open(target, { topic = topic })
      local data = {}
      for k, size in ipairs { 1, 100, 16000, 16384, 100000, 700000 } do
        data[k] = string.char(96 + k):rep(size)
        assert.equal(201, http.post(target, "/events?topic=" .. topic, data[k]).status)
      end
      for k, ev in ipairs(c:collect(#data)) do
        assert.equal(data[k], ev.data)
      end
      c:close()
    end
  end)

  it("resumes with the ticket of an earlier one", function()
    local s = client()
    assert(s:send(http.render("GET", "/")))
    eventually("the ticket is there", function()
      s:receive(1000)
      return s.tls:session()
    end)
    local session = s.tls:session()
    local again = client { session = session }
    assert.is_true(again:info().resumed)
    assert(again:send(http.render("GET", "/")))
    local bytes = ""
    eventually("it serves", function()
      local got, _, part = again:receive(1000)
      bytes = bytes .. (got or part or "")
      return bytes:find("200 OK", 1, true)
    end)
  end)

  ----------------------------------------------------------------- who has the keys and breaks the rules
  -- A client after its handshake, without OpenSSL: its socket, its record layer, and the bytes of whole records read.
  local function bare()
    local s = client()
    local ours, theirs, suite = s.tls:secrets()
    local self = { socket = s.socket, tls = s,
      layer = record.new { suite = suite, write = ours, read = theirs, read_seq = 1 } }
    local ticket = ""
    eventually("the ticket has come", function() -- OpenSSL's client has not read it
      ticket = ticket .. (sockets.read_available(s.socket) or "")
      return #ticket >= 5 and #ticket == 5 + (">I2"):unpack(ticket, 4)
    end)
    return self
  end

  local function send(c, bytes)
    assert(sockets.send(c.socket, bytes))
  end

  -- What the broker says until it closes.
  local function rest(c)
    local bytes = ""
    eventually("the connection is closed", function()
      local got = sockets.read_available(c.socket)
      bytes = bytes .. (got or "")
      return not got
    end)
    return bytes
  end

  -- The alert that the broker ends the connection with, after `bytes` of the client.
  local function assert_alert(number, bytes)
    local c = bare()
    local before = broker:metric "tidegate_tls_broken_total"
    send(c, type(bytes) == "function" and bytes(c.layer) or bytes)
    local said = rest(c)
    local ours, theirs, suite = c.tls.tls:secrets()
    local mirror = record.new { suite = suite, write = theirs, read = ours, write_seq = 1 }
    assert.equal(mirror:forge("\2" .. string.char(number) .. "\21"), said)
    eventually("it is counted", function() return broker:metric "tidegate_tls_broken_total" == before + 1 end)
  end

  it("ends with the right alert at what is forged or not allowed", function()
    assert_alert(20, "\23\3\3\0\32this is not what was agreed upon")
    assert_alert(22, "\23\3\3\255\255" .. ("x"):rep(20))
    assert_alert(10, "\22\3\3\0\5\1\0\0\1\0")
    assert_alert(10, "\20\3\3\0\1\1")
    assert_alert(10, function(layer) return layer:forge("\1\0\0\1\0" .. HANDSHAKE) end) -- another handshake
    assert_alert(10, function(layer) return layer:forge("\24\0\0\1\0\24\0\0\1\0" .. HANDSHAKE) end)
    assert_alert(47, function(layer) return layer:forge("\24\0\0\1\7" .. HANDSHAKE) end)
    assert_alert(50, function(layer) return layer:forge("\1\0\1\0\21") end)
    assert_alert(10, function(layer)
      local empty = {}
      for i = 1, 33 do
        empty[i] = layer:forge(DATA)
      end
      return table.concat(empty)
    end)
    assert_alert(10, function(layer)
      local updates = {}
      for i = 1, 33 do
        updates[i] = layer:forge("\24\0\0\1\1" .. HANDSHAKE)
        layer:next()
      end
      return table.concat(updates)
    end)
    assert.equal(200, http.get(broker, "/").status)
  end)

  it("takes requests cut anywhere, in records with padding, between changes of keys", function()
    local c = bare()
    local request, bytes = http.render("GET", "/"), {}
    for i = 1, #request, 7 do
      bytes[#bytes + 1] = c.layer:forge(request:sub(i, i + 6) .. DATA .. ("\0"):rep(i % 50))
      if i % 3 == 0 then
        bytes[#bytes + 1] = c.layer:forge("\24\0\0\1\1" .. HANDSHAKE)
        c.layer:next()
      end
    end
    bytes = table.concat(bytes)
    for i = 1, #bytes, 11 do
      send(c, bytes:sub(i, i + 10))
    end
    local answer = ""
    eventually("it is answered", function() -- with one KeyUpdate before
      local plain, state = c.layer:open(sockets.read_available(c.socket) or "")
      assert.equal("open", state)
      answer = answer .. plain
      return answer:find("200 OK", 1, true)
    end)
    send(c, c.layer:finish())
    assert.equal("ended", (select(2, c.layer:open(rest(c)))))
  end)

  it("keeps what a client has begun to send, and lets it go with the connection", function()
    local c = bare()
    local bytes = c.layer:forge(http.render("GET", "/") .. DATA)
    send(c, bytes:sub(1, 30))
    assert.equal(200, http.get(broker, "/").status)
    send(c, bytes:sub(31))
    local answer = ""
    eventually("it is answered", function()
      answer = answer .. (c.layer:open(sockets.read_available(c.socket) or ""))
      return answer:find("200 OK", 1, true)
    end)
    c = bare() -- the leak check of the broker's end is the proof
    send(c, c.layer:forge(http.render("GET", "/") .. DATA):sub(1, 30))
    c.tls:close(true)
  end)

  ----------------------------------------------------------------- other clients
  local later, undo = require("support.undo").keeper()
  after_each(undo)

  -- A client program with a stream of `topic` open, that is told to change keys with `command`.
  -- `answer`: what it shows when the broker has changed its key, too.
  local function assert_rekeys(path, args, command, answer)
    local topic = path:match "[^/]*$"
    local p = child.start(path, args, { stdin = true })
    later(function() p:stop() end)
    local function shows(text)
      eventually(("%s shows %q"):format(path, text), function()
        local said = p:output() .. p:errors()
        if not p:running() then
          eventually.give_up("it has ended\n" .. said)
        end
        return said:find(text, 1, true), said
      end)
    end
    p:write("GET /events?topic=" .. topic .. " HTTP/1.1\r\nHost: a.example\r\n\r\n")
    shows "200 OK"
    for i = 1, 3 do
      p:write(command .. "\n")
      broker:publish(topic, ("event <%d>"):format(i))
      shows(("event <%d>"):format(i))
    end
    local _, answers = (p:output() .. p:errors()):gsub(answer or "%z", "")
    assert.equal(answer and 3 or 0, answers)
  end

  it("changes keys with openssl s_client", function()
    local args = { "s_client", "-connect", broker.host .. ":" .. broker.port, "-servername", "a.example", "-CAfile",
      ca.cert, "-verify_return_error", "-msg" }
    assert_rekeys("/usr/bin/openssl", args, "K", "<<< TLS 1.3, Handshake %[length 0005%], KeyUpdate")
    assert_rekeys("/usr/bin/openssl", args, "k")
  end)

  it("changes keys with gnutls-cli", function()
    local args = { "--x509cafile", ca.cert, "--sni-hostname", "a.example", "--verify-hostname", "a.example",
      "--inline-commands", "-p", tostring(broker.port), broker.host }
    assert_rekeys("/usr/bin/gnutls-cli", args, "^rekey1^") -- asks for ours, too
    assert_rekeys("/usr/bin/gnutls-cli", args, "^rekey^")
  end)
end)
