-- The CloudEvents SDK of the npm registry publishes in all three modes, and reads what comes out.
local http = require "support.http"
local roster = require "clients.roster"
local tidegate = require "support.tidegate"

local POLICY = [[
return {
  api = 1,
  authenticate = function() return { sub = "sdk" } end,
  subscribe = function(req) return { topics = req.topics, format = "cloudevents" } end,
  publish = function(pub) return pub end,
}
]]

describe("the CloudEvents SDK", function()
  it("gets what it sent, in every mode", function()
    local broker = tidegate.start { policy = POLICY, keep = true }
    local sdk = roster.start("sdk", "cloudevents.mjs", ("http://%s:%d"):format(broker.host, broker.port))
    local code, why = sdk:wait(60), sdk:errors()
    local said = http.json.decode(sdk:output())
    sdk:stop()
    broker:dispose()
    assert.equal(0, code, why)
    assert.equal(12, #said.sent)
    local by_id = {}
    for _, event in ipairs(said.sent) do
      -- in binary mode the SDK calls data JSON that it does not give a type
      event.datacontenttype = event.datacontenttype
        or event.id:find "^binary" and "application/json; charset=utf-8" or nil
      by_id[event.id] = event
    end
    for _, way in ipairs { "paged", "streamed" } do
      assert.equal(12, #said[way], way)
      for _, event in ipairs(said[way]) do
        assert.same(by_id[event.id], event, way)
      end
    end
    for i = 1, #said.statuses - 1, 2 do
      assert.same({ 200, true }, { said.statuses[i], said.statuses[i + 1] })
    end
    assert.equal(201, said.statuses[#said.statuses])
  end)
end)
