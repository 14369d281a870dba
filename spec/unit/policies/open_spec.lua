local policies = require "support.policies"

describe("policies/open.lua", function()
  local p

  before_each(function()
    p = policies.shipped("open", { auth_open = true })
  end)

  after_each(function()
    p:close()
  end)

  it("needs auth = open", function()
    local none, err = policies.open { file = SPEC_SOURCE_DIR .. "/scripts/policies/open.lua" }
    assert.is_nil(none)
    assert.matches("authenticate: missing", err)
  end)

  it("grants what is asked for, or everything", function()
    local v = p:subscribe(policies.request { query = { { "topic", "b/*" }, { "topic", "a" } } })
    assert.same({ "allow", { "a", "b/*" } }, { v.kind, v.subscription.topics })
    assert.same({ "**" }, p:subscribe(policies.request()).subscription.topics)
  end)

  it("tells a client that asks for what is no topic, and too much", function()
    for _, topic in ipairs { "", "a//b", "**/a", "a/b*" } do
      local v = p:subscribe(policies.request { query = { topic = topic } })
      assert.same({ "deny", 400 }, { v.kind, v.status }, topic)
    end
    local many = {}
    for i = 1, 60 do many[i] = { "topic", "t" .. i } end
    assert.equal("allow", p:subscribe(policies.request { query = many }).kind)
  end)

  it("lets anybody publish anything", function()
    local v, out = p:publish(policies.request(), { { topic = "a", data = "x", key = "k" } })
    assert.equal("allow", v.kind)
    assert.same({ { topic = "a", data = "x", key = "k", type = "message", time_ms = 0 } }, out)
  end)
end)
