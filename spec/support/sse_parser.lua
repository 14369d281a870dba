-- A parser of text/event-stream (WHATWG HTML 9.2.6) that shares nothing with the broker.
--
--   local parser = sse_parser(out, function(ev) ... end)      ev: { type, data, id }
--   parser:feed(bytes)
local BOM = "\xEF\xBB\xBF"
local parser = {}
parser.__index = parser

function parser:field(name, value)
  if name == "data" then
    self.data[#self.data + 1] = value
  elseif name == "event" then
    self.type = value
  elseif name == "id" then
    if not value:find("\0", 1, true) then
      self.id = value
    end
  elseif name == "retry" then
    if value:find("^%d+$") then
      self.out.retry_ms = tonumber(value)
    end
  end
end

function parser:dispatch()
  local block = { lines = self.lines }
  self.out.last_id = self.id
  if #self.data > 0 then
    block.event = {
      type = self.type ~= "" and self.type or "message",
      data = table.concat(self.data, "\n"),
      id = self.id,
    }
  end
  local blocks = self.out.blocks
  blocks[#blocks + 1] = block
  self.data, self.type, self.lines = {}, "", {}
  if block.event then
    self.on_event(block.event)
  end
end

function parser:line(text)
  if text == "" then
    self:dispatch()
    return
  end
  self.lines[#self.lines + 1] = text
  local colon = text:find(":", 1, true)
  if colon == 1 then
    self.out.comments[#self.out.comments + 1] = text:sub(2)
  elseif colon then
    local value = text:sub(colon + 1)
    self:field(text:sub(1, colon - 1), value:sub(1, 1) == " " and value:sub(2) or value)
  else
    self:field(text, "")
  end
end

function parser:feed(bytes)
  local from = 1
  if not self.started then
    bytes = self.held .. bytes
    if #bytes < #BOM and bytes == BOM:sub(1, #bytes) then
      self.held = bytes
      return
    end
    self.started = true
    from = bytes:sub(1, #BOM) == BOM and #BOM + 1 or 1
  end
  if self.after_cr and from <= #bytes then
    self.after_cr = false
    if bytes:byte(from) == 10 then
      from = from + 1
    end
  end
  while from <= #bytes do
    local stop = bytes:find("[\r\n]", from)
    if not stop then
      self.rest[#self.rest + 1] = bytes:sub(from)
      return
    end
    self.rest[#self.rest + 1] = bytes:sub(from, stop - 1)
    local line = table.concat(self.rest)
    self.rest = {}
    from = stop + 1
    if bytes:byte(stop) == 13 then
      if from > #bytes then
        self.after_cr = true
      elseif bytes:byte(from) == 10 then
        from = from + 1
      end
    end
    self:line(line)
  end
end

-- `out`: table that gets last_id, retry_ms, comments, blocks; on_event(ev) is called per dispatch.
return function(out, on_event)
  out.last_id, out.comments, out.blocks = "", {}, {}
  return setmetatable({
    out = out, on_event = on_event,
    rest = {}, after_cr = false, started = false, held = "",
    data = {}, type = "", id = "", lines = {},
  }, parser)
end
