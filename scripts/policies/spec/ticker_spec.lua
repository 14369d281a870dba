-- tidegate test scripts/policies/spec
local t = require "tidegate.test"

describe("the ticker", function()
  local p = t.policy "../ticker.lua"

  local function price(symbol, value)
    p:publish { topic = "ticker/" .. symbol, attrs = { symbol = symbol }, data = { price = value } }
  end

  it("delivers the symbols that were asked for", function()
    local c = p:connect { query = { symbols = "ACME,INIT" } }
    assert.granted(c)
    price("ACME", 12)
    price("OTHER", 99)
    price("INIT", 7)
    assert.same({ { price = 12 }, { price = 7 } }, c:data())
  end)

  it("delivers everything to those who ask for nothing, the newest of each symbol first", function()
    local c = p:connect()
    assert.same({ { price = 12 }, { price = 99 }, { price = 7 } }, c:data())
    price("OTHER", 98)
    assert.same({ price = 98 }, c:data()[4])
  end)

  it("lets equal wishes share their work", function()
    local a, b = p:connect { query = { symbols = "A,B" } }, p:connect { query = { symbols = "B,A" } }
    assert.equal(a.subscription.audience, b.subscription.audience)
  end)

  it("refuses endless lists, and every publish", function()
    local many = {}
    for i = 1, 51 do
      many[i] = "S" .. i
    end
    assert.denied(400, p:connect { query = { symbols = table.concat(many, ",") } })
    assert.denied(403, p:post { topic = "ticker/ACME", data = { price = 1 } })
    assert.faultless(p)
  end)
end)
