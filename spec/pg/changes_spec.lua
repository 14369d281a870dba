-- Tables that speak: tidegate.publish_changes() makes events of the changes of an application's table, in the
-- transaction that makes them.
local json = require "dkjson"
local pg = require "support.pg"
local sse = require "support.sse"

local POLICY = [[
return {
  api = 1,
  authenticate = function() return { sub = "anyone" } end,
  subscribe = function(req) return { topics = req.topics, format = "show" } end,
  formats = { show = function(ev)
    if ev.topic == "end" then return ev.data end
    return json.encode { topic = ev.topic, type = ev.type, data = ev.data, tenant = ev.attrs.tenant }
  end },
}
]]

describe("tidegate.publish_changes", function()
  local server = pg.shared {}
  local db, c

  local function app(text)
    return db:sql(text, pg.APP)
  end

  before_each(function()
    db = server():database()
    db:sql(("CREATE SCHEMA shop AUTHORIZATION %s"):format(pg.APP))
    app [[CREATE TABLE shop.orders (tenant text, id int PRIMARY KEY, state text, note text);
      SELECT tidegate.publish_changes('shop.orders', topic => 'orders/{tenant}/{id}', columns => '{id,state}',
                                      attrs => '{tenant}')]]
    c = sse.open(db:broker { policy = POLICY }, { query = { topic = "**" } })
  end)

  -- What came until now: "type topic new old", as JSON where there is any; sorted where the order is no one's.
  local function events(unordered)
    db:insert { topic = "end", data = "end" }
    local list = {}
    for i, ev in ipairs(c:collect_until "end") do
      local whole = json.decode(ev.data)
      local doc = whole.data == "" and {} or whole.data
      list[i] = ("%s %s"):format(whole.type, whole.topic)
      for _, name in ipairs { "new", "old" } do
        list[i] = list[i] .. (doc[name] and " " .. json.encode(doc[name], { keyorder = { "id", "state" } }) or "")
      end
      assert.equal(whole.topic:match "^orders/(%w+)/", whole.tenant)
    end
    if unordered then
      table.sort(list)
    end
    return list
  end

  it("makes an event of each row that is inserted, updated or deleted, on COMMIT", function()
    app [[BEGIN; INSERT INTO shop.orders VALUES ('acme', 1, 'new', 'x'), ('acme', 2, 'new', 'y');
      UPDATE shop.orders SET state = 'paid' WHERE id = 2; DELETE FROM shop.orders WHERE id = 1; COMMIT]]
    app "BEGIN; INSERT INTO shop.orders VALUES ('acme', 3, 'new', 'x'); ROLLBACK"
    assert.same({ 'insert orders/acme/1 {"id":1,"state":"new"}', 'insert orders/acme/2 {"id":2,"state":"new"}',
      'update orders/acme/2 {"id":2,"state":"paid"} {"state":"new"}', "delete orders/acme/1" }, events())
  end)

  it("makes none of an update that changes none of the columns, nor of none", function()
    app [[INSERT INTO shop.orders VALUES ('acme', 1, 'new', 'x')]]
    app [[UPDATE shop.orders SET note = 'z'; UPDATE shop.orders SET state = 'new';
      DELETE FROM shop.orders WHERE id = 7]]
    assert.same({ 'insert orders/acme/1 {"id":1,"state":"new"}' }, events())
  end)

  it("lets a row whose topic changes go there, and come here", function()
    app "ALTER TABLE shop.orders DROP CONSTRAINT orders_pkey, ADD PRIMARY KEY (id) DEFERRABLE"
    app "INSERT INTO shop.orders VALUES ('acme', 1, 'new', 'x'), ('acme', 2, 'paid', 'x')"
    assert.equal(2, #events())
    app "UPDATE shop.orders SET id = id + 1"
    local list = events()
    assert.equal("delete orders/acme/1", list[1]) -- first, for another may have come to its topic
    table.sort(list)
    assert.same({ "delete orders/acme/1", 'insert orders/acme/3 {"id":3,"state":"paid"}',
      'update orders/acme/2 {"id":2,"state":"new"} {"state":"paid"}' }, list)
  end)

  it("takes values for one segment of the topic, and a row whose topic is none is rejected, not refused", function()
    app [[INSERT INTO shop.orders VALUES ('a/b*%', 1, 'new', 'x'); INSERT INTO shop.orders VALUES (NULL, 2)]]
    db:insert { topic = "end", data = "end" }
    assert.equal("orders/a%2Fb%2A%25/1", json.decode(c:next().data).topic)
    assert.equal("end", c:next().data)
    assert.matches("empty segment", db:sql "SELECT reason FROM tidegate.rejected")
  end)

  it("costs a statement of 10,000 rows one INSERT, and COPY, ON CONFLICT and cascades count", function()
    app [[CREATE TABLE shop.lines (id int PRIMARY KEY, o int REFERENCES shop.orders ON DELETE CASCADE);
      SELECT tidegate.publish_changes('shop.lines', 'lines/{id}', on_events => '{delete}')]]
    app [[INSERT INTO shop.orders SELECT 'acme', g, 'new', 'x' FROM generate_series(1, 10000) g]]
    assert.equal(10000, #events())
    app [[INSERT INTO shop.orders VALUES ('acme', 1, 'paid', 'x'), ('acme', 10001, 'new', 'x')
      ON CONFLICT (id) DO UPDATE SET state = excluded.state; INSERT INTO shop.lines VALUES (5, 3)]]
    app "DELETE FROM shop.orders WHERE id = 3"
    assert.same({ "delete lines/5", "delete orders/acme/3", 'insert orders/acme/10001 {"id":10001,"state":"new"}',
      'update orders/acme/1 {"id":1,"state":"paid"} {"state":"new"}' }, events(true))
  end)

  it("is listed, replaced and stopped", function()
    local list = "SELECT \"table\", topic, columns, attrs, on_events FROM tidegate.changes"
    assert.equal("shop.orders|orders/{tenant}/{id}|{id,state}|{tenant}|{delete,insert,update}", app(list))
    app [[SELECT tidegate.publish_changes('shop.orders', 'o/{id}', on_events => '{insert}')]]
    assert.equal("shop.orders|o/{id}|||{insert}", app(list))
    app [[INSERT INTO shop.orders VALUES ('acme', 1, 'new', 'x'); UPDATE shop.orders SET state = 'paid']]
    app "SELECT tidegate.stop_changes('shop.orders')"
    assert.equal("", app(list))
    app "DELETE FROM shop.orders"
    local all = events()
    assert.equal(1, #all)
    assert.matches("^insert o/1 {", all[1])
  end)

  it("serves a partitioned table and names in need of quotes", function()
    app [[CREATE TABLE shop."Odd one" ("the id" int PRIMARY KEY, "tenant" text) PARTITION BY RANGE ("the id");
      CREATE TABLE shop.part PARTITION OF shop."Odd one" FOR VALUES FROM (0) TO (10);
      SELECT tidegate.publish_changes('shop."Odd one"', 'odd/{the id}')]]
    app [[INSERT INTO shop."Odd one" VALUES (4, NULL); UPDATE shop."Odd one" SET tenant = 'a']]
    assert.equal(2, #events())
    assert.equal([[insert 4 null, update 4 "a"]], db:sql [[SELECT string_agg(concat_ws(' ', type,
      data::jsonb #>> '{new,the id}', data::jsonb #> '{new,tenant}'), ', ' ORDER BY seq)
      FROM tidegate.events WHERE topic = 'odd/4']])
  end)

  it("says what is wrong with its arguments", function()
    app "CREATE TABLE shop.bare (id int); CREATE VIEW shop.v AS SELECT 1 AS id"
    for call, text in pairs {
      ["'shop.bare', 'o/{id}'"] = "shop.bare has no primary key, by which an UPDATE knows a row again",
      ["'shop.v', 'o/{id}'"] = "shop.v is no table",
      ["'shop.orders', 'o/{idd}'"] = "topic: shop.orders has no column idd",
      ["'shop.orders', 'o/{id'"] = "topic: expected text with columns in braces, as 'orders/{tenant}/{id}', got",
      ["'shop.orders', 'o//{id}'"] = "topic: has an empty segment",
      ["'shop.orders', 'o/*/{id}'"] = "topic: holds '*', which only patterns may",
      ["'shop.orders', 'o/{id}', columns => '{stat}'"] = "columns: shop.orders has no column stat",
      ["'shop.orders', 'o/{id}', attrs => '{x}'"] = "attrs: shop.orders has no column x",
      ["'shop.orders', 'o/{id}', on_events => '{insert,upsert}'"] = "on_events: expected some of insert, update",
      ["'shop.orders', NULL"] = "topic: expected text with columns in braces",
    } do
      local out, err = db:try(("SELECT tidegate.publish_changes(%s)"):format(call), pg.APP)
      assert.is_nil(out, call)
      assert.matches(text, err, 1, true)
    end
    assert.equal("orders/{tenant}/{id}", app "SELECT topic FROM tidegate.changes") -- as before
  end)

  it("refuses the broker's own tables", function()
    local out, err = db:try "SELECT tidegate.publish_changes('tidegate.outbox', 'o/{id}')"
    assert.is_nil(out)
    assert.matches("each event of it would make another one", err, 1, true)
  end)

  it("asks of who changes the table what an INSERT into the outbox asks", function()
    db:sql [[CREATE ROLE clerk; GRANT USAGE ON SCHEMA shop TO clerk; GRANT ALL ON shop.orders TO clerk]]
    local insert = "SET ROLE clerk; INSERT INTO shop.orders VALUES ('acme', 1, 'new', 'x')"
    local out, err = db:try(insert)
    assert.is_nil(out)
    assert.matches("permission denied for schema tidegate", err)
    db:sql "GRANT USAGE ON SCHEMA tidegate TO clerk; GRANT INSERT ON tidegate.outbox TO clerk"
    db:sql(insert)
    assert.equal(1, #events())
  end)
end)
