-- What specs of `tidegate erase` publish, and read back.
local luassert = require "luassert"
local sse = require "support.sse"

local M = {}

-- What is to be erased of that.
M.P1 = { topic = "crm/**", where = "attrs.person == 'p1'" }

-- Publishes n events, every third about p1, whose data begin with `mark`; returns what everybody else's are.
function M.fill(broker, n, mark)
  local list, others = {}, {}
  for i = 1, n do
    local p1 = i % 3 == 0
    list[i] = { topic = "crm/c" .. i % 2, data = (p1 and mark or "plain ") .. i,
      attrs = { person = p1 and "p1" or "p2" } }
    if not p1 then
      others[#others + 1] = list[i].data
    end
  end
  broker:publish_all(list)
  return others
end

-- The first n, from the beginning; no gap is among them.
function M.replay(broker, n)
  local c = sse.open(broker, { topic = "crm/**", last_event_id = "0" })
  local data = {}
  for i, ev in ipairs(c:collect(n, 30)) do
    luassert.not_equal("gap", ev.type)
    data[i] = ev.data
  end
  c:close()
  return data
end

return M
