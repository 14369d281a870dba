-- tidegate test scripts/policies/spec
local t = require "tidegate.test"

describe("alerts near a place", function()
  local p = t.policy "../geo.lua"

  local function ask(lat, lon, min, lang)
    return p:connect { query = { lat = lat, lon = lon, min = min }, headers = { ["Accept-Language"] = lang } }
  end

  -- Does `c` get an alert with these attributes?
  local function alerted(c, attrs)
    local before = #c:events()
    p:publish { topic = "alert/storm", attrs = attrs, data = "!" }
    return #c:events() > before
  end

  it("puts neighbours into one audience", function()
    local a = ask("52.5200", "13.4050", nil, "DE-de,de;q=0.9")
    local b = ask("52.5100", "13.3900", nil, "de")
    local far = ask("48.1372", "11.5755", nil, "de")
    assert.same({ cell = "u33d", lang = "de", min = 1 }, a.subscription.params)
    assert.equal(a.subscription.audience, b.subscription.audience)
    assert.are_not.equal(a.subscription.audience, far.subscription.audience)
  end)

  it("delivers alerts of the cell, the severity and the language", function()
    local c = ask("52.52", "13.40", "2", "de")
    assert.is_true(alerted(c, { cell = "u33dc1", severity = 2 }))
    assert.is_true(alerted(c, { cell = "u33d", lang = "de", severity = 5 }))
    for _, attrs in ipairs {
      { cell = "u33dc1", severity = 1 }, { cell = "u33e", severity = 5 }, { cell = "u3", severity = 5 },
      { cell = "u33dc1", lang = "en", severity = 5 }, { severity = 5 }, {},
    } do
      assert.is_false(alerted(c, attrs), t.json.encode(attrs))
    end
  end)

  it("takes attributes of another type for none", function()
    local c = ask("52.52", "13.40")
    assert.is_false(alerted(c, { cell = 5, severity = 5 }))
    assert.is_false(alerted(c, { cell = "u33dc1", severity = "5" }))
    assert.is_false(alerted(c, nil))
    assert.faultless(p)
  end)

  it("refuses what is no place", function()
    for _, place in ipairs {
      {}, { "52" }, { "x", "1" }, { "91", "1" }, { "1", "181" }, { "nan", "1" }, { "-inf", "1" },
    } do
      assert.denied(400, ask(place[1], place[2]))
    end
  end)

  it("bounds the severity asked for", function()
    for given, used in pairs { ["0"] = 1, ["9"] = 5, ["3"] = 3, ["2.5"] = 1, x = 1, ["-99999999999999999999"] = 1 } do
      assert.equal(used, ask("52.52", "13.40", given).subscription.params.min, given)
    end
  end)

  it("speaks English to those who say nothing, or nonsense", function()
    for _, lang in ipairs { "", "*", "d", "12" } do
      assert.equal("en", ask("52.52", "13.40", nil, lang).subscription.params.lang)
    end
    assert.equal("en", ask("52.52", "13.40").subscription.params.lang)
  end)

  it("accepts no publishes", function()
    assert.denied(403, p:post { topic = "alert/storm", data = "!" })
    assert.faultless(p)
  end)
end)
