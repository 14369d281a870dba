-- The oracle's world on PostgreSQL (oracle/load.lua says what a world is): psql writers, brokers on one database, and
-- what can happen to it. Every SQL transaction writes what it publishes into shop.ledger as well (oracle/writer.lua):
-- the ledger is what was committed, whatever happened to the writer, its connection or the server. A store that is
-- replaced takes its ledger with it, so that is written down before.
--
--   local world = oracle_pg.new { server = server, writers = 6, brokers = 2, config = {}, pause = 0.03 }
--
-- brokers: none (only the ledger). The broker's list of servers names two: a standby takes the port that is free.
local child = require "support.child"
local clients = require "oracle.clients"
local eventually = require "support.eventually"
local oracle_writer = require "oracle.writer"
local pg = require "support.pg"
local rows = require "oracle.rows"
local tail = require "oracle.tail"
local tidegate = require "support.tidegate"

local M = {}
local world = {}
world.__index = world

local LEDGER = "SELECT w, n, part, topic, coalesce(key, '-'), ordered, data FROM shop.ledger"
local EVENTS = ([[SELECT seq, CASE WHEN octet_length(data) > 10000
    THEN left(data, length(data) - %d) || '#%d' ELSE data END FROM tidegate.events WHERE seq > %%d ORDER BY seq]])
    :format(rows.BIG_BYTES, rows.BIG_BYTES)
local BIG_ROWS = 200
local RETAIN = 2000

local function writer(w, name)
  return oracle_writer.new { name = name, db = w.db, dir = w.load.dir, outbox = w.outbox, pause = w.options.pause }
end

function M.new(options)
  local w = setmetatable({ options = options, FAULTS = M.FAULTS, outbox = (options.brokers or 0) > 0, brokers = {},
    writers = {}, extra = 0 }, world)
  w.db = options.server:database { schema = w.outbox }
  w.spare_port = child.free_port()
  for i = 1, options.brokers or 0 do
    local config = { store = { servers = { options.server, { port = w.spare_port } }, retain_events = RETAIN } }
    for k, v in pairs(options.config or {}) do
      config[k] = v
    end
    w.brokers[i] = w.db:broker { config = config }
  end
  return w
end

function world:start(load)
  self.load = load
  self.db:sql(oracle_writer.LEDGER)
  if self.outbox then
    self.db:sql "INSERT INTO shop.block VALUES ('')"
    for at = 1, rows.BIG_BYTES, 100000 do -- as much as an argument of psql may be long
      self.db:sql(("UPDATE shop.block SET data = data || '%s'"):format(rows.block():sub(at, at + 99999)))
    end
    self.book = tail.new { db = self.db, sql = EVENTS, each = function(id, data)
      load:fact("B", load.replaced, id, data)
    end }
  end
  for i = 1, self.options.writers or 6 do
    self.writers[i] = writer(self, "w" .. i)
  end
  self.naive_path = load.dir .. "/naive"
  self.naive_journal = assert(io.open(self.naive_path, "wb"))
  self.naive_journal:write "S\t**\n"
  if not self.outbox then
    self.naive = tail.new { db = self.db, sql = "SELECT id, data FROM shop.ledger WHERE id > %d ORDER BY id",
      each = function(id, data) self.naive_journal:write(("E\t%s\t%s\n"):format(id, data)) end }
  end
end

function world:step()
  for _, x in ipairs(self.writers) do
    x:step()
  end
  for _, t in pairs { self.book, self.naive } do
    t:step()
  end
end

function world:named(prefix)
  self.extra = self.extra + 1
  return writer(self, prefix .. self.extra)
end

----------------------------------------------------------------- rest and end
-- Ends what its writers have open. Prepared transactions of theirs become events.
local function writers_done(self)
  local done = true
  for _, x in ipairs(self.writers) do
    done = x:idle() and done
  end
  return done and self.db:sql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND xact_start IS NOT NULL "
    .. "AND query LIKE '%outbox%'") == "0"
end

function world:rest()
  if not self.resting then -- once
    if not writers_done(self) then
      return false, "a writer has not ended"
    end
    for gid in self.db:sql("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()"):gmatch "[^\n]+" do
      self.db:sql(("COMMIT PREPARED '%s'"):format(gid))
    end
    self.resting = true
  end
  if self.outbox and self.db:sql "SELECT count(*) FROM tidegate.outbox" ~= "0" then
    return false, "the outbox is not empty"
  end
  for _, t in pairs { self.book, self.naive } do
    if not t:at_end() then
      return false, "a tail is not at the end"
    end
  end
  return true
end

function world:wake()
  self.resting = false
  for _, x in ipairs(self.writers) do
    x:wake()
  end
end

function world:ends()
  local w = writer(self, "end")
  for i, topic in ipairs(clients.TOPICS) do
    self.db:sql("BEGIN; " .. w:statements(i, false, topic) .. " COMMIT")
  end
end

local function ledger(db)
  return db:sql(("COPY (%s) TO STDOUT"):format(LEDGER))
end

-- Of a store that is replaced, too: a copy may still have what it had removed.
local function note_trimmed(load, db)
  load:fact("T", db:sql "SELECT trimmed FROM tidegate.retention")
end

function world:write_truth()
  if self.book then
    self.load:wait("the book is complete", function() return self.book:at_end() end, 20)
    note_trimmed(self.load, self.db)
  end
  local f = assert(io.open(self.load.dir .. "/truth", "wb"))
  f:write(ledger(self.db), "\n")
  f:close()
  self.naive_journal:close()
end

function world:naive_files()
  return { truth = self.load.dir .. "/truth", journals = { self.naive_path }, keys = false }
end

function world:close()
  for _, t in pairs { self.book, self.naive } do
    t:close()
  end
  for _, x in ipairs(self.writers) do
    if x.process then
      x.process:stop()
    end
  end
end

----------------------------------------------------------------- a dump that is put back
local function run(program, server, args)
  local all = { "-h", server.dir, "-p", tostring(server.port), "-U", "postgres" }
  table.move(args, 1, #args, #all + 1, all)
  local code, out, err = tidegate.run(assert(child.find(program)), { args = all, timeout = 60 })
  return code == 0, code == 0 and out or err
end

local function head(db)
  return db:sql "SELECT seq FROM tidegate.head"
end

-- A part of a dump, as SQL.
local function as_script(path, ...)
  local code, text, err = tidegate.run(assert(child.find "pg_restore"), { args = { "-f", "-", path, ... } })
  assert(code == 0, err)
  return text
end

-- A dump, under load; its path, and the newest id in it. pg_dump lists the tables before it locks them: a partition
-- that retention drops between ends it.
local function dump(self)
  local path = ("%s/dump%d"):format(self.load.dir, self.load.replaced)
  for try = 1, 5 do
    local ok, why = run("pg_dump", self.db.server, { "-Fc", "-d", self.db.name, "-f", path })
    if ok then
      break
    end
    assert(try < 5 and why:find 'relation "tidegate%.events_%d+" does not exist', why)
  end
  local text = as_script(path, "-a", "-n", "tidegate", "-t", "head")
  return path, assert(text:match "\nt\t(%d+)\t")
end

-- While it is not known to which replacement events belong.
local function close_book(self)
  local book = self.book
  book:close()
  self.book = nil
  return book
end

local function open_book(self, book, last)
  book.last = math.tointeger(tonumber(last))
  self.book = book
end

-- put_back(path): replaces the database. Notes what that has lost.
local function restored(self, load, kind, stopped, put_back)
  local path, copy = dump(self)
  load:go_on()
  load:rest()
  if stopped then
    load:go_away()
  end
  local before, old = ledger(self.db), head(self.db)
  note_trimmed(load, self.db)
  local book = close_book(self)
  put_back(path)
  load:note_replacement(kind, copy, old)
  open_book(self, book, copy)
  os.remove(path)
  load:note_lost(before, ledger(self.db))
  if stopped then
    load:come_back()
  end
  load:wake()
  load:go_on()
end

local function create_and_fill(self, path)
  local db = self.db
  db.server:sql(("CREATE DATABASE %s TEMPLATE template0"):format(db.name))
  db.server:sql(("GRANT CREATE ON DATABASE %s TO %s"):format(db.name, pg.OWNER))
  local ok, why = run("pg_restore", db.server, { "-d", db.name, path })
  assert(ok, why)
end

----------------------------------------------------------------- a primary that is frozen and returns
-- Connections of its writers stay behind with it: what was under way there may yet be committed there.
local function fail_over(self, load)
  local old = self.db.server
  local new = old:standby { port = self.spare_port, settings = old.settings }
  load:go_on()
  old:freeze()
  local received
  eventually("the standby has replayed what it has", function()
    local now = new:sql "SELECT pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()"
    local same = now == received
    received = now
    eventually.pass(0.1, "two looks that agree are of two moments")
    return same and now:match "^(.*)|" == now:match "|(.*)$"
  end, 20)
  local copy = head(self.db:on(new))
  for _, x in ipairs(self.writers) do
    x:cut()
  end
  new:promote()
  self.db.server, self.spare_port = new, old.port
  return old, new, copy
end

-- The old primary is put away for good. What it had, and the new one has not, is lost: also what it did commit when
-- it woke. It is asked on a port that nobody else knows.
local function put_away(self, load, old, copy, kind)
  old:kill()
  old.port = child.free_port()
  old:start()
  local there = self.db:on(old)
  local before, old_head = ledger(there), head(there)
  note_trimmed(load, there)
  for line in there:sql(EVENTS:format(tonumber(copy))):gmatch "[^\n]+" do
    load:fact("B", load.replaced, (line:gsub("|", "\t", 1)))
  end
  old:stop "immediate"
  child.remove_tree(old.dir)
  load:note_replacement(kind, copy, old_head)
  load:note_lost(before, ledger(self.db))
end

local function leapt(self, copy)
  return tonumber(self.db:sql(("SELECT count(*) FROM tidegate.leap WHERE after >= %s"):format(copy))) > 0
end

local function frozen_primary(self, load, kind, meanwhile)
  local old, new, copy = fail_over(self, load)
  local book = close_book(self)
  -- committed on the new primary before any broker has found it
  new:sql(self:named "f":burst("load/3", 100), { db = self.db.name, role = pg.APP })
  load:wait("a broker has found the new primary", function() return leapt(self, copy) end, 60)
  meanwhile(old)
  put_away(self, load, old, copy, kind)
  open_book(self, book, copy)
  load:go_on()
end

----------------------------------------------------------------- faults
-- Who needs an answer of the server ends its `freeze` early: nobody else would while he waits.
local function awake(self)
  self.db.server:thaw()
  return self.db.server
end

local function any_broker(self)
  return self.brokers[math.random(#self.brokers)]
end

M.FAULTS = {
  restart = { stall = 30, run = function(self) self.db.server:restart "fast" end },
  crash = { stall = 30, run = function(self) self.db.server:restart "immediate" end },
  kill = { stall = 30, run = function(self)
    awake(self)
    self.db.server:kill()
    self.db.server:start()
  end },
  terminate = { stall = 30, run = function(self) awake(self):terminate() end },
  terminate_writers = { stall = 30, run = function(self) awake(self):terminate(pg.APP) end },
  freeze = { stall = 30, run = function(self)
    local server = self.db.server
    server:freeze()
    return function() server:thaw() end
  end },
  broker_kill = { stall = 30, run = function(self)
    awake(self)
    local b = any_broker(self)
    b:kill()
    b:start()
  end },
  broker_restart = { stall = 30, run = function(self, load)
    awake(self)
    load:restart(any_broker(self))
  end },
  broker_freeze = { stall = 30, run = function(self)
    local b = any_broker(self)
    b:signal "STOP"
    return function() b:signal "CONT" end
  end },
  snapshot = { stall = 30, run = function(self) -- nothing of the outbox can be vacuumed meanwhile
    local s = self.db:session()
    s:send "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM shop.ledger;"
    return function() s:close() end
  end },
  idle_publisher = { stall = 30, run = function(self)
    local s = self.db:session(pg.APP)
    s:send("BEGIN; " .. self:named "idle":statements(1, true))
    return function()
      if s:running() then
        s:send "COMMIT;"
      end
      eventually.pass(0.05, "the COMMIT is on its way before the session ends")
      s:close()
    end
  end },

  -- the copy is older than what the brokers have handed out
  restore_stopped = { stall = 30, apart = true, run = function(self, load)
    restored(self, load, "restore_stopped", true, function(path)
      self.db.server:sql(("DROP DATABASE %s WITH (FORCE)"):format(self.db.name))
      create_and_fill(self, path)
    end)
  end },
  restore_renamed = { stall = 30, apart = true, run = function(self, load)
    local aside = self.db.name .. "_aside"
    restored(self, load, "restore_renamed", true, function(path)
      self.db.server:sql(("ALTER DATABASE %s RENAME TO %s"):format(self.db.name, aside))
      create_and_fill(self, path)
    end)
    self.db.server:sql(("DROP DATABASE %s WITH (FORCE)"):format(aside))
  end },
  restore_running = { stall = 30, apart = true, run = function(self, load)
    restored(self, load, "restore_running", false, function(path)
      -- what `pg_restore --clean` does, but it stumbles over the keys of partitions
      local script = path .. ".sql"
      local f = assert(io.open(script, "wb"))
      f:write("DROP SCHEMA tidegate, shop CASCADE;\n", as_script(path))
      f:close()
      eventually("the dump is restored", function() -- brokers are in its way: a deadlock is an end, too
        return run("psql", self.db.server, { "-X", "-q", "-1", "-v", "ON_ERROR_STOP=1", "-d", self.db.name, "-f",
          script })
      end, 30)
      os.remove(script)
    end)
  end },

  -- it comes back when the brokers have found the new one, and is fenced then
  frozen_primary = { stall = 20, apart = true, run = function(self, load)
    frozen_primary(self, load, "frozen_primary", function(old)
      load:pass(1)
      old:thaw()
      load:pass(1)
    end)
  end },
  -- it stays silent
  silent_primary = { stall = 20, apart = true, run = function(self, load)
    frozen_primary(self, load, "silent_primary", function()
      load:go_on()
      load:pass(3)
    end)
  end },

  big_rows = { stall = 60, apart = true, run = function(self, load)
    local w = self:named "big"
    self.db:sql(w:burst("big/0", BIG_ROWS, true), pg.APP)
    local ok = pcall(load.wait, load, "large rows are moved", function()
      local left = self.db:sql "SELECT count(*) FROM tidegate.outbox WHERE topic = 'big/0'"
      return left == "0", left .. " are left"
    end, 180)
    if not ok then
      load:problem("%d rows of 1 MB in one transaction are not moved within three minutes", BIG_ROWS)
      self.db:sql "DELETE FROM tidegate.outbox WHERE topic = 'big/0'"
    end
  end },
  publication = { stall = 30, apart = true, run = function(self, load)
    self.db:sql "SET client_min_messages = error; CREATE PUBLICATION everything FOR ALL TABLES"
    local w, trimmed = self:named "pub", nil
    local ok = pcall(load.wait, load, "retention goes on", function()
      local now = tonumber(self.db:sql "SELECT trimmed FROM tidegate.retention")
      trimmed = trimmed or now
      if now <= trimmed then
        self.db:sql(w:burst("load/2", 300), pg.APP)
      end
      load:pass(0.5)
      return now > trimmed
    end, 120)
    if not ok then
      load:problem "retention does not go on under a publication for all tables"
    end
    self.db:sql "DROP PUBLICATION everything"
  end },
}

return M
