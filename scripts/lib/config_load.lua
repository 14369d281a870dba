--- Loading a configuration: run the file, check what it returned. Called by src/config/lua_config.c with
---   spec   what config_schema.lua returns
---   host   getenv(name), run(environment) -> true, value | false, message, formats, overrides
--- Answers the flat settings, or nil and the list of problems.
local schema = require "schema"
local config_env = require "config_env"

return function(spec, host)
  local environment, seen = config_env(host.getenv)
  local ok, value = host.run(environment)
  local problems = seen.problems
  if not ok then
    problems[#problems + 1] = schema.redact(seen.secrets, value)
    return nil, problems
  end
  if type(value) ~= "table" then
    problems[#problems + 1] = ("the file must end in `return { ... }`, but it returned %s"):format(
      value == nil and "nothing" or "a " .. type(value))
    return nil, problems
  end
  local formats = {}
  for _, source in ipairs { spec.formats or {}, host.formats } do
    for name, check in pairs(source) do
      formats[name] = check
    end
  end
  local settings, more = schema.validate(spec, value, {
    formats = formats,
    overrides = host.overrides,
    secrets = seen.secrets,
    missing = seen.missing,
  })
  if settings then
    return settings
  end
  table.move(more, 1, #more, #problems + 1, problems)
  return nil, problems
end
