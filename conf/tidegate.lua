-- The default configuration: a database in ../data, local clients only, a policy that admits every client.
-- It is data: env("NAME"[, default]) is all it can call. Commented keys show their defaults;
-- `tidegate config-reference` has all of them.
-- Try it: tidegate check conf/tidegate.lua
return {
  listen = { "127.0.0.1:8080" }, -- also "[::1]:8080", "unix:/run/tidegate/http.sock", and with TLS
  -- { address = "0.0.0.0:443", tls = { { cert = "tls/a.example.pem", key = "tls/a.example.key" } } }
  admin = "127.0.0.1:8081", -- health, metrics; false: none
  -- admin_identity = {}, -- what operators see of who a client is: { "sub" }
  -- trusted_proxies = {}, -- peers whose X-Forwarded-For is trusted: { "10.0.0.0/8", "unix" }

  http = {
    -- events_path = "/events",
    -- cors_origins = {}, -- { "https://app.example" }, or { "*" }
    -- page = true, -- GET / serves a test page
  },

  sse = {
    -- heartbeat_s = 15,
    -- dead_peer_s = 60,
    -- retry_ms = 3000,
  },

  event_log = { -- the newest events, in memory
    -- max_events = 65536,
    -- max_bytes = 64 * 1024 * 1024,
  },

  store = {
    path = "../data", -- relative paths start at this file
    -- synchronous = "full", -- "normal": faster, but power loss may take the last events
    -- retain_age_s = 7 * 24 * 3600,
  },

  policy = {
    file = "../scripts/policies/open.lua",
    auth = "open", -- this policy has no `authenticate`: fine on this machine, refused on a public address
  },

  limits = {
    -- max_connections = 16000,
    -- event_bytes = 1024 * 1024,
  },

  drain = {
    -- timeout_s = 10,
  },

  log = {
    -- level = "info", -- "debug" "warn" "error"
  },
}
