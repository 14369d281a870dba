local policies = require "support.policies"

describe("policies/tenant.lua", function()
  local p

  before_each(function()
    p = policies.shipped "tenant"
  end)

  after_each(function()
    p:close()
  end)

  local READER = { ["X-Tenant"] = "acme", ["X-Tenant-Secret"] = "example-acme-reader-secret" }
  local WRITER = { ["X-Tenant"] = "acme", ["X-Tenant-Secret"] = "example-acme-writer-secret" }

  local function subscribe(headers, ...)
    local query = {}
    for i, topic in ipairs { ... } do query[i] = { "topic", topic } end
    return p:subscribe(policies.request { headers = headers, query = query })
  end

  it("knows tenants by their secret only", function()
    for _, headers in ipairs {
      {}, { ["X-Tenant"] = "acme" }, { ["X-Tenant"] = "nobody", ["X-Tenant-Secret"] = "x" },
      { ["X-Tenant"] = "acme", ["X-Tenant-Secret"] = "" }, { ["X-Tenant-Secret"] = "example-acme-reader-secret" },
      { ["X-Tenant"] = "umbrella", ["X-Tenant-Secret"] = "example-acme-reader-secret" },
      { ["X-Tenant"] = "*", ["X-Tenant-Secret"] = "example-acme-reader-secret" },
    } do
      local v = subscribe(headers)
      assert.same({ "deny", 401 }, { v.kind, v.status })
    end
    local v = subscribe(READER)
    assert.equal('{"role":"reader","sub":"acme","tenant":"acme"}', v.identity)
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
