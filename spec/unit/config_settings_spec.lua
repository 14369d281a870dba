-- policy.settings of configurations: what may stand there, and what comes of it. What a policy makes of it:
-- policy_settings_spec.lua.
local config = require "native.config"

local path = os.tmpname()

local function load(text, overrides)
  local file <close> = assert(io.open(path, "w"))
  assert(file:write(text))
  file:close()
  return config.load(path, overrides)
end

local function with(settings)
  return "return { policy = { file = 'p', settings = " .. settings .. " } }"
end

-- The problems as a list of lines, without the place in the file.
local function problems_of(text, overrides)
  local settings, problems = load(text, overrides)
  assert.is_nil(settings)
  local lines = {}
  for line in problems:gmatch "([^\n]*)\n" do
    local from, to = line:find(path .. ":1: ", 1, true)
    lines[#lines + 1] = from == 1 and line:sub(to + 1) or line
  end
  return lines
end

describe("a configuration with settings of the policy", function()
  teardown(function()
    os.remove(path)
  end)

  local function settings_of(text, words)
    local settings = assert(load(with(text), { settings = words }))
    return settings.settings
  end

  it("has names that may be the value of a variable, or part of it", function()
    for _, value in ipairs { "hook", "oo", "h" } do
      config.setenv("TG_SPEC_WORD", value)
      assert.same({ "hook string " .. value }, settings_of [[{ hook = env "TG_SPEC_WORD" }]])
    end
    config.setenv("TG_SPEC_WORD", "main")
    assert(load [[return { policy = { file = "p", settings = { keys = env "TG_SPEC_WORD" } },
      keys = { main = { secret = "0123456789012345678901234567890123456789" } } }]])
  end)

  it("takes texts, numbers, booleans, lists of texts, and secrets", function()
    config.setenv("TG_SPEC_SECRET", "hunter2")
    assert.same({}, settings_of "{}")
    assert.same({
      "a string x", "b integer 5", "c number 0.5", "d boolean false", "e list  [y,z]", "f secret hunter2",
      "g secret_file " .. path:match "^(.*)/" .. "/keys/hook", "h list ", "i secret_file /etc/hook", "j string ",
    }, settings_of [[{ a = "x", b = 5, c = 0.5, d = false, e = { "y", "z" }, f = secret(env "TG_SPEC_SECRET"),
      g = secret { file = "keys/hook" }, h = {}, i = secret { file = "/etc/hook" }, j = "" }]])
    config.setenv("TG_SPEC_SECRET", nil)
  end)

  it("prefers those of the command line, which are texts", function()
    assert.same({ "a string 6", "b integer 5", "c string x=y" }, settings_of("{ a = 5, b = 5 }", { "a=6", "c=x=y" }))
    assert.same({ '--setting: expected NAME=VALUE, found "a"', '--setting: expected NAME=VALUE, found "1=2"' },
      problems_of(with "{}", { settings = { "a", "1=2" } }))
  end)

  it("refuses what is none of them, and shows no secret", function()
    local expected = "expected a text, a number, true, false, a list of texts, or secret(...), found "
    for value, found in pairs {
      ["{ { 'x' } }"] = "a table", ["{ a = 'x' }"] = "a table", ["{ 'a', [3] = 'b' }"] = "a table",
      ["{ 5 }"] = "a table",
      ["'a\0b'"] = '"a\\x00b"', ["0/0"] = tostring(0 / 0), ["math"] = false,
    } do
      if found then
        assert.same({ "policy.settings.x: " .. expected .. found },
          problems_of(with("{ x = " .. value .. " }")))
      end
    end
    assert.same({ 'policy.settings: expected a name of letters, digits and _ for each entry, found the key "x-y"' },
      problems_of(with "{ ['x-y'] = 1 }"))
    for _, value in ipairs { "5", "''", "{}", "{ file = '' }", "{ file = 'a', b = 1 }", "{ path = 'a' }", "nil" } do
      local found = problems_of("return { policy = { file = 'p', settings = { x = secret(" .. value .. ") } } }")
      assert.same({
        'secret(value): a text such as env "HOOK_KEY" was expected, or { file = "path" }',
      }, found)
    end
    assert.same({ "sse.heartbeat_s: expected an integer from 1 to 3600 (seconds), found a table" },
      problems_of 'return { policy = { file = "p" }, sse = { heartbeat_s = secret "hunter2" } }')
  end)
end)
