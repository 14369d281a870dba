-- A policy of pieces: subscribe and publish as code, filters and formats as a table constructor's content.
return function(parts)
  return ([[
local P = { api = 1, version = %q }
function P.authenticate(req) return { sub = req.query.user or "u" } end
function P.subscribe(req, who) %s end
function P.publish(pub) return pub end
P.filters = { %s }
P.formats = { %s }
%s
return P
]]):format(parts.version or "v", parts.subscribe
      or 'return { topics = req.topics, filter = "none", format = "raw" }', parts.filters or "",
    parts.formats or "", parts.more or "")
end
