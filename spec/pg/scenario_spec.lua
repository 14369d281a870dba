-- The story the project started from, on PostgreSQL: the reservation service writes its own row and the event
-- in one transaction and speaks no HTTP; the lending service uses an EventSource client nobody here wrote, is
-- away for a while, comes back with the last id it recorded, on another broker.
local eventually = require "support.eventually"
local http = require "support.http"
local lending = require "support.lending"
local pg = require "support.pg"

describe("reservation and lending", function()
  local server = pg.shared {}
  local db, a, b, reservation, running
  before_each(function()
    db = server():database()
    db:sql [[CREATE SCHEMA shop; CREATE TABLE shop.reservation (book text PRIMARY KEY, reader text NOT NULL);
      GRANT USAGE ON SCHEMA shop TO app; GRANT INSERT, DELETE, SELECT ON shop.reservation TO app]]
    a, b = db:broker(), db:broker()
    reservation = db:session(pg.APP)
    running = {}
  end)
  after_each(function()
    for _, x in ipairs(running) do
      x.process:stop()
    end
  end)

  local function lend(broker, last_id)
    local x = lending.start(broker, last_id)
    running[#running + 1] = x
    x:wait_open()
    return x
  end

  local function statement(book, reader)
    local data = http.json.encode({ book = book, reader = reader }, { keyorder = { "book", "reader" } })
    return ([[
      INSERT INTO shop.reservation VALUES ('%s', '%s');
      INSERT INTO tidegate.outbox (topic, type, data, key)
        VALUES ('reservation/%s', 'reserved', '%s', 'reserved-%s');]])
      :format(book, reader, book, data, book), { type = "reserved", data = data }
  end

  -- In one transaction with its row.
  local function reserve(book, reader)
    local text, event = statement(book, reader or "ann")
    local before = #reservation:errors()
    reservation:run("BEGIN;" .. text .. "COMMIT;")
    assert.equal("", reservation:errors():sub(before + 1))
    return event
  end

  local function assert_exactly(expected, client)
    client:wait_events(#expected)
    eventually.pass(0.3, "a double would show by now")
    local events = client:received()
    for i, ev in ipairs(events) do
      assert.same(expected[i], { type = ev.type, data = ev.data })
      assert.is_true(i == 1 or tonumber(ev.id) > tonumber(events[i - 1].id))
    end
    assert.equal(#expected, #events)
    return events
  end

  it("the lending service that was away receives exactly what it missed", function()
    local client = lend(a)
    local seen = assert_exactly({ reserve "emma", reserve "dune" }, client)
    client.process:stop()

    local missed = {}
    for i = 1, 40 do
      missed[#missed + 1] = reserve("book-" .. i)
      -- a reservation that fails is no reservation and no event
      reservation:run("BEGIN;" .. statement("lost-" .. i, "bob") .. "ROLLBACK;")
      reservation:run("BEGIN;" .. statement("book-" .. i, "too late") .. "COMMIT;") -- the book is taken
    end
    client = lend(b, seen[#seen].id)
    client:wait_events(#missed)
    missed[#missed + 1] = reserve "after"
    assert_exactly(missed, client)
    assert.equal("43", db:sql "SELECT count(*) FROM shop.reservation")

    local newcomer = lend(a, "earliest")
    newcomer:wait_events(43)
    local books = {}
    for i, ev in ipairs((newcomer:received())) do
      books[i] = http.json.decode(ev.data).book
    end
    table.sort(books)
    local expected = db:sql "SELECT string_agg(book, ',' ORDER BY book COLLATE \"C\") FROM shop.reservation"
    assert.equal(expected, table.concat(books, ","))
  end)

  it("neither of them does anything about a server or a broker that is restarted", function()
    local client = lend(a)
    local expected = { reserve "one" }
    client:wait_events(1)
    server():restart "immediate"
    reservation:close()
    reservation = db:session(pg.APP)
    expected[#expected + 1] = reserve "two"
    client:wait_events(2)
    a:kill()
    expected[#expected + 1] = reserve "three"
    a:start()
    expected[#expected + 1] = reserve "four"
    -- the broker is on another port now: the client is started anew, as a service manager would
    local events = client:received()
    client.process:stop()
    client = lend(a, events[#events].id)
    assert_exactly({ expected[3], expected[4] }, client)
  end)
end)
