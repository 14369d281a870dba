-- The promise of `start = "latest"`, told from the outside: once a stream is live, what its client holds of each topic
-- is what the store holds at that position; between the snapshot and what comes after it nothing is lost, doubled or
-- put in another order, whatever happens to brokers, sessions, clients and policies.
--
-- Each client writes down what it is sent, over all of its connections. When all is over, that is held against
-- everything that was ever published, and the store's own table of newest events as well (oracle/latest_checker.lua).
--
--   latest.judge(assert, { world = latest.sqlite { workers = 2, retain = 300 }, streams = 60, topics = 50,
--     per_s = 200, mixed = true }, seconds, { "kill", "reload", "cut", "anew", "away", "erase" })
--
-- `mixed`: some events expire, some are erased, on SQLite some come by SQL, and some clients are members of a presence.
--
-- TIDEGATE_LATEST_SECONDS, TIDEGATE_LATEST_STREAMS, TIDEGATE_LATEST_TOPICS, TIDEGATE_LATEST_PER_S: more of it;
-- TIDEGATE_SPEC_SEED: the same again.
local checker = require "oracle.latest_checker"
local eventually = require "support.eventually"
local http = require "support.http"
local latest_worlds = require "oracle.latest_worlds"
local presence_checker = require "oracle.presence_checker"
local worlds = require "oracle.worlds"

local M = { pg = latest_worlds.pg, sqlite = latest_worlds.sqlite, keep_everything = latest_worlds.keep_everything }
local random, clock = math.random, worlds.clock

----------------------------------------------------------------- clients
-- What they ask for, and which topics they see. `conflates`: live, too, they are sent but the newest event of each
-- topic of so many seconds.
local function keys(matches, more)
  return function(topic)
    local key = topic:match "^k/(.*)$"
    if key then
      return matches(tonumber(key)) or key == "end"
    end
    return more ~= nil and topic:find(more) ~= nil
  end
end

local function any() return true end
local function seven(n) return n == 7 end

local KINDS = {
  { query = { all = "1" }, sees = keys(any, "^m/") },
  { query = { filter = "odd" }, sees = keys(function(n) return n and n % 2 == 1 end) },
  { query = { one = "7" }, sees = keys(seven) },
  { query = { noise = "1" }, sees = keys(any, "^noise$") },
  { query = { lag = "40" }, sees = keys(any) },
  { query = { every = "0.3" }, sees = keys(any), conflates = 0.3 },
  { query = { members = "1" }, sees = keys(function() return false end, "^m/") },
  { query = { every = "0.5", lag = "40" }, sees = keys(any), conflates = 0.5 },
  { query = { every = "0.5", one = "7" }, sees = keys(seven), conflates = 0.5 },
}

-- Takes the history from its beginning, and whatever comes.
local FOLLOWS = { query = {}, sees = keys(any), begins = "0" }

-- What it is sent is noted as the checker wants it.
local function take(s, ev)
  local id = tonumber(ev.id)
  s.run.taken = s.run.taken + 1
  if s.stay and not s.stay.ok then
    s.stay.ok = clock()
  end
  if ev.type == "message" then
    s.got[#s.got + 1] = id
    local before = s.run.seen[id]
    if before and before ~= ev.data then
      s.run.wrong[#s.run.wrong + 1] = ("data: event %d is %q and %q"):format(id, before, ev.data)
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

local function reading(s, empty)
  s.got[#s.got + 1] = { "read", clock(), empty }
end

-- It is about to connect: with which position?
local function connecting(s)
  if s.anew then
    s.anew, s.last_id, s.ended = false, s.kind.begins, false
  end
  s.got[#s.got + 1] = { "connect", tonumber(s.last_id), clock() }
  if s.query.as then
    s.stay = { from = clock() }
    table.insert(s.run.members[s.query.as], s.stay)
  end
end

local function dropped(s)
  if s.stay then
    s.stay.open, s.stay.till, s.stay = s.empty or s.stay.from, clock(), nil
  end
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
        broker:reload(latest_worlds.POLICY .. ("-- %d"):format(run.reloads))
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

-- An order, which is given until it is carried out: a topic, or what is marked.
function FAULTS.erase(run)
  if run.order then
    return
  end
  local topic = random() < 0.3 and "k/" .. random(run.topics)
  run.order = { from = clock(), body = topic and { topic = topic } or { topic = "k/*", where = "attrs.e == '1'" },
    matches = function(ev)
      return ev.topic == topic or not topic and ev.e and ev.topic:find "^k/" ~= nil
    end }
  table.insert(run.erasures, run.order)
end

local function give_order(run)
  local order = run.order
  local ok, r, why = pcall(function()
    if not run.order_conn then
      local body = http.json.encode(order.body)
      run.order_conn = assert(http.connect(run.world.brokers[random(#run.world.brokers)].admin))
      assert(run.order_conn:send(http.render("POST", "/erase", { ["Content-Type"] = "application/json" }, body)))
    end
    return run.order_conn:response { timeout = 0 }
  end)
  if ok and r and r.status == 200 then
    order.till, order.upto, run.order = clock(), tonumber(r.json.upto), nil
  elseif ok and not r and why == "timeout" then
    return
  end
  if run.order_conn then
    run.order_conn:close()
    run.order_conn = nil
  end
end

----------------------------------------------------------------- a run
local run = {}
run.__index = run

-- world, streams, topics, per_s (events), mixed, pace (events a second that those get who are to lag: 40); followers:
-- how many others there are that take all history, from `world.old`, as long as those brokers are there, or from any
function M.new(options)
  local r = setmetatable({ world = options.world, topics = options.topics, per_s = options.per_s, streams = {},
    mixed = options.mixed, members = {}, erasures = {}, inserted = 0,
    starting = {}, seen = {}, wrong = {}, n = 0, reloads = 0, compacted = 0, lives = 0, opened = 0, denied = 0,
    taken = 0, begin = options.streams }, run)
  local function add(s)
    s.query, s.got, s.take, s.connecting, s.reading, s.dropped = {}, {}, take, connecting, reading, dropped
    for name, value in pairs(s.kind.query) do
      s.query[name] = value
    end
    r.streams[#r.streams + 1] = worlds.stream(r, s)
    return s
  end
  for i = 1, options.streams do
    local s = add { kind = KINDS[i % #KINDS + 1], slow = i % 7 == 3, unread = i % 7 == 3,
      exact = i % 2 == 0 }
    s.query.lag = s.query.lag and options.pace or s.query.lag
    if r.mixed and i % 4 == 1 and not s.slow then
      s.query.as = "p" .. i // 8
      r.members[s.query.as] = r.members[s.query.as] or {}
    end
  end
  for i = 1, options.followers or 0 do
    add { kind = FOLLOWS, last_id = FOLLOWS.begins, slow = i % 7 == 3, unread = i % 7 == 3,
      brokers = i % 2 == 1 and r.world.old or nil }
  end
  return r
end

local function mix(ev)
  local chance = random()
  if ev[2] ~= "" and chance < 0.16 then
    local ttl = chance < 0.12 and random() * 3 or chance < 0.15 and 600 or -10
    ev.expires = math.floor((clock() + ttl) * 1000) / 1000
  end
  ev.attrs = random() < 0.12 and { e = "1" } or nil
  return ev
end

function run:load(count)
  local events = {}
  for i = 1, count do
    self.n = self.n + 1
    events[i] = random() < 0.05 and { "noise", tostring(self.n) }
      or { "k/" .. random(self.topics), random() < 0.15 and "" or self.n .. ("."):rep(random(0, 60)) }
    if self.mixed then
      mix(events[i])
    end
  end
  local chance = random()
  if self.mixed and self.world.insert and chance < 0.3 and self.world:insert(events) then
    self.inserted = self.inserted + count
  elseif self.world.post and chance < 0.2 then
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
  if self.world.look then
    self.world:look()
  end
  if self.order then
    give_order(self)
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

-- Orders are carried out, and every second member leaves.
function run:settle()
  while self.order or next(self.starting) do
    self:turn()
  end
  local there = {}
  for i, s in ipairs(self.streams) do
    if s.query.as and i // 8 % 2 == 0 then
      s.query.as = nil
      s:drop()
    elseif s.query.as then
      there["m/" .. s.query.as .. " "] = true
    end
  end
  local names = {}
  for name in pairs(there) do
    names[#names + 1] = name
  end
  table.sort(names)
  local P, settled, look_at = latest_worlds.PRESENCE, false, 0
  local last = eventually.now() + P.grace_s + 2 * P.lease_s + 2 * presence_checker.SLACK_S
  repeat -- the checker says what is wrong where it takes too long
    self:turn()
    if eventually.now() > look_at then
      settled, look_at = self.world:members() == table.concat(names), eventually.now() + 0.2
    end
  until settled or eventually.now() > last
end

-- Every client has the last event.
function run:finish()
  self.finishing = true
  if self.world.finish then -- others who publish
    self.world:finish()
  end
  if self.mixed then
    self:settle()
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
end

-- What is wrong, in words, and figures.
function run:check()
  if self.world.settle then
    self.world:settle()
  end
  local left = {}
  for _, s in ipairs(self.streams) do
    if s.stay then
      s.stay.open = s.empty or s.stay.from
    end
  end
  for _, ev in ipairs(self.world:rows "events") do
    left[ev.id] = true
  end
  local events, upto = self.world:history(), nil
  for _, ev in ipairs(events) do
    upto = ev.topic == "k/end" and ev.id or upto
  end
  local wrong, figures = checker.check { events = events, upto = upto, kept = self.world:rows "latest", left = left,
    seen = self.seen, clients = self.streams, erasures = self.erasures, members = self.mixed and self.members,
    presence = latest_worlds.PRESENCE, at_end = clock() }
  table.move(self.wrong, 1, #self.wrong, #wrong + 1, wrong)
  for _, name in ipairs { "lives", "compacted", "opened", "reloads", "inserted" } do
    figures[name] = self[name]
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
  for _, name in ipairs { "events", "delivered", "opened", "lives", "compacted", "reloads", "expiring", "erased",
    "inserted", "joined", "left" } do
    text = ("%s, %d %s"):format(text, figures[name], name)
  end
  if long then
    print(text)
  end
  assert.same({}, { table.unpack(wrong, 1, 10) }, ("%s: %d wrong"):format(text, #wrong))
  -- it has looked at something
  for _, name in ipairs(options.mixed and { "expiring", "erased", "joined", "left" } or {}) do
    assert.is_true(figures[name] > 0, text)
  end
  assert.is_true(figures.delivered > 10 * options.streams and (figures.compacted > 0 or not options.world.retain), text)
  return figures
end

return M
