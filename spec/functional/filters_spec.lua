-- Filters as text find the same events as filters as functions, live and from history, whatever the
-- broker leaves out because an attribute says so; and the work is what it is said to be.
local http = require "support.http"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

local SEED = tonumber(os.getenv "TIDEGATE_SPEC_SEED") or os.time()

local POLICY = [[
local P = { api = 1 }
function P.authenticate() return { sub = "x" } end
function P.publish(pub) return pub end
function P.subscribe(req)
  return { topics = req.topics, filter = req.query.filter or "none", format = req.query.format or "raw",
    params = req.query.params and json.decode(req.query.params) }
end

P.filters = {
  tenant_text = "attrs.tenant == $t or data.all",
  tenant_lua = function(ev, p) return ev.attrs.tenant == p.t or ev.data.all == true end,
  strict_text = [=[ attrs.tenant == $t and (not has(attrs.sev) or attrs.sev >= $min) ]=],
  strict_lua = function(ev, p)
    return ev.attrs.tenant == p.t and (ev.attrs.sev == nil or ev.attrs.sev >= p.min)
  end,
  any_text = "one_of(attrs.tenant, $list) and not ends_with(topic, '/y')",
  any_lua = function(ev, p)
    for _, t in ipairs(p.list) do
      if ev.attrs.tenant == t then return ev.topic:sub(-2) ~= "/y" end
    end
    return false
  end,
}
P.formats = { hide = { mask = { secret = "***" } }, short = { keep = { "i" }, event = "short" } }
return P
]]

local function choose(list)
  return list[math.random(#list)]
end

local function event(i)
  local attrs = {}
  if math.random(6) > 1 then attrs.tenant = choose { "a", "b", "c", 1, 1.0, true } end
  if math.random(3) > 1 then attrs.sev = math.random(5) end
  return { topic = choose { "a/x", "b/x", "b/y", "c" }, attrs = next(attrs) and attrs,
    data = { i = i, all = math.random(10) == 1 or nil, secret = "s" .. i } }
end

-- A subscription, once by text and once by a function.
local function pair()
  local kind = choose { "tenant", "strict", "any" }
  local params = { t = choose { "a", "b", "z", 1, true }, min = math.random(5), list = { "a", choose { "b", 1 } } }
  local function query(suffix)
    return { topic = { choose { "**", "**", "b/*" } }, filter = kind .. suffix, params = http.json.encode(params) }
  end
  local text, lua = query "_text", query "_lua"
  lua.topic = text.topic
  return { text, lua }
end

-- One for every tenant there is: what comes before it is all there was.
local FENCE = '{"fence":true}'
local function fence(broker)
  local batch = {}
  for i, t in ipairs { "a", "b", "z", 1, true } do
    batch[i] = { topic = "b/fence", attrs = { tenant = t }, data = { fence = true } }
  end
  broker:publish_all(batch)
end

local function received(client)
  local ids = {}
  for i, ev in ipairs(client:collect_until(FENCE)) do ids[i] = ev.id end
  return table.concat(ids, " ")
end

describe("filters", function()
  it("as text and as functions let the same through, live and from history", function()
    math.randomseed(SEED)
    local broker = tidegate.start { policy = POLICY }
    local all = {}
    for i = 1, 25 do
      all[i] = pair()
      all[i].text = sse.open(broker, { query = all[i][1] })
      all[i].lua = sse.open(broker, { query = all[i][2] })
    end
    local n = 0
    for _ = 1, 12 do
      local batch = {}
      for i = 1, math.random(20) do
        n = n + 1
        batch[i] = event(n)
      end
      broker:publish_all(batch)
    end
    fence(broker)
    for i, p in ipairs(all) do
      local label = ("seed %d, pair %d: %s"):format(SEED, i, http.json.encode(p[1]))
      local live = received(p.lua)
      assert.equal(live, received(p.text), label)
      p.text:close()
      p.lua:close()
      local again = sse.open(broker, { query = p[1], headers = { ["Last-Event-ID"] = "0" } })
      assert.equal(live, received(again), label .. ", replayed")
      again:close()
    end
  end)

  it("by an attribute cost one look-up for all that want different values", function()
    local broker = tidegate.start { policy = POLICY }
    local clients = {}
    for i = 1, 100 do
      clients[i] = sse.open(broker, { query = {
        topic = "**", filter = "strict_text", params = ('{"min":1,"t":"tenant-%d"}'):format(i) } })
    end
    assert.equal(100, broker:metric "tidegate_audiences")
    for i = 1, 50 do
      broker:publish("a", ('{"i":%d}'):format(i), { attrs = { tenant = "tenant-" .. i } })
    end
    for i = 1, 50 do
      assert.equal(('{"i":%d}'):format(i), clients[i]:next().data)
    end
    assert.equal(50, broker:metric "tidegate_policy_filter_calls_total")
    assert.equal(50, broker:metric "tidegate_policy_filter_index_probes_total")
    assert.equal(50, broker:metric "tidegate_events_delivered_total")
    for i = 1, 100 do
      clients[i]:pump()
      assert.equal(0, #clients[i].queue)
    end
  end)

  it("change with the policy for streams that are open", function()
    local function policy(text)
      return ([[
        local P = { api = 1, filters = { f = %q } }
        function P.authenticate() return { sub = "x" } end
        function P.publish(pub) return pub end
        function P.subscribe(req) return { topics = { "**" }, filter = "f", params = { x = req.query.x } } end
        function P.reload() return "keep" end
        return P]]):format(text)
    end
    local broker = tidegate.start { policy = policy "attrs.a == $x" }
    local one, two = sse.open(broker, { query = { x = "1" } }), sse.open(broker, { query = { x = "2" } })
    broker:publish("t", "first", { attrs = { a = "1", b = "2" } })
    assert.equal("first", one:next().data)
    assert.equal(200, broker:reload(policy "attrs.b == $x").status)
    broker:publish("t", "second", { attrs = { a = "1", b = "2" } })
    assert.equal("second", two:next().data)
    assert.equal(200, broker:reload(policy "attrs.a ~= $x").status)
    broker:publish("t", "third", { attrs = { a = "1" } })
    assert.equal("third", two:next().data)
    assert.equal(200, broker:reload(policy "attrs.a == $x").status)
    broker:publish("t", "fourth", { attrs = { a = "1" } })
    assert.equal("fourth", one:next().data)
    two:pump()
    assert.equal(0, #two.queue)
  end)

  it("refuse for now what their params do not allow, and say why in the log", function()
    local broker = tidegate.start { policy = POLICY }
    local r = http.get(broker, "/events?" .. http.query { topic = "a", filter = "strict_text", params = '{"t":"x"}' })
    assert.equal(503, r.status)
    assert.truthy(broker:log():find("params.min: missing", 1, true))
    assert.equal(1, broker:metric 'tidegate_policy_errors_total{hook="subscribe"}')
  end)

  it("go with formats that are rules: no field gets out", function()
    local broker = tidegate.start { policy = POLICY }
    local hide = sse.open(broker, { query = { topic = "**", format = "hide" }, keep_bytes = true })
    local short = sse.open(broker, { query = { topic = "**", format = "short" }, keep_bytes = true })
    broker:publish("a", '{"i":1.50,"secret":"s","x":[{"secret":{}}]}')
    broker:publish("a", "not json, and secret")
    broker:publish("a", '{"i":2,"s\\u0065cret":1,"secret":2}')
    assert.equal('{"i":1.50,"secret":"***","x":[{"secret":{}}]}', hide:next().data)
    assert.equal('{"i":2,"s\\u0065cret":"***","secret":"***"}', hide:next().data)
    local first, second = short:next(), short:next()
    assert.same({ '{"i":1.50}', "short", '{"i":2}' }, { first.data, first.type, second.data })
    assert.is_nil(hide:bytes():find("not json", 1, true))
    assert.is_nil(short:bytes():find("secret", 1, true))
    assert.truthy(short:bytes():find("reason=format-error", 1, true))
    assert.equal(2, broker:metric 'tidegate_policy_errors_total{hook="format"}')
  end)
end)
