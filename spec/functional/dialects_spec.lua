-- transports: tls h2
-- The shipped policies for clients of other servers, over real sockets.
local http = require "support.http"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

local KEY = "of-thirty-two-bytes-or-some-more"
local BEARER = { Authorization = "Bearer " .. KEY }

local function with(headers)
  for name, value in pairs(BEARER) do
    headers[name] = value
  end
  return headers
end

local function broker_of(policy, routes)
  return tidegate.shared {
    policy_file = SPEC_SOURCE_DIR .. "/scripts/policies/" .. policy,
    config = { http = { routes = routes }, policy = { settings = { publisher = KEY } } },
  }
end

describe("nchan.lua", function()
  local broker = broker_of("nchan.lua", {
    { path = "/sub/{channel}", subscribe = true },
    { path = "/pub/{channel}", publish = "raw", topic = "chan/{channel}", status = 202 },
  })

  it("takes what is posted to /pub and gives it to /sub, history first, and again from a position", function()
    local b = broker()
    local text = { ["Content-Type"] = "text/plain", ["X-EventSource-Event"] = "greeting" }
    assert.equal(202, http.post(b, "/pub/a%2Fb", "one", with(text)).status)
    local c = sse.open(b, { path = "/sub/a%2Fb" })
    local one = c:next()
    assert.same({ "greeting", "one" }, { one.type, one.data })
    assert.equal(202, http.post(b, "/pub/a%2Fb", "two", with {}).status)
    local two = c:next()
    assert.same({ "message", "two" }, { two.type, two.data })
    assert.equal("two", sse.open(b, { path = "/sub/a%2Fb", last_event_id = one.id }):next().data)
    assert.equal(403, http.post(b, "/pub/a%2Fb", "three", {}).status)
  end)
end)

describe("eventstreams.lua", function()
  local broker = broker_of("eventstreams.lua", { { path = "/v2/stream/{streams}", subscribe = true } })

  it("gives several streams as one, from a time or a position on", function()
    local b = broker()
    for _, name in ipairs { "edits", "logs", "pages" } do
      assert.equal(201, http.post(b, "/events?topic=stream/" .. name, name, with {}).status)
    end
    local c = sse.open(b, { path = "/v2/stream/edits,pages", query = { since = "-1h" } })
    local first = c:next()
    assert.same({ "edits", "pages" }, { first.data, c:next().data })
    assert.equal("pages", sse.open(b, { path = "/v2/stream/pages,edits", last_event_id = first.id }):next().data)
    assert.equal(404, http.get(b, "/events?topic=stream/edits", { Accept = "text/event-stream" }).status)
  end)
end)
