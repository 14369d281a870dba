-- What holds of events that expire, on whatever store: `start(options)` starts a broker on it, `insert(broker, { topic,
-- data, expires (Unix seconds) })` stores a row as a program does that writes to the store.
local busted = require "busted"
local eventually = require "support.eventually"
local http = require "support.http"
local sse = require "support.sse"
local uv = require "luv"

local assert, describe, it = require "luassert", busted.describe, busted.it
local setup, teardown, before_each = busted.setup, busted.teardown, busted.before_each

local JSON = { Accept = "application/json" }

local POLICY = [[
return {
  api = 1,
  authenticate = function() return { sub = "x" } end,
  subscribe = function(req)
    local q = req.query
    local last = tonumber(q.newest)
    return { topics = req.topics, start = q.start, filter = q.filter or "none",
      replay = last and { last = last } or nil, ends = q.ends and "over" or nil }
  end,
  publish = function(pub) return pub end,
  filters = { soon = function(ev) return ev.expires and ev.expires - ev.time < 3600 end, never = "not has(expires)",
    late = "expires > " .. os.time() + 3600, over = "ends_with(topic, '/over')" },
  observe = { { topics = { "*/seen" }, run = function(ev) log.info("seen", { data = ev.raw }) end } },
}
]]

local M = {}

function M.now()
  local s, us = uv.gettimeofday()
  return s + us / 1e6
end

function M.pass(time)
  eventually("it is past", function() return M.now() > time + 0.01 end, 60)
end

local function data_of(events)
  local list = {}
  for i, ev in ipairs(events) do
    list[i] = ev.data
  end
  return table.concat(list, " ")
end

local function page(broker, query, headers)
  local r = http.get(broker, "/events?" .. http.query(query), headers or JSON)
  return r.status == 200 and not headers and data_of(r.json.events) or r.body, r
end

-- Publishes two events, of which the second expires soon, until `read` has answered something before it expires: a slow
-- machine takes longer. Answers that, when the second expires, and their ids.
local function before_it_expires(broker, topic, read)
  local ttl = 0.5
  while ttl < 60 do
    local first = broker:publish(topic, "stays")
    local r = http.post(broker, "/events?" .. http.query { topic = topic, ttl = ttl }, "goes")
    assert.equal(201, r.status, r.body)
    local expires = M.now() + ttl -- or earlier
    local got
    repeat
      got = read(first)
      eventually.turn()
    until got or M.now() > expires
    if got then
      return got, expires, first, r.json.id
    end
    ttl = ttl * 2
  end
  error "the machine is too slow"
end

local function before(id)
  return ("%d"):format(math.tointeger(id) - 1)
end

function M.describe(name, workers, start, insert)
  describe("events that expire, " .. name, function()
    local broker, a
    setup(function()
      broker = start { policy = POLICY, keep = true, config = { workers = workers,
        event_log = { max_events = 16, page_events = 4 }, store = { latest = { "score/*" }, latest_topics = 2 } } }
    end)
    teardown(function() broker:dispose() end)

    local count = 0
    before_each(function()
      count = count + 1
      a = "a" .. count
    end)

    -- Of each worker, most likely.
    local function everywhere(check)
      for _ = 1, workers * 2 do
        check()
      end
    end

    it("are delivered until then, and afterwards neither live nor from memory, from the store or in pages", function()
      local live = sse.open(broker, { topic = a .. "/*" })
      local now = M.now()
      broker:publish_all {
        { topic = a .. "/1", data = "before" },
        { topic = a .. "/1", data = "past", expires = now - 10 },
        { topic = a .. "/1", data = "hour", ttl = 3600 },
        { topic = a .. "/1", data = "iso", expires = "2001-09-10T00:00:00Z" },
        { topic = a .. "/1", data = "after", expires = math.floor(now) + 3600 },
      }
      assert.equal("before hour after", data_of(live:collect(3)))
      local _, expires, first = before_it_expires(broker, a .. "/2", function(at)
        return page(broker, { topic = a .. "/*", last_event_id = before(at) }) == "stays goes"
      end)
      M.pass(expires)
      broker:publish(a .. "/3", "end")
      local from = before(first)
      local function both(expected, last_event_id, n)
        local c = sse.open(broker, { topic = a .. "/*", last_event_id = last_event_id })
        assert.equal(expected, data_of(c:collect(n)))
        eventually("this worker has them", function()
          return page(broker, { topic = a .. "/*", last_event_id = last_event_id, limit = n }) == expected
        end)
        assert.equal(expected, data_of(sse.open(broker,
          { topic = a .. "/*", last_event_id = last_event_id, query = { limit = n } }):collect(n)))
      end
      everywhere(function() both("stays end", from, 2) end)
      local newest = sse.open(broker, { topic = a .. "/*", last_event_id = "0", query = { newest = 2 } })
      assert.equal("stays end", data_of(newest:collect(2)))
      local lines = page(broker, { topic = a .. "/*", last_event_id = from }, { Accept = "application/x-ndjson" })
      assert.is_nil(lines:find("goes", 1, true))
      for i = 1, 20 do -- the event log has forgotten it all
        broker:publish("b/" .. i, "x")
      end
      everywhere(function() both("stays end", from, 2) end)
      assert.equal(0, broker:metric "tidegate_gaps_total")
      assert.is_true(broker:metric "tidegate_events_expired_total" > 2)
      assert.equal("before hour after", (page(broker, { topic = a .. "/1" })))
    end)

    it("are as others until then: their fields, filters and formats know when that is", function()
      local soon = sse.open(broker, { topic = a .. "/*", query = { filter = "soon" } })
      local late = sse.open(broker, { topic = a .. "/*", query = { filter = "late" } })
      local never = sse.open(broker, { topic = a .. "/*", query = { filter = "never" } })
      broker:publish(a .. "/1", "plain")
      local r = http.post(broker, "/events?ttl=60.5&topic=" .. a .. "/1", "short")
      eventually("this worker has them", function() return page(broker, { topic = a .. "/*" }) == "plain short" end)
      http.post(broker, "/events?ttl=36000&topic=" .. a .. "/1", "long")
      assert.equal("short", soon:next().data)
      assert.equal("plain", never:next().data)
      assert.equal("long", late:next().data)
      assert.equal(r.json.id, soon.last_id)
      local all
      eventually("this worker has them", function()
        all = select(2, page(broker, { topic = a .. "/*" }))
        return data_of(all.json.events) == "plain short long"
      end)
      local short = all.json.events[2]
      assert.is_true(math.abs(short.expires - short.time - 60.5) < 0.002, all.body)
      assert.is_nil(all.json.events[1].expires)
    end)

    it("that are stored by SQL expire, too, and are seen by nobody when they come late", function()
      local live = sse.open(broker, { topic = a .. "/*" })
      insert(broker, { topic = a .. "/seen", data = "late", expires = M.now() - 5 })
      insert(broker, { topic = a .. "/1", data = "hour", expires = M.now() + 3600 })
      insert(broker, { topic = a .. "/seen", data = "in time" })
      assert.equal("hour", live:next(60).data)
      assert.equal("in time", live:next(60).data)
      eventually("this worker has them", function() return page(broker, { topic = a .. "/*" }) == "hour in time" end)
      eventually("observe has run", function() return broker:logged { msg = "seen", data = "in time" } end)
      assert.is_nil(broker:logged { msg = "seen", data = "late" })
    end)

    it("leave a client's copy of a page no longer than they last", function()
      local tag, expires = before_it_expires(broker, a .. "/1", function()
        local got, r = page(broker, { topic = a .. "/1" })
        return got:find "stays goes$" and r.headers.etag
      end)
      local function again(etag)
        return page(broker, { topic = a .. "/1" }, { Accept = "application/json", ["If-None-Match"] = etag })
      end
      M.pass(expires)
      everywhere(function()
        local got, r = again(tag)
        assert.equal(200, r.status, tag)
        assert.is_nil(got:find "goes")
        assert.equal(304, select(2, again(r.headers.etag)).status)
      end)
      http.post(broker, "/events?ttl=3600&topic=" .. a .. "/1", "later")
      eventually("a page with what has yet to expire is known", function()
        local _, r = page(broker, { topic = a .. "/1" })
        return r.body:find "later" and select(2, again(r.headers.etag)).status == 304
      end)
    end)

    it("are in no snapshot, and make room for other topics of store.latest", function()
      local function snapshot()
        local c, list = sse.open(broker, { topic = "score/*", query = { start = "latest" } }), {}
        for ev in function() return c:next(60) end do
          if ev.type == "live" then
            c:close()
            return table.concat(list, " ")
          end
          list[#list + 1] = ev.data
        end
      end
      local _, expires = before_it_expires(broker, "score/1", function()
        return snapshot() == "goes"
      end)
      broker:publish("score/2", "kept")
      M.pass(expires)
      everywhere(function() assert.equal("kept", snapshot()) end)
      eventually("there is room", function()
        return http.post(broker, "/events?topic=score/3", "new").status == 201
      end, 60)
      eventually("a snapshot of now", function() return snapshot() == "kept new" end)
    end)

    it("keep their ids and keys, and a client that was at the end of its stream does not begin anew", function()
      local ttl, key = 0.5, a
      local got, id, expires
      repeat
        assert.is_true(ttl < 60)
        local c = sse.open(broker, { topic = a .. "/over", query = { ends = "1" } })
        key = key .. "k"
        id = http.post(broker, "/events?" .. http.query { topic = a .. "/over", ttl = ttl, key = key }, "over").json.id
        expires = M.now() + ttl
        broker:publish(a .. "/over", "more")
        got = c:next().id
        ttl = ttl * 2
      until got == id
      M.pass(expires)
      local r = http.post(broker, "/events?ttl=1&topic=" .. a .. "/over&key=" .. key, "over")
      assert.same({ 200, id, true }, { r.status, r.json.id, r.json.duplicate })
      r = http.get(broker, "/events?ends=1&topic=" .. a .. "/over",
        { Accept = "text/event-stream", ["Last-Event-ID"] = id })
      assert.equal(204, r.status, r.body)
    end)
  end)
end

return M
