-- Parser of the broker's log lines: key=value pairs, one space between, values quoted where needed.
local M = {}

local ESCAPES = { n = "\n", ['"'] = '"', ["\\"] = "\\" }

local function unquote(text)
  local out, i = {}, 1
  while i <= #text do
    local c = text:sub(i, i)
    if c ~= "\\" then
      out[#out + 1] = c
      i = i + 1
    else
      local e = text:sub(i + 1, i + 1)
      if e == "x" then
        local hex = text:match("^%x%x", i + 2)
        if not hex then
          return nil
        end
        out[#out + 1] = string.char(tonumber(hex, 16))
        i = i + 4
      elseif ESCAPES[e] then
        out[#out + 1] = ESCAPES[e]
        i = i + 2
      else
        return nil
      end
    end
  end
  return table.concat(out)
end

-- A table of the line's fields (the last of equal names wins), or nil and what is wrong.
function M.parse(line)
  local fields, at = {}, 1
  while true do
    local key, after = line:match("^([%a_][%w_.]*)=()", at)
    if not key then
      return nil, "no key at byte " .. at
    end
    local value, stop
    if line:sub(after, after) == '"' then
      local i = after + 1
      while true do
        local c = line:sub(i, i)
        if c == "" then
          return nil, "unfinished quotes"
        elseif c == "\\" then
          i = i + 2
        elseif c == '"' then
          break
        else
          i = i + 1
        end
      end
      value = unquote(line:sub(after + 1, i - 1))
      if not value then
        return nil, "bad escape in " .. key
      end
      stop = i + 1
    else
      value, stop = line:match('^([^%s"=\\%c]+)()', after)
      if not value then
        return nil, "no value for " .. key
      end
    end
    fields[key] = value
    if stop > #line then
      return fields
    end
    if line:sub(stop, stop) ~= " " then
      return nil, "no space behind " .. key
    end
    at = stop + 1
  end
end

return M
