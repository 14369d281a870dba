-- From nothing to a protected event: `tidegate init`, and `tidegate token`.
local child = require "support.child"
local eventually = require "support.eventually"
local read = require("support.files").read
local http = require "support.http"
local tidegate = require "support.tidegate"
local tokens = require "support.tokens"
local tree = require "support.tree"
local undo = require "support.undo"
local uv = require "luv"

local keep, undo_all = undo.keeper()

local function directory()
  local dir = tidegate.directory()
  keep(function() tree.remove(dir) end)
  return dir
end

local function run(cwd, ...)
  return tidegate.run(tidegate.binary(), { args = { ... }, cwd = cwd })
end

local function write(path, text)
  local f <close> = assert(io.open(path, "wb"))
  f:write(text)
end

describe("tidegate init", function()
  after_each(undo_all)

  it("writes what passes check, test and serve at once, and prints commands that work", function()
    local dir = directory()
    local port, admin = child.free_port(), child.free_port()
    local code, out, err = run(dir, "init", "new", "--listen", "127.0.0.1:" .. port,
      "--admin", "127.0.0.1:" .. admin)
    assert.same({ 0, "" }, { code, err })
    local cwd = dir .. "/new"
    assert.equal(384, uv.fs_stat(cwd .. "/secret").mode & 511)
    -- The commands of the three terminals, each as printed.
    local blocks = {}
    for line in out:gmatch "\n  (tidegate [^\n]+)" do
      blocks[#blocks + 1] = line
    end
    local function sh(line, background)
      line = line:gsub("tidegate ", function() return "'" .. tidegate.binary() .. "' " end)
      if background then
        local p = child.start("/bin/sh", { "-c", ("cd '%s'; exec %s"):format(cwd, line) })
        keep(function() p:stop() end)
        return p
      end
      local got, text, said = tidegate.run("/bin/sh", { args = { "-c", line }, cwd = cwd })
      assert.equal(0, got, line .. "\n" .. said .. text)
      return text
    end
    assert.equal("tidegate check --samples samples.ndjson && tidegate test .", blocks[1])
    local said = sh(blocks[1])
    assert.matches("\n4 successes", said)
    assert.is_nil(said:find("skipped", 1, true)) -- the samples get to all hooks
    assert.equal(0, (run(cwd, "check", "--strict")))
    write(cwd .. "/in.json", '{"who": {"sub": "ann"}}')
    local sport = select(2, run(cwd, "eval", "subscribe", "--input", "in.json", "--setting", "public=sport"))
    assert.truthy(sport:find('["sport/**","users/ann/**"]', 1, true), sport)
    assert.equal("tidegate serve", blocks[2])
    sh(blocks[2], true)
    eventually("it serves", function()
      local ok, r = pcall(http.get, { host = "127.0.0.1", port = admin }, "/readyz")
      return ok and r.status == 200
    end)
    sh(blocks[3])
    sh(blocks[4])
    local p = sh(blocks[5] .. " -n 1", true)
    eventually("it is connected", function() return p:errors():find("connected", 1, true) end)
    local id = sh(blocks[6])
    assert.equal(0, p:wait())
    assert.equal(id:gsub("\n", "") .. " message a book\n", p:output())
    -- the address for a browser is the one that was named
    assert.truthy(out:find(("open http://127.0.0.1:%d/ in a browser"):format(port), 1, true))
    local denied, _, why = run(cwd, "publish", "news/x", "1", "--token", "@ann.token")
    assert.equal(77, denied)
    assert.matches("your token is not one of a writer", why)
    write(cwd .. "/input.json", '{"who": {"sub": "ann"}}')
    denied, _, why = run(cwd, "subscribe", "demo/hello", "--token", "@ann.token")
    assert.equal(77, denied)
    assert.truthy(why:find("something in news/** or users/ann/** was expected", 1, true), why)
    code, out, err = run(cwd, "eval", "subscribe", "--input", "input.json")
    assert.same({ 0, "tidegate eval: uses the configuration tidegate.lua\n" }, { code, err })
    assert.truthy(out:find('["news/**","users/ann/**"]', 1, true), out)
    -- without the @ it would send the file's name
    code, _, err = run(cwd, "subscribe", "--token", "ann.token")
    assert.equal(64, code)
    assert.matches("%-%-token: ann.token is a file: write @ann.token to use what it holds\n", err)
    code, _, err = run(cwd, "token", "verify", "ann.token")
    assert.equal(64, code)
    assert.matches("TOKEN: ann.token is a file: write @ann.token to use what it holds\n", err)
    -- and the same of files that hold none
    write(cwd .. "/empty", "\n")
    for about, words in pairs { ["--token"] = { "subscribe", "--token" }, TOKEN = { "token", "verify" } } do
      table.insert(words, "@empty")
      code, _, err = run(cwd, table.unpack(words))
      assert.equal(64, code)
      assert.matches(about .. ": empty: is empty\n", err, 1, true)
      words[#words] = "@missing"
      code, _, err = run(cwd, table.unpack(words))
      assert.equal(66, code)
      assert.matches(about .. ": missing: no such file or directory\n", err, 1, true)
    end
  end)

  it("writes what tools need: the language server, luacheck, git, and a CI", function()
    local dir = directory()
    assert.equal(0, (run(dir, "init", "new")))
    local cwd = dir .. "/new"
    local rc = http.json.decode(read(cwd .. "/.luarc.json"))
    assert.same({ "/usr/share/tidegate/meta" }, rc["workspace.library"])
    -- every name that policies have, and no other
    local code, said, err = tidegate.run("luacheck", { args = { "." }, cwd = cwd })
    assert.equal(0, code, said .. err)
    local names = {}
    for name in read(SPEC_SOURCE_DIR .. "/scripts/meta/tidegate.lua"):gmatch "\nfunction ([%w_.]+)%(" do
      names[#names + 1] = name
    end
    assert.is_true(#names > 15)
    write(cwd .. "/policy.lua", ("local all = { %s, json.null, tg.settings.x }\nreturn all\n")
      :format(table.concat(names, ",\n")))
    code, said, err = tidegate.run("luacheck", { args = { "policy.lua" }, cwd = cwd })
    assert.equal(0, code, said .. err)
    write(cwd .. "/policy.lua", "return { tg.dney, io }\n")
    code, said = tidegate.run("luacheck", { args = { "policy.lua" }, cwd = cwd })
    assert.equal(1, code)
    assert.matches("2 warnings", said)
  end)

  it("writes a CI that does what it should in a fresh checkout", function()
    local dir = directory()
    assert.equal(0, (run(dir, "init", "new")))
    local cwd = dir .. "/new"
    local function git(words)
      local code, out, err = tidegate.run("/bin/sh", { args = { "-c", "git " .. words }, cwd = cwd })
      assert.equal(0, code, out .. err)
    end
    write(cwd .. "/ann.token", "x")
    git "init -q . && git add -A && git -c user.name=x -c user.email=x@y commit -qm x && git clone -q . ../checkout"
    assert.is_nil(uv.fs_stat(dir .. "/checkout/secret"))
    assert.is_nil(uv.fs_stat(dir .. "/checkout/ann.token"))
    local commands = {}
    for command in read(dir .. "/checkout/.github/workflows/policy.yml"):gmatch "\n      %- run: ([^\n]+)" do
      commands[#commands + 1] = command
    end
    assert.equal(5, #commands)
    for i = 3, 5 do -- behind those that install
      local line = commands[i]:gsub("^tidegate ", function() return "'" .. tidegate.binary() .. "' " end)
      local code, out, err = tidegate.run("/bin/sh", { args = { "-c", line }, cwd = dir .. "/checkout" })
      assert.equal(0, code, line .. "\n" .. out .. err)
    end
  end)

  it("overwrites nothing, and writes nothing then", function()
    for _, name in ipairs { "tidegate.lua", "policy_spec.lua", "secret", ".luacheckrc" } do
      local dir = directory()
      write(dir .. "/" .. name, "mine")
      local code, out, err = run(dir, "init", ".")
      assert.same({ 73, "" }, { code, out })
      assert.equal(("tidegate init: ./%s: exists, and is not overwritten: name another directory\n"):format(name), err)
      local list = {}
      for entry in require("lfs").dir(dir) do
        list[#list + 1] = entry
      end
      assert.equal(3, #list)
    end
    assert.equal(73, (run("/", "init", "/proc/nowhere/at/all")))
    assert.equal(64, (run("/", "init")))
    assert.equal(64, (run("/", "init", "x", "--listen", "localhost:1")))
  end)
end)

describe("tidegate token", function()
  after_each(undo_all)

  local CONF = [[return { policy = { file = "policy.lua" }, keys = { %s } }]]

  local function broker(keys, files)
    files = files or {}
    local b = tidegate.prepare { conf = CONF:format(keys), files = files }
    tidegate.forget_later(b)
    return b.dir
  end

  local function claims_of(out)
    return http.json.decode(out:match "({.*})\n$")
  end

  it("signs with each kind of secret what verifies", function()
    local secret = tokens.SECRET
    for name, keys in pairs {
      ["the secret itself"] = ('main = { secret = "%s" }'):format(secret),
      ["a file"] = 'main = { secret_file = "secret" }',
      ["a set of secrets"] = 'main = { jwks_file = "keys.json", algorithms = { "HS384" } }',
    } do
      local dir = broker(keys, { secret = secret .. "\n",
        ["keys.json"] = tokens.jwks(tokens.jwk(secret, { kid = "k1" })) })
      local code, token, err = run(dir, "token", "--sub", "ann", "--claim", "n=5", "--claim", 'list=["a"]',
        "--claim", "tenant=acme=x", "--iss", "i", "--aud", "a", "--expires", "15m")
      assert.same({ 0, "" }, { code, err }, name)
      local got, out = run(dir, "token", "verify", (token:gsub("\n", "")))
      assert.equal(0, got, name)
      local c = claims_of(out)
      assert.equal(900, c.exp - c.iat)
      c.exp, c.iat = nil, nil
      assert.same({ sub = "ann", n = 5, list = { "a" }, tenant = "acme=x", iss = "i", aud = "a" }, c)
      assert.matches("valid: signed with a key of keys.main\nuntil %d+%-", out)
    end
  end)

  it("signs with private keys, for each algorithm", function()
    for alg, openssl in pairs { RS256 = "RSA -pkeyopt rsa_keygen_bits:2048",
      ES256 = "EC -pkeyopt ec_paramgen_curve:P-256", ES384 = "EC -pkeyopt ec_paramgen_curve:P-384",
      EdDSA = "ED25519" } do
      local dir = broker 'main = { public_key_file = "public.pem" }'
      assert.equal(0, (tidegate.run("/bin/sh", { cwd = dir, args = { "-c",
        ("openssl genpkey -quiet -algorithm %s -out private.pem && openssl pkey -in private.pem -pubout "
          .. "-out public.pem"):format(openssl) } })))
      local code, token, err = run(dir, "token", "--private-key", "private.pem", "--kid", "x")
      assert.same({ 0, "" }, { code, err }, alg)
      write(dir .. "/token", token)
      local head = token:match "^[^.]+"
      head = require "mime".unb64(head .. ("="):rep(-#head % 4))
      assert.same({ alg = alg, kid = "x", typ = "JWT" }, http.json.decode(head))
      assert.equal(0, (run(dir, "token", "verify", "@token")), alg)
      local signed
      code, signed, err = run(dir, "token")
      assert.same({ 64, "" }, { code, signed })
      assert.matches("no secret to sign with: name a private key", err)
    end
  end)

  it("says why a token is not valid", function()
    local dir = broker(('a = { secret = "%s" }, b = { secret = "%s" }'):format(tokens.SECRET, "b" .. tokens.SECRET))
    local code, token = run(dir, "token", "--key", "a")
    assert.equal(0, code)
    token = token:gsub("\n", "")
    assert.equal(0, (run(dir, "token", "verify", token)))
    local out, err
    code, out, err = run(dir, "token", "verify", token, "--key", "b")
    assert.same({ 1, "" }, { code, out })
    assert.matches("^tidegate token: keys.b: .*signature", err)
    code, out, err = run(dir, "token", "verify", "abc")
    assert.same({ 1, "", "tidegate token: no JSON Web Token: three parts with dots between were expected\n" },
      { code, out, err })
    local old = tokens.sign("HS256", tokens.SECRET, { sub = "ann", exp = 1000 })
    code, out, err = run(dir, "token", "verify", old, "--key", "a")
    assert.same({ 1, "" }, { code, out })
    assert.matches("keys.a: .*expired", err)
    code, out, err = run(dir, "token")
    assert.same({ 64, "" }, { code, out })
    assert.matches("%-%-key: several key sets may sign: name one", err)
    for _, words in ipairs { { "--expires", "soon" }, { "--claim", "x" }, { "--alg", "RS256" }, { "--alg", "none" } } do
      assert.equal(64, (run(dir, "token", "--key", "a", table.unpack(words))), words[2])
    end
  end)
end)
