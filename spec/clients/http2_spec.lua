-- HTTP/2 with a client that shares no code with the broker: adapters/http2.py, upon python3-h2. And h2load.
local child = require "support.child"
local eventually = require "support.eventually"
local http = require "support.http"
local tidegate = require "support.tidegate"
local tls = require "support.tls"

local CHECKS = { "subscribe_and_publish", "twenty_streams", "a_large_body", "tiny_windows", "reset", "answers",
  "resume", "goaway" }

describe("HTTP/2 as others speak it", function()
  local ca
  setup(function() ca = tls.authority() end)
  teardown(function() ca:remove() end)

  for _, over in ipairs { "plain", "TLS" } do
    local function start()
      local listen = over == "TLS" and tls.listener { ca:issue { names = { "localhost" } } } or "127.0.0.1:0"
      return tidegate.start { config = { listen = { listen } } }
    end

    it("python3-h2: " .. over, function()
      local broker = start()
      local p = child.start("/usr/bin/python3", { "-B", SPEC_SOURCE_DIR .. "/spec/clients/adapters/http2.py",
        "127.0.0.1", tostring(broker.addresses[1].port), over == "TLS" and ca.cert or nil })
      finally(function() p:stop() end)
      local passed
      local function look()
        passed = {}
        local draining = false
        for line in p:output():gmatch "([^\n]+)\n" do
          local said = http.json.decode(line)
          assert.is_nil(said.failed, line)
          passed[#passed + 1] = said.passed
          draining = draining or said.drain
        end
        return draining
      end
      eventually("it wants the broker to drain", look, 60)
      broker:signal "TERM"
      assert.equal(0, p:wait(60), p:errors())
      look()
      assert.same(CHECKS, passed)
      assert.equal(0, (broker:wait_exit()))
    end)

    it("h2load: " .. over, function()
      local broker = start()
      local code, out = tidegate.run("/usr/bin/h2load", { args = { "-n", "600", "-c", "4", "-m", "20",
        ("%s://127.0.0.1:%d/"):format(over == "TLS" and "https" or "http", broker.addresses[1].port) } })
      assert.equal(0, code)
      assert.matches("600 succeeded, 0 failed, 0 errored, 0 timeout", out)
      assert.matches(over == "TLS" and "Application protocol: h2\n" or "h2c", out)
    end)
  end
end)
