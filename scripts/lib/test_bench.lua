--- How long hooks, filters and formats take for what specs ask them: `tidegate test --bench`. Questions are noted while
--- a test runs, and asked again when it is over: nothing that the test looks at changes meanwhile.
local native = require "tidegate.test.native"
local json = native.json

local bench = {}

local BUILT_IN = { raw = true, json = true, cloudevents = true } -- formats
local MOST = 20 -- questions of a kind, of one test and policy

local noted = {} -- [policy] = { [kind] = list }, of the test that runs

local function note(policy, kind, value)
  if value and native.measured() then
    noted[policy] = noted[policy] or { connects = {}, posts = {}, subscriptions = {}, events = {}, observed = {} }
    local list = noted[policy][kind]
    list[#list + 1] = #list < MOST and value or nil
  end
end

function bench.connected(policy, request)
  note(policy, "connects", request)
end

function bench.subscribed(policy, subscription)
  note(policy, "subscriptions", subscription)
end

function bench.posted(policy, request, event)
  note(policy, "posts", request)
  note(policy, "events", event)
end

function bench.published(policy, event)
  note(policy, "events", event)
end

function bench.observed(policy, event)
  note(policy, "observed", event)
end

-- "a/*/b", "a/**" and the like.
local function matches(pattern, topic)
  local rest = topic .. "/"
  for part in (pattern .. "/"):gmatch "(.-)/" do
    if part == "**" then
      return rest ~= ""
    end
    local first, others = rest:match "^(.-)/(.*)$"
    if not first or part ~= "*" and part ~= first then
      return false
    end
    rest = others
  end
  return rest == ""
end

local function wants(subscription, topic)
  for _, pattern in ipairs(subscription.topics) do
    if matches(pattern, topic) then
      return true
    end
  end
  return false
end

local function add(measured, policy, what, ns)
  if ns then
    local file = native.real(policy.file)
    local of = measured[file] or {}
    measured[file] = of
    of[what] = of[what] or {}
    table.insert(of[what], ns)
  end
end

local function measure_hooks(policy, measured, list, hook)
  for _, request in ipairs(list) do
    local verdict = policy.bench:authenticate(request)
    add(measured, policy, "authenticate", policy.bench:time_hook("authenticate", request))
    if verdict and verdict.kind == "granted" then
      add(measured, policy, hook, policy.bench:time_hook(hook, request, verdict.identity))
    end
  end
end

local function measure_observe(policy, measured, ...)
  for _, events in ipairs { ... } do
    for _, event in ipairs(events) do
      add(measured, policy, "observe", policy.bench:time_observe(event))
    end
  end
end

local function measure_rules(policy, measured, subscriptions, events)
  for _, s in ipairs(subscriptions) do
    local of = { filter = s.filter, format = s.format, params = json.encode(s.params) }
    of.params = next(s.params) and of.params or nil
    local named = s.format and not BUILT_IN[s.format]
    for _, event in ipairs(events) do
      local judged = wants(s, event.topic) and policy.bench:judge(of, event)
      if judged and judged.result ~= "failed" and (s.filter or named) then
        local filter, format = policy.bench:time_rules(of, event)
        add(measured, policy, s.filter and "filter " .. s.filter, s.filter and filter)
        add(measured, policy, named and "format " .. s.format, named and judged.result ~= "filtered" and format)
      end
    end
  end
end

--- Asks again what the test that is over has asked.
function bench.measure()
  local measured = native.measured()
  local all = noted
  noted = {}
  for policy, asked in pairs(measured and all or {}) do
    if pcall(policy.bench.errors, policy.bench) then -- it is open
      measure_hooks(policy, measured, asked.connects, "subscribe")
      measure_hooks(policy, measured, asked.posts, "publish")
      measure_rules(policy, measured, asked.subscriptions, asked.events)
      measure_observe(policy, measured, asked.events, asked.observed)
    end
  end
end

local function sum(list)
  local all = 0
  for _, ns in ipairs(list) do
    all = all + ns
  end
  return all
end

local ORDER = { authenticate = 1, subscribe = 2, publish = 3, observe = 5 }

local function sorted(t, before)
  local names = {}
  for name in pairs(t) do
    names[#names + 1] = name
  end
  table.sort(names, before)
  return names
end

--- The table, for people.
function bench.report(measured, out)
  out:write(("\n%-32s %6s %10s %10s %10s %7s\n"):format("us", "calls", "median", "least", "most", "share"))
  for _, file in ipairs(sorted(measured)) do
    local all = 0
    for _, list in pairs(measured[file]) do
      all = all + sum(list)
    end
    out:write(file, "\n")
    for _, what in ipairs(sorted(measured[file], function(a, b)
      local x, y = ORDER[a] or 4, ORDER[b] or 4
      return x < y or x == y and a < b
    end)) do
      local list = measured[file][what]
      table.sort(list)
      out:write(("  %-30s %6d %10.2f %10.2f %10.2f %5.1f %%\n"):format(what, #list, list[(#list + 1) // 2] / 1000,
        list[1] / 1000, list[#list] / 1000, all > 0 and sum(list) * 100 / all or 0))
    end
  end
end

return bench
