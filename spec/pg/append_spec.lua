-- What becomes of a batch of publishes whose statement is late, or comes a second time.
local pg = require "support.pg"

describe("tidegate.append()", function()
  local server = pg.shared {}
  local WRITER = "00000000-0000-4000-8000-000000000001"

  local function append(db, batch, data, key)
    return db:try(("SELECT * FROM tidegate.append('%s', %d, 1000000, %s, '{t}', '{NULL}', '{%s}', '{NULL}', '{%s}',"
      .. " '{1764000000000}')"):format(WRITER, batch, key ~= nil, data, key or "NULL"), pg.OWNER)
  end

  local function stored(db)
    return db:sql "SELECT string_agg(data, ' ' ORDER BY seq) FROM tidegate.events"
  end

  it("stores a batch once, and nothing of one that comes after its time", function()
    local db = server():database()
    local one = assert(append(db, 1, "one"))
    assert.equal(one, append(db, 1, "one"))
    local two = assert(append(db, 2, "two"))
    -- the statement of a connection that was given up, of which the server knew nothing
    local late, why = append(db, 1, "one")
    assert.is_nil(late)
    assert.matches("batch 1 of this writer comes after its batch 2", why, 1, true)
    assert.equal(two, append(db, 2, "two")) -- its answer was lost
    assert.equal("one two", stored(db))
    assert.is_truthy(append(db, 3, "three"))
    assert.equal("one two three", stored(db))
  end)
end)
