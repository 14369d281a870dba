-- Figures of the PostgreSQL store on one machine, to be read as ratios:
--   cmake --preset release && cmake --build --preset release
--   TIDEGATE_BIN=build/release/tidegate build/asan/tidegate_spec spec/bench/pg_figures.lua
-- The server writes to a real disk (fsync is on) below TMPDIR. The load comes from pgbench and from raw sockets of
-- this process: what it costs is part of the figures.
-- TIDEGATE_BENCH=commit,publish,latest,drain,resume,share: only those. TIDEGATE_BENCH_SCALE=0.1: shorter.
local child = require "support.child"
local eventually = require "support.eventually"
local http = require "support.http"
local pg = require "support.pg"
local programs = require "support.pg_programs"
local socket = require "socket"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

local SCALE = tonumber(os.getenv "TIDEGATE_BENCH_SCALE" or "1")
local CHOSEN = (os.getenv "TIDEGATE_BENCH" or "commit,publish,latest,drain,resume,share") .. ","
local PAYLOAD = ("x"):rep(200)

local function figure(name, fn)
  if CHOSEN:find(name .. ",", 1, true) then
    it(name, fn)
  end
end

local function say(...)
  io.write((...):format(select(2, ...)), "\n")
  io.flush()
end

local function scaled(n)
  return math.max(1, math.floor(n * SCALE))
end

local function start_pgbench(db, script, args)
  local dir = child.directory()
  local f = assert(io.open(dir .. "/script.sql", "wb"))
  f:write(script, "\n")
  f:close()
  local all = { "-n", "-M", "prepared", "-h", db.server.dir, "-p", tostring(db.server.port), "-U", pg.APP,
    "-f", dir .. "/script.sql" }
  table.move(args, 1, #args, #all + 1, all)
  all[#all + 1] = db.name
  local p = child.start(programs.path "pgbench", all)
  return p, function()
    p:stop()
    child.remove_tree(dir)
  end
end

-- Runs it to its end; transactions per second, and how many.
local function pgbench(db, script, ...)
  local p, stop = start_pgbench(db, script, { ... })
  p:wait(300)
  local out = p:output()
  stop()
  return assert(tonumber(out:match "tps = ([%d.]+)"), out), tonumber(out:match "actually processed: (%d+)")
end

local function read(path)
  local f = io.open(path, "rb")
  local text = f and f:read "a" or ""
  if f then
    f:close()
  end
  return text
end

-- Seconds of CPU that processes have used: `pids`, and backends of their server for `role`.
local function cpu(pids, role)
  local sum = 0
  for _, pid in ipairs(pids) do
    local user, system = read("/proc/" .. pid .. "/stat"):match("^.*%)" .. (" %S+"):rep(11) .. " (%d+) (%d+)")
    local title = read("/proc/" .. pid .. "/cmdline")
    if user and (not role or title:find("postgres: " .. role .. " ", 1, true)) then
      sum = sum + (tonumber(user) + tonumber(system)) / 100
    end
  end
  return sum
end

-- Publishes over HTTP without end: `depth` requests in flight on each connection. Events per second.
local function flood(broker, seconds, connections, depth)
  local request = http.render("POST", "/events?topic=bench/1", { ["Content-Type"] = "text/plain" }, PAYLOAD)
  local sockets, done = {}, 0
  for i = 1, connections do
    local s = assert(http.connect(broker)).socket
    s:settimeout(0)
    assert(s:send(request:rep(depth)))
    sockets[i] = s
  end
  local start = eventually.now()
  while eventually.now() - start < seconds do
    for _, s in ipairs((socket.select(sockets, nil, 0.1))) do
      local data, err, partial = s:receive(65536)
      data = data or partial
      assert(err ~= "closed", "the broker closed a connection")
      local _, n = data:gsub("HTTP/1.1 201", "")
      assert(not data:find "HTTP/1.1 [345]", data)
      done = done + n
      if n > 0 then
        assert(s:send(request:rep(n)))
      end
    end
  end
  return done / (eventually.now() - start)
end

-- Reads `count` clients until each has `want` events: seconds, events per second.
local function read_all(broker, count, want, position)
  local sockets, state = {}, {}
  local start = eventually.now()
  for i = 1, count do
    local c = assert(sse.start(broker, { topic = "bench/**", last_event_id = position(i) }))
    c.socket:settimeout(0)
    sockets[i], state[c.socket] = c.socket, { got = 0, tail = "" }
  end
  local total, open = 0, count
  while open > 0 do
    assert(eventually.now() - start < 300, open .. " clients are not done")
    for _, s in ipairs((socket.select(sockets, nil, 0.5))) do
      local data, err, partial = s:receive(262144)
      assert(err ~= "closed", "the broker closed a stream")
      local x = state[s]
      data = x.tail .. (data or partial)
      x.tail = data:sub(-7) -- one less than what is counted
      local _, n = data:gsub("\ndata: x", "")
      x.got, total = x.got + n, total + n
      if x.got >= want and not x.done then
        x.done, open = true, open - 1
      end
    end
  end
  local seconds = eventually.now() - start
  for _, s in ipairs(sockets) do
    s:close()
  end
  return seconds, total / seconds
end

describe("figures:", function()
  local server = pg.shared { settings = { fsync = "on", max_connections = 150, shared_buffers = "256MB",
    max_wal_size = "2GB", checkpoint_timeout = "15min" } }
  local db
  before_each(function() db = server():database() end)

  figure("commit", function()
    local broker = db:broker()
    local c = sse.open(broker, { topic = "bench/**" })
    local p, stop = start_pgbench(db, "INSERT INTO tidegate.outbox (topic, data) VALUES ('bench/1', "
      .. "extract(epoch FROM clock_timestamp())::text || ' " .. PAYLOAD .. "')",
      { "-c", "8", "-j", "1", "-R", "500", "-T", tostring(scaled(20)) })
    local list = {}
    while p:running() do
      if c:pump() then
        local now = socket.gettime()
        for _, ev in ipairs(c.queue) do
          list[#list + 1] = (now - tonumber(ev.data:match "^[%d.]+")) * 1000
        end
        c.queue, c.blocks = {}, {}
      end
      socket.select({ c.socket }, nil, 0.02)
    end
    stop()
    table.sort(list)
    local function percentile(share)
      return list[math.max(1, math.ceil(#list * share))]
    end
    -- the clock is read by the INSERT: the commit, with its fsync, is in the figure
    say("COMMIT to client, 500 events/s: p50 %.2f ms, p99 %.2f ms, max %.2f ms (%d events; goal p50 5, p99 25)",
      percentile(0.5), percentile(0.99), list[#list], #list)
  end)

  figure("publish", function()
    local broker = db:broker()
    db:sql "CREATE TABLE single (LIKE tidegate.outbox INCLUDING ALL); GRANT INSERT ON single TO app"
    local single = "INSERT INTO single (topic, data) VALUES ('bench/1', '" .. PAYLOAD .. "')"
    flood(broker, 1, 8, 8)
    local one = pgbench(db, single, "-c", "1", "-T", tostring(scaled(8)))
    local many = pgbench(db, single, "-c", "64", "-j", "2", "-T", tostring(scaled(8)))
    local rate = flood(broker, 10 * SCALE, 8, 8)
    say("HTTP publishes, 64 in flight: %.0f events/s; one INSERT per commit: %.0f/s on one connection (ratio %.1f), "
      .. "%.0f/s on 64 (goal 20,000/s, ratio 10)", rate, one, rate / one, many)
    say("  64 connections with one in flight each: %.0f events/s", flood(broker, 10 * SCALE, 64, 1))
  end)

  -- With store.latest and without, by turns: who publishes waits for what the store keeps in addition.
  for _, topics in ipairs { 1, 1000, 100000 } do
    figure("latest", function()
      local function start(latest)
        return server():database():broker { config = { store = { latest = latest, latest_topics = 200000 },
          policy = { file = SPEC_SOURCE_DIR .. "/spec/bench/latest_policy.lua", auth = "open" } } }
      end
      local rates, p99 = { {}, {} }, { {}, {} }
      for _ = 1, 3 do
        for with, latest in ipairs { {}, { "bench/**" } } do
          local broker = start(latest)
          local function load(seconds)
            local code, out, err = tidegate.run(tidegate.bench_binary(), { timeout = 60, args = { "publish",
              "--port", tostring(broker.port), "--publishers", "16", "--pipeline", "16", "--topics",
              tostring(topics), "--seconds", tostring(seconds), "--publish-path", "/events?topic=bench/{topic}",
              "--json" } })
            assert(code == 0, err)
            return http.json.decode(out).publishes
          end
          load(scaled(2))
          local got = load(scaled(6))
          table.insert(rates[with], got.per_s)
          table.insert(p99[with], got.ack_ms.p99)
          broker:stop()
        end
      end
      for with = 1, 2 do
        table.sort(rates[with])
        table.sort(p99[with])
      end
      say("publishes of %d topics with store.latest: %.0f events/s, p99 %.1f ms; without: %.0f, %.1f ms; ratio %.2f "
        .. "(medians of 3; goal 0.85)", topics, rates[2][2], p99[2][2], rates[1][2], p99[1][2],
        rates[2][2] / rates[1][2])
    end)
  end

  figure("drain", function()
    local rows = scaled(100000)
    db:sql(("INSERT INTO tidegate.outbox (topic, data) SELECT 'bench/' || i %% 100, '%s' FROM generate_series(1, %d) i")
      :format(PAYLOAD, rows), pg.APP)
    local start = eventually.now()
    db:broker()
    eventually("the outbox is empty", function()
      return db:sql "SELECT count(*) FROM tidegate.outbox" == "0"
    end, 300)
    local all = eventually.now() - start
    local seconds = tonumber(db:sql "SELECT extract(epoch FROM max(at) - min(at)) FROM tidegate.events")
    say("drain of %d rows: %.0f rows/s (%.2f s from the first id to the last, %.2f s with the start of the broker; "
      .. "goal 30,000/s)", rows, rows / seconds, seconds, all)
  end)

  figure("resume", function()
    local events, clients = scaled(10000), 200
    local broker = db:broker { config = { event_log = { max_events = 64 } } } -- everything from the server
    db:sql(("INSERT INTO tidegate.outbox (topic, data) SELECT 'bench/' || i %% 100, '%s' FROM generate_series(1, %d) i")
      :format(PAYLOAD, events + 100), pg.APP)
    eventually("everything is an event", function()
      return db:sql "SELECT count(*) FROM tidegate.events" == tostring(events + 100)
    end, 60)
    local first = tonumber(db:sql "SELECT min(seq) FROM tidegate.events") - 1
    for name, position in pairs {
      ["all at the same place"] = function() return tostring(first) end,
      ["at 100 different places"] = function(i) return tostring(first + i % 100) end,
    } do
      local before = broker:metric "tidegate_store_pages_read_total"
      local seconds, rate = read_all(broker, clients, events, position)
      say("%d clients resume %d events each, %s: %.2f s, %.0f events/s delivered, %d pages read", clients, events, name,
        seconds, rate, broker:metric "tidegate_store_pages_read_total" - before)
    end
  end)

  figure("share", function()
    db:sql [[CREATE SCHEMA shop; CREATE TABLE shop.loan (id bigserial PRIMARY KEY, book text, reader text);
      GRANT USAGE ON SCHEMA shop TO app; GRANT INSERT ON shop.loan TO app;
      GRANT USAGE ON SEQUENCE shop.loan_id_seq TO app]]
    local script = "BEGIN;\nINSERT INTO shop.loan (book, reader) VALUES ('emma', 'ann');\n"
      .. "INSERT INTO tidegate.outbox (topic, type, data) VALUES ('loan/emma', 'lent', '" .. PAYLOAD .. "');\nCOMMIT;"
    local broker = tidegate.prepare(db:broker_options())
    tidegate.forget_later(broker)
    local with, without, costs = {}, {}, {}
    for _ = 1, 3 do -- by turns: the disk and the neighbours change
      without[#without + 1] = pgbench(db, script, "-c", "16", "-j", "1", "-T", tostring(scaled(8)))
      db:sql "TRUNCATE tidegate.outbox"
      broker:start()
      local n
      with[#with + 1], n = pgbench(db, script, "-c", "16", "-j", "1", "-T", tostring(scaled(8)))
      costs[#costs + 1] = (cpu { broker.pid } + cpu(db.server:processes(), pg.OWNER)) / n * 1e6
      broker:stop()
      db:sql "TRUNCATE tidegate.outbox"
    end
    table.sort(with)
    table.sort(without)
    table.sort(costs)
    say("application commits/s: %.0f with the broker, %.0f without: %.2f (medians of 3; goal 0.9); an event costs the "
      .. "broker and its connections %.0f us of CPU", with[2], without[2], with[2] / without[2], costs[2])
  end)
end)
