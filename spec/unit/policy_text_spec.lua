local policies = require "support.policies"

-- What a policy needs besides its filters and formats.
local HEAD = "local P = { api = 1 }\nfunction P.authenticate() return {} end\n"
  .. "function P.subscribe() return { topics = { 'a' } } end\n"

describe("policy, filters that are text", function()
  local p

  local function open(text, options)
    if p then p:close() end
    local err
    p, err = policies.open_text(HEAD .. text .. "\nreturn P", options)
    return p, err
  end

  after_each(function()
    if p then p:close() end
    p = nil
  end)

  local ev = policies.event { topic = "a", data = '{"n":1}', attrs = '{"cell":"u2e","sev":3}', id = 9 }

  it("decide without Lua", function()
    assert(open [[P.filters = {
      near = "starts_with(attrs.cell, $cell)", never = "false", lua = function() return true end }]])
    local memory = p:metrics().policy_memory
    local yes = assert(p:bind { filter = "near", params = '{"cell":"u2"}' })
    local no = assert(p:bind { filter = "near", params = '{"cell":"u3"}' })
    local none, lua = assert(p:bind { filter = "never" }), assert(p:bind { filter = "lua" })
    assert.same({ true, false, false, true },
      { (p:filter(yes, ev)), (p:filter(no, ev)), (p:filter(none, ev)), (p:filter(lua, ev)) })
    p:unbind(yes)
    assert.is_false((p:filter(no, ev)))
    p:unbind(no)
    p:unbind(none)
    assert.is_true(p:metrics().policy_memory <= memory + 1024)
  end)

  it("count types that do not fit", function()
    assert(open [[P.filters = { f = 'attrs.sev == "3"' }]])
    local b = assert(p:bind { filter = "f" })
    assert.is_false((p:filter(b, ev)))
    assert.is_false((p:filter(b, ev)))
    assert.equal(2, p:metrics().filter_mismatches)
    assert.equal(0, p:metrics().policy_errors_filter)
  end)

  it("may go with a format in Lua, which sees the same params", function()
    assert(open [[
      P.filters = { f = "attrs.sev >= $min" }
      P.formats = { g = function(ev, params) return ev.attrs.cell .. params.min end }]])
    local b = assert(p:bind { filter = "f", format = "g", params = '{"min":2}' })
    assert.is_true((p:filter(b, ev)))
    assert.same({ "deliver", "u2e2", "" }, { p:format(b, ev) })
  end)

  it("refuse params they cannot work with, and say so", function()
    assert(open [[P.filters = { f = "attrs.sev >= $min" }]])
    local b, code
    local log = policies.capture(function() b, code = p:bind { filter = "f", params = '{"max":2}' } end)
    assert.same({ nil, -22 }, { b, code })
    local line = policies.first_line(log)
    assert.same({ "subscribe", "f", "p.lua:4" }, { line.hook, line["function"], line.at })
    assert.matches("params.min: missing", line.error, 1, true)
    assert.equal(1, p:metrics().policy_errors_subscribe)
  end)

  it("that do not parse keep the policy from loading, with the place in the file", function()
    local none, err = open("P.filters = {\n  ok = 'true',\n"
      .. "  near = [[ has(attrs.x)\n    and startswith(attrs.cell, $cell) ]] }")
    assert.is_nil(none)
    assert.matches("p.lua:7:9: filter 'near': unknown function 'startswith' (did you mean 'starts_with'?)", err,
      1, true)
    -- written with an escape, or twice: the text has no one place
    none, err = open 'P.filters = { near = "attrs.x ==\\n nope" }'
    assert.is_nil(none)
    assert.matches("filter 'near': line 2, column 2 of its text: unknown name 'nope'", err, 1, true)
    none, err = open 'P.filters = { a = "attrs.x = 1", b = "attrs.x = 1" }'
    assert.is_nil(none)
    assert.matches("of its text: '=': equal is ==", err, 1, true)
    none, err = open 'P.filters = { a = "" }'
    assert.is_nil(none)
    assert.matches("line 1, column 1 of its text: the text ends", err, 1, true)
  end)

  it("give all memory back, loaded or not", function()
    for _ = 1, 20 do
      assert(open [[P.filters = { a = "attrs.a == 1", b = "cidr(attrs.ip, '10.0.0.0/8') or data.x[1].y" }]])
      assert.is_nil((open [[P.filters = { a = "cidr(attrs.ip, '10.0.0.0/8') and data.x[1].y == cidr" }]]))
    end
  end)
end)

describe("policy, formats that are rules", function()
  local p

  local function open(text, options)
    if p then p:close() end
    local err
    p, err = policies.open_text(HEAD .. "P.formats = { f = " .. text .. " }\nreturn P", options)
    return p, err
  end

  after_each(function()
    if p then p:close() end
    p = nil
  end)

  local function format(data, most)
    local b = assert(p:bind { format = "f", params = '{"unused":1}' })
    local result, log
    log = policies.capture(function()
      result = { p:format(b, policies.event { topic = "a", type = "t", data = data, id = 9 }, most) }
    end)
    p:unbind(b)
    return result, log
  end

  it("edit the data", function()
    assert(open '{ drop = { "a" }, mask = { ["b.c"] = "***", d = 5, e = true, f = 1.5 }, event = "order" }')
    assert.same({ "deliver", '{"b":{"c":"***"},"d":5,"e":true,"f":1.5,"g":1.10}', "order" },
      format '{"a":1,"b":{"c":2},"d":3,"e":4,"f":6,"g":1.10}')
    assert(open '{ keep = { "a" }, mask = { ["a.b"] = "line\\n\\"" } }')
    assert.same({ "deliver", '{"a":{"b":"line\\n\\""}}', "" }, format '{"a":{"b":1},"c":2}')
  end)

  it("without paths deliver any data, byte for byte", function()
    for _, spec in ipairs { "{}", '{ event = "x" }', '{ mask = {} }' } do
      assert(open(spec))
      for _, data in ipairs { "not json", "", '{"a": 1.0}\n' } do
        assert.equal(data, format(data)[2])
      end
    end
  end)

  it("deliver nothing where they cannot be applied, and say so", function()
    assert(open '{ mask = { ssn = "***" } }')
    for i, data in ipairs { "not json", '{"ssn":1', "" } do
      local result, log = format(data)
      assert.same({ "failed", "", "" }, result)
      local line = policies.first_line(log)
      assert.same({ "format", "f", "9", "the data is not JSON" },
        { line.hook, line["function"], line.event, line.error })
      assert.equal(i, p:metrics().policy_errors_format)
    end
    local result, log = format('{"ssn":1}', 8)
    assert.equal("failed", result[1])
    assert.matches("longer than 8 bytes", log, 1, true)
    assert(open "{}")
    result, log = format('{"ssn":1}', 8)
    assert.equal("failed", result[1])
    assert.matches("longer than 8 bytes", log, 1, true)
  end)

  it("have one answer for several masks of a value: the first path in order", function()
    for _ = 1, 20 do
      assert(open '{ mask = { ["*"] = "star", a = "name", ["a.b"] = "inner" } }')
      assert.equal('{"a":"star","c":"star"}', format('{"a":{"b":1},"c":2}')[2])
    end
  end)

  it("that are wrong keep the policy from loading", function()
    for text, expected in pairs {
      ["{ drops = {} }"] = "formats.f: unknown key 'drops' (did you mean 'drop'?)",
      ["{ drop = 'a' }"] = "formats.f.drop: a list of paths was expected, got string",
      ["{ drop = {} }"] = "formats.f.drop: a list of at least one path was expected",
      ["{ keep = { a = 1 } }"] = "formats.f.keep: a list of at least one path was expected",
      ["{ keep = { 1 } }"] = "formats.f.keep: a string was expected, got number",
      ["{ drop = { 'a' }, keep = { 'b' } }"] = "formats.f: drop and keep exclude each other",
      ["{ drop = { 'a..b' } }"] = "formats.f.drop: path 'a..b': a name is empty",
      ["{ mask = { 'a' } }"] = "formats.f.mask: texts were expected as keys, got a number",
      ["{ mask = { a = {} } }"] = "formats.f.mask: 'a': a string, number or boolean was expected, got table",
      ["{ mask = { a = 0/0 } }"] = "formats.f.mask",
      ["{ mask = { a = ('x'):rep(2000) } }"] = "formats.f.mask",
      ["{ mask = { ['a*'] = 1 } }"] = "formats.f.mask: path 'a*': '*' stands alone between points",
      ["{ round = { a = 1.5 } }"] = "formats.f.round: 'a': an integer from 0 to 15 was expected, got 1.5",
      ["{ round = { a = 16 } }"] = "formats.f.round: 'a': an integer from 0 to 15 was expected, got 16",
      ["{ round = { 'a' } }"] = "formats.f.round: texts were expected as keys, got a number",
      ["{ cut = { a = -1 } }"] = "formats.f.cut: 'a': an integer from 0 to 65536 was expected, got -1",
      ["{ cut = { a = '5' } }"] = "formats.f.cut: 'a': an integer from 0 to 65536 was expected, got 5",
      ["{ rename = { ['a.*'] = 'b' } }"] = "formats.f.rename: path 'a.*': a name was expected at its end",
      ["{ rename = { a = '' } }"] = "formats.f.rename: path 'a': the new name has 1 to 512 bytes of UTF-8",
      ["{ rename = { a = 'x', b = 'x' } }"] =
        "formats.f.rename: path 'b': another rule gives a member of the same object this name",
      ["{ rename = { ['*.a'] = 'x', ['k.b'] = 'x' } }"] = "another rule gives a member of the same object this name",
      ["{ rename = { a = 5 } }"] = "formats.f.rename: a string was expected, got number",
      ["{ set = { a = {} } }"] = "formats.f.set: 'a': a string, number or boolean was expected, got table",
      ["{ set = { a = '$' } }"] = "formats.f.set: 'a': the name of a param was expected behind $",
      ["{ set = { [''] = 1 } }"] = "formats.f.set: '': names have 1 to 512 bytes of UTF-8",
      ["{ hash = { 'a' } }"] = "formats.f: hash wants hash_key",
      ["{ hash_key = ('x'):rep(16) }"] = "formats.f: hash_key is of no use without hash",
      ["{ hash = { 'a' }, hash_key = 'short' }"] =
        "formats.f.hash_key: a secret of 16 to 256 bytes was expected, got 5 bytes",
      ["{ mask = 1 }"] = "formats.f.mask: a table {path = replacement} was expected, got number",
      ["{ event = 'a\\nb' }"] = "formats.f.event: one line of 1 to 255 bytes was expected",
      ["{ event = '' }"] = "formats.f.event: one line of 1 to 255 bytes was expected",
    } do
      local none, err = open(text)
      assert.is_nil(none)
      assert.matches(expected, err, 1, true)
    end
  end)
end)
