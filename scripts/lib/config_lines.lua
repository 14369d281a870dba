--- On which line of a configuration file a setting stands: the settings themselves, which the file returns, know
--- nothing of lines. Reads the text as far as tables, their keys, and variables that hold tables; what is computed
--- has no line of its own, and gets that of the table around it. Pure Lua.
---   local line_of = config_lines(text)
---   line_of "listen[2].tls" --> 7; of what the file does not have, the line of the table that would hold it; or nil

local TOKENS = { -- the first that matches counts
  { "^%s+", "space" }, { "^%-%-%[(=*)%[", "long", comment = true }, { "^%-%-[^\n]*", "space" },
  { "^%[(=*)%[", "long" }, { "^[%a_][%w_]*", "name" }, { "^%d[%w.]*", "other" }, { "^[=~<>]=", "other" },
  { '^"', "quoted" }, { "^'", "quoted" }, { "^.", "mark" },
}

-- Where a quoted text that begins at `from` ends.
local function end_of_quoted(text, from)
  local quote, at = text:sub(from, from), from + 1
  while at <= #text do
    local c = text:sub(at, at)
    if c == quote then
      return at
    end
    at = at + (c == "\\" and 2 or 1)
  end
  return #text
end

-- An iterator of kind ("name", "text", "mark", "other"), text, line.
local function tokens(text)
  local at, line = 1, 1
  local function next_token()
    for _, token in ipairs(TOKENS) do
      local from, to, level = text:find(token[1], at)
      if from then
        local kind, begun = token[2], line
        if kind == "long" then
          to = select(2, text:find("]" .. level .. "]", to + 1, true)) or #text
          kind = token.comment and "space" or "text"
        elseif kind == "quoted" then
          to, kind = end_of_quoted(text, at), "text"
        end
        local word = text:sub(at, to)
        line = line + select(2, word:gsub("\n", ""))
        at = to + 1
        if kind == "space" then
          return next_token()
        end
        return kind, word, begun
      end
    end
  end
  return next_token
end

-- "a.b" of a name, a["b c"] of another text, a[1] of a number.
local function join(path, key)
  if type(key) == "number" then
    return ("%s[%d]"):format(path, key)
  end
  return key:find "^[%w_-]+$" and path .. "." .. key or ('%s["%s"]'):format(path, key)
end

-- lines: path -> line, where paths begin with "return" or the name of a variable; same: path -> the variable there.
local function read(text)
  local lines, same = {}, {}
  local open = {} -- the tables, brackets and parentheses around: { path = , n = items } of a table that has a path
  local path, line, assigned -- a name, or several with dots between, that may turn out to be assigned to
  local list = {}
  for kind, word, at in tokens(text) do
    list[#list + 1] = { kind, word, at }
  end
  local function at_value(i, target, where)
    local token, after = list[i], list[i + 1]
    lines[target] = lines[target] or where
    if token and token[1] == "name" and not (after and after[1] == "mark" and after[2]:find "[%[(%.:]") then
      same[target] = token[2]
    end
  end
  local i = 1
  while list[i] do
    local kind, word, at = table.unpack(list[i])
    local top = open[#open]
    local follows = list[i + 1] and list[i + 1][2]
    if kind == "mark" and word:find "[{(%[]" then
      if word == "[" and top and top.fresh and list[i + 1][1] == "text" and list[i + 2] and list[i + 2][2] == "]"
        and list[i + 3] and list[i + 3][2] == "=" then -- ["key"] = value
        assigned, top.fresh = join(top.path, list[i + 1][2]:sub(2, -2)), false
        at_value(i + 4, assigned, at)
        i = i + 3
      else
        local inner = word == "{" and (assigned or top and top.fresh and join(top.path, top.n + 1)) or nil
        if inner then
          lines[inner] = lines[inner] or at
        end
        open[#open + 1] = inner and { path = inner, n = 0, fresh = true } or {}
        if top and top.fresh then
          top.n, top.fresh = top.n + 1, false
        end
        assigned = nil
      end
    elseif kind == "mark" and word:find "[})%]]" then
      open[#open], assigned, path = nil, nil, nil
    elseif top and top.path then
      if kind == "mark" and word:find "[,;]" then
        top.fresh, assigned = true, nil
      elseif top.fresh and kind == "name" and follows == "=" then
        assigned, top.fresh = join(top.path, word), false
        at_value(i + 2, assigned, at)
        i = i + 1
      elseif top.fresh then -- an item of a list
        top.n, top.fresh = top.n + 1, false
        at_value(i, join(top.path, top.n), at)
      else
        assigned = nil -- not the value itself, but something that is computed
      end
    elseif #open == 0 then -- a statement
      if word == "return" and kind == "name" then
        assigned, path = "return", nil
        at_value(i + 1, "return", at)
      elseif kind == "name" and path and path:sub(-1) == "." then
        path = path .. word
      elseif kind == "name" then
        path, line, assigned = word, at, nil
      elseif word == "." and path then
        path = path .. "."
      elseif word == "=" and path then
        assigned = path
        at_value(i + 1, path, line)
        path = nil
      else
        path, assigned = nil, nil
      end
    end
    i = i + 1
  end
  return lines, same
end

-- The part of a path before its last key; nil: it has only one.
local function parent(path)
  return path:match '^(.*)%["[^"]*"%]$' or path:match "^(.*)%[%d+%]$" or path:match "^(.*)%.[^.]*$"
end

-- The path as the file writes it, where a variable stands for a table on the way.
local function resolve(path, lines, same)
  for _ = 1, 20 do -- variables may hold one another
    local at, found = path, nil
    while at and not found do
      found = same[at] and lines[same[at]] and at
      at = parent(at)
    end
    if not found then
      break
    end
    path = same[found] .. path:sub(#found + 1)
  end
  return path
end

return function(text)
  local lines, same = read(text)
  return function(label)
    local path = "return." .. label
    while path do
      local line = lines[resolve(path, lines, same)]
      if line then
        return line
      end
      path = parent(path)
    end
  end
end
