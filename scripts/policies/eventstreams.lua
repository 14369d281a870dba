-- The paths of Wikimedia's EventStreams: GET /v2/stream/a,b is a stream of both, from ?since= where that is given.
-- Anybody may read; one program publishes to stream/NAME. What is different from the original: ../DIALECTS.md.
--
--   http   = { routes = { { path = "/v2/stream/{streams}", subscribe = true } }, cors_origins = { "*" } },
--   policy = { file = "eventstreams.lua", settings = { publisher = secret(env "STREAMS_KEY") } },
---@type tg.Policy
local P = { api = 1, version = "eventstreams-1" }

local settings = tg.settings {
  publisher = "secret",
  streams = { "list", optional = true, min = 1 }, -- those that there are; none: any name is one
}

local there = settings.streams and {}
for _, name in ipairs(settings.streams or {}) do
  there[name] = true
end

local function is_stream(name)
  return name:find "^[%w._-]+$" and (not there or there[name])
end

function P.authenticate(req)
  return { publisher = req.bearer ~= nil and tg.equal(req.bearer, settings.publisher) or nil }
end

function P.subscribe(req)
  local topics, seen = {}, {}
  if not req.params.streams then
    return tg.deny(404, "names of streams were expected: /v2/stream/NAME,NAME")
  end
  for name in (req.params.streams .. ","):gmatch "([^,]*)," do
    if not is_stream(name) or #topics == 20 then
      return tg.deny(400, "at most 20 names of streams that there are were expected, between commas")
    elseif not seen[name] then
      seen[name], topics[#topics + 1] = true, "stream/" .. name
    end
  end
  return { topics = topics }
end

function P.publish(pub, who)
  local name = pub.topic:match "^stream/([^/]+)$"
  if not who.publisher or not name or not is_stream(name) then
    return tg.deny(403, "only the publisher's key may publish, to stream/NAME")
  end
  return pub
end

return P
