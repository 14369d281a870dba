-- The CPU time that turns of a broker's event loop take, however slow its clients are:
--   local turns = loop_turns.new(directory)
--   tidegate.start { env = turns.env } ... turns:reset() ... turns:read()
-- See loop_turns.c. A worker without a supervisor only: each process would count into the same file.
local uv = require "luv"

local M = {}
M.__index = M
local BUCKET_S, BUCKETS = 50e-6, 4000 -- as in loop_turns.c

function M.new(dir)
  local library = assert(uv.fs_readlink("/proc/self/exe")):gsub("[^/]*$", "") .. "libtidegate_loop_turns.so"
  assert(uv.fs_access(library, "R"), "not built: " .. library)
  local turns = setmetatable({ path = dir .. "/turns" }, M)
  local f <close> = assert(io.open(turns.path, "wb"))
  assert(f:write(("\0"):rep(8 * (1 + BUCKETS))))
  turns.env = { LD_PRELOAD = library, TIDEGATE_BENCH_TURNS = turns.path }
  return turns
end

function M:reset()
  local f <close> = assert(io.open(self.path, "r+b"))
  assert(f:write(("\0"):rep(8 * (1 + BUCKETS))))
end

-- turns, longest (seconds), most (seconds: what 999 of 1,000 do not exceed, to 50 us)
function M:read()
  local f <close> = assert(io.open(self.path, "rb"))
  local text, n, seen = assert(f:read "a"), 0, 0
  for i = 1, BUCKETS do
    n = n + string.unpack("<I8", text, 1 + 8 * i)
  end
  local result = { turns = n, longest = string.unpack("<I8", text) / 1e9, most = 0 }
  for i = 1, BUCKETS do
    seen = seen + string.unpack("<I8", text, 1 + 8 * i)
    if seen >= n * 0.999 then
      result.most = i * BUCKET_S
      break
    end
  end
  return result
end

return M
