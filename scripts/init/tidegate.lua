-- A broker for this machine: clients at @LISTEN@, operators at @ADMIN@, a database in data/.
-- Relative paths begin here. `tidegate config-reference` has all settings.
-- Try it: tidegate check; tidegate serve (in this directory)
return {
  listen = { "@LISTEN@" },
  admin = "@ADMIN@", -- health, metrics, and `tidegate status`; local only
  admin_identity = { "sub" }, -- what operators see of who a client is: tidegate explain --who sub=ann
  store = { path = "data" },
  policy = { file = "policy.lua" }, -- with settings = { public = "sport" } everybody reads sport/** instead of news/**
  keys = { main = { secret_file = "secret" } }, -- what tokens are signed with; `tidegate token` makes some
}
