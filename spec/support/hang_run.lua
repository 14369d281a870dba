-- One broker, one policy with every line of the hang list in some hook, and many streams beside it that
-- must not notice.
local eventually = require "support.eventually"
local hangs = require "support.hangs"
local http = require "support.http"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

local M = {}

local HOOKS = { "authenticate", "subscribe", "publish", "filter", "format" }

-- Line i of the list is in hook HOOKS[i % 5 + 1], and on line i + 1 of the file.
local function policy_text()
  local text = { "local P, H = { api = 1, filters = {}, formats = {} }, {}" }
  for i, case in ipairs(hangs) do
    -- two functions, because a tail call leaves no line behind
    text[#text + 1] = ("H[%d] = function() local r = (function() %s end)() return r end"):format(i, case[2])
  end
  text[#text + 1] = ([[
local function try(hook, at)
  if at.hook == hook then H[tonumber(at.line)]() return tg.deny(403, "it ended") end
  return true
end
function P.authenticate(req)
  local ok, denial = try("authenticate", req.query)
  return ok and { sub = "u" }, denial
end
function P.subscribe(req, who)
  local ok, denial = try("subscribe", req.query)
  return ok and { topics = req.topics, filter = req.query.filter or "none", format = req.query.format or "raw" }, denial
end
function P.publish(pub, who)
  local ok, denial = try("publish", { hook = pub.attrs.hook, line = pub.attrs.line })
  return ok and pub, denial
end
for i = 1, %d do
  P.filters["h" .. i] = function() H[i]() return false end
  P.formats["h" .. i] = function() H[i]() end
end
return P]]):format(#hangs)
  return table.concat(text, "\n")
end

local function pump(streams)
  for _, c in ipairs(streams) do c:pump() end
end

-- Does what line `i` takes to happen. Returns the status of the answer, if it is about one.
local function provoke(broker, i, hook)
  local target = ("/events?%s"):format(http.query { topic = "hostile", hook = hook, line = i })
  if hook == "publish" then
    local query = http.query { topic = "hostile", ["attr.hook"] = hook, ["attr.line"] = i }
    return http.post(broker, "/events?" .. query, "x").status
  elseif hook == "authenticate" or hook == "subscribe" then
    return http.get(broker, target).status
  end
  local topic = ("hostile/%d"):format(i)
  local c = sse.open(broker, { topic = topic, query = { [hook] = "h" .. i } })
  broker:publish(topic, "x")
  c:close()
end

-- Errors if anything is not as it should be; returns the table, as lines of text.
function M.run(count)
  local broker = tidegate.start {
    policy = policy_text(),
    config = {
      policy = { error_log_interval_s = 0, memory_bytes = 64 << 20 }, sse = { heartbeat_s = 1 },
    },
  }
  local streams, quiet = {}, {}
  for i = 1, count do
    local c = sse.open(broker, { topic = i % 2 == 0 and "steady" or "quiet" })
    local list = i % 2 == 0 and streams or quiet
    list[#list + 1] = c
  end
  local rows = {}
  local began = eventually.now()
  for i, case in ipairs(hangs) do
    local hook = HOOKS[i % #HOOKS + 1]
    local from = eventually.now()
    local status = provoke(broker, i, hook)
    broker:publish("steady", tostring(i))
    rows[i] = { what = case[1], hook = hook, status = status, ms = (eventually.now() - from) * 1000 }
    pump(streams)
    pump(quiet)
  end
  eventually("all events arrived", function()
    pump(streams)
    pump(quiet)
    for _, c in ipairs(streams) do
      if #c.queue < #hangs then return false end
    end
    return true
  end, 60)
  local elapsed = eventually.now() - began
  M.check_streams(streams, quiet, elapsed)
  for i, case in ipairs(hangs) do
    M.check_log(broker, i, case, rows[i])
  end
  return M.show(rows, quiet, elapsed), broker
end

function M.check_streams(streams, quiet, elapsed)
  for _, c in ipairs(streams) do
    assert(not c.ended, c.ended)
    for i = 1, #hangs do
      assert(c.queue[i].data == tostring(i), "an event is missing or in the wrong place")
    end
  end
  for _, c in ipairs(quiet) do
    assert(not c.ended, c.ended)
    assert(#c.queue == 0)
    -- one each second; half of them allows for a machine that is busy with other things
    assert(#c.comments >= math.floor(elapsed / 2), ("%d heartbeats in %.1f s"):format(#c.comments, elapsed))
  end
end

-- The line in the log: hook, place, request or event, cause.
function M.check_log(broker, i, case, row)
  local at = "policy.lua:" .. i + 1
  local line = broker:logged { level = "error", sub = "policy", hook = row.hook, at = at }
  row.ending = line and line.error:gsub("^policy.lua:%d+: ", "") or "ended by itself"
  if case[3] == "bounded" then
    return
  end
  if case[3] == "x" or case[3] == "nil" then -- the answer, not an error
    return
  end
  assert(line, ("%s in %s: nothing at %s in the log"):format(case[1], row.hook, at))
  assert(line.request or line.event, "for whom?")
  assert(line.error:find("stopped after more than", 1, true) or case[3] ~= "stopped"
    and line.error:find(case[3], 1, true), ("%s: %s"):format(case[1], line.error))
  if row.status then
    assert(row.status == 503, row.status)
  end
end

function M.show(rows, quiet, elapsed)
  local lines = { ("%-44s %-13s %7s  %s"):format("line", "hook", "ms", "ending") }
  for _, row in ipairs(rows) do
    lines[#lines + 1] = ("%-44s %-13s %7.1f  %s"):format(row.what, row.hook, row.ms, row.ending:sub(1, 70))
  end
  local least, most = math.huge, 0
  for _, c in ipairs(quiet) do
    least, most = math.min(least, #c.comments), math.max(most, #c.comments)
  end
  lines[#lines + 1] = ("%d quiet streams: %d to %d heartbeats in %.1f s"):format(#quiet, least, most, elapsed)
  return lines
end

return M
