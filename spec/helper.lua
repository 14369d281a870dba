-- Loaded once by busted before any spec file (see .busted).
assert(_VERSION == "Lua 5.4", "the specs run under Lua 5.4 inside tidegate_spec, not under " .. _VERSION)

-- Loaded here, hence once: busted gives every spec file a fresh package.loaded, and two instances of a
-- C library or of the list of running brokers must not exist.
require "luv"
require "socket"
require "socket.unix"
require "support.eventually"
require "support.sockets"
require "support.http"
require "support.sse"
require "support.logfmt"

local tidegate = require "support.tidegate"
local pg = require "support.pg"
local sockets = require "support.sockets"
local busted = require "busted"

-- What a spec started must end well, and leave nothing behind.
busted.after_each(function()
  sockets.close_all()
  tidegate.stop_started()
  pg.stop_started()
end)
