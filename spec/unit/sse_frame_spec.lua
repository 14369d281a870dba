local event = require "native.event"
local frame = event.sse_frame

-- A reader of text/event-stream as the HTML standard defines it (9.2.6), written from the standard
-- alone. Yields what reaches the page, and the two things that outlive a block.
local function parse(stream)
  if stream:sub(1, 3) == "\u{FEFF}" then stream = stream:sub(4) end
  local out = { events = {}, comments = {}, last_id = "", retry = nil }
  local data, kind, id_buffer = "", "", ""
  local function dispatch()
    out.last_id = id_buffer
    if data ~= "" then
      if data:sub(-1) == "\n" then data = data:sub(1, -2) end
      out.events[#out.events + 1] = { data = data, type = kind ~= "" and kind or "message", id = out.last_id }
    end
    data, kind = "", ""
  end
  local function field(name, value)
    if name == "event" then
      kind = value
    elseif name == "data" then
      data = data .. value .. "\n"
    elseif name == "id" then
      if not value:find("\0", 1, true) then id_buffer = value end
    elseif name == "retry" and value:find "^%d+$" then
      out.retry = tonumber(value)
    end
  end
  local function line(text)
    if text == "" then return dispatch() end
    local colon = text:find(":", 1, true)
    if colon == 1 then
      out.comments[#out.comments + 1] = text:sub(2)
    elseif colon then
      field(text:sub(1, colon - 1), (text:sub(colon + 1):gsub("^ ", "")))
    else
      field(text, "")
    end
  end
  local at = 1
  while at <= #stream do
    local stop = stream:find("[\r\n]", at)
    if not stop then break end -- an unfinished line at the end is dropped
    line(stream:sub(at, stop - 1))
    at = stop + (stream:sub(stop, stop + 1) == "\r\n" and 2 or 1)
  end
  return out
end

local function normal(data)
  return (data:gsub("\r\n", "\n"):gsub("\r", "\n"))
end

describe("sse frame", function()
  it("has its lines in one order", function()
    assert.equal("id: 7\ndata: hello\n\n", frame { id = 7, data = "hello" })
    assert.equal(":why\nretry: 1500\nid: 9007199254740991\nevent: gap\ndata: {}\n\n",
      frame { id = (1 << 53) - 1, event = "gap", data = "{}", retry_ms = 1500, comment = "why" })
    assert.equal("id: 1\n\n", frame { id = 1 })
  end)

  it("ends with a blank line only where there is something to dispatch or to record", function()
    assert.equal("retry: 4294967295\n", frame { retry_ms = 4294967295 })
    assert.equal(":heartbeat\n", frame { comment = "heartbeat" })
    assert.equal(":\n", frame { comment = "" })
    assert.equal(":why\nretry: 5\n", frame { comment = "why", retry_ms = 5 })
    assert.equal(":why\nid: 1\n\n", frame { comment = "why", id = 1 })
    assert.equal("event: e\n\n", frame { event = "e" }) -- or it would be the type of what follows
    local r = parse(frame { comment = "heartbeat" } .. frame { retry_ms = 7 } .. frame { id = 2, data = "x" })
    assert.same({ { data = "x", type = "message", id = "2" } }, r.events)
    assert.equal(7, r.retry)
  end)

  it("leaves out the type every event has anyway", function()
    for _, kind in ipairs { "", "message" } do
      assert.equal("data: x\n\n", frame { event = kind, data = "x" })
    end
    assert.equal("event: Message\ndata: x\n\n", frame { event = "Message", data = "x" })
    assert.equal("event: messages\ndata: x\n\n", frame { event = "messages", data = "x" })
  end)

  it("dispatches an event whose data is empty, and none that has no data", function()
    assert.equal("id: 1\ndata:\n\n", frame { id = 1, data = "" })
    -- the standard drops a block whose data buffer is empty: one `data:` line leaves "\n" in it
    assert.same({ { data = "", type = "message", id = "1" } }, parse(frame { id = 1, data = "" }).events)
    local r = parse(frame { id = 5, retry_ms = 10 })
    assert.same({}, r.events)
    assert.equal("5", r.last_id)
    assert.equal(10, r.retry)
  end)

  it("splits lines at LF, CR and CRLF, and loses none", function()
    assert.equal("data: a\ndata: b\n\n", frame { data = "a\nb" })
    assert.equal("data: a\ndata: b\n\n", frame { data = "a\rb" })
    assert.equal("data: a\ndata: b\n\n", frame { data = "a\r\nb" })
    assert.equal("data: a\ndata:\ndata: b\n\n", frame { data = "a\n\rb" })
    assert.equal("data: a\ndata:\n\n", frame { data = "a\n" })
    assert.equal("data:\ndata: a\n\n", frame { data = "\na" })
    assert.equal("data:\ndata:\n\n", frame { data = "\r\n" })
    assert.equal("data:\ndata:\ndata:\n\n", frame { data = "\r\r" })
  end)

  it("keeps leading spaces, colons, NUL and U+FEFF of the data", function()
    for _, data in ipairs { " x", "  ", ":x", ": x", "id: 9", "\0", "a\0b", "\u{FEFF}x", "\tx", "x ", " \n x" } do
      assert.equal(data, parse(frame { data = data }).events[1].data)
    end
  end)

  it("lets no field be forged", function()
    for _, bad in ipairs { "a\nid: 9", "a\rdata: x", "\n", "\r", "a\0", "\r\n\r\nevent: b" } do
      assert.is_nil(frame { event = bad, data = "x" })
    end
    local r = parse(frame { comment = "why\ndata: x\r\n\r\ndata: y", id = 3 })
    assert.same({}, r.events)
    assert.same({ "why data: x    data: y" }, r.comments)
    r = parse(frame { id = 4, data = "x\n\nid: 9\revent: evil\r\n\r\ndata: y" })
    assert.equal(1, #r.events)
    assert.equal("4", r.last_id)
    assert.equal("message", r.events[1].type)
  end)

  it("is appended to a buffer as the same bytes, or not at all", function()
    local f = { id = 7, event = "e", data = "a\nb", comment = "c", retry_ms = 5 }
    local bytes = frame(f)
    assert.same({ "x" .. bytes, 0 }, { event.sse_append(f, "x", 1 + #bytes) })
    local text, rc = event.sse_append(f, "x", #bytes)
    assert.equal("x", text)
    assert.is_true(rc < 0)
    text, rc = event.sse_append({ event = "a\n", data = "x" }, "x", 100)
    assert.equal("x", text)
    assert.is_true(rc < 0)
  end)

  it("is parsed again to exactly its fields, many frames in one stream", function()
    math.randomseed(4)
    local pieces = { "\r", "\n", "\r\n", " ", ":", "data: ", "id", "x", "\0", "\u{FEFF}", "日本", ("y"):rep(100) }
    local kinds = { "", "message", "a", "order created", ":x", " lead", "\u{FEFF}" }
    local function random_text()
      local t = {}
      for i = 1, math.random(0, 8) do t[i] = pieces[math.random(#pieces)] end
      return table.concat(t)
    end
    for _ = 1, 300 do
      local stream, want, last, retry = {}, {}, "", nil
      for i = 1, 10 do
        local f = { id = math.random(0, 3) > 0 and math.random(1, 1 << 53) or 0, event = kinds[math.random(#kinds)] }
        if math.random(5) > 1 then f.data = random_text() end
        if math.random(5) == 1 then f.retry_ms = math.random(1, 100000) end
        if math.random(5) == 1 then f.comment = random_text() end
        stream[i] = frame(f)
        last = f.id > 0 and tostring(f.id) or last
        retry = f.retry_ms or retry
        if f.data then
          want[#want + 1] = { data = normal(f.data), type = f.event == "" and "message" or f.event, id = last }
        end
      end
      local got = parse(table.concat(stream))
      assert.same(want, got.events)
      assert.equal(last, got.last_id)
      assert.equal(retry, got.retry)
    end
  end)
end)
