-- tidegate test scripts/policies/spec
local t = require "tidegate.test"

local NOW = 1700000000

describe("notifications", function()
  local p, roles

  before_each(function()
    roles = { ann = { "support", "admin" }, bob = { "support" } }
    p = t.policy("../notifications.lua", {
      now = NOW, keys = { main = t.key "HS256" }, settings = { backend = "of-the-backend" },
      db = {
        roles_of = function(login)
          local rows = t.json.array {}
          for i, role in ipairs(roles[login] or {}) do
            rows[i] = { role = role }
          end
          return rows
        end,
      },
    })
  end)

  after_each(function()
    assert.faultless(p)
    p:close()
  end)

  local function connect(sub, last_event_id)
    return p:connect { bearer = p:token { iss = "https://id.example", aud = "tidegate", sub = sub },
      last_event_id = last_event_id }
  end

  local function notify(whom, data)
    local post = p:post { topic = "notify/" .. whom, data = data, bearer = "of-the-backend" }
    assert.granted(post)
    return post.id
  end

  it("go to one user, to a role, and to all", function()
    local ann, bob, eve = connect "ann", connect "bob", connect "eve"
    notify("user/ann", 1)
    notify("role/support", 2)
    notify("role/admin", 3)
    notify("all", 4)
    assert.same({ 1, 2, 3, 4 }, ann:data())
    assert.same({ 2, 4 }, bob:data())
    assert.same({ 4 }, eve:data())
  end)

  it("begin behind what was read, on any device", function()
    notify("user/ann", 1)
    local read = notify("all", 2)
    notify("user/bob", 3)
    notify("user/ann", 4)
    assert.same({ 4 }, connect("ann", tostring(read)):data())
    assert.same({ 4 }, connect("ann", tostring(read)):data())
    assert.same({}, connect("ann"):data())
  end)

  it("follow a role that is given, or taken away", function()
    local bob = connect "bob"
    roles.bob = { "admin" }
    p:publish { topic = "roles/bob", data = "" }
    notify("role/support", 1)
    notify("role/admin", 2)
    assert.same({ 2 }, bob:data())
    assert.is_false(bob:closed())
  end)

  it("come from the backend only", function()
    assert.denied(401, p:post { topic = "notify/all", data = 1 })
    for _, topic in ipairs { "notify/all", "notify/user/ann", "roles/ann" } do
      assert.denied(403, p:post { topic = topic, data = 1,
        bearer = p:token { iss = "https://id.example", aud = "tidegate", sub = "ann" } })
    end
    assert.denied(403, p:connect { bearer = "of-the-backend" })
    for _, sub in ipairs { "*", "a/b", ("x"):rep(51) } do
      assert.denied(403, connect(sub))
    end
  end)

  it("wait for the database, which may be away for a while where roles are known", function()
    assert.granted(connect "ann")
    local away = p:with { db = t.down }
    assert.equal("transient", away:connect({ bearer = away:token { iss = "https://id.example", aud = "tidegate",
      sub = "eve" } }).kind)
    away:close()
  end)
end)
