-- For trying things out: anybody may read what they ask for, and publish anywhere. Needs
-- `auth = "open"` in the configuration; serve it on this machine only.
---@type tg.Policy
local P = { api = 1, version = "open-1" }

function P.subscribe(req)
  for _, topic in ipairs(req.topics) do
    if not tg.pattern_ok(topic) then
      return tg.deny(400, "topic: a name like a/b, or a pattern like a/* or a/**, was expected")
    end
  end
  if #req.topics > 100 then
    return tg.deny(400, "at most 100 topics")
  end
  return { topics = #req.topics > 0 and req.topics or { "**" } }
end

function P.publish(pub)
  return pub
end

return P
