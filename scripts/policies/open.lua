-- For trying things out: anybody may read the topics they name, and publish anywhere. Needs
-- `auth = "open"` in the configuration; serve it on this machine only.
---@type tg.Policy
local P = { api = 1, version = "open-2" }

function P.subscribe(req)
  if #req.topics == 0 then
    return tg.deny(400, "say which topics: ?topic=demo/hello, or ?topic=** for all")
  end
  for _, topic in ipairs(req.topics) do
    if not tg.pattern_ok(topic) then
      return tg.deny(400, "topic: a name like a/b, or a pattern like a/* or a/**, was expected")
    end
  end
  if #req.topics > 100 then
    return tg.deny(400, "at most 100 topics")
  end
  return { topics = req.topics }
end

function P.publish(pub)
  return pub
end

return P
