-- The checker of oracle/latest.lua must be able to fail: each rule, broken once, is told; and what it is to excuse, it
-- excuses.
local checker = require "oracle.latest_checker"

local function keys(topic) return topic:find "^[km]/" ~= nil end

local KEY_4 = { sees = function(topic) return topic == "k/4" end }
local ALL, NEWEST = { sees = keys }, { sees = keys, conflates = 0.5 }

-- Events as "id topic data", a second apart from 101 on; client 1 begins with a snapshot at 13, is cut at 15, and comes
-- back; client 2 gets of each interval the newest; ann's stream is there until 120.
local function good()
  local log = {
    events = {}, seen = {}, at_end = 200, upto = 19, presence = { grace_s = 1, lease_s = 6 },
    kept = { { id = 16, topic = "k/1" }, { id = 19, topic = "k/3" } },
    left = { [14] = true, [15] = true, [16] = true, [17] = true, [18] = true, [19] = true },
    erasures = {},
    members = { ann = { { from = 101, ok = 101.5, till = 120 } } },
    clients = {
      { kind = ALL, got = { { "connect", nil, 104 }, { "read", 104.2, 104 }, 12, 13, { "live", 13 },
        { "read", 106.2, 106 }, 14, 15, { "connect", 15, 107 }, { "position", 15 }, { "read", 150, 108 }, 16, 17, 18,
        19 } },
      { kind = NEWEST, got = { { "connect", 0, 100 }, { "read", 104, 100 }, 11, 12, 13, { "read", 150, 149 }, 14, 16,
        17, 18, 19 } },
    },
  }
  for i, text in ipairs { "11 k/1 a", "12 k/1 b", "13 m/ann here", "14 k/2 c", "15 k/1 d", "16 k/1 e", "17 k/2 ",
    "18 m/ann ", "19 k/3 f" } do
    local id, topic, data = text:match "(%d+) (%S+) (.*)"
    log.events[i] = { id = tonumber(id), topic = topic, data = data, created = 100 + i }
    log.seen[tonumber(id)] = topic .. " " .. data
  end
  log.events[6].created = 105.2 -- 16 comes soon behind 15, and 17 long behind 14
  log.events[7].created = 115
  log.events[8].created = 121.1 -- ann has left
  log.events[9].created = 122
  return log
end

-- The event of that id.
local function ev(log, id)
  return log.events[id - 10]
end

local function judged(change)
  local log = good()
  if change then
    change(log)
  end
  return checker.check(log)
end

local function fine(change)
  assert.same({}, (judged(change)))
end

-- Something is told, and by that rule first.
local function broken(rule, change)
  local wrong = judged(change)
  assert.is_true(#wrong > 0, rule .. ": nothing was told")
  for _, text in ipairs(wrong) do
    if text:find("^" .. rule .. ": ") then
      return
    end
  end
  error(rule .. " was not told, but: " .. table.concat(wrong, "\n"))
end

-- Takes `id` out of what a client got, or puts `with` there.
local function replace(log, client, id, ...)
  local got = log.clients[client].got
  for i = #got, 1, -1 do
    if got[i] == id then
      table.remove(got, i)
      for n = select("#", ...), 1, -1 do
        table.insert(got, i, (select(n, ...)))
      end
      return
    end
  end
  error "it did not get that"
end

-- Two values of k/4, of which the newest, 21, is as `more` says; and one client, which wants that topic.
local function last(log, more, ...)
  local newest = { id = 21, topic = "k/4", data = "g", created = 123 }
  for name, value in pairs(more) do
    newest[name] = value
  end
  log.events[10], log.events[11] = { id = 20, topic = "k/4", data = "before", created = 122.5 }, newest
  log.kept[3] = { id = 21, topic = "k/4" }
  log.clients, log.upto = { { kind = KEY_4, got = { ... } } }, 21
end

-- Erases what has that id.
local function erase(log, id, from, till)
  table.insert(log.erasures, { from = from, till = till, upto = till and id,
    matches = function(e) return e.id == id end })
end

describe("the checker of what clients hold", function()
  it("has nothing to object to where all is well", function()
    local wrong, figures = judged()
    assert.same({}, wrong)
    assert.same({ events = 9, delivered = 16, expiring = 0, erased = 0, joined = 1, left = 1 }, figures)
  end)

  it("tells what is lost: live, behind a cut, at the end, and out of a snapshot", function()
    broken("lost", function(log) replace(log, 1, 14) end)
    broken("lost", function(log) replace(log, 1, 16) end)
    broken("held", function(log) replace(log, 1, 19) end)
    broken("held", function(log) replace(log, 1, 12) end)
    broken("lost", function(log) replace(log, 1, 14, { "position", 14 }) end)
    broken("live", function(log) log.clients[1].got = { { "connect", nil, 104 } } end)
  end)

  it("tells what is doubled, inverted, or not its own", function()
    broken("order", function(log) replace(log, 1, 14, 14, 14) end)
    broken("order", function(log)
      replace(log, 1, 17, 18)
      replace(log, 1, 18, 17)
    end)
    broken("order", function(log) replace(log, 1, 16, 15, 16) end)
    broken("order", function(log) replace(log, 1, 19, 19, { "position", 18 }) end)
    broken("foreign", function(log) replace(log, 1, 14, 14, 99) end)
    broken("foreign", function(log)
      ev(log, 19).topic, log.seen[19], log.kept[2] = "other", "other f", nil
    end)
    broken("data", function(log) log.seen[14] = "k/2 x" end)
  end)

  it("tells what is in a snapshot and does not belong there", function()
    broken("snapshot", function(log)
      ev(log, 12).data, log.seen[12] = "", "k/1 "
    end)
    broken("held", function(log) replace(log, 1, 12, 11) end) -- the older one of its topic
  end)

  it("tells gaps but where retention has removed something", function()
    broken("gap", function(log) replace(log, 1, 16, { "gap", 15, "expired" }, 16) end)
    fine(function(log) -- 16 was removed; 17 has removed k/2, of which it is not told
      log.clients[1].got = { { "connect", nil, 104 }, { "read", 104.2, 104 }, 12, 13, { "live", 13 },
        { "read", 106.2, 106 }, 14, 15, { "connect", 15, 130 }, { "gap", 15, "compacted" }, { "read", 150, 130 }, 16,
        19, { "live", 19 } }
    end)
    broken("held", function(log) -- and it has to be told of k/1
      log.clients[1].got = { { "connect", nil, 104 }, { "read", 104.2, 104 }, 12, 13, { "live", 13 },
        { "read", 106.2, 106 }, 14, 15, { "connect", 15, 130 }, { "gap", 15, "compacted" }, { "read", 150, 130 }, 19,
        { "live", 19 } }
    end)
  end)

  it("tells a newest event that an interval did not end with", function()
    broken("held", function(log) replace(log, 2, 16) end)
    broken("lost", function(log) replace(log, 2, 14) end) -- 17 comes too late
    fine(function(log) -- 15 takes the place of 12
      replace(log, 2, 12)
      replace(log, 2, 16, 15, 16)
    end)
  end)

  it("tells what came when it had expired, and what did not come and had not", function()
    local cut = { "connect", 19, 122 }
    fine(function(log) last(log, { expires = 130 }, cut, { "read", 124, 123 }, 20, 21) end)
    fine(function(log) last(log, { expires = 130 }, cut, { "read", 140, 123 }, 20, 21) end) -- it was on its way
    fine(function(log) last(log, { expires = 130 }, cut, { "read", 124, 123 }, 20, { "read", 131, 124 },
      { "position", 21 }) end)
    broken("expired", function(log) last(log, { expires = 130 }, cut, { "read", 124, 123 }, 20, { "read", 140, 132 },
      21) end)
    broken("expired", function(log) last(log, { expires = 130 }, { "connect", 19, 133 }, { "read", 134 }, 20, 21) end)
    broken("expired", function(log) last(log, { expires = 130 }, { "connect", nil, 133 }, { "read", 134 }, 21,
      { "live", 21 }) end)
    broken("expired", function(log) last(log, { expires = 122 }, cut, { "read", 124 }, 20, 21) end)
    broken("lost", function(log) last(log, { expires = 130 }, cut, { "read", 124, 123 }, 20, { "position", 21 }) end)
    broken("lost", function(log) last(log, { expires = 600 }, cut, { "read", 150, 123 }, 20, { "position", 21 }) end)
  end)

  it("tells a snapshot that has what is older than a newest event that expired", function()
    local now = { "connect", nil, 140 }
    fine(function(log) last(log, { expires = 130 }, now, { "read", 141 }, { "live", 21 }) end)
    broken("held", function(log) last(log, { expires = 600 }, now, { "read", 141 }, { "live", 21 }) end)
    broken("held", function(log) last(log, {}, now, { "read", 141 }, 20, { "live", 21 }) end)
    broken("held", function(log) last(log, { data = "" }, now, { "read", 141 }, 20, { "live", 21 }) end)
  end)

  it("tells what took a place in an interval and ends before what it replaced", function()
    local function newest(log)
      log.clients[1].kind = { sees = KEY_4.sees, conflates = 0.5 }
    end
    local cut, read = { "connect", 19, 122 }, { "read", 140, 139 }
    fine(function(log)
      last(log, {}, cut, read, 21)
      newest(log)
    end)
    broken("lost", function(log)
      last(log, { expires = 130 }, cut, read, { "position", 21 })
      newest(log)
    end)
    fine(function(log) -- it was erased when it had taken the place of 20
      last(log, {}, cut, read, { "position", 21 })
      newest(log)
      erase(log, 21, 125, 126)
      log.kept[3] = nil
    end)
    fine(function(log)
      last(log, { expires = 130 }, cut, { "read", 124, 123 }, 20, read, { "position", 21 })
      newest(log)
    end)
  end)

  it("tells what came after it was erased, what was not, and did not come, and what the store has kept", function()
    local cut = { "connect", 19, 122 }
    local function erased(log, ...)
      last(log, {}, ...)
      erase(log, 21, 130, 131)
      log.kept[3] = nil
    end
    fine(function(log) erased(log, cut, { "read", 124, 123 }, 20, 21) end)
    fine(function(log) erased(log, cut, { "read", 132, 131 }, 20, 21) end) -- another broker looks later
    fine(function(log) erased(log, cut, { "read", 132, 131 }, 20, { "position", 21 }) end)
    fine(function(log) erased(log, { "connect", nil, 140 }, { "read", 141 }, { "live", 21 }) end)
    broken("erased", function(log) erased(log, cut, { "read", 140, 136 }, 20, 21) end)
    broken("erased", function(log) erased(log, { "connect", 19, 136 }, { "read", 140 }, 20, 21) end)
    broken("lost", function(log) erased(log, cut, { "read", 129, 123 }, 20, { "position", 21 }) end)
    broken("store", function(log)
      erased(log, cut, { "read", 124, 123 }, 20, 21)
      log.kept[3] = { id = 21, topic = "k/4" }
    end)
    broken("store", function(log) -- the one before takes no place
      erased(log, cut, { "read", 124, 123 }, 20, 21)
      log.kept[3] = { id = 20, topic = "k/4" }
    end)
    broken("erased", function(log)
      erased(log, cut, { "read", 124, 123 }, 20, 21)
      log.left[21] = true
    end)
    fine(function(log) -- nobody knows how far an order came that was not answered
      last(log, {}, cut, { "read", 124, 123 }, 20, 21)
      erase(log, 21, 130)
    end)
  end)

  it("tells what the store does not keep, and what it keeps for no reason", function()
    broken("store", function(log) log.kept[1] = nil end)
    broken("store", function(log) log.kept[1].id = 15 end)
    broken("store", function(log) log.kept[3] = { id = 17, topic = "k/2" } end)
    broken("store", function(log) log.kept[3] = { id = 5, topic = "k/9" } end)
    broken("order", function(log) table.insert(log.events, 3, log.events[2]) end)
    broken("store", function(log)
      last(log, { expires = 600 }, { "connect", 19, 122 }, { "read", 124, 123 }, 20, 21)
      log.kept[3] = nil
    end)
    fine(function(log) -- when it lets go of what has expired is its business
      last(log, { expires = 130 }, { "connect", 19, 122 }, { "read", 124, 123 }, 20, 21)
      log.kept[3] = nil
    end)
  end)
end)

describe("the checker of who is there", function()
  -- ann's events, as times; below 0: she leaves.
  local function of_ann(stays, ...)
    local log = good()
    log.events, log.kept, log.clients, log.members.ann = {}, {}, {}, stays
    for i, time in ipairs { ... } do
      log.events[i] = { id = i, topic = "m/ann", data = time > 0 and "here" or "", created = math.abs(time) }
      log.kept[1] = time > 0 and { id = i, topic = "m/ann" } or nil
    end
    return checker.check(log)
  end

  local function wrong(...)
    local list = of_ann(...)
    assert.is_true(#list > 0, "nothing was told")
    for _, text in ipairs(list) do
      assert.matches("^presence: ann: ", text)
    end
  end

  local SHORT = { { from = 100, ok = 100.2, till = 110 } }

  it("has nothing to object to where all is well", function()
    assert.same({}, (of_ann(SHORT, 100.3, -111)))
    assert.same({}, (of_ann(SHORT, 104, -121))) -- brokers were away
    assert.same({}, (of_ann({ { from = 100, ok = 100.2, till = 110 }, { from = 110.5, ok = 110.6 } }, 100.3)))
    assert.same({}, (of_ann({ { from = 100, ok = 100.2, open = 110, till = 118 } }, 100.3, -111))) -- nobody looked
    assert.same({}, (of_ann({ { from = 198, ok = 198.1 } }))) -- it may still come
    assert.same({}, (of_ann({ { from = 100, till = 101 } }))) -- it was never told anything
  end)

  it("tells who is announced twice, or leaves twice", function()
    wrong(SHORT, 100.3, 105, -111)
    wrong(SHORT, 100.3, -111, -112)
    wrong(SHORT, -111)
  end)

  it("tells who is never announced, or too late", function()
    wrong(SHORT)
    wrong(SHORT, 108, -111)
    wrong({ { from = 100, ok = 100.2 } })
  end)

  it("tells who stays when the lease has run out", function()
    wrong(SHORT, 100.3)
    wrong(SHORT, 100.3, -130)
  end)

  it("tells who leaves and has a stream, and who comes and has none", function()
    wrong(SHORT, 100.3, -107, 107.5, -111)
    wrong({ { from = 100, ok = 100.2 } }, 100.3, -150, 151)
    wrong(SHORT, 100.3, -111, 150, -151)
    wrong(SHORT, 99, -111)
  end)

  it("tells a name that nobody has", function()
    local log = good()
    log.members = {}
    assert.matches("^presence: ann: nobody has that name", checker.check(log)[1])
  end)
end)
