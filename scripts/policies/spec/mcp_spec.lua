-- tidegate test scripts/policies/spec
local t = require "tidegate.test"

local NOW = 1700000000
local KEY, SESSIONS = "the-server's-key", ("s"):rep(32)
local CALL = { jsonrpc = "2.0", id = 7, method = "tools/call", params = {} }

describe("an MCP client", function()
  local p

  before_each(function()
    p = t.policy("../mcp.lua", {
      now = NOW, keys = { main = t.key "HS256" },
      settings = { server = KEY, sessions = SESSIONS, origins = { "https://app.example" } },
      routes = {
        { path = "/mcp", subscribe = true, publish = "raw", topic = "mcp", answer = "stream", delete = true },
        { path = "/mcp/sse", subscribe = true },
        { path = "/mcp/message", publish = "raw", topic = "mcp", answer = "empty", status = 202 },
      },
    })
  end)

  after_each(function()
    assert.faultless(p)
    p:close()
  end)

  local function token(user)
    return p:token { iss = "https://id.example", aud = "tidegate", sub = user or "ann" }
  end

  local function say(message, headers, user)
    return p:post { path = "/mcp", raw = type(message) == "table" and t.json.encode(message) or message,
      bearer = token(user), headers = headers }
  end

  local function initialize()
    local c = say { jsonrpc = "2.0", id = 1, method = "initialize", params = {} }
    assert.granted(c)
    return { ["mcp-session-id"] = c.headers["mcp-session-id"] }, c
  end

  -- What the server has been told of, and who it is.
  local function server()
    return p:connect { bearer = KEY }
  end

  local function inbound(c)
    local list = {}
    for i, ev in ipairs(c:events()) do
      list[i] = t.json.decode(ev.data)
    end
    return list
  end

  local function answer(topic, message)
    message.jsonrpc = "2.0"
    assert.granted(p:post { topic = topic, data = message, bearer = KEY })
  end

  local function data(c)
    local list = {}
    for i, ev in ipairs(c:events()) do
      list[i] = ev.type .. " " .. (ev.data:match '"method":"(.-)"' or ev.data:match '"result"' or ev.data)
    end
    return table.concat(list, ", ")
  end

  it("begins a session, and gets the answer to each request in its own stream", function()
    local app = server()
    local session, first = initialize()
    local other = say(CALL, session)
    assert.granted(other)
    local asked = inbound(app)
    assert.same({ "request", "request" }, { asked[1].type, asked[2].type })
    assert.equal("ann", asked[1].attrs.user)
    answer(asked[2].attrs.reply, { method = "notifications/progress" })
    answer(asked[2].attrs.reply, { id = 7, result = {} })
    answer(asked[2].attrs.reply, { method = "behind/the-end" })
    answer(asked[1].attrs.reply, { id = 1, result = {} })
    assert.equal('message notifications/progress, message "result"', data(other))
    assert.equal('message "result"', data(first))
  end)

  it("goes on with the stream that its id is of", function()
    local app = server()
    local session = initialize()
    local call = say(CALL, session)
    local reply = inbound(app)[2].attrs.reply
    answer(reply, { method = "one" })
    local id = call:events()[1].id
    assert.matches("~r%-%x+$", id)
    answer(reply, { method = "two" })
    answer((reply:gsub("[^/]+$", "session")), { method = "for-the-other" })
    local back = p:connect { path = "/mcp", bearer = token(), headers = session, last_event_id = id }
    assert.equal("message two", data(back))
    back = p:connect { path = "/mcp", bearer = token(), headers = session, last_event_id = id:gsub("~.*", "~session") }
    assert.equal("message for-the-other", data(back))
  end)

  it("gets 202 for what needs no answer", function()
    local session = initialize()
    for _, message in ipairs { { jsonrpc = "2.0", method = "notifications/initialized" },
      { jsonrpc = "2.0", id = 3, result = {} } } do
      assert.equal(202, say(message, session).status)
    end
  end)

  it("needs a token, a session of its own, and a message", function()
    local session = initialize()
    assert.denied(401, p:post { path = "/mcp", raw = "{}" })
    assert.denied(404, say(CALL, session, "eve"))
    assert.denied(404, say(CALL, { ["mcp-session-id"] = "1-2-3" }))
    assert.denied(400, say(CALL))
    assert.denied(400, p:connect { path = "/mcp", bearer = token() })
    assert.denied(404, p:connect { path = "/mcp", bearer = token "eve", headers = session })
    for _, bad in ipairs { "", "text", "[]", "{}", '{"jsonrpc":"2.0"}', '{"jsonrpc":"2.0","id":null,"method":"x"}',
      '[{"jsonrpc":"2.0","id":1,"method":"x"}]' } do
      assert.denied(400, say(bad, session))
    end
    assert.denied(403, p:post { topic = "mcp/1/out/session", data = "x", bearer = token() })
    assert.denied(403, p:post { topic = "elsewhere", data = "x", bearer = KEY })
    p:at(NOW + 86400)
    assert.denied(404, say(CALL, session))
  end)

  it("may be a page of the listed origins alone", function()
    local session = initialize()
    session.origin = "https://eve.example"
    assert.denied(403, p:connect { path = "/mcp", bearer = token(), headers = session })
    session.origin = "https://app.example"
    assert.granted(p:connect { path = "/mcp", bearer = token(), headers = session })
  end)

  it("of the older transport is told where to post, and has everything in one stream", function()
    local app = server()
    local c = p:connect { path = "/mcp/sse", bearer = token() }
    local endpoint = c:events()[1]
    assert.equal("endpoint", endpoint.type)
    local session = endpoint.data:match "^/mcp/message%?session=(.*)$"
    local posted = p:post { path = "/mcp/message", query = { session = session }, raw = t.json.encode(CALL),
      bearer = token() }
    assert.equal(202, posted.status)
    local asked = inbound(app)[1]
    answer(asked.attrs.reply, { id = 7, result = {} })
    assert.equal('message "result"', data(c):match ", (.*)$")
    assert.denied(404, p:post { path = "/mcp/message", raw = t.json.encode(CALL), bearer = token() })
    assert.denied(404, p:post { path = "/mcp/message", query = { session = session }, raw = t.json.encode(CALL),
      bearer = token "eve" })
  end)

  it("ends its session", function()
    local session = initialize()
    local id = session["mcp-session-id"]:match "^%x+"
    assert.granted(p:connect { path = "/mcp", bearer = token(), headers = session })
    local seen = p:observe { topic = ("mcp/%s/in"):format(id), type = "end", data = "", attrs = { session = id } }
    assert.same({ { tag = "mcp:" .. id, reason = "the session has ended" } }, seen.end_streams)
    assert.denied(404, say(CALL, session))
  end)
end)
