-- scripts/policies/tenant.lua in a broker: tokens, a database, the cache between them.
local child = require "support.child"
local eventually = require "support.eventually"
local http = require "support.http"
local sse = require "support.sse"
local tidegate = require "support.tidegate"
local tokens = require "support.tokens"

local function shipped()
  local f <close> = assert(io.open(SPEC_SOURCE_DIR .. "/scripts/policies/tenant.lua"))
  return f:read "a"
end

describe("policies/tenant.lua", function()
  local dir = child.directory()
  local path = dir .. "/app.db"

  local function sql(text)
    local code, _, err = tidegate.run("/usr/bin/sqlite3", { args = { path, text } })
    assert(code == 0, err)
  end

  local broker = tidegate.shared { policy = shipped(), config = {
    keys = { main = { secret = tokens.SECRET } },
    database = { driver = "sqlite", path = path },
    policy = { error_log_interval_s = 0 },
  } }

  setup(function()
    sql [[create table entitlement(tenant text, login text, topic text, role text);
      insert into entitlement values ('acme', 'ann', 'orders/**', 'writer'), ('acme', 'ann', 'news', 'reader'),
        ('acme', 'bob', 'news', 'reader'), ('umbrella', 'ann', '**', 'writer'), ('*', 'eve', '**', 'writer'),
        ('a:1:b', 'eve', '**', 'writer')]]
  end)

  teardown(function()
    child.remove_tree(dir)
  end)

  local function token(sub, tenant, more)
    local claims = { iss = "https://id.example", aud = "tidegate", sub = sub, tenant = tenant, exp = os.time() + 600 }
    for k, v in pairs(more or {}) do
      claims[k] = v or nil
    end
    return tokens.sign("HS256", more and more.secret or tokens.SECRET, claims)
  end

  local function bearer(...)
    return { Authorization = "Bearer " .. token(...) }
  end

  local function status(headers, topic)
    return sse.request(broker(), { headers = headers, topic = topic }).status
  end

  local function publish(headers, topic, data)
    return http.post(broker(), "/events?topic=" .. topic, data or "x", headers).status
  end

  it("wants a token of the right issuer, for us, and of one tenant", function()
    assert.equal(401, status {})
    assert.equal(401, status { Authorization = "Bearer nonsense" })
    for _, more in ipairs { { secret = ("x"):rep(40) }, { iss = "https://evil.example" }, { aud = "billing" },
      { exp = os.time() - 60 }, { exp = false } } do
      assert.equal(401, status(bearer("ann", "acme", more)))
    end
    for _, more in ipairs { { tenant = false }, { tenant = "*" }, { tenant = "acme/x" }, { tenant = "" },
      { tenant = 5 }, { sub = false }, { sub = 7 } } do
      assert.equal(403, status(bearer("ann", "acme", more)))
    end
    assert.equal(200, status(bearer("ann", "acme")))
    assert.equal(200, status { Cookie = "access_token=" .. token("ann", "acme") })
    assert.equal(200, sse.request(broker(), { query = { access_token = token("ann", "acme") } }).status)
  end)

  it("lets read what the database says, below the own tenant", function()
    local ann = bearer("ann", "acme")
    for topic, expected in pairs { ["news"] = 200, ["orders/eu"] = 200, ["orders/**"] = 200, ["orders/*"] = 200,
      ["orders/../news"] = 200, ["order"] = 403, ["orders"] = 403, ["**"] = 403, ["*"] = 403, ["news/x"] = 403,
      ["../umbrella/x"] = 403, ["tenant/umbrella/x"] = 403, ["orders//x"] = 400, ["/"] = 400 } do
      assert.equal(expected, status(ann, topic), topic)
    end
    assert.equal(403, status(bearer("bob", "acme"), "orders/eu"))
    assert.equal(403, status(bearer("bob", "umbrella"), "news"))
    assert.equal(403, status(bearer("nobody", "acme")))
    assert.equal(403, status(bearer("b:eve", "a:1")))
    assert.equal(403, status(bearer("x' or '1'='1", "acme")))
  end)

  it("delivers what was granted, and only that", function()
    local everything = sse.open(broker(), { headers = bearer("ann", "acme") })
    local news = sse.open(broker(), { headers = bearer("bob", "acme") })
    local other = sse.open(broker(), { headers = bearer("ann", "umbrella") })
    local acme, umbrella = bearer("ann", "acme"), bearer("ann", "umbrella")
    assert.equal(201, publish(acme, "tenant/acme/orders/eu", "1"))
    assert.equal(403, publish(acme, "tenant/acme/news", "2")) -- a reader of it
    assert.equal(403, publish(acme, "tenant/umbrella/orders/eu", "3"))
    assert.equal(403, publish(bearer("bob", "acme"), "tenant/acme/news", "4"))
    assert.equal(201, publish(umbrella, "tenant/umbrella/news", "5"))
    assert.equal(401, publish({}, "tenant/acme/orders/eu", "6"))
    assert.equal("1", everything:next().data)
    assert.equal("5", other:next().data)
    assert.equal(0, #news.queue)
  end)

  it("keeps the keys of tenants apart", function()
    for _, tenant in ipairs { "acme", "umbrella" } do
      local r = http.post(broker(), ("/events?key=order-1&topic=tenant/%s/orders/eu"):format(tenant), "x",
        bearer("ann", tenant))
      assert.equal(201, r.status)
    end
    local r = http.post(broker(), "/events?topic=tenant/acme/orders/eu&key=" .. ("k"):rep(255), "x",
      bearer("ann", "acme"))
    assert.equal(400, r.status)
  end)

  it("asks the database once a minute for each user", function()
    sql "insert into entitlement values ('acme', 'cleo', 'news', 'reader')"
    local cleo = bearer("cleo", "acme")
    assert.equal(200, status(cleo))
    sql "delete from entitlement where login = 'cleo'"
    for _ = 1, 5 do
      assert.equal(200, status(cleo))
    end
  end)

  it("ends a stream with its token", function()
    local c = sse.open(broker(), { headers = bearer("ann", "acme", { exp = os.time() + 4 }) })
    assert.equal("closed", c:wait_end())
  end)

  it("tells those whom it does not know yet to come back while the database is away", function()
    assert.equal(200, status(bearer("bob", "acme")))
    local uv = require "luv"
    assert(uv.fs_rename(path, path .. ".away"))
    local known = sse.open(broker(), { headers = bearer("bob", "acme") })
    assert.is_truthy(known.start_id)
    local unknown = sse.request(broker(), { headers = bearer("dan", "acme") })
    assert.equal(200, unknown.status)
    assert.equal("closed", unknown:wait_end())
    assert(uv.fs_rename(path .. ".away", path))
    eventually("it says no again", function()
      return status(bearer("dan", "acme")) == 403
    end)
  end)
end)
