local http = require "native.http"

describe("http_query", function()
  it("decodes pairs in order and keeps duplicates", function()
    for text, want in pairs {
      ["topic=a%2Fb&topic=c"] = { { "topic", "a/b" }, { "topic", "c" } },
      ["a=1+2%2B3"] = { { "a", "1 2+3" } },
      ["%61%62=%c3%A9"] = { { "ab", "é" } },
      ["a"] = { { "a", "" } },
      ["a="] = { { "a", "" } },
      ["="] = { { "", "" } },
      ["=b"] = { { "", "b" } },
      ["a=b=c"] = { { "a", "b=c" } },
      ["a%3Db=c%26d"] = { { "a=b", "c&d" } },
      ["&&a=1&&b&"] = { { "a", "1" }, { "b", "" } },
      ["a;b=1"] = { { "a;b", "1" } },
      [""] = {},
      ["&"] = {},
    } do
      assert.same(want, (http.query(text)), text)
    end
    assert.same({}, (http.query(nil)))
  end)

  it("finds the first value of an exact name", function()
    local function get(text, name)
      return select(2, http.query(text, name))
    end
    assert.equal("1", get("a=1&a=2", "a"))
    assert.equal("", get("a", "a"))
    assert.is_nil(get("ab=1&A=2", "a"))
    assert.equal("x", get("%61=x", "a"))
  end)

  it("refuses escapes it would have to guess at", function()
    for _, text in ipairs { "%", "a=%", "a=%4", "a=%4&b", "a=%zz", "a=%4g", "%%41", "a=%u0041", "a=% 1" } do
      assert.same({ nil, "EINVAL" }, { http.query(text) }, text)
    end
  end)

  it("refuses NUL and what is not UTF-8", function()
    for _, text in ipairs { "a=%00", "%00=b", "a=\0", "a=%ff", "a=%c3", "%c3=a", "a=%c3&b=%a9", "a=%ed%a0%80",
      "a=%c0%80",
      "a=%f4%90%80%80", "a=%e0%80%80", "\x80" } do
      assert.same({ nil, "EINVAL" }, { http.query(text) }, text)
    end
    assert.same({ { "a", "\u{10ffff}\u{7ff}\u{ffff}\u{d7ff}" } },
      (http.query("a=%f4%8f%bf%bf%df%bf%ef%bf%bf%ed%9f%bf")))
  end)

  it("bounds the number of pairs", function()
    assert.equal(256, #http.query(("a&"):rep(256)))
    assert.same({ nil, "E2BIG" }, { http.query(("a&"):rep(257)) })
    assert.equal(1, #http.query(("&"):rep(1000) .. "a"))
  end)
end)
