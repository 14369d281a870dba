-- What idle streams over HTTP/2 take, with TLS and without: a connection with one stream each, and twenty streams on
-- each connection. PSS of the broker, as /proc says.
--
--   TIDEGATE_BIN=build/release/tidegate build/release/tidegate_spec spec/bench/h2_memory.lua
local h2 = require "support.h2"
local eventually = require "support.eventually"
local sse = require "support.sse"
local tidegate = require "support.tidegate"
local tls = require "support.tls"

local CONNECTIONS, STREAMS = 400, 20

local function pss(broker)
  local f = assert(io.open(("/proc/%d/smaps_rollup"):format(broker.pid)))
  local kb = f:read("a"):match "\nPss:%s+(%d+) kB"
  f:close()
  return tonumber(kb) * 1024
end

describe("idle streams over HTTP/2", function()
  local ca
  setup(function() ca = tls.authority() end)
  teardown(function() ca:remove() end)

  for _, over in ipairs { "plain", "TLS" } do
    it(over, function()
      local listen = over == "TLS" and tls.listener { ca:issue { names = { "a.example" } } } or "127.0.0.1:0"
      local limits = { max_connections_per_address = 50000 } -- streams count as well
      local broker = tidegate.start { config = { listen = { listen }, limits = limits } }
      broker.tls = over == "TLS" and { ca = ca.cert, name = "a.example" } or nil
      local list = {}
      local function open(n)
        for _ = 1, n do
          list[#list + 1] = assert(h2.connect(broker))
          sse.open(broker, { topic = "t", h2 = list[#list] })
        end
      end
      open(50) -- what the first of them makes the process take for good
      local empty = pss(broker)
      open(CONNECTIONS)
      local first = pss(broker)
      for i = #list - CONNECTIONS + 1, #list do
        for _ = 2, STREAMS do
          sse.open(broker, { topic = "t", h2 = list[i] })
        end
      end
      eventually("all streams are open", function()
        return broker:metric "tidegate_subscribers" == CONNECTIONS * STREAMS + 50
      end)
      local all = pss(broker)
      print(("\n%s: a connection with a stream %.0f bytes of PSS, each further stream on it %.0f"):format(over,
        (first - empty) / CONNECTIONS, (all - first) / (CONNECTIONS * (STREAMS - 1))))
    end)
  end
end)
