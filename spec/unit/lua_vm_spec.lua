local lua_vm = require "native.lua_vm"
local policies = require "support.policies"

describe("lua_vm", function()
  local vm

  local function open(bytes)
    vm = assert(lua_vm.open(bytes or 1024 * 1024))
    return vm
  end

  after_each(function()
    if vm then vm:close() end
    vm = nil
  end)

  it("runs within 96 KiB, and says so when that is not enough", function()
    open(96 * 1024)
    assert.equal("42", vm:run "return 6 * 7")
    local bombs = {
      "return ('x'):rep(100000)",
      "local s = 'x' while true do s = s .. s end",
      "local t = {} for i = 1, 1e7 do t[i] = { i } end",
      "local function f(n) return n + f(n + 1) end return f(1)",
      "local t = {} for i = 1, 1e7 do t['k' .. i] = i end",
    }
    for _, code in ipairs(bombs) do
      local ok, err, _, _, name = vm:run(code)
      assert.is_nil(ok)
      assert.matches("not enough memory: the policy's limit is 98304 bytes", err, 1, true)
      assert.equal("ENOMEM", name)
      assert.equal("42", vm:run "return 6 * 7") -- still usable
      local top, bytes = vm:state()
      assert.equal(0, top)
      assert.is_true(bytes <= 96 * 1024)
    end
  end)

  it("counts exactly: everything is given back at close", function()
    -- lua_vm_free() requires the counter to be 0; a size confused with a type tag would show there
    open(8 * 1024 * 1024)
    assert.equal("20000", vm:run "local t = {} for i = 1, 20000 do t[i] = {} end return #t")
    vm:close()
  end)

  it("has no room for a state in a few bytes", function()
    local none, err = lua_vm.open(2000)
    assert.is_nil(none)
    assert.equal("no memory for a state", err)
    none, err = lua_vm.open(12000)
    assert.is_nil(none)
    assert.matches("environment cannot be made: not enough memory", err)
  end)

  it("tells message, place and traceback of an error", function()
    open()
    local ok, err, where, traceback, code = vm:run [[
      local function inner(t) return t.x.y end
      local function outer() local r = inner({}) return r end
      local r = outer()
      return r]]
    assert.is_nil(ok)
    assert.equal("code:1: attempt to index a nil value (field 'x')", err)
    assert.equal("code:1", where)
    assert.equal("EINVAL", code)
    assert.matches("^code:1: in inner\ncode:2: in outer\n?", traceback)
  end)

  it("blames the policy's line, not the wrapper of a library function", function()
    open()
    local _, err, where, traceback = vm:run "\n\ntable.concat({}, {})"
    assert.matches("^code:3: bad argument", err)
    assert.equal("code:3", where)
    assert.is_nil(traceback:find("sandbox", 1, true))
    _, err = vm:run "\ntable.sort('x')"
    assert.equal("code:2: table.sort: a table was expected, got string", err)
  end)

  it("does not run the script's code to describe an error object", function()
    open()
    local _, err = vm:run [[
      error(setmetatable({}, { __tostring = function() while true do end end,
                               __index = function() while true do end end }))]]
    assert.equal("an error object that is a table, not a text", err)
    _, err = vm:run "error()"
    assert.equal("an error object that is a nil, not a text", err)
    _, err = vm:run "error(12)"
    assert.equal("12", err)
  end)

  it("survives an endless recursion", function()
    open(256 * 1024 * 1024)
    local _, err = vm:run "local function f() return 1 + f() end return f()"
    assert.matches("stack overflow", err)
    _, err = vm:run "local t = {} setmetatable(t, { __index = function(x, k) return x[k .. 'x'] end }) return t.a"
    assert.matches("overflow", err)
    assert.equal("1", vm:run "return 1")
  end)

  it("refuses to be entered twice", function()
    open()
    local log = policies.capture(function()
      local rc, inner = vm:nested()
      assert.equal(0, rc)
      assert.equal("EBUSY", inner)
    end)
    assert.matches("call into a policy from inside a call refused", log, 1, true)
    assert.equal("1", vm:run "return 1")
  end)

  it("counts references", function()
    local before, held, after = open():refs()
    assert.same({ 0, 1, 0 }, { before, held, after })
  end)

  it("leaves stack and memory as they were, over 10,000 calls", function()
    open()
    local codes = {
      "return 1", "error('x')", "error({})", "return nil", "local t = {} t[1] = t return t",
      "return table.concat({ 'a', 'b' }, ',')", "local x = nil + 1",
    }
    for _, code in ipairs(codes) do vm:run(code) end
    vm:run "return 1"
    local function settle() -- what is left when garbage was collected
      local least = math.huge
      for _ = 1, 300 do
        vm:run "local t = {} for i = 1, 100 do t[i] = {} end"
        least = math.min(least, select(2, vm:state()))
      end
      return least
    end
    local bytes = settle()
    for i = 1, 10000 do vm:run(codes[i % #codes + 1]) end
    local top, _, repairs = vm:state()
    assert.equal(0, top)
    assert.equal(0, repairs)
    assert.is_true(settle() < bytes + 16 * 1024)
  end)

  it("counts what kept events hold outside the Lua heap", function()
    open(256 * 1024)
    local data = ("x"):rep(60 * 1024)
    vm:mode { loading = true }
    vm:run "kept = {}"
    for i = 1, 3 do
      assert.equal("1", vm:run("kept[#kept + 1] = (...) return 1",
        policies.event { topic = "a", data = data, id = i }))
    end
    local _, err
    for i = 4, 6 do
      _, err = vm:run("kept[#kept + 1] = (...) return 1", policies.event { topic = "a", data = data, id = i })
    end
    assert.matches("not enough memory", err)
    -- events nobody keeps are given back, however many there were
    vm:run "kept = {}"
    for i = 10, 60 do
      assert.equal("1", vm:run("return 1", policies.event { topic = "a", data = data, id = i }))
    end
  end)
end)
