local lua_vm = require "native.lua_vm"
local policies = require "support.policies"

-- The whole environment of a policy. A name that appears or disappears must be meant.
local GOLDEN = {
  "assert", "cache", "cache.fetch", "cache.forget", "db", "db.query", "error", "http", "http.get",
  "http.post", "ipairs", "json", "json.array", "json.decode", "json.encode",
  "json.null", "log", "log.info", "log.warn", "math", "math.abs", "math.acos", "math.asin", "math.atan",
  "math.ceil", "math.cos", "math.deg", "math.exp", "math.floor", "math.fmod", "math.huge", "math.log", "math.max",
  "math.maxinteger", "math.min", "math.mininteger", "math.modf", "math.pi", "math.rad", "math.random",
  "math.randomseed", "math.sin", "math.sqrt", "math.tan", "math.tointeger", "math.type", "math.ult", "next", "os",
  "os.date", "os.difftime", "os.time", "pairs", "pcall", "print", "require", "select", "setmetatable", "sleep",
  "string", "string.byte", "string.char", "string.find", "string.format", "string.gmatch", "string.gsub",
  "string.len", "string.lower", "string.match", "string.pack", "string.packsize", "string.rep", "string.reverse",
  "string.sub", "string.unpack", "string.upper", "table", "table.concat", "table.insert", "table.move",
  "table.pack", "table.remove", "table.sort", "table.unpack", "tg", "tg.ask_again", "tg.deny", "tg.drop",
  "tg.end_streams",
  "tg.equal", "tg.fits_template", "tg.fits_url_pattern", "tg.geohash", "tg.hmac", "tg.jwt", "tg.pattern_ok",
  "tg.rate", "tg.segment", "tg.settings", "tg.stored", "tg.topic", "tg.topic_ok", "tg.unsegment", "tg.url_pattern_ok",
  "tonumber", "tostring", "type", "utf8", "utf8.char", "utf8.charpattern", "utf8.codepoint", "utf8.codes", "utf8.len",
  "utf8.offset",
}

describe("sandbox", function()
  local vm

  before_each(function()
    vm = assert(lua_vm.open(16 * 1024 * 1024))
    vm:mode { loading = false }
  end)

  after_each(function()
    vm:close()
  end)

  -- The names a policy can reach, found from inside: everything in the raw environment of this
  -- process is tried, and the libraries are listed.
  local function reachable()
    local names = {}
    for name in pairs(_G) do
      if type(name) == "string" and name:find("^[%a_][%w_]*$") then names[name] = true end
    end
    for _, name in ipairs { "_G", "_VERSION", "bit32", "tg", "json", "log", "cache", "db", "http", "utf8", "arg",
      "sleep", "unpack", "loadstring", "setfenv", "getfenv", "module", "newproxy", "host", "warn" } do
      names[name] = true
    end
    local found = {}
    for name in pairs(names) do
      if vm:run("return type(" .. name .. ") ~= 'nil'") == "true" then
        found[#found + 1] = name
        local list = vm:run("if type(" .. name .. ") ~= 'table' then return '' end local all = {} " ..
          "for k in pairs(" .. name .. ") do all[#all + 1] = tostring(k) end return table.concat(all, ' ')")
        for key in list:gmatch("%S+") do found[#found + 1] = name .. "." .. key end
      end
    end
    table.sort(found)
    return found
  end

  it("offers exactly the golden list", function()
    assert.same(GOLDEN, reachable())
  end)

  it("matches the stubs in scripts/meta/tidegate.lua, both ways", function()
    local stubs, ours = {}, {}
    for line in io.lines(SPEC_SOURCE_DIR .. "/scripts/meta/tidegate.lua") do
      local name = line:match("^function ([%w_.]+)%(") or line:match("^([%w_]+%.[%w_]+) = nil$")
        or line:match("^([%w_]+) = {}$")
      if name then stubs[#stubs + 1] = name end
    end
    for _, name in ipairs(GOLDEN) do
      local root = name:match("^[%w_]+")
      local library = ({ tg = 1, json = 1, log = 1, cache = 1, db = 1, http = 1 })[root]
      if library or name == "print" or name == "sleep" then
        ours[#ours + 1] = name
      end
    end
    table.sort(stubs)
    assert.same(ours, stubs)
  end)

  it("has no way to code, files, processes, threads or the collector", function()
    for _, code in ipairs {
      "return load", "return loadstring", "return dofile", "return loadfile", "return io", "return package",
      "return debug", "return coroutine", "return collectgarbage", "return rawset", "return rawget", "return rawequal",
      "return rawlen", "return getmetatable", "return xpcall", "return string.dump", "return os.execute",
      "return os.exit", "return os.getenv", "return os.remove", "return os.tmpname", "return os.setlocale", "return _G",
      "return ('').dump", "return warn",
    } do
      assert.equal("nil", vm:run(code), code)
    end
  end)

  it("freezes globals after the load, and never lets its own be replaced", function()
    local _, err = vm:run "counter = 1"
    assert.equal("code:1: global 'counter' cannot be set after the policy was loaded; make it local", err)
    _, err = vm:run "print = nil"
    assert.matches("global 'print' cannot be set", err)
    vm:mode { loading = true }
    assert.equal("3", vm:run "helper = function() return 3 end helper2 = helper return helper2()")
    _, err = vm:run "\nstring = {}"
    assert.equal("code:2: global 'string' belongs to the broker and cannot be replaced", err)
    vm:mode { loading = false }
    assert.equal("3", vm:run "return helper()")
    _, err = vm:run "helper = nil"
    assert.matches("global 'helper' cannot be set after", err)
  end)

  it("keeps libraries and the string metatable out of reach", function()
    for _, name in ipairs { "string", "table", "math", "utf8", "os", "tg", "json", "log", "db", "http" } do
      local _, err = vm:run(name .. ".x = 1")
      assert.equal("code:1: " .. name .. " is read-only", err)
      _, err = vm:run("setmetatable(" .. name .. ", {})")
      assert.matches("cannot change a protected metatable", err)
    end
    local _, err = vm:run "setmetatable('', {})"
    assert.matches("table expected", err)
    -- methods of strings are the sandboxed ones
    _, err = vm:run "return ('x'):rep(1e9 // 1 | 0)"
    assert.matches("string.rep: more than", err)
  end)

  it("refuses finalizers and lengths of one's own", function()
    for _, name in ipairs { "__gc", "__len" } do
      local _, err = vm:run("setmetatable({}, { " .. name .. " = function() end })")
      assert.equal("code:1: setmetatable: " .. name .. " is not available in policies", err)
    end
    -- added later: not a finalizer any more, and no list
    local _, err = vm:run [[
      local mt = {} local t = setmetatable({}, mt)
      mt.__len = function() return 1 << 53 end
      return table.concat(t)]]
    assert.matches("__len", err)
    assert.equal("2", vm:run "return setmetatable({}, { __index = function(_, k) return k * 2 end })[1]")
  end)

  it("bounds what one call into C can be made to do", function()
    for code, what in pairs {
      ["('x'):rep(1e6 | 0 + 1)"] = "string.rep",
      ["(''):rep(1 << 60)"] = "string.rep",
      ["('ab'):rep(1 << 19, 'c')"] = "string.rep",
      ["(''):rep(1e15)"] = "string.rep",
      ["(''):rep('1000000000000')"] = "string.rep",
      ["string.rep(1, 1e7 | 0)"] = "string.rep",
      ["string.rep(12, 1 << 19, 3)"] = "string.rep",
      ["table.concat({}, '', 1, 1 << 60)"] = "table.concat",
      ["table.concat({}, '', math.mininteger, math.maxinteger)"] = "table.concat",
      ["table.unpack({}, 1, 1 << 30)"] = "table.unpack",
      ["table.unpack({}, math.mininteger, math.maxinteger)"] = "table.unpack",
      ["table.move({}, 1, math.maxinteger - 1, 2)"] = "table.move",
    } do
      local _, err = vm:run("local x = " .. code .. " return x")
      assert.matches("^code:1: " .. what .. ": more than", err, nil, nil, code)
    end
    assert.equal("1000000", vm:run "return #('x'):rep(1000000)")
    assert.equal("xx", vm:run "return ('x'):rep(2)")
    assert.equal("", vm:run "return ('x'):rep(-1)")
    assert.equal("12312", vm:run "return string.rep(12, '2', 3)")
    assert.is_nil((vm:run "return ('x'):rep(1.5)"))
    assert.is_nil((vm:run "return string.rep({}, 1)"))
  end)

  it("leaves the libraries working", function()
    for code, expected in pairs {
      ["local t = { 3, 1, 2 } table.sort(t) return table.concat(t, ',')"] = "1,2,3",
      ["local t = { 1 } table.insert(t, 1, 0) table.insert(t, 9) return table.concat(t, ',')"] = "0,1,9",
      ["local t = { 1, 2 } return table.remove(t) .. #t"] = "21",
      ["return select('#', table.unpack({ 1, nil, 3 }, 1, 3))"] = "3",
      ["return table.move({ 1, 2, 3 }, 2, 3, 1)[1]"] = "2",
      ["return table.pack(1, 2).n"] = "2",
      ["return next({}) == nil and next({ 5 })"] = "1",
      ["return pcall(error, 'x')"] = "false",
      ["return math.type(1) .. math.max(1, 2) .. math.huge"] = "integer2inf",
      ["return utf8.char(228)"] = "ä",
      ["return os.date('!%Y-%m-%d', 0)"] = "1970-01-01",
      ["local d = { year = 2020, month = 1, day = 2 } local t = os.time(d) d.day = 1 return t - os.time(d)"] = "86400",
      ["return ('a,b'):gsub(',', ';')"] = "a;b",
    } do
      assert.equal(expected, vm:run(code), code)
    end
  end)

  it("has Lua's pcall, nested 100 times at most", function()
    for code, expected in pairs {
      ["return select('#', pcall(function() end))"] = "1",
      ["local ok, a, b, c = pcall(function(...) return 'x', ... end, 1, nil) "
        .. "return tostring(ok) .. a .. b .. tostring(c)"] = "truex1nil",
      ["local ok, e = pcall(error, 'e', 0) return tostring(ok) .. e"] = "falsee",
      ["local ok, e = pcall(error) return tostring(ok) .. tostring(e)"] = "falsenil",
      ["local ok, e = pcall(nil) return tostring(ok) .. e"] = "falseattempt to call a nil value",
      ["local n = 0 local function f() n = n + 1 local ok, e = pcall(f) if not ok then error(e, 0) end end "
        .. "local ok, e = pcall(f) return n .. e"] = "100code:1: pcall nested more than 100 times",
      ["for i = 1, 1000 do pcall(error) pcall(type, 1) end return 'x'"] = "x",
    } do
      assert.equal(expected, vm:run(code), code)
    end
    assert.matches("bad argument #1 to 'pcall' (value expected)", select(2, vm:run "pcall()"), 1, true)
  end)

  it("treats lists with metatables as the library does", function()
    local function list(values, code)
      return ("local t = setmetatable({ %s }, { __index = function() end }) %s"):format(values, code)
    end
    for code, expected in pairs {
      [list("3, 1, 2", "table.sort(t) return table.concat(t, ',')")] = "1,2,3",
      [list("3, 1, 2", "table.sort(t, function(a, b) return a > b end) return table.concat(t, ',')")] = "3,2,1",
      [list("1, 2", "table.insert(t, 3) table.insert(t, 1, 0) table.insert(t, 5, 9) return table.concat(t, ',')")]
        = "0,1,2,3,9",
      [list("1, 2, 3", "return table.remove(t, 1) .. table.remove(t) .. #t .. t[1]")] = "1312",
      [list("", "return tostring(table.remove(t)) .. #t")] = "nil0",
      [list("1", "return tostring(table.remove(t, 2)) .. #t")] = "nil1",
      [list("1, nil, 3", "return select('#', table.unpack(t, 1, 3))")] = "3",
      [list("1, 2, 3", "return table.concat(t, '-', 2, 3)")] = "2-3",
      [list("1, 2, 3", "return table.concat(table.move(t, 1, 3, 2), ',')")] = "1,1,2,3",
      [list("1, 2, 3", "return table.concat(table.move(t, 2, 3, 1), ',')")] = "2,3,3",
      [list("1, 2, 3", "return table.concat(table.move(t, 1, 3, 1, {}), ',')")] = "1,2,3",
      ["local t = setmetatable({}, { __index = function(_, i) return i end }) return table.concat(t, ',', 1, 4)"]
        = "1,2,3,4",
      ["return table.concat(json.decode '[3,4]', ',')"] = "3,4",
    } do
      assert.equal(expected, vm:run(code), code)
    end
    local long = "local t = {} for i = 1, 25000 do t[i] = i %% 10 end %s"
    assert.equal("25000", vm:run(long:format "return #table.concat(t)"))
    assert.equal("49999", vm:run(long:format "return #table.concat(t, ',')"))
    assert.equal("20000", vm:run(long:format "return #table.concat(t, '', 5001)"))
    assert.equal("09", vm:run(long:format "table.sort(t) return t[1] .. t[25000]"))
    for _, code in ipairs { "table.insert(t, 5, 1)", "table.insert(t, 0, 1)", "table.insert(t)",
      "table.insert(t, 1, 2, 3)", "table.remove(t, 7)", "table.remove(t, 'x')", "table.move(t, 1, 2, 'x')" } do
      local ok, err = vm:run(list("1, 2", "local x = " .. code .. " return x"))
      assert.is_nil(ok, code)
      assert.matches("^code:1: ", err, nil, nil, code)
    end
  end)

  it("takes the time from the broker's clock", function()
    vm:mode { unix_ms = 1234567890999 }
    assert.equal("1234567890", vm:run "return os.time()")
    assert.equal("2009-02-13", vm:run "return os.date('!%Y-%m-%d')")
  end)

  it("has neither clock nor chance in filters and formats", function()
    vm:mode { pure = true }
    for _, code in ipairs { "os.time()", "os.date('%c')", "math.random()", "math.randomseed(1)" } do
      local _, err = vm:run("local x = " .. code .. " return x")
      assert.matches("not available in filters and formats", err)
      assert.matches("^code:1:", err)
    end
    assert.equal("1970", vm:run "return os.date('!%Y', 0)")
  end)

  describe("tg", function()
    it("joins literal segments and refuses everything else", function()
      assert.equal("tenant/acme/x", vm:run "return tg.topic('tenant', 'acme', 'x')")
      for _, bad in ipairs { "'*'", "'**'", "'a/b'", "''", "'a\\0b'", "'a\\nb'", "1", "nil", "{}", "('x'):rep(300)" } do
        local ok, err = vm:run("return tg.topic('t', " .. bad .. ")")
        assert.is_nil(ok, bad)
        assert.matches("^code:1: .*topic", err, nil, nil, bad)
      end
      assert.is_nil((vm:run "return tg.topic()"))
      assert.is_nil((vm:run "local s = ('x'):rep(200) return tg.topic(s, s)"))
    end)

    it("answers whether a value is a segment or a pattern", function()
      for code, expected in pairs {
        ["tg.topic_ok('a')"] = "true", ["tg.topic_ok('*')"] = "false", ["tg.topic_ok('a/b')"] = "false",
        ["tg.topic_ok(nil)"] = "false", ["tg.topic_ok(5)"] = "false", ["tg.topic_ok('')"] = "false",
        ["tg.pattern_ok('a/b')"] = "true", ["tg.pattern_ok('a/**')"] = "true", ["tg.pattern_ok('**/a')"] = "false",
        ["tg.pattern_ok('')"] = "false", ["tg.pattern_ok({})"] = "false",
      } do
        assert.equal(expected, vm:run("return " .. code), code)
      end
    end)

    it("makes one segment of any text, and the text of the segment", function()
      for text, segment in pairs {
        ["a"] = "a", ["https://a.example/b*?c=50%"] = "https:%2F%2Fa.example%2Fb%2A?c=50%25", ["%2F"] = "%252F",
        ["a\0b\n\127"] = "a%00b%0A%7F", ["\xC2\x85\xC2\xA0\xC3\xBC"] = "%C2%85\xC2\xA0\xC3\xBC", ["**"] = "%2A%2A",
      } do
        local code = ("%q"):format(text)
        assert.equal(segment, vm:run(("return tg.segment(%s)"):format(code)), code)
        assert.equal("true", vm:run(("return tg.topic_ok(tg.segment(%s))"):format(code)), code)
        assert.equal("true", vm:run(("return tg.unsegment(tg.segment(%s)) == %s"):format(code, code)), code)
      end
      for _, bad in ipairs { "''", "nil", "5", "{}", "'\xFF'", "('x'):rep(256)", "('/'):rep(86)" } do
        assert.equal("nil", vm:run(("return tg.segment(%s)"):format(bad)), bad)
      end
      for _, bad in ipairs { "''", "nil", "5", "'%'", "'%2'", "'%zz'", "'a%FF'" } do
        assert.equal("nil", vm:run(("return tg.unsegment(%s)"):format(bad)), bad)
      end
    end)

    it("computes geohashes", function()
      -- values of geohash.org
      assert.equal("u4pruydqqvj", vm:run "return tg.geohash(57.64911, 10.40744, 11)")
      assert.equal("ezs42", vm:run "return tg.geohash(42.605, -5.603, 5)")
      for _, bad in ipairs { "91, 0, 4", "0, 181, 4", "0/0, 0, 4", "0, 0, 0", "0, 0, 13", "0, 0", "1/0, 0, 4" } do
        assert.is_nil((vm:run("return tg.geohash(" .. bad .. ")")), bad)
      end
    end)

    it("denies with a status and a reason that can be sent", function()
      assert.equal("403 no", vm:run "local a, b = tg.deny(403, 'no') return (a or b.status) .. ' ' .. b.reason")
      for _, bad in ipairs { "200, 'x'", "500, 'x'", "402, 'x'", "403, ''", "403, 'a\\nb'", "403, ('x'):rep(600)",
        "403, '\\xff'", "403", "'403x', 'x'" } do
        local ok, err = vm:run("return tg.deny(" .. bad .. ")")
        assert.is_nil(ok, bad)
        assert.matches("^code:1: bad argument", err)
      end
    end)
  end)

  describe("log", function()
    it("writes one line, and nothing a script passes can forge another", function()
      local text = policies.capture(function()
        assert.equal("nil", vm:run "log.info('hello\\nlevel=error msg=forged') return nil")
        vm:run "log.warn{ b = 2, a = 'x y', c = true, d = 1.5 }"
        vm:run "log.info('text', { n = 1 })"
        vm:run "print(1, 'two', nil)"
      end)
      assert.matches('level=info sub=script msg="hello\\nlevel=error msg=forged"\n', text, 1, true)
      assert.matches('level=warn sub=script msg=policy a="x y" b=2 c=true d=1.5\n', text, 1, true)
      assert.matches('msg=text n=1\n', text, 1, true)
      assert.matches('msg="1\\x09two\\x09nil"\n', text, 1, true)
      assert.equal(4, select(2, text:gsub("\n", "")))
    end)

    it("refuses fields it cannot write", function()
      for _, bad in ipairs { "{ ['a=b'] = 1 }", "{ [1] = 1 }", "{ a = {} }", "{ ['a b'] = 1 }", "nil", "'x', 5" } do
        assert.is_nil((vm:run("log.info(" .. bad .. ")")), bad)
      end
    end)
  end)

  describe("require", function()
    local dir, outside

    before_each(function()
      outside = policies.directory { ["secret.lua"] = "return 'secret'" }
      dir = policies.directory {
        ["a.lua"] = "local n = ... loads = (loads or 0) + 1 return { name = n, b = require 'sub.b' }",
        ["sub/b.lua"] = "return 'b'",
        ["nothing.lua"] = "x = 1",
        ["cycle.lua"] = "return require 'cycle2'",
        ["cycle2.lua"] = "return require 'cycle'",
        ["broken.lua"] = "return +",
        ["raising.lua"] = "\nerror('no')",
        ["bytecode.lua"] = string.dump(function() return "bytecode" end),
        ["big.lua"] = "return '" .. ("x"):rep(1024 * 1024) .. "'",
      }
      os.execute(("ln -s '%s/secret.lua' '%s/link.lua'"):format(outside, dir))
      os.execute(("ln -s '%s' '%s/dirlink'"):format(outside, dir))
      os.execute(("ln -s sub/b.lua '%s/inner.lua'"):format(dir))
      os.execute(("mkdir '%s/folder.lua'"):format(dir))
      os.execute(("mkfifo '%s/fifo.lua'"):format(dir))
      vm:close()
      vm = assert(lua_vm.open(16 * 1024 * 1024, dir))
      vm:mode { loading = true }
    end)

    after_each(function()
      policies.remove(dir)
      policies.remove(outside)
    end)

    it("loads files below the policy's directory, once", function()
      assert.equal("a b 1", vm:run "local a = require 'a' require 'a' return a.name .. ' ' .. a.b .. ' ' .. loads")
      assert.equal("true", vm:run "return require 'nothing'")
      assert.equal("b", vm:run "return require 'inner'") -- a link that stays inside
    end)

    it("refuses names that are not names", function()
      for _, name in ipairs { "", ".", "..", "a.", ".a", "a..b", "../x", "a/b", "/etc/passwd", "a\0b", "a-b", "a b" } do
        local ok, err = vm:run(("return require %q"):format(name))
        assert.is_nil(ok, name)
        assert.matches("a name like 'lib.topics' was expected", err, 1, true)
      end
    end)

    it("does not follow links out of the directory", function()
      for _, name in ipairs { "link", "dirlink.secret" } do
        local _, err = vm:run(("return require %q"):format(name))
        assert.matches("module '" .. name .. "' is outside the policy's directory", err, 1, true)
      end
    end)

    it("says what is wrong with a module", function()
      for name, text in pairs {
        missing = "module 'missing' not found: " .. dir .. "/missing.lua: No such file or directory",
        cycle = "module 'cycle' requires itself",
        broken = "broken.lua:1: unexpected symbol",
        raising = "raising.lua:2: no",
        bytecode = "attempt to load a binary chunk",
        big = "big.lua is longer than 1048576 bytes",
        folder = "cannot read folder.lua: a regular file was expected",
        fifo = "cannot read fifo.lua: a regular file was expected",
      } do
        local ok, err = vm:run(("return require %q"):format(name))
        assert.is_nil(ok, name)
        assert.matches(text, err, 1, true)
      end
    end)

    it("works while loading only", function()
      vm:mode { loading = false }
      local _, err = vm:run "local a = require 'a' return a"
      assert.matches("^code:1: require works only while the policy is being loaded", err)
    end)
  end)
end)
