-- `tidegate doctor`: what it says of a machine, and of the way to the clients. A database: spec/pg/doctor_spec.lua.
local http_server = require "support.http_server"
local tidegate = require "support.tidegate"
local tls = require "support.tls"

local function run(...)
  return tidegate.run(tidegate.binary(), { args = { "doctor", ... } })
end

-- One line of the report.
local function line(out, what)
  return out:match("\n(%a+ +" .. what .. ": [^\n]+)") or out:match("^(%a+ +" .. what .. ": [^\n]+)") or out
end

describe("tidegate doctor CONF", function()
  local function prepare(config)
    local b = tidegate.prepare { config = config }
    tidegate.forget_later(b)
    return b
  end

  it("finds nothing wrong where nothing is, and leaves nothing behind", function()
    local b = prepare { keys = { main = { secret = ("k"):rep(32) } } }
    local code, out, err = run(b.conf_path)
    assert.same({ 0, "" }, { code, err })
    assert.matches("^ok +descriptors: %d+ are allowed, %d+ are wanted$", line(out, "descriptors"))
    assert.matches("a sync takes [%d.]+ ms in " .. b.dir:gsub("%-", "%%-"), out)
    assert.matches(" free %(%d+ %%%)", out)
    assert.matches("^ok +keys: 1 key set$", line(out, "keys"))
    assert.matches("\n%d+ ok, %d warnings?, 0 failures\n$", out)
    for text in out:gmatch "[^\n]+" do
      assert.is_true(#text <= 80 or text:find(b.dir, 1, true) ~= nil, text)
    end
    assert.is_nil(require("lfs").attributes(b.dir .. "/store"))
  end)

  it("says what is too little, what is missing, and what to do", function()
    local b = prepare { store = { path = "/proc/nowhere" }, keys = { main = { secret_file = "none" } } }
    local code, out = tidegate.run("/bin/sh", { args = { "-c", 'ulimit -n 300; exec "$0" doctor "$1"',
      tidegate.binary(), b.conf_path } })
    assert.equal(1, code, out)
    assert.matches("^warn +descriptors: at most 300, but limits.max_connections is 16000", line(out, "descriptors"))
    assert.matches("\n      Raise the hard limit", out)
    assert.matches("^FAIL +store: /proc: cannot be written", line(out, "store"))
    assert.matches("^FAIL +keys: .*main.*none", line(out, "keys"))
  end)

  it("looks at certificates", function()
    local ca = tls.authority()
    finally(function() ca:remove() end)
    local b = prepare { listen = { tls.listener { ca:issue { names = { "a.test" }, days = -1 } } } }
    local _, out = run(b.conf_path)
    assert.matches("^warn +certificates: listen%[1%].*expired", line(out, "certificates"))
  end)

  it("answers 64 and 78 to wrong words and configurations", function()
    assert.equal(78, (run "/nowhere/tidegate.lua"))
    assert.equal(64, (run("a", "b")))
    assert.equal(64, (tidegate.run(tidegate.binary(), { args = { "doctor" }, cwd = "/" })))
  end)
end)

describe("tidegate doctor --url", function()
  it("measures a stream to its heartbeat", function()
    local broker = tidegate.start { config = { sse = { heartbeat_s = 1 } } }
    local code, out, err = run("--url", ("http://127.0.0.1:%d"):format(broker.port))
    assert.same({ 0, "" }, { code, err }, out)
    assert.matches("^ok +stream: connected after %d+ ms, first byte after %d+ ms, HTTP/1.1$", line(out, "stream"))
    assert.matches("^%a+ +events: ", line(out, "events"))
    assert.matches("^ok +heartbeat: came after ", line(out, "heartbeat"))
    assert.matches("^ok +compression: the stream is not compressed$", line(out, "compression"))
  end)

  it("goes through TLS and HTTP/2", function()
    local ca = tls.authority()
    finally(function() ca:remove() end)
    local broker = tidegate.start { config = { sse = { heartbeat_s = 1 }, compress = { gzip = true, min_members = 1 },
      listen = { tls.listener { ca:issue { names = { "localhost" } } } } } }
    local code, out = run("--url", ("https://localhost:%d"):format(broker.port), "--ca-file", ca.cert)
    assert.equal(0, code, out)
    assert.matches("HTTP/2$", line(out, "stream"))
    assert.matches("^ok +HTTP/2: is spoken$", line(out, "HTTP/2"))
    assert.matches("^ok +compression: the stream is gzip$", line(out, "compression"))
  end)

  it("finds a proxy that holds events back, and one that holds everything back", function()
    local HEAD = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nVia: 1.1 slow\r\n\r\n"
    for what, first in pairs {
      events = 'id: 1\nevent: position\ndata: {"position":"1"}\n\n',
      stream = "",
    } do
      local server = http_server.start(function(request, client)
        if request.method == "POST" then
          http_server.answer(client, { status = 201, body = '{"id":"2"}' })
        else
          client:write(HEAD .. first)
        end
      end)
      finally(function() server:stop() end)
      local code, out = run("--url", server.url, "--wait", "1")
      assert.equal(1, code, out)
      assert.matches(what == "events" and "^FAIL +events: event 1 was published, and did not arrive"
        or "^FAIL +stream: answered after %d+ ms, but the stream has not begun", line(out, what))
      assert.matches("[Ss]witch buffering off in the proxy", out)
      server:stop()
    end
  end)

  it("says that the stream has ended, and not what could not be seen because of that", function()
    local HEAD = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/event-stream\r\n\r\n"
    local POSITION = 'id: 1\nevent: position\ndata: {"position":"1"}\n\n'
    for _, first in ipairs { POSITION, "" } do
      local server
      server = http_server.start(function(request, client)
        if request.method == "POST" then
          http_server.answer(client, { status = 201, body = '{"id":"2"}' })
          server.stream:close()
        else
          server.stream = client
          client:write(HEAD .. first, first == "" and function() client:close() end or nil)
        end
      end)
      finally(function() server:stop() end)
      local code, out = run("--url", server.url, "--wait", "20")
      assert.equal(1, code, out)
      assert.matches("FAIL +stream: it ended after [%d.]+ s\n", out)
      assert.is_nil(out:find("heartbeat:", 1, true), out)
      assert.is_nil(out:find("events:", 1, true), out)
      assert.is_nil(out:find("has not begun", 1, true), out)
      server:stop()
    end
  end)

  it("says who refuses, and that it cannot publish", function()
    local broker = tidegate.start { config = { sse = { heartbeat_s = 1 } }, policy = [[
      return { api = 1, authenticate = function(req)
          if req.bearer ~= "a.b.c" then return tg.deny(401, "who are you") end
          return { sub = "x" }
        end,
        subscribe = function(req) return { topics = req.topics } end,
        publish = function() return tg.deny(403, "not you") end }]] }
    local url = ("http://127.0.0.1:%d"):format(broker.port)
    local code, out = run("--url", url)
    assert.equal(1, code)
    assert.matches("^FAIL +stream: refused: 401 Unauthorized: who are you", line(out, "stream"))
    code, out = run("--url", url, "--token", "a.b.c")
    assert.equal(0, code)
    assert.matches("^warn +publishing: refused: 403 Forbidden: not you", line(out, "publishing"))
    assert.matches("^ok +heartbeat: came", line(out, "heartbeat"))
    code, out = run("--url", "http://127.0.0.1:1")
    assert.equal(1, code)
    assert.matches("^FAIL +stream: http://127.0.0.1:1/events: ", line(out, "stream"))
  end)
end)
