-- Statements answered by PostgreSQL servers that lie, stall and go: every accepted statement completes exactly once and
-- says truly whether it may have been carried out.
local hostile = require "support.pg_hostile"
local pair = require "support.pg_pair"

local message = hostile.message
local GARBAGE = ("\xff\x00garbage of no protocol\r\n"):rep(50)

describe("a client of PostgreSQL", function()
  pair.around_specs()

  --------------------------------------------------------------- no good answer
  local HALF = hostile.COLUMNS .. hostile.row("half"):sub(1, 8)
  -- what the server does when it has the statement
  local bad_answers = {
    ["never"] = function(conn) conn:stall() end,
    ["with a close"] = function() end,
    ["with garbage"] = function(conn) conn:send(GARBAGE) conn:stall() end,
    ["with garbage that ends in the middle of a message"] = function(conn)
      conn:send(message("v", "??"):sub(1, -2))
      conn:stall()
    end,
    ["with a message nobody knows"] = function(conn) conn:send(message("v", "??")) conn:stall() end,
    ["with half a row and a close"] = function(conn) conn:send(HALF) end,
    ["with half a row and nothing more"] = function(conn) conn:send(HALF) conn:stall() end,
    ["with a row of no columns announced"] = function(conn) conn:send(hostile.row "x") conn:stall() end,
    ["with a row that is shorter than it says"] = function(conn)
      conn:send(hostile.COLUMNS .. message("D", (">I2I4"):pack(1, 1000)) .. hostile.COMPLETE .. hostile.READY)
      conn:stall()
    end,
    ["with an enormous length"] = function(conn) conn:send(message("D", "", 0x7fffffff)) conn:stall() end,
    ["with a large length and little else"] = function(conn) conn:send(message("D", "x", 1 << 26)) conn:stall() end,
    ["with an enormous length of a short message"] = function(conn)
      conn:send(message("Z", "", 0x7fffffff))
      conn:stall()
    end,
    ["with a negative length"] = function(conn) conn:send(message("D", "", -5)) conn:stall() end,
    ["with a length that leaves out itself"] = function(conn) conn:send(message("C", "", 0)) conn:stall() end,
    ["with a result, and a close instead of the end"] = function(conn)
      conn:send(hostile.COLUMNS .. hostile.row "x" .. hostile.COMPLETE)
    end,
    ["with the end of the session"] = function(conn)
      conn:send(hostile.fatal("57P01", "terminating connection due to administrator command"))
    end,
    ["with the end of the session, staying"] = function(conn)
      conn:send(hostile.fatal("57P02", "crash of another server process"))
      conn:stall()
    end,
    ["with a panic and a close"] = function(conn)
      conn:send(hostile.fatal("53100", "could not write to file \"pg_wal/xlogtemp\"", "PANIC"))
    end,
    ["with a panic, staying"] = function(conn)
      conn:send(hostile.fatal("XX000", "stuck spinlock", "PANIC"))
      conn:stall()
    end,
    ["with the end of the session, of a class that refusals have, too, as if it went on"] = function(conn)
      conn:send(hostile.fatal("53200", "out of memory") .. hostile.READY)
      conn:stall()
    end,
    ["by a pooler that has lost the server"] = function(conn) -- PgBouncer: no severity that is not localized
      conn:send(message("E", "SFATAL\0C08P01\0Mserver conn crashed?\0\0") .. hostile.READY)
      conn:stall()
    end,
    ["with the wish for data"] = function(conn)
      conn:send(message("G", (">bI2"):pack(0, 0)))
      conn:stall()
    end,
    ["with data to be copied"] = function(conn)
      conn:send(message("H", (">bI2"):pack(0, 0)) .. message("d", "x"))
      conn:stall()
    end,
    ["with notices for ever"] = function(conn)
      while not conn.ended do
        conn:send(hostile.notice(("n"):rep(200)):rep(5) .. hostile.notification "x")
        coroutine.yield()
      end
    end,
    ["with rows for ever"] = function(conn)
      conn:send(hostile.COLUMNS)
      while not conn.ended do
        conn:send(hostile.row "x")
        coroutine.yield()
      end
    end,
  }
  local names = {}
  for name in pairs(bad_answers) do
    names[#names + 1] = name
  end
  table.sort(names)
  for _, name in ipairs(names) do
    it("that is answered " .. name .. " leaves the statement in doubt and the waiting ones unsent", function()
      local p = pair.start(function(conn, n)
        if n > 1 then
          return conn:behave()
        end
        conn:welcome()
        conn:statement()
        bad_answers[name](conn)
      end)
      p:ready()
      p:ask "plain"
      p:ask "plain"
      p:ask("first", "x")
      assert.equal(3, p.client:state().pending)
      assert.same({ "ECONNRESET", "ENOTCONN", "ENOTCONN" }, p:fates())
      local e = p:lost()
      assert.equal(0, e.pending)
      for _, ev in ipairs(p:events "done") do
        assert.is_true(ev.at <= e.at)
        assert.equal("", ev.sqlstate)
      end
      p:comes_back()
    end)

    it("that is answered " .. name .. " while it prepares has not sent the statement", function()
      local p = pair.start(function(conn, n)
        if n > 1 then
          return conn:behave()
        end
        conn:welcome()
        conn:answer(conn:statement())
        conn:answer(conn:statement())
        assert(conn:statement() == "P")
        bad_answers[name](conn)
      end)
      p:ready()
      local done = p:ask("first", "x")
      pair.wait("an answer", function() return p:fate(done) end)
      p:ask("second", "x")
      p:ask "plain"
      assert.same({ 1, "ENOTCONN", "ENOTCONN" }, p:fates())
      p:lost()
      p:comes_back()
    end)
  end

  it("takes a refusal of a statement for what it is, and goes on with the same connection", function()
    local p = pair.start(function(conn)
      conn:welcome()
      conn:statement()
      conn:send(hostile.COLUMNS .. hostile.row "x" .. hostile.refusal("23505", "it exists") .. hostile.READY)
      for kind in conn.statement, conn do
        conn:answer(kind)
      end
    end)
    p:ready()
    p:ask "plain"
    p:ask("first", "x")
    assert.same({ "EIO", 1 }, p:fates())
    assert.same({ "23505", "it exists" }, { p:events "done"[1].sqlstate, p:events "done"[1].text })
    assert.equal(1, #p.server.accepted)
  end)

  it("prepares again on a new connection", function()
    local kinds = {}
    local p = pair.start(function(conn, n)
      conn:welcome()
      for kind in conn.statement, conn do
        kinds[#kinds + 1] = n .. kind
        conn:answer(kind)
        if #kinds == 3 then
          return
        end
      end
    end)
    p:ready()
    p:ask("first", "x")
    p:ask("first", "y")
    p:ready(2)
    p:ask("first", "z")
    assert.same({ 1, 1, 1 }, p:fates())
    assert.same({ "1P", "1B", "1B", "2P", "2B" }, kinds)
  end)

  it("takes notices, notifications and answers in any pieces", function()
    local noise = hostile.notice "hear" .. hostile.notification "ye" .. hostile.parameter("application_name", "x")
    local p = pair.start(function(conn)
      conn:startup()
      conn:send(hostile.OK .. hostile.notice "welcome" .. hostile.GREETING:sub(#hostile.OK + 1) .. noise)
      conn:statement()
      conn:send(noise .. message "I" .. noise .. hostile.READY .. noise)
      for _ in conn.statement, conn do
        local bytes = noise .. hostile.COLUMNS .. noise .. hostile.row "x" .. noise .. hostile.COMPLETE
          .. noise .. hostile.READY .. noise
        for i = 1, #bytes do
          conn:send(bytes:sub(i, i))
          if i % 8 == 0 then
            coroutine.yield()
          end
        end
      end
    end, { answer_ms = 5000 })
    p:ready()
    p:ask "plain"
    p:ask "plain"
    assert.same({ 1, 1 }, p:fates())
    pair.wait("the notifications", function() return #p:events "notified" == 14 end)
    for _, ev in ipairs(p:events "notified") do
      assert.equal("ye", ev.text)
    end
    assert.same({}, p:events "lost")
  end)

  it("does not keep a notification that came in one piece with an answer", function()
    local p = pair.start(function(conn)
      conn:welcome()
      conn:statement()
      conn:send(hostile.COLUMNS .. hostile.row "x" .. hostile.COMPLETE .. hostile.READY .. hostile.notification "ye")
      conn:stall()
    end)
    p:ready()
    p:ask "plain"
    assert.same({ 1 }, p:fates())
    pair.wait("the notification", function() return #p:events "notified" == 1 end)
  end)

  for name, bytes in pairs {
    ["closes"] = "",
    ["sends an enormous length"] = message("Z", "", 0x7fffffff),
    ["ends the session"] = hostile.fatal("57P01", "terminating connection"),
  } do
    it("whose server " .. name .. " while nothing is asked is lost, and comes back", function()
      local p = pair.start(function(conn)
        conn:welcome()
        conn:pause(0.05)
        conn:send(bytes)
        if name:find "length" then
          conn:stall()
        end
      end)
      p:ready()
      p:lost()
      assert.same({}, p:events "done")
      p:comes_back()
    end)
  end

  it("survives chatter while nothing is asked", function()
    local p = pair.start(function(conn)
      conn:welcome()
      conn:send(hostile.notice "bored" .. message("v", "??") .. hostile.COLUMNS .. hostile.row "x" .. hostile.READY)
      conn:stall()
    end)
    p:ready()
    pair.pass(0.1, "it would be lost by now")
    assert.same({}, p:events "lost")
    assert.is_true(p.client:state().ready)
  end)

  it("does not wait for a server that takes nothing", function()
    local p = pair.start(function(conn)
      conn:welcome()
      conn:answer(conn:statement())
      conn:deaf()
    end, { answer_ms = 1000 })
    p:ready()
    p:ask("first", ("x"):rep(6 << 20))
    p:ask "plain"
    assert.same({ "ECONNRESET", "ENOTCONN" }, p:fates())
    p:comes_back()
  end)
end)
