-- The promise of `observe`, told from the outside: nothing with a higher id than the event that says so is delivered
-- under the grant of before, and nothing that the grants cover is missed, whatever happens to brokers and databases.
--
-- Rights have versions. A change of a user's right makes the next one, and an event about it, in one transaction
-- where the store is PostgreSQL; on SQLite the change is committed before the event is published. The policy stamps
-- each event with the version under which it is delivered. So an event with id e, delivered under version v, is wrong
-- if the event about version v + 1 has a lower id.
--
--   revoke.judge(assert, { world = revoke.pg { server = server, brokers = 2 }, users = 12, streams = 60,
--     per_s = 200 }, seconds, { "kill", "reload", "sessions", "cut" })
--
-- TIDEGATE_REVOKE_SECONDS, TIDEGATE_REVOKE_STREAMS, TIDEGATE_REVOKE_PER_S: more of it; TIDEGATE_SPEC_SEED: the same
-- again.
local child = require "support.child"
local eventually = require "support.eventually"
local files = require "support.files"
local pg = require "support.pg"
local tidegate = require "support.tidegate"
local worlds = require "oracle.worlds"

local M = {}
local random = math.random

-- `tag` differs from one version of the policy to the next.
local function policy(tag)
  return ([[
local P = { api = 1 }
P.queries = { right_of = "select version, allowed from rights where login = $1" }
function P.authenticate(req)
  return { sub = req.query.who }
end
function P.subscribe(req, who)
  local right, err = cache.fetch("right:" .. who.sub, 60, function()
    local rows, why = db.query("right_of", who.sub)
    if not rows then return nil, why end
    sleep(math.random() * 0.15) -- what it knows gets old
    return rows[1]
  end)
  if not right then return nil, err end
  if right.allowed == 0 then return tg.deny(403, "no right") end
  return { topics = { "load/" .. who.sub, "load/all" }, format = "stamped", params = { version = right.version },
    tags = { "%s:" .. who.sub } }
end
P.formats = { stamped = function(ev, params) return params.version .. " " .. ev.raw end }
function P.publish(pub) return pub end
P.observe = { { topics = { "rights/*" }, run = function(ev)
  local user = ev.topic:match "^rights/(.*)$"
  cache.forget("right:" .. user)
  tg.ask_again("%s:" .. user)
end } }
return P
]]):format(tag, tag)
end

local CONFIG = {
  event_log = { max_events = 256, page_events = 32 }, -- streams that are behind read pages
  sse = { retry_ms = 100, heartbeat_s = 1 }, policy = { resubscribe_per_s = 50, resubscribe_timeout_s = 30 },
  limits = { send_buffer_bytes = 16384 },
}

local function config(database)
  local all = { database = database }
  for k, v in pairs(CONFIG) do
    all[k] = v
  end
  return all
end

----------------------------------------------------------------- PostgreSQL
-- server, brokers
function M.pg(options)
  local db = options.server:database()
  db:sql "CREATE TABLE rights (login text PRIMARY KEY, version int NOT NULL, allowed int NOT NULL)"
  db:sql(("GRANT SELECT ON rights TO %s; GRANT ALL ON rights TO %s"):format(pg.OWNER, pg.APP))
  local w = worlds.pg { server = options.server, db = db, brokers = options.brokers, policy = policy "user",
    config = config { driver = "postgres", conninfo = db:conninfo(), timeout_ms = 2000 } }
  function w.users(_, names)
    db:sql(("INSERT INTO rights SELECT unnest('{%s}'::text[]), 1, 1"):format(table.concat(names, ",")))
  end
  function w.change(_, user, version, allowed)
    w.session:send(("BEGIN; UPDATE rights SET version = %d, allowed = %d WHERE login = '%s'; "
      .. "INSERT INTO tidegate.outbox (topic, data) VALUES ('rights/%s', '%d'); COMMIT;"):format(version, allowed, user,
      user, version))
  end
  return w
end

----------------------------------------------------------------- SQLite
-- workers
function M.sqlite(options)
  local dir, marks = tidegate.directory(), 0
  local sqlite3 = child.start("/usr/bin/sqlite3", { dir .. "/app.db" }, { stdin = true })
  -- Done when it returns.
  local function sql(text)
    marks = marks + 1
    local mark = ("<<%d>>"):format(marks)
    sqlite3:write(("%s\nSELECT '%s';\n"):format(text, mark))
    eventually("sqlite3 has done it", function()
      return files.read(sqlite3.dir .. "/stdout"):find(mark, 1, true) or not sqlite3:running()
    end)
    assert(sqlite3:running(), sqlite3:errors())
  end
  sql "PRAGMA journal_mode = WAL; CREATE TABLE rights (login text PRIMARY KEY, version int, allowed int);"
  local w = worlds.sqlite { workers = options.workers, policy = policy "user",
    config = config { driver = "sqlite", path = dir .. "/app.db" } }
  local close = w.close
  function w.users(_, names)
    sql(("INSERT INTO rights VALUES ('%s', 1, 1);"):format(table.concat(names, "', 1, 1), ('")))
  end
  function w.change(_, user, version, allowed)
    sql(("UPDATE rights SET version = %d, allowed = %d WHERE login = '%s';"):format(version, allowed, user))
    w:publish { { "rights/" .. user, tostring(version) } }
  end
  function w.close()
    close(w)
    sqlite3:stop()
    require("support.tree").remove(dir)
  end
  return w
end

----------------------------------------------------------------- what happens to all
local FAULTS = {
  kill = function(run)
    worlds.kill(run.world, run.starting)
  end,
  reload = function(run)
    run.reloads = run.reloads + 1
    for _, broker in ipairs(run.world.brokers) do
      if not run.starting[broker] then
        broker:reload(policy(("user"):rep(run.reloads % 3 + 1)) .. ("-- %d"):format(run.reloads))
      end
    end
  end,
  -- clients that lose their connections and resume
  cut = function(run)
    for _ = 1, #run.streams / 4 do
      run.streams[random(#run.streams)]:drop()
    end
  end,
}

----------------------------------------------------------------- streams
local function take(self, ev)
  if ev.type == "gap" then
    self.run.gaps = self.run.gaps + 1
  elseif ev.type == "revoked" then
    self.run.revoked = self.run.revoked + 1
  elseif ev.type == "message" then
    local version, data = ev.data:match "^(%d+) (.*)$"
    self.got[#self.got + 1] = { id = tonumber(ev.id), version = tonumber(version) }
    self.ended = self.ended or data == "end"
  end
end

----------------------------------------------------------------- a run
local run = {}
run.__index = run

-- world, users, streams, per_s (events)
function M.new(options)
  local r = setmetatable({ world = options.world, per_s = options.per_s, names = {}, version = {}, streams = {},
    starting = {}, n = 0, changes = 0, reloads = 0, gaps = 0, revoked = 0, opened = 0, denied = 0 }, run)
  for i = 1, options.users do
    r.names[i] = ("u%d"):format(i)
    r.version[r.names[i]] = 1
  end
  r.world:users(r.names)
  for i = 1, options.streams do
    local user = r.names[(i - 1) % options.users + 1]
    r.streams[i] = worlds.stream(r, { user = user, query = { who = user }, got = {}, last_id = "0", slow = i % 7 == 3,
      take = take })
  end
  return r
end

function run:change(user, allowed)
  self.version[user] = self.version[user] + 1
  self.changes = self.changes + 1
  self.world:change(user, self.version[user], allowed)
end

function run:load(count)
  local events = {}
  for i = 1, count do
    self.n = self.n + 1
    events[i] = { random() < 0.02 and "load/all" or "load/" .. self.names[random(#self.names)],
      self.n .. (" "):rep(random(0, 60)) }
  end
  self.world:publish(events)
end

function run:turn()
  worlds.look(self.starting)
  for _, s in ipairs(self.streams) do
    s:step()
  end
  eventually.turn()
end

-- faults: names, each once, evenly spread over the time.
function run:go(seconds, faults)
  local from = eventually.now()
  local loaded, changed, done = 0, 0, 0
  repeat
    local passed = eventually.now() - from
    local due = math.floor(passed * self.per_s) - loaded
    if due >= self.per_s / 50 then
      self:load(math.min(due, 200)) -- a machine that is slow is not given ever more
      loaded = loaded + due
    end
    if passed * 8 > changed then
      changed = changed + 1
      self:change(self.names[random(#self.names)], random() < 0.6 and 1 or 0)
    end
    if done < #faults and passed > (done + 0.5) * seconds / #faults then
      done = done + 1
      local fault = FAULTS[faults[done]]
      if fault then
        fault(self)
      else
        self.world.FAULTS[faults[done]](self.world)
      end
    end
    self:turn()
    -- a slow machine has to do as much
    local enough = self.changes >= 20 and self.denied > 0 and self.revoked > 0
  until passed > seconds and done == #faults and (enough or passed > 60)
end

-- All may read again, and every stream has the last event.
function run:finish()
  self.finishing = true
  for _, name in ipairs(self.names) do
    self:change(name, 1)
  end
  self.world:publish { { "load/all", "end" } }
  eventually("all streams have got the last event", function()
    self:turn()
    for _, s in ipairs(self.streams) do
      if not s.ended then
        return false
      end
    end
    return true
  end, 120)
  self.events = self.world:events()
end

-- What is wrong, in words, and figures.
function run:check()
  local wrong, figures = {}, { events = #self.events, changes = self.changes, delivered = 0, opened = self.opened,
    denied = self.denied, revoked = self.revoked, reloads = self.reloads }
  local function object(...)
    wrong[#wrong + 1] = (...):format(select(2, ...))
  end
  local ends, for_user = {}, {} -- ends[user][version]: the id at which the next one began
  for _, name in ipairs(self.names) do
    ends[name], for_user[name] = {}, {}
  end
  for _, ev in ipairs(self.events) do
    local kind, who = ev.topic:match "^(%a+)/(.*)$"
    if kind == "rights" then
      ends[who][tonumber(ev.data) - 1] = ev.id
    else
      for _, name in ipairs(who == "all" and self.names or { who }) do
        table.insert(for_user[name], ev.id)
      end
    end
  end
  for i, s in ipairs(self.streams) do
    local at = 0
    for _, got in ipairs(s.got) do
      figures.delivered = figures.delivered + 1
      local over = ends[s.user][got.version]
      if over and got.id > over then
        object("stream %d of %s: event %d under version %d, which ended at %d", i, s.user, got.id, got.version, over)
      end
      at = at + 1
      if for_user[s.user][at] ~= got.id then
        object("stream %d of %s: event %d where %s was next", i, s.user, got.id, tostring(for_user[s.user][at]))
        break
      end
    end
    if at < #for_user[s.user] and #wrong == 0 then
      object("stream %d of %s: %d of %d events", i, s.user, at, #for_user[s.user])
    end
  end
  if self.gaps > 0 then
    object("%d gaps", self.gaps)
  end
  return wrong, figures
end

-- Goes, and is judged; faults are repeated where the environment says that it takes longer. Its figures.
function M.judge(assert, options, seconds, faults)
  local seed = tonumber(os.getenv "TIDEGATE_SPEC_SEED") or os.time()
  local long = tonumber(os.getenv "TIDEGATE_REVOKE_SECONDS")
  math.randomseed(seed)
  options.streams = tonumber(os.getenv "TIDEGATE_REVOKE_STREAMS") or options.streams
  options.users = math.max(options.users, options.streams // 10)
  options.per_s = tonumber(os.getenv "TIDEGATE_REVOKE_PER_S") or options.per_s
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
  r:close()
  if not ok then
    error(wrong, 0)
  end
  local text = ("seed %d, %d streams of %d users"):format(seed, options.streams, options.users)
  for _, name in ipairs { "events", "changes", "delivered", "opened", "denied", "revoked", "reloads" } do
    text = ("%s, %d %s"):format(text, figures[name], name)
  end
  if long then
    print(text)
  end
  assert.same({}, { table.unpack(wrong, 1, 10) }, ("%s: %d wrong"):format(text, #wrong))
  -- it has looked at something
  assert.is_true(figures.delivered > 10 * options.streams and figures.revoked > 0 and figures.denied > 0, text)
  return figures
end

function run:close()
  for _, s in ipairs(self.streams) do
    s:drop()
  end
  self.world:close()
end

return M
