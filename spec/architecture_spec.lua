-- Rules of the tree that no compiler checks.
local uv = require "luv"

local ROOT = SPEC_SOURCE_DIR

local function read(path)
  local f = assert(io.open(ROOT .. "/" .. path, "rb"))
  local text = f:read "a"
  f:close()
  return text
end

-- All files below `path` (relative to the root) whose names end in one of the given endings.
local function files(path, endings, list)
  list = list or {}
  local scan = assert(uv.fs_scandir(ROOT .. "/" .. path))
  while true do
    local name, kind = uv.fs_scandir_next(scan)
    if not name then
      break
    end
    local full = path .. "/" .. name
    if kind == "directory" then
      files(full, endings, list)
    else
      for _, ending in ipairs(endings) do
        if name:sub(-#ending) == ending then
          list[#list + 1] = full
        end
      end
    end
  end
  table.sort(list)
  return list
end

local C = { ".c", ".h" }
local sources = files("src", C)
local everything = files("src", { ".c", ".h", ".lua", ".cmake" })
files("spec", { ".c", ".h", ".lua", ".js" }, everything)
files("scripts", { ".lua", ".html" }, everything)

local function each_line(path, visit)
  local n = 0
  for line in (read(path) .. "\n"):gmatch "([^\n]*)\n" do
    n = n + 1
    visit(line, n)
  end
end

-- Collects offences and shows all of them at once.
local function offences()
  local list = {}
  return list, function(...)
    list[#list + 1] = string.format(...)
  end
end

-- base <- net <- {auth, broker} <- {store, lua, admin} <- composition (files directly in src); base <- bench
local MAY_INCLUDE = {
  base = { base = true },
  net = { base = true, net = true },
  auth = { base = true, net = true, auth = true },
  broker = { base = true, net = true, broker = true },
  store = { base = true, net = true, broker = true, store = true },
  lua = { base = true, net = true, auth = true, broker = true, lua = true },
  admin = { base = true, net = true, auth = true, broker = true, admin = true },
  bench = { base = true, bench = true }, -- a client: what judges the broker shares nothing with it
}

describe("the architecture", function()
  it("has sources to speak of", function()
    assert.is_true(#sources > 20)
  end)

  it("lets includes point one way only", function()
    local list, add = offences()
    for _, path in ipairs(sources) do
      local folder = path:match "^src/([%w_]+)/"
      each_line(path, function(line, n)
        local included = line:match '^%s*#%s*include%s+"([^"]+)"'
        local target = included and included:match "^([%w_]+)/"
        if included and folder then
          if not MAY_INCLUDE[folder] then
            add("%s: no rule for this folder", path)
          elseif not target or not MAY_INCLUDE[folder][target] then
            add("%s:%d: %s must not include %s", path, n, folder, included)
          end
        end
      end)
    end
    assert.same({}, list)
  end)

  it("includes own headers by their path from src, and they exist", function()
    local list, add = offences()
    for _, path in ipairs(sources) do
      each_line(path, function(line, n)
        local included = line:match '^%s*#%s*include%s+"([^"]+)"'
        if included and not uv.fs_stat(ROOT .. "/src/" .. included) then
          add("%s:%d: %s is not below src", path, n, included)
        end
      end)
    end
    assert.same({}, list)
  end)

  it("keeps Lua in src/lua, SQLite in src/store, libcurl in the client", function()
    local list, add = offences()
    for _, path in ipairs(sources) do
      each_line(path, function(line, n)
        local header = line:match "^%s*#%s*include%s+<([^>]+)>"
        if header and (header == "lua.h" or header == "lauxlib.h" or header == "lualib.h")
          and not path:find "^src/lua/" then
          add("%s:%d: %s", path, n, header)
        elseif header == "sqlite3.h" and not path:find "^src/store/" and path ~= "src/cli/cli.c" then -- says its version
          add("%s:%d: %s", path, n, header)
        elseif header and header:find "^curl/" and not path:find "^src/net/http_client" then
          add("%s:%d: %s", path, n, header)
        end
      end)
    end
    assert.same({}, list)
  end)

  it("signs tokens for specs of policies only", function()
    local users, add = offences()
    for _, path in ipairs(sources) do
      if path ~= "src/tools/jwt_sign.c" and read(path):find('#include "tools/jwt_sign.h"', 1, true) then
        add("%s", path)
      end
    end
    assert.same({ "src/tools/test_keys.c" }, users)
  end)

  it("does not use assert.h, which release builds switch off", function()
    local list, add = offences()
    for _, path in ipairs(sources) do
      each_line(path, function(line, n)
        if line:find "#%s*include%s+<assert%.h>" or line:find "%f[%w_]assert%(" then
          add("%s:%d: %s", path, n, line)
        end
      end)
    end
    assert.same({}, list)
  end)

  it("has no file that nobody can read: 600 lines at most", function()
    local list, add = offences()
    for _, path in ipairs(everything) do
      local n = select(2, read(path):gsub("\n", "\n"))
      if n > 600 then
        add("%s: %d lines", path, n)
      end
    end
    assert.same({}, list)
  end)

  it("guards every header by its own path", function()
    local list, add = offences()
    for _, path in ipairs(sources) do
      if path:find "%.h$" then
        local guard = path:gsub("^src/", ""):gsub("[^%w]", "_"):upper()
        local text = read(path)
        local opening = "#ifndef " .. guard .. "\n#define " .. guard .. "\n"
        if not text:find(opening, 1, true) or not text:find "#endif[^\n]*\n$" then
          add("%s: expected the guard %s around everything", path, guard)
        end
      end
    end
    assert.same({}, list)
  end)

  it("gives every source a role: a comment at its head or in its header", function()
    local list, add = offences()
    for _, path in ipairs(sources) do
      local header = path:gsub("%.c$", ".h")
      local documented = read(path):find "^/[/*]"
        or (header ~= path and uv.fs_stat(ROOT .. "/" .. header) and read(header):find "^/[/*]")
      if not documented then
        add("%s: begins without a comment, and so does its header", path)
      end
    end
    assert.same({}, list)
  end)

  it("builds every source", function()
    local list, add = offences()
    local cmake = read "CMakeLists.txt"
    for _, path in ipairs(sources) do
      if path:find "%.c$" and not cmake:find(path, 1, true) then
        add("%s is not listed in CMakeLists.txt", path)
      end
    end
    for _, path in ipairs(files("spec/support", { ".c" })) do
      if not cmake:find(path, 1, true) then
        add("%s is not listed in CMakeLists.txt", path)
      end
    end
    assert.same({}, list)
  end)

  it("has no unfinished business", function()
    local list, add = offences()
    local marks = { "TO" .. "DO", "FIX" .. "ME", "XX" .. "X", "HA" .. "CK" }
    for _, path in ipairs(everything) do
      each_line(path, function(line, n)
        for _, mark in ipairs(marks) do
          if line:find("%f[%w]" .. mark .. "%f[%W]") then
            add("%s:%d: %s", path, n, line)
          end
        end
      end)
    end
    assert.same({}, list)
  end)

  it("ends processes by their id, never by their name", function()
    local list, add = offences()
    local paths = table.move(everything, 1, #everything, 1, {})
    for _, name in ipairs { "Makefile", "CMakeLists.txt" } do
      if uv.fs_stat(ROOT .. "/" .. name) then
        paths[#paths + 1] = name
      end
    end
    if uv.fs_stat(ROOT .. "/.ci") then
      files(".ci", { "" }, paths)
    end
    for _, path in ipairs(paths) do
      each_line(path, function(line, n)
        if line:find("p" .. "kill") or line:find("kill" .. "all") then
          add("%s:%d: %s", path, n, line)
        end
      end)
    end
    assert.same({}, list)
  end)

  it("specifies every folder of functional specs under names that busted finds", function()
    for _, path in ipairs(files("spec/functional", { ".lua" })) do
      assert.matches("_spec%.lua$", path)
    end
  end)

  it("does not depend on time or on ports in specs", function()
    local list, add = offences()
    for _, path in ipairs(files("spec/functional", { ".lua" })) do
      each_line(path, function(line, n)
        if line:find "socket%.sleep" or line:find "uv%.sleep" or line:find "os%.execute" then
          add("%s:%d: waits for time, not for a condition: %s", path, n, line)
        end
      end)
    end
    assert.same({}, list)
  end)
end)
