-- Scoreboards: a viewer first gets the current state of the matches asked for (?match=1,7, or all), then each change.
-- Whoever inserts a row into the store or publishes to score/MATCH says what the score is now; empty data removes it.
--
--   store  = { latest = { "score/*" } }, -- the newest event of each match outlives retention
--   policy = { file = "scoreboard.lua", settings = { publisher = secret(env "SCORE_KEY") } },
---@type tg.Policy
local P = { api = 1, version = "scoreboard-1" }

local settings = tg.settings { publisher = "secret" }

function P.authenticate(req)
  return { publisher = req.bearer ~= nil and tg.equal(req.bearer, settings.publisher) or nil }
end

function P.subscribe(req)
  local topics = {}
  for match in (req.query.match or ""):gmatch "[^,]+" do
    if not match:find "^%w+$" or #topics == 50 then
      return tg.deny(400, "match: at most 50 names of letters and digits were expected, between commas")
    end
    topics[#topics + 1] = "score/" .. match
  end
  return {
    topics = #topics > 0 and topics or { "score/*" },
    start = "latest",
    limits = { max_lag = 100, on_lag = "latest" }, -- who is slow gets the newest score of each match, not all of them
  }
end

function P.publish(pub, who)
  if not who.publisher then
    return tg.deny(403, "only the publisher's key may say scores")
  elseif not pub.topic:find "^score/%w+$" then
    return tg.deny(400, "topic: score/MATCH was expected")
  end
  return pub
end

return P
