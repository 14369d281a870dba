-- tidegate test scripts/policies/spec
local t = require "tidegate.test"

local KEY = "of-thirty-two-bytes-or-some-more"

describe("the scoreboard", function()
  local p = t.policy("../scoreboard.lua", { settings = { publisher = KEY } })

  local function score(match, data)
    return p:post { topic = "score/" .. match, data = data, bearer = KEY }
  end

  it("begins with the state of the matches that were asked for", function()
    local c = p:connect { query = { match = "7,9" } }
    assert.granted(c)
    assert.same({ "score/7", "score/9" }, c.subscription.topics)
    assert.same({ "score/*" }, p:connect().subscription.topics)
    score("7", { home = 0, away = 0 })
    score("7", { home = 1, away = 0 })
    score("8", { home = 5, away = 5 })
    assert.same({ { home = 1, away = 0 } }, p:connect { query = { match = "7,9" } }:data())
  end)

  it("delivers each change", function()
    local c = p:connect { query = { match = "11" } }
    score("11", { home = 1, away = 0 })
    score("12", { home = 3, away = 3 })
    assert.same({ { home = 1, away = 0 } }, c:data())
  end)

  it("lets nobody publish but who has the key, and no other topics", function()
    assert.denied(403, p:post { topic = "score/7", data = "1:0" })
    assert.denied(403, p:post { topic = "score/7", data = "1:0", bearer = "wrong" })
    assert.denied(400, p:post { topic = "scores", data = "1:0", bearer = KEY })
  end)

  it("refuses what is no list of matches", function()
    assert.denied(400, p:connect { query = { match = "a/b" } })
    local many = {}
    for i = 1, 51 do
      many[i] = tostring(i)
    end
    assert.denied(400, p:connect { query = { match = table.concat(many, ",") } })
    assert.faultless(p)
  end)
end)
