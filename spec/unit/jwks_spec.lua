local jwt = require "native.jwt"
local tokens = require "support.tokens"

local NOW = 1700000000
local FINE = { exp = NOW + 60 }
local rsa, ec, ed = tokens.key "RS256", tokens.key "ES256", tokens.key "EdDSA"

local function algs_of(set)
  return table.concat((set:algs()), " ")
end

local function count(...)
  local set, why = jwt.jwks(tokens.jwks(...))
  return set and select(2, set:algs()) or why
end

local function accepts(set, alg, key, header)
  return set:verify(tokens.sign(alg, key, FINE, header), { alg = tokens.ALGS, now = NOW }) ~= nil
end

describe("base64url", function()
  it("has one text for each run of bytes", function()
    assert.equal("", jwt.decode "")
    assert.equal("\0", jwt.decode "AA")
    assert.equal("\251\255\191", jwt.decode "-_-_")
    for n = 0, 40 do
      local bytes = ("\200\0\17\255"):rep(11):sub(1, n)
      assert.equal(bytes, jwt.decode(jwt.encode(bytes)))
    end
    for _, bad in ipairs { "A", "AAAAA", "AB", "A_", "AAB", "AA=", "AA==", "A A", " AA", "AA\n", "+_-_", "/w", "AA.",
      "\0\0", "\195\164AA", "AAA%" } do
      assert.is_nil(jwt.decode(bad), bad)
    end
  end)
end)

describe("a key set", function()
  it("binds each key to the algorithms of its type", function()
    assert.equal("RS256 RS384 RS512 PS256 PS384 PS512", algs_of(assert(jwt.jwks(tokens.jwks(tokens.jwk(rsa))))))
    assert.equal("ES256", algs_of(assert(jwt.jwks(tokens.jwks(tokens.jwk(ec))))))
    assert.equal("ES384", algs_of(assert(jwt.jwks(tokens.jwks(tokens.jwk(tokens.key "ES384"))))))
    assert.equal("EdDSA", algs_of(assert(jwt.jwks(tokens.jwks(tokens.jwk(ed))))))
    assert.equal("RS512", algs_of(assert(jwt.jwks(tokens.jwks(tokens.jwk(rsa, { alg = "RS512" }))))))
    local some = { "RS256", "ES256", "HS256" }
    assert.equal("RS256 ES256", algs_of(assert(jwt.jwks(tokens.jwks(tokens.jwk(rsa), tokens.jwk(ec)), some))))
  end)

  it("leaves out private keys, and keys that anybody can sign with", function()
    local good = tokens.jwk(ed, { kid = "good" })
    for _, name in ipairs { "d", "p", "q", "dp", "dq", "qi", "oth" } do
      assert.equal(1, count(tokens.jwk(rsa, { [name] = "AQAB" }), good), name)
    end
    assert.equal(1, count(tokens.jwk(ec, { d = "AQAB" }), tokens.jwk(ed, { d = "AQAB" }), good))
    -- the modulus is a power of 65537 modulo each prime up to 167
    local roca = "i0lTYStJvTAFTfpey-zw_vREttQOWaZCoNWnj96_p39_aOsgGWFuypoCwrB2jKR0ufudXjFgnSCSKGlkSQ_JJt8vmX0-xFZZaGP5"
      .. "Fbqtbl0CqZNpnHGqWLIfTVPmc8U9ebQpkeyp1lRzgKRHARMedBp7U3RX7KpagSJsMmk3s6WzCAqg9wTRKdPGEcf_LrWzuSpgcTnq"
      .. "tZjYFtrSseNqArFCGVHWaJnwB5Z9wgcuEVfUIZXqVn79vTV6ddARVwO5636x_xCWxHFhvfxxNwQVltkf6Tw49qJNNOmjPBJT2Us5"
      .. "C-n8aDseHNJylfXZSfsQ54WM8n8tiBlW6CSOby0s5Q"
    assert.equal(1, count(tokens.jwk(rsa, { n = roca }), good))
    local order_8 = "\38\232\149\143\194\178\39\176\69\195\244\137\242\239\152\240\213\223\172\5\211\198"
      .. "\51\57\177\56\2\136\109\83\252\5"
    local minus_one, plus_one = "\xec" .. ("\xff"):rep(30) .. "\x7f", "\xee" .. ("\xff"):rep(31)
    for _, point in ipairs { "\0", "\1", order_8, minus_one, plus_one } do
      local x = point .. ("\0"):rep(32 - #point)
      assert.equal(1, count(tokens.jwk(ed, { x = jwt.encode(x) }), good))
    end
  end)

  it("leaves out what is not meant or not fit for signatures", function()
    local good = tokens.jwk(ed, { kid = "good" })
    for name, bad in pairs {
      use = tokens.jwk(rsa, { use = "enc" }), use_type = tokens.jwk(rsa, { use = 1 }),
      ops = tokens.jwk(rsa, { key_ops = { "encrypt" } }), ops_type = tokens.jwk(rsa, { key_ops = "verify" }),
      sign_only = tokens.jwk(rsa, { key_ops = { "sign" } }),
      alg = tokens.jwk(rsa, { alg = "RSA-OAEP" }), other_type = tokens.jwk(rsa, { alg = "ES256" }),
      none = tokens.jwk(rsa, { alg = "none" }), secret = tokens.jwk(rsa, { alg = "HS256" }),
      kty = tokens.jwk(rsa, { kty = "PQC" }), no_kty = tokens.jwk(rsa, { kty = false }),
      kty_case = tokens.jwk(rsa, { kty = "rsa" }), kid = tokens.jwk(rsa, { kid = 1 }),
      crv = tokens.jwk(ec, { crv = "secp256k1" }), p521 = tokens.jwk(ec, { crv = "P-521" }),
      x25519 = tokens.jwk(ed, { crv = "X25519" }), no_crv = tokens.jwk(ec, { crv = false }),
      no_n = tokens.jwk(rsa, { n = false }), no_e = tokens.jwk(rsa, { e = false }),
      e_even = tokens.jwk(rsa, { e = "Ag" }),
      e_one = tokens.jwk(rsa, { e = "AQ" }), e_zero = tokens.jwk(rsa, { e = "AA" }),
      e_huge = tokens.jwk(rsa, { e = jwt.encode(("\1"):rep(9)) }), padded = tokens.jwk(rsa, { e = "AQAB=" }),
      even = tokens.jwk(rsa, { n = jwt.encode(("\254"):rep(256)) }),
      weak = tokens.jwk(jwt.key("RSA", 1024)), huge = tokens.jwk(rsa, { n = jwt.encode(("\255"):rep(1100)) }),
      point = tokens.jwk(ec, { x = tokens.jwk(ec).y }), short = tokens.jwk(ec, { x = jwt.encode "short" }),
      long = tokens.jwk(ec, { y = jwt.encode(("\1"):rep(48)) }), ed_short = tokens.jwk(ed, { x = jwt.encode "short" }),
      text = "a text", list = {},
    } do
      assert.equal(1, count(bad, good), name)
      assert.equal("holds no key that can be used", count(bad), name)
    end
    assert.equal(2, count(tokens.jwk(rsa, { use = "sig", key_ops = { "sign", "verify" } }), good))
  end)

  it("loses a key whose kid an earlier one has, and nothing else", function()
    local other = tokens.key("RS256", "b")
    local once = tokens.jwk(rsa, { kid = "a" })
    assert.equal(2, count(once, once, tokens.jwk(other, { kid = "b" })))
    local set = assert(jwt.jwks(tokens.jwks(tokens.jwk(rsa, { kid = "a" }), tokens.jwk(other, { kid = "a" }))))
    assert.is_true(accepts(set, "RS256", rsa, { kid = "a" }))
    assert.is_false(accepts(set, "RS256", other, { kid = "a" }))
  end)

  it("is refused where keys contradict each other", function()
    assert.equal(2, count(tokens.jwk(rsa, { kid = "a" }), tokens.jwk(ec, { kid = "a" })))
    assert.equal(2, count(tokens.jwk(rsa, { kid = "a", alg = "RS256" }), tokens.jwk(rsa, { kid = "a", alg = "PS256" })))
    assert.equal(2, count(tokens.jwk(rsa), tokens.jwk(tokens.key("RS256", "b"))))
    local mixed = 'secrets ("oct") and public keys cannot share a set: give each its own'
    assert.equal(mixed, count(tokens.jwk(rsa), tokens.jwk(tokens.SECRET)))
    assert.equal(mixed, count(tokens.jwk(tokens.SECRET), tokens.jwk(ed)))
    local asymmetric = { "RS256", "EdDSA" }
    local set = assert(jwt.jwks(tokens.jwks(tokens.jwk(tokens.SECRET), tokens.jwk(ed)), asymmetric))
    assert.equal("EdDSA", algs_of(set)) -- where secrets are not wanted, one is a key of no use
  end)

  it("is refused where it is none", function()
    for text, why in pairs {
      [""] = "is not JSON: line 1, column 0", ["{"] = "is not JSON: line 1, column 1",
      ["[]"] = 'is not a JWK Set: expected {"keys": [...]}', ["{}"] = 'is not a JWK Set: expected {"keys": [...]}',
      ['{"keys":{}}'] = 'is not a JWK Set: expected {"keys": [...]}', ['{"keys":[]}'] = "holds no key that can be used",
      [(" "):rep(256 * 1024 + 1)] = "is longer than 262144 bytes",
      ['{"keys":[' .. ("{},"):rep(100) .. "{}]}"] = "holds 101 keys, at most 100 were expected",
    } do
      local set, found = jwt.jwks(text)
      assert.is_nil(set)
      assert.equal(why, found)
    end
    assert.is_nil(jwt.jwks '{"keys":[],"keys":[]}')
  end)

  it("chooses by kid and algorithm, and tries what fits where there is no kid", function()
    local other = tokens.key("RS256", "b")
    local set = assert(jwt.jwks(tokens.jwks(tokens.jwk(rsa, { kid = "a" }), tokens.jwk(other, { kid = "b" }),
      tokens.jwk(ec, { kid = "a" }))))
    for _, case in ipairs { { rsa, "a", true }, { other, "b", true }, { rsa, "b", false }, { other, "a", false } } do
      assert.equal(case[3], accepts(set, "RS256", case[1], { kid = case[2] }))
    end
    assert.is_true(accepts(set, "ES256", ec, { kid = "a" }))
    assert.is_true(accepts(set, "RS256", other))
    local _, outcome = set:verify(tokens.sign("RS256", rsa, FINE, { kid = "c" }), { alg = { "RS256" }, now = NOW })
    assert.equal("unknown", outcome)
    _, outcome = set:verify(tokens.sign("RS256", rsa, FINE, { kid = "b" }), { alg = { "RS256" }, now = NOW })
    assert.equal("bad", outcome)
  end)

  it("tries a bounded number of keys", function()
    local jwks = {}
    for i = 1, 9 do
      jwks[i] = tokens.jwk(tokens.key("EdDSA", "n" .. i), { kid = "k" .. i })
    end
    local set = assert(jwt.jwks(tokens.jwks(table.unpack(jwks))))
    assert.is_true(accepts(set, "EdDSA", tokens.key("EdDSA", "n8")))
    assert.is_false(accepts(set, "EdDSA", tokens.key("EdDSA", "n9")))
    assert.is_true(accepts(set, "EdDSA", tokens.key("EdDSA", "n9"), { kid = "k9" }))
  end)

  describe("of PEM", function()
    it("holds one public key or more", function()
      local set = assert(jwt.pem(rsa:public_pem()))
      assert.is_true(accepts(set, "RS256", rsa, { kid = "whatever" }))
      assert.is_true(accepts(set, "PS512", rsa))
      set = assert(jwt.pem("a comment\n" .. ec:public_pem() .. "\n" .. ed:public_pem()))
      assert.equal("ES256 EdDSA", algs_of(set))
    end)

    it("is refused where it is something else", function()
      for text, why in pairs {
        [""] = 'holds 0 blocks "-----BEGIN PUBLIC KEY-----": 1 to 100 were expected',
        ["x"] = 'holds 0 blocks "-----BEGIN PUBLIC KEY-----": 1 to 100 were expected',
        [rsa:pem()] = "holds a private key: make a file of the public one with `openssl pkey -in FILE -pubout`",
        ["-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"] = "key 1 cannot be read",
        [ed:public_pem() .. "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"] = "key 2 cannot be read",
        [jwt.key("RSA", 1024):public_pem()] = "key 1: an RSA key of 1024 bits: 2048 to 8192 were expected",
        [jwt.key("EC", "P-521"):public_pem()] = "key 1: is neither RSA, EC (P-256, P-384) nor Ed25519",
        [jwt.key("EC", "secp256k1"):public_pem()] = "key 1: is neither RSA, EC (P-256, P-384) nor Ed25519",
      } do
        local set, found = jwt.pem(text)
        assert.is_nil(set)
        assert.equal(why, found)
      end
      assert.is_nil(jwt.pem(ec:public_pem(), { "RS256" }))
    end)
  end)

  describe("of a secret", function()
    it("is as long as the digest at least", function()
      for _, case in ipairs { { 32, "HS256" }, { 47, "HS256" }, { 48, "HS256 HS384" }, { 64, "HS256 HS384 HS512" } } do
        assert.equal(case[2], algs_of(assert(jwt.secret(("s"):rep(case[1])))))
      end
      local _, why = jwt.secret(("s"):rep(31))
      assert.equal("a secret of 31 bytes: at least 32 were expected", why)
      _, why = jwt.secret(("s"):rep(63), { "HS512" })
      assert.equal("a secret of 63 bytes: at least 64 were expected", why)
      _, why = jwt.secret(("s"):rep(1025))
      assert.equal("a secret of more than 1024 bytes", why)
      assert.is_nil(jwt.secret(("s"):rep(64), { "RS256" }))
    end)

    it("counts byte by byte, NUL too", function()
      local secret = ("\0"):rep(31) .. "x"
      local set = assert(jwt.secret(secret))
      assert.is_true(accepts(set, "HS256", secret))
      assert.is_false(accepts(set, "HS256", ("\0"):rep(32)))
    end)
  end)
end)
