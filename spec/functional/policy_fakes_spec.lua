-- `tidegate test`: what stands for databases, other servers and sets must be there to be asked; pages of history.
local run = require("support.policy_tools").run

local POLICY = [[
local P = { api = 1,
  queries = { level = "select level from users where login = $1", rooms = "select room from rooms" } }
P.filters = { mine = "attrs.owner == $owner" }
function P.authenticate(req)
  if req.bearer == "broken" then error "no" end
  if not req.bearer then return tg.deny(401, "bring the token") end
  return { sub = req.bearer }
end
function P.subscribe(req, who)
  if who.sub == "away" then return nil, "not now" end
  return { topics = req.topics, filter = "mine", params = { owner = who.sub } }
end
function P.publish(pub) return pub end
return P
]]

local function spec_of(text)
  return [[
    local t = require "tidegate.test"
    it("works", function()
      local p = t.policy("p.lua", { now = 1700000000, db = { level = {} }, auth = "open" })
  ]] .. text .. "\nend)\n"
end

describe("tidegate test", function()
  local function passes(text, ...)
    local code, out, err = run({ ["one_spec.lua"] = spec_of(text), ["p.lua"] = POLICY,
      ["with_targets.lua"] = 'return { policy = { file = "p.lua" }, '
        .. 'http_targets = { users = { url = "https://u.example" } } }' }, { "test", "one_spec.lua", ... })
    assert.equal(0, code, out .. err)
  end

  it("refuses answers of queries that the policy does not declare", function()
    passes [[
      local missing = "^db: the policy has no such query: 'levle'; did you mean 'level'%?"
      local wrong = { db = { levle = {}, rooms = {} } }
      assert.error_matches(function() t.policy("p.lua", wrong) end, missing)
      assert.error_matches(function() p:with(wrong) end, missing)
      assert.error_matches(function() p:resubscribe(wrong) end, missing)
      assert.error_matches(function() p:reload(wrong) end,
        "^after the reload: db: the policy has no such query: 'levle'")
      assert.granted(p:with({ db = { rooms = t.down } }):connect { bearer = "ann", topics = { "a" } })
      assert.granted(p:with({ db = t.down }):connect { bearer = "ann", topics = { "a" } })
    ]]
  end)

  it("refuses answers of targets that a configuration does not have beside others", function()
    local text = [[
      assert.is_true(pcall(t.policy, "p.lua", { http = { users = { status = 200 } } }))
      local ok, err = pcall(t.policy, "p.lua", { http = { user = { status = 200 } } })
      assert.equal(%s, ok)
      assert.matches(%q, tostring(err))
    ]]
    passes(text:format("true", ""))
    passes(text:format("false", "http: the configuration has no such target: 'user'; did you mean 'users'%?"),
      "--conf", "with_targets.lua")
  end)

  it("asks for pages of history", function()
    passes [[
      local function page(options)
        options.headers = { Accept = options.accept or "application/json" }
        options.accept, options.topics = nil, { "a" }
        options.bearer = options.bearer or "ann"
        return p:connect(options)
      end
      for i = 1, 3 do
        p:publish { topic = "a", data = { i = i }, attrs = { owner = i ~= 2 and "ann" or "ben" } }
      end
      for _, accept in ipairs { "application/json", "application/x-ndjson" } do
        local c = page { accept = accept }
        assert.granted(c)
        assert.equal(200, c.status)
        assert.same({ { i = 1 }, { i = 3 } }, c:data())
        assert.equal(c:ids()[2], math.tointeger(tonumber(c.page.next)))
        assert.same({ false, t.json.null, 2 }, { c.page.more, c.page.gap, #c:events() })
        assert.equal("integer", math.type(c:ids()[1]))
        assert.is_nil(c.subscription)
        assert.is_true(c:closed())
        local first = page { accept = accept, query = { limit = 1 } }
        assert.same({ { { i = 1 } }, true }, { first:data(), first.page.more })
        local rest = page { accept = accept, last_event_id = first.page.next }
        assert.same({ { i = 3 } }, rest:data())
        assert.same({}, page({ accept = accept, bearer = "eve" }):data())
      end
      local refused = p:connect { headers = { Accept = "application/json" } }
      assert.denied(401, refused)
      assert.equal("bring the token", refused.reason)
      assert.transient(page { bearer = "broken" })
      assert.matches("^subscribe: p.lua:%d+: not now$", page({ bearer = "away" }).reason)
      assert.granted(p:connect { topics = { "a" }, bearer = "ann" })
      assert.error_matches(function() p:resubscribe(page {}) end, "the client has no stream of this policy")
    ]]
  end)
end)
