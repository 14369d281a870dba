-- Which texts may have been made of a URI template, as policies ask it: tg.fits_template().
local lua_vm = require "native.lua_vm"

describe("tg.fits_template", function()
  local vm

  setup(function()
    vm = assert(lua_vm.open(16 * 1024 * 1024))
    vm:mode { loading = false }
  end)

  teardown(function()
    vm:close()
  end)

  local function fits(text, template)
    return vm:run(("return tg.fits_template(%q, %q)"):format(text, template))
  end

  -- Sections 1.2 and 3.2 of RFC 6570: each expansion of the examples.
  local EXPANSIONS = {
    ["{var}"] = "value", ["{hello}"] = "Hello%20World%21", ["{+hello}"] = "Hello%20World!",
      ["{+path}/here"] = "/foo/bar/here",
    ["here?ref={+path}"] = "here?ref=/foo/bar", ["X{#var}"] = "X#value", ["X{#hello}"] = "X#Hello%20World!",
    ["map?{x,y}"] = "map?1024,768", ["{x,hello,y}"] = "1024,Hello%20World%21,768",
      ["{+x,hello,y}"] = "1024,Hello%20World!,768",
    ["{+path,x}/here"] = "/foo/bar,1024/here", ["{#x,hello,y}"] = "#1024,Hello%20World!,768",
    ["{#path,x}/here"] = "#/foo/bar,1024/here", ["X{.var}"] = "X.value", ["X{.x,y}"] = "X.1024.768",
      ["{/var}"] = "/value",
    ["{/var,x}/here"] = "/value/1024/here", ["{;x,y}"] = ";x=1024;y=768", ["{;x,y,empty}"] = ";x=1024;y=768;empty",
    ["{?x,y}"] = "?x=1024&y=768", ["{?x,y,empty}"] = "?x=1024&y=768&empty=", ["?fixed=yes{&x}"] = "?fixed=yes&x=1024",
    ["{&x,y,empty}"] = "&x=1024&y=768&empty=", ["{list}"] = "red,green,blue", ["{list*}"] = "red,green,blue",
    ["{keys}"] = "semi,%3B,dot,.,comma,%2C", ["{keys*}"] = "semi=%3B,dot=.,comma=%2C", ["{+list*}"] = "red,green,blue",
    ["{+keys*}"] = "semi=;,dot=.,comma=,", ["{#keys*}"] = "#semi=;,dot=.,comma=,", ["X{.list*}"] = "X.red.green.blue",
    ["X{.keys*}"] = "X.semi=%3B.dot=..comma=%2C", ["{/list*}"] = "/red/green/blue",
    ["{/list*,path}"] = "/red/green/blue/%2Ffoo%2Fbar", ["{/keys*}"] = "/semi=%3B/dot=./comma=%2C",
    ["{;hello}"] = ";hello=Hello%20World%21", ["{;list*}"] = ";list=red;list=green;list=blue",
      ["{;keys*}"] = ";semi=%3B;dot=.;comma=%2C",
    ["{?list*}"] = "?list=red&list=green&list=blue", ["{&keys*}"] = "&semi=%3B&dot=.&comma=%2C",
      ["up{+path}{var}/here"] = "up/foo/barvalue/here",
    ["O{empty}X"] = "OX", ["O{undef}X"] = "OX", ["{?undef}"] = "",
  }

  it("knows what each operator writes", function()
    for template, text in pairs(EXPANSIONS) do
      assert.equal("true", fits(text, template), template)
      assert.equal("false", fits(text .. "\1", template), template)
      assert.equal("false", fits("\1" .. text, template), template)
    end
  end)

  it("says no where the text has what the template cannot write", function()
    for template, texts in pairs {
      ["https://a.example/books/{id}"] = { "https://a.example/books/1/2", "https://a.example/books/1?x",
        "https://a.example/book/1",
        "https://a.example/books/ü", "https://a.example/books/1 ", "https://a.example/books/%2",
          "https://a.example/books/%zz", "" },
      ["/a/{x}/b"] = { "/a/b", "/a/1/2/b", "/a//b/" },
      ["{/a,b}"] = { "/1/2/3", "a", "/1&2" },
      ["{?a,b}"] = { "?a=1&b=2&c=3", "a=1", "&a=1" },
      ["{a}"] = { "a=b", "a&b" }, ["x{#f}y"] = { "x/y", "x#f" },
    } do
      for _, text in ipairs(texts) do
        assert.equal("false", fits(text, template), template .. " " .. text)
      end
    end
    assert.equal("true", fits("https://a.example/u/?topic=https%3A%2F%2Fa.example%2Fb", "https://a.example/u/{?topic}"))
  end)

  it("takes a text that is no template as it is", function()
    for _, text in ipairs { "books", "a b", "will-not-match}", "{", "{}", "{a", "{a:3}", "{=a}", "{a..b}", "{.}",
      "{a,}", "%", "ü{a b}", "*" } do
      assert.equal("true", fits(text, text))
      assert.equal("false", fits(text .. "x", text), text)
    end
    assert.equal("false", fits("abc", "{a:3}"))
    assert.equal("true", fits("müxbooks", "mü{a}books"))
  end)

  it("has bounds, and is quick about what fits in very many ways", function()
    local many = ("{a}"):rep(32)
    assert.equal("true", vm:run(("return tg.fits_template(('a'):rep(1024), %q)"):format(many)))
    assert.equal("false", vm:run(("return tg.fits_template(('a'):rep(1023) .. '!', %q)"):format(many)))
    assert.equal("false", vm:run(("return tg.fits_template('a', %q)"):format(many .. "{a}")))
    assert.equal("false", vm:run "return tg.fits_template(('a'):rep(1025), '{a}')")
    assert.equal("false", vm:run "return tg.fits_template('a' , '{' .. ('a'):rep(1023) .. '}')")
  end)

  it("takes one template or a list, and raises for anything else", function()
    assert.equal("true", vm:run "return tg.fits_template('/b/1', { '/a/{x}', 7, '/b/{x}' })")
    assert.equal("false", vm:run "return tg.fits_template('/b/1', {})")
    for _, text in ipairs { "nil", "7", "{}", "true" } do
      assert.equal("false", vm:run("return tg.fits_template(" .. text .. ", '{x}')"), text)
    end
    for _, bad in ipairs { "7", "nil", "true" } do
      assert.matches("a URI template, or a list of them, was expected",
        vm:run("return select(2, pcall(tg.fits_template, 'a', " .. bad .. "))"))
    end
    assert.matches("at most 1000 was expected",
      vm:run "local t = {} for i = 1, 1001 do t[i] = 'x' end return select(2, pcall(tg.fits_template, 'a', t))")
  end)
end)
