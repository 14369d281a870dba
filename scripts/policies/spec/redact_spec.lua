-- tidegate test scripts/policies/spec
local t = require "tidegate.test"

describe("orders", function()
  local NOW = 1700000000
  local p
  local ORDER = '{"id":7,"status":"paid","region":"eu","total":10,"customer":{"name":"Ann","ssn":"123-45"}}'

  before_each(function()
    p = t.policy("../redact.lua", { now = NOW, keys = { main = t.key "ES256" } })
  end)

  local function token(role, more, options)
    local claims = { iss = "https://id.example", aud = "tidegate", sub = "ann", role = role }
    for name, value in pairs(more or {}) do
      claims[name] = value
    end
    return p:token(claims, options)
  end

  local function connect(...)
    return p:connect { bearer = token(...) }
  end

  -- What `c` gets of an order with that data: its text and its type; nil where it gets nothing.
  local function shown(c, data)
    local before = #c:events()
    p:publish { topic = "orders/7", data = data }
    local event = c:events()[before + 1]
    return event and event.data, event and event.type
  end

  it("shows each role what it may see", function()
    assert.equal(ORDER, (shown(connect "admin", ORDER)))
    assert.equal('{"id":7,"status":"paid","region":"eu","total":10,"customer":{"name":"Ann","ssn":"***"}}',
      (shown(connect "support", ORDER)))
    assert.same({ '{"id":7,"status":"paid"}', "order" }, { shown(connect "viewer", ORDER) })
    assert.equal('{"id":7,"region":"eu","status":"paid"}', (shown(connect("viewer", { region = true }), ORDER)))
    assert.faultless(p)
  end)

  it("never shows one role what another may see", function()
    local admin, support, viewer = connect "admin", connect "support", connect "viewer"
    p:publish { topic = "orders/7", data = ORDER }
    assert.truthy(admin:events()[1].data:find("123-45", 1, true))
    for _, c in ipairs { support, viewer } do
      assert.is_nil(c:events()[1].data:find("123-45", 1, true))
    end
    assert.are_not.equal(support.subscription.audience, viewer.subscription.audience)
  end)

  it("masks the number wherever it hides", function()
    assert.equal('{"customer":[{"ssn":"***"}],"customer":{"s\\u0073n":"***"}}',
      (shown(connect "support", '{"customer":[{"ssn":"1"}],"customer":{"s\\u0073n":{"x":2}}}')))
  end)

  it("delivers nothing rather than the whole text", function()
    local support, viewer = connect "support", connect "viewer"
    for _, data in ipairs { "not json", '{"customer":{"ssn":"1"}', "" } do
      assert.is_nil(shown(support, data), data)
    end
    for _, data in ipairs { "not json", "[]", '"text"', "null", '{"total":1,"total":2}', '{"n":1e999}' } do
      assert.is_nil(shown(viewer, data), data)
    end
    assert.is_true(p:errors().format > 0) -- counted, and in the log of a broker
  end)

  it("refuses strangers", function()
    assert.denied(401, p:connect())
    assert.denied(401, p:connect { bearer = "nonsense" })
    assert.denied(401, connect("admin", { iss = "https://evil.example" }))
    assert.denied(401, connect("admin", { aud = "billing" }))
    assert.denied(401, connect("admin", { exp = false }))
    assert.denied(401, connect("admin", nil, { key = t.key("ES256", "stranger") }))
    assert.denied(401, connect("admin", nil, { header = { alg = "none" } }))
    for _, role in ipairs { "root", "", 5, false } do
      local c = connect(role)
      assert.denied(403, c)
      assert.equal("unknown role", c.reason)
    end
    assert.denied(403, p:post { topic = "orders/7", data = {}, bearer = token "admin" })
    assert.faultless(p)
  end)

  it("ends a stream with its token", function()
    local c = p:connect { cookies = { access_token = token("admin", { exp = NOW + 60 }) } }
    assert.granted(c)
    p:at(NOW + 59)
    assert.is_false(c:closed())
    p:at(NOW + 60)
    assert.is_true(c:closed())
  end)
end)
