-- The command line: what a user sees, and exit codes (sysexits).
local eventually = require "support.eventually"
local http = require "support.http"
local tidegate = require "support.tidegate"
local tokens = require "support.tokens"
local uv = require "luv"

local function run(...)
  return tidegate.run(tidegate.binary(), { args = { ... } })
end

-- A directory with these files, gone after the spec.
local function directory(files)
  local b = tidegate.prepare { files = files }
  tidegate.forget_later(b)
  return b.dir, b
end

describe("the command line", function()
  it("explains itself", function()
    for _, words in ipairs { { "help" }, { "--help" }, { "-h" } } do
      local code, out = run(table.unpack(words))
      assert.equal(0, code)
      for _, command in ipairs { "serve", "check", "version", "help" } do
        assert.matches("\n  " .. command .. " +%u", out)
      end
    end
    local code, out = run("help", "serve")
    assert.equal(0, code)
    for _, option in ipairs { "--listen", "--admin", "--store", "--policy", "--workers" } do
      assert.is_truthy(out:find(option, 1, true), option)
    end
    assert.equal(out, (select(2, run("serve", "--help"))))
  end)

  it("lists each option of a command once", function()
    local _, list = run "help"
    local commands = 0
    for command in list:match("Commands:\n(.-)\n\n"):gmatch "  (%l[%l-]*) " do
      local _, out = run("help", command)
      local seen = {}
      for option in out:gmatch "\n  (%-%-?[%w-]+)" do
        assert.is_nil(seen[option], command .. " " .. option)
        seen[option] = true
      end
      commands = commands + 1
    end
    assert.is_true(commands > 15)
  end)

  it("greets who starts it by hand with commands that work, or none where the policy asks who it is", function()
    local function greeting(options)
      local broker = tidegate.start(options)
      local out <close> = assert(io.open(broker.dir .. "/stdout", "rb"))
      return eventually("the greeting", function()
        out:seek "set"
        return out:read("a"):match "Tidegate is up.*\n\n$"
      end)
    end
    local hello = "curl 'http://"
    local open = greeting { config = { policy = { auth = "open" } },
      policy = "return { api = 1, subscribe = function(req) return { topics = req.topics } end }" }
    assert.truthy(open:find(hello, 1, true))
    local text = greeting()
    assert.is_nil(text:find(hello, 1, true))
    assert.matches("The policy decides .*: /.*policy.lua%. Stop", text)
  end)

  it("tells its version and that of its libraries", function()
    local code, out = run "version"
    assert.equal(0, code)
    assert.matches("^tidegate %d+%.%d+%.%d+%S* %(commit %S+ of %S+%)\n", out)
    assert.equal(out, select(2, run "-V"))
    assert.matches("libuv %d", out)
    assert.matches("Lua 5%.4", out)
  end)

  for what, words in pairs {
    ["nothing"] = {}, ["an unknown command"] = { "srve" }, ["no configuration"] = { "serve" },
    ["an unknown option"] = { "serve", "x.lua", "--lsten", "a:1" },
    ["an option without its value"] = { "serve", "x", "--listen" },
    ["too many words"] = { "serve", "a.lua", "b.lua" },
  } do
    it("answers 64 to " .. what, function()
      local code, out, err = run(table.unpack(words))
      assert.equal(64, code)
      assert.is_true(#out + #err > 20)
    end)
  end

  it("guesses what was meant", function()
    local _, _, err = run "chekc"
    assert.matches("did you mean check", err)
  end)
end)

describe("tidegate check", function()
  it("accepts what is shipped, without a warning", function()
    for _, name in ipairs { "tidegate.lua", "postgres.lua" } do
      local code, out, err = run("check", "--strict", SPEC_SOURCE_DIR .. "/conf/" .. name)
      assert.equal(0, code, err)
      assert.matches("^ok: ", out)
      assert.equal("", err)
    end
  end)

  it("accepts every shipped policy, without a warning", function()
    local SETTINGS = { ["claims.lua"] = { "alg=HS256" }, ["saas.lua"] = { "issuer=https://id" },
      ["webhook.lua"] = { "github=a", "stripe=b", "shopify=c", "readers=d" },
      ["campaigns.lua"] = { "backend=a" }, ["notifications.lua"] = { "backend=a" },
      ["flags.lua"] = { "publisher=a" }, ["scoreboard.lua"] = { "publisher=a" },
      ["nchan.lua"] = { "publisher=a" }, ["eventstreams.lua"] = { "publisher=a" }, ["mercure.lua"] = { "alg=HS256" },
      ["mcp.lua"] = { "server=a", "sessions=" .. ("s"):rep(32) } }
    local PUBLIC = { ["redact.lua"] = true, ["saas.lua"] = true, ["telemetry.lua"] = true } -- pairs of keys
    local conf = [[return { policy = { file = "policy.lua", auth = "open" },
      store = { latest = { "room/*/members/*", "score/*", "ticker/*" } },
      database = { driver = "sqlite", path = "app.db" }, keys = { main = { %s } } }]]
    local dir = directory {
      ["secret.lua"] = conf:format('secret = "' .. ("k"):rep(32) .. '"'),
      ["public.lua"] = conf:format 'jwks_file = "keys.json"',
      ["keys.json"] = http.json.encode { keys = { tokens.jwk(tokens.key "ES256") } },
    }
    local n = 0
    local scan = assert(uv.fs_scandir(SPEC_SOURCE_DIR .. "/scripts/policies"))
    while true do
      local name = uv.fs_scandir_next(scan)
      if not name then
        break
      end
      if name:find "%.lua$" and not name:find "_spec" then
        n = n + 1
        local path = SPEC_SOURCE_DIR .. "/scripts/policies/" .. name
        local kind = PUBLIC[name] and "public" or "secret"
        local words = { ("%s/%s.lua"):format(dir, kind), "--policy", path, "--strict" }
        for _, setting in ipairs(SETTINGS[name] or {}) do
          words[#words + 1] = "--setting=" .. setting
        end
        local code, _, err = run("check", table.unpack(words))
        assert.equal(0, code, name .. ": " .. err)
        assert.equal("", err)
      end
    end
    assert.is_true(n >= 5)
  end)

  it("tells all mistakes at once, each with its path and what was expected", function()
    local dir = directory { ["bad.lua"] = [[
      return {
        lisen = { "127.0.0.1:0" },
        admin = "0.0.0.0:1",
        sse = { heartbeat_s = "often", retry_ms = -1 },
        store = { driver = "postgress" },
        limits = { max_conections = 5 },
        policy = {},
      }
    ]] }
    local code, _, err = run("check", dir .. "/bad.lua")
    assert.equal(78, code)
    for _, text in ipairs { "lisen", "listen", "admin", "sse.heartbeat_s", "sse.retry_ms", "store.driver", "sqlite",
      "limits.max_conections", "max_connections", "policy.file" } do
      assert.is_truthy(err:find(text, 1, true), text .. " is not in:\n" .. err)
    end
  end)

  it("tells what is wrong with the policy, with file and line", function()
    for what, case in pairs {
      ["syntax"] = { "return {\n api = 1,\n subscribe = function( return end }", "policy.lua:3" },
      ["run time"] = { "\nlocal x = nil\nreturn { api = 1, subscribe = x.y }", "policy.lua:3" },
      ["an unknown hook"] = { "return { api = 1, subscrbe = function() end }", "subscribe" },
      ["no api"] = { "return { subscribe = function() end, authenticate = function() end }", "api" },
      ["another api"] = { "return { api = 2, subscribe = function() end, authenticate = function() end }", "api" },
      ["no subscribe"] = { "return { api = 1, authenticate = function() end }", "subscribe" },
      ["no authenticate"] = { "return { api = 1, subscribe = function() end }", "authenticate" },
      ["no function"] = { "return { api = 1, authenticate = 1, subscribe = function() end }", "authenticate" },
      ["nothing"] = { "", "table" },
    } do
      local b = tidegate.prepare { policy = case[1] }
      tidegate.forget_later(b)
      local code, _, err = run("check", b.conf_path)
      assert.equal(78, code, what)
      assert.is_truthy(err:find(case[2], 1, true), what .. ": " .. err)
    end
  end)

  it("binds, creates and changes nothing", function()
    local running = tidegate.start()
    local b = tidegate.prepare { config = { listen = { ("127.0.0.1:%d"):format(running.port) } } }
    tidegate.forget_later(b)
    assert.equal(0, (run("check", b.conf_path)))
    assert.is_nil(uv.fs_stat(b.dir .. "/store"))
  end)

  it("takes the configuration that is there where none is named, and says which", function()
    local dir = directory { ["other.lua"] = "return { lisen = 1 }" }
    local other = dir .. "/other.lua"
    for _, case in ipairs { { {}, "tidegate.lua", 0 }, { { TIDEGATE_CONF = other }, other, 78 } } do
      local code, _, err = tidegate.run(tidegate.binary(), { args = { "check" }, cwd = dir, env = case[1] })
      assert.equal(case[3], code, err)
      assert.truthy(err:find("tidegate check: uses the configuration " .. case[2] .. "\n", 1, true), err)
    end
  end)

  it("needs a file that is there", function()
    local code, _, err = run("check", "/nonexistent/tidegate.lua")
    assert.equal(78, code)
    assert.matches("^/nonexistent/tidegate.lua: error: cannot read", err)
  end)

  it("answers 64 to wrong words", function()
    for _, words in ipairs { { "check" }, { "check", "a", "b" }, { "check", "a", "--samples" },
      { "check", "a", "--jsn" } } do
      assert.equal(64, (run(table.unpack(words))))
    end
  end)
end)

describe("tidegate serve", function()
  it("lets options win over the file", function()
    local b = tidegate.prepare()
    tidegate.forget_later(b)
    local store = b.dir .. "/elsewhere"
    local other = tidegate.start {
      config = { listen = { "127.0.0.1:1" }, admin = "127.0.0.1:1" },
      args = { "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--store", store },
    }
    assert.equal(201, http.post(other, "/events?topic=a", "x").status)
    assert.is_truthy(uv.fs_stat(store))
    assert.is_nil(uv.fs_stat(other.dir .. "/store"))
  end)

  it("refuses what check refuses, the same way", function()
    local code, log = tidegate.start_refused { config = { sse = { heartbeat_s = 0 } } }
    assert.equal(78, code)
    assert.matches("sse.heartbeat_s", log, 1, true)
    code, log = tidegate.start_refused { policy = "return { api = 1 }" }
    assert.equal(78, code)
    assert.matches("subscribe", log)
  end)

  it("does not take --single and several workers together", function()
    for _, workers in ipairs { "2", "auto" } do
      local code, log = tidegate.start_refused { args = { "--workers", workers } } -- and --single, as all of one worker
      assert.equal(64, code)
      assert.matches("tidegate serve: --workers: " .. workers .. ": with --single there is one", log, 1, true)
    end
    local broker = tidegate.start { args = { "--workers", "1" } }
    assert.equal(1, #http.get(broker.admin, "/status").json.workers)
  end)

  it("says that --single runs one worker where the configuration wants several", function()
    local broker = tidegate.start { args = { "--single" }, config = { workers = 4 } }
    assert.equal(1, #http.get(broker.admin, "/status").json.workers)
    local line = broker:logged { level = "warn", workers = "4" }
    assert.truthy(line, broker:log())
    assert.matches("^%-%-single: one worker serves", line.msg)
    broker = tidegate.start { config = { workers = 1 } }
    assert.is_nil(broker:log():find("--single: ", 1, true))
  end)

  it("says what is wrong with the store, and ends", function()
    local code, log = tidegate.start_refused { files = { store = "not a directory" } }
    assert.is_true(code ~= 0)
    assert.matches("store", log)
    code, log = tidegate.start_refused { config = { store = { path = "/proc/nowhere" } } }
    assert.is_true(code ~= 0)
    assert.matches("/proc/nowhere", log, 1, true)
  end)
end)
