--- keys: sets of keys that sign tokens; their part of the schema.

local DAY = 86400
local YEARS_100 = 100 * 365 * DAY

local function optional_path(name, doc)
  return { name = name, kind = "text", off = true, default = false, expect = "the path of a file", doc = doc }
end

local function seconds(name, default, min, max, doc)
  return { name = name, kind = "integer", default = default, min = min, max = max, unit = "seconds", doc = doc }
end

local fields = {
  {
    name = "secret", kind = "text", off = true, default = false, secret = true, max = 1024,
    expect = "a text of at least 32 bytes",
    doc = "HS256, HS384, HS512: the shared secret; take it from `env()`.",
  },
  optional_path("secret_file", "The same from a file; a newline at its end is not part of it."),
  optional_path("public_key_file",
    "RS, PS, ES, EdDSA: public keys in PEM (`-----BEGIN PUBLIC KEY-----`), one or more."),
  optional_path("jwks_file", "A JWK Set (RFC 7517), of secrets or of public keys."),
  {
    name = "jwks_url", kind = "text", off = true, default = false, format = "jwks_url",
    expect = 'a URL such as "https://id.example/.well-known/jwks.json"',
    doc = "A JWK Set from a server, public keys only. `http` only from this machine.",
  },
  optional_path("ca_file", "`jwks_url`: certificates (PEM) to trust instead of the system's."),
  {
    name = "algorithms", kind = "list", max = 12, default = {},
    of = {
      kind = "text",
      choices = {
        "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA",
      },
    },
    doc = "The algorithms that the keys may be used with. `{}`: all that match the type of the key.",
  },
  seconds("refresh_s", 300, 30, DAY, "`jwks_url`: how often it is fetched."),
  seconds("stale_s", DAY, 60, YEARS_100,
    "`jwks_url`: how long keys are used while the server cannot be reached. After that, and at a start without the "
      .. "server, clients are temporarily refused."),
}

-- Where the keys of a set come from: exactly one of these.
local SOURCES = { "secret", "secret_file", "public_key_file", "jwks_file", "jwks_url" }

return { fields = fields, SOURCES = SOURCES }
