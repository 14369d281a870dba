-- Long-lived helper processes of the specs (a browser driver, a client): spawned with their output in
-- files, stopped by their process id.
--
--   local p = child.start("/usr/bin/node", { "client.js" }, { env = { NODE_PATH = "..." } })
--   p:output()           all it wrote to stdout so far;  p:errors() the same of stderr
--   p:write(text)        to its standard input, with options.stdin = true
--   p:wait()             for its end; its exit code
--   p:stop()             SIGTERM, then SIGKILL; idempotent
local eventually = require "support.eventually"
local files = require "support.files"
local socket = require "socket"
local tree = require "support.tree"
local uv = require "luv"

local M = {}
local child = {}
local given_ports = {}
child.__index = child

-- The program's path, or nil when it is not installed.
function M.find(name)
  for dir in (os.getenv "PATH" or ""):gmatch "[^:]+" do
    if uv.fs_access(dir .. "/" .. name, "X") then
      return dir .. "/" .. name
    end
  end
end

-- A port of 127.0.0.1 that was free a moment ago, for brokers that must come back on the same one. Below
-- the range from which the kernel takes source ports: a client that knocks while nobody listens could
-- otherwise end up connected to itself. Spec files run at the same time, so each process has its own hundred.
function M.free_port()
  local first = 20000 + math.tointeger(uv.os_getpid()) % 120 * 100
  for i = 1, 1000 do
    local port = first + math.random(0, 99)
    -- what asked for one before may not have bound it yet
    local s = (not given_ports[port] or i > 800) and socket.bind("127.0.0.1", port)
    if s then
      s:close()
      given_ports[port] = true
      return port
    end
  end
  error(("no free port between %d and %d"):format(first, first + 99))
end

-- A fresh directory; the caller removes it with remove_tree.
function M.directory()
  return assert(uv.fs_mkdtemp((os.getenv "TMPDIR" or "/tmp") .. "/tidegate-child-XXXXXX"))
end

M.remove_tree = tree.remove

function M.start(path, args, options)
  options = options or {}
  local self = setmetatable({ dir = M.directory() }, child)
  local out = assert(uv.fs_open(self.dir .. "/stdout", "w", 384))
  local err = assert(uv.fs_open(self.dir .. "/stderr", "w", 384))
  local vars, env = uv.os_environ(), {}
  for k, v in pairs(options.env or {}) do
    vars[k] = v
  end
  for k, v in pairs(vars) do
    env[#env + 1] = k .. "=" .. v
  end
  self.input = options.stdin and uv.new_pipe(false) or nil
  local handle, pid
  handle, pid = uv.spawn(path, { args = args, env = env, stdio = { self.input, out, err } }, function(code, signal)
    self.pid, self.exit_code, self.exit_signal = nil, code, signal
    handle:close()
  end)
  uv.fs_close(out)
  uv.fs_close(err)
  assert(handle, pid)
  self.pid = pid
  return self
end

function child:output()
  return files.read(self.dir .. "/stdout")
end

function child:errors()
  return files.read(self.dir .. "/stderr")
end

function child:write(text)
  assert(self.input:write(text))
  uv.run "nowait"
end

function child:wait(timeout)
  eventually("the process ends", function() return not self:running() end, timeout)
  return self.exit_code
end

function child:running()
  uv.run "nowait"
  return self.pid ~= nil
end

function child:signal(name)
  assert(uv.kill(assert(self.pid, "the process has ended"), name))
end

function child:stop()
  if self.input then
    self.input:close()
    self.input = nil
  end
  if self:running() then
    self:signal "sigterm"
    if not pcall(eventually, "the process ends", function() return not self:running() end, 5) then
      self:signal "sigkill"
      eventually("the process ends", function() return not self:running() end)
    end
  end
  M.remove_tree(self.dir)
end

return M
