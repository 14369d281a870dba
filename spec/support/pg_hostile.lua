-- A server that speaks just enough of PostgreSQL's protocol 3.0 ("Frontend/Backend Protocol", message formats)
-- to be trusted and then to misbehave. Each connection runs a script of its own as a coroutine:
--
--   local server = hostile.start(function(conn, n)     n: the n-th connection
--     conn:welcome()                                   reads the start, lets the client in
--     local kind, body = conn:message()                the next message; nil: the client has gone
--     conn:send(hostile.message("Z", "I"))
--   end)                                               at its end the connection is closed; conn:stall() never ends
--   server.script = function(conn, n) ... end          from the next connection on
--   server:turn()                                      does what can be done without waiting
local uv = require "luv"

local M = {}
local server, connection = {}, {}
server.__index, connection.__index = server, connection

----------------------------------------------------------------- bytes
-- `length`: a lie instead of the true one.
function M.message(kind, body, length)
  return kind .. (">I4"):pack((length or #(body or "") + 4) & 0xffffffff) .. (body or "")
end

local message = M.message

-- Ends the session (FATAL, or PANIC): no M.READY follows from a good server. The severity people read is localized.
function M.fatal(sqlstate, text, severity)
  return message("E", ("STÖDLICH\0V%s\0C%s\0M%s\0\0"):format(severity or "FATAL", sqlstate, text))
end

-- Only the statement is refused: M.READY follows.
function M.refusal(sqlstate, text)
  return message("E", ("SFEHLER\0VERROR\0C%s\0M%s\0\0"):format(sqlstate, text))
end

function M.notice(text)
  return message("N", ("SNOTICE\0VNOTICE\0C00000\0M%s\0\0"):format(text))
end

function M.notification(payload)
  return message("A", (">I4zz"):pack(7, "wake", payload))
end

function M.parameter(name, value)
  return message("S", ("zz"):pack(name, value))
end

M.READY = message("Z", "I")
M.OK = message("R", (">I4"):pack(0))
M.COLUMNS = message("T", (">I2zI4I2I4i2i4I2"):pack(1, "x", 0, 0, 25, -1, -1, 0))
M.COMPLETE = message("C", "SELECT 1\0")

function M.row(text)
  return message("D", (">I2s4"):pack(1, text))
end

-- What libpq needs to be content with target_session_attrs=read-write.
M.GREETING = M.OK .. M.parameter("server_version", "15.3") .. M.parameter("in_hot_standby", "off")
  .. M.parameter("default_transaction_read_only", "off") .. M.parameter("client_encoding", "UTF8")
  .. message("K", (">I4I4"):pack(1, 2)) .. M.READY

----------------------------------------------------------------- one connection
local function resume(self)
  if coroutine.status(self.thread) == "suspended" then
    local ok, err = coroutine.resume(self.thread, self, self.number)
    if not ok then
      self.server.failure = self.server.failure or debug.traceback(self.thread, err)
    end
    if coroutine.status(self.thread) == "dead" then
      self:close()
    end
  end
end

function connection:read(n)
  while #self.input < n do
    if self.ended then
      return nil
    end
    coroutine.yield()
  end
  local bytes = self.input:sub(1, n)
  self.input = self.input:sub(n + 1)
  return bytes
end

-- The parameters of the start, an SSLRequest answered with `ssl` (default: no) before it. nil: it has gone.
function connection:startup(ssl)
  local head = self:read(8)
  if not head then
    return nil
  end
  local length, code = (">I4I4"):unpack(head)
  if code == 80877103 then
    self:send(ssl or "N")
    return self:startup()
  end
  assert(code == 196608, "no start of protocol 3.0")
  return self:read(length - 8)
end

function connection:message()
  local head = self:read(5)
  if not head then
    return nil
  end
  local kind, length = (">c1I4"):unpack(head)
  return kind, self:read(length - 4)
end

-- The next statement of the client: "Q" plain, "P" to be prepared, "B" to be carried out.
function connection:statement()
  local first, body
  repeat
    local kind, text = self:message()
    if not kind or kind == "X" then
      return nil
    end
    if kind == "Q" or kind == "P" or kind == "B" then
      first, body = kind, text
    end
  until kind == "S" or kind == "Q"
  return first, body
end

-- Answers the statement as a good server would.
function connection:answer(kind)
  if kind == "P" then
    self:send(message "1" .. M.READY)
  else
    self:send((kind == "B" and message "2" or "") .. M.COLUMNS .. M.row "x" .. M.COMPLETE .. M.READY)
  end
end

-- Lets the client in and carries out its setup ("": none).
function connection:welcome()
  if not self:startup() then
    return
  end
  self:send(M.GREETING)
  if self:statement() then
    self:send(message "I" .. M.READY)
  end
end

function connection:behave()
  self:welcome()
  for kind in self.statement, self do
    self:answer(kind)
  end
end

function connection:send(bytes)
  if not self.handle:is_closing() then
    self.handle:write(bytes)
  end
end

function connection.pause(_, seconds)
  local till = uv.hrtime() / 1e9 + seconds
  while uv.hrtime() / 1e9 < till do
    coroutine.yield()
  end
end

function connection:stall()
  while not self.ended do
    coroutine.yield()
  end
end

-- Nothing more is taken from the socket: the client's bytes pile up.
function connection:deaf()
  self.handle:read_stop()
  self:stall()
end

function connection:close()
  if not self.handle:is_closing() then
    self.handle:close()
  end
  self.server.open[self] = nil
end

----------------------------------------------------------------- the server
function M.start(script)
  local self = setmetatable({ script = script, open = {}, accepted = {}, handle = uv.new_tcp() }, server)
  assert(self.handle:bind("127.0.0.1", 0))
  self.handle:recv_buffer_size(4096) -- of all connections: deaf ones shall not take megabytes
  self.port = self.handle:getsockname().port
  assert(self.handle:listen(16, function()
    local conn = setmetatable({ handle = uv.new_tcp(), input = "", server = self }, connection)
    assert(self.handle:accept(conn.handle))
    self.accepted[#self.accepted + 1] = uv.hrtime() / 1e9
    conn.number = #self.accepted
    conn.thread = coroutine.create(self.script)
    self.open[conn] = true
    conn.handle:read_start(function(_, bytes)
      conn.input = conn.input .. (bytes or "")
      conn.ended = conn.ended or not bytes
      resume(conn)
    end)
    resume(conn)
  end))
  return self
end

function server:turn()
  uv.run "nowait"
  local list = {}
  for conn in pairs(self.open) do
    list[#list + 1] = conn
  end
  for _, conn in ipairs(list) do
    resume(conn)
  end
  assert(not self.failure, self.failure)
end

function server:disconnect()
  for conn in pairs(self.open) do
    conn:close()
  end
end

-- Nobody listens any more, connections are closed.
function server:stop()
  self:disconnect()
  if not self.handle:is_closing() then
    self.handle:close()
  end
  uv.run "nowait"
end

return M
