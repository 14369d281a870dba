-- The newest events of store.latest in SQLite, which are folded into their table when they are read, or many at a time.
local driver = require "support.store_driver"

local ev, data_of = driver.ev, driver.data_of

describe("store.latest of sqlite", function()
  local d, db
  local open_store, other = driver.sqlite(before_each, after_each)
  local function open(options)
    d = open_store(options)
    db = other()
  end
  local function put(...)
    local batch = {}
    for i, text in ipairs { ... } do
      local topic, data = text:match "^(%S+)=(.*)$"
      batch[i] = ev(data, { topic = topic })
    end
    return d:put(batch)
  end
  local function read()
    local page
    d:wait(function()
      page = d:read { latest = true, max_events = 10000 }
      return page.error ~= "EAGAIN"
    end, 30000)
    return page
  end
  local function newest()
    return table.concat(data_of(read().events), " ")
  end
  local function one(sql)
    return assert(db(sql))[1][1]
  end
  local function erase(...)
    assert(d.store:erase { ... })
    d.asked = d.asked + 1
    d:settle()
  end
  local function lag()
    return d:head() - one "SELECT done FROM latest_state"
  end

  -- The upkeep, which comes by each second, may fold some of it on the side: then once more.
  local function lags_by(n, publish)
    for _ = 1, 20 do
      newest()
      publish()
      if lag() == n then
        return
      end
    end
    assert.equal(n, lag())
  end

  it("lags behind what is published, and is read up to date", function()
    open { latest = { "score/*" } }
    local kept
    lags_by(40, function()
      kept = one "SELECT max(seq) FROM latest"
      for i = 1, 20 do
        put("score/" .. i % 5 .. "=v" .. i, "t/1=x")
      end
    end)
    assert.equal(kept, one "SELECT max(seq) FROM latest")
    assert.equal("v16 v17 v18 v19 v20", newest())
    assert.equal(0, lag())
    assert.equal(5, one "SELECT topics FROM latest_state")
    put("score/1=", "score/7=a", "score/7=")
    assert.equal("v17 v18 v19 v20", newest())
    assert.equal(4, one "SELECT topics FROM latest_state")
  end)

  it("is folded along with appends, by many at a time, and not before", function()
    open { latest = { "score/*" } }
    newest()
    local least, most = math.huge, 0
    for i = 1, 60 do
      local batch = {}
      for j = 1, 300 do
        batch[j] = ("score/%d=%d"):format(j % 10, i * 1000 + j)
      end
      put(table.unpack(batch))
      least, most = math.min(least, lag()), math.max(most, lag())
    end
    assert.equal(0, least)
    assert.is_true(most >= 600, most) -- it begins with 1,024, and takes at least 256, whatever the machine is
    assert.is_true(most < 8192 + 300, most)
    assert.equal(10, #read().events)
  end)

  it("goes on where a broker was that is gone", function()
    open { latest = { "score/*" } }
    newest()
    put("score/1=a", "score/2=b")
    put("score/1=", "score/3=c")
    d:close()
    d = assert(d:open { latest = { "score/*" } })
    assert.equal("b c", newest())
    put("score/2=d")
    local second = assert(driver.new(d.options))
    second.path, second.file = d.path, d.file
    assert(second:open { latest = { "score/*" } })
    put("score/4=e") -- of the one, read through the other
    assert.equal("c d e", table.concat(data_of(second:read { latest = true }.events), " "))
    second:close()
  end)

  it("keeps retention from what is yet to be folded", function()
    open { latest = { "score/*" } }
    newest()
    d:close()
    assert(d:open { latest = { "score/*" }, latest_topics = 5000, retain_events = 1 })
    local batch = {}
    for i = 1, 3000 do
      batch[i] = ("score/%d=%d"):format(i, i)
    end
    assert(put(table.unpack(batch)))
    local last = d:head()
    d:wait(function() return d.store:bounds().trimmed >= last - 1 end, 30000)
    assert.equal(3000, #read().events)
  end)

  it("has as many topics as it may, and not one more, whatever is yet to be folded", function()
    open { latest = { "score/*" }, latest_topics = 30 }
    newest()
    local function many(from, to)
      local batch = {}
      for i = from, to do
        batch[#batch + 1] = ("score/%d=%d"):format(i, i)
      end
      return put(table.unpack(batch))
    end
    lags_by(25, function() assert(many(1, 25)) end)
    assert.is_nil(many(26, 31))
    assert(many(1, 3))
    assert(many(26, 30))
    assert.is_nil(many(31, 31))
    assert(put("score/30=", "score/31=31"))
    assert.equal(30, #read().events)
    assert.equal(30, one "SELECT topics FROM latest_state")
    local done, why = db "INSERT INTO events(topic, data) VALUES ('score/32', 'x')"
    assert.is_nil(done)
    assert.matches("store.latest_topics", why, 1, true)
  end)

  it("names no older event where the newest is erased before it was folded", function()
    open { latest = { "score/*" } }
    newest()
    put("score/1=a", "score/2=b")
    newest()
    local acks = put("score/1=c", "score/1=d", "score/2=e", "score/2=f", "score/3=g", "score/3=h")
    erase(acks[2].id, acks[3].id, acks[6].id)
    assert.equal("f", newest())
    assert.equal(1, one "SELECT topics FROM latest_state")
    assert.equal(0, one "SELECT count(*) FROM latest_gone")
    put("score/1=i")
    assert.equal("f i", newest())
  end)

  it("does so while older events are looked through, too", function()
    open {}
    put("score/1=a")
    local filler = {}
    for i = 1, 4000 do
      filler[i] = "score/2=" .. i
    end
    put(table.unpack(filler))
    local id = put("score/1=b")[1].id
    d:close()
    assert(d:open { latest = { "score/*" } })
    erase(id)
    assert.equal("4000", newest())
  end)

  it("takes over a file of version 2", function()
    open { latest = { "score/*" } }
    put("score/1=a", "score/2=b", "score/3=c")
    newest()
    d:close()
    assert(db "DROP TABLE latest_gone")
    assert(db "CREATE TABLE latest_gone(topic TEXT PRIMARY KEY) WITHOUT ROWID")
    assert(db "UPDATE latest_state SET done = 1, upto = 1") -- the trigger kept all that came later
    assert(db "PRAGMA user_version = 2")
    assert(d:open { latest = { "score/*" } })
    assert.equal(0, lag())
    assert.equal(3, one "PRAGMA user_version")
    assert(db "INSERT INTO events(topic, data) VALUES ('score/1', '')")
    assert(put("score/2=", "score/4=d"))
    assert.equal("c d", newest())
  end)

  it("is what the last event of each topic says, whoever inserts it, erases and reads", function()
    for seed = 1, 4 do
      math.randomseed(seed)
      open { latest = { "score/*" }, latest_topics = 6 }
      local model, ids, trace = {}, {}, {} -- topic -> { id, data }
      local function set(topic, data, id)
        model[topic] = data ~= "" and { id = id, data = data } or nil
        ids[#ids + 1] = { id = id, topic = topic }
      end
      local function count(topic)
        local n = model[topic] and 0 or 1
        for _ in pairs(model) do
          n = n + 1
        end
        return n
      end
      for step = 1, 250 do
        local what, topic = math.random(10), "score/" .. math.random(7)
        local data = math.random(4) == 1 and "" or "v" .. step
        trace[#trace + 1] = what .. " " .. topic .. "=" .. data
        if what <= 5 then
          local acks, fits = put(topic .. "=" .. data), data == "" or count(topic) <= 6
          assert.equal(fits, acks ~= nil, table.concat(trace, "\n"))
          if fits then
            set(topic, data, acks[1].id)
          end
        elseif what <= 7 then
          -- the trigger knows of folded events only: it may let more in, and is not asked where that is near
          if data == "" or count(topic) <= 3 then
            assert(db("INSERT INTO events(topic, data) VALUES (?, ?)", topic, data))
            set(topic, data, one "SELECT max(seq) FROM events")
          end
        elseif what == 8 and #ids > 0 then
          local e = ids[math.random(math.max(1, #ids - 5), #ids)]
          erase(e.id)
          if model[e.topic] and model[e.topic].id == e.id then
            model[e.topic] = nil
          end
        elseif what == 9 and math.random(8) == 1 then
          d:close()
          assert(d:open { latest = { "score/*" }, latest_topics = 6 })
        else
          local want, got = {}, {}
          for name, e in pairs(model) do
            want[#want + 1] = e.id .. " " .. name .. "=" .. e.data
          end
          d.store:run { ms = 1 }
          for _, e in ipairs(read().events) do
            got[#got + 1] = e.id .. " " .. e.topic .. "=" .. e.data
          end
          table.sort(want)
          table.sort(got)
          assert.same(want, got, ("seed %d:\n%s"):format(seed, table.concat(trace, "\n")))
        end
      end
      d:discard()
    end
  end)
end)
