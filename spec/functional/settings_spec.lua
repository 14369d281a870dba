-- What the configuration says to a policy: settings and secrets, in a running broker, on a reload, and in the tools.
-- Types, errors and what secrets may do: spec/unit/policy_settings_spec.lua.
local eventually = require "support.eventually"
local http = require "support.http"
local http_server = require "support.http_server"
local policies = require "support.policies"
local socket = require "socket"
local sse = require "support.sse"
local tidegate = require "support.tidegate"
local tools = require "support.policy_tools"
local uv = require "luv"

local WORD = "hunter2-hunter2"

local POLICY = [[
local settings = tg.settings {
  rooms = { "list", default = { "lobby" } }, door = "secret", label = { "string", default = "none" },
}
local P = { api = 1 }
function P.authenticate(req)
  if not tg.equal(req.bearer, settings.door) then
    return tg.deny(401, "the door is closed: " .. tostring(settings.door))
  end
  return { sub = "u", label = settings.label }
end
function P.subscribe(req, who)
  if req.query.ask then
    local res, err = http.post("app", {
      headers = { Authorization = "Bearer " .. settings.door }, body = "key=" .. settings.door })
    if not res then return nil, err end
    return tg.deny(404, "asked")
  elseif req.query.fail then
    error("x" .. settings.door)
  end
  return { topics = settings.rooms }
end
return P
]]

local function config(settings)
  return { policy = { settings = settings } }
end

local function door(text)
  return { raw = ("secret %q"):format(text) }
end

local function connect(broker, word)
  return http.get(broker, "/events", { Authorization = "Bearer " .. word, Accept = "text/event-stream" })
end

local function rooms(broker)
  return http.get(broker.admin, "/connections").json.connections[1].topics
end

describe("settings", function()
  it("come from the configuration, secrets from the environment and from files", function()
    for _, secret in ipairs { 'secret(env "DOOR")', 'secret { file = "door.key" }' } do
      local broker = tidegate.start { policy = POLICY, files = { ["door.key"] = WORD .. "\n" }, env = { DOOR = WORD },
        config = config { rooms = { "a", "b" }, door = { raw = secret } } }
      local refused = connect(broker, "guess")
      assert.same({ 401, "the door is closed: <secret door>" }, { refused.status, refused.json.detail })
      local c = sse.open(broker, { headers = { Authorization = "Bearer " .. WORD } })
      assert.same({ "a", "b" }, rooms(broker))
      c:close()
      assert.same({ { name = "door", type = "secret", from = "given" },
        { name = "label", type = "string", from = "default" }, { name = "rooms", type = "list", from = "given" } },
        http.get(broker.admin, "/status").json.policy.settings)
    end
  end)

  it("keep a broker from starting that are missing or wrong", function()
    for settings, text in pairs {
      ["{}"] = "p.lua:1: policy.settings.door is missing: expected a secret",
      ["{ door = 5, rooms = 7 }"] = "p.lua:1: policy.settings.door: expected a secret, found an integer; "
        .. "policy.settings.rooms: expected a list of texts, found an integer",
      ["{ door = secret 'x', romms = {} }"] =
        "policy.settings.romms: the policy declares no such setting; did you mean 'rooms'?",
      ["{ door = secret { file = 'none' } }"] = "policy.settings.door: cannot read ",
    } do
      local code, log = tidegate.start_refused { files = { ["p.lua"] = POLICY },
        conf = ("return { listen = { '127.0.0.1:0' }, admin = false, policy = { file = 'p.lua', settings = %s } }")
          :format(settings) }
      assert.equal(78, code)
      assert.truthy(log:find(text, 1, true), log)
    end
  end)

  it("are read again when the policy is reloaded, and a dry run says which would change", function()
    local broker = tidegate.start { policy = POLICY, config = { admin = "unix:@DIR/admin",
      policy = { settings = { rooms = { "a" }, door = door(WORD) } } } }
    local c = sse.open(broker, { headers = { Authorization = "Bearer " .. WORD } })
    assert.equal("unchanged", broker:reload().json.result)

    broker.config.policy.settings = { rooms = { "b" }, door = door "another-word", label = "new" }
    broker:write_conf()
    local r = broker:reload(nil, "?dry_run=1")
    assert.same({ "would-reload", { "door", "label", "rooms" } }, { r.json.result, r.json.settings_changed })
    assert.equal(1, r.json.dry_run.streams.moved)
    assert.same({ "a" }, rooms(broker))
    assert.equal(401, connect(broker, "another-word").status)
    local out = select(2, tidegate.run(tidegate.binary(), { args = { "reload", "--dry-run" }, cwd = broker.dir }))
    assert.matches("settings changed: door label rooms\n", out, 1, true)

    r = broker:reload()
    assert.same({ "reloaded", { "door", "label", "rooms" } }, { r.json.result, r.json.settings_changed })
    eventually("the stream is moved", function() return rooms(broker)[1] == "b" end)
    assert.equal(401, connect(broker, WORD).status)
    sse.open(broker, { headers = { Authorization = "Bearer another-word" } }):close()
    c:close()
  end)

  it("that cannot be read again leave the policy in force", function()
    local broker = tidegate.start { policy = POLICY, files = { key = WORD },
      config = config { door = { raw = 'secret { file = "key" }' } } }
    local function refused(text)
      local r = broker:reload()
      assert.same({ 422, "refused" }, { r.status, r.json.result })
      assert.truthy(r.json.error:find(text, 1, true), r.json.error)
      assert.equal(0, select(2, r.json.error:gsub("\n", "")))
    end
    broker:write_file("tidegate.lua", "return { policy = { settings = { door = secret '' } } }")
    refused 'the settings of the policy cannot be read again: '
    broker.config.policy.settings.door = nil
    broker:write_conf()
    refused "policy.settings.door is missing: expected a secret"
    broker.config.policy.settings.door = { raw = 'secret { file = "key" }' }
    broker:write_conf()
    broker:write_file("key", "")
    refused "/key is empty"
    sse.open(broker, { headers = { Authorization = "Bearer " .. WORD } }):close()
    broker:write_file("key", "rotated")
    local r = broker:reload()
    assert.same({ "reloaded", { "door" } }, { r.json.result, r.json.settings_changed })
    sse.open(broker, { headers = { Authorization = "Bearer rotated" } }):close()
  end)

  it("are watched: the configuration, also after it was broken, and files of secrets", function()
    local broker = tidegate.start { policy = POLICY, files = { key = WORD },
      config = { policy = { watch = true,
        settings = { rooms = { "a" }, door = { raw = 'secret { file = "key" }' } } } } }
    local function reloads(what, n)
      eventually(what, function()
        return broker:metric('tidegate_policy_reloads_total{result="' .. what .. '"}') == n
      end)
    end
    broker:write_file("tidegate.lua", "return {")
    reloads("refused", 1)
    broker.config.policy.settings.rooms = { "b" }
    broker:write_conf()
    reloads("ok", 1)
    broker:write_file("key", "rotated")
    reloads("ok", 2)
    local c = sse.open(broker, { headers = { Authorization = "Bearer rotated" } })
    assert.same({ "b" }, rooms(broker))
    c:close()
  end)

  it("are the same for all workers, and read again by all", function()
    local broker = tidegate.start { policy = POLICY, config = { workers = 2,
      policy = { settings = { door = door(WORD), rooms = { "a" } } } } }
    broker.config.policy.settings.rooms = { "b" }
    broker:write_conf()
    local r = broker:reload()
    assert.equal("reloaded", r.json.result)
    assert.equal(2, #r.json.workers)
    for _, worker in ipairs(r.json.workers) do
      assert.same({ "rooms" }, worker.settings_changed)
      assert.equal(r.json.policy.version, worker.policy.version)
    end
  end)

  it("are sent to servers where they are secrets, and stand in no log and no answer", function()
    local server = http_server.start(function(_, client) http_server.answer(client, { body = "ok" }) end)
    finally(function() server:stop() end)
    local broker = tidegate.start { policy = POLICY, config = {
      http_targets = { app = { url = server.url } }, log = { level = "debug" },
      policy = { settings = { door = door(WORD) }, error_log_interval_s = 0 } } }
    local function ask(query)
      local c = http.connect(broker)
      c:send(http.render("GET", "/events?" .. query,
        { Accept = "application/json, */*", Authorization = "Bearer " .. WORD }))
      eventually("an answer", function()
        eventually.turn(0) -- the server's loop
        return #socket.select({ c.socket }, nil, 0.01) > 0
      end)
      return c:response()
    end
    assert.equal("asked", http.json.decode(ask("ask=1").body).detail)
    assert.equal("Bearer " .. WORD, server.requests[1].headers.authorization)
    assert.equal("key=" .. WORD, server.requests[1].body)
    local failed = ask "fail=1"
    assert.is_nil(failed.body:find(WORD, 1, true))
    eventually("the error is logged", function()
      return broker:logged { error = "an error object that is a userdata, not a text" }
    end)
    for _, path in ipairs { "/status", "/connections", "/metrics" } do
      assert.is_nil(http.get(broker.admin, path).body:find(WORD, 1, true))
    end
    assert.is_nil(broker:log():find(WORD, 1, true))
  end)
end)

describe("the path of policies", function()
  local SHARED = [[return { api = 1, authenticate = function() return {} end,
    subscribe = function() return { topics = require_topics } end }]]
  SHARED = "local topics = require 'topics' " .. SHARED:gsub("require_topics", "topics")

  it("begins at the configuration, and is read again with the settings", function()
    local broker = tidegate.prepare { policy = SHARED, config = { policy = { path = { "lib" } } } }
    tidegate.forget_later(broker)
    for name, text in pairs { lib = "return { 'a' }", new = "return { 'b' }" } do
      assert(uv.fs_mkdir(broker.dir .. "/" .. name, 493))
      broker:write_file(name .. "/topics.lua", text)
    end
    broker:start()
    local c = sse.open(broker)
    assert.same({ "a" }, rooms(broker))
    broker:write_file("lib/topics.lua", "return { 'c' }")
    assert.equal("reloaded", broker:reload().json.result)
    eventually("the stream is moved", function() return rooms(broker)[1] == "c" end)
    broker.config.policy.path = { "none", "new" }
    broker:write_conf()
    local r = broker:reload()
    assert.equal("refused", r.json.result)
    assert.matches("policy.path: " .. broker.dir .. "/none: No such file or directory", r.json.error, 1, true)
    broker.config.policy.path = { "new", "lib" }
    broker:write_conf()
    assert.equal("reloaded", broker:reload().json.result)
    eventually("the stream is moved", function() return rooms(broker)[1] == "b" end)
    c:close()
  end)

  it("is known to check, which names the file of a module", function()
    local conf = [[return { listen = { "127.0.0.1:0" }, policy = { file = "mine.lua", path = { "lib" } } }]]
    local dir = policies.directory { ["mine.lua"] = SHARED, ["conf.lua"] = conf,
      ["lib/topics.lua"] = "return {\n'a' 'b' }" }
    local code, out, err = tidegate.run(tidegate.binary(),
      { args = { "check", "conf.lua", "--no-luacheck" }, cwd = dir })
    policies.remove(dir)
    assert.equal(78, code)
    assert.matches("/lib/topics.lua:2: error: ", out .. err, 1, true)
  end)
end)

describe("tools", function()
  local CONF = ([[return { listen = { "127.0.0.1:0" },
    policy = { file = "mine.lua", settings = { rooms = { "a" }, door = secret "%s" } } }]]):format(WORD)

  local function run(words, conf, more)
    local files = { ["mine.lua"] = POLICY, ["conf.lua"] = conf, ["in.json"] = '{"bearer":"' .. WORD .. '"}' }
    for name, text in pairs(more or {}) do
      files[name] = text
    end
    local code, out, err = tools.run(files, words)
    return { code, out .. err }
  end

  it("take them from the configuration, or from --setting", function()
    for _, words in ipairs {
      { "eval", "subscribe", "conf.lua", "--input", "in.json" },
      { "eval", "subscribe", "--policy", "mine.lua", "--input", "in.json", "--setting", "door=" .. WORD,
        "--setting=rooms=a" },
    } do
      local r = run(words, CONF)
      assert.equal(0, r[1], r[2])
      assert.matches('topics: ["a"]', r[2], 1, true)
    end
    local r = run({ "eval", "subscribe", "conf.lua", "--input", "in.json", "--setting", "rooms=b, c" }, CONF)
    assert.matches('topics: ["b","c"]', r[2], 1, true)
    r = run({ "eval", "subscribe", "--policy", "mine.lua", "--input", "in.json" })
    assert.equal(78, r[1])
    assert.matches("mine.lua:1: policy.settings.door is missing: expected a secret", r[2], 1, true)
  end)

  it("check them, and show no secret", function()
    local r = run({ "check", "conf.lua", "--no-luacheck" }, CONF)
    assert.equal(0, r[1], r[2])
    assert.is_nil(r[2]:find(WORD, 1, true))
    r = run({ "check", "conf.lua", "--setting", "label=", "--no-luacheck" }, CONF)
    assert.equal(78, r[1])
    assert.matches("mine.lua:1: error: policy.settings.label: expected a text, found an empty one", r[2], 1, true)
    r = run({ "check", "conf.lua", "--setting", "lable=x", "--json", "--no-luacheck" }, CONF)
    assert.matches("policy.settings.lable: the policy declares no such setting", r[2], 1, true)
    assert.matches("did you mean 'label'?", r[2], 1, true)
    assert.is_nil(r[2]:find(WORD, 1, true))
  end)

  it("say what is declared and where it comes from, without values", function()
    local r = run({ "check", "conf.lua", "--no-luacheck" }, CONF)
    assert.matches("  declares  door (secret, given), label (string, default), rooms (list, given)", r[2], 1, true)
    r = run({ "check", "conf.lua", "--no-luacheck", "--json" }, CONF)
    assert.same({ { name = "door", type = "secret", from = "given" }, { name = "label", type = "string",
      from = "default" }, { name = "rooms", type = "list", from = "given" } },
      http.json.decode(r[2]).policy.settings)
    local none = "local P = { api = 1 } function P.authenticate() return {} end\n"
      .. "function P.subscribe() return { topics = { 'a' } } end return P"
    local optional = "local s = tg.settings { word = { 'secret', optional = true } }\n" .. none
    r = run({ "check", "--policy", "none.lua", "--no-luacheck" }, CONF, { ["none.lua"] = none })
    assert.is_nil(r[2]:find("declares", 1, true))
    r = run({ "check", "--policy", "none.lua", "--no-luacheck" }, CONF, { ["none.lua"] = optional })
    assert.matches("declares  word (secret, not given)", r[2], 1, true)
  end)

  it("give specs the configuration's, --setting's, or their own", function()
    local spec = [[
      local t = require "tidegate.test"
      it("x", function()
        local p = t.policy("mine.lua", SETTINGS and { settings = SETTINGS } or nil)
        local c = p:connect { bearer = "]] .. WORD .. [[" }
        assert.granted(c)
        assert.same(WANTED, c.subscription.topics)
        assert.has_error(function() t.policy("mine.lua", { settings = { door = print } }) end,
          "settings.door: a text, number, boolean or list of texts was expected")
      end)]]
    local door_word = "--setting=door=" .. WORD
    for _, case in ipairs {
      { { "--conf", "conf.lua" }, 'WANTED = { "a" }' },
      { { door_word }, 'WANTED = { "lobby" }' },
      { { door_word, "--conf", "conf.lua", "--setting", "rooms=b" }, 'WANTED = { "b" }' },
      { { "--conf", "conf.lua" },
        ('SETTINGS = { door = "%s", rooms = { "c", "d" } } WANTED = { "c", "d" }'):format(WORD) },
    } do
      local words = { "test", "one_spec.lua" }
      table.move(case[1], 1, #case[1], 3, words)
      local r = run(words, CONF, { ["one_spec.lua"] = case[2] .. " " .. spec })
      assert.equal(0, r[1], r[2])
    end
  end)

  it("show specs what a policy sends to servers", function()
    local r = run({ "test", "one_spec.lua" }, nil, { ["one_spec.lua"] = [[
      local t = require "tidegate.test"
      it("x", function()
        local seen
        local p = t.policy("mine.lua", { settings = { door = "word" },
          http = { app = function(options) seen = options return { status = 200, body = "" } end } })
        assert.denied(404, p:connect { bearer = "word", query = { ask = 1 } })
        assert.same({ headers = { Authorization = "Bearer word" }, body = "key=word" }, seen)
      end)]] })
    assert.equal(0, r[1], r[2])
  end)
end)
