-- Machines of the run: network namespaces with an address each, joined by a bridge in one more. The machine's own
-- network is not touched, and nothing in them reaches beyond them.
--
--   local net = nodes.create(prefix, { pg1 = "10.87.0.11", ... })     makes them
--   local net = nodes.open(prefix, { ... })                           those that are there, from inside one of them
--   local p = net.pg1:spawn(path, args, { log = path, user = "postgres", cwd = dir })
--   net.pg1:cut() :mend()                  takes its cable out, and puts it back
--   net.pg1:freeze() :thaw() :kill()       all of its processes, found by the namespace they are in
--   nodes.remove(prefix, net)              ends what is left in them and removes them
--
-- What waits turns the loop of luv, so whatever else this process does goes on.
local uv = require "luv"

local M = {}
local node = {}
node.__index = node

local HUB = "hub"

function M.now()
  return uv.hrtime() / 1e9
end

----------------------------------------------------------------- the loop
local clock -- keeps uv.run "once" from sleeping for long

-- Turns the loop until `done()` is true. Returns false where it was not in time.
function M.turn_until(done, seconds)
  if not clock then
    clock = uv.new_timer()
    clock:start(20, 20, function() end)
  end
  local deadline = M.now() + seconds
  while not done() do
    if M.now() > deadline then
      return false
    end
    uv.run "once"
  end
  return true
end

function M.turn(seconds)
  M.turn_until(function() return false end, seconds)
end

----------------------------------------------------------------- programs
-- Runs a program to its end. Returns its exit code and what it wrote.
function M.run(path, args, seconds)
  local out, chunks, code = uv.new_pipe(false), {}, nil
  local closed = false
  local handle, pid
  handle, pid = uv.spawn("/bin/sh", { args = { "-c", 'exec "$0" "$@" 2>&1', path, table.unpack(args) },
    stdio = { nil, out } }, function(c, signal)
    code = signal ~= 0 and -signal or c
    handle:close()
  end)
  assert(handle, ("%s: %s"):format(path, pid))
  out:read_start(function(_, data)
    if data then
      chunks[#chunks + 1] = data
    else
      closed = true
      out:close()
    end
  end)
  if not M.turn_until(function() return code and closed end, seconds or 30) then
    uv.kill(pid, "sigkill")
    M.turn_until(function() return code and closed end, 5)
    return -9, path .. " did not end in time: " .. table.concat(chunks)
  end
  return code, table.concat(chunks)
end

local function ip(...)
  local code, out = M.run("/sbin/ip", { ... })
  assert(code == 0, ("ip %s: %s"):format(table.concat({ ... }, " "), out))
end

----------------------------------------------------------------- processes of a node
-- Ids of all processes in its namespace. (One that has ended and was not waited for has no namespace.)
function node:pids()
  local list, wanted = {}, ("net:[%d]"):format(self.inode)
  local scan = assert(uv.fs_scandir "/proc")
  while true do
    local name = uv.fs_scandir_next(scan)
    if not name then
      return list
    end
    if name:find "^%d+$" and uv.fs_readlink(("/proc/%s/ns/net"):format(name)) == wanted then
      list[#list + 1] = math.tointeger(name)
    end
  end
end

local function state_of(pid)
  local f = io.open(("/proc/%d/stat"):format(pid), "rb")
  local text = f and f:read "a" or ""
  if f then
    f:close()
  end
  return text:match "^.*%) (%a)"
end

-- Sends a signal to all of its processes, again and again, until all are in the state it brings about: what stands
-- still makes no others.
local function signal_all(self, signal, reached)
  local ok = M.turn_until(function()
    local left = 0
    for _, pid in ipairs(self:pids()) do
      if not reached(state_of(pid)) then
        left = left + 1
        uv.kill(pid, signal)
      end
    end
    return left == 0
  end, 20)
  assert(ok, ("%s: processes do not obey %s"):format(self.name, signal))
end

function node:freeze()
  signal_all(self, "sigstop", function(state) return not state or state:find "[TtZX]" end)
end

function node:thaw()
  for _, pid in ipairs(self:pids()) do
    uv.kill(pid, "sigcont")
  end
end

function node:kill()
  signal_all(self, "sigkill", function(state) return not state or state:find "[ZX]" end)
end

-- Starts a program in it that ends when this process does. options: log (a file it writes to), user, cwd
-- Returns { pid = , code = }: pid until it has ended, then code.
function node:spawn(path, args, options)
  local all = { "--net=/run/netns/" .. self.ns, "--", "setpriv", "--reuid=" .. options.user,
    "--regid=" .. options.user, "--init-groups", "--pdeathsig", "KILL", "--", path }
  table.move(args, 1, #args, #all + 1, all)
  local log = assert(uv.fs_open(options.log, "a", 420))
  local p, handle = { name = self.name .. ": " .. path }, nil
  handle, p.pid = uv.spawn("/usr/bin/nsenter", { args = all, cwd = options.cwd, stdio = { nil, log, log } },
    function(code, signal)
      p.pid, p.code = nil, signal ~= 0 and -signal or code
      handle:close()
    end)
  uv.fs_close(log)
  assert(handle, p.pid)
  return p
end

----------------------------------------------------------------- cables
function node:cut()
  ip("-n", self.hub, "link", "set", self.name, "down")
end

function node:mend()
  ip("-n", self.hub, "link", "set", self.name, "up")
end

----------------------------------------------------------------- life
local function describe(prefix, addresses)
  local net = {}
  for name, address in pairs(addresses) do
    net[name] = setmetatable({ name = name, ns = prefix .. "-" .. name, hub = prefix .. "-" .. HUB, address = address },
      node)
  end
  return net
end

function M.open(prefix, addresses)
  local net = describe(prefix, addresses)
  for _, n in pairs(net) do
    n.inode = assert(uv.fs_stat("/run/netns/" .. n.ns)).ino
  end
  return net
end

function M.create(prefix, addresses)
  local net, hub = describe(prefix, addresses), prefix .. "-" .. HUB
  ip("netns", "add", hub)
  ip("-n", hub, "link", "add", "bridge", "type", "bridge")
  ip("-n", hub, "link", "set", "bridge", "up")
  for name, n in pairs(net) do
    ip("netns", "add", n.ns)
    ip("-n", n.ns, "link", "set", "lo", "up")
    ip("-n", hub, "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", n.ns)
    ip("-n", hub, "link", "set", name, "master", "bridge")
    ip("-n", hub, "link", "set", name, "up")
    ip("-n", n.ns, "address", "add", n.address .. "/24", "dev", "eth0")
    ip("-n", n.ns, "link", "set", "eth0", "up")
  end
  return M.open(prefix, addresses)
end

-- Removes every namespace of `prefix`, whatever of it is there; processes in them are ended first.
function M.remove(prefix)
  local scan = uv.fs_scandir "/run/netns"
  local names = {}
  while scan do
    local name = uv.fs_scandir_next(scan)
    if not name then
      break
    end
    if name:sub(1, #prefix + 1) == prefix .. "-" then
      names[#names + 1] = name
    end
  end
  for _, name in ipairs(names) do
    local stat = uv.fs_stat("/run/netns/" .. name)
    if stat then
      signal_all(setmetatable({ name = name, inode = stat.ino }, node), "sigkill",
        function(state) return not state or state:find "[ZX]" end)
    end
    ip("netns", "delete", name)
  end
end

-- Ids of runners (prefix BASE-PID) whose namespaces are there although they do not run any more.
function M.left_behind(base)
  local scan, dead = uv.fs_scandir "/run/netns", {}
  while scan do
    local name = uv.fs_scandir_next(scan)
    if not name then
      break
    end
    local pid = name:sub(1, #base) == base and name:match("^%-(%d+)%-", #base + 1)
    if pid and not uv.fs_stat("/proc/" .. pid) then
      dead[base .. "-" .. pid] = true
    end
  end
  return dead
end

return M
