-- Where history begins and ends, over PostgreSQL: two workers, whose times are the store's.
local eventually = require "support.eventually"
local pg = require "support.pg"
local sse = require "support.sse"

local POLICY = [[return {
  api = 1,
  authenticate = function() return {} end,
  publish = function(pub) return pub end,
  subscribe = function(req)
    return { topics = req.topics, filter = req.query.only or "none", replay = req.query.last and { last = 2 } }
  end,
  filters = { odd = "attrs.odd == true" },
}]]

describe("windows of history over PostgreSQL", function()
  local server = pg.shared {}

  local function first(broker, n, query)
    local c, data = sse.open(broker, { topic = "a", query = query }), {}
    for i, ev in ipairs(c:collect(n)) do
      data[i] = ev.type == "message" and ev.data or ev.type .. ":" .. ev.data
    end
    c:close()
    return table.concat(data, " ")
  end

  -- What a stream held that ends, and its last id.
  local function finite(broker, query)
    local c, data = sse.open(broker, { topic = "a", query = query }), {}
    c:wait("the end of the stream", function() return c.ended end)
    local last = table.remove(c.queue)
    for i, ev in ipairs(c.queue) do
      data[i] = ev.data
    end
    assert.equal("end", last and last.type)
    return table.concat(data, " "), last.id
  end

  it("begin, end, and are over, whichever worker answers", function()
    local broker = server():database():broker { policy = POLICY, config = { workers = 2 } }
    local batch, ids = {}, {}
    for i = 1, 9 do
      batch[i] = { topic = i == 6 and "b" or "a", data = tostring(i), attrs = { odd = i % 2 == 1 } }
    end
    for i, ack in ipairs(broker:publish_all(batch)) do
      ids[i] = ack.id
    end
    for round = 1, 2 do
      for _ = 1, 4 do -- either worker
        assert.equal("1 2 3 4 5 7 8 9", first(broker, 8, { since = "-9m" }))
        assert.equal("3 4", (finite(broker, { last_event_id = ids[2], limit = 2 })))
        local data, last = finite(broker, { since = "-9m", ["until"] = ids[4] })
        assert.equal("1 2 3 4", data)
        local back = sse.request(broker, { topic = "a", last_event_id = last,
          query = { since = "-9m", ["until"] = ids[4] } })
        assert.equal(204, back.status)
        assert.equal("8 9", first(broker, 2, { last = 1, last_event_id = ids[1] }))
        eventually("the newest two, at a worker that has them", function() -- the other one may be a little behind
          return first(broker, 2, { last = 1, only = "odd", last_event_id = "earliest" }) == "7 9"
        end, 60)
        assert.equal("", (finite(broker, { since = "-9h", ["until"] = "-9m" })))
      end
      if round == 1 then
        broker:restart() -- what there is comes from the store
      end
    end
  end)
end)
