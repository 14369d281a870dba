--- What Lua 5.4 compiles a text to (string.dump; lundump.c, lopcodes.h), for tools that say something of files that
--- they do not run: dump.read(text) -> the function of the file | nil: it is no Lua. A function has: parent (nil: the
--- file), line (where it begins), parameters, vararg, code (words), constants (texts, else false), upvalues (a list of
--- { in_stack, index, kind, name }), functions, lines (of each word of code).
local dump = {}

local HEADER_BYTES = 31 -- signature, version, format, data, sizes, an integer, a number

-- A reader of the text of a dump.
local Reader = {}
Reader.__index = Reader

function Reader:byte()
  self.at = self.at + 1
  return self.text:byte(self.at - 1)
end

function Reader:number()
  local n = 0
  repeat
    local b = self:byte()
    n = n << 7 | b & 0x7f
  until b & 0x80 ~= 0
  return n
end

function Reader:string()
  local n = self:number()
  self.at = self.at + (n > 0 and n - 1 or 0)
  return n > 0 and self.text:sub(self.at - n + 1, self.at - 1) or nil
end

function Reader:list(read)
  local list = {}
  for i = 1, self:number() do
    list[i] = read(self)
  end
  return list
end

local function constant(r)
  local kind = r:byte()
  if kind == 0x04 or kind == 0x14 then
    return r:string()
  elseif kind == 0x03 or kind == 0x13 then
    r.at = r.at + 8
  end
  return false
end

local function instruction(r)
  r.at = r.at + 4
  return (("<I4"):unpack(r.text, r.at - 4))
end

local read_function

function read_function(r, parent)
  local f = { parent = parent }
  r:string()
  f.line = r:number()
  r:number()
  f.parameters = r:byte()
  f.vararg = r:byte() ~= 0
  r:byte() -- stack
  f.code, f.constants = r:list(instruction), r:list(constant)
  f.upvalues = r:list(function() return { in_stack = r:byte() == 1, index = r:byte(), kind = r:byte() } end)
  f.functions = r:list(function() return read_function(r, f) end)
  local steps, whole, at = r:list(Reader.byte), {}, f.line
  for _ = 1, r:number() do
    local pc = r:number()
    whole[pc + 1] = r:number()
  end
  f.lines = {}
  for pc, step in ipairs(steps) do
    at = step == 0x80 and whole[pc] or at + (step > 0x7f and step - 0x100 or step)
    f.lines[pc] = at
  end
  r:list(function() r:string() r:number() r:number() end)
  for i, name in ipairs(r:list(function() return r:string() or "" end)) do
    f.upvalues[i].name = name
  end
  return f
end

function dump.read(text)
  local chunk = load(text, "=", "t", {})
  if not chunk then
    return nil
  end
  local bytes = string.dump(chunk)
  assert(bytes:sub(1, 6) == "\27Lua\x54\0", "Lua 5.4 was expected")
  return read_function(setmetatable({ text = bytes, at = HEADER_BYTES + 2 }, Reader))
end

return dump
