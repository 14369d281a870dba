-- A client (pg/pg_client.c) on a loop of its own and the hostile server (support/pg_hostile.lua) it is connected
-- to, turned together in this process:
--
--   pairs.around_specs()                       in a describe: each pair is closed after its spec, and judged
--   local p = pairs.start(script, options)     options: host, conninfo, once, setup, connect_ms, answer_ms,
--                                              before: the script of a server that is tried first
--   p:ready() p:lost(n) p:ask("plain") p:fates() p:comes_back()
--   pairs.wait(what, fn) pairs.pass(seconds, why)   turns all of them
--
-- However it ends: every accepted statement has completed exactly once, no handle is left, the loop never stood still.
local assert = require "luassert"
local busted = require "busted"
local eventually = require "support.eventually"
local hostile = require "support.pg_hostile"
local native = require "native.pg"
local socket = require "socket"

local M = {}
local open = {} -- pairs of the running spec: { client =, server =, asked = tokens }

local pair = {}
pair.__index = pair

function M.start(script, options)
  options = options or {}
  local self = setmetatable({ server = hostile.start(script), asked = {} }, pair)
  local host, port = options.host or "127.0.0.1", tostring(self.server.port)
  if options.before then
    self.before = hostile.start(options.before)
    host, port = host .. "," .. host, self.before.port .. "," .. port
  end
  local conninfo = ("host=%s port=%s user=u dbname=d %s"):format(host, port, options.conninfo or "sslmode=disable")
  self.client = native.new { conninfo = conninfo, once = options.once, setup = options.setup,
    connect_ms = options.connect_ms, answer_ms = options.answer_ms }
  open[#open + 1] = self
  return self
end

local function turn_all()
  for _, p in ipairs(open) do
    if not p.closed then
      p.client:turn()
    end
    p.server:turn()
    if p.before then
      p.before:turn()
    end
  end
  socket.sleep(0.001)
end

function M.wait(what, fn, timeout)
  local deadline = eventually.deadline(timeout or 10)
  repeat
    turn_all()
    local result = fn()
    if result then
      return result
    end
  until eventually.now() > deadline
  error("not in time: " .. what, 2)
end

-- As pass() of support.eventually, while all of them turn.
function M.pass(seconds, why)
  assert(type(why) == "string" and why ~= "", "why must time pass?")
  local till = eventually.now() + seconds
  repeat
    turn_all()
  until eventually.now() > till
end

function pair:events(kind)
  local list = {}
  for _, ev in ipairs(self.all or self.client:events()) do
    if ev.kind == kind then
      list[#list + 1] = ev
    end
  end
  return list
end

-- Asks; the statement must be accepted.
function pair:ask(name, arg)
  local token = assert(self.client:ask(name, arg))
  self.asked[#self.asked + 1] = token
  return token
end

-- How the statement ended, if it has.
function pair:fate(token)
  for _, ev in ipairs(self:events "done") do
    if ev.token == token then
      return ev
    end
  end
end

function pair:ready(n)
  M.wait("ready", function() return #self:events "ready" >= (n or 1) end)
end

function pair:lost(n)
  return M.wait("lost", function() return self:events "lost"[n or 1] end)
end

function pair:fates()
  return M.wait("every statement completes", function()
    local list = {}
    for i, token in ipairs(self.asked) do
      local ev = self:fate(token)
      list[i] = ev and (ev.error or ev.rows)
    end
    return #list == #self.asked and list
  end)
end

-- Ends it and looks at what must hold in any case.
function pair:finish()
  if self.closed then
    return
  end
  local gap = self.client:gap()
  local code
  code, self.all = self.client:finish_close()
  self.closed = true
  self.server:stop()
  if self.before then
    self.before:stop()
  end
  assert.equal(0, code, "handles are left on the loop")
  assert.equal("closed", self.all[#self.all].kind)
  assert.equal(1, #self:events "closed")
  local seen = {}
  for _, ev in ipairs(self:events "done") do
    assert.is_nil(seen[ev.token], "completed twice")
    seen[ev.token] = true
  end
  for _, token in ipairs(self.asked) do
    assert.is_true(seen[token], "never completed")
  end
  -- What blocks waits for a server that runs in the same thread: for ever, or until a time limit of seconds. Less is
  -- the machine's other work.
  assert.is_true(gap < 8 * eventually.factor, ("the loop stood still for %.0f ms"):format(gap * 1000))
end

-- From now on the server behaves: the client comes back and works.
function pair:comes_back()
  self.server.script = function(conn) conn:behave() end
  self.server:disconnect()
  local before = #self.server.accepted
  M.wait("it is ready", function() return #self.server.accepted > before and self.client:state().ready end)
  local a, b, c = self:ask "plain", self:ask "first", self:ask("first", "again")
  for _, token in ipairs { a, b, c } do
    assert.equal(1, M.wait("an answer", function() return self:fate(token) end).rows)
  end
  assert.equal(0, self.client:state().pending)
end
M.turn_all = turn_all

function M.around_specs()
  busted.before_each(function() open = {} end)
  busted.after_each(function()
    local failure
    for _, p in ipairs(open) do
      local ok, why = pcall(p.finish, p)
      failure = failure or not ok and why
    end
    assert(not failure, failure)
  end)
end

return M
