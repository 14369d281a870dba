-- How hooks wait. wait(name) is a function of the specs' own, completed from here: b:complete(n, text)
-- completes its n-th call, as often and as late as a spec likes.
local coro = require "native.coro"
local eventually = require "support.eventually"
local logfmt = require "support.logfmt"
local policies = require "support.policies"

local request = policies.request

local WAITS = [[
  local P = { api = 1 }
  function P.authenticate(req)
    if req.query.skip then return { sub = "u" } end
    local name, err = wait("authenticate")
    if not name then return nil, err end
    return { sub = name, id = req.id }
  end
  function P.subscribe(req, who)
    local topic, err = wait("subscribe")
    if not topic then return nil, err end
    return { topics = { topic, "of/" .. who.sub, "id/" .. req.id } }
  end
  function P.publish(pub, who)
    pub.raw = pub.raw .. "+" .. wait(pub.raw)
    return pub
  end
  function P.disconnect(who, info)
    wait("disconnect")
    log.info(("%s left: %s after %s"):format(who.sub, info.reason, info.seconds))
  end
  return P
]]

describe("a hook that waits", function()
  local b

  -- A policy of that text, in a bench of its own or as a further generation in this one.
  local function open(text, options)
    options = options or {}
    if not options.generation then
      if b then b:close() end
      b = coro.new(options)
    end
    local dir = policies.directory { ["p.lua"] = text }
    assert(b:open {
      file = dir .. "/p.lua", timeout_ms = options.timeout_ms, memory_bytes = options.memory_bytes,
      generation = options.generation,
    })
    policies.remove(dir)
    return b
  end

  local function with(subscribe, options)
    return open("local P = { api = 1 } function P.authenticate() return { sub = 'u' } end "
      .. "function P.subscribe(req, who) " .. subscribe .. " end return P", options)
  end

  local function turn(n)
    local answers = b:turn()
    assert.equal(n, #answers)
    return answers[1], answers
  end

  after_each(function()
    if b then b:close() end
    b = nil
  end)

  it("goes on where it stopped, with what was borrowed copied", function()
    open(WAITS)
    b:subscribe(7, request { id = 99 })
    turn(0)
    assert.equal("authenticate", b:waits()[1].name)
    assert.equal(1, b:metrics().policy_suspended)
    assert.is_true(b:complete(1, "ann"))
    turn(0)
    assert.equal("subscribe", b:waits()[2].name)
    assert.is_true(b:complete(2, "news"))
    local v = turn(1)
    assert.equal(7, v.token)
    assert.equal("allow", v.kind)
    assert.equal('{"id":"99","sub":"ann"}', v.identity)
    assert.same({ "id/99", "news", "of/ann" }, v.subscription.topics)
    assert.equal(0, b:metrics().policy_suspended)
    turn(0)
  end)

  it("never answers from inside the question, whether it waits or not", function()
    open(WAITS)
    b:subscribe(1, request { query = { skip = "1" } })
    b:complete(1, "a") -- answers are only taken up during a turn
    assert.equal("allow", turn(1).kind)
  end)

  it("may change its mind and not wait", function()
    with "return { topics = { wait('x', 'at/once') } }"
    b:subscribe(1, request())
    assert.same({ "at/once" }, turn(1).subscription.topics)
    assert.is_false(b:complete(1, "late"))
    assert.equal(1, b:metrics().policy_stale)
    assert.equal(0, b:metrics().policy_suspended)
  end)

  it("takes nil and why, and raises what the completion raises, in its own line", function()
    with "local x, err = wait('x') return nil, tostring(x) .. ' ' .. err"
    b:subscribe(1, request())
    b:complete(1, nil)
    local v = turn(1)
    assert.equal("transient", v.kind)
    assert.equal("nil failed", v.reason)
    with "local ok, err = pcall(wait, 'x') return nil, err"
    b:subscribe(1, request())
    b:complete(1, "cannot convert", true)
    assert.equal("cannot convert", turn(1).reason)
    with "return { topics = { wait('x') } }"
    b:subscribe(1, request { id = 31 })
    local line = policies.first_line(policies.capture(function() b:complete(1, "cannot convert", true) end))
    assert.equal("subscribe", line.hook)
    assert.equal("p.lua:1", line.at)
    assert.equal("31", line.request)
    assert.equal("p.lua:1: cannot convert", line.error)
    assert.equal("transient", turn(1).kind)
    assert.equal(1, b:metrics().policy_errors_subscribe)
  end)

  it("waits through pcall, loops, metamethods and called functions", function()
    with [[
      local got = {}
      local index = setmetatable({}, { __index = function(_, k) return wait(k) end })
      local function each() return function(_, i) if i < 2 then return i + 1, wait("for") end end, nil, 0 end
      local ok, inner = pcall(function() return select(2, pcall(function() return wait("pcall") end)) end)
      got[1] = tostring(ok) .. inner
      got[2] = index.index
      for _, v in each() do got[#got + 1] = v end
      do local c <close> = setmetatable({}, { __close = function() got[#got + 1] = wait("close") end }) end
      return { topics = got }
    ]]
    b:subscribe(1, request())
    for i = 1, 5 do assert.is_true(b:complete(i, "v" .. i)) end
    assert.same({ "truev1", "v2", "v3", "v4", "v5" }, turn(1).subscription.topics)
  end)

  it("cannot wait inside functions of C that call back, and the error says what to do", function()
    with [[
      local ok, err
      if req.query.how == "sort" then
        ok, err = pcall(table.sort, { 3, 1, 2 }, function() wait("x") end)
      elseif req.query.how == "gsub" then
        ok, err = pcall(string.gsub, "abc", "%w", function() return wait("x") end)
      else
        ok, err = pcall(tostring, setmetatable({}, { __tostring = function() return wait("x") end }))
      end
      return nil, err
    ]]
    for _, how in ipairs { "sort", "gsub", "tostring" } do
      b:subscribe(1, request { query = { how = how } })
      local v = turn(1)
      assert.matches("^p.lua:%d+: wait inside table.sort, string.gsub or another function that calls back", v.reason)
      assert.matches("collect first", v.reason)
    end
    assert.same({}, b:waits())
  end)

  it("is not possible while the policy is loaded", function()
    b = coro.new {}
    local dir = policies.directory { ["p.lua"] = "local x = wait('x') return {}" }
    local ok, err = b:open { file = dir .. "/p.lua" }
    policies.remove(dir)
    assert.is_nil(ok)
    assert.matches("p.lua:1: wait is not available while the policy is being loaded", err)
  end)

  it("drops completions that come twice, too late, or for another wait of the same hook", function()
    with "local a = wait('a') local b = wait('b') return { topics = { a, b } }"
    b:subscribe(1, request())
    assert.is_true(b:complete(1, "first"))
    assert.is_false(b:complete(1, "again"))
    assert.is_true(b:complete(2, "second"))
    assert.is_false(b:complete(1, "again"))
    assert.is_false(b:complete(2, "again"))
    assert.same({ "first", "second" }, turn(1).subscription.topics)
    b:subscribe(2, request()) -- the same coroutine, another ticket
    assert.is_false(b:complete(2, "stale"))
    assert.is_true(b:complete(3, "x"))
    assert.is_true(b:complete(4, "y"))
    assert.same({ "x", "y" }, turn(1).subscription.topics)
    assert.equal(4, b:metrics().policy_stale)
  end)

  it("ends when its client is gone: no answer, its place free, to-be-closed variables closed", function()
    with "local c <close> = setmetatable({}, { __close = function() log.info('closed') end }) wait('x') return {}"
    b:subscribe(1, request())
    b:subscribe(2, request())
    assert.equal(2, b:metrics().policy_suspended)
    local log = policies.capture(function() b:cancel(1) end)
    assert.matches("closed", log)
    assert.equal(1, b:metrics().policy_suspended)
    assert.is_true(b:waits()[1].abandoned)
    assert.is_false(b:waits()[2].abandoned)
    assert.is_false(b:complete(1, "late"))
    b:cancel(1)
    b:cancel(12345)
    turn(0)
    b:cancel(2)
    turn(0)
    assert.equal(0, b:metrics().policy_suspended)
    assert.equal(2, b:metrics().policy_cancelled)
  end)

  it("cannot wait in what runs while it is given up, and a failing __close is only logged", function()
    with [[
      local c <close> = setmetatable({}, { __close = function() wait("close") end })
      wait("x")
      return {}
    ]]
    b:subscribe(1, request())
    local log = policies.capture(function() b:cancel(1) end)
    assert.matches("wait is not available here: the hook is being given up", log, 1, true)
    assert.equal(1, #b:waits())
    b:subscribe(2, request())
    assert.equal(1, b:metrics().policy_suspended)
  end)

  it("is transient when it waits too long, and the log says for what and where", function()
    with("local x = pcall(wait, 'db')\nreturn { topics = { 'x' } }", { timeout_ms = 20 })
    b:subscribe(3, request { id = 8 })
    assert.is_true(b:waits()[1].left_ms <= 20 and b:waits()[1].left_ms >= 1)
    local v
    local log = policies.capture(function()
      v = eventually("the deadline", function() return b:turn()[1] end)
    end)
    assert.equal("transient", v.kind)
    assert.equal(3, v.token)
    local line = policies.first_line(log)
    assert.equal("a hook was given up", line.msg)
    assert.equal("given up after 20 ms: it waited for wait", line.reason)
    assert.equal("p.lua:1", line.at)
    assert.equal("8", line.request)
    assert.is_true(b:waits()[1].abandoned)
    assert.equal(1, b:metrics().policy_timeouts)
    assert.equal(0, b:metrics().policy_suspended)
    assert.equal(0, b:metrics().policy_errors_subscribe)
    assert.is_false(b:complete(1, "late"))
    turn(0)
  end)

  it("has one deadline for all it waits for", function()
    with("for i = 1, 1000 do wait('x') end return {}", { timeout_ms = 1000 })
    b:subscribe(1, request())
    local n, answer = 0, nil
    eventually("the deadline", function()
      n = n + 1
      b:complete(n, "go on")
      answer = b:turn()[1]
      return answer
    end)
    local all = b:waits()
    assert.is_true(#all > 1 and all[#all].left_ms < all[1].left_ms)
    assert.equal("transient", answer.kind)
  end)

  it("is shed as transient when too many wait, which it cannot catch", function()
    with("local ok, x = pcall(wait, 'x') return { topics = { 'caught', x } }", { suspended = 2 })
    b:subscribe(1, request())
    b:subscribe(2, request())
    local log = policies.capture(function() b:subscribe(3, request()) end)
    local v = turn(1)
    assert.equal(3, v.token)
    assert.equal("transient", v.kind)
    assert.matches("policy.suspended", policies.first_line(log).reason, 1, true)
    assert.equal(2, #b:waits()) -- nothing was started for it
    assert.equal(1, b:metrics().policy_shed)
    assert.is_true(b:complete(1, "one"))
    turn(1)
    b:subscribe(4, request())
    turn(0)
    assert.is_true(b:complete(3, "four"))
    assert.same({ "caught", "four" }, turn(1).subscription.topics)
  end)

  it("is shed when too many wait for one client, but not for others, nor those of a Unix socket", function()
    with("return { topics = { wait('x') } }", { suspended = 50, per_address = 2 })
    local function ask(token, ip) b:subscribe(token, request { ip = ip }) end
    ask(1, "192.0.2.1")
    ask(2, "192.0.2.1")
    ask(3, "192.0.2.2")
    ask(4, "unix")
    ask(5, "unix")
    ask(6, "unix")
    turn(0)
    policies.capture(function() ask(7, "192.0.2.1") end)
    assert.equal(7, turn(1).token)
    b:cancel(1)
    ask(8, "192.0.2.1")
    turn(0)
    assert.equal(6, b:metrics().policy_suspended)
  end)

  it("waits for its turn when too many wait; clients take turns", function()
    with("return { topics = { wait(req.query.name) } }", { suspended = 3, per_address = 2, queued = 8 })
    local function ask(token, ip, name) b:subscribe(token, request { ip = ip, query = { name = name } }) end
    local function names()
      local list = {}
      for i, w in ipairs(b:waits()) do list[i] = w.name end
      return table.concat(list, " ")
    end
    for i = 1, 4 do ask(i, "192.0.2.1", "a" .. i) end
    ask(5, "192.0.2.2", "b1")
    ask(6, "192.0.2.2", "b2")
    ask(7, "192.0.2.3", "c1")
    turn(0)
    assert.equal("a1 a2 b1", names()) -- two of the first, and no more than three
    assert.equal(4, b:metrics().policy_queued)
    local log = policies.capture(function() ask(8, "192.0.2.1", "a5") end) -- its third
    assert.equal("transient", turn(1).kind)
    assert.matches("its client has a quarter of the queue; policy.queued is 8, policy.suspended 3, "
      .. "policy.suspended_per_address 2",
      policies.first_line(log).reason, 1, true)
    b:cancel(3) -- a3 leaves the queue
    assert.equal(3, b:metrics().policy_queued)
    b:complete(3, "b") -- b1 is done: a4 may not, b2 may
    assert.equal(5, turn(1).token)
    turn(0)
    assert.equal("a1 a2 b1 b2", names())
    b:complete(1, "a")
    assert.equal(1, turn(1).token)
    turn(0)
    assert.equal("a1 a2 b1 b2 c1", names()) -- the third has not had a turn
    b:complete(4, "b")
    assert.equal(6, turn(1).token)
    turn(0)
    assert.equal("a1 a2 b1 b2 c1 a4", names())
    assert.equal(0, b:metrics().policy_queued)
    assert.equal(3, b:metrics().policy_suspended)
    b:complete(6, "done")
    assert.same({ "done" }, turn(1).subscription.topics)
  end)

  it("is shed when the whole queue is full", function()
    with("return { topics = { wait('x') } }", { suspended = 1, per_address = 1, queued = 2 })
    local function ask(token) b:subscribe(token, request { ip = "192.0.2." .. token }) end
    for i = 1, 3 do ask(i) end
    turn(0)
    assert.equal(2, b:metrics().policy_queued)
    local log = policies.capture(function() ask(4) end)
    assert.equal("transient", turn(1).kind)
    assert.matches("the queue for a place is full; policy.queued is 2", policies.first_line(log).reason, 1, true)
  end)

  it("does not overtake those who queue, of its own client or of others", function()
    with("return { topics = { wait(req.query.name) } }", { suspended = 2, per_address = 1, queued = 8 })
    local function ask(token, ip, name) b:subscribe(token, request { ip = ip, query = { name = name } }) end
    local function last() local all = b:waits() return all[#all].name end
    ask(1, "192.0.2.1", "a1")
    ask(2, "192.0.2.2", "b1")
    ask(3, "192.0.2.1", "a2")
    turn(0)
    b:cancel(1) -- a place is free, and those who queue have not been asked yet
    ask(4, "192.0.2.1", "a3")
    ask(5, "192.0.2.3", "c1")
    turn(0)
    assert.equal("a2", last())
    assert.equal(2, b:metrics().policy_queued)
    b:cancel(2)
    ask(6, "192.0.2.4", "d1")
    turn(0)
    assert.equal("c1", last())
  end)

  it("leaves three quarters of the places to those who wait for an answer", function()
    open(WAITS, { suspended = 8 })
    policies.capture(function() for _ = 1, 20 do b:disconnected '{"sub":"x"}' end end)
    assert.equal(2, b:metrics().policy_suspended)
    b:subscribe(1, request())
    turn(0)
    assert.equal(3, b:metrics().policy_suspended)
  end)

  it("runs publishes of one request in order, each with its own waits", function()
    open(WAITS)
    b:publish(5, request { query = { skip = "1" } }, { { topic = "a", data = "one" }, { topic = "b", data = "two" } })
    turn(0)
    assert.equal("one", b:waits()[1].name)
    assert.is_nil(b:waits()[2])
    b:complete(1, "1")
    assert.equal("two", b:waits()[2].name)
    b:complete(2, "2")
    local v = turn(1)
    assert.equal("allow", v.kind)
    assert.equal("one+1", v.events[1].data)
    assert.equal("two+2", v.events[2].data)
    b:publish(6, request { query = { skip = "1" } }, { { topic = "a", data = "gone" } })
    b:cancel(6)
    turn(0)
    assert.is_false(b:complete(3, "late"))
  end)

  it("waits after the stream closed, too, and nobody waits for it", function()
    open(WAITS)
    b:disconnected '{"sub":"ann"}'
    turn(0)
    local log = policies.capture(function() b:complete(1, "done") end)
    assert.matches("ann left: lagged after 1.5", log, 1, true)
    turn(0)
  end)

  it("is answered transient when its policy is closed, late completions find nothing", function()
    open(WAITS)
    b:subscribe(1, request())
    b:publish(2, request { query = { skip = "1" } }, { { topic = "a", data = "x" } })
    b:disconnected '{"sub":"ann"}'
    b:subscribe(3, request())
    b:cancel(3)
    b:shut()
    for i = 1, 4 do assert.is_false(b:complete(i, "late")) end
    local _, answers = turn(2)
    for _, v in ipairs(answers) do assert.equal("transient", v.kind) end
    assert.equal(0, b:metrics().policy_suspended)
    turn(0)
  end)

  it("belongs to the policy it began with; another may run beside it", function()
    with "return { topics = { 'old/' .. wait('x') } }"
    open("local P = { api = 1 } function P.authenticate() return {} end "
      .. "function P.subscribe() return { topics = { 'new/' .. wait('x') } } end return P", { generation = 2 })
    b:subscribe(1, request(), 1)
    b:subscribe(2, request(), 2)
    b:complete(2, "b")
    b:complete(1, "a")
    local _, answers = turn(2)
    assert.same({ "new/b" }, answers[1].subscription.topics)
    assert.same({ "old/a" }, answers[2].subscription.topics)
    b:subscribe(3, request(), 1)
    b:subscribe(4, request(), 2)
    b:shut(1)
    assert.is_false(b:complete(3, "late"))
    assert.is_true(b:complete(4, "live"))
    _, answers = turn(2)
    assert.equal(3, answers[1].token)
    assert.equal("transient", answers[1].kind)
    assert.same({ "new/live" }, answers[2].subscription.topics)
  end)

  it("keeps memory within the policy's limit, however many wait", function()
    with("local t = {} for i = 1, 1000 do t[i] = i end wait('x') return { topics = { 'a' } }",
      { memory_bytes = 1 << 20, suspended = 4000 })
    policies.capture(function()
      for i = 1, 200 do b:subscribe(i, request()) end
    end)
    local answers = b:turn()
    assert.is_true(#answers > 0 and #answers < 200)
    for _, v in ipairs(answers) do assert.equal("transient", v.kind) end
    assert.is_true(b:metrics().policy_memory <= 1 << 20)
    local waits = #b:waits()
    policies.capture(function()
      for i = 1, waits do b:complete(i, "x") end -- the first of them may lack memory, too
    end)
    answers = b:turn()
    local allowed = 0
    for _, v in ipairs(answers) do allowed = allowed + (v.kind == "allow" and 1 or 0) end
    -- the first to go on may find no room yet for their answers; each that ends makes some
    assert.is_true(allowed > #answers / 2, ("%d of %d"):format(allowed, #answers))
    assert.equal(0, b:metrics().policy_suspended)
    b:subscribe(1000, request())
    b:complete(waits + 1, "x")
    assert.equal("allow", turn(1).kind)
  end)

  it("leaves nothing behind in 10,000 calls that wait, fail, are given up or just return", function()
    with([[
      local id = tonumber(req.id)
      if id % 5 == 0 then return { topics = { "at/once" } } end
      if id % 5 == 1 then error("no") end
      local x <close> = setmetatable({}, { __close = function() end })
      return { topics = { wait("x") } }
    ]], { suspended = 64 })
    local memory
    policies.capture(function()
      for i = 1, 10000 do
        b:forget()
        b:subscribe(i, request { id = i })
        if i % 5 == 2 then b:cancel(i) end
        if i % 5 == 3 then b:complete(1, "topic") end
        if i % 5 == 4 then b:complete(1, "raised", true) end
        local answers = b:turn()
        assert.equal(i % 5 == 2 and 0 or 1, #answers)
        if i == 1000 then memory = b:metrics().policy_memory end
      end
    end)
    local m = b:metrics()
    assert.is_true(m.policy_memory < memory * 1.5 + 65536, ("%d, then %d"):format(memory, m.policy_memory))
    assert.equal(0, m.policy_suspended)
    assert.equal(0, m.policy_stack_repairs)
  end)

  it("sleeps, not shorter than it was told, and others go first", function()
    with "sleep(tonumber(req.query.s)) return { topics = { 't' .. req.query.s } }"
    local start = eventually.now()
    b:turn() -- the loop's time is that of its turn
    b:subscribe(1, request { query = { s = "0.15" } })
    b:subscribe(2, request { query = { s = "0.01" } })
    b:subscribe(3, request { query = { s = "0" } })
    local order, at = {}, {}
    eventually("three answers", function()
      for _, v in ipairs(b:turn()) do
        order[#order + 1] = v.token
        at[v.token] = eventually.now() - start
      end
      return #order == 3
    end)
    assert.equal(1, order[3])
    assert.is_true(at[1] >= 0.149, at[1])
    b:subscribe(4, request { query = { s = "100" } })
    b:cancel(4)
    turn(0)
    for _, s in ipairs { "-1", "1e9", "nan" } do
      policies.capture(function() b:subscribe(5, request { query = { s = s } }) end)
      assert.equal("transient", turn(1).kind)
    end
  end)
end)

describe("a filter or format", function()
  it("must not wait, and the error says so", function()
    local p = policies.with { filters = { f = "sleep(1) return true" }, formats = { g = "sleep(1) return 'x'" } }
    local binding = assert(p:bind { filter = "f", format = "g" })
    local log = policies.capture(function() p:filter(binding, policies.event { topic = "a", data = "x" }) end)
    assert.matches("sleep is not available in filters and formats: they must not wait",
      logfmt.parse(log:match "^[^\n]+").error, 1, true)
    p:unbind(binding)
    p:close()
  end)
end)
