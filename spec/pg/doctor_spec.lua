-- `tidegate doctor` on a store in PostgreSQL.
local pg = require "support.pg"
local tidegate = require "support.tidegate"

describe("tidegate doctor, on PostgreSQL,", function()
  local server = pg.shared {}

  local function doctor(options)
    local b = tidegate.prepare(options)
    tidegate.forget_later(b)
    return tidegate.run(tidegate.binary(), { args = { "doctor", b.conf_path }, timeout = 60 })
  end

  it("says whether the schema is there, and reads settings and the clock", function()
    local db = server():database { schema = false }
    local code, out = doctor(db:broker_options())
    assert.equal(1, code)
    assert.matches("FAIL  database: ", out, 1, true)
    assert.matches("\n      Mend it, then run `tidegate migrate`.\n", out, 1, true)
    assert.is_nil(out:find("password", 1, true))
    db = server():database()
    code, out = doctor(db:broker_options())
    assert.equal(0, code, out)
    assert.matches("\nok +database: [^\n]+: schema version %d+, and this role owns it\n", out)
    assert.matches("\nok +database: PostgreSQL %d+", out)
    assert.matches("\nok +clock: that of the database is within %d+ ms of this machine's\n", out)
    assert.is_nil(out:find("pooler", 1, true))
  end)

  it("warns of settings that lose events, not of what the broker sets for itself", function()
    local db = server():database()
    server():sql(("ALTER DATABASE %s SET synchronous_commit = off; ALTER DATABASE %s SET idle_session_timeout = '7min'")
      :format(db.name, db.name))
    local code, out = doctor(db:broker_options())
    assert.equal(0, code, out)
    assert.is_nil(out:find("idle_session_timeout", 1, true), out)
    assert.matches("\nwarn +database: fsync is %a+ and synchronous_commit is off: ", out)
  end)

  it("notices that the database keeps the newest events of other topics", function()
    local db = server():database()
    local function told(latest)
      local code, out = doctor(db:broker_options { config = { store = { latest = latest } } })
      assert.equal(0, code, out)
      return out:match "warn +database: the database keeps the newest events of other topics[^\n]*"
    end
    assert.is_nil(told { "a/*" }) -- nobody has led
    db:sql "UPDATE tidegate.latest_state SET patterns = '{a/*,b}'"
    assert.is_nil(told { "b", "a/*" })
    assert.matches("(a/* b)", told { "a/*" }, 1, true)
    assert.matches("(a/* b)", told {}, 1, true)
  end)

  it("notices a pooler", function()
    local db = server():database()
    local behind = db:on(server():pooler { pool_mode = "transaction" })
    local _, out = doctor(behind:broker_options())
    assert.matches("\nwarn +database: a connection pooler answers for the server\n", out)
  end)
end)
