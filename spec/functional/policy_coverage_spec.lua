-- `tidegate test --coverage`: which lines of policies, and which conditions of their filters, specs have run.
local files = require "support.files"
local tidegate = require "support.tidegate"

local POLICY = [[
local lib = require "lib.words"
local P = { api = 1 }
P.filters = {
  mine = "attrs.owner == $owner and (attrs.level >= 3 or has(attrs.loud))",
  split = "starts_with(topic, 'a/')\n  and one_of(type, 'x', 'y')",
  fn = function(ev, params)
    return ev.attrs.x == params.x
  end,
}
function P.authenticate(req)
  if req.bearer then
    return { sub = req.bearer }
  else
    return tg.deny(401,
      "who are you")
  end
end
function P.subscribe(req, who)
  for _, topic in ipairs(req.topics) do
    if topic == "hidden" then
      return tg.deny(403, lib.sorry())
    end
  end
  local filter = lib.filter(req.query.filter)
  return { topics = req.topics, filter = filter,
    params = filter == "mine" and { owner = who.sub } or nil }
end
return P
]]

local LIB = [[
local M = {}
function M.sorry() return "no" end
function M.filter(name)
  while true do
    if name then
      return name
    end
    name = "none"
  end
end
return M
]]

local SPEC = [[
local t = require "tidegate.test"
describe("p", function()
  it("works", function()
    local p = t.policy "p.lua"
    local ann = p:connect { bearer = "ann", topics = { "a/1" }, query = { filter = "mine" } }
    assert.granted(ann)
    assert.granted(p:connect { bearer = "ann", topics = { "a/1" }, query = { filter = "split" } })
    p:publish { topic = "a/1", type = "x", attrs = { owner = "ann", level = 3 } }
    p:publish { topic = "a/1", type = "y", attrs = { owner = "ben", level = 5 } }
    p:publish { topic = "a/1", type = "z", attrs = { owner = "eve" } }
    assert.equal(1, #ann:events())
    MORE
  end)
end)
]]

describe("tidegate test --coverage", function()
  local function run(more, ...)
    local b = tidegate.prepare {
      files = { ["p.lua"] = POLICY, ["lib/words.lua"] = LIB, ["one_spec.lua"] = (SPEC:gsub("MORE", more)) },
    }
    tidegate.forget_later(b)
    local code, out, err = tidegate.run(tidegate.binary(), { args = { "test", "one_spec.lua", ... }, cwd = b.dir })
    return code, out, err, b.dir
  end

  it("shows lines that were not run, and conditions that were always the same", function()
    local code, out, err = run("", "--coverage")
    assert.equal(0, code, out .. err)
    local report = out:match "\n(file .*)"
    assert.truthy(report, out)
    assert.matches("\n[^\n]*lib/words%.lua +87%.5 %% of 8\n  not run: 8\n", report)
    assert.matches("\n[^\n]*/p%.lua +83%.3 %% of 24 +60%.0 %% of 10\n  not run: 7, 14%-15, 21\n"
      .. "  line 4, filter 'mine': attrs%.level >= 3 was never false\n"
      .. "  line 4, filter 'mine': has%(attrs%.loud%) was never looked at\n"
      .. "  filter 'split': starts_with%(topic, 'a/'%) was never false\n$", report)
  end)

  it("is content with all of it", function()
    local code, out, err = run([[
      assert.denied(401, p:connect())
      assert.denied(403, p:connect { bearer = "a", topics = { "hidden" } })
      assert.granted(p:connect { bearer = "a", topics = { "b" } })
      assert.granted(p:connect { bearer = "a", topics = { "a/1" }, query = { filter = "fn" } })
      assert.granted(p:connect { bearer = "a", topics = { "b" }, query = { filter = "split" } })
      p:publish { topic = "b" }
      p:publish { topic = "a/1", attrs = { owner = "ann", level = 1, loud = true } }
      p:publish { topic = "a/1", attrs = { owner = "ann", level = 1 } }
      assert.equal(2, #ann:events())
    ]], "--min", "100")
    assert.equal(0, code, out .. err)
    assert.matches("p%.lua +100%.0 %% of 24 +100%.0 %% of 10", out)
    assert.is_nil(out:find("not run", 1, true))
  end)

  it("fails below the bound, and names the files", function()
    local code, _, err = run("", "--min", "72.5")
    assert.equal(1, code)
    assert.matches("tidegate test: [^\n]*/p%.lua has 60%.0 %% of outcomes of conditions; at least 72%.5 %% are", err)
    assert.is_nil(err:find("words.lua", 1, true))
    code, _, err = run("", "--min", "60")
    assert.equal(0, code, err)
    assert.equal(1, (run("assert.is_true(false)", "--min", "1")))
    assert.equal(64, (run("", "--min", "101")))
  end)

  it("writes what lcov reads", function()
    local code, out, err, dir = run("", "--lcov", "out.info", "--json")
    assert.equal(0, code, out .. err)
    assert.equal("{", out:sub(1, 1)) -- the report is not in it
    local text = files.read(dir .. "/out.info")
    local part = text:match "SF:[^\n]*/p%.lua\n(.-)end_of_record\n"
    assert.matches("BRDA:4,0,0,1\nBRDA:4,0,1,2\nBRDA:4,1,0,1\nBRDA:4,1,1,0\nBRDA:4,2,0,%-\nBRDA:4,2,1,%-\n", part)
    assert.matches("BRF:10\nBRH:6\n", part)
    assert.matches("\nDA:14,0\nDA:15,0\n", part)
    assert.matches("\nDA:11,2\n", part)
    assert.matches("LF:24\nLH:20\n", part)
    code, out, err, dir = run("", "--coverage=lcov")
    assert.equal(0, code, out .. err)
    assert.matches("p%.lua +83%.3 %%", out) -- the report, too
    assert.equal((text:gsub("SF:[^\n]*/", "")), (files.read(dir .. "/lcov.info"):gsub("SF:[^\n]*/", "")))
    local refused = { run("", "--coverage=html") }
    assert.equal(64, refused[1])
    assert.matches("tidegate test: %-%-coverage: html: expected nothing, or lcov", refused[3])
    assert.matches("tidegate test: /none/x cannot be written", (select(3, run("", "--lcov", "/none/x"))))
  end)

  it("knows the lines that can be run as Lua does", function()
    local code, out, err = run([[
      local coverage = require "tidegate.test.coverage"
      local function shown(text) local l = {} for n in pairs(coverage.lines(text)) do l[#l + 1] = n end
        table.sort(l) return table.concat(l, " ") end
      assert.equal("1 3", shown "local a = 1\n\nreturn a")
      assert.equal("2 3", shown "local function f()\n  return 1\nend -- never: it has returned")
      assert.equal("2 3 4", shown "local function f(x)\n  x = 1\nend\nf()")
      assert.equal("2 4", shown "while true do\n  local x = f()\n\n  g(x)\nend\nh()")
      assert.equal("1 2 5 6", shown "for i = 1, 2 do\n  if i == x then\n    break\n  end\n  g()\nend")
      assert.equal("1 2 3 4", shown "for k, v in pairs(t) do\n  g(k)\nend\nreturn 5")
      assert.equal("1 2 3 5", shown "local t = {\n  a = f(),\n  b = function() end,\n}\nreturn t")
      local text = "local x, y = ...\nlocal t = {\n  x,\n  y = y and\n    x,\n}\nif x then\n  y = -t.y + #t\nend\n"
        .. "repeat\n  local z = x\nuntil z\nlocal s = x .. y .. '" .. ("a"):rep(300) .. "', 1.5, 1 << 40\ngoto done\n"
        .. ("\n"):rep(500) .. "::done::\nx = s\n"
      assert.same(debug.getinfo(load(text), "L").activelines, coverage.lines(text))
    ]])
    assert.equal(0, code, out .. err)
  end)
end)
