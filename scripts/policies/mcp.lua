-- The resumable transport of a server of the Model Context Protocol: Streamable HTTP at /mcp, and the older HTTP+SSE
-- at /mcp/sse. Users show a token. The server, a program of yours, shows settings.server at /events: it reads
-- mcp/*/in, and publishes what it says to the topic that attrs.reply names. What is missing: ../MCP.md.
--
--   keys   = { main = { secret = env "JWT_SECRET" } }, -- better: jwks_url, and other algorithms
--   http   = { routes = {
--     { path = "/mcp", subscribe = true, publish = "raw", topic = "mcp", answer = "stream", delete = true },
--     { path = "/mcp/sse", subscribe = true },
--     { path = "/mcp/message", publish = "raw", topic = "mcp", answer = "empty", status = 202 } } },
--   policy = { file = "mcp.lua", settings = { server = secret(env "MCP_KEY"), sessions = secret(env "SESSION_KEY") } },
---@type tg.Policy
local P = { api = 1, version = "mcp-1" }

local settings = tg.settings {
  server = "secret", -- who shows it as a bearer token is the server
  sessions = { "secret", min = 32 }, -- signs the ids of sessions
  session_s = { "integer", default = 86400, min = 60 }, -- how long a session is known
  origins = { "list", default = {} }, -- pages of these may ask; none: no page
}
local TOKENS = { keys = "main", alg = { "HS256" }, iss = "https://id.example", aud = "tidegate", leeway = 30 }
local OLD_STREAM, OLD_POST = "/mcp/sse", "/mcp/message"

P.filters = { answer = "not has(data.method)" } -- the only message of a request's stream that calls nothing
P.formats = { message = { event = "message" } } -- whatever type the server has given it

-- A session is NUMBER-TIME-SIGNATURE: nobody can guess one, and it is good for its user alone, at every broker.
local function sign(number, time, user)
  local signature = tg.hmac(settings.sessions, ("%s-%s-%s"):format(number, time, user))
  return ("%s-%s-%s"):format(number, time, signature:sub(1, 32))
end

local function begun(req, user)
  local number = tg.hmac(settings.sessions, ("new %s %d %d"):format(req.id, os.time(), math.random(0))):sub(1, 20)
  return sign(number, os.time(), user)
end

local function known(session, user)
  local number, time = session:match "^(%x+)%-(%d+)%-%x+$"
  return number ~= nil and #session <= 64 and tg.equal(session, sign(number, time, user))
    and os.time() - tonumber(time) < settings.session_s
end

local function number_of(session)
  return session:match "^%x+"
end

-- Sessions that were ended with DELETE, the newest ones. A restart forgets them; the server should not.
local ended, ended_before, ended_n = {}, {}, 0

P.observe = { { topics = { "mcp/*/in" }, run = function(ev)
  if ev.type == "end" and ev.attrs.session then
    if ended_n >= 10000 then
      ended, ended_before, ended_n = {}, ended, 0
    end
    ended[ev.attrs.session], ended_n = true, ended_n + 1
    tg.end_streams("mcp:" .. ev.attrs.session, "the session has ended")
  end
end } }

local function listed(origin)
  for _, one in ipairs(settings.origins) do
    if one == origin then
      return true
    end
  end
  return false
end

function P.authenticate(req)
  if req.bearer and tg.equal(req.bearer, settings.server) then
    return { server = true }
  end
  local claims, err = tg.jwt(req.bearer, TOKENS)
  if not claims then
    return tg.deny(401, err or "a token was expected")
  elseif type(claims.sub) ~= "string" then
    return tg.deny(403, "the token names no user")
  elseif req.headers.origin and not listed(req.headers.origin) then
    return tg.deny(403, "pages of this origin may not ask")
  end
  local session = req.headers["mcp-session-id"]
  if req.path == OLD_POST then
    session = req.query.session or "none"
  elseif req.path == OLD_STREAM then
    session = req.mark
  end
  local good = session ~= nil and known(session, claims.sub)
  if good and (ended[number_of(session)] or ended_before[number_of(session)])
    or session and not good and req.path ~= OLD_STREAM then
    return tg.deny(404, "the session is unknown, or over: initialize a new one")
  end
  local version = req.headers["mcp-protocol-version"] or ""
  return {
    user = claims.sub, expires = claims.exp, session = good and session or begun(req, claims.sub), new = not good,
    old = req.path == OLD_STREAM or req.path == OLD_POST, over = req.method == "DELETE",
    version = version:find "^%d%d%d%d%-%d%d%-%d%d$" and version or nil,
  }
end

-- What kind of message that is; nil: none.
local function kind_of(m)
  if type(m) ~= "table" or m.jsonrpc ~= "2.0" or m.id == json.null then
    return nil
  elseif m.method ~= nil then
    return type(m.method) == "string" and (m.id ~= nil and "request" or "notification") or nil
  end
  return m.id ~= nil and "response" or nil
end

function P.publish(pub, who)
  if who.server then
    if not pub.topic:find "^mcp/%x+/out/[%w-]+$" then
      return tg.deny(403, "the server publishes to attrs.reply")
    end
    return pub
  elseif pub.topic ~= "mcp" then
    return tg.deny(403, "messages are posted to /mcp")
  end
  local session = number_of(who.session)
  local topic, attrs = "mcp/" .. session .. "/in", { session = session, user = who.user, version = who.version }
  if who.over and not who.new then
    return { topic = topic, type = "end", raw = "", attrs = attrs }
  elseif who.over then
    return tg.deny(400, "Mcp-Session-Id: is missing")
  end
  local m = pub.data
  local kind = kind_of(m)
  if not kind then
    return tg.deny(400, "one JSON-RPC 2.0 message was expected")
  elseif who.new and m.method ~= "initialize" then
    return tg.deny(400, "Mcp-Session-Id: is missing")
  end
  local stream = "session"
  if kind == "request" and not who.old then
    stream = "r-" .. tg.hmac(settings.sessions, session .. json.encode(m.id)):sub(1, 16)
  end
  attrs.reply = ("mcp/%s/out/%s"):format(session, stream)
  return { topic = topic, type = kind, raw = pub.raw, attrs = attrs }
end

function P.subscribe(req, who)
  if who.server then
    return { topics = { "mcp/*/in" }, filter = "none", format = "json" }
  end
  local session, asked = number_of(who.session), req.published
  local grant = {
    filter = "none", format = "message", tags = { "mcp:" .. session },
    -- newer clients want an event of empty data first; older ones would read that as a message
    prime = who.version and who.version >= "2025-11-25" and not who.old and "data" or "event",
  }
  if who.old then
    grant.topics, grant.mark = { "mcp/" .. session .. "/out/*" }, who.session
    grant.first = { { event = "endpoint", data = OLD_POST .. "?session=" .. who.session } }
    return grant
  elseif asked and asked.type ~= "request" then
    return tg.stored(202)
  elseif not asked and who.new then
    return tg.deny(400, "Mcp-Session-Id: is missing")
  end
  grant.mark = asked and asked.attrs.reply:match "[^/]+$" or req.mark or "session"
  grant.topics = { tg.topic("mcp", session, "out", grant.mark) }
  grant.ends = grant.mark ~= "session" and "answer" or nil
  grant.fields = { ["Mcp-Session-Id"] = who.session }
  return grant
end

return P
