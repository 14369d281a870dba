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
  message_buffer = { "integer", default = 10, min = 0, max = 1000 }, -- nchan_message_buffer_length; 0: none
  message_timeout = { "integer", default = 3600, min = 0 }, -- nchan_message_timeout, in seconds; 0: none
  first_message = { "string", default = "oldest", one_of = { "oldest", "newest" } }, -- nchan_subscriber_first_message
}

function P.authenticate(req)
  local type = req.headers["x-eventsource-event"]
  if type and (#type > 255 or not utf8.len(type)) then
    return tg.deny(400, "X-EventSource-Event: at most 255 bytes of UTF-8 were expected")
  end
  return { publisher = req.bearer ~= nil and tg.equal(req.bearer, settings.publisher) or nil, type = type }
end

function P.subscribe(req)
  local channel = req.params.channel and tg.segment(req.params.channel)
  if not channel then
    return tg.deny(404, "a channel was expected: /sub/CHANNEL")
  end
  local subscription, first = { topics = { "chan/" .. channel } }, not req.last_event_id
  if settings.message_buffer == 0 then
    subscription.replay = false
  elseif not first or settings.first_message == "oldest" then -- who comes for the first time gets the buffer
    subscription.start = "earliest"
    subscription.replay = {
      last = first and settings.message_buffer or nil,
      max_age = settings.message_timeout > 0 and settings.message_timeout or nil,
    }
  end
  return subscription
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
