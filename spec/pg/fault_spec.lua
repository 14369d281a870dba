-- Faults of the server while brokers run: clients keep their connection and their heartbeat, publishers are
-- told 503 with Retry-After while it lasts, and afterwards everything that was committed arrives, once.
local child = require "support.child"
local eventually = require "support.eventually"
local http = require "support.http"
local pg = require "support.pg"
local sse = require "support.sse"

local function try_publish(broker, data, key)
  local c = http.connect(broker)
  if not c then
    return nil
  end
  c:send(http.render("POST", "/events?topic=t" .. (key and "&key=" .. http.escape(key) or ""), nil, data))
  local r = c:response { timeout = 40 }
  c:close()
  return r
end

-- Begins a publish; returns its connection once PostgreSQL has been asked to store it. `server` must not answer.
local function publish_in_flight(broker, data)
  local requests = broker:metric "tidegate_http_requests_total"
  local c = http.connect(broker)
  c:send(http.render("POST", "/events?topic=t&key=" .. data, nil, data))
  eventually("it is parsed", function() return broker:metric "tidegate_http_requests_total" > requests end)
  eventually("it is on its way", function() return broker:metric "tidegate_store_append_queue_events" == 0 end)
  return c
end

-- A publisher that retries with its key until it is told an id.
local function publish_at_last(broker, data, timeout)
  return eventually(data .. " is published", function()
    local r = try_publish(broker, data, data)
    assert(r and (r.status == 200 or r.status == 201 or r.status == 503), r and r.body)
    return r.status ~= 503 and r.json.id
  end, timeout or 30)
end

-- One broker with two clients, of which one is slow to read; around a fault.
local watch = {}
watch.__index = watch

local function watched(db, options)
  local self = setmetatable({ db = db, expected = {} }, watch)
  options = options or {}
  options.config = options.config or {}
  options.config.sse = { heartbeat_s = 1, retry_ms = 100 }
  self.broker = db:broker(options)
  self.client = sse.open(self.broker, { topic = "t" })
  self.from_start = self.client.start_id
  return self
end

function watch:publish(data)
  publish_at_last(self.broker, data)
  self.expected[#self.expected + 1] = data
end

function watch:insert(data)
  self.db:insert { topic = "t", data = data }
  self.expected[#self.expected + 1] = data
end

-- The stream lives: it is open, and comments come.
function watch:alive(seconds)
  local c = self.client
  local before = #c.comments
  c:wait("heartbeats", function()
    assert(not c.ended, "the stream was ended: " .. tostring(c.ended))
    return #c.comments >= before + (seconds or 2)
  end, 10 + (seconds or 2))
  assert.equal(200, http.get(self.broker.admin, "/healthz").status)
end

-- While the fault lasts.
function watch:refused(data)
  local r = eventually("a publish is refused", function()
    local answer = try_publish(self.broker, data or "refused", data or "refused")
    if answer.status ~= 503 then
      self.surprise = true -- it was stored: it will be delivered
    end
    return answer.status == 503 and answer
  end, 40)
  assert.matches("^%d+$", r.headers["retry-after"])
  assert.matches("problem%+json", r.headers["content-type"])
end

-- Those that were inserted, those that were published: each kind has an order of its own.
local function by_kind(list)
  local kinds = { inserted = {}, published = {} }
  for _, data in ipairs(list) do
    local kind = data:find "^inserted" and kinds.inserted or kinds.published
    kind[#kind + 1] = data
  end
  return kinds
end

-- After it: everything expected came, nothing else, on the very same stream; and again on a resume.
function watch:whole()
  local function check(c, label)
    local got, seen = {}, {}
    local function take()
      for _, ev in ipairs(c:collect(#c.queue)) do
        assert.equal("message", ev.type, label)
        assert.is_nil(seen[ev.id], label)
        seen[ev.id] = true
        if ev.data ~= "refused" then -- told 503 when it was in doubt: it may exist
          got[#got + 1] = ev.data
        end
      end
    end
    c:wait("everything, " .. label, function()
      take()
      return #got >= #self.expected
    end, 30)
    eventually.pass(0.2, "a double would show by now")
    c:pump()
    take()
    assert.same(by_kind(self.expected), by_kind(got), label)
  end
  check(self.client, "on the stream that was open all the time")
  assert.is_nil(self.client.ended)
  check(sse.open(self.broker, { topic = "t", last_event_id = self.from_start }), "from the start")
  eventually("it says that it is ready", function() return http.get(self.broker.admin, "/readyz").status == 200 end)
end

describe("what the server refuses once does not keep a broker out of service when it is over:", function()
  local server = pg.shared {}

  local function ready_again(broker, what)
    assert.is_truthy(broker:logged { msg = what })
    eventually("it says that it is ready", function() return http.get(broker.admin, "/readyz").status == 200 end, 10)
  end

  it("one publish", function()
    local db = server():database()
    local b = db:broker()
    db:sql [[CREATE FUNCTION public.no() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN IF NEW.data = 'no' THEN
        RAISE EXCEPTION 'the disk is full, says the spec' USING ERRCODE = 'disk_full'; END IF;
      RETURN NEW; END $$]]
    db:sql "CREATE TRIGGER no BEFORE INSERT ON tidegate.events FOR EACH ROW EXECUTE FUNCTION public.no()"
    local r = try_publish(b, "no")
    assert.equal(503, r.status)
    ready_again(b, "cannot store events")
    assert.equal("0", db:sql "SELECT count(*) FROM tidegate.events")
    assert.equal(0, b:metric "tidegate_store_commits_total")
    publish_at_last(b, "yes")
  end)

  it("one page of history", function()
    local db = server():database()
    local b = db:broker { config = { event_log = { max_events = 16 } } }
    for i = 1, 20 do
      publish_at_last(b, tostring(i))
    end
    local s = db:session "postgres"
    s:run "BEGIN; LOCK TABLE tidegate.dedup, tidegate.events;"
    local c = assert(sse.start(b, { topic = "t", last_event_id = "earliest" }))
    eventually("the read is given up", function()
      return db:sql [[SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event_type = 'Lock'
        AND application_name = 'tidegate history' AND datname = current_database()]] ~= "0"
    end)
    eventually("it is told", function() return b:logged { msg = "cannot read history" } end)
    s:run "COMMIT;"
    c:close()
    ready_again(b, "cannot read history")
    s:close()
  end)
end)

describe("a broker whose PostgreSQL", function()
  local server = pg.shared { settings = { max_connections = 30 } }
  local w
  before_each(function()
    w = watched(server():database())
    w:publish "before"
    w:insert "inserted before"
  end)

  for _, mode in ipairs { "fast", "immediate" } do
    it(("is shut down (%s) and comes back"):format(mode), function()
      server():stop(mode)
      finally(function()
        if not server():running() then
          server():start()
        end
      end)
      w:refused()
      w:alive()
      assert.equal(503, http.get(w.broker.admin, "/readyz").status)
      server():start()
      w:insert "inserted after"
      w:publish "after"
      w:whole()
    end)
  end

  it("is killed and recovers", function()
    for i = 1, 3 do
      w:insert("inserted " .. i)
      w:publish("published " .. i)
      server():kill()
      server():start()
    end
    w:whole()
  end)

  it("stops answering", function()
    finally(function() server():thaw() end)
    server():freeze()
    local waits = http.connect(w.broker)
    local start = eventually.now()
    local c = publish_in_flight(w.broker, "refused")
    waits:send(http.render("POST", "/events?topic=t&key=refused", nil, "refused"))
    for conn, what in pairs { [c] = "not known whether it has stored this", [waits] = "nothing was stored" } do
      local r = assert(conn:response { timeout = 40 })
      assert.equal(503, r.status)
      assert.matches("^%d+$", r.headers["retry-after"])
      assert.matches(what, r.body, 1, true)
    end
    -- store.append_timeout_ms, not the 12 s after which the connection is given up
    assert.is_true(eventually.now() - start < 10)
    assert.equal(503, try_publish(w.broker, "refused", "refused").status) -- at once
    local ready = http.get(w.broker.admin, "/readyz")
    assert.equal(503, ready.status)
    assert.matches("does not answer", ready.body)
    w:alive(1)
    server():thaw()
    w:insert "inserted after"
    w:publish "after"
    w:whole()
  end)

  it("stops answering while nobody publishes: it is not ready", function()
    finally(function() server():thaw() end)
    server():freeze()
    eventually("it says so", function()
      local r = http.get(w.broker.admin, "/readyz")
      return r.status == 503 and r.body:find("does not answer", 1, true)
    end, 10)
    w:alive(1)
    server():thaw()
    w:publish "after"
    w:whole()
  end)

  it("stops answering before the broker has its first connection for publishes, which wait no longer", function()
    local db = server():database()
    local first, second = db:session "postgres", db:session "postgres"
    -- `first` lets the broker's look at the schema pass only when `second` waits behind it, which then holds what
    -- hands out ids: the broker starts, and its connections get no further.
    local function once(granted) -- whoever waits for a row holds this lock, whoever waits behind waits for it
      return ([[DO $$ BEGIN
        WHILE NOT EXISTS (SELECT 1 FROM pg_locks l JOIN pg_database d ON d.oid = l.database WHERE d.datname = '%s'
                             AND l.locktype = 'tuple' AND l.granted = %s) LOOP
          PERFORM pg_sleep(0.01);
        END LOOP; END $$;]]):format(db.name, granted)
    end
    first:run "BEGIN; SELECT seq FROM tidegate.head FOR UPDATE;"
    first:send(once(false) .. " COMMIT;")
    second:send(once(true) .. " BEGIN; SELECT seq FROM tidegate.head FOR UPDATE;")
    local b = db:broker { config = { store = { append_timeout_ms = 300 } } }
    finally(function() server():thaw() end)
    server():freeze()
    for i = 1, 3 do -- later ones neither: they are refused at once
      local r = try_publish(b, "refused", "refused " .. i)
      assert.equal(503, r.status)
      assert.matches("nothing was stored", r.body, 1, true)
    end
    assert.equal(0, b:metric "tidegate_store_connections_lost_total") -- not because a connection was given up
    server():thaw()
    second:answer()
    second:run "COMMIT;"
    publish_at_last(b, "after")
    assert.equal("after", db:sql "SELECT string_agg(data, ',') FROM tidegate.events")
    first:close()
    second:close()
  end)

  it("answers late stores what it took, once, and the publisher who asks again is told so", function()
    local db = server():database()
    local b = db:broker { config = { store = { append_timeout_ms = 500 } } }
    finally(function() server():thaw() end)
    local s = db:session "postgres"
    s:run "BEGIN; LOCK TABLE tidegate.events;" -- the statement waits for it, and is then carried out
    assert.equal(503, try_publish(b, "late", "late").status)
    s:run "COMMIT;"
    local id = publish_at_last(b, "late")
    s:close()
    assert.equal(id, db:sql "SELECT string_agg(seq::text, ' ') FROM tidegate.events")
    eventually("it says that it is ready", function() return http.get(b.admin, "/readyz").status == 200 end)
  end)

  it("stops answering while the broker is told to end", function()
    finally(function() server():thaw() end)
    local b = w.db:broker { config = { drain = { timeout_s = 2 } } }
    local c = sse.open(b, { topic = "t" })
    server():freeze()
    publish_in_flight(b, "refused")
    b:stop { timeout = 15 } -- with code 0, nothing left behind
    assert.equal("closed", c:wait_end())
    server():thaw()
    w:whole()
  end)

  it("stops answering when it is asked where a stream starts, and the broker is told to end", function()
    finally(function() server():thaw() end)
    local b = w.db:broker { config = { drain = { timeout_s = 300, retry_ms = 8000 }, sse = { retry_ms = 100 } } }
    local requests = b:metric "tidegate_http_requests_total"
    server():freeze()
    local c = assert(sse.start(b, { topic = "t", last_event_id = tostring(tonumber(w.from_start) + 1000) }))
    eventually("it is asked", function() return b:metric "tidegate_http_requests_total" > requests end)
    b:signal "TERM"
    eventually("it drains", function() return not http.connect(b) end)
    assert.is_nil(c.status)
    server():thaw()
    assert.equal("closed", c:wait_end(60))
    assert.equal(200, c.status)
    assert.is_true(c.retry_ms >= 4000, "it was ended as all others are")
    assert.equal(0, (b:wait_exit(60)))
  end)

  it("stops answering for a moment only", function()
    for i = 1, 3 do
      server():freeze()
      local c = http.connect(w.broker)
      c:send(http.render("POST", "/events?topic=t&key=p" .. i, nil, "p" .. i))
      eventually.pass(0.7, "as long as the server stands still")
      server():thaw()
      c:response { timeout = 20 }
      w:publish("p" .. i)
    end
    w:whole()
  end)

  it("ends its connections, again and again", function()
    for i = 1, 6 do
      assert.is_true(server():terminate() >= 0)
      w:insert("inserted " .. i)
      w:publish("published " .. i)
    end
    w:alive()
    w:whole()
  end)

  it("has no connection left for it", function()
    w.db:sql(("ALTER DATABASE %s CONNECTION LIMIT 0"):format(w.db.name))
    server():terminate()
    local refused = eventually("it has noticed", function()
      local r = try_publish(w.broker, "refused", "refused")
      return r.status == 503 and r
    end, 60)
    assert.matches("^%d+$", refused.headers["retry-after"])
    eventually("it says why", function()
      local r = http.get(w.broker.admin, "/readyz")
      return r.body:find("too many connections", 1, true) ~= nil, r.body
    end, 60)
    w:alive()
    w.db:sql(("ALTER DATABASE %s CONNECTION LIMIT -1"):format(w.db.name))
    w:insert "inserted after"
    w:publish "after"
    w:whole()
  end)

  it("becomes read-only", function()
    server():sql "ALTER SYSTEM SET default_transaction_read_only = on"
    server():sql "SELECT pg_reload_conf()"
    finally(function()
      server():sql "ALTER SYSTEM RESET default_transaction_read_only"
      server():sql "SELECT pg_reload_conf()"
    end)
    w:refused()
    w:alive()
    -- ALTER SYSTEM is no transaction that writes
    server():sql "ALTER SYSTEM RESET default_transaction_read_only"
    server():sql "SELECT pg_reload_conf()"
    w:insert "inserted after"
    w:publish "after"
    w:whole()
  end)

  it("has somebody who holds the row that hands out ids", function()
    local s = w.db:session()
    s:run "BEGIN; SELECT seq FROM tidegate.head FOR UPDATE;"
    w:insert "inserted meanwhile"
    w:refused()
    w:alive()
    s:run "ROLLBACK;"
    w:publish "after"
    w:whole()
  end)

  it("has somebody who holds that row for longer than a statement waits: the publish is tried again", function()
    local db = server():database()
    local b = db:broker { config = { store = { append_timeout_ms = 10000 } } }
    local s = db:session()
    s:run "BEGIN; SELECT seq FROM tidegate.head FOR UPDATE;"
    local from = eventually.now()
    local c = publish_in_flight(b, "patient")
    eventually.pass(1.3, "lock_timeout is a second")
    s:run "ROLLBACK;"
    s:close()
    local r = c:response { timeout = 30 }
    local took = eventually.now() - from
    assert.is_true(r.status == 201 or took > 10,
      ("refused after %.1f s: %s\n%s"):format(took, r.body, b:log()))
    c:close()
  end)

  it("has a publisher that is idle in its transaction, and somebody who wants the outbox for himself", function()
    local idle, greedy = w.db:session(pg.APP), w.db:session()
    idle:run "BEGIN; INSERT INTO tidegate.outbox (topic, data) VALUES ('t', 'idle');"
    greedy:send "BEGIN; LOCK TABLE tidegate.outbox IN ACCESS EXCLUSIVE MODE;" -- waits, and makes others wait
    eventually("it makes others wait", function()
      return tonumber(w.db:sql [[SELECT count(*) FROM pg_locks
        WHERE NOT granted AND relation = 'tidegate.outbox'::regclass]]) >= 2
    end)
    w:publish "not through the outbox"
    w:alive()
    idle:run "ROLLBACK;"
    eventually("it has the lock", function() return greedy:answer() end)
    greedy:run "COMMIT;"
    w:insert "inserted after"
    w:whole()
  end)
end)

-- The network between: a relay that can lose what passes.
local relay = {}
relay.__index = relay

local function start_relay(port)
  local node = assert(child.find "node", "nodejs is not installed")
  local self = setmetatable({ process = child.start(node, { SPEC_SOURCE_DIR .. "/spec/support/relay.js",
    tostring(port) }, { stdin = true }) }, relay)
  self.port = eventually("the relay listens", function() return self.process:output():match "port (%d+)\n" end)
  return self
end

function relay:command(text)
  local before = #self.process:output()
  self.process:write(text .. "\n")
  eventually("the relay obeys", function() return #self.process:output() > before end)
end

describe("a broker that reaches PostgreSQL over a network", function()
  local server = pg.shared {}
  local w, net
  before_each(function()
    local db = server():database()
    net = start_relay(server().port)
    w = watched(db, { config = { store = { conninfo = ("host=127.0.0.1 port=%s user=%s dbname=%s"):format(net.port,
      pg.OWNER, db.name) } } })
    w:publish "before"
  end)
  after_each(function() net.process:stop() end)

  it("which is cut: connections stay, nothing passes", function()
    net:command "cut"
    w:insert "inserted meanwhile"
    local start = eventually.now()
    w:refused()
    assert.is_true(eventually.now() - start < 10)
    w:alive(3)
    net:command "heal"
    w:publish "after"
    w:whole()
  end)

  it("which loses the answers only: what was stored is acknowledged, or told as such, and never doubled", function()
    local conns = {}
    net:command "deaf"
    for i = 1, 6 do -- without keys: whoever sends them again makes doubles
      conns[i] = http.connect(w.broker)
      conns[i]:send(http.render("POST", "/events?topic=t", nil, "deaf " .. i))
    end
    eventually("some were stored", function()
      return tonumber(w.db:sql "SELECT count(*) FROM tidegate.events WHERE data LIKE 'deaf%'") > 0
    end)
    w:alive()
    net:command "heal"
    local acked = {}
    for i, conn in ipairs(conns) do
      local r = assert(conn:response { timeout = 40 })
      acked["deaf " .. i] = r.status == 201 and r.json.id or false
      assert.is_true(r.status == 201 or r.status == 503)
    end
    publish_at_last(w.broker, "end")
    local seen = {}
    for _, ev in ipairs(w.client:collect_until("end", 30)) do
      assert.is_nil(seen[ev.data], "twice: " .. ev.data)
      seen[ev.data] = ev.id
    end
    assert.is_string(seen.before)
    for data, id in pairs(acked) do
      assert.is_true(not id or seen[data] == id, data)
    end
    assert.equal("0", w.db:sql [[
      SELECT count(*) FROM (SELECT data FROM tidegate.events GROUP BY data HAVING count(*) > 1) d]])
  end)

  it("which resets its connections, again and again", function()
    for i = 1, 4 do
      net:command "reset"
      w:insert("inserted " .. i)
      w:publish("published " .. i)
    end
    w:whole()
  end)
end)

describe("a broker whose PostgreSQL has no space left on the disk", function()
  if not pg.can_mount() then
    return -- needs a small file system of its own, which only root can mount
  end

  it("publishes again when there is", function()
    local server = pg.start { tmpfs = "120m", settings = { max_wal_size = "16MB" } }
    local w = watched(server:database())
    w:publish "before"
    local filler = server.data .. "/filler"
    local f = assert(io.open(filler, "wb"))
    local block = ("x"):rep(1 << 16)
    repeat
      local ok = f:write(block) and f:flush()
    until not ok
    f:close()
    -- grows until something does not fit any more
    local big, n = ("y"):rep(200000), 0
    eventually("a publish is refused", function()
      n = n + 1
      local r = try_publish(w.broker, n .. big, "big" .. n)
      if r.status == 503 then
        assert.matches("^%d+$", r.headers["retry-after"])
        return true
      end
      w.expected[#w.expected + 1] = n .. big
    end, 60)
    w:alive()
    os.remove(filler)
    eventually("the server is there", function()
      if not server:running() then
        server:start()
      end
      return server:try "SELECT 1"
    end, 30)
    publish_at_last(w.broker, "end")
    local got = {}
    for _, ev in ipairs(w.client:collect_until("end", 30)) do
      if ev.data ~= n .. big then -- told 503: it may exist
        got[#got + 1] = ev.data
      end
    end
    assert.equal(#w.expected, #got)
    for i, data in ipairs(w.expected) do
      assert.is_true(data == got[i])
    end
  end)
end)
