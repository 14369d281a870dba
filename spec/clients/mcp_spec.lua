-- scripts/policies/mcp.lua between the SDK's own client and a server on the SDK, over a network that fails.
local Crowd = require "clients.crowd"
local child = require "support.child"
local eventually = require "support.eventually"
local http = require "support.http"
local roster = require "clients.roster"
local sse = require "support.sse"
local tidegate = require "support.tidegate"
local tokens = require "support.tokens"

local PATIENCE = 40
local KEY = "of-the-server-thirty-two-bytes--"

local function token_of(user)
  return tokens.sign("HS256", tokens.SECRET,
    { iss = "https://id.example", aud = "tidegate", sub = user, exp = os.time() + 3600 })
end

describe("an MCP server behind Tidegate", function()
  local broker, relay, server, running

  local function start(name, file, path, port, env)
    local c = Crowd.reader(roster.start(name, file, ("http://127.0.0.1:%d%s"):format(port, path), env), name)
    running[#running + 1] = c.process
    return c
  end

  setup(function()
    running = {}
    broker = tidegate.start { keep = true, policy_file = SPEC_SOURCE_DIR .. "/scripts/policies/mcp.lua", config = {
      keys = { main = { secret = tokens.SECRET } },
      policy = { settings = { server = KEY, sessions = ("s"):rep(32), origins = { "https://app.example" } } },
      http = { routes = {
        { path = "/mcp", subscribe = true, publish = "raw", topic = "mcp", answer = "stream", delete = true },
        { path = "/mcp/sse", subscribe = true },
        { path = "/mcp/message", publish = "raw", topic = "mcp", answer = "empty", status = 202 },
      }, cors_origins = { "https://app.example" } },
      sse = { retry_ms = 200 },
    } }
    local node = assert(child.find "node")
    relay = child.start(node, { SPEC_SOURCE_DIR .. "/spec/support/relay.js", tostring(broker.port) }, { stdin = true })
    running[#running + 1] = relay
    server = start("server", "mcp_server.mjs", "/events", broker.port, { MCP_KEY = KEY, MCP_GO = broker.dir .. "/go" })
  end)

  teardown(function()
    for _, process in ipairs(running) do
      process:stop()
    end
    if broker then
      broker:dispose()
    end
  end)

  -- Waits for an event of that type (and data); returns it.
  local function wait_for(c, type, data)
    return eventually(("%s of %s"):format(type, c.name), function()
      c:read()
      for _, ev in ipairs(c.events) do
        if ev.event == type and (not data or ev.data == data) then
          return ev
        end
      end
      assert(not c.ended, c:story())
    end, PATIENCE)
  end

  local function told(c)
    local list = {}
    for _, ev in ipairs(c.events) do
      if ev.event ~= "session" then
        list[#list + 1] = ev.data == "" and ev.event or ev.event .. " " .. ev.data
      end
    end
    table.sort(list) -- the two streams have no order between them
    return table.concat(list, ", ")
  end

  local function order(word)
    relay:write(word .. "\n")
    eventually("the relay: " .. word, function() return relay:output():find(word .. "\n$") end)
  end

  local function touch(name)
    return broker:write_file(name, "")
  end

  it("serves a Streamable HTTP client, which resumes in the middle of a call", function()
    local port = eventually("the relay listens", function() return relay:output():match "port (%d+)\n" end)
    local client = start("streamable", "mcp_client.mjs", "/mcp", tonumber(port),
      { MCP_TOKEN = token_of "ann", MCP_END = broker.dir .. "/over" })
    local session = wait_for(client, "session").data
    wait_for(client, "progress", "2")
    order "cut"
    order "reset"
    touch "go"
    wait_for(server, "told") -- the rest is published while nobody listens
    eventually("its streams are gone", function() return broker:metric "tidegate_subscribers" == 1 end)
    order "heal"
    wait_for(client, "result")
    wait_for(client, "changed")
    assert.equal("changed, progress 1, progress 2, progress 3, result counted to 3, tools count", told(client))

    -- somebody else's session, and one that nobody has
    local function ask(user, id)
      return http.get(broker, "/mcp", { Authorization = "Bearer " .. token_of(user), ["Mcp-Session-Id"] = id,
        Accept = "text/event-stream", ["Last-Event-ID"] = "1~session" }).status
    end
    assert.equal(404, ask("eve", session))
    assert.equal(404, ask("ann", session:gsub("%x$", function(c) return c == "0" and "1" or "0" end)))
    assert.equal(400, ask("ann", false))

    touch "over"
    wait_for(client, "terminated")
    assert.equal(session:match "^%x+", wait_for(server, "over").data)
    eventually("it is unknown", function() return ask("ann", session) == 404 end)
  end)

  it("serves a client of the older transport", function()
    touch "go"
    touch "over"
    local client = start("sse", "mcp_client.mjs", "/mcp/sse", broker.port,
      { MCP_TOKEN = token_of "bob", MCP_END = broker.dir .. "/over" })
    wait_for(client, "terminated")
    assert.equal("changed, progress 1, progress 2, progress 3, result counted to 3, terminated, tools count",
      told(client))
  end)

  it("goes on with a session of the older transport by the id that its client brings back", function()
    local headers = { Authorization = "Bearer " .. token_of "cas" }
    local c = sse.open(broker, { path = "/mcp/sse", headers = headers })
    local endpoint = c:next()
    assert.equal("endpoint", endpoint.type)
    local position = c.positions[1].id
    c:close()
    local session = endpoint.data:match "session=(%x+)"
    local id = broker:publish(("mcp/%s/out/session"):format(session), '{"jsonrpc":"2.0","method":"x"}',
      { headers = { Authorization = "Bearer " .. KEY } })
    local back = sse.open(broker, { path = "/mcp/sse", headers = headers, last_event_id = position })
    assert.equal(endpoint.data, back:next().data)
    local ev = back:next()
    assert.equal(1, ev.id:find(id, 1, true))
    back:close()
    headers = { Authorization = "Bearer " .. token_of "eve" }
    local other = sse.open(broker, { path = "/mcp/sse", headers = headers, last_event_id = position })
    assert.is_not.equal(endpoint.data, other:next().data)
    other:close()
  end)

  it("answers pages of other origins where they are listed", function()
    local body = '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}'
    local function ask(origin)
      return sse.request(broker, { path = "/mcp", post = body, accept = "application/json, text/event-stream",
        headers = { Authorization = "Bearer " .. token_of "ann", Origin = origin } })
    end
    local c = ask "https://app.example"
    assert.equal(200, c.status)
    assert.matches("^%x+%-%d+%-%x+$", c.headers["mcp-session-id"])
    assert.matches("Mcp%-Session%-Id", c.raw_head)
    c:close()
    c = ask "https://eve.example"
    assert.equal(403, c.status)
    c:close()
  end)
end)
