-- What was published is what a parser of the stream gets back, whatever the bytes.
local http = require "support.http"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

-- What the wire can carry of a text: every line end becomes LF.
local function normalised(text)
  return (text:gsub("\r\n", "\n"):gsub("\r", "\n"))
end

describe("event data", function()
  local broker = tidegate.shared()

  local cases = {
    plain = "hello", empty = "", ["a space first"] = " x", ["two spaces first"] = "  x", ["a colon first"] = ":x",
    ["a field"] = "data: x\nevent: y\nid: 1\nretry: 1\n\n", LF = "a\nb", CR = "a\rb", CRLF = "a\r\nb",
    ["LF CR"] = "a\n\rb", mixed = "a\r\n\r\rb\n\n", ["an end of line last"] = "a\n", ["CR last"] = "a\r",
    ["CRLF last"] = "a\r\n", ["only LF"] = "\n", ["only CRLF"] = "\r\n", ["blank lines"] = "\n\n\n",
    ["UTF-8"] = "gr\u{fc}\u{df}e \u{20ac} \u{1F30A}", ["a byte order mark"] = "\u{feff}x",
    ["U+2028"] = "a\u{2028}b\u{85}c", tabs = "\ta\t", ["a JSON document"] = '{"a":[1,2.50,"x\\n"]}',
    ["a control character"] = "a\27[31mb",
  }
  for what, data in pairs(cases) do
    it("survives: " .. what, function()
      local c = sse.open(broker(), { topic = "frame" })
      local id = broker():publish("frame", data)
      assert.same({ type = "message", data = normalised(data), id = id }, c:next())
    end)
  end

  it("of one MiB arrives whole, and so do its neighbours", function()
    local c = sse.open(broker(), { topic = "big" })
    local line = ("0123456789abcdef"):rep(8)
    local big = (line .. "\n"):rep(2 ^ 20 // (#line + 1))
    big = big .. ("x"):rep(2 ^ 20 - #big)
    broker():publish("big", "before")
    broker():publish("big", big)
    broker():publish("big", "after")
    assert.equal("before", c:next().data)
    local data = c:next(20).data
    assert.equal(#big, #data)
    assert.is_true(big == data)
    assert.equal("after", c:next().data)
  end)

  it("survives at random", function()
    local seed = tonumber(os.getenv "TIDEGATE_SPEC_SEED") or os.time()
    math.randomseed(seed)
    local alphabet = { "\r", "\n", "\r\n", " ", ":", "a", "data", "\u{e9}", "\u{1F30A}", "id: 7", "\t" }
    local batch = {}
    for i = 1, 300 do
      local parts = {}
      for k = 1, math.random(0, 12) do
        parts[k] = alphabet[math.random(#alphabet)]
      end
      batch[i] = { topic = "random", data = table.concat(parts) }
    end
    local c = sse.open(broker(), { topic = "random" })
    local acks = broker():publish_all(batch)
    for i, ev in ipairs(c:collect(#batch)) do
      assert.same({ type = "message", data = normalised(batch[i].data), id = acks[i].id }, ev, "seed " .. seed)
    end
  end)
end)

describe("the block of an event", function()
  local broker = tidegate.shared()

  local function lines(options)
    local c = sse.open(broker(), { topic = "block" })
    local id = broker():publish("block", "x\ny", options)
    local ev = c:next()
    local block = c.blocks[#c.blocks].lines
    c:close()
    return block, id, ev
  end

  it("is id and data", function()
    local block, id = lines()
    assert.same({ "id: " .. id, "data: x", "data: y" }, block)
  end)

  it("names its type", function()
    local block, id, ev = lines { type = "order.created" }
    assert.same({ "id: " .. id, "event: order.created", "data: x", "data: y" }, block)
    assert.equal("order.created", ev.type)
  end)

  it("does not name the default type", function()
    local block = lines { type = "message" }
    assert.equal(3, #block)
  end)

  it("may have a type in any script", function()
    local _, _, ev = lines { type = "gr\u{f6}\u{df}e: 1" }
    assert.equal("gr\u{f6}\u{df}e: 1", ev.type)
  end)

  it("has decimal ids below 2^53 that grow", function()
    local c = sse.open(broker(), { topic = "ids" })
    local last = 0
    for _ = 1, 20 do
      broker():publish("ids", "x")
    end
    for _, ev in ipairs(c:collect(20)) do
      assert.matches("^[1-9]%d*$", ev.id)
      local id = math.tointeger(ev.id)
      assert.is_true(id > last and id < 1 << 53)
      last = id
    end
  end)
end)

describe("a stream of several events", function()
  local broker = tidegate.shared()

  it("is the same bytes for every subscriber", function()
    local clients = {}
    for i = 1, 5 do
      clients[i] = sse.open(broker(), { topic = "same", keep_bytes = true })
    end
    for i = 1, 50 do
      broker():publish("same", "event " .. i, { type = i % 2 == 0 and "even" or nil })
    end
    broker():publish("same", "end")
    local first
    for _, c in ipairs(clients) do
      c:collect_until("end")
      local bytes = c:bytes():gsub("^.-\n\n", "") -- the first block has a retry of its own
      first = first or bytes
      assert.is_true(first == bytes)
    end
  end)
end)

describe('the format "json"', function()
  local broker = tidegate.shared {
    config = { limits = { event_bytes = 4096 } },
    policy = [[
      return {
        api = 1,
        authenticate = function() return { sub = "x" } end,
        subscribe = function() return { topics = { "**" }, format = "json" } end,
        publish = function(pub) return pub end,
      }
    ]],
  }

  it("has room for every event, however much of it needs an escape", function()
    local c = sse.open(broker())
    for _, data in ipairs { ("\1"):rep(4096), ('"'):rep(4096), "plain" } do
      local attrs = {}
      for i = 1, 15 do
        attrs["a" .. i] = ("y"):rep(200)
      end
      broker():publish("a", data, { attrs = attrs, type = ("\1"):rep(200) })
      local got = http.json.decode(c:next().data)
      assert.equal(data, got.data)
      assert.same(attrs, got.attrs)
    end
  end)
end)
