local lua_vm = require "native.lua_vm"

describe("json in policies", function()
  local vm

  before_each(function()
    vm = assert(lua_vm.open(32 * 1024 * 1024))
  end)

  after_each(function()
    vm:close()
  end)

  local function trip(text)
    local ok, err = vm:run(("return json.encode(json.decode(%q))"):format(text))
    return ok or err
  end

  it("gives back what it was given", function()
    for _, text in ipairs {
      "null", "true", "false", "0", "-1", "9007199254740993", "9223372036854775807", "-9223372036854775808", "0.1",
      "1.5e+300", '""', '"a\\"b\\\\c\\n\\u0000\\u001fü€𝄞"', "[]", "{}", "[[],{},[{}]]", '{"a":1,"b":[1,2,3]}',
      '{"":1}', "[null,null]", "[1.0]",
    } do
      assert.equal(text, trip(text))
    end
  end)

  it("writes the shortest number that reads back the same", function()
    for code, expected in pairs {
      ["0.1"] = "0.1", ["1/3"] = "0.3333333333333333", ["2^53"] = "9007199254740992.0", ["1e15"] = "1e+15",
      ["5e-324"] = "4.94065645841247e-324", ["-0.0"] = "-0.0", ["10/2"] = "5.0", ["3"] = "3",
      ["0.1 + 0.2"] = "0.30000000000000004",
    } do
      assert.equal(expected, vm:run("return json.encode(" .. code .. ")"))
      assert.equal("true", vm:run(("return json.decode(json.encode(%s)) == %s"):format(code, code)))
    end
  end)

  it("leaves the stack as it was, however full it is, when decoding fails", function()
    local nested = ("["):rep(70) .. ("]"):rep(70)
    for _, bad in ipairs { "{", nested } do
      assert.same({ true, "" }, { vm:decode_at_all_depths(bad) })
    end
  end)

  it("sorts keys, bytewise", function()
    assert.equal('{"A":1,"a":2,"aa":3,"b":4,"ä":5}',
      vm:run "return json.encode{ ['ä'] = 5, b = 4, aa = 3, a = 2, A = 1 }")
  end)

  it("tells arrays from objects", function()
    for code, expected in pairs {
      ["{}"] = "{}", ["json.array()"] = "[]", ["json.array{}"] = "[]", ["json.array{ 1 }"] = "[1]",
      ["{ 1, 2 }"] = "[1,2]",
      ["{ { } }"] = "[{}]", ["{ a = json.array{} }"] = '{"a":[]}', ["json.array(json.array{ 1 })"] = "[1]",
    } do
      assert.equal(expected, vm:run("return json.encode(" .. code .. ")"))
    end
    local _, err = vm:run "json.array(setmetatable({}, {}))"
    assert.matches("a table without a metatable was expected", err)
  end)

  it("says where a value has no JSON form", function()
    for code, text in pairs {
      ["function() end"] = "value: a function has no JSON form",
      ["{ a = { b = { 1, print } } }"] = "value.a.b[2]: a function has no JSON form",
      ["0/0"] = "value: NaN has no JSON form",
      ["{ -1/0 }"] = "value[1]: an infinite number has no JSON form",
      ["{ x = '\\xff' }"] = "value.x: a string that is not UTF-8 has no JSON form",
      ["{ ['\\xff'] = 1 }"] = "value.\xff: a string that is not UTF-8 has no JSON form",
      ["{ ['a\\0'] = 1 }"] = "value: a key with a NUL byte has no JSON form",
      ["{ 1, nil, 3 }"] = "value: the keys of an object must be strings",
      ["{ 1, x = 2 }"] = "value: the keys of an object must be strings",
      ["{ [0] = 1 }"] = "value: the keys of an object must be strings",
      ["{ [1.5] = 1 }"] = "value: the keys of an object must be strings",
      ["{ [true] = 1 }"] = "value: the keys of an object must be strings",
      ["json.array{ 1, x = 2 }"] = "value: a json.array with holes or other keys",
    } do
      local ok, err = vm:run("return json.encode(" .. code .. ")")
      assert.is_nil(ok, code)
      assert.matches(text, err, 1, true)
    end
    local _, err = vm:run "local t = {} t.t = t return json.encode(t)"
    assert.matches("value: nested deeper than 64 levels (does a table contain itself?)", err, 1, true)
  end)

  it("ignores metamethods of what it encodes", function()
    assert.equal('{"a":1}', vm:run [[
      return json.encode(setmetatable({ a = 1 }, {
        __index = function() error("no") end, __pairs = function() error("no") end, __tostring = error }))]])
  end)

  it("answers nil and why for what it will not read", function()
    for text, why in pairs {
      ["1\0"] = "holds a NUL byte", ["[1\0]"] = "holds a NUL byte",
      [""] = "line 1", ["{"] = "line 1", ["nope"] = "line 1", ["[1,]"] = "line 1", ["1 2"] = "line 1",
      ['{"a":1,"a":2}'] = "duplicate", ["99999999999999999999"] = "too big", ["1e999"] = "overflow",
      ['"\xff"'] = "unable to decode byte 0xff", ['{"a\\u0000":1}'] = "NUL", ["{'a':1}"] = "line 1", ["NaN"] = "line 1",
      [("["):rep(65) .. ("]"):rep(65)] = "nested deeper than 64 levels",
      [("["):rep(3000) .. ("]"):rep(3000)] = "depth",
    } do
      local answer = vm:run(("local v, err = json.decode(%q) return tostring(v) .. ' ' .. tostring(err)"):format(text))
      assert.matches("^nil not JSON: ", answer, nil, nil, text)
      assert.matches(why, answer, 1, true)
    end
    assert.equal("true", vm:run(("return json.decode(%q) ~= nil"):format(("["):rep(64) .. ("]"):rep(64))))
    assert.matches("longer than 4194304 bytes",
      vm:run "local s = ('x'):rep(1000000) local _, err = json.decode(s .. s .. s .. s .. s) return err")
  end)

  it("has a null that is neither nil nor false", function()
    assert.equal("true", vm:run "local v = json.decode('[null]')[1] return v == json.null and v ~= nil and v ~= false")
    assert.equal("null", vm:run "return json.encode(json.null)")
    assert.equal("1", vm:run "return #json.decode('[null]')")
  end)

  it("does not leak, whatever fails on the way", function()
    vm:close()
    vm = assert(lua_vm.open(128 * 1024))
    for _ = 1, 200 do
      vm:run "return json.decode('[' .. ('{\"a\":[1,2,3]},'):rep(2000) .. '1]')" -- out of memory half-way
      vm:run "return json.encode{ a = ('x'):rep(1000), b = print }"
    end
    local top, bytes = vm:state()
    assert.equal(0, top)
    assert.is_true(bytes <= 128 * 1024)
  end)
end)
