-- Members who join one room at once, and leave it at once: how long until one who watches has been told of all of them,
-- each once; and how long a snapshot of them takes. On SQLite, on PostgreSQL, and there with a second broker, at which
-- the one who watches is. From the root of the tree:
--   build/release/tidegate_spec spec/bench/presence.lua     (PRESENCE_MEMBERS=n for another number than 10,000)
local child = require "support.child"
local eventually = require "support.eventually"
local http = require "support.http"
local pg = require "support.pg"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

local MEMBERS, BAR_S = tonumber(os.getenv "PRESENCE_MEMBERS" or 10000), 10

local POLICY = [[
return {
  api = 1,
  subscribe = function(req)
    if not req.query.member then return { topics = { "room/5/members/*" }, start = "latest", envelope = true } end
    return { topics = { "quiet" }, presence = { topic = "room/5/members", member = req.query.member } }
  end,
}
]]

local function row(...)
  print(("| %s | %.2f | %s |"):format(...))
end

-- Reads until all members were seen to come (or `gone`: to leave), each once; the seconds that took.
local function watch(c, gone)
  local from, seen, n = eventually.now(), {}, 0
  c:wait("all members", function()
    for _, ev in ipairs(c.queue) do
      if ev.type ~= "live" then
        local value = http.json.decode(ev.data)
        assert.equal(gone, value.data == "", ev.data)
        assert.is_nil(seen[value.topic], value.topic)
        seen[value.topic] = true
        n = n + 1
      end
    end
    c.queue, c.blocks = {}, {}
    return n == MEMBERS
  end, 300)
  return eventually.now() - from
end

local function options()
  return { policy = POLICY, config = { policy = { auth = "open" }, presence = { grace_s = 1 },
    store = { latest = { "room/*/members/*" } }, limits = { max_connections = 19500 } } }
end

-- All come to `broker` and leave it; one watches at `other`.
local function measure(store, broker, other)
  local watcher = sse.open(other)
  local members = child.start(tidegate.bench_binary(), { "idle", "--port", tostring(broker.port), "--connections",
    tostring(MEMBERS), "--seconds", "600", "--subscribe-path", "/events?topic=quiet&member={connection}" })
  finally(function() members:stop() end)
  print(("\n%s, %d members; the bar is %d s for all to be there.\n"):format(store, MEMBERS, BAR_S))
  print "| what | seconds | met? |\n|---|---|---|"
  local joined = watch(watcher, false)
  row("all have joined, and one who watches has been told", joined, joined <= BAR_S and "met" or "**not met**")
  local late = sse.start(other)
  row("a snapshot of them", watch(late, false), "-")
  late:close()
  members:stop()
  row("all have left (1 s of them is `presence.grace_s`)", watch(watcher, true), "-")
  eventually("a snapshot of nobody", function()
    local c = sse.open(other)
    return c:next().type == "live"
  end)
end

describe("what it takes that all come, and all go:", function()
  local server = pg.shared { settings = { fsync = "on", shared_buffers = "256MB", max_wal_size = "1GB" } }

  it("SQLite", function()
    local broker = tidegate.start(options())
    measure("SQLite", broker, broker)
  end)

  it("PostgreSQL", function()
    local broker = server():database():broker(options())
    measure("PostgreSQL", broker, broker)
  end)

  it("PostgreSQL, two brokers", function()
    local db = server():database()
    measure("PostgreSQL, two brokers", db:broker(options()), db:broker(options()))
  end)
end)
