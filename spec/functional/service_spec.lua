-- What systemd does for the broker: keep its port open, be told how it is.
local child = require "support.child"
local eventually = require "support.eventually"
local files = require "support.files"
local http = require "support.http"
local native = require "native.sockets"
local socket = require "socket"
local unix = require "socket.unix"
local sse = require "support.sse"
local tidegate = require "support.tidegate"
local tree = require "support.tree"
local uv = require "luv"

-- Sockets as systemd makes them of a socket unit; they stay open whatever becomes of the broker.
local opened = {}
local function listen_tcp(host)
  local s = assert((host or ""):find ":" and socket.tcp6() or socket.tcp4())
  opened[#opened + 1] = s
  assert(s:bind(host or "127.0.0.1", 0))
  assert(s:listen(64))
  local _, port = s:getsockname()
  return s, math.tointeger(tonumber(port))
end

local function listen_unix(path)
  local s = assert(unix())
  opened[#opened + 1] = s
  assert(s:bind(path))
  assert(s:listen(64))
  return s
end

after_each(function()
  for _, s in ipairs(opened) do
    s:close()
  end
  opened = {}
end)

for _, workers in ipairs { 1, 2 } do
  describe(("a socket that the service manager passes to %d"):format(workers), function()
    it("serves who came before the broker did, and while it was away", function()
      local s, port = listen_tcp()
      local at = { host = "127.0.0.1", port = port }
      local address = ("127.0.0.1:%d"):format(port)
      local early = assert(sse.start(at, { topic = "a" }))
      local broker = tidegate.start { sockets = { { socket = s, name = "public" } },
        config = { workers = workers, listen = { address } } }
      assert.equal("inherited", broker:logged({ msg = "listening", server = "public" }).socket)
      early:wait("the stream", function() return early.status == 200 and #early.blocks > 0 end)
      broker:publish("a", "one")
      local first = early:next()
      assert.equal("one", first.data)
      broker:stop()
      early:wait_end()
      local back = assert(sse.start(at, { topic = "a", last_event_id = early.last_id }))
      eventually.pass(0.1, "an answer, were there one, would show by now")
      back:pump()
      assert.is_nil(back.status or back.ended, "it waits")
      broker:start()
      broker:publish("a", "two")
      assert.equal("two", back:next().data)
      back:close()
      -- also after a crash
      local pids = {}
      for _, worker in ipairs(workers > 1 and http.get(broker.admin, "/status").json.workers or {}) do
        pids[#pids + 1] = worker.pid
      end
      broker:kill()
      eventually("the workers have ended, too: none of them accepts any more", function()
        for _, pid in ipairs(pids) do
          if uv.kill(pid, 0) then
            return false
          end
        end
        return true
      end)
      back = assert(sse.start(at, { topic = "a", last_event_id = first.id }))
      broker:start()
      assert.equal("two", back:next().data)
    end)

    it("may be a Unix socket, whose file stays, and several by one name", function()
      local dir = tidegate.directory()
      finally(function() tree.remove(dir) end)
      local path = dir .. "/public"
      local one, port = listen_tcp()
      local other, second = listen_tcp "::1"
      local broker = tidegate.start {
        sockets = { { socket = one, name = "web" }, { socket = listen_unix(path), name = "local" },
          { socket = other, name = "web" } },
        config = { workers = workers, policy = { allow_open_public = true },
          listen = { "unix:" .. path, "systemd:web", "127.0.0.1:0", "systemd:web" } },
      }
      assert.equal(4, #broker.addresses)
      local clients = {}
      for i, at in ipairs { { unix = path }, { host = "127.0.0.1", port = port }, { host = "::1", port = second },
        broker.addresses[3] } do
        clients[i] = sse.open(at, { topic = "a" })
      end
      broker:publish("a", "all")
      for _, c in ipairs(clients) do
        assert.equal("all", c:next().data)
      end
      broker:stop()
      assert.is_truthy(uv.fs_stat(path), "the file is the service manager's")
    end)

    it("may be the admin address", function()
      local s, port = listen_tcp()
      local broker = tidegate.start { sockets = { { socket = s, name = "admin" } },
        config = { workers = workers, admin = ("127.0.0.1:%d"):format(port) } }
      assert.equal(200, http.get({ host = "127.0.0.1", port = port }, "/readyz").status)
      assert.equal("inherited", broker:logged({ msg = "listening", server = "admin" }).socket)
    end)
  end)
end

describe("a restart of the workers", function()
  it("keeps the sockets that were passed", function()
    local one, port = listen_tcp()
    local other, second = listen_tcp()
    local broker = tidegate.start { sockets = { { socket = one, name = "web" }, { socket = other, name = "more" } },
      config = { workers = 2, policy = { allow_open_public = true },
        listen = { ("127.0.0.1:%d"):format(port), "systemd:more" } } }
    for _ = 1, 2 do -- the second time it is a successor that hands them on
      local before = http.get(broker.admin, "/status").json.restart.count
      broker:signal "USR2"
      eventually("it is over", function()
        local ok, r = pcall(http.get, broker.admin, "/status") -- its process is replaced, too
        local restart = ok and r.json and r.json.restart
        assert(not restart or restart.state ~= "failed", restart and restart.error)
        return restart and restart.count > before and restart.state == "done"
      end, 40)
      for i, at in ipairs { { host = "127.0.0.1", port = port }, { host = "127.0.0.1", port = second } } do
        local topic = "at/" .. i -- of its own: what went to one worker, another may see a moment later
        local c = sse.open(at, { topic = topic })
        assert.equal(201, http.post(at, "/events?topic=" .. topic, "via " .. i).status)
        assert.equal("via " .. i, c:next().data)
      end
    end
  end)
end)

describe("a socket that is passed", function()
  local function refused(options)
    local code, log = tidegate.start_refused(options)
    assert.equal(78, code, log)
    return log
  end

  it("and that nothing is configured for ends the start, with both addresses", function()
    local s, port = listen_tcp()
    local log = refused { sockets = { { socket = s, name = "public" } }, config = { listen = { "127.0.0.1:1" } } }
    assert.matches('passes the socket \\"public\\" on 127.0.0.1:' .. port, log, 1, true)
    assert.matches("neither in `listen` nor `admin`", log, 1, true)
  end)

  it("and that is missing ends it, with its name", function()
    local log = refused { config = { listen = { "systemd:public" }, policy = { allow_open_public = true } } }
    assert.matches('\\"systemd:public\\" in `listen`: the service manager passes no socket of that name', log, 1, true)
    local s = listen_tcp()
    log = refused { sockets = { { socket = s, name = "public" } },
      config = { listen = { "systemd:public", "systemd:public" }, policy = { allow_open_public = true } } }
    assert.matches("passes no further socket of that name", log, 1, true)
  end)

  it("and that listens to nothing ends it", function()
    local s = assert(socket.udp4())
    opened[#opened + 1] = s
    assert.matches("is no listening stream socket", refused { sockets = { { socket = s, name = "public" } } })
  end)

  it("to another process is left alone", function()
    local broker = tidegate.start { env = { LISTEN_FDS = "1", LISTEN_PID = "1", LISTEN_FDNAMES = "public" } }
    assert.equal("own", broker:logged({ msg = "listening", server = "public" }).socket or "own")
  end)
end)

describe("the watchdog of the service manager", function()
  it("has a worker that hangs replaced, and leaves the service alone", function()
    local broker = tidegate.start { env = { WATCHDOG_USEC = "200000" }, supervised = true }
    local before = http.get(broker.admin, "/status").json.workers[1].pid
    assert(uv.kill(before, "sigstop"))
    eventually("another one serves", function()
      local worker = http.get(broker.admin, "/status").json.workers[1]
      return worker.ready and worker.pid ~= before
    end, 60)
    assert.is_truthy(broker:logged { msg = "a worker hangs: it is killed, and another one started" })
    assert.is_true(broker:running())
  end)
end)

describe("the service manager", function()
  local fd
  after_each(function()
    native.close(fd)
  end)

  -- All that was told so far, one line each.
  local function told(list)
    repeat
      local text = native.datagram(fd)
      for line in (text or ""):gmatch "[^\n]+" do
        list[#list + 1] = line
      end
    until not text
    return list
  end
  local function has(list, pattern)
    for i, line in ipairs(told(list)) do
      if line:find(pattern) then
        return i
      end
    end
  end

  for _, case in ipairs { { 1, "a path" }, { 1, "an abstract name" }, { 2, "a path" } } do
    local workers, kind = table.unpack(case)
    it(("is told by %d, at %s, when it serves and when it ends"):format(workers, kind), function()
      local dir = tidegate.directory()
      finally(function() tree.remove(dir) end)
      local name = kind == "a path" and dir .. "/notify" or "@" .. dir .. "/notify"
      local list = {}
      fd = native.datagrams(name)
      local broker = tidegate.start { env = { NOTIFY_SOCKET = name, WATCHDOG_USEC = "200000" },
        config = { workers = workers }, supervised = kind == "a path" }
      eventually("it is told", function() return has(list, "^READY=1$") end)
      assert.is_true(has(list, "^STATUS=.*serv") ~= nil)
      assert.is_nil(has(list, "^STOPPING"))
      local function beats()
        local n = 0
        for _, line in ipairs(told(list)) do
          n = n + (line == "WATCHDOG=1" and 1 or 0)
        end
        return n
      end
      local before, odd = beats(), false
      eventually("the watchdog is fed", function() return beats() >= before + 3 end)
      for round = 1, 3 do
        local told_before, from = #told(list), uv.hrtime() // 1000
        broker:signal "HUP"
        local function since(line)
          for i = told_before + 1, #told(list) do
            if list[i]:find(line) then
              return i
            end
          end
        end
        eventually("the reload is told", function() return since "^RELOADING=1$" end)
        local usec = tonumber(list[since "^MONOTONIC_USEC=%d+$"]:match "%d+$")
        assert.is_true(usec >= from and usec <= uv.hrtime() // 1000, "of the system's clock")
        odd = odd or usec % 1000 ~= 0
        eventually("its end, too", function()
          return (since "^READY=1$" or 0) > since "^RELOADING=1$"
        end, 30)
        local status = list[since "^STATUS=.*serv"]
        assert.equal(round > 1, status:find("the last reload of the policy was refused, see the log", 1, true) ~= nil)
        if round == 1 then -- also when it is refused
          broker:write_file("policy.lua", "return 5")
        end
      end
      assert.is_true(odd, "microseconds")
      if workers > 1 then
        list = {}
        broker:signal "USR2"
        eventually("the restart is told", function() return has(list, "^RELOADING=1$") end)
        assert.is_true(has(list, "^MONOTONIC_USEC=%d+$") ~= nil)
        local at = has(list, "^RELOADING=1$")
        eventually("its end, too", function()
          for i = at, #told(list) do
            if list[i] == "READY=1" then return true end
          end
        end, 30)
      end
      broker:stop()
      assert.is_true(has(list, "^STOPPING=1$") > has(list, "^READY=1$"))
    end)
  end

  it("is not told that a broker serves which cannot", function()
    local name = "@" .. tidegate.directory()
    fd = native.datagrams(name)
    uv.fs_rmdir(name:sub(2))
    for _, workers in ipairs { 1, 2 } do
      local code = tidegate.start_refused { env = { NOTIFY_SOCKET = name }, policy = "return 5",
        config = { workers = workers } }
      assert.is_true(code ~= 0)
      assert.is_nil(has({}, "^READY"))
    end
  end)

  it("that cannot be reached costs a line in the log", function()
    local broker = tidegate.start { env = { NOTIFY_SOCKET = "/nowhere/at/all" } }
    assert.is_truthy(broker:logged { msg = "cannot tell the service manager", socket = "/nowhere/at/all" })
    fd = native.datagrams("@" .. broker.dir)
  end)
end)

describe("the unit", function()
  it("is one that systemd understands", function()
    local analyze = child.find "systemd-analyze"
    if not analyze then
      pending "there is no systemd-analyze"
      return
    end
    local dir = tidegate.directory()
    finally(function() tree.remove(dir) end)
    local text = files.read(SPEC_SOURCE_DIR .. "/conf/tidegate.service.in")
    assert.matches("\nType=notify\n", text)
    assert.matches("\nStartLimitIntervalSec=0\n", text)
    files.write(dir .. "/tidegate.service",
      (text:gsub("@CMAKE_INSTALL_FULL_BINDIR@", (tidegate.binary():gsub("/[^/]*$", "")))))
    files.write(dir .. "/tidegate.socket", files.read(SPEC_SOURCE_DIR .. "/conf/tidegate.socket"))
    local code, out, err = tidegate.run(analyze, { args = { "verify", "--man=no", "--recursive-errors=no",
      dir .. "/tidegate.service", dir .. "/tidegate.socket" } })
    assert.equal("", out .. err)
    assert.equal(0, code)
  end)
end)
