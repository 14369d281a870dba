-- tidegate test scripts/policies/spec
local t = require "tidegate.test"

describe("the open policy", function()
  local p = t.policy("../open.lua", { auth = "open" })

  it("is refused unless the configuration says auth = \"open\"", function()
    assert.error_matches(function() t.policy "../open.lua" end, "authenticate: missing")
  end)

  it("grants what is asked for", function()
    local c = p:connect { topics = { "b/*", "a" } }
    local all = p:connect { topics = { "**" } }
    assert.same({ "a", "b/*" }, c.subscription.topics) -- sorted: one audience, whatever the order
    assert.same({ "**" }, all.subscription.topics)
    assert.granted(p:post { topic = "b/1", data = { n = 1 } })
    assert.granted(p:post { topic = "c", data = { n = 2 } })
    assert.same({ { n = 1 } }, c:data())
    assert.same({ { n = 1 }, { n = 2 } }, all:data())
  end)

  it("wants a topic: a misspelt parameter is not everything", function()
    assert.denied(400, p:connect())
  end)

  it("tells a client that asks for what is no topic, and too much", function()
    for _, topic in ipairs { "", "a//b", "**/a", "a/b*" } do
      assert.denied(400, p:connect { topics = { topic } })
    end
    local many = {}
    for i = 1, 101 do
      many[i] = "t" .. i
    end
    assert.denied(400, p:connect { topics = many })
    table.remove(many)
    assert.granted(p:connect { topics = many })
    assert.faultless(p)
  end)
end)
