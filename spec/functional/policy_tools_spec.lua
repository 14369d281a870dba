-- `tidegate test`: policies tried out by those who write them. `tidegate eval`: eval_spec.lua.
local json = require "dkjson"
local pages = require "support.pages"
local tidegate = require "support.tidegate"
local tools = require "support.policy_tools"
local uv = require "luv"

local run = tools.run

local function test_file(text)
  return [[
    local t = require "tidegate.test"
    describe("the policy", function()
      local p = t.policy "mine.lua"
      local function connect(name, topic)
        return p:connect { topics = { topic or "news" }, bearer = "secret", cookies = { name = name } }
      end
  ]] .. text .. "\nend)\n"
end

describe("tidegate test", function()
  local function passes(text)
    local code, out, err = run({ ["one_spec.lua"] = test_file(text) }, { "test", "one_spec.lua" })
    assert.equal(0, code, out .. err)
  end
  local function fails(text, pattern)
    local code, out, err = run({ ["one_spec.lua"] = test_file(text) }, { "test", "one_spec.lua" })
    assert.equal(1, code, out .. err)
    assert.matches(pattern, out)
  end

  it("shows what clients get: through filter and format, in order, with ids", function()
    passes [[ it("works", function()
      local ann, ben = connect "ann", connect "ben"
      p:publish { topic = "news", attrs = { owner = "ann" }, data = { text = "one", secret = 1 } }
      p:publish { topic = "news", attrs = { owner = "ben" }, data = { text = "two" } }
      p:publish { topic = "news", attrs = { owner = "ann" }, data = { text = "three" } }
      p:publish { topic = "else", attrs = { owner = "ann" }, data = { text = "four" } }
      local events = ann:events()
      assert.same({ "one", "three" }, { events[1].data, events[2].data })
      assert.equal("short", events[1].type)
      assert.equal(2, #events)
      assert.same({ events[1].id + 1 }, ben:ids())
      assert.faultless(p)
    end) ]]
  end)

  it("fails when the policy does not do what the spec says", function()
    fails([[ it("x", function()
      p:publish { topic = "news", attrs = { owner = "ben" }, data = { text = "two" } }
      assert.same({ 1 }, connect("ann"):ids()) end) ]], "Expected objects to be the same")
    fails([[ it("x", function() assert.granted(p:connect { topics = { "a" } }) end) ]],
      "got:\ndenied 401: bring the token")
    fails([[ it("x", function() assert.denied(403, connect "ann") end) ]], "got:\ngranted news")
    fails([[ it("x", function() assert.faultless(p) p:connect { bearer = "broken" } assert.faultless(p) end) ]],
      "authenticate = 1")
  end)

  it("says what the policy said, where a spec fails and nowhere else", function()
    fails([[ it("x", function() assert.granted(p:connect { bearer = "broken" }) end) ]],
      "Expected a grant, got:\ntransient: authenticate: mine%.lua:5: no such thing")
    fails([[ it("x", function() assert.granted(connect("ann", "db")) end) ]],
      "got:\ntransient: subscribe: [^\n]*gives no db")
    fails([[ it("x", function() p:connect { bearer = "broken" } assert.faultless(p) end) ]],
      "authenticate = 1\n  authenticate: mine%.lua:5: no such thing")
    local spec = test_file [[
      it("passes", function() assert.transient(p:connect { bearer = "broken" }) end)
      it("fails", function()
        local ann = connect "ann"
        p:publish { topic = "news", attrs = { owner = "ann" }, data = "no object" }
        p:publish { topic = "news", attrs = { owner = "ann" }, data = "no object" }
        assert.same({ 1 }, ann:ids())
      end) ]]
    local code, out, err = run({ ["one_spec.lua"] = spec, ["two_spec.lua"] = spec }, { "test", "." })
    assert.equal(1, code, out)
    local line = "policy: format: mine%.lua:%d+: frame%.data: [^\n]*\n"
    assert.matches("^" .. line .. line .. "$", err)
  end)

  it("says what the broker said, where it was not the policy that refused", function()
    local code, out = run({
      ["mine.lua"] = [[return { api = 1, authenticate = function() return {} end,
        subscribe = function(req)
          return { topics = req.topics, quota = { { key = "all", max = 9, over = "deny" } } }
        end }]],
      ["few.lua"] = 'return { policy = { file = "mine.lua", quota_streams = 1 } }',
      ["one_spec.lua"] = [[
        local t = require "tidegate.test"
        it("x", function()
          local p = t.policy "mine.lua"
          assert.granted(p:connect { topics = { "a" } })
          local c = p:connect { topics = { "a" } }
          assert.transient(c)
          assert.equal("too many streams are counted", c.reason)
          assert.granted(c)
        end)]],
    }, { "test", "--conf", "few.lua", "one_spec.lua" })
    assert.equal(1, code)
    assert.matches("got:\ntransient: too many streams are counted\n", out)
  end)

  it("tells denied from transient", function()
    passes [[ it("works", function()
      assert.denied(401, p:connect { topics = { "a" } })
      local broken = p:connect { topics = { "a" }, bearer = "broken" }
      assert.transient(broken)
      assert.is_true(broken:closed())
      assert.equal(1, p:errors().authenticate)
    end) ]]
  end)

  local MTLS = [[return { api = 1,
    authenticate = function(req)
      local client = req.tls and req.tls.client
      if not client then return tg.deny(403, req.tls and req.tls.version or "clear") end
      assert(req.headers["x-tidegate-test-tls"] == nil)
      local dns, email = table.concat(client.dns, ","), table.concat(client.email, ",")
      local more = client.issuer .. client.serial .. #client.sha256 .. (req.tls.sni or "-") .. req.tls.alpn
      return { sub = client.subject, san = dns .. "|" .. email .. "|" .. #client.uri, more = more,
        expires = client.not_after }
    end,
    subscribe = function(req, who)
      return { topics = { "t" }, params = { sub = who.sub, san = who.san, more = who.more } }
    end,
    publish = function(pub, who)
      if who.sub ~= "CN=writer" then return tg.deny(403, "no") end
      return pub
    end,
  }]]

  it("shows the policy the TLS of its clients", function()
    local spec = [[
      local t = require "tidegate.test"
      it("works", function()
        local p = t.policy "mtls.lua"
        local function reason(options) local c = p:connect(options) assert.denied(403, c) return c.reason end
        assert.equal("clear", reason())
        assert.equal("TLSv1.3", reason { tls = {} })
        assert.equal("TLSv1.2", reason { tls = { version = "TLSv1.2" } })
        local c = p:connect { tls = { sni = "a.example", client = {
          subject = "CN=d\u{e4}y", dns = { "a.example", "b" }, email = { "c@d" }, not_after = 2000000000 } } }
        assert.granted(c)
        assert.same({ sub = "CN=d\u{e4}y", san = "a.example,b|c@d|0", more = "CN=authority0164a.examplehttp/1.1" },
          c.subscription.params)
        assert.granted(p:post { topic = "t", data = 1, tls = { client = { subject = "CN=writer" } } })
        assert.denied(403, p:post { topic = "t", data = 1, tls = { client = {} } })
        assert.faultless(p)
        for text, options in pairs {
          ['tls.client: unknown field "cn"'] = { client = { cn = "x" } },
          ["tls.client.dns: a table was expected"] = { client = { dns = "x" } },
          ["tls: a table was expected"] = true,
        } do
          local ok, err = pcall(p.connect, p, { tls = options })
          assert.is_false(ok)
          assert.matches(text, err, 1, true)
        end
      end)
    ]]
    local code, out, err = run({ ["one_spec.lua"] = spec, ["mtls.lua"] = MTLS }, { "test", "one_spec.lua" })
    assert.equal(0, code, out .. err)
    local files = { ["mtls.lua"] = MTLS, ["input.json"] = json.encode { tls = { client = { subject = "CN=x" } } } }
    local function eval()
      return run(files, { "eval", "authenticate", "--policy", "mtls.lua", "--input", "input.json", "--json" })
    end
    code, out = eval()
    assert.equal(0, code, out)
    assert.equal("CN=x", json.decode(out).identity.sub)
    files["input.json"] = json.encode { tls = { client = { name = "x" } } }
    code, out, err = eval()
    assert.equal(65, code, out)
    assert.matches('tls.client: unknown field "name"', err)
  end)

  it("publishes through the hook", function()
    passes [[ it("works", function()
      local ann = connect "ann"
      local r = p:post { topic = "news", data = { text = "x" }, bearer = "secret", cookies = { name = "writer" } }
      assert.granted(r)
      assert.same({ r.id }, ann:ids())
      assert.denied(403, p:post { topic = "news", data = 1, bearer = "secret" })
      assert.denied(400, p:post { topic = "a/*", data = 1, bearer = "secret" })
    end) ]]
  end)

  it("answers for databases and other servers, also when they are down", function()
    passes [[
      local asked
      local q = p:with { db = { topics_of = function(name) asked = name return { { topic = "t/" .. name } } end },
        http = { directory = function(options) return { status = 200, body = "h" .. options.path } end } }
      local function ask(policy, topic)
        return policy:connect { topics = { topic }, bearer = "secret", cookies = { name = "ann" } }
      end
      it("works", function()
        assert.same({ "t/ann" }, ask(q, "db").subscription.topics)
        assert.equal("ann", asked)
        assert.same({ "h/ann" }, ask(q, "http").subscription.topics)
        assert.transient(ask(q:with { db = t.down }, "db"))
        assert.transient(ask(q:with { http = { directory = t.down } }, "http"))
        assert.transient(ask(p, "db")) -- the spec says nothing about a database
        assert.transient(ask(q:with { db = { topics_of = function() error("broken spec") end } }, "db"))
      end) ]]
  end)

  it("lets db and http refuse what they refuse in production, and answer as they do", function()
    local code, out, err = run({
      ["calls.lua"] = [[
        return { api = 1, queries = { level = "select level from users where login = $1 and age > $2" },
          authenticate = function() return { sub = "x" } end,
          subscribe = function(req)
            local ok, a, b = pcall(function()
              if req.query.call == "fine" then return db.query("level", "ann", 1.5) end
              if req.query.call == "few" then return db.query("level", "ann") end
              if req.query.call == "table" then return db.query("level", {}, 1) end
              if req.query.call == "unknown" then return db.query("levle", 1, 2) end
              if req.query.call == "target" then return http.get("user") end
              if req.query.call == "option" then return http.get("users", { pth = "/ann" }) end
              if req.query.call == "body" then return http.get("users", { json = { a = 1 } }) end
              if req.query.call == "path" then return http.get("users", { path = "/a/../b" }) end
              if req.query.call == "get" then return http.get("users", { path = { "users", "ann" } }) end
              if req.query.call == "post" then return http.post("users", { json = { a = 1 } }) end
              if req.query.call == "text" then return http.get("plain") end
            end)
            return { topics = { "t" }, params = { text = json.encode { ok = ok, a = a, b = b } } }
          end }
      ]],
      ["one_spec.lua"] = [[
        local t = require "tidegate.test"
        local asked
        local p = t.policy("calls.lua", {
          db = { level = function(login, age)
            asked = { login, age }
            return { { level = 3, name = "Ann", vip = true }, { level = 1, share = 0.5 } }
          end },
          http = { plain = { status = 404, body = "{}", headers = { ["X-Id"] = "7" } },
            users = function(options, method)
              asked = { options, method }
              if method == "POST" then return { status = 201, json = { made = options.json.a } } end
              return { json = { name = "ann" } }
            end },
        })
        local function call(name)
          local c = p:connect { query = { call = name } }
          return t.json.decode(c.subscription.params.text)
        end
        local function refused(name, text)
          local r = call(name)
          local said = r.ok and r.b or r.a
          assert.truthy(tostring(said):find(text, 1, true), name .. ": " .. tostring(said))
        end
        it("db", function()
          local r = call "fine"
          assert.same({ { level = 3, name = "Ann", vip = true }, { level = 1, share = 0.5 } }, r.a)
          assert.same({ "ann", 1.5 }, asked)
          refused("few", "db.query: query 'level' takes 2 arguments, got 1")
          refused("table", "string, number, boolean or nil expected, got table")
          refused("unknown", "unknown query 'levle' (did you mean 'level'?)")
        end)
        it("http", function()
          refused("target", "unknown target 'user' (did you mean 'users'?)")
          refused("option", "unknown key 'pth' (did you mean 'path'?)")
          refused("body", "unknown key 'json'")
          refused("path", '".." segment')
          local r = call "get"
          assert.same({ 200, "ann", '{"name":"ann"}' }, { r.a.status, r.a.json.name, r.a.body })
          assert.same({ { path = { "users", "ann" } }, "GET" }, asked)
          r = call "post"
          assert.same({ 201, 1 }, { r.a.status, r.a.json.made })
          assert.equal("POST", asked[2])
          r = call "text"
          assert.same({ 404, "{}", "7" }, { r.a.status, r.a.body, r.a.headers["x-id"] })
          assert.is_nil(r.a.json)
        end)
        it("answers that no database and no server gives", function()
          local q = p:with { db = { level = { { list = { 1 } } } }, http = { users = { stauts = 200 } } }
          local function of(name) return q:connect { query = { call = name } }.subscription.params.text end
          assert.truthy(of("fine"):find("a database answers texts, numbers and booleans; 'list' is a table", 1, true))
          assert.truthy(of("get"):find("status, body, json and headers are all there is", 1, true))
        end)
      ]],
    }, { "test", "one_spec.lua" })
    assert.equal(0, code, out .. err)
  end)

  it("signs tokens, and lets policies declare queries", function()
    local code, out, err = run({
      ["token.lua"] = [[
        return { api = 1, queries = { mine = "select 1 where $1 = 2" },
          authenticate = function(req)
            local c, err = tg.jwt(req.bearer, { keys = "main", alg = { "HS256" } })
            if not c then return tg.deny(401, err) end
            return { sub = c.sub }
          end,
          subscribe = function(req, who) return { topics = { db.query("mine", who.sub)[1].topic } } end }
      ]],
      ["one_spec.lua"] = [[
        local t = require "tidegate.test"
        it("works", function()
          local p = t.policy("token.lua", { now = 1700000000, keys = { main = t.hs256(("k"):rep(32)) },
            db = { mine = function(sub) return { { topic = "of/" .. sub } } end } })
          local c = p:connect { bearer = p:token { sub = "ann" } }
          assert.granted(c)
          assert.same({ "of/ann" }, c.subscription.topics)
          local old = p:token { sub = "ann" }
          p:at(1700003601)
          assert.denied(401, p:connect { bearer = old })
          assert.denied(401, p:connect { bearer = old .. "A" })
          assert.faultless(p)
        end)
      ]],
    }, { "test", "one_spec.lua" })
    assert.equal(0, code, out .. err)
  end)

  describe("with tokens", function()
    -- A policy that takes every algorithm (of secrets: ?secret=1), and a spec in which policy(keys) loads it.
    local function files_of(text)
      return {
        ["token.lua"] = [[
          local ALL = { "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256",
            "ES384", "EdDSA" }
          return { api = 1,
            authenticate = function(req)
              local set = req.query.set or "main"
              local algs, secret = {}, req.query.secret ~= nil
              for _, alg in ipairs(ALL) do
                if (alg:find "^HS" ~= nil) == secret then algs[#algs + 1] = alg end
              end
              local c, err = tg.jwt(req.bearer, { keys = set, alg = algs })
              if not c then return tg.deny(401, err) end
              return { sub = c.sub, expires = c.exp }
            end,
            subscribe = function(req, who) return { topics = { "of/" .. who.sub } } end }
        ]],
        ["one_spec.lua"] = [[
          local t = require "tidegate.test"
          local function policy(keys) return t.policy("token.lua", { now = 1700000000, keys = keys }) end
          local function refused(p, why, ...)
            local c = p:connect { bearer = p:token(...) }
            assert.denied(401, c)
            assert.equal(why, c.reason)
          end
          it("works", function()
        ]] .. text .. "\nend)\n",
      }
    end
    local function passes_with_tokens(text)
      local code, out, err = run(files_of(text), { "test", "one_spec.lua" })
      assert.equal(0, code, out .. err)
    end

    it("signs with every algorithm that tg.jwt verifies", function()
      passes_with_tokens [[
        for _, alg in ipairs { "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256",
          "ES384", "EdDSA" } do
          local p = policy { main = t.key(alg) }
          local query = { secret = alg:find "^HS" and "1" or nil }
          local c = p:connect { bearer = p:token { sub = alg }, query = query }
          assert.granted(c)
          assert.same({ "of/" .. alg }, c.subscription.topics)
          c = p:connect { bearer = p:token({ sub = alg }, { key = t.key(alg, "stranger") }), query = query }
          assert.denied(401, c)
          assert.equal("the token is signed with an unknown key (kid)",
            p:connect { bearer = p:token({ sub = alg }, { key = t.key(alg, "stranger") }), query = query }.reason)
          p:close()
        end ]]
    end)

    it("makes tokens that a policy must refuse", function()
      passes_with_tokens [[
        local p = policy { main = t.key("RS256", "one") }
        assert.granted(p:connect { bearer = p:token { sub = "ann" } })
        refused(p, "the token has expired", { sub = "ann", exp = 1700000000 })
        refused(p, "the token has no expiry (exp)", { sub = "ann", exp = false })
        refused(p, "the token's signature is not valid", { sub = "ann" },
          { key = t.key "RS256", header = { kid = "one" } })
        refused(p, "the token's signature is not valid", { sub = "ann" }, { alg = "PS256" }) -- the key is for RS256
        refused(p, "the token is signed with an unknown key (kid)", { sub = "ann" }, { header = { kid = "two" } })
        refused(p, "the token's algorithm is not accepted", { sub = "ann" }, { header = { alg = "none" } })
        refused(p, "the token's algorithm is not accepted", { sub = "ann" }, { header = { alg = "HS256" } })
        refused(p, "the token is of another type (typ)", { sub = "ann" }, { header = { typ = "refresh" } })
        assert.granted(p:connect { bearer = p:token({ sub = "ann" }, { header = { typ = false, kid = false } }) })
        assert.faultless(p) ]]
    end)

    it("has sets of several keys, and several sets", function()
      passes_with_tokens [[
        local old, new = t.key("ES256", "old"), t.key("EdDSA", "new")
        local p = policy { main = { old, new }, other = t.key "ES384" }
        assert.granted(p:connect { bearer = p:token({ sub = "ann" }, "main") })
        assert.granted(p:connect { bearer = p:token({ sub = "ann" }, { key = new }) })
        assert.granted(p:connect { bearer = p:token({ sub = "ann" }, { key = t.key("EdDSA", "new") }) })
        assert.granted(p:connect { bearer = p:token({ sub = "ann" }, { set = "other" }), query = { set = "other" } })
        refused(p, "the token's signature is not valid", { sub = "ann" }, { set = "other" })
        local rotated = p:with { keys = { main = new } }
        refused(rotated, "the token is signed with an unknown key (kid)", { sub = "ann" }, { key = old }) ]]
    end)

    it("ends a stream when its token does", function()
      passes_with_tokens [[
        local p = policy { main = t.key "ES256" }
        local c = p:connect { bearer = p:token { sub = "ann", exp = 1700000060 } }
        p:at(1700000059)
        assert.is_false(c:closed())
        local other = p:connect { bearer = p:token { sub = "ben" } }
        p:at(1700000061)
        assert.is_true(c:closed())
        assert.is_false(other:closed()) ]]
    end)

    it("says what is wrong with keys and tokens, and where", function()
      passes_with_tokens [==[
        for text, why in pairs {
          ['t.key "RS128"'] = "case:1: 'RS128' is none of HS256, HS384",
          ['t.key("ES256", 5)'] = "case:1: the key id: a text was expected",
          ['t.hs256 "short"'] = "case:1: a secret of 32 to 1024 bytes was expected",
          ['t.policy("token.lua", { keys = { m = 5 } })'] = 'case:1: keys.m: t.key("ES256"), or a list of such',
          ['t.policy("token.lua", { auth = true })'] = 'case:1: auth: "open" was expected',
          ['t.policy("token.lua", { keys = { m = {} } })'] = 'case:1: keys.m: t.key("ES256"), or a list of such',
          ['t.policy("token.lua", { keys = { m = { t.key "ES256", t.key "HS256" } } })']
            = "case:1: keys.m: secrets (HS) and public keys cannot share",
          ['p():token {}'] = 'case:1: no such key: t.policy(file, { keys = { main = t.key "ES256" } })',
          ['p { a = t.key "ES256" }:token({}, "b")'] = "case:1: no such key",
          ['p { a = t.key "ES256", b = t.key "EdDSA" }:token {}'] = "case:1: there are several key sets",
          ['p { a = t.key "ES256" }:token({}, { alg = "RS256" })'] = "case:1: a key for ES256 cannot sign with 'RS256'",
          ['p { a = t.key "ES256" }:token({}, { exp = 5 })'] = "unknown option 'exp'; there are alg, header, key, set",
        } do
          local ok, err = pcall(load(text, "=case", "t", { t = t, p = policy }))
          assert.is_false(ok, text)
          assert.truthy(err:find(why, 1, true), err)
        end ]==]
    end)
  end)

  it("keeps the clock where the spec puts it", function()
    passes [[ it("works", function()
      local at = p:with { now = 1700000000 }
      local c = at:connect { topics = { "a" }, bearer = "secret" }
      assert.granted(c)
      at:at(1800000000)
      assert.granted(at:connect { topics = { "a" }, bearer = "secret" })
    end) ]]
  end)

  it("has values age that were cached at the same moment, each after a time of its own", function()
    local code, out, err = run({
      ["aging.lua"] = [[
        return { api = 1, queries = { level = "select level from level where login = $1" },
          authenticate = function(req) return { sub = req.query.name } end,
          subscribe = function(req, who)
            local level, err = cache.fetch(who.sub, 1000, function()
              local rows, why = db.query("level", who.sub)
              return rows and rows[1].level, why
            end)
            if not level then return nil, err end
            return { topics = { "level/" .. level } }
          end }
      ]],
      ["one_spec.lua"] = [[
        local t = require "tidegate.test"
        it("works", function()
          local asked = 0
          local p = t.policy("aging.lua", { now = 1700000000, db = { level = function()
            asked = asked + 1
            return { { level = 1 } }
          end } })
          local function ask_all()
            for i = 1, 40 do assert.granted(p:connect { query = { name = "u" .. i } }) end
            return asked
          end
          assert.equal(40, ask_all())
          p:at(1700000899)
          assert.equal(40, ask_all())
          p:at(1700000950) -- half of the last tenth is over
          local some = ask_all() - 40
          assert.is_true(some > 0 and some < 40, some .. " of 40")
          p:at(1700001000)
          assert.equal(80, ask_all())
          assert.faultless(p)
        end)
      ]],
    }, { "test", "one_spec.lua" })
    assert.equal(0, code, out .. err)
  end)

  it("has the policy asked again when a grant ends", function()
    local code, out, err = run({
      ["again.lua"] = [[
        return { api = 1, queries = { level = "select level from level where login = $1" },
          authenticate = function(req) return { sub = req.query.name } end,
          subscribe = function(req, who)
            local rows, err = db.query("level", who.sub)
            if not rows then return nil, err end
            if not rows[1] then return tg.deny(403, "gone") end
            return { topics = { "level/" .. rows[1].level }, expires = os.time() + 300 }
          end }
      ]],
      ["one_spec.lua"] = [[
        local t = require "tidegate.test"
        it("works", function()
          local level, asked = { ann = 1, ben = 1 }, 0
          local p = t.policy("again.lua", { now = 1700000000, db = { level = function(name)
            asked = asked + 1
            if level[name] == "away" then return nil, "away" end
            return { level[name] and { level = level[name] } }
          end } })
          local ann, ben = p:connect { query = { name = "ann" } }, p:connect { query = { name = "ben" } }
          level = { ann = 2 }
          assert.equal("1700000300", tostring(ann.subscription.expires))
          p:at(1700000299)
          assert.equal(2, asked)
          p:at(1700000300)
          assert.equal(4, asked)
          assert.same({ "level/2" }, ann.subscription.topics)
          assert.equal("1700000600", tostring(ann.subscription.expires))
          assert.is_true(ben:closed())
          assert.equal("revoked", ben:events()[1].type)
          p:publish { topic = "level/2", data = 1 }
          assert.same({ 1 }, ann:data())
          level = { ann = "away" }
          p:at(1700000600)
          assert.equal(5, asked)
          assert.is_false(ann:closed()) -- nobody knows: it keeps what it has
          assert.faultless(p)
        end)
      ]],
    }, { "test", "one_spec.lua" })
    assert.equal(0, code, out .. err)
  end)

  it("runs observe for what it publishes, which reaches streams by their tags", function()
    local code, out, err = run({
      ["rights.lua"] = [[
        local may, P = {}, { api = 1 }
        function P.authenticate(req) return { sub = req.query.name } end
        function P.subscribe(req, who)
          if may[who.sub] == "no" then return tg.deny(403, "gone") end
          return { topics = { "news" }, tags = { "user:" .. who.sub } }
        end
        P.observe = { { topics = { "rights/*" }, run = function(ev)
          local name = ev.topic:match "[^/]*$"
          may[name] = ev.data
          tg.ask_again("user:" .. name)
        end } }
        return P
      ]],
      ["one_spec.lua"] = [[
        local t = require "tidegate.test"
        it("works", function()
          local p = t.policy "rights.lua"
          local ann, ben = p:connect { query = { name = "ann" } }, p:connect { query = { name = "ben" } }
          assert.same({ "user:ann" }, ann.subscription.tags)
          p:publish { topic = "rights/ann", data = "no" }
          p:publish { topic = "news", data = 1 }
          assert.same({ 1 }, ben:data())
          assert.is_true(ann:closed())
          assert.equal("revoked", ann:events()[1].type)
          assert.denied(403, p:connect { query = { name = "ann" } })
          assert.faultless(p)
        end)
      ]],
    }, { "test", "one_spec.lua" })
    assert.equal(0, code, out .. err)
  end)

  it("stops a hook at its budget", function()
    passes [[ it("works", function()
      assert.transient(connect("ann", "loop"))
      local _, overdue = p:errors()
      assert.equal(1, overdue.subscribe)
      assert.granted(connect "ann")
    end) ]]
  end)

  it("names a policy that does not load, by file and line", function()
    local code, out = run({
      ["one_spec.lua"] = 'local t = require "tidegate.test"\n'
        .. 'describe("x", function() it("y", function() t.policy "bad.lua" end) end)',
      ["bad.lua"] = "return {\n  api = 1,\n  subscrib = 1,\n}",
    }, { "test", "one_spec.lua" })
    assert.equal(1, code)
    assert.matches("subscribe", out)
    assert.matches("bad%.lua", out)
  end)

  it("runs directories, prints JSON, hands options to busted", function()
    local files = {
      ["a_spec.lua"] = 'describe("a", function() it("one", function() end) end)',
      ["b_spec.lua"] = 'describe("b", function() it("two", function() end) it("three", function() end) end)',
    }
    local code, out = run(files, { "test", ".", "--json" })
    assert.equal(0, code)
    assert.equal(3, #json.decode(out).successes)
    code, out = run(files, { "test", ".", "--", "--filter=three" })
    assert.equal(0, code)
    assert.matches("1 success", out)
  end)

  it("refuses what it does not know", function()
    for _, words in ipairs { { "test" }, { "test", "--jsn", "x" }, { "test", "x", "--conf" } } do
      local code, _, err = run({}, words)
      assert.equal(64, code)
      assert.matches("tidegate help test", err)
    end
    local code, _, err = run({ ["c.lua"] = "return { listen = 5 }" }, { "test", "--conf", "c.lua", "." })
    assert.equal(78, code)
    assert.matches("listen", err)
    assert.matches("unknown option 'topic'", (select(2, run({
      ["one_spec.lua"] = test_file [[ it("x", function() p:connect { topic = "a" } end) ]],
    }, { "test", "one_spec.lua" }))))
  end)

  it("refuses arguments of its own that are none", function()
    local code, out, err = run({ ["one_spec.lua"] = [[it("x", function()
      local open = require "tidegate.test.native".open
      assert.error_matches(function() open("mine.lua", 0, function() end, nil, {}) end, "boolean or nil expected")
    end)]] }, { "test", "one_spec.lua" })
    assert.equal(0, code, out .. err)
  end)

  it("matches the stubs in scripts/meta/test.lua, both ways", function()
    local code, stubs = pages.read "scripts/lib/test.lua", pages.read "scripts/meta/test.lua"
    local function sorted(list)
      table.sort(list)
      return list
    end
    local function functions(text)
      local list = {}
      for name in ("\n" .. text):gmatch "\nfunction ([%w_]+[.:][%w_]+)%(" do
        list[#list + 1] = name
      end
      return list
    end
    local real = { "t.key", "t.hs256", "luassert.granted", "luassert.denied", "luassert.transient",
      "luassert.faultless" }
    for _, name in ipairs(functions(code)) do
      if name ~= "Policy:wait" and name ~= "Policy.open" then -- for itself
        real[#real + 1] = name
      end
    end
    assert.is_true(#real > 20)
    assert.same(sorted(real), sorted(functions(stubs)))
    -- the options
    local function fields(class)
      local parent, block = stubs:match("\n%-%-%-@class tg%.test%." .. class .. "(:? ?[%w.]*)\n(.-\n)\n")
      local list = parent ~= "" and fields(parent:match "(%w+)$") or {}
      for name in block:gmatch "%-%-%-@field ([%w_]+)" do
        list[#list + 1] = name
      end
      return sorted(list)
    end
    for class, name in pairs { Options = "policy_options", Event = "event_options", Connect = "request_options",
      Post = "post_options", Request = "batch_options" } do
      local names = {}
      for key in code:match("\nlocal " .. name .. " = (%b{})"):gmatch "([%w_]+) = true" do
        names[#names + 1] = key
      end
      assert.same(sorted(names), fields(class), class)
    end
  end)

  it("does what the documentation shows of tokens", function()
    local code, out, err = run({
      ["redact.lua"] = pages.read "scripts/policies/redact.lua",
      ["one_spec.lua"] = 'local t = require "tidegate.test"\nit("works", function()\n'
        .. assert(pages.text():match '```lua\n(local p = t%.policy%("redact.-)```') .. "end)",
    }, { "test", "one_spec.lua" })
    assert.equal(0, code, out .. err)
  end)

  it("runs the example specs, one for each example", function()
    local scan, n = assert(uv.fs_scandir(SPEC_SOURCE_DIR .. "/scripts/policies")), 0
    for name in uv.fs_scandir_next, scan do
      local example = name:match "^(.*)%.lua$"
      n = n + (example and 1 or 0)
      local path = ("%s/scripts/policies/spec/%s_spec.lua"):format(SPEC_SOURCE_DIR, example)
      assert.truthy(not example or uv.fs_stat(path), name)
    end
    assert.is_true(n >= 5)
    local code, out, err = tidegate.run(tidegate.binary(), {
      args = { "test", SPEC_SOURCE_DIR .. "/scripts/policies/spec" }, cwd = SPEC_SOURCE_DIR,
    })
    assert.equal(0, code, out .. err)
  end)
end)
