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

-- One client of topic "a" on every worker: opens until each has one. The clients by worker, and all that were opened.
function M.on_each(broker, workers)
  local by_worker, all = {}, {}
  for i = 1, 200 do
    local topic = ("only/%d"):format(i)
    local c = sse.open(broker, { topic = { "a", topic } })
    all[#all + 1] = c
    for _, found in ipairs(http.get(broker.admin, "/connections").json.connections) do
      if found.topics[1] == topic or found.topics[2] == topic then
        by_worker[found.worker] = by_worker[found.worker] or c
        c.worker = found.worker
      end
    end
    local have = 0
    for _ in pairs(by_worker) do
      have = have + 1
    end
    if have == workers then
      return by_worker, all
    end
  end
  error "200 clients did not spread over all workers"
end

return M
