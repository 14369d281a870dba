-- transports: tls h2
-- History as pages of JSON: GET with Accept: application/json or application/x-ndjson.
local child = require "support.child"
local eventually = require "support.eventually"
local http = require "support.http"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

local SQLITE = assert(child.find "sqlite3", "the package sqlite3 is not installed")

local POLICY = [[
local seen
local grants = { [''] = true, none = false, last = { last = 2 } }
return {
  api = 1,
  authenticate = function(req) return { sub = req.query.sub or "ann" } end,
  publish = function(pub) return pub end,
  subscribe = function(req, who)
    if who.sub == "eve" then return tg.deny(403, "not you") end
    if req.query.wait then
      log.info("waits")
      while not seen do sleep(0.01) end
    end
    return { topics = req.topics, filter = req.query.only or "none", format = req.query.format or "raw",
      replay = grants[req.query.replay or ''],
      limits = req.query.pace and { events_per_s = tonumber(req.query.pace) },
      quota = who.sub == "max" and { { key = "max", max = 1, over = req.query.over or "deny" } } or nil }
  end,
  filters = { odd = "attrs.odd == true", fn = function(ev) return ev.raw ~= '2' end },
  formats = { short = function(ev)
    if ev.raw == '4' then error "no" end
    return { data = { short = ev.raw }, event = "brief" }
  end },
  observe = { { topics = { "late" }, run = function() seen = true end } },
  disconnect = function(who, info) log.info("gone", { reason = info.reason, delivered = info.delivered }) end,
}
]]

local JSON = { Accept = "application/json" }

local function path(query)
  local q = { topic = "a" }
  for k, v in pairs(query or {}) do
    q[k] = v
  end
  return "/events?" .. http.query(q)
end

local function data_of(page)
  local data = {}
  for i, ev in ipairs(page.events) do
    data[i] = tostring(ev.data)
  end
  return table.concat(data, " ")
end

describe("a page of history", function()
  local broker = tidegate.shared { policy = POLICY }
  local ids

  setup(function()
    local batch = {}
    ids = {}
    for i = 1, 5 do
      batch[i] = { topic = "a", data = tostring(i), type = i == 5 and "last" or nil, attrs = { odd = i % 2 == 1 } }
    end
    table.insert(batch, 3, { topic = "b", data = "not for it" })
    for _, ack in ipairs(broker():publish_all(batch)) do
      ids[#ids + 1] = ack.id
    end
    table.remove(ids, 3)
  end)

  local function get(query, headers)
    return http.get(broker(), path(query), headers or JSON)
  end

  local function page(query)
    local r = get(query)
    assert.equal(200, r.status, r.body)
    return r.json, r
  end

  -- From the event log, and from the store.
  for _, from in ipairs { "memory", "the store" } do
    describe("from " .. from, function()
      setup(function()
        if from == "the store" then
          broker():restart()
        end
      end)

      it("has events with their fields, where the next one begins, and no gap", function()
        local p, r = page()
        assert.equal("1 2 3 4 5", data_of(p))
        assert.equal("application/json", r.headers["content-type"])
        assert.equal("Accept, Accept-Encoding", r.headers["vary"])
        assert.equal("private, no-cache", r.headers["cache-control"])
        local ev = p.events[1]
        assert.same({ ids[1], "a", "message", nil }, { ev.id, ev.topic, ev.type, ev.attrs })
        assert.is_true(math.abs(ev.time - os.time()) < 300)
        assert.equal("last", p.events[5].type)
        assert.is_false(p.more)
        assert.matches('"gap":null}\n$', r.body)
        assert.is_true(math.tointeger(p.next) >= math.tointeger(ids[5]), "a restart is a leap")
      end)

      it("leads to the next one, until there is no more", function()
        local got, asked, pages = {}, nil, 0
        repeat
          local p = page { limit = 2, last_event_id = asked }
          got[#got + 1] = data_of(p)
          asked, pages = p.next, pages + 1
        until not p.more
        assert.equal("1 2 3 4 5", table.concat(got, " "))
        assert.equal(3, pages)
      end)

      it("is cut as streams are", function()
        assert.equal("1 3 5", data_of(page { only = "odd" }))
        assert.equal("1 3 4 5", data_of(page { only = "fn" }))
        assert.equal("1 2 3 4 5", data_of(page { since = "-5m" }))
        assert.equal("", data_of(page { since = "-9m", ["until"] = "-5m" }))
        assert.equal("2 3", data_of(page { last_event_id = ids[1], ["until"] = ids[3] }))
        assert.equal("", data_of(page { last_event_id = ids[5] }))
        assert.equal("4 5", data_of(page { replay = "last" }))
        assert.equal("3 5", data_of(page { replay = "last", only = "odd" }))
        local p = page { replay = "none", last_event_id = "earliest" }
        assert.same({ 0, false }, { #p.events, p.more })
        assert.is_true(math.tointeger(p.next) >= math.tointeger(ids[5]))
      end)

      it("is in the format of the subscription, which alone says what is in it", function()
        local ev = page({ format = "json" }).events[1]
        assert.same({ ids[1], "a", "message", 1, true }, { ev.id, ev.topic, ev.type, ev.data, ev.attrs.odd })
        local p = page { format = "short" }
        assert.same({ id = ids[1], type = "brief", data = { short = "1" } }, p.events[1])
        assert.same({ id = ids[4], skipped = "format-error" }, p.events[4])
      end)

      it("is a line for each event, and one for what follows", function()
        local r = get({ limit = 2, format = "json" }, { Accept = "application/x-ndjson" })
        assert.equal("application/x-ndjson", r.headers["content-type"])
        local lines = {}
        for line in r.body:gmatch "([^\n]*)\n" do
          lines[#lines + 1] = http.json.decode(line)
        end
        assert.same({ ids[1], ids[2], nil }, { lines[1].id, lines[2].id, lines[4] })
        assert.same({ next = ids[2], more = true }, lines[3])
      end)

      it("is not sent again to a client that has it", function()
        for _, query in ipairs { {}, { limit = 2 }, { last_event_id = ids[5] }, { last_event_id = "x" } } do
          local r = get(query)
          local again = get(query, { Accept = "application/json", ["If-None-Match"] = 'W/"x", ' .. r.headers.etag })
          assert.same({ 304, "", r.headers.etag }, { again.status, again.body or "", again.headers.etag })
          query.only = "odd"
          assert.equal(200, get(query, { Accept = "application/json", ["If-None-Match"] = r.headers.etag }).status)
        end
      end)
    end)
  end

  it("is sent to a client that has it as it was before an event of it was erased", function()
    local one = tidegate.start { policy = POLICY }
    for i = 1, 4 do
      one:publish("a", tostring(i), { attrs = { odd = i % 2 == 1 and "yes" or "no" } })
    end
    local function again(etag)
      return http.get(one, path { limit = 2 }, { Accept = "application/json", ["If-None-Match"] = etag })
    end
    local before = again()
    assert.equal("1 2", data_of(before.json))
    assert.equal(304, again(before.headers.etag).status)
    assert.equal(2, one:erase({ topic = "a", where = "attrs.odd == 'yes'" }).json.erased)
    local after = again(before.headers.etag)
    assert.equal(200, after.status)
    assert.equal("2 4", data_of(after.json))
    assert.equal(304, again(after.headers.etag).status)
  end)

  it("is sent to a client whose field is cut short", function()
    local tag = get({}).headers.etag
    for n = 110, 130 do -- as long as a block of memory
      local r = get({}, { Accept = "application/json", ["If-None-Match"] = ("x"):rep(n) .. tag:sub(1, -2) })
      assert.equal(200, r.status)
    end
  end)

  it("ends where the log did when it was asked for: what came since may be what takes a right away", function()
    local target = path { topic = "late", wait = "1" }
    local c = http.connect(broker())
    c:send(http.render("GET", target, JSON))
    eventually("the policy is asked", function() return broker():logged { msg = "waits" } end, 30)
    local id = broker():publish("late", "x")
    local r = c:response()
    assert.equal(200, r.status)
    assert.same({}, r.json.events)
    assert.same({ "x" }, { data_of(page { topic = "late" }) })
    assert.equal(id, page { topic = "late" }.events[1].id)
  end)

  it("names the gap before it", function()
    local p = page { last_event_id = "nonsense" }
    assert.same({ reason = "unknown", requested = "nonsense", resumed_from = p.next }, p.gap)
  end)

  it("comes no faster than the subscription lets a stream be", function()
    local from = os.time()
    local p = page { pace = 2.5 }
    assert.equal("1 2", data_of(p))
    assert.equal("3 4", data_of(page { pace = 2, last_event_id = p.next }))
    assert.is_true(os.time() - from >= 1)
    assert.equal("1", data_of(page { pace = 0.9 }))
    assert.equal("1 2 3 4 5", data_of(page { pace = 1000000 }))
    local c = http.connect(broker())
    c:send(http.render("GET", path { pace = 0.001 }, JSON))
    eventually("it waits", function() return broker():metric "tidegate_event_page_unread_bytes" > 0 end)
    c:close()
    eventually("it is gone", function() return broker():metric "tidegate_event_page_unread_bytes" == 0 end)
  end)

  -- A page that leaves in a minute.
  local function paced(one)
    local c = http.connect(one)
    c:send(http.render("GET", path { pace = 0.001 }, JSON))
    eventually("it waits", function() return one:metric "tidegate_event_page_unread_bytes" > 0 end)
    return c
  end

  it("leaves at once where the broker drains", function()
    local one = tidegate.start { policy = POLICY }
    one:publish("a", "1")
    local c, from = paced(one), eventually.now()
    one:signal "TERM"
    local r = c:response()
    assert.same({ 200, "1" }, { r.status, data_of(r.json) })
    assert.equal(0, (one:wait_exit(20)))
    assert.is_true(eventually.now() - from < 30)
  end)

  it("is refused at once where another policy takes over, which may deny it", function()
    local one = tidegate.start { policy = POLICY }
    one:publish("a", "1")
    local c = paced(one)
    one:write_file("policy.lua", (POLICY:gsub('who.sub == "eve"', 'who.sub == "ann"')))
    one:reload()
    local r = c:response()
    assert.equal(503, r.status)
    assert.truthy(r.json.detail:find("the policy has changed", 1, true), r.body)
    assert.truthy(r.headers["retry-after"])
    assert.equal(403, http.get(one, path { pace = 0.001 }, JSON).status)
    assert.equal(0, one:metric "tidegate_event_page_unread_bytes")
  end)

  it("is another one where the gap is another", function()
    local tag = get({ last_event_id = "x" }).headers.etag
    local r = get({ last_event_id = "y" }, { Accept = "application/json", ["If-None-Match"] = tag })
    assert.same({ 200, "y" }, { r.status, r.json.gap.requested })
  end)

  it("is another one under another policy, though it is of the same events", function()
    local one = tidegate.start { policy = POLICY }
    one:publish("a", "1")
    one:publish("a", "2")
    local query = path { limit = 2, format = "short" }
    local before = http.get(one, query, JSON)
    one:write_file("policy.lua", (POLICY:gsub("short = ev.raw", "shorter = ev.raw")))
    one:reload()
    local again = { Accept = "application/json", ["If-None-Match"] = before.headers.etag }
    local after = http.get(one, query, again)
    assert.same({ 200, "1" }, { after.status, after.json.events[1].data.shorter })
    again["If-None-Match"] = after.headers.etag
    assert.equal(304, http.get(one, query, again).status)
  end)

  it("is refused as streams are", function()
    assert.same({ 403, "not you" }, { get({ sub = "eve" }).status, get({ sub = "eve" }).json.detail })
    for query, words in pairs { [{ limit = 1001 }] = 'limit is "1001": a number of events from 1 to 1000 was expected',
      [{ limit = 0 }] = "from 1 to 1000 was", [{ since = "noon" }] = "a time was expected" } do
      local r = get(query)
      assert.equal(400, r.status)
      assert.truthy(r.json.detail:find(words, 1, true))
    end
    assert.equal(406, get({}, { Accept = "text/html" }).status)
  end)

  it("counts for quotas that deny, and ends no stream", function()
    local c = sse.open(broker(), { topic = "a", query = { sub = "max" } })
    assert.equal(429, get({ sub = "max" }).status)
    assert.equal(200, get({ sub = "max", over = "oldest" }).status)
    broker():publish("a", "still here", { attrs = { odd = "no" } })
    assert.equal("still here", c:next().data)
    c:close()
    eventually("it is gone", function() return broker():metric "tidegate_subscribers" == 0 end)
    for _ = 1, 3 do
      assert.equal(200, get({ sub = "max" }).status, "each gives its place back")
    end
  end)

  it("is no stream, for disconnect neither: it is told of the end", function()
    page { limit = 3, sub = "bob" }
    eventually("disconnect has run", function()
      return broker():logged { msg = "gone", reason = "ended", delivered = "3" }
    end)
    assert.equal(0, broker():metric "tidegate_subscribers")
  end)

  it("that could not be made has not ended, for disconnect neither", function()
    local one = tidegate.start { policy = POLICY }
    one:publish("a", "1")
    one:restart() -- pages of the store
    local code, _, err = tidegate.run(SQLITE, { args = { "-cmd", ".timeout 5000", one.dir .. "/store/events.db",
      "DROP TABLE events" } })
    assert.equal(0, code, err)
    local r = http.get(one, path { sub = "joe" }, JSON)
    assert.equal(503, r.status, r.body)
    assert.is_string(r.headers["retry-after"])
    eventually("disconnect has run", function()
      return one:logged { msg = "gone", reason = "transient" }
    end)
    assert.is_nil(one:logged { msg = "gone", reason = "ended" })
  end)

  it("is not what those get who would take a stream", function()
    for _, accept in ipairs { "application/json, */*", "text/event-stream, application/json" } do
      local c = sse.open(broker(), { topic = "a", headers = { { "Accept", accept } } })
      c:close()
    end
    local r = http.request(broker(), "HEAD", path(), JSON)
    assert.same({ 200, "application/json" }, { r.status, r.headers["content-type"] })
  end)
end)

describe("pages of much history", function()
  local broker = tidegate.shared { policy = POLICY }

  it("end where they have been looking long enough, and go on from there", function()
    for k = 0, 10 do
      local batch = {}
      for i = 1, 1000 do
        batch[i] = { topic = "b", data = tostring(i + 1000 * k) }
      end
      broker():publish_all(batch)
    end
    broker():publish("a", "found")
    for _ = 1, 2 do
      local p = http.get(broker(), path(), JSON).json
      assert.same({ 0, true }, { #p.events, p.more })
      p = http.get(broker(), path { last_event_id = p.next }, JSON).json
      assert.same({ "found", false }, { p.events[1].data, p.more })
      -- as long for the newest ones, which the policy grants alone
      p = http.get(broker(), path { replay = "last" }, JSON).json
      assert.same({ "found", 1 }, { p.events[1].data, #p.events })
      p = http.get(broker(), path { topic = "b", replay = "last", only = "odd" }, JSON).json
      assert.equal(0, #p.events)
      local n, asked = 0, nil
      repeat
        p = http.get(broker(), path { topic = "b", limit = 1000, last_event_id = asked }, JSON).json
        for _, ev in ipairs(p.events) do
          n = n + 1
          assert.equal(n, ev.data)
        end
        asked = p.next
      until not p.more
      assert.equal(11000, n)
      broker():restart() -- the second time from the store
    end
  end)

  it("are no longer than a megabyte", function()
    local batch = {}
    for i = 1, 6 do
      batch[i] = { topic = "large", data = ("x"):rep(250000) }
    end
    local before = tostring(math.tointeger(broker():publish_all(batch)[1].id) - 1)
    local p = http.get(broker(), path { topic = "large", last_event_id = before }, JSON).json
    assert.equal(5, #p.events)
    assert.is_true(p.more)
    local rest = http.get(broker(), path { topic = "large", last_event_id = p.next }, JSON).json
    assert.equal(6, #p.events + #rest.events)
  end)
end)
