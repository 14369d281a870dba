-- tidegate test scripts/policies/spec
local t = require "tidegate.test"

describe("feature flags", function()
  local p, flags, asked

  before_each(function()
    asked, flags = 0, { shop = { dark = "true", rollout = '{"percent":10}' }, blog = {} }
    p = t.policy("../flags.lua", {
      settings = { publisher = "the key of the publisher" },
      db = {
        project_of = function(key)
          local project = ({ ["sdk-shop"] = "shop", ["sdk-blog"] = "blog", ["sdk-bad"] = "a/b" })[key]
          return t.json.array { project and { project = project } or nil }
        end,
        flags_of = function(project)
          asked = asked + 1
          local rows = t.json.array {}
          for name, value in pairs(flags[project]) do
            rows[#rows + 1] = { name = name, value = value }
          end
          return rows
        end,
      },
    })
  end)

  local function connect(key)
    return p:connect { bearer = key or "sdk-shop" }
  end
  local function change(type, data, key)
    return p:post { bearer = key or "the key of the publisher", topic = "flags/shop", type = type, data = data }
  end
  local function seen(c)
    local list = {}
    for i, event in ipairs(c:events()) do
      list[i] = event.type .. " " .. event.data
    end
    return list
  end

  it("come whole on connect, then each change", function()
    local c, other = connect(), connect "sdk-blog"
    assert.same({ 'put {"dark":true,"rollout":{"percent":10}}' }, seen(c))
    assert.same({ "put {}" }, seen(other))
    assert.granted(change("patch", { dark = false }))
    assert.granted(change("delete", "rollout"))
    assert.same({ 'put {"dark":true,"rollout":{"percent":10}}', 'patch {"dark":false}', "delete rollout" }, seen(c))
    assert.same({ "put {}" }, seen(other))
    assert.faultless(p)
  end)

  it("are read from the database once, and again behind a change", function()
    connect()
    assert.same(seen(connect()), seen(connect()))
    assert.equal(1, asked)
    flags.shop = { dark = "false" }
    p:publish { topic = "flags/shop", type = "patch", data = { dark = false } } -- by SQL
    assert.same({ 'put {"dark":false}' }, seen(connect()))
    assert.equal(2, asked)
  end)

  it("come whole again to an SDK that comes back, without old changes", function()
    local id = change("patch", { dark = false }).id
    change("patch", { dark = true })
    local c = p:connect { bearer = "sdk-shop", headers = { ["last-event-id"] = tostring(id) } }
    assert.equal(1, #seen(c))
  end)

  it("are for SDKs with a key, and changed by the publisher", function()
    assert.denied(401, connect "stranger")
    assert.denied(401, connect "sdk-bad")
    assert.denied(401, p:connect {})
    assert.denied(403, connect "the key of the publisher")
    assert.denied(403, change("patch", {}, "sdk-shop"))
    assert.denied(403, change("put", {}))
  end)
end)
