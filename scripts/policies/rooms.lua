-- Rooms with members: the application's database says who is in which room, and an event says when that has changed.
-- A member who leaves gets nothing of what is said behind that event; one who joins need not reconnect. Of each room a
-- member sees what was said since joining it, also when reading back.
-- A stream has eight tags, so it carries seven rooms: of users who are in more, the first seven by name.
--
--   keys     = { main = { secret = env "JWT_SECRET" } },       -- better: jwks_url, and other algorithms
--   database = { driver = "postgres", conninfo = "..." },      -- the primary: a copy that lags says what was
--
--   CREATE TABLE member (room TEXT, login TEXT, since DOUBLE PRECISION);    -- Unix seconds: when they joined
--   BEGIN;
--   DELETE FROM member WHERE room = '7' AND login = 'ann';
--   INSERT INTO tidegate.outbox (topic, data) VALUES ('member/ann', 'left');
--   COMMIT;

---@type tg.Policy
local P = { api = 1, version = "rooms-2" }

local TOKENS = { keys = "main", alg = { "HS256" }, iss = "https://id.example", aud = "tidegate", leeway = 30 }

P.queries = { rooms_of = "select room, since from member where login = $1 order by room limit 7" }

-- Each room of a stream has a beginning of its own. Other topics have none.
P.filters = {
  since = function(ev, params)
    local since = params[ev.topic]
    return since == nil or ev.time >= since
  end,
}

function P.authenticate(req)
  local claims, err = tg.jwt(req.bearer or req.cookies.access_token, TOKENS)
  if not claims then
    return tg.deny(401, err or "a token was expected")
  end
  -- The name becomes a part of topics, and of a tag, which has 64 bytes.
  if not tg.topic_ok(claims.sub) or #claims.sub > 50 then
    return tg.deny(403, "the token names no user")
  end
  return { sub = claims.sub, expires = claims.exp }
end

local function rooms_of(who)
  return cache.fetch("rooms:" .. who.sub, { ttl = 600, neg_ttl = 600 }, function()
    return db.query("rooms_of", who.sub)
  end)
end

function P.subscribe(_, who)
  local rooms, err = rooms_of(who)
  if not rooms then
    return nil, err -- the database is away: the client reconnects later
  end
  local topics, tags, params = { "user/" .. who.sub }, { "user:" .. who.sub }, {}
  for i, row in ipairs(rooms) do
    topics[i + 1] = tg.topic("room", row.room)
    tags[i + 1] = "room:" .. row.room
    params[topics[i + 1]] = row.since
  end
  return { topics = topics, tags = tags, filter = "since", params = params }
end

function P.publish(pub, who)
  local rooms, err = rooms_of(who)
  if not rooms then
    return nil, err
  end
  for _, row in ipairs(rooms) do
    if pub.topic == "room/" .. row.room then
      return pub
    end
  end
  return tg.deny(403, "not a room of yours") -- nor member/*, nor closed/*: only the application says those
end

P.observe = {
  { topics = { "member/*" }, run = function(ev)
    local login = ev.topic:match "[^/]*$"
    cache.forget("rooms:" .. login) -- before it is asked again
    tg.ask_again("user:" .. login)
  end },
  { topics = { "closed/*" }, run = function(ev)
    tg.end_streams("room:" .. ev.topic:match "[^/]*$", "the room is closed")
  end },
}

return P
