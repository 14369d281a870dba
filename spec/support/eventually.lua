-- Time in specs: one clock, one factor for slow machines, and bounded polling instead of sleeping.
--
--   eventually("the stream is closed", function() return client:at_end() end)        -- 30 s
--   eventually("...", fn, 2)                                                         -- 2 s
--
-- All durations are seconds and are multiplied by TIDEGATE_SPEC_TIME_FACTOR where they bound a wait.
local socket = require "socket"
local uv = require "luv"

local M = {}

M.factor = tonumber(os.getenv("TIDEGATE_SPEC_TIME_FACTOR") or "1")
assert(M.factor and M.factor > 0, "TIDEGATE_SPEC_TIME_FACTOR must be a positive number")

M.default_timeout = 30

function M.now()
  return uv.hrtime() / 1e9
end

-- The moment at which a wait of `seconds` has taken too long.
function M.deadline(seconds)
  return M.now() + (seconds or M.default_timeout) * M.factor
end

local TURN_S = 0.005

local meanwhile -- what runs in every turn of a wait

-- Lets child processes be reaped, then yields the processor: one turn of a loop that waits for something.
local function turn(pause)
  uv.run("nowait")
  local fn = meanwhile
  if fn then
    meanwhile = nil -- fn may wait, too
    fn()
    meanwhile = fn
  end
  socket.sleep(pause)
end

-- `most`: for a loop that has other things to wait for as well, less than the usual.
function M.turn(most)
  turn(math.min(most or TURN_S, TURN_S))
end

-- Lets at least `seconds` pass. For specs of what time itself does, and for those of what must not happen, where there
-- is nothing to wait for: a slow machine may make them see less, never fail. `why` says which it is.
function M.pass(seconds, why)
  assert(type(why) == "string" and why ~= "", "why must time pass?")
  local till = M.now() + seconds
  repeat
    turn(math.max(0, math.min(till - M.now(), 0.05)))
  until M.now() >= till
end

-- Runs `body`; whatever it waits for with eventually(), `fn` is called in every turn of the wait.
function M.meanwhile(fn, body)
  local before = meanwhile
  meanwhile = fn
  local ok, result = pcall(body)
  meanwhile = before
  if not ok then
    error(result, 0)
  end
  return result
end

-- Called by the function that is polled: the condition will never hold.
function M.give_up(why)
  error({ give_up = why }, 0)
end

-- Polls until `fn` answers something true and returns that. An error raised by `fn` (a failed assert)
-- counts as "not yet"; the last one is reported.
function M.wait(what, fn, timeout)
  local deadline = M.deadline(timeout)
  local last
  while true do
    local ok, result, detail = pcall(fn)
    if ok and result then
      return result
    end
    if not ok and type(result) == "table" and result.give_up then
      error(("never: %s: %s"):format(what, result.give_up), 2)
    end
    last = ok and detail or not ok and result or nil
    if M.now() > deadline then
      break
    end
    turn(TURN_S)
  end
  if type(last) == "table" and last.message then
    last = last.message
  end
  error(("not within %g s: %s%s"):format((timeout or M.default_timeout) * M.factor, what,
    last and "\nlast: " .. tostring(last) or ""), 2)
end

return setmetatable(M, { __call = function(_, ...) return M.wait(...) end })
