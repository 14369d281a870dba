-- tidegate test scripts/policies/spec
local t = require "tidegate.test"

local KEY = "of-thirty-two-bytes-or-some-more"

describe("the paths of EventStreams", function()
  local p = t.policy("../eventstreams.lua", {
    settings = { publisher = KEY }, routes = { { path = "/v2/stream/{streams}", subscribe = true } },
  })

  local function publish(name, n)
    assert.granted(p:post { topic = "stream/" .. name, data = { n = n }, bearer = KEY })
  end

  it("give several streams as one, each once", function()
    local c = p:connect { path = "/v2/stream/edits,pages,edits" }
    assert.same({ "stream/edits", "stream/pages" }, c.subscription.topics)
    publish("edits", 1)
    publish("logs", 2)
    publish("pages", 3)
    assert.same({ { n = 1 }, { n = 3 } }, c:data())
  end)

  it("refuse what is no list of streams, and who has not the key", function()
    assert.denied(400, p:connect { path = "/v2/stream/a,b%20c" })
    assert.denied(400, p:connect { path = "/v2/stream/," })
    assert.denied(404, p:connect())
    assert.denied(403, p:post { topic = "stream/edits", data = 1 })
    assert.denied(403, p:post { topic = "elsewhere", data = 1, bearer = KEY })
    assert.faultless(p)
  end)
end)
