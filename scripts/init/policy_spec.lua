-- Run it with: tidegate test .
local t = require "tidegate.test"

describe("the policy", function()
  local p = t.policy("policy.lua", { keys = { main = t.key "HS256" } })
  local ann, shop

  before_each(function()
    ann, shop = p:token { sub = "ann" }, p:token { sub = "shop", writer = true }
  end)

  it("shows everybody the news, and what is addressed to them", function()
    local c = p:connect { bearer = ann }
    assert.granted(c)
    p:publish { topic = "news/today", data = { title = "hello" } }
    p:publish { topic = "users/ann/orders", data = { order = 1 } }
    p:publish { topic = "users/bob/orders", data = { order = 2 } }
    assert.same({ { title = "hello" }, { order = 1 } }, c:data())
    assert.faultless(p)
  end)

  it("denies topics of others, and says which there are", function()
    local c = p:connect { bearer = ann, topics = { "users/ann/orders" } }
    p:publish { topic = "news/today", data = 1 }
    p:publish { topic = "users/ann/orders", data = 2 }
    assert.same({ 2 }, c:data())
    for _, topic in ipairs { "users/bob/orders", "users/*/orders", "**", "news", "demo/hello" } do
      assert.denied(403, p:connect { bearer = ann, topics = { "news/*", topic } })
    end
    assert.denied(400, p:connect { bearer = ann, topics = { "news//a" } })
    assert.faultless(p)
  end)

  it("admits nobody without a good token", function()
    assert.denied(401, p:connect {})
    assert.denied(401, p:connect { bearer = p:token({ sub = "ann" }, { key = t.key("HS256", "a stranger's") }) })
    assert.denied(403, p:connect { bearer = p:token { sub = "*" } })
  end)

  it("lets writers publish, and nobody else", function()
    assert.denied(403, p:post { topic = "news/today", data = 1, bearer = ann })
    assert.granted(p:post { topic = "news/today", data = 1, bearer = shop })
  end)
end)
