--- What became of open streams, for p:resubscribe and p:reload: changes.of(clients, before, after), which are tables by
--- id of stream, the latter two of subscriptions.
local native = require "tidegate.test.native"
local json = native.json

local changes = {}

-- `id` and `asked_again` are about the stream; `audience` is but a number for topics, filter, format, params and ends.
local FIELDS = { "ends", "expires", "filter", "format", "params", "presence", "quota", "tags", "topics" }

local function equal(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then
    return a == b
  end
  for key, value in pairs(a) do
    if not equal(value, b[key]) then
      return false
    end
  end
  for key in pairs(b) do
    if a[key] == nil then
      return false
    end
  end
  return true
end

-- What the last event of a stream says, if that is one that tells why it ended.
local function reason_of(client)
  client.policy:wait(function() return client:closed() end, "the end of a stream")
  local events = client:events()
  local last = events[#events]
  local data = last and json.decode(last.data)
  return type(data) == "table" and type(data.reason) == "string" and data.reason or nil
end

local function change_of(client, before, after)
  local one = { client = client, before = before, after = after, fields = {} }
  if not after then
    one.kind, one.reason = "ended", client and reason_of(client)
    return one
  end
  for _, name in ipairs(FIELDS) do
    if not equal(before[name], after[name]) then
      one.fields[#one.fields + 1] = name
    end
  end
  one.kind = after.asked_again and "unanswered" or #one.fields > 0 and "changed" or "same"
  return one
end

function changes.of(clients, before, after)
  local ids, list = {}, {}
  for id in pairs(before) do
    ids[#ids + 1] = id
  end
  table.sort(ids)
  for i, id in ipairs(ids) do
    list[i] = change_of(clients[id], before[id], after[id])
  end
  return list
end

return changes
