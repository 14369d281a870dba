local chunks = require "support.chunks"
local gzip = require "native.gzip"

-- A stream: what was sent to it as it is, and what a client makes of what was sent compressed.
local function stream(audience)
  local self = { body = gzip.body(), reader = gzip.reader(), chunks = chunks(), plain = {}, got = {}, bytes = 0 }
  local function take(plain, bytes, chunk)
    self.plain[#self.plain + 1] = plain
    self.bytes = self.bytes + #bytes
    assert.is_true(self.chunks:feed(chunk) == bytes)
    local text, over = self.reader:feed(bytes)
    self.got[#self.got + 1] = text
    self.over = over
    assert.is_true(text == plain, "a client cannot read at once what was sent")
  end
  function self.send(_, use, now)
    take(audience.plain, audience.native:send(self.body, use, now or 0))
  end
  function self.stored(_, plain, begins, ends)
    audience.native:leave(self.body)
    take(plain, self.body:stored(plain, begins, ends))
  end
  self:stored("retry: 1\n", true)
  return self
end

local function audience(bytes)
  local self = { native = gzip.audience(bytes) }
  function self.batch(_, plain, pieces)
    self.plain = plain
    self.native:batch(plain, pieces)
  end
  return self
end

local function order(i)
  return ('id: 5874329%07d\ndata: {"order":"%d","customer":"c-%d","items":[{"sku":"A-%d","quantity":%d,"price":%d.50},'
    .. '{"sku":"B-%d","quantity":1,"price":9.99}],"status":"accepted","currency":"EUR","country":"DE"}\n\n'):format(
    i, i * 7919, i * 104729 % 9973, i % 300, i % 5 + 1, i * 31 % 200, i * 17 % 300)
end

describe("a body", function()
  it("is one gzip member with the checksum of everything, whatever its blocks are", function()
    local a = audience()
    local s = stream(a)
    for i = 1, 200 do
      a:batch(order(i))
      s:send("live")
    end
    s:stored(":heartbeat\n")
    a:batch(order(201), 3)
    s:send("live")
    s:send("behind")
    s:send("stored")
    s:stored("retry: 2\n", false, true)
    assert.is_true(s.over) -- zlib has compared checksum and length
  end)

  it("may be empty, and may store more than a block holds", function()
    local s = stream(audience())
    s:stored("", false, true)
    assert.is_true(s.over)
    s = stream(audience())
    s:stored(("0123456789"):rep(20000), false, true)
    assert.is_true(s.over)
  end)

  it("is smaller where it shares the encoder of its audience", function()
    local a = audience()
    local shares, alone, plain = stream(a), stream(a), 0
    for i = 1, 150 do
      a:batch(order(i))
      a.native:turn()
      shares:send("live")
      alone:send("behind")
      plain = plain + #order(i)
    end
    assert.is_true(shares.bytes < plain * 0.35, shares.bytes / plain)
    assert.is_true(alone.bytes < plain * 0.85, alone.bytes / plain)
  end)
end)

describe("an epoch", function()
  it("is joined when it begins: after 64 KiB, or after five seconds of silence", function()
    local a = audience()
    local first = stream(a)
    a:batch "one"
    first:send("live", 1000)
    local late = stream(a)
    a:batch "two"
    first:send("live", 1000)
    late:send("live", 1000)
    assert.equal(1, (a.native:counts()))
    a:batch "three"
    first:send("live", 6001)
    late:send("live", 6001)
    assert.equal(2, (a.native:counts()))
    a:batch(("x"):rep(70000))
    first:send("live", 6002)
    late:send("live", 6002)
    a:batch "four"
    first:send("live", 6003)
    late:send("live", 6003)
    assert.equal(3, (a.native:counts()))
    for _, s in ipairs { first, late } do
      s:stored("", false, true)
      assert.is_true(s.over)
    end
  end)
end)

describe("the bytes for those behind", function()
  it("are compressed up to 64 KiB a turn, then stored", function()
    local a = audience()
    local s = stream(a)
    local sizes = {}
    for i = 1, 4 do
      local before = s.bytes
      a:batch(("y"):rep(30000))
      if i == 4 then
        a.native:turn()
      end
      s:send "behind"
      sizes[i] = s.bytes - before > 30000
    end
    assert.same({ false, false, true, false }, sizes)
  end)

  it("are never compressed where nothing is to be, though others have them compressed", function()
    local a = audience()
    local s, other = stream(a), stream(a)
    a:batch(("z"):rep(5000))
    other:send "behind"
    local before = s.bytes
    s:send "stored"
    assert.is_true(s.bytes - before > 5000)
  end)
end)

describe("a pool", function()
  it("has no more encoders than fit its memory; bodies do without", function()
    local a = audience(1000)
    assert.equal(0, (select(2, a.native:counts())))
    local s = stream(a)
    for i = 1, 10 do
      a:batch(order(i))
      s:send "live"
    end
    s:stored("", false, true)
    assert.is_true(s.over)
  end)
end)

describe("for every interleaving of joins, cuts, heartbeats and epochs", function()
  it("what zlib reads is what was sent", function()
    local seed = tonumber(os.getenv "TIDEGATE_SPEC_SEED") or os.time()
    math.randomseed(seed)
    for round = 1, 15 do
      local a, streams, now, event = audience(), {}, 0, 0
      for _ = 1, 60 do
        local what = math.random(10)
        if what <= 2 or #streams == 0 then
          streams[#streams + 1] = stream(a)
        elseif what == 3 then -- a heartbeat, a position, a gap
          streams[math.random(#streams)]:stored(":heartbeat\n")
        elseif what == 4 then
          now = now + math.random(9000)
        elseif what == 5 then -- the end
          local s = table.remove(streams, math.random(#streams))
          s:stored("retry: 5\n", false, true)
          assert.is_true(s.over, ("seed %d, round %d"):format(seed, round))
        elseif what == 6 then -- leaves the live ones, and comes back with what it has missed
          local s = streams[math.random(#streams)]
          a.native:leave(s.body)
          a:batch(order(math.random(1000)))
          for _, other in ipairs(streams) do
            other:send(other == s and "behind" or "live", now)
          end
        else
          event = event + 1
          local parts = {}
          for i = 1, math.random(4) == 1 and 100 or math.random(3) do
            parts[i] = order(event * 100 + i)
          end
          a:batch(table.concat(parts), math.random(3))
          a.native:turn()
          for _, s in ipairs(streams) do
            s:send("live", now)
          end
        end
      end
      for _, s in ipairs(streams) do
        s:stored("", false, true)
        assert.is_true(s.over, ("seed %d, round %d"):format(seed, round))
      end
    end
  end)
end)
