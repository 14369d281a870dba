-- The story the project started from: a reservation service publishes, a lending service listens, is
-- stopped, comes back. (The same with an off-the-shelf client: eventsource_spec.lua.)
local http = require "support.http"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

local TOPIC = "library/reservations"

local function reserve(broker, n)
  local id = broker:publish(TOPIC, http.json.encode({ book = n }, { keyorder = { "book" } }), { type = "reserved" })
  return { type = "reserved", data = ('{"book":%d}'):format(n), id = id }
end

describe("a lending service", function()
  it("that was stopped receives exactly what it missed, in order; with earliest it receives all", function()
    local broker = tidegate.start()
    local all = {}
    for i = 1, 3 do
      all[#all + 1] = reserve(broker, i)
    end
    local lending = sse.open(broker, { topic = TOPIC })
    for i = 4, 6 do
      all[#all + 1] = reserve(broker, i)
    end
    assert.same({ all[4], all[5], all[6] }, lending:collect(3))
    local last = lending.last_id
    lending:close()

    for i = 7, 16 do
      all[#all + 1] = reserve(broker, i)
      broker:publish("library/returns", "not for it")
    end

    lending = sse.open(broker, { topic = TOPIC, last_event_id = last })
    assert.same(table.move(all, 7, 16, 1, {}), lending:collect(10))
    all[#all + 1] = reserve(broker, 17)
    assert.same(all[17], lending:next())

    local newcomer = sse.open(broker, { topic = TOPIC, query = { last_event_id = "earliest" } })
    assert.same(all, newcomer:collect(17))
  end)

  it("does not notice that the broker was replaced meanwhile", function()
    local broker = tidegate.start()
    local lending = sse.open(broker, { topic = TOPIC })
    local first = reserve(broker, 1)
    assert.same(first, lending:next())
    broker:restart()
    local missed = { reserve(broker, 2), reserve(broker, 3) }
    broker:kill()
    broker:start()
    local back = sse.open(broker, { topic = TOPIC, last_event_id = lending.last_id })
    missed[3] = reserve(broker, 4)
    assert.same(missed, back:collect(3))
  end)
end)
