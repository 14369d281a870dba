--- What a configuration file can reach: nothing but env(name[, default]) and secret(value).
--- While the file runs strings have no methods (see lua_config.c), so it is format(...) instead of text:format(...).
local find, format = string.find, string.format

-- What to do about a global that is assigned: most often it is the one table of a file without a `return`.
local function instead(text, name)
  if find(text, "%f[%w_]return%f[^%w_]") then
    return format("%s is assigned but not local: write local %s = ...", name, name)
  end
  return format("%s is assigned, and the file returns nothing: it must end in `return { ... }`, with all settings in "
    .. "that table", name)
end

--- `getenv(name)` answers the variable's text or nil; `source` is the file's own text. Answers the environment for the
--- file, and a record of what it asked for:
---   secrets   value -> variable name: must not be shown, it may be a password
---   missing   placeholder -> variable name: not set, and no default was given
---   problems  one line per missing variable, with file and line
---   is_secret(name)    the variable that is missing holds a secret: no default is advised
---   marks     what secret() answered -> { type = "secret" | "secret_file", text = the secret, or the path }
return function(getenv, source)
  local seen = { secrets = {}, missing = {}, problems = {}, marks = {} }
  local asked = {} -- each of the problems: { name =, where = }

  -- `text` as what the default is: a number where the default is one, true or false likewise.
  local function convert(name, text, default)
    if type(default) == "number" then
      return tonumber(text) or error(format("the environment variable %s must hold a number", name), 3)
    elseif type(default) == "boolean" then
      if text ~= "true" and text ~= "false" then
        error(format("the environment variable %s must be true or false", name), 3)
      end
      return text == "true"
    end
    return text
  end

  local function env(name, default)
    if type(name) ~= "string" or not find(name, "^[%a_][%w_]*$") or seen.secrets[name] then
      error("env(name, default): name must be the name of an environment variable", 2)
    end
    local text = getenv(name)
    if text then
      if text ~= "" then
        seen.secrets[text] = name
      end
      local value = convert(name, text, default)
      if math.type(value) then
        seen.secrets[tostring(value)] = name
      end
      return value
    elseif default ~= nil then
      return default
    end
    -- go on, so that all problems are reported at once; 3: this pcall, this function, the file
    local _, where = pcall(error, "", 3)
    seen.problems[#seen.problems + 1] = format(
      '%sthe environment variable %s is not set: set it, or give a default: env("%s", default)', where, name, name)
    asked[#seen.problems] = { name = name, where = where }
    local placeholder = "<" .. name .. " is not set>"
    seen.missing[placeholder] = name
    return placeholder
  end

  function seen.is_secret(name)
    for i, one in ipairs(asked) do
      if one.name == name then
        seen.problems[i] = format("%sthe environment variable %s is not set: set it", one.where, name)
      end
    end
  end

  local function secret(value)
    local file = type(value) == "table" and next(value) == "file" and next(value, "file") == nil and value.file
    local text = file or value
    if type(text) ~= "string" or text == "" or #text > 4096 or find(text, "%z") then
      error('secret(value): a text such as env "HOOK_KEY" was expected, or { file = "path" }', 2)
    end
    if not file and seen.missing[text] then
      seen.is_secret(seen.missing[text])
    end
    local mark = setmetatable({}, { __metatable = "secret" })
    seen.marks[mark] = { type = file and "secret_file" or "secret", text = text }
    return mark
  end

  -- how the name of a global may appear in a message: it may have been computed from a secret
  local function shown(name)
    for value in pairs(seen.secrets) do
      if find(tostring(name), value, 1, true) then
        return "(not shown)"
      end
    end
    return tostring(name)
  end

  local visible = setmetatable({ env = env, secret = secret }, {
    __index = function(_, name)
      error(format("unknown name %s: a configuration file has only env(name, default), secret(value), its own locals, "
        .. "and data",
        shown(name)), 2)
    end,
    __newindex = function(_, name)
      error(instead(source, shown(name)), 2)
    end,
    __metatable = false,
  })
  return visible, seen
end
