local http = require "native.http"

-- Status line, fields as a table, their order, body.
local function render(r)
  local text = assert(http.response(r))
  assert.equal("<", text:sub(1, 1), "appends")
  local head, body = text:sub(2):match("^(.-\r\n)\r\n(.*)$")
  local line, rest = head:match("^(.-)\r\n(.*)$")
  local fields = {}
  for name, value in rest:gmatch("([^:\r\n]+): ([^\r\n]*)\r\n") do
    assert.is_nil(fields[name], name .. " twice")
    fields[name] = value
  end
  return line, fields, body
end

describe("http_response", function()
  it("is status line, fields, body", function()
    local line, fields, body = render {
      status = 201, content_type = "application/json", body = '{"id":"7"}', fields = "Vary: Origin\r\n",
        keep_alive = true,
    }
    assert.equal("HTTP/1.1 201 Created", line)
    assert.same({ ["Content-Type"] = "application/json", ["Content-Length"] = "10", ["Connection"] = "keep-alive",
      ["Vary"] = "Origin" }, fields)
    assert.equal('{"id":"7"}', body)
  end)

  it("closes unless told to keep the connection", function()
    local _, fields, body = render { status = 404 }
    assert.same({ ["Content-Length"] = "0", ["Connection"] = "close" }, fields)
    assert.equal("", body)
  end)

  it("answers HEAD with the length and without the body", function()
    local _, fields, body = render { status = 200, content_type = "text/plain", body = "hello", head_only = true }
    assert.same({ "5", "text/plain", "" }, { fields["Content-Length"], fields["Content-Type"], body })
  end)

  it("gives 204, 304 and 1xx neither body nor length", function()
    for _, status in ipairs { 100, 204, 304 } do
      local _, fields, body = render { status = status, content_type = "text/plain", body = "x", keep_alive = true }
      assert.same({ ["Connection"] = "keep-alive" }, fields)
      assert.equal("", body)
    end
  end)

  it("sends an event stream in chunks, or ends it with the connection where the client knows none", function()
    for _, chunks in ipairs { true, false } do
      local _, fields, body = render {
        status = 200, content_type = "text/event-stream", body = "ignored", event_stream = true, keep_alive = true,
        chunks = chunks,
      }
      assert.same({ ["Content-Type"] = "text/event-stream", ["Connection"] = "close",
        ["Transfer-Encoding"] = chunks and "chunked" or nil }, fields)
      assert.equal("", body)
    end
    local _, fields = render { status = 200, content_type = "a/b", body = "x", chunks = true }
    assert.is_nil(fields["Transfer-Encoding"])
  end)

  it("carries any bytes, and an empty body", function()
    local every = {}
    for i = 0, 255 do
      every[#every + 1] = string.char(i)
    end
    every = table.concat(every)
    assert.equal(every, (select(3, render { status = 200, content_type = "a/b", body = every })))
    assert.equal("0", select(2, render { status = 200, content_type = "a/b", body = "" })["Content-Length"])
  end)

  it("appends all or nothing", function()
    local r = { status = 200, content_type = "a/b", body = ("x"):rep(50), fields = "A: b\r\n" }
    local size = #http.response(r)
    assert.equal(size, #http.response(r, size))
    for max = 1, size - 1 do
      assert.same({ nil, "ENOBUFS" }, { http.response(r, max) })
    end
  end)

  it("knows the names of statuses", function()
    for status, text in pairs { [200] = "OK", [201] = "Created", [204] = "No Content", [400] = "Bad Request",
      [403] = "Forbidden",
      [404] = "Not Found", [405] = "Method Not Allowed", [406] = "Not Acceptable", [408] = "Request Timeout",
      [413] = "Content Too Large", [414] = "URI Too Long", [417] = "Expectation Failed", [429] = "Too Many Requests",
      [431] = "Request Header Fields Too Large", [501] = "Not Implemented", [503] = "Service Unavailable",
      [505] = "HTTP Version Not Supported", [299] = "Unknown" } do
      assert.equal(text, http.status_text(status))
    end
  end)
end)

describe("http_problem", function()
  it("is an RFC 9457 document", function()
    assert.equal('{"type":"about:blank","title":"Forbidden","status":403,"detail":"no \\"way\\""}',
      (http.problem(403, 'no "way"')))
    assert.equal('{"type":"about:blank","title":"Not Found","status":404}', (http.problem(404)))
    assert.equal('{"type":"about:blank","title":"Bad Request","status":400,"detail":"","request_id":"0a.1"}',
      (http.problem(400, "", "0a.1")))
  end)

  it("appends all or nothing", function()
    local size = #http.problem(400, "a\nb\xff", "x1")
    assert.equal(size, #http.problem(400, "a\nb\xff", "x1", size))
    for max = 0, size - 1 do
      assert.same({ nil, "ENOBUFS" }, { http.problem(400, "a\nb\xff", "x1", max) })
    end
  end)
end)

describe("json_text_quote", function()
  local R = "\u{fffd}"

  it("escapes what JSON cannot hold", function()
    for text, want in pairs {
      [""] = '""', ["plain é\u{10348}\x7f/'"] = "\"plain é\u{10348}\x7f/'\"", ['"\\'] = [["\"\\"]],
      ["a\nb\rc\td"] = [["a\nb\rc\td"]], ["\0\1\31 "] = [["\u0000\u0001\u001f "]], ["\n"] = [["\n"]],
        ["\n\n"] = [["\n\n"]],
    } do
      assert.equal(want, (http.json_string(text)))
    end
  end)

  it("replaces ill-formed UTF-8, one U+FFFD for each maximal part (Unicode, 3.9)", function()
    for text, want in pairs {
      ["\xff"] = R, ["a\x80b"] = "a" .. R .. "b", ["\xc3"] = R, ["\xc3("] = R .. "(", ["\xc0\xaf"] = R .. R,
      ["\xed\xa0\x80"] = R .. R .. R, ["\xf0\x9f\x98"] = R, ["\xf0\x9f\x98\n"] = R .. "\\n",
        ["\xf4\x90\x80\x80"] = R .. R .. R .. R,
      ["\xe2\x82\xc3\xa9"] = R .. "é", ["\xe0\x80"] = R .. R, ["\xc3\xa9\xc3"] = "é" .. R, ["\xf5"] = R,
        ["\xc1\x81"] = R .. R,
      -- the example of the standard, table 3-8
      ["\x61\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64"] = "a" .. R .. R .. R .. "b" .. R .. "c" .. R .. R .. "d",
    } do
      assert.equal('"' .. want .. '"', (http.json_string(text)))
    end
  end)

  it("appends all or nothing", function()
    local size = #http.json_string "ab\ncd\xffe"
    for max = 0, size - 1 do
      assert.same({ nil, "ENOBUFS" }, { http.json_string("ab\ncd\xffe", max) })
    end
  end)
end)
