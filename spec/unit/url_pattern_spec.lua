-- Which URLs a URL pattern means, as policies ask it: tg.fits_url_pattern(). Where the standard would first make a URL
-- canonical, it fits nothing.
local lua_vm = require "native.lua_vm"

describe("tg.fits_url_pattern", function()
  local vm

  setup(function()
    vm = assert(lua_vm.open(16 * 1024 * 1024))
    vm:mode { loading = false }
  end)

  teardown(function()
    vm:close()
  end)

  local function each(expected, cases)
    for pattern, urls in pairs(cases) do
      assert.equal("true", vm:run(("return tg.url_pattern_ok(%q)"):format(pattern)), pattern)
      for _, url in ipairs(urls) do
        assert.equal(expected, vm:run(("return tg.fits_url_pattern(%q, %q)"):format(url, pattern)), pattern .. " "
          .. url)
      end
    end
  end

  it("says yes where names and stars can be filled in", function()
    each("true", {
      ["https://a.example/books/:id"] = { "https://a.example/books/1", "https://a.example/books/a%2Fb",
        "https://a.example/books/1?page=2", "https://a.example/books/1#top", "https://a.example/books/ü",
          "https://a.example/books/..a" },
      ["https://a.example/books/*"] = { "https://a.example/books/", "https://a.example/books/1/reviews",
        "https://a.example/books/?/x" },
      ["https://a.example/:kind/:id.json"] = { "https://a.example/books/1.json", "https://a.example/books/1.2.json" },
      ["https://a.example"] = { "https://a.example", "https://a.example/", "https://a.example/x/y",
        "https://a.example?x" },
      ["https://a.example/"] = { "https://a.example", "https://a.example/?x" },
      ["https://:tenant.a.example/*"] = { "https://b.a.example/x" },
      ["https://*.a.example:8443/x"] = { "https://b.c.a.example:8443/x" },
      ["/books/:id"] = { "/books/1", "/books/1?x" },
      ["/a:1b"] = { "/a:1b" },
    })
  end)

  it("says no elsewhere", function()
    each("false", {
      ["https://a.example/books/:id"] = { "https://a.example/books/", "https://a.example/books/1/2",
        "https://a.example/books/1/",
        "http://a.example/books/1", "https://b.example/books/1", "https://a.example:8443/books/1", "/books/1",
          "books/1", "",
        "https://a.example/x/../books/1", "https://a.example/x/%2e%2E/books/1", "https://a.example/./books/1" },
      ["https://a.example/books/*"] = { "https://a.example/books/../secret", "https://a.example/books/.%2e/x",
        "https://a.example/books/x\\y",
        "https://a.example/books", "https://a.example/books/..", "https://a.example/books/x y" },
      ["https://a.example/"] = { "https://a.example/x" },
      ["https://*.a.example/*"] = { "https://evil.example/.a.example/x", "https://evil.example?.a.example/x",
        "https://evil.example#.a.example/x", "https://u@b.a.example/x", "https://u:p@b.a.example/",
          "https://B.a.example/",
        "https://b.a.example:8443/x", "https://evil%2F.a.example/x" },
      ["https://:tenant.a.example/"] = { "https://b.c.a.example/", "https://.a.example/" },
      ["/books/:id"] = { "https://a.example/books/1", "//books/1", "/books/" },
    })
  end)

  it("knows no groups, expressions and modifiers: such patterns fit nothing", function()
    for _, pattern in ipairs { "", "books", "*", "//a/b", "/a/:id?", "/a/:id*", "/a/:id+", "/a/**", "/a/(.*)",
      "/a{/b}", "/a/{:id}?", "/a?b=:c",
      "/a#:b", "HTTPS://a.example/", "*://a.example/", "https://", "https:///x", "https://u@a.example/", "/a/../b",
        "/a b", "/a\\:b", "/:ö" } do
      assert.equal("false", vm:run(("return tg.url_pattern_ok(%q)"):format(pattern)), pattern)
      assert.equal("false", vm:run(("return tg.fits_url_pattern(%q, %q)"):format(pattern, pattern)), pattern)
    end
    assert.equal("false", vm:run "return tg.url_pattern_ok(7)")
  end)

  it("has bounds", function()
    assert.equal("true", vm:run "return tg.fits_url_pattern('/' .. ('a'):rep(1023), '/' .. ('*a'):rep(32))")
    assert.equal("false", vm:run "return tg.fits_url_pattern('/' .. ('a'):rep(1022) .. '!', '/' .. ('*a'):rep(32))")
    assert.equal("false", vm:run "return tg.url_pattern_ok('/' .. ('*a'):rep(33))")
    assert.equal("false", vm:run "return tg.fits_url_pattern('/' .. ('a'):rep(1023), '/' .. ('*a'):rep(33))")
    assert.equal("false", vm:run "return tg.fits_url_pattern('/' .. ('a'):rep(1024), '/*')")
    assert.equal("false", vm:run "return tg.url_pattern_ok('/' .. ('a'):rep(1024))")
  end)

  it("does no work for wildcards beyond the bound", function()
    local function least_time(stars)
      local code = ("return tg.fits_url_pattern('/' .. ('a'):rep(1023), '/' .. ('*a'):rep(%d))"):format(stars)
      local least = math.huge
      for _ = 1, 20 do
        local from = os.clock()
        vm:run(code)
        least = math.min(least, os.clock() - from)
      end
      return least
    end
    assert.is_true(least_time(511) < 4 * least_time(32))
  end)
end)
