-- For specs of `tidegate test` and `tidegate eval`: a policy with a bit of everything, and a run beside it.
local tidegate = require "support.tidegate"

local M = {}

M.policy = [[
local P = { api = 1, queries = { topics_of = "select topic from topics where login = $1" } }
P.filters = { mine = "attrs.owner == $owner" }
P.formats = { short = function(ev) return { data = ev.data.text, event = "short" } end }
function P.authenticate(req)
  if req.bearer == "broken" then error("no such thing") end
  if req.bearer ~= "secret" then return tg.deny(401, "bring the token") end
  return { sub = req.cookies.name or "nobody", at = os.time() }
end
function P.subscribe(req, who)
  if req.topics[1] == "db" then
    local rows, err = db.query("topics_of", who.sub)
    if not rows then return nil, err end
    return { topics = { rows[1].topic }, filter = "none", format = "raw" }
  elseif req.topics[1] == "http" then
    local res, err = http.get("directory", { path = "/" .. who.sub })
    if not res then return nil, err end
    return { topics = { res.body }, filter = "none", format = "raw" }
  elseif req.topics[1] == "loop" then
    while true do end
  end
  return { topics = req.topics, filter = "mine", params = { owner = who.sub }, format = "short" }
end
function P.publish(pub, who)
  if who.sub ~= "writer" then return tg.deny(403, "readers do not write") end
  pub.attrs = { owner = "ann" }
  return pub
end
return P
]]

-- Runs the program with these words in a folder of `files`, of which mine.lua is the policy, if not given. Returns what
-- tidegate.run() does.
function M.run(files, words)
  files["mine.lua"] = files["mine.lua"] or M.policy
  local b = tidegate.prepare { files = files }
  tidegate.forget_later(b)
  return tidegate.run(tidegate.binary(), { args = words, cwd = b.dir })
end

return M
