-- transports: tls h2tls
-- limits.every_s: of each interval a stream gets the newest event of each topic. An interval of an hour does not end
-- within a spec but where the event log is too small for what it has collected: so `push` ends it.
local child = require "support.child"
local connections = require "support.connections"
local eventually = require "support.eventually"
local http = require "support.http"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

local SQLITE = assert(child.find "sqlite3", "the package sqlite3 is not installed")
local HOUR = 3600
local LOG = 16

local POLICY = [[
return {
  api = 1,
  authenticate = function() return { sub = "x" } end,
  subscribe = function(req)
    local q = req.query
    return { topics = req.topics, filter = q.filter or "none", format = q.format or "raw", start = q.start,
      ends = q.ends, envelope = q.envelope == "yes",
      limits = { every_s = tonumber(q.every), events_per_s = tonumber(q.pace) } }
  end,
  publish = function(pub) return pub end,
  filters = {
    shown = "not has(attrs.hidden)",
    shown_lua = function(ev) return not ev.attrs.hidden end,
    done = "type == 'done'",
  },
  formats = { short = function(ev)
    if ev.attrs.hidden then return nil end
    return { data = "<" .. ev.data .. ">" }
  end },
}
]]

local function start(config, policy)
  config = config or {}
  config.event_log = config.event_log or { max_events = LOG }
  return tidegate.start { policy = policy or POLICY, config = config }
end

local function watch(broker, every, more)
  local options = { topic = "v/**", query = { every = tostring(every) } }
  for name, value in pairs(more or {}) do
    if name == "last_event_id" or name == "gzip" or name == "topic" then
      options[name] = value
    else
      options.query[name] = value
    end
  end
  return sse.open(broker, options)
end

-- "a1 b2": events of those data, each to the topic of its letter, in one request. Options for all of them.
local function put(broker, text, options)
  local batch = {}
  for data in text:gmatch "%S+" do
    local e = { topic = "v/" .. data:sub(1, 1), data = data:sub(2) == "-" and "" or data }
    for name, value in pairs(options or {}) do
      e[name] = value
    end
    batch[#batch + 1] = e
  end
  local ids = {}
  for i, ack in ipairs(broker:publish_all(batch)) do
    ids[i] = ack.id
  end
  return ids
end

-- What was collected leaves the event log.
local function push(broker)
  local batch = {}
  for i = 1, LOG + 1 do
    batch[i] = { topic = "other", data = tostring(i) }
  end
  broker:publish_all(batch)
end

local function read(c, n)
  local list = {}
  for i, ev in ipairs(c:collect(n)) do
    list[i] = ev.data == "" and "-" or ev.data
  end
  return table.concat(list, " ")
end

local function conflated(broker)
  return broker:metric "tidegate_conflated_events_total"
end

describe("a stream with limits.every_s", function()
  it("gets the first at once, then the newest of each topic of each interval, in the order of ids", function()
    local broker = start()
    local c, plain = watch(broker, 0.25), watch(broker, "no")
    local zipped = watch(broker, 0.25, { gzip = true })
    local wrapped = watch(broker, 0.25, { envelope = "yes" })
    put(broker, "a1")
    for _, one in ipairs { c, zipped } do
      assert.equal("a1", read(one, 1))
    end
    put(broker, "a2 b1 a3 c1 b2 a-")
    for _, one in ipairs { c, zipped } do
      assert.equal("c1 b2 -", read(one, 3))
    end
    assert.equal("a1 a2 b1 a3 c1 b2 -", read(plain, 7))
    local last = wrapped:collect(4)[4]
    assert.same({ "v/a", "" }, { http.json.decode(last.data).topic, http.json.decode(last.data).data })
    assert.equal(2 * 3, conflated(broker)) -- of each audience
    assert.equal(0, broker:metric "tidegate_conflation_early_total")
  end)

  it("ends with the newest value of each topic, however it comes and goes", function()
    local broker = start { event_log = { max_events = 64 } }
    local seen, clients = {}, {}
    local function look(c, known)
      for _, ev in ipairs(c.queue) do
        assert.is_true(not known.id or tonumber(ev.id) > tonumber(known.id), "ids rise")
        known.id, known[ev.data:sub(1, 1)] = ev.id, ev.data
      end
      c.queue = {}
    end
    for i = 1, 6 do
      clients[i], seen[i] = watch(broker, i % 2 == 0 and 0.1 or 0.3, { pace = i == 6 and "100" or nil }), {}
    end
    for round = 1, 60 do
      local batch = {}
      for k = 1, 1 + round % 7 do
        batch[k] = ("abcde"):sub((round + k) % 5 + 1, (round + k) % 5 + 1) .. round .. "." .. k
      end
      put(broker, table.concat(batch, " "))
      local i = round % 5 + 1
      clients[i]:pump(1)
      if round % 4 == 0 then -- one is cut and comes back
        look(clients[i], seen[i])
        clients[i]:close()
        clients[i] = watch(broker, i % 2 == 0 and 0.1 or 0.3, { last_event_id = seen[i].id })
      end
    end
    put(broker, "a.last b.last c.last d.last e.last")
    for i, c in ipairs(clients) do
      c:wait("the newest of each topic", function()
        look(c, seen[i])
        for topic in ("abcde"):gmatch "." do
          if seen[i][topic] ~= topic .. ".last" then
            return false
          end
        end
        return true
      end)
    end
  end)

  it("is at the place where the interval began: cut, drained or joined, it misses nothing and gets nothing twice",
  function()
    local broker = start()
    local c = watch(broker, HOUR)
    local first = put(broker, "a1")[1]
    assert.equal("a1", read(c, 1))
    put(broker, "a2 b1 a3")
    local cut, late, all = watch(broker, HOUR, { last_event_id = first }), watch(broker, HOUR),
      watch(broker, HOUR, { last_event_id = "earliest" })
    assert.equal("a1", read(all, 1))
    local at = http.get(broker.admin, "/connections").json.connections
    local cursors = {}
    for i, one in ipairs(at) do
      cursors[i] = one.cursor
      assert.same({ HOUR, 0, false }, { one.every_s, one.lag, one.behind })
    end
    table.sort(cursors)
    assert.same({ first, first, first, late.start_id }, cursors)
    put(broker, "b2")
    push(broker)
    for _, one in ipairs { c, cut, all } do
      assert.equal("a3 b2", read(one, 2))
    end
    assert.equal("b2", read(late, 1)) -- what came before it is not for it
    assert.equal(1, broker:metric "tidegate_conflation_early_total")
    assert.is_truthy(broker:logged { level = "warn", msg = "an interval of limits.every_s ended early" })
    put(broker, "a4 a5")
    assert.equal(0, #c.queue + #late.queue)
    broker:restart()
    for _, one in ipairs { c, late } do
      one:wait_end()
      assert.equal("a5", read(watch(broker, HOUR, { last_event_id = one.last_id }), 1))
    end
  end)

  it("reads history that way, too, from the log and from the store", function()
    local broker = start()
    put(broker, "a1 b1 a2 b2 a3")
    local c = watch(broker, HOUR, { last_event_id = "earliest" })
    assert.equal("b2 a3", read(c, 2))
    c:close()
    eventually("it is gone", function()
      return broker:metric "tidegate_audiences" == 0
    end)
    for _ = 1, 10 do
      put(broker, "a4 b4 a5 b5")
    end
    assert.equal("a5 b5", read(watch(broker, HOUR, { last_event_id = "earliest" }), 2))
    assert.equal(3 + 43, conflated(broker))
  end)

  it("replaces nothing by what ends earlier: that may be when its turn comes, for who is slow or was cut", function()
    local broker = start()
    local c = watch(broker, HOUR)
    put(broker, "a1")
    put(broker, "a2 b1")
    for i, ttl in ipairs { 700, 600, 650 } do
      put(broker, "a" .. 2 + i, { expires = os.time() + ttl })
    end
    assert.equal("a2 b1 a3 a5", read(watch(broker, HOUR - 1, { last_event_id = "earliest" }), 4))
    assert.equal("a1", read(c, 1))
    push(broker)
    assert.equal("a2 b1 a3 a5", read(c, 4))
  end)

  it("gives what an end is asked for at once", function()
    local broker = start()
    local c = watch(broker, HOUR)
    put(broker, "a1")
    assert.equal("a1", read(c, 1))
    local ids = put(broker, "a2 b1 a3")
    local part = watch(broker, HOUR, { last_event_id = "earliest", ["until"] = ids[2] })
    part:wait_end()
    assert.same({ "a2", "b1", "end" }, { part.queue[#part.queue - 2].data, part.queue[#part.queue - 1].data,
      part.queue[#part.queue].type })
    assert.equal(0, #c.queue)
  end)

  it("replaces by what it would be given only: filter and format come first", function()
    local broker = start()
    local text, lua = watch(broker, HOUR, { filter = "shown" }), watch(broker, HOUR, { filter = "shown_lua" })
    local short = watch(broker, HOUR, { format = "short" })
    put(broker, "a1")
    put(broker, "a2 a3 b1")
    put(broker, "a4 a5", { attrs = { hidden = "yes" } })
    push(broker)
    for _, c in ipairs { text, lua } do
      assert.equal("a1 a3 b1", read(c, 3))
    end
    assert.equal("<a1> <a3> <b1>", read(short, 3))
    assert.equal(3, conflated(broker))
  end)

  it("ends with the event that ends it, and gets before that what was collected", function()
    local broker = start()
    local c = watch(broker, HOUR, { ends = "done" })
    put(broker, "a1")
    assert.equal("a1", read(c, 1))
    put(broker, "b1 a2 b2 c1")
    put(broker, "a3 a4", { type = "done" })
    c:wait_end()
    assert.equal("b2 c1 a3", read(c, 3))
    assert.equal(0, #c.queue)
    local replayed = watch(broker, HOUR, { ends = "done", last_event_id = "earliest" })
    replayed:wait_end()
    assert.equal("b2 c1 a3", read(replayed, 3))
    assert.equal(0, #replayed.queue)
  end)

  it("ends at such an event that has expired, with what was collected, and counts each that has once", function()
    local broker = start()
    local c = watch(broker, HOUR, { ends = "done" })
    put(broker, "a1")
    assert.equal("a1", read(c, 1))
    put(broker, "b1 a2 b2")
    put(broker, "a3", { expires = os.time() - 10 })
    put(broker, "c1", { type = "done", expires = os.time() - 10 })
    put(broker, "a4")
    c:wait_end()
    assert.equal("a2 b2", read(c, 2))
    assert.equal(0, #c.queue)
    assert.equal(2, broker:metric "tidegate_events_expired_total")
    local replayed = watch(broker, HOUR, { ends = "done", last_event_id = "earliest" })
    replayed:wait_end()
    assert.equal("a2 b2", read(replayed, 2))
    assert.equal(0, #replayed.queue)
    assert.equal(4, broker:metric "tidegate_events_expired_total")
  end)

  it("joins behind a snapshot", function()
    local broker = start { store = { latest = { "v/*" } } }
    local c = watch(broker, HOUR, { start = "latest" })
    assert.equal("live", c:next().type)
    put(broker, "a1")
    assert.equal("a1", read(c, 1))
    put(broker, "a2 b1 c1")
    local d = watch(broker, HOUR, { start = "latest" })
    local before = ""
    repeat
      local ev = d:next()
      before = before .. " " .. (ev.type == "live" and "live" or ev.data)
    until ev.type == "live"
    put(broker, "b2 c-")
    push(broker)
    assert.equal("a2 b2 -", read(c, 3))
    local behind = ""
    repeat
      behind = behind .. " " .. read(d, 1)
    until behind:find "-"
    if before == " a2 b1 c1 live" then
      assert.equal(" b2 -", behind)
    else -- its snapshot was one of a moment ago
      assert.equal(" a2 b2 -", behind:gsub(" a1", "", 1))
    end
  end)

  it("is not sent what was erased while it waited, and what that replaced instead", function()
    local broker = start()
    local c = watch(broker, HOUR)
    put(broker, "a1")
    assert.equal("a1", read(c, 1))
    put(broker, "a2 b1")
    put(broker, "a3", { attrs = { person = "p1" } })
    local r = broker:erase { topic = "v/**", where = "attrs.person == 'p1'" }
    assert.equal(1, r.json.erased)
    assert.equal("a2 b1", read(c, 2))
    put(broker, "a4")
    assert.equal("a4", read(c, 1)) -- no interval is open
  end)

  it("is judged by the policy that is in force as the interval ends, and left by streams that are moved", function()
    local broker = start()
    local c = watch(broker, HOUR, { filter = "shown" })
    put(broker, "a1")
    assert.equal("a1", read(c, 1))
    put(broker, "a2 b1", { attrs = { secret = "yes" } })
    put(broker, "c1")
    assert.equal(200, broker:reload((POLICY:gsub("attrs.hidden%)\"", "attrs.secret)\""))).status)
    push(broker)
    assert.equal("c1", read(c, 1))
    put(broker, "a3 a4")
    assert.equal(200, broker:reload((POLICY:gsub("every_s = tonumber%(q.every%),", ""))).status)
    assert.equal("a3 a4", read(c, 2))
  end)

  it("reads on in a store that was restored to an earlier state", function()
    local broker = start()
    local copy = broker.dir .. "/copy.db"
    local function sql(statement)
      local status, _, output = tidegate.run(SQLITE,
        { args = { "-bail", "-cmd", ".timeout 30000", broker.dir .. "/store/events.db", statement } })
      assert.equal(0, status, output)
    end
    local c = watch(broker, HOUR)
    put(broker, "a1")
    assert.equal("a1", read(c, 1))
    sql(("VACUUM INTO '%s'"):format(copy))
    put(broker, "a2 b1")
    sql((".restore '%s'"):format(copy))
    assert.equal("gap", c:next().type) -- it is told that what it has may be gone
    put(broker, "a9")
    assert.equal("a9", read(c, 1)) -- no interval is open, and nothing of the lost ones is sent
  end)

  it("says in explain what took an event's place", function()
    local broker = start()
    local c = watch(broker, HOUR, { topic = "v/a" })
    local first = put(broker, "a1")[1]
    assert.equal("a1", read(c, 1))
    local ids = put(broker, "a2 a3 a4")
    local function explain(id)
      local r = http.get(broker.admin, ("/connections/%s/explain?event=%s"):format(connections.of(broker, "v/a"), id))
      return { r.json.outcome, r.json.reason, r.json.place }, r.body
    end
    assert.same({ "delivered", nil, "passed" }, (explain(first)))
    local why, body = explain(ids[1])
    assert.same({ "not-delivered", "superseded", "skipped" }, why)
    assert.matches("event " .. ids[3] .. " of the same topic took its place", body, 1, true)
    why, body = explain(ids[3])
    assert.same({ "would-deliver", nil, "ahead" }, why)
    assert.matches("at the end of the interval", body, 1, true)
    push(broker)
    assert.equal("a4", read(c, 1))
    assert.same({ "delivered", nil, "passed" }, (explain(ids[3])))
  end)
end)

describe("an interval", function()
  it("keeps what lasts until its end, beside newer events that do not", function()
    local broker = start { event_log = { max_events = 4096 } }
    local c = watch(broker, HOUR)
    put(broker, "a1")
    assert.equal("a1", read(c, 1))
    local expires = os.time() + 3
    local batch = { { topic = "v/a", data = "2" }, { topic = "v/a", data = "3" },
      { topic = "v/a", data = "4", expires = expires - 1 }, { topic = "v/a", data = "5", expires = expires } }
    local function put_many(topic, n)
      for i = 1, n do
        batch[#batch + 1] = { topic = topic, data = tostring(i) }
      end
      broker:publish_all(batch)
      batch = {}
    end
    put_many("v/b", 900)
    put_many("v/b", 900)
    eventually("it has let go of older ones", function() return conflated(broker) >= 1000 end)
    eventually("it is past", function() return os.time() > expires end)
    for _ = 1, 5 do
      put_many("other", 1000)
    end
    assert.equal("3 900", read(c, 2))
  end)

  it("ends early where more topics come than one audience may collect", function()
    local broker = start { event_log = { max_events = 65536 } }
    local c = watch(broker, HOUR)
    put(broker, "a1")
    for round = 1, 14 do -- it looks now and then
      local batch = {}
      for i = 1, 1000 do
        batch[i] = { topic = ("v/n%d/%d"):format(round, i), data = "1" }
      end
      broker:publish_all(batch)
    end
    c:collect(1 + 14000)
    assert.equal(1, broker:metric "tidegate_conflation_early_total")
    assert.equal(0, conflated(broker))
  end)
end)
