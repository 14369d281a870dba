local edit = require("native.filter").edit

describe("format_rules", function()
  local ORDER = '{ "id" : 7.10, "customer":{"name":"Ann","ssn":"123-45","tags":[1,2]},\n'
    .. '  "items":[{"price":1e2,"n":1}, {"n":2}] }'

  local function check(rules, text, expected)
    assert.equal(expected, (edit(rules, text)), text)
  end

  it("leaves every byte that no rule is about", function()
    check({}, ORDER, ORDER)
    check({ drop = { "nothing", "id.x", "customer.ssn.x", "items.*.*.x" } }, ORDER, ORDER)
    check({ keep = { "*" } }, ORDER, ORDER)
    check({ mask = { { "x", '"***"' } } }, ' "\\u0041" ', ' "\\u0041" ')
    for _, text in ipairs { "5", " null", '"x"', "[]", "{}", "{ }", "[ 1e400 , -0 , 12345678901234567890 ]" } do
      check({ drop = { "x" } }, text, text)
    end
  end)

  it("drops members and elements, with the comma that goes with them", function()
    check({ drop = { "id", "items" } }, ORDER, '{ "customer":{"name":"Ann","ssn":"123-45","tags":[1,2]}}')
    check({ drop = { "a" } }, '{"a":1,"b":2,"c":3}', '{"b":2,"c":3}')
    check({ drop = { "b" } }, '{"a":1, "b":2, "c":3}', '{"a":1, "c":3}')
    check({ drop = { "c" } }, '{"a":1,"b":2,"c":3 }', '{"a":1,"b":2}')
    check({ drop = { "*" } }, '{"a":1,"b":2}', "{}")
    check({ drop = { "a.*" } }, '{"a":[1,[2],{}],"b":1}', '{"a":[],"b":1}')
    check({ drop = { "*.*" } }, '{"a":{"x":1},"b":[2],"c":3}', '{"a":{},"b":[],"c":3}')
  end)

  it("replaces whatever is there", function()
    check({ mask = { { "customer.ssn", '"***"' } } }, ORDER, (ORDER:gsub("123%-45", "***")))
    for _, value in ipairs { "1", "null", '{"a":[{}]}', '[1,"]"]', '"a\\"b"', "true" } do
      check({ mask = { { "x", "0" } } }, '{"x":' .. value .. ',"y":1}', '{"x":0,"y":1}')
    end
    check({ mask = { { "l.*", "0" } } }, '{"l":[1, [2] ,{"a":3}]}', '{"l":[0, 0 ,0]}')
    check({ mask = { { "x.y", "1" }, { "x", "2" } } }, '{"x":{"y":5}}', '{"x":2}')
    check({ mask = { { "*", "1" }, { "x", "2" } } }, '{"x":0,"z":0}', '{"x":1,"z":1}')
  end)

  it("keeps what is listed, and the way to it", function()
    check({ keep = { "id", "customer.name" } }, ORDER, '{ "id" : 7.10, "customer":{"name":"Ann"}}')
    check({ keep = { "items.price" } }, ORDER, '{\n  "items":[{"price":1e2}, {}] }')
    check({ keep = { "customer.tags" } }, ORDER, '{ "customer":{"tags":[1,2]}}')
    check({ keep = { "a.b" } }, '{"a":5,"b":1}', "{}")
    check({ keep = { "a.b" } }, '{"a":[5,{"b":1,"c":2},[{"b":3}]]}', '{"a":[{"b":1},[{"b":3}]]}')
    check({ keep = { "a" }, mask = { { "a.secret", "null" }, { "b", "1" } } }, '{"a":{"secret":1,"x":2},"b":9}',
      '{"a":{"secret":null,"x":2}}')
    for _, text in ipairs { "5", '"secret"', "null", " true " } do
      assert.same({ nil, "keep: the data is neither an object nor an array", "<" }, { edit({ keep = { "a" } }, text) })
    end
  end)

  it("looks into arrays on the way, also where none was expected", function()
    check({ mask = { { "customer.ssn", "0" } } }, '{"customer":[{"ssn":1},[[{"ssn":2}]]]}',
      '{"customer":[{"ssn":0},[[{"ssn":0}]]]}')
    check({ drop = { "ssn" } }, '[{"ssn":1,"a":2},[{"ssn":3}]]', '[{"a":2},[{}]]')
    check({ drop = { "l.*.x" } }, '{"l":[{"x":1},[{"x":2}]]}', '{"l":[{},[{}]]}')
    check({ drop = { "l.*.x" } }, '{"l":{"k":{"x":1,"y":2}}}', '{"l":{"k":{"y":2}}}')
  end)

  it("hides what '*' may mean in an array: its elements, and the members of those", function()
    local list = '[{"customer":{"ssn":1,"id":2},"ssn":3},[{"a":{"ssn":4}}]]'
    check({ mask = { { "*.ssn", "0" } } }, list, (list:gsub('"ssn":%d', '"ssn":0')))
    check({ drop = { "*.ssn" } }, list, '[{"customer":{"id":2}},[{"a":{}}]]')
    check({ mask = { { "orders.*.ssn", "0" } } }, '{"orders":[{"buyer":{"ssn":1}}],"x":{"ssn":2}}',
      '{"orders":[{"buyer":{"ssn":0}}],"x":{"ssn":2}}')
    check({ drop = { "*.*.x" } }, '[{"a":{"x":1,"b":{"x":2}}}]', '[{"a":{"b":{}}}]')
    check({ mask = { { "*", "0" } } }, '[[1],{"a":2}]', "[0,0]")
    check({ mask = { { "*.a", "1" }, { "a", "2" } } }, '[{"a":5}]', '[{"a":1}]')
    -- what is to be shown is read strictly: an element of an array is one step
    check({ keep = { "*.id" } }, '[{"id":1,"customer":{"id":2}}]', '[{"id":1}]')
    check({ keep = { "*.id" }, mask = { { "*.id", "0" } } }, '[{"id":1,"customer":{"id":2}}]', '[{"id":0}]')
  end)

  it("compares names as they are decoded", function()
    check({ drop = { "ssn" } }, '{"\\u0073sn":1,"s\\u0073\\u006E":2,"ssn":3,"SSN":4,"ss":5,"ssnn":6}',
      '{"SSN":4,"ss":5,"ssnn":6}')
    check({ drop = { "\u{1F600}\u{e9}" } }, '{"\\ud83d\\ude00\\u00e9":1,"\u{1F600}\u{e9}":2,"x":3}', '{"x":3}')
    check({ drop = { "a\\.b", "c\\*", "d\\\\e" } },
      '{"a.b":1,"c*":2,"d\\\\e":3,"a":{"b":4},"cx":5}', '{"a":{"b":4},"cx":5}')
    check({ drop = { "a/b\"\n" } }, '{"a\\/b\\"\\n":1}', "{}")
    check({ drop = { "x" } }, '{"\\ud800":1,"\\ud800\\u0078":2,"x":3}', '{"\\ud800":1,"\\ud800\\u0078":2}')
  end)

  it("means all of equal names", function()
    check({ drop = { "a" } }, '{"a":1,"b":2,"a":3,"\\u0061":4}', '{"b":2}')
    check({ mask = { { "a.b", "0" } } }, '{"a":1,"a":{"b":2,"b":3},"a":[{"b":4}]}',
      '{"a":1,"a":{"b":0,"b":0},"a":[{"b":0}]}')
  end)

  it("makes nothing of what is not JSON", function()
    for _, text in ipairs { "", "text", "{", '{"a":1', '{"a":1}}', "{'a':1}", '{"a":1,}', "[01]", '{"a" 1}', "nul",
      '"\t"', '{"a":1} x' } do
      assert.same({ nil, "the data is not JSON", "<" }, { edit({ drop = { "a" } }, text) }, text)
    end
  end)

  it("is bounded in depth, paths and size", function()
    local deep = ("["):rep(64) .. "1" .. ("]"):rep(64)
    check({ drop = { "a" } }, deep, deep)
    local _, why = edit({ drop = { "a" } }, "[" .. deep .. "]")
    assert.equal("the data is nested deeper than 64 levels where a path leads", why)
    local far = '{"b":' .. "[" .. deep .. "]" .. "}"
    check({ drop = { "a" } }, far, far)
    _, why = edit({ mask = { { "a", ('"%s"'):format(("x"):rep(100)) } } }, '{"a":1}', 50)
    assert.equal("the edited data is longer than 50 bytes, or memory is short", why)
    local paths = {}
    for i = 1, 65 do paths[i] = "p" .. i end
    assert.equal("more than 64 paths", select(2, edit({ drop = paths }, "{}")))
  end)

  it("refuses paths that mean nothing", function()
    for path, expected in pairs {
      [""] = "path '': names with points between, at most 512 bytes, were expected",
      ["a..b"] = "path 'a..b': a name is empty",
      [".a"] = "path '.a': a name is empty",
      ["a."] = "path 'a.': a name is empty",
      ["a.b*"] = "path 'a.b*': '*' stands alone between points; \\* is the character",
      ["**"] = "path '**': '*' stands alone between points; \\* is the character",
      ["a\\n"] = "path 'a\\n': a backslash stands before '.', '*' or another backslash only",
      ["a\\"] = "path 'a\\': a backslash stands before '.', '*' or another backslash only",
      [("a."):rep(16) .. "b"] = "path '" .. ("a."):rep(16) .. "b': more than 16 names",
    } do
      assert.equal(expected, select(2, edit({ drop = { path } }, "{}")), path)
    end
    assert.matches("at most 512 bytes", select(2, edit({ drop = { ("x"):rep(513) } }, "{}")))
  end)
end)
