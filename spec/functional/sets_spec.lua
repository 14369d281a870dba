-- `sets` of policies and in_set() of filter texts, on a SQLite file of an application. PostgreSQL is in
-- spec/pg/sets_spec.lua, the sets themselves in spec/unit/filter_spec.lua.
local child = require "support.child"
local connections = require "support.connections"
local eventually = require "support.eventually"
local files = require "support.files"
local http = require "support.http"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

local function policy(options)
  options = options or {}
  return ([[
    local P = { api = 1, version = "%s" }
    P.queries = { blocked = "%s", none = "select person from blocked where 0" }
    P.sets = { %s }
    P.filters = { quiet = 'has(attrs.always) or not in_set(attrs.person, "blocked")', %s }
    function P.authenticate() return { sub = "x" } end
    function P.publish(pub) return pub end
    function P.subscribe(req) return { topics = req.topics, filter = "quiet" } end
    return P
  ]]):format(options.version or "1", options.query or "select person from blocked",
    options.sets or 'blocked = { query = "blocked", every = 1, stale = 2 }', options.filters or "")
end

describe("sets", function()
  local dir, path

  local function sql(text)
    local code, _, err = tidegate.run("/usr/bin/sqlite3", { args = { path, text } })
    assert(code == 0, err)
  end

  before_each(function()
    dir = child.directory()
    path = dir .. "/app.db"
    sql [[pragma journal_mode = wal; create table blocked(person); insert into blocked values ('ann'), (null), ('ann')]]
  end)

  after_each(function()
    child.remove_tree(dir)
  end)

  local function config(more)
    return { database = { driver = "sqlite", path = path }, policy = more }
  end

  local function start(text, more)
    return tidegate.start { policy = text or policy(), config = config(more) }
  end

  local function entries_become(broker, n)
    eventually(("%d values are in the set"):format(n), function()
      return broker:metric "tidegate_policy_set_entries" == n
    end, 30)
  end

  -- Whose events a stream gets, of one of each.
  local function heard(broker, client)
    for _, person in ipairs { "ann", "bob" } do
      broker:publish("a", person, { attrs = { person = person } })
    end
    broker:publish("a", "end", { attrs = { always = true } })
    local list = {}
    for i, ev in ipairs(client:collect_until "end") do
      list[i] = ev.data
    end
    return table.concat(list, " ")
  end

  local function explained(broker, event)
    local connection = connections.of(broker, "a")
    return http.get(broker.admin, ("/connections/%s/explain?event=%s"):format(connection, event)).body
  end

  it("keep events back, as the table is now", function()
    local broker = start()
    local client = sse.open(broker, { topic = "a" })
    assert.equal(1, broker:metric "tidegate_policy_set_entries")
    assert.equal("bob", heard(broker, client))
    sql "insert into blocked values ('bob')"
    entries_become(broker, 2)
    assert.equal("", heard(broker, client))
    sql "delete from blocked"
    entries_become(broker, 0)
    assert.equal("ann bob", heard(broker, client))
    local set = http.get(broker.admin, "/status").json.policy.sets[1]
    assert.same({ "blocked", true, 0, 1, 2, 0 },
      { set.name, set.trusted, set.entries, set.every_s, set.stale_s, set.failures, set.error })
    assert.is_true(set.loads >= 3 and set.age_s < 60 and set.bytes > 0)
    assert.equal(1, broker:metric "tidegate_policy_sets")
    assert.is_true(broker:metric 'tidegate_policy_set_loads_total{result="ok"}' >= 3)
    assert.equal(0, broker:metric "tidegate_policy_set_refused_total")
    assert.is_truthy(broker:logged { msg = "a set is loaded", set = "blocked", entries = "1" })
  end)

  it("let nothing through when they are stale, until they are loaded again", function()
    local broker = start()
    local client = sse.open(broker, { topic = "a" })
    sql "alter table blocked rename to elsewhere"
    eventually("a load fails", function()
      return broker:metric 'tidegate_policy_set_loads_total{result="failed"}' > 0
    end, 30)
    local line = broker:logged { msg = "a set could not be loaded, its last values stay", set = "blocked" }
    assert.matches("no such table: blocked", line.error)
    eventually("it is stale", function() return broker:metric "tidegate_policy_sets_stale" == 1 end, 30)
    assert.is_truthy(broker:logged { level = "error", set = "blocked",
      msg = "a set is stale: filters that ask it let nothing through" })
    assert.equal("", heard(broker, client))
    assert.equal(2, broker:metric "tidegate_policy_set_refused_total")
    assert.is_false(http.get(broker.admin, "/status").json.policy.sets[1].trusted)

    local id = broker:publish("a", "x", { attrs = { person = "bob" } })
    local why = explained(broker, id)
    assert.is_truthy(why:find([[in_set(attrs.person=\"bob\", \"blocked\") = false (the set has no values: all of the ]]
      .. "filter is false)", 1, true), why)

    sql "alter table elsewhere rename to blocked"
    eventually("it is there again", function() return broker:metric "tidegate_policy_sets_stale" == 0 end, 30)
    assert.equal("bob", heard(broker, client))
    id = broker:publish("a", "x", { attrs = { person = "ann" } })
    why = explained(broker, id)
    assert.is_truthy(why:find([[in_set(attrs.person=\"ann\", \"blocked\") = true]], 1, true), why)
  end)

  local function refused(text, more)
    local b = tidegate.prepare { policy = text, config = config(more) }
    tidegate.forget_later(b)
    local code, _, err = tidegate.run(tidegate.binary(), { args = { "serve", b.conf_path }, cwd = b.dir })
    assert.equal(78, code)
    return err
  end

  it("that cannot be loaded let no policy start", function()
    assert.matches('set \\"blocked\\": no such table: nowhere', refused(policy { query = "select x from nowhere" }))
    assert.matches('set \\"blocked\\": the query of a set answers one column, this one has 2',
      refused(policy { query = "select person, 1 as one from blocked" }))
    assert.matches('set \\"blocked\\": it has more than 1 values %(policy.set_entries%)',
      refused(policy(), { set_entries = 1 }))
    sql "insert into blocked values (printf('%.4097c', 'x'))"
    assert.matches('set \\"blocked\\": it has a text of more than 4096 bytes', refused(policy()))
  end)

  it("are loaded before a policy takes over, and only where they are not there", function()
    local rarely = 'blocked = { query = "blocked", every = 3600, stale = 7200 }'
    local broker = start(policy { sets = rarely })
    local client = sse.open(broker, { topic = "a" })
    local function loads()
      return broker:metric 'tidegate_policy_set_loads_total{result="ok"}'
    end
    assert.equal(1, loads())
    local answer = broker:reload(policy { version = "2", query = "select x from nowhere" })
    assert.same({ 422, "refused" }, { answer.status, answer.json.result })
    assert.matches('^set "blocked": no such table: nowhere', answer.json.error)
    assert.equal("bob", heard(broker, client))

    answer = broker:reload(policy { version = "3", sets = rarely })
    assert.same({ 200, "reloaded" }, { answer.status, answer.json.result })
    assert.equal(1, loads())
    assert.equal("bob", heard(broker, client))

    answer = broker:reload(policy { version = "4", query = "select 'bob' as person", sets = rarely })
    assert.same({ 200, "reloaded" }, { answer.status, answer.json.result })
    assert.equal("ann", heard(broker, client))
    assert.equal(200, http.post(broker.admin, "/policy/rollback", "", {}).status)
    assert.equal("bob", heard(broker, client))
  end)

  it("are as many as there are workers", function()
    local options = config()
    options.workers = 2
    local broker = tidegate.start { policy = policy(), config = options }
    entries_become(broker, 2)
    assert.equal(2, broker:metric "tidegate_policy_sets")
  end)

  describe("in `tidegate check`", function()
    local function check(options, more)
      local b = tidegate.prepare { policy = policy(options), config = config() }
      tidegate.forget_later(b)
      local args = { "check", b.conf_path, table.unpack(more or {}) }
      local code, out, err = tidegate.run(tidegate.binary(), { args = args, cwd = b.dir })
      return code, out .. err
    end

    it("are shown, and their queries prepared", function()
      local code, out = check()
      assert.equal(0, code, out)
      assert.matches("sets      blocked %(every 1 s, stale after 2 s%)", out)
      assert.is_nil(out:find "no filter text asks it")
      code, out = check({ query = "select x from nowhere" }, { "--db" })
      assert.equal(78, code, out)
      assert.matches("no such table: nowhere", out)
    end)

    it("are wanted by some filter", function()
      local code, out = check { sets = 'blocked = { query = "blocked", every = 1, stale = 2 }, '
        .. 'empty = { query = "none", every = 60, stale = 600 }' }
      assert.equal(0, code, out)
      assert.matches("warning: sets.empty: no filter text asks it", out)
    end)

    it("have a shape", function()
      for sets, why in pairs {
        ['bloked = { query = "blocked", every = 1, stale = 2 }'] =
          "policy.lua:4:%d+: error: filter 'quiet': in_set: there is no set 'blocked' %(did you mean 'bloked'%?%)",
        ['blocked = { query = "bloced", every = 1, stale = 2 }'] =
          "sets.blocked.query: unknown query 'bloced' %(did you mean 'blocked'%?%)",
        ['blocked = { query = "blocked", every = 0, stale = 2 }'] = "sets.blocked.every: ",
        ['blocked = { query = "blocked", stale = 2 }'] = "sets.blocked.every: missing",
        ['blocked = { query = "blocked", every = 2 }'] = "sets.blocked.stale: missing",
        ['blocked = { query = "blocked", every = 2, stale = 3 }'] = "sets.blocked.stale: at least twice `every`",
        ['blocked = { query = "blocked", evry = 2, stale = 4 }'] = "sets.blocked: unknown key 'evry' %(did you mean "
          .. "'every'%?%)",
        ['blocked = { every = 2, stale = 4 }'] = "sets.blocked.query: a string was expected",
        ["blocked = 1"] = "sets.blocked: a table was expected",
        ["1"] = "sets: names are",
      } do
        local code, out = check { sets = sets }
        assert.equal(78, code, out)
        assert.matches(why, out)
      end
      local code, out = check { query = "select person from blocked where person = $1" }
      assert.equal(78, code, out)
      assert.matches("sets.blocked.query: 'blocked' takes 1 argument; the query of a set takes none", out)
    end)
  end)

  it("are given to `tidegate eval`", function()
    local b = tidegate.prepare { policy = policy(), config = config() }
    tidegate.forget_later(b)
    local function eval(input)
      b:write_file("input.json", http.json.encode(input))
      local code, out, err = tidegate.run(tidegate.binary(), { cwd = b.dir,
        args = { "eval", "filter", "--input", "input.json" } })
      return code, out .. err
    end
    local event = { topic = "a", attrs = { person = "ann" } }
    local code, out = eval { name = "quiet", event = event, sets = { blocked = { "bob", "ann" } } }
    assert.equal(1, code, out)
    assert.matches('in_set%(attrs.person="ann", "blocked"%) = true', out)
    code, out = eval { name = "quiet", event = event, sets = { blocked = { "bob" } } }
    assert.equal(0, code, out)
    code, out = eval { name = "quiet", event = event, sets = { blocked = { "ann" }, blockd = { "bob" } } }
    assert.equal(65, code, out)
    assert.matches("input: sets: the policy has no such set: 'blockd'; did you mean 'blocked'%?", out)
    code, out = eval { name = "quiet", event = event }
    assert.equal(78, code, out)
    assert.matches('set "blocked": the input does not say what is in it: "sets": {"blocked": %[...%]}', out)
  end)

  it("are given to `tidegate test`", function()
    local b = tidegate.prepare { policy = policy { sets = 'blocked = { query = "blocked", every = 30, stale = 600 }' },
      config = config() }
    tidegate.forget_later(b)
    files.write(b.dir .. "/policy_spec.lua", [[
      local t = require "tidegate.test"
      it("keeps events back", function()
        local blocked = { "ann" }
        local p = t.policy("policy.lua", { now = 1700000000, sets = {
          blocked = function() if not blocked then return nil, "away" end return blocked end } })
        local c = p:connect { topics = { "a" } }
        local function got()
          local before = #c:ids()
          for _, person in ipairs { "ann", "bob" } do
            p:publish { topic = "a", data = person, attrs = { person = person } }
          end
          return #c:ids() - before
        end
        assert.equal(1, got())
        blocked = { "ann", "bob" }
        p:at(1700000031)
        assert.equal(0, got())
        blocked = {}
        p:at(1700000062)
        assert.equal(2, got())
        blocked = nil
        p:at(1700000600)
        assert.equal(2, got())
        p:at(1700000663)
        assert.equal(0, got())
        blocked = { 17 }
        p:at(1700000700)
        assert.equal(2, got())
        assert.equal("reloaded", p:reload { sets = { blocked = { "ann" } } }.outcome)
        assert.equal(1, got())
        assert.has_error(function() t.policy("policy.lua", { sets = { blocked = t.down } }) end)
        assert.has_error(function() t.policy("policy.lua") end)
        local missing = "sets: the policy has no such set: 'blockd'; did you mean 'blocked'%?"
        local both = { blocked = {}, blockd = {} }
        assert.error_matches(function() t.policy("policy.lua", { sets = both }) end, missing)
        assert.error_matches(function() p:with { sets = both } end, missing)
        assert.error_matches(function() p:reload { sets = both } end, missing)
      end)
    ]])
    local code, out, err = tidegate.run(tidegate.binary(), { args = { "test", b.dir }, cwd = b.dir })
    assert.equal(0, code, out .. err)
  end)
end)
