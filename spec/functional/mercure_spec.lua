-- transports: tls h2
-- scripts/policies/mercure.lua, from outside: the conformance cases of Mercure's own repository (conformance-tests/,
-- protocol
-- 0.x and 1.0), and what the protocol says beyond them. Where the hub of the original does something else, it says so
-- here
-- and on scripts/policies/MERCURE.md.
local child = require "support.child"
local http = require "support.http"
local sse = require "support.sse"
local tidegate = require "support.tidegate"
local tokens = require "support.tokens"

local HUB, URL = "/.well-known/mercure", "https://hub.example/.well-known/mercure"
local KEY, OTHER = tokens.key "HS256", tokens.key("HS256", "publishers")
local POLICY = SPEC_SOURCE_DIR .. "/scripts/policies/mercure.lua"
local APP = "https://app.example"
local made = 0

local function config(settings, more)
  settings.alg = settings.alg or { "HS256" }
  local c = {
    http = { routes = { { path = HUB, subscribe = true, position_field = "Last-Event-ID", publish = "form",
      topic = "mercure", answer = "id", status = 200 } }, cors_origins = { APP }, cors_credentials = true },
    policy = { settings = settings, params_bytes = settings.params_bytes, identity_bytes = settings.identity_bytes },
    keys = { main = { secret = KEY }, publishers = { secret = OTHER } },
  }
  for name, value in pairs(more or {}) do
    c[name] = value
  end
  return c
end

local function name(text)
  made = made + 1
  return ("%s-%d"):format(text, made)
end

local function token(claims, key, header)
  claims.exp = claims.exp or os.time() + 600
  return tokens.sign("HS256", key or KEY, claims, header)
end

-- A token of protocol 0.x.
local function old(subscribe, publish)
  local array = { __jsontype = "array" }
  return token { mercure = { subscribe = subscribe and setmetatable(subscribe, array),
    publish = publish and setmetatable(publish, array) } }
end

-- A token of protocol 1.0.
local function new(details, header, more)
  local claims = { iss = "https://id.example", aud = URL, authorization_details = details }
  for k, v in pairs(more or {}) do
    claims[k] = v
  end
  return token(claims, KEY, header or { typ = "at+jwt" })
end

local DETAIL = "https://mercure.rocks/authorization-detail"
local EVERYTHING = { { type = DETAIL, actions = { "publish", "subscribe" }, topics = { { match = "*" } } } }

local function bearer(text)
  return { Authorization = "Bearer " .. text }
end

-- As Symfony's component and browsers write it: name=value pairs in their order.
local function form(fields)
  local parts = {}
  for _, field in ipairs(fields) do
    parts[#parts + 1] = field[1] .. "=" .. http.escape(field[2]):gsub("%%20", "+")
  end
  return table.concat(parts, "&")
end

local function post(b, fields, auth, headers)
  local all = { ["Content-Type"] = "application/x-www-form-urlencoded" }
  for k, v in pairs(headers or {}) do
    all[k] = v
  end
  if auth then
    all.Authorization = "Bearer " .. auth
  end
  return http.post(b, HUB, form(fields), all)
end

local function update(topics, data, more)
  local fields = {}
  for _, topic in ipairs(topics) do
    fields[#fields + 1] = { "topic", topic }
  end
  fields[#fields + 1] = { "data", data }
  for _, field in ipairs(more or {}) do
    fields[#fields + 1] = field
  end
  return fields
end

-- A query with names that occur several times, in the order of the list.
local function ask(query)
  local parts = {}
  for _, q in ipairs(query) do
    parts[#parts + 1] = q[1] .. "=" .. http.escape(q[2])
  end
  return HUB .. "?" .. table.concat(parts, "&")
end

local function open(b, query, options)
  options = options or {}
  options.path = ask(query)
  return sse.open(b, options)
end

local function topics(list)
  local query = {}
  for i, text in ipairs(list) do
    query[i] = { "topic", text }
  end
  return query
end

-- What the stream gets of updates published now: the data of all before the marker, which its topics have, too.
local function before(b, c, marker, auth)
  assert.equal(200, post(b, update({ marker }, "marker"), auth).status)
  local list = {}
  for ev in function() return c:next() end do
    if ev.data == "marker" then
      return list
    end
    list[#list + 1] = ev.data
  end
end

describe("conformance of the original, protocol 0.x:", function()
  local broker = tidegate.shared { policy_file = POLICY, config = config { anonymous = true } }
  local all = old({ "*" }, { "*" })
  local a, b, c, u, t = name "raw", name "two", name "three", name "uri", name "template"
  local N = "https://example.net/foo/"

  for what, case in pairs {
    ["raw string"] = { { a }, { a }, true },
    ["multiple topics"] = { { name "x", b }, { b }, true },
    ["multiple topic selectors"] = { { c }, { "foo", c }, true },
    ["URI"] = { { N .. u }, { N .. u }, true },
    ["URI template"] = { { N .. t }, { N .. "{random}" }, true },
    ["nonmatching raw string"] = { { "will-not-match}" }, { "another-name" }, false },
    ["nonmatching URI"] = { { N .. "will-not-match}" }, { N .. "another-name" }, false },
    ["nonmatching URI template"] = { { N .. "will-not-match}" }, { "https://example.net/bar/{var}" }, false },
    ["private raw string"] = { { a }, { a }, false, true },
    ["private URI"] = { { N .. u }, { N .. u }, false, true },
    ["private URI template"] = { { N .. t }, { N .. "{random}" }, false, true },
  } do
    it(what, function()
      local marker, data = name "marker", "data for\n\n        " .. what
      local query = topics(case[2])
      query[#query + 1] = { "topic", marker }
      local s = open(broker(), query)
      local r = post(broker(), update(case[1], data, { { "id", "id-" .. what }, case[4] and { "private", "on" } }), all)
      assert.equal(200, r.status)
      assert.matches("^text/plain", r.headers["content-type"])
      if case[3] then
        local ev = s:next()
        assert.same({ "message", data }, { ev.type, ev.data })
        assert.equal(r.body, ev.id) -- the hub's own: the original has "id-..." here
      end
      assert.same({}, before(broker(), s, marker, all))
      s:close()
    end)
  end
end)

describe("conformance of the original, protocol 1.0:", function()
  local broker = tidegate.shared { policy_file = POLICY,
    config = config { anonymous = true, protocol = "1.0", audience = { URL }, issuer = "https://id.example" } }
  local all = new(EVERYTHING)
  local a, c, u, p = name "raw", name "three", name "uri", name "pattern"
  local N = "https://example.net/foo/"

  for what, case in pairs {
    ["raw string"] = { a, { a }, true },
    ["multiple topic selectors"] = { c, { "foo", c }, true },
    ["URI"] = { N .. u, { N .. u }, true },
    ["URL pattern"] = { N .. p, { N .. ":random" }, true },
    ["nonmatching raw string"] = { "will-not-match", { "another-name" }, false },
    ["nonmatching URI"] = { N .. "will-not-match", { N .. "another-name" }, false },
    ["nonmatching URL pattern"] = { N .. "will-not-match", { "https://example.net/bar/:var" }, false },
    ["private raw string"] = { a, { a }, false, true },
    ["private URI"] = { N .. u, { N .. u }, false, true },
    ["private URL pattern"] = { N .. p, { N .. ":random" }, false, true },
  } do
    it(what, function()
      local marker, data, query = name "marker", "data for\n\n        " .. what, {}
      for i, text in ipairs(case[2]) do
        query[i] = { text:find "/:%a" and "match_urlpattern" or "match", text }
      end
      query[#query + 1] = { "match", marker }
      local s = open(broker(), query)
      local r = post(broker(), update({ case[1] }, data, { { "id", "id-" .. what }, case[4] and { "private", "on" } }),
        all)
      assert.equal(200, r.status)
      assert.matches("^text/plain", r.headers["content-type"])
      if case[3] then
        local ev = s:next()
        assert.same({ "message", data, r.body }, { ev.type, ev.data, ev.id })
      end
      assert.same({}, before(broker(), s, marker, all))
      s:close()
    end)
  end

  it("refuses what is reserved, malformed or of protocol 0.x", function()
    local b = broker()
    for text, status in pairs {
      ["topic=a"] = 400, ["match=a&matches=b"] = 400, ["MATCH=a"] = 400, ["match_Exact=a"] = 400,
        ["match_regexp=a"] = 400,
      ["match%0A=a"] = 400, ["match" .. ("x"):rep(600) .. "=a"] = 400, ["x=1"] = 400, ["match="] = 400,
        ["match=a%01"] = 400, ["match_urlpattern=%2Fa%2F%28.*%29"] = 400,
    } do
      assert.equal(status, http.get(b, HUB .. "?" .. text).status, text)
    end
    open(b, { { "match_urlpattern", "https://a.example/*" .. ("/:b"):rep(19) },
      { "match_urlpattern", "https://a.example" .. ("/:b"):rep(20) } }):close()
    assert.equal(400, http.get(b, ask { { "match_urlpattern", "/:a/*" .. ("/:b"):rep(20) },
      { "match_urlpattern", ("/:b"):rep(20) } }).status)
    assert.equal(400, post(b, update({ "a", "b" }, "x"), all).status)
    assert.equal(400, post(b, update({}, "x"), all).status)
    for _, topic in ipairs { HUB, HUB .. "/subscriptions/exact/a/b", URL .. "/x", "//x" .. HUB, "urn:" .. HUB } do
      assert.equal(403, post(b, update({ topic }, "x"), all).status, topic)
    end
    assert.equal(200, post(b, update({ HUB .. "x" }, "x"), all).status)
  end)

  it("takes access tokens for this hub alone, whole or not at all", function()
    local b = broker()
    local function status(text)
      return http.get(b, ask { { "match", "a" } }, { Authorization = "Bearer " .. text,
        Accept = "text/event-stream" }).status
    end
    local function with(detail)
      detail.type = detail.type or DETAIL
      detail.actions, detail.topics = detail.actions or { "subscribe" }, detail.topics or { { match = "a" } }
      return new { detail, EVERYTHING[1] }
    end
    for _, bad in ipairs {
      new(EVERYTHING, { typ = "JWT" }), new(EVERYTHING, { typ = false }), new(EVERYTHING, nil,
        { aud = "https://other.example" }),
      new(EVERYTHING, nil, { iss = "https://other.example" }), new(EVERYTHING, nil, { exp = os.time() - 60 }),
      tokens.sign("HS256", "another key, which is long enough", { aud = URL, exp = os.time() + 60 }), "x.y.z",
      with { actions = { "read" } }, with { actions = {} }, with { topics = {} }, with { topics = { "a" } },
      with { topics = { { match = "a", match_type = "regexp" } } }, with { topics = { { match_type = "exact" } } },
      with { topics = { { match = "/a/(b)", match_type = "urlpattern" } } }, new { "x" },
    } do
      assert.equal(401, status(bad))
    end
    local s = open(b, { { "match", "a" } }, { headers = bearer(with { type = "of something else", topics = {} }) })
    assert.truthy(s)
    s:close()
    assert.equal(401, post(b, update({ "a" }, "x"), old({ "*" }, { "*" })).status)
  end)

  it("gives private updates to those whose token says so, whatever they ask for", function()
    local b, marker = broker(), name "marker"
    local some = new { { type = DETAIL, actions = { "subscribe" }, topics = {
      { match = "https://a.example/books/1" }, { match = "https://a.example/u/:id", match_type = "urlpattern" } } } }
    local query = { { "match_urlpattern", "https://a.example/*" }, { "match", marker } }
    local s = open(b, query, { headers = bearer(some) })
    for _, topic in ipairs { "https://a.example/books/1", "https://a.example/books/2", "https://a.example/u/3",
      "https://a.example/u/3/4" } do
      assert.equal(200, post(b, update({ topic }, topic, { { "private", "" } }), all).status)
    end
    assert.same({ "https://a.example/books/1", "https://a.example/u/3" }, before(b, s, marker, all))
    s:close()
    assert.equal(403, post(b, update({ "https://a.example/books/1" }, "x"), some).status) -- subscribe is not publish
  end)
end)

describe("protocol 0.x", function()
  local broker = tidegate.shared { policy_file = POLICY, config = config { anonymous = true, params_bytes = 8192 } }
  local all = old({ "*" }, { "*" })

  it("gives an update of several topics once, to all who ask for one of them", function()
    local b, x, y, z = broker(), name "x", "https://a.example/" .. name "y", name "z"
    local clients = {}
    for i, list in ipairs { { x }, { y }, { "https://a.example/{id}" }, { x, y }, { "*" }, { z,
      "https://a.example/{id}", x } } do
      list[#list + 1] = z
      clients[i] = open(b, topics(list))
    end
    local id = post(b, update({ x, y }, "both"), all).body
    assert.equal(200, post(b, update({ z }, "marker"), all).status)
    for i, s in ipairs(clients) do
      local first, second = s:next(), s:next()
      assert.same({ i, id, "both", "marker" }, { i, first.id, first.data, second.data })
      s:close()
    end
  end)

  it("keeps private updates from those whose token names none of their topics", function()
    local b, marker = broker(), name "marker"
    local book, user = "https://a.example/books/" .. name "b",
      "https://a.example/users/foo/?topic=https%3A%2F%2Fa.example%2Fbooks"
    local query = topics { "https://a.example/books/{id}", marker }
    local function got(auth)
      return open(b, query, { headers = auth and bearer(auth) or nil })
    end
    local clients = {
      [got(old { "https://a.example/users/foo/{?topic}" })] = { "private", "public" },
      [got(old { book })] = { "private", "public", "single" },
      [got(old { "*" })] = { "private", "public", "single" },
      [got(old { "https://a.example/books/{id}" })] = { "private", "public", "single" },
      [got(old { "https://a.example/users/bar/{?topic}" })] = { "public" },
      [got(old {})] = { "public" },
      [got(old(nil, { "*" }))] = { "public" },
      [got(token { mercure = "x" })] = { "public" },
      [got(token {})] = { "public" },
      [got()] = { "public" },
    }
    post(b, update({ book, user }, "private", { { "private", "on" } }), all)
    post(b, update({ book }, "public"), all)
    post(b, update({ book }, "single", { { "private", "0" } }), all)
    post(b, update({ marker }, "marker"), all)
    for s, expected in pairs(clients) do
      local list = {}
      for ev in function() return s:next() end do
        if ev.data == "marker" then break end
        list[#list + 1] = ev.data
      end
      assert.same(expected, list)
      s:close()
    end
  end)

  it("replays what was missed, by the rules of now", function()
    local b, topic, marker = broker(), name "t", name "marker"
    local first = post(b, update({ topic }, "1"), all).body
    for i, private in ipairs { false, true, false } do
      post(b, update({ topic }, tostring(i + 1), private and { { "private", "on" } } or nil), all)
    end
    post(b, update({ marker }, "marker"), all)
    local function read(options, more)
      local query = topics { topic, marker }
      query[#query + 1] = more
      local s, list = open(b, query, options), {}
      for ev in function() return s:next() end do
        if ev.data == "marker" then break end
        list[#list + 1] = ev.data
      end
      local field = s.headers["last-event-id"]
      s:close()
      return list, field
    end
    assert.same({ "2", "4" }, (read { last_event_id = first }))
    assert.equal(first, select(2, read { last_event_id = first }))
    for _, spelling in ipairs { "lastEventID", "last_event_id", "Last-Event-ID" } do
      assert.same({ "2", "4" }, (read({}, { spelling, first })), spelling)
    end
    assert.same({ "2", "3", "4" }, (read { last_event_id = first, headers = bearer(old { topic }) }))
    assert.same({ "1", "2", "4" }, (read({}, { "lastEventID", "earliest" })))
    assert.same({ "2", "4" }, (read { last_event_id = first, headers = bearer(old { "other" }) }))
  end)

  it("takes the type of an update, and data that is empty or has several lines", function()
    local b, topic = broker(), name "t"
    local s = open(b, topics { topic })
    post(b, update({ topic }, "a\nb\r\nc", { { "type", "greeting" }, { "retry", "500" }, { "id", "urn:uuid:1" } }), all)
    post(b, { { "topic", topic } }, all)
    local ev = s:next()
    assert.same({ "greeting", "a\nb\nc" }, { ev.type, ev.data })
    assert.equal("", s:next().data)
    s:close()
  end)

  it("refuses what is no update", function()
    local b = broker()
    local function status(fields, auth)
      return post(b, fields, auth or all).status
    end
    assert.equal(400, status { { "data", "x" } })
    assert.equal(400, status(update({ "" }, "x")))
    assert.equal(400, status(update({ "a\1" }, "x")))
    assert.equal(400, status(update({ "a\xc2\x85" }, "x")))
    assert.equal(400, status(update({ ("a"):rep(1025) }, "x")))
    assert.equal(400, status(update({ "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11" }, "x")))
    assert.equal(400, status(update({ "a" }, "x", { { "id", "#1" } })))
    assert.equal(400, status(update({ "a" }, "x", { { "id", "a\nb" } })))
    assert.equal(400, status(update({ "a" }, "x", { { "type", "a\nb" } })))
    assert.equal(400, status(update({ "a" }, "x", { { "retry", "-1" } })))
    assert.equal(413, status(update({ ("a"):rep(1024), ("b"):rep(1024), ("c"):rep(1024), ("d"):rep(1024) }, "x")))
    assert.equal(415, http.post(b, HUB, "{}", { Authorization = "Bearer " .. all,
      ["Content-Type"] = "application/json" }).status)
    assert.equal(404, http.post(b, "/events?topic=mercure/public/a", "x", bearer(all)).status)
    for _, text in ipairs { "x=1", "topic=", "topic=" .. ("a"):rep(1025), "topic=a%0A" } do
      assert.equal(400, http.get(b, HUB .. "?" .. text).status, text)
    end
    local long = "a" .. ("é"):rep(500)
    assert.equal(403, status(update({ long }, "x"), old(nil, { "x" })))
    assert.equal(200, status(update({ "a" }, "x", { { "type", ("é"):rep(127) } })))
    assert.equal(400, status(update({ "a" }, "x", { { "type", ("é"):rep(128) } })))
  end)

  it("lets publish those whose token names each of the topics", function()
    local b = broker()
    local some = old({ "*" }, { "https://a.example/{id}", "x" })
    assert.equal(200, post(b, update({ "https://a.example/1", "x" }, "d"), some).status)
    assert.equal(403, post(b, update({ "https://a.example/1", "y" }, "d"), some).status)
    assert.equal(403, post(b, update({ "https://a.example/1/2" }, "d"), some).status)
    for _, auth in ipairs { old({ "*" }, {}), old { "*" }, token { mercure = { publish = "*" } }, token {} } do
      assert.equal(403, post(b, update({ "x" }, "d"), auth).status)
    end
    assert.equal(401, post(b, update({ "x" }, "d")).status)
    assert.equal(401, post(b, update({ "x" }, "d"), "x.y.z").status)
  end)

  it("lets nobody make each update dear: forty expressions are what a stream may ask for", function()
    local list = {}
    for i = 1, 20 do
      list[i] = ("/%d/{a}{b}"):format(i)
    end
    open(broker(), topics(list)):close()
    list[21] = "{c}"
    assert.equal(400, http.get(broker(), ask(topics(list))).status)
  end)

  it("takes a credential that is no token of its own for a bad one, not for none", function()
    for _, auth in ipairs { "Basic YTpi", "Bearer x.y.z", "Bearer", "" } do
      local s = sse.request(broker(), { path = ask(topics { "a" }), headers = { Authorization = auth } })
      assert.equal(401, s.status, auth)
      s:close()
    end
  end)

  it("has topics of any length and spelling, which do not get mixed up", function()
    local b = broker()
    local long = "https://a.example/" .. ("%2F"):rep(300)
    local list = { long .. "1", long .. "2", "a/b", "a%2Fb", "~x", "/", "..", "ü", " " }
    for _, topic in ipairs(list) do
      local s = open(b, topics { topic })
      for _, other in ipairs(list) do
        assert.equal(200, post(b, update({ other }, other), all).status)
      end
      assert.equal(topic, s:next().data)
      post(b, update({ topic }, "end"), all)
      assert.equal("end", s:next().data)
      s:close()
    end
  end)
end)

describe("a token of protocol 0.x", function()
  local broker = tidegate.shared { policy_file = POLICY, config = config { publisher_keys = "publishers" } }
  local subscriber = old { "*" }

  local function status(headers, query)
    local s = sse.request(broker(), { path = ask(query or { { "topic", "a" } }), headers = headers })
    s:close()
    return s.status
  end

  it("is in the Authorization field, else in the query, else in a cookie; the others are not looked at then", function()
    local bad = "x.y.z"
    assert.equal(401, status {})
    assert.equal(200, status { Authorization = "Bearer " .. subscriber, Cookie = "mercureAuthorization=" .. bad })
    assert.equal(200, status { Cookie = "mercureAuthorization=" .. subscriber })
    assert.equal(200, status({ Cookie = "mercureAuthorization=" .. bad }, { { "topic", "a" }, { "authorization",
      subscriber } }))
    assert.equal(401, status({ Cookie = "mercureAuthorization=" .. subscriber }, { { "topic", "a" }, { "authorization",
      bad } }))
    assert.equal(401, status { Authorization = "Bearer " .. bad, Cookie = "mercureAuthorization=" .. subscriber })
    assert.equal(401, status { Authorization = "Basic YTpi", Cookie = "mercureAuthorization=" .. subscriber })
    assert.equal(401, status { Cookie = "other=" .. subscriber })
  end)

  it("is verified with the key of its role, and ends the stream with its expiry", function()
    local b = broker()
    local publisher = token({ mercure = { publish = { "*" } } }, OTHER)
    assert.equal(200, post(b, update({ "a" }, "x"), publisher).status)
    assert.equal(401, post(b, update({ "a" }, "x"), old(nil, { "*" })).status)
    assert.equal(401, status { Authorization = "Bearer " .. publisher })
    assert.equal(401, status { Authorization = "Bearer " .. tokens.sign("HS256", KEY,
      { mercure = { subscribe = { "*" } } }) })
    local none = tokens.b64 '{"alg":"none"}' .. "." .. tokens.b64 '{"mercure":{"subscribe":["*"]},"exp":9999999999}'
      .. "."
    assert.equal(401, status { Authorization = "Bearer " .. none })
    assert.equal(401, status { Authorization = "Bearer " .. tokens.sign("HS512", KEY, { mercure = {},
      exp = os.time() + 60 }) })
    local s = open(b, topics { "a" }, { headers = bearer(token { mercure = { subscribe = { "*" } },
      exp = os.time() + 4 }) })
    s:wait("the end of the stream", function() return s.ended end, 30)
  end)

  it("lets pages of http.cors_origins in, with their cookies, and no others", function()
    local b = broker()
    local s = open(b, topics { "a" }, { headers = { Origin = APP, Cookie = "mercureAuthorization=" .. subscriber } })
    assert.equal(APP, s.headers["access-control-allow-origin"])
    assert.equal("true", s.headers["access-control-allow-credentials"])
    s:close()
    local cookie = "mercureAuthorization=" .. token({ mercure = { publish = { "*" } } }, OTHER)
    assert.equal(200, post(b, update({ "a" }, "x"), nil, { Origin = APP, Cookie = cookie }).status)
    assert.equal(403, post(b, update({ "a" }, "x"), nil, { Origin = "https://evil.example", Cookie = cookie }).status)
  end)

  it("that grants more than is kept is refused, and so is who asks for more", function()
    local many = {}
    for i = 1, 60 do
      many[i] = ("https://a.example/a/rather/long/%d"):format(i)
    end
    assert.equal(403, status { Authorization = "Bearer " .. old(many) })
    assert.equal(400, status({ Authorization = "Bearer " .. subscriber }, topics(many)))
  end)
end)

describe("mercure.lua", function()
  it("takes more topics with more room, also more than a subscription of the broker may have", function()
    local b = tidegate.start { policy_file = POLICY, config = config { params_bytes = 8192, identity_bytes = 8192 } }
    local many = {}
    for i = 1, 90 do
      many[i] = ("https://a.example/a/rather/long/%d"):format(i)
    end
    local auth = old(many, { "*" })
    local s = open(b, topics(many), { headers = bearer(auth) })
    post(b, update({ "https://a.example/a/rather/long/91" }, "no"), auth)
    post(b, update({ many[90] }, "private", { { "private", "on" } }), auth)
    assert.equal("private", s:next().data)
  end)

  it("speaks both protocols at once, if it is to", function()
    local b = tidegate.start { policy_file = POLICY, config = config { protocol = "both", audience = { URL } } }
    local three = tokens.sign("HS256", KEY, { aud = URL, exp = os.time() + 60, mercure = { subscribe = { "{x}" },
      publish = { "*" } } })
    local s1 = open(b, { { "topic", "{x}" } }, { headers = bearer(three) })
    local s2 = open(b, { { "match", "a" } }, { headers = { Cookie = "__Secure-mercure_access_token="
      .. new(EVERYTHING) } })
    local s3 = open(b, { { "match", "{x}" }, { "topic", "b" } }, { headers = bearer(three) })
    post(b, update({ "a" }, "1", { { "private", "on" } }), new(EVERYTHING))
    post(b, update({ "b" }, "2"), three)
    post(b, update({ "{x}" }, "3"), three)
    assert.same({ "1", "2", "3" }, { s1:next().data, s1:next().data, s1:next().data })
    assert.equal("1", s2:next().data)
    assert.same({ "2", "3" }, { s3:next().data, s3:next().data })
  end)

  it("takes no token in the query where the broker would store it", function()
    local c = config { param = "jws" }
    local query = { { "topic", "a" }, { "jws", old { "*" } } }
    local s = sse.request(tidegate.start { policy_file = POLICY, config = c }, { path = ask(query) })
    assert.equal(400, s.status)
    c.policy.credential_params = { "jws" }
    assert.truthy(open(tidegate.start { policy_file = POLICY, config = c }, query))
  end)

  it("starts while the server of its keys is away, and tells clients to come back", function()
    local b = tidegate.start { policy_file = POLICY, unready = true, config = config({ alg = { "RS256" } },
      { keys = { main = { jwks_url = ("http://127.0.0.1:%d/keys"):format(child.free_port()) } } }) }
    local r = post(b, update({ "a" }, "x"), tokens.sign("RS256", tokens.key "RS256", { exp = os.time() + 60 }))
    assert.equal(503, r.status)
    assert.truthy(r.headers["retry-after"])
  end)

  it("does not start without keys, nor protocol 1.0 without its audience", function()
    local function refused(settings, more)
      local code, err = tidegate.start_refused { policy_file = POLICY, config = config(settings, more) }
      assert.not_equal(0, code)
      return err
    end
    assert.matches("unknown key set 'main'", refused({}, { keys = {} }))
    assert.matches("unknown key set 'gone'", refused { publisher_keys = "gone" })
    assert.matches("alg", refused { alg = { "none" } })
    assert.matches("protocol 1.0 wants the URL of the hub", refused { protocol = "1.0" })
  end)
end)
