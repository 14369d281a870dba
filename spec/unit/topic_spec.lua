local topic = require "native.topic"

-- A second opinion that shares nothing with the C: split both, compare recursively.
local function split(s)
  local list = {}
  for part in (s .. "/"):gmatch "([^/]*)/" do list[#list + 1] = part end
  return list
end

local function naive_match(pattern, name)
  local p, n = split(pattern), split(name)
  local function from(i, j)
    if p[i] == nil then return n[j] == nil end
    if p[i] == "**" then return n[j] ~= nil end
    return n[j] ~= nil and (p[i] == "*" or p[i] == n[j]) and from(i + 1, j + 1)
  end
  return from(1, 1)
end

local names = { "a", "a/b", "a/b/c", "orders/42", "Ünïcode/日本", "with space/x", "a.b-c_d", "~!@#$%^&()", "\u{FEFF}",
  ("x"):rep(255), ("a/"):rep(127) .. "a", "\u{A0}", "\u{10FFFF}" }

local broken_names = {
  [""] = "empty", ["/"] = "empty segment", ["/a"] = "empty segment", ["a/"] = "empty segment",
  ["a//b"] = "empty segment", ["*"] = "'*'", ["a/*"] = "'*'", ["a*"] = "'*'", ["**"] = "'*'", ["a/b*c/d"] = "'*'",
  ["a\0b"] = "control", ["a\n"] = "control", ["\x1f"] = "control", ["a\x7f"] = "control",
  ["\u{80}"] = "control", ["a/\u{9f}"] = "control",
  ["\xff"] = "UTF%-8", ["a\xc3"] = "UTF%-8", ["\xed\xa0\x80"] = "UTF%-8", ["\xc0\xaf"] = "UTF%-8",
  [("x"):rep(256)] = "255 bytes",
}

describe("topic names", function()
  it("may be anything readable", function()
    for _, name in ipairs(names) do
      assert.is_nil(topic.name_check(name), name)
      assert.is_nil(topic.pattern_check(name), name)
      assert.is_false(topic.is_pattern(name))
      assert.is_true(topic.match(name, name))
    end
  end)

  it("are refused with the rule they break", function()
    for name, rule in pairs(broken_names) do
      assert.matches(rule, topic.name_check(name) or "accepted", ("%q"):format(name))
    end
  end)

  it("are cut into segments", function()
    assert.same({ "a" }, topic.segments "a")
    assert.same({ "a", "b", "c" }, topic.segments "a/b/c")
    assert.same({ "", "a", "" }, topic.segments "/a/")
    assert.same({ "" }, topic.segments "")
  end)
end)

describe("topic patterns", function()
  it("have '*' for one segment and '**' at the end", function()
    for _, p in ipairs { "*", "**", "a/*", "a/**", "*/b", "*/*", "*/**", "a/*/c/**" } do
      assert.is_nil(topic.pattern_check(p), p)
      assert.is_true(topic.is_pattern(p), p)
    end
  end)

  it("are refused with the rule they break", function()
    local broken = {
      ["**/a"] = "last segment", ["a/**/b"] = "last segment", ["**/**"] = "last segment",
      ["a*"] = "mixes", ["*a/b"] = "mixes", ["a/***"] = "mixes", ["***"] = "mixes", ["a/* /b"] = "mixes",
      ["/*"] = "empty segment", ["*/"] = "empty segment", ["**/"] = "last segment", ["a//**"] = "empty segment",
      ["*\n"] = "control", ["*/\xff"] = "UTF%-8", [("*/"):rep(128)] = "255 bytes",
    }
    for p, rule in pairs(broken) do
      assert.matches(rule, topic.pattern_check(p) or "accepted", ("%q"):format(p))
    end
    for name, rule in pairs(broken_names) do
      if not name:find("*", 1, true) then assert.matches(rule, topic.pattern_check(name) or "accepted") end
    end
  end)

  it("match what the page says", function()
    assert.is_true(topic.match("a/*", "a/b"))
    assert.is_false(topic.match("a/*", "a"))
    assert.is_false(topic.match("a/*", "a/b/c"))
    assert.is_true(topic.match("a/**", "a/b"))
    assert.is_true(topic.match("a/**", "a/b/c"))
    assert.is_false(topic.match("a/**", "a"))
    assert.is_false(topic.match("a/**", "ab"))
    assert.is_true(topic.match("**", "a"))
    assert.is_true(topic.match("**", "a/b/c"))
    assert.is_true(topic.match("*/b", "a/b"))
    assert.is_false(topic.match("*", "a/b"))
    assert.is_false(topic.match("a/b", "a"))
    assert.is_false(topic.match("a", "a/b"))
    assert.is_false(topic.match("a", "A"))
  end)

  it("agree with a naive matcher", function()
    math.randomseed(1)
    local letters = { "a", "b", "ab", "*" }
    local matched = 0
    for _ = 1, 20000 do
      local p, n = {}, {}
      for i = 1, math.random(4) do p[i] = letters[math.random(4)] end
      if math.random(3) == 1 then p[#p + 1] = "**" end
      for i = 1, math.random(5) do n[i] = letters[math.random(3)] end
      local pattern, name = table.concat(p, "/"), table.concat(n, "/")
      local want = naive_match(pattern, name)
      matched = matched + (want and 1 or 0)
      assert.equal(want, topic.match(pattern, name), pattern .. " ~ " .. name)
    end
    assert.is_true(matched > 1000)
  end)
end)

describe("a literal segment", function()
  it("cannot widen a subscription", function()
    for _, s in ipairs { "acme", "a b", "日本", "a.b" } do assert.is_true(topic.segment_ok(s)) end
    for _, s in ipairs { "", "*", "**", "a*", "a/b", "/", "a\0", "a\n", "\xff", "\u{85}", ("x"):rep(256) } do
      assert.is_false(topic.segment_ok(s), ("%q"):format(s))
    end
  end)
end)

describe("UTF-8", function()
  local function prefix(s) return (topic.utf8_prefix(s)) end

  it("takes every scalar value and no surrogate", function()
    for cp = 0, 0x10FFFF, 7 do
      local s = utf8.char(cp)
      local want = (cp < 0xD800 or cp > 0xDFFF) and #s or 0
      if want ~= prefix(s) then assert.equal(want, prefix(s), ("U+%04X"):format(cp)) end
    end
    for _, cp in ipairs { 0x7f, 0x80, 0x7ff, 0x800, 0xd7ff, 0xe000, 0xffff, 0x10000, 0x10ffff } do
      assert.equal(#utf8.char(cp), prefix(utf8.char(cp)))
    end
  end)

  it("judges every pair and triple of bytes around the edges as Lua does", function()
    local edges = { 0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xec, 0xed,
      0xee, 0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xff }
    for _, a in ipairs(edges) do
      for _, b in ipairs(edges) do
        for _, c in ipairs(edges) do
          for _, d in ipairs { 0x7f, 0x80, 0xbf, 0xc0 } do
            local s = string.char(a, b, c, d)
            local _, bad = utf8.len(s)
            local want = bad and bad - 1 or 4
            local got, ok = topic.utf8_prefix(s)
            if want ~= got or ok ~= (want == 4) then assert.equal(want, got, ("%q"):format(s)) end
          end
        end
      end
    end
  end)

  it("finds the first bad byte behind long runs, and a cut character at the end", function()
    for n = 0, 40 do
      assert.equal(n, prefix(("x"):rep(n)))
      assert.equal(n, prefix(("x"):rep(n) .. "\x80" .. ("x"):rep(20)))
      assert.equal(n, prefix(("x"):rep(n) .. "\xf0\x9f\x98"))
      assert.equal(n + 4, prefix(("x"):rep(n) .. "\u{1F600}"))
    end
  end)
end)
