-- Tokens: who gets in with one, for how long, and what happens while the keys are missing.
local eventually = require "support.eventually"
local files = require "support.files"
local http = require "support.http"
local http_server = require "support.http_server"
local policies = require "support.policies"
local sse = require "support.sse"
local tidegate = require "support.tidegate"
local tokens = require "support.tokens"

local POLICY = [[
  return {
    api = 1,
    authenticate = function(req)
      local c, err = tg.jwt(req.bearer or req.query.token, { keys = "main", alg = { "ALG" }, aud = "sse" })
      if not c then return tg.deny(401, err) end
      return { sub = c.sub, expires = c.exp }
    end,
    subscribe = function(req, who) return { topics = { tg.topic("user", who.sub) } } end,
    publish = function(pub) return pub end,
  }
]]

local function policy(alg)
  return (POLICY:gsub("ALG", alg))
end

local function bearer(token)
  return { Authorization = "Bearer " .. token }
end

local function claims(sub, seconds)
  return { sub = sub, aud = "sse", exp = os.time() + (seconds or 600) }
end

describe("tokens", function()
  describe("signed with a secret of the environment", function()
    local broker = tidegate.shared {
      policy = policy "HS256", env = { TG_SPEC_JWT = tokens.SECRET },
      config = { keys = { main = { secret = { raw = 'env("TG_SPEC_JWT")' } } } },
    }

    local function token(...)
      return tokens.sign("HS256", tokens.SECRET, claims(...))
    end

    local function open(t)
      return sse.open(broker(), { headers = bearer(t) })
    end

    it("let in who has one, to what is theirs", function()
      local ann, bob = open(token "ann"), open(token "bob")
      broker():publish("user/ann", "for ann", { headers = bearer(token "x") })
      broker():publish("user/bob", "for bob", { headers = bearer(token "x") })
      assert.equal("for ann", ann:next().data)
      assert.equal("for bob", bob:next().data)
    end)

    it("may be as long as the head of a request: users with many groups have long ones", function()
      local groups = {}
      for i = 1, 240 do
        groups[i] = ("00000000-0000-4000-8000-%012x"):format(i)
      end
      local c = claims "ann"
      c.groups = groups
      local long = tokens.sign("HS256", tokens.SECRET, c)
      assert.is_true(#long > 12000, #long)
      local stream = open(long)
      broker():publish("user/ann", "for ann", { headers = bearer(long) })
      assert.equal("for ann", stream:next().data)
    end)

    it("that are no good are a 401, for streams and publishers, saying what is wrong and not more", function()
      for t, why in pairs {
        [token("ann", -1)] = "the token has expired",
        [tokens.sign("HS256", "wrong", claims "ann")] = "the token's signature is not valid",
        [tokens.sign("HS256", tokens.SECRET, { sub = "ann", exp = os.time() + 60, aud = "billing" })] =
          "the token is for another audience (aud)",
      } do
        for _, r in ipairs {
          http.get(broker(), "/events", { Authorization = "Bearer " .. t, Accept = "text/event-stream" }),
          http.post(broker(), "/events?topic=user/ann", "x", bearer(t)),
        } do
          assert.equal(401, r.status)
          assert.truthy(r.body:find(why, 1, true), r.body)
          assert.is_nil(r.body:find(t, 1, true))
        end
        assert.is_nil(broker():log():find(t, 1, true))
      end
      assert.equal(401, http.get(broker(), "/events", { Accept = "text/event-stream" }).status)
      assert.is_nil(broker():log():find(tokens.SECRET, 1, true))
    end)

    it("end their stream when they expire; a fresh one goes on where it ended", function()
      local t = token("ann", 2)
      local before = open(t)
      broker():publish("user/ann", "1", { headers = bearer(token "x") })
      assert.equal("1", before:next().data)
      before:wait_end()
      assert.is_true(before.whole)
      assert.truthy(before.retry_ms)
      assert.equal(401, http.get(broker(), "/events", bearer(t)).status) -- it was verified before: no matter
      broker():publish("user/ann", "2", { headers = bearer(token "x") })
      local after = sse.open(broker(), { headers = bearer(token "ann"), last_event_id = before.last_id })
      assert.equal("2", after:next().data)
      assert.is_true(broker():metric 'tidegate_connections_closed_total{reason="grant-expired"}' >= 1)
    end)

    it("are verified once", function()
      local t = token "somebody new"
      local verified = broker():metric 'tidegate_tokens_total{result="verified"}'
      local cached = broker():metric 'tidegate_tokens_total{result="cached"}'
      for _ = 1, 5 do
        open(t):close()
      end
      assert.equal(verified + 1, broker():metric 'tidegate_tokens_total{result="verified"}')
      assert.equal(cached + 4, broker():metric 'tidegate_tokens_total{result="cached"}')
      assert.is_true(broker():metric "tidegate_token_cache_bytes" > 0)
    end)
  end)

  it("are asked for once, grants as often as they end", function()
    local broker = tidegate.start { policy = [[
      local asked = 0
      return {
        api = 1,
        authenticate = function() return { sub = "x", since = os.time() } end,
        subscribe = function(req, who)
          asked = asked + 1
          if asked > 2 then return tg.deny(403, "not any more") end
          return { topics = { "t" .. asked }, expires = os.time() + 1 }
        end,
        publish = function(pub) return pub end,
      }]] }
    local client = sse.open(broker)
    broker:publish("t1", "first")
    assert.equal("first", client:next().data)
    local n = 0
    local ev = eventually("the stream moves to the second grant", function()
      n = n + 1
      broker:publish("t2", "second " .. n)
      return client:next(0.2)
    end)
    assert.matches("^second", ev.data)
    repeat
      ev = client:next()
    until ev.type == "revoked"
    client:wait_end()
    assert.is_true(broker:metric 'tidegate_policy_resubscribes_total{outcome="moved"}' == 1)
  end)

  it("end together, and are asked for together, however slowly a reload asks", function()
    local broker = tidegate.start { policy = [[
      local banned = false
      return {
        api = 1,
        authenticate = function() return { sub = "x" } end,
        subscribe = function(req, who)
          if banned then return tg.deny(403, "banned") end
          return { topics = { "t" }, expires = os.time() + 1 }
        end,
        publish = function(pub) banned = true return pub end,
      }]], config = { policy = { resubscribe_per_s = 1 } } }
    local streams = {}
    for i = 1, 60 do -- a minute at that rate
      streams[i] = sse.open(broker)
    end
    broker:publish("x", "a ban")
    local from = eventually.now()
    for _, c in ipairs(streams) do
      local ev = c:next()
      assert.equal("revoked", ev.type)
      c:wait_end()
    end
    assert.is_true(eventually.now() - from < 50 * eventually.factor) -- at that rate the last had to wait for longer
    assert.equal(60, broker:metric 'tidegate_policy_resubscribes_total{outcome="revoked"}')
    assert.is_true(broker:metric "tidegate_policy_resubscribe_delay_seconds_count" >= 60)
  end)

  it("wait for their turn where ask_again_per_s says so", function()
    local broker = tidegate.start { policy = [[
      return {
        api = 1,
        authenticate = function() return { sub = "x" } end,
        subscribe = function() return { topics = { "t" } } end,
      }]], config = { policy = { ask_again_per_s = 1 } } }
    local from = eventually.now()
    for _ = 1, 10 do
      sse.open(broker)
    end
    for _, c in ipairs(http.get(broker.admin, "/connections").json.connections) do
      assert.equal(202, http.post(broker.admin, ("/connections/%s/resubscribe"):format(c.id)).status)
    end
    local function asked()
      return broker:metric 'tidegate_policy_resubscribes_total{outcome="same"}'
    end
    eventually("some are asked about", function() return asked() > 0 end)
    assert.is_true(asked() <= 1 + eventually.now() - from)
  end)

  describe("signed with the keys of a URL", function()
    local ec = tokens.key "ES256"

    it("are neither good nor bad until the keys are there", function()
      local up = false
      local server = http_server.start(function(_, client)
        http_server.answer(client, up and { body = tokens.jwks(tokens.jwk(ec, { kid = "k" })) } or { status = 500 })
      end)
      local broker = tidegate.start {
        policy = policy "ES256", config = { keys = { main = { jwks_url = server.url .. "/keys" } } }, unready = true,
      }
      local headers = { Authorization = "Bearer " .. tokens.sign("ES256", ec, claims "ann", { kid = "k" }),
        Accept = "text/event-stream" }
      eventually("it says why nobody can come in", function()
        local ready = http.get(broker.admin, "/readyz")
        return ready.status == 503 and ready.json.detail:find("no keys yet of the set main: the answer was 5", 1, true)
      end)
      eventually("a metric tells, too", function() return broker:metric "tidegate_key_sets_failing" == 1 end)
      local r = sse.request(broker, { headers = headers })
      assert.equal(200, r.status)
      r:wait_end()
      assert.truthy(r.retry_ms)
      local publisher = { Authorization = headers.Authorization }
      assert.equal(503, http.post(broker, "/events?topic=user/ann", "x", publisher).status)
      assert.equal(1, broker:metric "tidegate_key_sets_unavailable")
      eventually("the log says why", function()
        return broker:logged { sub = "keys", msg = "keys cannot be fetched" }
          and broker:logged { hook = "authenticate", reason = "tg.jwt: keys of 'main': keys are not available yet" }
      end)
      up = true
      eventually("the stream opens", function()
        local again = sse.request(broker, { headers = headers })
        broker:publish("user/ann", "x", { headers = publisher })
        return again:next(0.5)
      end)
      assert.equal(0, broker:metric "tidegate_key_sets_unavailable")
      assert.equal(200, http.get(broker.admin, "/readyz").status)
      up = false
      broker:signal "HUP"
      eventually("it says that it lives on old keys", function()
        return http.get(broker.admin, "/readyz").body:find(
          "degraded: the key set main cannot be read again, the keys it has stay: the answer was 5", 1, true)
      end)
      eventually("a metric tells, too", function() return broker:metric "tidegate_key_sets_failing" == 1 end)
      up = true
      local asked = #server.requests
      broker:signal "HUP"
      eventually("a reload asks for them again", function() return #server.requests > asked end)
      server:stop()
    end)
  end)

  describe("signed with the keys of a file", function()
    it("obey the file as it is, without a restart", function()
      local old, new = tokens.key("EdDSA", "old"), tokens.key("EdDSA", "new")
      local broker = tidegate.start {
        policy = policy "EdDSA", config = { keys = { main = { jwks_file = "keys.json" } } },
        files = { ["keys.json"] = tokens.jwks(tokens.jwk(old, { kid = "old" })) },
      }
      local function status(key, kid)
        local headers = bearer(tokens.sign("EdDSA", key, claims "x", { kid = kid }))
        return http.post(broker, "/events?topic=a", "x", headers).status
      end
      assert.same({ 201, 401 }, { status(old, "old"), status(new, "new") })
      files.write(broker.dir .. "/keys.json", tokens.jwks(tokens.jwk(new, { kid = "new" })))
      eventually("the new keys are read", function() return status(new, "new") == 201 end)
      assert.equal(401, status(old, "old"))
      files.write(broker.dir .. "/keys.json", "not a key set")
      eventually("it is noticed", function()
        return broker:logged { sub = "keys", msg = "the old keys stay: the file is invalid" }
      end)
      assert.equal(201, status(new, "new"))
    end)
  end)

  describe("in a configuration", function()
    local dir = tidegate.directory()
    teardown(function()
      policies.remove(dir)
    end)

    -- What `tidegate check` says about `keys = { main = { ... } }`.
    local function check(keys)
      files.write(dir .. "/policy.lua", policy "HS256")
      files.write(dir .. "/conf.lua", ([[return { policy = { file = "policy.lua" }, store = { path = "store" },
        keys = { main = { %s } } }]]):format(keys))
      local code, _, err = tidegate.run(tidegate.binary(), { args = { "check", dir .. "/conf.lua", "--no-samples" } })
      return code == 0 and "ok" or err
    end

    it("that cannot work does not start", function()
      files.write(dir .. "/short", ("s"):rep(47) .. "\n")
      files.write(dir .. "/pem", tokens.key("RS256"):public_pem())
      files.write(dir .. "/private", tokens.key("RS256"):pem())
      files.write(dir .. "/empty.json", '{"keys":[]}')
      files.write(dir .. "/mixed.json", tokens.jwks(tokens.jwk(tokens.SECRET), tokens.jwk(tokens.key "RS256")))
      for keys, why in pairs {
        [""] = "keys.main: expected exactly one of secret, secret_file, public_key_file, jwks_file, jwks_url, "
          .. "found none",
        ['secret_file = "short", jwks_file = "x"'] = "found secret_file and jwks_file",
        ['secret = "too short"'] = "keys.main.secret: expected at least 32 bytes, found 9",
        ['secret_file = "gone"'] = "keys.main: " .. dir .. "/gone: cannot be read: no such file or directory",
        ['secret_file = "short", algorithms = { "HS256", "HS384" }'] =
          "/short: the secret is too short for HS384: at least 48 bytes",
        ['secret_file = "short", algorithms = { "RS256" }'] =
          "keys.main: algorithms: HS256, HS384 and HS512 are of secrets",
        ['public_key_file = "private"'] = "/private: holds a private key",
        ['public_key_file = "pem", algorithms = { "ES256" }'] = "key 1: fits none of the algorithms that are wanted",
        ['public_key_file = "pem", algorithms = { "ES255" }'] = 'found "ES255"; did you mean "ES256"?',
        ['jwks_file = "empty.json"'] = "/empty.json: holds no key that can be used",
        ['jwks_file = "mixed.json"'] = '/mixed.json: secrets ("oct") and public keys cannot share a set',
        ['jwks_file = "pem"'] = "/pem: is not JSON",
        ['jwks_url = "http://id.example/keys"'] = "keys.main.jwks_url: expected https",
        ['jwks_url = "http://127.0.0.1.example/keys"'] = "keys.main.jwks_url: expected https",
        ['jwks_url = "ftp://x/"'] = "keys.main.jwks_url: ",
        ['jwks_url = "https://x/", refresh_s = 29'] =
          "keys.main.refresh_s: expected an integer from 30 to 86400 (seconds)",
        ['secret_file = "short", ca_file = "x"'] = "keys.main.ca_file: has an effect with jwks_url only",
      } do
        local said = check(keys)
        assert.truthy(said:find(why, 1, true), keys .. "\n" .. said)
      end
    end)

    it("that can work, does", function()
      for _, keys in ipairs {
        'secret_file = "short"', 'public_key_file = "pem", algorithms = { "RS256", "PS256" }',
        'jwks_url = "https://id.example/keys"', 'jwks_url = "http://localhost:1/keys"', 'jwks_url = "http://[::1]:1/k"',
        'jwks_url = "http://127.0.0.1:1"',
      } do
        assert.equal("ok", check(keys))
      end
    end)
  end)
end)
