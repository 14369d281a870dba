local http = require "native.http"

local APP = "https://app.example"
local list = { origins = { "https://other.example", APP }, max_age = 600 }
local any = { origins = { "*" }, max_age = 5 }

local function request(origin, more)
  return "GET / HTTP/1.1\r\nHost: a\r\n" .. (origin and "Origin: " .. origin .. "\r\n" or "") .. (more or "") .. "\r\n"
end

local EXPOSED = "Access-Control-Expose-Headers: Retry-After, X-Request-Id\r\n"

local function with_credentials(cors)
  return { origins = cors.origins, max_age = cors.max_age, credentials = true }
end

describe("http_cors", function()
  it("echoes an allowed origin and says that the answer varies", function()
    assert.equal("Access-Control-Allow-Origin: " .. APP .. "\r\nVary: Origin\r\n" .. EXPOSED,
      (http.cors(list, request(APP))))
    assert.equal("Access-Control-Allow-Origin: https://other.example\r\nVary: Origin\r\n" .. EXPOSED,
      (http.cors(list, request "https://other.example")))
  end)

  it("allows everybody where so configured", function()
    assert.equal("Access-Control-Allow-Origin: *\r\n" .. EXPOSED, (http.cors(any, request "https://any.example")))
    assert.equal("Access-Control-Allow-Origin: *\r\n" .. EXPOSED, (http.cors(any, request "null")))
  end)

  it("tells others only that the answer varies, where it does", function()
    for _, origin in ipairs { "http://app.example", "https://app.example:444", "https://app.example.evil",
      "https://APP.example",
      "null", "https://app.exampl", APP .. "/", "*" } do
      assert.equal("Vary: Origin\r\n", (http.cors(list, request(origin))), origin)
      assert.equal("", (http.cors(list, request(origin, "Access-Control-Request-Method: GET\r\n"), "GET")), origin)
    end
    assert.equal("Vary: Origin\r\n", (http.cors(list, request(nil))))
    assert.equal("", (http.cors(any, request(nil))))
    assert.equal("", (http.cors(any, request(""))))
    assert.equal("", (http.cors({ origins = {} }, request(APP))))
  end)

  it("allows credentials to listed origins, never to all", function()
    local fields = "Access-Control-Allow-Origin: " .. APP .. "\r\nAccess-Control-Allow-Credentials: true\r\n"
    assert.equal(fields .. "Vary: Origin\r\n" .. EXPOSED, (http.cors(with_credentials(list), request(APP))))
    assert.equal("Access-Control-Allow-Origin: *\r\n" .. EXPOSED, (http.cors(with_credentials(any), request(APP))))
  end)

  it("matches patterns of origins: any names below one, of that scheme and port", function()
    local below = { origins = { "https://*.app.example", "http://*.localhost:3000" } }
    for _, origin in ipairs { "https://a.app.example", "https://a-1.b_2.app.example", "http://t1.localhost:3000" } do
      assert.equal("Access-Control-Allow-Origin: " .. origin .. "\r\nVary: Origin\r\n" .. EXPOSED,
        (http.cors(below, request(origin))))
      assert.equal("listed", http.site(below, request(origin)))
    end
    for _, origin in ipairs { "https://app.example", "https://.app.example", "https://evilapp.example",
      "https://a.app.example:444", "http://a.app.example", "https://a..app.example",
      "https://evil.example/.app.example",
      "https://evil.example#.app.example", "https://a.app.example.evil.example", "https://*.app.example",
      "https://user@a.app.example", "https://A.app.example", "http://localhost:3000" } do
      assert.equal("Vary: Origin\r\n", (http.cors(below, request(origin))), origin)
      assert.equal("foreign", http.site(below, request(origin)), origin)
    end
  end)

  it("lets pages send the headers that are configured besides those of the broker", function()
    local own = { origins = { APP }, headers = { "x-api-key", "traceparent" } }
    local text = http.cors(own, request(APP, "Access-Control-Request-Method: GET\r\n"), "GET")
    assert.truthy(text:find("Last-Event-ID, X-Requested-With, x-api-key, traceparent\r\n", 1, true), text)
  end)

  it("answers a preflight", function()
    local methods = "GET, HEAD, POST, OPTIONS"
    local text = http.cors(with_credentials(list), request(APP, "Access-Control-Request-Method: POST\r\n"), methods)
    local fields = {}
    for name, value in text:gmatch("([^:\r\n]+): ([^\r\n]*)\r\n") do
      fields[name] = value
    end
    assert.equal(APP, fields["Access-Control-Allow-Origin"])
    assert.equal("true", fields["Access-Control-Allow-Credentials"])
    assert.equal(methods, fields["Access-Control-Allow-Methods"])
    assert.equal("600", fields["Access-Control-Max-Age"])
    local allowed = ", " .. fields["Access-Control-Allow-Headers"]:lower() .. ","
    for _, name in ipairs { "last-event-id", "content-type", "idempotency-key", "authorization", "cache-control",
      "x-requested-with" } do
      assert.truthy(allowed:find(", " .. name .. ",", 1, true), name)
    end
  end)

  it("takes an OPTIONS without a requested method for a plain request", function()
    assert.equal("Access-Control-Allow-Origin: *\r\n", (http.cors(any, request(APP), "GET")))
  end)

  it("appends all or nothing", function()
    local text = request(APP, "Access-Control-Request-Method: POST\r\n")
    local size = #http.cors(list, text, "GET")
    for max = 0, size - 1 do
      assert.same({ nil, "ENOBUFS" }, { http.cors(list, text, "GET", max) })
    end
  end)
end)
