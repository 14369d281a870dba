-- What floods of HTTP/2 frames cost the broker: for each frame no more processor time than for an ordinary request, and
-- no memory that stays. What it says of them is in h2_frames_spec.lua.
local eventually = require "support.eventually"
local h2 = require "support.h2"
local tidegate = require "support.tidegate"
local uv = require "luv"

local frame, head = h2.frame, h2.head
local WHOLE = h2.END_STREAM | h2.END_HEADERS
local CONNECTIONS, FRAMES, REQUESTS = 6, 600, 1500

local function u32(n)
  return (">I4"):pack(n)
end

local function get(id, more, flags)
  return frame("HEADERS", flags or WHOLE, id, head("GET", "/nothing", more))
end

local function post(id)
  return frame("HEADERS", h2.END_HEADERS, id, head("POST", "/events?topic=a"))
end

-- name, the i-th of the frames that one connection sends; before: a request that is answered first; ends = false: the
-- connection goes on
local FLOODS = {
  { "streams that are reset at once", function(i)
    return frame("HEADERS", WHOLE, 2 * i - 1, head("GET", "/events?topic=a"))
      .. frame("RST_STREAM", 0, 2 * i - 1, u32(8))
  end },
  { "PING", function() return frame("PING", 0, 0, ("\0"):rep(8)) end },
  { "SETTINGS", function(i) return frame("SETTINGS", 0, 0, (">I2I4"):pack(4, 1000 + i)) end },
  { "SETTINGS with many values", function()
    return frame("SETTINGS", 0, 0, (">I2I4"):pack(0x7f, 1):rep(30))
  end },
  { "DATA without bytes", function(i) return (i == 1 and post(1) or "") .. frame("DATA", 0, 1, "") end },
  { "DATA on a stream that is over", function() return frame("DATA", 0, 1, ("x"):rep(10)) end, before = get(1),
    ends = false },
  { "HEADERS on a stream that is over", function() return get(1) end, before = get(1), ends = false },
  { "CONTINUATION", function(i)
    return i == 1 and get(1, nil, h2.END_STREAM) or frame("CONTINUATION", 0, 1, h2.fields { { "x", "y" } })
  end },
  { "CONTINUATION without bytes", function(i)
    return i == 1 and get(1, nil, h2.END_STREAM) or frame("CONTINUATION", 0, 1, "")
  end },
  { "windows of a byte", function() return frame("WINDOW_UPDATE", 0, 0, u32(1)) end },
  { "windows of many", function() return frame("WINDOW_UPDATE", 0, 0, u32(1000)) end, ends = false },
  { "frames that do not exist", function() return frame(0x7e, 0, 0, ("x"):rep(100)) end },
}

-- Processor time of all threads so far, to the nanosecond.
local function cpu_s(broker)
  local sum, dir = 0, ("/proc/%d/task"):format(broker.pid)
  for name in uv.fs_scandir_next, assert(uv.fs_scandir(dir)) do
    local f = io.open(dir .. "/" .. name .. "/schedstat") -- nil: that thread has just ended
    sum = sum + (f and tonumber(f:read "a":match "^%d+") or 0)
    if f then
      f:close()
    end
  end
  return sum / 1e9
end

describe("a flood over HTTP/2 of", function()
  local broker, request_s

  local function requests()
    local c = h2.raw(broker)
    c:send(frame("WINDOW_UPDATE", 0, 0, u32(1 << 30)))
    for i = 1, REQUESTS, 100 do
      local list = {}
      for k = i, i + 99 do
        list[#list + 1] = get(2 * k - 1)
      end
      assert(c:send(table.concat(list)))
      for _ = 1, 100 do
        assert(c:frame "HEADERS")
      end
    end
    c:close()
  end

  setup(function()
    broker = tidegate.start { keep = true, -- without the option memory grows
      env = { ASAN_OPTIONS = "quarantine_size_mb=1:exitcode=86:" .. (os.getenv "ASAN_OPTIONS" or "") } }
    requests()
    local before = cpu_s(broker)
    requests()
    request_s = (cpu_s(broker) - before) / REQUESTS
  end)
  teardown(function() broker:dispose() end)

  local function flood(case)
    local list = {}
    for i = 1, FRAMES do
      list[i] = case[2](i)
    end
    for _ = 1, CONNECTIONS do
      local c = h2.raw(broker)
      if case.before then
        c:send(case.before)
        assert(c:frame "HEADERS")
        assert(c:frame "DATA")
      end
      c:send(table.concat(list)) -- it may end before it has all
      if case.ends == false then
        c:send(frame("PING", 0, 0, "was read"))
        assert.truthy(c:frame "PING")
      else
        c:frame "nothing"
        assert.equal(h2.CODES.ENHANCE_YOUR_CALM, c.goaway and c.goaway.code)
      end
      c:close()
    end
    eventually("they are gone", function() return broker:metric "tidegate_h2_connections" == 0 end)
  end

  for _, case in ipairs(FLOODS) do
    it(case[1], function()
      flood(case) -- what the first time takes for good
      local memory, cpu = broker:memory_kb(), cpu_s(broker)
      flood(case)
      local each = (cpu_s(broker) - cpu) / (CONNECTIONS * FRAMES)
      assert.is_true(each <= request_s, ("%.1f us a frame, %.1f a request"):format(each * 1e6, request_s * 1e6))
      local grown = broker:memory_kb() - memory
      assert.is_true(grown < 2048, grown .. " KiB more")
      assert.equal(0, broker:metric "tidegate_h2_streams")
    end)
  end
end)
