-- Whole files.
local M = {}

function M.read(path)
  local f <close> = assert(io.open(path, "rb"))
  return assert(f:read "a")
end

function M.write(path, text)
  local f = assert(io.open(path, "wb"))
  assert(f:write(text))
  assert(f:close())
end

return M
