-- src/quota: the tables in which the workers of a machine count streams and rates.
local native = require "native.quota"

local S = 1000000000 -- nanoseconds

-- Places and keys in use.
local function used(area)
  local places, keys = area:figures()
  return { places, keys }
end

describe("quotas in memory that processes share", function()
  local area, one, two

  before_each(function()
    area = native.area(64, 16)
    one, two = area:join(101, 1), area:join(102, 2)
  end)

  local function opened(user, id, ...)
    local stream = user:stream(id)
    local answer, more = stream:change { ... }
    return answer, stream, more
  end

  it("let as many streams of a key open as it may have, whatever process asks", function()
    local streams = {}
    for i = 1, 5 do
      local answer, stream = opened(i % 2 == 0 and one or two, i, { "ann", 5 })
      assert.equal("granted", answer)
      streams[i] = stream
    end
    assert.equal("denied", (opened(one, 6, { "ann", 5 })))
    assert.equal("granted", (opened(one, 7, { "bob", 5 })))
    streams[3]:change {}
    assert.equal("granted", (opened(two, 8, { "ann", 5 })))
    assert.equal("denied", (opened(two, 9, { "ann", 5 })))
    local full, total = area:full()
    assert.equal(1, total)
    assert.same({ { key = "ann", streams = 5, max = 5, denied = 2 } }, full)
  end)

  it("grant all keys of a stream or none, and say which was in the way", function()
    assert.equal("granted", (opened(one, 1, { "ann", 1 })))
    local answer, stream, which = opened(one, 2, { "acme", 1 }, { "ann", 1 })
    assert.equal("denied", answer)
    assert.equal(2, which)
    assert.same({}, stream:keys())
    assert.equal("granted", (opened(two, 3, { "acme", 1 })))
    assert.same({ 2, 2 }, used(area))
  end)

  it("move a stream to other keys, keep those it has, and leave all alone where it may not", function()
    local answer, stream = opened(one, 1, { "ann", 1 }, { "acme", 9 })
    assert.equal("granted", answer)
    assert.equal("granted", (stream:change { { "ann", 1 }, { "blue", 9 } }))
    assert.same({ "ann", "blue" }, stream:keys())
    assert.same({ 2, 2 }, used(area))
    opened(two, 2, { "full", 1 })
    assert.equal("denied", (stream:change { { "full", 1 } }))
    assert.same({ "ann", "blue" }, stream:keys())
    assert.equal("denied", (opened(two, 3, { "ann", 1 })))
  end)

  it("end the oldest stream of the key where the policy says so, in the process that has it", function()
    local _, first = opened(two, 1, { "ann", 2, true })
    opened(one, 2, { "ann", 2, true })
    local answer, _, tells = opened(one, 3, { "ann", 2, true })
    assert.equal("granted", answer)
    assert.equal(2, tells) -- worker 2
    assert.same({}, one:ended())
    assert.same({ 1 }, two:ended())
    -- it does not count any more, though it has not ended yet
    assert.equal("denied", (opened(one, 4, { "ann", 2 })))
    assert.same({ 3 }, { (area:figures()) })
    first:change {}
    assert.same({}, two:ended())
    assert.same({ 2 }, { (area:figures()) })
  end)

  it("end as many as are too many when the number falls", function()
    for i = 1, 6 do
      opened(one, i, { "ann", 9, true })
    end
    opened(two, 7, { "ann", 3, true })
    assert.same({ 1, 2, 3, 4 }, one:ended())
  end)

  it("give back what a process held that has ended, and let another take its pid", function()
    opened(one, 1, { "ann", 2 })
    opened(two, 2, { "ann", 2 })
    assert.equal("denied", (opened(two, 3, { "ann", 2 })))
    area:process_ended(101)
    assert.equal("granted", (opened(two, 3, { "ann", 2 })))
    assert.equal("denied", (opened(two, 4, { "ann", 2 })))
    local again = area:join(101, 1)
    two:leave()
    assert.equal("granted", (opened(again, 5, { "ann", 2 })))
    assert.same({ 1, 1 }, used(area))
    area:process_ended(101)
    local three = area:join(103, 3)
    assert.same({ 0, 0 }, used(area))
    assert.is_nil(three:sweep())
  end)

  it("refuse what there is no room for, and have room again when streams end", function()
    local small = native.area(3, 1)
    local user = small:join(1, 1)
    local _, first = opened(user, 1, { "a", 9 }, { "b", 9 })
    opened(user, 2, { "a", 9 })
    assert.equal("no-room", (opened(user, 3, { "c", 9 })))
    assert.equal("no-room", (opened(user, 3, { "c", 9, true })))
    first:change {}
    assert.equal("granted", (opened(user, 3, { "c", 9 }, { "d", 9 })))
    assert.same({ 3, 3 }, used(small))
  end)

  it("let a stream move to other keys in a full table, for it gives back the places that it had", function()
    local small = native.area(3, 1)
    local user = small:join(1, 1)
    local _, first = opened(user, 1, { "a", 9 }, { "b", 9 })
    opened(user, 2, { "a", 9 })
    assert.equal("granted", (first:change { { "c", 9 }, { "b", 9 } }))
    assert.same({ "c", "b" }, first:keys())
    assert.equal("granted", (first:change { { "d", 9 }, { "e", 9 } }))
    assert.same({ "d", "e" }, first:keys())
    assert.same({ 3, 3 }, used(small))
    assert.equal("no-room", (first:change { { "a", 9 }, { "b", 9 }, { "c", 9 } })) -- one more than there are
    assert.same({ "d", "e" }, first:keys())
    assert.equal("granted", (first:change { { "a", 9 } }))
    assert.same({ 2, 1 }, used(small))
  end)

  it("show all streams that are to end, a part at a time, though none of those shown has ended", function()
    for i = 1, 12 do
      opened(one, i, { "ann", 12, true })
    end
    opened(two, 13, { "ann", 1, true })
    assert.same({ 1, 2, 3, 4, 5, 6, 7, 8 }, one:ended())
    assert.same({ 9, 10, 11, 12, 1, 2, 3, 4 }, one:ended())
  end)

  it("take in so many processes and no more", function()
    local n = 2
    while area:join(1000 + n, 1) do
      n = n + 1
    end
    assert.equal(256, n)
    area:process_ended(1002)
    assert.is_truthy(area:join(5000, 1))
  end)

  it("are the same for the next program, unless that has another layout", function()
    opened(one, 1, { "ann", 1 })
    local later = area:again()
    local three = later:join(103, 3)
    assert.equal("denied", (opened(three, 2, { "ann", 1 })))
    area:spoil()
    assert.is_nil((area:again()))
  end)

  it("are right when processes open and close streams at the same time", function()
    local wide = native.area(1000, 16)
    local n, over = wide:storm(3, 5000, 3, false)
    assert.is_true(n > 1000)
    assert.equal(0, over)
    assert.same({ 0, 0 }, used(wide))
    wide:storm(3, 2000, 3, true)
    assert.same({ 0, 0 }, used(wide))
  end)

  for _, oldest in ipairs { false, true } do
    it("are right after processes were killed at any instruction" .. (oldest and ", oldest first" or ""), function()
      local wide = native.area(1000, 16)
      wide:storm(3, 0, 3, oldest, 25)
      local user = wide:join(1, 1)
      assert.same({ 0, 0 }, used(wide))
      for i = 1, 1000 do -- every place and every key can be had again
        assert.equal("granted", (opened(user, i, { "key" .. i, 1 })))
      end
      assert.equal("no-room", (opened(user, 1001, { "more", 1 })))
    end)
  end
end)

describe("rates in memory that processes share", function()
  it("give so many at once, then one in each interval, and say how long to wait", function()
    local area = native.area(1, 16)
    for _ = 1, 20 do
      assert.equal("taken", (area:rate("publish", "ann", S // 10, 20, 5 * S)))
    end
    assert.same({ "empty", S // 10 }, { area:rate("publish", "ann", S // 10, 20, 5 * S) })
    assert.same({ "empty", S // 20 }, { area:rate("publish", "ann", S // 10, 20, 5 * S + S // 20) })
    assert.equal("taken", (area:rate("publish", "ann", S // 10, 20, 5 * S + S // 10)))
    assert.equal("empty", (area:rate("publish", "ann", S // 10, 20, 5 * S + S // 10)))
    assert.equal("taken", (area:rate("publish", "bob", S // 10, 20, 5 * S)))
    assert.equal("taken", (area:rate("login", "ann", S // 10, 20, 5 * S)))
    for _ = 1, 20 do -- full again, and no fuller
      assert.equal("taken", (area:rate("publish", "ann", S // 10, 20, 500 * S)))
    end
    assert.equal("empty", (area:rate("publish", "ann", S // 10, 20, 500 * S)))
  end)

  it("tell names and keys apart wherever one ends and the other begins", function()
    local area = native.area(1, 16)
    assert.equal("taken", (area:rate("a", "bc", S, 1, S)))
    assert.equal("taken", (area:rate("ab", "c", S, 1, S)))
    assert.equal("empty", (area:rate("ab", "c", S, 1, S)))
  end)

  it("forget a key when its bucket is full again, and only then", function()
    local area = native.area(1, 4)
    area:rate("day", "d", 86400 * S, 1, S) -- used least recently, full in a day
    for i = 1, 3 do
      assert.equal("taken", (area:rate("r", "k" .. i, i * S, 1, S)))
    end
    local answer, wait = area:rate("r", "new", S, 1, S)
    assert.same({ "no-room", S }, { answer, wait })
    assert.equal("empty", (area:rate("r", "k1", S, 1, S)))
    assert.equal("taken", (area:rate("r", "new", 100 * S, 1, 2 * S))) -- in the place of k1
    assert.same({ "no-room", S }, { area:rate("r", "k1", S, 1, 2 * S) })
    assert.equal("taken", (area:rate("r", "k1", 100 * S, 1, 3 * S))) -- of k2
    assert.equal("taken", (area:rate("r", "k2", 100 * S, 1, 4 * S))) -- of k3
    assert.equal("empty", (area:rate("day", "d", 86400 * S, 1, 5 * S)))
    assert.same({ "no-room", 60 * S }, { area:rate("r", "k3", S, 1, 5 * S) })
    assert.equal("taken", (area:rate("r", "k3", S, 1, 200 * S)))
    assert.equal(4, (select(3, area:figures())))
  end)

  it("find one that is full again in a large table, too", function()
    local area = native.area(1, 5000)
    for i = 1, 5000 do
      assert.equal("taken", (area:rate("r", "k" .. i, i == 2500 and S or 3600 * S, 1, S)))
    end
    local tries = 0
    repeat
      tries = tries + 1
      assert.is_true(tries < 10)
    until area:rate("r", "new", S, 1, 3 * S) == "taken"
    assert.equal("empty", (area:rate("r", "k1", S, 1, 4 * S)))
  end)

  it("give no more than there is to processes that ask at the same time", function()
    assert.equal(500, native.area(1, 16):rate_storm(3, 2000))
  end)

  it("go on after processes were killed at any instruction", function()
    local area = native.area(1, 100)
    area:rate_storm(3, 0, 25)
    for i = 1, 100 do
      assert.equal("taken", (area:rate("after", "k" .. i, 1 << 50, 1, 1 << 60)))
    end
    assert.equal("no-room", (area:rate("after", "k101", S, 1, 1 << 60)))
    assert.equal(100, (select(3, area:figures())))
  end)
end)
