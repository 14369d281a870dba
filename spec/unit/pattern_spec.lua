-- find, match, gmatch and gsub of policies, compared with Lua's own.
local budget = require "native.budget"
local ours = require "native.pattern"

local function show(...)
  local t = table.pack(...)
  for i = 1, t.n do
    local v = t[i]
    t[i] = ("%s %s"):format(math.type(v) or type(v), type(v) == "function" and "" or tostring(v))
  end
  return table.concat(t, ", ")
end

-- The same call of both libraries; answers and errors must be equal.
local function compare(name, ...)
  local a = show(pcall(ours[name], ...)):gsub("'native%.pattern%.", "'string.") -- as found in package.loaded
  local b = show(pcall(string[name], ...))
  if a ~= b then
    error(("%s(%s)\nours:  %s\nLua's: %s"):format(name, show(...), a, b), 2)
  end
  return a
end

local function compare_gmatch(...)
  local function all(lib, ...)
    local out = {}
    local ok, err = pcall(function(...)
      for a, b, c in lib.gmatch(...) do out[#out + 1] = show(a, b, c) end
    end, ...)
    return show(ok, err) .. ";" .. table.concat(out, ";")
  end
  local a, b = all(ours, ...), all(string, ...)
  if a ~= b then assert.equal(b, a, show(...)) end -- luassert takes its time
end

local TEXTS = {
  "", "a", "aaa", "ab", "hello world", "  key = value ; other=1", "a,b,,c", "THE (quick) fox", "((a)(b(c)))",
  "f(a,b(c)d)e)f", "x^2 + y^2 = z^2", "100% sure", "a.b.c", "[tag] text [tag]", "0x1F 12 3.5e10", "a-b_c d]e^f",
  "\0a\0b", "line\nline\r\ntab\t", "\xff\xfe\x80abc", "$5.00$", "%d %s %%", "aXbXc", "aaaaab",
  "abababab", "'quoted' \"q\"",
}

local PATTERNS = {
  "", "a", ".", "a*", "a+", "a-", "a?", ".*", ".-", ".+", "^", "$", "^$", "^a", "a$", "^a*$", "%a", "%A+", "%d+", "%D",
  "%s*", "%S+", "%w+", "%W", "%p", "%P+", "%c", "%C+", "%g+", "%G", "%l+", "%L", "%u+", "%U", "%x+", "%X", "%z", "%.",
  "%%", "%(", "%[tag%]", "[abc]", "[^abc]", "[a-c]+", "[^a-c]+", "[%a_]", "[%w_]+", "[]]", "[^]]", "[a-]", "[-a]",
  "[%]]", "[%-a]", "[a%-z]", "[%a-z]", "[+--]", "[^%s]+", "[%s%p]+", "[\0-\x1f]", "[\x80-\xff]+", "%b()", "%bxx",
  "%b''", "%b(a", "%f[%w]%w+", "%f[%W]", "%f[^%w]", "%f[a]", "%f[\0]", "()", "(a)", "(a*)", "(a*)b", "()a()", "(.)(.)",
  "(.)%1", "(a)(b)%2%1", "((a)b)", "(()a())", "(%w+) = (%w+)", "^%s*(.-)%s*$", "(%d+)%.(%d*)", "([^,]*),?", "a.-b",
  "a.*b", "(a?)(a?)(a?)", "x*", "$a", "a$b", "a^", "^^", "**", "+", "-", "?", "a**", "a+*", "(.-)%s", "(%b())", "%w-%d",
  "\0", "%\0", "[\0]", "a\0b", "([%w]+)[^%w]*", "%f[%a]%a-%f[%A]", "['\"](.-)['\"]", "(['\"])(.-)%1", "%s+$", "^(%a+)",
}

-- Mistakes are found when matching gets there, in both.
local MALFORMED = {
  "%", "a%", "[", "[a", "[^", "[]", "[^]", "[%", "[%]", "[a-", "(", "(a", "(()", ")", "a)", "(a))", "%1", "(a%1)",
  "(%1)",
  "%2", "(a)%2", "%0", "%b", "%bx", "a%b", "%f", "%fa", "%f[", "b%", "z[", "z(", "(a)(", "%9", "()%1", ("(a)"):rep(33),
  ("()"):rep(40), ("a?"):rep(250), ("a*"):rep(199), ("a-"):rep(250) .. "b", ("("):rep(33),
}

describe("patterns", function()
  it("find and match what Lua's do, from everywhere", function()
    local n = 0
    for _, pattern in ipairs(PATTERNS) do
      for _, text in ipairs(TEXTS) do
        for _, init in ipairs { 1, 3, -2 } do
          compare("find", text, pattern, init)
          compare("match", text, pattern, init)
          n = n + 2
        end
        compare("find", text, pattern, 1, true)
      end
    end
    assert.is_true(n > 10000)
  end)

  it("make the mistakes of a pattern known as Lua does, and only when they matter", function()
    for _, pattern in ipairs(MALFORMED) do
      for _, text in ipairs { "", "a", "b", "ab", "aab", ("a"):rep(260), "z" } do
        compare("find", text, pattern)
        compare("match", text, pattern, 2)
        compare("gsub", text, pattern, "x")
        compare_gmatch(text, pattern)
      end
    end
    assert.matches("malformed pattern (ends with '%')", compare("find", "a", "a%"), 1, true)
    assert.matches("pattern too complex", compare("find", ("a"):rep(260), ("a?"):rep(250)), 1, true)
  end)

  it("iterate as Lua's do", function()
    for _, pattern in ipairs(PATTERNS) do
      for _, text in ipairs(TEXTS) do
        compare_gmatch(text, pattern)
        compare_gmatch(text, pattern, 3)
        compare_gmatch(text, pattern, -2)
      end
    end
    compare_gmatch("abc", "%a", math.maxinteger)
    compare_gmatch("abc", "%a", math.mininteger)
    local next_match = ours.gmatch("ab", "%a")
    assert.same({ "a", "b", nil, nil }, { next_match(), next_match(), next_match(), next_match() })
  end)

  it("replace as Lua's do, by texts, tables and functions", function()
    local replacements = {
      "", "x", "<%0>", "%%", "%1", "%2", "%1%0%1", "%9", "%", "a%", "%x", "100%%", 7, 1.5,
      { a = "A", hello = 1, [","] = false, [""] = "e", x = 2.5 },
      setmetatable({}, { __index = function(_, k) return "(" .. k .. ")" end }),
      { a = {} }, { a = true }, { a = print },
      function(a, b) return b or a end, function() end, function() return false end, function() return 5 end,
      function(a) return a == "a" and {} or nil end, function(...) return select("#", ...) end,
      function() error({}) end, function() error("raised", 0) end,
    }
    for _, pattern in ipairs(PATTERNS) do
      for _, text in ipairs(TEXTS) do
        for _, r in ipairs(replacements) do
          local a, b = show(pcall(ours.gsub, text, pattern, r)), show(pcall(string.gsub, text, pattern, r))
          -- an error object is another table each time
          if a ~= b then assert.equal((b:gsub("0x%x+", "")), (a:gsub("0x%x+", "")), show(text, pattern, r)) end
        end
      end
    end
    for _, most in ipairs { 0, 1, 2, -1, 100 } do
      compare("gsub", "abcabc", "%a", "x", most)
      compare("gsub", "abcabc", "", "-", most)
      compare("gsub", "abcabc", "^a", "-", most)
    end
  end)

  it("check their arguments as Lua's do", function()
    for _, name in ipairs { "find", "match", "gmatch", "gsub" } do
      compare(name)
      compare(name, "a")
      compare(name, {}, "a")
      compare(name, "a", {})
      compare(name, "a", nil)
    end
    for _, init in ipairs { 0, 1, 4, 5, 6, 100, -1, -3, -4, -5, -100 } do
      for _, pattern in ipairs { "", "%a", "a", "^%a", "$", "()", "%f[%w]" } do
        compare("find", "abca", pattern, init)
        compare("match", "abca", pattern, init)
        compare("find", "abca", pattern, init, true)
      end
    end
    compare("find", "a", "a", "x")
    compare("find", "a", "a", 1.5)
    compare("find", 123, 2)
    compare("match", 12.5, "%.")
    compare("find", "a", "a", math.maxinteger)
    compare("find", "a", "a", math.mininteger)
    compare("gsub", "a", "a")
    compare("gsub", "a", "a", true)
    compare("gsub", "a", "a", "x", "y")
    compare("gsub", 121, 1, 3)
  end)

  it("agree on random patterns and texts", function()
    math.randomseed(20261)
    local pieces = { "a", "b", ".", "%a", "%d", "%s", "[ab]", "[^a]", "(", ")", "()", "%1", "%b()", "%f[a]", "*", "+",
      "-", "?", "^", "$", "1", " ", "%", "]", "[" }
    for _ = 1, 20000 do
      local pattern, text = {}, {}
      for i = 1, math.random(8) do pattern[i] = pieces[math.random(#pieces)] end
      for i = 1, math.random(0, 12) do text[i] = ("ab1 ()"):sub(math.random(6)):sub(1, 1) end
      local p, t = table.concat(pattern), table.concat(text)
      compare("find", t, p)
      compare("gsub", t, p, "<%1>")
      compare_gmatch(t, p)
    end
  end)

  describe("that backtrack", function()
    -- each of these keeps Lua's own busy for minutes or longer
    local HANGS = {
      { ("a"):rep(300), ("a*"):rep(6) .. "b" },
      { ("x"):rep(1000), (".-"):rep(4) .. "y" },
      { ("x"):rep(300), ".-.-.-.-.-b" },
      { ("a"):rep(5000), "(.*)(.*)(.*)b" },
      { ("a"):rep(2000), "(a*)%1%1%1$b" },
      { ("("):rep(100000), "%b()" },
      { ("a "):rep(20000), "%s*%a*%s*%a*%s*%a*x" },
    }

    it("are stopped after a bounded number of steps, and the pattern is named", function()
      for _, case in ipairs(HANGS) do
        for _, name in ipairs { "find", "match", "gsub" } do
          local ok, err = pcall(ours[name], case[1], case[2], 1)
          assert.is_false(ok, case[2])
          assert.equal(("pattern '%s' takes too many steps on a text of %d bytes: it backtracks")
            :format(case[2], #case[1]), err)
        end
        local ok, err = pcall(ours.gmatch(case[1], case[2]))
        assert.is_false(ok)
        assert.matches("too many steps", err)
      end
      local _, err = pcall(ours.find, ("a"):rep(300), ("a*"):rep(100) .. "b")
      assert.matches("pattern '" .. ("a%*"):rep(30) .. "%.%.%.' takes", err)
    end)

    it("are stopped earlier by the watchdog", function()
      local vm = budget.open { cpu_ms = 1 }
      finally(function() vm:close() end)
      local _, err, where, _, name = vm:run [[
        local text, pattern = ('a'):rep(300), ('a*'):rep(6) .. 'b'
        while true do pcall(string.find, text, pattern) end]]
      assert.equal("EINTR", name)
      assert.matches("^code:2: stopped after", err)
      assert.equal("code:2", where)
    end)

    it("do not concern what is linear, however long the text", function()
      local text = ("some words, and 12 numbers\n"):rep(40000) -- 1 MiB
      assert.equal(select(2, text:gsub("%s+", " ")), select(2, ours.gsub(text, "%s+", " ")))
      assert.equal(40000, select(2, ours.gsub(text, "\n", "\\n")))
      assert.equal(600 * 2000, #ours.gsub(("x"):rep(600), "x", ("y"):rep(2000)))
      assert.is_nil(ours.find(text, "no such thing"))
      assert.is_nil(ours.find(text, "[xyz]+%d$"))
      local n = 0
      for _ in ours.gmatch(text, "(%a+)") do n = n + 1 end
      assert.equal(160000, n)
      -- memchr() and memcmp() by turns would need 10^11 comparisons
      assert.is_nil(ours.find(("a"):rep(1e6 // 1), ("a"):rep(5e5 // 1) .. "b", 1, true))
    end)
  end)
end)
