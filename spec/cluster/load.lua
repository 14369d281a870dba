-- The workload of the run: publishers over HTTP, applications that INSERT in their own transactions, clients that
-- read and come back. Everything is written down for judge.lua, and the longest silences are measured as they happen.
--
--   local load = workload.new { dir = dir, brokers = { "10.87.0.21", ... }, proxy = "10.87.0.20", conninfo = { ... } }
--   load:window { kind = "kill" }      what is measured from now on belongs to this
--   load:caught_up(since)              everybody was acknowledged, and every client got an event, sent after `since`
--   load:finish()                      publishers and writers stop; true when all of them have
--   load:close()
--
-- Files, beside those that oracle/checker.lua describes (E, G and A end with the time in seconds):
--   sql        T  n  w  time        the application was told that its transaction n is committed
local json = require "dkjson"
local nodes = require "cluster.nodes"
local programs = require "cluster.programs"
local sse_parser = require "support.sse_parser"
local uv = require "luv"

local M = {}
local load = {}
load.__index = load

local now = nodes.now
local TOPICS = { "load/0", "load/1", "load/2", "load/3", "load/4" }
local PORT = 8080
local SILENCE = 20 -- seconds without a byte (a heartbeat comes every second) after which a client connects anew
local ANSWER = 6   -- seconds after which a publisher or a writer gives up and asks again

local function pick(list)
  return list[math.random(#list)]
end

local function after(seconds, fn)
  local timer = uv.new_timer()
  timer:start(math.max(0, math.floor(seconds * 1000)), 0, function()
    timer:close()
    fn()
  end)
  return timer
end

----------------------------------------------------------------- measuring
-- A table of the longest durations by name, of one fault.
local function new_window(fault)
  return { fault = fault, from = now(), longest = {}, count = {} }
end

function load:window(fault)
  self.current = new_window(fault)
  self.windows[#self.windows + 1] = self.current
  return self.current
end

function load:took(what, seconds)
  local longest = self.current.longest
  longest[what] = math.max(longest[what] or 0, seconds)
end

function load:counted(what, n)
  local count = self.current.count
  count[what] = (count[what] or 0) + (n or 1)
end

local function stamp(self)
  return ("%.3f"):format(now() - self.started)
end

----------------------------------------------------------------- publishers over HTTP
local publisher = {}
publisher.__index = publisher

function publisher:next_event()
  local l = self.load
  l.sent = l.sent + 1
  local n = l.sent
  -- every fourth without a key: it is not sent again when its answer is lost
  local ev = { n = n, topic = pick(TOPICS), key = n % 4 ~= 0 and "http-" .. n or nil, data = ("h.%d."):format(n) }
  l.http:write(("P\t%d\t%s\t%s\t%s\n"):format(n, ev.topic, ev.key or "-", ev.data))
  self.event = ev
end

function publisher:broken()
  if self.tcp then
    self.tcp:close()
    self.tcp = nil
  end
  if self.timer then
    self.timer:close()
    self.timer = nil
  end
  if self.event and self.sent and not self.event.key then
    self.event = nil
  end
  self.sent = false
  self.load:counted "broken"
  self:later(0.1)
end

function publisher:later(seconds)
  if not self.stopped then
    after(seconds, function() self:send() end)
  end
end

function publisher:answer(status, body)
  self.timer:close()
  self.timer, self.sent = nil, false
  local ev, l = self.event, self.load
  if status == 200 or status == 201 then
    local id = json.decode(body).id
    l.http:write(("A\t%d\t%s\t%s\n"):format(ev.n, id, stamp(l)))
    l.acked_at[ev.data] = now()
    l:counted "acknowledged"
    l:took("publish " .. self.route, now() - self.acked)
    self.acked, self.event = now(), nil
    if l.stopping then
      self.stopped = true
      return
    end
    return self:later(0.06 + math.random() * 0.06)
  elseif status ~= 503 then
    l:problem(("publish %d: status %d: %s"):format(ev.n, status, body))
  end
  l:counted "refused"
  if not ev.key and not body:find "nothing was stored" then
    self.event = nil
  end
  self:later(0.2)
end

function publisher:read(data)
  self.buffer = self.buffer .. data
  local head, last = self.buffer:match "^(.-\r\n\r\n)()"
  if not head then
    return
  end
  local length = tonumber(head:lower():match "content%-length: (%d+)") or 0
  if #self.buffer - last + 1 < length then
    return
  end
  local body = self.buffer:sub(last, last + length - 1)
  self.buffer = self.buffer:sub(last + length)
  self:answer(tonumber(head:match "^HTTP/1.1 (%d%d%d)"), body)
end

function publisher:send()
  if self.load.stopping and not self.event then
    self.stopped = true
    return
  end
  if not self.event then
    self:next_event()
  end
  self.timer = after(ANSWER, function()
    self.timer = nil
    self.load:counted "unanswered"
    self:broken()
  end)
  local ev = self.event
  local function write(tcp)
    self.sent = true
    tcp:write(table.concat { "POST /events?topic=", ev.topic, " HTTP/1.1\r\nHost: localhost\r\n",
      ev.key and ("Idempotency-Key: %s\r\n"):format(ev.key) or "", "Content-Type: text/plain\r\nContent-Length: ",
      #ev.data, "\r\n\r\n", ev.data })
  end
  if self.tcp then
    return write(self.tcp)
  end
  local tcp = uv.new_tcp()
  self.tcp, self.buffer = tcp, ""
  tcp:connect(self.address, PORT, function(err)
    if self.tcp ~= tcp then
      return
    elseif err then
      return self:broken()
    end
    tcp:nodelay(true)
    tcp:read_start(function(_, data)
      if self.tcp ~= tcp then
        return
      elseif data then
        return self:read(data)
      end
      if self.timer then
        return self:broken()
      end
      tcp:close() -- between two requests
      self.tcp = nil
    end)
    write(tcp)
  end)
end

----------------------------------------------------------------- applications
-- A psql that runs one transaction after the other; "done N" follows a COMMIT that was answered.
local writer = {}
writer.__index = writer

function writer:start()
  self.input, self.output, self.text, self.warned = uv.new_pipe(false), uv.new_pipe(false), "", false
  local input, output = self.input, self.output
  local handle
  -- both streams in one, so that a warning comes before what it is about
  handle, self.pid = uv.spawn("/bin/sh", { args = { "-c", 'exec "$0" "$@" 2>&1', programs.find "psql", "-X", "-q", "-A",
    "-t", "-v", "ON_ERROR_STOP=1", self.conninfo }, stdio = { input, output } }, function()
      handle:close()
      self.pid = nil
      input:close()
      self.unanswered = self.at ~= nil
      self.at = nil
      if self.load.stopping then
        self.stopped = true
      else
        after(0.2, function() self:start() end)
      end
    end)
  assert(handle, self.pid)
  output:read_start(function(_, data)
    if data then
      self:read(data)
    else
      output:close()
    end
  end)
  self:transaction()
end

function writer:transaction()
  local l = self.load
  if l.stopping then
    return self.input:shutdown()
  end
  self.n = self.n + 1
  local topic, data = pick(TOPICS), ("%s.%d."):format(self.name, self.n)
  self.at = now()
  self.input:write(("BEGIN;INSERT INTO shop.ledger VALUES ('%s',%d,'%s','%s');"):format(self.name, self.n, topic, data)
    .. ("INSERT INTO tidegate.outbox (topic, data) VALUES ('%s','%s');COMMIT;\n\\echo done %d\n"):format(topic, data,
      self.n))
end

function writer:read(data)
  self.text = self.text .. data
  for line in self.text:gmatch "([^\n]*)\n" do
    local n = line:match "^done (%d+)$"
    local l = self.load
    if n then
      if self.warned then -- "has already committed locally, but might not have been replicated": not an answer
        l:counted "not replicated"
      else
        l.sql:write(("T\t%s\t%s\t%s\n"):format(n, self.name, stamp(l)))
        l.acked_at[("%s.%s."):format(self.name, n)] = now()
        l:counted "committed"
        l:took("commit", now() - self.acked)
      end
      self.acked, self.at, self.warned = now(), nil, false
      after(0.08 + math.random() * 0.08, function()
        if self.pid then
          self:transaction()
        end
      end)
    elseif line:find "canceling.* wait for synchronous replication" then
      self.warned = true
    end
  end
  self.text = self.text:match "[^\n]*$"
end

-- Called now and then: what is not answered is given up.
function writer:look()
  if self.pid and self.at and now() > self.at + ANSWER then
    uv.kill(self.pid, "sigkill")
    self.load:counted "unanswered"
  end
end

----------------------------------------------------------------- clients
local client = {}
client.__index = client

function client:note(...)
  self.journal:write(table.concat({ ... }, "\t"), "\n")
end

function client:event(ev)
  local l = self.load
  if ev.type == "gap" then
    local gap = json.decode(ev.data)
    self:note("G", ev.id, gap.requested, gap.resumed_from, gap.reason, stamp(l))
    l:counted("told " .. gap.reason)
  elseif ev.type == "message" then
    self:note("E", ev.id, ev.data, stamp(l))
    if self.measured then
      l:took("silence " .. self.route, now() - self.last_event)
      local acked = l.acked_at[ev.data]
      if acked then
        l:took("late " .. self.route, now() - acked)
      end
    end
    self.last_event = now()
    self.last_data = ev.data
    if ev.data:find "^end%." then
      self.ends = self.ends + 1
    end
  end -- others: what the broker says of the stream
  if ev.id ~= "" then
    self.last_id = ev.id
  end
end

function client:disconnect(seconds)
  if self.tcp then
    self.tcp:close()
    self.tcp = nil
    self:note "D"
  end
  if not self.closed then
    after(seconds, function() self:connect() end)
  end
end

function client:connect()
  if self.closed then
    return
  end
  local tcp = uv.new_tcp()
  self.tcp, self.last_byte = tcp, now()
  local out, head, body = {}, "", false
  local parser = sse_parser(out, function(ev) self:event(ev) end)
  tcp:connect(self.address, PORT, function(err)
    if self.tcp ~= tcp then
      return
    elseif err then
      return self:disconnect(0.3)
    end
    tcp:read_start(function(_, data)
      if self.tcp ~= tcp then
        return
      elseif not data then
        self.load:counted "streams ended"
        return self:disconnect(0.2)
      end
      self.last_byte = now()
      if not body then
        head = head .. data
        local rest = head:match "^.-\r\n\r\n(.*)$"
        if not rest then
          return
        end
        local status = head:match "^HTTP/1.1 (%d%d%d)"
        if status ~= "200" then
          self.load:counted "streams refused"
          return self:disconnect(0.5)
        end
        body, data = true, rest
        self:note("C", self.last_id)
        if not self.measured then
          after(1 + math.random() * 4, function()
            if self.tcp == tcp then
              self:disconnect(math.random() * 0.3)
            end
          end)
        end
      end
      if data ~= "" then
        parser:feed(data)
        if out.last_id ~= "" then
          self.last_id = out.last_id
        end
        out.blocks, out.comments = {}, {}
      end
    end)
    local topics = {}
    for i, topic in ipairs(self.topics) do
      topics[i] = "topic=" .. topic
    end
    tcp:write(table.concat { "GET /events?", table.concat(topics, "&"), " HTTP/1.1\r\nHost: localhost\r\n",
      "Accept: text/event-stream\r\nLast-Event-ID: ", self.last_id, "\r\n\r\n" })
  end)
end

function client:look()
  if self.tcp and now() > self.last_byte + SILENCE then
    self.load:counted "connected anew"
    self:disconnect(0)
  end
end

----------------------------------------------------------------- the whole
function load:problem(text)
  self.problems[#self.problems + 1] = text
end

function load:add_client(route, address, topics, measured)
  local c = setmetatable({ load = self, name = ("client%d"):format(#self.clients + 1), route = route, address = address,
    topics = topics, measured = measured, last_id = "0", last_event = now(), ends = 0 }, client)
  c.path = self.dir .. "/" .. c.name
  c.journal = assert(io.open(c.path, "wb"))
  c:note("S", table.unpack(topics))
  self.clients[#self.clients + 1] = c
  c:connect()
end

-- options: dir, b1, b2, proxy (addresses), conninfo (list)
function M.new(options)
  local l = setmetatable({ dir = options.dir, started = now(), sent = 0, acked_at = {}, problems = {}, windows = {},
    publishers = {}, writers = {}, clients = {} }, load)
  l.http = assert(io.open(l.dir .. "/http", "wb"))
  l.sql = assert(io.open(l.dir .. "/sql", "wb"))
  l:window { kind = "start" }
  for _, route in ipairs { "b1", "b2", "proxy" } do
    for i = 1, 2 do
      l:add_client(route, options[route], { "load/**" }, true)
      if i == 1 or route == "proxy" then
        local p = setmetatable({ load = l, route = route, address = options[route], acked = now() }, publisher)
        l.publishers[#l.publishers + 1] = p
        p:send()
      end
    end
  end
  l:add_client("proxy", options.proxy, { "load/**" }, false)
  l:add_client("proxy", options.proxy, { "load/1", "load/3" }, false)
  l:add_client("proxy", options.proxy, { "load/2" }, false)
  for i, conninfo in ipairs(options.conninfo) do
    local w = setmetatable({ load = l, name = "w" .. i, conninfo = conninfo, n = 0, acked = now() }, writer)
    l.writers[i] = w
    w:start()
  end
  l.timer = uv.new_timer()
  l.timer:start(200, 200, function()
    for _, list in ipairs { l.writers, l.clients } do
      for _, x in ipairs(list) do
        x:look()
      end
    end
  end)
  return l
end

function load:caught_up(since)
  for _, list in ipairs { self.publishers, self.writers } do
    for _, x in ipairs(list) do
      if x.acked < since then
        return false
      end
    end
  end
  for _, c in ipairs(self.clients) do
    if c.measured and (not c.last_data or (self.acked_at[c.last_data] or now()) < since) then
      return false
    end
  end
  return true
end

-- Publishers settle what they have begun.
function load:finish()
  self.stopping = true
  for _, list in ipairs { self.publishers, self.writers } do
    for _, x in ipairs(list) do
      if not x.stopped then
        return false
      end
    end
  end
  return true
end

-- After finish and a last event ("end.TOPIC") on each topic: has every client got those it asked for?
function load:at_end()
  for _, c in ipairs(self.clients) do
    if c.ends < (c.topics[1] == "load/**" and #TOPICS or #c.topics) then
      return false
    end
  end
  return true
end

function load:close()
  for _, c in ipairs(self.clients) do
    c.closed = true
    c:disconnect(0)
    c.journal:close()
  end
  for _, w in ipairs(self.writers) do
    if w.pid then
      uv.kill(w.pid, "sigkill")
    end
  end
  self.timer:close()
  self.http:close()
  self.sql:close()
end

M.TOPICS = TOPICS

return M
