-- Client sockets of the specs: opened with odd options, closed after every spec.
local eventually = require "support.eventually"
local native = require "native.sockets"
local socket = require "socket"
local tls = require "support.tls"
local unix = require "socket.unix"

local M = {}
local open = {} -- strong: a socket that no spec holds any more stays open until the spec ends

-- Where to connect to: a broker (its first public listener), or { host, port } or { unix = path }.
-- options: rcvbuf (bytes), from (own address), tls (see tls.wrap; false: plain, whatever the target says)
-- A target with a `tls` is connected to with that.
function M.connect(target, options)
  options = options or {}
  local s
  if target.unix then
    s = assert(unix())
  elseif target.host:find(":", 1, true) then
    s = assert(socket.tcp6())
  else
    s = assert(socket.tcp4())
  end
  if options.rcvbuf then
    assert(s:setoption("recv-buffer-size", options.rcvbuf))
    -- Segments of loopback are larger than a small window. Where both sides hold back what is less than half of it
    -- (RFC 9293 3.8.6.2), only the timer of the sender would move bytes: 2 KB each 200 ms.
    if not target.unix and options.rcvbuf < 65536 then
      native.max_segment(s:getfd(), math.max(88, options.rcvbuf // 8))
    end
  end
  if options.from then
    assert(s:bind(options.from, 0))
  end
  s:settimeout((options.timeout or 30) * eventually.factor)
  local ok, err
  if target.unix then
    ok, err = s:connect(target.unix)
  else
    ok, err = s:connect(target.host, target.port)
    s:setoption("tcp-nodelay", true)
  end
  if not ok then
    s:close()
    return nil, err
  end
  native.ours(s:getfd()) -- else the other side would not see that it is closed
  local how = options.tls
  if how == nil then
    how = target.tls
  end
  if how then
    local plain = s
    s, err = tls.wrap(plain, how, options.timeout)
    if not s then
      plain:close()
      return nil, err
    end
  end
  open[s] = true
  return s
end

function M.close(s)
  open[s] = nil
  s:close()
end

-- Closes with a reset (RST) instead of a FIN.
function M.reset(s)
  open[s] = nil
  s:setoption("linger", { on = true, timeout = 0 })
  s:close(true)
end

-- From now on nothing that is sent to it arrives, and nothing is acknowledged: a black hole.
function M.deafen(s)
  native.deafen(s:getfd())
end

function M.close_all()
  for s in pairs(open) do
    s:close()
  end
  open = {}
end

-- Writes all of `bytes` before the deadline, else an error.
function M.send(s, bytes, timeout)
  local deadline = eventually.deadline(timeout or 30)
  local sent = 0
  s:settimeout(0)
  while sent < #bytes do
    local last, err, partial = s:send(bytes, sent + 1)
    sent = last or partial or sent
    if not last and err ~= "timeout" then
      return nil, err
    end
    if sent < #bytes then
      local left = deadline - eventually.now()
      if left <= 0 then
        return nil, ("timeout: %d of %d bytes taken"):format(sent, #bytes)
      end
      socket.select(nil, { s }, math.min(left, 0.5))
    end
  end
  return true
end

-- What is there now, "" when nothing is; nil, "closed" (or another error) at the end.
function M.read_available(s, max)
  s:settimeout(0)
  local data, err, partial = s:receive(max or 65536)
  data = data or partial or ""
  if data == "" and err and err ~= "timeout" then
    return nil, err
  end
  return data
end

-- Waits until there is something to read; then as above. nil, "timeout" at the deadline.
function M.read(s, deadline)
  while true do
    local data, err = M.read_available(s)
    if not data or data ~= "" then
      return data, err
    end
    local left = deadline - eventually.now()
    if left <= 0 then
      return nil, "timeout"
    end
    socket.select({ s }, nil, math.min(left, 0.5))
  end
end

return M
