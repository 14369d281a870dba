local schema = require "schema"

local function leaf(field)
  return { fields = { field } }
end

local function problems_of(spec, value, opt)
  local result, problems = schema.validate(spec, value, opt)
  assert.is_nil(result)
  return problems
end

local function integer(name, min, max)
  return { name = name, kind = "integer", min = min, max = max, default = min }
end

describe("schema", function()
  it("fills in defaults and answers a flat table", function()
    local spec = {
      fields = {
        integer("a", 1, 9),
        { name = "on", kind = "boolean", default = false },
        { name = "s", kind = "section", fields = {
          { name = "deep", kind = "section", fields = { integer("b", 2, 9) } },
          { name = "l", kind = "list", of = { kind = "text" }, default = { "x" } },
        } },
      },
    }
    assert.same({ a = 1, on = false, ["s.deep.b"] = 2, ["s.l"] = { "x" } }, schema.validate(spec, {}))
    assert.same({ a = 5, on = true, ["s.deep.b"] = 9, ["s.l"] = {} },
      schema.validate(spec, { a = 5.0, on = true, s = { deep = { b = 9 }, l = {} } }))
  end)

  it("takes no number that is not an integer within the bounds", function()
    local spec = leaf(integer("n", 1, 10))
    for _, good in ipairs { 1, 10, 3.0, 1e1 } do
      assert.equal(math.tointeger(good), assert(schema.validate(spec, { n = good })).n)
    end
    for _, bad in ipairs { 0, 11, 1.5, 0 / 0, math.huge, -math.huge, "5", true, {} } do
      assert.equal(1, #problems_of(spec, { n = bad }))
    end
  end)

  it("tells all problems at once, in the order of the schema, unknown keys after the known ones", function()
    local spec = {
      fields = {
        integer("first", 1, 10),
        { name = "s", kind = "section", fields = {
          { name = "mode", kind = "text", choices = { "full", "normal" } },
        } },
        { name = "must", kind = "text", required = true, expect = "a path" },
      },
    }
    assert.same({
      "first: expected an integer from 1 to 10, found \"x\"",
      "s.mode: expected \"full\" or \"normal\", found \"nromal\"; did you mean \"normal\"?",
      "s.wat_is_this: unknown key; known here: mode",
      "must: is required: expected a path",
      "fisrt: unknown key; did you mean \"first\"?",
    }, problems_of(spec, { first = "x", fisrt = 2, s = { mode = "nromal", wat_is_this = 1 } }))
  end)

  it("finds the section that a key belongs to", function()
    local spec = {
      fields = {
        { name = "http", kind = "section", fields = {} },
        { name = "sse", kind = "section", fields = { integer("heartbeat_s", 1, 9) } },
      },
    }
    assert.same({ 'http.heartbeat_s: unknown key; did you mean "sse.heartbeat_s"?' },
      problems_of(spec, { http = { heartbeat_s = 3 } }))
  end)

  it("tells where to look where there are too many keys to name them", function()
    local fields = {}
    for i = 1, 50 do
      fields[i] = integer("number" .. i, 1, 9)
    end
    assert.same({ "xyz: unknown key; `tidegate config-reference` lists the known ones" },
      problems_of({ fields = fields }, { xyz = 1 }))
  end)

  it("names the item of a list", function()
    local word = { kind = "text", pattern = "^%l+$", expect = "a word" }
    local spec = leaf { name = "l", kind = "list", of = word, min = 1, max = 3, default = {} }
    assert.same({ 'l[2]: expected a word, found "B"', "l[3]: expected a word, found 7" },
      problems_of(spec, { l = { "a", "B", 7 } }))
    assert.same({ "l: expected a list of 1 to 3 texts, each a word, found 0" }, problems_of(spec, { l = {} }))
    assert.same({ "l: expected a list of 1 to 3 texts, each a word, found 4" },
      problems_of(spec, { l = { "a", "b", "c", "d" } }))
    assert.same({ 'l: expected a list of 1 to 3 texts, each a word, found "a"' }, problems_of(spec, { l = "a" }))
    assert.same({ 'l: expected a list of 1 to 3 texts, each a word, found the key "x"' },
      problems_of(spec, { l = { "a", x = "b" } }))
  end)

  describe("map", function()
    local spec = {
      fields = {
        { name = "keys", kind = "map", max = 3, fields = {
          { name = "file", kind = "text", required = true, expect = "the path of a file" },
          integer("refresh_s", 1, 9),
          {
            name = "alg", kind = "list", of = { kind = "text", choices = { "RS256", "ES256" } },
            default = { "RS256" },
          },
        } },
        { name = "http", kind = "section", fields = {
          { name = "targets", kind = "map", pattern = "^%l+$", expect = "a word", fields = { integer("size", 1, 9) } },
        } },
      },
    }

    it("is a list of its entries in the order of their names, each with its defaults", function()
      assert.same({ keys = {}, ["http.targets"] = {} }, schema.validate(spec, {}))
      assert.same({
        keys = {
          { name = "a_1", file = "x", refresh_s = 1, alg = { "RS256" } },
          { name = "b-2", file = "y", refresh_s = 3, alg = { "ES256", "RS256" } },
        },
        ["http.targets"] = { { name = "x", size = 2 } },
      }, schema.validate(spec, {
        keys = { ["b-2"] = { file = "y", refresh_s = 3, alg = { "ES256", "RS256" } }, a_1 = { file = "x" } },
        http = { targets = { x = { size = 2 } } },
      }))
    end)

    it("tells every problem with the path of its entry", function()
      assert.same({
        'keys: expected a name of letters, digits, _ and - for each entry, found the key "a b"',
        "keys.main.file: is required: expected the path of a file",
        'keys.main.alg[1]: expected "RS256" or "ES256", found "RS255"; did you mean "RS256"?',
        'keys.main.refresh: unknown key; did you mean "refresh_s"?',
        'http.targets.x.refresh_s: unknown key; did you mean "keys.NAME.refresh_s"?',
        'file: unknown key; did you mean "keys.NAME.file"?',
      }, problems_of(spec, {
        file = "x",
        keys = { ["a b"] = {}, main = { alg = { "RS255" }, refresh = 1 } },
        http = { targets = { x = { refresh_s = 1 } } },
      }))
      assert.same({ 'http.targets: expected a word for each entry, found the key "X"' },
        problems_of(spec, { http = { targets = { X = {} } } }))
    end)

    it("takes tables of named tables only, and not too many", function()
      local expected = "keys: expected a table of at most 3 entries NAME = { ... }, found "
      assert.same({ expected .. '"x"' }, problems_of(spec, { keys = "x" }))
      assert.same({ expected .. "false" }, problems_of(spec, { keys = false }))
      assert.same({ expected .. "4" }, problems_of(spec, { keys = { a = 1, b = 1, c = 1, d = 1 } }))
      assert.same({ "keys.a: expected a table of settings, found 1" }, problems_of(spec, { keys = { a = 1 } }))
      assert.same({ "keys: expected a name of letters, digits, _ and - for each entry, found the key 1" },
        problems_of(spec, { keys = { { file = "x" } } }))
      assert.same({ ('keys: expected a name of letters, digits, _ and - for each entry, found the key "%s"')
        :format(("k"):rep(65)) }, problems_of(spec, { keys = { [("k"):rep(65)] = {} } }))
    end)

    it("never shows a value from the environment, not as a name either", function()
      local opt = { secrets = { hunter2 = "PASSWORD" } }
      assert.same({
        "keys: expected a name of letters, digits, _ and - for each entry, found the key "
          .. "a value made of the environment variable PASSWORD (not shown)",
      }, problems_of(spec, { keys = { hunter2 = {} } }, opt))
    end)

    it("hands its entries to the rules, once they are right", function()
      local ruled = { fields = spec.fields }
      function ruled.rules(result, tools)
        for _, key in ipairs(result.keys) do
          tools.report("keys." .. key.name .. ".file", "is " .. tools.show(key.file))
        end
      end
      assert.same({ 'keys.main.file: is "x"' }, problems_of(ruled, { keys = { main = { file = "x" } } }))
      assert.equal(1, #problems_of(ruled, { keys = { main = { file = "x", refresh_s = 10 } } }))
    end)

    it("is described in the reference", function()
      local text = require "config_reference" { doc = "", fields = {
        { name = "keys", kind = "map", doc = "Who signs.", fields = {
          { name = "on", kind = "boolean", default = true, doc = "Is it used." } } },
      } }
      assert.truthy(text:find("### `keys = { NAME = { ... }, ... }`\n\nWho signs.\n\n| key", 1, true), text)
      assert.truthy(text:find("| `keys.NAME.on` | true or false | `true` | Is it used. |", 1, true), text)
    end)
  end)

  it("takes false for none only where the field says so", function()
    local off = leaf { name = "t", kind = "text", off = true, expect = "a word", default = "x" }
    assert.same({ t = false }, schema.validate(off, { t = false }))
    assert.same({ "t: expected a word, or false, found true" }, problems_of(off, { t = true }))
    local on = leaf { name = "t", kind = "text", expect = "a word", default = "x" }
    assert.same({ "t: expected a word, found false" }, problems_of(on, { t = false }))
  end)

  it("refuses empty, over-long and control-holding texts", function()
    local spec = leaf { name = "t", kind = "text", max = 5, default = "x" }
    for _, bad in ipairs { "", "123456", "a\nb", "a\0b", "\127" } do
      assert.equal(1, #problems_of(spec, { t = bad }))
    end
    assert.truthy(schema.validate(spec, { t = "12345" }))
    assert.truthy(schema.validate(spec, { t = "\u{e9}" }))
  end)

  it("shows foreign text escaped and cut", function()
    local spec = leaf(integer("n", 1, 2))
    assert.same({ [[n: expected an integer from 1 to 2, found "a\"b\\\x0a\x1b"]] },
      problems_of(spec, { n = 'a"b\\\n\27' }))
    assert.same({ ('n: expected an integer from 1 to 2, found "%s"...'):format(("x"):rep(80)) },
      problems_of(spec, { n = ("x"):rep(100000) }))
    assert.same({ [==[["\x1b[2J"]: unknown key; known here: n]==] }, problems_of(spec, { ["\27[2J"] = 1 }))
    assert.same({ "top level: expected named keys only, found the key 1" }, problems_of(spec, { "x" }))
    assert.same({ "top level: expected named keys only, found the key a table" }, problems_of(spec, { [{}] = 1 }))
  end)

  it("does not flood: a hundred problems, then a count", function()
    local value = {}
    for i = 1, 5000 do
      value["key" .. i] = i
    end
    local problems = problems_of(leaf(integer("n", 1, 2)), value)
    assert.equal(101, #problems)
    assert.equal("... and 4900 more problems", problems[101])
  end)

  it("asks the checker a field names, and passes its reason on", function()
    local spec = leaf { name = "a", kind = "text", format = "even", expect = "a text of even length", default = "xx" }
    local formats = {
      even = function(text)
        if text == "odd" then
          return nil, "odd indeed"
        end
        return #text % 2 == 0
      end,
    }
    assert.truthy(schema.validate(spec, { a = "ab" }, { formats = formats }))
    assert.same({ "a: odd indeed" }, problems_of(spec, { a = "odd" }, { formats = formats }))
    assert.same({ 'a: expected a text of even length, found "abc"' },
      problems_of(spec, { a = "abc" }, { formats = formats }))
  end)

  it("lets options win, under the same rules, and names them", function()
    local spec = {
      fields = {
        { name = "s", kind = "section", fields = { integer("n", 1, 9) } },
        { name = "l", kind = "list", of = { kind = "text", pattern = "^%l$", expect = "a letter" }, default = {} },
      },
    }
    local result = schema.validate(spec, { s = { n = "nonsense that is replaced" }, l = { "a", "b" } },
      { overrides = { ["s.n"] = { option = "--number", value = 3 }, l = { option = "--letter", value = { "z" } } } })
    assert.same({ ["s.n"] = 3, l = { "z" } }, result)
    assert.same({ "--number: expected an integer from 1 to 9, found 10", '--letter: expected a letter, found "Z"' },
      problems_of(spec, {}, {
        overrides = {
          ["s.n"] = { option = "--number", value = 10 },
          l = { option = "--letter", value = { "a", "Z" } },
        },
      }))
  end)

  it("compares settings that are right, naming the option that set one", function()
    local spec = leaf(integer("n", 1, 9))
    spec.rules = function(result, tools)
      if result.n == 5 then
        tools.report("n", "is five, " .. tools.show(result.n))
      end
    end
    assert.equal(1, #problems_of(spec, { n = 10 }))
    assert.truthy(schema.validate(spec, { n = 4 }))
    assert.same({ "n: is five, 5" }, problems_of(spec, { n = 5 }))
    assert.same({ "--n: is five, 5" }, problems_of(spec, {}, { overrides = { n = { option = "--n", value = 5 } } }))
  end)

  describe("with values from the environment", function()
    local spec = {
      fields = {
        { name = "t", kind = "text", format = "never", expect = "a miracle", default = "x" },
        integer("n", 1, 9),
      },
    }
    local opt = {
      secrets = { hunter2 = "PASSWORD", ["4711"] = "NUMBER" },
      formats = {
        never = function(text)
          return nil, "no good: " .. text
        end,
      },
    }

    it("never shows one, whole or inside another text, key or reason", function()
      local found = problems_of(spec, { t = "user:hunter2@host", n = 4711, xhunter2 = 1 }, opt)
      assert.same({
        "t: expected a miracle, found a value made of the environment variable PASSWORD (not shown)",
        "n: expected an integer from 1 to 9, found a value made of the environment variable NUMBER (not shown)",
        "?: unknown key, a value made of the environment variable PASSWORD (not shown)",
      }, found)
      assert.same({ "t: no good: other" }, problems_of(spec, { t = "other" }, opt))
    end)

    it("replaces them in foreign messages", function()
      assert.equal("a.lua:1: <PASSWORD>, <LONG>",
        schema.redact({ hunter2 = "PASSWORD", ["hunter22%"] = "LONG", ["1"] = "ONE" }, "a.lua:1: hunter2, hunter22%"))
    end)

    it("complains about a missing one only once", function()
      local missing = { missing = { ["<X is not set>"] = "X" }, formats = opt.formats }
      assert.same({}, problems_of(spec, { t = "user:<X is not set>", n = "<X is not set>" }, missing))
    end)
  end)

  it("suggests what was probably meant, and nothing where nothing is near", function()
    local words = { "listen", "admin", "log", "sse", "store" }
    for typo, meant in pairs { lisetn = "listen", Admin = "admin", logs = "log", stroe = "store", lissen = "listen" } do
      assert.equal(meant, schema.nearest(typo, words))
    end
    for _, other in ipairs { "workers", "foo", "x", "", ("listen"):rep(100) } do
      assert.is_nil(schema.nearest(other, words))
    end
    assert.equal(1, schema.distance("ab", "ba"))
    assert.equal(3, schema.distance("", "abc"))
    assert.equal(3, schema.distance("kitten", "sitting"))
  end)

  describe("of a table with problems", function()
    local spec = {
      fields = {
        integer("a", 1, 9),
        { name = "auth", kind = "text", choices = { "policy", "open" }, default = "policy", salvage = "open" },
        { name = "must", kind = "text", required = true, expect = "a path" },
        { name = "l", kind = "list", of = { kind = "text" }, default = { "x" } },
        { name = "s", kind = "section", fields = { integer("b", 2, 9), integer("c", 2, 9) } },
        { name = "m", kind = "map", fields = { integer("n", 1, 9), { name = "t", kind = "text", off = true,
          default = false } } },
        { name = "e", kind = "array", fields = { integer("n", 1, 9), { name = "t", kind = "text", required = true,
          expect = "a path" } } },
      },
      rules = function(c, tools)
        if c["s.b"] > c.a then
          tools.report("s.b", "expected at most a")
        end
        for _, entry in ipairs(c.m) do
          if not entry.t then
            tools.report("m." .. entry.name, "expected t")
          end
        end
      end,
    }

    local function validate(value, missing)
      local _, problems, right = schema.validate(spec, value, { missing = missing })
      return problems, right
    end

    it("answers what is right, and defaults and nothing for the rest", function()
      local problems, right = validate { a = 5, auth = "opne", l = { "u", 5, "v" }, s = { b = "x" },
        m = { good = { n = 3, t = "t" }, bad = { n = 100, t = "t" }, empty = { n = 4 } },
        e = { { n = 1, t = "t" }, { n = 2 }, 5 } }
      assert.same({ a = 5, auth = "open", must = "", l = { "u", "v" }, ["s.b"] = 2, ["s.c"] = 2,
        m = { { name = "good", n = 3, t = "t" } }, e = { { n = 1, t = "t" } } }, right)
      assert.equal(7, #problems) -- and none of the rule, whose map has problems already
    end)

    it("compares settings that have nothing to do with it, and those only", function()
      local other = { must = "p", l = 5, m = { x = { n = 1 } }, s = { b = 9 } }
      local problems, right = validate(other)
      assert.same({ "l: expected a list of 0 to 256 texts, each a text, found 5", "s.b: expected at most a",
        "m.x: expected t" }, problems)
      assert.same({}, right.m)
      other.a = "x"
      assert.same(3, #validate(other)) -- the text names what is wrong itself
    end)

    it("has no place for variables that are not set", function()
      local problems, right = validate({ must = "<X>", m = { x = { n = 1, t = "<X>" } }, e = { "<X>",
        { n = 1, t = "<X>" } } }, { ["<X>"] = "X" })
      assert.same({}, problems)
      assert.same({ "", {}, {} }, { right.must, right.m, right.e })
    end)
  end)
end)
