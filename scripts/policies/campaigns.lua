-- Campaigns that begin and end at the second: streams move in and out of them by themselves, and clients do not notice.
-- The database says when; offers of a campaign are published to campaign/NAME, by the shop's backend only.
--
--   policy   = { file = "campaigns.lua", settings = { backend = secret(env "BACKEND_SECRET") } },
--   database = { driver = "postgres", conninfo = "..." },
--
--   CREATE TABLE campaign (name TEXT, begins BIGINT, ends BIGINT);    -- Unix seconds
--
-- When that table has changed, publish to campaigns/changed, in the same transaction by an INSERT into the outbox.

local settings = tg.settings { backend = "secret" }

---@type tg.Policy
local P = { api = 1, version = "campaigns-1" }

P.queries = {
  coming = "select name, begins, ends from campaign where ends > $1 order by begins, name limit 50",
}

function P.authenticate(req)
  if req.bearer and not tg.equal(req.bearer, settings.backend) then
    return tg.deny(401, "the token is not that of the backend")
  end
  return { backend = req.bearer ~= nil }
end

-- One look-up for all: those to come are in it, so its age matters little.
local function coming()
  return cache.fetch("campaigns", { ttl = 60, stale = 600 }, function()
    return db.query("coming", os.time())
  end)
end

function P.subscribe()
  local rows, err = coming()
  if not rows then
    return nil, err -- the database is away: the client reconnects later
  end
  local now = os.time()
  local topics, change = { "shop/news" }, now + 3600
  for _, campaign in ipairs(rows) do
    if campaign.begins <= now and now < campaign.ends then
      topics[#topics + 1] = tg.topic("campaign", campaign.name)
    end
    for _, at in ipairs { campaign.begins, campaign.ends } do
      change = at > now and math.min(at, change) or change
    end
  end
  -- then it is asked again: streams go on with what is running by then
  return { topics = topics, expires = change, tags = { "campaigns" } }
end

-- An offer ends with its campaign, whoever is behind by then; one that comes late is refused.
function P.publish(pub, who)
  local name = pub.topic:match "^campaign/(.*)$"
  if not who.backend then
    return tg.deny(403, "only the backend publishes")
  elseif not name then
    return pub
  end
  local rows, err = coming()
  if not rows then
    return nil, err
  end
  local now = os.time()
  for _, campaign in ipairs(rows) do
    if campaign.name == name and campaign.begins <= now and now < campaign.ends then
      pub.expires = math.min(pub.expires or campaign.ends, campaign.ends)
      return pub
    end
  end
  return tg.deny(409, "that campaign is not running")
end

P.observe = {
  { topics = { "campaigns/changed" }, run = function()
    cache.forget "campaigns" -- before it is asked again
    tg.ask_again "campaigns"
  end },
}

return P
