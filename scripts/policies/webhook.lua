-- Takes webhooks of other services: verifies who has signed the body, drops what nobody wants, stores once what is
-- sent twice, routes the rest. The services post to /hooks/github (or stripe, shopify) and get 204; the body is the
-- event's data as it came. Everybody may read what happens in the repositories; payments and orders want the readers'
-- secret as a bearer token. With `accounts = true` orders get the account of their customer: ?account=a7.
--
--   http   = { routes = {
--     { path = "/hooks/{service}", publish = "raw", topic = "hooks/{service}", answer = "empty" } } },
--   http_targets = { accounts = { url = "https://accounts.internal/v1" } }, -- GET /customers/42: {"account":"a7"}
--   policy = { file = "webhook.lua", settings = {
--     github = secret(env "GITHUB_SECRET"), stripe = secret(env "STRIPE_SECRET"),
--     shopify = secret(env "SHOPIFY_SECRET"), readers = secret(env "READERS_SECRET") } }
local settings = tg.settings { github = "secret", stripe = "secret", shopify = "secret", readers = "secret",
  accounts = { "boolean", default = false } }
local P = { api = 1, version = "webhook-3" }
local STRIPE_S = 300 -- how old a timestamp may be
local ACCOUNT_S = 600 -- how long an account is remembered

-- Where each of them has its signature. publish sees no headers: they become part of the identity.
local FIELDS = {
  github = "x-hub-signature-256", stripe = "stripe-signature", shopify = "x-shopify-hmac-sha256",
}
-- And what it calls a delivery: the same when it sends that again. Stripe says it in the body.
local DELIVERIES = { github = "x-github-delivery", shopify = "x-shopify-webhook-id" }

function P.authenticate(req)
  if req.method ~= "POST" then
    if req.bearer and not tg.equal(req.bearer, settings.readers) then
      return tg.deny(401, "the token is not that of readers")
    end
    return { sub = "reader", trusted = req.bearer ~= nil }
  end
  local service = req.params.service or (req.topics[1] or ""):match "^hooks/(%l+)$"
  local signature = service and FIELDS[service] and req.headers[FIELDS[service]]
  if not signature then
    return tg.deny(401, "a path like /hooks/github, and that service's signature, were expected")
  elseif #signature > 1000 then
    return tg.deny(400, "the signature is too long")
  end
  local delivery = DELIVERIES[service] and req.headers[DELIVERIES[service]]
  return { sub = service, signature = signature, kind = (req.headers["x-github-event"] or ""):sub(1, 100),
    delivery = delivery and delivery:sub(1, 100) }
end

P.filters = { account = "attrs.account == $account" }

function P.subscribe(req, who)
  local account = who.trusted and req.query.account
  if account and #account > 100 then
    return tg.deny(400, "account: is too long")
  end
  return {
    topics = who.trusted and { "repos/**", "payments/**", "shop/**" } or { "repos/**" },
    filter = account and "account" or "none",
    params = account and { account = account } or nil,
  }
end

-- Is the body the one that was signed? tg.equal takes the same time wherever two texts differ.
local signed = {}

function signed.github(raw, signature)
  return tg.equal(signature, "sha256=" .. tg.hmac(settings.github, raw))
end

function signed.shopify(raw, signature)
  return tg.equal(signature, tg.hmac(settings.shopify, raw, { as = "base64" }))
end

-- t=1492774577,v1=5257a869...: signed with the time, so that nobody sends an old one again
function signed.stripe(raw, signature)
  local time = signature:match "t=(%d+)"
  if not time or math.abs(os.time() - tonumber(time)) > STRIPE_S then
    return false
  end
  local expected, good = tg.hmac(settings.stripe, time .. "." .. raw), false
  for mac in signature:gmatch "v1=(%x+)" do -- several while a secret is replaced
    good = tg.equal(mac, expected) or good
  end
  return good
end

-- A member that is a text or an integer, as a text. Nothing else has a text that means something, JSON's null neither.
local function text(object, name)
  local value = type(object) == "table" and object[name]
  return (type(value) == "string" or math.type(value) == "integer") and tostring(value) or nil
end

-- What becomes of an event whose signature is good: one publication, several, or none.
local route = {}

function route.github(pub, who, hook)
  if who.kind ~= "push" and who.kind ~= "release" then
    return tg.drop("only pushes and releases are wanted")
  end
  local owner, name = (text(hook.repository, "full_name") or ""):match "^([%w._-]+)/([%w._-]+)$"
  if not owner then
    return tg.deny(422, "repository.full_name: OWNER/NAME was expected")
  end
  pub.topic, pub.type = tg.topic("repos", owner, name), who.kind
  return pub
end

function route.stripe(pub, _, hook)
  local id, kind = text(hook, "id"), text(hook, "type")
  if not id or not kind then
    return tg.deny(422, "id and type: texts were expected")
  end
  pub.topic, pub.type = "payments/events", kind
  pub.key = "stripe:" .. id -- sent twice, stored once
  return pub
end

-- "" where nobody knows the customer; nil and why where it cannot be told now.
local function account_of(customer)
  return cache.fetch("account:" .. customer, ACCOUNT_S, function()
    local res, err = http.get("accounts", { path = { "customers", customer } })
    if not res or res.status ~= 200 and res.status ~= 404 then
      return nil, err or "accounts: " .. res.status
    end
    return res.status == 200 and text(res.json, "account") or ""
  end)
end

function route.shopify(pub, _, hook)
  local customer, attrs = text(hook.customer, "id"), {}
  if not customer then
    return { topic = "shop/orders", raw = pub.raw, key = pub.key }
  end
  if settings.accounts then
    local account, err = account_of(customer)
    if not account then
      return nil, err -- 503: it is sent again
    end
    attrs.account = account ~= "" and account or nil
  end
  return {
    { topic = "shop/orders", raw = pub.raw, key = pub.key, attrs = attrs },
    { topic = tg.topic("shop", "customers", customer), raw = pub.raw, key = pub.key, attrs = attrs },
  }
end

function P.publish(pub, who)
  if pub.topic ~= "hooks/" .. who.sub or not signed[who.sub](pub.raw, who.signature) then
    return tg.deny(401, "the signature does not fit the body")
  end
  local hook = pub.data -- a text where it is no JSON
  if type(hook) ~= "table" then
    return tg.deny(422, "a JSON object was expected")
  end
  pub.key = who.delivery and who.sub .. ":" .. who.delivery
  return route[who.sub](pub, who, hook)
end

return P
