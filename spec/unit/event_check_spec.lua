local event = require "native.event"

local function check(change, max)
  local fields = { topic = "a/b", type = "t", data = "x" }
  for k, v in pairs(change) do fields[k] = v or nil end
  return event.check(fields, max or 1000)
end

describe("event check", function()
  it("accepts what can be delivered", function()
    for _, change in ipairs {
      {}, { type = false }, { type = "" }, { data = "" }, { key = "k" }, { key = ("k"):rep(255) },
      { type = ("t"):rep(255) },
      { attrs = "{}" }, { attrs = [[{"a":1}]] }, { data = ("x"):rep(1000) }, { data = "a\r\nb\n\tc\x01" },
      { data = "\u{FEFF}x" }, { topic = ("x"):rep(255) }, { type = "日本" }, { key = "clé" },
    } do
      assert.is_nil(check(change))
    end
    assert.is_nil(check({ data = "" }, 0))
  end)

  it("refuses everything else, naming the field and the rule", function()
    local cases = {
      { { topic = false }, "topic: is empty; expected segments separated by '/'" },
      { { topic = "" }, "topic: is empty; expected segments separated by '/'" },
      { { topic = ("x"):rep(256) }, "topic: is longer than 255 bytes" },
      { { topic = "a/\xff" }, "topic: is not valid UTF-8" },
      { { topic = "a/*" }, "topic: holds '*', which only patterns may hold" },
      { { topic = "/a" }, "topic: has an empty segment ('/' at the start or end, or '//')" },
      { { topic = "a\nb" }, "topic: holds a control character" },
      { { topic = "a\0b" }, "topic: holds a control character" },
      { { type = ("t"):rep(256) }, "type: is longer than 255 bytes" },
      { { type = "a\rb" }, "type: holds CR, LF or NUL; it is sent on one line" },
      { { type = "a\n" }, "type: holds CR, LF or NUL; it is sent on one line" },
      { { type = "\0" }, "type: holds CR, LF or NUL; it is sent on one line" },
      { { type = "\xc3" }, "type: is not valid UTF-8" },
      { { expires_ms = 1700000000 }, "expires: expected a time between 2001 and 2286" },
      { { expires_ms = -1 }, "expires: expected a time between 2001 and 2286" },
      { { key = "" }, "key: is empty; leave it out, or give each event its own" },
      { { key = ("k"):rep(256) }, "key: is longer than 255 bytes" },
      { { key = "a\rb" }, "key: holds CR, LF or NUL" },
      { { key = "a\nb" }, "key: holds CR, LF or NUL" },
      { { key = "a\0" }, "key: holds CR, LF or NUL" },
      { { key = "\xff" }, "key: is not valid UTF-8" },
      { { attrs = "" }, "attrs: expected a compact JSON object" },
      { { attrs = "[]" }, "attrs: expected a compact JSON object" },
      { { attrs = "{" }, "attrs: expected a compact JSON object" },
      { { attrs = "{\n}" }, "attrs: expected a compact JSON object" },
      { { attrs = '{"\xff":1}' }, "attrs: are not valid UTF-8" },
      { { attrs = "{" .. (" "):rep(4095) .. "}" }, "attrs: are longer than 4096 bytes of JSON" },
      { { data = false }, "data: is missing" },
      { { data = ("x"):rep(1001) }, "data: is longer than an event may be" },
      { { data = "\xed\xa0\x80" }, "data: is not valid UTF-8" },
      { { data = "a\0b" }, "data: holds a NUL character, which clients do not receive alike; "
        .. "encode binary data, for instance as Base64" },
    }
    for _, c in ipairs(cases) do assert.equal(c[2], check(c[1])) end
  end)

  it("checks the data against the bound it is given", function()
    assert.is_nil(check({ data = "xxx" }, 3))
    assert.is_not_nil(check({ data = "xxx" }, 2))
  end)
end)
