-- SQL writers of the oracle's workload: psql processes that run scripts of transactions of every kind, each of
-- which writes what it publishes into shop.ledger as well.
--
--   local w = oracle_writer.new { name = "w1", db = db, dir = dir, pause = 0.03, outbox = true }
--   w:step()       often: starts the next process when the last one is done, or was cut off
--   w:idle()       true when it has stopped; ends it in the middle of its script if need be. w:wake() lets it go on
--   w:statements(n, ordered, topic)      one row, as text
--   w:burst(topic, count, big)           so many rows in one transaction; big: of 1 MB each
local child = require "support.child"
local clients = require "oracle.clients"
local eventually = require "support.eventually"
local pg = require "support.pg"
local rows = require "oracle.rows"

local M = {}

local TOPICS, KEYS = clients.TOPICS, clients.KEYS
local CHUNK = 40 -- transactions of one process
local AGAIN_S = 0.1 -- after a process that was cut off

M.LEDGER = [[
CREATE SCHEMA shop;
CREATE TABLE shop.ledger (
  id bigserial PRIMARY KEY, w text, n int, part int, topic text, key text, ordered int, data text);
GRANT USAGE ON SCHEMA shop TO app;
GRANT INSERT, SELECT ON shop.ledger TO app;
GRANT USAGE ON SEQUENCE shop.ledger_id_seq TO app;
CREATE TABLE shop.block (data text); -- what large payloads end with
GRANT SELECT ON shop.block TO app;
]]

local random = math.random

local function pick(list)
  return list[random(#list)]
end

local function chance(p)
  return random() < p
end

local writer = {}
writer.__index = writer

-- A row of the current transaction.
function writer:row(ordered, key)
  self.part = self.part + 1
  local data = ("%s.%d.%d.%s"):format(self.name, self.n, self.part, ("x"):rep(random(0, 200)))
  return { w = self.name, n = self.n, part = self.part, topic = pick(TOPICS), key = key, ordered = ordered and 1 or 0,
    data = data }
end

local function ledger_sql(row)
  return ("INSERT INTO shop.ledger (w, n, part, topic, key, ordered, data) VALUES ('%s', %d, %d, '%s', %s, %d, '%s');")
    :format(row.w, row.n, row.part, row.topic, pg.quote(row.key), row.ordered, row.data)
end

-- The business row first, the event after it, as applications are told to.
function writer:put(row)
  self:say(ledger_sql(row))
  if self.outbox then
    self:say(pg.insert(row) .. ";")
  end
end

function writer:say(text)
  self.script[#self.script + 1] = text
end

function writer:sleep(seconds)
  self:say(("SELECT pg_sleep(%.3f);"):format(seconds))
end

local KINDS = {
  { 30, function(w) -- one event
    w:say "BEGIN;"
    w:put(w:row(true))
    w:say "COMMIT;"
  end },
  { 10, function(w) -- without BEGIN: one statement that does both
    local r = w:row(true)
    if not w.outbox then
      return w:put(r)
    end
    w:say(("WITH l AS (%s RETURNING topic, data) INSERT INTO tidegate.outbox (topic, data) SELECT topic, data FROM l;")
      :format(ledger_sql(r):sub(1, -2)))
  end },
  { 8, function(w) -- several
    w:say "BEGIN;"
    for _ = 1, random(2, 6) do
      w:put(w:row(true))
    end
    w:say "COMMIT;"
  end },
  { 12, function(w) -- takes its time between insert and commit
    w:say "BEGIN;"
    w:put(w:row(true))
    w:sleep(random() * 0.05)
    w:say "COMMIT;"
  end },
  { 1, function(w) -- a long one, and one right behind it
    w:say "BEGIN;"
    w:put(w:row(true))
    w:sleep(1 + random() * 2)
    w:say "COMMIT;"
    w.n, w.part = w.n + 1, 0
    w:say "BEGIN;"
    w:put(w:row(true))
    w:say "COMMIT;"
  end },
  { 8, function(w)
    w:say "BEGIN;"
    w:put(w:row(true))
    w:sleep(random() * 0.01)
    w:say "ROLLBACK;"
  end },
  { 8, function(w) -- a part of it is taken back
    w:say "BEGIN;"
    w:put(w:row(true))
    w:say "SAVEPOINT s;"
    w:put(w:row(true))
    w:say "ROLLBACK TO SAVEPOINT s;"
    w:put(w:row(true))
    w:say "COMMIT;"
  end },
  { 8, function(w) -- returns before it is on disk
    w:say "BEGIN; SET LOCAL synchronous_commit = off;"
    w:put(w:row(true))
    w:say "COMMIT;"
  end },
  { 5, function(w) -- ends in another transaction, later, or not at all
    local gid = ("%s-%d"):format(w.name, w.n)
    w:say "BEGIN;"
    w:put(w:row(false))
    w:say(("PREPARE TRANSACTION '%s';"):format(gid))
    w.later[#w.later + 1] = ("%s PREPARED '%s';"):format(chance(0.7) and "COMMIT" or "ROLLBACK", gid)
  end },
  { 4, function(w) -- many rows at once
    local many = {}
    for i = 1, random(5, 30) do
      many[i] = w:row(true)
    end
    w:say "BEGIN;"
    local function copy(head, line)
      w:say(head)
      for _, r in ipairs(many) do
        w:say(line(r))
      end
      w:say "\\."
    end
    copy("COPY shop.ledger (w, n, part, topic, ordered, data) FROM STDIN;", function(r)
      return ("%s\t%d\t%d\t%s\t%d\t%s"):format(r.w, r.n, r.part, r.topic, r.ordered, r.data)
    end)
    if w.outbox then
      copy("COPY tidegate.outbox (topic, data) FROM STDIN;", function(r) return r.topic .. "\t" .. r.data end)
    end
    w:say "COMMIT;"
  end },
  { 6, function(w) -- with a key that others use as well: one of them is the event
    w:say "BEGIN;"
    w:put(w:row(false, "shared-" .. random(KEYS)))
    w:say(chance(0.8) and "COMMIT;" or "ROLLBACK;")
  end },
}

local KIND_SUM = 0
for _, kind in ipairs(KINDS) do
  KIND_SUM = KIND_SUM + kind[1]
end

function writer:transaction()
  self.n, self.part = self.n + 1, 0
  local at = random() * KIND_SUM
  for _, kind in ipairs(KINDS) do
    at = at - kind[1]
    if at <= 0 then
      kind[2](self)
      break
    end
  end
  if #self.later > 0 and chance(0.2) then
    self:say(table.remove(self.later, 1))
  end
  if chance(0.3) then
    self:sleep(random() * self.pause)
  end
end

-- The next psql process, when the last one is done or was cut off.
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
  if self.stopping or now < (self.again_at or 0) then
    return
  end
  self.script = { "\\o /dev/null", "\\set VERBOSITY terse", "SET client_min_messages = warning;" }
  for _ = 1, CHUNK do
    self:transaction()
  end
  local f = assert(io.open(self.path, "wb"))
  f:write(table.concat(self.script, "\n"), "\n")
  f:close()
  local db = self.db
  self.process = child.start(assert(child.find "psql"), { "-X", "-q", "-h", db.server.dir,
    "-p", tostring(db.server.port), "-U", pg.APP, "-d", db.name, "-f", self.path })
end

-- Ends soon: in the middle of its script if need be.
function writer:idle()
  self.stopping = self.stopping or eventually.now()
  self:step()
  if self.process and eventually.now() > self.stopping + 2 then
    self.process:stop()
    self.process = nil
  end
  return self.process == nil
end

function writer:wake()
  self.stopping = nil
end

-- Cut off at once.
function writer:cut()
  if self.process and self.process:running() then
    self.process:signal "sigkill"
  end
end

-- The n-th row of this writer, outside of its script.
function writer:statements(n, ordered, topic)
  self.n, self.part, self.script = n, 0, {}
  local row = self:row(ordered)
  row.topic = topic or row.topic
  self:put(row)
  return table.concat(self.script, " ")
end

-- Rows of one transaction, written by the server itself; as text.
function writer:burst(topic, count, big)
  self.n = self.n + 1
  local head = ("'%s.%d.' || i || '.'"):format(self.name, self.n)
  return ([[BEGIN;
    INSERT INTO shop.ledger (w, n, part, topic, ordered, data) SELECT '%s', %d, i, '%s', 1, %s || '%s'
      FROM generate_series(1, %d) i;
    INSERT INTO tidegate.outbox (topic, data) SELECT '%s', %s || %s FROM generate_series(1, %d) i ORDER BY i;
    COMMIT]]):format(self.name, self.n, topic, head, big and rows.big_name "" or "", count,
    topic, head, big and "(SELECT data FROM shop.block)" or "''", count)
end

-- options: name, db, dir (for its scripts), outbox = false (only the ledger), pause (seconds, the longest
-- between two transactions)
function M.new(options)
  return setmetatable({ name = options.name, n = 0, part = 0, later = {}, script = {}, outbox = options.outbox,
    db = options.db, pause = options.pause or 0.03, path = ("%s/%s.sql"):format(options.dir, options.name) }, writer)
end

return M
