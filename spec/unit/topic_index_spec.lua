local topic = require "native.topic"

local function sorted(list)
  table.sort(list)
  return list
end

-- What a list of (pattern, member) pairs would answer.
local function naive(entries, name)
  local found = {}
  for _, e in pairs(entries) do
    if topic.match(e[1], name) then found[#found + 1] = e[2] end
  end
  return sorted(found)
end

local words = { "a", "b", "c", "*" }
local function random_pattern()
  local p = {}
  for i = 1, math.random(0, 3) do p[i] = words[math.random(4)] end
  if #p == 0 or math.random(4) == 1 then p[#p + 1] = "**" end
  return table.concat(p, "/")
end

local function random_name()
  local n = {}
  for i = 1, math.random(4) do n[i] = words[math.random(3)] end
  return table.concat(n, "/")
end

describe("topic index", function()
  it("is empty at first and again at the end", function()
    local ix = topic.index()
    assert.same({}, (ix:match "a"))
    for i, p in ipairs { "a", "a/b", "a/*", "**" } do ix:put(p, i) end
    assert.same({ 2, 3, 4 }, sorted((ix:match "a/b")))
    for _, p in ipairs { "**", "a", "a/*", "a/b" } do assert.is_true(ix:del(p)) end
    assert.is_false(ix:del "a/b/c")
    local found, cost = ix:match "a/b"
    assert.same({}, found)
    assert.equal(1, cost, "nodes are left over")
  end)

  it("visits what stands under each pattern that matches", function()
    local ix = topic.index()
    for _, p in ipairs { "a/b", "a/*", "a/**", "**", "*/b", "a", "a/b/**", "*" } do ix:put(p, 7) end
    assert.same({ 7, 7, 7, 7, 7 }, ix:match "a/b")
  end)

  it("answers as a naive list does, through random changes", function()
    math.randomseed(2)
    for _ = 1, 20 do
      local ix, entries = topic.index(), {}
      for step = 1, 500 do
        local pattern, member = random_pattern(), math.random(20)
        if not entries[pattern] then
          ix:put(pattern, member)
          entries[pattern] = { pattern, member }
        elseif math.random(3) > 1 then
          assert.is_true(ix:del(pattern))
          entries[pattern] = nil
        end
        if step % 5 == 0 then
          local name = random_name()
          assert.same(naive(entries, name), sorted((ix:match(name))), name)
        end
      end
      for pattern in pairs(entries) do ix:del(pattern) end
      for _ = 1, 20 do
        local found, cost = ix:match(random_name())
        assert.same({}, found)
        assert.equal(1, cost, "nodes are left over")
      end
    end
  end)

  it("looks at a handful of branches among 10,000 topics and 1,000 patterns", function()
    local ix, entries = topic.index(), {}
    local function add(pattern, member)
      ix:put(pattern, member)
      entries[#entries + 1] = { pattern, member }
    end
    for i = 1, 10000 do add(("tenant/%d/orders/%d"):format(i % 100, i), i) end
    for i = 1, 500 do add(("tenant/%d/*/%d"):format(i % 100, i), 10000 + i) end
    for i = 1, 400 do add(("tenant/%d/orders/*/%d"):format(i % 100, i), 10500 + i) end
    for i = 1, 98 do add(("tenant/%d/**"):format(i), 10900 + i) end
    add("tenant/*/orders/77", 10999)
    add("**", 11000)
    for i = 0, 10100, 101 do
      for _, name in ipairs {
        ("tenant/%d/orders/%d"):format(i % 100, i), ("tenant/%d/x/%d"):format(i % 100, i),
        ("tenant/%d/orders/x/%d"):format(i % 100, i), "tenant/x/orders/77", ("x/%d"):format(i),
      } do
        local found, cost = ix:match(name)
        assert.same(naive(entries, name), sorted(found), name)
        -- the root, then at most '*' and the literal on each of five levels here
        assert.is_true(cost <= 16, ("%s: %d"):format(name, cost))
      end
    end
  end)

  it("holds the longest topics", function()
    local ix = topic.index()
    local deep, wide = ("a/"):rep(127) .. "a", ("x"):rep(255)
    for _, p in ipairs { deep, ("*/"):rep(127) .. "*", ("a/"):rep(126) .. "**", wide } do ix:put(p, 1) end
    assert.equal(3, #ix:match(deep))
    assert.equal(1, #ix:match(wide))
  end)
end)
