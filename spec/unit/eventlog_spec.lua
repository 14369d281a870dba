local event = require "native.event"

local cost_of_one = event.log(1, 1 << 30, 0):append(1, "")

-- The same promises, kept by a plain table.
local Model = {}
Model.__index = Model

local function model(max_events, max_bytes, floor)
  return setmetatable({ max_events = max_events, max_bytes = max_bytes, floor = floor, head = floor, list = {},
    bytes = 0, end_ = 0 }, Model)
end

function Model:append(id, data)
  self.list[#self.list + 1] = { id = id, data = data, ordinal = self.end_ }
  self.bytes = self.bytes + cost_of_one + #data
  self.end_, self.head = self.end_ + 1, id
  while #self.list > self.max_events or (self.bytes > self.max_bytes and #self.list > 1) do
    local old = table.remove(self.list, 1)
    self.floor, self.bytes = old.id, self.bytes - cost_of_one - #old.data
  end
end

function Model:restart(id)
  self.list, self.bytes, self.floor, self.head = {}, 0, id, id
end

function Model:after(id)
  for i, ev in ipairs(self.list) do
    if ev.id > id then return ev.ordinal, #self.list - i + 1 end
  end
  return self.end_, 0
end

local function compare(log, m)
  assert.same({ head = m.head, floor = m.floor, count = #m.list, bytes = m.bytes, end_ = m.end_ }, log:state())
  local first = m.end_ - #m.list
  if first > 0 then assert.is_nil(log:at(first - 1)) end
  assert.is_nil(log:at(m.end_))
  for _, ev in ipairs(m.list) do
    local id, data = log:at(ev.ordinal)
    if id ~= ev.id or data ~= ev.data then assert.same({ ev.id, ev.data }, { id, data }) end
  end
  for _ = 1, 5 do
    local id = math.random(math.max(0, m.floor - 5), m.head + 5)
    local ordinal, lag = m:after(id)
    assert.equal(ordinal, log:index_after(id))
    assert.equal(lag, log:lag(id))
  end
end

describe("event log", function()
  it("begins empty at its floor", function()
    local log = event.log(10, 1000, 500)
    assert.same({ head = 500, floor = 500, count = 0, bytes = 0, end_ = 0 }, log:state())
    assert.equal(0, log:index_after(0))
    assert.equal(0, log:lag(0))
    assert.is_nil(log:at(0))
  end)

  it("does what a plain table does, through random operations", function()
    math.randomseed(3)
    for _ = 1, 30 do
      local max_events, max_bytes = math.random(200), cost_of_one * math.random(200)
      local floor = math.random(0, 1000)
      local log, m = event.log(max_events, max_bytes, floor), model(max_events, max_bytes, floor)
      for step = 1, 400 do
        if math.random(100) == 1 then
          m:restart(m.head + math.random(0, 100))
          log:restart(m.head)
        else
          local id, data = m.head + math.random(3), ("x"):rep(math.random(0, cost_of_one))
          log:append(id, data)
          m:append(id, data)
        end
        if step % 10 == 0 then compare(log, m) end
      end
    end
  end)

  it("keeps one event that is larger than the whole log", function()
    local log = event.log(10, 2 * cost_of_one, 0)
    log:append(1, "")
    log:append(2, ("x"):rep(5000))
    assert.same({ 1, 1, 2 }, { log:state().count, log:state().floor, log:state().head })
    assert.equal(2, (log:at(1)))
    log:append(3, "")
    assert.same({ 1, 2, 3 }, { log:state().count, log:state().floor, log:state().head })
    assert.equal(cost_of_one, log:state().bytes)
  end)

  it("holds events when it may hold no bytes at all: the newest one", function()
    local log = event.log(10, 0, 0)
    for id = 1, 3 do log:append(id, "x") end
    assert.same({ 1, 2 }, { log:state().count, log:state().floor })
  end)

  it("erases what an event says, not its place", function()
    local log = event.log(16, 1 << 20, 0)
    for id = 1, 5 do
      log:append(id, "data " .. id)
    end
    local before = log:state()
    assert.is_true(log:erase(3))
    assert.is_false(log:erase(3))
    assert.is_false(log:erase(9))
    local after = log:state()
    assert.is_true(after.bytes < before.bytes)
    after.bytes = before.bytes
    assert.same(before, after)
    for ordinal, data in pairs { [0] = "data 1", [1] = "data 2", [3] = "data 4", [4] = "data 5" } do
      assert.equal(data, select(2, log:at(ordinal)))
    end
    assert.is_nil(log:at(2))
    assert.same({ 2, 3 }, { log:index_after(2), log:lag(2) })
  end)

  it("restarts empty after a leap of the ids, with ordinals that go on", function()
    local log = event.log(4, 1 << 20, 10)
    log:append(11, "")
    log:restart(1000)
    assert.same({ head = 1000, floor = 1000, count = 0, bytes = 0, end_ = 1 }, log:state())
    assert.is_nil(log:at(0))
    log:append(1001, "")
    assert.equal(1, log:index_after(500))
    assert.equal(1, log:lag(500))
    log:restart(1001)
    assert.same({ head = 1001, floor = 1001, count = 0, bytes = 0, end_ = 2 }, log:state())
  end)

  it("keeps a reader's ordinal over trims and growth", function()
    local log = event.log(1000, 1 << 30, 0)
    for id = 1, 5000 do
      log:append(id * 2, tostring(id))
      assert.equal(id * 2, (log:at(id - 1)))
    end
    assert.is_nil(log:at(3999))
    assert.equal(8002, (log:at(4000)))
    assert.equal(8000, log:state().floor)
    assert.equal(4000, log:index_after(0))
    assert.equal(4000, log:index_after(8000))
    assert.equal(4000, log:index_after(8001))
    assert.equal(4001, log:index_after(8002))
  end)
end)
