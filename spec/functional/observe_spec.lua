-- `observe`: the policy reacts to events, in log order, and reaches open streams before anything behind the event is
-- delivered to them.
local eventually = require "support.eventually"
local http = require "support.http"
local sse = require "support.sse"
local store = require "native.store"
local tidegate = require "support.tidegate"

-- What is observed says who may read: "rights/NAME" with yes or no. %s: more of the policy.
local function policy(more)
  return ([[
local P = { api = 1 }
local may = {}
function P.authenticate(req)
  return { sub = req.query.who }
end
function P.subscribe(req, who)
  if may[who.sub] == "no" then
    return tg.deny(403, "no longer yours")
  end
  local limit = req.query.pace and { events_per_s = tonumber(req.query.pace) }
  return { topics = { "news" }, tags = { "user:" .. who.sub }, limits = limit }
end
function P.publish(pub)
  return pub
end
P.observe = {
  { topics = { "rights/*" }, run = function(ev)
    local name = ev.topic:match "^rights/(.*)$"
    may[name] = ev.raw
    tg.ask_again("user:" .. name)
  end },
  { topics = { "out/*" }, run = function(ev)
    tg.end_streams("user:" .. ev.topic:match "^out/(.*)$", ev.raw)
  end },
  { topics = { "mark/*" }, run = function() log.info("the mark") end },
  { topics = { "bad/**" }, run = function(ev)
    tg.ask_again("user:bob")
    error("observe has a mistake")
  end },
}
%s
return P
]]):format(more or "")
end

local function revoked(c)
  local last = c:next()
  assert.same({ "revoked", '{"reason":"no longer yours"}' }, { last.type, last.data })
  c:wait_end()
end

-- Several events in one commit, so that one batch of the tail has all of them.
local function together(broker, ...)
  local lines = {}
  for i, e in ipairs { ... } do
    lines[i] = { topic = e[1], data = e[2] }
  end
  return broker:publish_all(lines)
end

describe("observe", function()
  local broker = tidegate.shared { policy = policy(), config = { event_log = { max_events = 64, page_events = 16 } } }

  local function open(who, options)
    options = options or {}
    options.query = { who = who, pace = options.pace }
    return sse.open(broker(), options)
  end

  it("takes effect before the next event, for live streams", function()
    local ann, bob = open "ann", open "bob"
    together(broker(), { "news", "1" }, { "rights/ann", "no" }, { "news", "2" })
    assert.equal("1", bob:next().data)
    assert.equal("2", bob:next().data)
    local first = ann:next()
    if first.data == "1" then -- it was before
      first = ann:next()
    end
    assert.same({ "revoked", '{"reason":"no longer yours"}' }, { first.type, first.data })
    ann:wait_end()
    assert.equal(403, sse.request(broker(), { query = { who = "ann" } }).status)
    broker():publish("rights/ann", "yes")
  end)

  it("holds what it asks about, and misses nothing", function()
    local ann = open "ann"
    for i = 1, 5 do
      together(broker(), { "news", i .. "a" }, { "rights/ann", "yes" }, { "news", i .. "b" })
    end
    for i = 1, 5 do
      assert.equal(i .. "a", ann:next().data)
      assert.equal(i .. "b", ann:next().data)
    end
    eventually("none is held", function() return broker():metric "tidegate_streams_barred" == 0 end)
    assert.is_true(broker():metric "tidegate_streams_barred_seconds_count" >= 1)
  end)

  it("ends streams, which are told why", function()
    local ann, bob = open "ann", open "bob"
    together(broker(), { "out/ann", "the room is closed" }, { "news", "on" })
    local last = ann:next()
    assert.same({ "revoked", '{"reason":"the room is closed"}' }, { last.type, last.data })
    ann:wait_end()
    assert.equal("on", bob:next().data)
    assert.equal(200, sse.request(broker(), { query = { who = "ann" } }).status) -- the policy still lets it in
  end)

  it("ends no stream while it goes through the events of a batch, and lets none have what comes behind", function()
    local many, bob = {}, open "bob"
    for i = 1, 40 do
      many[i] = open "ann"
    end
    together(broker(), { "out/ann", "all of you" }, { "news", "on" }, { "mark/ann", "" })
    for _, c in ipairs(many) do
      local last = c:next()
      assert.same({ "revoked", '{"reason":"all of you"}' }, { last.type, last.data })
      c:wait_end()
    end
    assert.equal("on", bob:next().data)
    local marked, ended = false, 0
    eventually("the lines", function()
      marked, ended = false, 0
      for _, line in ipairs(broker():log_lines()) do
        marked = marked or line.msg == "the mark"
        if line.msg == "revoked" and line.reason == "all of you" then
          assert.is_true(marked, "a stream has ended before the batch was through")
          ended = ended + 1
        end
      end
      return ended == #many
    end)
    assert.equal(0, broker():metric "tidegate_streams_barred")
  end)

  it("reaches streams that are behind: paced, in pages of the past, slow", function()
    for i = 1, 300 do
      broker():publish("news", "old " .. i)
    end
    local head = open("bob").start_id
    local paced = open("ann", { pace = 1 })
    together(broker(), { "news", "p1" }, { "news", "p2" }, { "news", "p3" }, { "news", "p4" })
    assert.equal("p1", paced:next().data)
    local slow = sse.start(broker(), { query = { who = "ann" }, last_event_id = "0", rcvbuf = 4096 })
    local reading = sse.start(broker(), { query = { who = "ann", pace = 50 }, last_event_id = "0" })
    reading:next()
    slow:wait("its first event", function() return #slow.queue > 0 end)
    local ids = together(broker(), { "rights/ann", "no" }, { "news", "secret" })
    local of_order = tonumber(ids[1].id)
    for _, c in ipairs { paced, slow, reading } do
      c:wait_end(30)
      local last = table.remove(c.queue)
      assert.equal("revoked", last.type)
      for _, ev in ipairs(c.queue) do
        assert.is_true(tonumber(ev.id) < of_order)
      end
    end
    assert.is_true(tonumber(head) < of_order)
    broker():publish("rights/ann", "yes")
  end)

  it("asks about all streams with tags when it fails, and says so", function()
    local ann, bob = open "ann", open "bob"
    local before = broker():metric 'tidegate_policy_resubscribes_total{outcome="same"}'
    together(broker(), { "bad/news", "x" }, { "news", "after" })
    assert.equal("after", ann:next().data)
    assert.equal("after", bob:next().data)
    assert.is_true(broker():metric 'tidegate_policy_resubscribes_total{outcome="same"}' >= before + 2)
    assert.equal(1, broker():metric 'tidegate_policy_errors_total{hook="observe"}')
    assert.equal(1, broker():metric 'tidegate_observe_effects_total{effect="ask_all"}')
    local line = broker():logged { msg = "policy error, nothing was granted", hook = "observe" }
    assert.matches("observe has a mistake", line.error)
    assert.is_truthy(broker():logged { msg = "observe failed: all streams with tags are asked about again" })
  end)

  it("goes through the streams once for all it fails on in one batch", function()
    local ann, bob = open "ann", open "bob"
    local function failures() return broker():metric 'tidegate_observe_effects_total{effect="ask_all"}' end
    local failed, asked = failures(), broker():metric 'tidegate_reached_streams_total{what="asked_again"}'
    together(broker(), { "bad/1", "x" }, { "bad/2", "x" }, { "bad/3", "x" }, { "news", "after" })
    assert.equal("after", ann:next().data)
    assert.equal("after", bob:next().data)
    assert.equal(failed + 3, failures())
    local n = broker():metric 'tidegate_reached_streams_total{what="asked_again"}' - asked
    assert.equal(2 + 3, n) -- both, and bob for each
  end)
end)

describe("observe and hooks that wait", function()
  it("asks again about streams that were being opened, or asked about, as it ran", function()
    local broker = tidegate.start { config = { policy = { subscribe_timeout_ms = 60000 } }, policy = policy [[
      local plain, hold = P.subscribe, false
      P.observe[#P.observe + 1] = { topics = { "hold" }, run = function(ev) hold = ev.raw == "yes" end }
      function P.subscribe(req, who)
        local granted, why = plain(req, who) -- what it reads is from before the wait
        while hold do
          sleep(0.02)
        end
        return granted, why
      end
    ]] }
    local function overtake()
      eventually("its hook waits", function() return broker:metric "tidegate_policy_suspended_hooks" == 1 end)
      together(broker, { "rights/slow", "no" }, { "news", "secret" })
      broker:publish("hold", "no")
    end
    broker:publish("hold", "yes")
    local opening = assert(sse.start(broker, { query = { who = "slow" } }))
    overtake()
    revoked(opening)
    broker:publish("rights/slow", "yes")

    local open = sse.open(broker, { query = { who = "slow" } })
    broker:publish("hold", "yes")
    http.request(broker.admin, "POST", "/policy/resubscribe")
    overtake()
    revoked(open)
  end)

  for what, answer in pairs {
    ["cannot say"] = 'return nil, "the database is away"',
    ["waits for too long"] = "sleep(60)",
  } do
    it(("ends streams whose policy %s: they come back"):format(what), function()
      local broker = tidegate.start { policy = policy(([[
        local plain, n = P.subscribe, 0
        function P.subscribe(req, who)
          n = n + 1
          if n > 1 then
            %s
          end
          return plain(req, who)
        end
      ]]):format(answer)), config = { policy = { resubscribe_timeout_s = 1, subscribe_timeout_ms = 60000 } } }
      local c = sse.open(broker, { query = { who = "ann" } })
      together(broker, { "rights/ann", "yes" }, { "news", "secret" })
      c:wait_end(30)
      for _, ev in ipairs(c.queue) do
        assert.not_equal("secret", ev.data)
      end
      assert.is_truthy(table.concat(c.blocks[#c.blocks].lines, "\n"):find("retry: ", 1, true))
      assert.is_true(broker:metric 'tidegate_policy_resubscribes_total{outcome="gave-up"}' >= 1)
    end)
  end

  it("bounds how long a stream goes on unjudged, however often it is asked about", function()
    local broker = tidegate.start { policy = policy [[
      local plain, n = P.subscribe, 0
      function P.subscribe(req, who)
        n = n + 1
        if n > 1 then
          return nil, "the database is away"
        end
        return plain(req, who)
      end
    ]], config = { policy = { resubscribe_timeout_s = 1 } } }
    local c = sse.open(broker, { query = { who = "ann" } })
    eventually("it was sent away", function()
      http.request(broker.admin, "POST", "/policy/resubscribe")
      return broker:metric 'tidegate_policy_resubscribes_total{outcome="gave-up"}' == 1
    end)
    c:wait_end()
  end)

  it("does not keep the loop from its other work while many are asked about", function()
    local broker = tidegate.start { policy = policy [[
      local plain = P.subscribe
      function P.subscribe(req, who)
        local n = 0
        for i = 1, 50000 do
          n = n + i
        end
        return plain(req, who)
      end
    ]] }
    for _ = 1, 40 do
      sse.open(broker, { query = { who = "ann" } })
    end
    eventually("a request is answered between two of them", function()
      broker:publish("rights/ann", "yes")
      local barred = broker:metric "tidegate_streams_barred"
      return barred > 0 and barred < 40
    end)
  end)

  it("cannot wait itself, and cannot be imitated by other hooks", function()
    local broker = tidegate.start { policy = policy [[
      P.observe[#P.observe + 1] = { topics = { "wait" }, run = function() sleep(1) end }
      P.observe[#P.observe + 1] = { topics = { "long" }, run = function() while true do end end }
      function P.publish(pub)
        if pub.topic == "hook" then
          tg.ask_again("user:ann")
        end
        return pub
      end
    ]] }
    for _, topic in ipairs { "wait", "long" } do
      broker:publish(topic, "x")
    end
    assert.equal(503, http.post(broker, "/events?topic=hook", "x").status)
    assert.equal(2, broker:metric 'tidegate_policy_errors_total{hook="observe"}')
    assert.equal(1, broker:metric 'tidegate_policy_overdue_total{hook="observe"}')
    local log = broker:log()
    assert.is_truthy(log:find("tg.ask_again can be called in observe only", 1, true), log)
    assert.is_truthy(log:find("sleep", 1, true), log)
  end)
end)

describe("observe and rows that cannot be delivered", function()
  it("asks about all streams with tags where the tail passes them", function()
    local broker = tidegate.start { policy = policy(), config = { limits = { event_bytes = 1024 } } }
    local ann = sse.open(broker, { query = { who = "ann" } })
    local db = store.sql(broker.dir .. "/store/events.db")
    assert(db [[INSERT INTO events(topic, type, data) VALUES ('rights/ann', 'm', printf('%2000s', 'no')),
      ('rights/ann', 'm', printf('%2000s', 'no')), ('news', 'm', 'after')]])
    db:close()
    assert.equal("after", ann:next().data)
    assert.equal(2, broker:metric "tidegate_store_rejected_rows_total")
    assert.equal(1, broker:metric 'tidegate_observe_effects_total{effect="ask_all"}')
  end)
end)

describe("observe and the cache", function()
  it("forgets what was known, and what a look-up that had begun before will find", function()
    local broker = tidegate.start { config = { policy = { subscribe_timeout_ms = 60000 } }, policy = [[
      local P = { api = 1 }
      local now, go = "old", false
      function P.authenticate() return {} end
      function P.subscribe(req)
        local value = cache.fetch("value", 60, function()
          local read = now
          while req.query.slow and not go do
            sleep(0.02)
          end
          return read
        end)
        return { topics = { "v/" .. value }, tags = { "all" } }
      end
      function P.publish(pub) return pub end
      P.observe = { { topics = { "now" }, run = function(ev)
        now = ev.raw
        cache.forget("value")
        tg.ask_again("all")
      end }, { topics = { "go" }, run = function() go = true end } }
      return P
    ]] }
    local function topics()
      local list = {}
      for i, c in ipairs(http.get(broker.admin, "/connections").json.connections) do
        list[i] = c.topics[1]
      end
      return table.concat(list, " ")
    end
    local slow = assert(sse.start(broker, { query = { slow = "1" } }))
    eventually("its hook waits", function() return broker:metric "tidegate_policy_suspended_hooks" == 1 end)
    broker:publish("now", "new")
    local quick = sse.open(broker, {}) -- does not join the look-up of before
    assert.equal("v/new", topics())
    broker:publish("go", "x")
    slow:wait("its start", function() return #slow.blocks > 0 end)
    eventually("the slow one knows, too", function() return topics() == "v/new v/new" end)
    local third = sse.open(broker, {})
    assert.equal("v/new v/new v/new", topics()) -- the slow one has not filled the cache
    broker:publish("now", "newer")
    eventually("all are moved", function() return topics() == "v/newer v/newer v/newer" end)
    assert.equal(2, broker:metric "tidegate_policy_cache_forgotten_total")
    for _, c in ipairs { slow, quick, third } do
      c:close()
    end
  end)
end)

describe("observe and a reload", function()
  it("goes on with the new policy, whose tags may have other names", function()
    local broker = tidegate.start { policy = policy(), config = { policy = { resubscribe_per_s = 1 } } }
    local streams = {}
    for i = 1, 8 do
      streams[i] = sse.open(broker, { query = { who = "ann" } })
    end
    local other = policy():gsub('"user:"', '"person:"')
    assert.equal("reloaded", broker:reload(other).json.result)
    -- a stream a second is asked about again: most still have the tags of before
    together(broker, { "rights/ann", "no" }, { "news", "secret" })
    for _, c in ipairs(streams) do
      revoked(c)
    end
  end)

  it("ends streams at the pace of the reload where the new one has them reconnect, and sends them nothing", function()
    local more = 'P.reload = function() return "reconnect" end'
    local broker = tidegate.start { policy = policy(more), config = { policy = { resubscribe_per_s = 1 } } }
    local streams = {}
    for i = 1, 60 do
      streams[i] = sse.open(broker, { query = { who = "ann" } })
    end
    assert.equal("reconnect", broker:reload(policy(more .. " -- again")).json.mode)
    local new = sse.open(broker, { query = { who = "bob" } })
    together(broker, { "rights/ann", "no" }, { "news", "secret" })
    assert.equal("secret", new:next().data)
    streams[1]:wait_end()
    streams[2]:wait_end()
    local left = broker:metric "tidegate_streams_barred"
    assert.is_true(left > 0 and left < #streams, left)
    for _, c in ipairs(streams) do
      c:pump()
      assert.is_nil(c.queue[1])
      c:close()
    end
  end)

  it("leaves streams alone that the new one keeps", function()
    local broker = tidegate.start { policy = policy 'P.reload = function() return "keep" end' }
    local ann, bob = sse.open(broker, { query = { who = "ann" } }), sse.open(broker, { query = { who = "bob" } })
    assert.equal("reloaded", broker:reload(policy 'P.reload = function() return "keep" end -- again').json.result)
    together(broker, { "rights/ann", "no" }, { "news", "1" })
    revoked(ann)
    assert.equal("1", bob:next().data)
    assert.equal(0, broker:metric 'tidegate_policy_resubscribes_total{outcome="same"}')
  end)

  it("is tried on what happened lately, without effect", function()
    local broker = tidegate.start { policy = policy() }
    local ann = sse.open(broker, { query = { who = "ann" } })
    broker:publish("rights/ann", "yes")
    local fails = policy 'P.observe[1].run = function(ev) tg.end_streams("user:ann", "x") return ev.data.name.first end'
    local r = broker:reload(fails)
    assert.equal("refused", r.json.result)
    assert.is_truthy(r.json.error:find("observe rights/*: policy.lua:", 1, true), r.json.error)
    local ends = policy 'P.observe[1].run = function() tg.end_streams("user:ann", "x") cache.forget("k") end'
    assert.equal("reloaded", broker:reload(ends).json.result)
    broker:publish("news", "still here")
    assert.equal("still here", ann:next().data)
    assert.equal(0, broker:metric 'tidegate_observe_effects_total{effect="end_streams"}')
    assert.equal(0, broker:metric "tidegate_policy_cache_forgotten_total")
    broker:publish("rights/ann", "yes")
    assert.equal("revoked", ann:next().type)
    -- what the policy in force fails on does not count
    assert.equal("reloaded", broker:reload(policy()).json.result)
    broker:publish("bad/news", "x")
    assert.equal("reloaded", broker:reload(policy "-- again").json.result)
    assert.equal("refused", broker:reload(fails).json.result) -- on what that one has not failed on
  end)

  it("is refused where it is not as it should be", function()
    local broker = tidegate.start { policy = policy() }
    local function refused(text, why)
      local r = broker:reload(policy("P.observe = " .. text))
      assert.equal("refused", r.json.result)
      assert.is_truthy(r.json.error:find(why, 1, true), r.json.error)
    end
    refused("{}", "observe: a list of 1 to 32 tables")
    refused('{ { topics = { "a" } } }', "observe[1].run: a function was expected, got nil")
    refused('{ { topics = "a", run = print } }', "observe[1].topics: a list of topics or patterns was expected, got")
    refused('{ { topics = { "a//b" }, run = print } }', "observe[1].topics[1]: ")
    refused('{ { topic = { "a" }, run = print } }', "observe[1]: unknown key 'topic'")
  end)
end)
