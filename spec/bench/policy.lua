-- The policy of those loads of spec/bench that are about policies. The query chooses what a subscriber gets, so that
-- loads with and without a filter or a format can be compared on one policy:
--
--   topic=      as with the open policy
--   audience=   a number of its own: subscribers with equal numbers (and all else equal) are one audience
--   of=         audience % of instead: so many audiences
--   filter=     a name below, or none
--   format=     a name below, or none
--
-- An event of topic `x/RUN-7` gets the attribute n = 7; one of topic `json/...` is wrapped into an order, in JSON.
local P = { api = 1 }

function P.subscribe(req)
  local q = req.query
  local number, of = math.tointeger(tonumber(q.audience)), math.tointeger(tonumber(q.of))
  return {
    topics = req.topics, filter = q.filter or "none", format = q.format or "raw",
    params = number and { n = of and number % of or number, level = 1 } or nil,
  }
end

function P.publish(pub)
  pub.attrs = { n = tonumber(pub.topic:match "%-(%d+)$"), level = 3 }
  if pub.topic:sub(1, 5) == "json/" then
    pub.raw = json.encode {
      body = pub.raw, -- sorted first: `tidegate-bench` looks for its mark at the beginning of a line
      customer = { name = "Ann", card = "4111 1111" }, items = { { sku = "a1", price = 1.5 } }, total = 10,
    }
  end
  return pub
end

P.filters = {
  -- events of one's own number: found by it, compared one by one, by Lua
  index = "attrs.n == $n",
  text = "attrs.n >= $n and attrs.n <= $n",
  lua = function(ev, params) return ev.attrs.n == params.n end,
  -- every event, and yet each audience is asked
  level = function(ev, params) return ev.attrs.level >= params.level end,
}

P.formats = {
  -- the data as they are, the event named after the audience
  label = function(ev, params)
    return { event = "level-" .. params.level, data = ev.raw }
  end,
  -- a few fields of the order, decoded and encoded
  order = function(ev, params)
    local o = ev.data
    return { event = "order", data = { body = o.body, total = o.total, seen_by = params.n } }
  end,
}

return P
