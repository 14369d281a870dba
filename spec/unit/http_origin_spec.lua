local http = require "native.http"

local APP = "https://app.example"
local none, listed, any = { origins = {} }, { origins = { APP, "http://other.example:81" } }, { origins = { "*" } }

local function site(cors, fields, host)
  return http.site(cors, ("POST /events HTTP/1.1\r\nHost: %s\r\n%s\r\n"):format(host or "me.example", fields))
end

describe("a request is of its own site", function()
  it("without anything a browser would say", function()
    assert.equal("own", site(none, ""))
  end)

  it("when the browser says so, whatever the Host has become on the way", function()
    for _, cors in ipairs { none, listed } do
      assert.equal("own", site(cors, "Origin: https://shop.example\r\nSec-Fetch-Site: same-origin\r\n", "[::1]:80"))
      assert.equal("own", site(cors, "Origin: null\r\nSec-Fetch-Site: same-origin\r\n"))
      assert.equal("own", site(cors, "Sec-Fetch-Site: none\r\n"))
    end
  end)

  it("when Origin is the Host", function()
    for origin, host in pairs {
      ["http://me.example"] = "me.example", ["https://me.example"] = "ME.example", ["http://a.b:8080"] = "a.b:8080",
      ["https://c.example"] = "c.example:443", ["http://d.example"] = "d.example:80", ["http://[::1]:81"] = "[::1]:81",
      ["http://e.example:80"] = "e.example",
    } do
      assert.equal("own", site(none, "Origin: " .. origin .. "\r\n", host), origin)
    end
  end)
end)

describe("a request is of a listed site", function()
  it("by its origin, byte for byte", function()
    for _, more in ipairs { "", "Sec-Fetch-Site: cross-site\r\n", "Sec-Fetch-Site: same-site\r\n",
      "Cookie: a=b\r\n" } do
      assert.equal("listed", site(listed, "Origin: " .. APP .. "\r\n" .. more))
      assert.equal("listed", site(listed, "Origin: http://other.example:81\r\n" .. more))
    end
  end)

  it("wherever all are, but not with a cookie: only a form sends one to them", function()
    for _, origin in ipairs { "null", APP, "http://x.example" } do
      assert.equal("listed", site(any, "Origin: " .. origin .. "\r\n"))
      assert.equal("foreign", site(any, "Origin: " .. origin .. "\r\nCookie: key=1\r\n"))
    end
  end)
end)

describe("a request is of a foreign site", function()
  it("by its origin", function()
    for _, origin in ipairs { "null", "", "https://evil.example", "https://app.example.evil", "https://app.example:444",
      "http://me.example:8080", "https://me.example:80", "me.example", "ftp://me.example", "https://me.example/",
      "http://me.example.evil", "http://you.me.example", "http://", "https://app.exampl", "https://APP.example" } do
      for _, cors in ipairs { none, listed } do
        assert.equal("foreign", site(cors, "Origin: " .. origin .. "\r\n"), origin)
      end
    end
    assert.equal("foreign", site(none, "Origin: http://me.example\r\n", "me.example:8080"))
  end)

  it("by what the browser says, though its origin looks right", function()
    for _, value in ipairs { "cross-site", "same-site", "", "SAME-ORIGIN", "same-origin, none", "x" } do
      assert.equal("foreign", site(none, "Origin: http://me.example\r\nSec-Fetch-Site: " .. value .. "\r\n"), value)
      assert.equal("foreign", site(listed, "Sec-Fetch-Site: " .. value .. "\r\n"), value)
    end
  end)

  it("when a field is there twice", function()
    local own = "Origin: http://me.example\r\n"
    assert.equal("foreign", site(listed, own .. own))
    assert.equal("foreign", site(listed, "Origin: " .. APP .. "\r\n" .. own))
    assert.equal("foreign", site(listed, "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Site: cross-site\r\n"))
  end)
end)
