--- For `tidegate check`: what costs more than it has to, with the figures of spec/bench/POLICY_RESULTS.md (2 cores).
---   costs.filter(text, line) -> text of a filter that does what the Lua function of that line does, or nil
---   costs.params(grants, text) -> messages: of subscriptions that the policy gave to samples
---   costs.unsteady(before, after) -> message, or nil: of params for one request
local dump = require "tidegate.dump"
local json = require "tidegate.test.native".json

local costs = {}

local BUILT_IN = { raw = true, json = true, cloudevents = true } -- formats

-- functions --------------------------------------------------------------------------------------

local MOVE, GETFIELD, JMP, LFALSESKIP, LOADTRUE, RETURN0, RETURN1 = 0, 14, 56, 6, 7, 71, 72
local EQ, LT, LE, EQK, EQI, GEI = 57, 58, 59, 60, 61, 65
local SIGNS = { [EQ] = "==", [LT] = "<", [LE] = "<=", [EQK] = "==", [EQI] = "==", [62] = "<", [63] = "<=", [64] = ">",
  [GEI] = ">=" }
local FIELDS = { topic = true, type = true, key = true, id = true, time = true }

-- Names that texts, as Lua, want in brackets.
local WORDS = {}
for word in ("and break do else elseif end false for function goto if in local nil not or repeat return then true "
  .. "until while"):gmatch "%l+" do
  WORDS[word] = true
end

-- "ev.attrs.x" in the words of a text, or nil.
local function operand(value)
  local attr, param, field = value:match "^ev%.attrs%.([%a_][%w_]*)$", value:match "^params%.([%a_][%w_]*)$",
    value:match "^ev%.(%l+)$"
  if attr then
    return WORDS[attr] and ('attrs["%s"]'):format(attr) or "attrs." .. attr
  end
  return param and "$" .. param or FIELDS[field] and field or nil
end

-- Of a function whose only statement returns comparisons, joined by `and`; nil: of any other. It is run here with names
-- in place of values: jumps of a conjunction lead to its end.
local function conjunction(f)
  local n = #f.code
  if f.parameters > 2 or f.vararg or #f.upvalues > 0 or n < 6 then
    return nil
  end
  local function op(pc)
    return f.code[pc] & 0x7f
  end
  if op(n) ~= RETURN0 or op(n - 1) ~= RETURN1 or op(n - 2) ~= LOADTRUE or op(n - 3) ~= LFALSESKIP then
    return nil
  end
  local registers, parts, by_value = { [0] = "ev", [1] = "params" }, {}, false
  local pc = 1
  while pc < n - 3 do
    local word = f.code[pc]
    local code, a, k, b, c = word & 0x7f, word >> 7 & 0xff, word >> 15 & 1, word >> 16 & 0xff, word >> 24
    if code == GETFIELD and registers[b] and f.constants[c + 1] then
      registers[a] = registers[b] .. "." .. f.constants[c + 1]
    elseif code == MOVE then
      registers[a] = registers[b]
    elseif SIGNS[code] and op(pc + 1) == JMP then
      local target = pc + 2 + (f.code[pc + 1] >> 7) - 16777215
      local last = pc + 2 == n - 3
      local left, right = operand(registers[a] or ""), code < EQK and operand(registers[b] or "")
      if code == EQK and f.constants[b + 1] and not f.constants[b + 1]:find "[^%w%-_./: ]" then
        right = "'" .. f.constants[b + 1] .. "'"
      elseif code >= EQI then
        right = tostring(b - 127)
      end
      if not left or not right or k ~= (last and 1 or 0) or target ~= (last and n - 2 or n - 3) then
        return nil
      end
      local both = left .. right
      by_value = by_value or code == EQ and both:find "attrs[.[]" and both:find("$", 1, true)
        or (code == EQK or code == EQI) and left:find "^attrs[.[]"
      parts[#parts + 1] = left .. " " .. SIGNS[code] .. " " .. right
      pc = pc + 1
    else
      return nil
    end
    pc = pc + 1
  end
  return by_value and #parts > 0 and table.concat(parts, " and ") or nil
end

local function at_line(f, line, found)
  for _, inner in ipairs(f.functions) do
    if inner.line == line then
      found[#found + 1] = inner
    end
    at_line(inner, line, found)
  end
  return found
end

--- Nil, too, where several functions begin in that line.
function costs.filter(text, line)
  local file = dump.read(text)
  local found = file and at_line(file, line, {}) or {}
  return #found == 1 and conjunction(found[1]) or nil
end

costs.FILTER_HINT = "as a text it takes 65 to 270 ns for each event and audience instead of 280 ns to 2.8 us, and is "
  .. "found by the value:\n    of 10,000 audiences those that want an event are found in 0.3 us, the function is asked "
  .. "for all of them in 2 to 14 ms.\n    A text is false where a field is missing, and params must have what it names"

-- params -----------------------------------------------------------------------------------------

local SAMPLES = 4 -- fewer say nothing

local function key(value)
  if type(value) ~= "table" then
    return json.encode(value)
  end
  local names, parts = {}, {}
  for name in pairs(value) do
    names[#names + 1] = name
  end
  table.sort(names, function(a, b) return tostring(a) < tostring(b) end)
  for i, name in ipairs(names) do
    parts[i] = tostring(name) .. "=" .. key(value[name])
  end
  return "{" .. table.concat(parts, ",") .. "}"
end

-- Names of params that are different in each of the grants, sorted.
local function different(grants)
  local values, out = {}, {}
  for _, grant in ipairs(grants) do
    for name, value in pairs(grant.params or {}) do
      values[name] = values[name] or {}
      values[name][key(value)] = true
    end
  end
  for name, seen in pairs(values) do
    local n = 0
    for _ in pairs(seen) do
      n = n + 1
    end
    out[#out + 1] = n == #grants and name or nil
  end
  table.sort(out)
  return out
end

--- grants: of granted samples, { topics, filter, format, params, request (a text) }. `text`: names of filters that are
--- text, which are found by a value. A list of what is to be said.
function costs.params(grants, text)
  local groups, order, found = {}, {}, {}
  for _, grant in ipairs(grants) do
    local of = key { grant.topics, grant.filter or false, grant.format or false }
    groups[of] = groups[of] or {}
    order[#order + 1] = #groups[of] == 0 and of or nil
    table.insert(groups[of], grant)
  end
  for _, of in ipairs(order) do
    local group, requests, n = groups[of], {}, 0
    local names = different(group)
    for _, grant in ipairs(group) do
      n = n + (requests[grant.request] and 0 or 1)
      requests[grant.request] = true
    end
    local first = group[1]
    local formatted = first.format and not BUILT_IN[first.format]
    if n >= SAMPLES and n == #group and #names > 0 and not (text[first.filter] and not formatted) then
      found[#found + 1] = ("subscribe gives other params to each of %d samples with equal topics, filter and format "
        .. "(%s differ%s): each client is an audience of its own"):format(n, table.concat(names, ", "),
        #names == 1 and "s" or "")
    end
  end
  return found
end

costs.PARAMS_HINT = "filter and format run once for each audience and event: a Lua filter takes 0.3 to 2.8 us, a "
  .. "format about 1 us;\n    of 10,000 audiences 2 to 14 ms for an event that few want. Leave out what neither of "
  .. "them reads, round what they read"

--- The same request, asked twice at different times, got these params; nil: equal ones.
function costs.unsteady(before, after)
  local names = different { { params = before }, { params = after } }
  if #names == 0 then
    return nil
  end
  return ("subscribe gives other params for the same request two seconds later (%s differ%s): each client is an "
    .. "audience of its own"):format(table.concat(names, ", "), #names == 1 and "s" or "")
end

return costs
