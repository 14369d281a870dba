-- Hostile policies beside 1,000 well-behaved streams, and the table of what each cost. From the root of the
-- tree: build/release/tidegate_spec spec/bench/hang.lua (HANG_STREAMS=n for another number)
local hang_run = require "support.hang_run"

it("prints the hang list", function()
  local lines = hang_run.run(tonumber(os.getenv "HANG_STREAMS" or 1000))
  print(table.concat(lines, "\n"))
end)
