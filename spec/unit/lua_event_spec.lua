local lua_vm = require "native.lua_vm"
local policies = require "support.policies"

describe("events in policies", function()
  local vm
  local order = {
    topic = "orders/1", type = "created", key = "k-1", id = 9007199254740991, time_ms = 1700000000250,
    attrs = '{"cell":"u4pr","n":3,"vip":true}',
    data = '{"total":12.5,"lines":[{"sku":"a"},{"sku":"b"}],"big":9007199254740993}',
  }

  before_each(function()
    vm = assert(lua_vm.open(8 * 1024 * 1024))
    vm:mode { loading = true }
  end)

  after_each(function()
    vm:close()
  end)

  local function eval(expression, fields)
    local ok, err = vm:run("local ev = ... local value = " .. expression .. " return value",
      policies.event(fields or order))
    return ok or err
  end

  it("have these fields", function()
    for expression, expected in pairs {
      ["ev.id"] = "9007199254740991", ["ev.topic"] = "orders/1", ["ev.type"] = "created", ["ev.key"] = "k-1",
      ["ev.time"] = "1700000000.25", ["ev.attrs.cell"] = "u4pr", ["ev.attrs.n + 1"] = "4", ["ev.attrs.vip"] = "true",
      ["ev.attrs.none"] = "nil", ["ev.data.total"] = "12.5", ["ev.data.big"] = "9007199254740993",
      ["ev.data.lines[2].sku"] = "b", ["#ev.data.lines"] = "2", ["ev.raw"] = order.data, ["type(ev.id)"] = "string",
      ["type(ev)"] = "userdata", ["type(ev.data)"] = "table", ["tostring(ev)"] = "event 9007199254740991 on orders/1",
      ["ev.data == ev.data"] = "true",
    } do
      assert.equal(expected, eval(expression), expression)
    end
  end)

  it("have an empty attrs, no key and the type message where the publisher gave none", function()
    local bare = { topic = "a", data = "text", id = 1 }
    assert.equal("nil", eval("ev.key", bare))
    assert.equal("message", eval("ev.type", bare))
    assert.equal("nil", eval("next(ev.attrs)", bare))
    assert.equal("text", eval("ev.data", bare))
    assert.equal("", eval("ev.data", { topic = "a", data = "", id = 1 }))
  end)

  it("raise where others read JSON that cannot be read safely, instead of handing on the text", function()
    for _, data in ipairs { [[{"secret":1,"x":"\ud800"}]], [==[["\udc00\ud800"]]==], '{"a":1,"a":2}' } do
      assert.matches("event data cannot be decoded", eval("ev.data", { topic = "a", data = data, id = 1 }), 1, true)
      assert.equal(data, eval("ev.raw", { topic = "a", data = data, id = 1 }))
    end
    assert.equal([[{"x":"\ud800"]], eval("ev.data", { topic = "a", data = [[{"x":"\ud800"]], id = 1 }))
  end)

  it("raise on an unknown field", function()
    assert.equal("code:1: event has no field 'dta' (did you mean 'data'?)", eval "ev.dta")
    assert.equal("code:1: event has no field of type number", eval "ev[1]")
    assert.equal("code:1: event has no field 'json' (there are: id, topic, type, key, time, attrs, data, raw, expires)",
      eval "ev.json")
    assert.matches("event has no field 'peer' (", eval "ev.peer", 1, true) -- nothing of the connection
  end)

  it("are read-only, all the way down", function()
    for statement, what in pairs {
      ["ev.topic = 'x'"] = "events are read-only",
      ["ev.attrs.cell = 'x'"] = "event attrs is read-only",
      ["ev.data.total = 0"] = "event data is read-only",
      ["ev.data.lines[1].sku = 'x'"] = "event data is read-only",
      ["ev.data.lines[#ev.data.lines + 1] = 1"] = "event data is read-only",
      ["table.insert(ev.data.lines, 1)"] = "event data is read-only",
      ["table.sort(ev.data.lines, function() return true end)"] = "event data is read-only",
      ["for _, l in ipairs(ev.data.lines) do l.sku = nil end"] = "event data is read-only",
      ["for _, l in pairs(ev.data.lines) do l.sku = nil end"] = "event data is read-only",
      ["local _, l = next(ev.data.lines) l.sku = nil"] = "event data is read-only",
      ["setmetatable(ev.data, {})"] = "cannot change a protected metatable",
    } do
      local ok, err = vm:run("local ev = ... " .. statement, policies.event(order))
      assert.is_nil(ok, statement)
      assert.matches(what, err, 1, true)
    end
  end)

  it("can be walked like tables", function()
    assert.equal("big,lines,total", eval [[(function()
      local names = {} for k in pairs(ev.data) do names[#names + 1] = k end
      table.sort(names) return table.concat(names, ",") end)()]])
    assert.equal("a,b", eval [[(function()
      local skus = {} for i, l in ipairs(ev.data.lines) do skus[i] = l.sku end
      return table.concat(skus, ",") end)()]])
    assert.equal("cell,n,vip", eval [[(function()
      local names = {} for k in next, ev.attrs do names[#names + 1] = k end
      table.sort(names) return table.concat(names, ",") end)()]])
    local list = { topic = "a", data = '["x","y"]', id = 3 }
    assert.equal("x,y", eval("table.concat(ev.data, ',')", list))
    assert.equal("2", eval("select('#', table.unpack(ev.data))", list))
    assert.equal('{"total":12.5}', eval "json.encode{ total = ev.data.total }")
    assert.equal('{"big":9007199254740993,"lines":[{"sku":"a"},{"sku":"b"}],"total":12.5}', eval "json.encode(ev.data)")
    assert.equal("[]", eval("json.encode(ev.data)", { topic = "a", data = "[]", id = 4 }))
  end)

  it("stay as they are however they are walked", function()
    local fields = { topic = "a", id = 5, data = '{"a":{"x":1},"b":{"x":2},"c":[{"x":3},{"x":4}],"d":{"x":{"y":{}}}}' }
    local walk = [[(function()
      local function walk(t) for k, v in STEP do if type(v) == "table" then walk(v) end end end
      walk(ev.data) walk(ev.data) return json.encode(ev.data) end)()]]
    for _ = 1, 20 do
      for _, step in ipairs { "pairs(t)", "next, t" } do
        assert.equal(fields.data, eval((walk:gsub("STEP", step)), fields))
      end
    end
  end)

  it("do not pass JSON that cannot be read safely off as text", function()
    for _, data in ipairs { '{"ssn":1,"ssn":2}', '{"n":1e999}', '{"n":99999999999999999999}',
      ("["):rep(100) .. ("]"):rep(100) } do
      local err = eval("ev.data", { topic = "a", data = data, id = 1 })
      assert.matches("^code:1: event data cannot be decoded %(.*; ev.raw has the text$", err)
      assert.equal(data, eval("ev.raw", { topic = "a", data = data, id = 1 }))
    end
    assert.equal("{not json}", eval("ev.data", { topic = "a", data = "{not json}", id = 1 }))
    assert.equal("5", eval("ev.data", { topic = "a", data = "5", id = 1 }))
    assert.equal("true", eval("ev.data == json.null", { topic = "a", data = "null", id = 1 }))
  end)

  it("may be kept by a script for as long as it likes", function()
    vm:run("kept = (...)", policies.event(order))
    collectgarbage()
    collectgarbage()
    assert.equal("orders/1 12.5", vm:run "return kept.topic .. ' ' .. kept.data.total")
    vm:run "kept = nil"
  end)
end)
