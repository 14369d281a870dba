-- Opening policies for specs, from text or from the tree, and asking them.
local logged = require "native.log"
local policy = require "native.policy"
local logfmt = require "support.logfmt"

local M = { event = policy.event }

-- Calls fn(...): what was logged meanwhile, then fn's results.
function M.capture(fn, ...)
  logged.collect()
  local from = logged.size()
  local results = table.pack(fn(...))
  return logged.text(from), table.unpack(results, 1, results.n)
end

local ROOT = SPEC_SOURCE_DIR

-- A policy under test. close() is called by the spec that opened it.
function M.open(options)
  return policy.open(options)
end

-- A shipped policy, by name.
function M.shipped(name, options)
  options = options or {}
  options.file = ROOT .. "/scripts/policies/" .. name .. ".lua"
  return assert(policy.open(options))
end

-- Writes the files of `files` ({["name.lua"] = text}) into a new directory; returns its path.
function M.directory(files)
  local dir = os.tmpname()
  os.remove(dir)
  assert(os.execute("mkdir -p '" .. dir .. "'"))
  for name, text in pairs(files) do
    local sub = name:match("^(.*)/")
    if sub then assert(os.execute(("mkdir -p '%s/%s'"):format(dir, sub))) end
    local f = assert(io.open(dir .. "/" .. name, "wb"))
    f:write(text)
    f:close()
  end
  return dir
end

function M.remove(dir)
  os.execute("rm -rf '" .. dir .. "'")
end

-- Opens a policy of that text: policy, or nil and the message.
function M.open_text(text, options)
  local dir = M.directory { ["p.lua"] = text }
  options = options or {}
  options.file = dir .. "/p.lua"
  local p, err = policy.open(options)
  M.remove(dir)
  return p, err
end

-- A policy whose hooks are the given pieces of code; `authenticate` and `subscribe` have defaults.
function M.with(parts, options)
  local text = {
    "local P = { api = 1 }",
    "function P.authenticate(req) " .. (parts.authenticate or "return { sub = 'u' }") .. " end",
    "function P.subscribe(req, who) " .. (parts.subscribe
      or "return { topics = { 'a' }, filter = 'none', format = 'raw' }") .. " end",
  }
  if parts.publish then text[#text + 1] = "function P.publish(pub, who) " .. parts.publish .. " end" end
  for _, kind in ipairs { "filters", "formats" } do
    text[#text + 1] = ("P.%s = {"):format(kind)
    local names = {}
    for name in pairs(parts[kind] or {}) do names[#names + 1] = name end
    table.sort(names)
    for _, name in ipairs(names) do
      text[#text + 1] = ("%s = function(ev, params) %s end,"):format(name, parts[kind][name])
    end
    text[#text + 1] = "}"
  end
  text[#text + 1] = parts.more or ""
  text[#text + 1] = "return P"
  return assert(M.open_text(table.concat(text, "\n"), options))
end

-- A request: query and headers as maps or lists of pairs.
function M.request(r)
  local function pairs_of(t)
    local list = {}
    for k, v in pairs(t or {}) do
      list[#list + 1] = type(k) == "number" and v or { k, v }
    end
    return list
  end
  r = r or {}
  return {
    id = r.id, ip = r.ip, method = r.method, path = r.path, last_event_id = r.last_event_id,
    query = pairs_of(r.query), headers = pairs_of(r.headers),
  }
end

-- The fields of the first line of a captured log.
function M.first_line(log)
  return assert(logfmt.parse(assert(log:match("^[^\n]+"), "nothing was logged")))
end

-- What a subscription granted by `verdict` delivers for each event: a list of {data, event} or false.
function M.deliver(p, verdict, events)
  assert(verdict.kind == "allow", verdict.kind .. ": " .. tostring(verdict.reason))
  local binding = assert(p:bind(verdict.subscription))
  local out = {}
  for i, ev in ipairs(events) do
    out[i] = false
    if p:filter(binding, ev) then
      local result, data, name = p:format(binding, ev)
      if result == "deliver" then out[i] = { data = data, event = name } end
    end
  end
  p:unbind(binding)
  return out
end

return M
