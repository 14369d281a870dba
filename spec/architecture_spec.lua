-- Rules of the tree that no compiler checks.
local uv = require "luv"

local ROOT = SPEC_SOURCE_DIR

local read = require("support.pages").read

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

-- Folder -> what its files may include besides their own folder. The root holds main.c alone.
-- Outside base, "base" stands for the folders below it as well.
local MAY_INCLUDE = {
  [""] = "commands",
  ["base"] = "",
  ["base/container"] = "base",
  ["base/text"] = "base",
  ["base/program"] = "base base/text",
  ["net"] = "base",
  ["net/tls"] = "base net",
  ["net/message"] = "base net",
  ["net/http"] = "base net net/message net/tls",
  ["net/h2"] = "base net/message net/http",
  ["net/client"] = "base net",
  ["pg"] = "base",
  ["auth"] = "base net net/client",
  ["event"] = "base net net/message",
  ["event/cloudevents"] = "base event",
  ["event/publish"] = "base net/message event event/cloudevents",
  ["filter"] = "base net event",
  ["quota"] = "base",
  ["policy"] = "base net net/message event quota",
  ["store"] = "base event",
  ["audience"] = "base net net/message net/http event filter policy",
  ["history"] = "base net event store audience",
  ["erase"] = "base event filter store",
  ["presence"] = "base net event store",
  ["broker"] = "base net net/message net/http event event/publish quota policy store audience history erase presence",
  ["broker/http"] = "base net/message net/http event event/publish policy audience broker",
  ["lookup"] = "base net pg",
  ["sets"] = "base net filter policy lookup",
  ["store/sqlite/timing"] = "base",
  ["store/sqlite"] = "base event store store/sqlite/timing",
  ["store/postgres"] = "base pg event store",
  ["lua/vm"] = "base net policy",
  ["lua/api"] = "base net net/tls net/client auth event quota policy lookup lua/vm",
  ["lua/load"] = "base event filter policy lua/vm lua/api",
  ["lua/hooks"] = "base net event policy lua/vm lua/api lua/load",
  ["lua/policy"] = "base net event event/cloudevents filter policy lookup sets lua/vm lua/api lua/load lua/hooks",
  ["config"] = "base net net/client pg policy lua/vm",
  ["admin/metrics"] = "base net auth quota policy broker lookup store",
  ["admin/answers"] = "base net net/message net/http net/client auth quota policy broker admin/metrics",
  ["admin"] = "base net net/message net/http net/client erase admin/metrics admin/answers",
  ["reload"] = "base net auth policy broker lua/load lua/policy admin/answers",
  ["server"] = "base net net/http net/h2 net/tls net/client auth quota policy broker lookup sets store store/sqlite "
    .. "store/postgres lua/vm lua/api lua/policy admin admin/answers reload config broker/http",
  ["tools/test"] = "base net/message net/tls net/http auth event event/publish quota policy audience broker "
    .. "lookup sets store lua/vm lua/api lua/load lua/policy config admin/answers reload server "
    .. "broker/http",
  ["tools"] = "base net auth sets lua/vm lua/api lua/load lua/policy config server tools/test",
  ["cli"] = "base net auth config server tools/test tools",
  ["remote/client"] = "base net net/client config cli",
  ["remote"] = "base net net/client config cli remote/client",
  ["doctor"] = "base pg auth store/postgres config server cli remote/client",
  ["commands"] = "base net/client store/postgres config server cli remote doctor",
  -- tidegate-bench, a client: what judges the broker shares nothing with it
  ["bench/wire"] = "base",
  ["bench/measure"] = "base",
  ["bench"] = "base bench/measure bench/wire",
}

-- Circles of modules (a .c and its .h) inside a folder that are still to be cut, or stay for the reason given.
local CIRCLES = {
}

local function folder_of(path)
  return path:match "^(.*)/[^/]*$" or ""
end

-- The folder of `target`, in the words of the table, for a file in `folder`.
local function folder_seen_from(folder, target)
  local other = folder_of(target)
  return not folder:find "^base" and other:find "^base/" and "base" or other
end

-- A class is x.c, x.h, and x_state.h, which only the files of the class include.
local function module_of(path)
  return (path:gsub("%.[ch]$", ""):gsub("_state$", ""))
end

-- Calls visit(path, line number, target) for each include of an own header; both relative to src.
local function each_include(visit)
  for _, path in ipairs(sources) do
    each_line(path, function(line, n)
      local target = line:match '^%s*#%s*include%s+"([^"]+)"'
      if target then
        visit(path:gsub("^src/", ""), n, target)
      end
    end)
  end
end

-- Strongly connected components with more than one node (Tarjan), each as its sorted names joined by spaces.
local function circles(graph)
  local index, low, on_stack, stack, found, count = {}, {}, {}, {}, {}, 0
  local function visit(node)
    count = count + 1
    index[node], low[node], on_stack[node] = count, count, true
    stack[#stack + 1] = node
    for next_node in pairs(graph[node] or {}) do
      if not index[next_node] then
        visit(next_node)
        low[node] = math.min(low[node], low[next_node])
      elseif on_stack[next_node] then
        low[node] = math.min(low[node], index[next_node])
      end
    end
    if low[node] == index[node] then
      local members = {}
      repeat
        local member = table.remove(stack)
        on_stack[member] = nil
        members[#members + 1] = member
      until member == node
      if #members > 1 then
        table.sort(members)
        found[#found + 1] = table.concat(members, " ")
      end
    end
  end
  local nodes = {}
  for node in pairs(graph) do
    nodes[#nodes + 1] = node
  end
  table.sort(nodes)
  for _, node in ipairs(nodes) do
    if not index[node] then
      visit(node)
    end
  end
  return found
end

-- Headers of libraries -> where they may be included.
local LUA_HOMES = { "src/lua/", "src/config/lua_", "src/tools/" }
local LIBRARIES = {
  ["lua.h"] = LUA_HOMES,
  ["lauxlib.h"] = LUA_HOMES,
  ["lualib.h"] = LUA_HOMES,
  ["sqlite3.h"] = { "src/store/sqlite/", "src/lookup/", "src/commands/commands.c" }, -- the last one prints the version
  ["curl/"] = { "src/net/client/" },
  ["libpq"] = { "src/pg/", "src/store/postgres/", "src/server/store_open.c" }, -- the last one asks for its version
}

describe("the architecture", function()
  it("has sources to speak of", function()
    assert.is_true(#sources > 20)
  end)

  it("lets folders include only what its table says", function()
    local list, add = offences()
    for _, path in ipairs(sources) do
      local folder = folder_of((path:gsub("^src/", "")))
      if not MAY_INCLUDE[folder] then
        add("%s: the table has no row for its folder", path)
      end
      if folder == "" and path ~= "src/main.c" then
        add("%s: src itself holds main.c alone", path)
      end
    end
    each_include(function(path, n, target)
      local folder = folder_of(path)
      local other = folder_seen_from(folder, target)
      local allowed = " " .. (MAY_INCLUDE[folder] or "") .. " "
      if other ~= folder and not allowed:find(" " .. other .. " ", 1, true) then
        add("src/%s:%d: %s must not include %s", path, n, folder, target)
      end
    end)
    assert.same({}, list)
  end)

  it("has a table of folders that points one way, and no row or arrow too many", function()
    local graph, used = {}, {}
    each_include(function(path, _, target)
      local folder = folder_of(path)
      used[folder] = used[folder] or {}
      used[folder][folder_seen_from(folder, target)] = true
    end)
    local list, add = offences()
    for folder, allowed in pairs(MAY_INCLUDE) do
      graph[folder] = {}
      for other in allowed:gmatch "%S+" do
        graph[folder][other] = true
        if not (used[folder] and used[folder][other]) then
          add("%s does not include anything of %s: take it out of the table", folder, other)
        end
      end
    end
    assert.same({}, circles(graph))
    assert.same({}, list)
  end)

  it("has no circle of modules but those that are listed", function()
    local graph = {}
    each_include(function(path, _, target)
      local from, to = module_of(path), module_of(target)
      graph[from] = graph[from] or {}
      if from ~= to then
        graph[from][to] = true
      end
    end)
    local listed = {}
    for circle in pairs(CIRCLES) do
      listed[#listed + 1] = circle
    end
    table.sort(listed)
    local found = circles(graph)
    table.sort(found)
    assert.same(listed, found)
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

  it("keeps each library in the folders that are for it", function()
    local list, add = offences()
    for _, path in ipairs(sources) do
      each_line(path, function(line, n)
        local header = line:match "^%s*#%s*include%s+<([^>]+)>"
        local homes = header and LIBRARIES[header:match "^libpq" or header:match "^curl/" or header]
        local home = not homes
        for _, prefix in ipairs(homes or {}) do
          home = home or path:sub(1, #prefix) == prefix
        end
        if not home then
          add("%s:%d: %s", path, n, header)
        end
      end)
    end
    assert.same({}, list)
  end)

  it("signs tokens for specs of policies and for `tidegate token` only", function()
    local users, add = offences()
    for _, path in ipairs(sources) do
      if path ~= "src/tools/jwt_sign.c" and read(path):find('#include "tools/jwt_sign.h"', 1, true) then
        add("%s", path)
      end
    end
    assert.same({ "src/cli/cli_token_key.h", "src/tools/test_keys.c" }, users)
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

  it("has folders that are seen at a glance: 26 files at most", function()
    local most = { ["broker"] = 28 } -- subscriber*.c are one class; it may not grow
    local count, list, add = {}, offences()
    for _, path in ipairs(sources) do
      local folder = folder_of(path:match "^src/(.*)$" or path)
      count[folder] = (count[folder] or 0) + 1
    end
    for folder, n in pairs(count) do
      if n > (most[folder] or 26) then
        add("%s: %d files", folder, n)
      end
    end
    assert.same({}, list)
  end)

  it("has no file over 800 lines: one class, one file, and 500 is long already", function()
    local list, add = offences()
    for _, path in ipairs(everything) do
      local n = select(2, read(path):gsub("\n", "\n"))
      if n > 800 then
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
    for _, path in ipairs(files("spec/native", { ".c" })) do
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
    local may_sleep = { ["spec/support/eventually.lua"] = true, ["spec/support/pg_pair.lua"] = true }
    for _, folder in ipairs { "functional", "unit", "pg", "clients", "oracle", "support" } do
      for _, path in ipairs(files("spec/" .. folder, { ".lua" })) do
        each_line(path, function(line, n)
          if line:find "socket%.sleep" or line:find "uv%.sleep"
            or line:find "os%.execute.*sleep" or folder == "functional" and line:find "os%.execute" then
            if not may_sleep[path] then
              add("%s:%d: waits for time, not for a condition: %s", path, n, line)
            end
          elseif line:find "%f[%w]eventually%.pass%(" and not line:find '"[^"]+"%)' then
            add("%s:%d: does not say why time must pass: %s", path, n, line)
          end
        end)
      end
    end
    assert.same({}, list)
  end)
end)
