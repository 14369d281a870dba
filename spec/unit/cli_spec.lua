local tidegate = require "support.tidegate"

local USAGE, SOFTWARE_OUTPUT, CONFIG = 64, 74, 78

-- run("check x --listen y") -> exit code, stdout, stderr
local function run(line, env)
  local args = {}
  for word in line:gmatch "%S+" do
    args[#args + 1] = word
  end
  return tidegate.run(tidegate.binary(), { args = args, env = env, cwd = SPEC_SOURCE_DIR })
end

describe("command line", function()
  local dir, conf, policy

  local function write(path, text)
    local file <close> = assert(io.open(path, "w"))
    assert(file:write(text))
  end

  setup(function()
    dir = tidegate.directory()
    conf, policy = dir .. "/conf.lua", dir .. "/policy.lua"
    write(policy, tidegate.OPEN_POLICY)
    write(conf, 'return { policy = { file = "policy.lua" } }')
  end)

  teardown(function()
    for _, name in ipairs { "conf.lua", "policy.lua", "other.lua", "completion.bash", "completion.zsh",
      "completion.fish" } do
      os.remove(dir .. "/" .. name)
    end
    assert(os.remove(dir), "the program left something behind in " .. dir)
  end)

  describe("help", function()
    it("is printed on demand, whole and in parts", function()
      for _, line in ipairs { "help", "--help", "-h", "help --help" } do
        local code, out, err = run(line)
        assert.same({ 0, "" }, { code, err })
        for _, command in ipairs { "serve", "check", "version", "config-reference", "help" } do
          assert.truthy(out:find("\n  " .. command .. "  ", 1, true), line .. " does not name " .. command)
        end
      end
      for _, line in ipairs { "help serve", "serve --help", "serve -h", "serve no-file --help" } do
        local code, out, err = run(line)
        assert.same({ 0, "" }, { code, err })
        assert.truthy(out:find("usage: tidegate serve [CONF] [options]", 1, true))
        for _, option in ipairs { "listen", "admin", "store", "policy" } do
          assert.truthy(out:find("\n  --" .. option .. " ", 1, true), line .. " does not name --" .. option)
        end
      end
      assert.truthy(select(2, run "help version"):find("usage: tidegate version\n", 1, true))
    end)

    it("is printed without arguments, but nothing was done", function()
      local code, out = run ""
      assert.equal(USAGE, code)
      assert.truthy(out:find("usage: tidegate COMMAND", 1, true))
    end)
  end)

  it("tells the version of the program and of its libraries", function()
    for _, line in ipairs { "version", "--version", "-V" } do
      local code, out, err = run(line)
      assert.same({ 0, "" }, { code, err })
      assert.matches("^tidegate %d+%.%d+%.%d+[^\n]*\nlibuv 1%.%d+%.%d+\nLua 5%.4%.%d+\nSQLite 3%.[%d.]+\njansson 2%.",
        out)
      assert.truthy(out:find "\nlibpq %d+%.%d+\nlibcurl %d[%d.]+\nOpenSSL 3[%d.]+\n")
    end
  end)

  -- The commands that the overview lists.
  local function commands()
    local list = {}
    for name in select(2, run "help"):gmatch "\n  ([%l-]+) +%u" do
      list[#list + 1] = name
    end
    return list
  end

  it("completes commands and options in the shells that are here", function()
    for _, shell in ipairs { "bash", "zsh", "fish" } do
      local code, out, err = run("completion " .. shell)
      assert.same({ 0, "" }, { code, err })
      for _, name in ipairs(commands()) do
        assert.truthy(out:find(name, 1, true), shell .. ": " .. name)
      end
      assert.truthy(out:find(shell == "fish" and "-l dry-run" or "--dry-run", 1, true))
      write(dir .. "/completion." .. shell, out)
      local path = require("support.child").find(shell)
      if path then -- it is a script of that shell
        local ok, _, why = tidegate.run(path, { args = { "-n", dir .. "/completion." .. shell } })
        assert.equal(0, ok, why)
      end
    end
    local function bash(words)
      local script = ([[source %s/completion.bash; COMP_WORDS=(%s); COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        _tidegate; echo "${COMPREPLY[@]}"]]):format(dir, words)
      local _, out, err = tidegate.run("/bin/bash", { args = { "-c", script } })
      assert.equal("", err)
      return out
    end
    assert.equal("reload restart\n", bash "tidegate re")
    assert.equal("--dry-run\n", bash "tidegate reload --dr")
    assert.equal("bash\n", bash "tidegate completion b")
    assert.equal("filter format\n", bash "tidegate eval f")
    assert.equal("verify\n", bash "tidegate token v")
    assert.equal(USAGE, (run "completion"))
    assert.equal(USAGE, (run "completion tcsh"))
  end)

  for _, command in ipairs { "serve", "check", "eval", "explain", "test", "migrate", "restart", "version", "help",
    "init", "subscribe", "publish", "token", "status", "connections", "kick", "reload", "rollback", "drain",
    "completion", "config-reference", "doctor", "top" } do
    it("explains " .. command .. " in lines of 80 columns, whichever way it is asked", function()
      local code, out, err = run(command == "help" and command or "help " .. command)
      assert.same({ 0, "" }, { code, err })
      for line in out:gmatch "[^\n]+" do
        assert.is_true(#line <= 80, line)
      end
      if command ~= "help" then
        assert.equal(out, (select(2, run(command .. " --help"))))
      end
    end)
  end

  it("prints the reference that conf/REFERENCE.md holds", function()
    local code, out, err = run "config-reference"
    assert.same({ 0, "" }, { code, err })
    local readme <close> = assert(io.open(SPEC_SOURCE_DIR .. "/conf/REFERENCE.md"))
    assert.truthy(readme:read("a"):find(out, 1, true))
  end)

  it("tells of each command that reads a configuration how it ends where that is wrong", function()
    for _, command in ipairs { "check", "eval", "explain", "migrate" } do
      assert.matches("78", (select(2, run("help " .. command))), 1, true)
    end
  end)

  it("does not take an unwritten output for success", function()
    local pipe <close> = assert(io.popen(tidegate.binary() .. " version 2>&1 >/dev/full; echo $?"))
    assert.equal("tidegate: the output could not be written\n" .. SOFTWARE_OUTPUT .. "\n", pipe:read "a")
  end)

  describe("refuses, saying why and what was probably meant,", function()
    local cases = {
      { "serv x", "tidegate: serv: unknown command; did you mean serve?\n(see: tidegate help)\n" },
      { "sreve", "tidegate: sreve: unknown command; did you mean serve?\n(see: tidegate help)\n" },
      { "frobnicate", "tidegate: frobnicate: unknown command\n(see: tidegate help)\n" },
      { "help chekc", "tidegate: chekc: unknown command; did you mean check?\n(see: tidegate help)\n" },
      { "help check serve", "tidegate help: serve: unexpected argument\n(see: tidegate help help)\n" },
      { "version now", "tidegate version: now: unexpected argument\n(see: tidegate help version)\n" },
      { "config-reference --html",
        "tidegate config-reference: --html: unexpected argument\n(see: tidegate help config-reference)\n" },
      { "serve", "tidegate serve: no configuration is named, and there is none in $TIDEGATE_CONF, ./tidegate.lua or "
        .. "/etc/tidegate/tidegate.lua\nusage: tidegate serve [CONF] [options]\n" },
      { "check", "tidegate check: no configuration is named, and there is none in $TIDEGATE_CONF, ./tidegate.lua or "
        .. "/etc/tidegate/tidegate.lua\nusage: tidegate check [CONF] [options]\n" },
      { "check a b", "tidegate check: b: one configuration file is enough\n(see: tidegate help check)\n" },
      { "check a --lisetn x",
        "tidegate check: --lisetn: unknown option; did you mean --listen?\n(see: tidegate help check)\n" },
      { "check a --polcy=secret",
        "tidegate check: --polcy: unknown option; did you mean --policy?\n(see: tidegate help check)\n" },
      { "check a --threads 4", "tidegate check: --threads: unknown option\n(see: tidegate help check)\n" },
      { "check a -l x", "tidegate check: -l: unknown option\n(see: tidegate help check)\n" },
      { "check a --help=yes",
        "tidegate check: --help: takes no value\n(see: tidegate help check)\n" },
      { "check a --json=yes", "tidegate check: --json: takes no value\n(see: tidegate help check)\n" },
      { "check a --smaples=x",
        "tidegate check: --smaples: unknown option; did you mean --samples?\n(see: tidegate help check)\n" },
      { "eval filter a --ploicy x",
        "tidegate eval: --ploicy: unknown option; did you mean --policy?\n(see: tidegate help eval)\n" },
      { "eval filter a --input x --input=y", "tidegate eval: --input: given twice\n(see: tidegate help eval)\n" },
      { "explain --conn --event 1", "tidegate explain: --conn: needs a value\n(see: tidegate help explain)\n" },
      { "test --jsno x",
        "tidegate test: --jsno: unknown option; did you mean --json?\n(see: tidegate help test)\n" },
      { "check a --listen", "tidegate check: --listen: needs a value\n(see: tidegate help check)\n" },
      { "check a --store --listen x", "tidegate check: --store: needs a value\n(see: tidegate help check)\n" },
      { "check a --store=", "tidegate check: --store: needs a value that is not empty\n(see: tidegate help check)\n" },
      { "check a --store x --store y", "tidegate check: --store: given twice\n(see: tidegate help check)\n" },
      { "check a" .. (" --listen 127.0.0.1:1"):rep(65),
        "tidegate check: --listen: at most 64 addresses\n(see: tidegate help check)\n" },
    }
    for _, case in ipairs(cases) do
      it("`" .. case[1]:sub(1, 40) .. "`", function()
        local code, out, err = run(case[1])
        assert.same({ USAGE, "", case[2] }, { code, out, err })
      end)
    end
  end)

  describe("check", function()
    it("says ok, and touches nothing", function()
      local code, out, err = run("check --no-samples " .. conf)
      assert.same({ 0, ("ok: %s, policy %s"):format(conf, policy), "" }, { code, out:match "[^\n]*", err })
    end)

    it("approves of the configuration in the tree", function()
      local code, out = run "check conf/tidegate.lua"
      assert.equal(0, code)
      assert.truthy(out:find("^ok: conf/tidegate.lua, policy /.*/scripts/policies/open.lua\n"))
    end)

    it("tells every problem of the file", function()
      local other = dir .. "/other.lua"
      write(other, 'return { listen = { "nowhere" }, sse = { hartbeat_s = 3 }, policy = { file = "policy.lua" } }')
      local code, out, err = run("check --no-samples " .. other)
      assert.equal(CONFIG, code)
      assert.equal("", out)
      assert.equal(([[
%s:1: error: listen[1]: "nowhere": %s (all addresses: 0.0.0.0:PORT, [::]:PORT)
%s:1: error: sse.hartbeat_s: unknown key; did you mean "heartbeat_s"?
tidegate: %s: 2 errors, 0 warnings
]]):format(other, "expected IPV4:PORT, [IPV6]:PORT or unix:/PATH", other, other), err)
    end)

    it("tells that the file is not there", function()
      local code, _, err = run "check /does/not/exist.lua"
      assert.equal(CONFIG, code)
      assert.equal("/does/not/exist.lua: error: cannot read this configuration file: no such file or directory: "
        .. "`tidegate init DIR` makes one\n  skipped   policy, keys, certificates, store: nothing is known of them "
        .. "until the configuration file can be run\ntidegate: /does/not/exist.lua: 1 error, 0 warnings\n", err)
    end)

    it("checks the options as well", function()
      local code, _, err = run("check --no-samples --listen 127.0.0.1:1 --listen=oops --admin 0.0.0.0:1 " .. conf)
      assert.equal(CONFIG, code)
      assert.equal(([[
error: --listen: "oops": expected IPV4:PORT, [IPV6]:PORT or unix:/PATH (all addresses: 0.0.0.0:PORT, [::]:PORT)
error: --admin: "0.0.0.0:1" can be reached from other machines: expected a loopback address or a Unix socket
tidegate: %s: 2 errors, 0 warnings
]]):format(conf), err)
      assert.equal(0, (run("check --listen [::1]:0 --listen unix:/x --admin none --store " .. dir .. " " .. conf)))
    end)

    it("checks the policy: one that is not there, does not parse, does not hold what it must", function()
      local code, out, err = run("check " .. conf .. " --policy /does/not/exist.lua")
      assert.equal(CONFIG, code)
      assert.equal("", out)
      assert.truthy(err:find("/does/not/exist.lua", 1, true), err)
      assert.truthy(err:find "[Nn]o such file or directory", err)
      local other = dir .. "/other.lua"
      for text, wanted in pairs {
        ["return {\n api = 1, subscribe = }"] = "other.lua:2:",
        ["return { api = 1, authenticate = function() end, subscripe = function() end }"] = "subscri",
        ["return { api = 1, subscribe = function() end }"] = "authenticate",
      } do
        write(other, text)
        code, out, err = run("check " .. conf .. " --policy " .. other)
        assert.same({ CONFIG, "" }, { code, out }, text)
        assert.truthy(err:find(wanted, 1, true), err)
      end
    end)

    it("shows no value from the environment", function()
      local other = dir .. "/other.lua"
      write(other, 'return { policy = { file = "policy.lua", auth = env("TG_SPEC_TOKEN") } }')
      local code, _, err = run("check " .. other, { TG_SPEC_TOKEN = "hunter2" })
      assert.equal(CONFIG, code)
      assert.is_nil(err:find("hunter2", 1, true))
      assert.truthy(err:find("TG_SPEC_TOKEN", 1, true))
    end)
  end)

  it("serve refuses what check refuses, before anything is made", function()
    local code, out, err = run("serve " .. conf .. " --admin 0.0.0.0:1")
    assert.equal(CONFIG, code)
    assert.equal("", out)
    assert.truthy(err:find("--admin: ", 1, true))
  end)
end)
