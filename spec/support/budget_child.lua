-- Run by spec/unit/budget_spec.lua in a process of its own, because it may end by abort().
it("runs the code it was given", function()
  local vm = require("native.budget").open { cpu_ms = tonumber(os.getenv "BUDGET_CPU_MS" or 20), hard_ms = 1000 }
  local ok, err, _, _, name = vm:run(os.getenv "BUDGET_CODE")
  print("answer: " .. tostring(ok) .. " " .. tostring(name) .. " " .. tostring(err))
  vm:close()
end)
