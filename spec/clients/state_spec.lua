-- Streams with a beginning, a snapshot and an end, as off-the-shelf clients read them (scripts/STREAMS.md).
local Crowd = require "clients.crowd"
local roster = require "clients.roster"
local tidegate = require "support.tidegate"

local CLIENTS = { ["eventsource 3"] = true, ["eventsource 4"] = true, ["@microsoft/fetch-event-source"] = true,
  ["eventsource-parser"] = true, ["undici"] = true }
local PATIENCE = 40

-- Says in the log who asks. Topic 2 is the client's own, by which it is found (crowd.lua).
local POLICY = [[
  return {
    api = 1,
    filters = { over = "type == 'done'" },
    authenticate = function(req)
      if req.query.client then print("asks <" .. req.query.client .. ">") end
      return {}
    end,
    subscribe = function(req)
      return { topics = { "state/*", req.topics[2] }, filter = "none", start = "latest",
        first = { { event = "put", data = { lamps = 2 } } }, ends = "over" }
    end,
    publish = function(pub) return pub end,
  }
]]

describe("off-the-shelf clients of a stream with state", function()
  local broker, crowd
  local expected = { { event = "put", data = '{"lamps":2}' } }

  local function publish(topic, data, type)
    local id = broker:publish("state/" .. topic, data, { type = type })
    return { event = type or "message", id = id, data = data }
  end

  local function expect(ev)
    expected[#expected + 1] = ev
  end

  local function requests(name)
    local n = 0
    for who in broker:log():gmatch "asks <(.-)>" do
      n = n + (who == name and 1 or 0)
    end
    return n
  end

  local clients = {}
  for _, entry in ipairs(roster.clients) do
    if CLIENTS[entry[1]] then
      clients[#clients + 1] = entry
    end
  end

  setup(function()
    broker = tidegate.start { keep = true, policy = POLICY, config = {
      store = { latest = { "state/*" } }, sse = { retry_ms = 200 },
    } }
    publish("hall", "on")
    expect(publish("stairs", "off"))
    expect(publish("hall", "dim"))
    crowd = Crowd.start(broker, clients, "unused")
    expect { event = "live", id = expected[#expected].id, data = ('{"position":"%s"}'):format(expected[#expected].id) }
    crowd:wait(function(c) return c.events[4] end, PATIENCE)
    expect(publish("stairs", "on", "added"))
    expect(publish("hall", "over", "done"))
    publish("hall", "behind the end")
    crowd:wait(function(c) return c.ended end, PATIENCE)
  end)

  teardown(function()
    if crowd then
      crowd:stop()
    end
    if broker then
      broker:dispose()
    end
  end)

  for i, entry in ipairs(clients) do
    it(("read `first`, the snapshot, `live`, and an end that is one: %s"):format(entry[1]), function()
      local c = crowd.list[i]
      local got = c:since()
      for k, ev in ipairs(got) do
        ev.id = k > 1 and ev.id or nil -- `first` has none of its own
      end
      assert.same(expected, got, c:story())
      assert.is_string(c.ended, c:story())
      -- the stream, and the one time that it came back and got 204
      assert.equal(2, requests(entry[1]), c:story())
    end)
  end
end)
