--- What is right of a table of settings that has problems, for tools that look at the rest of it: helper of schema.lua.
--- Defaults stand for settings that are wrong; wrong entries of maps and arrays, and wrong items of lists, are left
--- out.
---   local rest = salvage(leaves, result, { bad, normal, label_of })
---     leaves            as of schema.leaves();  result: what check_section() made of the table, with holes
---     bad               set of the labels of problems
---     normal(field, v)  the checked form of a default
---     label_of(path, name)    of an entry of a map
---   rest.result         complete, as without problems
---   rest.follows(path, text)  does that problem only follow from those that are known?
---   rest.drop(labels)         leaves out the entries with these labels, too

-- Is one of `labels` that of `path`, or of something below it?
local function is_bad(labels, path)
  for label in pairs(labels) do
    if label:sub(1, #path) == path and (#label == #path or label:find("^[.[]", #path + 1)) then
      return true
    end
  end
  return false
end

-- The items of a list that has holes, in order; and whether it has none.
local function compact(list)
  local n, kept = 0, {}
  for i in pairs(list) do
    n = math.max(n, i)
  end
  for i = 1, n do
    kept[#kept + 1] = list[i]
  end
  return kept, #kept == n
end

-- Has the entry of a map or array all that it must have? A value made of a variable that is not set is missing.
local function is_whole(fields, entry)
  for _, field in ipairs(fields) do
    local value = entry[field.name]
    if value == nil or type(value) == "table" and not select(2, compact(value)) then
      return false
    end
    for _, inner in ipairs(field.fields and value or {}) do
      if not is_whole(field.fields, inner) then
        return false
      end
    end
  end
  return true
end

return function(leaves, result, host)
  local rest = { result = {} }

  local function good_entries(leaf, entries, labels)
    local kept = {}
    for i, item in pairs(entries) do
      local label = leaf.field.kind == "map" and host.label_of(leaf.path, item.name) or ("%s[%d]"):format(leaf.path, i)
      kept[i] = not is_bad(labels, label) and is_whole(leaf.field.fields, item) and item or nil
    end
    return (compact(kept))
  end

  -- A text without a default is empty: there is nothing that could be meant.
  local function stand_in(field)
    local value = field.salvage
    if value == nil then
      value = field.default
    end
    if value == nil then
      return field.kind == "text" and "" or {}
    end
    return host.normal(field, value)
  end

  function rest.drop(labels)
    for _, leaf in ipairs(leaves) do
      if leaf.field.fields then
        rest.result[leaf.path] = good_entries(leaf, rest.result[leaf.path], labels)
      end
    end
  end

  function rest.follows(path, text)
    for label in pairs(host.bad) do
      local known = label:match "^[%w_.]+" or label
      if text:find(known, 1, true) or path:match "^[%w_]+" == known:match "^[%w_]+" then
        return true
      end
    end
    return false
  end

  for _, leaf in ipairs(leaves) do
    local value = result[leaf.path]
    if value == nil then
      value = stand_in(leaf.field)
    elseif leaf.field.fields then
      value = good_entries(leaf, value, host.bad)
    elseif type(value) == "table" then
      value = compact(value)
    end
    rest.result[leaf.path] = value
  end
  return rest
end
