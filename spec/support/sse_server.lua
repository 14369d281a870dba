-- A small event stream server that can be told to do wrong, for specs of those who check servers.
-- It lives in the loop of the specs: it works while a spec waits.
--
--   local server = sse_server.start { fault = function(n, frame) return { frame } end }
--   server.port;  server:stop()
--
-- `fault(n, frame)` answers what subscribers of the topic get for the n-th publish (1, 2 ...).
-- Other options: chunked = true, crlf = true, pieces = bytes a write, status (of publishes; 0: no answer),
-- subscribe_status, fields ("Name: value\r\n" each, of streams), hang_up = n (streams are ended at the n-th publish),
-- wrap = function(data) return data end
local uv = require "luv"

local M = {}
local server = {}
server.__index = server

local function send(self, client, bytes)
  if self.options.chunked then
    bytes = ("%x;x=1\r\n%s\r\n"):format(#bytes, bytes)
  end
  local step = self.options.pieces or #bytes
  for at = 1, #bytes, step do
    client:write(bytes:sub(at, at + step - 1))
  end
end

local function subscribe(self, client, target)
  local status = self.options.subscribe_status or 200
  if status ~= 200 then
    client:write(("HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n"):format(status))
    return
  end
  client:write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
    .. (self.options.fields or "") .. (self.options.chunked and "Transfer-Encoding: chunked\r\n" or "") .. "\r\n")
  local topic = target:match "topic=([^&]+)"
  local list = self.streams[topic] or {}
  self.streams[topic] = list
  list[#list + 1] = client
  send(self, client, ":hello\n\n")
end

local function publish(self, client, target, body)
  self.published = self.published + 1
  local n, options = self.published, self.options
  local status = options.status or 201
  if status == 0 then
    return
  end
  client:write(("HTTP/1.1 %d Done\r\nContent-Length: 2\r\n\r\n{}"):format(status))
  local data = options.wrap and options.wrap(body) or body
  local frame = ("id: %d\nevent: tick\ndata: %s\n\n"):format(n, data)
  if options.crlf then
    frame = frame:gsub("\n", "\r\n")
  end
  for _, stream in ipairs(self.streams[target:match "topic=([^&]+)"] or {}) do
    for _, bytes in ipairs(options.fault and options.fault(n, frame) or { frame }) do
      send(self, stream, bytes)
    end
    if options.hang_up == n then
      stream:shutdown()
    end
  end
end

-- Takes complete requests off the front of `buffer`; returns the rest.
local function serve(self, client, buffer)
  while true do
    local head, rest = buffer:match "^(.-\r\n)\r\n(.*)$"
    if not head then
      return buffer
    end
    local method, target = head:match "^(%u+) (%S+)"
    local length = tonumber(head:lower():match "content%-length: *(%d+)" or 0)
    if #rest < length then
      return buffer
    end
    if method == "GET" then
      subscribe(self, client, target)
    else
      publish(self, client, target, rest:sub(1, length))
    end
    buffer = rest:sub(length + 1)
  end
end

function M.start(options)
  local self = setmetatable({ options = options or {}, streams = {}, clients = {}, published = 0 }, server)
  self.socket = assert(uv.new_tcp())
  assert(self.socket:bind("127.0.0.1", 0))
  self.port = self.socket:getsockname().port
  assert(self.socket:listen(128, function()
    local client, buffer = uv.new_tcp(), ""
    self.clients[client] = true
    assert(self.socket:accept(client))
    client:read_start(function(_, bytes)
      if bytes then
        buffer = serve(self, client, buffer .. bytes)
      elseif not client:is_closing() then
        client:close()
      end
    end)
  end))
  return self
end

function server:stop()
  self.socket:close()
  for client in pairs(self.clients) do
    if not client:is_closing() then
      client:close()
    end
  end
  uv.run "nowait" -- luv crashes when the last of a close is left to lua_close
end

return M
