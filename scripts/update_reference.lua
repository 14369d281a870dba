-- Writes the configuration reference into conf/REFERENCE.md, from the schema.
-- usage: lua5.4 scripts/update_reference.lua
package.path = "scripts/lib/?.lua;" .. package.path
local START, STOP = "<!-- config reference: generated -->", "<!-- end of config reference -->"

local file <close> = assert(io.open("conf/REFERENCE.md"))
local text = file:read "a"
local _, from = text:find(START, 1, true)
local to = text:find(STOP, 1, true)
assert(from and to and from < to, "conf/REFERENCE.md has no " .. START .. " ... " .. STOP)
local reference = require "config_reference"(require "config_schema")
local out <close> = assert(io.open("conf/REFERENCE.md", "w"))
assert(out:write(text:sub(1, from), "\n", reference, text:sub(to)))
