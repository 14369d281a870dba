-- A real cluster under faults: three PostgreSQL servers under Patroni and etcd, HAProxy, two brokers, each in a network
-- namespace of its own; publishers, applications and clients; and a judge who knows what is promised (promises.lua).
--
--   make cluster                      or: lua5.4 spec/cluster/run.lua [options]       (as root; half an hour)
--
--   --mode M           synchronous, asynchronous, or both (replication)
--   --seed N           of the order of the faults
--   --faults A,B       only these kinds (names of promises.lua; "kill" stands for all that begin so)
--   --rounds N         of the schedule's counts, a part of it: 0.2 is a fifth, at least one of each kind (1)
--   --tidegate FILE    the broker (build/release/tidegate)
--   --record FILE      puts the tables into it, between its lines `<!-- cluster MODE -->` and
--                      `<!-- end of cluster MODE -->`
--   --keep DIR         logs and notes stay there
--
-- The schedule of one round, half of it with each kind of replication: 20 switchovers, 20 kills of the primary (10 of
-- its server, 10 of the whole machine), 20 freezes of the primary's machine (1, 5, 30 s), 10 cuts of a cable (primary,
-- broker, etcd). The next fault waits until the cluster is whole again.
--
-- The first process makes the namespaces, does the run in one of them, and removes everything however it ends.
local here = arg[0]:match "^(.*)/[^/]*$" or "."
package.path = ("%s/../?.lua;%s"):format(here, package.path)

local nodes = require "cluster.nodes"
local promises = require "cluster.promises"
local tree = require "support.tree"
local uv = require "luv"

local BASE = "tidegate-cluster"

local function say(...)
  io.write((...):format(select(2, ...)), "\n")
  io.flush()
end

local function fail(...)
  io.stderr:write("cluster: ", (...):format(select(2, ...)), "\n")
  os.exit(2)
end

local options = { mode = "both", seed = "1", faults = "", rounds = "1", record = "", keep = "", inside = "", dir = "",
  tidegate = here .. "/../../build/release/tidegate" }
for i = 1, #arg, 2 do
  local name = arg[i]:match "^%-%-(%l+)$"
  if not name or not options[name] or not arg[i + 1] then
    fail("%s: unknown, or without its value (see the head of %s)", arg[i], arg[0])
  end
  options[name] = arg[i + 1]
end

----------------------------------------------------------------- outside: namespaces
local function temporary()
  return os.getenv "TMPDIR" or "/tmp"
end

-- What a runner that was ended by force has left.
local function remove_dead()
  for prefix in pairs(nodes.left_behind(BASE)) do
    nodes.remove(prefix)
    local scan = uv.fs_scandir(temporary())
    while scan do
      local name = uv.fs_scandir_next(scan)
      if not name then
        break
      end
      if name:sub(1, #prefix + 1) == prefix .. "-" then
        tree.remove(temporary() .. "/" .. name)
      end
    end
  end
end

local function outside()
  if uv.getuid() ~= 0 then
    fail "network namespaces need root"
  end
  options.tidegate = uv.fs_realpath(options.tidegate) or fail("%s is not there: make build", options.tidegate)
  remove_dead()
  local servers = require "cluster.servers"
  local prefix, code = BASE .. "-" .. math.tointeger(uv.os_getpid()), nil
  local modes = options.mode == "both" and { "synchronous", "asynchronous" } or { options.mode }
  local stop
  for _, name in ipairs { "sigint", "sigterm", "sighup" } do
    uv.new_signal():start(name, function() stop = true end)
  end
  local worst = 0
  for _, mode in ipairs(modes) do
    local dir = options.keep .. "/" .. mode
    if options.keep == "" then
      dir = assert(uv.fs_mkdtemp(("%s/%s-XXXXXX"):format(temporary(), prefix)))
    else
      uv.fs_mkdir(options.keep, 493)
      assert(uv.fs_mkdir(dir, 493))
    end
    assert(uv.fs_chmod(dir, 493)) -- the servers' user must get in
    local ok, why = xpcall(function()
      nodes.create(prefix, servers.ADDRESSES)
      local args = { "--net=/run/netns/" .. prefix .. "-clients", "--", "setpriv", "--pdeathsig", "KILL", "--",
        "lua5.4", arg[0], "--inside", prefix, "--dir", dir, "--mode", mode }
      for _, name in ipairs { "seed", "faults", "rounds", "tidegate", "record" } do
        table.move({ "--" .. name, options[name] }, 1, 2, #args + 1, args)
      end
      code = nil
      local handle, pid
      handle, pid = uv.spawn("/usr/bin/nsenter", { args = args, stdio = { nil, 1, 2 } }, function(c, signal)
        code = signal ~= 0 and 128 + signal or c
        handle:close()
      end)
      assert(handle, pid)
      nodes.turn_until(function() return code or stop end, 3 * 3600)
      if not code then
        uv.kill(pid, "sigkill")
        nodes.turn_until(function() return code end, 10)
      end
    end, debug.traceback)
    nodes.remove(prefix)
    if options.keep == "" then
      tree.remove(dir)
    end
    if not ok then
      fail("%s", why)
    end
    worst = math.max(worst, code or 1)
    if stop then
      break
    end
  end
  os.exit(stop and 130 or worst)
end

----------------------------------------------------------------- inside: faults
local workload, servers, judge, cluster, net, load

local function wait_whole(seconds)
  local since = nodes.now()
  local ok = nodes.turn_until(function() return cluster:healthy() and cluster.view_at > since + 0.5 end, seconds)
  return ok and cluster:leader()
end

-- What has been committed in the last half second has not reached the standbys when `strike` takes the leader away,
-- cable and all: a machine that is gone sends nothing more, not even what its kernel had taken.
local function lagging(leader, strike)
  for _, name in ipairs(servers.PG) do
    if name ~= leader then
      net[name]:cut()
    end
  end
  nodes.turn(0.5)
  net[leader]:cut()
  strike()
  for _, name in ipairs(servers.PG) do
    if name ~= leader then
      net[name]:mend()
    end
  end
end

-- Each is given the node that leads, and whether the standbys are to be behind; it returns when the fault is over.
local FAULTS = {
  switchover = function()
    local status, body
    cluster:switchover(function(s, b) status, body = s or 0, b end)
    nodes.turn_until(function() return status end, 60)
    if status ~= 200 then
      say("    Patroni: %s %s", status, body)
    end
  end,
  ["kill server"] = function(leader) -- Patroni lives, and lets another take over
    local f = assert(io.open(("%s/%s/data/postmaster.pid"):format(cluster.dir, leader)))
    local pid = math.tointeger(f:read "n")
    f:close()
    uv.kill(pid, "sigkill")
    nodes.turn_until(function() return not cluster:healthy() end, 10)
  end,
  ["kill node"] = function(leader, behind)
    local function strike()
      net[leader]:kill()
    end
    if behind then
      lagging(leader, strike)
    else
      strike()
    end
    nodes.turn_until(function() return cluster:leader() and cluster:leader() ~= leader end, 60)
    net[leader]:mend()
    cluster:start_node(leader)
  end,
  ["cut primary"] = function(leader, behind)
    if behind then
      lagging(leader, function() end)
    else
      net[leader]:cut()
    end
    nodes.turn(servers.TTL + 5)
    net[leader]:mend()
  end,
}
-- "behind": the whole machine stands still, its kernel too; else only its processes.
for _, seconds in ipairs { 1, 5, 30 } do
  FAULTS[("freeze %d s"):format(seconds)] = function(leader, behind)
    local function strike()
      net[leader]:freeze()
    end
    if behind then
      lagging(leader, strike)
    else
      strike()
    end
    nodes.turn(seconds)
    net[leader]:mend()
    net[leader]:thaw()
  end
end
for _, what in ipairs { "broker", "etcd" } do
  FAULTS["cut " .. what] = function()
    local name = what == "broker" and (math.random(2) == 1 and "b1" or "b2") or what
    say("    %s", name)
    net[name]:cut()
    nodes.turn(servers.TTL + 5)
    net[name]:mend()
  end
end

-- Of one round, each kind of replication.
local COUNTS = {
  switchover = 10, ["kill server"] = 5, ["kill node"] = 5, ["freeze 1 s"] = 3, ["freeze 5 s"] = 3, ["freeze 30 s"] = 4,
  ["cut primary"] = 2, ["cut broker"] = 2, ["cut etcd"] = 1,
}

local VANISHES = { ["kill node"] = true, ["freeze 30 s"] = true, ["cut primary"] = true }

-- A list of { kind, behind }: of those that a machine vanishes in, every second one finds the standbys behind.
local function schedule()
  local list = {}
  for _, kind in ipairs(promises.FAULTS) do
    local wanted = options.faults == ""
    for name in options.faults:gmatch "[^,]+" do
      wanted = wanted or kind:sub(1, #name) == name
    end
    for i = 1, wanted and math.max(1, math.floor(COUNTS[kind] * tonumber(options.rounds) + 0.5)) or 0 do
      list[#list + 1] = { kind = kind, behind = i % 2 == 1 and VANISHES[kind] }
    end
  end
  for i = #list, 2, -1 do
    local j = math.random(i)
    list[i], list[j] = list[j], list[i]
  end
  return list
end

local function inject(fault, number, of)
  local kind = fault.kind
  local leader = wait_whole(150)
  if not leader then
    error("the cluster is not whole: " .. cluster:describe(), 0)
  end
  nodes.turn(1)
  local w = load:window(fault)
  say("%5.0f s  %d of %d: %s (%s leads)%s", nodes.now() - load.started, number, of, kind, leader,
    fault.behind and ", standbys behind" or "")
  FAULTS[kind](leader, fault.behind)
  w.after = wait_whole(150)
  w.whole = nodes.now() - w.from
  local since = nodes.now()
  if not nodes.turn_until(function() return load:caught_up(since) end, 90) then
    load:problem(("%s, fault %d: publishers or clients have not come back within 90 s"):format(kind, number))
  end
  w.seconds, w.failover = nodes.now() - w.from, w.after ~= leader
  local parts = {}
  for what, seconds in pairs(w.longest) do
    parts[#parts + 1] = ("%s %.1f"):format(what, seconds)
  end
  for what, n in pairs(w.count) do
    parts[#parts + 1] = ("%s: %d"):format(what, n)
  end
  table.sort(parts)
  say("    %.1f s, whole after %.1f s%s; %s", w.seconds, w.whole,
    w.failover and (", " .. tostring(w.after) .. " leads") or "", table.concat(parts, ", "))
  for name, p in pairs(cluster.running) do
    if p.code and (name == "b1" or name == "b2" or name == "proxy" or name == "etcd") then
      load:problem(("%s ended with code %d"):format(name, p.code))
      p.code = nil
      if name == "b1" or name == "b2" then
        cluster:start_broker(name)
      end
    end
  end
end

----------------------------------------------------------------- inside: tables
local function table_of(title, heads, rows)
  local out = { ("| %s | %s |"):format(title, table.concat(heads, " | ")), "|---" .. ("|---"):rep(#heads) .. "|" }
  for _, row in ipairs(rows) do
    out[#out + 1] = "| " .. table.concat(row, " | ") .. " |"
  end
  return table.concat(out, "\n")
end

local function figures()
  local rows = {}
  local kinds = { "start" }
  table.move(promises.FAULTS, 1, #promises.FAULTS, 2, kinds)
  for _, kind in ipairs(kinds) do
    local n, longest, count, failovers = 0, {}, {}, 0
    for _, w in ipairs(load.windows) do
      if w.fault.kind == kind then
        n = n + 1
        failovers = failovers + (w.failover and 1 or 0)
        for what, seconds in pairs(w.longest) do
          longest[what] = math.max(longest[what] or 0, seconds)
        end
        for what, c in pairs(w.count) do
          count[what] = (count[what] or 0) + c
        end
      end
    end
    if n > 0 then
      local function seconds(...)
        local most = 0
        for _, what in ipairs { ... } do
          most = math.max(most, longest[what] or 0)
        end
        return ("%.1f"):format(most)
      end
      rows[#rows + 1] = { kind == "start" and "(none)" or kind, ("%d"):format(kind == "start" and 0 or n),
        ("%d"):format(failovers), seconds "silence proxy", seconds("silence b1", "silence b2"), seconds "late proxy",
        seconds("late b1", "late b2"), seconds "publish proxy", seconds("publish b1", "publish b2"), seconds "commit",
        ("%d"):format(count.lost or 0), ("%d"):format(count.reset or 0),
        ("%d"):format(count["reset without need"] or 0) }
    end
  end
  return table_of(options.mode, { "faults", "failovers", "silence", "direct", "late", "direct", "publish", "direct",
    "commit", "lost", "resets", "without need" }, rows)
end

-- Replaces what `mode` has between the lines of the file.
local function record(text)
  local path = options.record
  local begin = ("<!-- cluster %s -->"):format(options.mode)
  local finish = ("<!-- end of cluster %s -->"):format(options.mode)
  local f = io.open(path, "rb")
  local all = f and f:read "a" or ""
  if f then
    f:close()
  end
  local _, from = all:find(begin, 1, true)
  local to = from and all:find(finish, from, true)
  if not to then
    all = ("%s%s\n%s\n"):format(all, begin, finish)
    _, from = all:find(begin, 1, true)
    to = all:find(finish, from, true)
  end
  f = assert(io.open(path, "wb"))
  f:write(all:sub(1, from), "\n\n", text, "\n\n", all:sub(to))
  f:close()
end

----------------------------------------------------------------- inside: the whole
-- The leaps that the brokers have logged.
local function leaps_told()
  local list = {}
  for _, name in ipairs { "b1", "b2" } do
    for line in io.lines(("%s/%s/log"):format(options.dir, name)) do
      local after, upto = line:match 'msg="ids are left out.* after=(%d+) upto=(%d+)'
      list[#list + 1] = after and after .. "\t" .. upto
    end
  end
  return table.concat(list, "\n")
end

local function cluster_run()
  servers, workload, judge = require "cluster.servers", require "cluster.load", require "cluster.judge"
  math.randomseed(tonumber(options.seed))
  net = nodes.open(options.inside, servers.ADDRESSES)
  say("== %s replication, seed %s", options.mode, options.seed)
  cluster = servers.start { net = net, dir = options.dir, sync = options.mode == "synchronous",
    tidegate = options.tidegate }
  local A = servers.ADDRESSES
  local app = "user=app dbname=" .. servers.DB .. " connect_timeout=2"
  local any = ("host=%s target_session_attrs=read-write %s"):format(servers.hosts(), app)
  load = workload.new { dir = options.dir, b1 = A.b1, b2 = A.b2, proxy = A.proxy,
    conninfo = { any, any, ("host=%s %s"):format(A.proxy, app) } }
  nodes.turn(20) -- what the calm looks like
  local list = schedule()
  for number, fault in ipairs(list) do
    inject(fault, number, #list)
  end
  wait_whole(150)
  load:window { kind = "end" }
  assert(nodes.turn_until(function() return load:finish() end, 60), "publishers do not come to an end")
  if not nodes.turn_until(function() return cluster:sql "SELECT count(*) FROM tidegate.outbox" == "0" end, 60) then
    load:problem "the outbox is not empty a minute after the last fault"
  end
  for i, topic in ipairs(workload.TOPICS) do
    cluster:sql(("BEGIN; INSERT INTO shop.ledger VALUES ('end', %d, '%s', 'end.%s'); "):format(i, topic, topic)
      .. ("INSERT INTO tidegate.outbox (topic, data) VALUES ('%s', 'end.%s'); COMMIT"):format(topic, topic))
  end
  if not nodes.turn_until(function() return load:at_end() end, 60) then
    load:problem "not every client has got the last events within a minute"
  end
  load:close()
  local function copy(query)
    return cluster:sql(("COPY (%s) TO STDOUT"):format(query))
  end
  local report = judge.judge { dir = options.dir, load = load, mode = options.mode,
    events = copy "SELECT seq, data FROM tidegate.events ORDER BY seq",
    leaps = copy "SELECT after, upto FROM tidegate.leap WHERE after > 0 ORDER BY after",
    ledger = copy "SELECT w, n, topic, data FROM shop.ledger", told = leaps_told() }
  local stats = {}
  for name, n in pairs(report.stats) do
    stats[#stats + 1] = ("%s %d"):format(name, n)
  end
  table.sort(stats)
  local text = figures()
  say("\n%s\n\n%s", text, table.concat(stats, ", "))
  for rule, n in pairs(report.count) do
    say("VIOLATION %s: %d", rule, n)
  end
  for _, v in ipairs(report.violations) do
    say("  %s: %s", v.rule, v.text)
  end
  if options.record ~= "" then
    record(text)
  end
  say("%s: %s", options.mode, next(report.count) and "promises were broken" or "every promise held")
  return next(report.count) and 1 or 0
end

if options.inside == "" then
  outside()
else
  local ok, code = xpcall(cluster_run, debug.traceback)
  if not ok then
    say("%s", code)
    if cluster then
      for _, name in ipairs { "b1", "b2" } do
        say("-- %s\n%s", name, cluster:log(name, 15))
      end
    end
  end
  io.flush()
  os.exit(ok and code or 2)
end
