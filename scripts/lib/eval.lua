--- `tidegate eval`: asks one hook of a policy about one input, in JSON, and shows what it decided.
--- Runs in the state of `tidegate test`: `native` is its C half; no busted.
local native, request_text = require "tidegate.test.native", require "tidegate.test.request"
local json = native.json

local eval = {}

--- Text for a terminal: what would steer it is spelled out. Line breaks and tabs stay.
function eval.plain(text)
  local function spelled(c)
    return ("\\x%02X"):format(c:byte(-1))
  end
  return (text:gsub("[%z\1-\8\11-\31\127]", spelled):gsub("\xC2[\x80-\x9F]", spelled))
end

-- Input a person wrote, so mistakes are theirs: one line, no traceback.
local function refuse(...)
  error({ input = eval.plain((...):format(select(2, ...))) }, 0)
end

local function check(input, known, what)
  for key in pairs(input) do
    if not known[key] then
      local names = {}
      for name in pairs(known) do
        names[#names + 1] = name
      end
      table.sort(names)
      refuse("%s: unknown field \"%s\"; there are %s", what, key, table.concat(names, ", "))
    end
  end
end

-- What is known of an input, per hook.
local CLIENT = { "path", "query", "headers", "cookies", "bearer", "ip", "tls", "db", "http" }
local function fields_of(...)
  local known = {}
  for _, name in ipairs { ... } do
    known[name] = true
  end
  return known
end
local function client(...)
  local known = fields_of(table.unpack(CLIENT))
  for _, name in ipairs { ... } do
    known[name] = true
  end
  return known
end
local authenticate = client("topics", "last_event_id")
local subscribe = client("topics", "last_event_id", "who")
local publish = client("who", "event")
local event = fields_of("topic", "type", "data", "attrs", "key", "expires", "ttl")
local judge = fields_of("event", "name", "params", "sets")

local function object(value, what)
  if type(value) ~= "table" or json.encode(value):sub(1, 1) ~= "{" then
    refuse("%s: a JSON object was expected", what)
  end
  return value
end

local function fields(e)
  check(object(e, "event"), event, "event")
  return {
    topic = e.topic, type = e.type, key = e.key, expires = e.expires, ttl = e.ttl,
    attrs = e.attrs and json.encode(object(e.attrs, "event.attrs")),
    data = type(e.data) == "string" and e.data or json.encode(e.data == nil and json.null or e.data),
  }
end

local function decoded(verdict)
  verdict.identity = verdict.identity and json.decode(verdict.identity)
  local s = verdict.subscription
  if s then
    s.params = s.params and json.decode(s.params)
    s.format = s.format or "raw"
  end
  return verdict
end

local function must(value, err)
  if not value then
    refuse("%s", err)
  end
  return value, err
end

-- Objects of names and scalars, or nothing.
local function scalars(value, what)
  for name, v in pairs(value == nil and {} or object(value, what)) do
    if type(v) == "table" or v == json.null then
      refuse("%s.%s: a string, number or boolean was expected", what, name)
    end
  end
  return value
end

-- The request of an input, as HTTP; and the identity it starts from, if it does.
local function asked(input, known, method, body)
  check(input, known, "request")
  local topics = input.topics
  if topics ~= nil and (type(topics) ~= "table" or json.encode(topics):sub(1, 1) ~= "[") then
    refuse("topics: a list of texts was expected")
  end
  for i, topic in ipairs(topics or {}) do
    if type(topic) ~= "string" then
      refuse("topics[%d]: a text was expected", i)
    end
  end
  for _, name in ipairs { "query", "headers", "cookies" } do
    scalars(input[name], name)
  end
  for _, name in ipairs { "bearer", "ip", "last_event_id", "path" } do
    if input[name] ~= nil and type(input[name]) ~= "string" then
      refuse("%s: a text was expected", name)
    end
  end
  local built, text = pcall(request_text, method, input, body)
  if not built then
    refuse("%s", text)
  end
  return text, input.who ~= nil and json.encode(scalars(input.who, "who")) or nil
end

eval.hooks = {}

function eval.hooks.authenticate(bench, input)
  return decoded(must(bench:authenticate(asked(input, authenticate, "GET"))))
end

function eval.hooks.subscribe(bench, input)
  return decoded(must(bench:subscribe(asked(input, subscribe, "GET"))))
end

function eval.hooks.publish(bench, input)
  local body = object(input.event, "event")
  check(body, event, "event")
  local verdict, events = must(bench:accept(asked(input, publish, "POST", json.encode(body))))
  for _, stored in ipairs(events) do
    stored.attrs = stored.attrs and json.decode(stored.attrs)
  end
  verdict.events = verdict.kind == "granted" and json.array(events) or nil
  return decoded(verdict)
end

local function judged(kind)
  return function(bench, input)
    check(input, judge, "input")
    if type(input.name) ~= "string" then
      refuse("name: the name of a %s was expected", kind)
    end
    for name in pairs(input.sets == nil and {} or object(input.sets, "sets")) do
      local known, why = bench:knows("set", name)
      if not known then
        refuse("sets: %s", why)
      end
    end
    return must(bench:judge({
      [kind] = input.name,
      params = input.params and json.encode(object(input.params, "params")),
    }, fields(input.event)))
  end
end

function eval.hooks.observe(bench, input)
  check(input, fields_of "event", "input")
  local result = must(bench:observe(fields(input.event)))
  json.array(result.effects)
  return result
end

eval.hooks.filter = judged "filter"
eval.hooks.format = judged "format"

--- The policy on a test broker of its own; nil and why it does not load. `answers()` is the input whose "db" and "http"
--- hooks are answered from; `failures` gets what goes wrong in them (test_fakes.h). `watch(kind, name, arguments)`, if
--- given, sees every question before it is answered. What is in a set is "sets" of the input: without that nothing.
function eval.open(file, answers, failures, watch)
  return native.open(file, 0, function(kind, name, arguments)
    if kind == "set" then
      local sets = answers().sets
      if sets and sets[name] == nil then
        return nil, ('the input does not say what is in it: "sets": {"%s": [...]}'):format(name)
      end
      return json.encode(sets and sets[name] or json.array {})
    end
    if watch then
      watch(kind, name, arguments)
    end
    local all = answers()[kind]
    if type(all) ~= "table" or all[name] == nil then
      return nil, ('the input gives no answer: "%s": {"%s": ...}'):format(kind, name)
    end
    return json.encode(all[name])
  end, nil, nil, failures)
end

--- The text of a file; "" where it cannot be read.
function eval.text_of(path)
  local f = io.open(path)
  local text = f and f:read "a" or ""
  if f then
    f:close()
  end
  return text
end

--- "policy.lua:3: what went wrong": not every message says where.
function eval.shown(failure)
  local text = failure.text
  if failure.at ~= "" and text:sub(1, #failure.at) ~= failure.at then
    text = failure.at .. ": " .. text
  end
  return text
end

-- showing ----------------------------------------------------------------------------------------

-- `name  value`, values as JSON, names in order.
local function lines(value, out, indent)
  local names = {}
  for name in pairs(value) do
    names[#names + 1] = name
  end
  table.sort(names)
  for _, name in ipairs(names) do
    local v = value[name]
    if type(v) == "table" and json.encode(v):sub(1, 1) == "{" and next(v) ~= nil then
      out[#out + 1] = indent .. name .. ":"
      lines(v, out, indent .. "  ")
    else
      out[#out + 1] = ("%s%s: %s"):format(indent, name, type(v) == "string" and v or json.encode(v))
    end
  end
end

local codes = {
  granted = 0, denied = 1, transient = 75, deliver = 0, filtered = 1, skip = 1, failed = 75, observed = 0,
  ["not-observed"] = 1,
}

--- Answers the exit code and the text.
function eval.run(hook, file, text, as_json)
  local input, err = json.decode(text)
  if input == nil and err then
    refuse("%s", err)
  end
  object(input, "the input")
  local failures = {}
  local bench
  if hook == "filter" then
    input.sets = input.sets == nil and {} or object(input.sets, "sets") -- nothing is in a set by accident
  end
  bench, err = eval.open(file, function() return input end, failures)
  if not bench then
    error({ policy = eval.plain(err) }, 0)
  end
  local ran, result = pcall(eval.hooks[hook], bench, input)
  local failure = failures[#failures]
  if not ran then
    if type(result) == "table" and result.input and failure then
      result.input = ("%s: %s"):format(result.input, eval.shown(failure))
    end
    error(result, 0)
  end
  bench:close()
  if failure and hook == "filter" then
    result.result = "failed" -- its event is not delivered, either, but that was not decided
  end
  local code = codes[result.kind or result.result]
  if failure and failure.transient then
    result.reason = failure.text -- says more than clients get
  elseif failure then
    result.error, result.reason = eval.shown(failure), nil
    local traceback = failure.traceback or ""
    io.stderr:write(traceback:find "\n." and eval.plain(traceback) .. "\n" or "")
  end
  if as_json then
    return code, json.encode(result) .. "\n"
  end
  local out = { result.kind or result.result }
  result.kind, result.result, result.delivered = nil, nil, nil
  local conditions = result.lines
  result.lines = nil
  lines(result, out, "  ")
  if conditions then
    out[#out + 1] = "  lines:\n    " .. table.concat(conditions, "\n    ")
  end
  return code, eval.plain(table.concat(out, "\n")) .. "\n"
end

return eval
