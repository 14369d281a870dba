-- Connecting to PostgreSQL servers that lie, stall and go: what waits fails and says so, nothing blocks the loop, and
-- when the server behaves again the client comes back.
local hostile = require "support.pg_hostile"
local pair = require "support.pg_pair"

local message = hostile.message

describe("a client of PostgreSQL", function()
  pair.around_specs()

  --------------------------------------------------------------- no way in
  local GARBAGE = ("\xff\x00garbage of no protocol\r\n"):rep(50)
  local closed_doors = {
    ["accepts and says nothing"] = function(conn) conn:stall() end,
    ["closes at once"] = function() end,
    ["closes after the start was sent"] = function(conn) conn:startup() end,
    ["answers the start with garbage"] = function(conn) conn:startup() conn:send(GARBAGE) conn:stall() end,
    ["talks before it is asked"] = function(conn) conn:send(GARBAGE) conn:stall() end,
    ["speaks another protocol"] = function(conn) conn:startup() conn:send "HTTP/1.1 400 Bad Request\r\n\r\n" end,
    ["sends half of the first answer and stalls"] = function(conn)
      conn:startup()
      conn:send(hostile.OK:sub(1, 6))
      conn:stall()
    end,
    ["lets it in and never says that it is ready"] = function(conn)
      conn:startup()
      conn:send(hostile.GREETING:sub(1, -#hostile.READY - 1))
      conn:stall()
    end,
    ["sends an endless greeting"] = function(conn)
      conn:startup()
      conn:send(hostile.OK)
      while not conn.ended do
        conn:send(hostile.parameter("application_name", "x"):rep(10))
        coroutine.yield()
      end
    end,
    ["claims an enormous length at the start"] = function(conn)
      conn:startup()
      conn:send(message("R", "", 0x7fffffff))
      conn:stall()
    end,
    ["claims a negative length at the start"] = function(conn)
      conn:startup()
      conn:send(message("R", "", -1))
      conn:stall()
    end,
    ["claims an enormous error"] = function(conn)
      conn:startup()
      conn:send(message("E", "", 0x7fffffff))
      conn:stall()
    end,
    ["wants a password there is none for"] = function(conn)
      conn:startup()
      conn:send(message("R", (">I4c4"):pack(5, "salt")))
      conn:stall()
    end,
    ["wants an unknown kind of authentication"] = function(conn)
      conn:startup()
      conn:send(message("R", (">I4"):pack(4711)))
      conn:stall()
    end,
    ["is read-only"] = function(conn)
      conn:startup()
      conn:send(hostile.OK .. hostile.parameter("server_version", "15.3") .. hostile.parameter("in_hot_standby", "on")
        .. hostile.parameter("default_transaction_read_only", "off") .. hostile.READY)
      conn:stall()
    end,
    ["never answers the setup"] = function(conn)
      conn:startup()
      conn:send(hostile.GREETING)
      conn:stall()
    end,
    ["refuses the setup"] = function(conn)
      conn:startup()
      conn:send(hostile.GREETING)
      conn:statement()
      conn:send(hostile.refusal("42501", "must not") .. hostile.READY)
      conn:stall()
    end,
    ["closes during the setup"] = function(conn)
      conn:startup()
      conn:send(hostile.GREETING)
      conn:statement()
    end,
  }
  for _, name in ipairs((function()
    local names = {}
    for name in pairs(closed_doors) do
      names[#names + 1] = name
    end
    table.sort(names)
    return names
  end)()) do
    it("whose server " .. name .. " fails what waited, tries again, and comes back", function()
      local p = pair.start(closed_doors[name], { setup = true })
      p:ask "plain"
      p:ask("first", "x")
      assert.same({ "ENOTCONN", "ENOTCONN" }, p:fates())
      local e = p:lost()
      assert.matches("^PostgreSQL at ", e.text)
      assert.equal(0, e.pending) -- everything has failed before
      assert.same({ takes = false, ready = false, pending = 0 },
        { takes = p.client:state().takes, ready = p.client:state().ready, pending = p.client:state().pending })
      assert.same({ nil, "ENOTCONN" }, { p.client:ask "plain" })
      p:lost(2)
      assert.same({}, p:events "ready")
      p:comes_back()
    end)
  end

  for sqlstate, text in pairs {
    ["53300"] = "sorry, too many clients already",
    ["57P03"] = "the database system is starting up",
    ["28P01"] = "password authentication failed",
    ["3D000"] = "database \"d\" does not exist",
  } do
    it(("that is refused (%s) says why, and comes back"):format(sqlstate), function()
      local p = pair.start(function(conn)
        conn:startup()
        conn:send(hostile.fatal(sqlstate, text))
      end)
      p:ask "plain"
      assert.same({ "ENOTCONN" }, p:fates())
      assert.is_truthy(p:lost().text:find(text, 1, true))
      p:comes_back()
    end)
  end

  for name, case in pairs {
    ["answers the wish for TLS with garbage"] = { "?", "sslmode=prefer" },
    ["promises TLS and sends garbage"] = { "S" .. GARBAGE, "sslmode=require" },
    ["promises TLS and stalls"] = { "S", "sslmode=require" },
    ["offers no TLS though it is required"] = { "N", "sslmode=require" },
    ["refuses instead of talking about TLS"] = { hostile.fatal("53300", "too many"), "sslmode=require" },
  } do
    it("whose server " .. name .. " fails what waited", function()
      local p = pair.start(function(conn)
        conn:read(8)
        conn:send(case[1])
        conn:stall()
      end, { conninfo = case[2] })
      p:ask "plain"
      assert.same({ "ENOTCONN" }, p:fates())
      p:lost(2)
      p.server.script = function(conn)
        conn:read(8)
        conn:send "N"
        conn:behave()
      end
      if case[2] == "sslmode=prefer" then
        p:ready()
      end
    end)
  end

  it("tries a list of servers in one pass", function()
    local p = pair.start(function(conn) conn:behave() end, { before = function() end, once = true })
    p:ask "plain"
    assert.same({ 1 }, p:fates())
    assert.same({}, p:events "lost")
    assert.equal(1, #p.before.accepted)
  end)

  it("tries the server that was silent last after all others", function()
    local p = pair.start(function(conn, n)
      if n > 2 then
        conn:behave()
      end
    end, { before = function(conn) conn:stall() end, connect_ms = 400 })
    p:ready()
    -- silent, refused; refused, silent; and not a third time
    assert.equal(2, #p.before.accepted)
    p:lost(2)
  end)

  it("does not leave a server out for having been silent", function()
    local p = pair.start(function() end, { connect_ms = 400, before = function(conn, n)
      if n > 1 then
        conn:behave()
      end
      conn:stall()
    end })
    p:ready()
    p:ask "plain"
    assert.same({ 1 }, p:fates())
    p.before.script = function(conn) conn:behave() end
    p.before:disconnect()
    p:ready(2) -- it answers now: nobody else is asked first
    assert.equal(3, #p.before.accepted)
    assert.equal(2, #p.server.accepted)
  end)

  it("that is to try once gives up after one pass", function()
    local p = pair.start(function() end, { once = true })
    p:lost()
    pair.pass(0.5, "another pass would show by now")
    assert.equal(1, #p.server.accepted)
    assert.equal(1, #p:events "lost")
    assert.same({ nil, "ENOTCONN" }, { p.client:ask "plain" })
  end)

  --------------------------------------------------------------- coming back
  it("waits longer each time, and not as long as others do", function()
    local crowd, delays = {}, {}
    for i = 1, 10 do
      crowd[i] = pair.start(function() end)
    end
    pair.wait("everybody tried seven times", function()
      for _, p in ipairs(crowd) do
        if #p.server.accepted < 7 then
          return false
        end
      end
      return true
    end, 20)
    for n = 1, 6 do
      delays[n] = { sum = 0, all = {} }
      local least = math.huge -- a busy machine may make some of them longer
      for _, p in ipairs(crowd) do
        local lost, at = p:events "lost"[n], p.server.accepted[n + 1]
        local ms = (at - lost.at) * 1000
        delays[n].sum = delays[n].sum + ms
        delays[n].all[math.floor(ms / (5 << (n - 1)))] = true
        least = math.min(least, ms)
      end
      assert.is_true(least < (50 << (n - 1)) + 100, ("delay %d took %.0f ms at least"):format(n, least))
    end
    assert.is_true(delays[6].sum > 3 * delays[2].sum)
    local different = 0
    for _ in pairs(delays[6].all) do
      different = different + 1
    end
    assert.is_true(different >= 3) -- tenths of the range that were used
  end)

  it("knocks again at once when others say so", function()
    local p = pair.start(function() end)
    p:lost(7)
    local before = #p.server.accepted
    p.client:nudge()
    p:lost(8)
    -- it would have waited for seconds: between half and one and a half of 50 ms << 6
    assert.is_true(p.server.accepted[before + 1] - p:events "lost"[7].at < 1)
    p.client:nudge()
    p:comes_back()
    p.client:nudge() -- it is ready: nothing happens
    pair.pass(0.05, "what should not happen would by now")
    assert.is_true(p.client:state().ready)
  end)

  it("that gives the connection up fails what is under way, and comes back", function()
    local p = pair.start(function(conn) conn:welcome() conn:stall() end)
    p:ready()
    p:ask "plain"
    p:ask "plain"
    p.client:drop "not what it should be"
    assert.same({ nil, "ENOTCONN" }, { p.client:ask "plain" })
    assert.same({}, p:events "done") -- in a later turn
    assert.same({ "ECONNRESET", "ENOTCONN" }, p:fates())
    assert.matches("not what it should be", p:lost().text)
    p:comes_back()
  end)
end)
