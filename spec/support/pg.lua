-- Real PostgreSQL servers of the specs: a cluster in a directory of its own below TMPDIR, on a free loopback
-- port and a Unix socket in that directory. As root everything of the server runs as the user `postgres`.
--
--   local server = pg.shared {}                 in a describe: one cluster for the block; server() is it
--   local server = pg.start { settings = { max_connections = 10 } }     stopped and removed after the spec
--   local db = server:database()                a fresh database with Tidegate's schema
--   db:insert { topic = "a", data = "x" }       as the application: INSERT into tidegate.outbox, committed
--   local broker = db:broker { config = ... }   a broker on it (support/tidegate.lua)
--   local s = db:session "app"                  a psql that stays: s:run "BEGIN", s:run "COMMIT", s:close()
--   server:restart() :kill() :start() :freeze() :thaw() :terminate()
--   local pooler = server:pooler(); db:on(pooler):insert { ... }        the same through PgBouncer
--   local standby = server:standby(); standby:detach(); server:kill(); standby:promote()
--
-- The server is a direct child of tidegate_spec and asks the kernel to be ended when its parent dies, so that
-- an interrupted run leaves no server behind. fsync is off unless asked for: specs kill processes, not machines.
local busted = require "busted"
local child = require "support.child"
local eventually = require "support.eventually"
local programs = require "support.pg_programs"
local tidegate = require "support.tidegate"
local uv = require "luv"

local M = {}
local server, database, session = {}, {}, {}
server.__index, database.__index, session.__index = server, database, session
local pooler = setmetatable({}, server) -- for what psql is run for
pooler.__index = pooler
local started = {} -- set of servers, poolers and sessions to be stopped after the running spec

M.OWNER = "tidegate" -- the broker's role: owns the schema
M.APP = "app"        -- an application's: USAGE on the schema, INSERT on the outbox, nothing else

local function read_file(path)
  local f = io.open(path, "rb")
  local text = f and f:read "a" or ""
  if f then
    f:close()
  end
  return text
end

----------------------------------------------------------------- server processes
-- The postmaster and all its children.
function server:processes()
  local pids = { self.pid }
  local scan = uv.fs_scandir "/proc"
  while scan do
    local name = uv.fs_scandir_next(scan)
    if not name then
      break
    end
    if name:find "^%d+$" then
      local parent = read_file("/proc/" .. name .. "/stat"):match "^.*%) %S+ (%d+)"
      if tonumber(parent) == self.pid then
        pids[#pids + 1] = tonumber(name)
      end
    end
  end
  return pids
end

function server:log()
  return read_file(self.dir .. "/log")
end

function server:running()
  uv.run "nowait"
  return self.pid ~= nil
end

local function spawn(self)
  local args = { "-D", self.data, "-c", "port=" .. self.port, "-c", "unix_socket_directories=" .. self.dir }
  for name, value in pairs(self.settings) do
    args[#args + 1] = "-c"
    args[#args + 1] = name .. "=" .. tostring(value)
  end
  local path, all = programs.unprivileged(programs.path "postgres", args, { with_parent = true })
  local log = assert(uv.fs_open(self.dir .. "/log", "a", 420))
  local handle, pid
  handle, pid = uv.spawn(path, { args = all, cwd = self.dir, stdio = { nil, log, log } }, function()
    self.pid = nil
    handle:close()
  end)
  uv.fs_close(log)
  assert(handle, pid)
  self.pid = pid
end

-- postmaster.pid: the pid in line 1, "ready" (or "standby") in line 8, as pg_ctl -w reads it.
local function status(self)
  local text = read_file(self.data .. "/postmaster.pid")
  return tonumber(text:match "^(%d+)\n") == self.pid and text:match "^(.*)\n(%l+) *\n$" and text:match "\n(%l+) *\n$"
end

-- Starts it on the same data and the same port, and waits until it lets clients in.
function server:start()
  assert(not self.pid, "the server runs")
  local from = #self:log()
  spawn(self)
  local ended = eventually("the server is up", function()
    local s = status(self)
    return s == "ready" or s == "standby" or not self:running() and "ended"
  end, 60)
  if ended == "ended" then
    local log = self:log():sub(from + 1)
    if self.was_up or not log:find("Address already in use", 1, true) then
      error("the server ended:\n" .. log:sub(-2000))
    end
    self.port = child.free_port() -- somebody else was faster
    return self:start()
  end
  self.was_up = true
  return self
end

local SIGNALS = { fast = "sigint", immediate = "sigquit" }

-- mode: "fast" (default; connections are ended, a checkpoint is written) or "immediate" (recovery at the next start)
function server:stop(mode)
  if self:running() then
    self:thaw()
    uv.kill(self.pid, SIGNALS[mode or "fast"])
    if not pcall(eventually, "the server ends", function() return not self:running() end, 30) then
      self:kill()
      error "the server did not end"
    end
  end
end

function server:restart(mode)
  self:stop(mode)
  return self:start()
end

-- SIGKILL to the postmaster; its children see that and end by themselves. A frozen server does nothing more.
function server:kill()
  local pids = self:processes()
  for _, pid in ipairs(self.frozen or {}) do
    uv.kill(pid, "sigkill")
  end
  self.frozen = nil
  uv.kill(self.pid, "sigkill")
  eventually("the server's processes are gone", function()
    for _, pid in ipairs(pids) do
      if read_file("/proc/" .. pid .. "/stat"):match "^.*%) ([^Z])" then
        return false
      end
    end
    return not self:running()
  end, 20)
end

local function stopped(pid)
  return not read_file("/proc/" .. pid .. "/stat"):find "^.*%) [^TZ]"
end

-- SIGSTOP to all of its processes: connections stay, nothing answers. The postmaster first: it would go on making
-- processes for those who are connecting, which answered then.
function server:freeze()
  self.frozen = {}
  local function stop(pid)
    uv.kill(pid, "sigstop")
    table.insert(self.frozen, pid)
  end
  stop(self.pid)
  eventually("the postmaster stands still", function() return stopped(self.pid) end)
  for _, pid in ipairs(self:processes()) do
    if pid ~= self.pid then
      stop(pid)
    end
  end
  eventually("all of the server stands still", function()
    for _, pid in ipairs(self.frozen) do
      if not stopped(pid) then
        return false
      end
    end
    return true
  end)
end

function server:thaw()
  for _, pid in ipairs(self.frozen or {}) do
    uv.kill(pid, "sigcont")
  end
  self.frozen = nil
end

----------------------------------------------------------------- SQL
local function psql_args(self, options)
  options = options or {}
  return { "-X", "-q", "-A", "-t", "-h", self.host or self.dir, "-p", tostring(self.port),
    "-U", options.role or "postgres", "-d", options.db or "postgres" }
end

local function psql()
  return assert(child.find "psql", "psql (package postgresql-client) is not installed")
end

-- Runs SQL in a process of its own. Returns its output (fields separated by |), or nil and the error.
-- options: role, db, timeout
function server:try(text, options)
  local args = psql_args(self, options)
  for _, a in ipairs { "-v", "ON_ERROR_STOP=1", "-c", text } do
    args[#args + 1] = a
  end
  local code, out, err = tidegate.run(psql(), { args = args, timeout = options and options.timeout or 60 })
  if code ~= 0 then
    return nil, err
  end
  return (out:gsub("\n$", ""))
end

function server:sql(text, options)
  local out, err = self:try(text, options)
  if not out then
    error(err, 2)
  end
  return out
end

-- A psql that stays. options: role, db
function server:session(options)
  local self_ = setmetatable({ process = child.start(psql(), psql_args(self, options),
    { stdin = true, env = { PGOPTIONS = "-c client_min_messages=warning" } }), marks = 0, at = 0 }, session)
  self_.file = assert(uv.fs_open(self_.process.dir .. "/stdout", "r", 384))
  self_.text = ""
  started[self_] = true
  return self_
end

-- Sends SQL, waits for nothing.
function session:send(text)
  self.marks = self.marks + 1
  self.process:write(("%s\n\\echo <<%d>>\n"):format(text, self.marks))
end

-- Everything that came since the last answer, when what was sent last is complete; else nil.
function session:answer()
  local bytes = uv.fs_read(self.file, 1 << 20, self.at)
  if bytes and #bytes > 0 then
    self.at = self.at + #bytes
    self.text = self.text .. bytes
  end
  local mark = ("<<%d>>\n"):format(self.marks)
  if self.text:sub(-#mark) == mark then
    local text = self.text:sub(1, -#mark - 1)
    self.text = ""
    return text
  end
  return nil
end

-- Sends SQL and waits for its output.
function session:run(text, timeout)
  self:send(text)
  return eventually("an answer to " .. text:sub(1, 60), function()
    local answer = self:answer()
    assert(answer or self.process:running(), "psql ended: " .. self:errors())
    return answer
  end, timeout)
end

-- Everything that went wrong in it so far.
function session:errors()
  return self.process:errors()
end

function session:running()
  return self.process:running()
end

function session:close()
  if started[self] then
    started[self] = nil
    uv.fs_close(self.file)
    self.process:stop()
  end
end

-- Ends connections of a role (default: the broker's). Returns how many.
function server:terminate(role)
  return tonumber(self:sql(("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = '%s'")
    :format(role or M.OWNER)))
end

----------------------------------------------------------------- standby
-- A streaming standby that has caught up.
function server:standby(options)
  local other = M.prepare(options)
  programs.run("pg_basebackup", { "-D", other.data, "-R", "-X", "stream", "-c", "fast", "-h", self.dir,
    "-p", tostring(self.port),
    "-U", "postgres", "--no-sync" }, other.dir)
  other:start()
  other.primary = self
  other:catch_up()
  return other
end

-- Waits until the standby has replayed what its primary has written so far.
function server:catch_up()
  local target = self.primary:sql "SELECT pg_current_wal_lsn()"
  eventually("the standby has caught up", function()
    return self:sql(("SELECT pg_last_wal_replay_lsn() >= '%s'"):format(target)) == "t"
  end, 20)
end

-- The standby receives nothing any more from its primary.
function server:detach()
  self:sql "ALTER SYSTEM SET primary_conninfo = ''"
  self:sql "SELECT pg_reload_conf()"
  eventually("the standby is detached", function()
    return self:sql "SELECT count(*) FROM pg_stat_wal_receiver" == "0"
  end)
end

function server:promote()
  assert(self:sql "SELECT pg_promote(true, 60)" == "t")
end

----------------------------------------------------------------- PgBouncer
local BOUNCER = [[
[databases]
* = host=%s port=%d
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = trust
auth_file = %s
ignore_startup_parameters = extra_float_digits, options
]]

local function write_file(path, text)
  local f = assert(io.open(path, "wb"))
  assert(f:write(text))
  f:close()
end

-- PgBouncer in front of the server, for the roles of the specs; `settings` of its section [pgbouncer].
function server:pooler(settings)
  local path = assert(child.find "pgbouncer" or uv.fs_access("/usr/sbin/pgbouncer", "X") and "/usr/sbin/pgbouncer",
    "PgBouncer (package pgbouncer) is not installed")
  local dir = child.directory()
  local self_ = setmetatable({ dir = dir, host = "127.0.0.1", port = child.free_port() }, pooler)
  started[self_] = true
  local ini = { BOUNCER:format(self.dir, self.port, self_.port, dir .. "/users") }
  for k, v in pairs(settings or {}) do
    ini[#ini + 1] = ("%s = %s\n"):format(k, v)
  end
  write_file(dir .. "/ini", table.concat(ini))
  write_file(dir .. "/users", ('"%s" ""\n"%s" ""\n"postgres" ""\n'):format(M.OWNER, M.APP))
  if programs.root then
    local uid, gid = programs.account "postgres"
    for _, name in ipairs { "", "/ini", "/users" } do
      assert(uv.fs_chown(dir .. name, uid, gid))
    end
  end
  local program, args = programs.unprivileged(path, { dir .. "/ini" }, { with_parent = true })
  self_.process = child.start(program, args)
  eventually("PgBouncer lets clients in", function()
    if not self_.process:running() then
      eventually.give_up(self_.process:errors())
    end
    return self_:try "SELECT 1"
  end)
  return self_
end

function pooler:stop()
  self.process:stop()
end

----------------------------------------------------------------- databases
-- As a libpq connection string over TCP. `servers`: further ones of a failover list.
function database:conninfo(role, servers)
  local hosts, ports = {}, {}
  for i, s in ipairs(servers or { self.server }) do
    hosts[i], ports[i] = "127.0.0.1", tostring(s.port)
  end
  return ("host=%s port=%s user=%s dbname=%s%s"):format(table.concat(hosts, ","), table.concat(ports, ","),
    role or M.OWNER, self.name, #hosts > 1 and " target_session_attrs=read-write" or "")
end

-- Configuration of a broker on this database. `options`: servers; the rest goes into `store`.
function database:store(options)
  local store = { driver = "postgres" }
  for k, v in pairs(options or {}) do
    store[k] = v
  end
  store.servers = nil
  store.conninfo = store.conninfo or self:conninfo(nil, options and options.servers)
  return store
end

-- Options for tidegate.start: { config = { store = ..., ... } }
function database:broker_options(options)
  local all, config = {}, {}
  for k, v in pairs(options or {}) do
    all[k] = v
  end
  for k, v in pairs(all.config or {}) do
    config[k] = v
  end
  config.store = self:store(config.store)
  all.config = config
  return all
end

function database:broker(options)
  return tidegate.start(self:broker_options(options))
end

-- `tidegate migrate` with a configuration of its own: exit code, stdout, stderr.
function database:migrate(options)
  local b = tidegate.prepare(self:broker_options(options))
  tidegate.forget_later(b)
  return tidegate.run(tidegate.binary(), { args = { "migrate", b.conf_path }, cwd = b.dir, timeout = 60 })
end

function database:grant(role)
  self:sql(("GRANT USAGE ON SCHEMA tidegate TO %s; GRANT INSERT ON tidegate.outbox TO %s"):format(role, role))
end

function database:try(text, role)
  return self.server:try(text, { db = self.name, role = role })
end

function database:sql(text, role)
  return self.server:sql(text, { db = self.name, role = role })
end

function database:session(role)
  return self.server:session { db = self.name, role = role }
end

function M.quote(text)
  return text and "'" .. text:gsub("'", "''") .. "'" or "NULL"
end

-- The statement an application would write for one event { topic, type, data, key, attrs (JSON text) }.
function M.insert(ev)
  return ("INSERT INTO tidegate.outbox (topic, type, data, attrs, key) VALUES (%s, %s, %s, %s, %s)"):format(
    M.quote(ev.topic), M.quote(ev.type), M.quote(ev.data), M.quote(ev.attrs), M.quote(ev.key))
end

-- Inserts events, each list in one transaction, as the application.
function database:insert(...)
  local statements = {}
  for i, ev in ipairs { ... } do
    statements[i] = M.insert(ev)
  end
  self:sql(table.concat(statements, "; "), M.APP)
end

-- A fresh database that belongs to nobody in particular. options: schema = false (not migrated), encoding,
-- config (of the migration)
function server:database(options)
  options = options or {}
  self.databases = (self.databases or 0) + 1
  local db = setmetatable({ server = self, name = ("db%d"):format(self.databases) }, database)
  self:sql(("CREATE DATABASE %s TEMPLATE template0 %s"):format(db.name, options.encoding
    and ("ENCODING '%s' LOCALE 'C'"):format(options.encoding) or ""))
  self:sql(("GRANT CREATE ON DATABASE %s TO %s"):format(db.name, M.OWNER))
  if options.schema ~= false then
    local code, out, err = db:migrate(options)
    assert(code == 0, ("tidegate migrate ended with code %d:\n%s%s"):format(code, out, err))
    db:grant(M.APP)
  end
  return db
end

-- A fresh database as `tidegate migrate` of an older version left it.
function server:database_of_version(n)
  local db = self:database { schema = false }
  db:sql(("CREATE SCHEMA tidegate AUTHORIZATION %s"):format(M.OWNER))
  local folder = SPEC_SOURCE_DIR .. "/src/store/postgres/schema"
  local files, scan = {}, assert(uv.fs_scandir(folder))
  for name in uv.fs_scandir_next, scan do
    files[tonumber(name:match "^schema_(%d+)" or 1)] = folder .. "/" .. name
  end
  for i = 1, n do
    db:sql(read_file(files[i]), M.OWNER)
  end
  db:grant(M.APP)
  return db
end

-- The same database on another server: a standby, a restored copy, a pooler.
function database:on(other)
  return setmetatable({ server = other, name = self.name }, database)
end

----------------------------------------------------------------- life
local SETTINGS = {
  listen_addresses = "127.0.0.1",
  shared_buffers = "32MB",
  max_connections = 60,
  max_prepared_transactions = 20,
  fsync = "off",
  -- nothing outside of the directory, also when it is killed
  dynamic_shared_memory_type = "mmap",
  min_wal_size = "4MB",
  max_wal_size = "128MB",
  log_min_messages = "warning",
  log_line_prefix = "%m %p %u@%d ",
}

-- A directory and a port, no data yet. options: settings, port, tmpfs (size: the data lives on a disk of its own)
function M.prepare(options)
  options = options or {}
  local self = setmetatable({ dir = child.directory(), port = options.port or child.free_port(), settings = {} },
    server)
  started[self] = true
  self.data = self.dir .. "/data"
  if options.tmpfs then
    assert(uv.fs_mkdir(self.data, 448))
    local code, _, err = tidegate.run(assert(child.find "mount"),
      { args = { "-t", "tmpfs", "-o", "size=" .. options.tmpfs, "tmpfs", self.data } })
    assert(code == 0, err)
    self.mounted = true
  end
  if programs.root then
    local uid, gid = programs.account "postgres"
    assert(uv.fs_chown(self.dir, uid, gid))
    if self.mounted then
      assert(uv.fs_chown(self.data, uid, gid))
      assert(uv.fs_chmod(self.data, 448))
    end
  end
  for _, list in ipairs { SETTINGS, options.settings or {} } do
    for k, v in pairs(list) do
      self.settings[k] = v
    end
  end
  return self
end

local function create(options)
  local self = M.prepare(options)
  programs.run("initdb", { "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8",
    "--no-sync", "--wal-segsize=1", "--no-instructions" }, self.dir)
  self:start()
  self:sql(("CREATE ROLE %s LOGIN; CREATE ROLE %s LOGIN"):format(M.OWNER, M.APP))
  self:sql(("GRANT pg_read_all_stats TO %s"):format(M.OWNER)) -- to see how old others' transactions are
  return self
end

local function dispose(self)
  started[self] = nil
  if getmetatable(self) == session then
    started[self] = true
    return self:close()
  end
  local ok, err = pcall(self.stop, self, "immediate")
  if self.mounted then
    tidegate.run(assert(child.find "umount"), { args = { "-l", self.data } })
  end
  if not os.getenv "TIDEGATE_SPEC_KEEP" then
    child.remove_tree(self.dir)
  end
  assert(ok, err)
end

-- A running cluster, removed after the spec.
function M.start(options)
  return create(options)
end

-- Whether this process may mount a file system (for options.tmpfs).
function M.can_mount()
  return programs.root and child.find "mount" ~= nil
end

-- A cluster for all specs of the current `describe` block; returns a function that gives it.
function M.shared(options)
  local self
  busted.setup(function()
    self = create(options)
    started[self] = nil
  end)
  busted.teardown(function()
    if self then
      dispose(self)
    end
  end)
  return function()
    return self
  end
end

-- After every spec, by helper.lua.
function M.stop_started()
  local failures = {}
  for _, kind in ipairs { session, pooler, server } do -- clients first
    local list = {}
    for x in pairs(started) do
      if getmetatable(x) == kind then
        list[#list + 1] = x
      end
    end
    for _, x in ipairs(list) do
      local ok, why = pcall(dispose, x)
      if not ok then
        failures[#failures + 1] = tostring(why)
      end
    end
  end
  assert(#failures == 0, table.concat(failures, "\n"))
end

return M
