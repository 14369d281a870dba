-- tg.jwt as policies call it.
local policies = require "support.policies"
local tokens = require "support.tokens"

local OPTIONS = [[{ keys = "main", alg = { "HS256" } }]]
local KEYS = { main = { secret = tokens.SECRET }, other = { secret = ("x"):rep(32) } }

local function key_file(text)
  local path = os.tmpname()
  local f <close> = assert(io.open(path, "wb"))
  assert(f:write(text))
  return path
end

describe("tg.jwt", function()
  local p

  after_each(function()
    p = p and p:close()
  end)

  -- The identity (JSON) or the denial of a policy that puts into `sub` what `code` makes of the claims c.
  local function ask(token, options, code, keys)
    p = p and p:close()
    p = policies.with({
      authenticate = ([[
        local c, err = tg.jwt(req.bearer, %s)
        if not c then return tg.deny(401, err) end
        return { sub = %s }]]):format(options or OPTIONS, code or "c.sub"),
    }, { keys = keys or KEYS })
    local v
    local log = policies.capture(function()
      v = p:subscribe(policies.request { headers = token and { Authorization = "Bearer " .. token } or {} })
    end)
    return v.kind == "allow" and v.identity or v.kind == "deny" and ("%d %s"):format(v.status, v.reason) or v.kind, log
  end

  local function token(claims, header)
    claims.exp = claims.exp or os.time() + 60
    return tokens.sign("HS256", tokens.SECRET, claims, header)
  end

  it("answers the claims as Lua values", function()
    assert.equal('{"sub":"u1"}', ask(token { sub = "u1" }))
    local big = tokens.sign("HS256", tokens.SECRET,
      '{"exp":4102444800,"big":9007199254740993,"list":[],"n":null,"f":0.5}')
    assert.equal('{"sub":"9007199254740993"}', ask(big, nil, "tostring(c.big)"))
    assert.equal('{"sub":"[]"}', ask(big, nil, "json.encode(c.list)"))
    assert.equal('{"sub":true}', ask(big, nil, "c.n == json.null"))
    assert.equal('{"sub":"integer"}', ask(big, nil, "math.type(c.exp)"))
    assert.equal('{"sub":0.5}', ask(big, nil, "c.f"))
  end)

  it("answers nil and why not, fit for tg.deny", function()
    assert.equal("401 there is no token", ask())
    assert.equal("401 the token has expired", ask(token { exp = os.time() - 1 }))
    assert.equal("401 the token's signature is not valid", ask(tokens.sign("HS256", "x", { exp = os.time() + 60 })))
    assert.equal("401 the token's algorithm is not accepted",
      ask(tokens.sign("HS512", tokens.SECRET, { exp = os.time() + 60 })))
    assert.equal("401 the token is not a signed JSON Web Token (three parts)", ask "x")
    local deep = '{"exp":4102444800,"a":' .. ("["):rep(70) .. ("]"):rep(70) .. "}"
    assert.equal("401 the token's claims are nested too deep", ask(tokens.sign("HS256", tokens.SECRET, deep)))
  end)

  it("passes its options on", function()
    local function with(more)
      return ('{ keys = "main", alg = { "HS256" }, %s }'):format(more)
    end
    for more, claims in pairs {
      ['iss = "i"'] = { iss = "i" }, ['aud = "a"'] = { aud = { "a", "b" } }, ['aud = { "x", "a" }'] = { aud = "a" },
      ["aud = false"] = { aud = "whoever" }, ["leeway = 300"] = { exp = os.time() - 200 },
    } do
      claims.sub = "u"
      assert.equal('{"sub":"u"}', ask(token(claims), with(more)), more)
    end
    assert.equal("401 the token is of another issuer (iss)", ask(token { iss = "j" }, with 'iss = "i"'))
    assert.equal("401 the token is of another type (typ)", ask(token {}, with 'typ = "x+jwt"'))
    assert.equal('{"sub":"u"}', ask(tokens.sign("HS256", tokens.SECRET, '{"sub":"u"}'), with "exp = false"))
  end)

  it("remembers a token only under the question it was the answer to", function()
    p = policies.with({
      authenticate = [[
        local seen = {}
        for i, o in ipairs {
          { keys = "main", alg = { "HS256" } },
          { keys = "main", alg = { "HS256" } },
          { keys = "main", alg = { "HS256" }, iss = "x" },
          { keys = "main", alg = { "HS256" }, aud = "x" },
          { keys = "main", alg = { "HS256" }, typ = "x" },
          { keys = "main", alg = { "HS512" } },
          { keys = "other", alg = { "HS256" } },
          { keys = "main", alg = { "HS256" } },
        } do
          seen[i] = tg.jwt(req.bearer, o) and "1" or "0"
        end
        return { sub = table.concat(seen) }]],
    }, { keys = KEYS })
    local request = policies.request { headers = { Authorization = "Bearer " .. token { sub = "u" } } }
    for _ = 1, 3 do
      assert.equal('{"sub":"11000001"}', p:subscribe(request).identity)
    end
  end)

  it("raises on options that are wrong, so that nobody gets in", function()
    for options, why in pairs {
      ["nil"] = "tg.jwt: a table was expected, got nil",
      ["{}"] = "tg.jwt: keys (a name of `keys` in the configuration): a string was expected, got nil",
      ['{ keys = "mian", alg = { "HS256" } }'] = "tg.jwt: unknown key set 'mian' (did you mean 'main'?)",
      ['{ keys = "main" }'] = 'tg.jwt: alg: a list of the algorithms to accept was expected, such as { "RS256" }',
      ['{ keys = "main", alg = {} }'] =
        'tg.jwt: alg: a list of the algorithms to accept was expected, such as { "RS256" }',
      ['{ keys = "main", alg = "HS256" }'] =
        'tg.jwt: alg: a list of the algorithms to accept was expected, such as { "RS256" }',
      ['{ keys = "main", alg = { "none" } }'] = "tg.jwt: unknown algorithm 'none'",
      ['{ keys = "main", alg = { 1 } }'] = "tg.jwt: alg[i]: a string was expected, got number",
      ['{ keys = "main", alg = { "HS256", "RS256" } }'] = "tg.jwt: alg: the keys of 'main' are not for RS256",
      ['{ keys = "main", algs = { "HS256" } }'] = "tg.jwt: unknown key 'algs' (did you mean 'alg'?)",
      ['{ keys = "main", alg = { "HS256" }, exp = true }'] = "tg.jwt: exp: false was expected",
      ['{ keys = "main", alg = { "HS256" }, aud = {} }'] = "tg.jwt: aud: a string, a list of 1 to 8 strings, or false",
      ['{ keys = "main", alg = { "HS256" }, aud = true }'] = "tg.jwt: aud: a string, a list of 1 to 8 strings",
      ['{ keys = "main", alg = { "HS256" }, aud = { 1 } }'] = "tg.jwt: aud[i]: a string was expected, got number",
      ['{ keys = "main", alg = { "HS256" }, iss = 1 }'] = "tg.jwt: iss: a string was expected, got number",
      ['{ keys = "main", alg = { "HS256" }, leeway = 301 }'] = "tg.jwt: leeway (seconds): a whole number from 0 to 300",
      ['{ keys = "main", alg = { "HS256" }, leeway = -1 }'] = "tg.jwt: leeway (seconds): a whole number from 0 to 300",
    } do
      local answer, log = ask(token {}, options)
      assert.equal("transient", answer, options)
      assert.truthy(policies.first_line(log).error:find(why, 1, true), log)
    end
    assert.equal("transient", (ask(nil, "{}"))) -- without a token too
  end)

  it("is for hooks only", function()
    local _, err = policies.open_text [[tg.jwt("x", {}) return {}]]
    assert.truthy(err:find("tg.jwt is not available while the policy is being loaded", 1, true), err)
    p = policies.with({ filters = { f = "return tg.jwt('x', {}) ~= nil" },
      subscribe = "return { topics = { 'a' }, filter = 'f' }" }, { keys = KEYS })
    local v = p:subscribe(policies.request())
    local log = policies.capture(function()
      assert.same({ false }, policies.deliver(p, v, { policies.event { topic = "a", data = "x" } }))
    end)
    assert.truthy(policies.first_line(log).error:find("tg.jwt is not available in filters and formats", 1, true), log)
  end)

  it("takes keys of every kind of file", function()
    local rsa, ed = tokens.key "RS256", tokens.key "EdDSA"
    local files = {
      secret = key_file(tokens.SECRET .. "\n"), pem = key_file(rsa:public_pem()),
      jwks = key_file(tokens.jwks(tokens.jwk(ed, { kid = "e" }))),
    }
    local keys = {
      a = { secret_file = files.secret }, b = { public_key_file = files.pem }, c = { jwks_file = files.jwks },
    }
    local claims = { sub = "u", exp = os.time() + 60 }
    assert.equal('{"sub":"u"}', ask(token { sub = "u" }, '{ keys = "a", alg = { "HS256" } }', nil, keys))
    assert.equal('{"sub":"u"}', ask(tokens.sign("PS256", rsa, claims), '{ keys = "b", alg = { "PS256" } }', nil, keys))
    local token_of_c = tokens.sign("EdDSA", ed, claims, { kid = "e" })
    assert.equal('{"sub":"u"}', ask(token_of_c, '{ keys = "c", alg = { "EdDSA", "ES256" } }', nil, keys))
    assert.equal("401 the token is signed with an unknown key (kid)",
      ask(tokens.sign("EdDSA", ed, claims, { kid = "f" }), '{ keys = "c", alg = { "EdDSA" } }', nil, keys))
    for _, path in pairs(files) do
      os.remove(path)
    end
  end)
end)

describe("the cache of verified tokens", function()
  local jwt = require "native.jwt"

  local function digest(n)
    return ("%032d"):format(n)
  end

  it("answers within the time of a token only", function()
    local c = jwt.cache(100000)
    assert.is_nil(c:get(digest(1), 5))
    c:put(digest(1), "claims", 5, 10)
    assert.equal("claims", c:get(digest(1), 5))
    assert.equal("claims", c:get(digest(1), 9))
    assert.is_nil(c:get(digest(2), 5))
    assert.is_nil(c:get(digest(1), 4))
    assert.is_nil(c:get(digest(1), 10))
    assert.is_nil(c:get(digest(1), 5)) -- gone
    assert.equal("", (function() c:put(digest(3), "", 0, 1) return c:get(digest(3), 0) end)())
  end)

  it("is bounded; what was not used for longest goes first", function()
    local one = jwt.cache(100000):put(digest(1), ("x"):rep(100), 0, 1)
    local c = jwt.cache(3 * one)
    for i = 1, 3 do
      c:put(digest(i), ("x"):rep(100), 0, 1)
    end
    assert.truthy(c:get(digest(1), 0))
    assert.equal(3 * one, c:put(digest(4), ("x"):rep(100), 0, 1))
    assert.truthy(c:get(digest(1), 0) and c:get(digest(3), 0) and c:get(digest(4), 0))
    assert.is_nil(c:get(digest(2), 0))
    assert.equal(3 * one, c:put(digest(4), ("y"):rep(100), 0, 1)) -- in the place of the old one
    assert.equal(("y"):rep(100), c:get(digest(4), 0))
    assert.equal(3 * one, c:put(digest(5), ("x"):rep(3 * one), 0, 1)) -- larger than all of it
    assert.is_true(c:put(digest(6), ("x"):rep(2 * one), 0, 1) <= 3 * one)
    assert.equal(0, jwt.cache(0):put(digest(1), "x", 0, 1))
  end)
end)
