-- The lending service of the seed scenario: node-eventsource, an EventSource client nobody here wrote.
--
--   local client = lending.start(broker, last_id)     client:wait_open()   client:wait_events(3)
--   client:received()      its events { type, id, data } so far, how often a stream was opened
--   client.process:stop()
local child = require "support.child"
local eventually = require "support.eventually"
local http = require "support.http"

local M = {}
local lending = {}
lending.__index = lending

local MODULES = "/usr/share/nodejs"

function M.start(broker, last_id)
  local node = assert(child.find "node", "nodejs is not installed")
  local url = ("http://%s:%d/events?topic=%s"):format(broker.host, broker.port, http.escape "reservation/**")
  local args = { SPEC_SOURCE_DIR .. "/spec/support/eventsource_client.js", url, last_id }
  return setmetatable({ process = child.start(node, args, { env = { NODE_PATH = MODULES } }) }, lending)
end

function lending:received()
  assert(self.process:running(), self.process:errors())
  local events, opens = {}, 0
  for line in self.process:output():gmatch "([^\n]+)\n" do
    local value = http.json.decode(line)
    if value.open then
      opens = opens + 1
    elseif value.type then
      events[#events + 1] = value
    end
  end
  return events, opens
end

function lending:wait_open(times)
  eventually("the client has a stream", function()
    local _, opens = self:received()
    return opens >= (times or 1)
  end)
end

function lending:wait_events(n, timeout)
  eventually(("%d events"):format(n), function() return #self:received() >= n end, timeout)
  return (self:received())
end

return M
