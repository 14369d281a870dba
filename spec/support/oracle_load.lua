-- The workload that oracle.lua checks: SQL writers, HTTP publishers, subscribers that drop and resume, faults.
--
--   local load = oracle_load.new { db = db, brokers = { a, b }, seed = 1, writers = 6, ... }
--   load:run(30, faults)            load:finish()
--   oracle.check(load:files())      oracle.check(load:naive_files())
--   load:remove()
--
-- Every SQL transaction writes what it publishes into shop.ledger as well (oracle_writer.lua): the ledger is what was
-- committed, whatever happened to the writer, its connection or the server. A naive tail (`id > last`) reads that
-- ledger at the same time, for comparison.
local child = require "support.child"
local eventually = require "support.eventually"
local http = require "support.http"
local oracle_writer = require "support.oracle_writer"
local pg = require "support.pg"
local socket = require "socket"
local sse = require "support.sse"

local M = {}
local load = {}
load.__index = load

local TOPICS, KEYS = oracle_writer.TOPICS, oracle_writer.KEYS
local PATTERNS = { { "load/**" }, { "load/*" }, { "load/0", "load/1", "load/4" }, { "load/3" }, { "**" }, { "load/2" } }

local random = math.random

local function pick(list)
  return list[random(#list)]
end

local function chance(p)
  return random() < p
end

----------------------------------------------------------------- HTTP publishers
local publisher = {}
publisher.__index = publisher

function publisher:new_event()
  self.load.sent = self.load.sent + 1
  local n = self.load.sent
  local key = chance(0.1) and "shared-" .. random(KEYS) or chance(0.5) and "http-" .. n or nil
  local ev = { n = n, topic = pick(TOPICS), key = key, data = ("h.%d.%s"):format(n, ("y"):rep(random(0, 200))) }
  self.load.http:write(("P\t%d\t%s\t%s\t%s\n"):format(n, ev.topic, key or "-", ev.data))
  return ev
end

-- One event, or a batch of new ones.
function publisher:send_one()
  local events = table.remove(self.retry, 1)
  if not events then
    events = {}
    for i = 1, chance(0.15) and random(2, 8) or 1 do
      events[i] = self:new_event()
    end
  end
  self.in_flight[#self.in_flight + 1] = events
  if #events == 1 then
    local ev = events[1]
    return self.conn:send(http.render("POST", "/events?topic=" .. ev.topic, { ["Idempotency-Key"] = ev.key },
      ev.data), 0.5)
  end
  local lines = {}
  for i, ev in ipairs(events) do
    lines[i] = http.json.encode { topic = ev.topic, data = ev.data, key = ev.key }
  end
  return self.conn:send(http.render("POST", "/events", { ["Content-Type"] = "application/x-ndjson" },
    table.concat(lines, "\n")), 0.5)
end

-- What may be sent again is sent again: a batch only if every event of it has a key.
function publisher:undecided(events)
  for _, ev in ipairs(events) do
    if not ev.key then
      return
    end
  end
  self.retry[#self.retry + 1] = events
end

function publisher:broken()
  self.conn:close()
  self.conn = nil
  for _, events in ipairs(self.in_flight) do
    self:undecided(events)
  end
  self.in_flight = {}
  self.resume_at = eventually.now() + 0.05
end

function publisher:answer(r)
  local events = table.remove(self.in_flight, 1)
  if r.status == 503 then
    self.load.refused = self.load.refused + 1
    if not (r.headers["retry-after"] or ""):find "^%d+$" then
      self.load:problem "503 without Retry-After"
    end
    self.resume_at = eventually.now() + 0.1
    return self:undecided(events)
  elseif r.status ~= 201 and r.status ~= 200 then
    return self.load:problem(("publish: status %d: %s"):format(r.status, r.body))
  end
  local acks = r.json[1] and r.json or { r.json }
  for i, ev in ipairs(events) do
    self.load.http:write(("A\t%d\t%s\n"):format(ev.n, acks[i].id))
    self.load.acked = self.load.acked + 1
  end
end

function publisher:step()
  local now = eventually.now()
  if not self.conn then
    if now < self.resume_at or self.stopping and #self.retry == 0 then
      return
    end
    self.conn = http.connect(pick(self.load.brokers))
    if not self.conn then
      self.resume_at = now + 0.1
      return
    end
  end
  while #self.in_flight < 8 and now >= self.resume_at and (#self.retry > 0 or not self.stopping) do
    self.resume_at = math.max(self.resume_at, now + self.pause * random())
    if not self:send_one() then
      return self:broken()
    end
  end
  while self.conn and #self.in_flight > 0 do
    local ok, r, why = pcall(self.conn.response, self.conn, { timeout = 0 })
    if ok and r then
      self:answer(r)
    elseif ok and why == "timeout" then
      break
    else
      return self:broken()
    end
  end
  if self.conn and not self.stopping and chance(0.0005) then
    self:broken() -- goes away without waiting for its answers
  end
end

----------------------------------------------------------------- subscribers
local subscriber = {}
subscriber.__index = subscriber

function subscriber:note(...)
  self.journal:write(table.concat({ ... }, "\t"), "\n")
end

function subscriber:connect()
  local broker = pick(self.load.brokers)
  local c = sse.start(broker, { topic = self.patterns, last_event_id = self.last_id,
    rcvbuf = self.slow and 4096 or nil })
  if not c then
    self.resume_at = eventually.now() + 0.05
    return
  end
  self.client, self.broker, self.opened = c, broker, false
end

function subscriber:events()
  local c = self.client
  for _, ev in ipairs(c.queue) do
    if ev.type == "gap" then
      local gap = http.json.decode(ev.data)
      self:note("G", ev.id, gap.requested, gap.resumed_from, gap.reason)
    else
      self:note("E", ev.id, ev.data)
      if ev.data:find "^end%." then
        self.ends = self.ends + 1
      end
    end
  end
  c.queue, c.blocks, c.comments = {}, {}, {}
  if c.last_id ~= "" then
    self.last_id = c.last_id
  end
end

function subscriber:step(random_drops)
  local now = eventually.now()
  if not self.client then
    if now >= self.resume_at then
      self:connect()
    end
    return
  end
  local c = self.client
  if not (self.slow and chance(0.7)) then
    c:pump(8)
  end
  if c.status and not self.opened then
    self.opened = true
    if c.status ~= 200 then
      self.load:problem(("%s: status %d instead of a stream"):format(self.name, c.status))
    end
    self:note("C", self.last_id)
    self.drop_at = now + random() * 4
  end
  self:events()
  if c.ended then
    self.load.ended_by_broker = self.load.ended_by_broker + 1
    self:drop(now)
  elseif random_drops and self.opened and now >= self.drop_at then
    self:drop(now)
  end
end

-- What the parser had not seen yet is lost with the connection, as it is for any client.
function subscriber:drop(now)
  self:note "D"
  if chance(0.3) then
    self.client:reset()
  else
    self.client:close()
  end
  self.client, self.resume_at = nil, now + random() * 0.4
end

----------------------------------------------------------------- the tail everybody writes first
local naive = {}
naive.__index = naive

function naive:step()
  if not self.session or not self.session:running() then
    if self.session then
      self.session:close()
    end
    self.session = self.db:session(pg.APP)
    self.asked = false
  end
  if not self.asked then
    self.session:send(("SELECT id, data FROM shop.ledger WHERE id > %d ORDER BY id;"):format(self.last))
    self.asked = true
    return
  end
  local answer = self.session:answer()
  if answer then
    self.asked = false
    self.rows = 0
    for id, data in answer:gmatch "(%d+)|([^\n]*)\n" do
      self.journal:write(("E\t%s\t%s\n"):format(id, data))
      self.last, self.rows = math.tointeger(id), self.rows + 1
    end
  end
end

----------------------------------------------------------------- faults
-- Who needs an answer of the server ends its `freeze` early: nobody else would while he waits.
local function awake(l)
  l.db.server:thaw()
  return l.db.server
end

-- Each is called once; a function it returns is called `seconds` later to end the fault.
local FAULTS = {
  restart = function(l) l.db.server:restart "fast" end,
  crash = function(l) l.db.server:restart "immediate" end,
  kill = function(l)
    l.db.server:kill()
    l.db.server:start()
  end,
  terminate = function(l) awake(l):terminate() end,
  terminate_writers = function(l) awake(l):terminate(pg.APP) end,
  freeze = function(l)
    l.db.server:freeze()
    return function() l.db.server:thaw() end
  end,
  broker_kill = function(l)
    awake(l)
    local b = pick(l.brokers)
    b:kill()
    b:start()
  end,
  broker_restart = function(l)
    awake(l)
    pick(l.brokers):restart()
  end,
  broker_freeze = function(l)
    local b = pick(l.brokers)
    b:signal "STOP"
    return function() b:signal "CONT" end
  end,
  snapshot = function(l) -- nothing of the outbox can be vacuumed meanwhile
    local s = l.db:session()
    s:send "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM shop.ledger;"
    return function() s:close() end
  end,
  idle_publisher = function(l)
    local s = l.db:session(pg.APP)
    l.idle = l.idle + 1
    s:send("BEGIN; " .. l:writer("idle" .. l.idle):statements(1, true))
    return function()
      if s:running() then
        s:send "COMMIT;"
      end
      eventually.turn(0.05)
      s:close()
    end
  end,
}

M.FAULTS = {}
for name in pairs(FAULTS) do
  M.FAULTS[#M.FAULTS + 1] = name
end
table.sort(M.FAULTS)

-- A schedule over `seconds`: all kinds in random order, again and again; the last part is left quiet.
function M.schedule(seconds, every, kinds)
  local list, bag = {}, {}
  local at = every / 2
  while at < seconds - 2 do
    if #bag == 0 then
      bag = table.move(kinds or M.FAULTS, 1, #(kinds or M.FAULTS), 1, {})
    end
    list[#list + 1] = { at = at, kind = table.remove(bag, random(#bag)), seconds = 0.5 + random() * 2 }
    at = at + every * (0.5 + random())
  end
  return list
end

function load:fault(f, now)
  local ok, finish = pcall(FAULTS[f.kind], self)
  self.history[#self.history + 1] = ("%6.2f %s"):format(now - self.started_at, f.kind)
  if not ok then
    error(("fault %s: %s\n%s"):format(f.kind, finish, table.concat(self.history, "\n")))
  elseif finish then
    self.endings[#self.endings + 1] = { at = now + f.seconds, fn = finish }
  end
end

----------------------------------------------------------------- the whole
function load:writer(name)
  return oracle_writer.new { name = name, db = self.db, dir = self.dir, outbox = self.outbox,
    pause = self.options.pause }
end

-- options: db, brokers (none: only the ledger and its naive tail), writers, publishers, subscribers, pause
-- (seconds, the longest between two transactions of a writer)
function M.new(options)
  local l = setmetatable({ options = options, db = options.db, brokers = options.brokers or {}, dir = child.directory(),
    outbox = options.brokers ~= nil, sent = 0, acked = 0, refused = 0, ended_by_broker = 0, idle = 0, problems = {},
    writers = {}, publishers = {}, subscribers = {}, history = {}, endings = {} }, load)
  l.http = assert(io.open(l.dir .. "/http", "wb"))
  l.db:sql(oracle_writer.LEDGER)
  for i = 1, options.writers or 6 do
    l.writers[i] = l:writer("w" .. i)
  end
  for i = 1, l.outbox and options.publishers or 0 do
    l.publishers[i] = setmetatable({ load = l, retry = {}, in_flight = {}, resume_at = 0,
      pause = options.pause or 0.03 }, publisher)
  end
  for i = 1, l.outbox and options.subscribers or 0 do
    local s = setmetatable({ load = l, name = "sub" .. i, patterns = PATTERNS[(i - 1) % #PATTERNS + 1], last_id = "0",
      resume_at = 0, ends = 0, slow = i % 5 == 4 }, subscriber)
    s.journal = assert(io.open(l.dir .. "/" .. s.name, "wb"))
    s:note("S", table.unpack(s.patterns))
    l.subscribers[i] = s
  end
  l.naive = setmetatable({ db = l.db, last = 0, rows = 0 }, naive)
  l.naive.journal = assert(io.open(l.dir .. "/naive", "wb"))
  l.naive.journal:write "S\t**\n"
  l.started_at = eventually.now()
  return l
end

function load:problem(text)
  self.problems[#self.problems + 1] = text
end

function load:step(random_drops)
  for _, list in ipairs { self.writers, self.publishers } do
    for _, x in ipairs(list) do
      x:step()
    end
  end
  local waiting = {}
  for i, s in ipairs(self.subscribers) do
    s:step(random_drops)
    waiting[i] = s.client and s.client.socket
  end
  self.naive:step()
  local now = eventually.now()
  for i = #self.endings, 1, -1 do
    if now >= self.endings[i].at then
      table.remove(self.endings, i).fn()
    end
  end
  eventually.turn(0)
  local sockets = {}
  for _, s in pairs(waiting) do
    sockets[#sockets + 1] = s
  end
  socket.select(sockets, nil, 0.004)
end

function load:run(seconds, faults)
  local start, next_fault = eventually.now(), 1
  while eventually.now() - start < seconds do
    self:step(true)
    local f, now = faults and faults[next_fault], eventually.now()
    if f and now - start >= f.at then
      next_fault = next_fault + 1
      self:fault(f, now)
    end
  end
end

local function all(list, fn)
  local done = true
  for _, x in ipairs(list) do
    done = fn(x) and done
  end
  return done
end

local function topics_of(s)
  local p = s.patterns
  return (p[1] == "**" or p[1] == "load/**" or p[1] == "load/*") and #TOPICS or #p
end

-- Lets everybody come to the end: writers and publishers are done, subscribers have seen the last event of
-- each of their topics.
function load:finish()
  eventually("faults are over", function()
    self:step()
    return #self.endings == 0
  end, 30)
  eventually("writers and publishers are done", function()
    for _, p in ipairs(self.publishers) do
      p.stopping = true
    end
    local done = all(self.writers, function(w) return w:idle() end)
    self:step()
    return done and all(self.publishers, function(p) return #p.in_flight == 0 and #p.retry == 0 end)
  end, 60)
  eventually("writers' transactions have ended", function()
    return self.db:sql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND xact_start IS NOT NULL "
      .. "AND query LIKE '%outbox%'") == "0"
  end, 20)
  for gid in self.db:sql("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()"):gmatch "[^\n]+" do
    self.db:sql(("COMMIT PREPARED '%s'"):format(gid))
  end
  if self.outbox then
    eventually("the outbox is empty", function()
      self:step()
      return self.db:sql "SELECT count(*) FROM tidegate.outbox" == "0"
    end, 60)
  end
  local w = self:writer "end"
  for i, topic in ipairs(TOPICS) do
    self.db:sql("BEGIN; " .. w:statements(i, false, topic) .. " COMMIT")
  end
  eventually("every subscriber is at the end", function()
    self:step()
    return all(self.subscribers, function(s) return s.ends >= topics_of(s) end)
  end, 60)
  eventually("the naive tail has nothing more to read", function()
    self:step()
    return self.naive.asked == false and self.naive.rows == 0
  end, 20)
  self:write_truth()
end

function load:write_truth()
  local text = self.db:sql [[COPY (SELECT w, n, part, topic, coalesce(key, '-'), ordered, data FROM shop.ledger)
    TO STDOUT]]
  local f = assert(io.open(self.dir .. "/truth", "wb"))
  f:write(text, "\n")
  f:close()
  self.http:close()
  self.naive.journal:close()
  for _, s in ipairs(self.subscribers) do
    if s.client then
      s.client:close()
    end
    s.journal:close()
  end
end

function load:files()
  local journals = {}
  for i, s in ipairs(self.subscribers) do
    journals[i] = self.dir .. "/" .. s.name
  end
  return { truth = self.dir .. "/truth", http = self.dir .. "/http", journals = journals }
end

function load:naive_files()
  return { truth = self.dir .. "/truth", journals = { self.dir .. "/naive" }, keys = false }
end

function load:remove()
  if self.naive.session then
    self.naive.session:close()
  end
  for _, w in ipairs(self.writers) do
    if w.process then
      w.process:stop()
    end
  end
  if not os.getenv "TIDEGATE_SPEC_KEEP" then
    child.remove_tree(self.dir)
  end
end

return M
