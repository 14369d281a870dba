-- tidegate test scripts/policies/spec
local t = require "tidegate.test"

local NOW = 1700000000

describe("telemetry", function()
  local p

  before_each(function()
    p = t.policy("../telemetry.lua", { now = NOW, keys = { main = t.key "ES256" } })
  end)

  after_each(function()
    assert.faultless(p)
    p:close()
  end)

  local function token(sub, role)
    return p:token { iss = "https://id.example", aud = "tidegate", sub = sub, role = role }
  end

  local function watch(role, lat, lon)
    return p:connect { bearer = role and token("ann", role), query = { lat = lat, lon = lon } }
  end

  local function report(device, data, more)
    local post = { topic = "devices/" .. device, data = data, bearer = token(device, "device") }
    for name, value in pairs(more or {}) do
      post[name] = value
    end
    return p:post(post)
  end

  local function numbers(c)
    local seen = {}
    for i, data in ipairs(c:data()) do
      seen[i] = data.n
    end
    return seen
  end

  local BERLIN, MUNICH = { lat = 52.51632, lon = 13.37775, n = 1 }, { lat = 48.1372, lon = 11.5755, n = 2 }

  it("is everything to operators, and of one area to others, rounded for guests", function()
    local all, area, guest = watch "operator", watch("viewer", "52.52", "13.40"), watch(nil, "52.52", "13.40")
    assert.granted(report("d-1", BERLIN))
    assert.granted(report("d-2", MUNICH))
    assert.same({ BERLIN, MUNICH }, all:data())
    assert.same({ BERLIN }, area:data())
    assert.same({ { lat = 52.52, lon = 13.38, n = 1 } }, guest:data())
  end)

  it("shows the newest event of each device once a second on dashboards", function()
    local all, area = watch "operator", watch("viewer", "52.52", "13.40")
    for i = 1, 5 do
      assert.granted(report("d-1", { lat = 52.516, lon = 13.377, n = i }))
    end
    assert.granted(report("d-2", { lat = 52.516, lon = 13.377, n = 6 }))
    assert.same({ 1 }, numbers(area))
    p:at(NOW + 1)
    assert.same({ 1, 5, 6 }, numbers(area))
    assert.granted(report("d-1", { lat = 52.516, lon = 13.377, n = 7 }))
    p:at(NOW + 2)
    assert.same({ 1, 5, 6, 7 }, numbers(area))
    assert.equal(7, #all:data())
  end)

  it("puts neighbours into one audience", function()
    assert.equal(watch(nil, "52.5200", "13.4050").subscription.audience,
      watch(nil, "52.5100", "13.3900").subscription.audience)
  end)

  it("comes from devices only, with a place", function()
    assert.denied(403, report("d-1", BERLIN, { topic = "devices/d-2" }))
    assert.denied(403, report("d-1", BERLIN, { bearer = token("d-1", "viewer") }))
    assert.denied(403, p:post { topic = "devices/d-1", data = BERLIN })
    for _, data in ipairs { "text", { 1 }, { lat = "52", lon = 13 }, { lat = 91, lon = 13 }, { lat = 52 } } do
      assert.denied(422, report("d-1", data))
    end
    local marked = report("d-1", BERLIN, { attrs = { cell = "u33d", forged = 1 } })
    assert.granted(marked) -- what the device says of itself is replaced
    assert.denied(401, p:connect { bearer = "nonsense" })
    assert.denied(403, watch("device", "52.52", "13.40"))
    assert.denied(400, watch(nil, "nan", "13.40"))
  end)
end)
