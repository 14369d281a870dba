--- What specs have run of policies: lines, and conditions of filter texts. `tidegate test --coverage`.
--- A line counts if Lua can come to one of its instructions; so says the compiled file, not the text of it.
local native, dump = require "tidegate.test.native", require "tidegate.dump"

local coverage = {}

-- executable lines -------------------------------------------------------------------------------

-- Instructions of Lua 5.4 after which the next one is not, or not only, run.
local LFALSESKIP, JMP, TESTS, TESTS_END, RETURN, RETURN1 = 6, 56, 57, 67, 70, 72
local FORLOOP, FORPREP, TFORPREP, TFORLOOP = 73, 74, 75, 77

-- Marks the instructions that are run if those before them are.
local function reachable(code)
  local seen, todo = {}, { 1 }
  local function go(pc)
    if code[pc] and not seen[pc] then
      seen[pc] = true
      todo[#todo + 1] = pc
    end
  end
  seen[1] = true
  while #todo > 0 do
    local pc = table.remove(todo)
    local op, bx = code[pc] & 0x7f, code[pc] >> 15
    if op == JMP then
      go(pc + 1 + (code[pc] >> 7) - 16777215)
    elseif op == LFALSESKIP then
      go(pc + 2)
    elseif op == TFORPREP then
      go(pc + 1 + bx)
    elseif op < RETURN or op > RETURN1 then
      go(pc + 1)
      if op >= TESTS and op <= TESTS_END then
        go(pc + 2)
      elseif op == FORPREP then
        go(pc + 2 + bx)
      elseif op == FORLOOP or op == TFORLOOP then
        go(pc + 1 - bx)
      end
    end
  end
  return seen
end

-- Of one function, and those in it.
local function mark(f, lines)
  local seen = reachable(f.code)
  for pc, line in ipairs(f.lines) do
    if seen[pc] and not (f.vararg and pc == 1) then -- the first takes arguments: no hook sees it
      lines[line] = true
    end
  end
  for _, inner in ipairs(f.functions) do
    mark(inner, lines)
  end
  return lines
end

--- { [line] = true } of those that can be run; nil where it is no Lua.
function coverage.lines(text)
  local file = dump.read(text)
  return file and mark(file, {})
end

-- results ----------------------------------------------------------------------------------------

local function text_of(path)
  local f <close> = io.open(path, "rb")
  return f and f:read "a"
end

local function shown(path)
  local here = os.getenv "PWD"
  return here and path:sub(1, #here + 1) == here .. "/" and path:sub(#here + 2) or path
end

local function line_of(filter, condition)
  local line = math.tointeger(tonumber(filter.where:match ":(%d+)$"))
  return line and line + select(2, filter.text:sub(1, condition.offset):gsub("\n", ""))
end

-- Of raw counts: a list of { path, shown, lines = { { line, count }, ... }, hit, conditions = { { line, filter, text,
-- yes, no }, ... }, outcomes }, sorted by path.
local function files_of(counted)
  local list, by_path = {}, {}
  for _, file in ipairs(counted.files) do
    local text = text_of(file.path)
    local known = text and coverage.lines(text)
    if known then
      local one = { path = file.path, shown = shown(file.path), lines = {}, hit = 0, conditions = {}, outcomes = 0 }
      for line in pairs(known) do
        one.lines[#one.lines + 1] = { line, file.lines[line] or 0 }
        one.hit = one.hit + (file.lines[line] and 1 or 0)
      end
      table.sort(one.lines, function(a, b) return a[1] < b[1] end)
      list[#list + 1], by_path[file.path] = one, one
    end
  end
  for _, filter in ipairs(counted.filters) do
    local one = by_path[filter.path]
    for _, c in ipairs(one and filter.conditions or {}) do
      one.conditions[#one.conditions + 1] = {
        line = line_of(filter, c), filter = filter.name, text = c.text, yes = c.yes, no = c.no,
      }
      one.outcomes = one.outcomes + (c.yes > 0 and 1 or 0) + (c.no > 0 and 1 or 0)
    end
  end
  table.sort(list, function(a, b) return a.path < b.path end)
  return list
end

-- Never shows 100 % of less than all.
local function percent(part, all)
  return all == 0 and 100 or math.floor(part * 1000 / all) / 10
end

-- "3, 7-9": lines that were not run; what cannot be run is no gap.
local function missed(file)
  local parts, from, to = {}, nil, nil
  local function close()
    if from then
      parts[#parts + 1] = from == to and tostring(from) or from .. "-" .. to
      from = nil
    end
  end
  for _, one in ipairs(file.lines) do
    if one[2] == 0 then
      from, to = from or one[1], one[1]
    else
      close()
    end
  end
  close()
  return table.concat(parts, ", ")
end

local function never(c)
  return c.yes + c.no == 0 and "was never looked at" or c.yes == 0 and "was never true"
    or c.no == 0 and "was never false"
end

local function report(files)
  local out, width = {}, 4
  for _, file in ipairs(files) do
    width = math.max(width, #file.shown)
  end
  out[1] = ("%-" .. width .. "s  %s"):format("file", "  lines          outcomes of conditions")
  for _, file in ipairs(files) do
    local conditions = 2 * #file.conditions
    out[#out + 1] = (("%-" .. width .. "s  %5.1f %% of %-5d %s"):format(file.shown, percent(file.hit, #file.lines),
      #file.lines, conditions > 0 and ("%5.1f %% of %d"):format(percent(file.outcomes, conditions), conditions) or "")
      :gsub(" +$", ""))
    local lines = missed(file)
    if lines ~= "" then
      out[#out + 1] = "  not run: " .. lines
    end
    for _, c in ipairs(file.conditions) do
      local what = never(c)
      if what then
        out[#out + 1] = ("  %sfilter '%s': %s %s"):format(c.line and ("line %d, "):format(c.line) or "", c.filter,
          c.text:gsub("%s+", " "), what)
      end
    end
  end
  return table.concat(out, "\n") .. "\n"
end

local function lcov(files)
  local out = {}
  local function add(...)
    out[#out + 1] = (...):format(select(2, ...))
  end
  for _, file in ipairs(files) do
    add "TN:tidegate"
    add("SF:%s", file.path)
    for i, c in ipairs(file.conditions) do
      for branch, count in ipairs { c.yes, c.no } do
        add("BRDA:%d,%d,%d,%s", c.line or 1, i - 1, branch - 1, c.yes + c.no == 0 and "-" or tostring(count))
      end
    end
    add("BRF:%d", 2 * #file.conditions)
    add("BRH:%d", file.outcomes)
    for _, one in ipairs(file.lines) do
      add("DA:%d,%d", one[1], one[2])
    end
    add("LF:%d", #file.lines)
    add("LH:%d", file.hit)
    add "end_of_record"
  end
  return table.concat(out, "\n") .. "\n"
end

-- Each file that is below, with what it lacks.
local function too_little(files, min)
  local out = {}
  for _, file in ipairs(files) do
    local lines, conditions = percent(file.hit, #file.lines), percent(file.outcomes, 2 * #file.conditions)
    local what = {}
    what[#what + 1] = lines < min and ("%.1f %% of lines"):format(lines) or nil
    what[#what + 1] = conditions < min and ("%.1f %% of outcomes of conditions"):format(conditions) or nil
    if #what > 0 then
      out[#out + 1] = ("%s has %s"):format(file.shown, table.concat(what, " and "))
    end
  end
  return out
end

--- At the end of a run: prints the report to `out`, writes the file of lcov. options: lcov (path), min (percent).
--- Answers what is wrong, as texts.
function coverage.finish(options, out)
  native.close_all() -- what is open is not counted yet
  local files, problems = files_of(native.coverage()), {}
  out:write("\n", report(files))
  if options.lcov then
    local f, err = io.open(options.lcov, "wb")
    if not f or not f:write(lcov(files)) or not f:close() then
      problems[1] = ("%s cannot be written: %s"):format(options.lcov, err or "write error")
    end
  end
  if options.min and #files == 0 then
    problems[#problems + 1] = ("no policy was loaded; at least %g %% are wanted of each"):format(options.min)
  end
  for _, text in ipairs(options.min and too_little(files, options.min) or {}) do
    problems[#problems + 1] = ("%s; at least %g %% are wanted"):format(text, options.min)
  end
  return problems
end

return coverage
