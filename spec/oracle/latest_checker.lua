-- The offline checker of promise P8 and of what goes with it: that what a client holds is what the store holds, in
-- spite of events that expire, that are erased, and of which only the newest of an interval comes. It talks to nothing
-- and nobody.
--
--   local wrong, figures = checker.check {
--     events = { { id, topic, data, created, expires, e }, ... }   all that ever were, in the order of ids
--     kept = { { id, topic }, ... }        what the store keeps as the newest of their topics, in the end
--     left = { [id] = true }               what it has of events, in the end; nil: not known
--     seen = { [id] = "topic data" }       what clients got
--     clients = { { kind = { sees = fn(topic), conflates = seconds or nil }, got = { ... }, unread = true or nil } }
--     erasures = { { matches = fn(event), from, till, upto } }     orders, from being sent until they were answered
--     members = { [name] = { { from, ok, open, till }, ... } }     streams of theirs (oracle/presence_checker.lua)
--     presence = { grace_s, lease_s }, at_end = time, upto = id        which all clients had to get
--   }
--
-- Times are seconds of one clock. What a client got, in its order: ids of events, and
--   { "connect", id or nil, time }      a stream was opened: from there, or without a position
--   { "read", time, empty }             what follows was read by then; at `empty` there was nothing to read
--   { "position", id } { "live", id } { "gap", id, reason }
-- `wrong` is a list of texts that begin with the name of the rule.
--
-- What excuses that an event is not delivered, and nothing else: it has expired, or was ordered to be erased, by the
-- time when what is behind it was read; where the stream conflates, a newer one of its topic took its place in time.
-- Retention does where the stream was told `compacted`: of topics that are gone it is told nothing.
local presence_checker = require "oracle.presence_checker"

local M = {}

M.LATE_S = 1 -- an event was on its way when it expired: from the broker's judgement until a client may read it
M.ERASED_S = 3 -- until all brokers have forgotten what was erased: their next look at the store (store.poll_ms)
M.STALL_S = 5 -- a broker that is late takes more into one interval

-- How many of the rising list are at most `id`.
local function upto(list, id)
  local lo, hi = 0, #list
  while lo < hi do
    local mid = (lo + hi + 1) // 2
    if list[mid] <= id then
      lo = mid
    else
      hi = mid - 1
    end
  end
  return lo
end

-- May the event be missing by that time?
local function excused(ev, time)
  return ev.expires and ev.expires <= time or ev.erased_from and ev.erased_from <= time or false
end

local client = {}
client.__index = client

function client:object(rule, ...)
  self.say(rule, ("client %d: "):format(self.number) .. (...):format(select(2, ...)))
end

-- The newest of a topic is excused: what else may a client hold of it? What it had before that, unless something
-- between was to replace it.
function client:may_hold(ids, n, has)
  while n > 0 and self:may_miss(self.log.by_id[ids[n]]) do
    n = n - 1
  end
  return not has or n == 0 or has >= ids[n]
end

-- Is what it holds what there was at `head`? `exactly`: nothing newer may excuse it.
function client:compare(head, exactly)
  local log, held = self.log, self.held
  for topic, ids in pairs(log.ids_of) do
    local n = upto(ids, head)
    local newest = n > 0 and log.by_id[ids[n]] or nil
    local want = newest and newest.data ~= "" and newest.id or nil
    if topic ~= "noise" and self.kind.sees(topic) and held[topic] ~= want then
      local gone = newest and excused(newest, self.time)
      local newer = not exactly and ids[n + 1] and log.by_id[ids[n + 1]].created <= self.time + 0.1
      if (gone or newest and not want) and self.stale_from and newest.id > self.stale_from then
        held[topic] = nil -- it was compacted
      elseif not newer and not (gone and self:may_hold(ids, n, held[topic])) then
        self:object("held", "at %d it holds %s of %s, newest is %s", head, tostring(held[topic]), topic,
          tostring(want))
      end
    end
  end
end

-- Did another event take its place, soon enough? One that is erased later may have done so, and not one that expires
-- earlier.
function client:replaced(ev)
  local ids = self.log.ids_of[ev.topic]
  for n = upto(ids, ev.id) + 1, #ids do
    local other = self.log.by_id[ids[n]]
    if other.created > ev.created + self.kind.conflates + M.STALL_S then
      return false
    elseif self.given[other.id] or not other.expires or ev.expires and ev.expires <= other.expires then
      return true
    end
  end
  return false
end

function client:may_miss(ev)
  return excused(ev, self.time) or self.kind.conflates ~= nil and self:replaced(ev)
end

-- It is at `id` now. Whatever was for it and comes before that (`itself`: with that) had to be delivered.
function client:pass(id, itself, why)
  local matching = self.matching
  local to = upto(matching, id) - (itself and 1 or 0)
  for n = self.next_at, to do
    local ev = self.log.by_id[matching[n]]
    if not self:may_miss(ev) then
      self:object("lost", "%s %d, and %d of %s did not come", why, id, ev.id, ev.topic)
      break
    end
  end
end

-- Was it sent when it was to be sent no more? It was, after the last moment at which there was nothing to read.
function client:timely(ev)
  if ev.expires and ev.expires + M.LATE_S < self.empty then
    self:object("expired", "event %d came at least %.1f s after it had expired", ev.id, self.empty - ev.expires)
  elseif ev.expires and ev.expires <= ev.created then
    self:object("expired", "event %d, which had expired when it was published", ev.id)
  end
  if ev.erased_till and ev.erased_till + M.ERASED_S < self.empty then
    self:object("erased", "event %d came at least %.1f s after it was erased", ev.id, self.empty - ev.erased_till)
  end
end

function client:event(id)
  local ev = self.log.by_id[id]
  if not ev or not self.kind.sees(ev.topic) then
    return self:object("foreign", "event %d %s", id, ev and "is none of its own" or "was never published")
  end
  if id <= self.at then
    return self:object("order", "event %d came behind %d", id, self.at)
  end
  self:timely(ev)
  if not self.snapshot then
    self:pass(id, true, "event")
  elseif ev.topic == "noise" or ev.data == "" then
    self:object("snapshot", "event %d of %s is in a snapshot", id, ev.topic)
  end
  self:goes_on(id)
  self.held[ev.topic] = ev.data ~= "" and id or nil
end

function client:goes_on(id)
  self.at, self.next_at = id, upto(self.matching, id) + 1
end

local marks = {}

function marks:read(time, empty)
  self.time = time
  self.empty = math.max(self.empty, not self.unread and empty or 0)
end

function marks:connect(id, time)
  self.time, self.empty = math.max(self.time, time), time
  if id then
    self.snapshot = false
    self:goes_on(id)
  else
    self.held, self.at, self.snapshot, self.stale_from = {}, 0, true, nil
  end
end

-- It is told to be at `id` without an event.
function marks:position(id)
  if id < self.at then
    self:object("order", "position %d, where it was at %d", id, self.at)
  elseif not self.snapshot then
    self:pass(id, false, "position")
    self:goes_on(id)
  end
  self.at = id
end

function marks:live(id)
  if not self.snapshot or id < self.at then
    self:object("order", "live at %d, where it was at %d%s", id, self.at,
      self.snapshot and "" or " and had no snapshot")
  end
  self:compare(id, false)
  self.snapshot = false
  self:goes_on(id)
end

function marks:gap(id, reason)
  if reason ~= "compacted" then
    self:object("gap", "at %d: %s", id, reason)
  end
  if id < self.at then
    self:object("order", "gap at %d, where it was at %d", id, self.at)
  elseif not self.snapshot then
    self:pass(id, false, "gap")
  end
  self.at, self.snapshot, self.stale_from = id, true, math.min(self.stale_from or id, id)
end

local function check_client(c, log, matching, say, number, figures)
  local self = setmetatable({ kind = c.kind, unread = c.unread, log = log, matching = matching, say = say,
    number = number, held = {}, at = 0, next_at = 1, snapshot = true, time = 0, empty = 0, given = {} }, client)
  for _, got in ipairs(c.got) do
    if type(got) == "number" then
      self.given[got] = true
      figures.delivered = figures.delivered + 1
    end
  end
  for _, got in ipairs(c.got) do
    if type(got) == "number" then
      self:event(got)
    else
      marks[got[1]](self, got[2], got[3])
    end
  end
  if self.snapshot then
    self:object("live", "it is not live")
  end
  self.time = log.at_end
  self:compare(math.max(self.at, log.upto), not self.kind.conflates)
end

----------------------------------------------------------------- the store
local function check_store(record, log, say)
  local kept = {}
  for _, ev in ipairs(record.kept) do
    kept[ev.topic] = ev.id
  end
  for topic, id in pairs(kept) do
    if not log.ids_of[topic] then
      say("store", ("the store keeps %d of %s, which there never was"):format(id, topic))
    end
  end
  for topic, ids in pairs(log.ids_of) do
    local newest = log.by_id[ids[#ids]]
    local want = newest.data ~= "" and not newest.erased_till and newest.id or nil
    local may_go = want and excused(newest, record.at_end) -- when, is the store's business
    if topic ~= "noise" and kept[topic] ~= want and not (may_go and not kept[topic]) then
      say("store", ("the store keeps %s of %s, newest is %d"):format(tostring(kept[topic]), topic, newest.id))
    end
  end
  for _, ev in ipairs(record.events) do
    if ev.erased_till and record.left and record.left[ev.id] then
      say("erased", ("event %d of %s was erased, and the store has it"):format(ev.id, ev.topic))
    end
  end
end

local function read(record, say)
  local log = { by_id = {}, ids_of = {}, at_end = record.at_end, upto = record.upto or 0 }
  local last = 0
  for _, ev in ipairs(record.events) do
    if ev.id <= last then
      say("order", ("the store has given id %d twice"):format(ev.id))
    end
    last = ev.id
    log.by_id[ev.id] = ev
    log.ids_of[ev.topic] = log.ids_of[ev.topic] or {}
    table.insert(log.ids_of[ev.topic], ev.id)
    for _, order in ipairs(record.erasures or {}) do
      if ev.id <= (order.upto or math.maxinteger) and order.matches(ev) then
        ev.erased_from = math.min(ev.erased_from or order.from, order.from)
        ev.erased_till = math.min(ev.erased_till or math.huge, order.till or math.huge)
        ev.erased_till = ev.erased_till < math.huge and ev.erased_till or nil
      end
    end
  end
  return log
end

function M.check(record)
  local wrong, matching, figures = {}, {}, { events = #record.events, delivered = 0, expiring = 0, erased = 0,
    joined = 0, left = 0 }
  local function say(rule, text)
    wrong[#wrong + 1] = rule .. ": " .. text
  end
  local log = read(record, say)
  for _, ev in ipairs(record.events) do
    figures.expiring = figures.expiring + (ev.expires and 1 or 0)
    figures.erased = figures.erased + (ev.erased_till and 1 or 0)
  end
  for id, data in pairs(record.seen) do
    local ev = log.by_id[id]
    if ev and ev.topic .. " " .. ev.data ~= data then
      say("data", ("event %d is %q, clients got %q"):format(id, ev.topic .. " " .. ev.data, data))
    end
  end
  check_store(record, log, say)
  for number, c in ipairs(record.clients) do
    if not matching[c.kind] then
      matching[c.kind] = {}
      for _, ev in ipairs(record.events) do
        if c.kind.sees(ev.topic) then
          table.insert(matching[c.kind], ev.id)
        end
      end
    end
    check_client(c, log, matching[c.kind], say, number, figures)
  end
  if record.members then
    figures.joined, figures.left = presence_checker.check(record, say)
  end
  return wrong, figures
end

return M
