--- Keys and tokens for specs of policies: what test.lua gives as t.key, t.hs256 and p:token(). The keys are real ones,
--- made for the process; policies get their public halves as a JWK Set, as from a `jwks_file`.
local native = require "tidegate.test.native"
local json = native.json

local tokens = {}

local function base64url(bytes)
  local digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
  local out = {}
  for i = 1, #bytes, 3 do
    local a, b, c = bytes:byte(i, i + 2)
    local n = a << 16 | (b or 0) << 8 | (c or 0)
    for k = 0, c and 3 or b and 2 or 1 do
      local at = (n >> (18 - 6 * k) & 63) + 1
      out[#out + 1] = digits:sub(at, at)
    end
  end
  return table.concat(out)
end

local Key = { __name = "t.key" }
Key.__index = Key

local ALGORITHMS = {
  HS256 = "a secret", HS384 = "a secret", HS512 = "a secret",
  RS256 = "RSA", RS384 = "RSA", RS512 = "RSA", PS256 = "RSA", PS384 = "RSA", PS512 = "RSA",
  ES256 = "P-256", ES384 = "P-384", EdDSA = "Ed25519",
}
local pairs_made = {} -- [type and kid] = native key: RSA takes its time

--- A key for `keys` and p:token(): of tokens that are signed with `alg` (HS256, HS384, HS512, RS256, RS384, RS512,
--- PS256, PS384, PS512, ES256, ES384, EdDSA) and have this key id, if one is given. The key pair is made when it is
--- needed, and is the same one whenever the same is asked for; another `kid` is another pair. The policy gets the
--- public half, of HS the secret.
function tokens.key(alg, kid)
  if not ALGORITHMS[alg] then
    error(("'%s' is none of HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA")
      :format(tostring(alg)), 2)
  elseif kid ~= nil and type(kid) ~= "string" then
    error("the key id: a text was expected", 2)
  end
  return setmetatable({ alg = alg, kid = kid }, Key)
end

--- A key for HS256 that is this secret, of 32 to 1024 bytes.
function tokens.hs256(secret)
  if type(secret) ~= "string" or #secret < 32 or #secret > 1024 then
    error("a secret of 32 to 1024 bytes was expected, as for `keys` of a configuration", 2)
  end
  return setmetatable({ alg = "HS256", native = native.key("HS256", secret) }, Key)
end

local function native_key(key)
  if not key.native then
    local name = ALGORITHMS[key.alg] .. " " .. (key.kid and "kid " .. key.kid or "")
    pairs_made[name] = pairs_made[name] or native.key(key.alg)
    key.native = pairs_made[name]
  end
  return key.native
end

local function jwk(key)
  local out, members = native_key(key):public()
  for name, bytes in pairs(members) do
    out[name] = base64url(bytes)
  end
  out.alg, out.kid = key.alg, key.kid
  return out
end

--- Is that a key?
function tokens.is_key(value)
  return getmetatable(value) == Key
end

--- The option `keys`, as lists: { [name] = { key, ... } }. `level`, as of error(), says at which caller mistakes are
--- reported.
function tokens.lists(sets, level)
  local lists = {}
  for name, value in pairs(sets or {}) do
    local list, secret = tokens.is_key(value) and { value } or value, nil
    for i = 1, type(list) == "table" and math.max(#list, 1) or 1 do
      local key = type(list) == "table" and list[i]
      if not tokens.is_key(key) then
        error(("keys.%s: t.key(\"ES256\"), or a list of such, was expected"):format(tostring(name)), level)
      elseif secret ~= nil and secret ~= (ALGORITHMS[key.alg] == "a secret") then
        error(("keys.%s: secrets (HS) and public keys cannot share a set"):format(name), level)
      end
      secret = ALGORITHMS[key.alg] == "a secret"
    end
    lists[name] = list
  end
  return lists
end

--- { [name] = JWK Set as JSON }, of public keys or secrets.
function tokens.sets(lists)
  local sets = {}
  for name, list in pairs(lists) do
    local public = {}
    for i, key in ipairs(list) do
      public[i] = jwk(key)
    end
    sets[name] = json.encode { keys = public }
  end
  return sets
end

-- `value`: claims, or a header, of which those that are false are left out.
local function part(defaults, value)
  for name, member in pairs(value or {}) do
    defaults[name] = member or nil
  end
  return base64url(json.encode(defaults))
end

--- A token. options: see p:token(); `exp`: of a token whose claims name none.
function tokens.sign(key, claims, options, exp, level)
  local alg = options.alg or key.alg
  if ALGORITHMS[alg] ~= ALGORITHMS[key.alg] then
    error(("a key for %s cannot sign with '%s'; header = { alg = ... } only says so"):format(key.alg, tostring(alg)),
      level)
  end
  local signed = part({ alg = alg, typ = "JWT", kid = key.kid }, options.header) .. "." .. part({ exp = exp }, claims)
  return signed .. "." .. base64url(native_key(key):sign(alg, signed))
end

return tokens
