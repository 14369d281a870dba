--- For `tidegate check`: local variables of a policy's file that a function assigns to before it waits, and reads after
--- the wait. By then the hook of another request may have assigned to them. Nothing of the file is run: this reads
--- what Lua 5.4 compiles it to, in which names are resolved already.
local dump = require "tidegate.dump"

local locals = {}

local MOVES = { GETUPVAL = 9, SETUPVAL = 10, GETTABUP = 11, GETFIELD = 14, CALL = 68, TAILCALL = 69 }
local WAITS = { db = { query = true }, http = { get = true, post = true }, cache = { fetch = true } }

-- Is it a variable of the file?
local function of_file(f, upvalue)
  while f.parent and not upvalue.in_stack do
    upvalue, f = f.parent.upvalues[upvalue.index + 1], f.parent
  end
  return f.parent and not f.parent.parent and upvalue.in_stack
end

local function decode(word)
  return word & 0x7f, word >> 7 & 0xff, word >> 16 & 0xff, word >> 24
end

-- The place of the call of what is in that register, from `pc` on; nil: it is only handed on.
local function call_of(f, pc, register)
  for at = pc, #f.code do
    local op, a = decode(f.code[at])
    if (op == MOVES.CALL or op == MOVES.TAILCALL) and a == register then
      return at
    end
  end
end

-- Places where the function waits; of each variable of the file: where it assigns to it, and reads it.
local function uses(f)
  local waits, sets, gets = {}, {}, {}
  local function note(list, upvalue, pc)
    if of_file(f, upvalue) then
      list[upvalue.name] = list[upvalue.name] or {}
      table.insert(list[upvalue.name], pc)
    end
  end
  for pc, word in ipairs(f.code) do
    local op, a, b, c = decode(word)
    local next_op, next_a, _, next_c = decode(f.code[pc + 1] or 0)
    local upvalue = f.upvalues[b + 1]
    if op == MOVES.SETUPVAL then
      note(sets, upvalue, pc)
    elseif op == MOVES.GETUPVAL or op == MOVES.GETTABUP and upvalue.name ~= "_ENV" then
      note(gets, upvalue, pc)
    elseif op == MOVES.GETTABUP then
      local name, field = f.constants[c + 1], next_op == MOVES.GETFIELD and f.constants[next_c + 1]
      if name == "sleep" then
        waits[#waits + 1] = call_of(f, pc, a)
      elseif WAITS[name] and WAITS[name][field] then
        waits[#waits + 1] = call_of(f, pc + 1, next_a)
      end
    end
  end
  return waits, sets, gets
end

local function last_before(list, pc)
  local found
  for _, at in ipairs(list or {}) do
    found = at < pc and at or found
  end
  return found
end

-- Does what is read at `pc` go straight back, as in `n = n - 1`? That is right, whoever has assigned meanwhile.
local function is_update(sets, pc)
  for _, at in ipairs(sets) do
    if at > pc and at - pc <= 3 then
      return true
    end
  end
  return false
end

local function judge(f, found)
  local waits, sets, gets = uses(f)
  for name, places in pairs(gets) do
    for _, pc in ipairs(places) do
      local wait, set = last_before(waits, pc), last_before(sets[name], pc)
      if wait and set and set < wait and not is_update(sets[name], pc) then
        found[#found + 1] = { name = name, line = f.lines[pc], set = f.lines[set], wait = f.lines[wait] }
        break
      end
    end
  end
  for _, inner in ipairs(f.functions) do
    judge(inner, found)
  end
end

--- Those of a file of that text: a list of { name, line (where it is read), set, wait (lines) }.
function locals.find(text)
  local file, found = dump.read(text), {}
  if file then
    judge(file, found)
  end
  table.sort(found, function(a, b)
    return a.line < b.line or a.line == b.line and a.name < b.name
  end)
  return found
end

return locals
