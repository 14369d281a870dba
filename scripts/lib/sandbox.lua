-- What a policy can see: the allow-list. Runs once, in the raw state, before any policy file;
-- afterwards only what is returned here can be reached.
--
-- `host` (lua_sandbox.c) has: env, the table to fill (tg, json, log and print are in it); pcall; patterns,
-- the string functions that match, which count their steps (lua_pattern.h); readonly(table, name), a
-- view whose writes raise; length(table) and next(table, key), which see through such views and
-- ignore metamethods; plain(table), is it one whose elements are read and written raw; now(), unix
-- seconds of the broker's clock; pure(), true while a filter or format runs; require(name); loading(),
-- true until the policy is loaded.
--
-- Limits. Memory is capped. CPU time is limited by lua_watchdog.c, which stops what runs too long at
-- its next instruction; so one call into C must not take long, whatever a script hands to it: sizes
-- are bounded (MOST, REP_BYTES), and loops of C that a script could make long are Lua here. This
-- protects against mistakes, not against hostile authors.
local host = ...

local MOST = 1000000 -- elements of a list, repetitions
local REP_BYTES = 1024 * 1024 -- result of string.rep
local DATE_BYTES = 1024 -- format of os.date

-- Locals only from here on: the raw libraries become garbage when this file has run.
local error, next, rawget, rawset, tostring, type = error, next, rawget, rawset, tostring, type
local format, math_type, select = string.format, math.type, select
local setmetatable = setmetatable
local length, is_plain, pure = host.length, host.plain, host.pure

-- An error that points at the caller of the wrapper.
local function fail(...)
  error(format(...), 3)
end

local function list_length(list, name)
  if type(list) ~= "table" then
    error(format("%s: a table was expected, got %s", name, type(list)), 3)
  end
  local n = length(list)
  if n > MOST then error(format("%s: a list longer than %d", name, MOST), 3) end
  return n
end

local function range_ok(name, first, last)
  if math_type(first) ~= "integer" or math_type(last) ~= "integer" then
    error(format("%s: positions must be integers", name), 3)
  end
  if last >= first and (last - first < 0 or last - first >= MOST) then
    error(format("%s: more than %d elements", name, MOST), 3)
  end
end

local function copy(from, names)
  local to = {}
  for name in names:gmatch("%S+") do
    to[name] = from[name] or error("no library function " .. name)
  end
  return to
end

-- base ---------------------------------------------------------------------------------------

local env = host.env
for name, value in next, copy(_G, "assert error ipairs pairs select tonumber tostring type") do
  env[name] = value
end

env.next = host.next
env.pcall = host.pcall -- nests 100 times at most

-- Finalizers run where no error can be reported and no budget applies; a length of one's own would
-- send library functions counting to it.
function env.setmetatable(t, mt)
  if type(mt) == "table" then
    for _, name in next, { "__gc", "__len" } do
      if rawget(mt, name) ~= nil then fail("setmetatable: %s is not available in policies", name) end
    end
  end
  return setmetatable(t, mt)
end

function env.require(name)
  if not host.loading() then
    fail("require works only while the policy is being loaded: move it to the top of the file")
  end
  return host.require(name)
end

-- string -------------------------------------------------------------------------------------

local strings = copy(string, "byte char format len lower pack packsize reverse sub unpack upper")
for name, f in next, host.patterns do strings[name] = f end -- find gmatch gsub match, which end

local rep, to_integer = string.rep, math.tointeger

-- Numbers count as strings, like in the library, and "3" and 3.0 as 3.
local function text_length(value)
  return (type(value) == "string" or type(value) == "number") and #tostring(value) or 0
end

function strings.rep(s, n, separator)
  local times = to_integer(n) or 0
  if times > MOST or times > 0 and times * (text_length(s) + text_length(separator)) > REP_BYTES then
    fail("string.rep: more than %d repetitions or %d bytes", MOST, REP_BYTES)
  end
  return rep(s, n, separator)
end

local string_metatable = getmetatable("")
string_metatable.__index = strings
string_metatable.__metatable = "locked"

-- string.pack("c16000000", "") writes that many zeros, one by one.
local pack = string.pack

function strings.pack(form, ...)
  if type(form) == "string" and strings.find(form, "%d%d%d%d%d%d%d") then
    fail("string.pack: sizes of more than 6 digits")
  end
  return pack(form, ...)
end

-- table --------------------------------------------------------------------------------------
--
-- The library's own loops are in C and read lists with metamethods, which may take long although no
-- instruction of the script is executed: __index can be a chain of 2,000 tables. So they get plain
-- lists only, and of those pieces (CHUNK) where an element takes its time.

local CHUNK = 10000

local tables = copy(table, "pack")
local concat, insert, remove = table.concat, table.insert, table.remove
local sort, unpack, move = table.sort, table.unpack, table.move

-- The elements first..last of any list, as 1..n of a plain one.
local function plain_copy(list, first, last)
  local copied = {}
  for i = first, last do copied[i - first + 1] = list[i] end
  return copied
end

function tables.concat(list, separator, first, last)
  local n = list_length(list, "table.concat")
  first, last = first or 1, last or n
  range_ok("table.concat", first, last)
  if not is_plain(list) then
    list, first, last = plain_copy(list, first, last), 1, last - first + 1
  end
  if last - first < CHUNK then return concat(list, separator, first, last) end
  local pieces = {}
  for at = first, last, CHUNK do
    local upto = at + CHUNK - 1
    pieces[#pieces + 1] = concat(list, separator, at, upto < last and upto or last)
  end
  return concat(pieces, separator)
end

-- With the arguments the library takes, but moving the elements by instructions of Lua.
local function insert_slowly(list, n, ...)
  local at, value = ...
  local count = select("#", ...)
  if count == 1 then
    list[n + 1] = at
    return
  end
  if count ~= 2 or math_type(at) ~= "integer" or at < 1 or at > n + 1 then
    error("table.insert: a position from 1 to the length + 1, and a value were expected", 3)
  end
  for i = n, at, -1 do list[i + 1] = list[i] end
  list[at] = value
end

function tables.insert(list, ...)
  local n = list_length(list, "table.insert")
  if is_plain(list) then return insert(list, ...) end
  insert_slowly(list, n, ...)
end

local function remove_slowly(list, n, at)
  if at == nil then at = n end
  if math_type(at) ~= "integer" or not (at >= 1 and at <= n + 1 or n == 0 and at == 0) then
    error("table.remove: a position from 1 to the length + 1 was expected", 3)
  end
  local value = list[at]
  for i = at, n - 1 do list[i] = list[i + 1] end
  list[at > n and at or n] = nil
  return value
end

function tables.remove(list, ...)
  local n = list_length(list, "table.remove")
  if is_plain(list) then return remove(list, ...) end
  local value = remove_slowly(list, n, ...)
  return value
end

-- Comparing two long texts takes long; like this it is an instruction of Lua.
local function less(a, b)
  return a < b
end

function tables.sort(list, before)
  local n = list_length(list, "table.sort")
  if before == nil and n > 100 then before = less end
  if is_plain(list) then return sort(list, before) end
  local sorted = plain_copy(list, 1, n)
  sort(sorted, before)
  for i = 1, n do list[i] = sorted[i] end
end

function tables.unpack(list, first, last)
  local n = list_length(list, "table.unpack")
  first, last = first or 1, last or n
  range_ok("table.unpack", first, last)
  if not is_plain(list) then
    list, first, last = plain_copy(list, first, last), 1, last - first + 1
  end
  return unpack(list, first, last)
end

function tables.move(from, first, last, to, into)
  list_length(from, "table.move")
  if into ~= nil then list_length(into, "table.move") end
  range_ok("table.move", first, last)
  local target = into or from
  if is_plain(from) and is_plain(target) then return move(from, first, last, to, target) end
  if math_type(to) ~= "integer" then fail("table.move: positions must be integers") end
  if to > first and to <= last and target == from then
    for i = last - first, 0, -1 do target[to + i] = from[first + i] end
  else
    for i = 0, last - first do target[to + i] = from[first + i] end
  end
  return target
end

-- math, utf8 ---------------------------------------------------------------------------------

local maths = copy(math, [[abs acos asin atan ceil cos deg exp floor fmod log max maxinteger min
  mininteger modf pi rad sin sqrt tan tointeger type ult]])
maths.huge = math.huge

-- Answers of filters and formats are shared and kept: they depend on the event and params only.
for _, name in next, { "random", "randomseed" } do
  local f = math[name]
  maths[name] = function(...)
    if pure() then fail("math.%s is not available in filters and formats", name) end
    return f(...)
  end
end

local utf8s = copy(utf8, "char charpattern codepoint codes len offset")

-- os: the time, by the broker's clock --------------------------------------------------------

local oses = { difftime = os.difftime }
local time, date = os.time, os.date

local function now(name)
  if pure() then
    error(format("%s without a time is not available in filters and formats; use ev.time", name), 3)
  end
  return host.now()
end

function oses.time(t)
  if t then return time(t) end
  local at = now("os.time") -- no tail call: an error points at the caller of this function
  return at
end

function oses.date(form, t)
  if type(form) == "string" and #form > DATE_BYTES then
    fail("os.date: a format longer than %d bytes", DATE_BYTES)
  end
  if t == nil then t = now("os.date") end
  return date(form or "%c", t)
end

-- --------------------------------------------------------------------------------------------

for name, library in next, { string = strings, table = tables, math = maths, utf8 = utf8s, os = oses } do
  env[name] = host.readonly(library, name)
end

local builtin = {}
for name in next, env do builtin[name] = true end

-- The globals of policy files. What is in `env` can never be replaced; a policy may add globals of
-- its own while it is being loaded, and none later.
return setmetatable({}, {
  __index = env,
  __newindex = function(_, name, value)
    if not host.loading() then
      fail("global '%s' cannot be set after the policy was loaded; make it local", tostring(name))
    end
    if builtin[name] then
      fail("global '%s' belongs to the broker and cannot be replaced", tostring(name))
    end
    rawset(env, name, value)
  end,
  __pairs = function() fail("globals cannot be listed") end,
  __metatable = "globals",
})
