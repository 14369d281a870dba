-- Publishers and subscribers that never give up, on one topic: what was acknowledged must reach every subscriber
-- exactly once and in order, however often connections end.
--
--   local load = steady_load.new(broker, { publishers = 4, subscribers = 12 })
--   load:run_until("...", function() return done end)     -- the load goes on while this waits
--   load:finish()                                         -- asserts; returns figures
--
-- Publisher p sends "p.1", "p.2", ... with keys, the next one when the last was acknowledged. Half of them keep
-- their connection, the others open one for every request.
local eventually = require "support.eventually"
local http = require "support.http"
local sse = require "support.sse"

local M = {}
local load = {}
load.__index = load

local TOPIC = "steady"

----------------------------------------------------------------- publishers
local publisher = {}
publisher.__index = publisher

function publisher:again(why)
  if self.conn then
    self.conn:close()
    self.conn = nil
  end
  self.load.repeated[#self.load.repeated + 1] = ("%s: %s"):format(self.keeps and "kept" or "fresh", why)
  self.resume_at = eventually.now() + 0.02
end

function publisher:send()
  self.conn = self.conn or http.connect(self.load.broker)
  if not self.conn then
    return self:again "cannot connect"
  end
  local data = ("%d.%d"):format(self.number, self.n)
  local headers = { ["Idempotency-Key"] = data, Connection = not self.keeps and "close" or nil }
  local ok, why = self.conn:send(http.render("POST", "/events?topic=" .. TOPIC, headers, data), 0.5)
  if not ok then
    return self:again(why)
  end
  self.sent = true
end

function publisher:receive()
  local ok, r, why = pcall(self.conn.response, self.conn, { timeout = 0 })
  if ok and not r and why == "timeout" then
    return
  end
  self.sent = false
  if not ok or not r then
    return self:again(ok and why or r)
  elseif r.status ~= 201 and r.status ~= 200 then
    return self:again("status " .. r.status)
  end
  self.acked = self.n
  self.n = self.n + 1
  if not self.keeps or (r.headers.connection or ""):find "close" then
    self.conn:close()
    self.conn = nil
  end
end

function publisher:step()
  if self.sent then
    self:receive()
  elseif eventually.now() >= self.resume_at and not self.load.stopping then
    self:send()
  end
end

----------------------------------------------------------------- subscribers
local subscriber = {}
subscriber.__index = subscriber

function subscriber:take(ev)
  local who, n = ev.data:match "^(%d+)%.(%d+)$"
  assert(who, ("subscriber %d: %s %s"):format(self.number, ev.type, ev.data))
  local expected = (self.seen[who] or 0) + 1
  assert(tonumber(n) == expected, ("subscriber %d got %s after %s.%d"):format(self.number, ev.data, who, expected - 1))
  assert(tonumber(ev.id) > self.id, ("subscriber %d: id %s after %d"):format(self.number, ev.id, self.id))
  self.seen[who], self.id = expected, tonumber(ev.id)
end

function subscriber:step()
  local c = self.client
  if not c then
    if eventually.now() >= self.resume_at then
      self.client = sse.start(self.load.broker, { topic = TOPIC, last_event_id = self.last_id })
      self.resume_at = eventually.now() + 0.02
    end
    return
  end
  c:pump(8)
  for _, ev in ipairs(c.queue) do
    self:take(ev)
  end
  c.queue, c.blocks = {}, {}
  assert(not c.status or c.status == 200, ("a subscriber was answered %s"):format(c.status))
  if c.last_id ~= "" then
    self.last_id = c.last_id
  end
  if c.ended then
    local told = (c.retry_ms or 0) / 1000
    self.load.ends[#self.load.ends + 1] = c.retry_ms or false
    c:close()
    self.client, self.resume_at = nil, eventually.now() + math.min(told, 0.2)
  end
end

----------------------------------------------------------------- all of them
function M.new(broker, options)
  local self = setmetatable({ broker = broker, publishers = {}, subscribers = {}, repeated = {}, ends = {} }, load)
  for i = 1, options.subscribers do
    local client = sse.open(broker, { topic = TOPIC })
    self.subscribers[i] = setmetatable({ load = self, number = i, client = client, last_id = client.last_id, seen = {},
      id = 0, resume_at = 0 }, subscriber)
  end
  for i = 1, options.publishers do
    self.publishers[i] = setmetatable({ load = self, number = i, n = 1, acked = 0, keeps = i % 2 == 0, resume_at = 0 },
      publisher)
  end
  return self
end

function load:step()
  for _, p in ipairs(self.publishers) do
    p:step()
  end
  for _, s in ipairs(self.subscribers) do
    s:step()
  end
end

function load:published()
  local n = 0
  for _, p in ipairs(self.publishers) do
    n = n + p.acked
  end
  return n
end

function load:run_until(what, done, timeout)
  local problem
  eventually(what, function()
    for _ = 1, 10 do
      local ok, why = pcall(self.step, self)
      if not ok then
        problem = why
        return true
      end
    end
    return done()
  end, timeout)
  assert(not problem, problem)
end

-- Publishers finish what they have begun, everybody gets everything.
function load:finish()
  self.stopping = true
  self:run_until("every publish is settled", function()
    for _, p in ipairs(self.publishers) do
      if p.sent then
        return false
      end
    end
    return true
  end)
  self:run_until("every subscriber has everything that was acknowledged", function()
    for _, s in ipairs(self.subscribers) do
      for _, p in ipairs(self.publishers) do
        if (s.seen[tostring(p.number)] or 0) < p.acked then
          return false
        end
      end
    end
    return true
  end, 30)
  for _, s in ipairs(self.subscribers) do
    if s.client then
      s.client:close()
    end
  end
  return { published = self:published(), repeated = self.repeated, ends = self.ends }
end

return M
