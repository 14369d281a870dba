-- The offline checker of promises P1-P4: reads what a workload wrote down (oracle/load.lua) and tells every
-- way in which what was delivered differs from what was committed. It talks to nothing and nobody.
--
--   local report = oracle.check { truth = path, lost = path, http = path, facts = path, journals = { path, ... } }
--   report.violations      list of { rule, text }, report.count[rule]; empty: all promises held
--   report.stats           how much was looked at: a check of nothing proves nothing
--
-- Every event's data is unique and names its writer. Files are lines of fields separated by tabs:
--   truth      w  n  part  topic  key|-  1|0 (in the writer's order)  data      rows of the ledger: committed
--   lost       the same: rows that were committed into a store that was replaced by one without them
--   http       P  n  topic  key|-  data          a publish was sent
--              A  n  id                          it was acknowledged with this id
--   facts      X  k  kind  copy  old             the store was replaced for the k-th time, by one in which `copy` is
--                                                the newest id; the newest of the store before was `old`
--              B  k  id  data                    the store, after k replacements, has this event
--              T  id                             retention has removed events up to here
--   journal    S  pattern ...                    what this subscriber asked for (first line)
--              C  position                       a stream was opened from there ("0": from the start)
--              E  id  data                       an event
--              G  id  requested  resumed_from  reason      a gap
--              D                                 the stream ended
--              R  k                              replacement k happened while no stream was open
--
-- What a fault excuses, and nothing else:
--   replacement k   ids in (copy, old] are lost. Their events need not be delivered. A subscriber that got one of them
--                   must be told `reset` before it gets anything newer; from then on none of them may come. An event
--                   that the copy has in its outbox gets an id again. A position in that range may be told `reset`
--   retention       a gap up to a removed id excuses what it covers
local M = {}

local MAX_SAMPLES = 8 -- of one rule

local function fields(line)
  local list = {}
  for field in (line .. "\t"):gmatch "([^\t]*)\t" do
    list[#list + 1] = field
  end
  return list
end

local function read(path, each)
  for line in io.lines(path) do
    each(fields(line))
  end
end

-- The one place where specs repeat the meaning of a pattern.
local function matcher(patterns)
  local list = {}
  for i, p in ipairs(patterns) do
    p = p:gsub("[%-%.%+%(%)%[%]%?%%%^%$]", "%%%0"):gsub("%*%*$", "\1"):gsub("%*", "[^/]+"):gsub("\1", ".+")
    list[i] = "^" .. p .. "$"
  end
  return function(topic)
    for _, p in ipairs(list) do
      if topic:find(p) then
        return true
      end
    end
    return false
  end
end

local checker = {}
checker.__index = checker

function checker:violation(rule, ...)
  self.count[rule] = (self.count[rule] or 0) + 1
  if self.count[rule] <= MAX_SAMPLES then
    local text = (...):format(select(2, ...)):gsub("%.x+", ""):gsub("%.y+", "") -- without the padding of payloads
    self.violations[#self.violations + 1] = { rule = rule, text = text }
  end
end

----------------------------------------------------------------- what happened to the store
-- replaced[k] = { kind, copy, old };  stored[id] = { data, first, k }: the event that the newest
-- store with this id has there; first, k: after how many replacements it was seen there first, and last
function checker:load_facts(path)
  read(path, function(f)
    if f[1] == "X" then
      self.replaced[#self.replaced + 1] = { kind = f[3], copy = tonumber(f[4]), old = tonumber(f[5]) }
      self.stats.replaced = self.stats.replaced + 1
    elseif f[1] == "T" then
      self.trimmed = math.max(self.trimmed, tonumber(f[2]))
    elseif f[1] == "B" then
      local k, id, data = tonumber(f[2]), f[3], f[4]
      local before = self.stored[id]
      if before and before.data ~= data then
        self:violation("P2 id", "the store handed out id %s twice: for %s, and after %s for %s", id, before.data,
          self.replaced[k] and self.replaced[k].kind or "nothing", data)
      end
      self.stored[id] = { data = data, first = before and before.data == data and before.first or k, k = k }
      self.home[data] = id
    end
  end)
end

-- The replacement in which what was handed out as `id` got lost. `data`: as delivered.
function checker:lost_by(id, data)
  local number, stored = tonumber(id), self.stored[id]
  if stored and data and stored.data ~= data then
    stored = nil -- it is of a store before, or of none
  end
  for k, x in ipairs(number and self.replaced or {}) do
    if number > x.copy and number <= x.old and not (stored and stored.k >= k) then
      return k
    end
  end
  return nil
end

-- Only a store after replacement k can have this id.
function checker:newer_than(k, id, data)
  local number, x, stored = tonumber(id), self.replaced[k], self.stored[id]
  return number > x.old or number > x.copy and stored and stored.data == data and stored.first >= k
end

----------------------------------------------------------------- what was committed
-- known[data] = { topic, key, w, n, part, ordered, committed, id (as acknowledged) }
-- The same row may be of several stores: a writer that was cut off while it committed does it again. What the last
-- store has is committed, whatever others have lost: the rows of that store are loaded last.
function checker:load_truth(path, lost)
  read(path, function(f)
    local line, before = table.concat(f, "\t"), self.known[f[7]]
    if before then
      assert(not before.committed and before.line == line, "the workload used this payload twice: " .. line)
      self.stats.lost = self.stats.lost - 1
    end
    self.known[f[7]] = { topic = f[4], key = f[5] ~= "-" and f[5] or nil, w = f[1], n = tonumber(f[2]),
      part = tonumber(f[3]), ordered = f[6] == "1", committed = not lost, line = lost and line or nil }
    local count = lost and "lost" or "committed"
    self.stats[count] = self.stats[count] + 1
  end)
end

function checker:load_http(path)
  local by_n = {}
  read(path, function(f)
    if f[1] == "P" then
      local ev = { topic = f[3], key = f[4] ~= "-" and f[4] or nil, committed = false, http = true }
      by_n[f[2]] = ev
      self.known[f[5]] = ev
    else
      local ev = by_n[f[2]]
      if self:lost_by(f[3]) then
        self.stats.lost = self.stats.lost + 1
        return
      end
      if ev.id and ev.id ~= f[3] then
        self:violation("P2 id", "publish %s was acknowledged with ids %s and %s", f[2], ev.id, f[3])
      end
      if not ev.committed then
        self.stats.acknowledged = self.stats.acknowledged + 1
      end
      ev.id, ev.committed = f[3], true
    end
  end)
end

-- Events with the same key are one event: exactly one of them is to be delivered.
function checker:group()
  self.groups = {}
  local by_key = {}
  for data, ev in pairs(self.known) do
    local group = ev.key and self.keys and by_key[ev.key]
    if not group then
      group = { members = 0, topics = {} }
      self.groups[#self.groups + 1] = group
      if ev.key then
        by_key[ev.key] = group
      end
    end
    ev.group, group.members = group, group.members + 1
    group.topics[ev.topic] = true
    group.committed = group.committed or ev.committed
    group.sample = data
    local home = self.home[data]
    if home and not self:lost_by(home, data) then
      group.home = home
    end
    if ev.id then
      if group.id and group.id ~= ev.id then
        self:violation("key", "one key was acknowledged with ids %s and %s (%s)", group.id, ev.id, data)
      end
      group.id = ev.id
    end
  end
end

----------------------------------------------------------------- what a subscriber received
-- Who had what a replacement lost is told so before anything newer, and gets nothing of it any more.
function checker:generation(sub, id, data, lost)
  if lost then
    local x = self.replaced[lost]
    if math.max(sub.past, sub.gone) >= lost or sub.told[lost] then
      self:violation("P3", "%s: a ghost: %s (id %s), which %s had lost before", sub.name, data, id, x.kind)
    end
    sub.ahead[lost] = id
  end
  while sub.past < #self.replaced and self:newer_than(sub.past + 1, id, data) do
    local k = sub.past + 1
    sub.past = k
    if sub.ahead[k] and not sub.told[k] and k ~= lost then
      self:violation("reset", "%s: got %s (id %s) after id %s, which %s has lost, and was not told so", sub.name, data,
        id, sub.ahead[k], self.replaced[k].kind)
    end
  end
end

function checker:event(sub, id, data)
  local number = math.tointeger(tonumber(id))
  self.stats.delivered = self.stats.delivered + 1
  if not number then
    return self:violation("P2 id", "%s: id %q of %s is not an integer", sub.name, id, data)
  end
  if number <= sub.position then
    self:violation("P2 order", "%s: id %s after %d (%s)", sub.name, id, sub.position, data)
  end
  sub.position = number
  if self.data_of[id] and self.data_of[id] ~= data then
    self:violation("P2 id", "%s: id %s is %s, elsewhere %s", sub.name, id, data, self.data_of[id])
  end
  self.data_of[id] = data
  local lost, before = self:lost_by(id, data), sub.seen[data]
  self:generation(sub, id, data, lost)
  if before and not self:lost_by(before, data) then
    self:violation("P4", "%s: twice: %s (ids %s, %s)", sub.name, data, before, id)
  end
  sub.seen[data] = id
  if not lost then
    if self.id_of[data] and self.id_of[data] ~= id and self.ids_shared then
      self:violation("P2 id", "%s: %s has id %s, elsewhere %s", sub.name, data, id, self.id_of[data])
    end
    self.id_of[data] = id
  end
  local ev = self.known[data]
  if not ev then
    return self:violation("P3", "%s: delivered but never committed: %s (id %s)", sub.name, data, id)
  end
  if not sub.wants(ev.topic) then
    self:violation("topic", "%s: not asked for: %s", sub.name, data)
  end
  if ev.ordered then
    local last = sub.last_of[ev.w]
    if last and (ev.n < last.n or (ev.n == last.n and ev.part < last.part)) then
      self:violation("order", "%s: of writer %s: %d.%d after %d.%d", sub.name, ev.w, ev.n, ev.part, last.n, last.part)
    end
    sub.last_of[ev.w] = ev
  end
end

function checker:in_lost_range(id)
  for _, x in ipairs(self.replaced) do
    if id > x.copy and id <= x.old then
      return true
    end
  end
  return false
end

function checker:gap(sub, f)
  self.stats.gaps = self.stats.gaps + 1
  local after, upto = tonumber(f[3]) or 0, tonumber(f[4])
  sub.gaps[#sub.gaps + 1] = { after = after, upto = upto }
  if upto > self.trimmed and not (f[5] == "reset" and self:in_lost_range(after)) then
    self:violation("gap", "%s: a gap (%s) from %s to %s although nothing was lost", sub.name, f[5], f[3], f[4])
  end
  if f[5] == "reset" then
    for k, x in ipairs(self.replaced) do
      sub.told[k] = sub.told[k] or upto >= x.old
    end
    sub.last_of = {}
  end
  sub.position = math.max(sub.position, tonumber(f[2]) or 0)
end

function checker:journal(path)
  local sub = { name = path:match "([^/]+)$", position = 0, seen = {}, last_of = {}, gaps = {}, past = 0, gone = 0,
    ahead = {}, told = {} }
  read(path, function(f)
    local kind = f[1]
    if kind == "E" then
      self:event(sub, f[2], f[3])
    elseif kind == "C" then
      self.stats.streams = self.stats.streams + 1
      sub.position = tonumber(f[2]) or sub.position
    elseif kind == "G" then
      self:gap(sub, f)
    elseif kind == "R" then
      sub.gone = tonumber(f[2])
    elseif kind == "S" then
      sub.wants = matcher(table.move(f, 2, #f, 1, {}))
    end
  end)
  return sub
end

-- Retention has removed it, and the subscriber was told. An id that is not known may be any.
function checker:excused(sub, id)
  local number = tonumber(id)
  for _, gap in ipairs(sub.gaps) do
    if self.trimmed > 0 and (not number or (number > gap.after and number <= math.min(gap.upto, self.trimmed))) then
      return true
    end
  end
  return false
end

local function wanted_group(sub, group)
  for topic in pairs(group.topics) do
    if not sub.wants(topic) then
      return false -- a key that was used for several topics: which one won is not known here
    end
  end
  return true
end

-- Delivered to one is delivered to all; what is committed, or in the store, is delivered.
function checker:complete(sub)
  local got = {}
  for data, id in pairs(sub.seen) do
    local ev = self.known[data]
    if ev and ev.group and not self:lost_by(id, data) then
      if got[ev.group] then
        self:violation("key", "%s: two events of one key: %s and %s", sub.name, got[ev.group], data)
      end
      got[ev.group] = data
    end
  end
  for _, group in ipairs(self.groups) do
    local data = got[group]
    if not data and wanted_group(sub, group) and (group.committed or group.home or group.delivered) then
      local id = group.id or group.home or group.delivered
      if not self:excused(sub, id) then
        self:violation("P1", "%s: never delivered: %s (id %s)", sub.name, group.sample, id or "unknown")
      end
    elseif data and group.id and sub.seen[data] ~= group.id then
      self:violation("P2 id", "%s: %s has id %s, acknowledged was %s", sub.name, data, sub.seen[data], group.id)
    end
  end
end

-- options: truth, lost, http, facts (each but truth may be nil), journals, keys = false (duplicates are events of
-- their own), ids_shared = false (journals of unrelated sources)
function M.check(options)
  local self = setmetatable({ violations = {}, count = {}, known = {}, data_of = {}, id_of = {}, replaced = {},
    stored = {}, home = {}, trimmed = 0, keys = options.keys ~= false, ids_shared = options.ids_shared ~= false,
    stats = { committed = 0, acknowledged = 0, delivered = 0, streams = 0, gaps = 0, subscribers = 0, undecided = 0,
      replaced = 0, lost = 0 },
  }, checker)
  if options.facts then
    self:load_facts(options.facts)
  end
  if options.lost then
    self:load_truth(options.lost, true)
  end
  self:load_truth(options.truth)
  if options.http then
    self:load_http(options.http)
  end
  self:group()
  local subs = {}
  for _, path in ipairs(options.journals) do
    subs[#subs + 1] = self:journal(path)
    self.stats.subscribers = self.stats.subscribers + 1
  end
  for data, id in pairs(self.id_of) do
    local ev = self.known[data]
    if ev and ev.group then
      ev.group.delivered = id
      self.stats.undecided = self.stats.undecided + (ev.http and not ev.committed and 1 or 0)
    end
  end
  for _, sub in ipairs(subs) do
    self:complete(sub)
  end
  return { violations = self.violations, count = self.count, stats = self.stats }
end

-- The report as text, for a failed assertion.
function M.text(report)
  local lines = {}
  for name, value in pairs(report.stats) do
    lines[#lines + 1] = ("%s %d"):format(name, value)
  end
  table.sort(lines)
  lines = { table.concat(lines, ", ") }
  for rule, n in pairs(report.count) do
    lines[#lines + 1] = ("%s: %d violations"):format(rule, n)
  end
  for _, v in ipairs(report.violations) do
    lines[#lines + 1] = ("  %s: %s"):format(v.rule, v.text)
  end
  return table.concat(lines, "\n")
end

return M
