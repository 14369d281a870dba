-- tidegate test scripts/policies/spec
local t = require "tidegate.test"

local KEY = "of-thirty-two-bytes-or-some-more"

describe("nchan's paths", function()
  local p = t.policy("../nchan.lua", {
    settings = { publisher = KEY, message_buffer = 2 },
    routes = {
      { path = "/sub/{channel}", subscribe = true },
      { path = "/pub/{channel}", publish = "raw", topic = "chan/{channel}", status = 202 },
    },
  })

  local function publish(channel, text, headers)
    return p:post { path = "/pub/" .. channel, raw = text, bearer = KEY, headers = headers }
  end

  it("deliver to the channel, of the type that the header names", function()
    local c = p:connect { path = "/sub/a" }
    assert.granted(c)
    assert.granted(publish("a", "hello", { ["x-eventsource-event"] = "greeting" }))
    publish("b", "not this")
    local all = c:events()
    assert.equal(1, #all)
    assert.same({ "greeting", "hello" }, { all[1].type, all[1].data })
  end)

  it("begin with what is in the buffer", function()
    for i = 1, 3 do
      publish("old", tostring(i))
    end
    local got = {}
    for i, ev in ipairs(p:connect { path = "/sub/old" }:events()) do
      got[i] = ev.data
    end
    assert.same({ "2", "3" }, got)
  end)

  it("refuse who has not the key, and what is no channel", function()
    assert.denied(403, p:post { path = "/pub/a", raw = "x" })
    assert.denied(404, p:connect { topics = { "chan/a" } })
    assert.denied(404, p:post { topic = "elsewhere", data = "x", bearer = KEY })
    assert.faultless(p)
  end)
end)
