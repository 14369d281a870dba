-- Feature flags: all flags of a project on connect (`put`), then each change (`patch`, `delete`).
--
--   database = { driver = "postgres", conninfo = "..." }, -- the primary: a copy that lags says what was
--   policy   = { file = "flags.lua", settings = { publisher = secret(env "FLAGS_KEY") }, first_bytes = 1048576 },
--
--   CREATE TABLE sdk (key TEXT PRIMARY KEY, project TEXT);
--   CREATE TABLE flag (project TEXT, name TEXT, value TEXT); -- value: JSON
--
-- Whoever changes a row publishes to flags/PROJECT behind that: by tidegate.outbox in the same transaction, or
-- POST /events with the publisher's key. Types: `patch` with {"name":value}, `delete` with the name.

---@type tg.Policy
local P = { api = 1, version = "flags-1" }

local settings = tg.settings { publisher = "secret" }

P.queries = {
  project_of = "select project from sdk where key = $1",
  flags_of = "select name, value from flag where project = $1 order by name limit 5000",
}

function P.authenticate(req)
  local key = req.bearer or ""
  if tg.equal(key, settings.publisher) then
    return { publisher = true }
  end
  if #key == 0 or #key > 200 then
    return tg.deny(401, "the key of an SDK was expected")
  end
  local rows, err = cache.fetch("sdk:" .. key, { ttl = 60, neg_ttl = 5, stale = 600 }, function()
    return db.query("project_of", key)
  end)
  if not rows then
    return nil, err -- the database is away: SDKs come back
  elseif not rows[1] or not tg.topic_ok(rows[1].project) then
    return tg.deny(401, "no SDK has this key")
  end
  return { project = rows[1].project }
end

-- One text for all SDKs of a project, made anew when `observe` has seen a change.
local function flags_of(project)
  return cache.fetch("flags:" .. project, 3600, function()
    local rows, err = db.query("flags_of", project)
    local flags = {}
    for _, row in ipairs(rows or {}) do
      flags[row.name] = json.decode(row.value)
    end
    return rows and json.encode(flags), err
  end)
end

function P.subscribe(_, who)
  if not who.project then
    return tg.deny(403, "the publisher does not read")
  end
  local flags, err = flags_of(who.project)
  if not flags then
    return nil, err
  end
  return { topics = { tg.topic("flags", who.project) }, first = { { event = "put", data = flags } }, replay = false }
end

function P.publish(pub, who)
  local change = pub.type == "patch" or pub.type == "delete"
  if not who.publisher or not change or not pub.topic:find "^flags/[^/]+$" then
    return tg.deny(403, "only the publisher changes flags: patch or delete, to flags/PROJECT")
  end
  return pub
end

P.observe = {
  { topics = { "flags/*" }, run = function(ev) cache.forget("flags:" .. ev.topic:match "[^/]*$") end },
}

return P
