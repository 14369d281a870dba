-- Folders with all that is in them.
local uv = require "luv"

local M = {}

-- The folder and all that is in it; nothing where it does not exist.
function M.remove(path)
  local scan = uv.fs_scandir(path)
  while scan do
    local name, kind = uv.fs_scandir_next(scan)
    if not name then
      break
    end
    if kind == "directory" then
      M.remove(path .. "/" .. name)
    else
      uv.fs_unlink(path .. "/" .. name)
    end
  end
  uv.fs_rmdir(path)
end

return M
