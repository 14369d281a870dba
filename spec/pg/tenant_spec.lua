-- scripts/policies/tenant.lua while its PostgreSQL stops: who is in the cache is let in, the others come back by
-- themselves, nobody is denied, and open streams notice nothing.
local eventually = require "support.eventually"
local http = require "support.http"
local pg = require "support.pg"
local sse = require "support.sse"
local tidegate = require "support.tidegate"
local tokens = require "support.tokens"

describe("policies/tenant.lua and an outage", function()
  local server = pg.shared { settings = { max_connections = 20 } }

  local function headers(sub)
    return { Authorization = "Bearer " .. tokens.sign("HS256", tokens.SECRET, { iss = "https://id.example",
      aud = "tidegate", sub = sub, tenant = "acme", exp = os.time() + 600 }) }
  end

  -- As an EventSource: comes back until it has a stream. A denial would be the end of it.
  local function insist(broker, sub)
    return eventually(sub .. " has a stream", function()
      local one = sse.request(broker, { headers = headers(sub) })
      if one.status ~= 200 then
        eventually.give_up("status " .. one.status)
      end
      one:wait("its first block", function() return #one.blocks > 0 or one.ended end)
      if #one.blocks > 0 and table.concat(one.blocks[1].lines, "\n"):find "%f[%w]id: " then
        return one
      end
      one:close()
      return nil
    end, 30)
  end

  for name, fault in pairs {
    ["is stopped"] = { function() server():stop() end, function() server():start() end },
    ["is killed"] = { function() server():kill() end, function() server():start() end },
    ["is silent"] = { function() server():freeze() end, function() server():thaw() end },
  } do
    it("serves from memory what it can while the server " .. name, function()
      server():sql [[drop table if exists entitlement; drop role if exists reader; create role reader login;
        create table entitlement(tenant text, login text, topic text, role text); grant select on entitlement to reader;
        insert into entitlement select 'acme', 'user' || i, 'orders/**', 'writer' from generate_series(1, 40) i]]
      local f <close> = assert(io.open(SPEC_SOURCE_DIR .. "/scripts/policies/tenant.lua"))
      local broker = tidegate.start { policy = f:read "a", config = {
        keys = { main = { secret = tokens.SECRET } },
        database = { driver = "postgres", timeout_ms = 1000,
          conninfo = ("host=127.0.0.1 port=%d user=reader dbname=postgres"):format(server().port) },
        sse = { heartbeat_s = 1, retry_ms = 100 },
      } }
      local open = {}
      for i = 1, 20 do
        open[i] = insist(broker, "user" .. i)
      end
      fault[1]()
      for i = 1, 20 do -- known: let in at once, whatever the database does
        local again = sse.open(broker, { headers = headers("user" .. i) })
        assert.is_truthy(again.start_id)
      end
      for i = 21, 24 do -- not known: for now, and never a denial
        local c = sse.request(broker, { headers = headers("user" .. i) })
        assert.equal(200, c.status)
        assert.equal("closed", c:wait_end())
      end
      assert.equal(201, http.post(broker, "/events?topic=tenant/acme/orders/1", "meanwhile", headers "user1").status)
      for i = 1, 20 do
        assert.equal("meanwhile", open[i]:next().data)
      end
      fault[2]()
      for i = 21, 40 do
        insist(broker, "user" .. i)
      end
      eventually("strangers are denied again", function()
        return sse.request(broker, { headers = headers "stranger" }).status == 403
      end)
    end)
  end
end)
