-- `tidegate check --db` on PostgreSQL: queries are prepared there, and not run.
local json = require "dkjson"
local pg = require "support.pg"
local tidegate = require "support.tidegate"

local POLICY = [[
return {
  api = 1,
  queries = {
    good = "select topic from entitlement where login = $1",
    table_gone = "select topic from nowhere where login = $1",
    column_gone = [=[
      select topic as "größe"
        from entitlement where logn = $1]=],
    forbidden = "select topic from secret",
    slow = "select pg_sleep(100), raise_it()",
  },
  authenticate = function() return { sub = "x" } end,
  subscribe = function() return { topics = { "a" } } end,
}]]

describe("tidegate check --db on PostgreSQL", function()
  local server = pg.shared {}

  local function check(port, ...)
    local conf = ([[return { policy = { file = "try.lua" },
      database = { driver = "postgres",
        conninfo = "host=127.0.0.1 port=%d user=reader dbname=postgres" } }]]):format(port)
    local b = tidegate.prepare { files = { ["try.lua"] = POLICY, ["conf.lua"] = conf } }
    tidegate.forget_later(b)
    return tidegate.run(tidegate.binary(), { args = { "check", "conf.lua", "--db", ... }, cwd = b.dir })
  end

  setup(function()
    server():sql [[create role reader login; create table entitlement (topic text, login text);
      grant select on entitlement to reader; create table secret (topic text);
      create function raise_it() returns int language plpgsql as 'begin raise exception ''it was run''; end']]
  end)

  it("says which queries the server refuses, in its words, and runs none", function()
    local code, out = check(server().port, "--json")
    assert.equal(78, code)
    local d = json.decode(out)
    local by = {}
    for _, p in ipairs(d.problems) do
      assert.same({ "error", "database" }, { p.severity, p.source })
      by[p.message:match "query '([%w_]+)'"] = p
    end
    assert.equal(2, d.errors) -- rights are looked at when a query is run
    assert.matches('relation "nowhere" does not exist', by.table_gone.message)
    assert.matches('column "logn" does not exist', by.column_gone.message)
    assert.matches("line 2, column 32", by.column_gone.message)
    assert.equal(5, by.table_gone.line)
  end)

  it("ends with 69 when nobody is there", function()
    local code, _, err = check(1)
    assert.equal(69, code)
    assert.matches("the database is away, queries were not prepared", err)
  end)
end)

describe("tidegate check --db on the PostgreSQL of the store", function()
  local server = pg.shared {}

  local function check(conninfo, store)
    local conf = ([[return { policy = { file = "try.lua" }, admin = false,
      store = { driver = "postgres", %s
        conninfo = %q } }]]):format(store or "", conninfo)
    local plain = "return { api = 1, authenticate = function() return {} end, subscribe = function() end }"
    local b = tidegate.prepare { files = { ["try.lua"] = plain, ["conf.lua"] = conf } }
    tidegate.forget_later(b)
    local code, out, err = tidegate.run(tidegate.binary(), { cwd = b.dir,
      args = { "check", "conf.lua", "--db", "--no-luacheck", "--no-samples" } })
    return code, out .. err
  end

  local function is(code, text, wanted, words)
    assert.equal(wanted, code, text)
    assert.matches(words, text, 1, true)
  end

  it("asks whether a broker could begin, and makes nothing", function()
    local db = server():database { schema = false }
    local code, text = check(db:conninfo())
    is(code, text, 0, "ok: conf.lua")
    assert.equal("", db:sql "SELECT nspname FROM pg_namespace WHERE nspname = 'tidegate'")
    code, text = check(db:conninfo(), 'migrate = "manual",')
    is(code, text, 78, "conf.lua:3: error: store.conninfo: ")
    assert.matches("has no schema tidegate: run `tidegate migrate CONF`", text, 1, true)
    code, text = check((db:conninfo():gsub("dbname=%S+", "dbname=none")))
    is(code, text, 78, "correct dbname of conninfo")
    db = server():database()
    is(0, select(2, check(db:conninfo())), 0, "ok: conf.lua")
    db:sql("INSERT INTO tidegate.version (version, compatible_from) VALUES (4711, 4711)", pg.OWNER)
    code, text = check(db:conninfo())
    is(code, text, 78, "install that version of Tidegate here, too")
    code, text = check "host=127.0.0.1 port=1 user=x dbname=x connect_timeout=2"
    is(code, text, 69, "Connection refused: is PostgreSQL running, and are host and port of conninfo right?")
  end)
end)
