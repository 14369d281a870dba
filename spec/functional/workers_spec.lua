-- Several workers on one address and one store: to clients they are one broker.
local connections = require "support.connections"
local eventually = require "support.eventually"
local http = require "support.http"
local http_server = require "support.http_server"
local sse = require "support.sse"
local steady_load = require "support.steady_load"
local tidegate = require "support.tidegate"
local uv = require "luv"

local WORKERS = 3

local function start(options)
  options = options or {}
  options.config = options.config or {}
  options.config.workers = options.config.workers or WORKERS
  return tidegate.start(options)
end

local function streams(broker)
  return http.get(broker.admin, "/connections").json.connections
end

-- Every publish on a connection of its own: any worker takes it. One that is being killed may cut the connection:
-- the key makes it safe to try again.
local function publish_spread(broker, from, upto)
  local ids = {}
  for i = from, upto do
    local ok, r
    for _ = 1, 5 do
      ok, r = pcall(http.post, broker, ("/events?topic=a&key=n%d"):format(i), tostring(i))
      if ok then
        break
      end
    end
    assert(ok, r)
    assert.is_true(r.status == 201 or r.status == 200, r.status)
    ids[#ids + 1] = r.json.id
  end
  return ids
end

local function pid_of(broker, worker)
  return http.get(broker.admin, "/status").json.workers[worker].pid
end

local function expect_in_order(client, from, upto)
  local last = 0
  for i = from, upto do
    local ev = client:next()
    assert.equal(tostring(i), ev.data)
    assert.is_true(tonumber(ev.id) > last)
    last = tonumber(ev.id)
  end
end

describe("several workers", function()
  it("deliver every event to the clients of all, in order, once", function()
    local broker = start()
    local by_worker = connections.on_each(broker, WORKERS)
    publish_spread(broker, 1, 100)
    for worker = 1, WORKERS do
      expect_in_order(by_worker[worker], 1, 100)
    end
    local workers = http.get(broker.admin, "/status").json.workers
    assert.equal(WORKERS, #workers)
    local published = 0
    for i = 1, WORKERS do
      local n = broker:metric(('tidegate_worker_events_published_total{worker="%d"}'):format(i))
      assert.is_true(n > 0, "worker " .. i .. " took no publish")
      published = published + n
    end
    assert.equal(100, published)
    assert.equal(100, broker:metric "tidegate_events_published_total")
    assert.equal(100, broker:metric "tidegate_events_tailed_total")
  end)

  it("remember a key together", function()
    local broker = start()
    local first, seen = broker:publish("a", "once", { key = "k" }), {}
    for _ = 1, 30 do
      local id, r = broker:publish("a", "again", { key = "k" })
      assert.equal(first, id)
      assert.equal(200, r.status)
    end
    for i = 1, WORKERS do
      seen[i] = broker:metric(('tidegate_worker_publish_duplicates_total{worker="%d"}'):format(i))
    end
    assert.equal(30, seen[1] + seen[2] + seen[3])
    assert.equal(1, broker:metric "tidegate_events_published_total")
  end)

  it("resume a client of another one, even when the event has just been committed", function()
    local broker = start()
    for i = 1, 60 do
      local id = broker:publish("a", "x" .. i) -- acknowledged by one worker
      local c = sse.open(broker, { topic = "a", last_event_id = id }) -- any worker, at once
      broker:publish("a", "next")
      local ev = c:next()
      assert.equal("next", ev.data, ev.type)
      c:close()
    end
    assert.equal(0, broker:metric "tidegate_gaps_total")
  end)

  it("tell a client whose id is of no store that history is missing", function()
    local broker = start()
    local c = sse.open(broker, { topic = "a", last_event_id = "9007199254740991" })
    assert.equal("gap", c:next().type)
  end)

  it("lose only the clients of the one that is killed, and start it anew", function()
    local broker = start()
    local by_worker, all = connections.on_each(broker, WORKERS)
    publish_spread(broker, 1, 5)
    for _, c in ipairs(all) do
      expect_in_order(c, 1, 5)
    end
    assert.equal(5, broker:metric "tidegate_events_published_total") -- now known of the one that dies
    local old = pid_of(broker, 2)
    uv.kill(old, "sigkill")
    by_worker[2]:wait_end()
    eventually("the supervisor has noticed", function() return broker:logged { msg = "worker ended" } end)
    publish_spread(broker, 6, 20)
    for _, c in ipairs(all) do
      if c.worker == 2 then
        local again = sse.open(broker, { topic = "a", last_event_id = c.last_id })
        expect_in_order(again, 6, 20)
      else
        expect_in_order(c, 6, 20)
      end
    end
    eventually("it is back", function()
      local pid = pid_of(broker, 2)
      return pid ~= 0 and pid ~= old and http.get(broker.admin, "/readyz").status == 200
    end)
    assert.equal(1, broker:metric 'tidegate_worker_restarts_total{worker="2"}')
    publish_spread(broker, 21, 30)
    expect_in_order(by_worker[1], 21, 30)
    assert.equal(30, broker:metric "tidegate_events_published_total")
    assert.equal(0, broker:metric "tidegate_gaps_total")
  end)

  it("that are killed again and again under load lose nothing", function()
    local broker = start { config = { drain = { retry_ms = 100 } } }
    local load = steady_load.new(broker, { publishers = 6, subscribers = 12 })
    for round = 1, 6 do
      local n = load:published()
      load:run_until("it is under way", function() return load:published() > n + 50 end)
      local worker = round % WORKERS + 1
      local old
      load:run_until("the worker is there", function()
        old = pid_of(broker, worker)
        return old ~= 0
      end)
      uv.kill(old, "sigkill")
      load:run_until("it is back", function()
        local pid = pid_of(broker, worker)
        return pid ~= 0 and pid ~= old and http.get(broker.admin, "/readyz").status == 200
      end, 30)
    end
    local figures = load:finish()
    assert.is_true(#figures.ends >= 6)
    assert.equal(0, broker:metric "tidegate_gaps_total")
  end)

  it("take the clients of one that crashes again and again", function()
    local broker = start()
    local old
    for _ = 1, 4 do
      eventually("worker 2 is there", function()
        local pid = pid_of(broker, 2)
        local there = pid ~= 0 and pid ~= old
        old = there and pid or old
        return there
      end, 20)
      uv.kill(old, "sigkill")
    end
    eventually("the supervisor knows", function()
      local ends = 0
      for _, line in ipairs(broker:log_lines()) do
        ends = ends + (line.msg == "worker ended" and 1 or 0)
      end
      return ends == 4
    end)
    for i = 1, 30 do -- none of them waits for the one that is not there
      local c = sse.open(broker, { topic = "a", timeout = 5 })
      broker:publish("a", "n" .. i)
      c:collect_until("n" .. i) -- its worker may not have heard of the one before when it came
      c:close()
    end
    eventually("it is back", function() return http.get(broker.admin, "/readyz").status == 200 end, 20)
  end)

  it("load the policy anew together", function()
    local broker = start()
    broker:write_file("policy.lua", (tidegate.OPEN_POLICY:gsub('or { "%*%*" }', 'or { "new" }')))
    broker:signal "HUP"
    for worker = 1, WORKERS do
      eventually("worker " .. worker .. " has it", function()
        return broker:logged { msg = "reloaded", worker = tostring(worker) }
      end)
    end
    local clients = {}
    for i = 1, 12 do
      clients[i] = sse.open(broker, {})
    end
    broker:publish("old", "x")
    broker:publish("new", "y")
    for _, c in ipairs(clients) do
      assert.equal("y", c:next().data)
    end
  end)

  it("take orders about the policy together: all of them, or none", function()
    local broker = start()
    local function order(path)
      return http.post(broker.admin, path, "", {})
    end
    local function versions()
      local set = {}
      for _, w in ipairs(http.get(broker.admin, "/status").json.workers) do
        set[w.policy.version] = true
      end
      return set
    end
    local before = versions()
    broker:write_file("policy.lua", "return {")
    local r = order "/policy/reload"
    assert.equal(422, r.status)
    assert.same({ WORKERS, "refused" }, { #r.json.workers, r.json.workers[1].result })
    broker:write_file("policy.lua", tidegate.OPEN_POLICY .. "-- another one")
    assert.equal("would-reload", order("/policy/reload?dry_run=1").json.workers[WORKERS].result)
    assert.same(before, versions())
    r = order "/policy/reload"
    assert.equal(200, r.status, r.body)
    for worker = 1, WORKERS do
      assert.same({ worker, "reloaded" }, { r.json.workers[worker].worker, r.json.workers[worker].result })
    end
    local after = versions()
    assert.equal(nil, next(after, next(after))) -- one for all
    assert.equal(200, order("/policy/rollback").status)
    assert.same(before, versions())
    assert.equal(200, order("/policy/resubscribe").status)
    local c = sse.open(broker, {})
    local id = streams(broker)[1].id
    assert.equal(202, order("/connections/" .. id .. "/resubscribe").status)
    assert.equal(404, order("/connections/9-1/resubscribe").status)
    assert.equal(404, order("/connections/" .. id .. "/other").status)
    c:close()
  end)

  it("answer orders also while one of them does not run, and say which", function()
    local broker = start()
    local by_worker = connections.on_each(broker, WORKERS)
    local ids = {}
    for _, found in ipairs(streams(broker)) do
      ids[found.worker] = found.id
    end
    broker:write_file("policy.lua", "return nonsense(")
    local old = pid_of(broker, 2)
    uv.kill(old, "sigkill")
    by_worker[2]:wait_end()
    local function order(method, path)
      eventually("worker 2 waits to be started", function() return pid_of(broker, 2) == 0 end)
      local r = http.request(broker.admin, method, path)
      assert.equal(503, r.status, path .. ": " .. r.body)
      return r.json
    end
    for _, what in ipairs { { "DELETE", ids[2] }, { "POST", ids[2] .. "/resubscribe" } } do
      assert.matches("Worker 2 does not", order(what[1], "/connections/" .. what[2]).detail, 1, true)
    end
    for _, path in ipairs { "/policy/resubscribe", "/policy/reload" } do
      local r = order("POST", path)
      assert.equal(path == "/policy/reload" and "nothing-done" or "mixed", r.result)
      assert.same({ 2, "string", WORKERS }, { r.workers[2].worker, type(r.workers[2].error), #r.workers })
    end
    broker:write_file("policy.lua", tidegate.OPEN_POLICY)
    eventually("it is back", function() return http.get(broker.admin, "/readyz").status == 200 end, 20)
    local r = http.request(broker.admin, "POST", "/connections/" .. ids[1] .. "/resubscribe")
    assert.equal(202, r.status, r.body .. "\n" .. broker:tail(40))
  end)

  it("wait for a policy that takes long to load, and say who has it where not all do", function()
    local calls = 0
    local server = http_server.start(function(_, client)
      calls = calls + 1
      local n = calls
      local late = uv.new_timer()
      late:start(n == 1 and 3300 or 0, 0, function() -- longer than other orders may take
        late:close()
        http_server.answer(client, { status = n == 4 and 500 or 200 })
      end)
    end)
    finally(function() server:stop() end)
    local broker = start { config = { workers = 2,
      http_targets = { app = { url = server.url, timeout_ms = 10000 } } } }
    local function reload()
      local c = http.connect(broker.admin)
      c:send(http.render("POST", "/policy/reload", { ["Content-Length"] = "0" }))
      eventually("it is answered", function() -- the server lives in this process
        return require("socket").select({ c.socket }, nil, 0)[1]
      end, 30)
      return c:response()
    end
    broker:write_file("policy.lua", (tidegate.OPEN_POLICY:gsub("api = 1,", [[api = 1,
      setup = function() if assert(http.get("app")).status ~= 200 then error "the app is down" end end,]])))
    local r = reload()
    assert.same({ 500, "mixed" }, { r.status, r.json.result }, r.body)
    assert.is_true(calls >= 4) -- each worker tries the policy, and loads afresh what takes over
    local results = { r.json.workers[1].result, r.json.workers[2].result }
    table.sort(results)
    assert.same({ "refused", "reloaded" }, results)
    assert.matches("the app is down", r.body, 1, true)
    r = reload()
    results = { r.json.workers[1].result, r.json.workers[2].result }
    table.sort(results)
    assert.same({ 200, "reloaded", "unchanged" }, { r.status, table.unpack(results) }, r.body)
  end)

  it("are not ready while one does not answer", function()
    local broker = start()
    local pid = pid_of(broker, 1)
    uv.kill(pid, "sigstop")
    local r = http.get(broker.admin, "/readyz")
    uv.kill(pid, "sigcont")
    assert.equal(503, r.status)
    assert.matches("worker 1: does not answer", r.body, 1, true)
  end)

  it("end a connection by its id, whoever has it", function()
    local broker = start()
    local by_worker, all = connections.on_each(broker, WORKERS)
    for _, found in ipairs(streams(broker)) do
      assert.matches("^" .. found.worker .. "%-%d+$", found.id)
      assert.equal(204, http.request(broker.admin, "DELETE", "/connections/" .. found.id).status)
      assert.equal(404, http.request(broker.admin, "DELETE", "/connections/" .. found.id).status)
    end
    assert.equal("closed", by_worker[1]:wait_end())
    for _, c in ipairs(all) do -- also keeps those that nobody asks about from being collected before
      c:wait_end()
    end
    for _, bad in ipairs { "1", "0-1", "9-1", "1-", "-1", "1-x" } do
      assert.equal(404, http.request(broker.admin, "DELETE", "/connections/" .. bad).status)
    end
  end)

  it("drain together, by a request or a signal", function()
    local broker = start()
    local by_worker = connections.on_each(broker, WORKERS)
    assert.equal(202, http.post(broker.admin, "/drain", "").status)
    for worker = 1, WORKERS do
      assert.equal("closed", by_worker[worker]:wait_end())
      assert.is_true(by_worker[worker].retry_ms > 0)
    end
    assert.equal(0, (broker:wait_exit()))
    broker:start()
    local again = connections.on_each(broker, WORKERS)
    broker:signal "TERM"
    again[1]:wait_end()
    assert.equal(0, (broker:wait_exit()))
  end)

  it("stop at once at the second signal", function()
    local broker = start { config = { drain = { timeout_s = 60 } } }
    local held = {}
    for i = 1, 12 do
      held[i] = http.connect(broker)
      held[i]:send(http.render("POST", "/events?topic=a", { ["Content-Length"] = "5" }) .. "he")
    end
    eventually("they are held", function() return broker:metric "tidegate_connections" >= 12 end)
    broker:signal "TERM"
    eventually("they drain", function() return broker:logged { msg = "draining", sub = "server" } end)
    assert.is_true(broker:running())
    broker:signal "TERM"
    assert.equal(0, (broker:wait_exit(5)))
  end)

  it("say in their log lines which one they are", function()
    local broker = start()
    for i = 1, WORKERS do
      assert.is_truthy(broker:logged { msg = "ready", worker = tostring(i) })
    end
  end)

  it("share a Unix socket, and leave none behind", function()
    local broker = start { config = { listen = { "unix:@DIR/public", "127.0.0.1:0" } } }
    local path = broker.addresses[1].unix
    local c = sse.open(broker.addresses[1], { topic = "a" })
    assert.equal(201, http.post(broker.addresses[2], "/events?topic=a", "x").status)
    assert.equal("x", c:next().data)
    broker:stop()
    assert.is_nil(uv.fs_stat(path))
  end)

  it("are as many as the option says", function()
    local broker = tidegate.start { supervised = true, args = { "--workers", "2" } }
    assert.equal(2, #http.get(broker.admin, "/status").json.workers)
  end)
end)

describe("a supervisor", function()
  it("begins where $TMPDIR cannot be written, or is too long for a socket", function()
    for _, tmp in ipairs { "/proc", "/" .. ("x"):rep(100) } do
      local broker = tidegate.start { supervised = true, env = { TMPDIR = tmp } }
      assert.equal(200, http.get(broker.admin, "/readyz").status)
      broker:dispose()
    end
  end)

  it("says that its address is in use, by one broker or by several", function()
    for _, workers in ipairs { 1, 2 } do
      local first = tidegate.start { config = { workers = workers } }
      local taken = ("127.0.0.1:%d"):format(first.port)
      for _, others in ipairs { 1, 2 } do
        local code, log = tidegate.start_refused { config = { workers = others, listen = { taken } } }
        assert.equal(69, code)
        assert.matches(taken, log, 1, true)
        assert.matches("in use", log)
      end
      first:stop()
    end
  end)

  it("takes an address again at once after its end", function()
    local broker = start()
    sse.open(broker, { topic = "a" })
    local port = broker.port
    broker:stop()
    local again = start { config = { listen = { ("127.0.0.1:%d"):format(port) } } }
    again:stop()
    local alone = tidegate.start { config = { listen = { ("127.0.0.1:%d"):format(port) } } }
    assert.equal(port, alone.port)
  end)

  it("ends with the code of a worker that cannot start", function()
    local code, log = tidegate.start_refused { config = { workers = 2 }, policy = "return nonsense(" }
    assert.equal(78, code)
    assert.matches("policy.lua", log, 1, true)
  end)

  for _, case in ipairs { { true, "a supervisor" }, { false, "--single" } } do
    local supervised, kind = table.unpack(case)
    it(("says why in its last line, with %s"):format(kind), function()
      local code, log = tidegate.start_refused { supervised = supervised, policy = "return nonsense(" }
      assert.equal(78, code)
      assert.matches("code=78.*policy.lua", log:match "([^\n]+)\n*$")
    end)
  end

  it("takes its workers with it when it is killed", function()
    local broker = start()
    local c = sse.open(broker, { topic = "a" })
    broker:kill()
    assert.equal("closed", c:wait_end())
    local again = broker:start()
    assert.equal(WORKERS, #http.get(again.admin, "/status").json.workers)
  end)
end)
