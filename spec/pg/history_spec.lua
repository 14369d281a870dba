-- History of PostgreSQL: by topic where a few topics are asked for from far behind, by walking it otherwise.
local eventually = require "support.eventually"
local http = require "support.http"
local pg = require "support.pg"
local sse = require "support.sse"

describe("history", function()
  local server = pg.shared {}
  local broker, expected

  -- 3000 events, of which every 300th is on one of two quiet topics.
  before_each(function()
    local db = server():database()
    broker = db:broker { config = { event_log = { max_events = 16, page_events = 10 } } }
    local all = sse.open(broker, { topic = "**" })
    db:sql([[INSERT INTO tidegate.outbox (topic, data)
             SELECT CASE n % 300 WHEN 0 THEN 'quiet/' || n / 300 % 2 ELSE 'noise' END, n::text
             FROM generate_series(1, 3000) n]])
    expected = { all = all:collect(3000, 60) }
    for _, topic in ipairs { "quiet/0", "quiet/1" } do
      expected[topic] = {}
    end
    for i, ev in ipairs(expected.all) do
      if i % 300 == 0 then
        table.insert(expected["quiet/" .. i // 300 % 2], ev)
      end
    end
    all:close()
  end)

  local function pages()
    return broker:metric "tidegate_store_pages_read_total"
  end

  it("of a quiet topic costs what the topic holds", function()
    local before = pages()
    local c = sse.open(broker, { topic = "quiet/1", last_event_id = "0" })
    assert.same(expected["quiet/1"], c:collect(5))
    -- one page of the topic, and the walk over what is near the head; all of it would be 300
    assert.is_true(pages() - before <= 20, pages() - before .. " pages")
  end)

  it("of several topics comes in order, from wherever it is asked for", function()
    for at = 100, 2900, 400 do
      local wanted = {}
      for i = at + 1, 3000 do
        if i % 300 == 0 then
          wanted[#wanted + 1] = expected.all[i]
        end
      end
      local c = sse.open(broker, { topic = { "quiet/0", "quiet/1" }, last_event_id = expected.all[at].id })
      assert.same(wanted, c:collect(#wanted))
    end
  end)

  it("of a busy topic and of patterns is complete", function()
    local noise = {}
    for i, ev in ipairs(expected.all) do
      if i % 300 ~= 0 then
        noise[#noise + 1] = ev
      end
    end
    assert.same(noise, sse.open(broker, { topic = "noise", last_event_id = "0" }):collect(#noise, 30))
    assert.same(expected.all, sse.open(broker, { topic = "**", last_event_id = "0" }):collect(3000, 30))
  end)

  it("answers why an event did or did not come, for whoever is still there then", function()
    local quiet = sse.open(broker, { topic = "quiet/1", last_event_id = "0" })
    quiet:collect(5)
    local id
    for _, c in ipairs(http.get(broker.admin, "/connections").json.connections) do
      id = c.topics[1] == "quiet/1" and c.id or id
    end
    local function path(event)
      return ("/connections/%s/explain?event=%s"):format(id, event)
    end
    local function about(event)
      local doc = http.get(broker.admin, path(event)).json
      return { doc.outcome, doc.reason }
    end
    assert.same({ "delivered" }, about(expected["quiet/1"][1].id))
    assert.same({ "not-delivered", "topic" }, about(expected.all[1].id))
    assert.equal(404, http.get(broker.admin, path(1)).status)
    server():stop "immediate"
    eventually("the broker knows that it cannot say", function()
      return http.get(broker.admin, path(expected.all[1].id)).status == 503
    end)
    server():start()
    eventually("it can again", function() return http.get(broker.admin, path(expected.all[1].id)).status == 200 end)
    -- the database takes its time
    server():freeze()
    local one, another = http.connect(broker.admin), http.connect(broker.admin)
    one:send(http.render("GET", path(expected.all[1].id)))
    another:send(http.render("GET", path(expected.all[2].id)))
    assert.equal(200, http.get(broker.admin, "/healthz").status)
    one:close()
    assert.equal(204, http.request(broker.admin, "DELETE", "/connections/" .. id).status)
    server():thaw()
    local r = another:response()
    assert.same({ 404, "No open event stream has that id; `tidegate connections` lists them." },
      { r.status, r.json.detail })
  end)

  it("goes on with what is published meanwhile", function()
    local c = sse.open(broker, { topic = "quiet/0", last_event_id = "0" })
    broker:publish("noise", "not this")
    broker:publish("quiet/0", "live")
    local list = c:collect(6)
    assert.equal("live", list[6].data)
    assert.same(expected["quiet/0"], table.move(list, 1, 5, 1, {}))
  end)
end)
