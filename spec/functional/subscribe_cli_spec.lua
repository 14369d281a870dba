-- `tidegate subscribe`, against a broker, and against servers that do what brokers seldom do.
local child = require "support.child"
local eventually = require "support.eventually"
local http = require "support.http"
local http_server = require "support.http_server"
local tidegate = require "support.tidegate"
local undo = require "support.undo"

local keep, undo_all = undo.keeper()

local POLICY = [[
return {
  api = 1,
  authenticate = function(req)
    if req.query.token_wanted and req.bearer ~= "a.b.c" then return tg.deny(401, "a token is wanted") end
    return { sub = req.headers["x-name"] or "anyone" }
  end,
  subscribe = function(req, who)
    local least = tonumber(req.query.least)
    if least then return { topics = req.topics, filter = "least", params = { least = least } } end
    if req.query.never then error "boom" end
    if who.sub == "eve" then return tg.deny(403, "not eve") end
    return { topics = req.topics, filter = "none" }
  end,
  filters = { least = "tonumber(attrs.n) >= $least" },
  publish = function(pub) return pub end,
}
]]

describe("tidegate subscribe", function()
  after_each(undo_all)

  local broker = tidegate.shared { policy = POLICY, config = { sse = { refusal_hold_s = 0 } } }

  local function url(target)
    target = target or broker()
    return target.url or ("http://127.0.0.1:%d"):format(target.port)
  end

  local function run(...)
    return tidegate.run(tidegate.binary(), { args = { "subscribe", "--url", url(), ... } })
  end

  -- One that runs and is connected; it ends with the spec.
  local function start(target, ...)
    local p = child.start(tidegate.binary(), { "subscribe", "--url", url(target), ... })
    keep(function() p:stop() end)
    return p, function(pattern)
      return eventually("it says " .. pattern, function()
        return p:errors():match(pattern) or not p:running() and error(p:errors())
      end)
    end
  end

  local function lines(p, n)
    return eventually(n .. " lines", function()
      local text = p:output()
      return select(2, text:gsub("\n", "")) >= n and text
    end)
  end

  it("prints a part of history, and ends with it", function()
    local ids = {}
    for i = 1, 3 do
      ids[i] = broker():publish("part/a", tostring(i))
    end
    local code, out, err = run("part/*", "--since", "-5m", "--until", ids[2], "--timeout", "60")
    assert.same({ 0, ("%s message 1\n%s message 2\n"):format(ids[1], ids[2]) }, { code, out })
    assert.is_nil(err:find("tries again", 1, true), err)
    code, out = run("part/*", "--since=-5m", "-n", "1", "--quiet")
    assert.same({ 0, ids[1] .. " message 1\n" }, { code, out })
    assert.same({ 0, "", "" }, { run("part/*", "--since", "-9h", "--until", "-5m", "--quiet") })
    code, out, err = run("part/*", "--since", "noon")
    assert.same({ 65, "" }, { code, out })
    assert.truthy(err:find('since is "noon": a time was expected', 1, true), err)
  end)

  it("prints events as they come, and ends after N", function()
    local p, says = start(broker(), "live/*", "-n", "3")
    says "connected to http://127"
    local a = broker():publish("live/x", "one")
    assert.equal(a .. " message one\n", lines(p, 1))
    local b = broker():publish("live/x", "two\nlines", { type = "t" })
    local c = broker():publish("live/x", "")
    broker():publish("live/x", "four")
    assert.equal(0, p:wait())
    assert.equal(("%s message one\n%s t two\n    lines\n%s message \n"):format(a, b, c), p:output())
  end)

  it("begins where it is asked to, and prints objects", function()
    local first = broker():publish("from/a", 'say "hi"')
    local second = broker():publish("from/a", "2")
    local code, out = run("from/*", "--from", "start", "-n", "2", "--json", "--quiet")
    assert.equal(0, code)
    local list = {}
    for line in out:gmatch "[^\n]+" do
      list[#list + 1] = http.json.decode(line)
    end
    assert.same({ { id = first, event = "message", data = 'say "hi"' },
      { id = second, event = "message", data = "2" } }, list)
    code, out = run("from/*", "--from", first, "-n", "1", "--quiet")
    assert.same({ 0, second .. " message 2\n" }, { code, out })
    local err
    code, out, err = run("from/*", "--from", "now", "-n", "1", "--timeout", "0.2", "--quiet")
    assert.same({ 75, "" }, { code, out })
    assert.equal("tidegate subscribe: 0 of 1 events came in time\n", err)
    assert.equal(0, (run("from/*", "--timeout", "0.2")))
  end)

  it("passes parameters, fields and tokens on", function()
    broker():publish("params/a", "1", { attrs = { n = "1" } })
    local id = broker():publish("params/a", "5", { attrs = { n = "5" } })
    local code, out = run("params/a", "--query", "least=3", "--from", "start", "-n", "1", "--quiet")
    assert.same({ 0, id .. " message 5\n" }, { code, out })
    local _, _, err = run("params/a", "--header", "X-Name: eve")
    assert.matches("403 Forbidden: not eve\n$", err)
    broker():write_file("token", "a.b.c\n")
    for _, token in ipairs { "a.b.c", "@" .. broker().dir .. "/token" } do
      code = run("params/a", "--query", "token_wanted=1", "--token", token, "--from", "start", "-n", "1")
      assert.equal(0, code)
    end
  end)

  it("says what a refusal says, and ends where it is for good", function()
    local code, out, err = run("x", "--query", "token_wanted=1")
    assert.same({ 77, "" }, { code, out })
    assert.matches("/events: 401 Unauthorized: a token is wanted %(no token was sent: see %-%-token%)\n$", err)
    for _, options in ipairs { { "--token", "x.y.z" }, { "--header", "authorization: Bearer x.y.z" } } do
      code, out, err = run("x", "--query", "token_wanted=1", table.unpack(options))
      assert.same({ 77, "" }, { code, out })
      assert.matches("/events: 401 Unauthorized: a token is wanted\n$", err)
    end
    code, out, err = run("x", "--query", "last_eventid=1")
    assert.same({ 65, "" }, { code, out })
    assert.matches("400 Bad Request: .*last_event", err)
    local p, says = start(broker(), "x", "--query", "never=1")
    says "refused for now: the policy could not decide"
    says "ended; tries again in %d"
    p:signal "sigint"
    assert.equal(0, p:wait())
  end)

  it("tells what is no broker from a broker that is not there", function()
    local page = http_server.start(function(_, client)
      http_server.answer(client, { body = "<html>", headers = { ["Content-Type"] = "text/html" } })
    end)
    keep(function() page:stop() end)
    local code, _, err = tidegate.run(tidegate.binary(), { args = { "subscribe", "--url", page.url } })
    assert.equal(76, code)
    assert.matches("no event stream: is it a broker's URL", err)
    code, _, err = tidegate.run(tidegate.binary(), { args = { "subscribe", "--url", "unix:/nowhere/at/all" } })
    assert.equal(69, code)
    assert.matches("/nowhere/at/all: .*: does the broker run%?\n$", err)
  end)

  it("resumes behind the last event, waits as long as it is told, and says what was lost", function()
    local targets = {}
    local server = http_server.start(function(request, client)
      targets[#targets + 1] = request.target
      local n = #targets
      if n == 3 then
        return http_server.answer(client, { status = 503, headers = { ["Retry-After"] = "0" } })
      elseif n == 5 then
        return http_server.answer(client, { status = 204 })
      end
      client:write "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\nretry: 100\n"
      client:write(({
        "id: 7\ndata: a\n\nid: 8\ndata: cut off",
        'id: 20\nevent: gap\ndata: {"reason":"expired","requested":"7","resumed_from":"20"}\n\nid: 21\ndata: b\n\n',
        nil,
        'id: 22\nevent: revoked\ndata: {"reason":"you may not"}\n\n',
      })[n])
      client:shutdown(function() client:close() end)
    end)
    keep(function() server:stop() end)
    local p, says = start(server, "t", "--json")
    says "GAP: events may be missing after 7: retention has removed events after it; goes on after 20\n"
    assert.equal(0, p:wait())
    assert.matches("\ntidegate subscribe: the subscription was withdrawn: you may not\n", p:errors())
    assert.matches("\ntidegate subscribe: 503; tries again in 0.0 s\n", p:errors())
    local seen = {}
    for line in p:output():gmatch "[^\n]+" do
      local one = http.json.decode(line)
      seen[#seen + 1] = one.id .. " " .. one.event
    end
    assert.same({ "7 message", "20 gap", "21 message", "22 revoked" }, seen)
    assert.same({ "/events?topic=t", "/events?topic=t&last_event_id=7", "/events?topic=t&last_event_id=21",
      "/events?topic=t&last_event_id=21", "/events?topic=t&last_event_id=22" }, targets)
  end)

  it("tells where the newest events end that a stream begins with, and that only those follow a gap", function()
    local other = tidegate.start { config = { store = { latest = { "score/*" } } }, policy = [[
      return { api = 1, authenticate = function() return { sub = "x" } end, publish = function(pub) return pub end,
        subscribe = function(req) return { topics = req.topics, start = "latest" } end }]] }
    for _, data in ipairs { "old", "new" } do
      other:publish("score/1", data)
    end
    other:publish("score/2", '{"position":"1"}', { type = "live" }) -- somebody's own
    local LIVE = "live: the newest event of each topic has come, now those that follow\n"
    local p, says = start(other, "score/*", "-n", "3")
    local q = start(other, "score/*", "-n", "3", "--json")
    says(LIVE)
    eventually("both are live", function() return q:errors():find(LIVE, 1, true) end)
    other:publish("score/3", "now")
    assert.equal(0, p:wait())
    assert.equal(0, q:wait())
    local plain, objects = {}, {}
    for line in p:output():gmatch "[^\n]+" do
      plain[#plain + 1] = line:match "^%d+ (.*)$"
    end
    assert.same({ "message new", 'live {"position":"1"}', "message now" }, plain)
    for line in q:output():gmatch "[^\n]+" do
      local one = http.json.decode(line)
      objects[#objects + 1] = one.event .. " " .. one.data
    end
    assert.matches('^live {"position":"%d%d+"}$', table.remove(objects, 3))
    assert.same(plain, objects)
    local server = http_server.start(function(_, client)
      client:write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nid: 20\nevent: gap\n"
        .. 'data: {"reason":"compacted","requested":"7","resumed_from":"7"}\n\nid: 21\ndata: b\n\n')
    end)
    keep(function() server:stop() end)
    p, says = start(server, "t", "-n", "1")
    says "GAP: events may be missing after 7: of those that came meanwhile the newest of each topic follows; "
    assert.equal(0, p:wait())
  end)

  it("survives a restart of the broker without a loss", function()
    local other = tidegate.start { config = { listen = { ("127.0.0.1:%d"):format(child.free_port()) },
      drain = { retry_ms = 100 } } }
    local p, says = start(other, "r", "-n", "2")
    says "connected"
    local a = other:publish("r", "1")
    lines(p, 1)
    other:stop()
    other:start()
    local b = other:publish("r", "2")
    assert.equal(0, p:wait())
    assert.equal(("%s message 1\n%s message 2\n"):format(a, b), p:output())
  end)

  it("does not let events speak to the terminal", function()
    local id = broker():publish("evil", "\27[2J\u{9b}31m\ttab")
    local _, out = run("evil", "--from", "start", "-n", "1", "--quiet")
    assert.equal(id .. " message ?[2J?31m\ttab\n", out)
  end)

  it("finds the broker by a configuration: the one that is named, or the first that is there", function()
    local b = tidegate.start { config = { listen = { "unix:@DIR/s?mode=0660" }, http = { events_path = "/ev" } } }
    assert.equal(201, http.post(b, "/ev?topic=a", "x").status)
    for _, options in ipairs { { cwd = b.dir }, { env = { TIDEGATE_CONF = b.conf_path } },
      { args = { "--conf", b.conf_path } } } do
      options.args = { "subscribe", "a", "--from", "start", "-n", "1", table.unpack(options.args or {}) }
      local got, _, err = tidegate.run(tidegate.binary(), options)
      assert.equal(0, got, err)
      assert.truthy(err:find("connected to " .. b.dir .. "/s\n", 1, true), err)
    end
  end)

  it("ends with 74 when nobody reads what it prints", function()
    broker():publish("full", "x")
    local code, _, err = tidegate.run("/bin/sh", { args = { "-c",
      ("'%s' subscribe --url %s full --from start >/dev/full"):format(tidegate.binary(), url()) } })
    assert.equal(74, code)
    assert.matches("could not be written", err)
  end)

  it("answers 64 to wrong words", function()
    for _, words in ipairs { { "a", "--from", "yesterday" }, { "a", "-n", "0" }, { "a", "--query", "x" },
      { "a", "--header", "no colon" }, { "a", "--header", "Host: x" }, { "a", "--conf", "x" }, { "a", "--what" } } do
      local code, _, err = run(table.unpack(words))
      assert.equal(64, code, table.concat(words, " "))
      assert.matches("see: tidegate help subscribe", err)
    end
    for _, bad in ipairs { "ftp://x", "http://a b", "http://x/events?topic=a", "unix:relative" } do
      assert.equal(64, (tidegate.run(tidegate.binary(), { args = { "subscribe", "--url", bad } })), bad)
    end
  end)
end)
