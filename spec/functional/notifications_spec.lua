-- scripts/policies/notifications.lua in a broker: all users of an office come back at once, behind one address, and
-- each is looked up in the database.
local child = require "support.child"
local eventually = require "support.eventually"
local files = require "support.files"
local http = require "support.http"
local socket = require "socket"
local tidegate = require "support.tidegate"
local tokens = require "support.tokens"

local USERS = 200
local BACKEND = "of-the-backend"

describe("policies/notifications.lua", function()
  local dir = child.directory()
  local path = dir .. "/app.db"

  teardown(function()
    child.remove_tree(dir)
  end)

  it("lets all users of one address in who come at once, each looked up in the database", function()
    local code, _, err = tidegate.run("/usr/bin/sqlite3", { args = { path, [[create table role (login text, role text);
      insert into role values ('u1', 'support')]] } })
    assert.equal(0, code, err)
    local broker = tidegate.start {
      policy = files.read(SPEC_SOURCE_DIR .. "/scripts/policies/notifications.lua"),
      config = {
        keys = { main = { secret = tokens.SECRET } }, database = { driver = "sqlite", path = path },
        policy = { settings = { backend = { raw = ("secret %q"):format(BACKEND) } } },
        trusted_proxies = { "127.0.0.1" },
      },
    }
    local heads, clients = {}, {}
    for i = 1, USERS do
      heads[i] = ("GET /events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nX-Forwarded-For: 203.0.113.9\r\n"
        .. "Authorization: Bearer %s\r\n\r\n"):format(tokens.sign("HS256", tokens.SECRET, { iss = "https://id.example",
          aud = "tidegate", sub = "u" .. i, exp = os.time() + 600 }))
    end
    for i, head in ipairs(heads) do
      clients[i] = assert(socket.connect("127.0.0.1", broker.port))
      clients[i]:settimeout(60)
      assert(clients[i]:send(head))
    end
    for i, c in ipairs(clients) do
      assert.equal("HTTP/1.1 200 OK", (assert(c:receive "*l", "no answer to user " .. i)))
    end
    assert.equal(USERS, broker:metric "tidegate_subscribers")
    assert.equal(USERS, broker:metric "tidegate_database_queries_total")
    for whom, count in pairs { ["all"] = USERS, ["role/support"] = 1, ["user/u2"] = 1 } do
      local before = broker:metric "tidegate_events_delivered_total"
      local r = http.post(broker, "/events?topic=notify/" .. whom, "x", { Authorization = "Bearer " .. BACKEND })
      assert.equal(201, r.status, r.body)
      eventually("it has been delivered", function()
        return broker:metric "tidegate_events_delivered_total" == before + count
      end)
    end
    for _, c in ipairs(clients) do
      c:close()
    end
    broker:stop()
  end)
end)
