local policies = require "support.policies"

-- What loading a policy file says; nil when it loads.
local function load(text, options)
  local p, err = policies.open_text(text, options)
  if p then p:close() end
  return err
end

local SUBSCRIBE = "authenticate = function() return {} end, subscribe = function() return { topics = { 'a' } } end"

describe("loading a policy", function()
  it("takes every known key", function()
    assert.is_nil(load("return { api = 1, version = 'v', " .. SUBSCRIBE .. [[, publish = function(p) return p end,
      filters = { f = function() end, ['with-dash_1'] = function() end }, formats = { g = function() end },
      disconnect = function() end }]]))
    assert.is_nil(load("return { api = 1.0 | 0, " .. SUBSCRIBE .. " }"))
  end)

  it("names file, key and what was expected", function()
    for text, expected in pairs {
      ["return { api = 1, " .. SUBSCRIBE .. ", subscrbe = 1 }"] =
        "p.lua: unknown key 'subscrbe' (did you mean 'subscribe'?)",
      ["return { api = 1, " .. SUBSCRIBE .. ", Filters = {} }"] = "unknown key 'Filters' (did you mean 'filters'?)",
      ["return { api = 1, " .. SUBSCRIBE .. ", zzzzzzzz = 1 }"] =
        "unknown key 'zzzzzzzz' (there are: api, version, auth",
      ["return { api = 1, " .. SUBSCRIBE .. ", 5 }"] = "p.lua: keys must be names, got a number",
      ["return { " .. SUBSCRIBE .. " }"] =
        "api: must be 1 (the version of the policy interface that this broker supports); it is missing",
      ["return { api = 2, " .. SUBSCRIBE .. " }"] = "api: must be 1",
      ["return { api = '1', " .. SUBSCRIBE .. " }"] = "api: must be 1",
      ["return { api = 1, version = 3, " .. SUBSCRIBE .. " }"] = "version: a string was expected, got number",
      ["return { api = 1, version = ('x'):rep(65), " .. SUBSCRIBE .. " }"] = "version: a label of at most 64 bytes",
      ["return { api = 1, authenticate = function() end }"] = "subscribe: missing; it decides what a client receives",
      ["return { api = 1, subscribe = true }"] = "subscribe: a function was expected, got boolean",
      ["return { api = 1, subscribe = function() end }"] =
        'authenticate: missing; without it the policy cannot tell clients apart. Add the hook, or set auth = "open"',
      ["return { api = 1, " .. SUBSCRIBE .. ", filters = 1 }"] =
        "filters: a table of named functions was expected, got number",
      ["return { api = 1, " .. SUBSCRIBE .. ", filters = { near = 5 } }"] =
        "filters.near: a function or text was expected, got number",
      ["return { api = 1, " .. SUBSCRIBE .. ", formats = { near = 'x' } }"] =
        "formats.near: a function or a table of rules was expected, got string",
      ["return { api = 1, " .. SUBSCRIBE .. ", filters = { function() end } }"] =
        "filters: names are letters, digits, _ and -",
      ["return { api = 1, " .. SUBSCRIBE .. ", formats = { ['a b'] = print } }"] = "formats: names are letters",
      ["return { api = 1, " .. SUBSCRIBE .. ", formats = { json = print } }"] =
        "formats.json: the name belongs to a built-in",
      ["return { api = 1, " .. SUBSCRIBE .. ", filters = { none = print } }"] =
        "filters.none: in a subscription that says there is no filter; use another name",
      ["return { api = 1, " .. SUBSCRIBE .. ", formats = { raw = print } }"] =
        "formats.raw: the name belongs to a built-in",
      ["return 5"] = "p.lua must end in `return` and a table of hooks; it returned number",
      ["local P = {}"] = "p.lua must end in `return` and a table of hooks; it returned nil",
      ["return {\n api = = 1 }"] = "p.lua:2: unexpected symbol near '='",
      ["\n\nlocal x = nil\nreturn { api = x.y }"] = "p.lua:4: attempt to index a nil value (local 'x')",
      ["error({})"] = "an error object that is a table",
      ["\27Lua"] = "attempt to load a binary chunk",
      ["return require 'nothere'"] = "module 'nothere' not found",
      ["local t = {} for i = 1, 1e9 do t[i] = {} end"] = "not enough memory: the policy's limit is 16777216 bytes",
      [""] = "it returned nil",
      [("-"):rep(1024 * 1024 + 1)] = "is longer than 1048576 bytes",
    } do
      local err = load(text)
      assert.matches(expected, err or "nothing", 1, true)
      assert.matches("^policy /.*/p%.lua: ", err)
    end
  end)

  it("does without authenticate only where the configuration says so", function()
    local text = "return { api = 1, subscribe = function() return { topics = { 'a' } } end }"
    assert.matches("authenticate: missing", load(text))
    assert.is_nil(load(text, { auth_open = true }))
  end)

  it("reports a file that is not there", function()
    local p, err = policies.open { file = "/nonexistent/dir/p.lua" }
    assert.is_nil(p)
    assert.equal("policy /nonexistent/dir/p.lua: no such file or directory", err:lower())
    p, err = policies.open { file = "/tmp/nonexistent.lua" }
    assert.is_nil(p)
    assert.matches("cannot read nonexistent.lua: No such file or directory", err, 1, true)
  end)

  it("needs some memory", function()
    assert.matches("too few for a Lua state", load("return {}", { memory_bytes = 1000 }))
    assert.matches("not enough memory", load("return {}", { memory_bytes = 20000 }))
    assert.is_nil(load("return { api = 1, " .. SUBSCRIBE .. " }", { memory_bytes = 96 * 1024 }))
  end)

  it("does not call metamethods of the table", function()
    assert.is_nil(load("return setmetatable({ api = 1, " .. SUBSCRIBE .. " }, { __index = error, __pairs = error })"))
    assert.matches("subscribe: missing", load("return setmetatable({ api = 1 }, { __index = { subscribe = print } })",
      { auth_open = true }))
  end)
end)
