--- The reference of all settings as Markdown, from the schema.
local schema = require "schema"

local UNITS = { { 1 << 30, "GiB" }, { 1 << 20, "MiB" }, { 1 << 10, "KiB" } }

local function readable_bytes(n)
  for _, unit in ipairs(UNITS) do
    if n >= unit[1] and n % unit[1] == 0 then
      return (" (%d %s)"):format(n // unit[1], unit[2])
    end
  end
  return ""
end

local function default_text(field)
  local default = field.default
  if field.required then
    return "required"
  elseif default == nil then
    return "`{}`"
  elseif type(default) == "table" then
    local items = {}
    for i, item in ipairs(default) do
      items[i] = '"' .. item .. '"'
    end
    return #items == 0 and "`{}`" or "`{ " .. table.concat(items, ", ") .. " }`"
  elseif type(default) == "string" then
    return '`"' .. default .. '"`'
  end
  local text = "`" .. tostring(default) .. "`"
  return field.unit == "bytes" and text .. readable_bytes(default) or text
end

local function add_table(out, prefix, fields)
  out[#out + 1] = "| key | value | default | meaning |"
  out[#out + 1] = "|---|---|---|---|"
  for _, field in ipairs(fields) do
    if not field.fields or field.kind == "array" then
      local row = ("| `%s%s` | %s | %s | %s |"):format(prefix, field.name, schema.expect(field):gsub("|", "\\|"),
        default_text(field), field.doc)
      out[#out + 1] = row
    end
  end
  out[#out + 1] = ""
end

local add_sections

local function add_section(out, title, prefix, field)
  out[#out + 1] = "### `" .. title .. "`"
  out[#out + 1] = ""
  out[#out + 1] = field.doc
  out[#out + 1] = ""
  add_table(out, prefix, field.fields)
  add_sections(out, prefix, field.fields)
end

-- The sections and maps among `fields`.
function add_sections(out, prefix, fields)
  for _, field in ipairs(fields) do
    local path = prefix .. field.name
    if field.kind == "section" then
      add_section(out, path, path .. ".", field)
    elseif field.kind == "map" then
      add_section(out, path .. " = { NAME = { ... }, ... }", path .. ".NAME.", field)
    elseif field.kind == "array" then
      add_section(out, path .. " = { { ... }, ... }", path .. "[N].", field)
    end
  end
end

return function(spec)
  local out = { "## Configuration reference", "", spec.doc, "" }
  add_table(out, "", spec.fields)
  add_sections(out, "", spec.fields)
  return table.concat(out, "\n")
end
