-- The promise of `start = "latest"`, told from the outside: once a stream is live, what its client holds of each topic
-- is what the store holds at that position; between the snapshot and what comes after it nothing is lost, doubled or
-- put in another order, whatever happens to brokers, sessions, clients and policies.
--
-- Each client writes down what it is sent, over all of its connections. When all is over, that is held against
-- everything that was ever published, and the store's own table of newest events as well.
--
--   latest.judge(assert, { world = latest.sqlite { workers = 2, retain = 300 }, streams = 60, topics = 50,
--     per_s = 200 }, seconds, { "kill", "reload", "cut", "anew", "away" })
--
-- TIDEGATE_LATEST_SECONDS, TIDEGATE_LATEST_STREAMS, TIDEGATE_LATEST_TOPICS, TIDEGATE_LATEST_PER_S: more of it;
-- TIDEGATE_SPEC_SEED: the same again.
local eventually = require "support.eventually"
local http = require "support.http"
local worlds = require "oracle.worlds"

local M = {}
local random = math.random

local POLICY = [[
local P = { api = 1 }
function P.authenticate() return { sub = "x" } end
function P.subscribe(req)
  local q = req.query
  local topics = { "k/*" }
  if q.one then topics = { "k/" .. q.one, "k/end" } end
  if q.noise then topics[2] = "noise" end
  return { topics = topics, filter = q.filter or "none", format = "told", start = "latest",
    limits = q.lag and { max_lag = 30, on_lag = "latest", events_per_s = 40 }
      or q.every and { every_s = tonumber(q.every) } or nil }
end
P.filters = {
  odd = function(ev)
    local n = tonumber(ev.topic:match "%d+$")
    return not n or n % 2 == 1
  end,
}
P.formats = { told = function(ev) return ev.topic .. " " .. ev.raw end }
function P.publish(pub) return pub end
return P
]]

local function config(retain)
  return {
    store = { latest = { "k/*" }, retain_events = retain },
    event_log = { max_events = 256, page_events = 16 }, -- streams that are behind read pages
    sse = { retry_ms = 100, heartbeat_s = 1 }, policy = { resubscribe_per_s = 50, resubscribe_timeout_s = 30 },
    limits = { send_buffer_bytes = 16384 },
  }
end

-- What retention removes is kept in a table of its own.
function M.keep_everything(db)
  db:sql [[
    CREATE TABLE everything (seq bigint, topic text, data text);
    CREATE FUNCTION keep_everything() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
      'BEGIN INSERT INTO public.everything VALUES (new.seq, new.topic, new.data); RETURN NULL; END';
    CREATE TRIGGER everything AFTER INSERT ON tidegate.events FOR EACH ROW EXECUTE FUNCTION keep_everything()]]
  return db
end

-- server, brokers, retain (events); db: one that does keep_everything() already
function M.pg(options)
  local w = worlds.pg { server = options.server, db = options.db or M.keep_everything(options.server:database()),
    brokers = options.brokers, policy = POLICY, config = config(options.retain) }
  w.retain = options.retain
  function w:history()
    return self:events "everything"
  end
  function w:latest()
    return self:events "tidegate.latest"
  end
  return w
end

-- workers, retain (events)
function M.sqlite(options)
  local w = worlds.sqlite { workers = options.workers, policy = POLICY, config = config(options.retain) }
  w.retain = options.retain
  function w:history()
    return self:events()
  end
  function w:latest()
    return self:rows "latest"
  end
  return w
end

----------------------------------------------------------------- clients
-- What they ask for; and of which topics: `matches(n)`, nil is k/end, and `noise`. `conflates`: live, too, they are
-- sent but the newest event of each topic.
local KINDS = {
  { query = {}, matches = function() return true end },
  { query = { filter = "odd" }, matches = function(n) return not n or n % 2 == 1 end },
  { query = { one = "7" }, matches = function(n) return not n or n == 7 end },
  { query = { noise = "1" }, matches = function() return true end, noise = true },
  { query = { lag = "1" }, matches = function() return true end },
  { query = { every = "0.3" }, matches = function() return true end, conflates = true },
}

-- Takes the history from its beginning, and whatever comes.
local FOLLOWS = { query = {}, matches = function() return true end, noise = false, begins = "0" }

local function sees(kind, topic)
  if topic == "noise" then
    return kind.noise or false
  end
  return kind.matches(tonumber(topic:match "%d+$"))
end

-- What it is sent is noted as numbers (ids of events) and { what, id, ... }.
local function take(s, ev)
  local id = tonumber(ev.id)
  s.run.taken = s.run.taken + 1
  if ev.type == "message" then
    s.got[#s.got + 1] = id
    local before = s.run.seen[id]
    if before and before ~= ev.data then
      s.run.wrong[#s.run.wrong + 1] = ("event %d is %q and %q"):format(id, before, ev.data)
    end
    s.run.seen[id] = ev.data
    s.ended = s.ended or ev.data == "k/end end"
  elseif ev.type == "gap" then
    local reason = http.json.decode(ev.data).reason
    s.got[#s.got + 1] = { "gap", id, reason }
    s.run.compacted = s.run.compacted + (reason == "compacted" and 1 or 0)
    if s.exact then -- it has to know what is gone
      s.anew = true
    end
  else
    s.got[#s.got + 1] = { ev.type, id }
    s.run.lives = s.run.lives + (ev.type == "live" and 1 or 0)
  end
end

-- It is about to connect: with which position?
local function connecting(s)
  if s.anew then
    s.anew, s.last_id, s.ended = false, s.kind.begins, false
  end
  s.got[#s.got + 1] = { "connect", tonumber(s.last_id) }
end

----------------------------------------------------------------- what happens
local FAULTS = {
  kill = function(run)
    worlds.kill(run.world, run.starting)
  end,
  reload = function(run)
    run.reloads = run.reloads + 1
    for _, broker in ipairs(run.world.brokers) do
      if not run.starting[broker] then
        broker:reload(POLICY .. ("-- %d"):format(run.reloads))
      end
    end
  end,
}

local function some(run, fn)
  for _ = 1, math.ceil(#run.streams / 4) do
    fn(run.streams[random(#run.streams)])
  end
end

-- Clients that lose their connections and resume; that know nothing any more; that stay away for a while.
function FAULTS.cut(run)
  some(run, function(s) s:drop() end)
end

function FAULTS.anew(run)
  some(run, function(s)
    s.anew = true
    s:drop()
  end)
end

function FAULTS.away(run)
  some(run, function(s)
    s:drop()
    s.again_at = eventually.now() + 1.5
  end)
end

----------------------------------------------------------------- a run
local run = {}
run.__index = run

-- world, streams, topics, per_s (events); followers: how many others there are that take all history, from
-- `world.old`, as long as those brokers are there, or from any
function M.new(options)
  local r = setmetatable({ world = options.world, topics = options.topics, per_s = options.per_s, streams = {},
    starting = {}, seen = {}, wrong = {}, n = 0, reloads = 0, compacted = 0, lives = 0, opened = 0, denied = 0,
    taken = 0, begin = options.streams }, run)
  for i = 1, options.streams do
    local kind = KINDS[i % #KINDS + 1]
    r.streams[i] = worlds.stream(r, { kind = kind, query = kind.query, got = {}, slow = i % 7 == 3, exact = i % 2 == 0,
      take = take, connecting = connecting })
  end
  for i = 1, options.followers or 0 do
    r.streams[#r.streams + 1] = worlds.stream(r, { kind = FOLLOWS, query = FOLLOWS.query, last_id = FOLLOWS.begins,
      got = {}, slow = i % 7 == 3, take = take, connecting = connecting, brokers = i % 2 == 1 and r.world.old or nil })
  end
  return r
end

function run:load(count)
  local events = {}
  for i = 1, count do
    self.n = self.n + 1
    events[i] = random() < 0.05 and { "noise", tostring(self.n) }
      or { "k/" .. random(self.topics), random() < 0.15 and "" or self.n .. ("."):rep(random(0, 60)) }
  end
  if self.world.post and random() < 0.2 then
    self.world:post(events)
  else
    self.world:publish(events)
  end
end

function run:turn()
  worlds.look(self.starting)
  for _, s in ipairs(self.streams) do
    s:step()
    if s.anew then
      s:drop()
    end
  end
  eventually.turn()
end

-- faults: names, each once, evenly spread over the time.
function run:go(seconds, faults)
  local from = eventually.now()
  local loaded, done = 0, 0
  repeat
    local passed = eventually.now() - from
    local due = math.floor(passed * self.per_s) - loaded
    if due >= self.per_s / 50 then
      self:load(math.min(due, 200)) -- a machine that is slow is not given ever more
      loaded = loaded + due
    end
    if done < #faults and passed > (done + 0.5) * seconds / #faults then
      done = done + 1
      local fault = FAULTS[faults[done]] or self.world.FAULTS[faults[done]]
      fault(FAULTS[faults[done]] and self or self.world)
    end
    self:turn()
    local enough = self.n > 300 and self.lives >= self.begin and (self.compacted > 0 or not self.world.retain)
  until passed > seconds and done == #faults and (enough or passed > 60)
end

-- Every client has the last event.
function run:finish()
  self.finishing = true
  if self.world.finish then -- others who publish
    self.world:finish()
  end
  self.world:publish { { "k/end", "end" } }
  local function behind()
    for i, s in ipairs(self.streams) do
      if not s.ended or s.anew then
        return ("client %d: status %s, last id %s%s"):format(i, tostring(s.status), tostring(s.last_id),
          s.client and "" or ", not connected")
      end
    end
  end
  local taken, deadline, last = -1, nil, eventually.deadline(400)
  while behind() do
    if self.taken > taken then -- a machine that is slow may take its time
      taken, deadline = self.taken, eventually.deadline(60)
    end
    assert(eventually.now() < math.min(deadline, last),
      "nothing comes, and not all have the last event: " .. tostring(behind()))
    self:turn()
  end
  self.events = self.world:history()
  self.kept = self.world:latest()
end

----------------------------------------------------------------- the verdict
-- How many of the rising list are at most `id`.
local function upto(list, id)
  local lo, hi = 0, #list
  while lo < hi do
    local mid = (lo + hi + 1) // 2
    if list[mid] <= id then
      lo = mid
    else
      hi = mid - 1
    end
  end
  return lo
end

-- One client's notes against the log. `log`: { by_id, ids_of (topic -> ids), matching (ids that its kind sees) }.
local function judge_client(s, log, object)
  local held, at, next_at, snapshot, stale_from = {}, 0, nil, true, nil
  -- Is what it holds what there was at `head`? `exactly`: nothing newer may excuse it.
  local function compare(head, exactly)
    for topic, ids in pairs(log.ids_of) do
      local n = upto(ids, head)
      local id = n > 0 and log.by_id[ids[n]].data ~= "" and ids[n] or nil
      if topic ~= "noise" and sees(s.kind, topic) and held[topic] ~= id then
        local gone = n > 0 and not id
        if gone and stale_from and ids[n] > stale_from then
          held[topic] = nil -- it was compacted: of topics that are gone it is told nothing
        elseif exactly or not ids[n + 1] then
          object("at %d it holds %s of %s, newest is %s", head, tostring(held[topic]), topic, tostring(id))
        end
      end
    end
  end
  local function take_event(id)
    local ev = log.by_id[id]
    if not ev or not sees(s.kind, ev.topic) then
      return object("event %d %s", id, ev and "is none of its own" or "was never published")
    end
    if id <= at then
      return object("event %d came behind %d", id, at)
    end
    if snapshot then
      if ev.topic == "noise" or ev.data == "" then
        object("event %d of %s is in a snapshot", id, ev.topic)
      end
    elseif log.matching[next_at] ~= id and not s.kind.conflates then
      object("event %d where %s was next", id, tostring(log.matching[next_at]))
    end
    next_at = upto(log.matching, id) + 1
    at = id
    held[ev.topic] = ev.data ~= "" and id or nil
  end
  -- It is told to be at `id` without an event.
  local function move(why, id)
    if id < at or not snapshot and not s.kind.conflates and log.matching[next_at] and log.matching[next_at] <= id then
      object("%s at %d, where it was at %d and %s was next", why, id, at, tostring(log.matching[next_at]))
    end
    at = id
  end
  local marks = {
    connect = function(id)
      if id then
        snapshot, at, next_at = false, id, upto(log.matching, id) + 1
      else
        held, at, snapshot, stale_from = {}, 0, true, nil
      end
    end,
    position = function(id)
      move("position", id)
    end,
    live = function(id)
      if not snapshot or id < at then
        object("live at %d, where it was at %d%s", id, at, snapshot and "" or " and had no snapshot")
      end
      compare(id, false)
      snapshot, at, next_at = false, id, upto(log.matching, id) + 1
    end,
    gap = function(id, reason)
      move(reason, id)
      if reason ~= "compacted" then
        object("gap at %d: %s", id, reason)
      end
      snapshot, stale_from = true, math.min(stale_from or id, id)
    end,
  }
  for _, got in ipairs(s.got) do
    if type(got) == "number" then
      take_event(got)
    else
      marks[got[1]](got[2], got[3])
    end
  end
  if snapshot then
    object("it is not live")
  end
  compare(math.maxinteger, true)
end

-- What is wrong, in words, and figures.
function run:check()
  local wrong, figures = self.wrong, { events = #self.events, delivered = 0, lives = self.lives,
    compacted = self.compacted, opened = self.opened, reloads = self.reloads }
  local log = { by_id = {}, ids_of = {} }
  for _, ev in ipairs(self.events) do
    log.by_id[ev.id] = ev
    log.ids_of[ev.topic] = log.ids_of[ev.topic] or {}
    table.insert(log.ids_of[ev.topic], ev.id)
  end
  for id, data in pairs(self.seen) do
    local ev = log.by_id[id]
    if ev and ev.topic .. " " .. ev.data ~= data then
      wrong[#wrong + 1] = ("event %d is %q, clients got %q"):format(id, ev.topic .. " " .. ev.data, data)
    end
  end
  local kept = {}
  for _, ev in ipairs(self.kept) do
    kept[ev.topic] = ev.id
  end
  for topic, ids in pairs(log.ids_of) do
    local id = ids[#ids]
    if topic ~= "noise" and kept[topic] ~= (log.by_id[id].data ~= "" and id or nil) then
      wrong[#wrong + 1] = ("the store keeps %s of %s, newest is %d"):format(tostring(kept[topic]), topic, id)
    end
  end
  local matching = {}
  for _, kind in ipairs { FOLLOWS, table.unpack(KINDS) } do
    matching[kind] = {}
    for _, ev in ipairs(self.events) do
      if sees(kind, ev.topic) then
        table.insert(matching[kind], ev.id)
      end
    end
  end
  for i, s in ipairs(self.streams) do
    log.matching = matching[s.kind]
    for _, got in ipairs(s.got) do
      figures.delivered = figures.delivered + (type(got) == "number" and 1 or 0)
    end
    judge_client(s, log, function(...)
      wrong[#wrong + 1] = ("client %d: "):format(i) .. (...):format(select(2, ...))
    end)
  end
  return wrong, figures
end

-- Goes, and is judged; faults are repeated where the environment says that it takes longer. Its figures.
function M.judge(assert, options, seconds, faults)
  local function asked(name)
    return tonumber(os.getenv("TIDEGATE_LATEST_" .. name))
  end
  local seed, long = tonumber(os.getenv "TIDEGATE_SPEC_SEED") or os.time(), asked "SECONDS"
  math.randomseed(seed)
  options.streams = asked "STREAMS" or options.streams
  options.topics = asked "TOPICS" or options.topics
  options.per_s = asked "PER_S" or options.per_s
  local all = { table.unpack(faults) }
  while long and #all < long / 4 do
    all[#all + 1] = faults[random(#faults)]
  end
  local r = M.new(options)
  local ok, wrong, figures = pcall(function()
    r:go(long or seconds, all)
    r:finish()
    return r:check()
  end)
  for _, s in ipairs(r.streams) do
    s:drop()
  end
  r.world:close()
  if not ok then
    error(wrong, 0)
  end
  local text = ("seed %d, %d streams, %d topics"):format(seed, options.streams, options.topics)
  for _, name in ipairs { "events", "delivered", "opened", "lives", "compacted", "reloads" } do
    text = ("%s, %d %s"):format(text, figures[name], name)
  end
  if long then
    print(text)
  end
  assert.same({}, { table.unpack(wrong, 1, 10) }, ("%s: %d wrong"):format(text, #wrong))
  -- it has looked at something
  assert.is_true(figures.delivered > 10 * options.streams and (figures.compacted > 0 or not options.world.retain), text)
  return figures
end

return M
