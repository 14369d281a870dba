local policies = require "support.policies"
local tokens = require "support.tokens"

local KEY = tokens.key "EdDSA"
local EXP = os.time() + 600

-- Headers with a token of these claims; false takes one away that every good token has.
local function bearer(claims, key)
  local all = { sub = "ann", tenant = "acme", iss = "https://id.example", aud = "sse", exp = EXP }
  for name, value in pairs(claims) do
    all[name] = value or nil
  end
  return { Authorization = "Bearer " .. tokens.sign("EdDSA", key or KEY, all) }
end

describe("policies/tenant.lua", function()
  local p
  local jwks = os.tmpname()
  local file = assert(io.open(jwks, "w"))
  file:write(tokens.jwks(tokens.jwk(KEY)))
  file:close()

  before_each(function()
    p = policies.shipped("tenant", { keys = { main = { jwks_file = jwks } } })
  end)

  after_each(function()
    p:close()
  end)

  teardown(function()
    os.remove(jwks)
  end)

  local READER, WRITER = bearer {}, bearer { role = "writer" }

  local function subscribe(headers, ...)
    local query = {}
    for i, topic in ipairs { ... } do query[i] = { "topic", topic } end
    return p:subscribe(policies.request { headers = headers, query = query })
  end

  it("knows tenants by their token only", function()
    for i, headers in ipairs {
      {}, { ["X-Tenant"] = "acme" }, { Authorization = "Bearer x" }, { Cookie = "tidegate_token=x" },
      bearer({}, tokens.key("EdDSA", "other")), bearer { exp = os.time() - 60 }, bearer { exp = false },
      bearer { iss = "https://evil.example" }, bearer { aud = "billing" }, bearer { aud = false },
    } do
      local v = subscribe(headers)
      assert.same({ "deny", 401 }, { v.kind, v.status }, i)
    end
    for i, headers in ipairs {
      bearer { tenant = false }, bearer { tenant = "*" }, bearer { tenant = "a/b" }, bearer { tenant = 1 },
      bearer { tenant = "" }, bearer { sub = false }, bearer { sub = 1 },
    } do
      local v = subscribe(headers)
      assert.same({ "deny", 403 }, { v.kind, v.status }, i)
    end
    local identity = ('{"expires":%d,"role":"reader","sub":"ann","tenant":"acme"}'):format(EXP)
    assert.equal(identity, subscribe(READER).identity)
    assert.equal(identity, subscribe(bearer { role = "WRITER" }).identity)
    assert.equal(identity, subscribe({ Cookie = "tidegate_token=" .. READER.Authorization:sub(8) }).identity)
  end)

  it("ends the stream when the token does", function()
    assert.equal(EXP * 1000, subscribe(READER).expires_ms)
    assert.equal(EXP * 1000, subscribe(bearer { exp = EXP + 0.5 }).expires_ms)
  end)

  it("keeps every tenant below its own name", function()
    assert.same({ "tenant/acme/**" }, subscribe(READER).subscription.topics)
    assert.same({ "tenant/acme/a", "tenant/acme/orders/eu" }, subscribe(READER, "orders/eu", "a").subscription.topics)
    assert.equal(3600000, subscribe(READER).subscription.replay_max_age_ms)
    for _, topic in ipairs { "*", "**", "a/**", "../umbrella", "", "/", "a//b", "a/", "/a", "\0", ("x"):rep(250),
      ("a/"):rep(20) .. "a" } do
      local v = subscribe(READER, topic)
      if v.kind == "allow" then -- ".." is a segment like any other
        assert.same({ "tenant/acme/../umbrella" }, v.subscription.topics)
      else
        assert.same({ "deny", 400 }, { v.kind, v.status }, topic)
      end
    end
  end)

  it("lets writers write, below their own name", function()
    local function publish(headers, topic)
      local v = p:publish(policies.request { headers = headers }, { { topic = topic, data = "x" } })
      return v.kind .. " " .. v.status
    end
    assert.equal("allow 0", publish(WRITER, "tenant/acme/orders"))
    assert.equal("deny 403", publish(READER, "tenant/acme/orders"))
    assert.equal("deny 403", publish(WRITER, "tenant/umbrella/orders"))
    assert.equal("deny 403", publish(WRITER, "tenant/acmex"))
    assert.equal("deny 401", publish({}, "tenant/acme/orders"))
  end)

  it("keeps the keys of tenants apart", function()
    local function key(given)
      local v, events = p:publish(policies.request { headers = WRITER },
        { { topic = "tenant/acme/orders", data = "x", key = given } })
      return v.kind == "allow" and events[1].key or v.status
    end
    assert.equal("acme:order-1", key "order-1")
    assert.equal(400, key(("k"):rep(255)))
  end)
end)
