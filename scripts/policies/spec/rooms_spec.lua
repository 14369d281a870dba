-- tidegate test scripts/policies/spec
local t = require "tidegate.test"

local NOW = 1700000000

describe("rooms", function()
  local p, member, joined, asked

  before_each(function()
    asked, joined = 0, {}
    member = { ann = { "7", "8" }, bob = { "7" }, eve = {} }
    p = t.policy("../rooms.lua", {
      now = NOW,
      keys = { main = t.key "HS256" },
      db = {
        rooms_of = function(login)
          asked = asked + 1
          local rows = t.json.array {}
          for i, room in ipairs(member[login] or {}) do
            rows[i] = { room = room, since = joined[login .. room] }
          end
          return rows
        end,
      },
    })
  end)

  local function token(sub)
    return p:token { iss = "https://id.example", aud = "tidegate", sub = sub }
  end
  local function connect(sub)
    return p:connect { bearer = token(sub) }
  end
  local function say(sub, topic, data)
    return p:post { bearer = token(sub), topic = topic, data = data }
  end

  it("wants a token that names a user", function()
    assert.denied(401, p:connect {})
    for _, sub in ipairs { "*", "a/b", ("x"):rep(51) } do
      assert.denied(403, connect(sub))
    end
  end)

  it("delivers rooms to their members", function()
    local ann, bob, eve = connect "ann", connect "bob", connect "eve"
    assert.same({ "room:7", "room:8", "user:ann" }, ann.subscription.tags)
    assert.granted(say("bob", "room/7", 1))
    assert.granted(say("ann", "room/8", 2))
    assert.denied(403, say("bob", "room/8", 3))
    assert.denied(403, say("eve", "member/eve", 4)) -- only the application says that
    assert.same({ 1, 2 }, ann:data())
    assert.same({ 1 }, bob:data())
    assert.same({}, eve:data())
    assert.faultless(p)
  end)

  it("lets members go, and come, where an event says so", function()
    local ann, bob = connect "ann", connect "bob"
    p:publish { topic = "room/7", data = 1 }
    assert.same({ 1 }, ann:data()) -- what was not delivered yet would be hers no more, either
    member = { ann = { "8" }, bob = { "7", "8" } }
    p:publish { topic = "member/ann", data = "left" }
    p:publish { topic = "member/bob", data = "joined" }
    p:publish { topic = "room/7", data = 2 }
    p:publish { topic = "room/8", data = 3 }
    assert.same({ 1, 2, 3 }, bob:data())
    assert.same({ 1, 3 }, ann:data())
    assert.is_false(ann:closed())
    assert.equal(4, asked) -- once for each of the two changes; else the cache knows
    assert.denied(403, say("ann", "room/7", 5))
    assert.faultless(p)
  end)

  it("shows what was said since a member has joined, of each room, to those who read back", function()
    p:publish { topic = "room/7", data = 1 }
    p:publish { topic = "room/8", data = 2 }
    p:publish { topic = "user/ann", data = 3 }
    p:at(NOW + 10)
    p:publish { topic = "room/7", data = 4 }
    p:publish { topic = "room/8", data = 5 }
    joined = { ann7 = NOW + 5, ann8 = NOW - 100, bob7 = NOW + 11 }
    assert.same({ 2, 3, 4, 5 }, p:connect({ bearer = token "ann", last_event_id = "0" }):data())
    assert.same({}, p:connect({ bearer = token "bob", last_event_id = "0" }):data())
    assert.faultless(p)
  end)

  it("ends the streams of a room that is closed, with a reason", function()
    local ann, eve = connect "ann", connect "eve"
    p:publish { topic = "closed/8", data = "x" }
    assert.is_true(ann:closed())
    assert.same({ { reason = "the room is closed" } }, ann:data())
    assert.is_false(eve:closed())
    assert.faultless(p)
  end)
end)
