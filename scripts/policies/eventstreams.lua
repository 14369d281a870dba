-- The paths of Wikimedia's EventStreams: GET /v2/stream/a,b is a stream of both, from ?since= where that is given.
-- Anybody may read; one program publishes to stream/NAME. What is different from the original: ../DIALECTS.md.
--
--   http   = { routes = { { path = "/v2/stream/{streams}", subscribe = true } }, cors_origins = { "*" } },
--   policy = { file = "eventstreams.lua", settings = { publisher = secret(env "STREAMS_KEY") } },
---@type tg.Policy
local P = { api = 1, version = "eventstreams-1" }

local settings = tg.settings { publisher = "secret" }

function P.authenticate(req)
  return { publisher = req.bearer ~= nil and tg.equal(req.bearer, settings.publisher) or nil }
end

function P.subscribe(req)
  local topics, seen = {}, {}
  for name in (req.params.streams or ""):gmatch "[^,]+" do
    if not name:find "^[%w._-]+$" or #topics == 20 then
      return tg.deny(400, "at most 20 names of streams were expected, between commas")
    elseif not seen[name] then
      seen[name], topics[#topics + 1] = true, "stream/" .. name
    end
  end
  if #topics == 0 then
    return tg.deny(404, "names of streams were expected: /v2/stream/NAME,NAME")
  end
  return { topics = topics }
end

function P.publish(pub, who)
  if not who.publisher or not pub.topic:find "^stream/[%w._-]+$" then
    return tg.deny(403, "only the publisher's key may publish, to stream/NAME")
  end
  return pub
end

return P
