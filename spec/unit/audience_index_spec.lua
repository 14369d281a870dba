local audience = require "native.audience"
local policy = require "native.policy"

describe("audience_index", function()
  local index

  before_each(function()
    index = audience.new()
  end)

  local function event(topic, attrs)
    return policy.event { topic = topic, data = "{}", attrs = attrs }
  end

  local function numbers(set)
    local list = {}
    for n in pairs(set) do list[#list + 1] = n end
    table.sort(list)
    return list
  end

  it("finds 10,000 tenants with one filter text by one look-up", function()
    local program = index:compile "attrs.tenant == $t and attrs.sev >= $min"
    for i = 1, 10000 do
      index:add(i, { "orders/**" }, program, ('{"min":%d,"t":"tenant-%d"}'):format(i % 5, i))
    end
    local found, visits, probes = index:match(event("orders/x", '{"sev":3,"tenant":"tenant-7001"}'))
    assert.same({ { 7001 }, 1, 1 }, { numbers(found), visits, probes })
    found, visits, probes = index:match(event("orders/x", '{"sev":3,"tenant":"nobody"}'))
    assert.same({ {}, 0, 1 }, { numbers(found), visits, probes })
    found, visits = index:match(event("orders/x"))
    assert.same({ {}, 0 }, { numbers(found), visits })
    found, visits, probes = index:match(event("other/x", '{"sev":3,"tenant":"tenant-7001"}'))
    assert.same({ {}, 0, 0 }, { numbers(found), visits, probes })
  end)

  it("tells values apart as the filter does", function()
    local program = index:compile "attrs.v == $v"
    local values = { '"1"', "1", "true", "false", '"true"', "1.5", '""', '"a\\"\\n"', "-3", "9007199254740993" }
    for i, v in ipairs(values) do index:add(i, { "a" }, program, ('{"v":%s}'):format(v)) end
    for i, v in ipairs(values) do
      assert.same({ i }, numbers(index:match(event("a", ('{"v":%s}'):format(v)))), v)
    end
    assert.same({ 2 }, numbers(index:match(event("a", '{"v":1.0}'))))
    assert.same({ 9 }, numbers(index:match(event("a", '{"v":-3.0}'))))
    assert.same({}, numbers(index:match(event("a", '{"v":9007199254740992.0}'))))
    assert.same({ 8 }, numbers(index:match(event("a", '{"v":"\\u0061\\"\\n"}'))))
    assert.same({}, numbers(index:match(event("a", '{"w":1}'))))
  end)

  it("knows lists, and what can never be", function()
    local list, equal = index:compile "one_of(attrs.v, $l)", index:compile "attrs.v == $l"
    index:add(1, { "a" }, list, '{"l":["x","y","x"]}')
    index:add(2, { "a", "b" }, list, '{"l":[]}')
    index:add(3, { "a" }, equal, '{"l":["x"]}')
    index:add(4, { "a" }, equal, '{"l":"x"}')
    assert.same({ 1, 4 }, numbers(index:match(event("a", '{"v":"x"}'))))
    assert.same({ 1 }, numbers(index:match(event("a", '{"v":"y"}'))))
    assert.same({}, numbers(index:match(event("b", '{"v":"y"}'))))
  end)

  it("asks those that nothing discriminates, and all that have no filter text", function()
    index:add(1, { "a" }, index:compile "starts_with(attrs.v, $p)", '{"p":"x"}')
    index:add(2, { "*" })
    index:add(3, { "a" }, index:compile "attrs.v == $p or attrs.w", '{"p":"z"}')
    local found, visits, probes = index:match(event("a", '{"v":"xy"}'))
    assert.same({ { 1, 2 }, 3, 0 }, { numbers(found), visits, probes })
  end)

  it("finds what asking everybody finds, while audiences come and go", function()
    math.randomseed(4711)
    local function pick(list) return list[math.random(#list)] end
    local topics = { "a", "a/b", "a/*", "**", "a/**", "b/c", "*/c" }
    local values = { '"x"', '"y"', '"\\"z"', "1", "1.0", "2.5", "true", "false", '"1"' }
    local programs = {}
    for i, text in ipairs { "attrs.p == $p", "$p == attrs.q and attrs.p ~= $q", "one_of(attrs.p, $l)",
      "attrs.q == $q or attrs.p == $p", "not (attrs.p == $p)", "one_of(attrs.q, $l) and one_of(attrs.p, $l, 'x')",
      'attrs.p == "x"', "attrs.p == $q and attrs.q == $p", "attrs.p < $p", "has(attrs.p) and (attrs.p == $p)",
      "attrs.p == $l", "one_of(attrs.p, $p)" } do
      programs[i] = index:compile(text)
    end
    local present = {}
    for round = 1, 1500 do
      local n = math.random(0, 150)
      if present[n] then
        index:del(n)
        present[n] = nil
      else
        local names, seen = {}, {}
        for _ = 1, math.random(3) do
          local t = pick(topics)
          if not seen[t] then names[#names + 1], seen[t] = t, true end
        end
        local list = {}
        for i = 1, math.random(0, 4) do list[i] = pick(values) end
        index:add(n, names, math.random(8) > 1 and pick(programs) or nil,
          ('{"l":[%s],"p":%s,"q":%s}'):format(table.concat(list, ","), pick(values), pick(values)))
        present[n] = true
      end
      local attrs = {}
      if math.random(5) > 1 then attrs[#attrs + 1] = '"p":' .. pick(values) end
      if math.random(5) > 1 then attrs[#attrs + 1] = '"q":' .. pick(values) end
      local ev = event(pick { "a", "a/b", "b/c", "a/b/c", "d" },
        #attrs > 0 and "{" .. table.concat(attrs, ",") .. "}" or nil)
      local expected = {}
      for i in pairs(present) do
        if index:wants(i, ev) then expected[i] = true end
      end
      assert.same(numbers(expected), numbers((index:match(ev))), "round " .. round)
    end
  end)
end)
