-- Applications often reach PostgreSQL through a pooler. In transaction mode, where each transaction may run on
-- another connection, an INSERT into tidegate.outbox must still work as it does directly. The broker connects
-- directly: LISTEN needs a session.
local eventually = require "support.eventually"
local pg = require "support.pg"
local sse = require "support.sse"

describe("an application behind PgBouncer in transaction mode", function()
  local server = pg.shared {}
  local db, app, pooler, client
  before_each(function()
    db = server():database()
    pooler = server():pooler { pool_mode = "transaction", default_pool_size = 2 }
    app = db:on(pooler)
    client = sse.open(db:broker(), { topic = "t/*" })
  end)

  it("is really pooled", function()
    local sessions, backends, n = {}, {}, 0
    for i = 1, 4 do
      sessions[i] = app:session(pg.APP)
      backends[sessions[i]:run "SELECT pg_backend_pid();"] = true
    end
    for _ in pairs(backends) do
      n = n + 1
    end
    assert.is_true(n <= 2, n .. " connections for four sessions")
  end)

  it("reaches subscribers with its INSERT", function()
    app:insert { topic = "t/x", type = "reserved", data = "one", key = "k", attrs = '{"a":1}' }
    local ev = client:next()
    assert.same({ "reserved", "one" }, { ev.type, ev.data })
    app:insert({ topic = "t/x", data = "two" }, { topic = "t/y", data = "three" })
    assert.equal("two", client:next().data)
    assert.equal("three", client:next().data)
    app:insert { topic = "t/x", data = "again", key = "k" } -- a repeated key: not a second event
    db:insert { topic = "t/x", data = "directly" }
    assert.equal("directly", client:next().data)
  end)

  it("reaches them on COMMIT only, whatever happens between on the same connections", function()
    local a, b, c = app:session(pg.APP), app:session(pg.APP), app:session(pg.APP)
    a:run "BEGIN; INSERT INTO tidegate.outbox (topic, data) VALUES ('t/x', 'late');"
    b:run "BEGIN; INSERT INTO tidegate.outbox (topic, data) VALUES ('t/x', 'never');"
    b:run "ROLLBACK;"
    for i = 1, 5 do -- on the connection that b had
      c:run(("INSERT INTO tidegate.outbox (topic, data) VALUES ('t/x', 'c%d');"):format(i))
      assert.equal("c" .. i, client:next().data)
    end
    a:run "COMMIT;"
    assert.equal("late", client:next().data)
    eventually.pass(0.2, "what was rolled back would show by now")
    client:pump()
    assert.same({}, client.queue)
  end)

  it("reaches them after the pooler was started anew", function()
    app:insert { topic = "t/x", data = "before" }
    assert.equal("before", client:next().data)
    pooler:stop()
    assert.is_nil((app:try(pg.insert { topic = "t/x", data = "lost" }, pg.APP)))
    db:on(server():pooler { pool_mode = "transaction" }):insert { topic = "t/x", data = "after" }
    assert.equal("after", client:next().data)
  end)
end)
