-- What strangers can do to a TLS listener before and after a handshake: it stays answering, bounded in memory.
local eventually = require "support.eventually"
local files = require "support.files"
local http = require "support.http"
local sockets = require "support.sockets"
local sse = require "support.sse"
local tidegate = require "support.tidegate"
local tls = require "support.tls"

describe("a flood of", function()
  local ca, cert
  setup(function()
    ca = tls.authority()
    cert = ca:issue { names = { "a.example" } }
  end)
  teardown(function() ca:remove() end)

  local function start(limits, streams)
    local broker = tidegate.start {
      config = { listen = { tls.listener { cert } }, limits = limits, sse = streams },
      env = { ASAN_OPTIONS = "quarantine_size_mb=1:exitcode=86:" .. (os.getenv "ASAN_OPTIONS" or "") }, -- else it grows
    }
    broker.tls = { ca = ca.cert, name = "a.example" }
    return broker
  end

  -- A stream that is there already gets an event.
  local function assert_serves(broker, stream)
    local data = tostring(eventually.now())
    broker:publish("t", data)
    assert.equal(data, stream:next().data)
  end

  it("handshakes that never end takes little memory, stops nobody, and is cleared away", function()
    local broker = start { head_timeout_s = 3, max_connections = 400 }
    local stream = sse.open(broker, { topic = "t" })
    local before, n = broker:memory_kb(), 300
    local open = {} -- a connection that nothing holds is collected, and closed before its time
    local hello = "\22\3\1\2\0\1\0\1\252\3\3" .. ("h"):rep(200) -- 216 bytes of a record of 512
    for i = 1, n do
      local c = http.connect(broker, { tls = false })
      c:send(i % 3 == 0 and hello or i % 3 == 1 and hello:sub(1, 3) or "")
      open[i] = c
    end
    assert_serves(broker, stream)
    local each = (broker:memory_kb() - before) / n
    assert.is_true(each < 64, ("%g KiB each"):format(each))
    eventually("all of them are closed", function()
      return broker:metric 'tidegate_tls_handshake_failures_total{reason="timeout"}' == n
    end)
    assert_serves(broker, stream)
    eventually("nothing is left", function() return broker:metric "tidegate_tls_handshakes_active" == 0 end)
    for _, c in ipairs(open) do
      c:close()
    end
  end)

  it("whole handshakes leaves nothing behind, and streams go on meanwhile", function()
    local broker = start {}
    local stream = sse.open(broker, { topic = "t" })
    local function churn()
      local code, out, err = tidegate.run(tidegate.bench_binary(), { timeout = 60, args = { "churn", "--tls", "--port",
        tostring(broker.port), "--seconds", "1", "--connections", "64", "--json" } })
      assert.equal(0, code, err)
      return http.json.decode(out).connections.opened
    end
    churn()
    assert_serves(broker, stream)
    local before = broker:memory_kb()
    local opened = 0
    eventually("many handshakes", function()
      opened = opened + churn()
      return opened >= 300
    end, 60)
    assert_serves(broker, stream)
    local grown = broker:memory_kb() - before
    assert.is_true(grown < 24 * 1024, ("%d KiB after %d handshakes"):format(grown, opened))
    assert.is_nil(stream.ended)
  end)

  -- Else who is connected waits for who connects, where both share a core.
  it("handshakes gives way to the loop, on two threads of its own", function()
    local broker = start {}
    local function niceness() -- of each thread; the first is the loop's
      local list, dir = {}, ("/proc/%d/task/"):format(broker.pid)
      for tid in assert(io.popen("ls " .. dir)):lines() do
        local fields = files.read(dir .. tid .. "/stat"):gsub("^.*%) ", "")
        list[#list + 1] = tonumber(select(17, fields:match(("(%S+) "):rep(17))))
      end
      return list
    end
    local before = niceness()[1]
    assert.equal(200, http.get(broker, "/").status)
    local nicer, all = 0, niceness()
    for _, nice in ipairs(all) do
      nicer = nicer + (nice == math.min(all[1] + 10, 19) and 1 or 0)
    end
    assert.equal(before, all[1])
    assert.equal(2, nicer)
  end)

  it("renegotiations is refused: TLS 1.2 shakes hands once", function()
    local broker = start {}
    local s = assert(sockets.connect(broker, { tls = { ca = ca.cert, name = "a.example", max = "1.2" } }))
    assert.equal("TLSv1.2", s:info().version)
    assert.is_true(s.tls:renegotiate())
    local ok, why
    eventually("it is refused", function()
      ok, why = s.tls:handshake()
      return ok or why ~= "read"
    end)
    assert.is_nil(ok)
    assert.equal("handshake: no renegotiation", why)
    assert.equal(1, broker:metric "tidegate_tls_handshakes_total")
    assert.equal(200, http.get(broker, "/").status)
    s:close()
  end)

  it("new keys from a client that reads no answer ends its connection", function()
    local broker = start({ head_timeout_s = 600 }, { dead_peer_s = 3, heartbeat_s = 2 })
    local stream = sse.open(broker, { topic = "t" })
    local s = assert(sockets.connect(broker, { rcvbuf = 4096 }))
    local before, why = broker:memory_kb(), nil
    eventually("it is ended", function()
      for _ = 1, 1000 do
        s.tls:key_update(true)
        local ok
        ok, why = s.tls:handshake()
        if not ok and why ~= "write" then
          return true
        end
      end
      assert_serves(broker, stream)
    end, 60)
    assert.not_equal("read", why)
    assert_serves(broker, stream)
    local grown = broker:memory_kb() - before
    assert.is_true(grown < 16 * 1024, grown .. " KiB")
  end)
end)
