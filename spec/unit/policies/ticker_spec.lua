local policies = require "support.policies"

describe("policies/ticker.lua", function()
  local p

  before_each(function()
    p = policies.shipped "ticker"
  end)

  after_each(function()
    p:close()
  end)

  local function prices()
    return {
      policies.event { topic = "ticker/acme", data = "1", attrs = '{"symbol":"ACME"}', id = 1 },
      policies.event { topic = "ticker/init", data = "2", attrs = '{"symbol":"INIT"}', id = 2 },
      policies.event { topic = "ticker/odd", data = "3", id = 3 },
    }
  end

  it("gives all prices to whoever asks for nothing in particular", function()
    local v = p:subscribe(policies.request { ip = "192.0.2.9" })
    assert.equal('{"sub":"anon:192.0.2.9"}', v.identity)
    assert.same({ "ticker/*" }, v.subscription.topics)
    assert.equal("latest", v.subscription.start)
    assert.same({ { data = "1", event = "" }, { data = "2", event = "" }, { data = "3", event = "" } },
      policies.deliver(p, v, prices()))
  end)

  it("gives the symbols asked for, and nothing without one", function()
    local v = p:subscribe(policies.request { query = { symbols = "INIT,ZZZ" } })
    assert.same({ false, { data = "2", event = "" }, false }, policies.deliver(p, v, prices()))
  end)

  it("puts equal sets into one audience", function()
    local a = p:subscribe(policies.request { query = { symbols = "B,A,A" } })
    local b = p:subscribe(policies.request { query = { symbols = "A;B" } })
    assert.equal('{"symbols":["A","B"]}', a.subscription.params)
    assert.same(a.subscription, b.subscription)
  end)

  it("refuses too many symbols, and publishing", function()
    local symbols = {}
    for i = 1, 51 do symbols[i] = "S" .. i end
    local v = p:subscribe(policies.request { query = { symbols = table.concat(symbols, ",") } })
    assert.same({ "deny", 400, "at most 50 symbols" }, { v.kind, v.status, v.reason })
    v = p:publish(policies.request(), { { topic = "ticker/acme", data = "1" } })
    assert.same({ "deny", 403 }, { v.kind, v.status })
  end)

  it("gives the newest prices to a client that is slow", function()
    local s = p:subscribe(policies.request()).subscription
    assert.same({ 64, "latest" }, { s.max_lag, s.on_lag })
  end)
end)
