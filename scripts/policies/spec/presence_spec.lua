-- tidegate test scripts/policies/spec
local t = require "tidegate.test"

describe("presence", function()
  local p = t.policy("../presence.lua", { keys = { main = t.key "HS256" } })

  local function enter(room, sub, name)
    return p:connect { query = { room = room }, bearer = p:token { sub = sub, name = name } }
  end

  it("tells each client who is there, and who comes", function()
    local ann = enter("7", "ann", "Ann")
    assert.granted(ann)
    assert.equal("room/7/members/ann", ann.subscription.presence)
    assert.equal("Ann", ann:data()[1].data.name)
    local bob = enter("7", "bob/2")
    assert.equal("room/7/members/bob%2F2", ann:data()[2].topic)
    local seen = bob:data()
    assert.equal("Ann", seen[1].data.name)
    enter("8", "eve")
    p:post { topic = "room/7/said", data = "hello", bearer = p:token { sub = "ann" } }
    assert.equal("hello", ann:data()[3].data)
  end)

  it("lets nobody say who is there, and knows rooms and users by name", function()
    local bearer = p:token { sub = "eve" }
    assert.denied(403, p:post { topic = "room/7/members/ann", data = "", bearer = bearer })
    assert.denied(400, p:connect { query = { room = "a/b" }, bearer = bearer })
    assert.denied(401, p:connect { query = { room = "7" } })
    assert.faultless(p)
  end)
end)
