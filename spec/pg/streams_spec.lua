-- Pages of history, `first` and `ends` over PostgreSQL: two workers, whichever answers.
local eventually = require "support.eventually"
local http = require "support.http"
local pg = require "support.pg"
local sse = require "support.sse"

local POLICY = [[
return {
  api = 1,
  authenticate = function() return {} end,
  publish = function(pub) return pub end,
  subscribe = function(req)
    local q = req.query
    return { topics = req.topics, filter = q.only or "none", ends = q.ends,
      first = q.first and { { event = "put", data = q.first } } }
  end,
  filters = { odd = "attrs.odd == true", finished = "type == 'done'" },
}
]]

local TRIES = 4 -- either worker, most likely

describe("over PostgreSQL, with two workers,", function()
  local server = pg.shared {}
  local broker, ids

  before_each(function()
    local db = server():database()
    broker = db:broker { policy = POLICY, config = { workers = 2, event_log = { page_events = 3 } } }
    local batch = {}
    for i = 1, 9 do
      batch[i] = { topic = "a", data = tostring(i), type = i == 9 and "done" or nil, attrs = { odd = i % 2 == 1 } }
    end
    ids = {}
    for i, ack in ipairs(broker:publish_all(batch)) do
      ids[i] = ack.id
    end
  end)

  local function get(query, accept, known)
    query.topic = "a"
    return http.get(broker, "/events?" .. http.query(query),
      { Accept = accept or "application/json", ["If-None-Match"] = known })
  end

  local function data(events)
    local list = {}
    for i, ev in ipairs(events) do
      list[i] = tostring(ev.data)
    end
    return table.concat(list, " ")
  end

  -- From memory, then from the database.
  local function twice(check)
    eventually("both workers have all", function() -- most likely
      for _ = 1, 2 * TRIES do
        if #get({ last_event_id = ids[8] }).json.events < 1 then
          return false
        end
      end
      return true
    end, 30)
    for round = 1, 2 do
      for _ = 1, TRIES do
        check()
      end
      if round == 1 then
        broker:restart()
      end
    end
  end

  it("history comes as pages, and in lines", function()
    twice(function()
      local got, asked = {}, "earliest"
      repeat
        local r = get { limit = 4, last_event_id = asked }
        assert.equal(200, r.status, r.body)
        got[#got + 1] = data(r.json.events)
        assert.equal(304, get({ limit = 4, last_event_id = asked }, nil, r.headers.etag).status)
        asked = r.json.next
      until not r.json.more
      assert.same({ "1 2 3 4", "5 6 7 8", "9" }, got)
      assert.equal("1 3 5 7 9", data(get({ only = "odd" }).json.events))
      assert.equal("3 4 5", data(get({ last_event_id = ids[2], ["until"] = ids[5] }).json.events))
      local lines = {}
      for line in get({ limit = 2, last_event_id = ids[4] }, "application/x-ndjson").body:gmatch "([^\n]*)\n" do
        lines[#lines + 1] = http.json.decode(line)
      end
      assert.same({ ids[5], ids[6], 3, ids[6], true },
        { lines[1].id, lines[2].id, #lines, lines[3].next, lines[3].more })
    end)
  end)

  it("a stream begins with its own state, ends with the last event, and is told so when it comes back", function()
    twice(function()
      local c = sse.open(broker, { topic = "a", last_event_id = ids[6],
        query = { first = "state", ends = "finished" } })
      c:wait_end()
      assert.is_true(c.whole)
      assert.same({ "state", "7", "8", "9" }, { c.queue[1].data, c.queue[2].data, c.queue[3].data, c.queue[4].data })
      assert.same({ "put", 4 }, { c.queue[1].type, #c.queue })
      local back = sse.request(broker, { topic = "a", last_event_id = ids[9], query = { ends = "finished" } })
      assert.equal(204, back.status)
    end)
  end)
end)
