-- A client of PostgreSQL that is closed, dropped or asked at any moment, also from within its own callbacks.
local hostile = require "support.pg_hostile"
local pair = require "support.pg_pair"

local HALF = hostile.COLUMNS .. hostile.row("half"):sub(1, 8)

describe("a client of PostgreSQL", function()
  pair.around_specs()

  --------------------------------------------------------------- called from within
  for _, deed in ipairs { "ask", "close", "drop", "nudge" } do
    for _, moment in ipairs { "ready", "lost", "notified", "done" } do
      for _, way in ipairs { "good", "bad" } do
        it(("may be told to %s from within %s (%s server)"):format(deed, moment, way), function()
          local p = pair.start(function(conn, n)
            conn:welcome()
            local kind = conn:statement()
            conn:send(hostile.notification "x" .. hostile.notification "y")
            if n == 1 and moment == "lost" or way == "bad" and n < 3 then
              return
            end
            repeat
              if kind then
                conn:answer(kind)
              end
              kind = conn:statement()
            until not kind
          end)
          p.client:react(moment, deed)
          p:ask "plain"
          p:ask "plain"
          p:fates()
          pair.pass(0.05, "it comes as far as it will")
          if deed ~= "close" then
            p.client:react("none", "ask")
            p.server.script = function(conn) conn:behave() end
            pair.wait("it is ready", function() return p.client:state().ready end)
          end
        end)
      end
    end
  end

  --------------------------------------------------------------- closing
  local function closes(p, pending)
    assert.equal(pending, p.client:state().pending)
    local done = #p:events "done"
    p.client:begin_close()
    assert.equal(done, #p:events "done")
    p:finish()
    for i, ev in ipairs(p:events "done") do
      assert.is_true(i <= done or ev.error == "ECANCELED", ev.error)
    end
    assert.equal(pending, #p:events "done" - done)
  end

  it("can be closed before it has begun", function()
    local p = pair.start(function(conn) conn:behave() end)
    p:ask "plain"
    p:ask("first", "x")
    closes(p, 2)
  end)

  it("can be closed while a name is looked up", function()
    local p = pair.start(function(conn) conn:behave() end, { host = "localhost" })
    p:ask "plain"
    p.client:turn()
    closes(p, 1)
  end)

  it("can be closed while it connects, at every step", function()
    for cut = 0, #hostile.GREETING - 1, 7 do
      local p = pair.start(function(conn)
        conn:startup()
        conn:send(hostile.GREETING:sub(1, cut))
        conn:stall()
      end, { connect_ms = 5000 })
      p:ask "plain"
      pair.wait("the start", function() return #p.server.accepted == 1 end)
      for _ = 1, 5 do
        pair.turn_all()
      end
      closes(p, 1)
    end
  end)

  it("can be closed while TLS is agreed on", function()
    local p = pair.start(function(conn)
      conn:read(8)
      conn:send "S"
      conn:stall()
    end, { connect_ms = 5000, conninfo = "sslmode=require" })
    p:ask "plain"
    pair.pass(0.1, "it comes as far as it will")
    closes(p, 1)
  end)

  it("can be closed during its setup", function()
    local p = pair.start(function(conn)
      conn:startup()
      conn:send(hostile.GREETING)
      conn:stall()
    end, { setup = true, answer_ms = 5000 })
    p:ask "plain"
    pair.pass(0.1, "it comes as far as it will")
    assert.is_false(p.client:state().ready)
    closes(p, 1)
  end)

  it("can be closed when it is ready", function()
    local p = pair.start(function(conn) conn:behave() end)
    p:ready()
    closes(p, 0)
  end)

  for name, script in pairs {
    ["while a statement runs"] = function(conn) conn:welcome() conn:stall() end,
    ["while a statement is prepared"] = function(conn) conn:welcome() conn:stall() end,
    ["in the middle of an answer"] = function(conn)
      conn:welcome()
      conn:statement()
      conn:send(HALF)
      conn:stall()
    end,
  } do
    it("can be closed " .. name, function()
      local p = pair.start(script, { answer_ms = 5000 })
      p:ready()
      p:ask(name:find "prepared" and "first" or "plain")
      p:ask "plain"
      pair.pass(0.05, "it comes as far as it will")
      closes(p, 2)
    end)
  end

  it("can be closed while the server takes nothing", function()
    local p = pair.start(function(conn) conn:welcome() conn:answer(conn:statement()) conn:deaf() end,
      { answer_ms = 5000 })
    p:ready()
    p:ask("first", ("x"):rep(6 << 20))
    pair.pass(0.1, "it comes as far as it will")
    closes(p, 1)
  end)

  it("can be closed after it gave the connection up", function()
    local p = pair.start(function(conn) conn:welcome() conn:stall() end)
    p:ready()
    p:ask "plain"
    p:ask "plain"
    p.client:drop "enough"
    closes(p, 2)
  end)

  it("can be closed while it waits for the next attempt", function()
    local p = pair.start(function() end)
    p:lost(5)
    closes(p, 0)
  end)
end)
