-- Gives a broker a wall clock that is wrong by so many seconds (below 0: slow), from its next start on, and returns a
-- function that sets it, also while the broker runs:
--   local set = wrong_clock(broker, -3600)
local files = require "support.files"
local uv = require "luv"

return function(broker, seconds)
  local library = assert(uv.fs_readlink("/proc/self/exe")):gsub("[^/]*$", "") .. "libtidegate_clock.so"
  assert(uv.fs_access(library, "R"), "not built: " .. library)
  local path = broker.dir .. "/clock"
  files.write(path, string.pack("i8", seconds))
  broker.options.env = {
    LD_PRELOAD = library,
    TIDEGATE_SPEC_CLOCK = path,
    -- a sanitizer wants to be first; the clock has no need of it
    ASAN_OPTIONS = "exitcode=86:detect_leaks=1:verify_asan_link_order=0:" .. (os.getenv "ASAN_OPTIONS" or ""),
  }
  return function(to) -- in place: the file is mapped
    local fd = assert(uv.fs_open(path, "r+", 384))
    assert(uv.fs_write(fd, string.pack("i8", to), 0))
    uv.fs_close(fd)
  end
end
