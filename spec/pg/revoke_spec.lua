-- The promise of `observe` on PostgreSQL: an application takes a right away and says so in one transaction, and no
-- event behind that one reaches a stream of the user under the grant of before, on either of two brokers, under faults.
-- By hand, as large as it is promised:
--   TIDEGATE_REVOKE_SECONDS=120 TIDEGATE_REVOKE_STREAMS=1000 TIDEGATE_REVOKE_PER_S=500 \
--     .ci/test build/release spec/pg/revoke_spec.lua
local pg = require "support.pg"
local revoke = require "oracle.revoke"

describe("rights that are taken away in a transaction", function()
  local server = pg.shared { settings = { max_connections = 80 } }

  it("end with it, whatever happens to brokers, sessions, clients and policies", function()
    revoke.judge(assert, { world = revoke.pg { server = server(), brokers = 2 }, users = 12, streams = 60,
      per_s = 200 }, 3, { "reload", "kill", "sessions", "cut" })
  end)
end)
