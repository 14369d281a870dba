--- Is what a subscription wants of store.latest there?
---   latest.missing(subscription, patterns, made_up) -> message and hint, or nil
--- `patterns`: what store.latest names. `made_up`: of a request that is, so that topics of the client's say nothing.
local latest = {}

-- Is there a topic that both match?
local function meet(a, b)
  local next_a, next_b = a:gmatch "[^/]+", b:gmatch "[^/]+"
  while true do
    local x, y = next_a(), next_b()
    if x == "**" or y == "**" then
      return x ~= nil and y ~= nil -- at least one segment is behind it
    elseif x ~= y and (x ~= "*" and y ~= "*" or not (x and y)) then
      return false
    elseif not x then
      return true
    end
  end
end

-- Is the topic of its member kept? Of a made-up request the parts that may come from it say nothing.
local function missing_member(topic, patterns, made_up)
  if made_up then
    topic = topic:gsub("[^/]+", function(part)
      return (part:find "^sample" or part:find "^%d+$") and "*" or nil
    end):gsub("[^/]+$", "*")
  end
  for _, pattern in ipairs(patterns) do
    if meet(topic, pattern) then
      return nil
    end
  end
  return ("subscribe returns presence, and store.latest does not name its topic: such clients are refused (%s)"):format(
    topic), ('name it in the configuration, as store = { latest = { "%s" } }'):format((topic:gsub("[^/]+$", "*")))
end

function latest.missing(subscription, patterns, made_up)
  if subscription.presence then
    local message, hint = missing_member(subscription.presence, patterns, made_up)
    if message then
      return message, hint
    end
  end
  local wants = subscription.start == "latest" and 'start = "latest"'
    or subscription.on_lag == "latest" and 'limits.on_lag = "latest"'
  if not wants then
    return nil
  elseif #patterns == 0 then
    return ("subscribe returns %s, and store.latest names no topics: such clients are refused"):format(wants),
      'name them in the configuration, as store = { latest = { "score/*" } }'
  end
  for _, topic in ipairs(subscription.topics) do
    local first = topic:match "^[^/]*"
    if made_up and (first:find "^sample" or first:find "^%d+$" or first:find "^%*") then
      return nil
    end
    for _, pattern in ipairs(patterns) do
      if meet(topic, pattern) then
        return nil
      end
    end
  end
  return ("subscribe returns %s for topics of which store.latest names none: %s"):format(wants,
    table.concat(subscription.topics, ", ", 1, math.min(#subscription.topics, 3))),
    "their snapshots are empty: name them in store.latest, or return no such start"
end

return latest
