local base = require "native.base"

describe("base", function()
  it("hashes as SipHash-1-3 does", function()
    -- 64-bit result for key 00..0f and the empty input (vectors of the reference implementation)
    assert.equal(0xabac0158050fc4dc, base.hash(0x0706050403020100, 0x0f0e0d0c0b0a0908, ""))
    assert.not_equal(base.hash(1, 2, "a"), base.hash(1, 3, "a"))
  end)

  it("never hands out an id twice, and forgets the dead", function()
    local r = base.slots_script { { "add" } }
    local id = r[1]
    r = base.slots_script { { "add" }, { "get", id }, { "del", id }, { "get", id }, { "add" }, { "get", id } }
    assert.same({ id, true, true, false }, { r[1], r[2], r[3], r[4] })
    assert.not_equal(id, r[5])
    assert.is_false(r[6])
  end)

  it("remembers ids in whatever order they come, up to the place that has been passed", function()
    local script, expected, model, passed = {}, {}, {}, 0
    math.randomseed(7)
    for i = 1, 2000 do
      local id, what = passed + math.random(300), math.random()
      if what < 0.5 then
        model[id] = (model[id] or 0) + 1
        script[i], expected[i] = { "add", id }, true
      elseif what < 0.9 then
        script[i], expected[i] = { "has", id }, model[id] ~= nil
      else
        passed = passed + math.random(0, 100)
        local left = 0
        for known, n in pairs(model) do
          left, model[known] = known > passed and left + n or left, known > passed and n or nil
        end
        script[i], expected[i] = { "pass", passed }, left
      end
    end
    assert.same(expected, base.id_set_script(script))
  end)

  it("remembers a million ids and no more, and says so", function()
    local most = 1 << 20
    assert.same({ true, false, true, false, 10, true, true, false }, base.id_set_script {
      { "add", 1, most }, { "add", most + 1 }, { "has", most }, { "has", most + 1 }, { "pass", most - 10 },
      { "add", most + 1 }, { "has", most + 1 }, { "has", most - 10 } })
  end)

  it("caps a strbuf", function()
    assert.same({ 10, 0 }, { base.strbuf_fill(10, "ab", 5) })
    local len, rc = base.strbuf_fill(9, "ab", 5)
    assert.equal(8, len)
    assert.is_true(rc < 0)
  end)

  -- a name, what was meant, or false
  for given, meant in pairs {
    serv = "serve", evla = "eval", SERVE = "serve", chekc = "check", x = false, zzzzz = false, sevre = "serve",
    ["config-refrence"] = "config-reference", [("s"):rep(65)] = false,
  } do
    it("guesses what '" .. given:sub(1, 20) .. "' was meant to be, as the schema of settings does", function()
      local names = { "serve", "check", "eval", "config-reference" }
      assert.equal(meant or nil, base.nearest(given, names))
      assert.equal(meant or nil, dofile(SPEC_SOURCE_DIR .. "/scripts/lib/schema.lua").nearest(given, names))
    end)
  end

  it("reads a file up to its bound, and no further", function()
    local path = os.tmpname()
    finally(function() os.remove(path) end)
    local f = assert(io.open(path, "wb"))
    f:write(("x"):rep(100000))
    f:close()
    assert.equal(("x"):rep(100000), (base.read_file(path, 100000)))
    local text, rc = base.read_file(path, 99999)
    assert.equal(99999, #text)
    assert.equal("ENOBUFS", rc)
    assert.equal("ENOENT", select(2, base.read_file(path .. ".none", 10)))
    assert.equal("EISDIR", select(2, base.read_file("/", 10)))
  end)

  it("spreads evenly between two bounds that it reaches", function()
    local seen, least, most = {}, math.huge, 0
    for _, n in ipairs(base.jitter(10, 19, 2000)) do
      seen[n] = (seen[n] or 0) + 1
      least, most = math.min(least, n), math.max(most, n)
    end
    assert.same({ 10, 19 }, { least, most })
    for n = 10, 19 do
      assert.is_true(seen[n] > 100 and seen[n] < 300, n .. ": " .. seen[n])
    end
  end)
end)
