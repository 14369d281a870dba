-- The clients of the oracle's workload, over real sockets: publishers that repeat what has a key, subscribers that drop
-- and resume. Both write down what they sent and got (oracle/checker.lua has the format).
--
--   local p = clients.publisher(load)     local s = clients.subscriber(load, i)
--   p:step()  s:step(random_drops)        often
local eventually = require "support.eventually"
local http = require "support.http"
local rows = require "oracle.rows"
local sse = require "support.sse"

local M = {}

M.TOPICS = { "load/0", "load/1", "load/2", "load/3", "load/4" }
M.KEYS = 400 -- keys that SQL writers and HTTP publishers share

local PATTERNS = { { "load/**" }, { "load/*" }, { "load/0", "load/1", "load/4" }, { "load/3" }, { "**" }, { "load/2" } }
local IN_FLIGHT = 8

local random = math.random

local function pick(list)
  return list[random(#list)]
end

local function chance(p)
  return random() < p
end

----------------------------------------------------------------- HTTP publishers
local publisher = {}
publisher.__index = publisher

function publisher:new_event()
  self.load.sent = self.load.sent + 1
  local n = self.load.sent
  local key = chance(0.1) and "shared-" .. random(M.KEYS) or chance(0.5) and "http-" .. n or nil
  local ev = { n = n, topic = pick(M.TOPICS), key = key, data = ("h.%d.%s"):format(n, ("y"):rep(random(0, 200))) }
  self.load.http:write(("P\t%d\t%s\t%s\t%s\n"):format(n, ev.topic, key or "-", ev.data))
  return ev
end

-- One event, or a batch of new ones.
function publisher:send_one()
  local events = table.remove(self.retry, 1)
  if not events then
    events = {}
    for i = 1, chance(0.15) and random(2, 8) or 1 do
      events[i] = self:new_event()
    end
  end
  self.in_flight[#self.in_flight + 1] = events
  if #events == 1 then
    local ev = events[1]
    return self.conn:send(http.render("POST", "/events?topic=" .. ev.topic, { ["Idempotency-Key"] = ev.key },
      ev.data), 0.5)
  end
  local lines = {}
  for i, ev in ipairs(events) do
    lines[i] = http.json.encode { topic = ev.topic, data = ev.data, key = ev.key }
  end
  return self.conn:send(http.render("POST", "/events", { ["Content-Type"] = "application/x-ndjson" },
    table.concat(lines, "\n")), 0.5)
end

-- What may be sent again is sent again: a batch only if every event of it has a key.
function publisher:undecided(events)
  for _, ev in ipairs(events) do
    if not ev.key then
      return
    end
  end
  self.retry[#self.retry + 1] = events
end

function publisher:broken()
  self.conn:close()
  self.conn = nil
  for _, events in ipairs(self.in_flight) do
    self:undecided(events)
  end
  self.in_flight = {}
  self.resume_at = eventually.now() + 0.05
end

function publisher:answer(r)
  local events = table.remove(self.in_flight, 1)
  if r.status == 503 then
    self.load.refused = self.load.refused + 1
    if not (r.headers["retry-after"] or ""):find "^%d+$" then
      self.load:problem "503 without Retry-After"
    end
    self.resume_at = eventually.now() + 0.1
    return self:undecided(events)
  elseif r.status ~= 201 and r.status ~= 200 then
    return self.load:problem(("publish: status %d: %s"):format(r.status, r.body))
  end
  local acks = r.json[1] and r.json or { r.json }
  for i, ev in ipairs(events) do
    self.load.http:write(("A\t%d\t%s\n"):format(ev.n, acks[i].id))
    self.load.acked = self.load.acked + 1
    self.load.stall:acknowledged(ev.data)
  end
end

-- Nothing is under way.
function publisher:idle()
  return #self.in_flight == 0 and (#self.retry == 0 or self.load.paused)
end

function publisher:step()
  local now, paused = eventually.now(), self.load.paused
  if not self.conn then
    if now < self.resume_at or paused or self.stopping and #self.retry == 0 then
      return
    end
    self.conn = http.connect(pick(self.load.brokers))
    if not self.conn then
      self.resume_at = now + 0.1
      return
    end
  end
  while not paused and #self.in_flight < IN_FLIGHT and now >= self.resume_at
    and (#self.retry > 0 or not self.stopping) do
    self.resume_at = math.max(self.resume_at, now + self.pause * random())
    if not self:send_one() then
      return self:broken()
    end
  end
  while self.conn and #self.in_flight > 0 do
    local ok, r, why = pcall(self.conn.response, self.conn, { timeout = 0 })
    if ok and r then
      self:answer(r)
    elseif ok and why == "timeout" then
      break
    else
      return self:broken()
    end
  end
  if self.conn and not self.stopping and not paused and chance(0.0005) then
    self:broken() -- goes away without waiting for its answers
  end
end

----------------------------------------------------------------- subscribers
local subscriber = {}
subscriber.__index = subscriber

function subscriber:note(...)
  self.journal:write(table.concat({ ... }, "\t"), "\n")
end

function subscriber:connect()
  local broker = pick(self.load.brokers)
  local c = sse.start(broker, { topic = self.patterns, last_event_id = self.last_id,
    rcvbuf = self.slow and 4096 or nil })
  if not c then
    self.resume_at = eventually.now() + 0.05
    return
  end
  self.client, self.opened = c, nil
end

function subscriber:events()
  local c = self.client
  for _, ev in ipairs(c.queue) do
    if ev.type == "gap" then
      local gap = http.json.decode(ev.data)
      self:note("G", ev.id, gap.requested, gap.resumed_from, gap.reason)
    elseif ev.type == "message" then
      self:note("E", ev.id, rows.name(ev.data))
      self.load.stall:delivered(ev.data, self.opened)
      if ev.data:find "^end%." then
        self.ends = self.ends + 1
      end
    end
  end
  c.queue, c.blocks, c.comments = {}, {}, {}
  if c.last_id ~= "" then
    self.last_id = c.last_id
  end
end

function subscriber:step(random_drops)
  local now = eventually.now()
  if not self.client then
    if now >= self.resume_at and not self.load.away then
      self:connect()
    end
    return
  end
  local c = self.client
  if not (self.slow and chance(0.7)) then
    c:pump(8)
  end
  if c.status and not self.opened then
    self.opened = self.load.stall:clock()
    if c.status ~= 200 then
      self.load:problem(("%s: status %d instead of a stream"):format(self.name, c.status))
    end
    self:note("C", self.last_id)
    self.drop_at = self.steady and math.huge or now + random() * 4
  end
  if self.opened then
    self:events()
  end
  if c.ended then
    self.load.ended_by_broker = self.load.ended_by_broker + 1
    self:drop(now)
  elseif random_drops and self.opened and now >= self.drop_at then
    self:drop(now)
  end
end

-- What the parser had not seen yet is lost with the connection, as it is for any client.
function subscriber:drop(now)
  self:note "D"
  if chance(0.3) then
    self.client:reset()
  else
    self.client:close()
  end
  self.client, self.resume_at = nil, now + random() * 0.4
end

function M.publisher(load, pause)
  return setmetatable({ load = load, retry = {}, in_flight = {}, resume_at = 0, pause = pause }, publisher)
end

-- The i-th: some want all, some a part; some read slowly; some stay until the broker ends their stream.
function M.subscriber(load, i)
  local s = setmetatable({ load = load, name = "sub" .. i, patterns = PATTERNS[(i - 1) % #PATTERNS + 1], last_id = "0",
    resume_at = 0, ends = 0, slow = i % 5 == 4, steady = i % 3 == 2 },
    subscriber)
  s.journal = assert(io.open(load.dir .. "/" .. s.name, "wb"))
  s:note("S", table.unpack(s.patterns))
  return s
end

-- How many topics of TOPICS it gets.
function subscriber:topics()
  local p = self.patterns
  return p[1]:find "%*" and #M.TOPICS or #p
end

return M
