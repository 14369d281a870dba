-- The judge of spec/cluster must be able to find a cluster guilty: each promise, broken once, is told.
local child = require "support.child"
local judge = require "cluster.judge"

-- A calm of 10 s, a fault that begins then, and another 10 s later. The leader of the ids up to 13 was lost with id 13,
-- which client a had got and client b had not; "s.2." is in the database, and has another id there.
local function case(fault)
  return {
    windows = { { fault = { kind = "start" }, from = 0, count = {} },
      { fault = { kind = fault }, from = 10, count = {} }, { fault = { kind = "cut broker" }, from = 20, count = {} } },
    events = { "11\th.1.", "12\ts.1.", "101\ts.2.", "102\th.3." },
    leaps = { "12\t100" },
    ledger = { "s\t1\tload/0\ts.1.", "s\t2\tload/0\ts.2." },
    http = { "P\t1\tload/0\t-\th.1.", "A\t1\t11\t2.0", "P\t2\tload/0\t-\th.2.", "A\t2\t13\t9.9",
      "P\t3\tload/0\t-\th.3.", "A\t3\t102\t15.0" },
    sql = { "T\t1\ts\t3.0", "T\t2\ts\t9.8" },
    a = { "S\tload/**", "C\t0", "E\t11\th.1.\t2.1", "E\t12\ts.1.\t3.1", "E\t13\th.2.\t9.9",
      "G\t100\t13\t100\treset\t14.0", "E\t101\ts.2.\t14.1", "E\t102\th.3.\t15.1" },
    b = { "S\tload/**", "C\t0", "E\t11\th.1.\t2.1", "D", "C\t11", "E\t12\ts.1.\t3.1", "E\t101\ts.2.\t14.1",
      "E\t102\th.3.\t15.1" },
    problems = {}, told = {},
  }
end

describe("the judge of the cluster", function()
  local dir
  before_each(function() dir = child.directory() end)
  after_each(function() child.remove_tree(dir) end)

  local function judged(mode, c)
    for _, name in ipairs { "http", "sql", "a", "b" } do
      local f = assert(io.open(dir .. "/" .. name, "wb"))
      f:write(table.concat(c[name], "\n"), "\n")
      f:close()
    end
    local load = { windows = c.windows, started = 0, problems = c.problems,
      clients = { { name = "a", path = dir .. "/a" }, { name = "b", path = dir .. "/b" } } }
    return judge.judge { dir = dir, load = load, mode = mode, events = table.concat(c.events, "\n"),
      leaps = table.concat(c.leaps, "\n"), ledger = table.concat(c.ledger, "\n"),
      told = table.concat(c.told, "\n") }
  end

  local function found(rule, change, fault)
    local c = case(fault or "kill node")
    change(c)
    local report = judged("asynchronous", c)
    assert.is_true((report.count[rule] or 0) > 0, require("oracle.checker").text(report))
  end

  it("lets asynchronous replication lose what it may", function()
    local c = case "kill node"
    local report = judged("asynchronous", c)
    assert.same({}, report.count, require("oracle.checker").text(report))
    assert.same({ 3, 2 }, { report.acknowledged, report.committed })
    assert.same({ lost = 1, ["seen and lost"] = 1 }, c.windows[1].count)
    assert.same({ reset = 1 }, c.windows[2].count)
  end)

  it("lets synchronous replication lose nothing", function()
    local report = judged("synchronous", case "kill node")
    assert.same({ 1, 1, 1 }, { report.count.lost, report.count.ghost, report.count.gap })
  end)

  it("lets a fault without a failover lose nothing", function()
    found("lost", function() end, "freeze 1 s")
    found("ghost", function() end, "switchover")
  end)

  -- b was told of a leap by a leader that is gone itself: the one from before has the lead, and the event
  it("lets a leader that was replaced come back", function()
    local c = case "freeze 30 s"
    table.insert(c.b, 7, "G\t60\t12\t60\treset\t12.0")
    assert.equal(1, judged("asynchronous", c).count.gap)
    c = case "freeze 30 s"
    table.insert(c.b, 7, "G\t60\t12\t60\treset\t12.0")
    c.told = { "11\t60" }
    assert.same({}, judged("asynchronous", c).count)
    table.insert(c.http, "P\t4\tload/0\tk\ts.2.")
    table.insert(c.http, "A\t4\t61\t12.5")
    assert.is_nil(judged("asynchronous", c).count["two ids"])
    c.leaps = { "12\t60", "61\t100" }
    assert.equal(1, judged("asynchronous", c).count["two ids"])
  end)

  it("finds a loss long before the fault", function()
    found("lost", function(c) c.http[4] = "A\t2\t13\t5.0" end)
    found("lost", function(c) c.sql[3] = "T\t3\ts\t5.0" end)
  end)

  it("finds an id that may come again, and one that does", function()
    found("lost", function(c) c.leaps = {} end)
    found("two events", function(c) c.events[5] = "13\th.9." end)
    found("two events", function(c) c.b[5] = "E\t13\th.3.\t9.9" end)
  end)

  it("finds one event with two ids", function()
    found("two ids", function(c) c.events[5] = "103\th.2." end, "freeze 1 s")
    found("twice", function(c) c.events[5] = "103\ts.1." end)
  end)

  it("finds who was not told", function()
    found("untold", function(c) table.remove(c.a, 6) end)
    found("untold", function(c) c.a = { table.unpack(c.a, 1, 5) } end)
  end)

  it("finds who was told of what did not happen", function()
    found("gap", function(c) table.insert(c.b, 6, "G\t12\t12\t12\treset\t4.0") end)
    found("gap", function(c) c.a[6] = "G\t100\t13\t100\ttruncated\t14.0" end)
    local c = case "kill node"
    table.insert(c.b, 7, "G\t100\t13\t100\treset\t14.0")
    judged("asynchronous", c)
    assert.equal(1, c.windows[2].count["reset without need"])
  end)

  it("finds an event that did not come, came twice, or in the wrong order", function()
    found("P1", function(c) table.remove(c.b, 7) end)
    found("P1", function(c) table.remove(c.a, 8) end)
    found("P4", function(c) table.insert(c.b, "E\t102\th.3.\t15.2") end)
    found("order", function(c) c.b[7], c.b[8] = c.b[8], c.b[7] end)
  end)

  it("finds a row that never became an event", function()
    found("stuck", function(c) c.ledger[3] = "s\t3\tload/0\ts.3." end)
  end)
end)
