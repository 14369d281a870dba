-- cache.fetch: one run for all who ask, times, copies, room, and every way in which the one who runs
-- the function can end. wait(name) is a function of the specs' own, see coro_spec.lua.
local coro = require "native.coro"
local eventually = require "support.eventually"
local policies = require "support.policies"

local request = policies.request

-- fn waits and returns what the spec completes it with.
local FETCH = [[
  local P = { api = 1 }
  function P.authenticate() return { sub = "u" } end
  function P.subscribe(req)
    local v, err = cache.fetch(req.query.key or "k", {
      ttl = tonumber(req.query.ttl or 100), stale = tonumber(req.query.stale or 0) }, function()
      return wait(req.query.name or "fn")
    end)
    if not v then return nil, err or "false" end
    return { topics = { v, "for/" .. req.id } }
  end
  return P
]]

describe("cache.fetch", function()
  local b

  local function open(text, options)
    options = options or {}
    if not options.generation then
      if b then b:close() end
      b = coro.new(options)
    end
    local dir = policies.directory { ["p.lua"] = text }
    assert(b:open { file = dir .. "/p.lua", timeout_ms = options.timeout_ms, generation = options.generation })
    policies.remove(dir)
  end

  local function with(subscribe, options)
    open("local P = { api = 1 } function P.authenticate() return { sub = 'u' } end "
      .. "function P.subscribe(req, who) " .. subscribe .. " end return P", options)
  end

  -- What a hook of that code answers as its reason, at once.
  local function say(code)
    with(code)
    b:subscribe(1, request())
    local answers = b:turn()
    assert.equal(1, #answers)
    return answers[1].reason, answers[1]
  end

  local function ask(token, query, generation)
    b:subscribe(token, request { id = token, query = query }, generation)
  end

  local function turn(n)
    local answers = b:turn()
    assert.equal(n, #answers)
    table.sort(answers, function(x, y) return x.token < y.token end)
    return answers[1], answers
  end

  after_each(function()
    if b then b:close() end
    b = nil
  end)

  it("runs the function once for all who ask meanwhile, and keeps what it returns", function()
    open(FETCH)
    for i = 1, 20 do ask(i) end
    turn(0)
    assert.equal(1, #b:waits())
    b:complete(1, "value")
    local _, answers = turn(20)
    for i, v in ipairs(answers) do assert.same({ "for/" .. i, "value" }, v.subscription.topics) end
    ask(21)
    assert.equal("allow", turn(1).kind)
    local m = b:metrics()
    assert.same({ 1, 19, 1, 0 }, { m.cache_misses, m.cache_shared, m.cache_hits, m.cache_stale })
    assert.equal(1, m.cache_entries)
    assert.is_true(m.cache_bytes > 0 and m.cache_bytes < 1000)
  end)

  it("keeps keys apart, also those with NUL", function()
    open(FETCH)
    for i, key in ipairs { "a", "b", "a\0b", "a\0c" } do ask(i, { key = key }) end
    assert.equal(4, #b:waits())
    for i = 1, 4 do b:complete(i, "v" .. i) end
    local _, answers = turn(4)
    for i, v in ipairs(answers) do assert.same({ "for/" .. i, "v" .. i }, v.subscription.topics) end
  end)

  it("gives everybody a copy, the first one, too", function()
    local text = say [[
      local kept = { n = 1, list = { 1, 2 }, none = {} }
      local function get() return cache.fetch("k", 10, function() return kept end) end
      local one = get()
      kept.n, one.n, one.list[1] = 5, 6, 7
      local two = get()
      return nil, json.encode { one, two, one ~= kept }
    ]]
    assert.equal('[{"list":[7,2],"n":6,"none":{}},{"list":[1,2],"n":1,"none":{}},true]', text)
  end)

  it("keeps scalars, exactly", function()
    local text = say [[
      local out = json.array()
      for i, v in ipairs { 9007199254740993, 1.5, 2.0, "text\n", true, json.null, json.array() } do
        local function get() return cache.fetch("k" .. i, 10, function() return v end) end
        get()
        out[i] = get()
      end
      return nil, json.encode(out)
    ]]
    assert.equal('[9007199254740993,1.5,2.0,"text\\n",true,null,[]]', text)
  end)

  it("fetches anew when the time is over, a tenth sooner at most", function()
    open(FETCH)
    local start = eventually.now()
    b:turn() -- the loop's time is that of its turn
    ask(1, { ttl = "0.2" })
    b:complete(1, "old")
    turn(1)
    eventually("a second run", function()
      b:turn()
      ask(2, { ttl = "0.2" })
      return #b:waits() == 2
    end)
    assert.is_true(eventually.now() - start >= 0.178)
  end)

  it("does not fetch all that was fetched together together again", function()
    open(FETCH, { suspended = 200 })
    local KEYS, token, keys = 40, 0, nil
    local function ask_all()
      for i = 1, KEYS do
        token = token + 1
        ask(token, { key = keys .. i, ttl = "0.5" })
      end
    end
    local function complete_all()
      local n = #b:waits()
      for i = 1, n do b:complete(i, "value") end
      b:turn()
      b:forget()
    end
    eventually("some are fetched again while others are still there", function()
      if not keys then
        keys = "round " .. token .. " "
        ask_all()
        b:turn()
        complete_all()
      end
      b:turn()
      ask_all()
      b:turn()
      local again = #b:waits()
      if again > 0 then
        complete_all()
        keys = again < KEYS and keys or nil -- all at once: a pause of the machine, or no jitter
      end
      return again > 0 and again < KEYS
    end)
  end)

  it("keeps false for its own time, and nil not at all", function()
    assert.equal("1 false 1 false", say [[
      local runs = 0
      local function get()
        return cache.fetch("k", { ttl = 100, neg_ttl = 100 }, function() runs = runs + 1 return false end)
      end
      local a = tostring(get())
      return nil, runs .. " " .. a .. " " .. runs .. " " .. tostring(get())
    ]])
    assert.equal("2", say [[
      local runs = 0
      for _ = 1, 2 do cache.fetch("k", { ttl = 100, neg_ttl = 0 }, function() runs = runs + 1 return false end) end
      return nil, tostring(runs)
    ]])
    assert.equal("nil why 2", say [[
      local runs = 0
      local function get() return cache.fetch("k", 100, function() runs = runs + 1 return nil, "why" end) end
      get()
      local v, err = get()
      return nil, ("%s %s %d"):format(v, err, runs)
    ]])
    assert.matches("return false for \"there is none\"", say [[
      return nil, select(2, cache.fetch("k", 100, function() end))
    ]])
  end)

  it("tells all who wait that it failed, and lets the next one try", function()
    open(FETCH)
    for i = 1, 3 do ask(i) end
    policies.capture(function()
      b:complete(1, nil)
      local _, answers = turn(3)
      for _, v in ipairs(answers) do assert.equal("failed", v.reason) end
    end)
    ask(4)
    b:complete(2, "again")
    assert.equal("allow", turn(1).kind)
  end)

  it("raises what the function raised where it ran, others get its text", function()
    open(FETCH)
    local log = policies.capture(function()
      for i = 1, 2 do ask(i) end
      b:complete(1, "broken", true)
      local _, answers = turn(2)
      assert.equal("policy error", answers[1].reason)
      assert.matches("broken", answers[2].reason)
    end)
    assert.equal("p.lua:6: broken", policies.first_line(log).error)
    assert.equal(1, b:metrics().policy_errors_subscribe)
  end)

  it("answers with an old value while the function fails, for those who accept one, for so long", function()
    open(FETCH)
    local times = { ttl = "0.02", stale = "100" }
    ask(1, times)
    b:complete(1, "old")
    turn(1)
    local n = 1
    eventually("the value is old", function()
      n = n + 1
      ask(n, times)
      b:turn()
      return #b:waits() == 2
    end)
    policies.capture(function() b:complete(2, "broken", true) end)
    local v = turn(1)
    assert.same({ "for/" .. n, "old" }, v.subscription.topics)
    assert.equal(1, b:metrics().cache_stale)
    ask(500, times) -- the function is not run for everybody while it fails
    assert.equal("allow", turn(1).kind)
    assert.equal(2, #b:waits())
    assert.equal(2, b:metrics().cache_stale)
    ask(501, { ttl = "0.02" }) -- accepts none
    turn(0)
    assert.equal(3, #b:waits())
    policies.capture(function() b:complete(3, nil) end)
    assert.equal("failed", turn(1).reason)
    ask(502, { ttl = "0.02" })
    b:complete(4, "new")
    turn(1)
    ask(503, { ttl = "100", stale = "100" })
    assert.same({ "for/503", "new" }, turn(1).subscription.topics)
  end)

  it("does not use a value that is too old", function()
    open(FETCH)
    ask(1, { ttl = "0.01" })
    b:complete(1, "old")
    turn(1)
    eventually("too old", function()
      b:forget()
      ask(2, { ttl = "0.01", stale = "0.05" })
      if #b:waits() == 0 then return b:turn() and false end
      b:complete(1, nil)
      return b:turn()[1].reason == "failed"
    end)
  end)

  for _, how in ipairs { "its client leaves", "its time is over", "its policy is closed" } do
    it("passes the flight on when " .. how, function()
      open(FETCH, { timeout_ms = how == "its time is over" and 50 or nil })
      open(FETCH, { generation = 2 })
      ask(1, { name = "first" }, 1)
      ask(2, { name = "second" }, 2)
      ask(3, { name = "third" }, 2)
      assert.same({ "first" }, { b:waits()[1].name, b:waits()[2] })
      local first
      policies.capture(function()
        if how == "its client leaves" then
          b:cancel(1)
        elseif how == "its time is over" then
          first = eventually("the deadline", function() return b:turn()[1] end)
        else
          b:shut(1)
          first = turn(1)
        end
      end)
      if first then assert.equal("transient", first.kind) end
      turn(0)
      assert.equal("second", b:waits()[2].name)
      assert.is_nil(b:waits()[3])
      assert.is_false(b:complete(1, "late"))
      b:complete(2, "value")
      local _, answers = turn(2)
      assert.same({ "for/2", "value" }, answers[1].subscription.topics)
      assert.same({ "for/3", "value" }, answers[2].subscription.topics)
    end)
  end

  it("forgets the flight when nobody is left", function()
    open(FETCH)
    for i = 1, 3 do ask(i) end
    b:cancel(2)
    b:cancel(1)
    b:cancel(3)
    turn(0)
    ask(4)
    assert.equal(2, #b:waits())
    b:complete(2, "value")
    assert.equal("allow", turn(1).kind)
    for i = 5, 7 do ask(i, { key = "other" }) end
    b:shut() -- with one that runs and two that wait
    turn(3)
  end)

  it("survives its policy", function()
    open(FETCH)
    open(FETCH, { generation = 2 })
    ask(1, nil, 1)
    b:complete(1, "value")
    turn(1)
    b:shut(1)
    ask(2, nil, 2)
    assert.same({ "for/2", "value" }, turn(1).subscription.topics)
  end)

  it("may be nested, but not fetch the key it is fetching", function()
    assert.equal("3", say [[
      return nil, tostring(cache.fetch("sum", 10, function()
        return cache.fetch("a", 10, function() return 1 end) + cache.fetch("b", 10, function() return 2 end)
      end))
    ]])
    local reason = say [[
      return nil, select(2, pcall(cache.fetch, "k", 10, function()
        return cache.fetch("k", 10, function() return 1 end)
      end))
    ]]
    assert.matches("cache.fetch of 'k' inside the function that fetches it", reason)
  end)

  it("stays within its room: what was not asked for longest leaves", function()
    with([[
      local big = ("x"):rep(10000)
      local runs = {}
      local function get(k) cache.fetch(k, 100, function() runs[#runs + 1] = k return big end) end
      get("a") get("b")
      for i = 1, 5 do get("more" .. i) get("a") end
      get("b")
      return nil, table.concat(runs, " ")
    ]], { cache_bytes = 65536 })
    b:subscribe(1, request())
    assert.equal("a b more1 more2 more3 more4 more5 b", turn(1).reason)
    local m = b:metrics()
    assert.is_true(m.cache_bytes <= 65536 and m.cache_bytes > 50000)
    assert.is_true(m.cache_evictions >= 2)
    assert.equal(6, m.cache_entries)
  end)

  it("refuses what cannot be kept, in one run for all", function()
    open(([[
      local P = { api = 1 }
      function P.authenticate() return {} end
      function P.subscribe(req)
        cache.fetch("k", 10, function()
          wait("fn")
          return req.query.how == "big" and ("x"):rep(70000) or print
        end)
        return { topics = { "a" } }
      end
      return P]]))
    for _, how in ipairs { "big", "function" } do
      b:forget()
      local log = policies.capture(function()
        for i = 1, 3 do ask(i, { how = how }) end
        b:complete(1, "go on")
        turn(3)
      end)
      assert.matches(how == "big" and "cache.fetch: the value: longer than 65536 bytes"
        or "cache.fetch: the value: .*function", policies.first_line(log).error)
      assert.equal(1, #b:waits())
    end
    assert.equal(0, b:metrics().cache_entries)
  end)

  it("refuses wrong arguments", function()
    for code, what in pairs {
      ["cache.fetch()"] = "bad argument #1 to 'fetch'",
      ["cache.fetch('', 1, print)"] = "1 to 1024 bytes",
      ["cache.fetch(('x'):rep(1025), 1, print)"] = "1 to 1024 bytes",
      ["cache.fetch('k', 1)"] = "bad argument #3",
      ["cache.fetch('k', 'x', print)"] = "ttl: seconds from 0 to 2592000",
      ["cache.fetch('k', -1, print)"] = "ttl: seconds",
      ["cache.fetch('k', 0/0, print)"] = "ttl: seconds",
      ["cache.fetch('k', nil, print)"] = "ttl: seconds",
      ["cache.fetch('k', {}, print)"] = "ttl: seconds",
      ["cache.fetch('k', { ttl = 1, stale = 'x' }, print)"] = "stale: seconds",
      ["cache.fetch('k', { ttl = 1, neg = 1 }, print)"] = "unknown key 'neg'",
    } do
      local log = policies.capture(function() say(code .. " return {}") end)
      assert.matches(what, policies.first_line(log).error, 1, true)
    end
  end)

  it("is not for filters and formats", function()
    local p = policies.with { filters = { f = "return cache.fetch('k', 1, function() return true end)" } }
    local binding = assert(p:bind { filter = "f" })
    local log = policies.capture(function() p:filter(binding, policies.event { topic = "a", data = "x" }) end)
    assert.matches("cache.fetch is not available in filters and formats", log, 1, true)
    p:unbind(binding)
    p:close()
  end)

  it("leaves nothing behind in 10,000 calls that land, fail or are given up", function()
    open(FETCH, { suspended = 64 })
    local memory
    policies.capture(function()
      for i = 1, 5000 do
        b:forget()
        local key = { key = "key" .. i, name = "fn" }
        ask(2 * i, key)
        ask(2 * i + 1, key)
        if i % 4 == 0 then b:cancel(2 * i) end
        if i % 4 == 1 then b:cancel(2 * i + 1) end
        if i % 4 == 2 then b:complete(1, nil) else b:complete(1, "value") end
        b:turn()
        if i % 4 == 0 then b:complete(2, "value") end
        b:turn()
        if i == 1000 then memory = b:metrics().policy_memory end
      end
    end)
    local m = b:metrics()
    assert.equal(0, m.policy_suspended)
    assert.equal(0, m.policy_stack_repairs)
    assert.is_true(m.policy_memory < memory * 1.5 + 65536, ("%d, then %d"):format(memory, m.policy_memory))
    assert.is_true(m.cache_bytes <= 1 << 20)
  end)
end)
