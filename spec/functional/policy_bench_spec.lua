-- `tidegate test --bench`: how long hooks, filters and formats take.
local run = require("support.policy_tools").run

local SPEC = [[
local t = require "tidegate.test"
describe("the policy", function()
  it("NAME", function()
    local asked = 0
    local p = t.policy("mine.lua", { db = { topics_of = function() asked = asked + 1 return { { topic = "a" } } end } })
    local function connect(name, topic)
      return p:connect { topics = { topic }, bearer = "secret", cookies = { name = name } }
    end
    local ann = connect("ann", "news")
    assert.granted(connect("ben", "db"))
    assert.denied(401, p:connect())
    assert.granted(p:post { topic = "news", data = { text = 1 }, bearer = "secret", cookies = { name = "writer" } })
    p:publish { topic = "news", data = { text = "a" }, attrs = { owner = "ann" } }
    p:publish { topic = "else", data = { text = "b" }, attrs = { owner = "ann" } }
    assert.equal(2, #ann:events())
    assert.equal(1, asked) -- what is measured is asked when the test is over
  end)
end)
]]

describe("tidegate test --bench", function()
  it("shows how long what the specs have asked takes", function()
    local files = { ["a_spec.lua"] = SPEC, ["b_spec.lua"] = SPEC }
    local code, out, err = run(files, { "test", ".", "--bench" })
    assert.equal(0, code, out .. err)
    local rows, share = {}, 0
    for what, calls, median, least, most, part in out:gmatch
      "\n  (%S[^\n]-) +(%d+) +(%d+%.%d%d) +(%d+%.%d%d) +(%d+%.%d%d) +(%d+%.%d) %%" do
      rows[#rows + 1] = what .. " " .. calls
      assert.is_true(tonumber(least) <= tonumber(median) and tonumber(median) <= tonumber(most), out)
      share = share + tonumber(part)
    end
    assert.same({ "authenticate 8", "subscribe 4", "publish 2", "filter mine 4", "format short 2" }, rows)
    assert.is_true(share > 99 and share < 101, out)
    assert.matches("\n[^\n]*mine%.lua\n", out)
    code, out, err = run(files, { "test", ".", "--bench", "--json" })
    assert.equal(0, code, out .. err)
    assert.equal("{", out:sub(1, 1))
    assert.matches("filter mine", err)
  end)

  it("times observe, which does not forget then what the cache has", function()
    local code, out, err = run({
      ["mine.lua"] = [[
        local P = { api = 1 }
        function P.authenticate() return { sub = "x" } end
        function P.subscribe()
          local value = cache.fetch("level", 60, function() return db.query("level") end)
          return { topics = { "a" }, params = { n = #value } }
        end
        P.queries = { level = "select 1" }
        P.observe = { { topics = { "rights/*" }, run = function(ev)
          if ev.raw == "bad" then error "no" end
          cache.forget "level"
          tg.ask_again "x"
        end } }
        return P]],
      ["a_spec.lua"] = [[
        local t = require "tidegate.test"
        local asked, p = 0, nil
        p = t.policy("mine.lua", { db = { level = function() asked = asked + 1 return { { n = 1 } } end } })
        it("one", function()
          p:publish { topic = "rights/ann", data = "1" }
          p:publish { topic = "else", data = "1" }
          assert.equal("observed", p:observe { topic = "rights/ben", data = "1" }.result)
          assert.granted(p:connect {})
          assert.equal(1, asked)
          assert.faultless(p)
        end)
        it("two", function()
          assert.granted(p:connect {})
          assert.equal(1, asked)
          p:publish { topic = "rights/ann", data = "bad" }
        end)]],
    }, { "test", ".", "--bench" })
    assert.equal(0, code, out .. err)
    assert.matches("\n  observe +2 +%d+%.%d%d +%d+%.%d%d +%d+%.%d%d +%d+%.%d %%\n", out)
  end)

  it("has no row for a hook that the policy has not", function()
    local code, out, err = run({
      ["mine.lua"] = [[return { api = 1, authenticate = function() return {} end,
        subscribe = function(req) return { topics = req.topics } end }]],
      ["a_spec.lua"] = [[
        local t = require "tidegate.test"
        it("x", function()
          local p = t.policy "mine.lua"
          assert.granted(p:connect { topics = { "a" } })
          assert.denied(403, p:post { topic = "a", data = 1 })
        end)]],
    }, { "test", ".", "--bench" })
    assert.equal(0, code, out .. err)
    assert.matches("\n  authenticate +2 .*\n  subscribe +1 ", out)
    assert.is_nil(out:find("\n  publish", 1, true), out)
  end)
end)
