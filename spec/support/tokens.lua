-- Makes keys, JWKs and tokens for the specs: the other side of src/auth.
local native = require "native.jwt"

local tokens = {}

local DIGESTS = { ["256"] = "SHA256", ["384"] = "SHA384", ["512"] = "SHA512" }
local KEYS = {
  RS = { "RSA", 2048 }, PS = { "RSA", 2048 }, ES256 = { "EC", "P-256" }, ES384 = { "EC", "P-384" },
  EdDSA = { "ED25519" },
}

tokens.ALGS = { "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384",
  "EdDSA" }
tokens.SECRET = ("tidegate spec secret "):rep(4)
tokens.b64 = native.encode

local made = {}

--- A private key of the kind that `alg` takes; the same one every time for the same `which`. HS*: a secret.
function tokens.key(alg, which)
  if alg:find "^HS" then
    return (which or "") .. tokens.SECRET
  end
  local kind = KEYS[alg] or KEYS[alg:sub(1, 2)]
  local name = table.concat(kind, " ") .. (which or "")
  made[name] = made[name] or native.key(table.unpack(kind))
  return made[name]
end

--- The public key (or the secret) as a JWK; `more` wins, and false there takes a member away.
function tokens.jwk(key, more)
  local jwk = {}
  if type(key) == "string" then
    jwk.kty, jwk.k = "oct", native.encode(key)
  else
    local m = key:members()
    for name, bytes in pairs(m) do
      jwk[name] = native.encode(bytes)
    end
    jwk.kty = m.n and "RSA" or m.y and "EC" or "OKP"
    jwk.crv = m.y and (#m.y == 32 and "P-256" or "P-384") or not m.n and "Ed25519" or nil
  end
  for name, value in pairs(more or {}) do
    jwk[name] = value or nil
  end
  return jwk
end

local json = require "dkjson"

function tokens.jwks(...)
  return json.encode { keys = setmetatable({ ... }, { __jsontype = "array" }) }
end

function tokens.signature(alg, key, input)
  local digest = DIGESTS[alg:sub(3)]
  if alg:find "^HS" then
    return native.hmac(digest, key, input)
  elseif alg:find "^ES" then
    return native.raw_ecdsa(key:sign(digest, input), alg == "ES256" and 32 or 48)
  end
  return key:sign(digest, input, alg:find "^PS" ~= nil)
end

--- A token. `header` and `claims`: tables, or texts to be used as they are.
function tokens.sign(alg, key, claims, header)
  local function part(value)
    return native.encode(type(value) == "string" and value or json.encode(value))
  end
  local head = { alg = alg, typ = "JWT" }
  for name, value in pairs(type(header) == "table" and header or {}) do
    head[name] = value or nil
  end
  local input = part(type(header) == "string" and header or head) .. "." .. part(claims)
  return input .. "." .. native.encode(tokens.signature(alg, key, input))
end

return tokens
