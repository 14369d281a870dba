-- Strict reader of a body in chunks (RFC 9112, 7.1), as this broker writes them: no extensions, no leading zeros, no
-- trailers, no byte behind the last chunk.
--
--   local body = chunks()
--   local payload = body:feed(bytes)    -- an error where the framing is not right
--   body.complete                       -- the last chunk has come
--   body.sizes                          -- of the chunks so far
local reader = {}
reader.__index = reader

local function size_line(self)
  local line = self.rest:match "^([^\n]*\n)"
  assert(line or #self.rest <= 9, "no end of a chunk's size: " .. self.rest:sub(1, 20))
  if not line then
    assert(self.rest:find "^%x*\r?$", "malformed size of a chunk: " .. self.rest)
    return false
  end
  local digits = line:match "^(%x+)\r\n$" -- HAProxy writes capitals
  assert(digits and (digits == "0" or digits:sub(1, 1) ~= "0"), "malformed size of a chunk: " .. line)
  self.rest = self.rest:sub(#line + 1)
  self.left = tonumber(digits, 16)
  self.last = self.left == 0
  if not self.last then
    self.sizes[#self.sizes + 1] = self.left
  end
  return true
end

local function line_end(self)
  assert(("\r\n"):sub(1, #self.rest) == self.rest:sub(1, 2), "no line end behind a chunk: " .. self.rest:sub(1, 20))
  if #self.rest < 2 then
    return false
  end
  self.rest, self.left = self.rest:sub(3), nil
  self.complete = self.last
  return true
end

function reader:feed(bytes)
  local out = {}
  self.rest = self.rest .. bytes
  while self.rest ~= "" do
    assert(not self.complete, "bytes behind the last chunk: " .. self.rest:sub(1, 20))
    if self.left and self.left > 0 then
      local piece = self.rest:sub(1, self.left)
      out[#out + 1] = piece
      self.left = self.left - #piece
      self.rest = self.rest:sub(#piece + 1)
    elseif not (self.left and line_end or size_line)(self) then
      break
    end
  end
  return table.concat(out)
end

return function()
  return setmetatable({ rest = "", sizes = {}, complete = false }, reader)
end
