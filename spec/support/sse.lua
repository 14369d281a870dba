-- Raw SSE client: an independent parser of text/event-stream (WHATWG HTML 9.2.6) on a raw socket. It
-- reads only inside the calls below, so a client that is not asked anything is a client that stopped
-- reading.
--
--   local c = sse.open(broker, { topic = "a/*" })     -- 200 and an event stream, else an error
--   local ev = c:next()                               -- { type, data, id }
--   local list = c:collect(3)
--   local back = sse.open(broker, { topic = "a/*", last_event_id = c.last_id })
--
-- Fields of a client: status, headers, last_id (text), retry_ms, comments, blocks (every block:
-- { lines, event }), positions (the position events: next() and collect() pass them over, as an EventSource does that
-- does not listen for them), ended (nil, "closed", ...), bytes (the body as far as it was received, when
-- options.keep_bytes), first_read (the part of the body that came with the head). The framing of a body in chunks is
-- checked strictly; `whole` says whether it has ended with its last chunk. With options.gzip it asks for a compressed
-- body and reads what it gets: gzip (whether it is), wire_bytes (of the body as it came), over (the gzip member is
-- complete).
--
-- Clients speak what support.transport says, or options.transport ("h1", "h2"). With options.h2 (a connection of
-- support.h2) they are streams of that connection.
local chunks = require "support.chunks"
local eventually = require "support.eventually"
local gzip = require "native.gzip"
local h2 = require "support.h2"
local http = require "support.http"
local socket = require "socket"
local sockets = require "support.sockets"
local sse_parser = require "support.sse_parser"
local transport = require "support.transport"

local M = {}

-- The position that a position event tells; nil: it is none.
function M.position(ev)
  return ev.type == "position" and ev.data:match '^{"position":"(%d+)"}$'
end

----------------------------------------------------------------- the client
local client = {}
client.__index = client

-- Target and header fields.
local function request_of(options)
  local query = {}
  for k, v in pairs(options.query or {}) do
    query[k] = v
  end
  query.topic = options.topic or query.topic
  local target = (options.path or "/events") .. (next(query) and "?" .. http.query(query) or "")
  local headers = { { "Accept", options.accept or "text/event-stream" } }
  if options.gzip then
    headers[#headers + 1] = { "Accept-Encoding", "gzip" }
  end
  if options.last_event_id then
    headers[#headers + 1] = { "Last-Event-ID", options.last_event_id }
  end
  for k, v in pairs(options.headers or {}) do
    headers[#headers + 1] = type(k) == "number" and v or { k, v }
  end
  return target, headers
end

-- Over HTTP/2. Reading, the head, and the end are the connection's; a client is one stream of it.
local function start_h2(c, target, options)
  local why
  c.h2, why = options.h2, nil
  if not c.h2 then
    c.h2, why = h2.connect(target, options)
    c.owns_h2 = true
  end
  if not c.h2 then
    return nil, why
  end
  local path, headers = request_of(options)
  c.socket = c.h2.socket
  local method = options.post and "POST" or "GET"
  c.stream = c.h2:request(method, path, options.post, { headers = headers, on_data = function(bytes)
    c:take_h2()
    if not c.first_read then
      c.first_read = c.stream.head_read == c.h2.reads and bytes or ""
    end
    c:take_body(c:decode(bytes))
  end })
  return c
end

-- Connects and sends the request; waits for nothing. nil, error when the connection fails.
-- options: topic (text or list), query, path, last_event_id, headers, accept, post (a body: the request is a POST),
-- request (raw bytes instead),
-- rcvbuf, from (own address), slowly (one byte a packet), read_max (bytes at a time), keep_bytes, timeout, transport,
-- h2
function M.start(target, options)
  options = options or {}
  local c = setmetatable({ queue = {}, head_bytes = "", received = {}, options = options, positions = {} }, client)
  c.parser = sse_parser(c, function(ev)
    local list = M.position(ev) and c.positions or c.queue
    list[#list + 1] = ev
  end)
  local raw = options.request or options.slowly
  local over_h2 = options.transport == "h2" or transport.h2 and options.transport ~= "h1"
  if options.h2 or over_h2 and not raw then
    return start_h2(c, target, options)
  end
  local s, err = sockets.connect(target, options)
  if not s then
    return nil, err
  end
  c.socket = s
  local target_path, headers = request_of(options)
  local bytes = options.request
    or http.render(options.post and "POST" or "GET", target_path, headers, options.post)
  if options.slowly then
    for i = 1, #bytes do
      assert(sockets.send(s, bytes:sub(i, i)))
    end
  else
    local ok, why = sockets.send(s, bytes)
    if not ok then
      sockets.close(s)
      return nil, why
    end
  end
  return c
end

-- Starts and waits for the head of the answer, whatever its status.
function M.request(target, options)
  local c = assert(M.start(target, options))
  c:wait("an answer to the subscribe request", function() return c.status or c.ended end,
    options and options.timeout)
  assert(c.status, "the connection ended without an answer")
  return c
end

-- An open event stream, past its first packet (its start position is known).
function M.open(target, options)
  local c = M.request(target, options)
  if c.status ~= 200 then
    error(("status %d instead of an event stream: %s"):format(c.status, c:rest_of_body()), 2)
  end
  assert(c.headers["content-type"]:find("^text/event%-stream"), "not an event stream")
  c:wait("the first block", function() return #c.blocks > 0 or c.ended end)
  c.start_id = c.blocks[1] and table.concat(c.blocks[1].lines, "\n"):match "%f[%w]id: (%d+)"
  return c
end

function client:take(bytes)
  local head = not self.status
  if head then
    self.head_bytes = self.head_bytes .. bytes
    local _, last = self.head_bytes:find("\r\n\r\n", 1, true)
    if not last then
      return
    end
    local fake = setmetatable({ buffer = self.head_bytes:sub(1, last) }, { __index = http.conn })
    local r = http.conn.head(fake)
    bytes = self.head_bytes:sub(last + 1)
    self.status, self.headers, self.fields, self.raw_head = r.status, r.headers, r.fields, r.raw_head
    if r.headers["transfer-encoding"] then
      assert(r.version == "HTTP/1.1" and r.headers["transfer-encoding"] == "chunked", r.raw_head)
      self.chunks = chunks()
    end
    self:take_coding()
  end
  if self.chunks then
    bytes = self.chunks:feed(bytes)
    self.whole = self.chunks.complete
  end
  bytes = self:decode(bytes)
  self.first_read = head and bytes or self.first_read
  self:take_body(bytes)
end

-- The head has come.
function client:take_coding()
  local coding = self.headers["content-encoding"]
  assert(not coding or self.options.gzip and coding == "gzip", coding)
  self.gzip = coding and gzip.reader()
end

function client:decode(bytes)
  self.wire_bytes = (self.wire_bytes or 0) + #bytes
  if self.gzip then
    bytes, self.over = self.gzip:feed(bytes)
  end
  return bytes
end

-- What the connection knows of the stream by now.
function client:take_h2()
  local s = self.stream
  local head = s.status and not self.status
  self.status, self.headers, self.fields = s.status, s.headers, s.fields
  self.whole = s.ended
  if head then
    self:take_coding()
  end
  if s.ended or s.closed or self.h2.ended then
    self.ended = self.ended or (s.ended or not self.h2.ended) and "closed" or self.h2.ended
  end
end

function client:take_body(bytes)
  if self.options.keep_bytes or self.status ~= 200 then
    self.received[#self.received + 1] = bytes
  end
  if self.status == 200 and bytes ~= "" then
    self.parser:feed(bytes)
  end
end

-- Reads what is there. Returns whether anything was.
function client:pump(max_reads)
  local any = false
  if self.h2 then
    any = not self.ended and self.h2:pump(max_reads)
    self:take_h2()
    return any
  end
  for _ = 1, max_reads or 64 do
    if self.ended then
      return any
    end
    local data, err = sockets.read_available(self.socket, self.options.read_max)
    if not data then
      self.ended = err
      return true
    elseif data == "" then
      return any
    end
    any = true
    self:take(data)
  end
  return any
end

-- Reads until `done()` answers true; an error at the deadline.
function client:wait(what, done, timeout)
  local deadline = eventually.deadline(timeout)
  while true do
    if self.h2 then
      self:take_h2() -- another stream may have read for this one
    end
    local result = done()
    if result then
      return result
    end
    if not self:pump() then
      local left = deadline - eventually.now()
      if left <= 0 then
        error(("not within %g s: %s (%d blocks so far%s)"):format((timeout or eventually.default_timeout)
          * eventually.factor, what, #self.blocks, self.ended and ", stream ended: " .. self.ended or ""), 2)
      elseif self.ended then
        error(("the stream ended (%s) before: %s"):format(self.ended, what), 2)
      end
      socket.select({ self.socket }, nil, math.min(left, 0.2))
    end
  end
end

-- The next event.
function client:next(timeout)
  self:wait("an event", function() return #self.queue > 0 end, timeout)
  return table.remove(self.queue, 1)
end

-- The next n events, a list.
function client:collect(n, timeout)
  self:wait(("%d events"):format(n), function() return #self.queue >= n end, timeout)
  local list = table.move(self.queue, 1, n, 1, {})
  self:drop(n)
  return list
end

function client:drop(n)
  self.queue = table.move(self.queue, n + 1, #self.queue, 1, {})
end

-- Reads until an event with this data came; returns all events up to it, without it.
function client:collect_until(data, timeout)
  local at
  local scanned = 0
  self:wait(("an event with data %q"):format(data), function()
    for i = scanned + 1, #self.queue do
      if self.queue[i].data == data then
        at = i
        return true
      end
    end
    scanned = #self.queue
    return false
  end, timeout)
  local list = table.move(self.queue, 1, at - 1, 1, {})
  self:drop(at)
  return list
end

-- Reads until the other side closes. Returns "closed" or what the socket said.
function client:wait_end(timeout)
  self:wait("the end of the stream", function() return self.ended end, timeout)
  return self.ended
end

function client:bytes()
  return table.concat(self.received)
end

-- Body of an answer that is not an event stream (nothing is assumed of keep-alive).
function client:rest_of_body()
  local length = tonumber(self.headers["content-length"] or "")
  self:wait("the body", function()
    return self.ended or length and #self:bytes() >= length
  end)
  return self:bytes()
end

function client:close()
  self.ended = self.ended or "closed here"
  if self.owns_h2 then
    self.h2:close()
  elseif self.h2 then
    self.h2:reset(self.stream)
  else
    sockets.close(self.socket)
  end
end

function client:reset()
  if self.h2 then
    self.h2:settle() -- a reset that comes with bytes looks like an end to libuv
  end
  self.ended = self.ended or "reset here"
  sockets.reset(self.socket)
end

function client:shutdown()
  return self.socket:shutdown("send")
end

-- Pumps all clients until `done()` answers true.
function M.pump_until(what, clients, done, timeout)
  local deadline = eventually.deadline(timeout)
  while true do
    local any = false
    for _, c in ipairs(clients) do
      any = c:pump() or any
    end
    if done() then
      return
    end
    if not any then
      if eventually.now() > deadline then
        error(("not within %g s: %s"):format((timeout or eventually.default_timeout) * eventually.factor, what), 2)
      end
      local waiting = {}
      for _, c in ipairs(clients) do
        if not c.ended then
          waiting[#waiting + 1] = c.socket
        end
      end
      if #waiting > 0 then
        socket.select(waiting, nil, 0.05)
      else
        eventually.turn()
      end
    end
  end
end

----------------------------------------------------------------- what an EventSource does
-- Follows a broker through restarts: reconnects with its last id whenever the stream ends. Call step()
-- often. events: all received, in order; connects: how often a stream was opened.
local follower = {}
follower.__index = follower

function M.follower(broker, options)
  return setmetatable({ broker = broker, options = options, last_id = options.last_event_id,
    events = {}, connects = 0, marks = {} }, follower)
end

-- Loses its connection now; the next step() makes another.
function follower:cut()
  if self.client then
    self.client:close()
    self.client = nil
  end
end

function follower:step()
  local c = self.client
  if not c then
    local options = {}
    for k, v in pairs(self.options) do
      options[k] = v
    end
    options.last_event_id = self.last_id
    c = M.start(self.broker, options)
    if not c then
      return
    end
    self.client = c
    self.opened = false
  end
  c:pump()
  if c.status and not self.opened then
    assert(c.status == 200, "status " .. c.status)
    self.opened = true
    self.connects = self.connects + 1
    self.marks[#self.marks + 1] = #self.events
  end
  for _, ev in ipairs(c.queue) do
    self.events[#self.events + 1] = ev
  end
  c.queue = {}
  if c.last_id ~= "" then
    self.last_id = c.last_id
  end
  if c.ended then
    c:close()
    self.client = nil
  end
end

return M
