-- The packages, made from the build that the specs run in: what is in them, and what lintian says.
local child = require "support.child"
local tidegate = require "support.tidegate"
local tree = require "support.tree"
local uv = require "luv"

local BUILD = tidegate.binary():match "^(.*)/[^/]*$"

local function run(...)
  local code, out, err = tidegate.run("/bin/sh", { args = { "-c", (...):format(select(2, ...)) }, timeout = 120 })
  assert.equal(0, code, out .. err)
  return out
end

describe("the Debian packages", function()
  local dir, packages = nil, {}

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
      "/usr/share/tidegate/meta/tidegate.lua", "/usr/share/tidegate/meta/test.lua",
      "/usr/share/doc/tidegate/README.md",
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
    assert.equal("tidegate status \ntidegate status --admin \ntidegate eval observe \ntidegate help connections \n"
      .. "tidegate check mine.lua \n",
      run("cd '%s' && touch mine.lua && PATH='%s' zsh -f '%s/spec/support/completion.zsh' '%s/zsh/site-functions' "
        .. "'tidegate sta' 'tidegate status --ad' 'tidegate eval ob' 'tidegate help conn' 'tidegate check mi'",
        dir, path, SPEC_SOURCE_DIR, share))
    for line, answer in pairs {
      ["tidegate sta"] = "status\tSays how a running broker is\n", ["tidegate completion "] = "bash\nfish\nzsh\n",
      ["tidegate status --ad"] = "--admin\tthe broker's admin address\n", ["tidegate eval ob"] = "observe\n",
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

-- In a root of its own, with what the scripts call of this machine; systemd and the broker are stand-ins that note how
-- they are called. Its files get a group of that root, which only root can give them.
if uv.getuid() ~= 0 then
  print "the RPM package is left out: only root can install it"
  return
end

describe("the RPM package", function()
  local dir, root, package

  setup(function()
    dir = child.directory()
    run("cd '%s' && cpack -G RPM -D CPACK_COMPONENTS_ALL=broker -D CPACK_RPM_COMPRESSION_TYPE=none -B '%s'", BUILD, dir)
    package = run("ls '%s'/tidegate-[0-9]*.rpm", dir):gsub("\n", "")
    root = dir .. "/root"
    run([[
      set -eu
      mkdir -p '%s' && cd '%s' && mkdir -p bin dev etc tmp usr run/systemd/system && ln -s bin sbin && : > dev/null
      cp /etc/nsswitch.conf /etc/login.defs etc/
      for file in passwd group; do grep -v '^tidegate:' /etc/$file > etc/$file; done
      for file in shadow gshadow calls; do : > etc/$file; done
      for program in sh getent groupadd useradd install chown chmod; do
        path=$(command -v $program)
        cp "$path" bin/
        for library in $(ldd "$path" | grep -o '/[^ ]*'); do
          mkdir -p "./${library%%/*}" && cp -L "$library" "./$library"
        done
      done
      for program in systemctl tidegate; do
        printf '#!/bin/sh\necho "${0##*/} $*" >> /etc/calls\n' > bin/$program && chmod 755 bin/$program
      done
      rpm --root "$PWD" --initdb
    ]], root, root)
  end)
  teardown(function()
    run("rm -rf '%s'", dir)
  end)

  local function rpm(words, ...)
    run("rpm --root '%s' " .. words, root, ...)
    local calls = run("cat '%s/etc/calls' && : > '%s/etc/calls'", root, root)
    return calls
  end

  it("can be installed, upgraded and removed; the configuration stays the operator's", function()
    local function owner(path)
      local group = run("sed -n 's/^tidegate:[^:]*:\\([0-9]*\\):.*/\\1/p' '%s/etc/group'", root):gsub("\n", "")
      return (run("stat -c '%%a %%u %%g' '%s%s'", root, path):gsub(" " .. group .. "\n$", " tidegate\n"))
    end
    assert.equal("systemctl daemon-reload\n", rpm("-i --nodeps '%s'", package))
    assert.equal("640 0 tidegate\n", owner "/etc/tidegate/tidegate.lua")
    assert.matches("^750 %d+ tidegate\n", owner "/var/lib/tidegate")
    assert.equal("", run("rpm --root '%s' -V --nodeps tidegate", root)) -- what is there is what the package says
    for _, path in ipairs { "/usr/bin/tidegate", "/usr/lib/systemd/system/tidegate.service",
      "/usr/share/tidegate/policies/tenant.lua", "/usr/share/doc/tidegate/README.md" } do
      assert.truthy(uv.fs_stat(root .. path), path)
    end
    run("echo '-- mine' >> '%s/etc/tidegate/policy.lua'", root)
    -- the same package stands for a newer one
    assert.equal("systemctl daemon-reload\nsystemctl --quiet is-active tidegate.service\n"
      .. "tidegate restart /etc/tidegate/tidegate.lua\nsystemctl daemon-reload\n",
      rpm("-U --force --nodeps '%s'", package))
    assert.equal("640 0 tidegate\n", owner "/etc/tidegate/tidegate.lua")
    assert.matches("\n-- mine\n$", run("cat '%s/etc/tidegate/policy.lua'", root))
    run("touch '%s/var/lib/tidegate/events.db'", root)
    assert.equal("systemctl --no-reload disable --now tidegate.service tidegate.socket\nsystemctl daemon-reload\n",
      rpm "-e --nodeps tidegate")
    assert.is_nil(uv.fs_stat(root .. "/usr/bin/tidegate"))
    assert.truthy(uv.fs_stat(root .. "/etc/tidegate/policy.lua.rpmsave"))
    assert.truthy(uv.fs_stat(root .. "/var/lib/tidegate/events.db"))
  end)
end)
