-- The CPU budget of a call: what runs too long is stopped, whatever it does about it.
local budget = require "native.budget"
local eventually = require "support.eventually"

describe("budget", function()
  local vm

  local function open(options)
    vm = budget.open(options or {})
    return vm
  end

  after_each(function()
    if vm then vm:close() end
    vm = nil
  end)

  local function assert_stopped(code, at)
    local ok, err, where, traceback, name = vm:run(code)
    assert.is_nil(ok, code)
    assert.equal("EINTR", name, err)
    assert.matches("stopped after more than 20 ms of CPU time (test.cpu_ms)", err, 1, true)
    if at then
      assert.equal(at, where)
      assert.equal(at .. ": ", err:sub(1, #at + 2))
      assert.equal(at, traceback:match("^[^:]+:%d+"))
    end
    assert.equal("1", vm:run "return 1", "the state is usable afterwards")
  end

  it("stops an endless loop and tells where it was", function()
    open()
    assert_stopped("\n\nwhile true do end", "code:3")
    assert_stopped("local function spin() while true do end end\nlocal function f() spin() end\nf()", "code:1")
    local _, _, _, traceback = vm:run [[
      local function inner() while true do end end
      local function outer() inner() end outer()]]
    assert.matches("^code:1: in inner\ncode:2: in outer", traceback)
  end)

  it("cannot be talked out of it", function()
    open()
    for _, code in ipairs {
      "local function loop() while true do end end while true do pcall(loop) end",
      "local function f() pcall(f) pcall(f) end f()",
      "local function loop() while true do end end return pcall(pcall, loop)",
      "return pcall(function() while true do end end)",
      "local t <close> = setmetatable({}, { __close = function() while true do end end }) while true do end",
      "for i = 1, 100 do local t <close> = setmetatable({}, { __close = function() while true do end end }) end",
      "while true do pcall(function() local t <close> = setmetatable({}, "
        .. "{ __close = function() while true do end end }) error({}) end) end",
      "local ok repeat ok = pcall(function() while true do end end) until ok == 'never'",
    } do
      assert_stopped(code)
    end
  end)

  it("reports where it was stopped first, not where a script that went on was next", function()
    open()
    assert_stopped("local function loop()\n  while true do end\nend\nwhile true do pcall(loop) end", "code:2")
  end)

  it("reaches C functions that call C functions only", function()
    open()
    -- each call of type() from gsub is C calling C: only the hook on calls is in between
    assert_stopped "local t = {} for i = 1, 5000 do t[i] = i end while true do table.sort(t, math.ult) end"
  end)

  it("leaves alone what is within it", function()
    open()
    for _ = 1, 300 do
      assert.equal("5050", vm:run "local n = 0 for i = 1, 100 do n = n + i end return n")
    end
    open { hard_ms = 0 } -- nobody watches
    assert.equal("x", vm:run "local spin = ... spin(300) return 'x'")
  end)

  it("does not blame a call for the time in which the thread could not run", function()
    open()
    for _ = 1, 5 do
      assert.equal("x", vm:run "local _, _, _, freeze = ... freeze(60) return 'x'")
    end
    local pieces, _, answer = vm:pieces "local _, _, _, freeze = ... freeze(60) return 'x'"
    assert.equal(1, pieces)
    assert.equal("x", answer)
    assert_stopped "local _, _, _, freeze = ... freeze(60) while true do end"
  end)

  it("judges a result that came in time although C took long", function()
    open { cpu_ms = 1 }
    -- the hook is set while spin() runs; no instruction of the script follows it
    local ok, _, _, _, name = vm:run "local spin = ... local x = spin(300) return 'x'"
    assert.is_nil(ok)
    assert.equal("EINTR", name)
    assert.equal("1", vm:run "return 1")
  end)

  it("counts the time of the processor, not of the clock", function()
    open()
    eventually.pass(0.05, "more of the clock than the budget allows of the processor")
    assert.equal("1", vm:run "local s = 0 for i = 1, 1000 do s = s + i end return 1")
  end)

  it("is asked by loops in C", function()
    open()
    local _, err, _, _, name = vm:run "local spin, poll = ... spin(300) return pcall(poll)"
    assert.equal("EINTR", name)
    assert.matches("stopped after", err)
  end)

  it("stops within what the watchdog's looks allow", function()
    open()
    local before = os.clock()
    for _ = 1, 5 do assert_stopped "while true do end" end
    assert.is_true(os.clock() - before < 5) -- about 0.15 s; a hang would never get here
  end)

  describe("of a coroutine", function()
    it("adds up over its pieces", function()
      open()
      local pieces, ms, ok, err, where, _, name = vm:pieces [[
        local spin, _, pause = ...
        for i = 1, 1000 do
          for j = 1, 1000 do end
          spin(3)
          pause()
        end]]
      assert.is_nil(ok)
      assert.equal("EINTR", name)
      assert.matches("stopped after more than 20 ms", err)
      assert.matches("^code:%d$", where)
      assert.is_true(pieces > 3 and pieces < 100, pieces)
      assert.is_true(ms >= 20)
    end)

    it("runs to its end within it", function()
      open()
      local pieces, ms, answer = vm:pieces "local _, _, pause = ... for i = 1, 9 do pause(i) end return 'done'"
      assert.equal(10, pieces)
      assert.equal("done", answer)
      assert.is_true(ms < 20)
    end)

    it("stops loops in any piece, and in what is closed at its end", function()
      open()
      for _, code in ipairs {
        "while true do end",
        "local _, _, pause = ... pause() while true do pcall(function() while true do end end) end",
        "local _, _, pause = ... return pcall(function() pause() while true do end end)",
        "local t <close> = setmetatable({}, { __close = function() while true do end end }) while true do end",
      } do
        local _, _, ok, err, _, _, name = vm:pieces(code)
        assert.is_nil(ok, code)
        assert.equal("EINTR", name, err)
        assert.equal("1", vm:run "return 1")
      end
    end)

    it("is given up while it waits, and what it closes then is stopped too", function()
      open()
      local closing = "local _, _, pause = ... "
        .. "local t <close> = setmetatable({}, { __close = function() %s end }) pause()"
      assert.equal("closed", vm:abandon(closing:format ""))
      assert.equal("EINTR", vm:abandon(closing:format "while true do end"))
      assert.equal("EINVAL", vm:abandon(closing:format "error 'x'"))
      assert.equal("1", vm:run "return 1")
    end)

    it("tells errors as the main state does", function()
      open()
      local _, _, ok, err, where, traceback, name = vm:pieces [[
        local _, _, pause = ...
        local function inner(t) return t.x.y end
        local function outer() pause() local r = inner({}) return r end
        local r = outer()]]
      assert.is_nil(ok)
      assert.equal("EINVAL", name)
      assert.equal("code:2: attempt to index a nil value (field 'x')", err)
      assert.equal("code:2", where)
      assert.matches("^code:2: in inner\ncode:3: in outer", traceback)
      open { cpu_ms = 5000 } -- memory is what it shall run out of
      _, _, ok, err, _, _, name = vm:pieces "local s = 'x' while true do s = s .. s end"
      assert.is_nil(ok)
      assert.equal("ENOMEM", name)
      assert.matches("not enough memory", err)
    end)
  end)

  describe("hard limit", function()
    -- in a process of its own: it ends by abort()
    local function child(code, cpu_ms)
      local out = os.tmpname()
      local exe = require("luv").fs_readlink("/proc/self/exe")
      local command = ("ulimit -c 0; BUDGET_CPU_MS=%d BUDGET_CODE='%s' '%s' '%s/spec/support/budget_child.lua' "
        .. ">%s 2>&1"):format(cpu_ms or 20, code, exe, SPEC_SOURCE_DIR, out)
      local ok, how, number = os.execute(command)
      local f = assert(io.open(out, "rb"))
      local text = f:read "a"
      f:close()
      os.remove(out)
      return ok, how, number, text
    end

    it("reports hook, line and C stack of a call that cannot be stopped, and aborts", function()
      local ok, _, number, text = child "\nlocal spin = ...\nlocal function f()\n spin(1e9)\nend\nf() return 1"
      assert.is_nil(ok, text)
      assert.is_true(number == 6 or number == 134, tostring(number) .. text) -- SIGABRT
      local line = assert(text:match("[^\n]*a call into the policy does not end[^\n]*"), text)
      assert.matches(" hook=test ", line, 1, true)
      assert.matches(" at=code:4 ", line, 1, true)
      assert.matches(" setting=policy.hard_limit_ms", line, 1, true)
      assert.matches("C stack of the call that could not be stopped:\n.*lua_vm_run", text)
    end)

    it("is not reached by tables whose __call leads back to them, which no hook interrupts", function()
      local code = "local t = {} setmetatable(t, { __call = t }) for i = 1, 4 do pcall(t) end return 1"
      local ok, _, _, text = child(code)
      assert.is_true(ok, text)
      assert.matches("answer: nil EINTR code:1: stopped after more than 20 ms", text, 1, true)
      ok, _, _, text = child(code, 10000) -- overdue, it would be too late
      assert.is_true(ok, text)
      assert.matches("answer: nil EINTR code:1: .*does __call of a table lead back to the table?", text)
    end)

    it("is no reason to refuse a large block before the budget is used up", function()
      for _, code in ipairs {
        'while true do local s = string.rep("x", 70000) end',
        "local big = {} for i = 1, 5000 do big[i] = i end while true do local t = { table.unpack(big) } end",
      } do
        local ok, _, _, text = child(code, 1000) -- it is late long before that
        assert.is_true(ok, text)
        assert.matches("answer: nil EINTR code:1: stopped after more than 1000 ms", text, 1, true)
      end
    end)

    it("counts from when the thread has answered: nobody is to blame for time that was taken away", function()
      local ok, _, _, text = child "local spin, _, _, freeze = ... freeze(2000) spin(300) return 1"
      assert.is_true(ok, text)
      assert.matches("answer: nil EINTR", text, 1, true)
    end)

    it("leaves a call alone that ends before", function()
      local ok, _, _, text = child "local spin = ... spin(500) return 1"
      assert.is_true(ok, text)
      assert.matches("answer: nil EINTR", text, 1, true)
    end)
  end)
end)
