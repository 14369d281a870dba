-- A small HTTP server that does as it is told, wrong things too, for specs of those who ask servers. It lives
-- in the loop of the specs: it works while a spec waits.
--
--   local server = http_server.start(function(request, client) client:write "HTTP/1.1 200 OK\r\n..." end)
--   server.port;  server.url ("http://127.0.0.1:PORT");  server.requests;  server.connections;  server:stop()
--
-- `request`: { method, target, headers = { [lower-case name] = value }, body, connection = n (1, 2 ...) }.
-- `client` is a luv TCP handle. http_server.answer(client, { status =, headers =, body = }) writes a proper answer.
local uv = require "luv"

local M = {}
local server = {}
server.__index = server

function M.answer(client, answer)
  local lines = { ("HTTP/1.1 %d Status"):format(answer.status or 200) }
  for name, value in pairs(answer.headers or {}) do
    lines[#lines + 1] = name .. ": " .. value
  end
  local body = answer.body or ""
  lines[#lines + 1] = "Content-Length: " .. #body
  client:write(table.concat(lines, "\r\n") .. "\r\n\r\n" .. body)
end

-- Takes complete requests off the front of `buffer`; returns the rest.
local function serve(self, client, number, buffer)
  while true do
    local head, rest = buffer:match "^(.-\r\n)\r\n(.*)$"
    if not head then
      return buffer
    end
    local headers = {}
    for name, value in head:gmatch "\n([^:\r\n]+): *([^\r\n]*)" do
      headers[name:lower()] = value
    end
    local length = tonumber(headers["content-length"] or 0)
    if #rest < length then
      return buffer
    end
    local method, target = head:match "^(%u+) (%S+)"
    local request = { method = method, target = target, headers = headers, body = rest:sub(1, length),
      connection = number }
    self.requests[#self.requests + 1] = request
    self.respond(request, client)
    if client:is_closing() then
      return ""
    end
    buffer = rest:sub(length + 1)
  end
end

-- `port`: nil for any.
function M.start(respond, port)
  local self = setmetatable({ respond = respond, clients = {}, requests = {}, connections = 0 }, server)
  self.socket = assert(uv.new_tcp())
  assert(self.socket:bind("127.0.0.1", port or 0))
  self.port = self.socket:getsockname().port
  self.url = "http://127.0.0.1:" .. self.port
  assert(self.socket:listen(128, function()
    local client, buffer = uv.new_tcp(), ""
    self.clients[client] = true
    assert(self.socket:accept(client))
    self.connections = self.connections + 1
    local number = self.connections
    client:read_start(function(_, bytes)
      if bytes then
        buffer = serve(self, client, number, buffer .. bytes)
      elseif not client:is_closing() then
        client:close()
      end
    end)
  end))
  return self
end

-- How many connections are open.
function server:open()
  local n = 0
  for client in pairs(self.clients) do
    n = n + (client:is_closing() and 0 or 1)
  end
  return n
end

-- Ends what is open; new connections are taken.
function server:hang_up()
  for client in pairs(self.clients) do
    if not client:is_closing() then
      client:close()
    end
  end
end

function server:stop()
  if self.stopped then
    return
  end
  self.stopped = true
  self.socket:close()
  self:hang_up()
  uv.run "nowait" -- luv crashes when the last of a close is left to lua_close
end

return M
