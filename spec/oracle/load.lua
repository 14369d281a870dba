-- The workload that oracle/checker.lua checks: writers of the store's own kind, HTTP publishers, subscribers that drop
-- and resume, and a schedule of faults. What is peculiar to a store is a world (oracle/pg.lua, oracle/sqlite.lua).
--
--   local load = oracle_load.new { world = world, publishers = 3, subscribers = 9, pause = 0.03 }
--   load:run(oracle_load.schedule(world, 30, 3))     or load:run { { pause = 1, kind = "restart" }, ... }
--   load:finish()
--   oracle.check(load:files())     load.problems     load.stall:lines()
--   load:remove()
--
-- A world has:
--   brokers, FAULTS    name -> { stall = seconds, apart = true?, run = function(world, load) end }. run may wait with
--                      eventually(): the load goes on meanwhile. A function it returns is called a little later, to end
--                      the fault. apart: it is given the stage alone, all others have ended
--   start(load)  step()  close()
--   rest()             true when its writers stand still and all they committed is an event; wake() lets them go on
--   ends()             commits the last event of each topic, "end."
--   write_truth()      writes the files truth, lost and the end of facts
local child = require "support.child"
local clients = require "oracle.clients"
local eventually = require "support.eventually"
local http = require "support.http"
local oracle_stall = require "oracle.stall"
local socket = require "socket"

local M = {}
local load = {}
load.__index = load

local random = math.random

----------------------------------------------------------------- schedules
-- All kinds in random order, again and again, over `seconds`. every: seconds between two that are quickly done.
function M.schedule(world, seconds, every, kinds)
  local list, bag = { seconds = seconds }, {}
  kinds = kinds or M.kinds(world)
  local function next_kind()
    if #bag == 0 then
      bag = table.move(kinds, 1, #kinds, 1, {})
    end
    return table.remove(bag, random(#bag))
  end
  if #kinds > 0 then
    for i = 1, math.ceil(seconds / every * 2) do
      list[i] = { pause = every * (0.5 + random()), kind = next_kind(), seconds = 0.5 + random() * 2 }
    end
  end
  return list
end

function M.kinds(world)
  local list = {}
  for name in pairs(world.FAULTS) do
    list[#list + 1] = name
  end
  table.sort(list)
  return list
end

----------------------------------------------------------------- the load
-- options: world, publishers, subscribers, pause (seconds, the longest between two publishes of a publisher)
function M.new(options)
  local l = setmetatable({ world = options.world, dir = child.directory(), sent = 0, acked = 0, refused = 0,
    ended_by_broker = 0, replaced = 0, problems = {}, publishers = {}, subscribers = {}, history = {}, endings = {},
    stall = oracle_stall.new(), started_at = eventually.now() }, load)
  for _, name in ipairs { "http", "facts", "lost" } do
    l[name] = assert(io.open(l.dir .. "/" .. name, "wb"))
  end
  for i = 1, options.publishers or 0 do
    l.publishers[i] = clients.publisher(l, options.pause or 0.03)
  end
  for i = 1, options.subscribers or 0 do
    l.subscribers[i] = clients.subscriber(l, i)
  end
  l.brokers = l.world.brokers
  l.world:start(l)
  return l
end

function load:problem(...)
  self.problems[#self.problems + 1] = (...):format(select(2, ...))
end

function load:say(text)
  self.history[#self.history + 1] = ("%7.2f %s"):format(eventually.now() - self.started_at, text)
end

function load:fact(...)
  self.facts:write(table.concat({ ... }, "\t"), "\n")
end

local function step_clients(self, random_drops)
  for _, p in ipairs(self.publishers) do
    p:step()
  end
  local sockets = {}
  for _, s in ipairs(self.subscribers) do
    s:step(random_drops)
    sockets[#sockets + 1] = s.client and s.client.socket
  end
  return sockets
end

function load:step(random_drops)
  self.stall:turn()
  self.world:step()
  local sockets = step_clients(self, random_drops)
  eventually.turn(0)
  socket.select(sockets, nil, 0.004)
end

-- Waits for a condition; the load goes on.
function load:wait(what, fn, timeout)
  return eventually.meanwhile(function()
    self:step(true)
    self:end_faults()
  end, function() return eventually(what, fn, timeout) end)
end

-- Some time passes.
function load:pass(seconds)
  local till = eventually.now() + seconds
  self:wait("some time passes", function() return eventually.now() > till end, seconds + 10)
end

-- Something is acknowledged and delivered.
function load:go_on()
  local acked = self.acked + 20
  self:wait("more is published", function() return self.acked >= acked end, 60)
  self:pass(0.5)
end

----------------------------------------------------------------- faults
function load:end_faults(all)
  for i = #self.endings, 1, -1 do
    if all or eventually.now() >= self.endings[i].at then
      table.remove(self.endings, i).fn()
    end
  end
end

function load:fault(f)
  local fault = assert(self.world.FAULTS[f.kind], "no such fault: " .. f.kind)
  if fault.apart then
    self:end_faults(true)
  end
  self:say(f.kind)
  self.stall:fault(f.kind)
  eventually.meanwhile(function()
    self:step(true)
    self:end_faults()
  end, function()
    local ok, finish = pcall(fault.run, self.world, self)
    if not ok then
      error(("fault %s: %s\n%s"):format(f.kind, tostring(finish), table.concat(self.history, "\n")), 0)
    elseif finish then
      self.endings[#self.endings + 1] = { at = eventually.now() + (f.seconds or 1), fn = finish }
    end
  end)
end

-- Without `seconds` in the list: until all of them have been.
function load:run(faults)
  local start, at = eventually.now(), 1
  local due = start + (faults[1] and faults[1].pause or 0)
  while true do
    local now = eventually.now()
    if faults.seconds and now - start >= faults.seconds or not faults.seconds and at > #faults and now >= due then
      return
    end
    self:step(true)
    self:end_faults()
    local f = faults[at]
    if f and now >= due then
      at = at + 1
      self:fault(f)
      due = eventually.now() + (faults[at] and faults[at].pause or f.pause)
    end
  end
end

-- Everything that was sent is answered, everything that was committed is an event, and nothing new is sent.
function load:rest()
  self.paused = true
  self:wait("publishers and writers rest", function()
    for _, p in ipairs(self.publishers) do
      if not p:idle() then
        return false, "a publisher waits for an answer"
      end
    end
    return self.world:rest()
  end, 60)
  self:say "at rest"
  self.stall:paused()
end

function load:wake()
  self.paused = false
  self.world:wake()
end

-- SIGTERM. First it has to be up: one that ends while a worker starts need not end well.
local function stop(self, broker)
  self:wait("the broker is ready", function() return http.get(broker.admin, "/readyz").status == 200 end, 60)
  broker:stop { timeout = 40 }
end

function load:restart(broker)
  stop(self, broker)
  broker:start()
end

-- All brokers stop (SIGTERM), all streams end and stay away until come_back().
function load:go_away()
  self.away = true
  for _, b in ipairs(self.brokers) do
    stop(self, b)
  end
  self:wait("all streams have ended", function()
    for _, s in ipairs(self.subscribers) do
      if s.client then
        return false
      end
    end
    return true
  end, 20)
end

function load:come_back()
  for _, b in ipairs(self.brokers) do
    b:start()
  end
  self.away = false
end

-- The store was replaced by one in which `copy` is the newest id; before it was `old`.
function load:note_replacement(kind, copy, old)
  self.replaced = self.replaced + 1
  self:fact("X", self.replaced, kind, copy, old)
  for _, s in ipairs(self.away and self.subscribers or {}) do
    s:note("R", tostring(self.replaced))
  end
end

-- Lines of the ledger `before` that the ledger of the store that took its place has not.
function load:note_lost(before, after)
  local kept = {}
  for line in after:gmatch "[^\n]+" do
    kept[line] = true
  end
  for line in before:gmatch "[^\n]+" do
    if not kept[line] then
      self.lost:write(line, "\n")
    end
  end
end

----------------------------------------------------------------- the end
-- Lets everybody come to the end: writers and publishers are done, subscribers have seen the last event of
-- each of their topics. A subscriber that does not is a problem; the checker knows what it is short of.
function load:finish()
  self.seconds = eventually.now() - self.started_at
  self:say "end"
  self:end_faults(true)
  for _, p in ipairs(self.publishers) do
    p.stopping = true
  end
  self:wait("publishers are done", function()
    for _, p in ipairs(self.publishers) do
      if not p:idle() then
        return false
      end
    end
    return true
  end, 60)
  self:rest()
  self.world:ends()
  local missing
  local ok = pcall(self.wait, self, "every subscriber is at the end", function()
    missing = {}
    for _, s in ipairs(self.subscribers) do
      if s.ends < s:topics() then
        missing[#missing + 1] = s.name
      end
    end
    return #missing == 0
  end, 45)
  if not ok then
    self:problem("not at the end after 45 s: %s", table.concat(missing, " "))
  end
  self:say "all have come to the end"
  self.world:write_truth()
  for _, name in ipairs { "http", "facts", "lost" } do
    self[name]:close()
  end
  for _, s in ipairs(self.subscribers) do
    if s.client then
      s.client:close()
    end
    s.journal:close()
  end
  local bounds = {}
  for name, fault in pairs(self.world.FAULTS) do
    bounds[name] = fault.stall
  end
  for _, text in ipairs(self.stall:beyond(bounds)) do
    self:problem("%s", text)
  end
end

function load:files()
  local files = { journals = {} }
  for _, name in ipairs { "truth", "lost", "http", "facts" } do
    files[name] = self.dir .. "/" .. name
  end
  for i, s in ipairs(self.subscribers) do
    files.journals[i] = self.dir .. "/" .. s.name
  end
  return files
end

-- What happened, for a failed assertion.
function load:text()
  return table.concat({ table.concat(self.history, "\n"), table.concat(self.stall:lines(), "\n"),
    table.concat(self.problems, "\n") }, "\n")
end

function load:remove()
  self.world:close()
  if not os.getenv "TIDEGATE_SPEC_KEEP" then
    child.remove_tree(self.dir)
  end
end

return M
