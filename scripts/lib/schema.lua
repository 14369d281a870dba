--- Validator of data tables: checks a value against a list of fields, fills in defaults, and reports every problem at
--- once, each as "dotted.path: what was expected, what was found". Pure Lua, no input or output of its own.
---
--- A field is a table: `name`, `kind`, `doc`, and for a leaf `default` or `required = true`, plus per kind:
---   integer   min, max, unit; words = { text = number }: texts that stand for a number
---   boolean
---   text      one of: choices = {...}; pattern + expect; format (a checker given by the caller) + expect.
---             max (bytes, default 4096); off = true: `false` stands for "none"; secret = true: never shown
---   list      of (a text field without name), min, max (items, default 256)
---   section   fields
---   any       salvage: what stands for a value that is wrong, for those who look at the rest (default: the default)
---   map       fields (leaves), of each entry of a table whose keys are names the operator chooses; max (entries,
---             default 64); pattern + expect, of the names (default: letters, digits, _ and -). Absent: no entries
---   values    texts, numbers, true, false, lists of texts and secrets, by names the operator chooses; max (entries).
---             In the result a list of { name =, type = "string" | "integer" | "number" | "boolean" | "list" |
---             "secret" | "secret_file", text = the value, items = of a list }; `parts` are the fields of such an entry
---   array     fields (leaves, lists, arrays), of each entry of a list of tables; min, max (entries, default 64);
---             expect, of an entry; short = name of a field: a text stands for an entry that has only that one.
---             Absent: no entries
--- The result is flat: result["sse.heartbeat_s"] == 15. A map is a list of its entries in the order of their names:
--- result["keys"] == { { name = "main", refresh_s = 300 } }; hence no field of an entry is called `name`. An array is a
--- list of its entries: result["listen"] == { { address = "127.0.0.1:8080" } }.

local salvage = require "schema_salvage"

local schema = {}

local KNOWN_MAX = 200 -- bytes of names of known keys
local PROBLEMS_MAX = 100 -- more than anybody reads; a generated file must not flood the terminal
local SHOWN_MAX = 80 -- bytes of a foreign value in a message
local TEXT_MAX, LIST_MAX, MAP_MAX = 4096, 256, 64
local NAME_PATTERN, NAME_EXPECT, NAME_MAX = "^[%a_][%w_-]*$", "a name of letters, digits, _ and -", 64

--- Optimal string alignment distance: insertions, deletions, substitutions and swaps of neighbours.
function schema.distance(a, b)
  local before, last, row = {}, {}, {}
  for j = 0, #b do
    last[j] = j
  end
  for i = 1, #a do
    row[0] = i
    for j = 1, #b do
      local same = a:byte(i) == b:byte(j)
      row[j] = math.min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (same and 0 or 1))
      if i > 1 and j > 1 and a:byte(i) == b:byte(j - 1) and a:byte(i - 1) == b:byte(j) then
        row[j] = math.min(row[j], before[j - 2] + 1)
      end
    end
    before, last, row = last, row, before
  end
  return last[#b]
end

--- The candidate that `word` was probably meant to be, or nil. Of equally near ones the first wins.
function schema.nearest(word, candidates)
  if #word > 64 then
    return nil
  end
  local best, best_distance = nil, (#word < 4 and 1 or math.max(2, #word // 3)) + 1
  for _, candidate in ipairs(candidates) do
    local d = schema.distance(word:lower(), candidate:lower())
    if d < best_distance and d < #candidate then
      best, best_distance = candidate, d
    end
  end
  return best
end

local function quote(text)
  local shown = text:sub(1, SHOWN_MAX):gsub('[%c"\\\127]', function(c)
    return (c == '"' or c == "\\") and "\\" .. c or ("\\x%02x"):format(c:byte())
  end)
  return '"' .. shown .. '"' .. (#text > SHOWN_MAX and "..." or "")
end

--- Which environment variable's value is inside `text`; the longest value wins. `secrets`: value -> variable name.
local function secret_in(secrets, text)
  local name, size = nil, 0
  for value, variable in pairs(secrets) do
    if #value > size and text:find(value, 1, true) then
      name, size = variable, #value
    end
  end
  return name
end

--- May the name of an entry not appear in a message? One that stands in the file as it is may: many a value of the
--- environment is a word, and no secret.
local function name_is_secret(ctx, name)
  return secret_in(ctx.secrets, name) ~= nil and not ctx.literal(name)
end

--- How a found value appears in a message. A value that came from the environment may be a password: never shown.
local function show(secrets, value)
  local kind = math.type(value) or type(value)
  if kind == "string" or kind == "integer" or kind == "float" then
    local variable = secret_in(secrets, tostring(value))
    if variable then
      return ("a value made of the environment variable %s (not shown)"):format(variable)
    end
    return kind == "string" and quote(value) or tostring(value)
  elseif kind == "nil" then
    return "nothing"
  elseif kind == "boolean" then
    return tostring(value)
  end
  return "a " .. kind
end

--- `text` with every value that came from the environment replaced by the name of its variable. Values of less than
--- four bytes stay: they are no secrets, and may be part of a line number.
function schema.redact(secrets, text)
  local values = {}
  for value in pairs(secrets) do
    if #value >= 4 then
      values[#values + 1] = value
    end
  end
  table.sort(values, function(a, b) -- a value may hold another one
    return #a > #b
  end)
  for _, value in ipairs(values) do
    text = text:gsub(value:gsub("%W", "%%%0"), (("<" .. secrets[value] .. ">"):gsub("%%", "%%%%")))
  end
  return text
end

local function quoted_choices(choices)
  local quoted = {}
  for i, choice in ipairs(choices) do
    quoted[i] = '"' .. choice .. '"'
  end
  local last = table.remove(quoted)
  return #quoted == 0 and last or table.concat(quoted, ", ") .. " or " .. last
end

-- What each kind expects, in words, and whether a value meets it: accept(ctx, field, value) answers the normalised
-- value, or nil with an optional reason to be shown instead of "expected ..., found ...".
local kinds = {
  integer = {
    expect = function(f)
      local text = ("an integer from %d to %d%s"):format(f.min, f.max, f.unit and " (" .. f.unit .. ")" or "")
      for word in pairs(f.words or {}) do
        text = ('%s, or "%s"'):format(text, word)
      end
      return text
    end,
    accept = function(_, f, value)
      if f.words and f.words[value] then
        return f.words[value]
      end
      local n = type(value) == "number" and math.tointeger(value)
      return n and n >= f.min and n <= f.max and n or nil
    end,
  },
  boolean = {
    expect = function()
      return "true or false"
    end,
    accept = function(_, _, value)
      if type(value) == "boolean" then
        return value
      end
    end,
  },
  text = {
    expect = function(f)
      local words = f.choices and quoted_choices(f.choices) or f.expect or "a text"
      return f.off and words .. ", or false" or words
    end,
    accept = function(ctx, f, value)
      if value == false and f.off then
        return false
      elseif type(value) ~= "string" or value == "" or #value > (f.max or TEXT_MAX) or value:find("%c") then
        return nil
      elseif f.choices then
        for _, choice in ipairs(f.choices) do
          if value == choice then
            return value
          end
        end
        return nil
      elseif f.pattern and not value:find(f.pattern) then
        return nil
      elseif f.format then
        local ok, reason = ctx.formats[f.format](value)
        if not ok then
          return nil, reason
        end
      end
      return value
    end,
  },
}

--- What a leaf expects, in words: "an integer from 1 to 3600 (seconds)".
function schema.expect(field)
  if field.kind == "list" then
    return ("a list of %d to %d texts, each %s"):format(field.min or 0, field.max or LIST_MAX, schema.expect(field.of))
  elseif field.kind == "map" then
    return ("a table of at most %d entries NAME = { ... }"):format(field.max or MAP_MAX)
  elseif field.kind == "values" then
    return ("a table of at most %d entries NAME = VALUE"):format(field.max)
  elseif field.kind == "array" then
    return ("a list of %d to %d, each %s"):format(field.min or 0, field.max or MAP_MAX, field.expect or "{ ... }")
  end
  return kinds[field.kind].expect(field)
end

local function add_problem(ctx, label, text)
  ctx.count = ctx.count + 1
  ctx.bad[label] = true
  if ctx.count <= PROBLEMS_MAX then
    local at = ctx.options[label] and "" or ctx.locate(label)
    ctx.problems[#ctx.problems + 1] = ("%s%s: %s"):format(at, label, text)
  end
end

-- A value holding a variable that is missing has been complained about already.
local function is_placeholder(ctx, value, label)
  local missing = type(value) == "string" and secret_in(ctx.missing, value) ~= nil
  ctx.bad[label] = ctx.bad[label] or missing or nil
  return missing
end

local function check_scalar(ctx, field, value, label)
  if is_placeholder(ctx, value, label) then
    if field.secret then
      ctx.missing_secret(secret_in(ctx.missing, value))
    end
    return nil
  end
  local normal, reason = kinds[field.kind].accept(ctx, field, value)
  if normal ~= nil then
    return normal
  end
  if reason and not secret_in(ctx.secrets, value) then
    add_problem(ctx, label, reason)
    return nil
  end
  local found = field.secret and type(value) == "string" and "a text (not shown)" or show(ctx.secrets, value)
  local text = ("expected %s, found %s"):format(schema.expect(field), found)
  local near = field.choices
    and type(value) == "string"
    and not secret_in(ctx.secrets, value)
    and schema.nearest(value, field.choices)
  add_problem(ctx, label, near and ('%s; did you mean "%s"?'):format(text, near) or text)
  return nil
end

local function by_text(a, b)
  return tostring(a) < tostring(b)
end

-- The length of a list that is one, of a length that is allowed; else complains.
local function check_length(ctx, field, value, label, most)
  local expected = "expected " .. schema.expect(field) .. ", found "
  if type(value) ~= "table" then
    if not is_placeholder(ctx, value, label) then
      add_problem(ctx, label, expected .. show(ctx.secrets, value))
    end
    return nil
  end
  local n, min, max = #value, field.min or 0, field.max or most
  if n < min or n > max then
    add_problem(ctx, label, ("%s%d"):format(expected, n))
    return nil
  end
  local wrong -- the first by its text, so that the same file has the same problem each time
  for key in pairs(value) do
    if (math.type(key) ~= "integer" or key < 1 or key > n) and (wrong == nil or by_text(key, wrong)) then
      wrong = key
    end
  end
  if wrong ~= nil then
    add_problem(ctx, label, expected .. "the key " .. show(ctx.secrets, wrong))
    return nil
  end
  return n
end

local function label_of_item(ctx, label, i)
  return ctx.options[label] and label or ("%s[%d]"):format(label, i)
end

local function check_list(ctx, field, value, label)
  local n = check_length(ctx, field, value, label, LIST_MAX)
  local normal = n and {}
  for i = 1, n or 0 do
    normal[i] = check_scalar(ctx, field.of, value[i], label_of_item(ctx, label, i))
  end
  return normal
end

local check_section

-- How a key is written after a prefix: prefix.name, or prefix["any text"].
local function label_of(prefix, key)
  local plain = key:find("^[%w_-]+$") and #key <= SHOWN_MAX
  return plain and prefix .. "." .. key or prefix .. "[" .. quote(key) .. "]"
end

local function check_map(ctx, field, value, label)
  if type(value) ~= "table" then
    if not is_placeholder(ctx, value, label) then
      add_problem(ctx, label, ("expected %s, found %s"):format(schema.expect(field), show(ctx.secrets, value)))
    end
    return nil
  end
  local names = {}
  for name in pairs(value) do
    names[#names + 1] = name
  end
  if #names > (field.max or MAP_MAX) then
    add_problem(ctx, label, ("expected %s, found %d"):format(schema.expect(field), #names))
    return nil
  end
  table.sort(names, by_text)
  local entries = {}
  for i, name in ipairs(names) do
    local good = type(name) == "string" and #name <= NAME_MAX and name:find(field.pattern or NAME_PATTERN)
    if not good or name_is_secret(ctx, name) then
      add_problem(ctx, label, ("expected %s for each entry, found the key %s"):format(field.expect or NAME_EXPECT,
        show(ctx.secrets, name)))
    elseif type(value[name]) ~= "table" then
      if not is_placeholder(ctx, value[name], label_of(label, name)) then
        local found = show(ctx.secrets, value[name])
        add_problem(ctx, label_of(label, name), "expected a table of settings, found " .. found)
      end
    else
      entries[i] = { name = name }
      check_section(ctx, field.fields, value[name], label_of(label, name) .. ".", entries[i])
    end
  end
  return entries
end

local function field_of(fields, name)
  for _, field in ipairs(fields) do
    if field.name == name then
      return field
    end
  end
end

local function check_array(ctx, field, value, label)
  local n = check_length(ctx, field, value, label, MAP_MAX)
  local entries = n and {}
  for i = 1, n or 0 do
    local item, item_label, entry = value[i], label_of_item(ctx, label, i), {}
    entries[i] = entry
    if type(item) == "table" then
      check_section(ctx, field.fields, item, item_label .. ".", entry)
    elseif field.short then
      check_section(ctx, field.fields, { [field.short] = false }, item_label .. ".", entry, field.short)
      entry[field.short] = check_scalar(ctx, field_of(field.fields, field.short), item, item_label)
    elseif not is_placeholder(ctx, item, item_label) then
      add_problem(ctx, item_label, "expected a table of settings, found " .. show(ctx.secrets, item))
    end
  end
  return entries
end

-- A value that the operator chose, as an entry of the result; nil: it is none that may stand there.
local function value_entry(ctx, name, value)
  local entry = { name = name, type = math.type(value) or type(value), text = "", items = {} }
  local mark = ctx.marks[value]
  if mark then
    entry.type, entry.text = mark.type, mark.text
  elseif entry.type == "table" then
    local n = 0
    for _, item in pairs(value) do
      n = n + 1
      local text = value[n]
      if type(item) ~= "string" or type(text) ~= "string" or #text > TEXT_MAX or text:find "%z" or n > LIST_MAX then
        return nil
      end
      entry.items[n] = text
    end
    entry.type = "list"
  elseif entry.type == "float" then
    entry.type, entry.text = "number", ("%.17g"):format(value)
    return value == value and math.abs(value) < math.huge and entry or nil
  elseif entry.type == "integer" or entry.type == "boolean" then
    entry.text = tostring(value)
  elseif entry.type == "string" then
    entry.text = value
    return #value <= TEXT_MAX and not value:find "%z" and entry or nil
  else
    return nil
  end
  return entry
end

-- `override`: words "name=value" of the command line, beside what the file has.
local function check_values(ctx, field, given, path, override)
  if type(given) ~= "table" or ctx.marks[given] then
    if not is_placeholder(ctx, given, path) then
      add_problem(ctx, path, ("expected %s, found %s"):format(schema.expect(field), show(ctx.secrets, given)))
    end
    return nil
  end
  local all, names, entries = {}, {}, {}
  for name, value in pairs(given) do
    all[name] = value
  end
  for _, word in ipairs(override and override.value or {}) do
    local name, value = word:match "^([%a_][%w_]*)=(.*)$"
    if not name then
      add_problem(ctx, override.option, "expected NAME=VALUE, found " .. quote(word))
    else
      all[name] = value
    end
  end
  for name in pairs(all) do
    names[#names + 1] = name
  end
  if #names > field.max then
    add_problem(ctx, path, ("expected %s, found %d"):format(schema.expect(field), #names))
    return nil
  end
  table.sort(names, by_text)
  for _, name in ipairs(names) do
    local good = type(name) == "string" and #name <= NAME_MAX and name:find "^[%a_][%w_]*$"
    local entry = good and not name_is_secret(ctx, name) and value_entry(ctx, name, all[name])
    if entry then
      entries[#entries + 1] = entry
    elseif not good or name_is_secret(ctx, name) then
      add_problem(ctx, path, "expected a name of letters, digits and _ for each entry, found the key "
        .. show(ctx.secrets, name))
    else
      add_problem(ctx, label_of(path, name), ("expected %s, found %s"):format(field.expect,
        show(ctx.secrets, all[name])))
    end
  end
  return entries
end

local checks = { list = check_list, map = check_map, array = check_array, values = check_values }

-- Into result[key], where a flat result is keyed by the path and an entry of a map by the field's name.
local function check_leaf(ctx, field, value, path, result, key)
  local override = ctx.overrides[path]
  local label = path
  if field.kind == "values" then
    result[key] = check_values(ctx, field, value == nil and {} or value, path, override)
    return
  end
  if override then
    label, value = override.option, override.value
    if field.kind == "integer" and type(value) == "string" and value:find("^%d+$") then
      value = math.tointeger(value) -- the command line has only text
    end
    ctx.labels[path] = label
  end
  if value == nil then
    if field.required then
      add_problem(ctx, label, "is required: expected " .. schema.expect(field))
      return
    end
    value = field.default
  end
  if (field.kind == "map" or field.kind == "array") and value == nil then
    value = {}
  end
  result[key] = (checks[field.kind] or check_scalar)(ctx, field, value, label)
end

-- Where else a key of that name is known: a setting put into the wrong section.
local function find_elsewhere(fields, name, prefix)
  for _, field in ipairs(fields) do
    if field.fields then
      local inner = prefix .. field.name .. (({ map = ".NAME.", array = "[N]." })[field.kind] or ".")
      local found = find_elsewhere(field.fields, name, inner)
      if found then
        return found
      end
    elseif field.name == name then
      return prefix .. name
    end
  end
end

local function report_unknown(ctx, fields, key, prefix, in_entry)
  if ctx.count >= PROBLEMS_MAX then
    ctx.count = ctx.count + 1 -- will not be shown: a guess for each of a million keys would take minutes
    return
  end
  if type(key) ~= "string" then
    add_problem(ctx, prefix == "" and "top level" or prefix:sub(1, -2),
      "expected named keys only, found the key " .. show(ctx.secrets, key))
    return
  end
  local variable = secret_in(ctx.secrets, key)
  if variable then
    add_problem(ctx, prefix .. "?", "unknown key, " .. show(ctx.secrets, key))
    return
  end
  local names = {}
  for i, field in ipairs(fields) do
    names[i] = field.name
  end
  local elsewhere, nearest = find_elsewhere(ctx.fields, key, ""), schema.nearest(key, names)
  local near = in_entry and nearest or elsewhere or nearest -- the names of entries' fields are short and common
  local shown = key:find("^[%w_]+$") and #key <= SHOWN_MAX and key or "[" .. quote(key) .. "]"
  local known, moved = table.concat(names, ", "), not in_entry and ctx.elsewhere(key)
  add_problem(ctx, prefix .. shown, moved and "unknown key; " .. moved
    or near and ('unknown key; did you mean "%s"?'):format(near)
    or #known <= KNOWN_MAX and "unknown key; known here: " .. known
    or "unknown key; `tidegate config-reference` lists the known ones")
end

-- `entry`: the table to fill, of an entry of a map or array; else the results go into the flat one. `skip`: name of a
-- field that the caller checks itself.
function check_section(ctx, fields, value, prefix, entry, skip)
  local known = {}
  for _, field in ipairs(fields) do
    local path, found = prefix .. field.name, value[field.name]
    known[field.name] = true
    if field.kind ~= "section" then
      if field.name ~= skip then
        check_leaf(ctx, field, found, path, entry or ctx.result, entry and field.name or path)
      end
    elseif found == nil or type(found) == "table" then
      check_section(ctx, field.fields, found or {}, path .. ".")
    else
      add_problem(ctx, path, "expected a table of settings, found " .. show(ctx.secrets, found))
    end
  end
  local unknown = {}
  for key in pairs(value) do
    if not known[key] then
      unknown[#unknown + 1] = key
    end
  end
  table.sort(unknown, by_text)
  for _, key in ipairs(unknown) do
    report_unknown(ctx, fields, key, prefix, entry ~= nil)
  end
end

-- The checked form of a default.
local function normal(ctx, field, value)
  local quiet = setmetatable({ problems = {}, bad = {}, count = 0 }, { __index = ctx })
  local out = (checks[field.kind] or check_scalar)(quiet, field, value, "")
  return out == nil and value or out
end

local function apply_rules(ctx, rules, result, report)
  rules(result, {
    formats = ctx.formats,
    report = report,
    show = function(v)
      return show(ctx.secrets, v)
    end,
  })
end

-- What is right of the settings, of which some are wrong; and what contradicts itself in that.
local function rest_of(ctx, rules)
  local rest = salvage(schema.leaves(ctx.fields), ctx.result, {
    bad = ctx.bad,
    normal = function(field, value)
      return normal(ctx, field, value)
    end,
    label_of = label_of,
  })
  local found, labels = {}, {}
  apply_rules(ctx, rules, rest.result, function(path, text)
    labels[path] = true
    found[#found + 1] = not rest.follows(path, text) and { path, text } or nil
  end)
  for _, problem in ipairs(found) do -- now: each that was said makes others follow
    add_problem(ctx, ctx.labels[problem[1]] or problem[1], problem[2])
  end
  rest.drop(labels)
  return rest.result
end

--- Checks `value` (a table) against `spec.fields`. `spec.rules(result, tools)` then compares settings with one another
--- (where something was wrong, those that have nothing to do with it): tools.report(path, text) adds a problem,
--- tools.show(value) is how a value may appear in it, tools.formats are the checkers below.
--- `spec.elsewhere(name)`, if given, says about an unknown key what to write instead.
--- `opt`, all optional:
---   formats    name -> function(text): true, or nil and what is wrong in words, as far as known
---   overrides  path -> { option = "--name", value = ... }: replaces the value; messages name the option
---   secrets    text -> environment variable: texts that must not appear in a message
---   literal    function(name): does it stand in the file as it is?
---   missing    text -> environment variable: placeholders of variables that are not set
---   missing_secret  function(variable): a setting that is a secret is made of that one
---   marks      value -> { type =, text = }: a secret that stands in a table of values
---   locate     path -> what a problem of it begins with, such as "FILE:7: "
--- Answers the flat result, or nil, the list of problems, and what is right of the result.
function schema.validate(spec, value, opt)
  opt = opt or {}
  local ctx = {
    fields = spec.fields,
    formats = opt.formats or {},
    overrides = opt.overrides or {},
    secrets = opt.secrets or {},
    literal = opt.literal or function() return false end,
    missing = opt.missing or {},
    missing_secret = opt.missing_secret or function() end,
    marks = opt.marks or {},
    locate = opt.locate or function() return "" end,
    elsewhere = spec.elsewhere or function() end,
    bad = {}, -- labels of problems
    options = {}, -- names of those that are given: they stand in no file
    labels = {},
    problems = {},
    count = 0,
    result = {},
  }
  for _, override in pairs(ctx.overrides) do
    ctx.options[override.option] = true
  end
  check_section(ctx, spec.fields, value, "")
  local rules = spec.rules or function() end
  local right
  if ctx.count > 0 or next(ctx.missing) then
    right = rest_of(ctx, rules)
  else
    apply_rules(ctx, rules, ctx.result, function(path, text)
      add_problem(ctx, ctx.labels[path] or path, text)
    end)
    right = ctx.count > 0 and rest_of(ctx, function() end) or nil
  end
  if ctx.count > PROBLEMS_MAX then
    ctx.problems[#ctx.problems + 1] = ("... and %d more problems"):format(ctx.count - PROBLEMS_MAX)
  end
  if right then
    return nil, ctx.problems, right
  end
  return ctx.result
end

--- All leaves in order: { path = "sse.heartbeat_s", field = ... }. A map is a leaf; its entries' fields are not.
function schema.leaves(fields, prefix, into)
  prefix, into = prefix or "", into or {}
  for _, field in ipairs(fields) do
    if field.kind == "section" then
      schema.leaves(field.fields, prefix .. field.name .. ".", into)
    else
      into[#into + 1] = { path = prefix .. field.name, field = field }
    end
  end
  return into
end

--- What kind each setting is: path -> kind; of the entries of a map or array "keys", "keys.*.refresh_s" -> kind.
function schema.kinds(fields, prefix, into)
  local result = into or {}
  for _, leaf in ipairs(schema.leaves(fields, prefix)) do
    local inner = leaf.field.fields or leaf.field.parts
    result[leaf.path] = leaf.field.parts and "map" or leaf.field.kind
    if inner then
      schema.kinds(inner, leaf.path .. ".*.", result)
    end
  end
  return result
end

return schema
