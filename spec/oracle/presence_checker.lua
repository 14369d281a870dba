-- The part of oracle/latest_checker.lua that is about members: whoever has a stream is there, each is announced once,
-- and leaves after the grace, or when the lease of a broker that was killed has run out, and another for those who were
-- away as well.
--
-- Of `record` it reads events (m/NAME; `created` may be nil: not known), members, presence and at_end. A stay is
-- { from, ok, open, till }: the stream was asked for, had its first event, was last seen to be open (nil: until it
-- ended), and was ended or seen to have ended; `ok` and `till` may be nil: not yet.
local M = {}

M.SLACK_S = 5 -- until what streams say is in the store: brokers and their sessions may be away meanwhile

local function there_at(list, time)
  local there = false
  for _, ev in ipairs(list) do
    if ev.created and ev.created > time then
      break
    end
    there = ev.data ~= ""
  end
  return there
end

-- Spans in which nobody of these streams was there: { from, till }
local function gaps(stays, at_end)
  local sorted, list, over = table.move(stays, 1, #stays, 1, {}), {}, nil
  table.sort(sorted, function(a, b) return a.from < b.from end)
  for _, stay in ipairs(sorted) do
    if over and stay.from > over then
      list[#list + 1] = { over, stay.from }
    end
    over = math.max(over or 0, stay.till or math.huge)
  end
  if over and over < at_end then
    list[#list + 1] = { over, at_end }
  end
  return list
end

local function check_event(ev, stays, record, object)
  if ev.data ~= "" then
    for _, stay in ipairs(stays) do
      local latest = (stay.till or math.huge) + record.presence.grace_s + M.SLACK_S
      if stay.from <= ev.created + 0.1 and ev.created <= latest then
        return
      end
    end
    return object("event %d says that it came, and it was not there", ev.id)
  end
  for _, stay in ipairs(stays) do
    local till = stay.open or stay.till or record.at_end
    if stay.ok and stay.ok + M.SLACK_S <= ev.created and ev.created + 0.25 <= till then
      return object("event %d says that it left, and it has been there for %.1f s", ev.id, ev.created - stay.ok)
    end
  end
end

local function check_member(stays, list, record, object)
  local there = false
  for _, ev in ipairs(list) do
    if (ev.data ~= "") == there then
      object("event %d says again that it %s", ev.id, there and "came" or "left")
    end
    there = ev.data ~= ""
    if ev.created then
      check_event(ev, stays, record, object)
    end
  end
  for _, stay in ipairs(stays) do
    local till = stay.open or stay.till or record.at_end
    if stay.ok and till - stay.ok > M.SLACK_S and not there_at(list, stay.ok + M.SLACK_S) then
      object("it has a stream for %.1f s, and is not there", till - stay.ok)
    end
  end
  local within = record.presence.grace_s + 2 * record.presence.lease_s + M.SLACK_S
  for _, gap in ipairs(gaps(stays, record.at_end)) do
    if gap[2] - gap[1] > within and there_at(list, gap[1] + within) then
      object("it has had no stream for %.1f s, and is there", gap[2] - gap[1])
    end
  end
end

-- How many came and left, in all.
function M.check(record, say)
  local lists, joined, left = {}, 0, 0
  for _, ev in ipairs(record.events) do
    local name = ev.topic:match "^m/(.*)$"
    if name then
      lists[name] = lists[name] or {}
      table.insert(lists[name], ev)
      joined, left = joined + (ev.data ~= "" and 1 or 0), left + (ev.data == "" and 1 or 0)
    end
  end
  for name in pairs(lists) do
    if not record.members[name] then
      say("presence", ("%s: nobody has that name"):format(name))
    end
  end
  for name, stays in pairs(record.members) do
    check_member(stays, lists[name] or {}, record, function(...)
      say("presence", name .. ": " .. (...):format(select(2, ...)))
    end)
  end
  return joined, left
end

return M
