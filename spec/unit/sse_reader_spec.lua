-- The reader of event streams in `tidegate subscribe`, held against the standard (HTML, 9.2.6).
local read = require "native.remote".sse_read

-- The same for the stream in one piece, byte by byte, and cut in two at every place.
local function all_ways(stream)
  local whole = read { stream }
  local bytes = {}
  for i = 1, #stream do
    bytes[i] = stream:sub(i, i)
  end
  assert.same(whole, read(bytes))
  for i = 1, #stream - 1 do
    assert.same(whole, read { stream:sub(1, i), "", stream:sub(i + 1) })
  end
  return whole
end

local function event(data, id, type)
  return { data = data, id = id or "", type = type or "message" }
end

describe("the reader of event streams", function()
  it("takes lines that end with LF, CR, CRLF, and any mixture", function()
    for _, eol in ipairs { "\n", "\r", "\r\n" } do
      local got = all_ways(("id: 7\nevent: t\ndata: a\ndata: b\n\ndata:c\n\n"):gsub("\n", eol))
      assert.same({ event("a\nb", "7", "t"), event("c", "7") }, got.events)
    end
    assert.same({ event("a\nb"), event "c" }, all_ways("data: a\r\ndata: b\r\r\ndata: c\n\r").events)
    assert.same({ event "a" }, all_ways("data: a\r\n\r\n\r\n\n").events)
  end)

  it("passes over a byte order mark at the start, and only there", function()
    assert.same({ event "a" }, all_ways("\u{FEFF}data: a\n\ndata: b").events)
    assert.same({ event "b" }, all_ways("\u{FEFF}\u{FEFF}data: a\n\n\ndata: b\n\n").events)
    assert.same({ event "b" }, all_ways(":x\n\u{FEFF}data: a\n\ndata: b\n\n").events)
    assert.same({ event "\u{FEFF}" }, all_ways("data: \u{FEFF}\n\n").events)
  end)

  it("takes one space after the colon away, and lines without a colon as names", function()
    assert.same({ event " a" }, all_ways("data:  a\n\n").events)
    assert.same({ event "" }, all_ways("data\n\n").events)
    assert.same({ event "\n" }, all_ways("data\ndata\n\n").events)
    assert.same({ event "x:y" }, all_ways("data: x:y\n\n").events)
  end)

  it("keeps the id of a block without data, for it is one", function()
    local got = all_ways "id: 9\n\nevent: lost\n\ndata: a\n\n"
    assert.same({ event("a", "9") }, got.events)
    assert.equal("9", got.last_id)
    assert.equal("", all_ways("id: 9\n\nid\n\n").last_id)
    assert.equal("9", all_ways("id: 9\n\nid: 1\0 2\n\n").last_id)
  end)

  it("does not report what the end cuts off, and does not take its id", function()
    local got = all_ways "id: 1\ndata: a\n\nid: 2\ndata: b\n"
    assert.same({ event("a", "1") }, got.events)
    assert.equal("1", got.last_id)
  end)

  it("starts anew with the last id that was complete", function()
    local got = read { "id: 1\ndata: a\n\nid: 2\nevent: cut\ndata: b\nda", false, "\u{FEFF}data: c\n\n" }
    assert.same({ event("a", "1"), event("c", "1") }, got.events)
  end)

  it("reports comments, and times that are numbers", function()
    local got = all_ways ":heartbeat\nretry: 1500\n: x\nretry: 2s\nretry:\nretry: -1\n\n"
    assert.same({ "heartbeat", " x" }, got.comments)
    assert.equal(1500, got.retry)
  end)

  it("leaves out fields that it does not know, in whatever case", function()
    assert.same({ event "a" }, all_ways("Data: x\n data: y\nfoo: z\ndata: a\n\n").events)
  end)

  it("gives up on lines and data longer than its limit, and not before", function()
    assert.equal(0, read({ "data: 7890\n\n" }, 10).rc)
    assert.not_equal(0, read({ "data: 78901\n\n" }, 10).rc)
    assert.not_equal(0, read({ "data: 789\ndata: 789\ndata: 789\n\n" }, 10).rc)
    assert.equal(0, read({ ("data: 789\n\n"):rep(20) }, 10).rc)
  end)
end)
