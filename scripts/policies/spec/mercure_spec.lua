-- tidegate test scripts/policies/spec
local t = require "tidegate.test"

local HUB, URL = "/.well-known/mercure", "https://hub.example/.well-known/mercure"
local ROUTE = { path = HUB, subscribe = true, position_field = "Last-Event-ID", publish = "form", topic = "mercure",
  answer = "id", status = 200 }

describe("a Mercure hub", function()
  local function hub(settings)
    settings.alg = { "HS256" }
    return t.policy("../mercure.lua", { settings = settings, routes = { ROUTE }, keys = { main = t.key "HS256" } })
  end
  local p = hub { anonymous = true }

  local function token(subscribe, publish)
    return p:token { mercure = { subscribe = subscribe, publish = publish } }
  end
  local function read(topics, bearer)
    return p:connect { path = HUB, query = { topic = topics }, bearer = bearer }
  end
  local function publish(topics, data, more)
    local form = { topic = topics, data = data }
    for name, value in pairs(more or {}) do
      form[name] = value
    end
    return p:post { path = HUB, form = form, bearer = token(nil, { "*" }) }
  end
  local function texts(c)
    local list = {}
    for i, ev in ipairs(c:events()) do
      list[i] = ev.data
    end
    return list
  end

  it("sends updates to those who ask for one of their topics, by name, template or star", function()
    local by_name, by_template = read { "https://a.example/1" }, read { "https://a.example/{id}" }
    local all, none = read { "*" }, read { "https://b.example/{id}" }
    assert.granted(publish({ "https://a.example/1", "other" }, "one", { type = "news" }))
    assert.granted(publish({ "x" }, "two"))
    assert.same({ "one" }, texts(by_name))
    assert.same({ "one" }, texts(by_template))
    assert.same({ "one", "two" }, texts(all))
    assert.same({}, texts(none))
  end)

  it("keeps private updates for those whose token names a topic of theirs", function()
    local ann, bob, nobody = read({ "secret", "s2" }, token { "s{x}" }), read({ "secret" }, token { "t" }),
      read { "secret" }
    publish({ "secret" }, "private", { private = "" })
    assert.same({ "private" }, texts(ann))
    assert.same({}, texts(bob))
    assert.same({}, texts(nobody))
  end)

  it("refuses who may not publish, and what is no update", function()
    assert.denied(401, p:post { path = HUB, form = { topic = "a" } })
    assert.denied(403, p:post { path = HUB, form = { topic = "a" }, bearer = token({ "*" }, { "b" }) })
    assert.denied(400, publish({}, "x"))
    assert.denied(403, publish({ HUB .. "/subscriptions/a/b" }, "x"))
    assert.denied(401, p:connect { path = HUB, query = { topic = "a" }, bearer = "x" })
    assert.denied(400, p:connect { path = HUB })
    assert.faultless(p)
  end)

  it("lets nobody read without a token, unless it is told to", function()
    assert.denied(401, hub({}):connect { path = HUB, query = { topic = "a" } })
  end)

  it("speaks protocol 1.0", function()
    local h = hub { protocol = "1.0", audience = { URL } }
    local function access(actions, topics)
      return h:token({ aud = URL, authorization_details = {
        { type = "https://mercure.rocks/authorization-detail", actions = actions, topics = topics } } },
          { header = { typ = "at+jwt" } })
    end
    local c = h:connect { path = HUB, query = { match_urlpattern = "https://a.example/:id", match = "x" },
      bearer = access({ "subscribe" }, { { match = "https://a.example/1" } }) }
    for _, topic in ipairs { "https://a.example/1", "https://a.example/2" } do
      assert.granted(h:post { path = HUB, form = { topic = topic, data = topic, private = "on" },
        bearer = access({ "publish" }, { { match = "https://a.example/*", match_type = "urlpattern" } }) })
    end
    assert.same({ "https://a.example/1" }, texts(c))
    assert.denied(400, h:connect { path = HUB, query = { topic = "x" }, bearer = access({ "subscribe" },
      { { match = "*" } }) })
    assert.faultless(h)
  end)
end)
