-- Quotas and rates of a broker on PostgreSQL: counted for its workers, as with SQLite.
local pg = require "support.pg"
local quotas = require "support.quotas"

describe("quotas on PostgreSQL", function()
  local server = pg.shared {}

  quotas.specify(function()
    return server():database():broker {
      policy = quotas.policy "1", config = { workers = 2, policy = { resubscribe_per_s = 100000 } },
    }
  end)
end)
