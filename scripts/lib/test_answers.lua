--- What the spec of a policy answers for databases (`db`), other servers (`http`) and sets (`sets`).
local json = require "tidegate.test.native".json

local M = {}

M.down = setmetatable({}, { __name = "t.down" })

-- "'a', 'b' and 3 more"
local function names_of(answers)
  local names, MOST = {}, 5
  for name in pairs(answers) do
    names[#names + 1] = ("'%s'"):format(name)
  end
  table.sort(names)
  local more = #names - MOST
  local text = table.concat(names, ", ", 1, math.min(#names, MOST))
  return #names == 0 and "nothing" or more > 0 and ("%s and %d more"):format(text, more) or text
end

--- What the policy's db.query() and http.get() get, and what is in its sets: JSON of a value, or nil and an error.
function M.responder(options)
  return function(kind, name, arguments)
    kind = kind == "set" and "sets" or kind
    local answers = options[kind]
    if answers == nil then
      return nil, ("the spec gives no %s: t.policy(file, { %s = { ... } })"):format(kind, kind)
    end
    local answer = answers == M.down and M.down or answers[name]
    if answer == nil then
      return nil, ("the spec's %s has no '%s', but %s"):format(kind, name, names_of(answers))
    elseif answer == M.down then
      return nil, kind .. " is down"
    end
    local value, err = answer, nil
    if type(answer) == "function" then
      local list = json.decode(arguments)
      for i = 1, #list do
        if list[i] == json.null then
          list[i] = nil
        end
      end
      value, err = answer(table.unpack(list, 1, #json.decode(arguments)))
    end
    if value == nil then
      return nil, err or "no answer"
    end
    return json.encode(value)
  end
end

local ANSWERS = { sets = "set", db = "query", http = "target" }

--- Raises where `options` answer for a set or query that the policy does not have, or a target that the configuration
--- does not have beside others: nothing would ever ask it. `what` goes before the text.
function M.check(bench, options, what, level)
  for option, kind in pairs(ANSWERS) do
    for name in pairs(options[option] ~= M.down and options[option] or {}) do
      local known, err = bench:knows(kind, name)
      if not known then
        error(("%s%s: %s"):format(what, option, err), level + 1)
      end
    end
  end
end

--- `sets`, and of `before` those that it does not name.
function M.with_sets(before, sets)
  if sets == nil or sets == M.down or before == M.down then
    return sets or before
  end
  local all = {}
  for _, from in ipairs { before or {}, sets } do
    for name, values in pairs(from) do
      all[name] = values
    end
  end
  return all
end

--- The names of targets, sorted; false: all are down.
function M.targets(http)
  local names = {}
  for name in pairs(http ~= M.down and http or {}) do
    names[#names + 1] = name
  end
  table.sort(names)
  return http ~= M.down and names
end

return M
