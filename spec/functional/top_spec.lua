-- `tidegate top`, against brokers of one and of several workers.
local child = require "support.child"
local eventually = require "support.eventually"
local http = require "support.http"
local http_server = require "support.http_server"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

local function run(...)
  return tidegate.run(tidegate.binary(), { args = { "top", ... } })
end

describe("tidegate top", function()
  for _, workers in ipairs { 1, 2 } do
    it(("shows what a broker of %d does"):format(workers), function()
      local broker = tidegate.start { config = { workers = workers, admin = "unix:@DIR/admin" } }
      local c = sse.open(broker, { topic = "a" })
      finally(function() c:close() end)
      local admin = "unix:" .. broker.dir .. "/admin"
      local code, out, err = run("--admin", admin, "-n", "1", "--every", "0.1")
      assert.same({ 0, "" }, { code, err })
      assert.matches("^streams +1 +behind +0\n", out)
      assert.matches("\nconnections +%d+ +opened/s +0.0\n", out)
      assert.equal(workers > 1, out:find("\nWORKER", 1, true) ~= nil)
      for line in out:gmatch "[^\n]+" do
        assert.is_true(#line <= 80, line)
      end
      code, out = run("--admin", admin, "-n", "2", "--every", "0.1", "--json")
      assert.equal(0, code)
      assert.equal(2, select(2, out:gsub("\n", "")))
      assert.equal(1, http.json.decode(out:match "[^\n]+").streams)
    end)
  end

  it("makes rates of counters, also of those with labels, and none when the broker was restarted", function()
    local pages = {
      "tidegate_events_published_total 100\ntidegate_refused_denied_total{status=\"401\"} 1\n"
        .. "tidegate_refused_denied_total{status=\"403\"} 1\ntidegate_sent_bytes_total 1e9\n",
      "tidegate_events_published_total 200\ntidegate_refused_denied_total{status=\"401\"} 51\n"
        .. "tidegate_refused_denied_total{status=\"403\"} 51\ntidegate_sent_bytes_total 5\n"
        .. "tidegate_events_published_total_of_another 7\n",
    }
    local n = 0
    local server = http_server.start(function(_, client)
      n = n + 1
      http_server.answer(client, { body = pages[math.min(n, #pages)] })
      client:shutdown(function() client:close() end)
    end)
    finally(function() server:stop() end)
    local code, out, err = run("--admin", "127.0.0.1:" .. server.port, "-n", "1", "--every", "0.1", "--json")
    assert.same({ 0, "" }, { code, err })
    local doc = http.json.decode(out)
    assert.is_true(doc.published_per_s > 0 and doc.published_per_s <= 1000)
    assert.is_true(math.abs(doc.denied_per_s - doc.published_per_s) < 0.01)
    assert.equal(0, doc.sent_bytes_per_s)
  end)

  it("ends at a signal, and when nobody answers", function()
    local broker = tidegate.start()
    local p = child.start(tidegate.binary(), { "top", "--admin", ("127.0.0.1:%d"):format(broker.admin.port),
      "--every", "0.1" })
    finally(function() p:stop() end)
    eventually("it has printed", function() return p:output():find("streams", 1, true) end)
    p:signal "sigint"
    assert.equal(0, p:wait())
    local code, out, err = run("--admin", "127.0.0.1:1")
    assert.same({ 69, "" }, { code, out })
    assert.matches("no answer came from this admin address", err)
    assert.equal(64, (run("-n", "0")))
  end)
end)
