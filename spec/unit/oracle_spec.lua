-- The checker of the oracle must be able to fail: each rule, broken once, is told.
local child = require "support.child"
local oracle = require "support.oracle"

-- Everything right: two writers, three publishes, two subscribers of which one was away for a while.
local function good()
  return {
    truth = {
      "w1\t1\t1\tload/0\t-\t1\tw1.1.1.xx", "w1\t2\t1\tload/1\t-\t1\tw1.2.1.", "w1\t3\t1\tload/0\tk\t0\tw1.3.1.",
      "w2\t1\t1\tload/0\tk\t0\tw2.1.1.", -- the same key: one of the two
    },
    http = { "P\t1\tload/0\t-\th.1.", "P\t2\tload/1\tk2\th.2.", "P\t3\tload/0\t-\th.3.", "A\t1\t12", "A\t2\t14",
      "A\t2\t14" },
    a = { "S\tload/**", "C\t0", "E\t11\tw1.1.1.xx", "E\t12\th.1.", "D", "C\t12", "E\t13\tw1.2.1.", "E\t14\th.2.",
      "E\t15\tw2.1.1." },
    b = { "S\tload/0", "C\t0", "E\t11\tw1.1.1.xx", "E\t12\th.1.", "E\t15\tw2.1.1." },
  }
end

describe("the oracle's checker", function()
  local dir
  before_each(function() dir = child.directory() end)
  after_each(function() child.remove_tree(dir) end)

  local function check(case, options)
    local paths = {}
    for _, name in ipairs { "truth", "http", "a", "b" } do
      paths[name] = dir .. "/" .. name
      local f = assert(io.open(paths[name], "wb"))
      f:write(table.concat(case[name], "\n"), "\n")
      f:close()
    end
    options = options or {}
    options.truth, options.http, options.journals = paths.truth, paths.http, { paths.a, paths.b }
    return oracle.check(options)
  end

  local function broken(rule, change, options)
    local case = good()
    change(case)
    local report = check(case, options)
    assert.is_true((report.count[rule] or 0) > 0, ("%s was not told:\n%s"):format(rule, oracle.text(report)))
  end

  it("has nothing to object to where all is well", function()
    local report = check(good())
    assert.same({}, report.count, oracle.text(report))
    assert.equal(4, report.stats.committed)
    assert.equal(2, report.stats.acknowledged)
    assert.equal(8, report.stats.delivered)
  end)

  it("tells a committed event that never came", function()
    broken("P1", function(c) table.remove(c.a, 3) end)
    broken("P1", function(c) table.remove(c.a, 7) end)
  end)

  it("tells an acknowledged publish that never came, or came with another id", function()
    broken("P1", function(c) table.remove(c.a, 4) end)
    broken("P2 id", function(c) c.http[4] = "A\t1\t10" end)
    broken("P2 id", function(c) c.http[6] = "A\t2\t15" end)
  end)

  it("tells what one subscriber got and another did not, acknowledged or not", function()
    broken("P1", function(c) c.a[#c.a + 1] = "E\t16\th.3." end)
  end)

  it("tells ids that do not grow, within a stream and behind a resume", function()
    broken("P2 order", function(c) c.a[3], c.a[4] = c.a[4], c.a[3] end)
    broken("P2 order", function(c) c.a[6] = "C\t13" end)
    broken("P2 id", function(c) c.b[3] = "E\tx\tw1.1.1.xx" end)
  end)

  it("tells an id with two events and an event with two ids", function()
    broken("P2 id", function(c) c.b[4] = "E\t12\th.3." end)
    broken("P2 id", function(c) c.b[5] = "E\t16\tw2.1.1." end)
  end)

  it("tells what was delivered and does not exist", function()
    broken("P3", function(c) c.a[#c.a + 1] = "E\t16\tw9.1.1." end)
  end)

  it("tells a double", function()
    broken("P4", function(c) c.a[#c.a + 1] = "E\t16\tw1.1.1.xx" end)
  end)

  it("tells two events of one key", function()
    broken("key", function(c) c.a[#c.a + 1] = "E\t16\tw1.3.1." end)
  end)

  it("tells one writer's events in the wrong order", function()
    broken("order", function(c) c.a[3], c.a[7] = "E\t11\tw1.2.1.", "E\t13\tw1.1.1.xx" end)
  end)

  it("tells what was not asked for", function()
    broken("topic", function(c) c.b[5] = "E\t13\tw1.2.1." end)
  end)

  it("tells a gap where nothing was lost; where it is allowed it excuses exactly what it covers", function()
    local function gap(c)
      table.remove(c.a, 7)
      c.a[6] = "C\t12"
      table.insert(c.a, 7, "G\t13\t12\t13\treset")
    end
    broken("gap", gap)
    local case = good()
    gap(case)
    case.b[1] = "S\tload/**"
    table.insert(case.b, 5, "E\t13\tw1.2.1.")
    table.insert(case.b, 6, "E\t14\th.2.")
    local report = check(case, { gaps_allowed = true })
    assert.same({}, report.count, oracle.text(report))
    table.remove(case.a, 8) -- one more than the gap covers
    assert.equal(1, check(case, { gaps_allowed = true }).count.P1)
  end)
end)
