local policies = require "support.policies"

describe("policies/redact.lua", function()
  local p
  local ORDER = '{"id":7,"status":"paid","region":"eu","total":10,"customer":{"name":"Ann","ssn":"123-45"}}'

  before_each(function()
    p = policies.shipped "redact"
  end)

  after_each(function()
    p:close()
  end)

  -- What the bearer of `token` receives of events with the given data.
  local function shown(token, ...)
    local events = {}
    for i, data in ipairs { ... } do events[i] = policies.event { topic = "orders/7", data = data, id = i } end
    local request = policies.request { headers = { Authorization = "Bearer " .. token } }
    return policies.deliver(p, p:subscribe(request), events)
  end

  it("shows each role what it may see", function()
    assert.same({ { data = ORDER, event = "" } }, shown("example-admin-token", ORDER))
    assert.same({ { event = "",
      data = '{"id":7,"status":"paid","region":"eu","total":10,"customer":{"name":"Ann","ssn":"***"}}' } },
      shown("example-support-token", ORDER))
    assert.same({ { data = '{"id":7,"region":"eu","status":"paid"}', event = "order" } },
      shown("example-viewer-token", ORDER))
  end)

  it("never falls back to the whole text", function()
    policies.capture(function()
      for i, out in ipairs(shown("example-support-token", "not json", '{"customer":{"ssn":"1"}', "")) do
        assert.is_false(out, i)
      end
      assert.same({ data = '{"customer":[{"ssn":"***"}],"customer":{"s\\u0073n":"***"}}', event = "" },
        shown("example-support-token", '{"customer":[{"ssn":"1"}],"customer":{"s\\u0073n":{"x":2}}}')[1])
      local hostile = { "not json", "[]", '"text"', "null", '{"total":1,"total":2}', '{"n":1e999}' }
      for i, out in ipairs(shown("example-viewer-token", table.unpack(hostile))) do
        assert.is_false(out, hostile[i])
      end
    end)
  end)

  it("does not let one audience's redaction reach another's", function()
    shown("example-support-token", ORDER)
    shown("example-viewer-token", ORDER)
    assert.same({ { data = ORDER, event = "" } }, shown("example-admin-token", ORDER))
  end)

  it("refuses strangers", function()
    for _, headers in ipairs { {}, { Authorization = "Bearer nonsense" }, { Authorization = "Basic eA==" } } do
      local v = p:subscribe(policies.request { headers = headers })
      assert.same({ "deny", 401 }, { v.kind, v.status })
    end
  end)
end)
