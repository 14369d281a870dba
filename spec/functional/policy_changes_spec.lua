-- `tidegate test`: what a spec of a policy can ask about open streams, reloads, batches and observe. Each of these is
-- the broker's own code: p:reload is src/reload, p:resubscribe what the admin service does.
local pages = require "support.pages"
local run = require("support.policy_tools").run

local POLICY = [[
local words = require "words"
local seen, P = 0, { api = 1, queries = { level = "select level from users where login = $1" } }
function P.authenticate(req) return { sub = req.query.name } end
function P.subscribe(req, who)
  seen = seen + 1
  local level, err = cache.fetch("level:" .. who.sub, 60, function()
    local rows, why = db.query("level", who.sub)
    return rows and rows[1].level, why
  end)
  if not level then return nil, err end
  if level == 0 then return tg.deny(403, "nobody anymore") end
  return { topics = { words.topic .. "/" .. level }, tags = { "user:" .. who.sub },
    params = { seen = words.count and seen or 0 }, quota = { { key = "user:" .. who.sub, max = 1, over = "deny" } } }
end
function P.publish(pub, who)
  local ok, wait = tg.rate("publish", who.sub, { per_s = 1, burst = 4 })
  if not ok then return tg.deny(429, "too fast", { retry_after = wait }) end
  if pub.type == "skip" then return tg.drop("skipped") end
  if pub.type == "bad" then return tg.deny(422, "bad one") end
  return pub
end
P.observe = { { topics = { "rights/*" }, run = function(ev)
  local name = ev.topic:match "[^/]*$"
  if ev.data == "broken" then error("no such right") end
  cache.forget("level:" .. name)
  tg.ask_again("user:" .. name)
  if ev.data == "none" then tg.end_streams("user:" .. name, "you are out") end
end } }
return P
]]

local SETS = [[
  return { api = 1, queries = { one = "select person from blocked", two = "select n from loud" },
    sets = { blocked = { query = "one", every = 100, stale = 600 },
      loud = { query = "two", every = 100, stale = 600 }, },
    filters = { quiet = 'not in_set(attrs.person, "blocked")' },
    authenticate = function() return { sub = "x" } end,
    subscribe = function() return { topics = { "a" }, filter = "quiet" } end }
]]

local function spec_of(text)
  return [[
    local t = require "tidegate.test"
    describe("the policy", function()
      local level, asked, p
      before_each(function()
        level, asked = { ann = 1, ben = 1 }, 0
        p = t.policy("p.lua", { now = 1700000000, path = { "lib" }, db = { level = function(name)
          asked = asked + 1
          return { { level = level[name] } }
        end } })
      end)
      local function connect(name) return p:connect { query = { name = name } } end
  ]] .. text .. "\nend)\n"
end

describe("tidegate test", function()
  local function files_of(text, more)
    local files = { ["one_spec.lua"] = spec_of(text), ["p.lua"] = POLICY, ["lib/words.lua"] = 'return { topic = "a" }' }
    for name, content in pairs(more or {}) do
      files[name] = content
    end
    return files
  end
  local function passes(text, more)
    local code, out, err = run(files_of(text, more), { "test", "one_spec.lua" })
    assert.equal(0, code, out .. err)
  end

  it("shows what observe does for an event", function()
    passes [[ it("works", function()
      local ann = connect "ann"
      assert.same({ result = "observed", ask_again = { "user:ann" }, end_streams = {}, forgotten = 1 },
        p:observe { topic = "rights/ann", data = "less" })
      local out = p:observe { topic = "rights/ann", data = "none" }
      assert.same({ { tag = "user:ann", reason = "you are out" } }, out.end_streams)
      assert.same({ "observed", { "user:ann" }, 1 }, { out.result, out.ask_again, out.forgotten })
      assert.same({ result = "not-observed", ask_again = {}, end_streams = {}, forgotten = 0 },
        p:observe { topic = "a/1", data = 1 })
      local failed = p:observe { topic = "rights/ann", data = "broken" }
      assert.equal("failed", failed.result)
      assert.matches("^observe rights/%*: p%.lua:24: no such right$", failed.error)
      assert.is_false(ann:closed()) -- nothing of it reaches a stream
      assert.error_matches(function() p:observe { topics = "a" } end, "unknown option 'topics'")
    end) ]]
  end)

  it("publishes several events in one request", function()
    passes [[ it("works", function()
      local ann = connect "ann"
      local function batch(...) return p:batch { query = { name = "ann" }, ... } end
      local r = batch({ topic = "a/1", data = { n = 1 }, key = "k" }, { topic = "a/1", type = "skip", data = 0 },
        { topic = "a/1", data = { n = 2 } })
      assert.granted(r)
      assert.same({ { id = ann:ids()[1] }, { dropped = "skipped" }, { id = ann:ids()[2] } }, r.answers)
      assert.same({ { n = 1 }, { n = 2 } }, ann:data())
      p:at(1700000100)
      assert.is_true(batch({ topic = "a/1", data = { n = 1 }, key = "k" }).answers[1].duplicate)
      r = batch({ topic = "a/1", data = { n = 3 } }, { topic = "a/1", type = "bad", data = 0 })
      assert.denied(422, r)
      assert.equal("event 1: bad one", r.reason)
      assert.is_nil(r.answers)
      r = batch({ topic = "a/1", data = { n = 4 } }, { topic = "a/1", data = { n = 5 } })
      assert.denied(429, r)
      assert.equal(2, #ann:ids()) -- one denial refuses all of a request
      assert.error_matches(function() batch { topic = "a", raw = "x" } end, "unknown option 'raw'")
      assert.error_matches(function() p:batch { { topic = "a" }, topic = "b" } end, "unknown option 'topic'")
    end) ]]
  end)

  it("asks again about an open stream, with other answers and at another time", function()
    passes [[ it("works", function()
      local ann, ben = connect "ann", connect "ben"
      local s = p:resubscribe(ann)
      assert.same({ "same", {}, 2 }, { s.kind, s.fields, asked })
      level.ann = 2
      assert.equal("same", p:resubscribe(ann).kind) -- what it asked is in the cache
      s = p:resubscribe(ann, { now = 1700000061 })
      assert.same({ "changed", { "topics" } }, { s.kind, s.fields })
      assert.same({ { "a/1" }, { "a/2" }, { "a/2" } }, { s.before.topics, s.after.topics, ann.subscription.topics })
      p:publish { topic = "a/2", data = 1 }
      assert.same({ 1 }, ann:data())
      s = p:resubscribe(ann, { now = 1700000200, db = t.down })
      assert.equal("unanswered", s.kind)
      assert.same({ "a/2" }, s.after.topics)
      assert.is_false(ann:closed())
      local all = p:resubscribe { db = { level = { { level = 0 } } } }
      assert.same({ ann, "ended", "nobody anymore" }, { all[1].client, all[1].kind, all[1].reason })
      assert.same({ ben, "ended", "nobody anymore" }, { all[2].client, all[2].kind, all[2].reason })
      assert.is_true(ann:closed())
      assert.error_matches(function() p:resubscribe(ann) end, "ended already")
      assert.error_matches(function() p:resubscribe { who = {} } end, "unknown option 'who'")
    end) ]]
  end)

  it("asks again with other values of sets, which filters see at once", function()
    passes([[ it("works", function()
      local q = t.policy("sets.lua", { now = 1700000000, db = { one = {} },
        sets = { blocked = { "ann" }, loud = { 1 } } })
      local c = q:connect {}
      local function got()
        local before = #c:ids()
        for _, person in ipairs { "ann", "ben" } do
          q:publish { topic = "a", data = person, attrs = { person = person } }
        end
        return #c:ids() - before
      end
      assert.equal(1, got())
      assert.equal("same", q:resubscribe(c, { sets = { blocked = { "ann", "ben" } } }).kind)
      assert.equal(0, got())
      q:resubscribe { sets = { loud = {} } } -- that of the others stays
      assert.equal(0, got())
      q:resubscribe { sets = { blocked = {} } }
      assert.equal(2, got())
      q:resubscribe { sets = { blocked = t.down } } -- what it held is kept until it is stale
      assert.equal(2, got())
      assert.error_matches(function() q:resubscribe { sets = { blockd = {} } } end,
        "^sets: the policy has no such set: 'blockd'; did you mean 'blocked'%?")
      q:at(1700000601)
      assert.equal(0, got())
      q:resubscribe { sets = { blocked = { "ann" } } }
      assert.equal(1, got())
      local r = q:reload { file = "sets_2.lua", sets = { banned = { "ben" } } }
      assert.same({ "reloaded", 1 }, { r.outcome, got() })
      r = q:reload { sets = { blocked = {} } } -- the name of the version before
      assert.equal("refused", r.outcome)
      assert.matches("set \"banned\": the spec's sets has no 'banned', but 'blocked'$", r.error)
      assert.error_matches(function() q:reload { sets = { banned = { "ben" }, blocked = {} } } end,
        "^after the reload: sets: the policy has no such set: 'blocked'$")
      assert.equal(1, got())
    end) ]], {
      ["sets.lua"] = SETS, ["sets_2.lua"] = SETS:gsub("blocked", "banned"):gsub("loud = {[^}]*},", ""),
    })
  end)

  it("does what the documentation shows", function()
    local rooms = pages.read "scripts/policies/rooms.lua"
    local block = assert(pages.text():match '```lua\n(local p = t%.policy%("rooms.-)```')
    passes('it("works", function()\n' .. block .. "end)", { ["rooms.lua"] = rooms, ["rooms_2.lua"] = rooms })
  end)

  it("leaves the options of a spec alone", function()
    passes [[ it("works", function()
      local options = { path = { "lib" }, db = { level = { { level = 1 } } } }
      local q = t.policy("p.lua", options)
      q:resubscribe { db = t.down }
      assert.same({ "lib" }, options.path)
      assert.same({ level = { { level = 1 } } }, options.db)
      assert.transient(q:connect { query = { name = "ann" } })
      assert.granted(t.policy("p.lua", options):connect { query = { name = "ann" } })
    end) ]]
  end)

  it("says that another filter ends a stream", function()
    passes([[ it("works", function()
      local q = t.policy("ends.lua", { now = 1700000000 })
      local s = q:resubscribe(q:connect {}, { now = 1700000100 })
      assert.same({ "changed", { "ends" } }, { s.kind, s.fields })
    end) ]], { ["ends.lua"] = [[
      local P = { api = 1, filters = { a = "type == 'a'", b = "type == 'b'" } }
      function P.authenticate() return { sub = "ann" } end
      function P.subscribe()
        return { topics = { "t" }, filter = "none", ends = os.time() > 1700000050 and "b" or "a" }
      end
      return P
    ]] })
  end)

  it("reloads: what C keeps is still there, what the file keeps is not, streams are asked about", function()
    passes([[ it("works", function()
      local ann, ben = connect "ann", connect "ben"
      assert.denied(429, connect "ann") -- the quota
      for _ = 1, 4 do assert.granted(p:post { topic = "x", data = {}, query = { name = "ann" } }) end
      local r = p:reload()
      assert.same({ "reloaded", "resubscribe", 2 }, { r.outcome, r.mode, #r.streams })
      assert.same({ "same", "same" }, { r.streams[1].kind, r.streams[2].kind })
      assert.is_true(r.tried.connects >= 2)
      local before = asked
      assert.equal("same", p:resubscribe(ann).kind)
      assert.equal(before, asked)
      assert.denied(429, connect "ann") -- so has the quota
      assert.denied(429, p:post { topic = "x", data = {}, query = { name = "ann" } }) -- and the rate

      r = p:reload { path = { "counting" } } -- its locals begin anew: the first to be asked about is number one
      assert.equal("reloaded", r.outcome)
      assert.same({ "params", "topics" }, r.streams[1].fields)
      assert.same({ { seen = 1 }, { seen = 2 } }, { ann.subscription.params, ben.subscription.params })
      assert.same({ "b/1" }, ann.subscription.topics)

      r = p:reload "reconnect.lua"
      assert.same({ "reconnect", "ended", nil }, { r.mode, r.streams[1].kind, r.streams[1].reason })
      assert.is_true(ben:closed())
      assert.granted(p:connect())
      assert.faultless(p)
    end) ]], {
      ["counting/words.lua"] = 'return { topic = "b", count = true }',
      ["reconnect.lua"] = [[return { api = 1, authenticate = function() return { sub = "x" } end,
        subscribe = function() return { topics = { "r" } } end, reload = function() return "reconnect" end }]],
    })
  end)

  it("says why a reload is refused, and goes on with what it had", function()
    passes([[ it("works", function()
      local ann = connect "ann"
      local r = p:reload { file = "broken.lua", path = {} }
      assert.same({ "refused", nil }, { r.outcome, r.mode })
      assert.matches("broken%.lua:2", r.error)
      assert.equal("same", r.streams[1].kind)
      r = p:reload "failing.lua"
      assert.same({ "refused", 1 }, { r.outcome, r.tried and r.tried.errors })
      assert.matches("failing%.lua:2: not today", r.error)
      assert.equal("reloaded", p:reload().outcome)
      assert.same({ "a/1" }, ann.subscription.topics)
      assert.granted(connect "ben")
      assert.error_matches(function() p:reload "none.lua" end, "none%.lua: No such file")
      assert.error_matches(function() p:reload { path = "lib" } end, "path: a list of directories")
      assert.granted(t.policy("p.lua", { path = { "lib" }, db = { level = { { level = 1 } } } })
        :connect { query = { name = "ann" } })
    end) ]], {
      ["broken.lua"] = "return {\n  api = = 1 }",
      ["failing.lua"] = [[return { api = 1, authenticate = function() return { sub = "x" } end,
        subscribe = function() error("not today") end }]],
    })
  end)
end)
