-- What clients hold that begin with a snapshot, on PostgreSQL with two brokers, under faults: what the store holds.
-- By hand, as large as it is promised:
--   TIDEGATE_LATEST_SECONDS=60 TIDEGATE_LATEST_STREAMS=1000 TIDEGATE_LATEST_TOPICS=500 TIDEGATE_LATEST_PER_S=300 \
--     .ci/test build/release spec/pg/latest_spec.lua
local latest = require "oracle.latest"
local pg = require "support.pg"

describe("what a client holds that began with a snapshot", function()
  local server = pg.shared { settings = { max_connections = 80 } }

  it("is what the store holds, whatever happens to brokers, sessions, clients and policies", function()
    latest.judge(assert, { world = latest.pg { server = server(), brokers = 2, retain = 300 }, streams = 60,
      topics = 50, per_s = 200, mixed = true },
      4, { "cut", "erase", "reload", "kill", "anew", "erase", "sessions", "away" })
  end)
end)
