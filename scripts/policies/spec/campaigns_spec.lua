-- tidegate test scripts/policies/spec
local t = require "tidegate.test"

local NOW = 1700000000

describe("campaigns", function()
  local p, rows, asked

  before_each(function()
    asked = 0
    rows = {
      { name = "autumn", begins = NOW - 100, ends = NOW + 10 }, { name = "winter", begins = NOW + 10, ends = NOW + 20 },
    }
    p = t.policy("../campaigns.lua", {
      now = NOW, settings = { backend = "of-the-backend" },
      db = { coming = function() asked = asked + 1 return rows end },
    })
  end)

  after_each(function()
    assert.faultless(p)
    p:close()
  end)

  local function offer(campaign, data)
    return p:post { topic = "campaign/" .. campaign, data = data, bearer = "of-the-backend" }
  end

  it("begin and end at the second, for streams that stay open", function()
    local c = p:connect {}
    assert.same({ "campaign/autumn", "shop/news" }, c.subscription.topics)
    assert.equal(NOW + 10, c.subscription.expires)
    assert.granted(offer("autumn", 1))
    p:at(NOW + 9)
    assert.granted(offer("autumn", 2))
    p:at(NOW + 10)
    assert.same({ "campaign/winter", "shop/news" }, c.subscription.topics)
    assert.denied(409, offer("autumn", 3))
    assert.granted(offer("winter", 4))
    p:at(NOW + 20)
    assert.same({ "shop/news" }, c.subscription.topics)
    assert.granted(p:post { topic = "shop/news", data = 5, bearer = "of-the-backend" })
    assert.same({ 1, 2, 4, 5 }, c:data())
    assert.is_false(c:closed())
    assert.equal(1, asked) -- one look-up for all of it
  end)

  it("leave nothing to those who come back after the end", function()
    local first = p:connect {}
    assert.granted(offer("autumn", 1))
    local seen = first:ids()[1]
    first:disconnect()
    p:at(NOW + 15)
    assert.same({}, p:connect({ last_event_id = tostring(seen - 1) }):data())
  end)

  it("leave no offer behind where they are held again", function()
    local first = p:connect {}
    assert.granted(offer("autumn", 1))
    assert.granted(p:post { topic = "campaign/autumn", data = 2, ttl = 5, bearer = "of-the-backend" })
    assert.granted(p:post { topic = "campaign/autumn", data = 3, ttl = 500, bearer = "of-the-backend" })
    local before = tostring(first:ids()[1] - 1)
    first:disconnect()
    p:at(NOW + 5)
    assert.same({ 1, 3 }, p:connect({ last_event_id = before }):data())
    rows = { { name = "autumn", begins = NOW + 10, ends = NOW + 100 } }
    p:publish { topic = "campaigns/changed", data = "" }
    p:at(NOW + 10)
    local again = p:connect { last_event_id = before }
    assert.granted(offer("autumn", 4))
    assert.same({ 4 }, again:data())
  end)

  it("change when the application says so", function()
    local c = p:connect {}
    rows = { { name = "flash", begins = NOW, ends = NOW + 5 } }
    p:publish { topic = "campaigns/changed", data = "" }
    assert.granted(offer("flash", 1))
    assert.same({ 1 }, c:data())
    p:at(NOW + 5)
    assert.same({ "shop/news" }, c.subscription.topics)
  end)

  it("are the backend's alone, and wait for the database", function()
    assert.denied(403, p:post { topic = "campaign/autumn", data = 1 })
    assert.denied(401, p:connect { bearer = "guessed" })
    p:close()
    p = t.policy("../campaigns.lua", { now = NOW, settings = { backend = "of-the-backend" }, db = t.down })
    assert.equal("transient", p:connect({}).kind)
    assert.equal("transient", offer("autumn", 1).kind)
  end)
end)
