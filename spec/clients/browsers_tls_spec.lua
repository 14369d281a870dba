-- EventSource in browsers over TLS, several streams at a time: while certificates are replaced, the policy is
-- loaded again and the broker drains, each stream gets every event once and in order.
local child = require "support.child"
local eventually = require "support.eventually"
local http = require "support.http"
local roster = require "clients.roster"
local sockets = require "support.sockets"
local tidegate = require "support.tidegate"
local tls = require "support.tls"

local STREAMS = 4 -- browsers open six connections to a host

local function copy(from, to)
  local f = assert(io.open(from, "rb"))
  local text = f:read "a"
  f:close()
  f = assert(io.open(to .. ".new", "wb"))
  assert(f:write(text))
  assert(f:close())
  assert(os.rename(to .. ".new", to))
end

for _, name in ipairs { "Chromium", "Firefox" } do
  describe(name .. " over TLS", function()
    local ca, first, second, broker, browser, expected
    local streams = {} -- by number: { opens =, errors =, events }

    local function use(cert)
      copy(cert.key, broker.dir .. "/key.pem")
      copy(cert.cert, broker.dir .. "/cert.pem")
    end

    local function read()
      for i = 0, STREAMS - 1 do
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
        http = { cors_origins = { "*" } }, sse = { retry_ms = 300 }, drain = { retry_ms = 300 },
      } }
      use(first)
      broker.tls = { ca = ca.cert }
      broker:start()
      browser = roster.start(name, "browser.mjs", ("https://127.0.0.1:%d/events?topic=t"):format(broker.port),
        { TRUST = ca.cert, STREAMS = tostring(STREAMS) })
      eventually("all streams are open", all(function(s) return s.opens > 0 end), 60)
    end)
    teardown(function()
      if browser then
        browser:stop()
      end
      broker:dispose()
      ca:remove()
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
