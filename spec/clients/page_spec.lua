-- The try-out page in Chromium and Firefox, on a wide and on a narrow screen, light and dark: axe-core finds nothing,
-- nothing is wider than the screen, events come first on a phone, and the code it prints runs as printed.
local child = require "support.child"
local eventually = require "support.eventually"
local http = require "support.http"
local roster = require "clients.roster"
local tidegate = require "support.tidegate"

local POLICY = [[
return {
  api = 1,
  authenticate = function(req)
    local token = req.headers.authorization
    if token ~= "Bearer it's me" then
      return tg.deny(401, "a token is missing")
    end
    return { sub = "ann" }
  end,
  subscribe = function(req)
    if req.topics[1] == "secret" then
      return tg.deny(403, "not for browsers")
    end
    return { topics = req.topics }
  end,
  publish = function(pub) return pub end,
}
]]

describe("the page", function()
  local broker, running, seen = nil, {}, {}

  setup(function()
    broker = tidegate.start { policy = POLICY, keep = true }
    for name, program in pairs { chrome = "chromium", firefox = "firefox-esr" } do
      running[name] = roster.start(name, "page.mjs", ("http://%s:%d/"):format(broker.host, broker.port),
        { PROGRAM = child.find(program), TOKEN = "it's me" })
    end
    for name, process in pairs(running) do
      assert.equal(0, process:wait(120), process:errors())
      seen[name] = http.json.decode(process:output())
    end
  end)
  teardown(function()
    for _, process in pairs(running) do
      process:stop()
    end
    broker:dispose()
  end)

  for name, screens in pairs { chrome = 4, firefox = 2 } do
    it("has nothing that axe-core finds, in " .. name, function()
      assert.equal(screens, #seen[name].screens)
      for _, screen in ipairs(seen[name].screens) do
        assert.same({}, screen.violations, screen.name)
        assert.is_false(screen.overflow, screen.name)
        if screen.name:find "^390" then
          assert.is_true(screen.eventsTop < screen.formTop)
        end
      end
    end)

    it("stops what it shows, though a refusal came in between, in " .. name, function()
      assert.equal(0, seen[name].left)
    end)

    it("writes only refusals to the console, in " .. name, function()
      for _, line in ipairs(seen[name].console) do
        assert.truthy(line:find "40[13]", line)
      end
    end)
  end

  -- Runs the code that subscribes, then the code that publishes; both as printed.
  local function runs(program, args, code)
    local reader = child.start(program, args(code[1]))
    finally(function() reader:stop() end)
    local before = broker:metric "tidegate_subscribers"
    eventually("the code subscribes", function()
      return broker:metric "tidegate_subscribers" > before, reader:errors()
    end, 30)
    local status, out, err = tidegate.run(program, { args = args(code[2]) })
    assert.equal(0, status, err)
    assert.truthy(out:find('"id"', 1, true), out)
    eventually("the event arrives", function()
      return reader:output():find('it\'s "ü" 😀 \\ $x', 1, true) ~= nil, reader:output()
    end, 30)
  end

  it("prints shell code that runs", function()
    runs("/bin/sh", function(code) return { "-c", code } end, seen.chrome.code.curl)
  end)

  it("prints Python that runs", function()
    runs("/usr/bin/python3", function(code) return { "-c", code } end, seen.firefox.code.python)
  end)

  it("prints JavaScript that runs", function()
    local function args(code) return { "--input-type=module", "-e", code } end
    runs(child.find "node", args, seen.chrome.code.javascript)
  end)
end)
