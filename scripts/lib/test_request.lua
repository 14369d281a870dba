--- The text of an HTTP request, of what people write about it: text(method, options [, JSON body]).
--- options: topics (list), query, headers, cookies (tables), bearer, ip, last_event_id; all may be missing.
local native = require "tidegate.test.native"

local function escape(text)
  return (tostring(text):gsub("[^%w%-._~]", function(c)
    return ("%%%02X"):format(c:byte())
  end))
end

local function sorted(pairs_of)
  local names = {}
  for name in pairs(pairs_of or {}) do
    names[#names + 1] = name
  end
  table.sort(names)
  return names
end

return function(method, options, body)
  local query, lines = {}, {}
  local function field(name, value)
    value = tostring(value)
    if (name .. value):find "[\r\n%z]" then
      error(("header %q: a line break or NUL in it"):format(name), 0)
    end
    lines[#lines + 1] = name .. ": " .. value .. "\r\n"
  end
  for _, topic in ipairs(options.topics or {}) do
    query[#query + 1] = "topic=" .. escape(topic)
  end
  for _, name in ipairs(sorted(options.query)) do
    query[#query + 1] = escape(name) .. "=" .. escape(options.query[name])
  end
  field("Host", "tidegate.test")
  field("X-Forwarded-For", options.ip or "192.0.2.1") -- RFC 5737: an address for documentation
  if options.bearer then
    field("Authorization", "Bearer " .. options.bearer)
  end
  for _, name in ipairs(sorted(options.cookies)) do
    field("Cookie", name .. "=" .. options.cookies[name])
  end
  if options.last_event_id then
    field("Last-Event-ID", options.last_event_id)
  end
  for _, name in ipairs(sorted(options.headers)) do
    field(name, options.headers[name])
  end
  if body then
    field("Content-Type", "application/json")
    field("Content-Length", #body)
  else
    field("Accept", "text/event-stream")
  end
  return ("%s %s%s%s HTTP/1.1\r\n%s\r\n%s"):format(method, native.events_path(), #query > 0 and "?" or "",
    table.concat(query, "&"), table.concat(lines), body or "")
end
