-- The seed scenario, with a client nobody here wrote: a reservation service publishes, a lending service
-- listens, is stopped, comes back with the last id it recorded.
local child = require "support.child"
local eventually = require "support.eventually"
local http = require "support.http"
local lending = require "support.lending"
local tidegate = require "support.tidegate"

local function reserve(broker, book, type)
  local id = broker:publish("reservation/" .. book, http.json.encode { book = book }, { type = type or "reserved" })
  return { type = type or "reserved", id = id, data = http.json.encode { book = book } }
end

-- Nothing further may come: asked after a moment in which a double would have.
local function assert_exactly(expected, client)
  client:wait_events(#expected)
  eventually.pass(0.3, "a double would show by now")
  assert.same(expected, (client:received()))
end

describe("a lending service with an off-the-shelf EventSource client", function()
  local broker = tidegate.shared {}
  local running

  local function start(last_id)
    running = lending.start(broker(), last_id)
    return running
  end

  after_each(function()
    if running then
      running.process:stop()
      running = nil
    end
  end)

  it("receives exactly what it missed while it was stopped, in order, once", function()
    local client = start()
    client:wait_open()
    local before = { reserve(broker(), "emma"), reserve(broker(), "dune", "cancelled") }
    assert_exactly(before, client)
    client.process:stop()

    local missed = {}
    for i = 1, 50 do
      missed[i] = reserve(broker(), "missed-" .. i)
    end
    client = start(before[#before].id)
    client:wait_events(#missed)
    missed[#missed + 1] = reserve(broker(), "after")
    assert_exactly(missed, client)
  end)

  it("receives all there is when it asks for earliest", function()
    local all = {}
    local client = start "earliest"
    client:wait_open()
    client:wait_events(1) -- what the other specs of this block left
    all[1] = reserve(broker(), "one-more")
    eventually("the newest event", function()
      local events = client:received()
      return events[#events].id == all[1].id
    end)
    local from_start = client:received()
    client.process:stop()

    client = start "earliest"
    assert_exactly(from_start, client)
    for i = 2, #from_start do
      assert.is_true(tonumber(from_start[i - 1].id) < tonumber(from_start[i].id))
    end
  end)
end)

describe("a lending service whose broker is restarted", function()
  it("loses nothing and receives nothing twice, without doing anything for it", function()
    local port = child.free_port()
    local broker = tidegate.start { config = { listen = { "127.0.0.1:" .. port }, sse = { retry_ms = 200 } } }
    local client = lending.start(broker)
    finally(function() client.process:stop() end)
    client:wait_open()
    local expected = {}
    for round = 1, 3 do
      for i = 1, 5 do
        expected[#expected + 1] = reserve(broker, ("book-%d-%d"):format(round, i))
      end
      client:wait_events(#expected)
      if round % 2 == 1 then
        broker:stop()
      else
        broker:kill()
      end
      broker:start()
      -- before the client is back: it has to ask for these
      expected[#expected + 1] = reserve(broker, "meanwhile-" .. round)
      client:wait_open(round + 1)
    end
    assert_exactly(expected, client)
  end)
end)
