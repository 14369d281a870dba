-- The checker of the oracle must be able to fail: each rule, broken once, is told.
local child = require "support.child"
local oracle = require "oracle.checker"
local rows = require "oracle.rows"

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

  local function check(case)
    local paths = {}
    for _, name in ipairs { "truth", "lost", "http", "facts", "a", "b" } do
      if case[name] then
        paths[name] = dir .. "/" .. name
        local f = assert(io.open(paths[name], "wb"))
        f:write(table.concat(case[name], "\n"), "\n")
        f:close()
      end
    end
    paths.journals = { paths.a, paths.b }
    return oracle.check(paths)
  end

  local function broken(rule, change)
    local case = good()
    change(case)
    local report = check(case)
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

  it("tells a gap where nothing was lost; one of retention excuses exactly what it covers and has removed", function()
    local function gap(c)
      table.remove(c.a, 7)
      c.a[6] = "C\t12"
      table.insert(c.a, 7, "G\t13\t12\t13\texpired")
      c.facts = { "T\t13" }
    end
    local case = good()
    gap(case)
    local report = check(case)
    assert.same({}, report.count, oracle.text(report))
    table.remove(case.a, 8) -- one more than the gap covers
    assert.equal(1, check(case).count.P1)
    broken("gap", function(c)
      gap(c)
      c.facts = { "T\t12" }
    end)
    broken("P1", function(c)
      gap(c)
      c.facts = { "T\t12", "B\t0\t13\tw1.2.1." }
    end)
  end)

  describe("where the store was replaced by an older copy", function()
    -- the copy ends at 13; 14 and 15 are lost, 14 was in its outbox and is 21 now
    local function restored()
      local c = good()
      c.facts = { "B\t0\t14\th.2.", "B\t0\t15\tw2.1.1.", "X\t1\trestore\t13\t15", "B\t1\t21\th.2.",
        "B\t1\t22\tw1.4.1." }
      c.lost = { table.remove(c.truth, 4), table.remove(c.truth, 3) }
      c.truth[3] = "w1\t4\t1\tload/0\t-\t1\tw1.4.1."
      c.http[5] = "A\t2\t14"
      table.move({ "G\t20\t15\t20\treset", "E\t21\th.2.", "E\t22\tw1.4.1." }, 1, 3, #c.a + 1, c.a)
      table.move({ "G\t20\t15\t20\treset", "E\t22\tw1.4.1." }, 1, 2, #c.b + 1, c.b)
      return c
    end

    local function told(rule, change)
      local c = restored()
      change(c)
      local report = check(c)
      assert.is_true((report.count[rule] or 0) > 0, ("%s was not told:\n%s"):format(rule, oracle.text(report)))
    end

    it("has nothing to object to if those who were ahead are told", function()
      local report = check(restored())
      assert.same({}, report.count, oracle.text(report))
      assert.equal(1, report.stats.replaced)
    end)

    it("takes what a writer committed again, after a store had lost it, for committed", function()
      local c = restored()
      c.lost[#c.lost + 1] = c.truth[3]
      c.lost[#c.lost + 1] = c.truth[3]
      local report = check(c)
      assert.same({}, report.count, oracle.text(report))
      assert.equal(3, report.stats.committed)
      assert.equal(4, report.stats.lost) -- the two rows, and what was acknowledged as 14, twice
      table.remove(c.a)
      assert.equal(1, check(c).count.P1)
      c.truth[#c.truth + 1] = c.truth[3]
      assert.error_matches(function() check(c) end, "used this payload twice")
    end)

    it("knows what survived, also when both stores were asked for it", function()
      local c = restored()
      table.insert(c.facts, 1, "B\t0\t13\tw1.2.1.")
      c.facts[#c.facts + 1] = "B\t1\t13\tw1.2.1."
      local report = check(c)
      assert.same({}, report.count, oracle.text(report))
    end)

    it("tells who was ahead and was not told, and who was not and was", function()
      told("reset", function(c) table.remove(c.a, 10) end)
      told("gap", function(c) c.b[6] = "G\t20\t12\t20\treset" end)
    end)

    it("knows what the copy still has, and retention had removed before", function()
      local c = restored()
      c.facts[#c.facts + 1] = "B\t1\t13\tw1.2.1." -- never seen in the store before
      local report = check(c)
      assert.same({}, report.count, oracle.text(report))
    end)

    it("tells ghosts: behind the reset, behind what is newer, on a stream that began later", function()
      told("P3", function(c) c.b[6], c.b[5] = c.b[5], c.b[6] end)
      told("P3", function(c) table.insert(c.b, 5, "E\t22\tw1.4.1.") end)
      told("P3", function(c) table.insert(c.b, 5, "R\t1") end)
    end)

    it("tells what is in the new store and does not come, and what comes twice", function()
      told("P1", function(c) table.remove(c.a, 11) end)
      told("P1", function(c) table.remove(c.b, 7) end)
      told("P4", function(c) c.b[#c.b + 1] = "E\t23\tw1.4.1." end)
    end)

    it("tells an id that the new store hands out again, delivered or not", function()
      told("P2 id", function(c) c.facts[5] = "B\t1\t15\tw1.4.1." end)
    end)

    it("tells an event that survived and is not delivered, whatever the reset said", function()
      told("P1", function(c) table.remove(c.a, 7) end)
    end)
  end)

  it("knows large payloads by their head, and by every byte", function()
    local head = "big.1.7."
    local data = head .. rows.block()
    assert.equal("big.1.7.#" .. rows.BIG_BYTES, rows.name(data))
    assert.equal(rows.big_name(head), rows.name(data))
    assert.matches("^damaged", rows.name(data:sub(1, -2) .. "!"))
    assert.matches("^damaged", rows.name(data:sub(1, -2)))
    assert.equal("small", rows.name "small")
  end)
end)
