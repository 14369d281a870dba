-- One store under test: a directory of its own, and what every spec of a store does with it.
local store = require "native.store"

local Driver = {}
Driver.__index = Driver

--- Options as store.open() takes them; the path is made.
local function new(options)
  local path = os.tmpname()
  os.remove(path)
  local d = setmetatable({ path = path, file = path .. "/events.db", options = options, asked = 0 }, Driver)
  return d
end

--- Opens (again). Returns nil and the message when that fails.
function Driver:open(more)
  local o = { path = self.path }
  for _, from in ipairs { self.options, more or {} } do
    for k, v in pairs(from) do
      o[k] = v
    end
  end
  local s, why, code = store.open(o)
  self.store, self.asked = s, 0
  if not s then
    return nil, why, code
  end
  return self
end

function Driver:close()
  if self.store then
    local s = self.store
    self.store = nil
    return s:close()
  end
end

--- Closes, and removes the directory.
function Driver:discard()
  self:close()
  for _, suffix in ipairs { "", "-wal", "-shm", "-lock" } do
    os.remove(self.file .. suffix)
  end
  os.remove(self.path)
end

--- append{event, event...}: accepted.
function Driver:append(events)
  assert(self.store:append(events))
  self.asked = self.asked + 1
end

--- Waits for everything asked so far: the completions since the last call.
function Driver:settle(ms)
  assert(self.store:run { completions = self.asked, ms = ms or 5000 }, "not everything completed")
  return self.store:completions()
end

--- Appends and waits: the acks, or nil and the error.
function Driver:put(events)
  self:append(events)
  local done = self:settle()
  local c = done[#done]
  if c.error then
    return nil, c.error
  end
  return c.acks
end

--- Reads one page and waits.
function Driver:read(query)
  assert(self.store:read(query))
  self.asked = self.asked + 1
  local done = self:settle()
  return done[#done]
end

--- Every event there is, page by page.
function Driver:history()
  local after, all = 0, {}
  repeat
    local page = self:read { after = after, max_events = 500 }
    if page.error then
      return nil, page.error
    end
    for _, e in ipairs(page.events) do
      all[#all + 1] = e
    end
    local more = page.upto > after
    after = page.upto
  until not more
  return all
end

--- Turns the loop until `what()` holds.
function Driver:wait(what, ms)
  local deadline = store.now() + (ms or 5000)
  while not what() do
    assert(store.now() < deadline, "did not come true in time")
    self.store:run { ms = 5 }
  end
end

--- The id of the last event (or leap).
function Driver:head()
  return self.store:bounds().head
end

--- An event of topic "t/1".
local function ev(data, more)
  local e = { topic = "t/1", data = data }
  for k, v in pairs(more or {}) do
    e[k] = v
  end
  return e
end

local function rows(n, prefix)
  local list = {}
  for i = 1, n do
    list[i] = ev((prefix or "row ") .. i)
  end
  return list
end

local function data_of(events)
  local list = {}
  for i, e in ipairs(events) do
    list[i] = e.data
  end
  return list
end

--- For a describe block: open(options) opens a SQLite store on a directory of the spec's own, other() a
--- connection of another program. Both end with the spec.
local function sqlite(before_each, after_each)
  local d, connections
  before_each(function()
    connections = {}
  end)
  after_each(function()
    store.vfs_fail {}
    for _, db in ipairs(connections) do
      db:close()
    end
    if d then
      d:discard()
      d = nil
    end
  end)
  local function make(options)
    options = options or {}
    options.kind = "sqlite"
    d = new(options)
    return d
  end
  local function open(options)
    return assert(make(options):open())
  end
  local function other()
    local db = store.sql(d.file)
    connections[#connections + 1] = db
    return db
  end
  return open, other, make
end

return { new = new, sqlite = sqlite, ev = ev, rows = rows, data_of = data_of }
