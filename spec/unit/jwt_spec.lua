local json = require "dkjson"
local jwt = require "native.jwt"
local tokens = require "support.tokens"

local NOW = 1700000000
local b64 = jwt.encode

-- set:verify() with everything allowed that is not under test
local function verify(set, token, options)
  local o = { alg = tokens.ALGS, now = NOW }
  for name, value in pairs(options or {}) do
    o[name] = value
  end
  return set:verify(token, o)
end

local function why(set, token, options)
  local claims, outcome, reason = verify(set, token, options)
  assert.is_nil(claims)
  assert.truthy(outcome == "bad" or outcome == "unknown")
  return reason
end

local function set_for(alg, algs)
  return assert(jwt.jwks(tokens.jwks(tokens.jwk(tokens.key(alg))), algs))
end

local FINE = { sub = "u1", exp = NOW + 60 }

describe("jwt", function()
  describe("of the RFCs", function()
    it("7515 A.1: HS256", function()
      local set = assert(jwt.jwks [[{"keys":[{"kty":"oct",
        "k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}]}]])
      local token = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9."
        .. "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ."
        .. "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
      local claims, _, till = verify(set, token, { now = 1300819379, iss = "joe" })
      assert.equal('{"iss":"joe",\r\n "exp":1300819380,\r\n "http://example.com/is_root":true}', claims)
      assert.equal(1300819380, till)
      assert.equal("the token has expired", why(set, token, { now = 1300819380 }))
    end)

    local A2 = '{"keys":[{"kty":"RSA","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPC'
      .. "JrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaS"
      .. "HSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGh"
      .. 'yxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"}]}'

    it("7515 A.2: RS256", function()
      local set = assert(jwt.jwks(A2))
      local token = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTk"
        .. "zODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19"
        .. "yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt"
        .. "_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb"
        .. "1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI"
        .. "8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
      assert.truthy(verify(set, token, { now = 1300819379 }))
      assert.equal("the token's signature is not valid", why(set, token:gsub("^(.*)Rw$", "%1Rg"), { now = 1 }))
    end)

    it("7515 A.3: ES256", function()
      local set = assert(jwt.jwks [[{"keys":[{"kty":"EC","crv":"P-256",
        "x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}]])
      local token = "eyJhbGciOiJFUzI1NiJ9."
        .. "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ."
        .. "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
      assert.truthy(verify(set, token, { now = 1300819379 }))
    end)

    it("8037 A.4: EdDSA, whose payload is no JSON", function()
      local set = assert(jwt.jwks [[{"keys":[{"kty":"OKP","crv":"Ed25519",
        "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}]])
      local token = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc."
        .. "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
      assert.truthy(why(set, token):find "claims are not a JSON object", 1, true) -- hence the signature was good
      assert.equal("the token's signature is not valid", why(set, (token:gsub("KAg$", "KAw"))))
    end)
  end)

  describe("verifies", function()
    for _, alg in ipairs(tokens.ALGS) do
      it(alg, function()
        local token = tokens.sign(alg, tokens.key(alg), FINE)
        local set = set_for(alg)
        assert.same(FINE, json.decode((assert(verify(set, token, { alg = { alg } })))))
        assert.equal("the token's signature is not valid",
          why(set, tokens.sign(alg, tokens.key(alg, "other"), FINE)))
        local flipped = token:gsub("^(.-%.)(.)", function(head, c)
          return head .. (c == "e" and "f" or "e")
        end)
        assert.truthy(why(set, flipped))
      end)
    end
  end)

  describe("across algorithms", function()
    -- every signature that can be made, under every name, for every set of keys
    for _, set_alg in ipairs(tokens.ALGS) do
      it("takes nothing but what fits: " .. set_alg, function()
        local set = set_for(set_alg, { set_alg })
        for _, signed in ipairs(tokens.ALGS) do
          local key = tokens.key(signed)
          for _, named in ipairs(tokens.ALGS) do
            local token = tokens.sign(signed, key, FINE, { alg = named })
            local good = set_alg == signed and signed == named
            assert.equal(good, verify(set, token) ~= nil, signed .. " called " .. named)
          end
        end
      end)
    end

    it("takes only what the caller lists, whatever the keys could", function()
      local set = set_for "RS256"
      for _, alg in ipairs { "RS256", "RS512", "PS256" } do
        local token = tokens.sign(alg, tokens.key(alg), FINE)
        assert.truthy(verify(set, token, { alg = { alg } }))
        assert.equal("the token's algorithm is not accepted", why(set, token, { alg = { "ES256", "RS384" } }))
      end
    end)

    it("takes only what the key says of itself", function()
      local key = tokens.key "RS256"
      local set = assert(jwt.jwks(tokens.jwks(tokens.jwk(key, { alg = "PS256" }))))
      assert.truthy(verify(set, tokens.sign("PS256", key, FINE)))
      assert.truthy(why(set, tokens.sign("RS256", key, FINE)))
    end)
  end)

  describe("refuses the classic forgeries:", function()
    local rsa = tokens.key "RS256"
    local set = set_for "RS256"
    local payload = b64(json.encode(FINE))

    it("no algorithm at all, in any spelling", function()
      local sets = { set, set_for "HS256", set_for "ES256", set_for "EdDSA" }
      for _, none in ipairs { '"none"', '"None"', '"NONE"', '"nOnE"', '" none"', '""', "null", "0", '["none"]', "{}",
        '"HS0"', '"rs256"', '"RS256 "', '"RS256\\u0000"' } do
        local head = b64('{"alg":' .. none .. "}")
        for _, s in ipairs(sets) do
          assert.truthy(why(s, head .. "." .. payload .. "."))
          assert.truthy(why(s, head .. "." .. payload .. "." .. b64 "x"))
          assert.truthy(why(s, tokens.sign("HS256", tokens.key "HS256", FINE, '{"alg":' .. none .. "}")))
        end
      end
      assert.equal("the token's algorithm is not accepted", why(set, b64 "{}" .. "." .. payload .. ".AA"))
    end)

    it("HMAC with the public key as the secret", function()
      local secrets = { rsa:public_pem(), rsa:public_pem():gsub("\n$", ""), rsa:public_der(), rsa:members().n, "" }
      for _, secret in ipairs(secrets) do
        for _, alg in ipairs { "HS256", "HS384", "HS512" } do
          assert.equal("the token's signature is not valid", why(set, tokens.sign(alg, secret, FINE)))
        end
      end
    end)

    it("a key that the token brings along or points at", function()
      local mine = tokens.key("RS256", "attacker")
      for _, header in ipairs {
        { jwk = tokens.jwk(mine) }, { jku = "https://evil.example/keys" }, { x5u = "https://evil.example/cert" },
        { x5c = { "MIIB" } }, { jwk = tokens.jwk(mine), kid = "" },
      } do
        assert.truthy(why(set, tokens.sign("RS256", mine, FINE, header)))
        assert.truthy(verify(set, tokens.sign("RS256", rsa, FINE, header))
          or header.kid, "a good signature stays one")
      end
    end)

    it("a key id that is a path, a query or a number", function()
      local named = assert(jwt.jwks(tokens.jwks(tokens.jwk(rsa, { kid = "k1" }))))
      for _, kid in ipairs { "../../dev/null", "/dev/null", "k1' or '1'='1", "k1\n", "K1", "", ("k"):rep(256) } do
        local _, outcome = verify(named, tokens.sign("RS256", rsa, FINE, { kid = kid }))
        assert.equal("unknown", outcome, kid)
      end
      for _, kid in ipairs { 1, { "k1" }, true, ("k"):rep(257) } do
        assert.truthy(why(named, tokens.sign("RS256", rsa, FINE, { kid = kid })):find("kid", 1, true))
      end
      assert.truthy(why(named, tokens.sign("RS256", rsa, FINE, '{"alg":"RS256","kid":"k1\\u0000"}')))
      assert.truthy(verify(named, tokens.sign("RS256", rsa, FINE, { kid = "k1" })))
      assert.truthy(verify(named, tokens.sign("RS256", rsa, FINE)))
    end)

    it("the psychic signature, and others no key ever made", function()
      for _, alg in ipairs { "ES256", "ES384" } do
        local size = alg == "ES256" and 32 or 48
        local input = b64('{"alg":"' .. alg .. '"}') .. "." .. payload
        local good = tokens.signature(alg, tokens.key(alg), input)
        local zero, one = ("\0"):rep(size), ("\0"):rep(size - 1) .. "\1"
        local most = ("\255"):rep(size)
        for _, sig in ipairs { zero .. zero, zero .. one, one .. zero, most .. most, good:sub(1, size) .. zero,
          zero .. good:sub(size + 1), good:sub(1, -2), good .. "\0", "\0" .. good, tokens.key(alg):sign("SHA" ..
          alg:sub(3), input) } do
          assert.equal("the token's signature is not valid", why(set_for(alg), input .. "." .. b64(sig)))
        end
        assert.truthy(verify(set_for(alg), input .. "." .. b64(good)))
      end
    end)

    it("a PSS salt that is not as long as the digest is none of PS256", function()
      local input = b64 '{"alg":"PS256"}' .. "." .. payload
      for _, salt in ipairs { 0, 20, 31, 33, 64 } do
        assert.truthy(why(set, input .. "." .. b64(rsa:sign("SHA256", input, salt))))
      end
      assert.truthy(why(set, input .. "." .. b64(rsa:sign("SHA384", input, true))))
      assert.truthy(why(set, input .. "." .. b64(rsa:sign("SHA256", input))))
      assert.truthy(verify(set, input .. "." .. b64(rsa:sign("SHA256", input, true))))
    end)
  end)

  describe("refuses, whoever signed it,", function()
    local key, set = tokens.key "HS256", set_for "HS256"

    local function signed(claims, header)
      return tokens.sign("HS256", key, claims, header)
    end

    it("what is not three parts of base64url", function()
      local good = signed(FINE)
      local head, payload, sig = good:match "^(.-)%.(.-)%.(.*)$"
      local forms = {
        "", ".", "..", "...", head, head .. "." .. payload, head .. "." .. payload .. ".", good .. ".", good .. "..",
        "." .. good, good .. "." .. sig, good .. ".a.b", " " .. good, good .. " ", good .. "\n", "Bearer " .. good,
        head .. "=." .. payload .. "." .. sig, head .. "." .. payload .. "." .. sig .. "=", good .. "\0",
        head .. ".." .. sig, "." .. payload .. "." .. sig, good:sub(1, -2), good:gsub("%.", "%%2e"),
        good:gsub("^(.)", "%1\n"), head .. ". " .. payload .. "." .. sig, ("a"):rep(100), ("."):rep(100),
      }
      for i, form in ipairs(forms) do
        assert.truthy(why(set, form), i)
      end
      assert.truthy(verify(set, good))
    end)

    it("a second spelling of the same bytes", function()
      -- 32 bytes are 43 characters; of the last one four bits count
      local good = signed(FINE)
      local alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
      local last = alphabet:find(good:sub(-1), 1, true)
      for other = 1, 3 do
        local c = alphabet:sub(last + other, last + other)
        assert.equal("the token's signature is not valid", why(set, good:sub(1, -2) .. c))
      end
      local binary = jwt.key "ED25519"
      for _ = 1, 20 do -- until a signature holds a digit that base64 spells differently
        local token = tokens.sign("EdDSA", binary, FINE, { salt = tostring(math.random()) })
        local ed = assert(jwt.jwks(tokens.jwks(tokens.jwk(binary))))
        assert.truthy(verify(ed, token))
        local old = token:gsub("[-_]", { ["-"] = "+", _ = "/" })
        assert.equal(old == token, verify(ed, old) ~= nil)
      end
    end)

    it("more than 64 KiB", function()
      local claims = { exp = NOW + 60, pad = ("x"):rep(49200) }
      assert.equal("the token is longer than 65536 bytes", why(set, signed(claims)))
      claims.pad = ("x"):rep(48990)
      local token = signed(claims)
      assert.is_true(#token > 65000 and #token <= 65536, #token)
      assert.truthy(verify(set, token))
    end)

    it("headers and claims that are no objects, or hold a member twice", function()
      for _, bad in ipairs { "", "null", "[]", '"x"', "1", "{", "{}x", "{} {}", '{"a":1,}', "{'a':1}", '{"a":1}\0',
        '{"exp":1700000060,"exp":1}', '{"exp":1,"exp":1700000060}', '{"exp":1700000060,"a":{"b":1,"b":2}}',
        '{"exp":1700000060,"\\u0065xp":1}', '{"exp":1700000060,"a":"\255"}', '{"exp":1700000060,"a":"\\u0000"}' } do
        assert.truthy(why(set, signed(bad)):find "claims", bad)
      end
      for _, bad in ipairs { "[]", '{"alg":"HS256","alg":"HS256"}', '{"alg":"none","alg":"HS256"}',
        '{"alg":"HS256","typ":"JWT","typ":"JWT"}', '{"alg":"HS256"', '{"alg":"HS256"}\0' } do
        assert.truthy(why(set, signed(FINE, bad)):find "header", bad)
      end
    end)

    it("critical headers, nesting, compression, other types of token", function()
      for _, header in ipairs { { crit = { "exp" } }, { crit = {} }, { crit = { "b64" }, b64 = false }, { b64 = true },
        { cty = "JWT" }, { zip = "DEF" }, { enc = "A128GCM" }, { typ = "logout+jwt" }, { typ = "dpop+jwt" },
        { typ = "" }, { typ = 1 }, { typ = "JWE" } } do
        assert.truthy(why(set, signed(FINE, header)))
      end
      for _, typ in ipairs { "jwt", "at+jwt", "application/at+JWT", false } do
        assert.truthy(verify(set, signed(FINE, { typ = typ })))
      end
      assert.truthy(verify(set, signed(FINE, { typ = "dpop+jwt" }), { typ = "dpop+jwt" }))
      assert.truthy(why(set, signed(FINE, { typ = "JWT" }), { typ = "dpop+jwt" }))
      assert.truthy(why(set, signed(FINE, { typ = false }), { typ = "JWT" }))
      assert.equal("the token is not a signed JSON Web Token (three parts)", why(set, "a.b.c.d.e"))
    end)

    describe("by the clock:", function()
      it("exp is required, is a number, and counts to the second", function()
        assert.equal("the token has no expiry (exp)", why(set, signed '{"sub":"x"}'))
        for _, exp in ipairs { '"1700000060"', "null", "true", "[1700000060]", "{}", "1e300", "-1e300",
          "253402300800" } do
          assert.equal("the token's expiry (exp) is not a time", why(set, signed('{"exp":' .. exp .. "}")), exp)
        end
        for _, exp in ipairs { "99999999999999999999", "1e999" } do
          assert.truthy(why(set, signed('{"exp":' .. exp .. "}")), exp)
        end
        for _, exp in ipairs { "0", "-1", "1699999999", "1700000000", "-9223372036854775808" } do
          assert.truthy(why(set, signed('{"exp":' .. exp .. "}")), exp)
        end
        for _, exp in ipairs { "1700000001", "1.70000000125e9", "1700000000.5", "253402300799" } do
          assert.truthy(verify(set, signed('{"exp":' .. exp .. "}")), exp)
        end
        assert.truthy(verify(set, signed { exp = NOW - 29 }, { leeway = 30 }))
        assert.equal("the token has expired", why(set, signed { exp = NOW - 30 }, { leeway = 30 }))
      end)

      it("exp may be waived, but not ignored", function()
        assert.truthy(verify(set, signed '{"sub":"x"}', { exp = false }))
        assert.equal("the token has expired", why(set, signed { exp = NOW }, { exp = false }))
        assert.truthy(why(set, signed '{"exp":"x"}', { exp = false }))
      end)

      it("nbf and iat", function()
        assert.equal("the token is not valid yet (nbf)", why(set, signed { exp = NOW + 60, nbf = NOW + 1 }))
        assert.truthy(verify(set, signed { exp = NOW + 60, nbf = NOW }))
        assert.truthy(verify(set, signed { exp = NOW + 60, nbf = NOW + 30 }, { leeway = 30 }))
        assert.truthy(why(set, signed { exp = NOW + 60, nbf = NOW + 31 }, { leeway = 30 }))
        assert.truthy(why(set, signed { exp = NOW + 60, nbf = "now" }))
        assert.truthy(why(set, signed { exp = NOW + 60, iat = "now" }))
        assert.truthy(verify(set, signed { exp = NOW + 60, iat = NOW + 1000 }))
      end)

      it("tells from when until when it is good", function()
        local _, from, till = verify(set, signed { exp = NOW + 60, nbf = NOW - 5 }, { leeway = 10 })
        assert.same({ NOW - 15, NOW + 70 }, { from, till })
        _, from, till = verify(set, signed "{}", { exp = false })
        assert.same({ math.mininteger, math.maxinteger }, { from, till })
      end)
    end)

    it("another issuer", function()
      local function issued(iss)
        return signed { exp = NOW + 60, iss = iss }
      end
      local o = { iss = "https://id.example" }
      assert.truthy(verify(set, issued "https://id.example", o))
      for _, iss in ipairs { "https://id.example/", "https://ID.example", "", "https://id.exampl", 1, { "x" } } do
        assert.equal("the token is of another issuer (iss)", why(set, issued(iss), o))
      end
      assert.equal("the token is of another issuer (iss)", why(set, signed { exp = NOW + 60 }, o))
      assert.truthy(why(set, issued { "https://id.example" }, o))
      assert.truthy(verify(set, issued "whoever"))
    end)

    it("another audience", function()
      local function meant_for(aud)
        return signed('{"exp":1700000060,"aud":' .. aud .. "}")
      end
      local o = { aud = { "sse", "push" } }
      for _, aud in ipairs { '"sse"', '"push"', '["sse"]', '["x","push"]', '["x",1,null,"sse"]' } do
        assert.truthy(verify(set, meant_for(aud), o), aud)
      end
      for _, aud in ipairs { '"SSE"', '"sse2"', '""', "[]", '["x"]', '[["sse"]]', '{"sse":true}', "null", "1" } do
        assert.equal("the token is for another audience (aud)", why(set, meant_for(aud), o), aud)
        assert.equal("the token is for another audience (aud)", why(set, meant_for(aud)), aud)
        assert.truthy(verify(set, meant_for(aud), { aud = false }), aud)
      end
      assert.equal("the token is for another audience (aud)", why(set, signed(FINE), o))
      assert.equal("the token is for another audience (aud)", why(set, meant_for '"sse"'))
    end)
  end)

  it("echoes nothing of the token in its reasons", function()
    local set = set_for "HS256"
    for _, token in ipairs { "SECRET.SECRET.SECRET", tokens.sign("HS256", "x", { SECRET = 1 }, { kid = "SECRET" }),
      tokens.sign("HS256", tokens.key "HS256", { exp = "SECRET" }), tokens.sign("HS256", tokens.key "HS256",
      { exp = NOW + 1, iss = "SECRET" }) } do
      assert.is_nil(why(set, token, { iss = "y" }):find "SECRET")
    end
  end)
end)
