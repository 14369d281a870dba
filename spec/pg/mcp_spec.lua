-- scripts/policies/mcp.lua on two brokers of one database: a session is known at both, an answer that is written into
-- the outbox is in the stream of its request, and the other broker goes on with that stream.
local eventually = require "support.eventually"
local http = require "support.http"
local pg = require "support.pg"
local sse = require "support.sse"
local tokens = require "support.tokens"

describe("a session of MCP on two brokers", function()
  local server = pg.shared {}

  it("has its answers from the outbox, and goes on at the other", function()
    local db = server():database()
    local function broker()
      return db:broker {
        policy_file = SPEC_SOURCE_DIR .. "/scripts/policies/mcp.lua",
        config = {
          keys = { main = { secret = tokens.SECRET } },
          policy = { settings = { server = "key", sessions = ("s"):rep(32) } },
          http = { routes = {
            { path = "/mcp", subscribe = true, publish = "raw", topic = "mcp", answer = "stream", delete = true },
          } },
        },
      }
    end
    local a, b = broker(), broker()
    local headers = { Authorization = "Bearer " .. tokens.sign("HS256", tokens.SECRET,
      { iss = "https://id.example", aud = "tidegate", sub = "ann", exp = os.time() + 600 }) }
    local app = sse.open(b, { headers = { Authorization = "Bearer key" } })
    local function call(at, message)
      message.jsonrpc = "2.0"
      local c = sse.request(at, { path = "/mcp", post = http.json.encode(message), headers = headers })
      assert.equal(200, c.status, c.headers["content-type"])
      return c, http.json.decode(app:next().data)
    end
    local function answer(asked, ...)
      for _, message in ipairs { ... } do
        db:sql(([[INSERT INTO tidegate.outbox (topic, data) VALUES ('%s', '%s')]])
          :format(asked.attrs.reply, http.json.encode(message)), pg.APP)
      end
    end

    local first, asked = call(a, { id = 1, method = "initialize" })
    answer(asked, { jsonrpc = "2.0", id = 1, result = { ok = true } })
    assert.matches('"result"', first:next().data)
    first:wait_end()
    headers["Mcp-Session-Id"] = first.headers["mcp-session-id"]

    for i = 2, 3 do -- at both: nothing falls between what is stored and what is answered at once
      local c, request = call(i % 2 == 0 and a or b, { id = i, method = "tools/call" })
      answer(request, { jsonrpc = "2.0", method = "notifications/progress" })
      local progress = c:next()
      c:reset()
      answer(request, { jsonrpc = "2.0", id = i, result = { n = i } })
      local back = sse.open(i % 2 == 0 and b or a, { path = "/mcp", headers = headers, last_event_id = progress.id })
      assert.equal(i, http.json.decode(back:next().data).id)
      back:wait_end()
      assert.equal("closed", back.ended)
    end
    assert.equal(204, http.request(b, "DELETE", "/mcp", headers).status)
    assert.equal("end", http.json.decode(app:next().data).type)
    for _, at in ipairs { a, b } do
      eventually("it is over there, too", function()
        local c = sse.request(at, { path = "/mcp", headers = headers })
        c:close()
        return c.status == 404
      end)
    end
  end)
end)
