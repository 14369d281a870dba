--- http.routes: its part of the schema, and what must hold among the routes and the broker's own paths.

local routes = {}

local SEGMENTS_MAX = 16
local OF_CLOUDEVENTS = { source = true, type = true, subject = true } -- in topics

local fields = {
  {
    name = "path", kind = "text", required = true, max = 255, pattern = "^/[%w%-._~/{}]*$",
    expect = 'a path such as "/sub/{channel}" (letters, digits, - . _ ~ / and names in braces)',
    doc = "A segment `{name}` stands for any that is not empty; policies find it, decoded, in `req.params.name`.",
  },
  { name = "subscribe", kind = "boolean", default = false, doc = "`GET` subscribes." },
  {
    name = "publish", kind = "text", off = true, default = false,
    choices = { "raw", "envelope", "form", "cloudevents" },
    doc = "`POST` publishes. `\"raw\"`: the body is the data. `\"envelope\"`: as on `http.events_path`. `\"form\"`: "
      .. "`application/x-www-form-urlencoded`, of which the data is made, JSON with a list of values for each name. "
      .. "`\"cloudevents\"`: CloudEvents alone. "
      .. "`false`: it does not.",
  },
  {
    name = "topic", kind = "text", off = true, default = false, max = 255, pattern = "^[^*]+$",
    expect = 'a topic such as "chan/{channel}"',
    doc = "`publish`: the topic of `\"raw\"` and `\"form\"`, and if it is there of `\"cloudevents\"`. `{name}` is what "
      .. "the path has there, as one literal segment (`tg.segment`); so are `{source}`, `{type}` and `{subject}` of a "
      .. "CloudEvent. The policy's `publish` may change it.",
  },
  {
    name = "answer", kind = "text", default = "json", choices = { "json", "id", "empty", "stream" },
    doc = "`publish`: what says that it is stored: JSON, as on `http.events_path`; the id as text; nothing; a stream "
      .. "of what comes behind the event, which `subscribe` is asked for before it is stored.",
  },
  {
    name = "status", kind = "integer", default = 0, min = 0, max = 299, unit = "status",
    doc = "`publish`: the status of that, 200 to 299. `0`: 201, and 200 for what was known already; 204 for "
      .. "`\"empty\"`.",
  },
  {
    name = "delete", kind = "boolean", default = false,
    doc = "`DELETE` publishes, too: an event without data to `topic`, of which the answer is 204. Needs "
      .. "`publish = \"raw\"`.",
  },
  {
    name = "position_field", kind = "text", off = true, default = false,
    choices = { "Last-Event-ID", "Mercure-Last-Event-ID" },
    doc = "`subscribe`: the head of the answer has this field, with the position that the stream starts at. `false`: "
      .. "none.",
  },
}

routes.field = {
  name = "routes", kind = "array", max = 64, default = {}, fields = fields,
  expect = '{ path = "/sub/{channel}", subscribe = true }',
  doc = "More paths for events, as clients of other servers ask for them. What holds for `http.events_path` holds for "
    .. "them, but for names in the query: unknown ones get 400 only where `query_params` lists some. No two may fit "
    .. "one path.",
}

routes.webhook_origins = {
  name = "webhook_origins", kind = "list", max = 256, default = {},
  of = {
    kind = "text", max = 255, pattern = "^[!-~]+$",
    expect = 'what a sender calls itself in WebHook-Request-Origin, such as "eventgrid.azure.net", or "*"',
  },
  doc = "Senders of web hooks that are told, when they ask (`OPTIONS` with `WebHook-Request-Origin`), that they may "
    .. "send here. It lets nobody publish: that is the policy's business. `\"*\"`: any.",
}

local function segments(path)
  local list = {}
  for segment in (path .. "/"):gmatch "([^/]*)/" do
    list[#list + 1] = segment
  end
  return list
end

local function is_hole(segment)
  return segment:find "^{.*}$" ~= nil
end

-- Is there a path that both fit?
local function clash(a, b)
  a, b = segments(a), segments(b)
  for i, segment in ipairs(a) do
    local other = b[i]
    local both = other ~= nil
      and (other == segment or is_hole(segment) and other ~= "" or is_hole(other) and segment ~= "")
    if not both then
      return false
    end
  end
  return #a == #b
end

-- The names in braces, or nil and what is wrong with them.
local function holes(path)
  local names = {}
  local list = segments(path)
  if #list > SEGMENTS_MAX then
    return nil, ("has more than %d segments"):format(SEGMENTS_MAX)
  end
  for _, segment in ipairs(list) do
    local name = segment:match "^{([%a_][%w_]*)}$"
    if segment:find "[{}]" and not name then
      return nil, ('"%s": a name in braces is a whole segment, such as {channel}'):format(segment)
    elseif name and names[name] then
      return nil, ("has {%s} twice"):format(name)
    elseif name then
      names[name] = true
    end
  end
  return names
end

-- Paths that the broker has beside them: { path, what it is }.
local function own_paths(c)
  local own = { { c["http.events_path"], "http.events_path" } }
  own[#own + 1] = { "/", "the path of the test page" }
  own[#own + 1] = c["http.health_path"] and { c["http.health_path"], "http.health_path" } or nil
  own[#own + 1] = c["http.acme_webroot"] and { "/.well-known/acme-challenge/{token}", "the path of http.acme_webroot" }
    or nil
  return own
end

local function check_topic(route, path, names, report)
  local needs = route.publish == "raw" or route.publish == "form"
  local cloudevents = route.publish == "cloudevents"
  if needs and not route.topic then
    report(path .. ".topic", ('is needed for publish = "%s", such as topic = "chan/{channel}"'):format(route.publish))
  elseif route.topic and not needs and not cloudevents then
    report(path .. ".topic", 'has no effect without publish = "raw", "form" or "cloudevents"')
  elseif route.topic then
    for name in route.topic:gmatch "{([^{}]*)}" do
      if not names[name] and not (cloudevents and OF_CLOUDEVENTS[name]) then
        report(path .. ".topic", ("{%s} is not in the path%s"):format(name,
          cloudevents and ", and of a CloudEvent only {source}, {type} and {subject} may be there" or ""))
      end
    end
    local literal = route.topic:gsub("{[^{}]+}", "x")
    if literal:find "[{}]" or literal:find "//" or literal:find "^/" or literal:find "/$" then
      report(path .. ".topic", "is not a topic: segments with / between them, names in braces")
    end
  end
end

local function check_answer(route, path, report)
  if not route.publish then
    for name, default in pairs { answer = "json", status = 0 } do
      if route[name] ~= default then
        report(path .. "." .. name, "has no effect without publish")
      end
    end
  elseif route.status ~= 0 and route.answer == "stream" then
    report(path .. ".status", 'has no effect with answer = "stream": a stream has 200')
  elseif route.status ~= 0 and route.status < 200 then
    report(path .. ".status", ("expected 0, or a status from 200 to 299, found %d"):format(route.status))
  elseif (route.status == 204 or route.status == 205) and route.answer ~= "empty" then
    report(path .. ".status", ('%d has no body: set answer = "empty"'):format(route.status))
  end
  if route.delete and route.publish ~= "raw" then
    report(path .. ".delete", 'has no effect without publish = "raw"')
  end
  if route.position_field and not route.subscribe then
    report(path .. ".position_field", "has no effect without subscribe")
  end
end

--- Complains about routes that cannot be, or that are in each other's way.
function routes.check(c, tools)
  local own = own_paths(c)
  for i, route in ipairs(c["http.routes"]) do
    local path = ("http.routes[%d]"):format(i)
    local names, why = holes(route.path)
    if not names then
      tools.report(path .. ".path", why)
    else
      if not route.subscribe and not route.publish then
        tools.report(path, "does nothing: set subscribe = true, or publish")
      end
      check_topic(route, path, names, tools.report)
      check_answer(route, path, tools.report)
      for _, other in ipairs(own) do
        if clash(route.path, other[1]) then
          tools.report(path .. ".path", ('"%s" fits %s, too, which is %s'):format(route.path, other[1], other[2]))
          break
        end
      end
      own[#own + 1] = { route.path, ("http.routes[%d]"):format(i) }
    end
  end
end

return routes
