-- tidegate test scripts/policies/spec
local t = require "tidegate.test"

describe("webhooks", function()
  -- Signatures made with openssl: printf '%s' BODY | openssl dgst -sha256 -hmac a-secret-of-github-of-32-bytes-00
  local NOW = 1700000000
  local accounts = { ["42"] = { status = 200, json = { account = "a7" } } }
  local asked = {}
  local options = { now = NOW, settings = {
      github = "a-secret-of-github-of-32-bytes-00", stripe = "whsec_of_stripe", shopify = "a-secret-of-shopify",
      readers = "of-readers", accounts = true },
    routes = { { path = "/hooks/{service}", publish = "raw", topic = "hooks/{service}", answer = "empty" } },
    http = { accounts = function(of)
      asked[#asked + 1] = of.path[2]
      return accounts[of.path[2]] or { status = 404 }
    end } }
  local p = t.policy("../webhook.lua", options)
  local PUSH = '{"repository":{"full_name":"ann/tidegate"},"ref":"main"}'
  local PUSH_MAC = "bb16a2cfc99d55c8743a3d150ad95fb79cb8a9e1c82d35f281775a63e3981fd2"

  local function github(body, signature, kind, delivery)
    return p:post { path = "/hooks/github", raw = body, headers = { ["X-Hub-Signature-256"] = signature,
      ["X-GitHub-Event"] = kind or "push", ["X-GitHub-Delivery"] = delivery } }
  end

  it("of GitHub go to the repository's topic", function()
    local c = p:connect()
    local answer = github(PUSH, "sha256=" .. PUSH_MAC, "push", "d1")
    assert.granted(answer)
    assert.same({ 204, "" }, { answer.status, answer.body })
    local ev = c:events()[1]
    assert.same({ "push", PUSH }, { ev.type, ev.data })
    assert.equal(204, github(PUSH, "sha256=" .. PUSH_MAC, "push", "d1").status) -- sent again
    assert.equal(1, #c:events())
    assert.granted(github(PUSH, "sha256=" .. PUSH_MAC, "push", "d2"))
    assert.equal(2, #c:events())
    assert.faultless(p)
  end)

  it("are refused where somebody else has signed them, or another body", function()
    assert.denied(401, github(PUSH, nil))
    assert.denied(401, github(PUSH, PUSH_MAC))
    assert.denied(401, github(PUSH, "sha256=" .. ("0"):rep(64)))
    assert.denied(401, github(PUSH .. " ", "sha256=" .. PUSH_MAC))
    assert.denied(401, p:post { path = "/hooks/stripe", raw = PUSH,
      headers = { ["X-Hub-Signature-256"] = PUSH_MAC } })
    assert.denied(401, p:post { topic = "payments/events", raw = PUSH,
      headers = { ["X-Hub-Signature-256"] = "sha256=" .. PUSH_MAC } })
    assert.faultless(p)
  end)

  it("that nobody wants are dropped, those that make no sense refused", function()
    local c = p:connect()
    assert.equal(204, github(PUSH, "sha256=" .. PUSH_MAC, "star").status)
    assert.same({}, c:events())
    assert.denied(422, github('{"ref":1}', "sha256=23819609f2de2f76b706a08aa9881915f130c7adba997639a9aa622e3fac388a"))
    assert.denied(422, github("5", "sha256=21a949cebc99d4cdfe0b2a2943be406b109ad0c01541cb126e1197a0a87bb4b3"))
  end)

  it("of Stripe are old after five minutes, and stored once", function()
    local body = '{"id":"evt_1","type":"charge.succeeded"}'
    local function stripe(time, mac)
      return p:post { path = "/hooks/stripe", raw = body,
        headers = { ["Stripe-Signature"] = ("t=%d,v1=00,v1=%s,v0=00"):format(time, mac) } }
    end
    local c = p:connect { bearer = "of-readers" }
    local first = stripe(NOW, "79f380d0a1f5c0516fdfe15620f5c0d5d28d5b00e4acbddb661d2cd9affa8650")
    assert.granted(first)
    assert.granted(stripe(NOW, "79f380d0a1f5c0516fdfe15620f5c0d5d28d5b00e4acbddb661d2cd9affa8650"))
    assert.same({ "charge.succeeded" }, { c:events()[1].type })
    assert.equal(1, #c:events())
    assert.denied(401, stripe(NOW + 1, "79f380d0a1f5c0516fdfe15620f5c0d5d28d5b00e4acbddb661d2cd9affa8650"))
    p:at(NOW + 301)
    assert.denied(401, stripe(NOW, "79f380d0a1f5c0516fdfe15620f5c0d5d28d5b00e4acbddb661d2cd9affa8650"))
    p:at(NOW)
  end)

  it("of Stripe have an id and a type, each a text", function()
    for body, mac in pairs {
      ['{"id":null,"type":"charge.succeeded"}'] = "a1d7817b781ef2291c1ee275fe61af169d0418470e8c7c6e1b1ab8ffd9bd0790",
      ['{"id":"evt_2","type":{}}'] = "4ae07b2b937e402b34ca7bd30827e5bea6b20aae4a46e8f40c491169b8c5012e",
    } do
      assert.denied(422, p:post { path = "/hooks/stripe", raw = body,
        headers = { ["Stripe-Signature"] = ("t=%d,v1=%s"):format(NOW, mac) } })
    end
  end)

  it("of Shopify go to several topics", function()
    local body = '{"id":7,"customer":{"id":42}}'
    local c = p:connect { bearer = "of-readers" }
    assert.granted(p:post { path = "/hooks/shopify", raw = body,
      headers = { ["X-Shopify-Hmac-Sha256"] = "kMn+6rueCx4GzuKL1tDqBcVYohHKZTzfyFGwaP0mo3I=" } })
    local topics = {}
    for i, ev in ipairs(c:events()) do
      topics[i] = ev.data
    end
    assert.same({ body, body }, topics)
    for customer, mac in pairs {
      ['null'] = "dggbYdon6yver05i5QHZN9e7qaa4dVVVZ8OVwIDf5r4=",
      ['{"id":null}'] = "/CoDCOTK/BQRvYEf+/3ccqrbierya9h707qsPLfDaG4=",
    } do
      local before = #c:events()
      assert.granted(p:post { path = "/hooks/shopify", raw = ('{"id":8,"customer":%s}'):format(customer),
        headers = { ["X-Shopify-Hmac-Sha256"] = mac } })
      assert.equal(before + 1, #c:events()) -- of the shop, and of no customer
    end
    assert.faultless(p)
  end)

  it("of Shopify are found by the account of their customer, which is looked up", function()
    local q = p:with { http = options.http }
    local function shopify(id)
      return q:post { path = "/hooks/shopify", raw = '{"id":7,"customer":{"id":42}}', headers = {
        ["X-Shopify-Hmac-Sha256"] = "kMn+6rueCx4GzuKL1tDqBcVYohHKZTzfyFGwaP0mo3I=", ["X-Shopify-Webhook-Id"] = id } }
    end
    asked = {}
    q:resubscribe { http = { accounts = function() return { status = 500 } end } }
    assert.transient(shopify "w1") -- Shopify sends it again
    q:resubscribe { http = options.http }
    local c = q:connect { bearer = "of-readers", query = { account = "a7" } }
    local other = q:connect { bearer = "of-readers", query = { account = "b" } }
    local everything = q:connect { bearer = "of-readers" }
    assert.granted(shopify "w1")
    assert.granted(shopify "w1")
    assert.granted(shopify "w2")
    assert.same({ "42" }, asked) -- and then it is known
    assert.same({ 4, 0, 4 }, { #c:events(), #other:events(), #everything:events() })
    assert.granted(q:post { path = "/hooks/shopify", raw = '{"id":8,"customer":{"id":null}}', headers = {
      ["X-Shopify-Hmac-Sha256"] = "/CoDCOTK/BQRvYEf+/3ccqrbierya9h707qsPLfDaG4=" } })
    assert.same({ 4, 5 }, { #c:events(), #everything:events() })
    assert.denied(400, q:connect { bearer = "of-readers", query = { account = ("x"):rep(101) } })
  end)

  it("of payments and shops are for readers who have the secret", function()
    assert.same({ "repos/**" }, p:connect { topics = { "shop/**" } }.subscription.topics)
    assert.denied(401, p:connect { bearer = "guess" })
    assert.same({ "payments/**", "repos/**", "shop/**" }, p:connect { bearer = "of-readers" }.subscription.topics)
  end)
end)
