-- tidegate test scripts/policies/spec
local t = require "tidegate.test"

local NOW = 1700000000

-- claims.lua with these settings, beside what it cannot do without.
local function open(settings)
  settings = settings or {}
  settings.alg = settings.alg or { "HS256" }
  return t.policy("../claims.lua", { now = NOW, keys = { main = t.key "HS256" }, settings = settings })
end

local function connect(p, claims, ...)
  return p:connect { bearer = p:token(claims), topics = { ... } }
end

local function post(p, claims, topic)
  return p:post { bearer = p:token(claims), topic = topic, data = 1 }
end

describe("claims", function()
  it("list what may be read", function()
    local p = open()
    local ann = { sub = "ann", read = { "news/**", "users/ann/*", "status" } }
    assert.same({ "news/**", "status", "users/ann/*" }, connect(p, ann).subscription.topics)
    for _, topic in ipairs {
      "news/eu", "news/eu/berlin", "news/*", "news/**", "users/ann/mail", "users/ann/*", "status",
    } do
      assert.same({ topic }, connect(p, ann, topic).subscription.topics)
    end
    for _, topic in ipairs {
      "news", "newsx/a", "users/ann", "users/ann/a/b", "users/ann/**", "users/*/mail", "users/bob/mail", "*", "**",
      "status/x", "statu",
    } do
      assert.denied(403, connect(p, ann, topic))
      assert.denied(403, connect(p, ann, "status", topic)) -- all or nothing
    end
    assert.denied(400, connect(p, ann, "news//a"))
    assert.denied(403, connect(p, { sub = "bob" }))
    assert.denied(403, connect(p, { sub = "bob", read = {} }, "news/a"))
    assert.faultless(p)
  end)

  it("deliver that and nothing else", function()
    local p = open()
    local c = connect(p, { read = { "users/ann/*" } })
    p:publish { topic = "users/ann/mail", data = 1 }
    p:publish { topic = "users/bob/mail", data = 2 }
    assert.same({ 1 }, c:data())
  end)

  it("list what may be written", function()
    local p = open()
    local shop = { write = { "orders/*" }, read = { "**" } }
    assert.granted(post(p, shop, "orders/1"))
    assert.denied(403, post(p, shop, "orders/1/x"))
    assert.denied(403, post(p, shop, "news/1"))
    assert.denied(403, post(p, { read = { "**" } }, "orders/1"))
    assert.granted(post(p, { write = { "**" } }, "any/thing"))
    assert.faultless(p)
  end)

  it("grant nothing that is no pattern, whatever else stands in their place", function()
    local p = open()
    for _, read in ipairs { "news", 5, true, { 5, "a//b", "a/**/b", "", "x*", { "a" } }, { a = "**" }, { "\1" } } do
      assert.denied(403, connect(p, { read = read }))
      assert.denied(403, connect(p, { read = read }, "news"))
    end
    assert.same({ "a" }, connect(p, { read = { "b//", "a" } }).subscription.topics)
    assert.faultless(p)
  end)

  it("cannot be those of a beginning where a channel or a topic is meant", function()
    local beginning = { "\1", "\1user:" }
    for shape, claims in pairs {
      tidegate = { read = beginning, write = beginning },
      mercure = { mercure = { subscribe = beginning, publish = beginning } },
      centrifugo = { channels = beginning, caps = { { channels = beginning, allow = { "sub", "pub" } } } },
    } do
      local p = open { shape = shape }
      for _, topic in ipairs { "secret", "user:ann" } do
        assert.denied(403, connect(p, claims, topic))
        assert.denied(403, post(p, claims, topic))
      end
      assert.faultless(p)
    end
  end)

  it("have the names that the settings say", function()
    local p = open { read_claim = "app.may.read", write_claim = "https://example/write" }
    assert.granted(connect(p, { app = { may = { read = { "a" } } } }, "a"))
    for _, claims in ipairs { { read = { "a" } }, { app = "x" }, { app = { may = { "a" } } } } do
      assert.denied(403, connect(p, claims, "a"))
    end
    assert.faultless(p)
  end)

  it("count with a good token only", function()
    local p = open { issuer = "https://id.example", audience = { "tidegate", "other" } }
    local good = { iss = "https://id.example", aud = "tidegate", read = { "a" } }
    assert.granted(connect(p, good))
    assert.denied(401, p:connect {})
    assert.denied(401, p:connect { bearer = "nonsense" })
    for _, claims in ipairs {
      { iss = "https://evil.example", aud = "tidegate" }, { iss = good.iss, aud = "billing" }, { aud = "tidegate" },
      { iss = good.iss, aud = "tidegate", exp = NOW - 1 }, { iss = good.iss, aud = "tidegate", exp = false },
    } do
      claims.read = { "a" }
      assert.denied(401, connect(p, claims))
    end
    assert.denied(401, p:connect { bearer = p:token(good, { key = t.key("HS256", "stranger") }) })
    local lasting = open { need_expiry = false }
    assert.granted(connect(lasting, { read = { "a" }, exp = false }))
    assert.denied(401, connect(lasting, { read = { "a" }, exp = NOW - 1 }))
  end)

  it("come in a header, a cookie or the query, and end the stream with the token", function()
    local p = open { cookie = "session", param = "auth" }
    local token = p:token { read = { "a" }, exp = NOW + 60 }
    assert.granted(p:connect { cookies = { session = token } })
    assert.granted(p:connect { query = { auth = token } })
    assert.denied(401, p:connect { cookies = { access_token = token } })
    local c = p:connect { bearer = token }
    p:at(NOW + 60)
    assert.is_true(c:closed())
  end)

  it("are not needed for what everybody may read", function()
    local p = open { anonymous = { "news/**" } }
    assert.granted(p:connect { topics = { "news/eu" } })
    assert.denied(403, p:connect { topics = { "users/ann" } })
    assert.denied(403, p:post { topic = "news/eu", data = 1 })
    assert.denied(401, p:connect { topics = { "news/eu" }, bearer = "nonsense" })
    local opened, err = pcall(function() open { anonymous = { "news/**", "news/*x" } } end)
    assert.is_false(opened)
    assert.matches("policy.settings.anonymous[2]: a topic like news/eu", tostring(err), 1, true)
  end)

  it("may be many, but not more than an identity holds", function()
    local p = open()
    local read = {}
    for i = 1, 100 do
      read[i] = ("topic/%04d"):format(i)
    end
    assert.equal(100, #connect(p, { read = read }).subscription.topics)
    for i = 101, 200 do
      read[i] = ("topic/%04d"):format(i)
    end
    assert.denied(403, connect(p, { read = read }))
    assert.faultless(p)
  end)
end)

describe("claims like Mercure's", function()
  local p = open { shape = "mercure", cookie = "mercureAuthorization" }

  it("hold topics, templates and a star", function()
    local ann = { mercure = { subscribe = { "books/{id}", "users/ann" }, publish = { "*" } } }
    assert.same({ "books/*", "users/ann" }, connect(p, ann).subscription.topics)
    assert.granted(connect(p, ann, "books/1"))
    assert.denied(403, connect(p, ann, "books/1/reviews"))
    assert.granted(post(p, ann, "anything/at/all"))
    local all = { mercure = { subscribe = { "*" } } }
    assert.granted(connect(p, all, "**"))
    assert.denied(403, post(p, all, "books/1"))
    assert.granted(p:connect { cookies = { mercureAuthorization = p:token(all) } })
  end)

  it("grant nothing that has no pattern of ours", function()
    for _, topic in ipairs { "https://example.com/books/1", "books/{id}.json", "books/*", "{?a}/x{y}", "/books" } do
      assert.denied(403, connect(p, { mercure = { subscribe = { topic } } }))
    end
    assert.denied(403, connect(p, { mercure = "x" }))
    assert.denied(403, connect(p, { read = { "**" } }))
    assert.faultless(p)
  end)
end)

describe("claims like Centrifugo's", function()
  local p = open { shape = "centrifugo" }

  it("hold channels, and capabilities", function()
    local ann = { sub = "ann", channels = { "news" }, caps = {
      { channels = { "user:ann", "chat" }, allow = { "sub", "pub", "prs" } },
      { channels = { "log:*" }, match = "wildcard", allow = { "sub" } },
      { channels = { "orders" }, allow = { "pub" } },
    } }
    assert.same({ "chat", "news", "user:ann" }, connect(p, ann).subscription.topics)
    for _, topic in ipairs { "news", "user:ann", "log:a", "log:a/b" } do
      assert.granted(connect(p, ann, topic))
    end
    for _, topic in ipairs { "orders", "log:", "log:*", "log", "user:bob", "**" } do
      assert.is_not.equal("granted", connect(p, ann, topic).kind)
    end
    assert.granted(post(p, ann, "chat"))
    assert.granted(post(p, ann, "orders"))
    assert.denied(403, post(p, ann, "news"))
    assert.denied(403, post(p, ann, "log:a"))
    assert.granted(connect(p, { caps = { { channels = { "*" }, match = "wildcard", allow = { "sub" } } } }, "**"))
  end)

  it("grant nothing that is not understood", function()
    for _, cap in ipairs {
      { channels = { "a" }, match = "regex", allow = { "sub" } },
      { channels = { "a*b" }, match = "wildcard", allow = { "sub" } },
      { channels = { "a*" }, allow = { "sub" } }, { channels = { "a" } }, { channels = { "a" }, allow = "sub" },
      { channels = "a", allow = { "sub" } }, "x",
    } do
      assert.denied(403, connect(p, { caps = { cap } }, "a"))
      assert.denied(403, connect(p, { caps = { cap } }))
    end
    assert.denied(403, connect(p, { caps = "x", channels = "y" }))
    assert.faultless(p)
  end)
end)
