-- Protection without writing Lua: a token lists what its holder may read and write, the configuration says how.
--
--   policy = { file = "claims.lua", settings = { alg = { "RS256" }, issuer = "https://id.example" } },
--   keys = { main = { jwks_url = "https://id.example/.well-known/jwks.json" } },
--
-- What a token looks like is the setting `shape`:
--   tidegate    { "read": ["news/**", "users/ann/*"], "write": ["users/ann/inbox"] }; the settings read_claim and
--               write_claim name other claims, "app.read" is read inside app
--   mercure     { "mercure": { "subscribe": ["news/{id}"], "publish": ["*"] } }: "*" is everything, "{id}" one segment
--   centrifugo  { "channels": ["news"], "caps": [{ "channels": ["user:*"], "match": "wildcard", "allow": ["sub"] }] }
-- A client that asks for no topics gets all it may read. scripts/policies/README.md has the settings.

local settings = tg.settings {
  shape = { "string", default = "tidegate", one_of = { "tidegate", "mercure", "centrifugo" } },
  read_claim = { "string", default = "read" },
  write_claim = { "string", default = "write" },
  keys = { "string", default = "main" },
  alg = { "list", min = 1 },
  issuer = { "string", optional = true },
  audience = { "list", optional = true, min = 1 },
  need_expiry = { "boolean", default = true },
  cookie = { "string", default = "access_token" },
  param = { "string", default = "access_token" }, -- of the query; policy.credential_params should have it, too
  anonymous = { "list", default = {} }, -- what those may read who show no token; {}: they are denied
  grant_bytes = { "integer", default = 1800, min = 100 }, -- below policy.identity_bytes
}

for i, topic in ipairs(settings.anonymous) do
  if not tg.pattern_ok(topic) then -- else everybody's subscribe would fail, and only when it runs
    error(("policy.settings.anonymous[%d]: a topic like news/eu, or a pattern like news/**, was expected"):format(i), 0)
  end
end

---@type tg.Policy
local P = { api = 1, version = "claims-2" }

-- Begins a grant of all topics that begin with what follows; no topic can hold it.
local PREFIX = "\1"

local function segments(topic)
  local list = {}
  for segment in topic:gmatch "[^/]+" do
    list[#list + 1] = segment
  end
  return list
end

-- Does everything that `asked` matches lie within `granted`?
local function covers(granted, asked)
  if granted:sub(1, 1) == PREFIX then
    return not asked:find("*", 1, true) and #asked >= #granted and asked:sub(1, #granted - 1) == granted:sub(2)
  end
  local g, a = segments(granted), segments(asked)
  for i, segment in ipairs(g) do
    if segment == "**" then
      return #a >= i
    elseif a[i] == nil or a[i] == "**" or segment ~= "*" and segment ~= a[i] then
      return false
    end
  end
  return #a == #g
end

local function covered(grants, asked)
  for _, granted in ipairs(grants) do
    if covers(granted, asked) then
      return true
    end
  end
  return false
end

-- Adds to `grants` the texts of a claim's list; what is no pattern grants nothing.
local function add(grants, list, translate)
  for _, text in ipairs(type(list) == "table" and list or {}) do
    -- a token cannot write PREFIX itself: a channel may have a name of its user's choice
    local granted = type(text) == "string" and text:sub(1, 1) ~= PREFIX and translate(text)
    if granted and (tg.pattern_ok(granted) or granted:sub(1, 1) == PREFIX) then
      grants[#grants + 1] = granted
    end
  end
end

local function as_it_is(text)
  return text
end

local function from_template(text)
  local pattern = text:gsub("%f[^/%z]{[^/{}]+}%f[/%z]", "*")
  return text == "*" and "**" or not text:find("*", 1, true) and not pattern:find "[{}]" and pattern
end

-- "user:*" is every channel that begins with "user:"; a star elsewhere is not understood, nor are regular expressions.
local function from_channel(match)
  return function(text)
    if match == "wildcard" and text == "*" then
      return "**"
    elseif match == "wildcard" and text:find "^[^*]+%*$" then
      return PREFIX .. text:sub(1, -2)
    end
    return (match == nil or match == "" or match == "wildcard") and not text:find("*", 1, true) and text
  end
end

local function claim(claims, name)
  for part in name:gmatch "[^.]+" do
    claims = type(claims) == "table" and claims[part] or nil
  end
  return claims
end

local read_grants = {}

function read_grants.tidegate(claims, read, write)
  add(read, claim(claims, settings.read_claim), as_it_is)
  add(write, claim(claims, settings.write_claim), as_it_is)
end

function read_grants.mercure(claims, read, write)
  add(read, claim(claims, "mercure.subscribe"), from_template)
  add(write, claim(claims, "mercure.publish"), from_template)
end

function read_grants.centrifugo(claims, read, write)
  add(read, claims.channels, from_channel())
  for _, cap in ipairs(type(claims.caps) == "table" and claims.caps or {}) do
    for _, right in ipairs(type(cap) == "table" and type(cap.allow) == "table" and cap.allow or {}) do
      local grants = right == "sub" and read or right == "pub" and write
      if grants then
        add(grants, cap.channels, from_channel(cap.match))
      end
    end
  end
end

local JWT = {
  keys = settings.keys, alg = settings.alg, iss = settings.issuer, aud = settings.audience,
}
if not settings.need_expiry then
  JWT.exp = false -- one without an expiry will do
end

function P.authenticate(req)
  local token = req.bearer or req.cookies[settings.cookie] or req.query[settings.param]
  if not token and #settings.anonymous > 0 then
    return { read = json.encode(settings.anonymous), write = "[]" }
  end
  local claims, err = tg.jwt(token, JWT)
  if not claims then
    return tg.deny(401, err or "a token was expected")
  end
  local read, write = json.array {}, json.array {}
  read_grants[settings.shape](claims, read, write)
  local who = {
    sub = type(claims.sub) == "string" and claims.sub or nil, expires = claims.exp,
    read = json.encode(read), write = json.encode(write), -- an identity holds no tables
  }
  if #who.read + #who.write + #(who.sub or "") > settings.grant_bytes then
    return tg.deny(403, "the token grants more single topics than the broker keeps: use patterns")
  end
  return who
end

function P.subscribe(req, who)
  local grants, topics = json.decode(who.read), {}
  for _, topic in ipairs(#req.topics > 0 and req.topics or grants) do
    if #req.topics > 0 and not tg.pattern_ok(topic) then
      return tg.deny(400, "topic: a name like orders/eu, or a pattern like orders/**, was expected")
    elseif #req.topics > 0 and not covered(grants, topic) then
      return tg.deny(403, "not yours to read: " .. topic)
    elseif topic:sub(1, 1) ~= PREFIX then
      topics[#topics + 1] = topic
    end
  end
  if #topics == 0 then
    return tg.deny(403, #grants > 0 and "say which topics" or "the token grants nothing to read")
  elseif #topics > 100 then
    return tg.deny(400, "at most 100 topics")
  end
  return { topics = topics }
end

function P.publish(pub, who)
  if not covered(json.decode(who.write), pub.topic) then
    return tg.deny(403, "not yours to write: " .. pub.topic)
  end
  return pub
end

return P
