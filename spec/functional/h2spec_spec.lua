-- The cases of h2spec (github.com/summerwind/h2spec, 2.6), by its numbers and titles: RFC 7540 and RFC 7541, and what
-- RFC 9113 has made of them. Each has a connection of its own, and the broker serves the others meanwhile. What h2spec
-- does not ask is in h2_frames_spec.lua.
local h2 = require "support.h2"
local tidegate = require "support.tidegate"

local frame, head = h2.frame, h2.head
local END_STREAM, END_HEADERS, ACK, PADDED, PRIORITY = h2.END_STREAM, h2.END_HEADERS, h2.ACK, h2.PADDED, h2.PRIORITY
local WHOLE = END_STREAM | END_HEADERS

local function u32(n)
  return (">I4"):pack(n)
end

local function block(more, instead)
  return head("GET", "/", more, instead)
end

local function get(id, more, instead, flags)
  return frame("HEADERS", flags or WHOLE, id, block(more, instead))
end

-- its answer does not end
local function stream(id)
  return frame("HEADERS", WHOLE, id, head("GET", "/events?topic=a"))
end

-- its body is to follow
local function post(id, more)
  return frame("HEADERS", END_HEADERS, id, head("POST", "/events?topic=a", more))
end

local function data(id, bytes, flags)
  return frame("DATA", flags or END_STREAM, id, bytes)
end

local function setting(id, value)
  return frame("SETTINGS", 0, 0, (">I2I4"):pack(id, value))
end

local function window(id, n)
  return frame("WINDOW_UPDATE", 0, id, u32(n))
end

local function rst(id, code)
  return frame("RST_STREAM", 0, id, u32(code or h2.CODES.CANCEL))
end

local function priority(id, depends, weight)
  return frame("PRIORITY", 0, id, u32(depends or 0) .. string.char(weight or 15))
end

local function continuation(id, flags, bytes)
  return frame("CONTINUATION", flags, id, bytes)
end

local function fields(list)
  return frame("HEADERS", WHOLE, 1, h2.fields(list))
end

local NAMES = {}
for name, code in pairs(h2.CODES) do
  NAMES[code] = name
end

----------------------------------------------------------------- what is right
-- The connection goes on.
local function alive(c)
  c:send(frame("PING", 0, 0, "is there"))
  local f = c:frame "PING"
  assert.truthy(f, "the connection has ended")
  assert.equal(ACK, f.flags)
  assert.equal("is there", f.payload)
end

-- Nothing comes of it, and the connection goes on. Where h2spec wants an error, RFC 9113 says why none is needed.
local function passed_over(c)
  c:send(frame("PING", 0, 0, "is there"))
  local f
  repeat
    f = c:frame()
  until not f or f.type ~= "SETTINGS" and f.type ~= "WINDOW_UPDATE"
  assert.equal("PING", f and f.type)
end

local function ends(c)
  assert.not_equal("timeout", (select(2, c:frame "nothing")))
end

-- The connection ends, and nothing was wrong.
local function over(c)
  ends(c)
  assert.equal(h2.CODES.NO_ERROR, c.goaway and c.goaway.code or h2.CODES.NO_ERROR)
end

-- The request is answered, and the connection goes on.
local function answered(c)
  local f = c:frame "HEADERS"
  assert.truthy(f, "no answer")
  assert.equal(1, f.id)
  alive(c)
end

-- The stream or the connection ends with one of these codes.
local function error_of(codes)
  return function(c)
    local code, how = c:error_code()
    assert.truthy(code and NAMES[code] and codes:find(NAMES[code], 1, true),
      ("%s %s instead of %s"):format(how, NAMES[code] or code, codes))
  end
end

local PROTOCOL, SIZE, FLOW = error_of "PROTOCOL_ERROR", error_of "FRAME_SIZE_ERROR", error_of "FLOW_CONTROL_ERROR"
local CLOSED, COMPRESSION = error_of "STREAM_CLOSED", error_of "COMPRESSION_ERROR"

-- DATA frames of these lengths come, one for each of what is sent.
local function lengths(...)
  local list = { ... }
  return function(c)
    for i = 1, #list, 2 do
      c:send(list[i])
      local f = c:frame "DATA"
      assert.equal(list[i + 1], f and #f.payload)
    end
  end
end

-- A literal field of each kind: with a name of the table (58, user-agent), and with a new one; plain and Huffman-coded.
local TEST, TEST_HUFFMAN, NAME, NAME_HUFFMAN = "\4test", "\x83\x49\x50\x9f", "\6x-test", "\x85\xf2\xb2\x4a\x84\xff"
local function with(bytes)
  return frame("HEADERS", WHOLE, 1, block() .. bytes)
end
local function begins_with(bytes)
  return frame("HEADERS", WHOLE, 1, bytes .. block())
end

-- number, title, what is sent (nil: nothing), what is right
local CASES = {
  { "generic/1/1", "Sends a client connection preface", nil, alive },
  { "generic/2/1", "Sends a PRIORITY frame on idle stream", priority(1) .. get(1), answered },
  { "generic/2/2", "Sends a WINDOW_UPDATE frame on half-closed (remote) stream", setting(4, 0) .. get(1),
    lengths(window(1, 1000), 1000) },
  { "generic/2/3", "Sends a PRIORITY frame on half-closed (remote) stream", stream(1) .. priority(1), answered },
  { "generic/2/4", "Sends a RST_STREAM frame on half-closed (remote) stream", stream(1) .. rst(1), alive },
  { "generic/2/5", "Sends a PRIORITY frame on closed stream", get(1), function(c)
    answered(c)
    c:send(priority(1))
    alive(c)
  end },
  { "generic/3.1/1", "Sends a DATA frame", post(1) .. data(1, "test"), answered },
  { "generic/3.1/2", "Sends multiple DATA frames", post(1) .. data(1, "te", 0) .. data(1, "st"), answered },
  { "generic/3.1/3", "Sends a DATA frame with padding", post(1) .. data(1, "\6test\0\0\0\0\0\0", END_STREAM | PADDED),
    answered },
  { "generic/3.2/1", "Sends a HEADERS frame", get(1), answered },
  { "generic/3.2/2", "Sends a HEADERS frame with padding",
    frame("HEADERS", WHOLE | PADDED, 1, "\6" .. block() .. ("\0"):rep(6)), answered },
  { "generic/3.2/3", "Sends a HEADERS frame with priority",
    frame("HEADERS", WHOLE | PRIORITY, 1, u32(0) .. "\xff" .. block()), answered },
  { "generic/3.3/1", "Sends a PRIORITY frame with priority 1", priority(1, 0, 0) .. get(1), answered },
  { "generic/3.3/2", "Sends a PRIORITY frame with priority 256", priority(1, 0, 255) .. get(1), answered },
  { "generic/3.3/3", "Sends a PRIORITY frame with stream dependency", priority(1, 3) .. get(1), answered },
  { "generic/3.3/4", "Sends a PRIORITY frame with exclusive", priority(1, 3 | 1 << 31) .. get(1), answered },
  { "generic/3.3/5", "Sends a PRIORITY frame for an idle stream, then send a HEADER frame for a lower stream ID",
    priority(3) .. get(1), answered },
  { "generic/3.4/1", "Sends a RST_STREAM frame", stream(1) .. rst(1), alive },
  { "generic/3.5/1", "Sends a SETTINGS frame", setting(3, 100), function(c)
    assert.equal(ACK, assert(c:frame "SETTINGS").flags)
  end },
  { "generic/3.7/1", "Sends a PING frame", nil, alive },
  { "generic/3.8/1", "Sends a GOAWAY frame", stream(1) .. frame("GOAWAY", 0, 0, u32(0) .. u32(0)), answered },
  { "generic/3.9/1", "Sends a WINDOW_UPDATE frame with stream ID 0", window(0, 100) .. get(1), answered },
  { "generic/3.9/2", "Sends a WINDOW_UPDATE frame with stream ID 1", stream(1) .. window(1, 100), answered },
  { "generic/3.10/1", "Sends a CONTINUATION frame", frame("HEADERS", END_STREAM, 1, block())
    .. continuation(1, END_HEADERS, h2.fields { { "x", "y" } }), answered },
  { "generic/3.10/2", "Sends multiple CONTINUATION frames", frame("HEADERS", END_STREAM, 1, block())
    .. continuation(1, 0, h2.fields { { "x", "y" } }) .. continuation(1, END_HEADERS, h2.fields { { "x", "y" } }),
    answered },
  { "generic/4/1", "Sends a GET request", get(1), answered },
  { "generic/4/2", "Sends a HEAD request", frame("HEADERS", WHOLE, 1, head("HEAD", "/")), answered },
  { "generic/4/3", "Sends a POST request", post(1) .. data(1, "test"), answered },
  { "generic/4/4", "Sends a POST request with trailers", post(1, { { "trailer", "x-test" } }) .. data(1, "test", 0)
    .. fields { { "x-test", "ok" } }, answered },
  { "generic/5/1", "Sends a indexed header field representation", with "\xba", answered },
  { "generic/5/2", "Sends a literal header field with incremental indexing - indexed name", with("\x7a" .. TEST),
    answered },
  { "generic/5/3", "Sends a literal header field with incremental indexing - indexed name (with Huffman coding)",
    with("\x7a" .. TEST_HUFFMAN), answered },
  { "generic/5/4", "Sends a literal header field with incremental indexing - new name", with("\x40" .. NAME .. TEST),
    answered },
  { "generic/5/5", "Sends a literal header field with incremental indexing - new name (with Huffman coding)",
    with("\x40" .. NAME_HUFFMAN .. TEST_HUFFMAN), answered },
  { "generic/5/6", "Sends a literal header field without indexing - indexed name", with("\x0f\x2b" .. TEST), answered },
  { "generic/5/7", "Sends a literal header field without indexing - indexed name (with Huffman coding)",
    with("\x0f\x2b" .. TEST_HUFFMAN), answered },
  { "generic/5/8", "Sends a literal header field without indexing - new name", with("\0" .. NAME .. TEST), answered },
  { "generic/5/9", "Sends a literal header field without indexing - new name (huffman encoded)",
    with("\0" .. NAME_HUFFMAN .. TEST_HUFFMAN), answered },
  { "generic/5/10", "Sends a literal header field never indexed - indexed name", with("\x1f\x2b" .. TEST), answered },
  { "generic/5/11", "Sends a literal header field never indexed - indexed name (huffman encoded)",
    with("\x1f\x2b" .. TEST_HUFFMAN), answered },
  { "generic/5/12", "Sends a literal header field never indexed - new name", with("\x10" .. NAME .. TEST), answered },
  { "generic/5/13", "Sends a literal header field never indexed - new name (huffman encoded)",
    with("\x10" .. NAME_HUFFMAN .. TEST_HUFFMAN), answered },
  { "generic/5/14", "Sends a dynamic table size update", begins_with "\x20", answered },
  { "generic/5/15", "Sends multiple dynamic table size update", begins_with "\x20\x3f\x21", answered },

  { "http2/3.5/1", "Sends client connection preface", nil, alive },
  { "http2/3.5/2", "Sends invalid connection preface", "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n" .. frame("SETTINGS", 0, 0),
    PROTOCOL, preface = false },
  { "http2/4.1/1", "Sends a frame with unknown type", frame(0xff, 0, 0, ("\0"):rep(8)), alive },
  { "http2/4.1/2", "Sends a frame with undefined flag", frame("PING", 0x16, 0, ("\0"):rep(8)), function(c)
    assert.equal(ACK, assert(c:frame "PING").flags)
    alive(c)
  end },
  { "http2/4.1/3", "Sends a frame with reserved field bit", frame("PING", 0, 1 << 31, ("\0"):rep(8)), function(c)
    assert.equal(ACK, assert(c:frame "PING").flags)
    alive(c)
  end },
  { "http2/4.2/1", "Sends a DATA frame with 2^14 octets in length", post(1) .. data(1, ("x"):rep(16384)), answered },
  { "http2/4.2/2", "Sends a large size DATA frame that exceeds the SETTINGS_MAX_FRAME_SIZE",
    post(1) .. data(1, ("x"):rep(16385)), SIZE },
  { "http2/4.2/3", "Sends a large size HEADERS frame that exceeds the SETTINGS_MAX_FRAME_SIZE",
    get(1, { { "x", ("y"):rep(16385) } }), SIZE },
  { "http2/4.3/1", "Sends invalid header block fragment", frame("HEADERS", WHOLE, 1, ("\xff"):rep(6)), COMPRESSION },
  { "http2/4.3/2", "Sends a PRIORITY frame while sending the header blocks",
    get(1, nil, nil, END_STREAM) .. priority(1),
    PROTOCOL },
  { "http2/4.3/3", "Sends a HEADERS frame to another stream while sending the header blocks",
    get(1, nil, nil, END_STREAM) .. get(3), PROTOCOL },
  { "http2/5.1/1", "idle: Sends a DATA frame", data(1, "x"), error_of "PROTOCOL_ERROR STREAM_CLOSED" },
  { "http2/5.1/2", "idle: Sends a RST_STREAM frame", rst(1), PROTOCOL },
  { "http2/5.1/3", "idle: Sends a WINDOW_UPDATE frame", window(1, 100), PROTOCOL },
  { "http2/5.1/4", "idle: Sends a CONTINUATION frame", continuation(1, END_HEADERS, block()), PROTOCOL },
  { "http2/5.1/5", "half closed (remote): Sends a DATA frame", stream(1) .. data(1, "x"), CLOSED },
  { "http2/5.1/6", "half closed (remote): Sends a HEADERS frame", stream(1) .. get(1), CLOSED },
  { "http2/5.1/7", "half closed (remote): Sends a CONTINUATION frame",
    stream(1) .. continuation(1, END_HEADERS, block()), error_of "PROTOCOL_ERROR STREAM_CLOSED" },
  { "http2/5.1/8", "closed: Sends a DATA frame after sending RST_STREAM frame", post(1) .. rst(1) .. data(1, "x"),
    passed_over }, -- RFC 9113 5.1: an error is allowed, and so is none
  { "http2/5.1/9", "closed: Sends a HEADERS frame after sending RST_STREAM frame", post(1) .. rst(1) .. get(1),
    passed_over }, -- the same
  { "http2/5.1/10", "closed: Sends a CONTINUATION frame after sending RST_STREAM frame",
    post(1) .. rst(1) .. continuation(1, END_HEADERS, block()), error_of "PROTOCOL_ERROR STREAM_CLOSED" },
  { "http2/5.1/11", "closed: Sends a DATA frame", get(1), function(c)
    answered(c)
    c:send(data(1, "x"))
    passed_over(c) -- the same
  end },
  { "http2/5.1/12", "closed: Sends a HEADERS frame", get(1), function(c)
    answered(c)
    c:send(get(1))
    passed_over(c) -- the same
  end },
  { "http2/5.1/13", "closed: Sends a CONTINUATION frame", get(1), function(c)
    answered(c)
    c:send(continuation(1, END_HEADERS, block()))
    error_of "PROTOCOL_ERROR STREAM_CLOSED"(c)
  end },
  { "http2/5.1.1/1", "Sends even-numbered stream identifier", get(2), PROTOCOL },
  { "http2/5.1.1/2", "Sends stream identifier that is numerically smaller than previous", get(5), function(c)
    assert.equal(5, assert(c:frame "HEADERS").id)
    alive(c)
    c:send(get(3))
    passed_over(c) -- stream 3 was closed when 5 began (5.1.1): nghttp2 cannot tell it from one that was used
  end },
  { "http2/5.1.2/1", "Sends HEADERS frames that causes their advertised concurrent stream limit to be exceeded",
    stream(1) .. stream(3) .. stream(5) .. stream(7), error_of "PROTOCOL_ERROR REFUSED_STREAM" },
  { "http2/5.3.1/1", "Sends HEADERS frame that depends on itself",
    frame("HEADERS", WHOLE | PRIORITY, 1, u32(1) .. "\xff" .. block()), PROTOCOL },
  { "http2/5.3.1/2", "Sends PRIORITY frame that depend on itself", priority(2, 2),
    passed_over }, -- not applicable: the broker says SETTINGS_NO_RFC7540_PRIORITIES (RFC 9113 5.3.1, RFC 9218 2.1)
  { "http2/5.4.1/1", "Sends an invalid PING frame for connection close", frame("PING", 0, 3, ("\0"):rep(8)), ends },
  { "http2/5.4.1/2", "Sends an invalid PING frame to receive GOAWAY frame",
    frame("PING", 0, 3, ("\0"):rep(8)), function(c)
    assert.truthy(c:frame "GOAWAY")
  end },
  { "http2/5.5/1", "Sends an unknown extension frame", frame(0x16, 0, 0, ("\0"):rep(8)), alive },
  { "http2/5.5/2", "Sends an unknown extension frame in the middle of a header block",
    get(1, nil, nil, END_STREAM) .. frame(0x16, 0, 0, ("\0"):rep(8)), PROTOCOL },
  { "http2/6.1/1", "Sends a DATA frame with 0x0 stream identifier", post(1) .. data(0, "x"), PROTOCOL },
  { "http2/6.1/2", 'Sends a DATA frame on the stream that is not in "open" or "half-closed (local)" state',
    stream(1) .. data(1, "x"), CLOSED },
  { "http2/6.1/3", "Sends a DATA frame with invalid pad length", post(1) .. data(1, "\6Test", END_STREAM | PADDED),
    PROTOCOL },
  { "http2/6.2/1", "Sends a HEADERS frame without the END_HEADERS flag, and a PRIORITY frame",
    get(1, nil, nil, END_STREAM) .. priority(1), PROTOCOL },
  { "http2/6.2/2", "Sends a HEADERS frame to another stream while sending a HEADERS frame",
    get(1, nil, nil, END_STREAM) .. get(3), PROTOCOL },
  { "http2/6.2/3", "Sends a HEADERS frame with 0x0 stream identifier", get(0), PROTOCOL },
  { "http2/6.2/4", "Sends a HEADERS frame with invalid pad length",
    frame("HEADERS", WHOLE | PADDED, 1, "\xff" .. block()), PROTOCOL },
  { "http2/6.3/1", "Sends a PRIORITY frame with 0x0 stream identifier", priority(0), PROTOCOL },
  { "http2/6.3/2", "Sends a PRIORITY frame with a length other than 5 octets",
    get(1) .. frame("PRIORITY", 0, 1, u32(0)),
    SIZE },
  { "http2/6.4/1", "Sends a RST_STREAM frame with 0x0 stream identifier", rst(0), PROTOCOL },
  { "http2/6.4/2", "Sends a RST_STREAM frame on a idle stream", rst(1), PROTOCOL },
  { "http2/6.4/3", "Sends a RST_STREAM frame with a length other than 4 octets",
    post(1) .. frame("RST_STREAM", 0, 1, "\0\0\0"), SIZE },
  { "http2/6.5/1", "Sends a SETTINGS frame with ACK flag and payload", frame("SETTINGS", ACK, 0, "\0"), SIZE },
  { "http2/6.5/2", "Sends a SETTINGS frame with a stream identifier other than 0x0",
    frame("SETTINGS", 0, 1), PROTOCOL },
  { "http2/6.5/3", "Sends a SETTINGS frame with a length other than a multiple of 6 octets",
    frame("SETTINGS", 0, 0, "\0\3\0"), SIZE },
  { "http2/6.5.2/1", "SETTINGS_ENABLE_PUSH (0x2): Sends the value other than 0 or 1", setting(2, 2), PROTOCOL },
  { "http2/6.5.2/2", "SETTINGS_INITIAL_WINDOW_SIZE (0x4): Sends the value above the maximum flow control window size",
    setting(4, 1 << 31), FLOW },
  { "http2/6.5.2/3", "SETTINGS_MAX_FRAME_SIZE (0x5): Sends the value below the initial value", setting(5, 16383),
    PROTOCOL },
  { "http2/6.5.2/4", "SETTINGS_MAX_FRAME_SIZE (0x5): Sends the value above the maximum allowed frame size",
    setting(5, 1 << 24), PROTOCOL },
  { "http2/6.5.2/5", "Sends a SETTINGS frame with unknown identifier", setting(0xff, 1), alive },
  { "http2/6.5.3/1", "Sends multiple values of SETTINGS_INITIAL_WINDOW_SIZE",
    frame("SETTINGS", 0, 0, (">I2I4I2I4"):pack(4, 100, 4, 1)), lengths(get(1), 1) },
  { "http2/6.5.3/2", "Sends a SETTINGS frame without ACK flag", setting(2, 0), function(c)
    assert.equal(ACK, assert(c:frame "SETTINGS").flags)
  end },
  { "http2/6.7/1", "Sends a PING frame", nil, alive },
  { "http2/6.7/2", "Sends a PING frame with ACK", frame("PING", ACK, 0, "invalid!"), alive },
  { "http2/6.7/3", "Sends a PING frame with a stream identifier field value other than 0x0",
    frame("PING", 0, 1, ("\0"):rep(8)), PROTOCOL },
  { "http2/6.7/4", "Sends a PING frame with a length field value other than 8",
    frame("PING", 0, 0, ("\0"):rep(6)), SIZE },
  { "http2/6.8/1", "Sends a GOAWAY frame with a stream identifier other than 0x0",
    frame("GOAWAY", 0, 1, u32(0) .. u32(0)), PROTOCOL },
  { "http2/6.9/1", "Sends a WINDOW_UPDATE frame with a flow control window increment of 0", window(0, 0), PROTOCOL },
  { "http2/6.9/2", "Sends a WINDOW_UPDATE frame with a flow control window increment of 0 on a stream",
    stream(1) .. window(1, 0), PROTOCOL },
  { "http2/6.9/3", "Sends a WINDOW_UPDATE frame with a length other than 4 octets",
    frame("WINDOW_UPDATE", 0, 0, "\0\0\1"), SIZE },
  { "http2/6.9.1/1", "Sends SETTINGS frame to set the initial window size to 1 and sends HEADERS frame", setting(4, 1),
    lengths(get(1), 1) },
  { "http2/6.9.1/2", "Sends multiple WINDOW_UPDATE frames increasing the flow control window to above 2^31-1",
    window(0, 0x7fffffff) .. window(0, 0x7fffffff), FLOW },
  { "http2/6.9.1/3", "Sends multiple WINDOW_UPDATE frames increasing the flow control window to above 2^31-1 on a "
    .. "stream",
    stream(1) .. window(1, 0x7fffffff) .. window(1, 0x7fffffff), FLOW },
  { "http2/6.9.2/1", "Changes SETTINGS_INITIAL_WINDOW_SIZE after sending HEADERS frame", setting(4, 0) .. get(1),
    lengths(setting(4, 1), 1) },
  { "http2/6.9.2/2", "Sends a SETTINGS frame for window size to be negative", setting(4, 3),
    lengths(get(1), 3, setting(4, 2) .. window(1, 2), 1) },
  { "http2/6.9.2/3", "Sends a SETTINGS_INITIAL_WINDOW_SIZE settings with an exceeded maximum window size value",
    stream(1) .. window(1, 0x7fff0000) .. setting(4, 0x7fffffff), FLOW },
  { "http2/6.10/1", "Sends multiple CONTINUATION frames preceded by a HEADERS frame",
    get(1, nil, nil, END_STREAM) .. continuation(1, 0, h2.fields { { "x", "y" } })
    .. continuation(1, END_HEADERS, h2.fields { { "x", "y" } }), answered },
  { "http2/6.10/2", "Sends a CONTINUATION frame followed by any frame other than CONTINUATION",
    get(1, nil, nil, END_STREAM) .. continuation(1, 0, h2.fields { { "x", "y" } }) .. data(1, "x"), PROTOCOL },
  { "http2/6.10/3", "Sends a CONTINUATION frame with 0x0 stream identifier",
    get(1, nil, nil, END_STREAM) .. continuation(0, END_HEADERS, ""), PROTOCOL },
  { "http2/6.10/4", "Sends a CONTINUATION frame preceded by a HEADERS frame with END_HEADERS flag",
    post(1) .. continuation(1, END_HEADERS, ""), PROTOCOL },
  { "http2/6.10/5", "Sends a CONTINUATION frame preceded by a CONTINUATION frame with END_HEADERS flag",
    frame("HEADERS", 0, 1, block()) .. continuation(1, END_HEADERS, "") .. continuation(1, END_HEADERS, ""), PROTOCOL },
  { "http2/6.10/6", "Sends a CONTINUATION frame preceded by a DATA frame",
    post(1) .. data(1, "x", 0) .. continuation(1, END_HEADERS, ""), PROTOCOL },
  { "http2/7/1", "Sends a GOAWAY frame with unknown error code", frame("GOAWAY", 0, 0, u32(0) .. u32(0xff)), over },
  { "http2/7/2", "Sends a RST_STREAM frame with unknown error code", stream(1) .. rst(1, 0xff), alive },
  { "http2/8.1/1", "Sends a second HEADERS frame without the END_STREAM flag",
    post(1) .. frame("HEADERS", END_HEADERS, 1, h2.fields { { "x", "y" } }), PROTOCOL },
  { "http2/8.1.2/1", "Sends a HEADERS frame that contains the header field name in uppercase letters",
    get(1, { { "X-Test", "y" } }), PROTOCOL },
  { "http2/8.1.2.1/1", "Sends a HEADERS frame that contains a unknown pseudo-header field",
    get(1, { { ":test", "y" } }),
    PROTOCOL },
  { "http2/8.1.2.1/2", "Sends a HEADERS frame that contains the pseudo-header field defined for response",
    get(1, { { ":status", "200" } }), PROTOCOL },
  { "http2/8.1.2.1/3", "Sends a HEADERS frame that contains a pseudo-header field as trailers",
    post(1) .. data(1, "x", 0) .. fields { { ":method", "GET" } }, PROTOCOL },
  { "http2/8.1.2.1/4",
    "Sends a HEADERS frame that contains a pseudo-header field that appears in a header block after a regular header "
    .. "field",
    fields { { ":method", "GET" }, { ":scheme", "http" }, { "x", "y" }, { ":path", "/" }, { ":authority", "a" } },
    PROTOCOL },
  { "http2/8.1.2.2/1", "Sends a HEADERS frame that contains the connection-specific header field",
    get(1, { { "connection", "keep-alive" } }), PROTOCOL },
  { "http2/8.1.2.2/2", 'Sends a HEADERS frame that contains the TE header field with any value other than "trailers"',
    get(1, { { "te", "trailers, deflate" } }), PROTOCOL },
  { "http2/8.1.2.3/1", 'Sends a HEADERS frame with empty ":path" pseudo-header field', get(1, nil, { [":path"] = "" }),
    PROTOCOL },
  { "http2/8.1.2.3/2", 'Sends a HEADERS frame that omits ":method" pseudo-header field',
    get(1, nil, { [":method"] = false }), PROTOCOL },
  { "http2/8.1.2.3/3", 'Sends a HEADERS frame that omits ":scheme" pseudo-header field',
    get(1, nil, { [":scheme"] = false }), PROTOCOL },
  { "http2/8.1.2.3/4", 'Sends a HEADERS frame that omits ":path" pseudo-header field',
    get(1, nil, { [":path"] = false }), PROTOCOL },
  { "http2/8.1.2.3/5", 'Sends a HEADERS frame with duplicated ":method" pseudo-header field',
    begins_with(h2.fields { { ":method", "GET" } }), PROTOCOL },
  { "http2/8.1.2.3/6", 'Sends a HEADERS frame with duplicated ":scheme" pseudo-header field',
    begins_with(h2.fields { { ":scheme", "http" } }), PROTOCOL },
  { "http2/8.1.2.3/7", 'Sends a HEADERS frame with duplicated ":path" pseudo-header field',
    begins_with(h2.fields { { ":path", "/" } }), PROTOCOL },
  { "http2/8.1.2.6/1",
    'Sends a HEADERS frame with the "content-length" header field which does not equal the DATA frame payload length',
    post(1, { { "content-length", "1" } }) .. data(1, "xy"), PROTOCOL },
  { "http2/8.1.2.6/2", 'Sends a HEADERS frame with the "content-length" header field which does not equal the sum of '
    .. "the multiple DATA frames payload length",
    post(1, { { "content-length", "1" } }) .. data(1, "x", 0) .. data(1, "y"), PROTOCOL },
  { "http2/8.2/1", "Sends a PUSH_PROMISE frame", get(1) .. frame("PUSH_PROMISE", END_HEADERS, 1, u32(2) .. block()),
    PROTOCOL },

  { "hpack/2.3.3/1", "Sends a indexed header field representation with invalid index", with "\xfe", COMPRESSION },
  { "hpack/2.3.3/2", "Sends a literal header field representation with invalid index",
    with("\x7e" .. TEST), COMPRESSION },
  { "hpack/4.2/1", "Sends a dynamic table size update at the end of header block", with "\x20", COMPRESSION },
  { "hpack/5.2/1", "Sends a Huffman-encoded string literal representation with padding longer than 7 bits",
    with("\0" .. NAME_HUFFMAN .. "\x84\x49\x50\x9f\xff"), COMPRESSION },
  { "hpack/5.2/2", "Sends a Huffman-encoded string literal representation padded by zero",
    with("\0" .. NAME_HUFFMAN .. "\x83\x49\x50\x90"), COMPRESSION },
  { "hpack/5.2/3", "Sends a Huffman-encoded string literal representation containing the EOS symbol",
    with("\0" .. NAME_HUFFMAN .. "\x87\x49\x50\x9f\xff\xff\xff\xff"), COMPRESSION },
  { "hpack/6.1/1", "Sends a indexed header field representation with index 0", with "\x80", COMPRESSION },
  { "hpack/6.3/1", "Sends a dynamic table size update larger than the value of SETTINGS_HEADER_TABLE_SIZE",
    begins_with "\x3f\xe2\x1f", COMPRESSION },
}

describe("h2spec", function()
  local broker = tidegate.shared { config = { limits = { h2_streams = 3 } } }

  it("has so many cases", function()
    assert.equal(147, #CASES)
  end)

  for _, case in ipairs(CASES) do
    local number, title, bytes, right = table.unpack(case, 1, 4)
    it(number .. ": " .. title, function()
      local c = h2.raw(broker(), { preface = case.preface })
      c:send(bytes or "")
      right(c)
      c:close()
    end)
  end
end)
