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
--   --cores shared     nothing is pinned to a core
--   --raw FILE         appends every run as a line of JSON
--   --list             names the scenarios
--
-- With two cores or more servers run on core 0, the generator on core 1.
local json = require "dkjson"
local uv = require "luv"

local harness = dofile((arg[0]:match "^(.*)/[^/]*$" or ".") .. "/harness.lua")
local median, pick, text = harness.median, harness.pick, harness.text

local options = {
  tidegate = harness.root .. "/build/release/tidegate", rounds = "3", seconds = "5",
  only = false, also = false, raw = false, cores = false,
}

-- runs[server][round] = document
local function row(scenario, figure, servers, runs)
  local cells, own = { scenario.title, figure[1] }, runs[servers[1].name]
  for i, server in ipairs(servers) do
    local values, ratios = {}, {}
    for round, doc in pairs(runs[server.name] or {}) do
      local value, ours = pick(doc, figure[2]), pick(own[round], figure[2])
      values[#values + 1] = value
      if value and ours and value > 0 then
        ratios[#ratios + 1] = ours / value
      end
    end
    cells[#cells + 1] = text(median(values))
    if i > 1 then
      local ratio = median(ratios)
      local behind = ratio and (figure[3] == "more" and ratio < 0.98 or figure[3] == "less" and ratio > 1.02)
      cells[#cells + 1] = ratio and text(ratio) .. (behind and " (behind)" or "") or "-"
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
    for _, server in ipairs(scenario.restarts and { servers[1] } or servers) do
      runs[server.name] = runs[server.name] or {}
      io.stderr:write(("bench: %s, round %d: %s\n"):format(scenario.name, round, server.name))
      local doc, why = harness.measure(server, {
        args = scenario.args, seconds = options.seconds, workers = scenario.workers,
        log_events = scenario.log_events,
      }, options.tidegate)
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

local scenarios = dofile(harness.here .. "/scenarios.lua")
local words = harness.read_options(options)
if options.list then
  for _, s in ipairs(scenarios) do
    print(("%-18s %s\n%18s tidegate bench %s"):format(s.name, s.title, "", s.args))
  end
  return
end
harness.shared = options.cores == "shared"
local list, servers = harness.choose(scenarios, words), harness.choose_servers(options)
print(header(servers))
for _, scenario in ipairs(list) do
  run_scenario(scenario, servers)
end
print(("\nMedians of %s rounds, %d runs; ratios are medians of the ratios within a round. %s, %d cores."):format(
  options.rounds, count, uv.cpu_info()[1].model, harness.cores))
print(("Cores used by others meanwhile: median %s, most %s; by the generator: most %s."):format(
  text(median(disturbed)), text(disturbed[#disturbed]), text(busy)))
for _, remark in ipairs(remarks) do
  print("- " .. remark)
end
os.exit(#remarks == 0 and 0 or 1)
