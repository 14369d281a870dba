-- A Mercure hub: GET /.well-known/mercure?topic=... is a stream, a form that is posted there an update. Protocols 0.x
-- and 1.0. What is different from the original: MERCURE.md.
--
--   http   = { routes = { { path = "/.well-known/mercure", subscribe = true, position_field = "Last-Event-ID",
--                           publish = "form", topic = "mercure", answer = "id", status = 200 } } },
--   policy = { file = "mercure.lua", settings = { alg = { "HS256" } } },
--   keys   = { main = { secret = env "MERCURE_JWT_SECRET" } },
--
-- An update of one topic is an event of mercure/public/SEGMENT or mercure/private/SEGMENT, one of several is of
-- mercure/public/SEGMENT/more, and so on; attrs.t1, t2 ... are its topics. Streams that may not see private updates do
-- not have those topics, so no filter has to keep the two apart.
---@type tg.Policy
local P = { api = 1, version = "mercure-1" }

local settings = tg.settings {
  alg = { "list", min = 1 }, -- the algorithms that tokens may be signed with
  keys = { "string", default = "main" }, -- of subscribers' tokens
  publisher_keys = { "string", optional = true }, -- of publishers' tokens; none: the same
  protocol = { "string", default = "0.x", one_of = { "0.x", "1.0", "both" } },
  anonymous = { "boolean", default = false }, -- true: who shows no token reads public updates
  need_expiry = { "boolean", default = true }, -- false: a token of 0.x without an expiry will do
  issuer = { "string", optional = true },
  audience = { "list", optional = true, min = 1 }, -- 1.0 wants it: the hub's URL
  cookies = { "list", default = { "mercureAuthorization", "__Secure-mercure_access_token" } },
  param = { "string", default = "authorization" }, -- of the query, 0.x only; policy.credential_params must have it
  identity_bytes = { "integer", default = 2048, min = 300 }, -- as policy.identity_bytes
  params_bytes = { "integer", default = 1024, min = 100 }, -- as policy.params_bytes
}

local ROOT, TOPICS_MAX, TOPIC_BYTES, EXACT_MAX = "mercure", 10, 1024, 40
local WILDCARDS_MAX = 40 -- of all that a stream asks for: each update is compared with them
local DETAIL = { ["https://mercure.rocks/authorization-detail"] = true, mercure = true } -- the second: of early drafts
local OLD, NEW = settings.protocol ~= "1.0", settings.protocol ~= "0.x"

if NEW and not settings.audience then
  error("policy.settings.audience: protocol 1.0 wants the URL of the hub here, which tokens must name", 0)
end

-- What a client asks for, and what a token grants: every topic (`*`), topics as they are, URI templates, URL patterns.
local KINDS = { "exact", "template", "pattern" }

local ONE = "one_of(attrs.tN, $X_exact) or fits_template(attrs.tN, $X_template)"
  .. " or fits_url_pattern(attrs.tN, $X_pattern)"

-- The filter text that is true where one of the update's topics is in the selection of that name.
local function selected(name)
  local text
  for i = TOPICS_MAX, 1, -1 do
    local one = ONE:gsub("[NX]", { N = tostring(i), X = name })
    text = text and ("%s or has(attrs.t%d) and (%s)"):format(one, i + 1, text) or one
  end
  return ("($%s_all or %s)"):format(name, text)
end

P.filters = {
  updates = selected "want" .. (" and (starts_with(topic, %q) or "):format(ROOT .. "/public/") .. selected "may" .. ")",
}

local function selection()
  return { all = false, exact = json.array {}, template = json.array {}, pattern = json.array {} }
end

-- Adds one selector. `kind`: "exact" and "pattern" are those of protocol 1.0; "topic" is one of 0.x. False: it is none.
local function select_one(list, kind, text)
  if text == "" or #text > TOPIC_BYTES or text:find "%c" then
    return false
  elseif text == "*" then
    list.all = true
    return true
  elseif kind == "pattern" and not tg.url_pattern_ok(text) then
    return false
  elseif kind == "topic" then
    kind = text:find("{", 1, true) and "template" or "exact"
  end
  list[kind][#list[kind] + 1] = text
  return true
end

local function count(list)
  return #list.exact + #list.template + #list.pattern + (list.all and 1 or 0)
end

local function selects(list, topic)
  if list.all then
    return true
  end
  for _, text in ipairs(list.exact) do
    if text == topic then
      return true
    end
  end
  return tg.fits_template(topic, list.template) or tg.fits_url_pattern(topic, list.pattern)
end

local function jwt_options(publishes, new)
  local options = {
    keys = publishes and settings.publisher_keys or settings.keys, alg = settings.alg, iss = settings.issuer,
    aud = settings.audience, typ = new and "at+jwt" or nil,
  }
  if not new and not settings.need_expiry then
    options.exp = false
  end
  return options
end

-- Where the configuration does not name the keys, the policy does not load; they need not be there yet.
function P.setup()
  tg.jwt(nil, jwt_options(false, NEW))
  tg.jwt(nil, jwt_options(true, NEW))
end

-- Of the claim `mercure` (0.x). What is no selector grants nothing.
local function claimed(list)
  local out = selection()
  for _, text in ipairs(type(list) == "table" and list or {}) do
    if type(text) == "string" then
      select_one(out, "topic", text)
    end
  end
  return out
end

-- Of an object of `topics` (1.0).
local function detail_topic(out, topic)
  if type(topic) ~= "table" or type(topic.match) ~= "string" then
    return false
  end
  local kind = topic.match_type or topic.matchType or "exact" -- the second: of early drafts
  kind = ({ exact = "exact", Exact = "exact", urlpattern = "pattern", URLPattern = "pattern" })[kind]
  return kind ~= nil and select_one(out, kind, topic.match)
end

-- Of the claim `authorization_details` (1.0). nil: one is malformed, so the token is good for nothing.
local function detailed(list, action)
  local out = selection()
  for _, detail in ipairs(list) do
    if type(detail) ~= "table" then
      return nil
    elseif DETAIL[detail.type] then
      local actions, topics, mine = detail.actions, detail.topics, false
      if type(actions) ~= "table" or #actions == 0 or type(topics) ~= "table" or #topics == 0 then
        return nil
      end
      for _, name in ipairs(actions) do
        if name ~= "publish" and name ~= "subscribe" then
          return nil
        end
        mine = mine or name == action
      end
      for _, topic in ipairs(topics) do
        if not detail_topic(mine and out or selection(), topic) then
          return nil
        end
      end
    end
  end
  return out
end

local function token_of(req)
  if req.headers.authorization then
    return req.bearer or "" -- what is in other places must not count then
  end
  local token = OLD and req.query[settings.param] or nil
  for _, name in ipairs(settings.cookies) do
    token = token or req.cookies[name]
  end
  return token
end

-- nil, a denial: the token is not one of a subscriber, or publisher, of this hub.
local function grants_of(token, publishes)
  local claims, err = tg.jwt(token, jwt_options(publishes, false))
  if not claims then
    return tg.deny(401, err)
  end
  local grants, action = selection(), publishes and "publish" or "subscribe"
  if NEW and type(claims.authorization_details) == "table" then
    claims, err = tg.jwt(token, jwt_options(publishes, true))
    if not claims then
      return tg.deny(401, err)
    end
    grants = detailed(claims.authorization_details, action)
    if not grants then
      return tg.deny(401, "authorization_details: malformed, or of a kind that this hub does not know")
    end
  elseif OLD and type(claims.mercure) == "table" then
    grants = claimed(claims.mercure[action])
  end
  return grants, claims
end

function P.authenticate(req)
  local publishes, token = req.method == "POST", token_of(req)
  if not token then
    if publishes or not settings.anonymous then
      return tg.deny(401, "a token was expected")
    end
    return { grants = json.encode(selection()) }
  end
  local grants, claims = grants_of(token, publishes)
  if not grants then
    return nil, claims
  end
  local who = {
    sub = type(claims.sub) == "string" and claims.sub or nil, expires = claims.exp, grants = json.encode(grants),
  }
  if #json.encode(who) > settings.identity_bytes then
    return tg.deny(403, "the token grants more topics than the broker keeps: use templates, or raise identity_bytes")
  end
  return who
end

-- A literal segment for any topic; those that are too long for one become their fingerprint.
local function segment(topic)
  local text = tg.segment(topic)
  return text and #text <= 200 and text or "~" .. tg.hmac(ROOT, topic)
end

-- The kind of selectors that a name in the query stands for; false: of none that there is.
local function kind_of(name)
  if name == "topic" then
    return OLD and "topic" or false
  elseif NEW and name:lower():find "^match" then
    return ({ match = "exact", match_exact = "exact", matchExact = "exact", match_urlpattern = "pattern",
      matchURLPattern = "pattern" })[name] or false
  end
end

-- What the query asks for; nil and why.
local function wanted(query)
  local list, given = selection(), {}
  for name in pairs(query) do
    given[#given + 1] = name
  end
  table.sort(given)
  for _, name in ipairs(given) do
    local kind = kind_of(name)
    if kind == false then
      return nil, "unknown selector: this hub has " .. (NEW and "match, match_exact and match_urlpattern" or "topic")
    end
    for _, text in ipairs(kind and query[name] or {}) do
      if not select_one(list, kind, text) then
        return nil, "a topic was expected, or what selects topics, of at most 1024 bytes without control characters"
      end
    end
  end
  if count(list) == 0 then
    return nil, "topics were expected: " .. (OLD and "topic=" or "match=")
  end
  local _, braces = table.concat(list.template):gsub("{", "")
  local _, names = table.concat(list.pattern, " "):gsub(":[%a_$]", "")
  local _, stars = table.concat(list.pattern):gsub("%*", "")
  if braces + names + stars > WILDCARDS_MAX then
    return nil, "at most 40 expressions, names and stars were expected in all templates and patterns together"
  end
  for _, kind in ipairs(KINDS) do
    table.sort(list[kind]) -- an order of its own would be an audience of its own
  end
  return list
end

-- The broker's topics for what is wanted.
local function topics_of(want, kind, topics)
  local prefix = ROOT .. "/" .. kind
  if count(want) > #want.exact or #want.exact > EXACT_MAX then
    topics[#topics + 1] = prefix .. "/**"
    return
  end
  for _, text in ipairs(want.exact) do
    topics[#topics + 1] = prefix .. "/" .. segment(text)
  end
  topics[#topics + 1] = prefix .. "/*/more"
end

function P.subscribe(req, who)
  if OLD and req.query[settings.param] then -- this hook would not see it
    return tg.deny(400, settings.param .. ": policy.credential_params of the broker does not list it")
  end
  local want, why = wanted(req.query_all)
  if not want then
    return tg.deny(400, why)
  end
  local may, topics, params = json.decode(who.grants), {}, {}
  topics_of(want, "public", topics)
  if count(may) > 0 then
    topics_of(want, "private", topics)
  end
  if want.all and (may.all or count(may) == 0) then
    return { topics = topics, filter = "none" }
  end
  for name, list in pairs { want = want, may = may } do
    params[name .. "_all"] = list.all
    for _, kind in ipairs(KINDS) do
      params[name .. "_" .. kind] = list.all and json.array {} or json.array(list[kind])
    end
  end
  if #json.encode(params) > settings.params_bytes then
    return tg.deny(400, "topics and grants are longer than the broker keeps: ask for less, or raise params_bytes")
  end
  return { topics = topics, filter = "updates", params = params }
end

-- nil: the update is fine.
local function wrong(form, topics)
  local id, type, retry = form.id and form.id[1], form.type and form.type[1], form.retry and form.retry[1]
  if #topics == 0 or #topics > (OLD and TOPICS_MAX or 1) then
    return OLD and "topic: 1 to 10 were expected" or "topic: exactly one was expected"
  elseif id and (id:find "^#" or id:find "[\r\n]") then
    return "id: one line that does not begin with # was expected"
  elseif type and (#type > 255 or type:find "[\r\n]") then
    return "type: one line of at most 255 bytes was expected"
  elseif retry and retry ~= "" and not retry:find "^%d+$" then
    return "retry: digits were expected"
  end
  for _, topic in ipairs(topics) do
    if topic == "" or #topic > TOPIC_BYTES or topic:find "%c" or topic:find "\xc2[\x80-\x9f]" then
      return "topic: 1 to 1024 bytes, without control characters, were expected"
    end
  end
end

-- What hubs publish themselves. Subscribers must not take a forged one for it.
local function reserved(topic)
  local path = topic:gsub("^%a[%w+.-]*:", ""):gsub("^//[^/?#]*", ""):gsub("[?#].*", "")
  return (path .. "/"):find("/.well-known/mercure/", 1, true) == 1
end

function P.publish(pub, who)
  if pub.topic ~= ROOT then
    return tg.deny(404, "updates are published by a form")
  end
  local form, grants = pub.data, json.decode(who.grants)
  local topics, attrs = form.topic or {}, {}
  local bad = wrong(form, topics)
  if bad then
    return tg.deny(400, bad)
  end
  for i, topic in ipairs(topics) do
    if reserved(topic) or not selects(grants, topic) then
      return tg.deny(403, ("topic %d of the update is not yours to publish"):format(i))
    end
    attrs["t" .. i] = topic
  end
  if #json.encode(attrs) > 4096 then
    return tg.deny(413, "the topics together are longer than 4096 bytes")
  end
  local place = ROOT .. (form.private and "/private/" or "/public/") .. segment(topics[1])
  return {
    topic = #topics > 1 and place .. "/more" or place, type = form.type and form.type[1],
    raw = form.data and form.data[1] or "", attrs = attrs, key = pub.key,
  }
end

return P
