-- What a spec has started or made, ended and removed after it. Of several finally() in one spec busted keeps the last.
local M = {}

-- Returns what takes a function for later, and what calls all that were taken, the last first: for after_each().
function M.keeper()
  local kept = {}
  return function(undo)
    kept[#kept + 1] = undo
  end, function()
    while #kept > 0 do
      table.remove(kept)()
    end
  end
end

return M
