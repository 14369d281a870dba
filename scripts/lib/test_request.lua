--- The text of an HTTP request, of what people write about it: text(method, options [, JSON body]).
--- options: topics (list), query, headers, cookies (tables), bearer, ip, last_event_id, tls, path (of a route); all
--- may be missing. A value of `query` may be a list: the name is there several times. `form` (a table like `query`)
--- stands for a body.
local native = require "tidegate.test.native"
local json = native.json

-- What `tls = {}` and `tls = { client = {} }` stand for.
local TLS = { version = "TLSv1.3", cipher = "TLS_AES_256_GCM_SHA384", alpn = "http/1.1", resumed = false }
local CERTIFICATE = {
  subject = "CN=client", issuer = "CN=authority", serial = "01", sha256 = ("0"):rep(64), not_after = 4102444800,
  dns = {}, uri = {}, email = {},
}

local function filled(given, defaults, more, where)
  local out = {}
  if type(given) ~= "table" then
    error(("%s: a table was expected"):format(where), 0)
  end
  for name, value in pairs(given) do
    local default = defaults[name]
    if default == nil and not more[name] then
      error(("%s: unknown field %q"):format(where, tostring(name)), 0)
    elseif type(value) ~= (default ~= nil and type(default) or more[name]) then
      error(("%s.%s: a %s was expected"):format(where, name, default ~= nil and type(default) or more[name]), 0)
    end
    out[name] = value
  end
  for name, default in pairs(defaults) do
    if out[name] == nil then
      out[name] = default
    end
  end
  return out
end

-- As src/tools/test/test_tls.c reads it.
local function tls_text(given)
  local tls = filled(given, TLS, { sni = "string", client = "table" }, "tls")
  if tls.client then
    tls.client = filled(tls.client, CERTIFICATE, {}, "tls.client")
    for _, name in ipairs { "dns", "uri", "email" } do
      tls.client[name] = json.array(tls.client[name])
    end
  end
  return json.encode(tls)
end

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

-- name=value pairs
local function encoded(into, fields)
  for _, name in ipairs(sorted(fields)) do
    local value = fields[name]
    for _, one in ipairs(type(value) == "table" and value or { value }) do
      into[#into + 1] = escape(name) .. "=" .. escape(one)
    end
  end
  return into
end

return function(method, options, body)
  local query, lines = {}, {}
  body = options.form and table.concat(encoded({}, options.form), "&") or body
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
  encoded(query, options.query)
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
  if options.tls then
    field("X-Tidegate-Test-Tls", tls_text(options.tls))
  end
  local given = {}
  for _, name in ipairs(sorted(options.headers)) do
    field(name, options.headers[name])
    given[name:lower()] = true
  end
  if body then
    if not given["content-type"] then
      field("Content-Type", options.form and "application/x-www-form-urlencoded" or "application/json")
    end
    field("Content-Length", #body)
  elseif not given.accept then
    field("Accept", "text/event-stream")
  end
  local path = options.path or native.events_path()
  return ("%s %s%s%s HTTP/1.1\r\n%s\r\n%s"):format(method, path, #query > 0 and "?" or "",
    table.concat(query, "&"), table.concat(lines), body or "")
end
