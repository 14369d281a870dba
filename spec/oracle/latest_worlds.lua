-- The brokers and the stores of oracle/latest.lua: two brokers on PostgreSQL, or workers on SQLite, with what they keep
-- of all that ever was published.
--
--   w:history()     all events: { id, topic, data, created, expires, e }
--   w:rows(of)      what a table of the store has ("latest", "events")
--   w:members()     who is there, by the newest events of their topics, as one text
--   w:look()        or nil: to be called in every turn
--   w:settle()      or nil: what the store does later than now is to be done now
local eventually = require "support.eventually"
local sse = require "support.sse"
local worlds = require "oracle.worlds"

local M = {}

M.POLICY = [[
local P = { api = 1 }
function P.authenticate() return { sub = "x" } end
function P.subscribe(req)
  local q = req.query
  local topics = { "k/*", q.all and "m/*" or nil }
  if q.one then topics = { "k/" .. q.one, "k/end" } end
  if q.members then topics = { "m/*", "k/end" } end
  if q.noise then topics[2] = "noise" end
  return { topics = topics, filter = q.filter or "none", format = "told", start = "latest",
    presence = q.as and { topic = "m", member = q.as, data = { is = q.as } },
    limits = { max_lag = q.lag and 30, on_lag = q.lag and "latest", events_per_s = tonumber(q.lag),
      every_s = tonumber(q.every) } }
end
P.filters = {
  odd = function(ev)
    local n = tonumber(ev.topic:match "^k/(%d+)$")
    return not n or n % 2 == 1
  end,
}
P.formats = { told = function(ev) return ev.topic .. " " .. ev.raw end }
function P.publish(pub) return pub end
return P
]]

M.PRESENCE = { grace_s = 1, lease_s = 6 }

local function config(retain)
  return {
    store = { latest = { "k/*", "m/*" }, retain_events = retain }, presence = M.PRESENCE,
    event_log = { max_events = 256, page_events = 16 }, -- streams that are behind read pages
    sse = { retry_ms = 100, heartbeat_s = 1 }, policy = { resubscribe_per_s = 50, resubscribe_timeout_s = 30 },
    limits = { send_buffer_bytes = 16384 },
  }
end

-- What retention removes is kept in a table of its own, whatever the version of the schema.
function M.keep_everything(db)
  db:sql [[
    CREATE TABLE everything (seq bigint, topic text, data text, created float8, expires float8, e text);
    CREATE FUNCTION keep_everything() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
      BEGIN
        INSERT INTO public.everything VALUES (new.seq, new.topic, new.data, extract(epoch FROM clock_timestamp()),
          extract(epoch FROM (to_jsonb(new) ->> 'expires')::timestamptz), new.attrs ->> 'e');
        RETURN NULL;
      END $$;
    CREATE TRIGGER everything AFTER INSERT ON tidegate.events FOR EACH ROW EXECUTE FUNCTION keep_everything()]]
  return db
end

-- server, brokers, retain (events); db: one that does keep_everything() already
function M.pg(options)
  local w = worlds.pg { server = options.server, db = options.db or M.keep_everything(options.server:database()),
    brokers = options.brokers, policy = M.POLICY, config = config(options.retain) }
  w.retain = options.retain
  function w:history()
    self:events() -- all are there
    local list = {}
    for id, topic, data, created, expires, e in self.db:sql "SELECT * FROM everything ORDER BY seq"
      :gmatch "(%d+)|([^|\n]*)|([^|\n]*)|([^|\n]*)|([^|\n]*)|([^\n]*)" do
      list[#list + 1] = { id = tonumber(id), topic = topic, data = data, created = tonumber(created),
        expires = tonumber(expires), e = e == "1" }
    end
    return list
  end
  function w:rows(of)
    return self:events("tidegate." .. of)
  end
  function w:members()
    return self.db:sql [[SELECT topic || ' ' FROM everything WHERE topic LIKE 'm/%' GROUP BY topic
      HAVING (array_agg(data ORDER BY seq DESC))[1] <> '' ORDER BY topic]]:gsub("\n", "")
  end
  return w
end

-- What the store had: acknowledged or written by ourselves, and seen in the file.
local function sqlite_history(self)
  self:look()
  local list, by_id = {}, {}
  for _, from in ipairs { self.committed, self.looked } do
    for _, ev in ipairs(from) do
      if not by_id[ev.id] then
        by_id[ev.id] = { id = ev.id, topic = ev.topic, data = ev.data }
        list[#list + 1] = by_id[ev.id]
      end
      local known = by_id[ev.id]
      assert(known.topic == ev.topic and known.data == ev.data, "an id of two events")
      known.created, known.expires = ev.created, known.expires or ev.expires
      known.e = known.e or ev.e or ev.attrs and ev.attrs.e == "1"
    end
  end
  table.sort(list, function(a, b) return a.id < b.id end)
  return list
end

-- workers, retain (events)
function M.sqlite(options)
  local w = worlds.sqlite { workers = options.workers, policy = M.POLICY, config = config(options.retain) }
  w.retain, w.looked, w.history = options.retain, {}, sqlite_history
  -- Before retention removes them. A trigger would have the broker take another way.
  function w:look()
    local last = #self.looked > 0 and self.looked[#self.looked].id or 0
    local rows = self:file()("SELECT seq, topic, data, created, ifnull(expires, 0), ifnull(attrs, '') FROM events "
      .. ("WHERE seq > %d ORDER BY seq"):format(last))
    for _, row in ipairs(rows or {}) do
      self.looked[#self.looked + 1] = { id = row[1], topic = row[2], data = row[3], created = row[4] / 1e3,
        expires = row[5] > 0 and row[5] / 1e3 or nil, e = row[6]:find '"e"' ~= nil }
    end
  end
  function w:members()
    self:look()
    local there, list = {}, {}
    for _, ev in ipairs(self.looked) do
      if ev.topic:find "^m/" then
        there[ev.topic] = ev.data ~= ""
      end
    end
    for topic, is in pairs(there) do
      list[#list + 1] = is and topic .. " " or ""
    end
    table.sort(list)
    return table.concat(list)
  end
  -- Newest events are put there now and then; who begins with them has them put there.
  function w:settle()
    eventually("all newest events are kept", function()
      sse.open(self.brokers[1]):close()
      local state = self:file() "SELECT done >= (SELECT max(seq) FROM events) FROM latest_state"
      return state and state[1] and state[1][1] == 1
    end, 60)
  end
  return w
end

return M
