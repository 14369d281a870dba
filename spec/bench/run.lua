-- Measures Tidegate and its peers alternately with `tidegate-bench` and prints Markdown tables of medians, of the
-- ratios of Tidegate to each peer, and of the bars that are set on them. Only such ratios mean something: figures of
-- other days and machines do not compare.
--
--   lua5.4 spec/bench/run.lua [options] [SCENARIO ...]     (none: all of scenarios.lua)
--
--   --tidegate FILE    the release binary (build/release/tidegate); tidegate_limit beside it
--   --rounds N         (3) every server once a round
--   --seconds S        (3) of each run, where the scenario does not say otherwise
--   --only A,B         these servers
--   --also FILE        more servers, as in servers.lua
--   --cores shared     nothing is pinned to a core
--   --raw FILE         appends every run as a line of JSON
--   --record FILE      puts the tables into it, between its lines `<!-- run -->` and `<!-- end of run -->`
--   --list             names the scenarios
--
-- With two cores or more servers run on core 0, the generator on core 1. `make bench-record` is the whole record:
-- this, scale.lua and fifty_thousand.lua, some 20 minutes on a machine that does nothing else.
local json = require "dkjson"
local uv = require "luv"

local harness = dofile((arg[0]:match "^(.*)/[^/]*$" or ".") .. "/harness.lua")
local median, pick, text, print = harness.median, harness.pick, harness.text, harness.print

local options = {
  tidegate = harness.root .. "/build/release/tidegate", rounds = "3", seconds = "3",
  only = false, also = false, raw = false, cores = false, record = false,
}

----------------------------------------------------------------- runs
local remarks, disturbed, busy, count = {}, {}, 0, 0

local function keep_raw(name, scenario, round, doc)
  if options.raw then
    local f = assert(io.open(options.raw, "a"))
    f:write(json.encode { server = name, scenario = scenario.name, round = round, result = doc }, "\n")
    assert(f:close())
  end
end

local function run_once(scenario, round, server, name, work)
  io.stderr:write(("bench: %s, round %d: %s\n"):format(scenario.name, round, name))
  harness.shared = (scenario.cores or options.cores) == "shared"
  local doc, why = harness.measure(server, work, options.tidegate)
  keep_raw(name, scenario, round, doc)
  count = count + 1
  disturbed[#disturbed + 1] = doc and pick(doc, "other_cores")
  busy = math.max(busy, doc and pick(doc, "generator_cores") or 0)
  if not doc or not doc.ok then
    remarks[#remarks + 1] = ("%s, %s, round %d: %s"):format(scenario.name, name, round, why)
  end
  return doc
end

-- Who takes part: { name, server, work }, the first is what the others are held against.
local function contenders(scenario, servers)
  local list = {}
  local function add(name, server, change)
    local work = { seconds = options.seconds }
    for k, v in pairs(scenario) do work[k] = v end
    for k, v in pairs(change or {}) do work[k] = v end
    list[#list + 1] = { name = name, server = server, work = work }
  end
  if scenario.own or scenario.beside then
    add("tidegate", servers[1])
    if scenario.beside then
      add("beside", servers[1], scenario.beside)
    end
    return list
  end
  for _, server in ipairs(servers) do
    if (server.paths.replay or not scenario.history) and not (server.plain_only and scenario.tls)
      and not (server.tls_only and not scenario.tls) then
      add(server.name, server)
    end
  end
  return list
end

-- runs[name][round] = document
local function run_scenario(scenario, servers)
  local runs, list = {}, contenders(scenario, servers)
  for round = 1, scenario.rounds or tonumber(options.rounds) do
    for _, c in ipairs(list) do
      runs[c.name] = runs[c.name] or {}
      runs[c.name][round] = run_once(scenario, round, c.server, c.name, c.work)
    end
  end
  return runs
end

----------------------------------------------------------------- figures
local function values(runs, name, path)
  local list = {}
  for _, doc in pairs(runs[name] or {}) do
    list[#list + 1] = pick(doc, path)
  end
  return list
end

-- Of the first to another within each round, sorted.
local function ratios(runs, first, name, path)
  local list = {}
  for round, doc in pairs(runs[name] or {}) do
    local value, ours = pick(doc, path), pick((runs[first] or {})[round], path)
    if value and ours and value > 0 then
      list[#list + 1] = ours / value
    end
  end
  table.sort(list)
  return list
end

local function rows(scenario, runs, names)
  for _, figure in ipairs(scenario.figures) do
    local cells = { scenario.title, figure[1], text(median(values(runs, names[1], figure[2]))) }
    for i = 2, #names do
      if names[i] == "beside" then
        cells[#cells + 1] = scenario.beside and scenario.beside.title or "-"
      end
      cells[#cells + 1] = text(median(values(runs, names[i], figure[2])))
      cells[#cells + 1] = text(median(ratios(runs, names[1], names[i], figure[2])))
    end
    print("| " .. table.concat(cells, " | ") .. " |")
  end
end

-- What the server and the generator had of a core each: near 1 is the one that was waited for.
local function cores(runs, name)
  return text(median(values(runs, name, "server.cores"))) .. " / "
    .. text(median(values(runs, name, "generator_cores")))
end

local function bar_rows(scenario, runs, names)
  for _, figure in ipairs(scenario.figures) do
    for _, bar in ipairs(figure[4]) do
      local other, goal, more = bar[1], bar[2], figure[3] == "more"
      local list = other == "itself" and values(runs, names[1], figure[2]) or ratios(runs, names[1], other, figure[2])
      local got = median(list)
      if got then
        local met = more and got >= goal or not more and got <= goal
        local of = other == "itself" and "" or " of " .. (other == "beside" and scenario.beside.title or other)
        print(("| %s | %s: %s %s%s | %s (%s to %s) | %s | %s |"):format(scenario.title, figure[1],
          more and "at least" or "at most", other == "itself" and text(goal) or ("%g x"):format(goal), of, text(got),
          text(list[1]), text(list[#list]), met and "met" or "**not met**", cores(runs, names[1])))
      end
    end
  end
end

----------------------------------------------------------------- what a durable publish waits for at least
local function fsync_cost()
  local path = (os.getenv "TMPDIR" or "/tmp") .. "/tidegate-bench-fsync"
  local fd, block, times = assert(uv.fs_open(path, "w", 384)), ("x"):rep(4096), {}
  for i = 1, 500 do
    assert(uv.fs_write(fd, block))
    local start = uv.hrtime()
    assert(uv.fs_fdatasync(fd))
    times[i] = (uv.hrtime() - start) / 1e6
  end
  uv.fs_close(fd)
  uv.fs_unlink(path)
  table.sort(times)
  return ("fdatasync() behind 4 KiB appended to a file, where the stores are: p50 %s ms, p99 %s ms (%d of them).")
    :format(text(times[250]), text(times[495]), #times)
end

----------------------------------------------------------------- all of it
local function header(cells)
  print("| " .. table.concat(cells, " | ") .. " |\n|" .. ("---|"):rep(#cells))
end

local scenarios = dofile(harness.here .. "/scenarios.lua")
local words = harness.read_options(options)
if options.list then
  for _, s in ipairs(scenarios) do
    print(("%-18s %s\n%18s tidegate-bench %s"):format(s.name, s.title, "", s.args))
  end
  return
end
local list, servers = harness.choose(scenarios, words), harness.choose_servers(options)
local shared, alone, peers = { names = {} }, { names = { "tidegate", "beside" } }, { "load", "figure", servers[1].name }
for i, server in ipairs(servers) do
  shared.names[i] = server.name
  if i > 1 then
    peers[#peers + 1] = server.name
    peers[#peers + 1] = servers[1].name .. " / " .. server.name
  end
end
for _, s in ipairs(list) do
  table.insert((s.own or s.beside) and alone or shared, s)
end

print(harness.machine())
print(fsync_cost() .. "\n")
local results = {}
for _, part in ipairs { shared, alone } do
  if #part > 0 then
    header(part == shared and peers or { "Tidegate alone", "figure", servers[1].name, "beside it", "figure", "ratio" })
  end
  for _, scenario in ipairs(part) do
    local runs = run_scenario(scenario, servers)
    results[#results + 1] = { scenario, runs, part.names }
    rows(scenario, runs, part.names)
  end
  print ""
end
header { "load", "bar", "got (least to most of the rounds)", "met?", "cores: server / generator" }
for _, result in ipairs(results) do
  bar_rows(table.unpack(result))
end
print(("\nMedians of %s rounds, %d runs of %s s; ratios are medians of the ratios within a round."):format(
  options.rounds, count, options.seconds))
print(("Cores used by others meanwhile: median %s, most %s; by the generator: most %s."):format(
  text(median(disturbed)), text(disturbed[#disturbed]), text(busy)))
for _, remark in ipairs(remarks) do
  print("- " .. remark)
end
if options.record then
  harness.record(options.record, "run")
end
os.exit(#remarks == 0 and 0 or 1)
