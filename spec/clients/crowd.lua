-- All clients of the roster at once, on one broker: what each has been told so far.
--
--   local crowd = Crowd.start(broker, roster.clients)
--   crowd:wait(function(client) return client:has(id) end, 30)   -- until it holds for all; never raises
--   crowd:mark()                                                 -- what comes now is of the next scenario
--   client:since()      events { event, id, data } after the mark
--   crowd:stop()
local eventually = require "support.eventually"
local http = require "support.http"
local roster = require "clients.roster"

local M = {}
local crowd = {}
crowd.__index = crowd
local client = {}
client.__index = client

-- Events that say where the stream stands; users of an EventSource do not see them unless they ask.
local function is_position(ev)
  return ev.event == "position" and ev.id ~= "" and ev.data ~= ""
end

-- Takes the lines that the adapter has printed since the last call.
function client:read()
  local text = self.rest .. (self.out:read "a" or "")
  local from = 1
  while true do
    local stop = text:find("\n", from, true)
    if not stop then
      break
    end
    local line = assert(http.json.decode(text:sub(from, stop - 1)), "not JSON: " .. text:sub(from, from + 200))
    if line.event then
      if not is_position(line) then
        self.events[#self.events + 1] = line
        self.seen[line.id] = true
      end
    elseif line.open then
      self.opens = self.opens + 1
    elseif line["end"] then
      self.ended = line["end"]
    else
      self.errors[#self.errors + 1] = line.error
    end
    from = stop + 1
  end
  self.rest = text:sub(from)
end

function client:has(id)
  return self.seen[id]
end

function client:since()
  return table.move(self.events, self.marked + 1, #self.events, 1, {})
end

-- For messages of failed specs.
function client:story()
  local errors = table.concat(self.errors, "; ", math.max(1, #self.errors - 3))
  return ("%s: %d streams, %s%s%s"):format(self.name, self.opens,
    self.ended and "gave up: " .. self.ended or self.process:running() and "goes on" or "its process ended",
    errors ~= "" and ", said: " .. errors or "", self.process:errors():sub(-400))
end

-- What an adapter prints: read() it.
function M.reader(process, name)
  return setmetatable({ process = process, name = name, out = assert(io.open(process.dir .. "/stdout", "rb")),
    rest = "", events = {}, seen = {}, errors = {}, opens = 0, marked = 0 }, client)
end

-- Each client asks for `topic` and for a topic of its own, by which the broker's list of connections knows it.
function M.start(broker, clients, topic)
  local self = setmetatable({ list = {} }, crowd)
  for i, entry in ipairs(clients) do
    local name, file = entry[1], entry[2]
    local url = ("http://%s:%d/events?%s"):format(broker.host, broker.port,
      http.query { topic = { topic, "for/" .. i }, client = name })
    local c = M.reader(roster.start(name, file, url), name)
    c.entry, c.own = entry, "for/" .. i
    self.list[i] = c
  end
  return self
end

function crowd:mark()
  for _, c in ipairs(self.list) do
    c:read()
    c.marked = #c.events
  end
end

-- Until `holds(client)` for all, or for as many as it will within `seconds`.
function crowd:wait(holds, seconds)
  local deadline = eventually.deadline(seconds)
  repeat
    local all = true
    for _, c in ipairs(self.list) do
      c:read()
      all = holds(c) and all
    end
    if all then
      return
    end
    eventually.turn()
  until eventually.now() > deadline
end

-- Set of the topics that open streams have.
local function topics_of(broker)
  local set = {}
  for _, connection in ipairs(http.get(broker.admin, "/connections").json.connections) do
    for _, topic in ipairs(connection.topics) do
      set[topic] = true
    end
  end
  return set
end

-- What `fn` answered, asked again when that is older than a tenth of a second.
function M.now_and_then(fn)
  local value, at
  return function()
    if not at or eventually.now() - at > 0.1 then
      value, at = fn(), eventually.now()
    end
    return value
  end
end

-- Until all have a stream at the broker.
function crowd:wait_connected(broker, seconds)
  local topics = M.now_and_then(function() return topics_of(broker) end)
  self:wait(function(c)
    c.connected = c.connected or topics()[c.own]
    return c.connected
  end, seconds)
end

function crowd:stop()
  for _, c in ipairs(self.list) do
    c.out:close()
    c.process:stop()
  end
end

return M
