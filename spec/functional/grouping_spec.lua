-- Audiences are an optimisation: what a connection receives is what its subscription alone would give.
-- The oracle evaluates the same policy file in plain Lua, connection by connection.
local http = require "support.http"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

local SEED = tonumber(os.getenv "TIDEGATE_SPEC_SEED") or os.time()

local POLICY = [[
local P = { api = 1, filters = {}, formats = {} }

function P.authenticate() return { sub = "x" } end

function P.subscribe(req)
  local params
  if req.query.params then params = json.decode(req.query.params) end
  return { topics = req.topics, filter = req.query.filter or "none", format = req.query.format or "raw",
    params = params }
end

function P.publish(pub) return pub end

function P.filters.at_least(ev, params) return ev.data.n >= params.min end
function P.filters.parity(ev, params) return ev.data.n % 2 == params.rest end
function P.filters.cell(ev, params)
  for _, cell in ipairs(params.cells) do
    if ev.attrs.cell == cell then return true end
  end
  return false, "another cell"
end
function P.filters.typed(ev) return ev.type ~= "message" end

function P.formats.brief(ev, params) return { data = { n = ev.data.n, tag = params.tag or "none" } } end
function P.formats.text(ev) return "n=" .. ev.data.n .. "\nof " .. ev.topic end
function P.formats.some(ev)
  if ev.data.n % 3 == 0 then return nil end
  return { data = ev.raw, event = "third-" .. ev.data.n % 3 }
end

return P
]]

local TOPICS = { "a", "a/b", "a/c", "a/b/d", "x/y", "x/z", "lone" }
local PATTERNS = { "a", "a/b", "a/*", "a/**", "*", "x/*", "**", "*/y", "lone", "a/*/d" }

local function choose(list)
  return list[math.random(#list)]
end

local function random_subscription()
  local s = { topics = {} }
  local seen = {}
  for _ = 1, math.random(1, 3) do
    local p = choose(PATTERNS)
    if not seen[p] then
      seen[p] = true
      s.topics[#s.topics + 1] = p
    end
  end
  local filter = math.random(5)
  if filter == 1 then
    s.filter, s.params = "at_least", { min = choose { 0, 50, 900 } }
  elseif filter == 2 then
    s.filter, s.params = "parity", { rest = choose { 0, 1 } }
  elseif filter == 3 then
    s.filter, s.params = "cell", { cells = choose { { "u1" }, { "u1", "u2" } } }
  elseif filter == 4 then
    s.filter = "typed"
  end
  local format = math.random(5)
  if format == 1 then
    s.format = "brief"
    s.params = s.params or {}
    s.params.tag = choose { "red", "blue" }
  elseif format == 2 then
    s.format = "text"
  elseif format == 3 then
    s.format = "some"
  end
  return s
end

local function copy(s)
  local params
  for k, v in pairs(s.params or {}) do
    params = params or {}
    params[k] = v
  end
  return { topics = table.move(s.topics, 1, #s.topics, 1, {}), filter = s.filter, format = s.format, params = params }
end

-- Equal but for one thing: what a careless grouping would mix up.
local function twin(s)
  local t = copy(s)
  if t.params and t.params.min then
    t.params.min = t.params.min + 1
  elseif t.params and t.params.rest then
    t.params.rest = 1 - t.params.rest
  elseif t.params and t.params.cells then
    t.params.cells = { "u3" }
  elseif t.params and t.params.tag then
    t.params.tag = t.params.tag == "red" and "blue" or "red"
  elseif t.format == "text" then
    t.format = nil
  elseif t.filter then
    t.filter = nil
  else
    t.filter, t.params = "at_least", { min = 500 }
  end
  return t
end

local function shuffled(s)
  local t = copy(s)
  for i = #t.topics, 2, -1 do
    local k = math.random(i)
    t.topics[i], t.topics[k] = t.topics[k], t.topics[i]
  end
  return t
end

-- What makes two subscriptions equal: topics in any order, filter, format, params in any order.
local function canonical(s)
  local topics = table.move(s.topics, 1, #s.topics, 1, {})
  table.sort(topics)
  local params, names = {}, {}
  for k in pairs(s.params or {}) do
    names[#names + 1] = k
  end
  table.sort(names)
  for i, k in ipairs(names) do
    local v = s.params[k]
    params[i] = k .. "=" .. (type(v) == "table" and table.concat(v, "+") or tostring(v))
  end
  return table.concat({ table.concat(topics, ","), s.filter or "", s.format or "", table.concat(params, "&") }, "|")
end

local function split(topic)
  local list = {}
  for segment in topic:gmatch "[^/]+" do
    list[#list + 1] = segment
  end
  return list
end

-- The rule of src/event/topic.h for patterns, in its most naive form.
local function matches(pattern, topic)
  local p, t = split(pattern), split(topic)
  for i, segment in ipairs(p) do
    if segment == "**" then
      return #t >= i
    elseif t[i] == nil or (segment ~= "*" and segment ~= t[i]) then
      return false
    end
  end
  return #p == #t
end

local function matches_any(s, topic)
  for _, pattern in ipairs(s.topics) do
    if matches(pattern, topic) then
      return true
    end
  end
  return false
end

-- { type, data } as the client must see it (data decoded where it is JSON), or nil.
local function evaluate(policy, s, ev)
  local params = s.params or {}
  if not matches_any(s, ev.topic) or (s.filter and not policy.filters[s.filter](ev, params)) then
    return nil
  end
  if not s.format then
    return { type = ev.type, data = http.json.decode(ev.raw) }
  end
  local out = policy.formats[s.format](ev, params)
  if out == nil then
    return nil
  elseif type(out) == "string" then
    return { type = ev.type, data = out }
  end
  local data = out.data
  if type(data) == "string" then
    data = http.json.decode(data)
  end
  return { type = out.event or ev.type, data = data }
end

local function random_event(i)
  local n = math.random(0, 1000)
  return {
    topic = choose(TOPICS), type = choose { "message", "sale", "loan" },
    attrs = { cell = choose { "u1", "u2", "u3" } }, data = { n = n, i = i },
  }
end

local function check(policy, client, s, events, label)
  local expected = {}
  for _, ev in ipairs(events) do
    local want = evaluate(policy, s, ev)
    if want then
      want.id = ev.id
      expected[#expected + 1] = want
    end
  end
  local got = client:collect(#expected)
  for i, ev in ipairs(got) do
    local decoded = http.json.decode(ev.data)
    assert.same(expected[i], { type = ev.type, id = ev.id, data = type(decoded) == "table" and decoded or ev.data },
      ("seed %d, %s %s, event %d"):format(SEED, label, canonical(s), i))
  end
  return #expected
end

describe("grouping connections", function()
  it("never changes what one receives, and evaluates once per audience", function()
    math.randomseed(SEED)
    local policy = load(POLICY, "policy", "t")()
    local broker = tidegate.start { policy = POLICY }
    local clients, audiences, distinct = {}, {}, 0
    for i = 1, 80 do
      local s
      if i <= 2 then -- two audiences of one format: without a seed in which nothing is shared
        s = { topics = { i == 1 and "**" or "a/**" }, format = "text" }
      elseif i <= 20 then
        s = random_subscription()
      elseif i <= 40 then
        s = twin(clients[i - 20].s)
      else
        s = shuffled(clients[i - 40].s)
      end
      local query = { filter = s.filter, format = s.format, params = s.params and http.json.encode(s.params) }
      clients[i] = { s = s, query = query, c = sse.open(broker, { topic = s.topics, query = query }) }
      local name = canonical(s)
      if not audiences[name] then
        audiences[name], distinct = s, distinct + 1
      end
    end
    assert.equal(80, broker:metric "tidegate_subscribers")
    assert.equal(distinct, broker:metric "tidegate_audiences")
    assert.is_true(distinct < 80)

    local events, filter_calls, format_calls = {}, 0, 0
    for batch = 1, 10 do
      local list = {}
      for i = 1, 30 do
        local ev = random_event((batch - 1) * 30 + i)
        list[i] = { topic = ev.topic, type = ev.type, attrs = ev.attrs, data = ev.data }
        ev.raw = http.json.encode(ev.data)
        events[#events + 1] = ev
      end
      for i, ack in ipairs(broker:publish_all(list)) do
        events[#events - 30 + i].id = ack.id
      end
    end
    local delivered = 0
    for i, x in ipairs(clients) do
      delivered = delivered + check(policy, x.c, x.s, events, "connection " .. i)
    end
    assert.is_true(delivered > 1000, "the specs are about something")
    for _, s in pairs(audiences) do
      for _, ev in ipairs(events) do
        if matches_any(s, ev.topic) then
          local passed = true
          if s.filter then
            filter_calls = filter_calls + 1
            passed = policy.filters[s.filter](ev, s.params or {})
          end
          if passed and s.format then
            format_calls = format_calls + 1
          end
        end
      end
    end
    assert.equal(filter_calls, broker:metric "tidegate_policy_filter_calls_total")
    local calls = broker:metric "tidegate_policy_format_calls_total"
    assert.equal(format_calls, calls + broker:metric "tidegate_policy_format_cache_hits_total")
    assert.is_true(calls < format_calls)
    for _, x in ipairs(clients) do -- and nothing but that came
      x.c:pump() -- a heartbeat may have come
      assert.equal(0, #x.c.queue)
    end

    -- the same through history, in groups of other compositions
    for i = 1, 40 do
      clients[i].c:close()
    end
    for i = 1, 40 do
      local x = clients[i]
      local from = i % 2 == 0 and 1 or 101
      local c = sse.open(broker, { topic = x.s.topics, query = x.query,
        last_event_id = from == 1 and "0" or events[from - 1].id })
      check(policy, c, x.s, table.move(events, from, #events, 1, {}), "resumed connection " .. i)
    end
  end)

  it("forgets an audience with its last member", function()
    local broker = tidegate.start { policy = POLICY }
    local a = sse.open(broker, { topic = { "a", "b" } })
    local b = sse.open(broker, { topic = { "b", "a" } })
    local c = sse.open(broker, { topic = { "a" } })
    assert.equal(2, broker:metric "tidegate_audiences")
    a:close()
    c:close()
    require "support.eventually"("one audience is left", function()
      return broker:metric "tidegate_audiences" == 1
    end)
    broker:publish("b", "1")
    assert.equal("1", b:next().data)
  end)
end)
