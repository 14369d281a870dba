-- policy.path: where policies find modules that they share.
local policies = require "support.policies"

local MAIN = [[local m = require "lib.m" return { api = 1, authenticate = function() return { sub = m } end,
  subscribe = function() return { topics = { "a" } } end }]]

describe("the path of a policy", function()
  local dir

  after_each(function()
    policies.remove(dir)
  end)

  local function write(files)
    dir = policies.directory(files)
  end

  local function open(...)
    local path = { ... }
    for i, name in ipairs(path) do
      path[i] = dir .. "/" .. name
    end
    return policies.open { file = dir .. "/own/p.lua", path = path }
  end

  local function found(...)
    local p = assert(open(...))
    local identity, version = p:subscribe(policies.request()).identity, p:version()
    p:close()
    return identity, version
  end

  it("is searched after the policy's directory, in its order", function()
    write { ["own/p.lua"] = MAIN, ["one/lib/m.lua"] = "return 'one'", ["two/lib/m.lua"] = "return 'two'",
      ["none/x"] = "" }
    local _, version = found "one"
    assert.equal('{"sub":"one"}', found("one", "two"))
    assert.equal('{"sub":"two"}', found("none", "two", "one"))
    assert.not_equal(version, select(2, found "two"))
    assert(os.execute(("mkdir '%s/own/lib' && echo \"return 'own'\" > '%s/own/lib/m.lua'"):format(dir, dir)))
    assert.equal('{"sub":"own"}', found("one", "two"))
  end)

  it("has modules that require others from it, and names all places where there is none", function()
    write { ["own/p.lua"] = MAIN, ["one/lib/m.lua"] = "local n = require 'n' return n",
      ["two/n.lua"] = "return 'n'", ["none/x"] = "" }
    assert.equal('{"sub":"n"}', found("one", "two"))
    local _, err = open("one", "none")
    assert.matches(("module 'n' not found in %s/own, %s/one, %s/none"):format(dir, dir, dir), err, 1, true)
    assert.matches("m.lua:1: ", err, 1, true)
  end)

  it("is a bound: links do not lead out of it", function()
    write { ["own/p.lua"] = MAIN, ["one/lib/x"] = "", ["secret.lua"] = "return 'secret'" }
    assert(os.execute(("ln -s '%s/secret.lua' '%s/one/lib/m.lua'"):format(dir, dir)))
    local _, err = open "one"
    assert.matches("module 'lib.m' is outside the directory of policy.path that it is in", err, 1, true)
  end)

  it("must be of directories that are there", function()
    write { ["own/p.lua"] = MAIN, ["one/lib/m.lua"] = "return 'one'" }
    local _, err = open("one", "none")
    assert.matches(("policy.path: %s/none: No such file or directory"):format(dir), err, 1, true)
    _, err = open("one", "own/p.lua")
    assert.matches(("policy.path: %s/own/p.lua is not a directory"):format(dir), err, 1, true)
  end)

  it("is watched: a module that changes, one in another's place, a link to a directory that is turned", function()
    write { ["own/p.lua"] = MAIN, ["one/lib/m.lua"] = "return 1", ["two/lib/m.lua"] = "return 2", ["none/x"] = "" }
    assert(os.execute(("ln -s one '%s/current'"):format(dir)))
    for _, order in ipairs {
      "echo 'return 10' > '%s/one/lib/m.lua'", "mkdir '%s/none/lib' && echo 'return 3' > '%s/none/lib/m.lua'",
      "ln -sfn two '%s/current'",
    } do
      local p = assert(open("none", "current"))
      assert.is_false(p:changed())
      assert(os.execute((order:gsub("%%s", dir))))
      assert.is_true(p:changed())
      p:close()
    end
  end)
end)
