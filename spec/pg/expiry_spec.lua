-- Events that expire, on PostgreSQL, by HTTP and by the outbox; and what brokers of before leave of them.
local expiry = require "support.expiry"
local eventually = require "support.eventually"
local pg = require "support.pg"
local sse = require "support.sse"

local function insert_sql(row)
  return ("INSERT INTO tidegate.outbox (topic, data, expires) VALUES (%s, %s, %s)"):format(pg.quote(row.topic),
    pg.quote(row.data), row.expires and ("to_timestamp(%.3f)"):format(row.expires) or "NULL")
end

for _, workers in ipairs { 1, 2 } do
  describe("on PostgreSQL,", function()
    local server = pg.shared {}
    local db
    expiry.describe(("with workers = %d,"):format(workers), workers, function(options)
      db = server():database()
      db:grant(pg.APP)
      return db:broker(options)
    end, function(_, row)
      db:sql(insert_sql(row), pg.APP)
    end)
  end)
end

describe("the outbox", function()
  local server = pg.shared {}

  it("refuses a wrong time at once, and keeps times for brokers of before", function()
    local db = server():database()
    db:grant(pg.APP)
    local ok, why = db:try("INSERT INTO tidegate.outbox (topic, data, expires) VALUES ('a', 'x', 'infinity')", pg.APP)
    assert.is_falsy(ok)
    assert.matches("expires: a time between 2001 and 2286", why, 1, true)
    -- statements of versions 2 to 8: they move what expires, and their own publishes do not
    local at = expiry.now() + 3600
    for i, take in ipairs { "drain(0, 10, 1000000, 65536, true, 65536)",
      "drain_some(0, 10, 1000000, 1000000, 65536, true, 65536, 0)",
      "drain_one(0, 1000000, 65536, true, 65536, 0, 0, NULL)" } do
      db:sql(insert_sql { topic = "a", data = "moved " .. i, expires = at }, pg.APP)
      assert.equal("1|moved " .. i, db:sql("SELECT n, data FROM tidegate." .. take, pg.OWNER))
    end
    db:sql([[SELECT * FROM tidegate.append('9ab4e1f2-0000-4000-8000-000000000001', 1, 1000000, 0, false, '{a}',
      '{null}', '{own}', '{null}', '{null}', '{1700000000000}')]], pg.OWNER)
    assert.equal("3|1", db:sql "SELECT count(expires), count(*) FILTER (WHERE expires IS NULL) FROM tidegate.events")
    assert.equal("0", db:sql(([[SELECT count(*) FROM tidegate.events
      WHERE abs(extract(epoch FROM expires) - %.3f) > 0.01]]):format(at)))
    local c = sse.open(db:broker(), { topic = "a", last_event_id = "0" })
    assert.equal("moved 1", c:next(60).data)
    assert.equal("own", c:collect(3, 60)[3].data)
  end)

  it("sets aside what cannot be an event, and what expires goes on", function()
    local db = server():database()
    db:grant(pg.APP)
    local c = sse.open(db:broker(), { topic = "a" })
    db:sql("INSERT INTO tidegate.outbox (topic, data, expires) VALUES ('a//b', 'bad', now() + interval '1 hour'), "
      .. "('a', 'good', now() + interval '1 hour')", pg.APP)
    assert.equal("good", c:next(60).data)
    eventually("it was set aside", function() return db:sql "SELECT count(*) FROM tidegate.rejected" == "1" end, 60)
  end)
end)
