-- Where the programs of the run are.
local uv = require "luv"

local M = {}

function M.find(name)
  for dir in ((os.getenv "PATH" or "") .. ":/usr/sbin:/sbin:/usr/bin:/bin"):gmatch "[^:]+" do
    if uv.fs_access(dir .. "/" .. name, "X") then
      return dir .. "/" .. name
    end
  end
  error(("%s is not installed (.ci/deps cluster)"):format(name), 0)
end

-- The directory of the newest installed server's programs.
function M.postgres_dir()
  local best
  local scan = uv.fs_scandir "/usr/lib/postgresql"
  while scan do
    local name = uv.fs_scandir_next(scan)
    if not name then
      break
    end
    if uv.fs_access(("/usr/lib/postgresql/%s/bin/postgres"):format(name), "X") then
      best = math.max(best or 0, tonumber(name) or 0)
    end
  end
  return ("/usr/lib/postgresql/%d/bin"):format(assert(best, "no PostgreSQL server (.ci/deps cluster)"))
end

-- User and group id.
function M.account(name)
  for line in io.lines "/etc/passwd" do
    local uid, gid = line:match("^" .. name .. ":[^:]*:(%d+):(%d+):")
    if uid then
      return tonumber(uid), tonumber(gid)
    end
  end
  error("no user " .. name, 0)
end

return M
