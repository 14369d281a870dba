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
