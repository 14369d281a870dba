--- `tidegate eval`: asks one hook of a policy about one input, in JSON, and shows what it decided.
--- Runs in the state of `tidegate test`: `native` is its C half; no busted.
local native, request_text = require "tidegate.test.native", require "tidegate.test.request"
local json = native.json

local eval = {}

-- Input a person wrote, so mistakes are theirs: one line, no traceback.
local function refuse(...)
  error({ input = (...):format(select(2, ...)) }, 0)
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

local request = {
  db = true, http = true,
  topics = true, query = true, headers = true, cookies = true, bearer = true, ip = true, last_event_id = true,
}
local event = { topic = true, type = true, data = true, attrs = true, key = true }
local publish = {
  db = true, http = true, event = true, query = true, headers = true, cookies = true, bearer = true, ip = true,
}
local judge = { event = true, name = true, params = true }

local function object(value, what)
  if type(value) ~= "table" or json.encode(value):sub(1, 1) ~= "{" then
    refuse("%s: a JSON object was expected", what)
  end
  return value
end

local function fields(e)
  check(object(e, "event"), event, "event")
  return {
    topic = e.topic, type = e.type, key = e.key, attrs = e.attrs and json.encode(object(e.attrs, "event.attrs")),
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

eval.hooks = {}

function eval.hooks.subscribe(bench, input)
  check(input, request, "request")
  return decoded(must(bench:subscribe(request_text("GET", input))))
end

function eval.hooks.publish(bench, input)
  check(input, publish, "input")
  local body = object(input.event, "event")
  check(body, event, "event")
  local verdict, events = must(bench:accept(request_text("POST", input, json.encode(body))))
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
    return must(bench:judge({
      [kind] = input.name,
      params = input.params and json.encode(object(input.params, "params")),
    }, fields(input.event)))
  end
end

eval.hooks.filter = judged "filter"
eval.hooks.format = judged "format"

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

local codes = { granted = 0, denied = 1, transient = 75, deliver = 0, filtered = 1, skip = 1, failed = 75 }

--- Answers the exit code and the text.
function eval.run(hook, file, text, as_json)
  local input, err = json.decode(text)
  if input == nil and err then
    refuse("%s", err)
  end
  object(input, "the input")
  local bench
  bench, err = native.open(file, 0, function(kind, name)
    local answers = type(input[kind]) == "table" and input[kind] or {}
    if answers[name] == nil then
      return nil, ('the input gives no answer: "%s": {"%s": ...}'):format(kind, name)
    end
    return json.encode(answers[name])
  end)
  if not bench then
    error({ policy = err }, 0)
  end
  local result = eval.hooks[hook](bench, input)
  result.errors = nil
  local code = codes[result.kind or result.result]
  bench:close()
  if as_json then
    return code, json.encode(result) .. "\n"
  end
  local out = { result.kind or result.result }
  result.kind, result.result, result.delivered = nil, nil, nil
  lines(result, out, "  ")
  return code, table.concat(out, "\n") .. "\n"
end

return eval
