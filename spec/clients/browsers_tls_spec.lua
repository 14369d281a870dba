-- EventSource in browsers over TLS, over HTTP/1.1 and over HTTP/2, several streams at a time: while certificates are
-- replaced, the policy is loaded again and the broker drains, each stream gets every event once and in order.
local child = require "support.child"
local eventually = require "support.eventually"
local http = require "support.http"
local roster = require "clients.roster"
local sockets = require "support.sockets"
local tidegate = require "support.tidegate"
local tls = require "support.tls"

-- Browsers open six connections to a host, with one stream each over HTTP/1.1.
local CASES = {
  { "Chromium", "HTTP/1.1", 4 }, { "Firefox", "HTTP/1.1", 4 },
  { "Chromium", "HTTP/2", 40 }, { "Firefox", "HTTP/2", 40 },
}

for _, case in ipairs(CASES) do
  local name, protocol, count = table.unpack(case)
  local h2 = protocol == "HTTP/2"
  describe(("%s over %s with TLS"):format(name, protocol), function()
    local ca, first, second, broker, browser, expected
    local streams = {} -- by number: { opens =, errors =, events }

    local function use(cert)
      tls.replace(cert.key, broker.dir .. "/key.pem")
      tls.replace(cert.cert, broker.dir .. "/cert.pem")
    end

    local function read()
      for i = 0, count - 1 do
        streams[i] = { opens = 0, errors = 0 }
      end
      for line in browser:output():gmatch "([^\n]*)\n" do
        local said = http.json.decode(line)
        local s = streams[said.stream]
        if said.open then
          s.opens = s.opens + 1
        elseif said.event == "message" then
          s[#s + 1] = said.data
        elseif said.error then
          s.errors = s.errors + 1
        end
      end
      return streams
    end

    local function all(holds)
      return function()
        for _, s in pairs(read()) do
          if not holds(s) then
            return false
          end
        end
        return true
      end
    end

    local function publish(n)
      for _ = 1, n do
        expected[#expected + 1] = "event " .. #expected + 1
        broker:publish("t", expected[#expected])
      end
    end

    local function assert_all_received()
      eventually("all streams have all events", all(function(s) return #s >= #expected end), 60)
      for _, s in pairs(streams) do
        s.opens, s.errors = nil, nil
        assert.same(expected, s)
      end
    end

    setup(function()
      expected = {}
      ca = tls.authority()
      first, second = ca:issue { san = "IP:127.0.0.1" }, ca:issue { san = "IP:127.0.0.1" }
      broker = tidegate.prepare { config = {
        listen = { { address = "127.0.0.1:" .. child.free_port(), tls = { { cert = "cert.pem", key = "key.pem" } } } },
        http = { cors_origins = { "*" }, h2 = h2 }, sse = { retry_ms = 300 }, drain = { retry_ms = 300 },
      } }
      use(first)
      broker.tls = { ca = ca.cert }
      broker:start()
      browser = roster.start(name, "browser.mjs", ("https://127.0.0.1:%d/events?topic=t"):format(broker.port),
        { TRUST = ca.cert, STREAMS = tostring(count) })
      eventually("all streams are open", all(function(s) return s.opens > 0 end), 60)
    end)
    teardown(function()
      if browser then
        browser:stop()
      end
      broker:dispose()
      ca:remove()
    end)

    it("opens as many connections as it must", function()
      assert.equal(count, broker:metric "tidegate_subscribers")
      assert.equal(h2 and 1 or 0, broker:metric "tidegate_h2_connections")
      assert.is_true(h2 or broker:metric "tidegate_connections" >= count)
    end)

    it("gets all events on all streams while certificate and policy are replaced, and no stream ends", function()
      publish(5)
      use(second)
      eventually("the other certificate is served", function()
        publish(1)
        local s = assert(sockets.connect(broker))
        local serial = s:info().serial
        sockets.close(s)
        return serial == second.serial
      end)
      assert.equal(200, broker:reload(tidegate.OPEN_POLICY .. "-- again").status)
      publish(5)
      assert_all_received()
      for _, s in pairs(read()) do
        assert.same({ 1, 0 }, { s.opens, s.errors })
      end
    end)

    it("comes back after a drain, and misses nothing", function()
      broker:stop()
      broker:start()
      publish(3)
      assert_all_received()
      for _, s in pairs(read()) do
        assert.is_true(s.opens >= 2)
      end
      publish(3)
      assert_all_received()
    end)
  end)
end
