-- Publishing over HTTP into PostgreSQL: the same ids on every broker, keys and batches that hold across them.
local eventually = require "support.eventually"
local http = require "support.http"
local pg = require "support.pg"
local sse = require "support.sse"

describe("publishing over HTTP", function()
  local server = pg.shared {}
  local db, a, b
  before_each(function()
    db = server():database()
    a, b = db:broker(), db:broker()
  end)

  it("gives ids that mean the same on every broker; a client resumes on any", function()
    local ca, cb = sse.open(a, { topic = "t" }), sse.open(b, { topic = "t" })
    local expected = {}
    for i = 1, 40 do
      local id = (i % 2 == 0 and a or b):publish("t", tostring(i), { type = i % 3 == 0 and "third" or nil })
      expected[i] = { id = id, data = tostring(i), type = i % 3 == 0 and "third" or "message" }
    end
    assert.same(expected, ca:collect(40))
    assert.same(expected, cb:collect(40))
    for at = 1, 39, 6 do
      local c = sse.open(at % 4 == 1 and b or a, { topic = "t", last_event_id = expected[at].id })
      assert.same(table.move(expected, at + 1, 40, 1, {}), c:collect(40 - at))
    end
    b:restart()
    assert.same(expected, sse.open(b, { topic = "t", last_event_id = "0" }):collect(40))
  end)

  it("answers a repeated key with the first id, on whichever broker", function()
    local c = sse.open(a, { topic = "t" })
    local id = a:publish("t", "one", { key = "k" })
    for _, broker in ipairs { b, a, b } do
      local again, r = broker:publish("t", "two", { key = "k" })
      assert.same({ id, 200, true }, { again, r.status, r.json.duplicate })
    end
    local other = b:publish("t", "other", { key = "K" })
    assert.is_true(tonumber(other) > tonumber(id))
    assert.same({ "one", "other" }, { c:next().data, c:next().data })
  end)

  it("makes one event of one key that is published everywhere at once", function()
    local c = sse.open(a, { topic = "t" })
    for round = 1, 20 do
      local conns = {}
      for i = 1, 8 do
        conns[i] = http.connect(i % 2 == 0 and a or b)
      end
      for i, conn in ipairs(conns) do
        conn:send(http.render("POST", "/events?topic=t&key=k" .. round, nil, ("%d from %d"):format(round, i)))
      end
      local ids, created = {}, 0
      for i, conn in ipairs(conns) do
        local r = assert(conn:response())
        assert.is_true(r.status == 201 or r.status == 200, r.body)
        created = created + (r.status == 201 and 1 or 0)
        ids[i] = r.json.id
        assert.equal(ids[1], ids[i])
      end
      assert.equal(1, created)
      assert.equal(ids[1], c:next().id)
    end
    a:publish("t", "end")
    assert.same({}, c:collect_until "end")
  end)

  it("stores a batch as a whole, also when the server is killed meanwhile", function()
    local c = sse.open(a, { topic = "t" })
    local acked, size, at = {}, 50, 0
    for round = 1, 3 do
      local conns = {}
      for i, broker in ipairs { a, b, a, b } do
        conns[i] = { conn = http.connect(broker), batches = {} }
        for _ = 1, 12 do
          at = at + 1
          local lines = {}
          for j = 1, size do
            lines[j] = http.json.encode { topic = "t", data = ("%d.%d"):format(at, j) }
          end
          table.insert(conns[i].batches, at)
          conns[i].conn:send(http.render("POST", "/events", { ["Content-Type"] = "application/x-ndjson" },
            table.concat(lines, "\n")))
        end
      end
      eventually.pass(0.01 * round, "the crash comes at another moment in each round")
      server():kill()
      server():start()
      for _, x in ipairs(conns) do
        for _, batch in ipairs(x.batches) do
          local r = assert(x.conn:response { timeout = 30 })
          if r.status == 201 then
            acked[batch] = r.json
          else
            assert.equal(503, r.status)
            assert.matches("^%d+$", r.headers["retry-after"])
          end
        end
      end
    end
    eventually("it publishes again", function() return pcall(a.publish, a, "t", "end") end, 20)
    local found, last = {}, 0
    for _, ev in ipairs(c:collect_until("end", 20)) do
      assert.is_true(tonumber(ev.id) > last)
      last = tonumber(ev.id)
      local batch, j = ev.data:match "(%d+)%.(%d+)"
      batch, j = tonumber(batch), tonumber(j)
      found[batch] = (found[batch] or 0) + 1
      assert.equal(found[batch], j) -- in order, none twice
      if acked[batch] then
        assert.equal(acked[batch][j].id, ev.id)
      end
    end
    for batch = 1, at do
      assert.is_true(found[batch] == size or (found[batch] == nil and not acked[batch]),
        ("batch %d, %s: %s of %d"):format(batch, acked[batch] and "acknowledged" or "refused", found[batch], size))
    end
  end)

  it("says what PostgreSQL cannot hold, without harm to what is published beside it", function()
    local c = sse.open(a, { topic = "t" })
    local conns = {}
    for i = 1, 12 do
      conns[i] = http.connect(a)
    end
    for i, conn in ipairs(conns) do
      if i % 4 == 1 then
        conn:send(http.render("POST", "/events?topic=t", nil, "nul \0 here"))
      elseif i % 4 == 2 then
        conn:send(http.render("POST", "/events", { ["Content-Type"] = "application/json" },
          '{"topic":"t","data":"x","attrs":{"nul":"a\\u0000b"}}'))
      else
        conn:send(http.render("POST", "/events?topic=t", nil, "good " .. i))
      end
    end
    local good = {}
    for i, conn in ipairs(conns) do
      local r = assert(conn:response())
      if i % 4 == 1 or i % 4 == 2 then
        assert.is_true(r.status >= 400 and r.status < 500, ("status %d: %s"):format(r.status, r.body))
        assert.matches("NUL", r.body, 1, true)
      else
        assert.equal(201, r.status, r.body)
        good[#good + 1] = r.json.id
      end
    end
    a:publish("t", "end")
    assert.equal(#good, #c:collect_until "end")
  end)

  it("keeps data, type, key and attrs as they were given", function()
    local c = sse.open(b, { topic = "t/**" })
    local datas = { "", "x", "ünïcödé ✓ 🌊", "a\nb\n\nc", " leading", "{\"json\": [1, 2.50, null]}", ("x"):rep(300000),
      "back\\slash 'quote' \"double\" {a,b} NULL", "\\N", "\t" }
    for i, data in ipairs(datas) do
      a:publish("t/" .. i, data, { type = "typ\"e 'x", attrs = { n = "7", s = "a\\b" } })
      local ev = c:next()
      assert.equal(data, ev.data)
      assert.equal("typ\"e 'x", ev.type)
    end
    -- and from the database again
    for i, ev in ipairs(sse.open(db:broker(), { topic = "t/**", last_event_id = "0" }):collect(#datas)) do
      assert.equal(datas[i], ev.data)
    end
  end)

  it("refuses when too many wait for the server, keeps what it accepted", function()
    local small = db:broker { config = { store = { max_queue_events = 100 }, limits = { batch_events = 100 } } }
    local c = sse.open(small, { topic = "t" })
    server():freeze()
    finally(function() server():thaw() end)
    local conns, shed, accepted = {}, 0, 0
    for i = 1, 300 do
      conns[i] = http.connect(small)
      conns[i]:send(http.render("POST", "/events?topic=t", nil, "p" .. i))
    end
    eventually("some are shed at once", function()
      for i, conn in pairs(conns) do
        local r = conn:response { timeout = 0 }
        if r then
          conn:close()
          conns[i] = nil
          assert.equal(503, r.status)
          assert.matches("^%d+$", r.headers["retry-after"])
          shed = shed + 1
        end
      end
      return shed >= 100 -- of 300: up to 100 are held, on their way to the server or waiting
    end, 8)
    assert.equal(200, http.get(small.admin, "/healthz").status)
    server():thaw()
    local acked = {}
    for _, conn in pairs(conns) do
      local r = assert(conn:response { timeout = 30 })
      if r.status == 201 then
        acked[r.json.id], accepted = true, accepted + 1
      else
        assert.equal(503, r.status)
      end
    end
    eventually("it publishes again", function() return pcall(small.publish, small, "t", "end") end, 20)
    for _, ev in ipairs(c:collect_until("end", 20)) do
      accepted = accepted - (acked[ev.id] and 1 or 0)
    end
    assert.equal(0, accepted, "acknowledged and not delivered")
  end)
end)
