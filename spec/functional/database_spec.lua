-- db.query in policies of a running broker, on a SQLite file of an application. PostgreSQL, its faults and its
-- limits are in spec/pg/database_spec.lua, what queries give in spec/unit/query_*_spec.lua.
local child = require "support.child"
local eventually = require "support.eventually"
local http = require "support.http"
local prometheus = require "support.prometheus"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

local POLICY = [[
  local ENDLESS = "with recursive n(i) as (select 1 union all select i + 1 from n) select max(i) from n"
  return {
    api = 1,
    queries = {
      topics = "select topic from entitlement where login = $1 order by topic",
      echo = "select $1 as x, $2 as y",
      bad = "select x from nowhere",
      endless = ENDLESS,
    },
    authenticate = function(req)
      return { sub = req.query.login or "nobody" }
    end,
    subscribe = function(req, who)
      if req.query.lua then
        -- the answer is shown as the reason of a denial
        local arg = req.query.arg
        local run = ({
          echo = function() return db.query("echo", arg, nil) end,
          numbers = function() return db.query("echo", 1 << 53, 0.5) end,
          flags = function() return db.query("echo", true, json.null) end,
          bad = function() return db.query "bad" end,
          endless = function() return db.query "endless" end,
          unknown = function() return db.query("topic", "x") end,
          few = function() return db.query "echo" end,
          many = function() return db.query("topics", 1, 2) end,
          table = function() return db.query("topics", {}) end,
          name = function() return db.query({}) end,
          caught = function() return pcall(db.query, "topics", "ann") and { { x = "fine" } } end,
          sort = function() table.sort({ 1, 2, 3 }, function() return db.query("topics", "ann") end) end,
          twice = function()
            local a, b = db.query("topics", "ann"), db.query("topics", "bob")
            return { a[1], b[1] }
          end,
        })[req.query.lua]
        local rows, err = run()
        if not rows then return nil, err end
        return tg.deny(404, json.encode(json.array(rows)))
      end
      local rows, err = db.query("topics", who.sub)
      if not rows then return nil, err end
      local topics = {}
      for i, row in ipairs(rows) do topics[i] = row.topic end
      if #topics == 0 then return tg.deny(403, "nothing for you") end
      return { topics = topics, format = "raw" }
    end,
    publish = function(pub, who)
      local rows, err = db.query("topics", who.sub)
      if not rows then return nil, err end
      for _, row in ipairs(rows) do
        if row.topic == pub.topic then return pub end
      end
      return tg.deny(403, "not yours")
    end,
    formats = {
      asks = function() return db.query("topics", "ann") end,
    },
  }
]]

describe("db.query", function()
  local dir = child.directory()
  local path = dir .. "/app.db"

  local function sql(text)
    local code, _, err = tidegate.run("/usr/bin/sqlite3", { args = { path, text } })
    assert(code == 0, err)
  end

  setup(function()
    sql [[create table entitlement(login text, topic text);
      insert into entitlement values ('ann', 'a'), ('ann', 'b'), ('bob', 'b'), ('x''y', 'c')]]
  end)

  teardown(function()
    child.remove_tree(dir)
  end)

  local broker = tidegate.shared { policy = POLICY, config = {
    database = { driver = "sqlite", path = path, timeout_ms = 300 },
    policy = { error_log_interval_s = 0 },
  } }

  local function ask(lua, arg)
    return http.get(broker(), "/events?" .. http.query { lua = lua, arg = arg })
  end

  local function rows(lua, arg)
    local r = ask(lua, arg)
    assert.equal(404, r.status, r.body)
    return http.json.decode(r.json.detail)
  end

  local function running(b)
    local text = http.get(b.admin, "/metrics").body
    return prometheus.parse(text).values.tidegate_database_running
  end

  it("decides what a stream gets", function()
    local ann = sse.open(broker(), { query = { login = "ann" } })
    local bob = sse.open(broker(), { query = { login = "bob" } })
    assert.equal(201, http.post(broker(), "/events?topic=a&login=ann", "1").status)
    assert.equal(201, http.post(broker(), "/events?topic=b&login=bob", "2").status)
    assert.equal(403, http.post(broker(), "/events?topic=a&login=bob", "3").status)
    assert.same({ "1", "2" }, { ann:next().data, ann:next().data })
    assert.equal("2", bob:next().data)
    assert.equal(403, sse.request(broker(), { query = { login = "eve" } }).status)
  end)

  it("takes values of strangers as values", function()
    for _, login in ipairs { "' or '1'='1", "x'; drop table entitlement; --", "$1", "\\" } do
      assert.equal(403, sse.request(broker(), { query = { login = login } }).status, login)
    end
    local c = sse.open(broker(), { query = { login = "x'y" } })
    assert.equal(201, http.post(broker(), "/events?topic=c&login=x'y", "1").status)
    assert.equal("1", c:next().data)
  end)

  it("gives and takes scalars", function()
    assert.same({ { x = "it's" } }, rows("echo", "it's"))
    assert.same({ { x = 1 << 53, y = 0.5 } }, rows "numbers")
    assert.same({ { x = 1 } }, rows "flags")
    assert.same({ { topic = "a" }, { topic = "b" } }, rows "twice")
    assert.same({ { x = "fine" } }, rows "caught")
  end)

  it("raises for mistakes of the policy, naming them", function()
    for lua, text in pairs {
      unknown = "unknown query 'topic' %(did you mean 'topics'%?%)",
      few = "query 'echo' takes 2 arguments, got 0",
      many = "query 'topics' takes 1 argument, got 2",
      table = "string, number, boolean or nil expected, got table",
      name = "bad argument #1",
      sort = "db.query inside table.sort",
    } do
      assert.equal(503, ask(lua).status)
      assert.is_true(broker():log():find(text) ~= nil, text .. "\n" .. broker():log():sub(-600))
    end
  end)

  it("answers nil and why for what the database does: the client is told to come back", function()
    local r = ask "bad"
    assert.equal(503, r.status)
    assert.is_truthy(r.headers["retry-after"])
    assert.is_true(broker():log():find("no such table: nowhere", 1, true) ~= nil)
    assert.equal(503, ask("endless").status)
    assert.is_true(broker():log():find("did not answer in time", 1, true) ~= nil)
    local c = sse.request(broker(), { query = { lua = "endless" } })
    assert.equal(200, c.status)
    assert.equal("closed", c:wait_end())
    assert.is_number(c.retry_ms)
    assert.equal("it is free again", rows("echo", "it is free again")[1].x)
  end)

  it("forgets a question whose client has left", function()
    local c = http.connect(broker())
    c:send(http.render("GET", "/events?lua=endless"))
    eventually("it runs", function()
      return running(broker()) == 1
    end)
    c:close()
    eventually("it is stopped", function()
      return running(broker()) == 0
    end)
    assert.equal("x", rows("echo", "x")[1].x)
  end)

  it("gets over a file that goes away and comes back", function()
    local b = tidegate.start { policy = POLICY, config = {
      database = { driver = "sqlite", path = dir .. "/later.db" },
    } }
    assert.equal(503, http.get(b, "/events?login=ann").status)
    path = dir .. "/later.db"
    sql "create table entitlement(login text, topic text); insert into entitlement values ('ann', 'a')"
    path = dir .. "/app.db"
    sse.open(b, { query = { login = "ann" } })
    assert.is_truthy(b:logged { msg = "away: policies that ask it get an error" })
    assert.is_truthy(b:logged { sub = "database", msg = "back" })
  end)

  it("ends well with questions under way", function()
    local b = tidegate.start { policy = POLICY, config = { database = { driver = "sqlite", path = path,
      timeout_ms = 60000 }, drain = { timeout_s = 0 } } }
    local clients = {}
    for i = 1, 5 do
      clients[i] = http.connect(b)
      clients[i]:send(http.render("GET", "/events?lua=endless"))
    end
    eventually("one runs", function()
      return running(b) == 1
    end)
    b:stop()
  end)

  it("is not asked by `tidegate check`, which reads the queries all the same", function()
    local function check(queries)
      local b = tidegate.prepare { policy = ([[return { api = 1, authenticate = function() return {} end,
        queries = { %s }, subscribe = function() return { topics = { "a" } } end }]]):format(queries),
        config = { database = { driver = "postgres", conninfo = "host=127.0.0.1 port=1 user=x dbname=y" } } }
      tidegate.forget_later(b)
      return tidegate.run(tidegate.binary(), { args = { "check", b.conf_path }, cwd = b.dir })
    end
    assert.equal(0, (check 'q = "select $1"'))
    local code, _, err = check 'q = "delete from t"'
    assert.equal(78, code)
    assert.matches("queries.q: is no look%-up", err)
  end)

  describe("is not there", function()
    local function refused(policy, config)
      local b = tidegate.prepare { policy = policy, config = config }
      tidegate.forget_later(b)
      local code, _, err = tidegate.run(tidegate.binary(), { args = { "serve", b.conf_path }, cwd = b.dir })
      assert.equal(78, code)
      return err
    end

    it("for queries without a database", function()
      assert.matches("queries: there is no database to ask: set database.driver", refused(POLICY))
    end)

    it("for queries that are none", function()
      for text, why in pairs {
        ['{ q = "delete from t" }'] = "queries.q: is no look%-up",
        ['{ q = "select \'" }'] = "queries.q: a quote is not closed",
        ['{ q = "select $2" }'] = "queries.q: skips a parameter",
        ["{ q = 1 }"] = "queries.q: a text of SQL was expected, got number",
        ['{ ["a b"] = "select 1" }'] = "queries: names are letters",
        ['{ "select 1" }'] = "queries: names are letters",
        ['"select 1"'] = "queries: a table of texts was expected",
      } do
        local policy = ("return { api = 1, authenticate = function() end, subscribe = function() end, queries = %s }")
          :format(text)
        assert.matches(why, refused(policy, { database = { driver = "sqlite", path = path } }))
      end
    end)

    it("for settings that do not fit together", function()
      assert.matches("database.path: is needed", refused(POLICY, { database = { driver = "sqlite" } }))
      assert.matches("database.conninfo: is needed", refused(POLICY, { database = { driver = "postgres" } }))
      assert.matches("database.path: has no effect", refused(POLICY, { database = { path = "x" } }))
    end)
  end)

  it("must not be called while the policy is loaded, nor in filters and formats", function()
    local code, _, err = (function()
      local b = tidegate.prepare { policy = 'db.query("x") return {}', config = { database = { driver = "sqlite",
        path = path } } }
      tidegate.forget_later(b)
      return tidegate.run(tidegate.binary(), { args = { "serve", b.conf_path }, cwd = b.dir })
    end)()
    assert.equal(78, code)
    assert.matches("db.query is not available while the policy is being loaded", err)
  end)
end)
