-- tidegate test scripts/policies/spec
local t = require "tidegate.test"

local NOW = 1700000000

describe("a user of one of many tenants", function()
  local p

  before_each(function()
    p = t.policy("../saas.lua", {
      now = NOW, keys = { main = t.key "ES256" }, settings = { issuer = "https://id.example" },
    })
  end)

  after_each(function()
    assert.faultless(p)
    p:close()
  end)

  local function token(sub, claims)
    local all = { iss = "https://id.example", aud = "tidegate", sub = sub, tenant = "acme", role = "editor" }
    for name, value in pairs(claims or {}) do
      all[name] = value
    end
    return p:token(all)
  end

  local function connect(sub, claims, topics)
    return p:connect { topics = topics, bearer = token(sub, claims) }
  end

  local function post(sub, claims, more)
    local options = { topic = "tenant/acme/orders", data = { n = 1 }, bearer = token(sub, claims) }
    for name, value in pairs(more or {}) do
      options[name] = value
    end
    return p:post(options)
  end

  it("needs a token that names user and tenant", function()
    assert.denied(401, p:connect {})
    assert.denied(401, p:connect { bearer = p:token({ sub = "ann" }, { key = t.key("ES256", "a stranger's") }) })
    assert.denied(403, connect("ann", { tenant = "*" }))
    assert.denied(403, connect("ann", { tenant = "acme/eu" }))
    assert.denied(403, connect(("x"):rep(200)))
  end)

  it("sees the own tenant, and nothing of others", function()
    local ann, eve = connect("ann", nil, { "orders/*" }), connect("ann", { tenant = "umbrella" })
    assert.same({ "tenant/acme/orders/*" }, ann.subscription.topics)
    p:publish { topic = "tenant/acme/orders/1", data = 1 }
    p:publish { topic = "tenant/umbrella/x", data = 2 }
    assert.same({ 1 }, ann:data())
    assert.same({ 2 }, eve:data())
    assert.denied(400, connect("ann", nil, { "a**" }))
  end)

  it("has five streams: the sixth ends the first", function()
    local streams = {}
    for i = 1, 6 do
      streams[i] = connect "ann"
      assert.granted(streams[i])
    end
    assert.same({ { key = "4:acme:ann", max = 5, over = "oldest" } }, streams[6].subscription.quota)
    local last = streams[1]:events()
    assert.equal("revoked", last[#last].type)
    assert.equal("a newer stream took the place of this one: at most 5 may be open",
      t.json.decode(last[#last].data).reason)
    assert.is_true(streams[1]:closed())
    for i = 2, 6 do
      assert.is_false(streams[i]:closed())
    end
    assert.granted(connect "bob")
    assert.granted(connect("ann", { tenant = "umbrella" }))
    assert.is_false(streams[2]:closed())
  end)

  it("has as many as the settings say, and the next is denied where they say so", function()
    p:close()
    p = t.policy("../saas.lua", {
      now = NOW, keys = { main = t.key "ES256" },
      settings = { issuer = "https://id.example", streams = 2, over = "deny", publishes_per_s = 0.5 },
    })
    local first = connect "ann"
    assert.granted(connect "ann")
    local third = connect "ann"
    assert.denied(429, third)
    assert.equal("all 2 streams that may be open at a time are open: close one first", third.reason)
    assert.equal(5, third.retry_after)
    first:disconnect()
    assert.granted(connect "ann")
    assert.granted(post "ann")
    local denied = post "ann"
    assert.denied(429, denied)
    assert.equal(2, denied.retry_after)
  end)

  it("publishes ten times a second, and twenty times at once", function()
    for _ = 1, 20 do
      assert.granted(post "ann")
    end
    local denied = post "ann"
    assert.denied(429, denied)
    assert.equal(1, denied.retry_after)
    assert.granted(post "bob")
    p:at(NOW + 1)
    for _ = 1, 10 do
      assert.granted(post "ann")
    end
    assert.denied(429, post "ann")
  end)

  it("publishes to the own tenant, as an editor", function()
    assert.granted(post("ann", nil, { key = "k" }))
    assert.equal(200, post("bob", nil, { key = "k" }).status) -- a duplicate
    local elsewhere = token("ann", { tenant = "umbrella" })
    assert.granted(p:post { topic = "tenant/umbrella/x", data = 1, key = "k", bearer = elsewhere })
    assert.denied(403, post("ann", { role = "viewer" }))
    assert.denied(403, post("ann", { tenant = "umbrella" }))
    assert.denied(400, post("ann", nil, { key = ("k"):rep(255) }))
  end)

  it("is told to wait when it connects far too often", function()
    for _ = 1, 60 do
      connect("ann"):disconnect()
    end
    local denied = connect "ann"
    assert.denied(429, denied)
    assert.equal(1, denied.retry_after)
    p:at(NOW + 1)
    assert.granted(connect "ann")
  end)
end)
