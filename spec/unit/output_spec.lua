-- What a run of the specs prints: nothing of what parts of the broker log in its process, unless a spec fails.
local child = require "support.child"
local tidegate = require "support.tidegate"
local uv = require "luv"

local SPEC = [[
  local policies = require "support.policies"
  describe("one", function()
    it("passes", function()
      assert.is_nil(policies.open_text "return { api = 1, marked_good = 1 }")
      policies.with { authenticate = "error 'marked as good'" }:subscribe(policies.request {})
    end)
    it("fails", function()
      policies.with { authenticate = "error 'marked as bad'" }:subscribe(policies.request {})
      %s
    end)
  end)
]]

local function run(ending)
  local dir = child.directory()
  local f = assert(io.open(dir .. "/some_spec.lua", "w"))
  f:write(SPEC:format(ending))
  f:close()
  local exe = assert(uv.fs_readlink "/proc/self/exe")
  local code, out, err = tidegate.run(exe, { args = { dir .. "/some_spec.lua" }, cwd = SPEC_SOURCE_DIR })
  child.remove_tree(dir)
  return code, out .. err
end

describe("a run of the specs", function()
  it("prints no log line where all pass", function()
    local code, text = run ""
    assert.equal(0, code, text)
    assert.is_nil(text:find("ts=", 1, true), text)
    assert.matches("2 passed, 0 failed", text)
  end)

  it("prints those of the spec that fails", function()
    local code, text = run "assert.equal(1, 2)"
    assert.equal(1, code, text)
    assert.matches("marked as bad", text)
    assert.is_nil(text:find("marked as good", 1, true), text)
    assert.matches("Logged by: one fails\n", text)
    assert.matches("1 passed, 1 failed", text)
  end)
end)
