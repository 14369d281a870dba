-- Every shell block of the documentation is run, page by page from top to bottom in one shell, as a reader would who
-- has installed the program. One `cmake --install` into a directory serves all pages; the working directory is a copy
-- of what the blocks name of the tree. What a block says is what is run, but for:
--
--   127.0.0.1:8080, 8081, 9090, 9091    ports that are free
--   /etc, /var/lib/tidegate, /backup    below the directory of the installation, also in the configuration; so is
--                                       /usr/share/tidegate
--   /tmp/other                          below the working directory
--   https://events.example.org          the broker of the page
--   -g tidegate, 10001                  the group, the user of this process
--
-- and for programs that do not end, take minutes or change the machine: support/stand_ins.sh. A block that is a script
-- (`#!`) becomes the file that its second line names. Where there is a database, blocks of SQL (as a superuser) and
-- Python are run in their turn, too.
local child = require "support.child"
local eventually = require "support.eventually"
local files = require "support.files"
local pages = require "support.pages"
local pg = require "support.pg"
local tidegate = require "support.tidegate"
local tree = require "support.tree"
local uv = require "luv"

local STAND_IN = SPEC_SOURCE_DIR .. "/spec/support/stand_ins.sh"
local STAND_INS = { "tidegate", "tidegate-bench", "curl", "tail", "pidof", "make", "sudo", "apt-get", "systemctl",
  "systemd-sysusers", "systemd-tmpfiles", "podman", "certbot", "tidegate_spec", "deps", "run" }

local ENTITLEMENT = "psql -qc 'CREATE TABLE entitlement (tenant text, login text, topic text, role text)'"

-- The configuration and the policy of "An answer in the same request".
local function answers_in_one_request()
  local section = pages.read("scripts/STREAMS.md"):match "\n## An answer in the same request\n(.-)\n## "
  return ([[
cat > policy.lua <<'END'
%sEND
cat > tidegate.lua <<'END'
return {
  keys = { main = { secret = "of-thirty-two-bytes-or-some-more" } },
  %s,
  policy = { file = "policy.lua" },
}
END
tidegate check
tidegate serve]]):format(section:match "\n```lua\n(local P .-\nreturn P\n)", section:match "\n```lua\n(http = .-)\n```")
end

-- What pages need or show beyond their blocks.
--   conf      is put into the installed configuration
--   policy    { what is replaced, by what } in the installed policy
--   serve     a broker with that configuration runs before the first block; with `tls` it has a listener with TLS, too
--   postgres  an empty database `app` is there
--   before    commands before the block in which the text stands
--   seen      patterns of what must have been printed
local PAGES = {
  ["README.md"] = { seen = { "\ndata: hello, world\n" } },
  ["conf/README.md"] = { conf = "" },
  ["conf/PRIVACY.md"] = { serve = true },
  ["conf/OPERATIONS.md"] = { conf = 'trusted_proxies = { "127.0.0.1" }, admin_identity = { "sub" },', serve = true,
    policy = { "{ topics = req.topics }", "{ topics = req.topics, tags = { req.query.tag } }" },
    before = {
      ["tidegate kick"] = [[
        curl -N -H 'X-Forwarded-For: 192.0.2.7' 'http://127.0.0.1:8080/events?topic=orders/**'
        curl -N 'http://127.0.0.1:8080/events?topic=news&tag=user:ann'
        curl -N 'http://127.0.0.1:8080/events?topic=news&tag=room:7']],
      ["tidegate reload"] = "sed -i 's/open-2/open-3/' /etc/tidegate/policy.lua",
      ["VACUUM INTO"] = "mkdir /backup",
    },
    seen = { '"policy"', "\nclosed 1%-%d+\n", ": would be reloaded", ": reloaded" } },
  ["conf/POSTGRESQL.md"] = { postgres = true,
    seen = { "\ndata: paid\n", '\ndata: {"order":42}\n', '\ndata: {"order": 42}\n' },
    before = {
      ["UPDATE orders"] = [[psql -qc "CREATE TABLE IF NOT EXISTS orders AS SELECT 42 AS id, 'new' AS state"
        psql -qc "GRANT ALL ON orders TO app"]],
      ["FROM entitlement"] = ENTITLEMENT,
      ["pg_restore"] = "pg_dump -Fc -f app.dump app",
    } },
  ["scripts/policies/README.md"] = { seen = { 'topics: %["news/eu"%]', "\ndata: a new order\n" } },
  ["scripts/policies/MERCURE.md"] = { seen = { '\ndata: {"status":"sold"}\n' } },
  ["scripts/CLIENTS.md"] = { conf = 'keys = { main = { secret = "of-thirty-two-bytes-or-some-more" } },', serve = true,
    before = {
      ["sqlite3 data/events.db"] = "ln -s /var/lib/tidegate data",
      ["tidegate subscribe"] = [[echo '{"topic":"orders/line","data":"of a file"}' > events.ndjson]],
    },
    seen = { ' reserved {"book":"emma"}', '"data":"of a file"', '"sub": "ann"' } },
  ["scripts/CLOUDEVENTS.md"] = { serve = true,
    policy = { "function P.subscribe(", pages.read("scripts/CLOUDEVENTS.md"):match "\n(function P.subscribe.-\nend\n)"
      .. "local function not_asked(" },
    seen = { '{"id":"%d+"}\n{"id":"%d+"}\n', 'data: {"specversion":"1.0","id":"1","source":"/shop"' } },
  ["scripts/STREAMS.md"] = { before = { ["--sub model"] = answers_in_one_request() },
    seen = { "\ndata: Air scatters blue light.\n", "\nevent: done\n" } },
  ["scripts/MCP.md"] = { before = { ["tidegate check"] = "cat > tidegate.lua <<'END'\n"
      .. pages.read("scripts/MCP.md"):match "\n```lua\n(return {.-\n}\n)" .. "END" },
    seen = { "\r\n[Mm]cp%-[Ss]ession%-[Ii]d: %x+%-%d+%-%x+\r\n" } },
  ["scripts/TUTORIAL.md"] = { before = { ["shop-1"] = [[sed -i 's/127\.0\.0\.1:8080/127.0.0.1:8080/; ]]
      .. [[s/127\.0\.0\.1:8081/127.0.0.1:8081/' tidegate.lua]] },
    seen = { "without a token: exit code 77", '"card":"%*%*%*%*"', ' message {"state":"paid"}\n',
      "no amount: exit code 65", "not the shop: exit code 77", "2 successes / 0 failures" } },
  ["scripts/README.md"] = { postgres = true,
    before = {
      ["ON entitlement"] = ENTITLEMENT,
      ["eval observe"] = "cat > policy.lua <<'END'\nlocal P = { api = 1 }\nfunction P.authenticate() end\n"
        .. "P.subscribe = P.authenticate\n" .. pages.read("scripts/README.md"):match "\n(P%.observe = {.-\n}\n)"
        .. "return P\nEND",
    } },
  ["scripts/TESTING.md"] = { seen = { 'symbols: %["ACME"%]', "0 failures" } },
  ["spec/bench/README.md"] = { conf = "compress = { gzip = true, min_members = 1 },", serve = true, tls = true },
  ["spec/bench/POLICY_RESULTS.md"] = {},
}

local function sh(script, options)
  options = options or {}
  local code, out, err = tidegate.run("/bin/bash", { args = { "-c", script }, env = options.env, cwd = options.cwd,
    timeout = options.timeout or 120 })
  return code, out, err
end

local function all_pages()
  local list = {}
  local pipe <close> = assert(io.popen(("cd '%s' && ls *.md && find src conf scripts spec -name '*.md'")
    :format(SPEC_SOURCE_DIR)))
  for path in pipe:lines() do
    list[#list + 1] = path
  end
  table.sort(list)
  return list
end

-- What runs blocks of other languages, in a shell.
local LANGUAGES = { sql = "psql -v ON_ERROR_STOP=1 -f -", python = "/usr/bin/python3 -" }

-- Its shell blocks, and those of LANGUAGES where there is a database: { line = of the fence, text = , runs = }.
local function blocks_of(page, postgres)
  local list, number, open = {}, 0, nil
  for line in pages.read(page):gmatch "([^\n]*)\n" do
    number = number + 1
    if open and line:find "^%s*```$" then
      list[#list + 1] = { line = open.line, runs = open.runs, text = table.concat(open, "\n") .. "\n" }
      open = nil
    elseif open then
      open[#open + 1] = line
    elseif line:find "^%s*```%s*%a*sh$" or line:find "^%s*```%s*console$" then
      open = { line = number }
    elseif postgres and LANGUAGES[line:match "^```(%a+)$"] then
      open = { line = number, runs = LANGUAGES[line:match "%a+"] }
    end
  end
  return list
end

describe("shell blocks of the documentation", function()
  local server = pg.shared {}
  local root, called = nil, {}

  setup(function()
    root = child.directory()
    local code, out, err = sh(("DESTDIR='%s' cmake --install '%s' --prefix /usr"):format(root,
      tidegate.binary():match "^(.*)/"))
    assert.equal(0, code, out .. err)
    local links = { ("cd '%s' && mv etc/tidegate installed && mkdir bin"):format(root) }
    for _, name in ipairs(STAND_INS) do
      links[#links + 1] = ("ln -s '%s' bin/%s"):format(STAND_IN, name)
    end
    code, out, err = sh(table.concat(links, " && "))
    assert.equal(0, code, out .. err)
  end)
  teardown(function()
    tree.remove(root)
  end)

  -- What a page says, on this machine.
  local function placed(text, ports, work)
    local function all(from, to)
      text = text:gsub((from:gsub("%p", "%%%0")), (to:gsub("%%", "%%%%")))
    end
    for port, own in pairs(ports) do
      all("127.0.0.1:" .. port, "127.0.0.1:" .. own)
    end
    all("https://events.example.org", "http://127.0.0.1:" .. ports["8080"])
    all("/etc/tidegate", root .. "/etc/tidegate")
    all("/etc/letsencrypt", root .. "/etc/letsencrypt")
    all("/var/lib/tidegate", root .. "/var/lib/tidegate")
    all("/usr/share/tidegate", root .. "/usr/share/tidegate")
    all("/backup", root .. "/backup")
    all("/tmp/other", work .. "/other")
    all("-g tidegate", "-g " .. uv.getgid())
    all("10001", tostring(uv.getuid()))
    return text
  end

  -- The shell's script: each block, with a mark at its end.
  local function script_of(page, about, ports, work)
    local out = { "set -eu" }
    if about.serve then
      out[2] = "tidegate serve " .. root .. "/etc/tidegate/tidegate.lua"
    end
    local count = 0
    for _, block in ipairs(blocks_of(page, about.postgres)) do
      count = count + 1
      for where, commands in pairs(about.before or {}) do
        if block.text:find(where, 1, true) then
          out[#out + 1] = placed(commands, ports, work)
        end
      end
      local text = placed(block.text, ports, work)
      local path, mode = text:match "^#![^\n]+\n# (/%S+) %(mode (%d+)%)\n"
      if block.runs then
        text = ("%s <<'END_OF_BLOCK'\n%sEND_OF_BLOCK\n"):format(block.runs, text)
      elseif path then
        text = ("mkdir -p '%s'\ncat > '%s' <<'END_OF_FILE'\n%sEND_OF_FILE\nchmod %s '%s'\n"):format(
          path:match "^(.*)/", path, text, mode, path)
      end
      out[#out + 1] = ("%swait\necho '<<%s:%d>>'"):format(text, page, block.line)
    end
    return table.concat(out, "\n") .. "\n", count
  end

  local function terminals(tried)
    local list = {}
    local _, names = sh(("cd '%s' && ls | grep -x 'terminal-......'"):format(tried))
    for name in names:gmatch "[^\n]+" do
      list[#list + 1] = tried .. "/" .. name
    end
    return list
  end

  local function end_terminals(tried)
    for _, path in ipairs(terminals(tried)) do
      if not uv.fs_stat(path .. ".code") then
        uv.kill(tonumber(files.read(path .. ".pid")), "sigterm")
      end
      eventually("the program ends", function() return uv.fs_stat(path .. ".code") end, 60)
      local log = files.read(path)
      assert.is_nil(log:find("Sanitizer", 1, true), log)
      if log:find(" msg=ready ", 1, true) then
        assert.equal("0\n", files.read(path .. ".code"), log)
      end
    end
  end

  -- Free ports, by those of the pages; the last is that of a listener with TLS.
  local function free_ports()
    local ports = {}
    for _, port in ipairs { "8080", "8081", "9090", "9091", "8443" } do
      ports[port] = child.free_port()
    end
    return ports
  end

  -- The configuration as it is installed and as it is in the tree, with what the page needs.
  local function configure(about, ports, work)
    local conf = files.read(root .. "/installed/tidegate.lua")
    if about.tls then
      assert.equal(0, (sh(("cd '%s' && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
        .. "-subj /CN=localhost -keyout tls.key -out tls.pem"):format(work))))
      conf = conf:gsub("listen = { ", function(begin)
        return begin .. ('{ address = "127.0.0.1:%d", tls = { { cert = "%s/tls.pem", key = "%s/tls.key" } } }, ')
          :format(ports["8443"], work, work)
      end, 1)
    end
    conf = conf:gsub("\nreturn {\n", function(begin) return begin .. "  " .. (about.conf or "") .. "\n" end, 1)
    assert.equal(0, (sh(("cd '%s' && rm -rf etc && mkdir etc && cp -r installed etc/tidegate"):format(root))))
    files.write(root .. "/etc/tidegate/tidegate.lua", placed(conf, ports, work))
    if about.policy then
      local path = root .. "/etc/tidegate/policy.lua"
      local begin, rest = files.read(path):match("^(.-)" .. about.policy[1]:gsub("%p", "%%%0") .. "(.*)$")
      files.write(path, begin .. about.policy[2] .. rest)
    end
    for _, name in ipairs { "tidegate.lua", "postgres.lua" } do
      local path = work .. "/conf/" .. name
      files.write(path, placed(files.read(path), ports, work))
    end
  end

  local function try(page, about)
    local work, tried, ports = child.directory(), child.directory(), free_ports()
    finally(function()
      end_terminals(tried)
      tree.remove(work)
      tree.remove(tried)
      tree.remove(root .. "/var/lib/tidegate")
    end)
    local code, out, err = sh(([[
      set -eu
      mkdir -p '%s/var/lib/tidegate' build/release .ci
      cp -r '%s'/{Makefile,CMakePresets.json,conf,scripts} .
      for name in tidegate tidegate-bench tidegate_spec; do ln -s "$STAND_IN" build/release/$name; done
      for name in deps run; do ln -s "$STAND_IN" .ci/$name; done
    ]]):format(root, SPEC_SOURCE_DIR), { cwd = work, env = { STAND_IN = STAND_IN } })
    assert.equal(0, code, out .. err)
    configure(about, ports, work)
    files.write(tried .. "/calls", "")
    local env = { PATH = root .. "/bin:" .. os.getenv "PATH", HOME = work, TIDEGATE_ROOT = root, TIDEGATE_TRIED = tried,
      TIDEGATE_SOURCE = SPEC_SOURCE_DIR, TIDEGATE_PORT = tostring(ports["8080"]),
      TIDEGATE_TLS_PORT = tostring(ports["8443"]), TIDEGATE_OTHER_PORT = tostring(ports["9090"]),
      -- for configurations that a page writes, which leave the defaults
      TIDEGATE_ADMIN = "127.0.0.1:" .. ports["8081"] }
    if not about.tls then
      env.TIDEGATE_LISTEN = "127.0.0.1:" .. ports["8080"]
    end
    if about.conf then
      env.TIDEGATE_CONF = root .. "/etc/tidegate/tidegate.lua"
    end
    if about.postgres then
      server():sql "DROP DATABASE IF EXISTS app"
      server():sql "DROP ROLE IF EXISTS tidegate"
      server():sql "CREATE DATABASE app"
      env.PGHOST, env.PGPORT, env.PGUSER, env.PGDATABASE = server().dir, tostring(server().port), "postgres", "app"
    end
    local script, count = script_of(page, about, ports, work)
    code, out, err = sh(script, { cwd = work, env = env })
    local ran, refused = {}, uv.fs_stat(tried .. "/refused")
    for mark in out:gmatch "<<([^\n]+)>>" do
      ran[#ran + 1] = mark
    end
    local function printed()
      local text = out
      for _, path in ipairs(terminals(tried)) do
        text = text .. "\n" .. files.read(path)
      end
      return text
    end
    assert.is_true(code == 0 and not refused and #ran == count, ("code %d after the blocks at %s\n%s\n%s"):format(code,
      table.concat(ran, ", "), printed(), err))
    for _, seen in ipairs(about.seen or {}) do
      eventually(seen .. " is printed", function() return printed():find(seen), printed() end, 30)
    end
    end_terminals(tried)
    for name in files.read(tried .. "/calls"):gmatch "[^\n]+" do
      called[name] = true
    end
  end

  for _, page in ipairs(all_pages()) do
    local about = PAGES[page] or {}
    if #blocks_of(page, about.postgres) > 0 then
      it("of " .. page .. " work", function() try(page, about) end)
    end
  end

  it("need all stand-ins, and pages all that is done for them", function()
    for _, name in ipairs(STAND_INS) do
      assert.is_true(called[name], name .. " stands in for nothing")
    end
    for page, about in pairs(PAGES) do
      for text in pairs(about.before or {}) do
        assert.truthy(pages.read(page):find(text, 1, true), page .. ": " .. text)
      end
    end
  end)
end)
