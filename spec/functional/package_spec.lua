-- The Debian packages, made from the build that the specs run in: what is in them, and what lintian says.
local child = require "support.child"
local tidegate = require "support.tidegate"
local tree = require "support.tree"

local BUILD = tidegate.binary():match "^(.*)/[^/]*$"

describe("the Debian packages", function()
  local dir, packages = nil, {}

  local function run(...)
    local code, out, err = tidegate.run("/bin/sh", { args = { "-c", (...):format(select(2, ...)) }, timeout = 120 })
    assert.equal(0, code, out .. err)
    return out
  end

  setup(function()
    dir = child.directory()
    run("cd '%s' && cpack -G DEB -B '%s'", BUILD, dir)
    for name in run("ls '%s'", dir):gmatch "([^\n]+%.deb)\n" do
      packages[name:match "^[^_]+"] = dir .. "/" .. name
    end
  end)
  teardown(function()
    tree.remove(dir)
  end)

  it("are two: the broker, and the load generator", function()
    local names = {}
    for name in pairs(packages) do
      names[#names + 1] = name
    end
    table.sort(names)
    assert.same({ "tidegate", "tidegate-bench" }, names)
    assert.truthy(run("dpkg-deb -c '%s'", packages["tidegate-bench"]):find "%./usr/bin/tidegate%-bench\n")
    assert.is_nil(run("dpkg-deb -c '%s'", packages["tidegate-bench"]):find "%./etc")
  end)

  it("put the broker, its unit, policies, stubs and pages where the system has such files", function()
    local list = run("dpkg-deb -c '%s'", packages.tidegate)
    for _, path in ipairs {
      "/usr/bin/tidegate", "/usr/lib/systemd/system/tidegate.service", "/usr/lib/systemd/system/tidegate.socket",
      "/usr/lib/sysusers.d/tidegate.conf", "/usr/share/tidegate/policies/tenant.lua",
      "/usr/share/tidegate/meta/tidegate.lua", "/usr/share/doc/tidegate/README.md",
      "/usr/share/doc/tidegate/conf/REFERENCE.md", "/usr/share/doc/tidegate/copyright",
    } do
      assert.truthy(list:find("." .. path .. "\n", 1, true), path)
    end
    assert.is_nil(list:find("usr/bin/tidegate-bench", 1, true))
  end)

  it("need no library that the image lacks", function()
    local image <close> = assert(io.open(SPEC_SOURCE_DIR .. "/conf/container/Containerfile"))
    local text, count = image:read "a", 0
    for name in run("dpkg-deb -f '%s' Depends", packages.tidegate):gmatch "lib[%w.+-]+" do
      if name ~= "libc6" and not name:find "san%d*$" then -- in every image; of this build
        count = count + 1
        assert.truthy(text:find(name, 1, true), name)
      end
    end
    assert.is_true(count > 6)
  end)

  it("leave the configuration to the operator, whom an upgrade asks", function()
    local control = dir .. "/control"
    run("dpkg-deb -e '%s' '%s'", packages.tidegate, control)
    assert.equal("/etc/tidegate/policy.lua\n/etc/tidegate/tidegate.lua\n", run("cat '%s/conffiles'", control))
    for _, script in ipairs { "postinst", "prerm", "postrm" } do
      run("sh -n '%s/%s' && test -x '%s/%s'", control, script, control, script)
    end
  end)

  it("hold a configuration that can be served", function()
    run("dpkg-deb -x '%s' '%s/unpacked'", packages.tidegate, dir)
    local conf = dir .. "/unpacked/etc/tidegate/tidegate.lua"
    local code, out, err = tidegate.run(tidegate.binary(), { args = { "check", conf } })
    assert.equal(0, code, out .. err)
  end)

  it("have a manual page for each command, the configuration and policies", function()
    local man = dir .. "/man"
    run("'%s/conf/package/manual.sh' '%s' '%s' '%s/scripts/meta/tidegate.lua' '%s'", SPEC_SOURCE_DIR, tidegate.binary(),
      tidegate.bench_binary(), SPEC_SOURCE_DIR, man)
    local commands = 0
    for command in run("'%s' help", tidegate.binary()):match "\nCommands:\n(.-)\n\n":gmatch "[^\n]+" do
      commands = commands + 1
      local page = run("zcat '%s/tidegate-%s.1.gz'", man, command:match "^  (%S+)")
      assert.truthy(page:find("\n.SH NAME\ntidegate\\-", 1, true), command)
    end
    assert.is_true(commands > 10)
    assert.truthy(run("zcat '%s/tidegate.lua.5.gz'", man):find("\\fBstore.path\\fR", 1, true))
    -- groff understands them
    assert.equal("", run("for page in '%s'/*.gz; do zcat $page | groff -man -Tutf8 -ww -z 2>&1; done", man))
  end)

  it("have completions where bash, zsh and fish look for them", function()
    local share = dir .. "/share"
    run("'%s/conf/package/completions.sh' '%s' '%s'", SPEC_SOURCE_DIR, tidegate.binary(), share)
    for path, shell in pairs {
      ["bash-completion/completions/tidegate"] = "bash", ["zsh/site-functions/_tidegate"] = "zsh",
      ["zsh/vendor-completions/_tidegate"] = "zsh", ["fish/vendor_completions.d/tidegate.fish"] = "fish",
    } do
      assert.equal(run("'%s' completion %s", tidegate.binary(), shell), run("cat '%s/%s'", share, path))
    end
    -- bash finds it by the name of the command
    local script = ("source %s/bash-completion/completions/tidegate; COMP_WORDS=(tidegate st); COMP_CWORD=1; "
      .. "_tidegate; echo ${COMPREPLY[@]}"):format(share)
    assert.equal("status\n", run("bash -c '%s'", script))
    -- zsh and fish load them by themselves, where the program is one that they know
    local path = BUILD .. ":" .. os.getenv "PATH"
    assert.equal("tidegate status \ntidegate status --admin \ntidegate eval authenticate \ntidegate help connections \n"
      .. "tidegate check mine.lua \n",
      run("cd '%s' && touch mine.lua && PATH='%s' zsh -f '%s/spec/support/completion.zsh' '%s/zsh/site-functions' "
        .. "'tidegate sta' 'tidegate status --ad' 'tidegate eval auth' 'tidegate help conn' 'tidegate check mi'",
        dir, path, SPEC_SOURCE_DIR, share))
    for line, answer in pairs {
      ["tidegate sta"] = "status\tSays how a running broker is\n", ["tidegate completion "] = "bash\nfish\nzsh\n",
      ["tidegate status --ad"] = "--admin\tthe broker's admin address\n", ["tidegate eval auth"] = "authenticate\n",
      ["tidegate help check --ad"] = "", ["tidegate help conn"] = "connections\n",
      ["tidegate check mi"] = "mine.lua\n",
    } do
      assert.equal(answer, run("cd '%s' && PATH='%s' HOME='%s' XDG_DATA_DIRS='%s' fish -c 'complete -C \"%s\"'",
        dir, path, dir, share, line), line)
    end
  end)

  it("give lintian nothing to say", function()
    -- of the build with sanitizers, which is no release
    local out = run("TMPDIR='%s' lintian --allow-root --suppress-tags hardening-no-fortify-functions,hardening-no-pie,"
      .. "hardening-no-bindnow,hardening-no-relro,no-manual-page '%s' '%s'",
      dir, packages.tidegate, packages["tidegate-bench"])
    assert.equal("", out)
  end)
end)
