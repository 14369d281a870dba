-- `tidegate explain`: what people and scripts get of it. What it tells is in explain_spec.lua.
local connections = require "support.connections"
local http = require "support.http"
local tidegate = require "support.tidegate"

local POLICY = [[
local P = { api = 1, version = "geo-2" }
function P.authenticate() return { sub = "u" } end
function P.subscribe(req)
  return { topics = req.topics, filter = req.query.filter or "none", params = { cell = "u2yh" } }
end
function P.publish(pub) return pub end
P.filters = {
  near = "starts_with(attrs.cell, $cell) and attrs.level >= '2'",
  says = function(ev, p) return ev.attrs.cell == p.cell, "it is in " .. ev.attrs.cell .. ", you are in " .. p.cell end,
}
return P
]]
local NEAR = "policy.lua:8" -- of the filter

local open, close_all = connections.keeper()

describe("tidegate explain", function()
  after_each(close_all)

  local broker = tidegate.shared { policy = POLICY, config = { admin = "unix:@DIR/admin" } }

  local function run(...)
    return tidegate.run(tidegate.binary(), { args = { "explain", ... }, cwd = broker().dir })
  end

  it("lays it out for people, and exits with what came of it", function()
    local c = open(broker(), { topic = "geo/*", query = { filter = "near" } })
    local far = broker():publish("geo/1", "{}", { attrs = { cell = "u2ed", level = "3" } })
    local near = broker():publish("geo/1", "{}", { attrs = { cell = "u2yh", level = "3" } })
    c:next()
    local connection = connections.of(broker(), "geo/*")
    local code, out, err = run("tidegate.lua", "--conn", connection, "--event", far)
    assert.same({ 1, "" }, { code, err })
    local version = http.get(broker().admin, "/status").json.policy.version:sub(1, 12)
    local expected = {
      ("connection %s from 127.0.0.1: live, began behind %s, is at %s"):format(connection, c.start_id, near),
      ("event %s on geo/1, type message, 2 bytes, "):format(far),
      "  topic   geo/1 ~ geo/*: yes",
      "  filter  near: false",
      '            starts_with(attrs.cell="u2ed", $cell="u2yh") = false',
      "  place   the stream has passed it and is at " .. near,
      ("NOT DELIVERED: filtered (policy geo-2 %s, %s)"):format(version, NEAR),
    }
    local lines = {}
    for line in out:gsub("2 bytes, [%dT:Z-]+\n", "2 bytes, \n"):gmatch "([^\n]*)\n" do
      lines[#lines + 1] = line
    end
    assert.same(expected, lines)
    code, out = run("--admin", "unix:" .. broker().dir .. "/admin", "--conn", connection, "--event", near)
    assert.equal(0, code)
    assert.matches("\nDELIVERED %(policy geo%-2 " .. version .. "%)\n$", out)
    code, out = run("tidegate.lua", "--conn", connection, "--event", far, "--json")
    local doc = http.json.decode(out)
    assert.same({ 1, "not-delivered", "filtered" }, { code, doc.outcome, doc.reason })
    broker():write_file("event.json", '{"topic":"geo/2","attrs":{"cell":"u2yh","level":"2"},"data":1}')
    code, out = run("tidegate.lua", "--conn", connection, "--input", "event.json")
    assert.equal(0, code)
    assert.matches("\nWOULD BE DELIVERED ", out)
    broker():write_file("event.json", '{"topic":"other","data":1}')
    code, out = run("tidegate.lua", "--conn", connection, "--input", "event.json")
    assert.equal(1, code)
    assert.matches("\nWOULD NOT BE DELIVERED: topic ", out)
  end)

  it("finds the admin address by the configuration that is there, or else knows the default", function()
    open(broker(), { topic = "found" })
    local id, connection = broker():publish("found", "x"), connections.of(broker(), "found")
    assert.equal(0, (run("--conn", connection, "--event", id)))
    local code, out, err = tidegate.run(tidegate.binary(), { args = { "explain", "--conn", "1", "--event", "1" },
      env = { TIDEGATE_CONF = broker().dir .. "/tidegate.lua" } })
    assert.same({ 66, "" }, { code, out })
    assert.matches("No open event stream has that id", err)
    code, out, err = tidegate.run(tidegate.binary(), { args = { "explain", "--conn", "1", "--event", "1" } })
    assert.same({ "" }, { out })
    assert.truthy(code == 66 or err:find("127.0.0.1:8081: ", 1, true), err)
  end)

  it("does not let events speak to the terminal", function()
    open(broker(), { topic = "evil", query = { filter = "says" } })
    local id = broker():publish("evil", "{}", { attrs = { cell = "\27[2J\u{9b}31m" } })
    local _, out = run("tidegate.lua", "--conn", connections.of(broker(), "evil"), "--event", id)
    assert.is_nil(out:find "[\27\x80-\xff]")
    assert.truthy(out:find("it is in ?[2J?31m, you are", 1, true))
  end)

  it("tells one failure from another", function()
    open(broker(), { topic = "codes" })
    local id, connection = broker():publish("codes", "x"), connections.of(broker(), "codes")
    broker():write_file("bad.json", "{")
    local function fails(code, pattern, ...)
      local got, out, err = run(...)
      assert.same({ code, "" }, { got, out }, err)
      assert.matches(pattern, err)
    end
    fails(66, "No open event stream has that id", "tidegate.lua", "--conn", "77", "--event", id)
    fails(66, "never was", "tidegate.lua", "--conn", connection, "--event", "1")
    fails(66, "no such file", "tidegate.lua", "--conn", connection, "--input", "missing.json")
    fails(65, "JSON", "tidegate.lua", "--conn", connection, "--input", "bad.json")
    fails(69, "unix:/nowhere/at/all: no answer came from this",
      "--admin", "unix:/nowhere/at/all", "--conn", connection, "--event", id)
    fails(78, "missing.lua", "missing.lua", "--conn", connection, "--event", id)
    for _, words in ipairs {
      { "--event", id }, { "--conn", "1-", "--event", id }, { "--conn", connection, "--event", "x" },
      { "--conn", connection, "--event", id, "--input", "bad.json" }, { "--conn" }, { "--what" },
      { "tidegate.lua", "--admin", "127.0.0.1:1", "--conn", connection, "--event", id },
    } do
      fails(64, "tidegate help explain", table.unpack(words))
    end
    local code, out = run "--help"
    assert.equal(0, code)
    for _, reason in ipairs { "topic", "filtered", "filter-error", "format-nil", "format-error", "held",
      "before-connect", "no-replay", "expired", "lag-skipped", "superseded" } do
      assert.truthy(out:find("\n  " .. reason .. " ", 1, true), reason)
    end
  end)
end)
