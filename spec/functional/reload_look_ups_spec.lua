-- Look-ups under way while the policy is loaded anew, again and again: each is answered once, by the policy that
-- asked, and nothing is left of those of the past.
local child = require "support.child"
local eventually = require "support.eventually"
local http = require "support.http"
local http_server = require "support.http_server"
local prometheus = require "support.prometheus"
local tidegate = require "support.tidegate"

local POLICY = [[
  local VERSION = "%d"
  return {
    api = 1,
    queries = { q%d = "select topic, %d as version from entitlement where login = $1" },
    authenticate = function() return { sub = "ann" } end,
    subscribe = function(req, who)
      local res, err = http.get("app", { path = "/" .. VERSION })
      if not res then return nil, err end
      local rows
      rows, err = db.query("q" .. VERSION, who.sub)
      if not rows then return nil, err end
      return tg.deny(404, VERSION .. " " .. res.body .. " " .. rows[1].version)
    end,
  }
]]

describe("look-ups across reloads of the policy", function()
  local dir = child.directory()

  teardown(function()
    child.remove_tree(dir)
  end)

  it("are answered by the policy that asked", function()
    local code, _, err = tidegate.run("/usr/bin/sqlite3", { args = { dir .. "/app.db",
      "create table entitlement(login, topic); insert into entitlement values ('ann', 'a')" } })
    assert.equal(0, code, err)
    local held = {}
    local server = http_server.start(function(request, c)
      held[#held + 1] = { c, request.target:sub(2) }
    end)
    local broker = tidegate.start { policy = POLICY:format(0, 0, 0), config = {
      database = { driver = "sqlite", path = dir .. "/app.db" },
      http_targets = { app = { url = server.url, timeout_ms = 20000 } },
      policy = { subscribe_timeout_ms = 20000, suspended_per_address = 100 },
    } }
    local clients = {}
    for version = 0, 20 do
      if version > 0 then
        broker:write_file("policy.lua", POLICY:format(version, version, version))
        assert.equal(200, http.post(broker.admin, "/policy/reload", "").status)
      end
      clients[version] = http.connect(broker)
      clients[version]:send(http.render("GET", "/events", { Accept = "application/json, */*" }))
      eventually("it has asked", function() return #held == version + 1 end)
    end
    for i = #held, 1, -1 do -- the oldest last
      http_server.answer(held[i][1], { body = held[i][2] })
    end
    for version = 0, 20 do
      eventually("there is an answer", function()
        return #require("socket").select({ clients[version].socket }, nil, 0.01) > 0
      end)
      local r = clients[version]:response()
      assert.equal(404, r.status, r.body)
      assert.equal(("%d %d %d"):format(version, version, version), r.json.detail)
    end
    local values = prometheus.parse(http.get(broker.admin, "/metrics").body).values
    assert.equal(0, values.tidegate_http_client_active)
    assert.equal(0, values.tidegate_database_running)
    assert.equal(0, values.tidegate_policy_stale_completions_total)
    server:stop()
  end)
end)
