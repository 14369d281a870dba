-- The commands of operators, against brokers of one and of several workers.
local connections = require "support.connections"
local http = require "support.http"
local http_server = require "support.http_server"
local tidegate = require "support.tidegate"
local undo = require "support.undo"

local POLICY = [[
return {
  api = 1, version = "%s",
  authenticate = function() return { sub = "anyone" } end,
  subscribe = function(req) return { topics = req.topics } end,
  publish = function(pub) return pub end,
}
]]

local open, close_all = connections.keeper()
local keep, undo_all = undo.keeper()

for _, workers in ipairs { 1, 2 } do
  describe(("commands of operators, with %d worker%s,"):format(workers, workers == 1 and "" or "s"), function()
    after_each(close_all)

    local broker = tidegate.shared { policy = POLICY:format "one",
      config = { workers = workers, admin = "unix:@DIR/admin", policy = { watch = false } } }

    -- In the directory of the broker: tidegate.lua is found there.
    local function run(...)
      return tidegate.run(tidegate.binary(), { args = { ... }, cwd = broker().dir })
    end

    local function fits(out)
      for line in out:gmatch "[^\n]+" do
        assert.is_true(#line <= 80, line)
      end
      return out
    end

    it("status says how it is, for people and for scripts", function()
      open(broker(), { topic = "a" })
      connections.of(broker(), "a")
      local code, out, err = run "status"
      assert.same({ 0, "" }, { code, err })
      assert.matches("^tidegate %S+, process %d+, up [%d a-z]+: ready\n", out)
      assert.matches("\nclients   1 stream in 1 audience, 0 behind; %d+ connections?\n", out)
      assert.matches("\nstore     ok, %d+ events, ", out)
      assert.matches("\npolicy    one %x+", out)
      assert.equal(workers > 1, out:find("\nWORKER", 1, true) ~= nil or out:find("\n WORKER", 1, true) ~= nil)
      fits(out:gsub("\n +/[^\n]*", "")) -- the path of the policy is as long as it is
      code, out = run("top", "-n", "1", "--json", "--conf", "tidegate.lua")
      assert.same({ 0, 1 }, { code, http.json.decode(out).streams })
      code, out = run("status", "--json", "--admin", "unix:" .. broker().dir .. "/admin")
      assert.same({ 0, true }, { code, http.json.decode(out).ready })
    end)

    it("connections lists streams, and kick closes them", function()
      local kept = open(broker(), { topic = { "kept", "x" } })
      local one = open(broker(), { topic = "one" })
      local two = open(broker(), { topic = { "two", ("zlong/"):rep(20) .. "topic" } })
      local id = connections.of(broker(), "one")
      connections.of(broker(), "two")
      connections.of(broker(), "kept")
      local code, out, err = run "connections"
      assert.same({ 0, "" }, { code, err })
      assert.matches(" two " .. ("zlong/"):rep(20) .. "topic\n", out)
      code, out, err = tidegate.run("/usr/bin/script", { cwd = broker().dir,
        args = { "-qec", tidegate.binary() .. " connections", "/dev/null" } }) -- on a terminal
      assert.same({ 0, "" }, { code, err })
      out = out:gsub("\r", "")
      fits(out)
      assert.matches("\n" .. id:gsub("%-", "%%-") .. " 127.0.0.1 +[12][.1]* +%d+ s +0 +0 one\n", out)
      assert.matches(" kept x\n", out)
      assert.matches(" two %.%.%.\n", out)
      assert.matches("\n3 of 3 streams\n$", out)
      code, out = run("connections", "--topic", "two", "--json")
      assert.same({ 0, 1 }, { code, #http.json.decode(out).connections })
      code, out = run("kick", id)
      assert.same({ 0, "closed " .. id .. "\n" }, { code, out })
      one:wait_end()
      assert.equal(0, (run("kick", "--topic", "two")))
      two:wait_end()
      assert.same({ 0, "\n1 of 1 stream\n" }, { 0, (select(2, run "connections")):match "\n[^\n]+ stream\n$" })
      code, out, err = run("kick", id)
      assert.same({ 66, "" }, { code, out })
      assert.matches("No open event stream has that id", err)
      assert.equal(66, (run("kick", "--client", "192.0.2.1")))
      assert.is_nil(kept.ended)
    end)

    it("reload loads the policy, says before what it would do, and what is wrong; rollback goes back", function()
      open(broker(), { topic = "a" })
      connections.of(broker(), "a")
      local code, out = run "reload"
      assert.equal(0, code)
      assert.matches("^policy one %x+: unchanged", out)
      broker():write_file("policy.lua", POLICY:format "two")
      code, out = run("reload", "--dry-run")
      assert.equal(0, code)
      assert.matches("^policy two %x+: would be reloaded; nothing was changed\nbefore one %x+\n", out)
      assert.matches("\n1 open stream: would be asked about again\n$", out)
      code, out = run "reload"
      assert.equal(0, code)
      assert.matches("\n1 open stream: asked about again\n$", out)
      assert.matches("^policy two %x+: reloaded\nbefore one", fits(out))
      code, out = run "rollback"
      assert.equal(0, code)
      assert.matches("^policy one %x+: rolled back\nbefore two", out)
      broker():write_file("policy.lua", "return {\n")
      local err
      code, out, err = run "reload"
      assert.same({ 65, "" }, { code, out })
      assert.matches("policy.lua:%d: unexpected symbol", err)
      code, out = run("reload", "--json")
      assert.equal(65, code)
      assert.is_string(http.json.decode(out).result)
      broker():write_file("policy.lua", POLICY:format "one")
    end)

    it("drain ends it", function()
      local other = tidegate.start { config = { workers = workers } }
      local where = ("%s:%d"):format(other.admin.host, other.admin.port)
      local code, out = tidegate.run(tidegate.binary(), { args = { "drain", "--admin", where } })
      assert.same({ 0, "the broker drains, and ends then\n" }, { code, out })
      assert.equal(0, other:wait_exit())
      local err
      code, out, err = tidegate.run(tidegate.binary(), { args = { "status", "--admin", where } })
      assert.same({ 69, "" }, { code, out })
      assert.matches(where .. ": no answer came from this admin address", err)
    end)
  end)
end

describe("commands of operators", function()
  after_each(undo_all)

  local function run(...)
    return tidegate.run(tidegate.binary(), { args = { ... } })
  end

  -- A server that answers every request so; its address.
  local function answers(answer)
    local server = http_server.start(function(_, client)
      http_server.answer(client, answer)
      client:shutdown(function() client:close() end)
    end)
    keep(function() server:stop() end)
    return "127.0.0.1:" .. server.port
  end

  it("end with 75 where the broker is not ready, or busy", function()
    local code, out, err = run("status", "--admin", answers { body = http.json.encode {
      version = "1", ready = false, not_ready = "worker 2: draining", draining = true,
      workers = { { worker = 1, answers = true, ready = true }, { worker = 2, answers = false } } } })
    assert.same({ 75, "" }, { code, err })
    assert.matches(": NOT READY: worker 2: draining\n", out)
    assert.matches("  does not answer\n", out)
    code, out, err = run("status", "--json", "--admin", answers { body = http.json.encode { ready = false } })
    assert.same({ 75, "", false }, { code, err, http.json.decode(out).ready })
    code, out, err = run("reload", "--admin", answers { status = 500, body = http.json.encode { result = "mixed",
      workers = { { worker = 1, result = "reloaded" }, { worker = 2, error = "policy.lua:1: no" } } } })
    assert.same({ 69, "" }, { code, out })
    assert.equal("tidegate reload: some workers have done it, and some have not:\n  worker 2: policy.lua:1: no\n", err)
  end)

  it("say where more streams match than a broker lists, or a worker did not answer, so that some are left", function()
    local list = { { id = "1-1", client = "192.0.2.1", topics = { "a" } } }
    local doc = { connections = list, total = 12000, matched = 11000, truncated = true }
    local code, out, err = run("kick", "--topic", "a", "--admin", answers { body = http.json.encode(doc) })
    assert.same({ 75, "closed 1-1\n" }, { code, out })
    assert.equal("tidegate kick: 11000 streams match, one command closes 10000: run it again\n", err)
    doc.matched = 1
    code, out, err = run("kick", "--topic", "a", "--admin", answers { body = http.json.encode(doc) })
    assert.same({ 75, "closed 1-1\n" }, { code, out })
    assert.equal("tidegate kick: a worker did not answer: its streams are left out\n", err)
    code, out, err = run("connections", "--topic", "a", "--admin", answers { body = http.json.encode(doc) })
    assert.same({ 0, "tidegate connections: a worker did not answer: its streams are left out\n" }, { code, err })
    assert.matches("\n1 of 12000 streams\n$", out)
  end)

  it("close nothing where a broker of an earlier version lists all streams for those that match", function()
    local doc = { connections = { { id = "1-1", topics = { "b" } } }, total = 1, truncated = false }
    for _, words in ipairs { { "kick", "--topic", "a" }, { "connections", "--who", "sub=ann" },
      { "explain", "--who", "sub=ann", "--event", "1" } } do
      local at = answers { body = http.json.encode(doc) }
      local code, out, err = run(words[1], "--admin", at, table.unpack(words, 2))
      assert.same({ 76, "" }, { code, out })
      assert.matches("earlier version, which cannot select streams", err)
    end
  end)

  it("close the streams that match, whichever of them have ended by themselves", function()
    local list = { { id = "1-1", topics = { "a" } }, { id = "1-2", topics = { "a" } } }
    local function kick(...)
      local gone = { ... }
      local server = http_server.start(function(request, client)
        local id = request.target:match "^/connections/(.+)"
        http_server.answer(client, { status = id and (gone[1] == id or gone[2] == id) and 404 or 200,
          body = http.json.encode { connections = list, total = 2, matched = 2, detail = "no such stream" } })
        client:shutdown(function() client:close() end)
      end)
      keep(function() server:stop() end)
      return (run("kick", "--topic", "a", "--admin", "127.0.0.1:" .. server.port))
    end
    assert.same({ 0, 0, 0, 66 }, { kick(), kick "1-1", kick "1-2", kick("1-1", "1-2") })
  end)

  it("refuse wrong words, and say what answers where no broker does", function()
    for _, words in ipairs { { "status", "--what" }, { "status", "a", "b" },
      { "status", "a", "--admin", "127.0.0.1:1" }, { "status", "a", "--conf", "b" }, { "restart", "a", "--conf", "b" },
      { "top", "a", "--conf", "b" }, { "kick" },
      { "kick", "x" }, { "kick", "1", "--topic", "a" }, { "connections", "--limit", "0" },
      { "reload", "--admin", "nonsense" } } do
      local code, _, err = run(table.unpack(words))
      assert.equal(64, code, table.concat(words, " "))
      assert.matches("see: tidegate help " .. words[1], err)
    end
    local code, _, wrong = run("status", "--conf", "/nowhere/tidegate.lua")
    assert.equal(78, code)
    assert.matches("%-%-admin ADDRESS%)\n$", wrong)
    _, _, wrong = run("kick", "tidegate.lua", "--topic", "a")
    assert.matches("tidegate kick: tidegate.lua: either ids, .*; a configuration is named with %-%-conf\n", wrong)
    for _, words in ipairs { { "status" }, { "explain", "--conn", "1-1", "--event", "1" } } do
      table.insert(words, 2, "--admin")
      table.insert(words, 3, answers { body = "hello" })
      local err
      code, _, err = run(table.unpack(words))
      assert.equal(76, code, err)
      assert.matches("what answers there is no broker", err)
    end
  end)
end)
