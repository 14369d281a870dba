local match = require "native.filter"
local policy = require "native.policy"

describe("filter text", function()
  local set

  before_each(function()
    set = match.new()
  end)

  local function event(fields)
    fields = fields or {}
    return policy.event {
      id = fields.id or 7, topic = fields.topic or "alert/eu/berlin", type = fields.type, key = fields.key,
      data = fields.data or '{"a":{"b":1,"s":"x\\u00e9\\"y"},"list":[1,"two",3.0,true],"n":null,"o":{},"f":false}',
      attrs = fields.attrs or '{"big":9007199254740993,"cell":"u2edk","f":2.5,"lang":"de","neg":-3,"no":false,'
        .. '"q":"a\\"b\\n","sev":3,"yes":true}',
      time_ms = fields.time_ms or 1500,
    }
  end

  local function test(text, params, fields)
    local program, why, line, column = set:compile(text)
    if not program then
      error(("%s: %d:%d: %s"):format(text, line, column, why), 2)
    end
    local args, err = set:bind(program, params)
    assert(args, err)
    local ev = event(fields)
    local deliver = args:test(ev)
    assert.equal(deliver, (args:explain(ev)), text)
    return deliver
  end

  local function refused(text)
    local program, why, line, column = set:compile(text)
    assert.is_nil(program, text)
    return ("%d:%d: %s"):format(line, column, why)
  end

  local function all(expected, texts, params, fields)
    for _, text in ipairs(texts) do
      assert.equal(expected, test(text, params, fields), text)
    end
  end

  describe("values", function()
    it("are fields of the event", function()
      all(true, {
        'id == "7"', 'topic == "alert/eu/berlin"', 'type == "message"', "time == 1.5", 'attrs.cell == "u2edk"',
        "attrs.sev == 3", "attrs.sev == 3.0", "attrs.f == 2.5", "attrs.neg == -3", "attrs.yes", "attrs.yes == true",
        "attrs.no == false", 'attrs.q == "a\\"b\\n"', 'attrs["cell"] == "u2edk"', "data.a.b == 1",
        'data.a.s == "x\\xc3\\xa9\\"y"', 'data.list[2] == "two"', "data.list[3] == 3", "data.list[4]",
        'data["a"]["b"] == 1', 'topic_seg(1) == "alert"', 'topic_seg(3) == "berlin"', "data.f == false",
      })
      all(true, { 'key == "k"', 'type == "t"' }, nil, { key = "k", type = "t" })
      all(false, { "has(key)", "has(data.n)", "has(data.list[5])", "has(data.list[1].x)", "has(topic_seg(4))",
        "has(attrs.nothing)", "has(data.a.b.c)", "has(data.o.x)" })
      all(true, { "has(data.o)", "has(data.list)", "has(data.a)", "has(topic)", "has(topic_seg(3))", "has(data.f)" })
    end)

    it("are params", function()
      local params = '{"big":9007199254740993,"cell":"u2","e":"a\\"b\\n","f":2.5,"list":["a","u2edk",3],'
        .. '"no":false,"none":[],"yes":true}'
      all(true, { "$yes", "not $no", "starts_with(attrs.cell, $cell)", "attrs.f == $f", "one_of(attrs.cell, $list)",
        "one_of(attrs.sev, $list)", "contains($list, attrs.cell)", "attrs.q == $e", "attrs.big == $big" }, params)
      all(false, { "one_of(attrs.cell, $none)", "one_of(attrs.lang, $list)", "$no" }, params)
    end)

    it("compare numbers exactly, as Lua does", function()
      all(true, { "attrs.big == 9007199254740993", "attrs.big > 9007199254740992.0", "attrs.big ~= 9007199254740992.0",
        "attrs.sev < 3.5", "attrs.sev > 2.5", "attrs.neg < -2.5", "attrs.neg > -3.5", "attrs.big < 1e300",
        "attrs.big > -1e300", "9223372036854775807 < 9223372036854775808", "1 == 1.0", "-1 < 1e-9", "0 == -0.0" })
    end)

    it("compare strings by their bytes", function()
      all(true, { '"a" < "b"', '"a" < "aa"', '"" < "a"', '"Z" < "a"', '"z" < "\\xc3\\xa9"', "'a' == \"a\"",
        '"\\65\\0" == "A\\x00"', '"a\\0b" > "a\\0a"' })
    end)

    it("of data are those of the last of equal keys, as JSON.parse has it", function()
      local data = '{"a":1,"a":{"b":1,"b":2},"\\u0061":{"b":3}}'
      assert.is_true(test("data.a.b == 3", nil, { data = data }))
    end)

    it("of data that is not JSON are missing", function()
      for _, data in ipairs { "text", "", '{"a":1', '{"a":1}}', '{"a":01}', "[1,]" } do
        all(false, { "has(data.a)", "has(data[1])", "data.a == 1", "data.a ~= 1" }, nil, { data = data })
      end
      assert.is_true(test("data[2] == 5", nil, { data = " [ 1 , 5 ] " }))
    end)

    it("are numbers made of text, as headers have it", function()
      local attrs = '{"a":"99","b":" -1.5e1 ","c":"1.","d":".5","e":"","f":"5x","g":"0x10","h":"inf","i":"1e","j":7,'
        .. '"k":"9223372036854775808","l":true,"m":"\\u0031\\u0032"}'
      all(true, { "tonumber(attrs.a) == 99", "tonumber(attrs.b) == -15", "tonumber(attrs.c) == 1",
        "tonumber(attrs.d) == 0.5", "tonumber(attrs.j) >= 7", "tonumber(attrs.k) == 9223372036854775808",
        "tonumber(attrs.a) > tonumber(attrs.j)", "one_of(tonumber(attrs.a), 98, 99)", "tonumber(attrs.m) == 12",
        "distance_km(tonumber(attrs.a), 0, 99, 0) == 0" }, nil, { attrs = attrs })
      all(false, { "tonumber(attrs.e) ~= 1", "tonumber(attrs.f) ~= 1", "tonumber(attrs.g) ~= 1",
        "tonumber(attrs.h) ~= 1", "tonumber(attrs.i) ~= 1", "tonumber(attrs.l) ~= 1", "tonumber(attrs.z) ~= 1" },
        nil, { attrs = attrs })
      assert.matches("usage: tonumber", refused "tonumber(attrs.a, 10) == 1")
    end)

    it("of numbers outside 64 bits are floats", function()
      local fields = { data = '{"n":18446744073709551616,"m":1e400,"z":-0}' }
      all(true, { "data.n == 18446744073709551616", "data.n > 9223372036854775807", "data.m > 1e308", "data.z == 0" },
        nil, fields)
    end)
  end)

  describe("conditions", function()
    it("bind as in Lua", function()
      all(true, { "true or true and false", "not false and true", "not (false and false)", "false or not false",
        "(true)", "((attrs.sev)) == 3", "not not true", "1 == 1 and 2 == 2", "false and false or true",
        "true or false and false", "not (1 == 2)", "attrs.yes and attrs.sev == 3 or false" })
      all(false, { "false and (true or true)", "not true or false", "(false or false) and true" })
    end)

    it("with a missing field are false, whatever the sign", function()
      all(false, { "attrs.x == 1", "attrs.x ~= 1", "attrs.x < 1", "attrs.x >= 1", "1 ~= attrs.x", "attrs.x",
        'starts_with(attrs.x, "")', 'one_of(attrs.x, "a")', 'cidr(attrs.x, "10.0.0.0/8")', "contains(data.x, 1)",
        "data.n == false", "data.n ~= 1", "distance_km(attrs.x, 1, 2, 3) < 1e9", 'one_of("a", attrs.x)' })
      assert.is_true(test "not (attrs.x == 1)")
      assert.is_true(test "not attrs.x")
    end)

    it("with types that do not fit are false, and counted", function()
      local texts = { 'attrs.sev == "3"', 'attrs.sev ~= "3"', 'attrs.cell < 3', "attrs.yes < true", "attrs.yes <= true",
        "attrs.yes == 1", "attrs.sev", "attrs.cell", "starts_with(attrs.sev, \"3\")", "data.list == 1",
        "contains(attrs.cell, \"u\")", 'cidr(attrs.cell, "10.0.0.0/8")', "distance_km(attrs.cell, 1, 2, 3) < 1e9",
        'one_of(attrs.sev, "3")', "contains(data.list, data.a)", "data.a == data.a" }
      for i, text in ipairs(texts) do
        local before = set:counts()
        local program = assert(set:compile(text))
        assert.is_false((assert(set:bind(program)):test(event())), text)
        assert.equal(before + 1, (set:counts()), i .. " " .. text)
      end
    end)

    it("stop at the first that decides", function()
      assert.is_false(test 'attrs.no and attrs.sev == "x"')
      assert.is_true(test 'attrs.yes or attrs.sev == "x"')
      assert.same({ 0, 0 }, { set:counts() })
    end)

    it("of strings, lists and networks", function()
      all(true, { 'starts_with(attrs.cell, "u2")', 'ends_with(attrs.cell, "dk")', 'ends_with(attrs.cell, "")',
        'one_of(attrs.lang, "en", "de")', 'one_of(attrs.sev, 1, 3.0)', "contains(data.list, 3)",
        'contains(data.list, "two")', "contains(data.list, true)", 'one_of(topic_seg(2), "eu", "us")' })
      all(false, { 'starts_with(attrs.cell, "u2edkx")', 'ends_with(attrs.cell, "u2")', 'contains(data.list, "1")' })
      local ip = { attrs = '{"ip":"10.1.2.3","six":"2001:db8::7"}' }
      local nets = '{"net":"10.1.0.0/16","nets":["192.168.0.0/16","10.1.2.3"],"other":["fd00::/8"]}'
      all(true, { 'cidr(attrs.ip, "10.0.0.0/8")', 'cidr(attrs.six, "2001:db8::/32")', "cidr(attrs.ip, $net)",
        "cidr(attrs.ip, $nets)" }, nets, ip)
      all(false, { 'cidr(attrs.ip, "11.0.0.0/8")', 'cidr(attrs.ip, "::/0")', "cidr(attrs.ip, $other)" }, nets, ip)
    end)

    it("of URI templates, one or several", function()
      local ev = { attrs = '{"n":1,"u":"https://a.example/books/7"}' }
      local params = '{"one":"https://a.example/{kind}/7","some":["/x",3,"https://a.example/books/{id}"],'
        .. '"none":[],"n":3}'
      all(true, { 'fits_template(attrs.u, "https://a.example/books/{id}")', "fits_template(attrs.u, $one)",
        "fits_template(attrs.u, $some)", 'not fits_template(attrs.gone, "{x}")' }, params, ev)
      all(false, { 'fits_template(attrs.u, "https://a.example/{id}")', "fits_template(attrs.u, $none)" }, params, ev)
      local before = set:counts()
      all(false, { "fits_template(attrs.n, $one)", "fits_template(attrs.u, $n)" }, params, ev)
      assert.equal(before + 4, (set:counts())) -- each was tested, and explained
    end)

    it("of URL patterns, one or several", function()
      local ev = { attrs = '{"u":"https://a.example/books/7?x"}' }
      local params = '{"one":"https://:any.example/books/:id","some":["/x","https://a.example/*"],"none":[]}'
      all(true, { 'fits_url_pattern(attrs.u, "https://a.example/books/:id")', "fits_url_pattern(attrs.u, $one)",
        "fits_url_pattern(attrs.u, $some)" }, params, ev)
      all(false, { 'fits_url_pattern(attrs.u, "https://a.example/:id")', "fits_url_pattern(attrs.u, $none)",
        "fits_url_pattern(attrs.u, attrs.u)" }, params, ev)
    end)

    it("of places: Berlin and Paris are 878 km apart", function()
      local place = { attrs = '{"lat":52.52,"lon":13.405}', data = '{"lat":48,"lon":"2"}' }
      all(true, { "distance_km(attrs.lat, attrs.lon, 48.8566, 2.3522) < 879",
        "distance_km(48.8566, 2.3522, attrs.lat, attrs.lon) > 877", "distance_km(0, 0, 0, 0) == 0",
        "distance_km(attrs.lat, attrs.lon, $lat, $lon) < distance_km(0, 0, 0, 180)" }, '{"lat":1,"lon":2.5}', place)
      all(false, { "distance_km(data.lat, data.lon, 0, 0) > 0" }, nil, place)
    end)
  end)

  describe("binding", function()
    local function bind(text, params)
      local args, err = set:bind(assert(set:compile(text)), params)
      return args and "bound" or err
    end

    it("wants every param that is compared with, or asked for with has()", function()
      assert.matches("^params.lang: missing; the filter compares with %$lang", bind("attrs.lang == $lang", '{"x":1}'))
      assert.matches("^params.lang: missing", bind("attrs.lang == $lang"))
      assert.equal("bound", bind("not has($lang) or attrs.lang == $lang", "{}"))
      assert.equal("bound", bind("not has($net) or cidr(attrs.ip, $net)", "{}"))
      assert.is_true(test("not has($lang) or attrs.lang == $lang", "{}"))
      assert.is_false(test("has($lang) and attrs.lang == $lang", "{}"))
    end)

    it("refuses what is no network", function()
      assert.matches("^params.net: ", bind("cidr(attrs.ip, $net)", '{"net":"10.0.0.0/33"}'))
      assert.matches("^params.net: ", bind("cidr(attrs.ip, $net)", '{"net":5}'))
      assert.matches("^params.net: ", bind("cidr(attrs.ip, $net)", '{"net":["10.0.0.0/8","x"]}'))
    end)

    it("tells what discriminates", function()
      local function discriminator(text)
        local params = '{"list":["a",2,true],"t":"acme","none":[]}'
        return { assert(set:bind(assert(set:compile(text)), params)):discriminator() }
      end
      local acme = { "tenant", { '"acme"' } }
      assert.same(acme, discriminator "attrs.tenant == $t")
      assert.same(acme, discriminator "$t == attrs.tenant and attrs.sev > 3")
      assert.same(acme, discriminator 'attrs.x == "y" and (attrs.tenant == $t and has(attrs.z))')
      assert.same(acme, discriminator "one_of(attrs.tenant, $t) and (attrs.a or attrs.b)")
      assert.same({ "x", { '"y"' } }, discriminator 'attrs.x == "y"')
      assert.same({ "x", { '"a"', "2", "true" } }, discriminator "one_of(attrs.x, $list)")
      assert.same({ "x", {} }, discriminator "one_of(attrs.x, $none)")
      assert.same({ "x", {} }, discriminator "attrs.x == $list")
      for _, text in ipairs { "attrs.x == $t or attrs.y", "not (attrs.x == $t)", "attrs.x ~= $t", "data.x == $t",
        "topic == $t", "attrs.x == attrs.y", "$t == $t", "one_of($t, $list)",
        "attrs.x == 1 or attrs.x == 2 and attrs.y == $t",
        "starts_with(attrs.x, $t)", "not (not (attrs.x == $t))", "true" } do
        assert.same({}, discriminator(text), text)
      end
    end)
  end)

  describe("that is wrong", function()
    it("says where, and what would be right", function()
      for text, expected in pairs {
        ["startswith(attrs.cell, $c)"] = "1:1: unknown function 'startswith' (did you mean 'starts_with'?)",
        ["attr.cell == $c"] = "1:1: unknown name 'attr' (did you mean 'attrs'?)",
        ["ts > 5"] =
          "1:1: unknown name 'ts' (there are id, topic, type, time, expires, key, attrs.x, data.x and $x of params)",
        ["has(attrs.x) and\n  attrs.y = 3"] = "2:11: '=': equal is ==",
        ["not attrs.x == 3"] = "1:13: `not` binds tighter than a comparison: write not (a == b)",
        ["1 < attrs.x < 3"] = "1:13: comparisons do not chain: write a < b and b < c",
        ["(attrs.a == 1) == true"] = "1:16: a condition in parentheses cannot be compared",
        ["attrs.x == nil"] = "1:12: nil: ask has(x), or not has(x)",
        ["attrs.x != 1"] = "1:9: '!=': not equal is ~=",
        ["attrs.x && true"] = "1:9: '&&': say: and",
        ["attrs"] = "1:1: attrs needs a name: attrs.x",
        ["data > 3"] = "1:1: data needs a path: data.x.y",
        ["attrs.a.b"] = "1:9: attributes are no objects: attrs.name is all there is",
        ["attrs.end"] = "1:7: 'end' is a word of the language: write [\"end\"]",
        ["attrs.x == 0x10"] = "1:12: numbers are decimal here",
        ["attrs.x == 5 attrs.y"] = "1:14: the end of the condition, `and` or `or` was expected",
        ["(attrs.x"] = "1:9: ')' was expected",
        [""] = "1:1: the text ends where a value was expected",
        ["attrs.x =="] = "1:11: the text ends where a value was expected",
        ["one_of(attrs.x)"] = "1:1: usage: one_of(x, \"a\", \"b\") or one_of(x, $list)",
        ["has(3)"] = "1:5: has: a field of the event, or $name, was expected",
        ["cidr(attrs.x, \"10.0.0.1/8\")"] =
          "1:15: cidr: \"10.0.0.1/8\": bits behind the prefix are set; the network is 10.0.0.0/8, the "
          .. "single address has /32",
        ["fits_template(attrs.x, \"/a/{id\")"] =
          "1:24: fits_template: a URI template like \"/books/{id}\", $name or $list, was expected",
        ["fits_url_pattern(attrs.x, \"/a/:id?\")"] =
          "1:27: fits_url_pattern: a pattern like \"/books/:id\", $name or $list, was expected",
        ["topic_seg(0) == \"a\""] = "1:1: topic_seg: one whole number from 1 to 128 was expected",
        ["attrs.x == \"a"] = "1:12: the string does not end",
        ["attrs.x == \"\\q\""] =
          "1:13: unknown escape; known are \\n \\r \\t \\a \\b \\f \\v \\\\ \\\" \\' \\xXX \\ddd",
        ["attrs.x .. 'a'"] = "1:9: '..': filters cannot join strings",
        ["topic.x == 1"] = "1:6: topic has no fields",
        ["attrs.x == -attrs.y"] = "1:12: '-': a number was expected behind it; filters cannot calculate",
        ["--[[ x ]] true"] = "1:1: comments end with their line here: --[ is not one",
        ["$ == 1"] = "1:1: a name was expected behind $, as in $tenant",
        ["attrs.x == 5x"] = "1:12: malformed number",
        ["data[0] == 1"] = "1:6: a \"name\" or a place in an array (from 1) was expected",
        ["not"] = "1:4: the text ends where a value was expected",
        ["attrs.x == (1 == 1)"] = "1:12: a value was expected here, not a condition",
        ["has(has(attrs.x))"] = "1:5: a value was expected here, not a condition",
        ["attrs.x and"] = "1:12: the text ends where a value was expected",
        ["attrs.x\0"] = "1:8: byte 0x00 has no meaning here",
      } do
        assert.equal(expected, refused(text), text)
      end
    end)

    it("is bounded", function()
      assert.matches("longer than 8192 bytes", refused(("true or "):rep(1100) .. "true"))
      assert.matches("too many conditions", refused(("$a or "):rep(900) .. "true"))
      assert.matches("nested too deep", refused(("("):rep(33) .. "true" .. (")"):rep(33)))
      assert.matches("nested too deep", refused(("not "):rep(33) .. "true"))
      assert.is_true(test(("("):rep(32) .. "true" .. (")"):rep(32)))
      assert.matches("more than 16 names", refused("data" .. (".a"):rep(17)))
      local fields = {}
      for i = 1, 256 do fields[i] = "attrs.f" .. i end
      assert(set:compile(table.concat(fields, " or ")))
      assert.matches("too many different fields", refused "attrs.f257")
      assert(set:compile "attrs.f256")
    end)
  end)

  it("may have comments", function()
    assert.is_true(test "attrs.sev == 3 -- warning\n  -- or worse\n and true")
  end)

  it("explains itself", function()
    local function explain(text, params)
      local _, why = assert(set:bind(assert(set:compile(text)), params)):explain(event())
      return why
    end
    assert.equal('starts_with(attrs.cell="u2edk", $cell="u2yh") = false\n',
      explain("starts_with(attrs.cell, $cell) and attrs.severity >= $min", '{"cell":"u2yh","min":1}'))
    assert.equal('attrs.sev=3 >= $min=2.5 = true\nhas(attrs.x=nil) = false\n'
        .. 'attrs.cell="u2edk" == 5 = false (the types do not fit)\n',
      explain("attrs.sev >= $min and not has(attrs.x) and attrs.cell == 5", '{"min":2.5}'))
    assert.equal('one_of(attrs.lang="de", $l={"a", "b"}, "de") = true\n',
      explain('one_of(attrs.lang, $l, "de")', '{"l":["a","b"]}'))
    assert.equal('attrs.x=nil ~= 1 = false (missing)\nattrs.yes=true = true\n', explain "attrs.x ~= 1 or attrs.yes")
    assert.equal('data.list=[...] == 1 = false (the types do not fit)\n', explain "data.list == 1")
    assert.equal('distance_km(0,0,0,0)=0.0 <= 1 = true\n', explain "distance_km(0,0,0,0) <= 1")
    local args = assert(set:bind(assert(set:compile "attrs.sev == 3")))
    assert.same({ nil, -105 }, { args:explain(event(), 5) })
  end)

  it("looks at one event after the other", function()
    local args = assert(set:bind(assert(set:compile 'attrs.a == 1 or data.x == "\\n"')))
    for i = 1, 50 do
      assert.equal(i % 2 == 1, (args:test(event { attrs = ('{"a":%d}'):format(i % 2), data = "{}" })))
      local data = i % 2 == 1 and '{"x":"\\n"}' or '{"x":"\\t"}'
      assert.equal(i % 2 == 1, (args:test(event { attrs = "{}", data = data })))
    end
  end)

  describe("in_set", function()
    it("finds what the set has, as == compares", function()
      assert.equal(9, (set:values("s", { "u2edk", 3, 2.5, true, 1 << 53 | 1, "", "a\0b", "alert/eu/berlin", -0.0 })))
      all(true, { 'in_set(attrs.cell, "s")', 'in_set(attrs.sev, "s")', 'in_set(attrs.f, "s")',
        'in_set(attrs.yes, "s")', 'in_set(attrs.big, "s")', 'in_set(topic, "s")', 'in_set(data.list[3], "s")',
        'in_set("", "s")', 'in_set("a\\0b", "s")', 'in_set(0, "s")', 'in_set(3.0, "s")', 'in_set(tonumber("3"), "s")',
        'in_set(attrs.cell, "s") and not in_set(attrs.lang, "s")', 'in_set(attrs.lang, "s") or attrs.yes' })
      all(false, { 'in_set(attrs.lang, "s")', 'in_set("3", "s")', 'in_set(attrs.no, "s")', 'in_set(attrs.neg, "s")',
        'in_set(9007199254740992, "s")', 'in_set("a", "s")', 'in_set(topic_seg(1), "s")', 'in_set(1e300, "s")' })
      all(true, { 'in_set($who, "s")' }, '{"who":"u2edk"}')
      all(false, { 'in_set($who, "s")', 'in_set($l, "s")' }, '{"l":["u2edk"],"who":"ann"}')
    end)

    it("is false for what is not there, and counts what cannot be in it", function()
      set:values("texts", { "3", "3" })
      set:values("none", {})
      all(false, { 'in_set(attrs.nothing, "texts")' })
      assert.same({ 0, 2 }, { set:counts() })
      all(false, { 'in_set(attrs.sev, "texts")', 'in_set(data.list, "texts")', 'in_set(data.o, "texts")' })
      assert.equal(6, (set:counts()))
      all(false, { 'in_set(attrs.sev, "none")', 'in_set(attrs.cell, "none")' })
      assert.equal(6, (set:counts()))
    end)

    it("makes all of the text false while the set has no values, where it is asked", function()
      set:values("s", nil)
      all(false, { 'in_set(attrs.cell, "s")', 'not in_set(attrs.cell, "s")', 'not in_set(attrs.nothing, "s")',
        'in_set(attrs.cell, "s") or attrs.yes', 'not (in_set(attrs.cell, "s") and attrs.no)' })
      assert.same({ 0, 0 }, { set:counts() })
      assert.equal(10, set:refused())
      all(true, { 'attrs.yes or in_set(attrs.cell, "s")' })
      assert.same({ 0, 0 }, { set:counts() })
      assert.equal(10, set:refused())
      set:values("s", { "ann" })
      all(true, { 'not in_set(attrs.cell, "s")' })
      set:values("s", { "u2edk" })
      all(false, { 'not in_set(attrs.cell, "s")' })
    end)

    it("explains itself", function()
      local function explain()
        local _, why = assert(set:bind(assert(set:compile 'not in_set(attrs.cell, "s")'))):explain(event())
        return why
      end
      set:values("s", { "ann" })
      assert.equal('in_set(attrs.cell="u2edk", "s") = false\n', explain())
      set:values("s", nil)
      assert.equal('in_set(attrs.cell="u2edk", "s") = false (the set has no values: all of the '
        .. 'filter is false)\n', explain())
    end)

    it("wants the name of a set that was declared", function()
      assert.equal("1:17: in_set: there is no set 'blocked': the policy has no `sets`",
        refused 'in_set(attrs.a, "blocked")')
      set:values("blocked", {})
      assert.equal("1:17: in_set: there is no set 'bloked' (did you mean 'blocked'?)",
        refused 'in_set(attrs.a, "bloked")')
      assert.equal("1:17: in_set: there is no set 'x' in `sets` of the policy", refused 'in_set(attrs.a, "x")')
      assert.equal("1:17: in_set: the name of a set, a text, was expected", refused "in_set(attrs.a, $s)")
      assert.equal("1:17: in_set: the name of a set, a text, was expected", refused "in_set(attrs.a, attrs.b)")
      assert.equal('1:1: usage: in_set(x, "name of a set")', refused 'in_set("blocked")')
      assert.equal("1:8: a value was expected here, not a condition",
        refused 'in_set(in_set(attrs.a, "blocked"), "blocked")')
      assert.equal("1:1: unknown function 'inset' (did you mean 'in_set'?)", refused 'inset(attrs.a, "blocked")')
      assert.equal("1:28: the answer of this function is a condition and cannot be compared",
        refused 'in_set(attrs.a, "blocked") == true')
    end)

    it("holds many, each once, within its bounds", function()
      local n, bytes = set:values("s", 100000)
      assert.equal(100000, n)
      assert.is_true(bytes < 100000 * 48, bytes)
      local args = assert(set:bind(assert(set:compile 'in_set(attrs.u, "s")')))
      local function has(u)
        return (args:test(event { attrs = ('{"u":"%s"}'):format(u) }))
      end
      for i = 1, 100000, 997 do
        assert.is_true(has(("user-%08d"):format(i)), i)
        assert.is_false(has(("user-%09d"):format(i)), i)
      end
      assert.is_true(has "user-00100000")
      assert.is_false(has "user-00100001")
      assert.same({ nil, "it has more than 2 values (policy.set_entries)" }, { set:values("s", { 1, 2, 3 }, 2) })
      assert.same({ nil, "it takes more than 100000 bytes of memory (policy.set_bytes)" },
        { set:values("s", 100000, 1 << 20, 100000) })
      assert.same({ nil, "it has a text of more than 4096 bytes" }, { set:values("s", { ("x"):rep(4097) }) })
      assert.equal(2, (set:values("s", { ("x"):rep(4096), 1, 1.0, 0 / 0 })))
      all(true, { 'in_set($u, "s")' }, ('{"u":"%s"}'):format(("x"):rep(4096)))
    end)
  end)
end)
