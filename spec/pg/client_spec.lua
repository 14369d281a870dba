-- The connection to PostgreSQL against servers that lie, stall and go: every accepted statement completes exactly
-- once and says truly whether it may have been carried out, nothing blocks the loop, and when the server behaves
-- again so does the client.
local eventually = require "support.eventually"
local hostile = require "support.pg_hostile"
local native = require "native.pg"
local socket = require "socket"

local message = hostile.message

-- Megabytes are copied several times, slowly under a sanitizer. A call that waited for the server, which runs in
-- the same thread, would not return at all.
local COPYING = 0.5

----------------------------------------------------------------- a client and its server, turned together
local pairs_open -- { client =, server =, accepted = tokens }

local pair = {}
pair.__index = pair

local function start(script, options)
  options = options or {}
  local self = setmetatable({ server = hostile.start(script), asked = {}, gap = options.gap }, pair)
  local conninfo = ("host=%s port=%d user=u dbname=d %s"):format(options.host or "127.0.0.1", self.server.port,
    options.conninfo or "sslmode=disable")
  self.client = native.new { conninfo = conninfo, once = options.once, setup = options.setup,
    connect_ms = options.connect_ms, answer_ms = options.answer_ms }
  pairs_open[#pairs_open + 1] = self
  return self
end

local function turn_all()
  for _, p in ipairs(pairs_open) do
    if not p.closed then
      p.client:turn()
    end
    p.server:turn()
  end
  socket.sleep(0.001)
end

local function wait(what, fn, timeout)
  local deadline = eventually.deadline(timeout or 10)
  repeat
    turn_all()
    local result = fn()
    if result then
      return result
    end
  until eventually.now() > deadline
  error("not in time: " .. what, 2)
end

local function turn(seconds)
  local till = eventually.now() + seconds
  repeat
    turn_all()
  until eventually.now() > till
end

function pair:events(kind)
  local list = {}
  for _, ev in ipairs(self.all or self.client:events()) do
    if ev.kind == kind then
      list[#list + 1] = ev
    end
  end
  return list
end

-- Asks; the statement must be accepted.
function pair:ask(name, arg)
  local token = assert(self.client:ask(name, arg))
  self.asked[#self.asked + 1] = token
  return token
end

-- How the statement ended, if it has.
function pair:fate(token)
  for _, ev in ipairs(self:events "done") do
    if ev.token == token then
      return ev
    end
  end
end

function pair:ready(n)
  wait("ready", function() return #self:events "ready" >= (n or 1) end)
end

function pair:lost(n)
  return wait("lost", function() return self:events "lost"[n or 1] end)
end

function pair:fates()
  return wait("every statement completes", function()
    local list = {}
    for i, token in ipairs(self.asked) do
      local ev = self:fate(token)
      list[i] = ev and (ev.error or ev.rows)
    end
    return #list == #self.asked and list
  end)
end

-- Ends it and looks at what must hold in any case.
function pair:finish()
  if self.closed then
    return
  end
  local gap = self.client:gap()
  local code
  code, self.all = self.client:finish_close()
  self.closed = true
  self.server:stop()
  assert.equal(0, code, "handles are left on the loop")
  assert.equal("closed", self.all[#self.all].kind)
  assert.equal(1, #self:events "closed")
  local seen = {}
  for _, ev in ipairs(self:events "done") do
    assert.is_nil(seen[ev.token], "completed twice")
    seen[ev.token] = true
  end
  for _, token in ipairs(self.asked) do
    assert.is_true(seen[token], "never completed")
  end
  assert.is_true(gap < (self.gap or 0.1) * eventually.factor, ("the loop stood still for %.0f ms"):format(gap * 1000))
end

-- From now on the server behaves: the client comes back and works.
function pair:comes_back()
  self.server.script = function(conn) conn:behave() end
  self.server:disconnect()
  local before = #self.server.accepted
  wait("it is ready", function() return #self.server.accepted > before and self.client:state().ready end)
  local a, b, c = self:ask "plain", self:ask "first", self:ask("first", "again")
  for _, token in ipairs { a, b, c } do
    assert.equal(1, wait("an answer", function() return self:fate(token) end).rows)
  end
  assert.equal(0, self.client:state().pending)
end

describe("a client of PostgreSQL", function()
  before_each(function() pairs_open = {} end)
  after_each(function()
    local failure
    for _, p in ipairs(pairs_open) do
      local ok, why = pcall(p.finish, p)
      failure = failure or not ok and why
    end
    assert(not failure, failure)
  end)

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
      conn:send(hostile.error("42501", "must not") .. hostile.READY)
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
      local p = start(closed_doors[name], { setup = true })
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
      local p = start(function(conn)
        conn:startup()
        conn:send(hostile.error(sqlstate, text))
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
    ["refuses instead of talking about TLS"] = { hostile.error("53300", "too many"), "sslmode=require" },
  } do
    it("whose server " .. name .. " fails what waited", function()
      local p = start(function(conn)
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
    local dead = hostile.start(function() end)
    local p = start(function(conn) conn:behave() end)
    local q = setmetatable({ server = dead, asked = {} }, pair)
    q.client = native.new { conninfo = ("host=127.0.0.1,127.0.0.1 port=%d,%d user=u dbname=d sslmode=disable"):format(
      dead.port, p.server.port), once = true }
    pairs_open[#pairs_open + 1] = q
    q:ask "plain"
    assert.same({ 1 }, q:fates())
    assert.same({}, q:events "lost")
  end)

  it("that is to try once gives up after one pass", function()
    local p = start(function() end, { once = true })
    p:lost()
    turn(0.5)
    assert.equal(1, #p.server.accepted)
    assert.equal(1, #p:events "lost")
    assert.same({ nil, "ENOTCONN" }, { p.client:ask "plain" })
  end)

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
      conn:send(hostile.error("57P01", "terminating connection due to administrator command"))
    end,
    ["with the end of the session, staying"] = function(conn)
      conn:send(hostile.error("57P02", "crash of another server process"))
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
      local p = start(function(conn, n)
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
      local p = start(function(conn, n)
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
      wait("an answer", function() return p:fate(done) end)
      p:ask("second", "x")
      p:ask "plain"
      assert.same({ 1, "ENOTCONN", "ENOTCONN" }, p:fates())
      p:lost()
      p:comes_back()
    end)
  end

  it("takes a refusal of a statement for what it is, and goes on with the same connection", function()
    local p = start(function(conn)
      conn:welcome()
      conn:statement()
      conn:send(hostile.COLUMNS .. hostile.row "x" .. hostile.error("23505", "it exists") .. hostile.READY)
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
    local p = start(function(conn, n)
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
    local p = start(function(conn)
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
    wait("the notifications", function() return #p:events "notified" == 14 end)
    for _, ev in ipairs(p:events "notified") do
      assert.equal("ye", ev.text)
    end
    assert.same({}, p:events "lost")
  end)

  for name, bytes in pairs {
    ["closes"] = "",
    ["sends an enormous length"] = message("Z", "", 0x7fffffff),
    ["ends the session"] = hostile.error("57P01", "terminating connection"),
  } do
    it("whose server " .. name .. " while nothing is asked is lost, and comes back", function()
      local p = start(function(conn)
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
    local p = start(function(conn)
      conn:welcome()
      conn:send(hostile.notice "bored" .. message("v", "??") .. hostile.COLUMNS .. hostile.row "x" .. hostile.READY)
      conn:stall()
    end)
    p:ready()
    turn(0.1)
    assert.same({}, p:events "lost")
    assert.is_true(p.client:state().ready)
  end)

  it("does not wait for a server that takes nothing", function()
    local p = start(function(conn)
      conn:welcome()
      conn:answer(conn:statement())
      conn:deaf()
    end, { answer_ms = 1000, gap = COPYING })
    p:ready()
    p:ask("first", ("x"):rep(6 << 20))
    p:ask "plain"
    assert.same({ "ECONNRESET", "ENOTCONN" }, p:fates())
    p:comes_back()
  end)

  --------------------------------------------------------------- coming back
  it("waits longer each time, and not as long as others do", function()
    local crowd, delays = {}, {}
    for i = 1, 10 do
      crowd[i] = start(function() end)
    end
    wait("everybody tried seven times", function()
      for _, p in ipairs(crowd) do
        if #p.server.accepted < 7 then
          return false
        end
      end
      return true
    end, 20)
    for n = 1, 6 do
      delays[n] = { sum = 0, all = {} }
      for _, p in ipairs(crowd) do
        local lost, at = p:events "lost"[n], p.server.accepted[n + 1]
        local ms = (at - lost.at) * 1000
        delays[n].sum = delays[n].sum + ms
        delays[n].all[math.floor(ms / (5 << (n - 1)))] = true
        assert.is_true(ms < (50 << (n - 1)) + 100 * eventually.factor, ("delay %d took %.0f ms"):format(n, ms))
      end
    end
    assert.is_true(delays[6].sum > 3 * delays[2].sum)
    local different = 0
    for _ in pairs(delays[6].all) do
      different = different + 1
    end
    assert.is_true(different >= 3) -- tenths of the range that were used
  end)

  it("knocks again at once when others say so", function()
    local p = start(function() end)
    p:lost(7)
    local before = #p.server.accepted
    p.client:nudge()
    p:lost(8)
    assert.is_true(p.server.accepted[before + 1] - p:events "lost"[7].at < 0.2 * eventually.factor)
    p.client:nudge()
    p:comes_back()
    p.client:nudge() -- it is ready: nothing happens
    turn(0.05)
    assert.is_true(p.client:state().ready)
  end)

  it("that gives the connection up fails what is under way, and comes back", function()
    local p = start(function(conn) conn:welcome() conn:stall() end)
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

  --------------------------------------------------------------- called from within
  for _, deed in ipairs { "ask", "close", "drop", "nudge" } do
    for _, moment in ipairs { "ready", "lost", "notified", "done" } do
      for _, way in ipairs { "good", "bad" } do
        it(("may be told to %s from within %s (%s server)"):format(deed, moment, way), function()
          local p = start(function(conn, n)
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
          turn(0.05)
          if deed ~= "close" then
            p.client:react("none", "ask")
            p.server.script = function(conn) conn:behave() end
            wait("it is ready", function() return p.client:state().ready end)
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
    local p = start(function(conn) conn:behave() end)
    p:ask "plain"
    p:ask("first", "x")
    closes(p, 2)
  end)

  it("can be closed while a name is looked up", function()
    local p = start(function(conn) conn:behave() end, { host = "localhost" })
    p:ask "plain"
    p.client:turn()
    closes(p, 1)
  end)

  it("can be closed while it connects, at every step", function()
    for cut = 0, #hostile.GREETING - 1, 7 do
      local p = start(function(conn)
        conn:startup()
        conn:send(hostile.GREETING:sub(1, cut))
        conn:stall()
      end, { connect_ms = 5000 })
      p:ask "plain"
      wait("the start", function() return #p.server.accepted == 1 end)
      for _ = 1, 5 do
        turn_all()
      end
      closes(p, 1)
    end
  end)

  it("can be closed while TLS is agreed on", function()
    local p = start(function(conn)
      conn:read(8)
      conn:send "S"
      conn:stall()
    end, { connect_ms = 5000, conninfo = "sslmode=require" })
    p:ask "plain"
    turn(0.1)
    closes(p, 1)
  end)

  it("can be closed during its setup", function()
    local p = start(function(conn)
      conn:startup()
      conn:send(hostile.GREETING)
      conn:stall()
    end, { setup = true, answer_ms = 5000 })
    p:ask "plain"
    turn(0.1)
    assert.is_false(p.client:state().ready)
    closes(p, 1)
  end)

  it("can be closed when it is ready", function()
    local p = start(function(conn) conn:behave() end)
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
      local p = start(script, { answer_ms = 5000 })
      p:ready()
      p:ask(name:find "prepared" and "first" or "plain")
      p:ask "plain"
      turn(0.05)
      closes(p, 2)
    end)
  end

  it("can be closed while the server takes nothing", function()
    local p = start(function(conn) conn:welcome() conn:answer(conn:statement()) conn:deaf() end,
      { answer_ms = 5000, gap = COPYING })
    p:ready()
    p:ask("first", ("x"):rep(6 << 20))
    turn(0.1)
    closes(p, 1)
  end)

  it("can be closed after it gave the connection up", function()
    local p = start(function(conn) conn:welcome() conn:stall() end)
    p:ready()
    p:ask "plain"
    p:ask "plain"
    p.client:drop "enough"
    closes(p, 2)
  end)

  it("can be closed while it waits for the next attempt", function()
    local p = start(function() end)
    p:lost(5)
    closes(p, 0)
  end)
end)
