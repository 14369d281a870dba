-- Measures Tidegate and its peers alternately with `tidegate bench` and prints a Markdown table of medians
-- and of the ratios of Tidegate to each peer. Only such ratios mean something: figures of other days and
-- machines do not compare.
--
--   lua5.4 spec/bench/run.lua [options] [SCENARIO ...]     (none: all of scenarios.lua)
--
--   --tidegate FILE    the release binary (build/release/tidegate)
--   --rounds N         (3) every server once a round
--   --seconds S        (5) of each run, where the scenario does not say otherwise
--   --only A,B         these servers
--   --also FILE        more servers, as in servers.lua
--   --raw FILE         appends every run as a line of JSON
--   --list             names the scenarios
--
-- With two cores or more servers run on core 0, the generator on core 1.
local json = require "dkjson"
local uv = require "luv"

local HERE = arg[0]:match "^(.*)/[^/]*$" or "."
local ROOT = assert(uv.fs_realpath(HERE .. "/../.."))
local scenarios = dofile(HERE .. "/scenarios.lua")

local function fail(...)
  io.stderr:write("bench: ", string.format(...), "\n")
  os.exit(1)
end

----------------------------------------------------------------- options
local options = { tidegate = ROOT .. "/build/release/tidegate", rounds = "3", seconds = "5" }
local wanted = {}

local function read_options()
  local i = 1
  while arg[i] do
    local name = arg[i]:match "^%-%-(%l+)$"
    if name == "list" then
      for _, s in ipairs(scenarios) do
        print(("%-18s %s\n%18s tidegate bench %s"):format(s.name, s.title, "", s.args))
      end
      os.exit(0)
    elseif name then
      local known = { tidegate = true, rounds = true, seconds = true, only = true, also = true, raw = true }
      if not known[name] or not arg[i + 1] then
        fail("%s: unknown, or without its value (see the head of run.lua)", arg[i])
      end
      options[name] = arg[i + 1]
      i = i + 2
    else
      wanted[arg[i]] = true
      i = i + 1
    end
  end
end

local function chosen_scenarios()
  local list, all = {}, not next(wanted)
  for _, s in ipairs(scenarios) do
    if all or wanted[s.name] then
      list[#list + 1] = s
      wanted[s.name] = nil
    end
  end
  if next(wanted) then
    fail("%s: no such scenario (--list names them)", next(wanted))
  end
  return list
end

local function chosen_servers()
  local all, list = dofile(HERE .. "/servers.lua"), {}
  for _, s in ipairs(options.also and dofile(options.also) or {}) do
    all[#all + 1] = s
  end
  for _, s in ipairs(all) do
    local missing = s.available and s.available()
    local asked = not options.only or ("," .. options.only .. ","):find("," .. s.name .. ",", 1, true)
    if asked and missing then
      io.stderr:write("bench: without ", s.name, ": ", missing, "\n")
    elseif asked then
      list[#list + 1] = s
    end
  end
  return list
end

----------------------------------------------------------------- processes
local cores = #uv.cpu_info()

-- The program with all files it may open, on a core of its own where there are two.
local function pinned(core, program, args)
  local line = { "-c", 'ulimit -n "$(ulimit -Hn)"; exec "$@"', "sh" }
  if cores > 1 then
    table.move({ "taskset", "-c", tostring(core) }, 1, 3, #line + 1, line)
  end
  line[#line + 1] = program
  table.move(args, 1, #args, #line + 1, line)
  return "/bin/sh", line
end

local function spawn(core, program, args, stdio, cwd)
  local process = {}
  local path, line = pinned(core, program, args)
  local handle, pid
  handle, pid = uv.spawn(path, { args = line, stdio = stdio, cwd = cwd }, function(code, signal)
    process.code = signal ~= 0 and -signal or code
    handle:close()
  end)
  process.pid = handle and pid or fail("%s: %s", program, pid)
  return process
end

local function wait(what, seconds, condition)
  local deadline = uv.hrtime() + seconds * 1e9
  while not condition() do
    if uv.hrtime() > deadline then
      return false, what .. " not within " .. seconds .. " s"
    end
    uv.run "nowait"
    uv.sleep(10)
  end
  return true
end

local function stop(process)
  for _, signal in ipairs { "sigterm", "sigkill" } do
    if not process.code then
      uv.kill(process.pid, signal)
      wait("the end", 10, function() return process.code end)
    end
  end
end

local function free_port()
  local s = uv.new_tcp()
  assert(s:bind("127.0.0.1", 0))
  local port = s:getsockname().port
  s:close()
  uv.run "nowait"
  return port
end

local function listening(port)
  local answer
  local s = uv.new_tcp()
  s:connect("127.0.0.1", port, function(err)
    answer = err or "open"
    s:close()
  end)
  wait("an answer", 1, function() return answer end)
  return answer == "open"
end

local function remove_tree(path)
  local scan = uv.fs_scandir(path)
  while scan do
    local name, kind = uv.fs_scandir_next(scan)
    if not name then
      break
    end
    if kind == "directory" then
      remove_tree(path .. "/" .. name)
    else
      uv.fs_unlink(path .. "/" .. name)
    end
  end
  uv.fs_rmdir(path)
end

local function read(path)
  local f = assert(io.open(path))
  local text = f:read "a"
  f:close()
  return text
end

----------------------------------------------------------------- one run
local function generate(server, process, scenario, place)
  local args = { "bench" }
  for word in scenario.args:gmatch "%S+" do
    args[#args + 1] = word
  end
  if not scenario.args:find("--seconds", 1, true) then
    table.move({ "--seconds", options.seconds }, 1, 2, #args + 1, args)
  end
  local subscribe = args[2] == "replay" and server.paths.replay or server.paths.subscribe
  table.move({ "--json", "--port", tostring(place.port), "--pid", tostring(process.pid), "--publish-path",
    server.paths.publish, "--subscribe-path", subscribe }, 1, 9, #args + 1, args)
  local out = assert(uv.fs_open(place.dir .. "/result", "w", 384))
  local err = assert(uv.fs_open(place.dir .. "/said", "w", 384))
  local bench = spawn(1, options.tidegate, args, { nil, out, err })
  uv.fs_close(out)
  uv.fs_close(err)
  local ended, why = wait("the end of the run", 600, function() return bench.code end)
  if not ended then
    stop(bench)
    return nil, why
  end
  local doc = json.decode(read(place.dir .. "/result"))
  return doc, doc and table.concat(doc.problems, "; ") or read(place.dir .. "/said")
end

local function measure(server, scenario)
  local place = {
    dir = assert(uv.fs_mkdtemp((os.getenv "TMPDIR" or "/tmp") .. "/tidegate-bench-XXXXXX")),
    port = free_port(), tidegate = options.tidegate, root = ROOT,
  }
  local log = assert(uv.fs_open(place.dir .. "/log", "w", 384))
  local program, args = server.command(place)
  local process = spawn(0, program, args, { nil, log, log }, place.dir)
  uv.fs_close(log)
  local up, why = wait(server.name .. " listens", 20, function()
    return process.code or listening(place.port)
  end)
  local doc
  if not up or process.code then
    why = ("%s did not start: %s\n%s"):format(server.name, why or "it ended", read(place.dir .. "/log"))
  else
    doc, why = generate(server, process, scenario, place)
  end
  stop(process)
  remove_tree(place.dir)
  return doc, why
end

----------------------------------------------------------------- figures
local function pick(doc, path)
  for key in path:gmatch "[^.]+" do
    doc = type(doc) == "table" and doc[key] or nil
  end
  return type(doc) == "number" and doc or nil
end

local function median(list)
  table.sort(list)
  local n = #list
  return n > 0 and (list[(n + 1) // 2] + list[n // 2 + 1]) / 2 or nil
end

local function text(value)
  if not value then
    return "-"
  elseif value >= 1000 then
    local digits = ("%.0f"):format(value)
    return (digits:reverse():gsub("(%d%d%d)", "%1,"):reverse():gsub("^,", ""))
  end
  return (value >= 100 and "%.0f" or value >= 10 and "%.1f" or "%.2f"):format(value)
end

-- runs[server][round] = document
local function row(scenario, figure, servers, runs)
  local cells, own = { scenario.title, figure[1] }, runs[servers[1].name]
  for i, server in ipairs(servers) do
    local values, ratios = {}, {}
    for round, doc in pairs(runs[server.name]) do
      local value, ours = pick(doc, figure[2]), pick(own[round], figure[2])
      values[#values + 1] = value
      if value and ours and value > 0 then
        ratios[#ratios + 1] = ours / value
      end
    end
    cells[#cells + 1] = text(median(values))
    if i > 1 then
      local ratio = median(ratios)
      local better = ratio and (figure[3] == "more") == (ratio >= 1)
      cells[#cells + 1] = ratio and ("%s%s"):format(text(ratio), better and "" or " (behind)") or "-"
    end
  end
  return "| " .. table.concat(cells, " | ") .. " |"
end

local function header(servers)
  local cells = { "load", "figure", servers[1].name }
  for i = 2, #servers do
    cells[#cells + 1] = servers[i].name
    cells[#cells + 1] = servers[1].name .. " / " .. servers[i].name
  end
  return "| " .. table.concat(cells, " | ") .. " |\n|" .. ("---|"):rep(#cells)
end

local function keep_raw(server, scenario, round, doc)
  if options.raw then
    local f = assert(io.open(options.raw, "a"))
    f:write(json.encode { server = server.name, scenario = scenario.name, round = round, result = doc }, "\n")
    assert(f:close())
  end
end

----------------------------------------------------------------- all of it
local remarks, disturbed, busy, count = {}, {}, 0, 0

local function run_scenario(scenario, servers)
  local runs = {}
  for round = 1, tonumber(options.rounds) do
    for _, server in ipairs(servers) do
      runs[server.name] = runs[server.name] or {}
      io.stderr:write(("bench: %s, round %d: %s\n"):format(scenario.name, round, server.name))
      local doc, why = measure(server, scenario)
      keep_raw(server, scenario, round, doc)
      runs[server.name][round] = doc
      count = count + 1
      disturbed[#disturbed + 1] = doc and pick(doc, "other_cores")
      busy = math.max(busy, doc and pick(doc, "generator_cores") or 0)
      if not doc or not doc.ok then
        remarks[#remarks + 1] = ("%s, %s, round %d: %s"):format(scenario.name, server.name, round, why)
      end
    end
  end
  for _, figure in ipairs(scenario.figures) do
    print(row(scenario, figure, servers, runs))
  end
  io.stdout:flush()
end

read_options()
if not uv.fs_access(options.tidegate, "X") then
  fail("%s is not there: make build, or --tidegate FILE", options.tidegate)
end
options.tidegate = uv.fs_realpath(options.tidegate)
local servers, list = chosen_servers(), chosen_scenarios()
if #list == 0 or #servers == 0 then
  fail("nothing to measure (--list names the scenarios)")
end
print(header(servers))
for _, scenario in ipairs(list) do
  run_scenario(scenario, servers)
end
print(("\nMedians of %s rounds, %d runs; ratios are medians of the ratios within a round. %s, %d cores."):format(
  options.rounds, count, uv.cpu_info()[1].model, cores))
print(("Cores used by others meanwhile: median %s, most %s; by the generator: most %s."):format(
  text(median(disturbed)), text(disturbed[#disturbed]), text(busy)))
for _, remark in ipairs(remarks) do
  print("- " .. remark)
end
os.exit(#remarks == 0 and 0 or 1)
