-- nchan's paths: GET /sub/CHANNEL is a stream, POST /pub/CHANNEL publishes. ../DIALECTS.md says what is missing.
--
--   http   = { routes = {
--     { path = "/sub/{channel}", subscribe = true },
--     { path = "/pub/{channel}", publish = "raw", topic = "chan/{channel}", status = 202 } } },
--   policy = { file = "nchan.lua", settings = { publisher = secret(env "PUB_KEY") } },
---@type tg.Policy
local P = { api = 1, version = "nchan-1" }

local settings = tg.settings {
  publisher = "secret", -- who shows it as a bearer token may publish
  message_buffer = { "integer", default = 10, min = 1, max = 1000 }, -- nchan_message_buffer_length
  message_timeout = { "integer", default = 3600, min = 1 }, -- nchan_message_timeout, in seconds
}

function P.authenticate(req)
  return {
    publisher = req.bearer ~= nil and tg.equal(req.bearer, settings.publisher) or nil,
    type = req.headers["x-eventsource-event"],
  }
end

function P.subscribe(req)
  local channel = req.params.channel and tg.segment(req.params.channel)
  if not channel then
    return tg.deny(404, "a channel was expected: /sub/CHANNEL")
  end
  -- who comes for the first time gets the oldest of the buffer first (nchan_subscriber_first_message)
  local last = not req.last_event_id and settings.message_buffer or nil
  return {
    topics = { "chan/" .. channel },
    start = "earliest",
    replay = { last = last, max_age = settings.message_timeout },
  }
end

function P.publish(pub, who)
  if not who.publisher then
    return tg.deny(403, "the publisher's key was expected")
  elseif not pub.topic:find "^chan/[^/]+$" then
    return tg.deny(404, "a channel was expected: /pub/CHANNEL")
  end
  pub.type = who.type or pub.type
  return pub
end

return P
