-- The policy of those loads of spec/bench that are about the newest events of topics: `start=latest` begins with them,
-- `lag=` is how far behind a stream may be before it is sent them.
return {
  api = 1,
  subscribe = function(req)
    local q = req.query
    return { topics = req.topics, filter = "none", start = q.start,
      limits = q.lag and { max_lag = tonumber(q.lag), on_lag = "latest" } or nil }
  end,
  publish = function(pub) return pub end,
}
