-- What one policy among several does for its being loaded anew: version, preparation, stages, figures.
local policies = require "support.policies"

local HOOKS = "authenticate = function() return {} end, subscribe = function() return { topics = { 'a' } } end"

describe("the version of a policy", function()
  local function version(files, main)
    local dir = policies.directory(files)
    local p = assert(policies.open { file = dir .. "/" .. (main or "p.lua") })
    local hash, label = p:version()
    p:close()
    policies.remove(dir)
    return hash, label
  end

  local MAIN = "local m = require 'lib.m' return { api = 1, version = 'v-1', " .. HOOKS .. " }"

  it("is the SHA-256 of all its files, wherever they lie", function()
    local files = { ["p.lua"] = MAIN, ["lib/m.lua"] = "return 1" }
    local hash, label = version(files)
    assert.matches("^%x+$", hash)
    assert.equal(12, #hash) -- of 64
    assert.equal("v-1", label)
    assert.equal(hash, (version(files)))
  end)

  it("changes with any byte of any file that is loaded, and with no other", function()
    local files = { ["p.lua"] = MAIN, ["lib/m.lua"] = "return 1" }
    local hash = version(files)
    files["lib/other.lua"] = "return 3"
    assert.equal(hash, (version(files)))
    files["lib/m.lua"] = "return 2"
    local second = version(files)
    assert.not_equal(hash, second)
    files["p.lua"] = MAIN .. " "
    assert.not_equal(second, (version(files)))
  end)

  it("is not fooled by bytes that move from one file into another", function()
    local function of(a, b)
      return (version {
        ["p.lua"] = "require 'a' require 'b' return { api = 1, " .. HOOKS .. " }", ["a.lua"] = a, ["b.lua"] = b })
    end
    assert.not_equal(of("--xy", "--"), of("--x", "y=1--"):sub(1, 64))
    assert.not_equal(of("--1", ""), of("", "--1"))
  end)

  it("comes with a look at the files: whether they are other ones by now", function()
    local dir = policies.directory { ["p.lua"] = MAIN, ["lib/m.lua"] = "return 1" }
    local p = assert(policies.open { file = dir .. "/p.lua" })
    assert.is_false(p:changed())
    assert(os.execute(("cp '%s/lib/m.lua' '%s/m.new' && mv '%s/m.new' '%s/lib/m.lua'"):format(dir, dir, dir, dir)))
    assert.is_true(p:changed())
    p:close()
    policies.remove(dir)
  end)
end)

describe("a policy's preparation", function()
  local p
  local function open(more, options)
    if p then p:close() end
    p = assert(policies.open_text("local P = { api = 1, " .. HOOKS .. " }\n" .. more .. "\nreturn P", options))
  end
  after_each(function()
    if p then p:close() end
    p = nil
  end)

  it("is not needed", function()
    open ""
    assert.is_true(p:setup(nil))
    assert.equal("resubscribe", p:reloaded "abc")
  end)

  it("is told which version it is, and which was in force", function()
    open [[function P.setup(cfg) log.info(json.encode(cfg)) end]]
    local hash = p:version()
    local log = policies.capture(function() assert.is_true(p:setup(nil)) end)
    assert.truthy(log:find('{\\"version\\":\\"' .. hash .. '\\"}', 1, true), log)
    log = policies.capture(function() assert.is_true(p:setup "abc") end)
    assert.truthy(log:find('\\"previous\\":\\"abc\\"', 1, true), log)
  end)

  it("may fail, with file and line", function()
    open "function P.setup() error('no') end"
    local ok, why = p:setup(nil)
    assert.is_nil(ok)
    assert.equal("p.lua:2: no", why)
  end)

  it("says what becomes of open streams", function()
    for _, mode in ipairs { "keep", "resubscribe", "reconnect" } do
      open(("function P.reload(prev) assert(prev == 'abc') return %q end"):format(mode))
      assert.equal(mode, p:reloaded "abc")
    end
    for code, message in pairs {
      ["return 'no'"] = 'reload returned no: "resubscribe", "keep" or "reconnect" was expected',
      ["return true"] = "reload returned boolean:", [""] = "reload returned nil:", ["error('x')"] = "p.lua:2: x",
    } do
      open("function P.reload() " .. code .. " end")
      local mode, why = p:reloaded "abc"
      assert.is_nil(mode)
      assert.truthy(why:find(message, 1, true), why)
    end
  end)
end)

describe("a policy that is tried", function()
  it("neither logs nor counts, but keeps its figures", function()
    local p = policies.with({ subscribe = "log.info('seen') print('seen') error('x')" })
    local rq = policies.request {}
    local log = policies.capture(function() p:subscribe(rq) end)
    assert.equal(1, p:metrics().policy_errors_subscribe)
    assert.truthy(log:find("seen", 1, true))
    p:stage "tried"
    log = policies.capture(function() p:subscribe(rq) end)
    assert.equal("", log)
    assert.equal(1, p:metrics().policy_errors_subscribe)
    local calls, errors, last = p:figures()
    assert.same({ 2, 2, "subscribe: p.lua:3: x" }, { calls, errors, last })
    p:stage "retired" -- still answers what it was asked before
    log = policies.capture(function() p:subscribe(rq) end)
    assert.equal(2, p:metrics().policy_errors_subscribe)
    assert.truthy(log:find("policy_version=" .. p:version():sub(1, 12), 1, true), log)
    p:close()
  end)
end)
