-- HTTP/2 client of the specs, without TLS by prior knowledge: whole requests through nghttp2, and single frames for
-- what no client should send.
--
--   local c = h2.connect(broker)                        -- options: window, manual, and those of sockets.connect
--   local s = c:request("GET", "/events?topic=a")        -- a stream: id, status, headers, body, ended, reset (code)
--   c:wait("an answer", function() return s.status end)
--   local r = c:exchange("POST", "/events?topic=a", "data")
--   c.goaway                                             -- { code, last }, when the broker has said it
--
--   local raw = h2.raw(broker)                           -- preface and SETTINGS are sent, the broker's are read
--   raw:send(h2.frame("PING", 0, 0, ("x"):rep(8)))
--   raw:frame "GOAWAY"                                    -- the next frame of that type: { type, flags, id, payload }
local eventually = require "support.eventually"
local native = require "native.h2"
local socket = require "socket"
local sockets = require "support.sockets"

local M = {}

M.CODES = {
  NO_ERROR = 0, PROTOCOL_ERROR = 1, INTERNAL_ERROR = 2, FLOW_CONTROL_ERROR = 3, STREAM_CLOSED = 5, FRAME_SIZE_ERROR = 6,
  REFUSED_STREAM = 7, CANCEL = 8, COMPRESSION_ERROR = 9, ENHANCE_YOUR_CALM = 11,
}

----------------------------------------------------------------- whole requests
local conn = {}
conn.__index = conn

function M.connect(target, options)
  local all = {}
  for k, v in pairs(options or {}) do
    all[k] = v
  end
  if target.tls and all.tls == nil then
    all.tls = {}
    for k, v in pairs(target.tls) do
      all.tls[k] = v
    end
    all.tls.alpn = { "h2" }
  end
  local s, err = sockets.connect(target, all)
  if not s then
    return nil, err
  end
  local c = setmetatable({ socket = s, session = native.client(options or {}), streams = {} }, conn)
  c:flush()
  return c
end

function conn:flush()
  local bytes = self.session:output()
  if bytes ~= "" then
    return sockets.send(self.socket, bytes)
  end
  return true
end

-- Sends a request and waits for nothing. options: headers (list of { name, value }), incomplete (append() follows),
-- on_data(bytes) instead of gathering them in body
function conn:request(method, path, body, options)
  options = options or {}
  local fields = { { ":method", method }, { ":scheme", "http" }, { ":path", path },
    { ":authority", options.authority or "localhost" } }
  for _, field in ipairs(options.headers or {}) do
    fields[#fields + 1] = { field[1]:lower(), field[2] }
  end
  local id = self.session:request(fields, body, options.incomplete)
  local stream = { id = id, headers = {}, fields = {}, received = {}, bytes = 0, on_data = options.on_data }
  self.streams[id] = stream
  self:flush()
  return stream
end

function conn:append(stream, bytes, complete)
  self.session:append(stream.id, bytes, complete)
  return self:flush()
end

function conn:reset(stream, code)
  self.session:reset(stream.id, code)
  return self:flush()
end

local function take(self, ev)
  local s = self.streams[ev.id]
  if ev.kind == "goaway" then
    self.goaway = { code = ev.code, last = ev.last }
  elseif ev.kind == "ping" then
    self.pings = (self.pings or 0) + 1
  elseif not s then
    return
  elseif ev.kind == "headers" then
    s.head_read = self.reads
    for _, field in ipairs(ev.fields) do
      local name, value = field[1], field[2]
      assert(name == name:lower(), "an upper-case field: " .. name)
      if name == ":status" then
        s.status, s.informational = tonumber(value), value:match "^1" and value or s.informational
      else
        s.fields[#s.fields + 1] = { name, value }
        s.headers[name] = s.headers[name] and s.headers[name] .. ", " .. value or value
      end
    end
    if s.informational == tostring(s.status) then
      s.status = nil
    end
  elseif ev.kind == "data" then
    s.bytes = s.bytes + #ev.data
    if s.on_data then
      s.on_data(ev.data)
    else
      s.received[#s.received + 1] = ev.data
    end
  elseif ev.kind == "reset" then
    s.reset = ev.code
  elseif ev.kind == "close" then
    s.closed = true
  end
  if ev.ended and s then -- ACK is the same bit
    s.ended = true
  end
end

-- Reads what is there. Returns whether anything was.
function conn:pump(max_reads)
  local any = false
  for _ = 1, max_reads or 64 do
    if self.ended then
      return any
    end
    local data, err = sockets.read_available(self.socket)
    if not data then
      self.ended = err
      for _, s in pairs(self.streams) do
        s.closed = true
      end
      return true
    elseif data == "" then
      return any
    end
    any = true
    self.reads = (self.reads or 0) + 1
    assert(self.session:feed(data))
    for _, ev in ipairs(self.session:events()) do
      take(self, ev)
    end
    self:flush() -- fails when the other side has closed: the next read says so
  end
  return any
end

function conn:wait(what, done, timeout)
  local deadline = eventually.deadline(timeout)
  while true do
    local result = done()
    if result then
      return result
    end
    if not self:pump() then
      local left = deadline - eventually.now()
      if left <= 0 or self.ended then
        error(("not %s: %s"):format(self.ended and "before the connection ended" or "in time", what), 2)
      end
      socket.select({ self.socket }, nil, math.min(left, 0.2))
    end
  end
end

function conn:wait_end(timeout)
  self:wait("the end of the connection", function() return self.ended end, timeout)
  return self.ended
end

-- Waits until the broker has read all that was sent.
function conn:settle()
  local before = self.pings or 0
  self.session:ping()
  self:flush()
  self:wait("the answer to a PING", function() return (self.pings or 0) > before end)
end

-- A request and its whole answer.
function conn:exchange(method, path, body, options)
  local s = self:request(method, path, body, options)
  self:wait("an answer", function() return s.ended or s.closed end)
  s.body = table.concat(s.received)
  return s
end

function conn:close()
  self.ended = self.ended or "closed here"
  sockets.close(self.socket)
  self.session:close()
end

----------------------------------------------------------------- single frames
M.TYPES = { [0] = "DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS", "PUSH_PROMISE", "PING", "GOAWAY",
  "WINDOW_UPDATE", "CONTINUATION" }
local NUMBERS = {}
for number, name in pairs(M.TYPES) do
  NUMBERS[name] = number
end

M.PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
M.END_STREAM, M.ACK, M.END_HEADERS, M.PADDED, M.PRIORITY = 1, 1, 4, 8, 32

function M.frame(kind, flags, id, payload)
  payload = payload or ""
  return string.pack(">I3I1I1I4", #payload, NUMBERS[kind] or kind, flags, id) .. payload
end

-- HPACK without compression: literal fields, never indexed.
local function hpack_text(text)
  if #text < 127 then
    return string.char(#text) .. text
  end
  local out, n = { "\x7f" }, #text - 127
  while n >= 128 do
    out[#out + 1] = string.char(n % 128 + 128)
    n = n // 128
  end
  return table.concat(out) .. string.char(n) .. text
end

function M.fields(list)
  local out = {}
  for _, field in ipairs(list) do
    out[#out + 1] = "\x10" .. hpack_text(field[1]) .. hpack_text(field[2])
  end
  return table.concat(out)
end

-- The fields of a request; `more` come behind, `instead` replaces pseudo-header fields by name (false: without it).
function M.head(method, path, more, instead)
  local list = {}
  for _, field in ipairs { { ":method", method }, { ":scheme", "http" }, { ":path", path },
    { ":authority", "localhost" } } do
    local other = instead and instead[field[1]]
    if other ~= false then
      list[#list + 1] = other and { field[1], other } or field
    end
  end
  for _, field in ipairs(more or {}) do
    list[#list + 1] = field
  end
  return M.fields(list)
end

local raw = {}
raw.__index = raw

-- options: preface = false: nothing is sent, and those of sockets.connect
function M.raw(target, options)
  local s = assert(sockets.connect(target, options))
  local c = setmetatable({ socket = s, buffer = "" }, raw)
  if not options or options.preface ~= false then
    assert(sockets.send(s, M.PREFACE .. M.frame("SETTINGS", 0, 0)))
    assert(c:frame("SETTINGS").flags == 0)
    assert(sockets.send(s, M.frame("SETTINGS", M.ACK, 0)))
  end
  return c
end

function raw:send(bytes)
  return sockets.send(self.socket, bytes)
end

-- The next frame of that type; those before it are passed over, but for GOAWAY. At the end nil, and what the socket
-- said ("timeout": it has not ended).
function raw:frame(kind, timeout)
  local deadline = eventually.deadline(timeout)
  while true do
    while #self.buffer >= 9 do
      local n, number, flags, id = (">I3I1I1I4"):unpack(self.buffer)
      if #self.buffer < 9 + n then
        break
      end
      local f = { type = M.TYPES[number], flags = flags, id = id, payload = self.buffer:sub(10, 9 + n) }
      self.buffer = self.buffer:sub(10 + n)
      if f.type == "GOAWAY" then
        self.goaway = { last = (">I4"):unpack(f.payload), code = (">I4"):unpack(f.payload, 5) }
      end
      if f.type == kind or kind == nil then
        return f
      end
    end
    local data, err = sockets.read(self.socket, deadline)
    if not data then
      return nil, err
    end
    self.buffer = self.buffer .. data
  end
end

-- The error code of the next RST_STREAM, or of GOAWAY when the connection ends before.
function raw:error_code(timeout)
  local f = self:frame("RST_STREAM", timeout)
  if f then
    return (">I4"):unpack(f.payload), "RST_STREAM"
  end
  return self.goaway and self.goaway.code, "GOAWAY"
end

function raw:close()
  sockets.close(self.socket)
end

return M
