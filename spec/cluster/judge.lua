-- Holds what a run has written down (load.lua) to what is promised (promises.lua). What was lost where losing is
-- promised, and what was told about it, is judged here; all the rest by oracle/checker.lua, which is given the run
-- without it.
--
--   local report = judge.judge { dir = dir, load = load, mode = "synchronous", events = text, leaps = text,
--     ledger = text, told = text }
--   report.violations      list of { rule, text }, report.count[rule]; empty: all promises held
--   load.windows[n].count  gets: lost, "seen and lost", and gaps by their reason, "reset without need"
--   events, leaps, ledger  of the database at the end: lines of  seq data | after upto | w n topic data, tabs between
--   told                   leaps as the brokers have logged them, lines of  after upto
local oracle = require "oracle.checker"
local promises = require "cluster.promises"

local M = {}
local judge = {}
judge.__index = judge

local MAX_SAMPLES = 10
local GRACE = 1 -- seconds by which what a fault loses may have been committed before it

local function each_line(text, visit)
  for line in text:gmatch "[^\n]+" do
    local list = {}
    for field in (line .. "\t"):gmatch "([^\t]*)\t" do
      list[#list + 1] = field
    end
    visit(list, line)
  end
end

local function read(path)
  local f = assert(io.open(path, "rb"))
  local text = f:read "a"
  f:close()
  return text
end

local function write(path, lines)
  local f = assert(io.open(path, "wb"))
  f:write(table.concat(lines, "\n"), #lines > 0 and "\n" or "")
  f:close()
end

function judge:violation(rule, ...)
  self.count[rule] = (self.count[rule] or 0) + 1
  if self.count[rule] <= MAX_SAMPLES then
    self.violations[#self.violations + 1] = { rule = rule, text = (...):format(select(2, ...)) }
  end
end

-- The fault during which something happened, `t` seconds after the start.
function judge:window_at(t)
  local at
  for _, w in ipairs(self.windows) do
    if w.from - self.started > t then
      break
    end
    at = w
  end
  return at
end

local function find_leap(leaps, id)
  for _, leap in ipairs(leaps) do
    if id > leap.after and id <= leap.upto then
      return leap
    end
  end
end

-- The leap that this id fell victim to.
function judge:leap_of(id)
  return find_leap(self.leaps, id)
end

function judge:tally(t, what)
  local w = self:window_at(t)
  w.count[what] = (w.count[what] or 0) + 1
  return w
end

-- May what was committed at `t` be lost? By the fault of that time, or by one that began right after it.
function judge:may_lose(t)
  for _, w in ipairs { self:window_at(t), self:window_at(t + GRACE) } do
    local promise = self.promised[w.fault.kind]
    if promise and promise.lost then
      return true
    end
  end
  return false
end

-- Something that was acknowledged at `t` is not there.
function judge:lost(t, what, id)
  local w = self:tally(t, "lost")
  if not self:may_lose(t) then
    self:violation("lost", "%s, acknowledged at %.3f s, %q (id %s)", what, t, w.fault.kind, id or "unknown")
  elseif id and not self:leap_of(id) then
    self:violation("lost", "%s: its id %d may be used again: no leap has it", what, id)
  end
end

----------------------------------------------------------------- what was acknowledged
function judge:publishes(path)
  local data_of, kept = {}, {}
  each_line(read(path), function(f, line)
    if f[1] == "P" then
      data_of[f[2]] = f[5]
      kept[#kept + 1] = line
      return
    end
    local data, id = data_of[f[2]], math.tointeger(f[3])
    self.acknowledged = self.acknowledged + 1
    if self.named[id] and self.named[id] ~= data then
      self:violation("two events", "id %d was acknowledged for %s, and is %s", id, data, self.named[id])
    end
    self.named[id] = data
    if self.data_of[id] == data then
      kept[#kept + 1] = line
    elseif self.id_of[data] and not (self:may_lose(tonumber(f[4])) and self:leap_of(id)) then
      self:violation("two ids", "%s was acknowledged as %d, and is %d", data, id, self.id_of[data])
    else -- or a server had stored it before, did not say so, and has the lead now
      self:lost(tonumber(f[4]), data, id)
    end
  end)
  write(path .. ".kept", kept)
end

function judge:transactions(path, ledger)
  local answered, truth = {}, {}
  each_line(read(path), function(f)
    answered[f[3] .. "." .. f[2] .. "."] = tonumber(f[4])
  end)
  each_line(ledger, function(f)
    local data = f[4]
    truth[#truth + 1] = table.concat({ f[1], f[2], "1", f[3], "-", answered[data] and "1" or "0", data }, "\t")
    if not self.id_of[data] then
      self:violation("stuck", "%s is committed, and no event", data)
    end
    self.committed = self.committed + 1
    answered[data] = nil
  end)
  for data, t in pairs(answered) do
    self:lost(t, data)
  end
  write(path .. ".truth", truth)
end

----------------------------------------------------------------- what was received
-- A journal without the events that were lost after they had been delivered. Whoever got one must be told `reset`
-- before anything of what comes after the leap; nobody else may be told anything.
function judge:journal(path, name)
  local kept, owed, position = {}, nil, 0
  each_line(read(path), function(f, line)
    if f[1] == "E" then
      local id, data, t = math.tointeger(f[2]), f[3], tonumber(f[4])
      if id <= position then
        self:violation("order", "%s: id %d after %d (%s)", name, id, position, data)
      end
      position = id
      if self.named[id] and self.named[id] ~= data then
        self:violation("two events", "%s: id %d is %s, elsewhere %s", name, id, data, self.named[id])
      end
      self.named[id] = data
      if self.data_of[id] == data then
        if owed and id > owed.upto then
          self:violation("untold", "%s: got %s (%d) after the lost %s (%d) without a reset", name, data, id, owed.data,
            owed.id)
          owed = nil
        end
        kept[#kept + 1] = line
        return
      end
      self:tally(t, "seen and lost")
      local leap = self:leap_of(id)
      if not leap or not self:may_lose(t) then
        self:violation("ghost", "%s: got %s (%d) at %.3f s, %q, which the database does not have%s", name, data, id, t,
          self:window_at(t).fault.kind, leap and "" or "; no leap has it")
      end
      if leap then
        owed = { id = id, data = data, upto = leap.upto }
      end
    elseif f[1] == "G" then
      local requested, t = math.tointeger(f[3]), tonumber(f[6])
      local w = self:tally(t, f[5])
      -- a leader that was lost itself may have made the leap, and told of it rightly
      local leap = requested and (self:leap_of(requested) or self:may_lose(t) and find_leap(self.told, requested))
      if f[5] ~= "reset" then
        self:violation("gap", "%s: %s from %s to %s at %.3f s (%s)", name, f[5], f[3], f[4], t, w.fault.kind)
      elseif not leap or self.mode == "synchronous" then
        self:violation("gap", "%s: reset from %s to %s at %.3f s (%s) although nothing was lost", name, f[3], f[4], t,
          w.fault.kind)
      elseif not owed then
        w.count["reset without need"] = (w.count["reset without need"] or 0) + 1
      end
      owed = nil
      position = math.max(position, math.tointeger(f[2]) or 0)
      kept[#kept + 1] = line
    else
      kept[#kept + 1] = line
    end
  end)
  if owed then
    self:violation("untold", "%s: nothing came after the lost %s (%d)", name, owed.data, owed.id)
  end
  write(path .. ".kept", kept)
  return path .. ".kept"
end

----------------------------------------------------------------- the whole
function M.judge(run)
  local self = setmetatable({ windows = run.load.windows, started = run.load.started, mode = run.mode,
    promised = promises.promised[run.mode], violations = {}, count = {}, data_of = {}, id_of = {}, named = {},
    leaps = {}, told = {}, acknowledged = 0, committed = 0 }, judge)
  each_line(run.events, function(f)
    local id, data = math.tointeger(f[1]), f[2]
    if self.id_of[data] then
      self:violation("twice", "%s is event %d and %d", data, self.id_of[data], id)
    end
    self.data_of[id], self.id_of[data], self.named[id] = data, id, data
  end)
  for name, list in pairs { leaps = self.leaps, told = self.told } do
    each_line(run[name], function(f)
      list[#list + 1] = { after = math.tointeger(f[1]), upto = math.tointeger(f[2]) }
    end)
  end
  self:publishes(run.dir .. "/http")
  self:transactions(run.dir .. "/sql", run.ledger)
  local journals = {}
  for i, c in ipairs(run.load.clients) do
    journals[i] = self:journal(c.path, c.name)
  end
  -- gaps are judged above: what they cover counts for the oracle as if retention had removed it
  write(run.dir .. "/facts", { "T\t" .. math.maxinteger })
  local rest = oracle.check { truth = run.dir .. "/sql.truth", http = run.dir .. "/http.kept",
    facts = run.dir .. "/facts", journals = journals }
  for _, v in ipairs(rest.violations) do
    self.violations[#self.violations + 1] = v
  end
  for rule, n in pairs(rest.count) do
    self.count[rule] = (self.count[rule] or 0) + n
  end
  for _, text in ipairs(run.load.problems) do
    self:violation("answer", "%s", text)
  end
  return { violations = self.violations, count = self.count, stats = rest.stats, acknowledged = self.acknowledged,
    committed = self.committed }
end

return M
