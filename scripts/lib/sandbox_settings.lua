-- tg.settings: what the configuration says to a policy (policy.settings). Runs once, in the raw state, as
-- sandbox.lua does; answers tg.settings, and a function that raises if something is set that was not declared, else
-- answers what was: a list of { name =, type =, from = "given" | "default" | "none" }.
--
-- `host` (lua_settings.c) has: given, name -> { type, text, size, items }, in which a secret is a secret already;
-- secret(name, text) makes one; nearest(word, names), the name that was probably meant, or nil; readonly(table, name),
-- a view whose writes raise.
--
-- Messages name types, never values: a text may be a password that nobody marked as one.
local host = ...

local error, ipairs, next, type = error, ipairs, next, type
local setmetatable, tostring = setmetatable, tostring
local format, find, gmatch, match = string.format, string.find, string.gmatch, string.match
local math_type, to_integer, to_number, huge = math.type, math.tointeger, tonumber, math.huge
local concat, sort = table.concat, table.sort

local MOST = 64 -- settings
local TYPES = { "string", "secret", "integer", "number", "boolean", "list" }
local OPTIONS = { "default", "min", "max", "one_of", "optional" }
local WORDS = {
  string = "a text", secret = "a secret", integer = "an integer", number = "a number",
  boolean = "true or false", list = "a list of texts",
}
local EMPTY = { string = 1, secret = 1 } -- the least, where nothing is said
local SIZES = { string = " bytes", secret = " bytes", list = " texts" }

local values, declared, names = {}, {}, {}

local function has(list, value)
  for _, one in ipairs(list) do
    if one == value then return true end
  end
  return false
end

local function sorted(map)
  local list = {}
  for name in next, map do list[#list + 1] = name end
  sort(list, function(a, b) return tostring(a) < tostring(b) end)
  return list
end

-- What was probably meant, or all there are.
local function hint(word, list)
  local near = host.nearest(word, list)
  return near and format("; did you mean '%s'?", near) or format(" (there are: %s)", concat(list, ", "))
end

-- the values ---------------------------------------------------------------------------------
--
-- Each takes what is given, and answers the value, or nil. Texts will do for numbers: those of env() are texts.

local take = {}

function take.string(given)
  return given.type == "string" and given.text or nil
end

function take.secret(given, name)
  if given.type == "secret" then return given.text end
  return given.type == "string" and #given.text > 0 and host.secret(name, given.text) or nil
end

local function is_number(given)
  return given.type == "integer" or given.type == "number" or given.type == "string"
end

function take.integer(given)
  return is_number(given) and find(given.text, "^%-?%d+$") and to_integer(to_number(given.text)) or nil
end

function take.number(given)
  local n = is_number(given) and find(given.text, "^%-?[%d.]+[eE]?[+-]?%d*$") and to_number(given.text)
  return n and n == n and n > -huge and n < huge and n + 0.0 or nil
end

function take.boolean(given)
  if given.type ~= "boolean" and given.type ~= "string" then return nil end
  if given.text == "true" then return true end
  if given.text == "false" then return false end
  return nil
end

function take.list(given)
  if given.type == "list" then return given.items end
  if given.type ~= "string" then return nil end
  local items = {}
  for item in gmatch(given.text, "[^,]+") do
    items[#items + 1] = match(item, "^%s*(.-)%s*$")
  end
  return items
end

-- The same of a default, which is a Lua value.
local function as_given(value)
  local kind = math_type(value) or type(value)
  kind = kind == "float" and "number" or kind == "table" and "list" or kind
  local items = {}
  if kind == "list" then
    for i, item in ipairs(value) do
      if type(item) ~= "string" then return { type = "?" } end
      items[i] = item
    end
  end
  local text = kind == "list" and "" or tostring(value)
  return { type = kind, text = text, size = #text, items = items }
end

local function expected(d)
  local words = WORDS[d.type]
  if d.one_of then
    words = format("%s\"%s\"", d.type == "list" and "a list of " or "", concat(d.one_of, '", "'))
  end
  local size = SIZES[d.type] or ""
  if d.min and d.max then
    words = format("%s from %s to %s%s", words, d.min, d.max, size)
  elseif d.min then
    words = format("%s of at least %s%s", words, d.min, size)
  elseif d.max then
    words = format("%s of at most %s%s", words, d.max, size)
  end
  return words
end

-- The value of what is given; nil and what was found instead.
local function value_of(name, d, given)
  local value = take[d.type](given, name)
  if value == nil then
    return nil, given.type == "secret" and 'a secret: declare it as "secret"'
      or given.type == "string" and "another text" or WORDS[given.type] or "something else"
  end
  local measure = type(value) == "number" and value or d.type == "list" and #value or given.size
  local least = d.min or EMPTY[d.type]
  if least and measure < least or d.max and measure > d.max then
    return nil, measure == 0 and SIZES[d.type] and "an empty one" or d.type == "list" and measure .. " of them"
      or SIZES[d.type] and "one of another length" or least and measure < least and "a lower one" or "a higher one"
  end
  for _, one in ipairs(d.one_of and (d.type == "list" and value or { value }) or {}) do
    if not has(d.one_of, one) then return nil, "something else" end
  end
  return value
end

-- declarations -------------------------------------------------------------------------------

-- Raises for the line that calls tg.settings.
local function wrong(name, ...)
  error(format("tg.settings: %s: ", name) .. format(...), 4)
end

local function read_options(name, d)
  for key in next, d do
    if key ~= "type" and not has(OPTIONS, key) then
      wrong(name, "unknown option '%s'%s", tostring(key), hint(tostring(key), OPTIONS))
    end
  end
  for _, key in ipairs { "min", "max" } do
    if d[key] ~= nil and (not math_type(d[key]) or d.type == "boolean") then
      wrong(name, "%s: a number was expected, of an integer, number, string, secret or list", key)
    end
  end
  if d.one_of ~= nil then
    if (d.type ~= "string" and d.type ~= "list") or type(d.one_of) ~= "table" or #d.one_of == 0 then
      wrong(name, "one_of: a list of texts was expected, of a string or list")
    end
    for _, one in ipairs(d.one_of) do
      if type(one) ~= "string" then wrong(name, "one_of: a list of texts was expected") end
    end
  end
  if d.optional ~= nil and type(d.optional) ~= "boolean" then
    wrong(name, "optional: true was expected, or nothing")
  end
  if d.default ~= nil and d.type == "secret" then
    wrong(name, "default: a secret has none, it would stand in the policy; say optional = true")
  end
end

-- The declaration as a table of its own: { type =, default =, ... }.
local function shape_of(declaration)
  if type(declaration) ~= "table" then return { type = declaration } end
  local d = {}
  for key, value in next, declaration do
    d[key == 1 and "type" or key] = value
  end
  return d
end

local function read_type(name, d)
  if type(name) ~= "string" or not find(name, "^[%a_][%w_]*$") or #name > 64 then
    wrong(tostring(name), "a name of letters, digits and _ was expected, at most 64")
  elseif declared[name] then
    wrong(name, "is declared already")
  elseif #names == MOST then
    wrong(name, "there are more than %d settings", MOST)
  elseif not has(TYPES, d.type) then
    wrong(name, "unknown type '%s'%s", tostring(d.type), hint(tostring(d.type), TYPES))
  end
end

-- The value of the setting, or nil; adds to `problems` what is wrong with the configuration.
local function find_value(name, d, problems)
  local given = host.given[name]
  if not given and d.default ~= nil then
    local value, found = value_of(name, d, as_given(d.default))
    if value == nil then wrong(name, "default: expected %s, found %s", expected(d), found) end
    return value
  elseif not given and d.optional then
    return nil
  end
  local value, found
  if given then value, found = value_of(name, d, given) end
  if value == nil then
    problems[#problems + 1] = given and format("policy.settings.%s: expected %s, found %s", name, expected(d), found)
      or format("policy.settings.%s is missing: expected %s", name, expected(d))
  end
  return value
end

local settings = {}

local function declare(_, all)
  if type(all) ~= "table" then
    error(format("tg.settings: a table of names and types was expected, got %s", type(all)), 2)
  end
  local problems = {}
  for _, name in ipairs(sorted(all)) do
    local d = shape_of(all[name])
    read_type(name, d)
    read_options(name, d)
    names[#names + 1] = name
    declared[name] = { name = name, type = d.type,
      from = host.given[name] and "given" or d.default ~= nil and "default" or "none" }
    local value = find_value(name, d, problems)
    values[name] = d.type == "list" and value and host.readonly(value, "a setting") or value
  end
  if #problems > 0 then error(concat(problems, "; "), 2) end
  return settings
end

local mt = {
  __index = function(_, name)
    if declared[name] then return values[name] end
    if #names == 0 then
      error(format("tg.settings.%s: no settings are declared yet: write tg.settings { %s = \"string\" } before",
        tostring(name), tostring(name)), 2)
    end
    error(format("tg.settings: unknown setting '%s'%s", tostring(name), hint(tostring(name), names)), 2)
  end,
  __newindex = function() error("tg.settings is read-only", 2) end,
  __call = declare,
  __pairs = function() return function(_, name) return next(values, name) end, nil, nil end,
  __metatable = "read-only",
}
setmetatable(settings, mt)

-- What declares is garbage from here on, but for the types.
local function check()
  for _, name in ipairs(sorted(host.given)) do
    if not declared[name] then
      error(format("policy.settings.%s: the policy declares no such setting%s", name, #names > 0 and hint(name, names)
        or ": it calls tg.settings { ... } nowhere"), 0)
    end
  end
  function mt.__call()
    error("tg.settings { ... } declares settings while the policy is being loaded: move it to the top of the file", 2)
  end
  local list = {}
  for i, name in ipairs(sorted(declared)) do
    list[i] = declared[name]
  end
  return list
end

return settings, check
