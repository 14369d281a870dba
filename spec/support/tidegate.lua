-- The broker as a process: written configuration, spawned, watched, stopped, checked.
--
--   local broker = tidegate.start { config = { sse = { heartbeat_s = 1 } }, policy = [[return {...}]] }
--   broker.host, broker.port           first public listener;  broker.admin: where to send admin requests
--   broker.addresses                   all public listeners
--
-- A broker started in a spec (`it`, `before_each`) is stopped after it; one made with tidegate.shared{}
-- in a `describe` lives for that block. Stopping means SIGTERM, and asserts: exit code 0 in time, no
-- sanitizer report, nothing left behind.
--
-- Environment: TIDEGATE_BIN (the binary; default: beside tidegate_spec), TIDEGATE_SPEC_KEEP (leave the
-- directories of the brokers in place), TIDEGATE_SPEC_TRANSPORT (see support.transport).
local busted = require "busted"
local eventually = require "support.eventually"
local files = require "support.files"
local http = require "support.http"
local logfmt = require "support.logfmt"
local tablex = require "pl.tablex"
local transport = require "support.transport"
local tree = require "support.tree"
local uv = require "luv"

local M = {}
local broker = {}
broker.__index = broker
local started = {} -- set of brokers to be stopped after the running spec

M.OPEN_POLICY = [[
return {
  api = 1,
  authenticate = function() return { sub = "anyone" } end,
  subscribe = function(req)
    return { topics = #req.topics > 0 and req.topics or { "**" } }
  end,
  publish = function(pub) return pub end,
}
]]

-- The load generator, which is built beside the broker.
function M.bench_binary()
  return (M.binary():gsub("[^/]*$", "tidegate-bench"))
end

function M.binary()
  local path = os.getenv "TIDEGATE_BIN"
  if not path then
    local exe = assert(uv.fs_readlink("/proc/self/exe"))
    path = exe:gsub("[^/]*$", "") .. "tidegate"
  end
  assert(uv.fs_access(path, "X"), "no broker binary at " .. path .. " (set TIDEGATE_BIN)")
  return assert(uv.fs_realpath(path)) -- brokers run in directories of their own
end

----------------------------------------------------------------- files
-- Whether the broker was built with AddressSanitizer.
function M.sanitized()
  local f = assert(io.open(M.binary(), "rb"))
  local found = f:read("a"):find("__asan_init", 1, true)
  f:close()
  return found ~= nil
end

-- A fresh directory, removed when the spec ends where `owner` is a broker.
function M.directory()
  return assert(uv.fs_mkdtemp((os.getenv "TMPDIR" or "/tmp") .. "/tidegate-spec-XXXXXX"))
end

-- Data -> Lua source; a { raw = "text" } is put in as it is.
local function serialise(value, indent)
  if type(value) == "table" then
    if value.raw then
      return value.raw
    end
    local inner, out, keys = indent .. "  ", {}, {}
    for k in pairs(value) do
      keys[#keys + 1] = k
    end
    table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
    if #value == #keys then
      for _, v in ipairs(value) do
        out[#out + 1] = inner .. serialise(v, inner)
      end
    else
      for _, k in ipairs(keys) do
        out[#out + 1] = ("%s[%q] = %s"):format(inner, k, serialise(value[k], inner))
      end
    end
    return #out == 0 and "{}" or "{\n" .. table.concat(out, ",\n") .. "\n" .. indent .. "}"
  end
  return ("%q"):format(value)
end

local function merge(base, over)
  local out = {}
  for k, v in pairs(base) do
    out[k] = v
  end
  for k, v in pairs(over or {}) do
    local nested = type(v) == "table" and #v == 0 and next(v) ~= nil and type(out[k]) == "table"
    out[k] = nested and merge(out[k], v) or v
  end
  return out
end

----------------------------------------------------------------- processes
-- Runs a program to its end. Returns exit code, what it wrote to stdout, to stderr.
-- options: args, env (table, added), cwd, timeout
function M.run(path, options)
  local dir = M.directory()
  local fds = {}
  for i, name in ipairs { "out", "err" } do
    fds[i] = assert(uv.fs_open(dir .. "/" .. name, "w", 384))
  end
  local code, signal
  local handle, pid = uv.spawn(path, {
    args = options.args, cwd = options.cwd, env = M.environment(options.env), stdio = { nil, fds[1], fds[2] },
  }, function(c, s) code, signal = c, s end)
  uv.fs_close(fds[1])
  uv.fs_close(fds[2])
  assert(handle, pid)
  local ok, why = pcall(eventually, path .. " ends", function() return code end, options.timeout)
  if not ok then
    uv.kill(pid, "sigkill")
  end
  handle:close()
  uv.run "nowait" -- lets it finish closing: luv crashes when the last of it is left to lua_close
  local out, err = files.read(dir .. "/out"), files.read(dir .. "/err")
  tree.remove(dir)
  assert(ok, ("%s\nstderr: %s"):format(why, err))
  return signal ~= 0 and -signal or code, out, err
end

-- The environment of children: ours, sanitizers set so that a report is an exit code, plus `extra`.
function M.environment(extra)
  local vars = uv.os_environ()
  vars.ASAN_OPTIONS = "exitcode=86:detect_leaks=1:" .. (vars.ASAN_OPTIONS or "")
  vars.UBSAN_OPTIONS = "print_stacktrace=1:" .. (vars.UBSAN_OPTIONS or "")
  for k, v in pairs(extra or {}) do
    vars[k] = v
  end
  local list = {}
  for k, v in pairs(vars) do
    list[#list + 1] = k .. "=" .. v
  end
  return list
end

local SIGNALS = {
  TERM = "sigterm", INT = "sigint", HUP = "sighup", USR2 = "sigusr2",
  KILL = "sigkill", STOP = "sigstop", CONT = "sigcont",
}

function broker:signal(name)
  assert(self.pid, "the broker does not run")
  assert(uv.kill(self.pid, SIGNALS[name]))
end

function broker:running()
  uv.run("nowait")
  return self.pid ~= nil
end

-- Spawns; waits for nothing.
local function spawn(self)
  local options = self.options
  local log = assert(uv.fs_open(self.log_path, "a", 384))
  local out = assert(uv.fs_open(self.dir .. "/stdout", "w", 384))
  local path, args = options.program or M.binary(), { "serve", self.conf_path }
  if (self.config.workers or 1) == 1 and not options.supervised and not options.program then
    args[#args + 1] = "--single" -- a third of the processes: most specs are about what a worker does
  end
  for _, a in ipairs(options.args or {}) do
    args[#args + 1] = a
  end
  if options.ulimit then -- e.g. "-n 64": what sh's ulimit takes
    args = { "-c", "ulimit " .. options.ulimit .. '; exec "$0" "$@"', path, table.unpack(args) }
    path = "/bin/sh"
  end
  local stdio, env = { nil, out, log }, {}
  for k, v in pairs(options.env or {}) do
    env[k] = v
  end
  if options.sockets then -- as sd_listen_fds(3) wants them: from 3 on, for exactly this process
    local names = {}
    for i, passed in ipairs(options.sockets) do
      stdio[3 + i], names[i] = passed.socket:getfd(), passed.name or "unknown"
    end
    env.LISTEN_FDS, env.LISTEN_FDNAMES = #names, table.concat(names, ":")
    args = { "-c", 'LISTEN_PID=$$ exec "$0" "$@"', path, table.unpack(args) }
    path = "/bin/sh"
  end
  self.log_start = #files.read(self.log_path)
  self.exit_code, self.exit_signal = nil, nil
  local handle, pid
  handle, pid = uv.spawn(path, {
    args = args, cwd = self.dir, env = M.environment(env), stdio = stdio,
  }, function(code, signal)
    self.pid, self.exit_code, self.exit_signal = nil, code, signal
    handle:close()
  end)
  uv.fs_close(log)
  uv.fs_close(out)
  assert(handle, pid)
  self.pid = pid
end

-- Log text of the process that runs now (since its start).
function broker:log()
  return files.read(self.log_path):sub(self.log_start + 1)
end

-- The same as a list of tables; lines that are not logfmt are left out.
function broker:log_lines()
  local lines = {}
  for line in self:log():gmatch("([^\n]*)\n") do
    lines[#lines + 1] = line:find "^{" and http.json.decode(line) or logfmt.parse(line)
  end
  return lines
end

-- The first log line whose fields equal those of `fields`; nil when there is none.
function broker:logged(fields)
  for _, line in ipairs(self:log_lines()) do
    local same = true
    for k, v in pairs(fields) do
      same = same and line[k] == v
    end
    if same then
      return line
    end
  end
end

local function parse_address(text)
  local path = text:match("^unix:(.+)$")
  if path then
    return { unix = path }
  end
  local host, port = text:match("^%[(.+)%]:(%d+)$")
  if not host then
    host, port = text:match("^(.+):(%d+)$")
  end
  assert(host, "a listening address that cannot be read: " .. text)
  return { host = host, port = tonumber(port) }
end

local function read_addresses(self)
  local public, admin = {}, nil
  for _, line in ipairs(self:log_lines()) do
    if line.msg == "listening" and line.server ~= "admin_public" then
      if line.server == "admin" then
        admin = parse_address(line.address)
      else
        local address = parse_address(line.address)
        address.tls = not address.unix and self.transport_tls or nil
        public[#public + 1] = address
      end
    end
  end
  return public, admin
end

-- Takes the addresses from the log anew, after a restart with another configuration.
function broker:read_addresses()
  self.addresses, self.admin = read_addresses(self)
end

-- Waits until it listens everywhere and says it is ready.
function broker:wait_ready()
  local wanted = #self.config.listen
  eventually("the broker listens", function()
    if not self:running() then
      eventually.give_up(("the broker ended with code %d:\n%s"):format(self.exit_code, self:tail()))
    end
    local public, admin = read_addresses(self)
    self.addresses, self.admin = public, admin
    return #public == wanted and (admin ~= nil or not self.config.admin)
  end, 20)
  local first = self.addresses[1]
  self.host, self.port, self.unix = first.host, first.port, first.unix
  if self.admin and not self.options.unready then
    eventually("the broker is ready", function()
      return http.get(self.admin, "/readyz").status == 200
    end)
  end
end

local function check_log(self)
  local text = files.read(self.log_path)
  for _, sign in ipairs { "ERROR: AddressSanitizer", "ERROR: LeakSanitizer", "runtime error:" } do
    local at = text:find(sign, 1, true)
    if at then
      return text:sub(math.max(1, at - 200), at + 6000)
    end
  end
end

function broker:tail(lines)
  local all = {}
  for line in self:log():gmatch("([^\n]*)\n") do
    all[#all + 1] = line
  end
  return table.concat(all, "\n", math.max(1, #all - (lines or 30) + 1))
end

-- Waits until the process has ended by itself; returns exit code and signal.
function broker:wait_exit(timeout)
  eventually("the broker ends", function() return not self:running() end, timeout)
  return self.exit_code, self.exit_signal
end

function broker:kill()
  self:signal "KILL"
  self:wait_exit()
end

-- SIGTERM, and everything that must hold afterwards. Idempotent.
function broker:stop(options)
  options = options or {}
  if self.pid then
    self:signal "CONT"
    self:signal(options.signal or "TERM")
    local ok, why = pcall(self.wait_exit, self, options.timeout or 15)
    if not ok then
      local text = self:tail()
      self:kill()
      error(("the broker did not end after SIGTERM: %s\n%s"):format(why, text), 2)
    end
    assert(self.exit_signal == 0 and self.exit_code == (options.code or 0),
      ("the broker ended with code %d, signal %d:\n%s"):format(self.exit_code, self.exit_signal, self:tail()))
  end
end

-- Stops and removes it for good; asserts that all went well.
function broker:dispose()
  started[self] = nil
  local ok, why = pcall(self.stop, self)
  local report = check_log(self)
  if not os.getenv "TIDEGATE_SPEC_KEEP" then
    tree.remove(self.dir)
  end
  if report then
    error("sanitizer report of the broker:\n" .. report, 0)
  elseif not ok then
    error(why, 0)
  end
end

-- Replaces a file of its directory, e.g. "policy.lua"; it takes effect at the next start.
function broker:write_file(name, text)
  files.write(self.dir .. "/" .. name, text)
end

function broker:read_file(name)
  return files.read(self.dir .. "/" .. name)
end

-- Writes `config` into the configuration file anew.
function broker:write_conf()
  files.write(self.conf_path, "return " .. serialise(self.config, "") .. "\n")
end

-- Writes the policy (nil: leaves it as it is) and orders a reload; the answer. query: "?dry_run=1"
function broker:reload(text, query)
  if text then
    self:write_file("policy.lua", text)
  end
  return http.post(self.admin, "/policy/reload" .. (query or ""), "", {})
end

-- Orders events to be erased { topic, where, dry_run }; the answer.
function broker:erase(order)
  return http.post(self.admin, "/erase", http.json.encode(order), { ["Content-Type"] = "application/json" })
end

-- Starts the process again on the same directory, and does not wait for it.
function broker:spawn()
  assert(not self.pid, "the broker runs")
  spawn(self)
end

-- Starts the process again on the same directory: same configuration, same store.
function broker:start()
  self:spawn()
  self:wait_ready()
  return self
end

function broker:restart()
  self:stop()
  return self:start()
end

-- A line of /proc/PID/status in KiB, e.g. "VmRSS".
function broker:memory_kb(name)
  local text = files.read(("/proc/%d/status"):format(self.pid))
  return assert(tonumber(text:match((name or "VmRSS") .. ":%s+(%d+) kB")))
end

-- Processor time used so far (user and system, at 100 ticks a second).
function broker:cpu_seconds()
  local stat = files.read(("/proc/%d/stat"):format(self.pid)):gsub("^.*%) ", "")
  local fields = {}
  for field in stat:gmatch "%S+" do
    fields[#fields + 1] = field
  end
  return (tonumber(fields[12]) + tonumber(fields[13])) / 100
end

-- Value of a metric, e.g. broker:metric "tidegate_subscribers"; labels are part of the name.
function broker:metric(name)
  local r = http.get(self.admin, "/metrics")
  assert(r.status == 200, "metrics: status " .. r.status)
  for line in r.body:gmatch("[^\n]+") do
    local key, value = line:match("^(%S+) (%S+)$")
    if key == name then
      return tonumber(value)
    end
  end
  error("no metric " .. name, 2)
end

-- Publishes one event; returns its id as text. options: type, key, attrs, headers
function broker:publish(topic, data, options)
  options = options or {}
  local params = { topic = topic, type = options.type, key = options.key }
  for k, v in pairs(options.attrs or {}) do
    params["attr." .. k] = v
  end
  local r = http.post(self, "/events?" .. http.query(params), data, options.headers)
  assert(r.status == 201 or r.status == 200, ("publish: status %d: %s"):format(r.status, r.body))
  return r.json.id, r
end

-- A batch of { topic, data, ... } envelopes in one request; returns the list of acknowledgements.
function broker:publish_all(envelopes)
  local lines = {}
  for i, e in ipairs(envelopes) do
    lines[i] = http.json.encode(e)
  end
  local r = http.post(self, "/events", table.concat(lines, "\n"), { ["Content-Type"] = "application/x-ndjson" })
  assert(r.status == 201, ("publish: status %d: %s"):format(r.status, r.body))
  return r.json
end

----------------------------------------------------------------- starting
local BASE = {
  listen = { "127.0.0.1:0" },
  admin = "127.0.0.1:0",
  store = { path = "store" },
  policy = { file = "policy.lua" },
}

-- Writes the files into a fresh directory and returns a broker that does not run yet.
-- options: config (merged over the defaults; { raw = "..." } values are Lua source), conf (the whole
-- file as text instead), policy (text), policy_file (path), files (name -> text), args (further
-- arguments), env, ulimit, program (path of another than the one under test), sockets (listening ones to
-- pass, as systemd does: { socket =, name = })
function M.prepare(options)
  options = options or {}
  local self = setmetatable({ options = options, dir = M.directory(), log_start = 0 }, broker)
  self.conf_path = self.dir .. "/tidegate.lua"
  self.log_path = self.dir .. "/stderr.log"
  self.config = merge(BASE, options.config)
  if options.policy_file then
    self.config = merge(self.config, { policy = { file = options.policy_file } })
  end
  local here
  function here(address)
    if type(address) == "table" then
      return merge(address, { address = here(address.address) })
    end
    return (address:gsub("^unix:@DIR", function() return "unix:" .. self.dir end))
  end
  if not options.conf then
    transport.equip(self)
    self.config.listen = tablex.map(transport.listener, self.config.listen)
  end
  self.config.listen = tablex.map(here, self.config.listen)
  self.config.admin = self.config.admin and here(self.config.admin)
  for name, text in pairs(options.files or {}) do
    local folder = name:match "^(.*)/"
    if folder then
      assert(os.execute(("mkdir -p '%s/%s'"):format(self.dir, folder)))
    end
    files.write(self.dir .. "/" .. name, text)
  end
  files.write(self.dir .. "/policy.lua", options.policy or M.OPEN_POLICY)
  files.write(self.conf_path, options.conf or "return " .. serialise(self.config, "") .. "\n")
  files.write(self.log_path, "")
  return self
end

-- Removes what M.prepare wrote after the running spec.
function M.forget_later(self)
  started[self] = true
end

-- A running, ready broker. options.keep: the caller disposes of it. options.unready: it listens, and may be waiting
-- for its store or its keys. options.supervised: one worker has its supervisor, as users have it; several always have.
function M.start(options)
  local self = M.prepare(options)
  started[self] = true
  self:start()
  if options and options.keep then
    started[self] = nil
  end
  return self
end

-- Spawns without waiting, for brokers that are expected to refuse: returns exit code and log.
function M.start_refused(options)
  local self = M.prepare(options)
  started[self] = true
  spawn(self)
  local code = self:wait_exit()
  return code, self:log()
end

-- Declares a broker for all specs of the current `describe` block; returns a function that gives it.
function M.shared(options)
  local self
  busted.setup(function()
    self = M.start(options)
    started[self] = nil
  end)
  busted.teardown(function()
    if self then
      self:dispose()
    end
  end)
  return function()
    return self
  end
end

-- After every spec, by helper.lua.
function M.stop_started()
  local failures = {}
  local list = {}
  for b in pairs(started) do
    list[#list + 1] = b
  end
  for _, b in ipairs(list) do
    local ok, why = pcall(b.dispose, b)
    if not ok then
      failures[#failures + 1] = why
    end
  end
  assert(#failures == 0, table.concat(failures, "\n"))
end

return M
