-- `tidegate publish`, against a broker.
local http = require "support.http"
local child = require "support.child"
local eventually = require "support.eventually"
local http_server = require "support.http_server"
local tidegate = require "support.tidegate"
local undo = require "support.undo"

local keep, undo_all = undo.keeper()

local POLICY = [[
return {
  api = 1,
  authenticate = function() return { sub = "anyone" } end,
  subscribe = function(req) return { topics = req.topics, format = "json" } end,
  publish = function(pub)
    if pub.topic == "secret" then return tg.deny(403, "not that topic") end
    return pub
  end,
}
]]

describe("tidegate publish", function()
  after_each(undo_all)

  local broker = tidegate.shared { policy = POLICY }

  local function url()
    return ("http://127.0.0.1:%d"):format(broker().port)
  end

  -- `input` (text or nil) is what comes from standard input.
  local function run(input, ...)
    if not input then
      return tidegate.run(tidegate.binary(), { args = { "publish", "--url", url(), ... } })
    end
    broker():write_file("input", input)
    return tidegate.run("/bin/sh", { args = { "-c", [[input=$1; shift; exec "$@" <"$input"]], "sh",
      broker().dir .. "/input", tidegate.binary(), "publish", "--url", url(), ... } })
  end

  -- What is stored of a topic, as envelopes.
  local function stored(topic, n)
    local code, out, err = tidegate.run(tidegate.binary(), { args = { "subscribe", "--url", url(), topic,
      "--from", "start", "-n", tostring(n), "--json", "--timeout", "20" } })
    assert.equal(0, code, err)
    local list = {}
    for line in out:gmatch "[^\n]+" do
      list[#list + 1] = http.json.decode(http.json.decode(line).data)
    end
    return list
  end

  it("says when the event expires", function()
    local far = os.time() + 86400
    assert.equal(0, (run(nil, "expires/a", "x", "--ttl", "600.5")))
    assert.equal(0, (run(nil, "expires/a", "x", "--expires", os.date("!%Y-%m-%dT%H:%M:%SZ", far))))
    assert.equal(0, (run('{"topic":"expires/a","data":"x","ttl":60}\n', "--ndjson")))
    local list = stored("expires/a", 3)
    assert.is_true(math.abs(list[1].expires - list[1].time - 600.5) < 0.002)
    assert.equal(far, list[2].expires)
    assert.is_true(math.abs(list[3].expires - list[3].time - 60) < 0.002)
    local code, out, err = run(nil, "expires/a", "x", "--ttl", "soon")
    assert.same({ 65, "" }, { code, out })
    assert.matches('ttl: is "soon"; seconds were expected: more than 0, at most 315619200', err, 1, true)
    code, out, err = run(nil, "expires/a", "x", "--ttl", "1", "--expires", "2030-01-01")
    assert.same({ 65, "" }, { code, out })
    assert.matches("expires, ttl: are both there; give one of them", err, 1, true)
    code, out, err = run("{}\n", "--ndjson", "--ttl", "1")
    assert.same({ 64, "" }, { code, out })
    assert.matches("each line says its topic, type, key, attributes, and when it expires", err, 1, true)
  end)

  it("publishes its argument, or standard input, byte for byte, and prints the id", function()
    local code, id, err = run(nil, "plain/a", "h\u{e9}llo", "--type", "t", "--attr", "n=1 & 2", "--attr", "m=x=y")
    assert.same({ 0, "" }, { code, err })
    assert.matches("^%d+\n$", id)
    assert.equal(0, (run("two\nlines\n", "plain/a", "-")))
    assert.equal(0, (run("", "plain/a")))
    local list = stored("plain/a", 3)
    assert.same({ "t", "h\u{e9}llo", { n = "1 & 2", m = "x=y" } }, { list[1].type, list[1].data, list[1].attrs })
    assert.equal(id, list[1].id .. "\n")
    assert.same({ "two\nlines\n", "" }, { list[2].data, list[3].data })
  end)

  it("stores an event of the same key once", function()
    local _, first = run(nil, "keys", "x", "--key", "k 1")
    local code, second = run(nil, "keys", "x", "--key", "k 1", "--json")
    assert.equal(0, code)
    assert.same({ id = first:gsub("\n", ""), duplicate = true }, http.json.decode(second))
  end)

  it("publishes lines in order, blank ones left out, the last without its end", function()
    local text, n = {}, 250
    for i = 1, n do
      text[i] = ('{"topic":"lines","data":"%d"}'):format(i) .. (i % 50 == 0 and "\n\n" or "")
    end
    local code, out, err = run(table.concat(text, "\n"), "--ndjson")
    assert.same({ 0, "" }, { code, err })
    local list = stored("lines", n)
    local ids = {}
    for id in out:gmatch "%d+" do
      ids[#ids + 1] = id
    end
    assert.equal(n, #ids)
    for i = 1, n do
      assert.same({ ids[i], tostring(i) }, { list[i].id, tostring(list[i].data) })
    end
  end)

  it("sends a line when it comes, and does not wait for more", function()
    local p = child.start(tidegate.binary(), { "publish", "--url", url(), "--ndjson" }, { stdin = true })
    keep(function() p:stop() end)
    for i = 1, 2 do
      p:write '{"topic":"live","data":1}\n'
      eventually("it is stored", function() return select(2, p:output():gsub("\n", "")) == i end)
    end
  end)

  it("names the line that is refused; those before are stored, those behind are not", function()
    for i, case in ipairs {
      { '{"topic":"a//b","data":1}', 65, "400 Bad Request: .*topic" },
      { "{", 65, "400 Bad Request: " },
      { '{"topic":"secret","data":1}', 77, "403 Forbidden: not that topic" },
    } do
      local topic = "bad/" .. i
      local good = ('{"topic":"%s","data":"%%s"}'):format(topic)
      local lines = { good:format(1), "", good:format(2), case[1], good:format(3) }
      local code, out, err = run(table.concat(lines, "\n"), "--ndjson")
      assert.equal(case[2], code, err)
      assert.matches("^tidegate publish: line 4: " .. case[3], err)
      assert.is_nil(err:find("line 1", 1, true), err) -- the number in the request that the command made
      assert.equal(2, select(2, out:gsub("\n", "")))
      assert.same({ 1, 2 }, { stored(topic, 2)[1].data, stored(topic, 2)[2].data })
    end
  end)

  it("says what the broker said, and tells apart what may have been stored", function()
    local code, out, err = run(nil, "secret", "x")
    assert.same({ 77, "", "tidegate publish: 403 Forbidden: not that topic\n" }, { code, out, err })
    code, out, err = run(nil, "a//b", "x")
    assert.same({ 65, "" }, { code, out })
    assert.matches("^tidegate publish: 400 Bad Request: ", err)
    code, out, err = tidegate.run(tidegate.binary(),
      { args = { "publish", "--url", "http://127.0.0.1:1", "a", "x" } })
    assert.same({ 69, "" }, { code, out })
    assert.matches("^tidegate publish: http://127.0.0.1:1/events: .*: does the broker run%?\n$", err)
    local server = http_server.start(function(_, client) client:close() end)
    keep(function() server:stop() end)
    code = tidegate.run(tidegate.binary(), { args = { "publish", "--url", server.url, "a", "x" } })
    assert.equal(75, code)
  end)

  it("answers 64 to wrong words", function()
    for _, words in ipairs { {}, { "a", "b", "c" }, { "a", "b", "--attr", "x" }, { "a", "--ndjson" },
      { "--ndjson", "--type", "t" } } do
      local code, _, err = run(nil, table.unpack(words))
      assert.equal(64, code, table.concat(words, " "))
      assert.matches("see: tidegate help publish", err)
    end
  end)
end)
