--- Loading a configuration: run the file, check what it returned. Called by src/config/lua_config.c with
---   spec   what config_schema.lua returns
---   host   path, text, getenv(name), run(environment) -> true, value | false, message, is it a mistake of syntax;
---          formats, overrides
--- Answers the flat settings; or nil, the list of problems, and, as far as the file could be run, what is right of the
--- settings.
local schema = require "schema"
local config_env = require "config_env"
local config_lines = require "config_lines"

local LINES_MAX = 256 * 1024 -- bytes of a file: what is longer was generated

-- What to do about a mistake of syntax, by what the message ends in: the first that matches counts.
local ADVICE = {
  { "^<name> expected near", "write NAME = value instead of NAME: value" },
  { "^unfinished string", "its closing quote is missing" },
  { "near <eof>$", "a closing } is missing" },
  { "'}' expected.* near ':'$", "write NAME = value instead of NAME: value" },
  { "'}' expected.* near '='$", "a comma or a } is missing before it" },
  { "'}' expected.* near", "is a comma missing before it?" },
  { "^'?<eof>'? expected near", "nothing may follow `return { ... }`: is a } before it one too many?" },
  { "^unexpected symbol near '[,;}]'", "a value is missing before it" },
}

local function advise(message, source)
  local text = message:match "^.-:%d+: (.*)$" or message
  if source:find "^%s*{" then
    return message .. "; write `return` before the {"
  end
  for _, advice in ipairs(ADVICE) do
    if text:find(advice[1]) then
      return ("%s; %s"):format(message, advice[2])
    end
  end
  return message .. "; a configuration is one Lua table: return { NAME = value, ... }"
end

return function(spec, host)
  local line_of
  local function locate(label)
    if not host.path or #host.text > LINES_MAX then
      return ""
    end
    line_of = line_of or config_lines(host.text)
    local line = line_of(label)
    return line and ("%s:%d: "):format(host.path, line) or ""
  end

  local environment, seen = config_env(host.getenv, host.text)
  local ok, value, of_syntax = host.run(environment)
  local problems = seen.problems
  if not ok then
    problems[#problems + 1] = schema.redact(seen.secrets, of_syntax and advise(value, host.text) or value)
    return nil, problems
  end
  if type(value) ~= "table" then
    problems[#problems + 1] = ("the file must end in `return { ... }`, but it returned %s"):format(
      value == nil and "nothing: write `return` before the table that holds the settings" or "a " .. type(value))
    return nil, problems
  end
  local formats = {}
  for _, source in ipairs { spec.formats or {}, host.formats } do
    for name, check in pairs(source) do
      formats[name] = check
    end
  end
  local settings, more, right = schema.validate(spec, value, {
    formats = formats,
    overrides = host.overrides,
    secrets = seen.secrets,
    literal = function(name) return host.text:find(name, 1, true) ~= nil end,
    missing = seen.missing,
    missing_secret = seen.is_secret,
    marks = seen.marks,
    locate = locate,
  })
  if settings then
    return settings
  end
  table.move(more, 1, #more, #problems + 1, problems)
  return nil, problems, right
end
