-- The tools of the specs themselves: an oracle that is wrong proves nothing.
local eventually = require "support.eventually"
local http = require "support.http"
local logfmt = require "support.logfmt"
local socket = require "socket"
local sockets = require "support.sockets"
local sse_parser = require "support.sse_parser"

-- Parses `text` cut into pieces of `size` bytes.
local function parse(text, size)
  local out, events = {}, {}
  local p = sse_parser(out, function(ev) events[#events + 1] = ev end)
  for i = 1, #text, size or #text do
    p:feed(text:sub(i, i + (size or #text) - 1))
  end
  return events, out
end

describe("the SSE parser of the specs", function()
  local cases = {
    -- the examples of WHATWG HTML 9.2.6
    { "data: YHOO\ndata: +2\ndata: 10\n\n", { { type = "message", data = "YHOO\n+2\n10", id = "" } } },
    { ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n", {
      { type = "message", data = "first event", id = "1" },
      { type = "message", data = "second event", id = "" },
      { type = "message", data = " third event", id = "" },
    } },
    { "data\n\ndata\ndata\n\ndata:", {
      { type = "message", data = "", id = "" }, { type = "message", data = "\n", id = "" },
    } },
    { "data:test\n\ndata: test\n\n", {
      { type = "message", data = "test", id = "" }, { type = "message", data = "test", id = "" },
    } },
    -- line ends, byte order mark, types, ids
    { "\xEF\xBB\xBFdata: a\r\rdata: b\r\n\r\ndata: c\n\r\n", {
      { type = "message", data = "a", id = "" }, { type = "message", data = "b", id = "" },
      { type = "message", data = "c", id = "" },
    } },
    { "data: a\r\n\ndata: b\n\n", {
      { type = "message", data = "a", id = "" }, { type = "message", data = "b", id = "" },
    } },
    { "event: x\nid: 7\n\ndata: a\n\n", { { type = "message", data = "a", id = "7" } } },
    { "event: x\nid: 7\ndata: a\nid: 8\0\n\n", { { type = "x", data = "a", id = "7" } } },
    { "data: unfinished\n", {} },
  }
  for i, case in ipairs(cases) do
    for _, size in ipairs { 1, 2, 3, 1000 } do
      it(("follows the rules, case %d in pieces of %d"):format(i, size), function()
        assert.same(case[2], (parse(case[1], size)))
      end)
    end
  end

  it("keeps retry, comments, the last id and the lines of blocks", function()
    local _, out = parse("retry: 10\nretry: x\n:heartbeat\n\nid: 5\n\n", 1)
    assert.equal(10, out.retry_ms)
    assert.same({ "heartbeat" }, out.comments)
    assert.equal("5", out.last_id)
    assert.same({ "id: 5" }, out.blocks[2].lines)
    assert.is_nil(out.blocks[2].event)
  end)
end)

describe("the log parser of the specs", function()
  it("reads quoted and bare values", function()
    assert.same({ a = "1", b = "x y", c = "\"\\\n\27" }, logfmt.parse [[a=1 b="x y" c="\"\\\n\x1b"]])
  end)

  it("refuses what is not logfmt", function()
    for _, line in ipairs { "", "a", "a=", "a=1  b=2", 'a="x', 'a="x"b=1', 'a=x"y', [[a="\q"]], "a=1 " } do
      assert.is_nil(logfmt.parse(line), line)
    end
  end)
end)

describe("the HTTP client of the specs", function()
  it("renders what is asked", function()
    assert.equal("GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n", http.render("GET", "/a"))
    assert.equal("POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi",
      http.render("POST", "/a", { Host = "x" }, "hi"))
    assert.equal("a=1%202&topic=a%2Fb&topic=c", http.query { topic = { "a/b", "c" }, a = "1 2" })
  end)
end)

describe("eventually", function()
  it("returns what the condition answers, and fails with the last reason", function()
    local n = 0
    assert.equal(3, eventually("three", function() n = n + 1; return n >= 3 and n end))
    local ok, why = pcall(eventually, "the impossible", function() return false, "still no" end, 0.02)
    assert.is_false(ok)
    assert.matches("the impossible", why)
    assert.matches("still no", why)
  end)
end)

describe("a socket of the specs", function()
  for _, which in ipairs { "first", "second" } do
    it("stays open until its spec ends, though nothing refers to it: in the " .. which .. " spec", function()
      local server = assert(socket.bind("127.0.0.1", 0))
      local _, port = server:getsockname()
      assert(sockets.connect { host = "127.0.0.1", port = tonumber(port) })
      local peer = assert(server:accept())
      collectgarbage()
      collectgarbage()
      peer:settimeout(0)
      assert.same({ n = 3, nil, "timeout", "" }, table.pack(peer:receive(1)))
      peer:close()
      server:close()
    end)
  end
end)
