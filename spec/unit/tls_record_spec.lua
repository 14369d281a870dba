-- net/tls/tls_record: TLS 1.3 after the handshake. The vectors of RFC 8448, OpenSSL with the same keys, and peers that
-- do what they must not.
local native = require "native.tls_record"
local tls = require "support.tls"

local AES_128, AES_256, CHACHA = 0x1301, 0x1302, 0x1303
local NAMES = { [AES_128] = "TLS_AES_128_GCM_SHA256", [AES_256] = "TLS_AES_256_GCM_SHA384",
  [CHACHA] = "TLS_CHACHA20_POLY1305_SHA256" }
local DATA, ALERT, HANDSHAKE = "\23", "\21", "\22"
local UPDATE, UPDATE_ASKS = "\24\0\0\1\0", "\24\0\0\1\1"
local ALERTS = { unexpected_message = 10, bad_record_mac = 20, record_overflow = 22, illegal_parameter = 47,
  decode_error = 50 }

local function hex(text)
  return (text:gsub("%s", ""):gsub("..", function(pair) return string.char(tonumber(pair, 16)) end))
end

local function secret(name, n)
  return (name:rep(48):sub(1, n or 32))
end

-- Both ends of a connection: what `ours` writes `theirs` reads, and the other way round.
local function both(suite, more)
  local n = suite == AES_256 and 48 or 32
  local a, b = secret("a", n), secret("b", n)
  more = more or {}
  local ours = native.new { suite = suite, write = a, read = b, write_seq = more.write_seq, read_seq = more.read_seq }
  local theirs = native.new { suite = suite, write = b, read = a, write_seq = more.read_seq, read_seq = more.write_seq }
  return ours, theirs
end

describe("the record layer of RFC 8448, section 3,", function()
  local client = hex "9e 40 64 6c e7 9a 7f 9d c0 5a f8 88 9b ce 65 52 87 5a fa 0b 06 df 00 87 f7 92 eb b7 c1 75 04 a5"
  local server = hex "a1 1a f9 f0 55 31 f8 56 ad 47 11 6b 45 a9 50 32 82 04 b4 f4 4b fb 6b 3a 4b 4f 1f 3f cb 63 16 43"
  local content = {}
  for i = 0, 0x31 do
    content[#content + 1] = string.char(i)
  end
  content = table.concat(content)
  local by_client = hex [[17 03 03 00 43 a2 3f 70 54 b6 2c 94 d0 af fa fe 82 28 ba 55 cb ef ac ea 42 f9 14 aa 66 bc ab
    3f 2b 98 19 a8 a5 b4 6b 39 5b d5 4a 9a 20 44 1e 2b 62 97 4e 1f 5a 62 92 a2 97 70 14 bd 1e 3d ea e6 3a ee bb 21 69
    49 15 e4]]
  local by_server = hex [[17 03 03 00 43 2e 93 7e 11 ef 4a c7 40 e5 38 ad 36 00 5f c4 a4 69 32 fc 32 25 d0 5f 82 aa 1b
    36 e3 0e fa f9 7d 90 e6 df fc 60 2d cb 50 1a 59 a8 fc c4 9c 4b f2 e5 f0 a2 1c 00 47 c2 ab f3 32 54 0d d0 32 e1 67
    c2 95 5d]]
  local end_of_client = hex "17 03 03 00 13 c9 87 27 60 65 56 66 b7 4d 7f f1 15 3e fd 6d b6 d0 b0 e3"
  local end_of_server = hex "17 03 03 00 13 b5 8f d6 71 66 eb f5 99 d2 47 20 cf be 7e fa 7a 88 64 a9"

  local function server_side() -- behind the ticket
    return native.new { suite = AES_128, write = server, read = client, write_seq = 1 }
  end

  it("derives those keys", function()
    local write, read = server_side():keys()
    assert.equal(hex "9f 02 28 3b 6c 9c 07 ef c2 6b b9 f2 ac 92 e3 56", write.key:sub(1, 16))
    assert.equal(hex "cf 78 2b 88 dd 83 54 9a ad f1 e9 84", write.iv)
    assert.equal(hex "17 42 2d da 59 6e d5 d9 ac d8 90 e3 c6 3f 50 51", read.key:sub(1, 16))
    assert.equal(hex "5b 78 92 3d ee 08 57 90 33 e5 23 d9", read.iv)
  end)

  it("reads and writes those records", function()
    local r = server_side()
    local plain, state, out = r:open(by_client)
    assert.same({ content, "open", "" }, { plain, state, out })
    assert.equal(by_server, r:seal(content))
    plain, state, out = r:open(end_of_client)
    assert.same({ "", "ended", "" }, { plain, state, out })
    assert.equal(end_of_server, r:finish())
    assert.is_nil(r:seal "more")
  end)

  it("derives the next secrets from those", function() -- as Botan does, which has them besides
    local r = server_side()
    assert.is_true(r:next())
    local write = r:keys()
    assert.equal(hex "51 92 1b 8a a3 00 19 76 eb 40 1d 0a 43 19 a8 51 64 16 a6 c5 60 01 a3 57 e5 d1 62 03 1e 84 f9 16",
      write.secret:sub(1, 32))
    assert.equal(0, write.seq)
  end)
end)

for suite, name in pairs(NAMES) do
  describe("the record layer with " .. name, function()
    local ca, cert
    setup(function()
      ca = tls.authority()
      cert = ca:issue { names = { "a.example" } }
    end)
    teardown(function() ca:remove() end)

    -- OpenSSL's client and server, and `ours` with the server's keys.
    local function pair()
      local peer, from_client, from_server = native.peer(cert.cert, cert.key, name)
      return peer, native.new { suite = suite, write = from_server, read = from_client }
    end

    -- What OpenSSL's server and ours say to the same bytes.
    local function assert_same(peer, ours, bytes)
      local expected, found = { peer:read("server", bytes) }, { ours:open(bytes) }
      assert.same(expected, found)
      return table.unpack(found)
    end

    it("is OpenSSL's, byte for byte", function()
      local peer, ours = pair()
      math.randomseed(suite)
      local sizes = { 1, 2, 15, 16, 17, 100, 1000, 4095, 16383, 16384, math.random(16384), math.random(16384) }
      for i, size in ipairs(sizes) do
        local text = string.char(i):rep(size)
        assert.equal(peer:write("server", text), ours:seal(text))
        assert.equal(text, (assert_same(peer, ours, peer:write("client", text))))
        if i % 4 == 0 then -- in pieces that end anywhere
          local bytes, got = peer:write("client", text) .. peer:write("client", "second"), ""
          local cut = math.random(#bytes - 1)
          for _, piece in ipairs { bytes:sub(1, cut), bytes:sub(cut + 1) } do
            got = got .. assert_same(peer, ours, piece)
          end
          assert.equal(text .. "second", got)
        end
        if i % 5 == 0 then
          assert_same(peer, ours, peer:update("client", false))
        end
      end
      assert.equal(peer:update("server", false), (select(1, ours:forge(UPDATE .. HANDSHAKE))))
      assert.is_true(ours:next())
      assert.equal(peer:write("server", "x"), ours:seal "x")
      assert.equal("ended", (select(2, assert_same(peer, ours, peer:finish "client"))))
      assert.equal(peer:finish "server", ours:finish())
    end)

    it("refuses as OpenSSL does: the same alerts, byte for byte", function()
      for what, spoil in pairs {
        ["a bit of the text"] = function(b) return b:sub(1, 10) .. string.char(b:byte(11) ~ 1) .. b:sub(12) end,
        ["a bit of the tag"] = function(b) return b:sub(1, -2) .. string.char(b:byte(-1) ~ 128) end,
        ["the type"] = function(b) return "\22" .. b:sub(2) end,
        ["change_cipher_spec"] = function(b) return "\20\3\3\0\1\1" .. b end,
        ["a size beyond all"] = function(b) return b:sub(1, 3) .. "\255\255" .. b:sub(6) .. ("x"):rep(70000) end,
      } do
        local peer, ours = pair()
        local bytes = spoil(peer:write("client", ("text"):rep(20)))
        local plain, state, out = assert_same(peer, ours, bytes)
        assert.same({ "", "broken", 24 }, { plain, state, #out }, what)
        assert.is_nil(ours:seal "more", what)
        assert.equal("", ours:finish(), what)
      end
    end)

    it("answers a KeyUpdate that asks for one before its next data, once for many", function()
      local peer, ours = pair()
      for _ = 1, 3 do
        local plain, state, out = ours:open(peer:update("client", true))
        assert.same({ "", "open", "" }, { plain, state, out })
      end
      assert.equal("text", (ours:open(peer:write("client", "text"))))
      local bytes = ours:seal "behind it"
      assert.equal(5 + 5 + 17 + 5 + #"behind it" + 17, #bytes)
      assert.same({ "behind it", "open", "" }, { peer:read("client", bytes) })
      assert.same({ "again", "open", "" }, { peer:read("client", ours:seal "again") })
    end)

    it("changes its key before 2^23 records, and the peer follows", function()
      local ours, theirs = both(suite, { write_seq = (1 << 23) - 3 })
      local before = ours:keys()
      for i = 1, 6 do
        assert.equal("n" .. i, (theirs:open(ours:seal("n" .. i))))
        if i == 2 then
          assert.equal(before.key, ours:keys().key)
        end
      end
      local write = ours:keys()
      local _, read = theirs:keys()
      assert.not_equal(before.key, write.key)
      assert.equal(write.key, read.key)
      assert.equal(4, write.seq)
    end)

    it("leaves nothing of its keys", function()
      local ours = both(suite)
      assert.is_false(ours:clear())
    end)
  end)
end

describe("the record layer", function()
  -- What `ours` says to a record with that content; the alert by name, as the peer reads it.
  local function assert_alert(alert, ...)
    local ours, theirs = both(AES_128)
    local state, out, plain
    for _, content in ipairs { ... } do
      plain, state, out = ours:open(type(content) == "function" and content(theirs) or theirs:forge(content))
      if state ~= "open" then
        break
      end
    end
    assert.same({ "broken", "" }, { state, plain }, alert)
    local _, read = theirs:keys()
    assert.equal(0, read.seq) -- nothing else was sent
    local _, theirs_state = theirs:open(out)
    assert.equal("broken", theirs_state) -- an alert that is none of close_notify
    -- what is in it: sealed again by another with the same key and number
    local again = both(AES_128)
    assert.equal(again:forge("\2" .. string.char(ALERTS[alert]) .. ALERT), out, alert)
    assert.same({ "", "broken", "" }, { ours:open "anything" })
  end

  it("takes padding, and records without text, up to a bound", function()
    local ours, theirs = both(AES_128)
    assert.equal("text", (ours:open(theirs:forge("text" .. DATA .. ("\0"):rep(300)))))
    local full = ("f"):rep(16384)
    assert.equal(full, (ours:open(theirs:forge(full .. DATA))))
    for _ = 1, 3 do
      for _ = 1, 32 do
        assert.same({ "", "open", "" }, { ours:open(theirs:forge(DATA)) })
      end
      assert.equal("x", (ours:open(theirs:forge("x" .. DATA))))
    end
    local empty = {}
    for i = 1, 33 do
      empty[i] = DATA
    end
    assert_alert("unexpected_message", table.unpack(empty))
  end)

  it("refuses what is no data, no alert and no KeyUpdate", function()
    assert_alert("unexpected_message", "\4\0\0\1\0" .. HANDSHAKE) -- a ticket, of a client
    assert_alert("unexpected_message", "\1\0\0\1\0" .. HANDSHAKE) -- another handshake
    assert_alert("unexpected_message", "text" .. "\24")
    assert_alert("unexpected_message", "text" .. "\20")
    assert_alert("unexpected_message", "\0\0\0") -- padding alone
    assert_alert("unexpected_message", HANDSHAKE)
    assert_alert("unexpected_message", ALERT)
    assert_alert("unexpected_message", function() return "\22\3\3\0\5\24\0\0\1\0" end) -- not encrypted
    assert_alert("unexpected_message", function() return "\21\3\3\0\2\1\0" end)
  end)

  it("refuses what is not in its form", function()
    assert_alert("decode_error", "\1" .. ALERT)
    assert_alert("decode_error", "\1\0\1\0" .. ALERT)
    assert_alert("decode_error", "\24\0\0\2\0" .. HANDSHAKE)
    assert_alert("illegal_parameter", "\24\0\0\1\2" .. HANDSHAKE)
    assert_alert("record_overflow", ("f"):rep(16384) .. DATA .. "\0")
    assert_alert("record_overflow", ("f"):rep(16385) .. DATA)
    assert_alert("bad_record_mac", function() return "\23\3\3\0\16" .. ("x"):rep(16) end)
    assert_alert("bad_record_mac", function() return "\23\3\3\0\0" end)
    assert_alert("bad_record_mac", function() return "\23\3\3\0\17" .. ("x"):rep(17) end)
  end)

  it("takes a KeyUpdate in pieces, of which nothing may come between or behind", function()
    local ours, theirs = both(CHACHA)
    assert.same({ "", "open", "" }, { ours:open(theirs:forge(UPDATE:sub(1, 2) .. HANDSHAKE)) })
    assert.same({ "", "open", "" }, { ours:open(theirs:forge(UPDATE:sub(3) .. HANDSHAKE)) })
    assert.is_true(theirs:next())
    assert.equal("text", (ours:open(theirs:forge("text" .. DATA))))
    assert_alert("unexpected_message", UPDATE:sub(1, 2) .. HANDSHAKE, "text" .. DATA)
    assert_alert("unexpected_message", UPDATE:sub(1, 2) .. HANDSHAKE, DATA)
    assert_alert("unexpected_message", UPDATE .. UPDATE .. HANDSHAKE)
    assert_alert("unexpected_message", UPDATE .. "\24" .. HANDSHAKE)
    assert_alert("bad_record_mac", UPDATE .. HANDSHAKE, "with the key of before" .. DATA)
  end)

  it("bounds KeyUpdates in a row", function()
    local ours, theirs = both(AES_128)
    for i = 1, 33 do
      local _, state = ours:open(theirs:forge(UPDATE_ASKS .. HANDSHAKE))
      assert.equal(i <= 32 and "open" or "broken", state)
      assert.is_true(theirs:next())
    end
  end)

  -- Keys of peers are derived when something comes, and kept for some of them.
  it("reads what many peers send by turns, also behind KeyUpdates", function()
    local list = {}
    for i = 1, 200 do
      local a, b = secret(("a%03d"):format(i), 48), secret(("b%03d"):format(i), 48)
      list[i] = { ours = native.new { suite = AES_256, write = a, read = b },
        theirs = native.new { suite = AES_256, write = b, read = a } }
    end
    for round = 1, 3 do
      for i, l in ipairs(list) do
        local text = round .. "/" .. i
        assert.equal(text, (l.ours:open(l.theirs:seal(text))))
        assert.equal(text, (l.theirs:open(l.ours:seal(text))))
        if i % 3 == round then
          assert.same({ "", "open", "" }, { l.ours:open(l.theirs:forge(UPDATE .. HANDSHAKE)) })
          assert.is_true(l.theirs:next())
          assert.equal("new", (l.ours:open(l.theirs:seal "new")))
        end
      end
    end
  end)

  it("keeps no key beyond the connection", function()
    local ours, theirs = both(AES_128)
    assert.equal("text", (ours:open(theirs:forge("text" .. DATA))))
    assert.is_false(ours:clear())
    local again = native.new { suite = AES_128, write = secret "c", read = secret "d", at = ours }
    local peer = native.new { suite = AES_128, write = secret "d", read = secret "c" }
    assert.same({ "other", "open", "" }, { again:open(peer:forge("other" .. DATA)) })
  end)

  it("says nothing to an alert, and reads nothing behind an end", function()
    local ours, theirs = both(AES_128)
    assert.same({ "", "broken", "" }, { ours:open(theirs:forge("\2\40" .. ALERT)) })
    assert.is_nil(ours:seal "more")
    ours, theirs = both(AES_128)
    assert.same({ "", "open", "" }, { ours:open(theirs:forge("\1\90" .. ALERT)) }) -- user_canceled
    local bytes = theirs:forge("before" .. DATA) .. theirs:forge("\2\0" .. ALERT) .. theirs:forge("behind" .. DATA)
    assert.same({ "before", "ended", "" }, { ours:open(bytes) })
    assert.same({ "", "ended", "" }, { ours:open "anything" })
    assert.equal("still", (theirs:open(ours:seal "still"))) -- its own side is open
  end)

  it("has what came whole before what is broken", function()
    local ours, theirs = both(AES_128)
    local plain, state, out = ours:open(theirs:forge("good" .. DATA) .. "\23\3\3\0\32" .. ("x"):rep(32))
    assert.same({ "good", "broken", 24 }, { plain, state, #out })
  end)

  it("takes a record byte by byte", function()
    local ours, theirs = both(AES_256)
    local got, bytes = {}, theirs:forge("first" .. DATA) .. theirs:forge(("s"):rep(3000) .. DATA)
    for i = 1, #bytes do
      local plain, state = ours:open(bytes:sub(i, i))
      assert.equal("open", state)
      got[#got + 1] = plain
    end
    assert.equal("first" .. ("s"):rep(3000), table.concat(got))
    for i = 1, 20 do -- many at once, and the beginning of one more
      bytes = theirs:forge(("m"):rep(i) .. DATA)
      assert.equal("", (ours:open(bytes:sub(1, i))))
      assert.equal(("m"):rep(i), (ours:open(bytes:sub(i + 1))))
    end
  end)
end)
