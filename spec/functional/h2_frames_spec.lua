-- HTTP/2, frame by frame: what no client should send, beyond the cases of h2spec (h2spec_spec.lua): heads that unpack,
-- floods, and what never comes. Each case has a connection of its own, and the broker serves the others meanwhile.
local eventually = require "support.eventually"
local h2 = require "support.h2"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

local frame, head = h2.frame, h2.head
local END_STREAM, END_HEADERS, ACK, PADDED = h2.END_STREAM, h2.END_HEADERS, h2.ACK, h2.PADDED

local function headers(id, more, instead, flags)
  return frame("HEADERS", flags or END_STREAM | END_HEADERS, id, head("GET", "/nothing", more, instead))
end

-- POST whose body is to follow
local function posting(id, more)
  return frame("HEADERS", END_HEADERS, id, head("POST", "/events?topic=a", more))
end

local function setting(id, value)
  return frame("SETTINGS", 0, 0, (">I2I4"):pack(id, value))
end

local function u32(n)
  return (">I4"):pack(n)
end

-- A field of 4 KB that goes to the table, then as often as a frame has room for it: 50 MB.
local PSEUDO = head("GET", "/nothing")
local UNPACKS = PSEUDO .. "\x40" .. h2.fields({ { "x", ("y"):rep(3990) } }):sub(2)
UNPACKS = UNPACKS .. ("\xbe"):rep(16384 - #UNPACKS)

-- title -> what is sent, and which errors are right for it
local CASES = {
  { "Transfer-Encoding", headers(1, { { "transfer-encoding", "chunked" } }), "PROTOCOL_ERROR" },
  { "a line break in a field", headers(1, { { "x", "a\r\ny: b" } }), "PROTOCOL_ERROR" },
  -- 10.5.1
  { "a head that is thousands of times as long as the frame", frame("HEADERS", END_STREAM | END_HEADERS, 1, UNPACKS),
    "INTERNAL_ERROR" },
  { "trailers that are thousands of times as long as the frame", posting(1)
    .. frame("HEADERS", END_STREAM | END_HEADERS, 1, UNPACKS:sub(#PSEUDO + 1)), "INTERNAL_ERROR" },
}

describe("HTTP/2 refuses", function()
  local broker = tidegate.shared {}

  for _, case in ipairs(CASES) do
    local title, bytes, expected = table.unpack(case)
    it(title, function()
      local c = h2.raw(broker())
      c:send(bytes)
      local code, how = c:error_code()
      local name
      for k, v in pairs(h2.CODES) do
        name = v == code and k or name
      end
      assert.truthy(name and expected:find(name, 1, true),
        ("%s %s instead of %s"):format(how, tostring(name or code), expected))
      c:close()
    end)
  end

  it("more streams than it said it would take", function()
    local small = tidegate.start { config = { limits = { h2_streams = 3 } } }
    local c = h2.raw(small)
    for id = 1, 7, 2 do
      c:send(frame("HEADERS", END_STREAM | END_HEADERS, id, head("GET", "/events?topic=a")))
    end
    c:frame("nothing")
    assert.equal(h2.CODES.PROTOCOL_ERROR, c.goaway.code)
    assert.equal(5, c.goaway.last)
    c:close()
  end)
end)

describe("HTTP/2 accepts", function()
  local broker = tidegate.shared {}

  local function answered(c, id)
    repeat
      local f = assert(c:frame("HEADERS"))
    until f.id == id
  end

  it("frames of unknown types, flags, and settings, and passes over them", function()
    local c = h2.raw(broker())
    c:send(frame(0x42, 0xff, 0, "something") .. setting(0x7f, 1) .. frame("PING", 0x16, 0, ("\0"):rep(8))
      .. frame("PRIORITY", 0, 9, u32(0) .. "\xff") .. headers(1))
    assert.equal(ACK, assert(c:frame("PING")).flags)
    answered(c, 1)
    c:close()
  end)

  it("padding, priority, several CONTINUATION frames, and any cut of them into packets", function()
    local c = h2.raw(broker(), { preface = false })
    local block = head("GET", "/nothing", { { "x", "y" } })
    local bytes = h2.PREFACE .. frame("SETTINGS", 0, 0)
      .. frame("HEADERS", END_STREAM | PADDED | h2.PRIORITY, 1,
        "\4" .. u32(0) .. "\x10" .. block:sub(1, 3) .. "\0\0\0\0")
      .. frame("CONTINUATION", 0, 1, block:sub(4, 5)) .. frame("CONTINUATION", END_HEADERS, 1, block:sub(6))
    for i = 1, #bytes do
      assert(c:send(bytes:sub(i, i)))
    end
    answered(c, 1)
    c:close()
  end)

  it("trailers behind a body, padded DATA, and cookies in crumbs", function()
    local seen = tidegate.start { policy = [[
      return {
        api = 1,
        authenticate = function(req)
          return { sub = (req.headers.cookie or "none") .. " for " .. req.headers.host }
        end,
        subscribe = function() return { topics = { "a" } } end,
        publish = function(pub, who) return { topic = "a", raw = pub.raw .. ":" .. who.sub } end,
      }]] }
    local reader = sse.open(seen, { topic = "a" })
    local c = h2.raw(seen)
    c:send(posting(1, { { "cookie", "a=1" }, { "content-type", "text/plain" }, { "cookie", "b=2" } })
      .. frame("DATA", PADDED, 1, "\2he\0\0") .. frame("DATA", 0, 1, "llo")
      .. frame("HEADERS", END_STREAM | END_HEADERS, 1, h2.fields { { "x-sum", "1" } }))
    answered(c, 1)
    assert.equal("hello:a=1; b=2 for localhost", reader:next().data)
    c:close()
  end)
end)

describe("HTTP/2 ends connections that flood", function()
  local broker = tidegate.shared { config = { limits = { h2_streams = 5000 } } }

  -- Until the broker has had enough; it must say so.
  local function flood(next_bytes)
    local c = h2.raw(broker())
    local floods = broker():metric "tidegate_h2_floods_total"
    for i = 1, 4000 do
      if not c:send(next_bytes(i)) then
        break
      end
    end
    c:frame("nothing")
    assert.truthy(c.goaway, "no GOAWAY")
    assert.equal(h2.CODES.ENHANCE_YOUR_CALM, c.goaway.code)
    assert.equal(floods + 1, broker():metric "tidegate_h2_floods_total")
    c:close()
    eventually("the connection is gone", function() return broker():metric "tidegate_h2_connections" == 0 end)
    assert.equal(0, broker():metric "tidegate_h2_streams")
    assert.equal(0, broker():metric "tidegate_subscribers")
  end

  it("with streams that they reset at once", function()
    flood(function(i)
      return frame("HEADERS", END_STREAM | END_HEADERS, 2 * i - 1, head("GET", "/events?topic=a"))
        .. frame("RST_STREAM", 0, 2 * i - 1, u32(8))
    end)
  end)

  it("with frames that make the broker reset streams", function()
    flood(function(i)
      return posting(2 * i - 1, { { "content-length", "1" } }) .. frame("DATA", END_STREAM, 2 * i - 1, "xy")
    end)
  end)

  it("with PING", function()
    flood(function() return frame("PING", 0, 0, ("\0"):rep(8)) end)
  end)

  it("with SETTINGS", function()
    flood(function() return setting(4, 1000) end)
  end)

  it("with DATA that holds nothing", function()
    flood(function(i)
      return (i == 1 and posting(1) or "") .. frame("DATA", 0, 1, "")
    end)
  end)

  it("with DATA that holds padding only", function()
    flood(function(i)
      return (i == 1 and posting(1) or "") .. frame("DATA", PADDED, 1, "\0")
    end)
  end)

  it("with windows of a byte", function()
    flood(function() return frame("WINDOW_UPDATE", 0, 0, u32(1)) end)
  end)

  it("with PRIORITY, and with frames that do not exist", function()
    flood(function() return frame("PRIORITY", 0, 1, u32(0) .. "\0") end)
    flood(function() return frame(0x7e, 0, 0, "") end)
  end)

  it("with a few hundred frames each second, which need no answer", function()
    local c = h2.raw(broker())
    local unusual = frame("PRIORITY", 0, 1, u32(0) .. "\0")
    local from, sent = eventually.now(), 500
    c:send(unusual:rep(sent))
    repeat -- until that is more than 512, and 32 a second
      eventually.pass(0.025, "the allowance grows with time")
      sent = sent + 10
    until not c:send(unusual:rep(10)) or sent > 712 + 48 * (eventually.now() - from)
    c:frame("nothing")
    assert.truthy(c.goaway, "no GOAWAY")
    assert.equal(h2.CODES.ENHANCE_YOUR_CALM, c.goaway.code)
    c:close()
    eventually("the connection is gone", function() return broker():metric "tidegate_h2_connections" == 0 end)
  end)

  it("with CONTINUATION", function()
    flood(function(i)
      return i == 1 and headers(1, nil, nil, END_STREAM) or frame("CONTINUATION", 0, 1, h2.fields { { "x", "y" } })
    end)
  end)

  it("with streams that it refuses, also where the client reads nothing", function()
    local small = tidegate.start { config = { limits = { h2_streams = 8, send_buffer_bytes = 4096 } } }
    local c = h2.raw(small, { preface = false, rcvbuf = 4096 })
    c:send(h2.PREFACE .. setting(4, 0x7fffffff) .. frame("WINDOW_UPDATE", 0, 0, u32(0x7fff0000 - 65535)))
    for i = 1, 1500 do
      if not c:send(frame("HEADERS", END_STREAM | END_HEADERS, 2 * i - 1, head("GET", "/"))) then
        break
      end
    end
    eventually("it has had enough", function() return small:metric "tidegate_h2_floods_total" == 1 end)
    c:close()
  end)

  it("and says who it was", function()
    flood(function() return frame("PING", 0, 0, ("\0"):rep(8)) end)
    assert.matches('msg="ended an HTTP/2 connection: more control frames than any client needs".* peer=127.0.0.1',
      broker():log())
  end)

  it("and says so once in ten seconds", function()
    local function said()
      return select(2, broker():log():gsub("ended an HTTP/2 connection", ""))
    end
    local before, from = said(), os.time()
    for _ = 1, 3 do
      flood(function() return frame("PING", 0, 0, ("\0"):rep(8)) end)
    end
    assert.is_true(said() - before <= 1 + (os.time() - from + 1) // 10)
  end)
end)

describe("HTTP/2 does not wait for ever", function()
  local broker = tidegate.shared { config = {
    limits = { head_timeout_s = 1, body_timeout_s = 1, idle_timeout_s = 1 } } }

  local function gone(c, reason)
    local name = ('tidegate_connections_closed_total{reason="%s"}'):format(reason)
    local before = broker():metric(name)
    assert.not_equal("timeout", (select(2, c:frame("nothing"))))
    eventually("it is counted", function() return broker():metric(name) == before + 1 end)
    c:close()
  end

  it("for the rest of the preface", function()
    local c = h2.raw(broker(), { preface = false })
    c:send(h2.PREFACE:sub(1, 20))
    gone(c, "head-timeout")
  end)

  it("for SETTINGS behind the preface", function()
    local c = h2.raw(broker(), { preface = false })
    c:send(h2.PREFACE)
    gone(c, "head-timeout")
  end)

  it("for the rest of a header block, whatever else is open", function()
    local c = h2.raw(broker())
    c:send(frame("HEADERS", END_STREAM | END_HEADERS, 1, head("GET", "/events?topic=a")))
    c:send(headers(3, nil, nil, END_STREAM))
    gone(c, "head-timeout")
  end)

  it("for a request on a connection without one, and says that it ends", function()
    local c = h2.raw(broker())
    gone(c, "idle-timeout")
    assert.equal(h2.CODES.NO_ERROR, c.goaway.code)
  end)

  it("for a request, though other frames come in pieces", function()
    local c = h2.raw(broker())
    local name = 'tidegate_connections_closed_total{reason="idle-timeout"}'
    local before, piece = broker():metric(name), frame("WINDOW_UPDATE", 0, 0, u32(100))
    c:send(piece:sub(1, 1))
    eventually("it is ended", function()
      pcall(c.send, c, piece:sub(2) .. piece:sub(1, 1)) -- one byte ahead of the end of a frame
      return broker():metric(name) == before + 1
    end)
    c:close()
  end)

  it("for the rest of a body: that stream alone ends", function()
    local c = h2.raw(broker())
    c:send(frame("HEADERS", END_STREAM | END_HEADERS, 1, head("GET", "/events?topic=a")) .. posting(3)
      .. frame("DATA", 0, 3, "x"))
    local f = assert(c:frame("RST_STREAM"))
    assert.equal(3, f.id)
    assert.equal(1, broker():metric "tidegate_subscribers")
    c:close()
  end)

  it("for a window to end a stream in", function()
    local draining = tidegate.start { config = {
      sse = { heartbeat_s = 1, dead_peer_s = 2 }, drain = { timeout_s = 60 } } }
    local c = h2.raw(draining)
    c:send(frame("HEADERS", END_STREAM | END_HEADERS, 1, head("GET", "/events?topic=a")))
    local used = #assert(c:frame("DATA")).payload
    c:send(setting(4, used)) -- which leaves nothing of the window
    assert(c:frame("SETTINGS"))
    draining:signal "TERM"
    assert.equal(1, assert(c:frame("RST_STREAM")).id)
    assert.equal(0, (draining:wait_exit()))
    c:close()
  end)
end)
