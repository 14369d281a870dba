-- Output handler of busted: dots and descriptions as the plain terminal prints them, then one line
-- "N passed, N failed" for the whole run. A pending spec is a failure (something promised is not
-- tested) unless TIDEGATE_SPEC_ALLOW_PENDING is set; a run without a single spec is one, too.
local logged = require "native.log"

return function(options)
  local busted = require "busted"
  local handler = require "busted.outputHandlers.plainTerminal"(options)
  local slow, failed_logs = {}, {}
  local slow_after = tonumber(os.getenv("TIDEGATE_SPEC_SLOW") or "")

  -- What parts of the broker log in this process belongs to a spec, and is shown where that fails.
  logged.collect()
  busted.subscribe({ "test", "end" }, function(element, _, status)
    local text = logged.text()
    logged.clear()
    if text ~= "" and (status == "failure" or status == "error") then
      failed_logs[#failed_logs + 1] = ("\nLogged by: %s\n%s"):format(handler.getFullName(element), text)
    end
    if slow_after and element.duration and element.duration >= slow_after then
      slow[#slow + 1] = { element.duration, handler.getFullName(element) }
    end
    return nil, true
  end)

  busted.subscribe({ "exit" }, function()
    local failed = handler.failuresCount + handler.errorsCount
    if not os.getenv "TIDEGATE_SPEC_ALLOW_PENDING" then
      failed = failed + handler.pendingsCount
    end
    if handler.successesCount + failed + handler.pendingsCount == 0 and not options.list then
      failed = 1
      io.write("no spec was run\n")
    end
    io.write(table.concat(failed_logs))
    table.sort(slow, function(a, b) return a[1] > b[1] end)
    for _, s in ipairs(slow) do
      io.write(("%7.2f s  %s\n"):format(s[1], s[2]))
    end
    io.write(("%d passed, %d failed\n"):format(handler.successesCount, failed))
    io.flush()
    if failed > 0 then
      os.exit(1, true)
    end
    return nil, true
  end)

  return handler
end
