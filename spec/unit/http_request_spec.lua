local http = require "native.http"

local HOST = "Host: a.example\r\n"

local function get(fields, first)
  return (first or "GET /events HTTP/1.1") .. "\r\n" .. (fields or HOST) .. "\r\n"
end

local function post(fields, body)
  return "POST /events HTTP/1.1\r\n" .. HOST .. fields .. "\r\n" .. (body or "")
end

local function chunked(body)
  return post("Transfer-Encoding: chunked\r\n", body)
end

local function bytes_of(text)
  local pieces = {}
  for i = 1, #text do
    pieces[i] = text:sub(i, i)
  end
  return pieces
end

-- Parses `text` in one piece, byte by byte and cut at every position: the outcome must be the same.
local function parse(text, limits)
  local whole = http.request({ text }, limits)
  assert.same(whole, http.request(bytes_of(text), limits), "byte by byte")
  for i = 1, #text - 1 do
    local halves = http.request({ text:sub(1, i), text:sub(i + 1) }, limits)
    if not pcall(assert.same, whole, halves) then
      assert.same(whole, halves, "cut behind byte " .. i)
    end
  end
  return whole
end

local function accept(text, expected, limits)
  local r = parse(text, limits)
  assert.same("complete", r.state, r.text)
  assert.equal(#text, r.used)
  for key, value in pairs(expected or {}) do
    assert.same(value, r[key], key)
  end
  return r
end

-- Refused, with that status, and (where `behind` is given) as soon as those bytes were seen.
local function refuse(text, status, say, limits)
  local r = parse(text, limits)
  assert.equal("failed", r.state)
  assert.equal(status, r.status, r.text)
  assert.truthy(r.text:find(say, 1, true), ("%q does not say %q"):format(r.text, say))
  return r
end

describe("http_request accepts", function()
  it("a plain GET", function()
    local r = accept("GET /events?topic=a%2Fb&x HTTP/1.1\r\nHost: a.example:8080\r\nAccept: */*\r\n\r\n", {
      method = "GET", method_name = "GET", target = "/events?topic=a%2Fb&x", path = "/events",
      query = "topic=a%2Fb&x", host = "a.example:8080", minor = 1, keep_alive = true,
      expect_continue = false, body = "",
    })
    assert.same({ { "Host", "a.example:8080" }, { "Accept", "*/*" } }, r.headers)
    assert.is_nil(accept(get()).query)
    assert.equal("", accept(get(nil, "GET /? HTTP/1.1")).query)
    assert.equal("a?b", accept(get(nil, "GET /?a?b HTTP/1.1")).query)
  end)

  it("every method, by its exact name", function()
    for _, name in ipairs { "GET", "HEAD", "POST", "OPTIONS", "DELETE" } do
      assert.equal(name, accept(get(nil, name .. " / HTTP/1.1")).method)
    end
    for _, name in ipairs { "get", "PUT", "PATCH", "M-SEARCH", "!#$%&'*+-.^_`|~09azAZ", "GETS", ("X"):rep(32) } do
      local r = accept(get(nil, name .. " / HTTP/1.1"))
      assert.same({ "other", name }, { r.method, r.method_name })
    end
  end)

  it("field values with any white space around, inside, and foreign bytes", function()
    local r = accept(get(HOST .. "A:\r\nB: \t \r\nC:x\r\nD: \t a \t b\t \r\nE: \xc3\xa9\xff\r\n" ..
      "!#$%&'*+-.^_`|~: \"q\"\r\n"))
    assert.same({ { "Host", "a.example" }, { "A", "" }, { "B", "" }, { "C", "x" }, { "D", "a \t b" },
      { "E", "\xc3\xa9\xff" }, { "!#$%&'*+-.^_`|~", '"q"' } }, r.headers)
  end)

  it("repeated fields that may repeat, in order", function()
    local text = get(HOST .. "X-A: 1\r\nx-a: 2\r\n")
    assert.equal("1", http.header(text, "x-A"))
    assert.is_nil(http.header(text, "x-"))
    assert.equal(3, #accept(text).headers)
  end)

  it("absolute-form whose authority is the Host", function()
    for target, want in pairs {
      ["http://a.example/p?q"] = { "/p", "q" },
      ["HTTP://A.example/"] = { "/" },
      ["https://a.example"] = { "/" },
      ["http://a.example?q=/"] = { "/", "q=/" },
    } do
      local r = accept(get(nil, "GET " .. target .. " HTTP/1.1"))
      assert.same({ want[1], want[2], target }, { r.path, r.query, r.target })
    end
    assert.equal("b:1", accept("GET http://b:1/ HTTP/1.0\r\n\r\n").host)
  end)

  it("OPTIONS *", function()
    assert.equal("*", accept(get(nil, "OPTIONS * HTTP/1.1")).path)
  end)

  it("targets with all that browsers leave unescaped", function()
    accept(get(nil, [[GET //a/../b;c=d,e@f:g!$&'()*+"<>[\]^`{|}~%zz?/?"<>[\]^`{|} HTTP/1.1]]))
  end)

  it("every kind of Host", function()
    for _, host in ipairs { "a", "a.b-c_d~e", "127.0.0.1:80", "[::1]", "[2001:db8::1]:65535",
      "[::ffff:1.2.3.4]", "a:" } do
      assert.equal(host, accept(get("Host: " .. host .. "\r\n")).host)
    end
  end)

  it("bodies of a given length", function()
    accept(post("Content-Length: 5\r\n", "a\r\n\0z"), { body = "a\r\n\0z", method = "POST" })
    accept(post("content-length: 0005\r\n", "12345"), { body = "12345" })
    accept(post("Content-Length: 0\r\n"), { body = "" })
    accept(post(""), { body = "" })
    accept("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", { body = "" }) -- of no use
  end)

  it("chunked bodies", function()
    for body, want in pairs {
      ["0\r\n\r\n"] = "",
      ["5\r\nhello\r\n0\r\n\r\n"] = "hello",
      ["005\r\nhello\r\n000\r\n\r\n"] = "hello",
      ["1\r\na\r\nA\r\n0123456789\r\nb\r\n0123456789a\r\n0\r\n\r\n"] = "a01234567890123456789a",
      ["2\r\n\r\n\r\n0\r\n\r\n"] = "\r\n",
      ['3;a=b; c="d e";f\r\nabc\r\n0;last\r\n\r\n'] = "abc",
      ["1\r\na\r\n0\r\nTrailer: x\r\nAnother:\r\n\r\n"] = "a",
      ["0\r\nContent-Length: 7\r\nTransfer-Encoding: gzip\r\nHost: b\r\n\r\n"] = "",
    } do
      local r = accept(chunked(body), { body = want })
      assert.equal(2, #r.headers, "trailers are dropped")
    end
    accept(post("transfer-encoding:\tChunked \r\n", "0\r\n\r\n"), { body = "" })
  end)

  it("Connection options, wherever they stand", function()
    for value, want in pairs {
      ["close"] = false, ["Close"] = false, ["keep-alive, close"] = false, [" foo ,\tCLOSE\t,bar"] = false,
      ["keep-alive"] = true, ["closed"] = true, [",,"] = true, ["upgrade"] = true,
    } do
      assert.equal(want, accept(get(HOST .. "Connection: " .. value .. "\r\n")).keep_alive, value)
    end
    assert.is_false(accept(get(HOST .. "Connection: keep-alive\r\nconnection: close\r\n")).keep_alive)
  end)

  it("HTTP/1.0: no Host needed, kept alive on demand only", function()
    local function old(fields)
      return accept("GET / HTTP/1.0\r\n" .. fields .. "\r\n", { minor = 0 })
    end
    assert.is_false(old("").keep_alive)
    assert.is_nil(old("").host)
    assert.equal("a", old("Host: a\r\n").host)
    assert.is_true(old("Connection: Keep-Alive\r\n").keep_alive)
    assert.is_false(old("Connection: keep-alive, close\r\n").keep_alive)
    accept("POST / HTTP/1.0\r\nContent-Length: 1\r\n\r\nx", { body = "x" })
  end)

  it("the expectation of 100-continue, where a body is to come", function()
    assert.is_true(accept(post("Expect: 100-Continue\r\nContent-Length: 1\r\n", "x")).expect_continue)
    assert.is_true(accept(post("Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n")).expect_continue)
    assert.is_false(accept(post("Expect: 100-continue\r\nContent-Length: 0\r\n")).expect_continue)
    assert.is_false(accept("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx").expect_continue)
    local waiting = http.request { post("Expect: 100-continue\r\nContent-Length: 1\r\n") }
    assert.same({ "body", true }, { waiting.state, waiting.expect_continue })
  end)

  it("up to two empty lines before the request", function()
    accept("\r\n" .. get())
    accept("\r\n\r\n" .. get(), { path = "/events" })
    refuse("\r\n\r\n\r\n" .. get(), 400, "empty lines")
  end)
end)

describe("http_request refuses", function()
  it("line ends other than CRLF, at once", function()
    -- nothing of these is a complete head: the refusal must not wait for one
    refuse("GET / HTTP/1.1\n", 400, "LF without CR")
    refuse("GET / HTTP/1.1\r\nHost: a\n", 400, "LF without CR")
    refuse("GET / HTTP/1.1\rX", 400, "CR without LF")
    refuse("GET / HTTP/1.1\r\nA: b\rc", 400, "CR without LF")
    refuse("GET / HTTP/1.1\r\nA: b\r\r", 400, "CR without LF")
    refuse("GET / HTTP/1.1\r\nA\n", 400, "LF without CR")
    refuse("GET / HTTP/1.1\r\nA:\n", 400, "LF without CR")
    refuse("GET /\n", 400, "LF without CR")
    refuse("GET\n", 400, "LF without CR")
    refuse("\n", 400, "LF without CR")
    refuse("\rG", 400, "CR without LF")
    refuse("GET / HTTP/1.1\r\n" .. HOST .. "\n", 400, "LF without CR")
    refuse("GET / HTTP/1.1\r\n" .. HOST .. "\rx", 400, "CR without LF")
  end)

  it("a request line that is not METHOD TARGET HTTP/1.x", function()
    for _, line in ipairs { "G(T / HTTP/1.1", " GET / HTTP/1.1", "G\tT / HTTP/1.1", "GET\t/ HTTP/1.1", "/ HTTP/1.1",
      "HTTP/1.1 200 OK", "G\xc3\x89T / HTTP/1.1", "\0GET / HTTP/1.1", "GET:", "{}", "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
      "GET / http/1.1", "GET / HTTP/1.1 ", "GET / HTTP/1.", "GET / HTTP/1.x", "GET / HTTP/11.1", "GET / HTTP 1.1",
      "GET / XTTP/1.1", "GET / HTTP/1.1x", "GET / HTTP/1.10", "GET / HTTP/x.1", "GET / a HTTP/1.1" } do
      refuse(line .. "\r\n", 400, "")
    end
    refuse("GET /\r\n", 400, "must end with HTTP/1.1")
    refuse("GET \r\n", 400, "")
    refuse("\x16\x03\x01", 400, "TLS")
  end)

  it("versions it does not speak", function()
    refuse("GET / HTTP/2.", 505, "HTTP/2")
    refuse("GET / HTTP/3.0", 505, "HTTP/1.1")
    refuse("GET / HTTP/0.9", 505, "HTTP/1.1")
    refuse("GET / HTTP/1.2\r\n", 505, "HTTP/1.1")
    refuse("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "HTTP/2 is not served here")
  end)

  it("methods it could not serve", function()
    refuse(("X"):rep(33), 501, "longer")
    refuse("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 501, "proxy")
  end)

  it("bytes that have no place in a target", function()
    refuse("GET /a#", 400, "fragment")
    for _, c in ipairs { "\t", "\0", "\x1f", "\x7f", "\x80", "\xc3\xa9" } do
      refuse("GET /a" .. c, 400, "%XX")
    end
  end)

  it("targets of other forms", function()
    for _, target in ipairs { "events", "*", "?a", "a.example:80", "ftp://a.example/", "http:/a", "https:", "%2F" } do
      refuse(get(nil, "GET " .. target .. " HTTP/1.1"), 400, "must start with /")
    end
    refuse(get(nil, "OPTIONS ** HTTP/1.1"), 400, "must start with /")
    for _, authority in ipairs { "", "u@a.example", "a.example:x", "a.example:99999", "[::1", "a\\b" } do
      refuse(get(nil, "GET http://" .. authority .. "/ HTTP/1.1"), 400, "authority")
    end
    refuse(get(nil, "GET http://b.example/ HTTP/1.1"), 400, "differ")
    refuse(get(nil, "GET http://a.example:80/ HTTP/1.1"), 400, "differ")
    refuse("GET http://a.example/ HTTP/1.1\r\n\r\n", 400, "no Host")
  end)

  it("field lines that could be read in two ways", function()
    for line, say in pairs {
      [" A: b"] = "folded", ["\tA: b"] = "folded", ["A : b"] = "before the colon", ["A\t: b"] = "before the colon",
      ["A"] = "without a colon", [": b"] = "token", ["A(: b"] = "token", ["A\xff: b"] = "token", ["A\0: b"] = "token",
      ["A: \0"] = "control", ["A: \x01b"] = "control", ["A: \x7f"] = "control", ["A: b\x0b"] = "control",
      ["A b: c"] = "before the colon", ["@"] = "token",
    } do
      refuse("GET / HTTP/1.1\r\n" .. line .. "\r\n", 400, say)
      refuse("GET / HTTP/1.1\r\n" .. HOST .. line .. "\r\n", 400, say)
    end
    refuse("GET / HTTP/1.1\r\nA: b\r\n c\r\n", 400, "folded")
  end)

  it("a missing, repeated or malformed Host", function()
    refuse(get("A: b\r\n"), 400, "no Host")
    refuse(get(HOST .. HOST), 400, "more than one Host")
    refuse("GET / HTTP/1.0\r\nHost: a\r\nhost: a\r\n\r\n", 400, "more than one Host")
    for _, host in ipairs { "", " ", "a b", "a, b", "a,b", "a/b", "a@b", "a:b", "a:80:80", "a:65536", "a:-1",
      "[::1", "::1",
      "[]", "[::1]x", "[::1]:x", "[::g]", "[1.2.3.4]", "[fe80::1%eth0]", "a?b", "a%41", "\xc3\xa9", ":80",
        "http://a" } do
      refuse(get("Host: " .. host .. "\r\n"), 400, "HOST:PORT")
    end
  end)

  it("doubtful lengths", function()
    refuse(post("Content-Length: 5\r\nContent-Length: 6\r\n", "12345"), 400, "more than one Content-Length")
    refuse(post("Content-Length: 5\r\ncontent-length: 5\r\n", "12345"), 400, "more than one Content-Length")
    refuse(post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), 400, "both")
    refuse(post("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n"), 400, "both")
    for _, length in ipairs { "", "+5", "-5", "5, 5", "5 5", "0x5", "5.", "five", "5;", "\xb2" } do
      refuse(post("Content-Length: " .. length .. "\r\n"), 400, "decimal digits")
    end
  end)

  it("doubtful transfer codings", function()
    for _, coding in ipairs { "", "gzip", "chunked, gzip", "chunked,chunked", "chunked;q=1", "chunked,",
      "xchunked", "identity",
      "chunked x", '"chunked"', "chunked, gzip, chunked" } do
      refuse(post("Transfer-Encoding: " .. coding .. "\r\n"), 400, "end with chunked, once")
    end
    refuse(post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), 400, "more than one Transfer-Encoding")
    refuse(post("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n"), 400, "more than one Transfer-Encoding")
    refuse("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "HTTP/1.0")
    refuse(post("Transfer-Encoding: gzip, chunked\r\n"), 501, "only transfer coding")
    refuse(post("Transfer-Encoding: x, y,chunked\r\n"), 501, "only transfer coding")
  end)

  it("expectations other than 100-continue", function()
    refuse(get(HOST .. "Expect: 200-ok\r\n"), 417, "100-continue")
    refuse(get(HOST .. "Expect: 100-continue\r\nExpect: x\r\n"), 417, "100-continue")
    refuse(get(HOST .. "Expect:\r\n"), 417, "100-continue")
  end)

  it("malformed chunks", function()
    for _, size in ipairs { "+5", "-5", "0x5", " 5", "5 ", "g", "", ";a", "5,", "\t5", "5\0" } do
      refuse(chunked(size .. "\r\n"), 400, "hexadecimal")
    end
    refuse(chunked("5\n"), 400, "LF without CR")
    refuse(chunked("5\rx"), 400, "CR without LF")
    refuse(chunked("1;a\n"), 400, "LF without CR")
    refuse(chunked("1;\0"), 400, "control")
    refuse(chunked("1\r\nab"), 400, "longer than its size")
    refuse(chunked("1\r\na\n"), 400, "LF without CR")
    refuse(chunked("1\r\na\rb"), 400, "CR without LF")
    refuse(chunked("10000000000000000"), 400, "64 bits")
    refuse(chunked("fffffffffffffffff"), 400, "64 bits")
    refuse(chunked("0\r\nA b\r\n"), 400, "before the colon")
    refuse(chunked("0\r\nA: b\r\n c"), 400, "folded")
    refuse(chunked("0\r\nA: b\n"), 400, "LF without CR")
  end)
end)

describe("http_request bounds", function()
  local limits = { target = 16, head = 120, headers = 4, body = 10 }

  it("the target", function()
    accept(get("Host: a\r\n", "GET /" .. ("x"):rep(15) .. " HTTP/1.1"), nil, limits)
    refuse("GET /" .. ("x"):rep(16), 414, "target", limits)
    refuse("GET /" .. ("x"):rep(400), 414, "target", { target = 1000, head = 100 })
    refuse("GET /" .. ("x"):rep(15) .. "\0", 400, "%XX", limits)
  end)

  it("the head", function()
    local head = get("Host: a\r\nX: \r\n", "GET / HTTP/1.1")
    local fits = head:gsub("X: ", "X: " .. ("y"):rep(120 - #head))
    assert.equal(120, #fits)
    accept(fits, nil, limits)
    accept(fits .. "", nil, limits)
    refuse((fits:gsub("yy", "yyy", 1)), 431, "head is too long", limits)
    local r = refuse("GET / HTTP/1.1\r\nX: " .. ("y"):rep(500), 431, "head is too long", limits)
    assert.same({ 120, {} }, { r.used, r.headers })
    refuse(("\r\n"):rep(2) .. "GET / HTTP/1.1\r\n" .. ("y"):rep(500), 431, "head is too long", limits)
  end)

  it("the number of fields", function()
    accept(get("Host: a\r\n" .. ("A: b\r\n"):rep(3)), nil, limits)
    refuse("GET / HTTP/1.1\r\nHost: a\r\n" .. ("A: b\r\n"):rep(3) .. "A", 431, "too many", limits)
    accept(get("Host: a\r\n" .. ("A:\r\n"):rep(99)), nil, { headers = 100 })
  end)

  it("bodies, as soon as their length is known", function()
    accept(post("Content-Length: 10\r\n", "0123456789"), nil, limits)
    for _, length in ipairs { "11", "4294967297", "18446744073709551615", "18446744073709551616",
      "18446744073709551621", ("9"):rep(50) } do
      local r = refuse(post("Content-Length: " .. length .. "\r\n"), 413, "too long", limits)
      assert.equal(2, #r.headers, "the head is readable, for the CORS fields of the answer")
    end
    accept(chunked("5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n"), { body = "0123456789" }, limits)
    refuse(chunked("b\r\n"), 413, "too long", limits)
    refuse(chunked("5\r\n01234\r\n6\r\n"), 413, "too long", limits)
    refuse(chunked("ffffffffffffffff\r\n"), 413, "too long", limits)
  end)

  it("chunk size lines, extensions, trailers", function()
    refuse(chunked(("0"):rep(300)), 400, "size line is too long")
    refuse(chunked("1;" .. ("x"):rep(300)), 400, "size line is too long")
    -- 1-byte chunks with extensions below that bound: many bytes for few
    local r = http.request { chunked(("1;" .. ("x"):rep(200) .. "\r\na\r\n"):rep(30)) }
    assert.same({ 400, "too many bytes of chunk extensions" }, { r.status, r.text })
    accept(chunked("0\r\n" .. "A: " .. ("x"):rep(112) .. "\r\n\r\n"), nil, limits)
    refuse(chunked("0\r\n" .. "A: " .. ("x"):rep(114) .. "\r\n\r\n"), 431, "trailers", limits)
    refuse(chunked("0\r\n" .. ("A: b\r\n"):rep(21)), 431, "trailers", limits)
  end)
end)

describe("http_request and pipelining", function()
  it("stops behind the request it completed", function()
    for _, first in ipairs { get(), post("Content-Length: 2\r\n", "hi"), chunked("2\r\nhi\r\n0\r\nA: b\r\n\r\n"),
      "\r\n" .. get() } do
      for _, rest in ipairs { get(), "\r\n", "\n", "garbage \0", post("Content-Length: 1\r\n", "x") } do
        local r = parse(first .. rest)
        assert.same({ "complete", #first }, { r.state, r.used })
      end
    end
  end)

  it("takes a train of requests apart", function()
    local train = { get(nil, "GET /1 HTTP/1.1"), post("Content-Length: 3\r\n", "GET"),
      chunked("1\r\nG\r\n0\r\n\r\n"), get(nil, "GET /4 HTTP/1.1") }
    local text, seen = table.concat(train), {}
    while #text > 0 do
      local r = http.request { text }
      assert.equal("complete", r.state)
      seen[#seen + 1] = r.path .. "|" .. r.body
      text = text:sub(r.used + 1)
    end
    assert.same({ "/1|", "/events|GET", "/events|G", "/4|" }, seen)
  end)

  it("waits for what is missing", function()
    for _, text in ipairs { get(), post("Content-Length: 2\r\n", "hi"), chunked("2\r\nhi\r\n0\r\nA: b\r\n\r\n") } do
      local head = text:find("\r\n\r\n", 1, true) + 3
      for i = 0, #text - 1 do
        local r = http.request { text:sub(1, i) }
        assert.same({ i < head and "head" or "body", i }, { r.state, r.used })
      end
    end
  end)
end)
