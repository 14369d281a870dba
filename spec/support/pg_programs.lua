-- Programs of PostgreSQL's server package: where they are, and how they are run as somebody they accept.
local child = require "support.child"
local tidegate = require "support.tidegate"
local uv = require "luv"

local M = {}

M.root = uv.getuid() == 0

-- The directory of the newest installed server, or nil.
local function find_bin()
  local given, best, best_version = os.getenv "TIDEGATE_SPEC_PG_BIN", nil, 0
  if given then
    return given
  end
  local scan = uv.fs_scandir "/usr/lib/postgresql"
  while scan do
    local name = uv.fs_scandir_next(scan)
    if not name then
      break
    end
    local path = "/usr/lib/postgresql/" .. name .. "/bin"
    if (tonumber(name) or 0) > best_version and uv.fs_access(path .. "/postgres", "X") then
      best, best_version = path, tonumber(name)
    end
  end
  return best
end

-- Path of the program `name`.
function M.path(name)
  M.bin = M.bin or assert(find_bin(), "no PostgreSQL server below /usr/lib/postgresql (package postgresql)")
  return M.bin .. "/" .. name
end

function M.account(name)
  for line in io.lines "/etc/passwd" do
    local uid, gid = line:match("^" .. name .. ":[^:]*:(%d+):(%d+):")
    if uid then
      return tonumber(uid), tonumber(gid)
    end
  end
  error("no user " .. name .. " to run the server as: specs run as root need the package postgresql")
end

-- Program and arguments that run `path` as somebody PostgreSQL accepts.
function M.unprivileged(path, args, options)
  local all = {}
  if M.root then
    all = { "--reuid=postgres", "--regid=postgres", "--init-groups" }
  end
  if options and options.with_parent then
    all[#all + 1] = "--pdeathsig"
    all[#all + 1] = "QUIT"
  end
  all[#all + 1] = "--"
  all[#all + 1] = path
  table.move(args, 1, #args, #all + 1, all)
  return assert(child.find "setpriv", "setpriv (util-linux) is not installed"), all
end

-- Runs a program of the server's package to its end.
function M.run(name, args, cwd)
  local path, all = M.unprivileged(M.path(name), args)
  local code, out, err = tidegate.run(path, { args = all, cwd = cwd, timeout = 60 })
  assert(code == 0, ("%s ended with code %d:\n%s%s"):format(name, code, out, err))
  return out
end

return M
