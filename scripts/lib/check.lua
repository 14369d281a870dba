--- `tidegate check`: judges what the program has found out about a configuration and its policy, tries the hooks, and
--- says so. Runs in the state of `tidegate test`. The facts (cli_check.c, policy_check.c), as JSON:
---   conf, json, strict, try_hooks, samples_file, samples    what was asked for
---   configuration    its problems, one a line; the rest is about what is right of it then, or missing
---   overridden    { section = bool }: do options say something else than the file;  environment    names of variables
---   policy, files    paths (no policy: it is not known which);  targets    names of http_targets
---   latest    patterns of store.latest;  routes    of each of http.routes: does it publish?
---   settings    what is wrong with some: { error = bool, text = }
---   store       { result = "fine" | "wrong" | "unsure" | "away" | "skipped", text = }: see store_check.h
---   about, load_error, database, luacheck    see policy_check.h
local native, samples = require "tidegate.test.native", require "tidegate.check.samples"
local costs, locals = require "tidegate.check.costs", require "tidegate.check.locals"
local eval, config_lines = require "tidegate.eval", require "tidegate.config.lines"
local json = native.json

local check = {}

local CONFIG, UNAVAILABLE = 78, 69 -- sysexits.h

-- A problem: severity ("error", "warning"), source ("configuration", "store", "policy", "hooks", "samples", "database",
-- "luacheck"), file, line, column, message, hint; all but severity, source, message may be missing.
local function add(report, problem)
  problem.message = problem.message:gsub("%s+$", "")
  local message, hint = problem.message:match "^(.*); (did you mean .*)$"
  if hint and not problem.hint then
    problem.message, problem.hint = message, hint
  end
  local of = problem.severity == "error" and "errors" or "warnings"
  report[of] = report[of] + 1
  report.problems[#report.problems + 1] = problem
end

-- The file that messages call `chunk`: below the policy's directory, or one of policy.path.
local function file_of(policy, chunk, files)
  local own = chunk:sub(1, 1) == "/" and chunk or policy:match "^(.*/)" .. chunk
  local other
  for _, path in ipairs(files or {}) do
    if path == own then
      return own
    end
    other = other or path:sub(-#chunk - 1) == "/" .. chunk and path
  end
  return other or own
end

-- "lib/topics.lua:3:14: what", as messages of Lua and of filter texts begin, in a problem's terms. `files`: all of it.
function check.locate(policy, text, files)
  local chunk, line, column, rest = text:match "^([%w_%-%./]+%.lua):(%d+):(%d+): (.*)$"
  if not chunk then
    chunk, line, rest = text:match "^([%w_%-%./]+%.lua):(%d+): (.*)$"
  end
  if not chunk then
    return { file = policy, message = text }
  end
  return {
    file = file_of(policy, chunk, files),
    line = math.tointeger(line), column = math.tointeger(column), message = rest,
  }
end

local function as(severity, source, problem)
  problem.severity, problem.source = severity, source
  return problem
end

-- Settings that hooks have nothing to do with: they are tried although some of these are wrong.
local APART = {
  listen = true, admin = true, admin_public = true, trusted_proxies = true, workers = true, tls = true, http = true,
  sse = true, compress = true, event_log = true, store = true, drain = true, log = true,
}

-- Remembers in report.needed a setting that is wrong, and that hooks depend on.
local function judge_configuration(facts, report)
  for line in facts.configuration:gmatch "[^\n]+" do
    local prefix, own = facts.conf .. ":", true
    local rest = line:sub(1, #prefix) == prefix and line:sub(#prefix + 1)
    local at, message
    if rest then
      at, message = rest:match "^(%d+): (.*)$"
      message = message or rest:gsub("^ ", "")
    else
      at, message = line:match "^.-%.lua:(%d+): (.*)$" -- Lua shortens long paths
      own = at or not line:find "^%-%-" and not line:find "^TIDEGATE_" -- these are in no file
    end
    message = message or line
    add(report, { severity = "error", source = "configuration", file = own and facts.conf or nil,
      line = math.tointeger(at), message = message })
    local section = message:match "^([%w_]+)[.:%[]"
    if section and not APART[section] then
      report.needed = report.needed or message:match "^[^:]+"
    end
    report.store = report.store or section == "store" and message:match "^[^:]+"
  end
end

-- A problem of a setting, whose text begins with its name.
local function of_setting(facts, severity, text)
  local problem = { severity = severity, source = "configuration", file = facts.conf, message = text }
  local label = text:match "^([%w_.%[%]]+): "
  if label and facts.overridden[label:match "^[%w_]+"] then
    problem.file = nil
  elseif label and #facts.environment == 0 then -- else it need not be what the file says
    local f = io.open(facts.conf)
    facts.line_of = facts.line_of or f and config_lines(f:read "a")
    problem.line = facts.line_of and facts.line_of(label)
    if f then
      f:close()
    end
  end
  return problem
end

local function judge_settings(facts, report)
  for _, found in ipairs(facts.settings or {}) do
    add(report, of_setting(facts, found.error and "error" or "warning", found.text))
  end
  if facts.keys_error then
    add(report, of_setting(facts, "error", facts.keys_error))
  end
end

local function skip_fetched(facts, skip)
  local names = {}
  for _, set in ipairs(facts.keys) do
    names[#names + 1] = set.fetched and "keys." .. set.name or nil
  end
  if #names > 0 then
    skip("keys", ("%s: a jwks_url is fetched by a broker only"):format(table.concat(names, ", ")))
  end
end

local function judge_store(facts, report, skip)
  local store = facts.store
  if report.store then
    skip("store", ("mend %s first"):format(report.store))
  elseif store.result == "skipped" then
    skip("store", "its database is asked with --db only")
  elseif store.result ~= "fine" then
    local problem = of_setting(facts, store.result == "unsure" and "warning" or "error", store.text)
    problem.source = "store"
    if store.result == "unsure" then
      problem.hint = "the user that runs the broker must be able to; run this as that user to be sure"
    end
    add(report, problem)
    report.away = report.away + (store.result == "away" and 1 or 0)
  end
end

local function judge_loading(facts, report)
  local prefix = "policy " .. facts.policy .. ": "
  local text = facts.load_error
  if text:find("is policy.file of the configuration right?", 1, true) then
    add(report, of_setting(facts, "error", "policy.file: " .. text:sub(#prefix + 1)))
  elseif text:sub(1, #prefix) == prefix then
    add(report, as("error", "policy", check.locate(facts.policy, text:sub(#prefix + 1), facts.files)))
  else -- its keys, for instance
    add(report, { severity = "error", source = "configuration", file = facts.conf, message = text })
  end
end

-- Where the policy declares the query, if that can be told.
local function declaration(policy, name)
  local f = io.open(policy)
  local text = f and f:read "a" or ""
  if f then
    f:close()
  end
  local pattern = "%f[%w_]" .. name:gsub("%-", "%%-") .. "%f[^%w_]\"?%]?%s*=%s*[\"'%[]"
  local at = text:find(pattern)
  if at and not text:find(pattern, at + 1) then
    return select(2, text:sub(1, at):gsub("\n", "")) + 1
  end
end

local function judge_database(facts, report)
  for _, refused in ipairs(facts.database.refused) do
    add(report, { severity = "error", source = "database", file = facts.policy,
      line = declaration(facts.policy, refused.query),
      message = ("query '%s': %s"):format(refused.query, refused.message:gsub("\n+", "\n    ")) })
  end
  if facts.database.away ~= json.null then
    add(report, { severity = "error", source = "database", file = facts.conf, message = "the database is away, "
      .. "queries were not prepared: " .. facts.database.away })
    report.away = report.away + 1
  else
    report.prepared = true
  end
end

local function judge_luacheck(facts, report)
  for line in (facts.luacheck.output or ""):gmatch "[^\n]+" do
    local file, at, column, code, message = line:match "^(.-):(%d+):(%d+)%-%d+: %((%u)%d+%) (.*)$"
    if file and (code ~= "E" or not facts.load_error) then -- E: it cannot be read, which loading has said
      add(report, { severity = "warning", source = "luacheck", file = file, line = math.tointeger(at),
        column = math.tointeger(column), message = message })
    end
  end
end

-- showing ----------------------------------------------------------------------------------------

local function shown(problem)
  local at = problem.file or ""
  at = problem.line and at .. ":" .. problem.line or at
  at = problem.column and at .. ":" .. problem.column or at
  local text = ("%s%s: %s"):format(at ~= "" and at .. ": " or "", problem.severity, problem.message)
  if not problem.hint then
    return text
  end
  return text .. (problem.hint:find "^did you mean" and "; " or "\n    ") .. problem.hint
end

local function count(n, what)
  return ("%d %s%s"):format(n, what, n == 1 and "" or "s")
end

local function named(list, detail)
  local out = {}
  for i, item in ipairs(list) do
    local more = detail and detail(item)
    out[i] = more and ("%s (%s)"):format(item.name, more) or item.name or item
  end
  return #out > 0 and table.concat(out, ", ") or "none"
end

local function of_filter(f)
  if f.kind == "lua" then
    return "Lua"
  end
  local reads = table.concat(f.attrs, ", ")
  if #f.data > 0 then
    reads = reads .. (reads ~= "" and ", " or "") .. table.concat(f.data, ", ") .. ": scans the data of each event"
  end
  return reads ~= "" and "text: " .. reads or "text"
end

local function figures(facts, report, out)
  local about = facts.about
  local function line(name, text)
    out[#out + 1] = ("  %-9s %s"):format(name, text)
  end
  if #(facts.environment or {}) > 0 then
    line("settings", "from " .. table.concat(facts.environment, ", "))
  end
  line("version", (about.label ~= json.null and about.label .. ", " or "") .. about.version)
  line("hooks", named(about.hooks))
  line("filters", named(about.filters, of_filter))
  line("formats", named(about.formats, function(f) return f.kind == "lua" and "Lua" or f.kind end))
  line("queries", named(about.queries) .. (report.prepared and #about.queries > 0
    and ": prepared by the database" or ""))
  if #about.sets > 0 then
    line("sets", named(about.sets, function(s) return ("every %d s, stale after %d s"):format(s.every, s.stale) end))
  end
  if #about.observes > 0 then
    line("observes", table.concat(about.observes, ", "))
  end
  if #about.settings > 0 then
    line("declares", named(about.settings, function(s)
      return s.type .. ", " .. (s.from == "none" and "not given" or s.from)
    end))
  end
  if report.tried > 0 then
    line("tried", count(report.tried, "request"))
  end
end

local function skipped(report, out)
  for _, step in ipairs(report.skipped) do
    out[#out + 1] = ("  %-9s %s: %s"):format("skipped", step.step, step.reason)
  end
end

local function for_people(facts, report, failed)
  local out, err = {}, {}
  for _, problem in ipairs(report.problems) do
    err[#err + 1] = shown(problem)
  end
  if failed then
    skipped(report, err)
    err[#err + 1] = ("tidegate: %s: %s, %s"):format(facts.conf, count(report.errors, "error"),
      count(report.warnings, "warning"))
  else
    out[1] = ("ok: %s, policy %s%s"):format(facts.conf, facts.policy,
      report.warnings > 0 and ", " .. count(report.warnings, "warning") or "")
    figures(facts, report, out)
    skipped(report, out)
  end
  local function text(list)
    return #list > 0 and eval.plain(table.concat(list, "\n")) .. "\n" or ""
  end
  return text(out), text(err)
end

local function document(facts, report, failed)
  local about = facts.about
  for _, f in ipairs(about and about.filters or {}) do -- what is empty is a list all the same
    f.attrs, f.data = json.array(f.attrs), json.array(f.data)
  end
  return json.encode {
    ok = not failed, conf = facts.conf, errors = report.errors, warnings = report.warnings, tried = report.tried,
    problems = json.array(report.problems), skipped = json.array(report.skipped),
    policy = facts.policy and {
      file = facts.policy, files = json.array(facts.files),
      label = about and about.label ~= json.null and about.label or nil,
      version = about and about.version, hooks = about and about.hooks, filters = about and about.filters,
      formats = about and about.formats, queries = about and about.queries, sets = about and json.array(about.sets),
      observes = about and json.array(about.observes), settings = about and json.array(about.settings),
    },
  } .. "\n"
end

local function judge_locals(facts, report)
  for _, path in ipairs(facts.files or {}) do
    for _, found in ipairs(locals.find(eval.text_of(path))) do
      add(report, { severity = "warning", source = "policy", file = path, line = found.line,
        message = ("%s is one variable for all requests: it is set in line %d, and read here behind the wait in "
          .. "line %d"):format(found.name, found.set, found.wait),
        hint = "another request may have set it meanwhile: make it a local of the function" })
    end
  end
end

local function judge_filters(facts, report)
  for _, f in ipairs(facts.about.filters) do
    local chunk, line = f.at:match "^(.*):(%d+)$"
    local path = f.kind == "lua" and chunk and file_of(facts.policy, chunk, facts.files)
    local text = path and costs.filter(eval.text_of(path), math.tointeger(line))
    if text then
      add(report, { severity = "warning", source = "policy", file = path, line = math.tointeger(line),
        message = ("filter '%s' is a Lua function that compares, which a text does for a fraction: \"%s\""):format(
          f.name, text), hint = costs.FILTER_HINT })
    end
  end
end

-- What can be said of the files, whether they can be loaded or not.
local function judge_files(facts, report, skip)
  judge_locals(facts, report)
  if facts.luacheck and facts.luacheck.skipped then
    skip("luacheck", facts.luacheck.skipped)
  elseif facts.luacheck then
    judge_luacheck(facts, report)
  end
end

-- Values that are loaded again and again for nobody.
local function judge_sets(facts, report)
  for _, set in ipairs(facts.about.sets) do
    if not set.used then
      add(report, { severity = "warning", source = "policy", file = facts.policy,
        message = ("sets.%s: no filter text asks it"):format(set.name),
        hint = ('it is loaded every %d s all the same: write in_set(..., "%s"), or take it out')
          :format(set.every, set.name) })
    end
  end
end

-- Routes that refuse all that they are there for.
local function judge_routes(facts, report)
  for _, hook in ipairs(facts.about.hooks) do
    if hook == "publish" then
      return
    end
  end
  for i, publishes in ipairs(facts.routes) do
    if publishes then
      add(report, of_setting(facts, "warning",
        ("http.routes[%d]: publishes, and the policy has no hook publish: every POST gets 403"):format(i)))
    end
  end
end

local function judge_policy(facts, report, skip)
  judge_files(facts, report, skip)
  judge_filters(facts, report)
  judge_sets(facts, report)
  judge_routes(facts, report)
  if facts.database and facts.database.skipped then
    skip("database", facts.database.skipped)
  elseif facts.database then
    judge_database(facts, report)
  elseif #facts.about.queries > 0 then
    skip("database", "queries are prepared with --db only")
  end
  if report.needed then
    skip("hooks", ("they depend on settings: mend %s first"):format(report.needed))
    return
  end
  samples.run(facts, {
    add = function(problem) add(report, problem) end,
    worsen = function(problem)
      problem.severity = "error"
      report.warnings, report.errors = report.warnings - 1, report.errors + 1
    end,
    locate = function(at) return check.locate(facts.policy, at, facts.files) end,
    skip = skip,
    tried = function() report.tried = report.tried + 1 end,
  })
end

--- Answers the exit code, and what goes to stdout and to stderr.
function check.run(text)
  local facts = assert(json.decode(text))
  local report = { problems = {}, skipped = {}, errors = 0, warnings = 0, tried = 0, away = 0 }
  local function skip(step, reason)
    report.skipped[#report.skipped + 1] = { step = step, reason = (reason:gsub("%s+", " ")) }
  end
  if facts.configuration then
    judge_configuration(facts, report)
  end
  judge_settings(facts, report)
  if facts.store then
    skip_fetched(facts, skip)
    judge_store(facts, report, skip)
  end
  if not facts.store then
    skip("policy, keys, certificates, store", "nothing is known of them until the configuration file can be run")
  elseif not facts.policy then
    skip("policy", "policy.file does not say where it is")
  elseif facts.load_error and (report.needed or ""):find "^policy%.settings" then
    judge_files(facts, report, skip)
    skip("policy", ("it depends on settings: mend %s first"):format(report.needed))
  elseif facts.load_error then
    judge_loading(facts, report)
    judge_files(facts, report, skip)
    skip("hooks, queries", "the policy cannot be loaded: mend that first")
  else
    judge_policy(facts, report, skip)
  end
  local failed = report.errors > 0 or facts.strict and report.warnings > 0
  local only_away = report.away > 0 and report.errors == report.away and not (facts.strict and report.warnings > 0)
  local code = not failed and 0 or only_away and UNAVAILABLE or CONFIG
  if facts.json then
    return code, document(facts, report, failed), ""
  end
  return code, for_people(facts, report, failed)
end

return check
