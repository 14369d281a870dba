local policies = require "support.policies"

describe("policies/geo.lua", function()
  local p

  before_each(function()
    p = policies.shipped "geo"
  end)

  after_each(function()
    p:close()
  end)

  local function ask(query, headers)
    return p:subscribe(policies.request { query = query, headers = headers })
  end

  it("puts neighbours into one audience", function()
    local a = ask({ lat = "52.5200", lon = "13.4050" }, { ["Accept-Language"] = "DE-de,de;q=0.9" })
    local b = ask({ lat = "52.5100", lon = "13.3900" }, { ["Accept-Language"] = "de" })
    assert.equal('{"cell":"u33d","lang":"de","min":1}', a.subscription.params)
    assert.same(a.subscription, b.subscription)
  end)

  it("refuses what is no place", function()
    for _, query in ipairs { {}, { lat = "52" }, { lat = "x", lon = "1" }, { lat = "91", lon = "1" },
      { lat = "1", lon = "181" }, { lat = "nan", lon = "1" }, { lat = "-inf", lon = "1" } } do
      assert.same({ "deny", 400 }, { ask(query).kind, ask(query).status })
    end
  end)

  it("bounds the severity asked for", function()
    for given, used in pairs { ["0"] = 1, ["9"] = 5, ["3"] = 3, ["2.5"] = 1, x = 1, ["-99999999999999999999"] = 1 } do
      local v = ask { lat = "52.52", lon = "13.40", min = given }
      assert.matches('"min":' .. used .. "}", v.subscription.params, 1, true)
    end
  end)

  it("delivers alerts of the cell, the severity and the language", function()
    local v = ask({ lat = "52.52", lon = "13.40", min = "2" }, { ["Accept-Language"] = "de" })
    local function delivered(attrs)
      local out = policies.deliver(p, v, { policies.event { topic = "alert/x", data = "!", attrs = attrs, id = 1 } })
      return out[1] and true
    end
    assert.is_true(delivered '{"cell":"u33dc1","severity":2}')
    assert.is_true(delivered '{"cell":"u33d","lang":"de","severity":5}')
    for _, attrs in ipairs {
      '{"cell":"u33dc1","severity":1}', '{"cell":"u33e","severity":5}', '{"cell":"u3","severity":5}',
      '{"cell":"u33dc1","lang":"en","severity":5}', '{"cell":5,"severity":5}', '{"cell":"u33dc1","severity":"5"}',
      '{"severity":5}' } do
      assert.is_false(delivered(attrs), attrs)
    end
    assert.is_false(delivered(nil))
    assert.equal(0, p:metrics().policy_errors_filter)
  end)

  it("accepts no publishes", function()
    assert.equal(403, (p:publish(policies.request(), { { topic = "alert/x", data = "" } })).status)
  end)
end)
