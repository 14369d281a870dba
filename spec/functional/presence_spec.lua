-- Who is there: the first stream of a member is announced, and the end of its last one, by one worker and by several.
local eventually = require "support.eventually"
local http = require "support.http"
local sse = require "support.sse"
local store = require "native.store"
local tidegate = require "support.tidegate"

local SEED = tonumber(os.getenv "TIDEGATE_SPEC_SEED") or os.time()

-- ?room= is where the member ?as= is; the policy may be asked again under another version of itself.
local POLICY = [[
return {
  api = 1,
  authenticate = function(req) return { sub = req.query.as or "nobody" } end,
  subscribe = function(req, who)
    local q = req.query
    return { topics = { "room/" .. q.room .. "/**" }, format = "json", start = q.start or "now",
      presence = q.as and { topic = "room/" .. q.room .. "/members", member = who.sub,
        data = q.data and { is = q.data } } }
  end,
  publish = function(pub) return pub end,
}
]]

local function start(config, options)
  config = config or {}
  config.store = config.store or { latest = { "room/*/members/*" } }
  config.presence = config.presence or { grace_s = 1 }
  options = options or {}
  options.policy, options.config = options.policy or POLICY, config
  return tidegate.start(options)
end

local function enter(broker, room, as, data)
  return sse.open(broker, { query = { room = room, as = as, data = data } })
end

-- What a watcher has been told, one after the other: "+ann:DATA" or "-ann".
local function told(ev)
  local e = http.json.decode(ev.data)
  local member = e.topic:match "/members/([^/]*)$"
  return e.data == "" and "-" .. member or ("+%s:%s"):format(member, e.data.is or "")
end

local function watch(broker, room)
  local c = sse.open(broker, { query = { room = room } })
  return function(n, timeout)
    local list = {}
    for i, ev in ipairs(c:collect(n, timeout or 30)) do
      list[i] = told(ev)
    end
    return table.concat(list, " ")
  end
end

-- Who is there, says a snapshot.
local function present(broker, room)
  local c, list = sse.open(broker, { query = { room = room, start = "latest" } }), {}
  while true do
    local ev = c:next(30)
    if ev.type == "live" then
      break
    end
    list[#list + 1] = told(ev)
  end
  c:close()
  table.sort(list)
  return table.concat(list, " ")
end

local function is_present(broker, room, whom)
  eventually(("%s are in room %s"):format(whom, room), function()
    local found = present(broker, room)
    return found == whom, found
  end, 60)
end

-- A client that never gives up: when its stream ends it opens another, with its position. step() reads, `news` is what
-- it was told since somebody took it; leave() ends it for good.
local function persist(broker, query)
  local self = { news = {} }
  function self.step()
    local c = self.client or not self.gone and sse.start(broker, { query = query, last_event_id = self.position })
    self.client = c or nil
    if c then
      c:pump(8)
      assert(not c.status or c.status == 200, c.status)
      for _, ev in ipairs(c.queue) do
        self.news[#self.news + 1] = told(ev)
      end
      c.queue, c.blocks = {}, {}
      self.position = c.last_id ~= "" and c.last_id or self.position
      if c.ended then
        c:close()
        self.client = nil
      end
    end
  end
  function self.leave()
    self.gone = true
    if self.client then
      self.client:close()
      self.client = nil
    end
  end
  return self
end

-- What holds however many workers there are.
local function announces(workers)
  it("announces the first stream of a member, and the end of its last one", function()
    local broker = start { workers = workers }
    local next_ones = watch(broker, 1)
    local a = enter(broker, 1, "ann", "busy")
    assert.equal("+ann:busy", next_ones(1))
    local others = {}
    for i = 1, 6 do -- with several workers they are on different ones
      others[i] = enter(broker, 1, "ann", "busy")
    end
    local b = enter(broker, 1, "b/*%")
    assert.equal("+b%2F%2A%25:", next_ones(1))
    is_present(broker, 1, "+ann:busy +b%2F%2A%25:")
    a:close()
    b:close()
    assert.equal("-b%2F%2A%25", next_ones(1))
    enter(broker, 1, "eve")
    assert.equal("+eve:", next_ones(1)) -- ann has not left
    for _, c in ipairs(others) do
      c:close()
    end
    assert.equal("-ann", next_ones(1))
    is_present(broker, 1, "+eve:")
    eventually("the gauge follows", function()
      return broker:metric "tidegate_presence_members" == 1
    end)
    assert.equal(3, broker:metric "tidegate_presence_joined_total")
    assert.equal(2, broker:metric "tidegate_presence_left_total")
  end)

  it("says nothing of members that come back within the grace, and of reloads", function()
    local broker = start { workers = workers, presence = { grace_s = 3 } }
    local next_ones = watch(broker, 1)
    local still = enter(broker, 1, "ann")
    local flaps = enter(broker, 1, "bob")
    next_ones(2)
    for i = 1, 20 do
      flaps:close()
      eventually("the broker knows", function()
        return broker:metric "tidegate_subscribers" == 2
      end)
      if i == 1 then
        eventually.pass(0.2, "a part of the grace")
      end
      flaps = enter(broker, 1, "bob")
      if workers == 1 or i % 4 == 0 then
        assert.equal(200, broker:reload(("-- %d\n"):format(i) .. POLICY).status)
      end
    end
    eventually("all were asked about", function()
      return broker:metric "tidegate_policy_resubscribes_waiting" == 0
    end)
    enter(broker, 1, "last")
    assert.equal("+last:", next_ones(1))
    still:close()
    assert.equal("-ann", next_ones(1)) -- bob is there
    is_present(broker, 1, "+bob: +last:")
  end)
end

describe("presence at one worker", function()
  announces(1)

  it("announces data that is new, and moves a stream whose presence is another one", function()
    local broker = start()
    local next_ones = watch(broker, 1)
    local a = enter(broker, 1, "ann", "x")
    assert.equal("+ann:x", next_ones(1))
    enter(broker, 1, "ann", "y")
    assert.equal("+ann:y", next_ones(1))
    local found = 0
    for _, c in ipairs(http.json.decode(http.get(broker.admin, "/connections").body).connections) do
      found = found + (c.presence == "room/1/members/ann" and 1 or 0)
    end
    assert.equal(2, found)
    local long = enter(broker, 1, "a-name-that-is-longer-than-a-column-is-wide")
    assert.matches("^%+a%-name", next_ones(1))
    local code, out, err = tidegate.run(tidegate.binary(),
      { args = { "connections", "--admin", ("%s:%d"):format(broker.admin.host, broker.admin.port) } })
    assert.same({ 0, "" }, { code, err })
    assert.matches(" LAG MEMBER +TOPICS\n", out)
    assert.matches(" room/1/members/ann +room/1/%*%*\n", out)
    assert.matches(" ame%-that%-is%-longer%-than%-a%-column%-is%-wide room/1/%*%*\n", out)
    long:close()
    assert.matches("^%-a%-name", next_ones(1))
    assert.equal(200, broker:reload((POLICY:gsub("member = who.sub", "member = who.sub .. '2'"))).status)
    assert.matches("^%+ann2:[xy]", next_ones(1))
    a:close()
    local rest = next_ones(1)
    rest = rest:find "^%+ann2" and next_ones(1) or rest -- of the other stream, where that was asked about later
    assert.equal("-ann", rest)
  end)

  it("counts a stream from when it opens: one that the store has turned away was nobody's", function()
    local policy = POLICY:gsub("api = 1,", "%0 filters = { last = \"type == 'last'\" },")
      :gsub('start = q.start or "now",', '%0 filter = "none", ends = q.as and "last",')
    local broker = start(nil, { policy = policy })
    local next_ones = watch(broker, 1)
    local id = broker:publish("room/1/members/said", "{}", { type = "last" })
    assert.equal("+said:", next_ones(1))
    local over = sse.request(broker, { query = { room = 1, as = "ann" }, last_event_id = id })
    assert.equal(204, over.status)
    enter(broker, 1, "bob")
    assert.equal("+bob:", next_ones(1))
    assert.equal(1, broker:metric "tidegate_presence_members")
    assert.equal(1, broker:metric "tidegate_presence_joined_total")
    over:close()
  end)

  it("refuses topics that store.latest does not name, and members beyond presence.members", function()
    local broker = start { presence = { grace_s = 1, members = 1 }, store = { latest = { "room/1/members/*" } } }
    local refused = sse.request(broker, { query = { room = 2, as = "ann" } })
    eventually("it is refused", function()
      return broker:metric 'tidegate_presence_refused_total{reason="not_kept"}' == 1
    end)
    assert.matches("name a pattern that matches", broker:log(), 1, true)
    assert.matches("topic=room/2/members/ann", broker:log(), 1, true)
    enter(broker, 1, "ann")
    enter(broker, 1, "ann")
    local second = sse.request(broker, { query = { room = 1, as = "bob" } })
    eventually("it is refused", function()
      return broker:metric 'tidegate_presence_refused_total{reason="members"}' == 1
    end)
    assert.matches("presence.members", broker:log(), 1, true)
    is_present(broker, 1, "+ann:")
    refused:close()
    second:close()
  end)

  it("announces a member for whom there was no topic when there is one", function()
    local broker = start { store = { latest = { "room/*/members/*" }, latest_topics = 1 },
      presence = { grace_s = 1, lease_s = 4 } }
    local a = enter(broker, 1, "ann")
    is_present(broker, 1, "+ann:")
    enter(broker, 1, "bob")
    eventually("it is counted", function()
      return broker:metric 'tidegate_presence_refused_total{reason="latest_topics"}' == 1
    end)
    a:close()
    is_present(broker, 1, "+bob:")
    assert.equal(1, broker:metric 'tidegate_presence_refused_total{reason="latest_topics"}')
  end)

  it("outlives kill -9: who comes back was never away, the others leave", function()
    local broker = start { presence = { grace_s = 3 } }
    local next_ones = watch(broker, 1)
    enter(broker, 1, "ann")
    enter(broker, 1, "bob")
    next_ones(2)
    broker:kill()
    broker:start()
    local later = watch(broker, 1)
    is_present(broker, 1, "+ann: +bob:")
    enter(broker, 1, "ann")
    assert.equal("-bob", later(1, 60))
    is_present(broker, 1, "+ann:")
    assert.equal(1, broker:metric "tidegate_presence_swept_total")
    assert.equal(0, broker:metric "tidegate_presence_joined_total")
  end)
end)

describe("presence in a file", function()
  it("is swept of brokers that are gone, however many others have swept before", function()
    local broker = start { presence = { grace_s = 2 } }
    local next_ones = watch(broker, 1)
    local db = store.sql(broker.dir .. "/store/events.db")
    assert(db [[WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 64)
      INSERT INTO presence SELECT 'room/2/members/' || i, 2 * i, '{}' FROM n]])
    eventually.pass(1.3, "for a beat, in which it sees them")
    assert(db "DELETE FROM presence") -- as another broker does
    assert(db "INSERT INTO presence VALUES ('room/1/members/ann', 7, '{}')")
    assert.equal("-ann", next_ones(1))
    db:close()
  end)
end)

describe("presence at several workers", function()
  announces(2)

  it("is what the streams say, whatever comes and goes, and whichever worker is killed", function()
    math.randomseed(SEED)
    local broker = start { workers = 3, presence = { grace_s = 1, lease_s = 4 } }
    local streams = {}
    local function step()
      local i = math.random(#streams + 1)
      if i > #streams or math.random(3) > 1 then
        local name = ("m%d"):format(math.random(12))
        streams[#streams + 1] = { name = name, client = enter(broker, 1, name) }
      else
        streams[i].client:close()
        table.remove(streams, i)
      end
    end
    for round = 1, 3 do
      for _ = 1, 20 do
        step()
      end
      if round == 2 then
        local status = http.json.decode(http.get(broker.admin, "/status").body)
        local victim = status.workers[math.random(#status.workers)].pid
        assert(require("luv").kill(victim, "sigkill"))
        eventually("its streams have ended", function()
          for i = #streams, 1, -1 do
            streams[i].client:pump()
            if streams[i].client.ended then
              streams[i].client:close()
              table.remove(streams, i)
            end
          end
          local after = http.json.decode(http.get(broker.admin, "/status").body)
          local all = #after.workers == 3
          for _, w in ipairs(after.workers) do
            all = all and w.pid and w.pid ~= victim and w.ready ~= false
          end
          return all and broker:metric "tidegate_subscribers" == #streams
        end, 60)
      end
      local there = {}
      for _, s in ipairs(streams) do
        there[s.name] = true
      end
      local names = {}
      for name in pairs(there) do
        names[#names + 1] = ("+%s:"):format(name)
      end
      table.sort(names)
      is_present(broker, 1, table.concat(names, " "))
    end
  end)
end)

-- A broker with a watcher and members m01 to m12, each with one to three streams, who never give up.
local function populated(config)
  local broker = start(config)
  local self = { broker = broker, members = {}, watcher = persist(broker, { room = 1 }) }
  for i = 1, 12 do
    local m = { name = ("m%02d"):format(i) }
    for j = 1, 1 + i % 3 do
      m[j] = persist(broker, { room = 1, as = m.name })
    end
    self.members[i] = m
  end
  function self.step()
    self.watcher.step()
    for _, m in ipairs(self.watcher.position and self.members or {}) do -- it sees all of them come
      for _, c in ipairs(m) do
        c.step()
      end
    end
  end
  function self.names(form, from, upto)
    local list = {}
    for i = from, upto do
      list[#list + 1] = form:format(self.members[i].name)
    end
    return table.concat(list, " ")
  end
  -- What the watcher is told, as soon as it is so much.
  function self.news(n)
    eventually(n .. " events", function() return #self.watcher.news >= n, #self.watcher.news end, 90)
    local list = self.watcher.news
    self.watcher.news = {}
    table.sort(list)
    return table.concat(list, " ")
  end
  function self.restart_state()
    local ok, r = pcall(http.get, broker.admin, "/status") -- the admin process is another one in between
    return ok and r.json.restart or {}
  end
  -- Nobody else is there, nobody waits, and the file has what the workers count: nothing of those that are gone.
  function self.settles(whom)
    is_present(broker, 1, whom)
    local db = store.sql(broker.dir .. "/store/events.db")
    eventually("the file has what the workers count", function()
      local rows = db "SELECT count(*) FROM presence"
      local n = broker:metric "tidegate_presence_members"
      return rows and rows[1][1] == n and broker:metric "tidegate_presence_waiting" == 0, n
    end, 60)
    db:close()
  end
  return self
end

describe("presence and a rolling restart", function()
  it("announces nobody who comes back within the grace", function()
    local p = populated { workers = 3, presence = { grace_s = 4 }, drain = { retry_ms = 100, timeout_s = 10 } }
    eventually.meanwhile(p.step, function()
      assert.equal(p.names("+%s:", 1, 12), p.news(12))
      for _ = 1, 2 do
        local code, out, err = tidegate.run(tidegate.binary(), { timeout = 120,
          args = { "restart", "--admin", ("%s:%d"):format(p.broker.admin.host, p.broker.admin.port),
            p.broker.conf_path } })
        assert.same({ 0, "ok: 3 workers replaced\n", "" }, { code, out, err })
      end
      p.settles(p.names("+%s:", 1, 12))
      assert.same({}, p.watcher.news)
    end)
  end)

  it("lets who does not come back leave after the grace, however long a worker waits for a request", function()
    local p = populated { workers = 3, presence = { grace_s = 4 }, drain = { retry_ms = 100, timeout_s = 60 } }
    local broker = p.broker
    eventually.meanwhile(p.step, function()
      assert.equal(p.names("+%s:", 1, 12), p.news(12))
      local slow = http.connect(broker)
      slow:send(http.render("POST", "/events?topic=said", { ["Content-Length"] = "5" }) .. "he")
      eventually("it is under way", function() return broker:metric "tidegate_http_bodies_bytes" > 0 end)
      broker:signal "USR2"
      eventually("its worker is not asked any more: it drains", function()
        local ok, bytes = pcall(broker.metric, broker, "tidegate_http_bodies_bytes")
        return ok and bytes == 0 and p.restart_state().state == "running"
      end)
      for i = 5, 12 do
        for _, c in ipairs(p.members[i]) do
          c.leave()
        end
      end
      assert.equal(p.names("-%s", 5, 12), p.news(8))
      assert.equal("running", p.restart_state().state)
      slow:send "llo"
      assert.equal(201, slow:response().status)
      slow:close()
      eventually("all are replaced", function()
        return p.restart_state().state == "done"
      end, 60)
      p.settles(p.names("+%s:", 1, 4))
      assert.same({}, p.watcher.news)
    end)
  end)
end)
