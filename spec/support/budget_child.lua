-- Run by spec/unit/budget_spec.lua in a process of its own, because it may end by abort().
it("runs the code it was given", function()
  local vm = require("native.budget").open { cpu_ms = 20, hard_ms = 1000 }
  local ok, _, _, _, name = vm:run(os.getenv "BUDGET_CODE")
  print("answer: " .. tostring(ok) .. " " .. tostring(name))
  vm:close()
end)
