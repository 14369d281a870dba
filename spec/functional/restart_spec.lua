-- The rolling restart: workers are replaced one by one, nothing is lost.
local eventually = require "support.eventually"
local http = require "support.http"
local http_server = require "support.http_server"
local sse = require "support.sse"
local steady_load = require "support.steady_load"
local tidegate = require "support.tidegate"
local uv = require "luv"

local function start(options)
  options = options or {}
  options.config = options.config or {}
  options.config.workers = options.config.workers or 2
  options.config.drain = options.config.drain or { retry_ms = 100, timeout_s = 10 }
  return tidegate.start(options)
end

local function status(broker)
  return http.get(broker.admin, "/status").json
end

local function pids(broker)
  local list = {}
  for i, w in ipairs(status(broker).workers) do
    list[i] = w.pid
  end
  return list
end

local function wait_restart(broker, count, state)
  local last
  eventually("restart " .. count .. " has ended", function()
    local ok, s = pcall(status, broker) -- the admin process is another one in between
    last = ok and s.restart
    return last and last.count == count and last.state ~= "running"
  end, 60)
  assert.equal(state, last.state, last.error)
  return last.error
end

describe("a rolling restart", function()
  it("replaces the program of every process, keeps the address and the process id of the supervisor", function()
    local broker = start()
    local before, supervisor = pids(broker), broker.pid
    assert.same({ state = "none", count = 0 }, status(broker).restart)
    broker:signal "USR2"
    wait_restart(broker, 1, "done")
    local after = pids(broker)
    assert.equal(supervisor, status(broker).pid)
    for i = 1, 2 do
      assert.is_true(after[i] ~= 0 and after[i] ~= before[i], "worker " .. i)
      assert.is_nil(uv.kill(before[i], 0))
    end
    assert.is_truthy(broker:logged { msg = "took over" })
    assert.equal(200, http.get(broker.admin, "/readyz").status)
    local c = sse.open(broker, { topic = "a" })
    broker:publish("a", "x")
    assert.equal("x", c:next().data)
    broker:signal "USR2" -- and again
    wait_restart(broker, 2, "done")
    assert.equal("closed", c:wait_end())
  end)

  it("replaces the only worker: nobody is refused, nothing is lost", function()
    local broker = start { config = { workers = 1 }, supervised = true }
    local before = pids(broker)
    assert.equal(1, #before)
    assert.not_equal(broker.pid, before[1])
    assert.equal(broker.pid, status(broker).pid)
    local c = sse.open(broker, { topic = "a" })
    broker:publish("a", "1")
    assert.equal("1", c:next().data)
    broker:signal "USR2"
    wait_restart(broker, 1, "done")
    assert.equal("closed", c:wait_end())
    local after = pids(broker)
    assert.is_true(after[1] ~= 0 and after[1] ~= before[1])
    broker:publish("a", "2")
    assert.equal("2", sse.open(broker, { topic = "a", last_event_id = c.last_id }):next().data)
  end)

  it("does not wait for an order to the workers that takes long", function()
    local asked
    local server = http_server.start(function() asked = true end) -- never answers
    finally(function() server:stop() end)
    local broker = start { config = { http_targets = { app = { url = server.url, timeout_ms = 60000 } } } }
    broker:write_file("policy.lua", (tidegate.OPEN_POLICY:gsub("api = 1,",
      'api = 1, setup = function() assert(http.get("app")) end,')))
    local order = http.connect(broker.admin)
    order:send(http.render("POST", "/policy/reload", { ["Content-Length"] = "0" }))
    eventually("the policy waits in its setup", function() return asked end)
    broker:write_file("policy.lua", tidegate.OPEN_POLICY)
    local from = eventually.now()
    broker:signal "USR2"
    wait_restart(broker, 1, "done")
    assert.is_true(eventually.now() - from < 30 * eventually.factor)
    order:close()
  end)

  it("is asked for through the admin listener, one at a time", function()
    local broker = start()
    assert.equal(202, http.post(broker.admin, "/restart", "").status)
    wait_restart(broker, 1, "done")
    assert.equal(405, http.get(broker.admin, "/restart").status)
    local alone = tidegate.start()
    local r = http.post(alone.admin, "/restart", "")
    assert.equal(409, r.status)
    alone:signal "USR2"
    eventually("it says that it cannot", function() return alone:logged { level = "warn", signal = "SIGUSR2" } end)
    assert.equal(200, http.get(alone.admin, "/readyz").status)
    assert.matches("--single", r.json.detail, 1, true)
  end)

  it("is ordered by `tidegate restart`, which waits and tells how it went", function()
    local broker = start()
    local before = pids(broker)
    local admin = ("%s:%d"):format(broker.admin.host, broker.admin.port)
    local function order(...)
      return tidegate.run(tidegate.binary(), { args = { "restart", "--admin", admin, ... }, timeout = 60 })
    end
    local code, out, err = order(broker.conf_path)
    assert.same({ 0, "ok: 2 workers replaced\n", "" }, { code, out, err })
    local after = pids(broker)
    assert.is_true(after[1] ~= before[1] and after[2] ~= before[2])
    broker:write_file("policy.lua", "return nonsense(")
    code, out, err = order("--conf", broker.conf_path)
    assert.same({ 69, "" }, { code, out })
    assert.matches("the old workers continue:\n.*policy.lua", err)
    broker:write_file("tidegate.lua", "return { listne = 1 }")
    code, out, err = order("--conf", broker.conf_path)
    assert.same({ 78, "" }, { code, out })
    assert.matches("listne", err, 1, true)
    broker:write_conf()
    broker:stop()
    code, out, err = order("--conf", broker.conf_path)
    assert.same({ 69, "" }, { code, out })
    assert.matches("is it running?", err, 1, true)
  end)

  it("serves the newly read configuration and policy", function()
    local broker = start()
    local c = sse.open(broker, { topic = "a" })
    assert.is_true(c.retry_ms < 10000)
    broker.config.sse = { retry_ms = 50000 }
    broker.config.workers = 3
    broker.config.listen[2] = "127.0.0.1:0"
    broker:write_conf()
    broker:write_file("policy.lua", (tidegate.OPEN_POLICY:gsub('or { "%*%*" }', 'or { "new" }')))
    broker:signal "USR2"
    wait_restart(broker, 1, "done")
    assert.equal(3, #pids(broker))
    broker:read_addresses()
    for _, address in ipairs(broker.addresses) do
      local again = sse.open(address, {})
      assert.is_true(again.retry_ms > 10000)
      broker:publish("old", "x")
      broker:publish("new", "y")
      assert.equal("y", again:next().data)
    end
    broker.config.workers = 1
    broker:write_conf()
    broker:signal "USR2"
    wait_restart(broker, 2, "done")
    assert.equal(1, #pids(broker))
    assert.equal(201, http.post(broker, "/events?topic=new", "z").status)
  end)

  it("runs the program that is on disk by then", function()
    local dir = tidegate.directory()
    local program, marker = dir .. "/tidegate", dir .. "/new"
    local function install(text)
      local f = assert(io.open(program .. ".tmp", "w"))
      f:write(text)
      f:close()
      assert(uv.fs_chmod(program .. ".tmp", 493))
      assert(os.rename(program .. ".tmp", program))
    end
    local real = ('exec %q "$@"\n'):format(tidegate.binary())
    -- $0 stays, so that the supervisor calls what is there and not what runs
    install("#!/bin/bash\nexec -a \"$0\" " .. real:sub(6))
    local broker = start { program = program }
    install(("#!/bin/bash\necho \"$1\" >> %q\nexec -a \"$0\" "):format(marker) .. real:sub(6))
    broker:signal "USR2"
    wait_restart(broker, 1, "done")
    local f = assert(io.open(marker))
    assert.equal("check\nserve\n", f:read "a")
    f:close()
    os.remove(program)
    local before = pids(broker)
    broker:signal "USR2"
    assert.matches("No such file", wait_restart(broker, 2, "failed"))
    assert.same(before, pids(broker))
    os.remove(marker)
    os.remove(dir)
  end)

  it("that cannot be leaves everything as it was, and says why", function()
    local broker = start()
    local c = sse.open(broker, { topic = "a" })
    local before = pids(broker)
    local conf = broker:read_file "tidegate.lua"
    broker:write_file("tidegate.lua", 'return { listne = { "127.0.0.1:0" } }')
    broker:signal "USR2"
    local why = wait_restart(broker, 1, "failed")
    assert.matches("listne", why, 1, true)
    assert.is_truthy(broker:logged { msg = "restart failed, the old workers continue" })
    broker:write_file("tidegate.lua", conf)
    broker:write_file("policy.lua", "return nonsense(")
    broker:signal "USR2"
    assert.matches("policy.lua", wait_restart(broker, 2, "failed"), 1, true)
    assert.same(before, pids(broker))
    broker:publish("a", "still here")
    assert.equal("still here", c:next().data)
    -- what no check can know: the first of the new workers does not come up
    broker:write_file("policy.lua", tidegate.OPEN_POLICY)
    assert(uv.fs_mkdir(broker.dir .. "/broken", 448))
    broker:write_file("broken/events.db", "SQLite format 3\0" .. ("\0"):rep(84)) -- looks like one from outside
    broker.config.store = { path = "broken" }
    broker:write_conf()
    broker:signal "USR2"
    assert.matches("worker 1", wait_restart(broker, 3, "failed"), 1, true)
    assert.same(before, pids(broker))
    broker:publish("a", "and still")
    assert.equal("and still", c:next().data)
    -- and one that gives up late
    broker.config.store = { path = "store" }
    broker:write_conf()
    broker:write_file("policy.lua", (tidegate.OPEN_POLICY:gsub("api = 1,",
      'api = 1, setup = function() sleep(0.5) error "cannot" end,')))
    broker:signal "USR2"
    assert.matches("worker 1: policy.lua:2: cannot", wait_restart(broker, 4, "failed"), 1, true)
    assert.same(before, pids(broker))
    broker:publish("a", "not disturbed")
    assert.equal("not disturbed", c:next().data)
    broker:write_file("policy.lua", tidegate.OPEN_POLICY)
    -- an address that is taken
    local other = tidegate.start()
    broker.config.listen[2] = ("127.0.0.1:%d"):format(other.port)
    broker:write_conf()
    broker:signal "USR2"
    assert.matches("in use", wait_restart(broker, 5, "failed"), 1, true)
    broker:publish("a", "once more")
    assert.equal("once more", c:next().data)
  end)

  it("that fails leaves as many workers as there were, and starts those that had crashed", function()
    local broker = start()
    local good = broker:read_file "policy.lua"
    local function break_policy()
      broker:write_file("policy.lua", (good:gsub("api = 1,", 'api = 1, setup = function() error "cannot" end,')))
    end
    break_policy()
    uv.kill(pids(broker)[2], "sigkill")
    local function ends()
      local n = 0
      for _, line in ipairs(broker:log_lines()) do
        n = n + (line.msg == "worker ended" and line.number == "2" and 1 or 0)
      end
      return n
    end
    eventually("worker 2 is to be started again in a second or two", function() return ends() >= 5 end, 30)
    broker.config.workers = 3
    broker:write_conf()
    broker:signal "USR2"
    assert.matches("worker 1", wait_restart(broker, 1, "failed"), 1, true)
    broker:write_file("policy.lua", good)
    local function all_well()
      eventually("both serve", function()
        local ok, s = pcall(status, broker)
        return ok and #s.workers == 2 and s.workers[2].pid ~= 0 and http.get(broker.admin, "/readyz").status == 200
      end, 30)
    end
    all_well()
    for i = 1, 20 do -- nobody waits for a third one
      sse.open(broker, { topic = "a", timeout = 5 })
      broker:publish("a", "n" .. i)
    end
    break_policy()
    broker.config.workers = 1
    broker:write_conf()
    broker:signal "USR2"
    assert.matches("worker 1", wait_restart(broker, 2, "failed"), 1, true)
    broker:write_file("policy.lua", good)
    all_well()
    uv.kill(pids(broker)[2], "sigkill")
    all_well()
  end)

  it("takes the admin listener away and brings it back", function()
    local broker = start()
    local c = sse.open(broker, { topic = "a" })
    broker.config.admin = { raw = "false" }
    broker:write_conf()
    broker:signal "USR2"
    eventually("it is done", function() return broker:logged { msg = "restarted" } end, 60)
    assert.equal("closed", c:wait_end())
    assert.is_nil((http.connect(broker.admin)))
    c = sse.open(broker, { topic = "a" })
    broker:publish("a", "x")
    assert.equal("x", c:next().data)
    broker.config.admin = "127.0.0.1:0"
    broker:write_conf()
    broker:signal "USR2"
    eventually("the second is done", function()
      local n = 0
      for _, line in ipairs(broker:log_lines()) do
        n = n + (line.msg == "restarted" and 1 or 0)
      end
      return n == 2
    end, 60)
    broker:read_addresses()
    eventually("it answers again", function()
      local ok, r = pcall(http.get, broker.admin, "/readyz")
      return ok and r.status == 200
    end)
    assert.is_nil(broker:logged { msg = "admin process ended" })
    assert.is_nil(broker:logged { msg = "the admin process cannot start" })
  end)

  it("loses nothing, doubles nothing and refuses nobody while publishers and subscribers go on", function()
    local broker = start { config = { workers = 3 } }
    local load = steady_load.new(broker, { publishers = 6, subscribers = 18 })
    load:run_until("it is under way", function() return load:published() > 100 end)
    for round = 1, 2 do
      broker:signal "USR2"
      local last
      load:run_until("restart " .. round .. " has ended", function()
        local ok, s = pcall(status, broker)
        last = ok and s.restart
        return last and last.count == round and last.state ~= "running"
      end, 60)
      assert.equal("done", last.state, last.error)
      local n = load:published()
      load:run_until("it goes on", function() return load:published() > n + 50 end)
    end
    local figures = load:finish()
    assert.is_true(#figures.ends >= 36, "everybody was told to come back, twice")
    for _, retry_ms in ipairs(figures.ends) do
      assert.is_true(retry_ms and retry_ms <= 150, "without being told when") -- retry_ms of drain, with jitter
    end
    for _, why in ipairs(figures.repeated) do
      -- a request on its way on a connection that is about to end may have to be repeated; nobody fails to connect
      assert.not_matches("cannot connect", why)
      assert.not_matches("status 4", why)
    end
  end)
end)
