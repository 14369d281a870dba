-- What runs on the machines (nodes.lua): etcd, three PostgreSQL servers under Patroni, HAProxy, two brokers.
--
--   local cluster = servers.start { net = net, dir = dir, sync = true, tidegate = path }
--   cluster:leader()              name of the node that leads, as Patroni says; nil while there is none
--   cluster:healthy()             one leader, both others stream from it (and, with sync, one of them synchronously)
--   cluster:start_node "pg1"      Patroni (and with it PostgreSQL) again
--   cluster:switchover(cb)
--
-- Broker b1 knows all three servers (host=pg1,pg2,pg3), broker b2 only HAProxy, which asks Patroni who leads.
local json = require "dkjson"
local fetch = require "cluster.fetch"
local nodes = require "cluster.nodes"
local programs = require "cluster.programs"
local uv = require "luv"

local M = {}
local cluster = {}
cluster.__index = cluster

M.ADDRESSES = {
  etcd = "10.87.0.10", pg1 = "10.87.0.11", pg2 = "10.87.0.12", pg3 = "10.87.0.13",
  proxy = "10.87.0.20", b1 = "10.87.0.21", b2 = "10.87.0.22", clients = "10.87.0.30",
}
M.PG = { "pg1", "pg2", "pg3" }

-- A leader that is silent for TTL seconds is replaced.
M.TTL = 8
M.DB = "app"

local USER = "postgres" -- whom all but the runner run as

local function write_file(path, text)
  local f = assert(io.open(path, "wb"))
  assert(f:write(text))
  assert(f:close())
end

function cluster:spawn(name, path, args)
  local p = self.net[name]:spawn(path, args, { user = USER, cwd = self.dir .. "/" .. name,
    log = ("%s/%s/log"):format(self.dir, name) })
  self.running[name] = p
  return p
end

function cluster:log(name, lines)
  local f = io.open(("%s/%s/log"):format(self.dir, name), "rb")
  local all = {}
  for line in f and f:lines() or function() end do
    all[#all + 1] = line
  end
  return table.concat(all, "\n", math.max(1, #all - lines + 1))
end

----------------------------------------------------------------- etcd
function cluster:start_etcd()
  local url, dir = "http://" .. M.ADDRESSES.etcd, self.dir .. "/etcd"
  self:spawn("etcd", programs.find "etcd", { "--name", "etcd", "--data-dir", dir .. "/data",
    "--listen-client-urls", url .. ":2379", "--advertise-client-urls", url .. ":2379",
    "--listen-peer-urls", url .. ":2380", "--initial-advertise-peer-urls", url .. ":2380",
    "--initial-cluster", "etcd=" .. url .. ":2380", "--log-level", "error", "--enable-v2=true" })
end

----------------------------------------------------------------- Patroni
function cluster:patroni_config(name)
  local address, dir = M.ADDRESSES[name], self.dir .. "/" .. name
  return { -- YAML takes JSON
    scope = "tidegate", name = name,
    restapi = { listen = address .. ":8008", connect_address = address .. ":8008" },
    -- Patroni 3.0 with etcd's third API lets a leader that was frozen take its lock back from the one that has replaced
    -- it, without a look at who holds it. Then even what was replicated synchronously is lost.
    [self.sync and "etcd" or "etcd3"] = { host = M.ADDRESSES.etcd .. ":2379" },
    bootstrap = {
      dcs = {
        ttl = M.TTL, loop_wait = 1, retry_timeout = 3, maximum_lag_on_failover = 1 << 30,
        primary_start_timeout = 0, -- a server that has crashed is replaced at once
        synchronous_mode = self.sync,
        postgresql = {
          use_pg_rewind = true, use_slots = true,
          parameters = {
            wal_log_hints = "on", fsync = "off", shared_buffers = "32MB", max_connections = 60,
            max_wal_size = "256MB", wal_keep_size = "64MB", wal_sender_timeout = "5s", wal_receiver_timeout = "5s",
            dynamic_shared_memory_type = "mmap", log_min_messages = "warning", log_line_prefix = "%m %p %u@%d ",
          },
        },
      },
      initdb = { { encoding = "UTF8" }, { locale = "C.UTF-8" }, { auth = "trust" }, "no-sync",
        { ["wal-segsize"] = "4" } },
      pg_hba = { "local all all trust", "host all all 10.87.0.0/24 trust", "host replication all 10.87.0.0/24 trust" },
    },
    postgresql = {
      listen = address .. ":5432", connect_address = address .. ":5432", data_dir = dir .. "/data",
      bin_dir = programs.postgres_dir(), pgpass = dir .. "/pgpass",
      authentication = { superuser = { username = "postgres" }, replication = { username = "replicator" },
        rewind = { username = "postgres" } },
      remove_data_directory_on_rewind_failure = true, remove_data_directory_on_diverged_timelines = true,
      basebackup = { { checkpoint = "fast" } },
      parameters = { unix_socket_directories = dir },
    },
  }
end

function cluster:start_node(name)
  local path = ("%s/%s/patroni.yml"):format(self.dir, name)
  write_file(path, json.encode(self:patroni_config(name)))
  self:spawn(name, programs.find "patroni", { path })
end

-- Asks the nodes in turn what the cluster looks like, for as long as the run lasts.
function cluster:watch()
  local next_one = 0
  self.timer = uv.new_timer()
  self.timer:start(0, 300, function()
    local name = M.PG[next_one % #M.PG + 1]
    next_one = next_one + 1
    fetch(M.ADDRESSES[name], 8008, "GET", "/cluster", nil, 1, function(status, body)
      local doc = status == 200 and json.decode(body)
      if doc and doc.members then
        self.view, self.view_at = doc.members, nodes.now()
      end
    end)
  end)
end

function cluster:leader()
  for _, m in ipairs(self.view or {}) do
    if m.role == "leader" and m.state == "running" then
      return m.name
    end
  end
end

function cluster:healthy()
  if not self.view or #self.view ~= #M.PG or nodes.now() - self.view_at > 2 then
    return false
  end
  local leader, timeline, sync = nil, nil, 0
  for _, m in ipairs(self.view) do
    timeline = timeline or m.timeline
    if m.timeline ~= timeline or m.state ~= "running" and m.state ~= "streaming" then
      return false
    end
    if m.role == "leader" then
      leader = m.name
    elseif math.type(m.lag) ~= "integer" or m.lag > 1 << 20 then
      return false
    end
    sync = sync + (m.role == "sync_standby" and 1 or 0)
  end
  return leader and timeline and (not self.sync or sync == 1) and leader
end

function cluster:describe()
  local list = {}
  for i, m in ipairs(self.view or {}) do
    list[i] = ("%s %s %s timeline %s lag %s"):format(m.name, m.role, m.state, m.timeline, m.lag)
  end
  return table.concat(list, "; ")
end

function cluster:switchover(done)
  local leader = self:leader()
  fetch(M.ADDRESSES[leader], 8008, "POST", "/switchover", json.encode { leader = leader }, 60, done)
end

----------------------------------------------------------------- HAProxy
function cluster:start_proxy()
  local lines = { "global", "  maxconn 1000", "defaults", "  mode tcp", "  timeout connect 2s", "  timeout client 1h",
    "  timeout server 1h", "  timeout check 1s",
    "  default-server inter 1s fall 2 rise 1 on-marked-down shutdown-sessions",
    "listen postgres", "  bind " .. M.ADDRESSES.proxy .. ":5432", "  option httpchk GET /primary",
    "  http-check expect status 200" }
  for _, name in ipairs(M.PG) do
    lines[#lines + 1] = ("  server %s %s:5432 check port 8008"):format(name, M.ADDRESSES[name])
  end
  lines[#lines + 1] = "listen brokers\n  balance leastconn\n  bind " .. M.ADDRESSES.proxy .. ":8080"
  for _, name in ipairs { "b1", "b2" } do
    lines[#lines + 1] = ("  server %s %s:8080 check"):format(name, M.ADDRESSES[name])
  end
  write_file(self.dir .. "/proxy/cfg", table.concat(lines, "\n") .. "\n")
  self:spawn("proxy", programs.find "haproxy", { "-db", "-f", self.dir .. "/proxy/cfg" })
end

----------------------------------------------------------------- brokers
local POLICY = [[
return {
  api = 1,
  authenticate = function() return { sub = "anyone" } end,
  subscribe = function(req) return { topics = req.topics } end,
  publish = function(pub) return pub end,
}
]]

function M.hosts()
  local list = {}
  for i, name in ipairs(M.PG) do
    list[i] = M.ADDRESSES[name]
  end
  return table.concat(list, ",")
end

function cluster:start_broker(name)
  local dir = self.dir .. "/" .. name
  write_file(dir .. "/policy.lua", POLICY)
  write_file(dir .. "/conf.lua", ([[
return {
  listen = { "%s:8080" },
  admin = "127.0.0.1:8081",
  store = { driver = "postgres", conninfo = "host=%s user=tidegate dbname=%s" },
  policy = { file = "policy.lua" },
  sse = { heartbeat_s = 1, retry_ms = 200 },
}
]]):format(M.ADDRESSES[name], name == "b1" and M.hosts() or M.ADDRESSES.proxy, M.DB))
  return self:spawn(name, self.tidegate, { "serve", dir .. "/conf.lua" })
end

----------------------------------------------------------------- SQL
-- Runs SQL on the server that leads, as the superuser; asserts that it works, and returns its output.
function cluster:sql(text, db)
  local code, out
  nodes.turn_until(function()
    local leader = self:leader()
    if not leader then
      return false
    end
    code, out = nodes.run(programs.find "psql", { "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", text,
      ("host=%s user=postgres dbname=%s connect_timeout=3 target_session_attrs=read-write"):format(
        M.ADDRESSES[leader], db or M.DB) }, 60)
    return code == 0 or not out:find "read%-write"
  end, 60)
  assert(code == 0, out)
  return (out:gsub("\n$", ""))
end

----------------------------------------------------------------- life
function cluster:wait(what, seconds, done, name)
  if not nodes.turn_until(done, seconds) then
    error(("not within %d s: %s (%s)\n%s"):format(seconds, what, self:describe(), self:log(name, 30)), 0)
  end
end

function cluster:make_database()
  self:sql("CREATE ROLE tidegate LOGIN; CREATE ROLE app LOGIN; GRANT pg_read_all_stats TO tidegate", "postgres")
  self:sql("CREATE DATABASE " .. M.DB, "postgres")
  self:sql(("GRANT CREATE ON DATABASE %s TO tidegate"):format(M.DB))
  self:sql [[CREATE SCHEMA shop;
    CREATE TABLE shop.ledger (w text, n int, topic text, data text, PRIMARY KEY (w, n));
    GRANT USAGE ON SCHEMA shop TO app; GRANT INSERT, SELECT ON shop.ledger TO app]]
end

local function listens(name)
  local answered
  return function()
    fetch(M.ADDRESSES[name], 8080, "GET", "/", nil, 1, function(status) answered = answered or status end)
    nodes.turn(0.2)
    return answered
  end
end

-- options: net, dir (belongs to USER), sync, tidegate (the program)
function M.start(options)
  local self = setmetatable({ net = options.net, dir = options.dir, sync = options.sync, tidegate = options.tidegate,
    running = {} }, cluster)
  for name in pairs(M.ADDRESSES) do
    assert(uv.fs_mkdir(("%s/%s"):format(self.dir, name), 448))
    assert(uv.fs_chown(("%s/%s"):format(self.dir, name), programs.account(USER)))
  end
  self:start_etcd()
  nodes.turn(1)
  self:watch()
  self:start_node "pg1"
  self:wait("pg1 leads", 60, function() return self:leader() end, "pg1")
  self:start_node "pg2"
  self:start_node "pg3"
  self:wait("all servers stream", 90, function() return self:healthy() end, "pg2")
  self:make_database()
  self:start_proxy()
  self:start_broker "b1" -- makes the schema
  self:wait("b1 listens", 30, listens "b1", "b1")
  self:sql "GRANT USAGE ON SCHEMA tidegate TO app; GRANT INSERT ON tidegate.outbox TO app"
  self:start_broker "b2"
  self:wait("b2 listens", 30, listens "b2", "b2")
  return self
end

return M
