-- Brokers and their store, for judges of what streams show (revoke.lua, latest.lua): two brokers on PostgreSQL, or
-- workers on SQLite; how events are published whatever happens, and what happens.
--
--   local w = worlds.pg { server = server, brokers = 2, policy = text, config = {} }
--   w:publish { { "topic", "data" } }       -- sent, and stored at last; also expires (Unix seconds), attrs (strings)
--   w:events()                              -- all of them, with their ids
--   worlds.kill(w, starting)                -- a fault; `starting`: set of brokers that are not there yet
--
-- And their streams, which lose their connections, read slowly, and come back.
local eventually = require "support.eventually"
local http = require "support.http"
local pg = require "support.pg"
local sse = require "support.sse"
local store = require "native.store"
local tidegate = require "support.tidegate"
local uv = require "luv"

local M = {}
local random = math.random

-- Unix seconds.
function M.clock()
  local s, us = uv.gettimeofday()
  return s + us / 1e6
end

-- Until it is acknowledged: keys make it safe to say it again. Adds what was stored to `w.committed`.
local function publish_by_http(w, events)
  local lines = {}
  for i, ev in ipairs(events) do
    w.keys = (w.keys or 0) + 1
    lines[i] = http.json.encode { topic = ev[1], data = ev[2], key = "k" .. w.keys,
      expires = ev.expires, attrs = ev.attrs }
  end
  local answer = eventually("it is stored", function()
    local ok, r = pcall(function()
      w.conn = w.conn or assert(http.connect(w.brokers[random(#w.brokers)]))
      assert(w.conn:send(http.render("POST", "/events", { ["Content-Type"] = "application/x-ndjson" },
        table.concat(lines, "\n"))))
      return assert(w.conn:response())
    end)
    if ok and r.status < 300 then
      return r
    end
    w.conn = nil
    return nil
  end, 60)
  for i, ev in ipairs(events) do
    w.committed[#w.committed + 1] = { id = tonumber(answer.json[i].id), topic = ev[1], data = ev[2],
      created = M.clock(), expires = ev.expires, attrs = ev.attrs }
  end
end

----------------------------------------------------------------- PostgreSQL
local on_pg = { FAULTS = {}, post = publish_by_http }
on_pg.__index = on_pg

-- server, db (one of it, or nil), brokers (how many), policy, config
function M.pg(options)
  local w = setmetatable({ server = options.server, db = options.db or options.server:database(), brokers = {},
    committed = {} }, on_pg)
  for i = 1, options.brokers do
    w.brokers[i] = w.db:broker { policy = options.policy, config = options.config }
  end
  w.session = w.db:session(pg.APP)
  return w
end

-- `events`: list of { topic, data }
function on_pg:publish(events)
  local rows, more = {}, false
  for i, ev in ipairs(events) do
    more = more or ev.expires or ev.attrs
    rows[i] = ("('%s', '%s'"):format(ev[1], ev[2])
  end
  for i, ev in ipairs(events) do
    rows[i] = rows[i] .. (not more and ")" or (", %s, %s)"):format(
      pg.quote(ev.attrs and http.json.encode(ev.attrs)), ev.expires and ("to_timestamp(%.3f)"):format(ev.expires)
      or "NULL"))
  end
  self.session:send(("INSERT INTO tidegate.outbox (topic, data%s) VALUES %s;"):format(more and ", attrs, expires" or "",
    table.concat(rows, ", ")))
end

-- All that was committed, in order: { id, topic, data }. `of`: another table to read.
function on_pg:events(of)
  self.session:run("SELECT 1;", 120)
  eventually("the outbox is empty", function() return self.db:sql "SELECT count(*) FROM tidegate.outbox" == "0" end, 60)
  local list = {}
  for id, topic, data in self.db:sql("SELECT seq, topic, data FROM " .. (of or "tidegate.events") .. " ORDER BY seq")
    :gmatch "(%d+)|([^|\n]*)|([^\n]*)" do
    list[#list + 1] = { id = tonumber(id), topic = topic, data = data }
  end
  return list
end

on_pg.FAULTS.sessions = function(w)
  w.server:terminate()
end

function on_pg:close()
  self.session:close()
end

----------------------------------------------------------------- SQLite
local on_sqlite = { FAULTS = {}, publish = publish_by_http }
on_sqlite.__index = on_sqlite

-- workers, policy, config
function M.sqlite(options)
  local w = setmetatable({ committed = {} }, on_sqlite)
  local config = { workers = options.workers }
  for k, v in pairs(options.config) do
    config[k] = v
  end
  w.brokers = { tidegate.start { policy = options.policy, config = config } }
  return w
end

function on_sqlite:events()
  table.sort(self.committed, function(a, b) return a.id < b.id end)
  return self.committed
end

-- As another program: one transaction, whose rows have their ids at once. False where the file is busy.
function on_sqlite:insert(events)
  local db = self:file()
  local list = {}
  if not db "BEGIN IMMEDIATE" then
    return false
  end
  for i, ev in ipairs(events) do
    local rows = assert(db(("INSERT INTO events(topic, data, attrs, expires) VALUES (?, ?, %s, %s) "
      .. "RETURNING seq, created"):format(ev.attrs and "'" .. http.json.encode(ev.attrs) .. "'" or "NULL",
      ev.expires and ("%d"):format(ev.expires * 1000 // 1) or "NULL"), ev[1], ev[2]))
    list[i] = { id = rows[1][1], topic = ev[1], data = ev[2], created = rows[1][2] / 1e3, expires = ev.expires,
      attrs = ev.attrs }
  end
  if not db "COMMIT" then
    db "ROLLBACK"
    return false
  end
  table.move(list, 1, #list, #self.committed + 1, self.committed)
  return true
end

-- The file, as another program has it open.
function on_sqlite:file()
  self.sql = self.sql or store.sql(self.brokers[1].dir .. "/store/events.db")
  return self.sql
end

-- Rows of a table of the store.
function on_sqlite:rows(of)
  local b, list = self.brokers[1], {}
  local code, out, err = tidegate.run("/usr/bin/sqlite3", { args = { "-readonly", b.dir .. "/store/events.db",
    "SELECT seq, topic, data FROM " .. of .. " ORDER BY seq" } })
  assert(code == 0, err)
  for id, topic, data in out:gmatch "(%d+)|([^|\n]*)|([^\n]*)" do
    list[#list + 1] = { id = tonumber(id), topic = topic, data = data }
  end
  return list
end

function on_sqlite:close()
  if self.sql then
    self.sql:close()
  end
end

----------------------------------------------------------------- what happens to all
-- A broker, or a worker of it, ends at once.
function M.kill(w, starting)
  local broker = w.brokers[random(#w.brokers)]
  if (broker.config.workers or 1) > 1 then
    local workers = http.get(broker.admin, "/status").json.workers
    uv.kill(workers[random(#workers)].pid, "sigkill")
  else
    broker:kill()
    broker:spawn()
    starting[broker] = true
  end
end

-- To be called in every turn: those that were started anew are there again, or not yet.
function M.look(starting)
  for broker in pairs(starting) do
    starting[broker] = not pcall(broker.wait_ready, broker) or nil
  end
end

----------------------------------------------------------------- streams
local stream = {}
stream.__index = stream

-- One that connects when it is stepped. `run`: { world, starting, finishing, opened, denied }; `s` has `query`, `slow`,
-- `last_id` (or nil), `brokers` (a list: of these, while there are any; nil: of all), take(event), and, or nil,
-- connecting(), which is told before each connection, dropped(), which is told after it, and reading(empty), which is
-- told before what has been read is taken: at `empty` (clock) there was nothing to read.
function M.stream(run, s)
  s.run, s.again_at = run, 0
  return setmetatable(s, stream)
end

function stream:drop()
  if self.client then
    self.client:close()
    self.client, self.again_at = nil, eventually.now() + random() * 0.2
    if self.dropped then
      self:dropped()
    end
  end
end

function stream:connect()
  local brokers = self.brokers and #self.brokers > 0 and self.brokers or self.run.world.brokers
  local broker = brokers[random(#brokers)]
  if self.connecting then
    self:connecting()
  end
  local c = not self.run.starting[broker] and sse.start(broker, { query = self.query,
    last_event_id = self.last_id, rcvbuf = self.slow and 4096 or nil })
  self.client, self.status, self.empty, self.empty_before = c or nil, nil, nil, nil
  self.again_at = c and self.again_at or eventually.now() + 0.05
end

function stream:step()
  local now = eventually.now()
  if not self.client then
    if now >= self.again_at then
      self:connect()
    end
    return
  end
  local c = self.client
  if self.slow and random() < 0.8 and not self.run.finishing then
    return
  end
  for i = 1, 4 do
    local empty = M.clock()
    if not c:pump(1) then
      -- after more than that the broker may have had to wait
      self.empty = i <= 2 and not c.ended and empty or self.empty
      break
    end
  end
  if self.reading and #c.blocks > 0 then
    self:reading(self.empty_before)
  end
  self.empty_before = self.empty
  if c.status and not self.status then
    self.status = c.status
    self.run.opened = self.run.opened + (c.status == 200 and 1 or 0)
    self.run.denied = self.run.denied + (c.status == 403 and 1 or 0)
  end
  for _, block in ipairs(c.blocks) do -- position events are among them, in their place
    if block.event then
      self:take(block.event)
    end
  end
  c.queue, c.blocks, c.comments, c.positions = {}, {}, {}, {}
  if c.last_id ~= "" then
    self.last_id = c.last_id
  end
  if c.ended or c.status and c.status ~= 200 then
    self:drop()
  end
end

return M
