-- Clients that nobody here wrote, all at once, through everything that can happen to a stream.
local Crowd = require "clients.crowd"
local child = require "support.child"
local eventually = require "support.eventually"
local roster = require "clients.roster"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

local TOPIC = "matrix"
local PATIENCE = 40 -- seconds for the slowest; the others do not wait for it

-- Says in the log who asks; streams (they name themselves) are answered as MODE says.
local POLICY = [[
  local MODE = "%s"
  return {
    api = 1,
    authenticate = function(req)
      local client = req.query.client
      if client and not req.query.look then
        print("asks <" .. client .. ">")
        if MODE == "away" then return nil, "not now" end
        if MODE == "refused" then return tg.deny(403, "not any more") end
      end
      return { sub = client or "publisher" }
    end,
    subscribe = function(req, who)
      if MODE == "refused" then return tg.deny(403, "not any more") end
      return { topics = req.topics }
    end,
    publish = function(pub) return pub end,
  }
]]

describe("off-the-shelf clients", function()
  local broker, crowd
  local expected -- of the running scenario: { event, id, data }

  setup(function()
    roster.prepare()
    broker = tidegate.start { keep = true, policy = POLICY:format "open", config = {
      listen = { "127.0.0.1:" .. child.free_port() },
      http = { cors_origins = { "*" } },
      sse = { retry_ms = 500, heartbeat_s = 6, refusal_hold_s = 1 },
      drain = { retry_ms = 500 },
    } }
    broker:publish("elsewhere", "moves the position of the store")
    crowd = Crowd.start(broker, roster.clients, TOPIC)
    crowd:wait_connected(broker, 60)
  end)

  teardown(function()
    if crowd then
      crowd:stop()
    end
    if broker then
      broker:dispose()
    end
  end)

  local function publish(data, type)
    local id = broker:publish(TOPIC, data, { type = type })
    expected[#expected + 1] = { event = type or "message", id = id, data = data }
    return id
  end

  local function wait_for(id)
    crowd:wait(function(c) return c:has(id) end, PATIENCE)
  end

  -- How often each client has asked for a stream since the broker runs.
  local requests = Crowd.now_and_then(function()
    local count = {}
    for name in broker:log():gmatch "asks <(.-)>" do
      count[name] = (count[name] or 0) + 1
    end
    return count
  end)

  local function policy(mode)
    return POLICY:format(mode)
  end

  -- One spec for each client; `check(client)` is asked after the scenario has been played.
  local function each(check)
    for i, entry in ipairs(roster.clients) do
      it(entry[1], function()
        local c = crowd.list[i]
        local ok, why = pcall(check, c)
        if not ok then
          print(c:story())
          error(why, 0)
        end
      end)
    end
  end

  for _, name in ipairs(roster.left_out) do -- Debian 12 has Node.js 18
    print(name .. " is left out: it needs a newer Node.js")
  end

  it("are those that README.md of this folder lists", function()
    local page = assert(io.open(SPEC_SOURCE_DIR .. "/spec/clients/README.md", "rb"))
    local listed = {}
    for name in page:read("a"):gmatch "\n| `([^`]+)`" do
      listed[#listed + 1] = name
    end
    page:close()
    local names = {}
    for i, entry in ipairs(roster.all) do
      names[i] = entry[1]
    end
    table.sort(listed)
    table.sort(names)
    assert.same(names, listed)
  end)

  -- Exactly what was published, once each, in order, and nothing else.
  local function received_all(c)
    local wanted = {}
    for _, ev in ipairs(expected) do
      if ev.data ~= "" or c.entry.empty ~= "dropped" then
        local data = c.entry.lines == "last" and ev.data:match "[^\n]*$" or ev.data
        wanted[#wanted + 1] = { event = ev.event, id = ev.id, data = data }
      end
    end
    assert.same(wanted, c:since())
  end

  local function scenario(name, play, check)
    describe(name, function()
      setup(function()
        expected = {}
        crowd:mark()
        play()
      end)
      each(check or received_all)
    end)
  end

  -- Runs the broker where no client looks for it.
  local function unseen(fn)
    local address = broker.config.listen
    broker.config.listen = { "127.0.0.1:0" }
    broker:write_conf()
    broker:start()
    fn()
    broker:kill()
    broker.config.listen = address
    broker:write_conf()
    broker:start()
  end

  scenario("lose nothing where the connection is lost before the first event:", function()
    for _, c in ipairs(crowd.list) do
      assert(c.connected, "no stream: " .. c:story())
    end
    broker:kill()
    local last
    -- a client that is back before would get them live, also without its position
    unseen(function()
      publish "i1"
      last = publish "i2"
    end)
    wait_for(last)
  end)

  scenario("lose nothing and get nothing twice over kill -9:", function()
    publish "one"
    publish("two", "added")
    wait_for(publish "three")
    publish "in the last moment"
    broker:kill()
    broker:start()
    publish "while they were away"
    wait_for(publish("five", "added"))
  end)

  scenario("lose nothing and get nothing twice over SIGTERM and a new start:", function()
    wait_for(publish "before")
    broker:restart()
    publish "meanwhile"
    wait_for(publish "after")
  end)

  scenario("get an event of 1 MB, an empty one, and nothing for heartbeats:", function()
    local lines = {}
    for i = 1, 1000 do
      lines[i] = ("%04d "):format(i) .. ("größer\t\"%d\"\\ "):format(i):rep(60):sub(1, 990) .. "."
    end
    publish(table.concat(lines, "\n"))
    publish("", "added")
    wait_for(publish "then silence")
    -- it asks after all others have got the last event, so that its heartbeat comes after theirs
    local witness = sse.open(broker, { topic = TOPIC })
    witness:wait("a heartbeat", function() return #witness.comments > 0 end, 20)
    wait_for(publish "after the heartbeat")
  end)

  scenario("come back when a refusal is not for good:", function()
    broker:stop()
    broker:write_file("policy.lua", policy "away")
    broker:start()
    crowd:wait(function(c) return requests()[c.name] end, PATIENCE)
    local asked = requests()
    for _, c in ipairs(crowd.list) do
      assert(asked[c.name], "it did not come back: " .. c:story())
    end
    publish "while nobody was let in"
    assert.equal(200, broker:reload(policy "open").status)
    wait_for(publish "let in")
  end)

  scenario("are told of a gap when history is gone:", function()
    broker:stop()
    broker.config.store.retain_events = 10
    broker:write_conf()
    broker:write_file("policy.lua", policy "away")
    broker:start()
    for i = 1, 60 do
      publish("old " .. i)
    end
    eventually("retention has worked", function()
      return broker:metric "tidegate_store_retention_removed_total" >= 50
    end, 20)
    broker:stop()
    broker:write_file("policy.lua", policy "open")
    broker:start()
    wait_for(publish "new")
  end, function(c)
    local list = c:since()
    assert.equal("gap", list[1] and list[1].event)
    assert.matches('"reason":"expired"', list[1].data)
    local rest = table.move(list, 2, #list, 1, {})
    assert.is_true(#rest < 20, "a gap, and then what was said to be gone")
    assert.same(table.move(expected, #expected - #rest + 1, #expected, 1, {}), rest)
  end)

  local asked -- how often each one came when it was refused
  scenario("stop, or say so, when they are refused for good:", function()
    local before = requests()
    assert.equal(200, broker:reload(policy "refused").status)
    crowd:wait(function(c)
      local times = (requests()[c.name] or 0) - (before[c.name] or 0)
      return c.entry.refused == "asks again" and times >= 3 or c.ended
    end, PATIENCE)
    asked = {}
    for _, c in ipairs(crowd.list) do
      asked[c.name] = (requests()[c.name] or 0) - (before[c.name] or 0)
    end
  end, function(c)
    local told = c:since()
    assert.equal("revoked", told[1] and told[1].event)
    assert.equal(1, #told)
    if c.entry.refused == "asks again" then
      assert.is_true(asked[c.name] >= 3, asked[c.name] .. " requests")
      assert.is_true(#c.errors > 0, "it does not say that it is refused")
    else
      assert.equal(1, asked[c.name])
      assert.is_string(c.ended)
    end
  end)
end)
