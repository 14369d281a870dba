-- Streams that stay open until a spec has ended, and what the admin listener calls them.
local eventually = require "support.eventually"
local http = require "support.http"
local sse = require "support.sse"

local M = {}

-- Returns sse.open(), and what closes all that it has opened: for after_each().
function M.keeper()
  local kept = {}
  return function(target, options)
    local c = sse.open(target, options)
    kept[#kept + 1] = c
    return c
  end, function()
    for _, c in ipairs(kept) do
      c:close()
    end
    kept = {}
  end
end

-- The id of the stream whose first topic this is.
function M.of(broker, topic)
  return eventually("a connection with topic " .. topic, function()
    for _, c in ipairs(http.get(broker.admin, "/connections").json.connections) do
      if c.topics[1] == topic then
        return c.id
      end
    end
  end)
end

return M
