-- Raw HTTP/1.1 client: sends bytes exactly as given, reads answers strictly, knows nothing of the broker.
--
--   local c = http.connect(broker)
--   c:send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
--   local r = c:response()             -- { status, reason, version, headers, fields, body, raw_head }
--   local r = http.post(broker, "/events?topic=a", "data", { ["Content-Type"] = "text/plain" })
local chunks = require "support.chunks"
local dkjson = require "dkjson"
local eventually = require "support.eventually"
local sockets = require "support.sockets"
local transport = require "support.transport"

local M = {}
local conn = {}
conn.__index = conn

-- How long to wait for an answer: loading a policy may take two seconds of CPU, which a busy machine has in ten.
local ANSWER_S = 30

-- See sockets.connect for target and options.
function M.connect(target, options)
  local s, err = sockets.connect(target, options)
  if not s then
    return nil, err
  end
  return setmetatable({ socket = s, buffer = "" }, conn)
end

function conn:send(bytes, timeout)
  return sockets.send(self.socket, bytes, timeout)
end

-- One byte a packet.
function conn:send_slowly(bytes)
  for i = 1, #bytes do
    local ok, err = sockets.send(self.socket, bytes:sub(i, i))
    if not ok then
      return nil, err
    end
  end
  return true
end

function conn:close()
  sockets.close(self.socket)
end

function conn:reset()
  sockets.reset(self.socket)
end

function conn:shutdown()
  return self.socket:shutdown("send")
end

local function fill(self, deadline)
  local data, err = sockets.read(self.socket, deadline)
  if not data then
    return nil, err
  end
  self.buffer = self.buffer .. data
  return true
end

local function take(self, n)
  local bytes = self.buffer:sub(1, n)
  self.buffer = self.buffer:sub(n + 1)
  return bytes
end

local function parse_head(head)
  local r = { headers = {}, fields = {}, raw_head = head }
  local line, rest = head:match("^(.-)\r\n(.*)$")
  local version, status, reason = line:match("^(HTTP/1%.[01]) (%d%d%d) ([%w' %-]*)$")
  assert(version, "malformed status line: " .. line)
  r.version, r.status, r.reason = version, tonumber(status), reason
  for field in rest:gmatch("(.-)\r\n") do
    local name, value = field:match("^([%w!#$%%&'*+.^_`|~%-]+):[ \t]*(.-)[ \t]*$")
    assert(name, "malformed field: " .. field)
    assert(not value:find("[%c]"), "control character in field: " .. field)
    name = name:lower()
    r.fields[#r.fields + 1] = { name, value }
    r.headers[name] = r.headers[name] and r.headers[name] .. ", " .. value or value
  end
  assert(not rest:gsub("(.-)\r\n", ""):find("."), "bytes between the fields and the end of the head")
  return r
end

-- Only the head: status and fields. nil, "timeout" | "closed" when none arrives.
function conn:head(timeout)
  local deadline = eventually.deadline(timeout or ANSWER_S)
  while true do
    local _, last = self.buffer:find("\r\n\r\n", 1, true)
    if last then
      return parse_head(take(self, last):sub(1, -3))
    end
    local ok, err = fill(self, deadline)
    if not ok then
      return nil, err
    end
  end
end

-- Up to the last chunk.
function conn:chunked_body(deadline)
  local body = chunks()
  local payload = body:feed(take(self, #self.buffer))
  while not body.complete do
    local data, why = sockets.read(self.socket, deadline)
    assert(data, ("body ended after %d bytes: %s"):format(#payload, tostring(why)))
    payload = payload .. body:feed(data)
  end
  return payload
end

local function decode_json(r)
  if r.body ~= "" and (r.headers["content-type"] or ""):find("json", 1, true) then
    local value, _, why = dkjson.decode(r.body, 1, nil)
    assert(value ~= nil and not why, "malformed JSON body: " .. r.body)
    r.json = value
  end
  return r
end

-- The next answer in full; when it is not there in time it may be asked for again, also when a part of it was there.
-- options: timeout, head = true for the answer to a HEAD request.
function conn:response(options)
  options = options or {}
  local r, err = self.begun, nil
  if not r then
    r, err = self:head(options.timeout)
  end
  if not r then
    return nil, err
  end
  self.begun = r
  local deadline = eventually.deadline(options.timeout or ANSWER_S)
  local length = r.headers["content-length"]
  if options.head or r.status < 200 or r.status == 204 or r.status == 304 then
    r.body = ""
  elseif r.headers["transfer-encoding"] then
    assert(r.version == "HTTP/1.1" and r.headers["transfer-encoding"] == "chunked", r.raw_head)
    r.body = conn.chunked_body(self, deadline)
  elseif length then
    assert(length:match("^%d+$"), "malformed Content-Length: " .. length)
    local n = tonumber(length)
    while #self.buffer < n do
      local ok, why = fill(self, deadline)
      assert(ok, ("body ended after %d of %d bytes: %s"):format(#self.buffer, n, tostring(why)))
    end
    r.body = take(self, n)
  else
    repeat
      local ok, why = fill(self, deadline)
      assert(ok or why == "closed", why)
    until not ok
    r.body = take(self, #self.buffer)
  end
  self.begun = nil
  return decode_json(r)
end

-- true when the other side has closed (or does so in time) and nothing was left to read.
function conn:closed(timeout)
  local deadline = eventually.deadline(timeout or ANSWER_S)
  local data, err = sockets.read(self.socket, deadline)
  if data then
    return false, "there is data: " .. data:sub(1, 200)
  end
  return err ~= "timeout", err
end

-- Bytes of a request. `headers` is a table or a list of { name, value }; Host is added unless given as
-- false; a body gets a Content-Length unless there is a Transfer-Encoding.
function M.render(method, target, headers, body)
  local lines, seen = { ("%s %s HTTP/1.1"):format(method, target) }, {}
  local function add(name, value)
    seen[name:lower()] = true
    if value ~= false then
      lines[#lines + 1] = name .. ": " .. value
    end
  end
  for k, v in pairs(headers or {}) do
    if type(k) == "number" then
      add(v[1], v[2])
    else
      add(k, v)
    end
  end
  if not seen.host then
    table.insert(lines, 2, "Host: localhost")
  end
  if body and not seen["content-length"] and not seen["transfer-encoding"] then
    lines[#lines + 1] = "Content-Length: " .. #body
  end
  return table.concat(lines, "\r\n") .. "\r\n\r\n" .. (body or "")
end

-- Sends a request and reads its answer on a connection that stays open.
function conn:request(method, target, headers, body)
  local ok, err = self:send(M.render(method, target, headers, body))
  if not ok then
    return nil, err
  end
  return self:response { head = method == "HEAD" }
end

local function request_h2(target, method, path, headers, body, options)
  local c = assert(require "support.h2".connect(target, options))
  local list = {}
  for k, v in pairs(headers or {}) do
    list[#list + 1] = type(k) == "number" and v or { k, v }
  end
  local s = c:exchange(method, path, body, { headers = list })
  c:close()
  return decode_json { status = assert(s.status, "no answer"), headers = s.headers, fields = s.fields, body = s.body }
end

-- One request on a connection of its own.
function M.request(target, method, path, headers, body, options)
  if transport.h2 and target.admin then -- a broker: its public listener, not its admin service
    return request_h2(target, method, path, headers, body, options)
  end
  local c = assert(M.connect(target, options))
  local all = { { "Connection", "close" } }
  for k, v in pairs(headers or {}) do
    all[#all + 1] = type(k) == "number" and v or { k, v }
  end
  assert(c:send(M.render(method, path, all, body)))
  local r, err = c:response { head = method == "HEAD" }
  c:close()
  return assert(r, err)
end

function M.get(target, path, headers, options)
  return M.request(target, "GET", path, headers, nil, options)
end

function M.post(target, path, body, headers, options)
  return M.request(target, "POST", path, headers, body or "", options)
end

-- Percent-encoding of a query value (RFC 3986).
function M.escape(text)
  return (text:gsub("[^%w%-._~]", function(c) return ("%%%02X"):format(c:byte()) end))
end

-- { topic = { "a", "b" }, x = 1 } -> "topic=a&topic=b&x=1", sorted by name.
function M.query(params)
  local names, out = {}, {}
  for name in pairs(params) do
    names[#names + 1] = name
  end
  table.sort(names)
  for _, name in ipairs(names) do
    local values = type(params[name]) == "table" and params[name] or { params[name] }
    for _, value in ipairs(values) do
      out[#out + 1] = M.escape(name) .. "=" .. M.escape(tostring(value))
    end
  end
  return table.concat(out, "&")
end

M.json = dkjson
M.conn = conn

return M
