-- `sets` of policies on PostgreSQL: values of all kinds, a table that changes, a server that goes away.
local eventually = require "support.eventually"
local pg = require "support.pg"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

local POLICY = [[
  local P = { api = 1 }
  P.queries = { mixed = "select person from blocked order by person", numbers = "select n from numbers" }
  P.sets = {
    people = { query = "mixed", every = 1, stale = 3 },
    numbers = { query = "numbers", every = 1, stale = 3 },
  }
  P.filters = { quiet = [=[
    has(attrs.always) or not in_set(attrs.person, "people") and not in_set(tonumber(attrs.n), "numbers") ]=] }
  function P.authenticate() return { sub = "x" } end
  function P.publish(pub) return pub end
  function P.subscribe(req) return { topics = req.topics, filter = "quiet" } end
  return P
]]

describe("sets of a policy that asks PostgreSQL", function()
  local server = pg.shared { settings = { max_connections = 20 } }

  local function options()
    return { policy = POLICY, config = { database = { driver = "postgres",
      conninfo = ("host=127.0.0.1 port=%d user=reader dbname=postgres"):format(server().port) } } }
  end

  before_each(function()
    server():sql [[drop table if exists blocked, numbers; create table blocked(person text);
      create table numbers(n bigint);
      do $$ begin create role reader login; exception when duplicate_object then null; end $$;
      grant select on blocked, numbers to reader;
      insert into blocked values ('ann'), (null), ('ann'), ('x''y'); insert into numbers values (7), (-7)]]
  end)

  local function heard(broker, client)
    for _, attrs in ipairs { { person = "ann", n = 1 }, { person = "x'y", n = 1 }, { person = "bob", n = 7 },
      { person = "bob", n = 8 } } do
      broker:publish("a", ("%s%d"):format(attrs.person, attrs.n), { attrs = attrs })
    end
    broker:publish("a", "end", { attrs = { always = true } })
    local list = {}
    for i, ev in ipairs(client:collect_until "end") do
      list[i] = ev.data
    end
    return table.concat(list, " ")
  end

  local function is(broker, name, n)
    eventually(("%s is %d"):format(name, n), function() return broker:metric(name) == n end, 60)
  end

  it("follow the tables, and close when the server is away", function()
    local broker = tidegate.start(options())
    local client = sse.open(broker, { topic = "a" })
    assert.equal(4, broker:metric "tidegate_policy_set_entries")
    assert.equal("bob8", heard(broker, client))
    server():sql "delete from blocked where person = 'ann'; insert into numbers values (8)"
    is(broker, "tidegate_policy_set_entries", 4)
    eventually("both are seen", function()
      return heard(broker, client) == "ann1"
    end, 60)
    server():kill()
    is(broker, "tidegate_policy_sets_stale", 2)
    assert.equal("", heard(broker, client))
    assert.is_true(broker:metric "tidegate_policy_set_refused_total" >= 4)
    server():start()
    is(broker, "tidegate_policy_sets_stale", 0)
    assert.equal("ann1", heard(broker, client))
  end)

  it("hold a hundred thousand values", function()
    server():sql "insert into blocked select 'user-' || i from generate_series(1, 100000) i"
    local patient = options()
    patient.policy = POLICY:gsub("stale = 3", "stale = 60") -- however long a load takes
    local broker = tidegate.start(patient)
    local client = sse.open(broker, { topic = "a" })
    assert.equal(100004, broker:metric "tidegate_policy_set_entries")
    broker:publish("a", "1", { attrs = { person = "user-1", n = 1 } })
    broker:publish("a", "2", { attrs = { person = "user-100000", n = 1 } })
    broker:publish("a", "3", { attrs = { person = "user-100001", n = 1 } })
    assert.equal("3", client:next().data)
  end)

  it("that cannot be loaded let no policy start", function()
    local function refused(expected)
      local b = tidegate.prepare(options())
      tidegate.forget_later(b)
      local code, _, err = tidegate.run(tidegate.binary(), { args = { "serve", b.conf_path }, cwd = b.dir })
      assert.equal(expected, code)
      return err
    end
    server():sql "drop table numbers"
    assert.matches('set \\"numbers\\": .*relation \\"numbers\\" does not exist', refused(78):gsub('\\\\', ""))
    server():stop()
    -- systemd tries again, which it does not after 78
    assert.matches('set \\"[a-z]+\\": the database is away', refused(69))
    server():start()
  end)
end)
