-- The oracle's world on SQLite (oracle/load.lua says what a world is): writers that are sqlite3 processes, a broker
-- with several workers that retains, another broker on the same file, and what can happen to them. Every transaction
-- writes what it publishes into the table ledger of the same file as well: that is what was committed.
--
--   local world = oracle_sqlite.new { writers = 4, workers = 2, config = {}, pause = 0.03 }
--
-- options: writers, workers (of the first broker), config (of both), pause (seconds, the longest between two
-- transactions of a writer)
local child = require "support.child"
local clients = require "oracle.clients"
local eventually = require "support.eventually"
local files = require "support.files"
local http = require "support.http"
local rows = require "oracle.rows"
local tidegate = require "support.tidegate"
local uv = require "luv"

local M = {}
local world, writer = {}, {}
world.__index, writer.__index = world, writer

local TOPICS = clients.TOPICS
local CHUNK = 40   -- transactions of one process
local AGAIN_S = 0.1 -- after a process that failed
local RETAIN = 1000
local BIG_ROWS = 200

local random = math.random

local function chance(p)
  return random() < p
end

local function sqlite3()
  return assert(child.find "sqlite3", "the package sqlite3 is not installed")
end

local HEAD = ".bail on\n.timeout 20000\n"

-- Runs a script on the database in a process of its own; its output.
function world:sql(text)
  local path = self.load.dir .. "/script"
  files.write(path, HEAD .. text .. ";\n")
  local code, out, err = tidegate.run(sqlite3(), { args = { self.path, ".read " .. path }, timeout = 60 })
  assert(code == 0, err)
  return (out:gsub("\n$", ""))
end

----------------------------------------------------------------- writers
function writer:say(...)
  self.script[#self.script + 1] = (...):format(select(2, ...))
end

local LEDGER = "INSERT INTO ledger VALUES (last_insert_rowid(), '%s', %d, %d, '%s', '-', 1, '%s');"

function writer:put(topic)
  self.part = self.part + 1
  topic = topic or TOPICS[random(#TOPICS)]
  local data = ("%s.%d.%d.%s"):format(self.name, self.n, self.part, ("x"):rep(random(0, 200)))
  self:say("INSERT INTO events(topic, data) VALUES ('%s', '%s');", topic, data)
  self:say(LEDGER, self.name, self.n, self.part, topic, data)
end

local KINDS = {
  { 6, function(w) w:put() end },
  { 2, function(w) -- several
    for _ = 1, random(2, 6) do
      w:put()
    end
  end },
  { 1, function(w) -- many
    for _ = 1, random(5, 30) do
      w:put()
    end
  end },
  { 2, function(w) -- a part of it is taken back
    w:put()
    w:say "SAVEPOINT s;"
    w:put()
    w:say "ROLLBACK TO s;"
    w:put()
  end },
  { 2, function(w)
    w:put()
    w.undone = true
  end },
}

function writer:transaction()
  self.n, self.part, self.undone = self.n + 1, 0, false
  local at = random(13)
  self:say "BEGIN IMMEDIATE;"
  for _, kind in ipairs(KINDS) do
    at = at - kind[1]
    if at <= 0 then
      kind[2](self)
      break
    end
  end
  self:say(self.undone and "ROLLBACK;" or "COMMIT;")
  if chance(0.5) then
    self:say(".shell sleep %.3f", random() * self.pause)
  end
end

-- Rows of one transaction, as text. big: of 1 MB each
function writer:burst(topic, count, big)
  self.n, self.part, self.script = self.n + 1, 0, {}
  self:say "BEGIN IMMEDIATE;"
  for i = 1, count do
    local head = ("%s.%d.%d."):format(self.name, self.n, i)
    self:say("INSERT INTO events(topic, data) SELECT '%s', '%s' || %s;", topic, head,
      big and "(SELECT data FROM block)" or "''")
    self:say(LEDGER, self.name, self.n, i, topic, big and rows.big_name(head) or head)
  end
  self:say "COMMIT;"
  return table.concat(self.script, "\n")
end

function writer:step()
  if self.process and self.process:running() then
    return
  end
  local now = eventually.now()
  if self.process then
    self.again_at = self.process.exit_code == 0 and now or now + AGAIN_S
    self.process:stop()
    self.process = nil
  end
  if self.world.resting or now < (self.again_at or 0) then
    return
  end
  self.script = {}
  for _ = 1, CHUNK do
    self:transaction()
  end
  files.write(self.file, HEAD .. table.concat(self.script, "\n") .. "\n")
  self.process = child.start(sqlite3(), { self.world.path, ".read " .. self.file })
end

local function new_writer(w, name)
  return setmetatable({ world = w, name = name, n = 0, part = 0, pause = w.options.pause or 0.03,
    file = ("%s/%s.sql"):format(w.load.dir, name) }, writer)
end

----------------------------------------------------------------- the world
function M.new(options)
  local w = setmetatable({ options = options, FAULTS = M.FAULTS, brokers = {}, writers = {}, extra = 0 }, world)
  w.dir = child.directory()
  w.path = w.dir .. "/events.db"
  -- what the one has in memory reaches farther back than the store; the other reads the store most of the time
  for i, more in ipairs { { workers = options.workers or 2, retain = RETAIN, memory = 8 * RETAIN },
    { retain = 0, memory = 128 } } do
    local config = { workers = more.workers, store = { path = w.dir, retain_events = more.retain, retain_age_s = 0 },
      event_log = { max_events = more.memory, page_events = 64 } }
    for k, v in pairs(options.config or {}) do
      config[k] = v
    end
    w.brokers[i] = tidegate.start { config = config }
  end
  return w
end

function world:start(load)
  self.load = load
  self:sql [[CREATE TABLE ledger(id INTEGER, w TEXT, n INTEGER, part INTEGER, topic TEXT, key TEXT, ordered INTEGER,
    data TEXT); CREATE TABLE block(data TEXT)]]
  self:sql(("INSERT INTO block VALUES ('%s')"):format(rows.block()))
  for i = 1, self.options.writers or 4 do
    self.writers[i] = new_writer(self, "w" .. i)
  end
end

function world:step()
  for _, x in ipairs(self.writers) do
    x:step()
  end
end

function world:rest()
  self.resting = true
  for _, x in ipairs(self.writers) do
    if x.process then
      return false, "a writer has not ended"
    end
  end
  return true
end

function world:wake()
  self.resting = false
end

function world:named(prefix)
  self.extra = self.extra + 1
  return new_writer(self, prefix .. self.extra)
end

function world:ends()
  local w = new_writer(self, "end")
  w.script = {}
  w:say "BEGIN IMMEDIATE;"
  for i, topic in ipairs(TOPICS) do
    w.n, w.part = i, 0
    w:put(topic)
  end
  w:say "COMMIT;"
  self:sql(table.concat(w.script, "\n"))
end

function world:trimmed()
  return tonumber(self:sql "SELECT coalesce(max(value), 0) FROM meta WHERE name = 'trimmed'")
end

local function head_of(text)
  return text:match "%d+" or "0"
end

local HEAD_SQL = "SELECT seq FROM sqlite_sequence WHERE name = 'events'"
local LEDGER_SQL = ".separator \"\\t\"\nSELECT w, n, part, topic, key, ordered, data FROM ledger"
local EVENTS_SQL = ([[.separator "\t"
  SELECT id, data FROM ledger WHERE id > %%s UNION SELECT seq, CASE WHEN length(data) > 10000
    THEN substr(data, 1, length(data) - %d) || '#%d' ELSE data END FROM events]]):format(rows.BIG_BYTES, rows.BIG_BYTES)

-- What the store has is a fact, and how far it is cut.
function world:note_events()
  for line in self:sql(EVENTS_SQL:format(self.noted or 0)):gmatch "[^\n]+" do
    self.load:fact("B", self.load.replaced, line)
  end
  self.load:fact("T", self:trimmed())
end

function world:write_truth()
  self:note_events()
  files.write(self.load.dir .. "/truth", self:sql(LEDGER_SQL) .. "\n")
end

function world:close()
  for _, x in ipairs(self.writers) do
    if x.process then
      x.process:stop()
    end
  end
  for _, b in ipairs(self.brokers) do
    b:stop()
  end
  child.remove_tree(self.dir)
end

----------------------------------------------------------------- faults
local function worker_pids(broker)
  local list = {}
  for i, w in ipairs(http.get(broker.admin, "/status").json.workers) do
    list[i] = w.pid
  end
  return list
end

-- SIGSTOP, but not in the middle of a commit: nobody could write for as long as it stands still.
local function freeze(self, load, pid)
  load:wait("it stands still without the lock of writers", function()
    assert(uv.kill(pid, "sigstop"))
    local ok = pcall(self.sql, self, ".timeout 2000\nBEGIN IMMEDIATE; ROLLBACK")
    if not ok then
      assert(uv.kill(pid, "sigcont"))
      load:pass(0.2)
    end
    return ok
  end, 60)
end

-- Rows are written until the other worker has removed what this one, which stands still, has not read.
local function held_while_others_retain(self, load, pid)
  freeze(self, load, pid)
  local ok, why = pcall(function()
    local head = tonumber(head_of(self:sql(HEAD_SQL)))
    local w = self:named "burst"
    load:wait("what the worker has not read is removed", function()
      self:sql(w:burst("load/3", 500))
      return self:trimmed() > head + 500
    end, 60)
  end)
  assert(uv.kill(pid, "sigcont"))
  assert(ok, why)
end

M.FAULTS = {
  broker_kill = { stall = 30, run = function(self)
    local b = self.brokers[random(#self.brokers)]
    b:kill()
    b:start()
  end },
  broker_restart = { stall = 30, run = function(self, load)
    load:restart(self.brokers[random(#self.brokers)])
  end },
  broker_freeze = { stall = 30, run = function(self)
    local b = self.brokers[2]
    b:signal "STOP"
    return function() b:signal "CONT" end
  end },
  worker_kill = { stall = 30, run = function(self)
    local pids = worker_pids(self.brokers[1])
    local pid = pids[random(#pids)]
    if pid ~= 0 then
      assert(uv.kill(pid, "sigkill"))
    end
  end },
  lock = { stall = 30, run = function(self) -- another program holds the lock of writers
    local p = child.start(sqlite3(), { self.path }, { stdin = true })
    p:write ".timeout 20000\nBEGIN IMMEDIATE;\n"
    return function()
      p:write "ROLLBACK;\n.quit\n"
      p:wait()
      p:stop()
    end
  end },

  -- who was frozen wakes, and what was written meanwhile is not there any more
  worker_behind = { stall = 30, apart = true, run = function(self, load)
    local pids = {}
    load:wait("all workers are there", function()
      pids = worker_pids(self.brokers[1])
      for _, pid in ipairs(pids) do
        if pid == 0 then
          return false
        end
      end
      return true
    end, 20)
    held_while_others_retain(self, load, pids[#pids])
    load:go_on()
  end },
  broker_behind = { stall = 30, apart = true, run = function(self, load)
    held_while_others_retain(self, load, self.brokers[2].pid)
    load:go_on()
  end },

  restore_stopped = { stall = 30, apart = true, run = function(self, load)
    local copy = ("%s/copy%d.db"):format(load.dir, load.replaced)
    self:sql(("VACUUM INTO '%s'"):format(copy))
    load:go_on()
    load:rest()
    load:go_away()
    self:note_events()
    local before, old = self:sql(LEDGER_SQL), head_of(self:sql(HEAD_SQL))
    for _, suffix in ipairs { "", "-wal", "-shm" } do
      os.remove(self.path .. suffix)
    end
    local code, _, err = tidegate.run("/bin/mv", { args = { copy, self.path } })
    assert(code == 0, err)
    self.noted = head_of(self:sql(HEAD_SQL))
    load:note_replacement("restore_stopped", self.noted, old)
    load:note_lost(before, self:sql(LEDGER_SQL))
    load:come_back()
    load:wake()
    load:go_on()
  end },

  big_rows = { stall = 60, apart = true, run = function(self, load)
    self:sql(self:named "big":burst("big/0", BIG_ROWS, true))
    load:go_on()
  end },
}

return M
