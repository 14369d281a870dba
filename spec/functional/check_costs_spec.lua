-- `tidegate check`: warnings about cost.
local json = require "dkjson"
local tidegate = require "support.tidegate"

local function check(policy, samples)
  local b = tidegate.prepare { files = { ["try.lua"] = policy, ["samples.json"] = json.encode(samples or {}) } }
  tidegate.forget_later(b)
  local args = { "check", b.conf_path, "--json", "--no-luacheck", "--policy", "try.lua" }
  if samples then
    table.move({ "--samples", "samples.json", "--no-samples" }, 1, 3, #args + 1, args)
  end
  local code, out, err = tidegate.run(tidegate.binary(), { args = args, cwd = b.dir })
  local list = assert(json.decode(out), out .. err).problems
  local messages = {}
  for i, problem in ipairs(list) do
    assert.equal("warning", problem.severity, out)
    assert.matches("10,000 audiences", problem.hint)
    messages[i] = (problem.line and problem.line .. ": " or "") .. problem.message
  end
  assert.equal(0, code, out)
  return messages
end

-- One filter a line, from the third on.
local function filters(codes)
  local lines = { "local limit = 3", "return { api = 1, filters = {" }
  for i, code in ipairs(codes) do
    lines[#lines + 1] = ("f%d = function(ev, params) return %s end,"):format(i, code)
  end
  return table.concat(lines, "\n") .. [[ },
    authenticate = function() return { sub = "x" } end,
    subscribe = function() return { topics = { "a" }, filter = "none" } end }
  ]]
end

local SUBSCRIBE = [[
return { api = 1, version = "1",
  filters = { text = "attrs.x == $x", lua = function(ev, params) return #ev.topic > 0 and params.x end },
  formats = { own = function(ev, params) return { data = tostring(params.x) } end },
  authenticate = function(req) return { sub = "x" } end,
  subscribe = function(req) return { topics = req.topics, %s } end,
}]]

describe("tidegate check", function()
  it("shows the text that does what a Lua filter does", function()
    local cases = {
      { "ev.attrs.x == params.x", "attrs.x == $x" },
      { "params.x == ev.attrs.x", "$x == attrs.x" },
      { "ev.attrs.s == 'abc' and ev.attrs.n >= 3", "attrs.s == 'abc' and attrs.n >= 3" },
      { "ev.attrs.n == -1 and ev.attrs.m > 7 and ev.topic == 'b'", "attrs.n == -1 and attrs.m > 7 and topic == 'b'" },
      { "ev.attrs['end'] == params.x", 'attrs["end"] == $x' },
      { "ev.attrs.a == params.b and ev.attrs.c <= params.d", "attrs.a == $b and attrs.c <= $d" },
    }
    local codes, expected = {}, {}
    for i, case in ipairs(cases) do
      codes[i] = case[1]
      expected[i] = ("%d: filter 'f%d' is a Lua function that compares, which a text does for a fraction: \"%s\"")
        :format(i + 2, i, case[2])
    end
    assert.same(expected, check(filters(codes)))
  end)

  it("is silent about what no text does, or does no cheaper", function()
    assert.same({}, check(filters {
      "ev.attrs.x ~= params.x", "ev.attrs.x == params.x or ev.attrs.y == 1", "not (ev.attrs.x == params.x)",
      "ev.attrs.n > 3", "ev.attrs.n == limit", "ev.attrs.x == params.x.y", "ev.attrs.x", "ev.data.x == params.x",
      "(ev.attrs.x == params.x) == true", "ev.attrs.x == params.x and 1", "ev.attrs.x == tostring(params.x)",
      "ev.attrs.x == 'it\\'s'", "ev.attrs.x == params.x, 'why'", "ev.attrs.a == ev.attrs.b",
    }))
  end)

  it("says that params are others when the same is asked again", function()
    local unsteady = { "subscribe gives other params for the same request two seconds later (x differs): each client "
      .. "is an audience of its own" }
    local grant = 'topics = { "a" }, filter = "lua", format = "own", params = { x = %s, y = 1 }'
    local policy = SUBSCRIBE:format(grant:format "os.time()")
    assert.same(unsteady, check(policy))
    assert.same(unsteady, check(policy, { { topics = { "a" } } }))
    assert.same({}, check(SUBSCRIBE:format(grant:format "1")))
  end)

  it("says that each of several samples got params of its own", function()
    local function run(n, grant, topics)
      local list = {}
      for i = 1, n do
        list[i] = { topics = { topics and "t" .. i or "a" }, query = { n = tostring(i) } }
      end
      return check(SUBSCRIBE:format(grant), list)
    end
    local own = { "subscribe gives other params to each of 4 samples with equal topics, filter and format (x differs): "
      .. "each client is an audience of its own" }
    assert.same(own, run(4, 'filter = "lua", format = "raw", params = { x = req.query.n, y = "same" }'))
    assert.same(own, run(4, 'filter = "text", format = "own", params = { x = req.query.n }'))
    assert.same({}, run(3, 'filter = "lua", format = "raw", params = { x = req.query.n }'))
    assert.same({}, run(4, 'filter = "lua", format = "raw", params = { x = req.query.n }', true))
    assert.same({}, run(4, 'filter = "text", format = "raw", params = { x = req.query.n }')) -- found by the value
    assert.same({}, run(4, 'filter = "lua", format = "raw", params = { x = tonumber(req.query.n) // 2 }'))
  end)
end)
