-- How long live clients and publishers stood still, for each kind of fault.
--
--   local s = oracle_stall.new()
--   s:fault("crash")                   from now on what is measured is this fault's
--   s:acknowledged(data)  s:delivered(data, opened_at)
--   s:table()  s:beyond(bounds)
--
-- live: from the acknowledgement of a publish to its delivery on a stream that was open then. publish: between two
-- acknowledgements of all publishers. What passes while the specs' own process is busy is not counted.
local eventually = require "support.eventually"

local M = {}
local stall = {}
stall.__index = stall

local KEPT_S = 120 -- an acknowledgement is remembered for so long

function M.new()
  return setmetatable({ now = {}, before = {}, turned = eventually.now(), lost = 0, kinds = {}, kind = "none",
    last_ack = nil }, stall)
end

-- Once in every turn of the load: a turn that took long is no broker's fault.
function stall:turn()
  local now = eventually.now()
  local took = now - self.turned
  if took > 0.1 then
    self.lost = self.lost + took - 0.1
  end
  self.turned = now
  if now - (self.rotated or 0) > KEPT_S then
    self.before, self.now, self.rotated = self.now, {}, now
  end
end

function stall:clock()
  return eventually.now() - self.lost
end

function stall:fault(kind)
  self.kind = kind
end

local function raise(self, what, seconds)
  local k = self.kinds[self.kind]
  if not k then
    k = { live = 0, publish = 0 }
    self.kinds[self.kind] = k
  end
  k[what] = math.max(k[what], seconds)
end

-- Publishers were told to stop.
function stall:paused()
  self.last_ack = nil
end

function stall:acknowledged(data)
  local now = self:clock()
  if self.last_ack then
    raise(self, "publish", now - self.last_ack)
  end
  self.last_ack = now
  self.now[data] = now
end

-- opened_at: of the stream, by clock().
function stall:delivered(data, opened_at)
  local at = self.now[data] or self.before[data]
  if at and opened_at < at then
    raise(self, "live", self:clock() - at)
  end
end

function stall:lines()
  local names, lines = {}, { ("%-20s %8s %8s"):format("longest stall, s", "live", "publish") }
  for name in pairs(self.kinds) do
    names[#names + 1] = name
  end
  table.sort(names)
  for _, name in ipairs(names) do
    lines[#lines + 1] = ("%-20s %8.2f %8.2f"):format(name, self.kinds[name].live, self.kinds[name].publish)
  end
  return lines
end

-- Kinds whose live clients stood still for longer than bounds[kind] seconds.
function stall:beyond(bounds)
  local list = {}
  for name, k in pairs(self.kinds) do
    local bound = bounds[name]
    if bound and k.live > bound * eventually.factor then
      list[#list + 1] = ("live clients waited %.1f s for an acknowledged event (%s, at most %g s)"):format(k.live, name,
        bound)
    end
  end
  table.sort(list)
  return list
end

return M
