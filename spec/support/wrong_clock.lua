-- The environment of a broker whose wall clock is wrong by so many seconds (below 0: slow), from its next start on:
--   broker.options.env = wrong_clock(-3600)
local uv = require "luv"

return function(seconds)
  local library = assert(uv.fs_readlink("/proc/self/exe")):gsub("[^/]*$", "") .. "libtidegate_clock.so"
  assert(uv.fs_access(library, "R"), "not built: " .. library)
  return {
    LD_PRELOAD = library,
    TIDEGATE_SPEC_CLOCK_S = ("%d"):format(seconds),
    -- a sanitizer wants to be first; the clock has no need of it
    ASAN_OPTIONS = "exitcode=86:detect_leaks=1:verify_asan_link_order=0:" .. (os.getenv "ASAN_OPTIONS" or ""),
  }
end
