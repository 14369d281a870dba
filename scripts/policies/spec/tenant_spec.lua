-- tidegate test scripts/policies/spec
local t = require "tidegate.test"

local NOW = 1700000000

-- The table `entitlement` of the application's database.
local ENTITLEMENT = {
  { tenant = "acme", login = "ann", topic = "news", role = "reader" },
  { tenant = "acme", login = "ann", topic = "orders/**", role = "writer" },
  { tenant = "acme", login = "bob", topic = "news", role = "reader" },
  { tenant = "acme:orders", login = "eve", topic = "**", role = "writer" },
  { tenant = "umbrella", login = "ann", topic = "**", role = "writer" },
}

describe("tenants", function()
  local p, asked, away

  before_each(function()
    asked, away = 0, false
    p = t.policy("../tenant.lua", {
      now = NOW,
      keys = { main = t.key "HS256" },
      db = {
        entitled = function(tenant, login)
          asked = asked + 1
          if away then
            return nil, "the database is away"
          end
          local rows = t.json.array {}
          for _, row in ipairs(ENTITLEMENT) do
            if row.tenant == tenant and row.login == login then
              rows[#rows + 1] = { topic = row.topic, role = row.role }
            end
          end
          return rows
        end,
      },
    })
  end)

  local function token(sub, tenant, more, options)
    local claims = { iss = "https://id.example", aud = "tidegate", sub = sub, tenant = tenant }
    for name, value in pairs(more or {}) do
      claims[name] = value
    end
    return p:token(claims, options)
  end

  local function connect(sub, tenant, ...)
    return p:connect { bearer = token(sub, tenant), topics = { ... } }
  end

  it("wants a token of the right issuer, for us, signed with our key", function()
    assert.denied(401, p:connect { topics = { "news" } })
    assert.denied(401, p:connect { bearer = "nonsense" })
    for _, more in ipairs {
      { iss = "https://evil.example" }, { aud = "billing" }, { exp = NOW - 30 }, { exp = false },
    } do
      assert.denied(401, p:connect { bearer = token("ann", "acme", more) })
    end
    for _, options in ipairs {
      { key = t.key("HS256", "stranger") }, { alg = "HS512" }, { header = { alg = "none" } },
    } do
      assert.denied(401, p:connect { bearer = token("ann", "acme", nil, options) })
    end
    assert.equal(0, asked) -- strangers cost the database nothing
    assert.granted(connect("ann", "acme"))
    assert.granted(p:connect { cookies = { access_token = token("ann", "acme") } })
    assert.granted(p:connect { query = { access_token = token("ann", "acme") } })
    assert.faultless(p)
  end)

  it("takes issuer, audience and algorithms from the settings", function()
    local other = p:with {
      settings = { issuer = "https://other.example", audience = "events", alg = { "HS512" } },
      keys = { main = t.key "HS512" },
    }
    local claims = { iss = "https://other.example", aud = "events", sub = "ann", tenant = "acme" }
    assert.granted(other:connect { bearer = other:token(claims) })
    assert.denied(401, other:connect { bearer = other:token(claims, { alg = "HS256" }) })
    claims.iss = "https://id.example"
    assert.denied(401, other:connect { bearer = other:token(claims) })
    assert.denied(401, p:connect { bearer = p:token(claims) })
  end)

  it("wants a tenant that is one literal segment, and a user", function()
    for _, tenant in ipairs { "*", "**", "acme/x", "", 5, false } do
      assert.denied(403, connect("ann", tenant))
    end
    assert.denied(403, connect(7, "acme"))
    assert.denied(403, connect(("x"):rep(201), "acme"))
  end)

  it("lets read what the database says, below the own tenant", function()
    assert.same({ "tenant/acme/news", "tenant/acme/orders/**" }, connect("ann", "acme").subscription.topics)
    assert.same({ "tenant/acme/orders/eu" }, connect("ann", "acme", "orders/eu").subscription.topics)
    assert.granted(connect("ann", "acme", "orders/*", "news"))
    for _, topic in ipairs {
      "order", "orders", "**", "*", "news/x", "../umbrella/x", "tenant/umbrella/x",
    } do
      assert.denied(403, connect("ann", "acme", topic))
    end
    assert.denied(400, connect("ann", "acme", "orders//x"))
    assert.denied(403, connect("bob", "acme", "orders/eu"))
    assert.denied(403, connect("bob", "acme", "news", "orders/eu")) -- all or nothing
    assert.denied(403, connect("bob", "umbrella"))
    assert.faultless(p)
  end)

  it("delivers to each tenant what is its own", function()
    local acme, umbrella = connect("ann", "acme"), connect("ann", "umbrella")
    p:publish { topic = "tenant/acme/orders/eu", data = 1 }
    p:publish { topic = "tenant/umbrella/orders/eu", data = 2 }
    p:publish { topic = "tenant/acme/prices", data = 3 }
    assert.same({ 1 }, acme:data())
    assert.same({ 2 }, umbrella:data())
  end)

  it("lets writers write, where they may", function()
    local function post(sub, tenant, topic, key)
      return p:post { bearer = token(sub, tenant), topic = topic, data = "x", key = key }
    end
    assert.granted(post("ann", "acme", "tenant/acme/orders/eu"))
    assert.denied(403, post("ann", "acme", "tenant/acme/news")) -- a reader of it
    assert.denied(403, post("ann", "acme", "tenant/umbrella/orders/eu"))
    assert.denied(403, post("ann", "acme", "orders/eu"))
    assert.denied(403, post("bob", "acme", "tenant/acme/news"))
    assert.denied(401, p:post { topic = "tenant/acme/orders/eu", data = "x" })

    -- the same key twice is the same event, but not across tenants
    local first = post("ann", "acme", "tenant/acme/orders/eu", "order-1")
    assert.equal(first.id, post("ann", "acme", "tenant/acme/orders/eu", "order-1").id)
    assert.are_not.equal(first.id, post("ann", "umbrella", "tenant/umbrella/orders/eu", "order-1").id)
    -- the name of one tenant is the beginning of the other's
    local other = post("ann", "acme", "tenant/acme/orders/eu", "orders:1")
    assert.are_not.equal(other.id, post("eve", "acme:orders", "tenant/acme:orders/x", "1").id)
    assert.denied(400, post("ann", "acme", "tenant/acme/orders/eu", ("k"):rep(255)))
    assert.faultless(p)
  end)

  it("asks the database once for each user, until the answer is old", function()
    for _ = 1, 3 do
      assert.granted(connect("ann", "acme"))
    end
    assert.equal(1, asked)
    connect("bob", "acme")
    connect("ann", "umbrella")
    assert.equal(3, asked)
    p:at(NOW + 120)
    assert.granted(connect("ann", "acme"))
    assert.equal(4, asked)
    for _ = 1, 3 do
      assert.denied(403, connect("nobody", "acme")) -- that there is nothing is an answer, too
    end
    assert.equal(5, asked)
  end)

  it("goes on with what it knows while the database is away, and asks the others to come back", function()
    assert.granted(connect("ann", "acme"))
    assert.denied(403, connect("nobody", "acme"))
    away = true
    p:at(NOW + 300)
    assert.granted(connect("ann", "acme", "orders/eu"))
    assert.denied(403, connect("ann", "acme", "prices"))
    assert.transient(connect("bob", "acme")) -- never a denial: an EventSource would give up for good
    assert.transient(p:post { bearer = token("bob", "acme"), topic = "tenant/acme/news", data = "x" })
    p:at(NOW + 900)
    assert.transient(connect("ann", "acme"))
    away = false
    p:at(NOW + 910)
    assert.granted(connect("ann", "acme"))
    assert.faultless(p)
  end)

  it("ends a stream with its token", function()
    local c = p:connect { bearer = token("ann", "acme", { exp = NOW + 60 }) }
    p:at(NOW + 59)
    assert.is_false(c:closed())
    p:at(NOW + 60)
    assert.is_true(c:closed())
  end)
end)
