-- Reads the Prometheus text format (0.0.4) strictly: raises where a page breaks one of its rules.
local M = {}

local NAME = "^[%a_:][%w_:]*$"

local function unescape(text, pattern)
  return (text:gsub(pattern, { ["\\\\"] = "\\", ["\\n"] = "\n", ['\\"'] = '"' }))
end

-- 'a="x",b="y"' -> { a = "x", b = "y" }
local function parse_labels(text, line)
  local labels, at = {}, 1
  while at <= #text do
    local name, after = text:match('^([%a_][%w_]*)="()', at)
    assert(name, "bad label in: " .. line)
    assert(labels[name] == nil, "label twice in: " .. line)
    local i = after
    while text:sub(i, i) ~= '"' do
      assert(i <= #text, "label without end in: " .. line)
      if text:sub(i, i) == "\\" then
        assert(text:sub(i + 1, i + 1):find '[\\n"]', "bad escape in: " .. line)
        i = i + 1
      end
      i = i + 1
    end
    labels[name] = unescape(text:sub(after, i - 1), '\\[\\n"]')
    at = i + 1
    if at <= #text then
      assert(text:sub(at, at) == ",", "expected a comma in: " .. line)
      at = at + 1
    end
  end
  return labels
end

local function series_key(name, labels)
  local parts = {}
  for k, v in pairs(labels) do
    parts[#parts + 1] = ("%s=%q"):format(k, v)
  end
  table.sort(parts)
  return name .. "{" .. table.concat(parts, ",") .. "}"
end

local function family_of(name, families)
  local base = name:match "^(.*)_bucket$" or name:match "^(.*)_sum$" or name:match "^(.*)_count$"
  if base and families[base] and families[base].type == "histogram" then
    return base
  end
  return name
end

local function parse_meta(page, line)
  local word, name, rest = line:match "^# (%u+) (%S+) ?(.*)$"
  -- RULE is ours: how the values of several workers become one
  assert(word == "HELP" or word == "TYPE" or word == "RULE" and (rest == "max" or rest == "min"),
    "neither HELP nor TYPE: " .. line)
  assert(name:find(NAME), "bad name: " .. line)
  local family = page.families[name]
  if not family then
    family = { samples = {} }
    page.families[name] = family
    page.order[#page.order + 1] = name
  end
  assert(page.order[#page.order] == name, "lines of " .. name .. " are not together")
  assert(#family.samples == 0, word .. " behind a sample: " .. line)
  local field = word:lower()
  assert(family[field] == nil, word .. " twice: " .. line)
  family[field] = word == "HELP" and unescape(rest, "\\[\\n]") or rest
end

local function parse_sample(page, line)
  local name, labels, value = line:match "^([%a_:][%w_:]*){(.*)} (%S+)$"
  if not name then
    name, value = line:match "^([%a_:][%w_:]*) (%S+)$"
    labels = ""
  end
  assert(name, "not a sample: " .. line)
  local family = family_of(name, page.families)
  assert(page.families[family], "sample without HELP and TYPE: " .. line)
  assert(page.order[#page.order] == family, "lines of " .. family .. " are not together")
  local sample = { name = name, labels = parse_labels(labels, line), value = tonumber(value) }
  assert(sample.value, "not a number: " .. line)
  local key = series_key(name, sample.labels)
  assert(page.values[key] == nil, "series twice: " .. key)
  page.values[key] = sample.value
  table.insert(page.families[family].samples, sample)
end

-- text -> { families = { name -> { help, type, samples } }, values = { series -> number } }; a series without labels
-- is also found by its name alone in `values`.
function M.parse(text)
  assert(text:sub(-1) == "\n", "the last line does not end")
  local page = { families = {}, order = {}, values = {} }
  for line in text:gmatch "([^\n]*)\n" do
    if line:sub(1, 1) == "#" then
      parse_meta(page, line)
    elseif line ~= "" then
      parse_sample(page, line)
    end
  end
  for name, family in pairs(page.families) do
    assert(family.help and family.help ~= "", name .. " has no HELP")
    assert(family.type, name .. " has no TYPE")
    for _, sample in ipairs(family.samples) do
      if not next(sample.labels) then
        page.values[sample.name] = sample.value
      end
    end
  end
  return page
end

M.series_key = series_key

return M
