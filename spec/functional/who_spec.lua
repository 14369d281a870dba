-- Streams by the identity of their clients: what operators may see of it, and ask for.
local connections = require "support.connections"
local http = require "support.http"
local tidegate = require "support.tidegate"

-- Who a client is stands in its query: as JSON.
local POLICY = [[
local P = { api = 1 }
function P.authenticate(req)
  local who = req.query.who and json.decode(req.query.who) or { sub = "anyone" }
  who.email = "secret@example"
  return who
end
function P.subscribe(req, who)
  if req.query.deny then return tg.deny(403, "not you") end
  return { topics = req.topics, filter = "vip", params = { vip = who.vip or false } }
end
function P.publish(pub) return pub end
P.filters = { vip = "attrs.for_all == 'yes' or $vip" }
return P
]]

local open, close_all = connections.keeper()

local function refusal(r)
  assert.equal(400, r.status)
  return r.json.detail
end

for _, workers in ipairs { 1, 2 } do
  describe(("the identity of clients, with %d worker%s,"):format(workers, workers == 1 and "" or "s"), function()
    after_each(close_all)

    local broker = tidegate.shared { policy = POLICY,
      config = { workers = workers, admin_identity = { "sub", "org", "n" } } }

    local function run(...)
      local words = { ... }
      table.insert(words, 2, ("--admin=%s:%d"):format(broker().admin.host, broker().admin.port))
      return tidegate.run(tidegate.binary(), { args = words })
    end

    -- A stream of that identity, which the admin service knows.
    local function client(who, topic)
      local c = open(broker(), { topic = { topic or "a", "z/" .. topic }, query = { who = http.json.encode(who) } })
      connections.of(broker(), topic)
      return c
    end

    local function ask(query)
      local r = http.get(broker().admin, "/connections?" .. http.query(query))
      assert.equal(200, r.status, r.body)
      assert.is_nil(r.body:find("secret@example", 1, true))
      local topics = {}
      for i, c in ipairs(r.json.connections) do
        topics[i] = c.topics[1]
      end
      table.sort(topics)
      return table.concat(topics, " "), r.json
    end

    it("is shown by the fields that are named, and finds streams", function()
      client({ sub = "ann", org = "acme", n = 7 }, "t1")
      client({ sub = "ann", org = "other", vip = true }, "t2")
      client({ sub = "bob", org = "acme", n = 7.5 }, "t3")
      client({ sub = 'q"uo\\te ünï\u{1F30A} +&=' }, "t4")
      local found, doc = ask { ["who.sub"] = "ann" }
      assert.equal("t1 t2", found)
      assert.same({ 4, 2, false }, { doc.total, doc.matched, doc.truncated })
      for _, c in ipairs(doc.connections) do
        local first = c.topics[1] == "t1"
        assert.same({ sub = "ann", org = first and "acme" or "other", n = first and 7 or nil }, c.who)
      end
      assert.equal("t1", (ask { ["who.sub"] = "ann", ["who.org"] = "acme" }))
      assert.equal("t1 t3", (ask { ["who.org"] = "acme" }))
      assert.equal("t1", (ask { ["who.n"] = "7" }))
      assert.equal("t3", (ask { ["who.n"] = "7.5" }))
      assert.equal("t4", (ask { ["who.sub"] = 'q"uo\\te ünï\u{1F30A} +&=' }))
      assert.equal("", (ask { ["who.sub"] = "an" }))
      assert.equal("t1", (ask { ["who.sub"] = "ann", topic = "t1", client = "127.0.0.1" }))
      assert.equal("", (ask { ["who.sub"] = "ann", client = "192.0.2.1" }))
      assert.equal("t2", (ask { topic = "z/t2" }))
      local admin = broker().admin
      assert.equal('who.email: operators do not see this field of identities. The configuration can let them: '
        .. 'admin_identity = { "sub", "org", "n", "email" }', refusal(http.get(admin, "/connections?who.email=x")))
      assert.matches("who.sub=ann", refusal(http.get(admin, "/connections?who.=x")))
      assert.matches("^whose: there are limit, client, topic, tag and who.FIELD",
        refusal(http.get(admin, "/connections?whose=x")))
      assert.matches("^topic: given twice", refusal(http.get(admin, "/connections?topic=a&topic=b")))
      assert.matches("^limit: expected a number", refusal(http.get(admin, "/connections?limit=0")))
    end)

    it("finds them among all, however many the list may have", function()
      for i = 1, 12 do
        client({ sub = "other" .. i }, "o" .. i)
      end
      client({ sub = "ann" }, "t1")
      client({ sub = "ann" }, "t2")
      for i = 13, 16 do
        client({ sub = "other" .. i }, "o" .. i)
      end
      assert.equal("t1 t2", (ask { ["who.sub"] = "ann", limit = 2 }))
      local found, doc = ask { ["who.sub"] = "ann", limit = 1 }
      assert.matches("^t[12]$", found)
      assert.same({ 18, 2, true }, { doc.total, doc.matched, doc.truncated })
      local code, out = run("connections", "--who", "sub=ann", "--limit", "1")
      assert.equal(0, code)
      assert.matches("\n1 of 18 streams; 2 match\n$", out)
    end)

    it("is what connections, kick and explain go by", function()
      local poor, rich = client({ sub = "ann" }, "t1"), client({ sub = "ann", vip = true }, "t2")
      local bob = client({ sub = "bob", org = "acme" }, "t3")
      local code, out, err = run("connections", "--who", "sub=ann")
      assert.same({ 0, "" }, { code, err })
      assert.matches("\n2 of 3 streams\n$", out)
      assert.matches("LAG WHO +TOPICS\n", out)
      assert.matches(" sub=ann t1 z/t1\n", out)
      assert.is_nil(out:find("bob", 1, true))
      assert.matches(" sub=bob org=acme t3", (select(2, run "connections")))

      broker():write_file("event.json", '{"topic":"t1","data":1}')
      local event = broker().dir .. "/event.json"
      code, out, err = run("explain", "--who", "sub=ann", "--input", event)
      assert.same({ 1, "" }, { code, err })
      assert.equal(2, select(2, out:gsub("connection %S+ from 127.0.0.1 %(sub=ann%): live", "")))
      assert.equal(2, select(2, out:gsub("\nWOULD NOT BE DELIVERED: ", ""))) -- t2: its topic does not match
      broker():write_file("event.json", '{"topic":"z/t2","attrs":{"for_all":"yes"},"data":1}')
      code, out = run("explain", "--json", "--who", "sub=ann", "--input", event)
      local doc = http.json.decode(out)
      assert.same({ 1, 2, false, 2 }, { code, doc.matched, doc.truncated, #doc.explanations })
      for _, x in ipairs(doc.explanations) do
        assert.equal(x.connection.topics[1] == "t2" and "would-deliver" or "would-not-deliver", x.outcome)
        assert.same({ sub = "ann" }, x.connection.who)
      end
      local id = broker():publish("t3", "x", { attrs = { for_all = "yes" } })
      assert.equal(id, bob:next().id)
      code, out = run("explain", "--who", "sub=bob", "--who", "org=acme", "--event", id)
      assert.equal(0, code)
      assert.matches("\nDELIVERED ", out)

      code, out, err = run("explain", "--who", "sub=nobody", "--event", id)
      assert.same({ 66, "" }, { code, out })
      assert.matches("no open stream is of that identity", err)
      for _, words in ipairs { { "connections", "--who", "email=x" }, { "kick", "--who", "email=x" },
        { "explain", "--who", "email=x", "--event", id } } do
        code, out, err = run(table.unpack(words))
        assert.same({ 65, "" }, { code, out })
        assert.matches('admin_identity = { "sub", "org", "n", "email" }', err, 1, true)
      end
      for _, words in ipairs { { "connections", "--who", "sub" }, { "kick", "--who", "=x" },
        { "kick", "1", "--who", "sub=ann" }, { "explain", "--event", id },
        { "explain", "--who", "sub=ann", "--conn", "1", "--event", id } } do
        assert.equal(64, (run(table.unpack(words))), words[1])
      end

      code, out = run("kick", "--who", "sub=ann")
      assert.equal(0, code)
      assert.equal(2, select(2, out:gsub("closed %S+\n", "")))
      poor:wait_end()
      rich:wait_end()
      assert.is_nil(bob.ended)
      assert.equal(66, (run("kick", "--who", "sub=ann")))
    end)

    it("stands in the log, where somebody is denied or loses a grant", function()
      assert.equal(403, http.get(broker(), "/events?" .. http.query {
        topic = "a", deny = "1", who = '{"sub":"mallory","n":1,"vip":true}' }).status)
      assert.truthy(broker():logged { msg = "denied", who = "sub=mallory n=1" })
    end)
  end)
end

describe("the identity of clients", function()
  after_each(close_all)

  it("is nobody's business unless the configuration says so", function()
    local broker = tidegate.start { policy = POLICY }
    open(broker, { topic = "a", query = { who = '{"sub":"ann"}' } })
    connections.of(broker, "a")
    local r = http.get(broker.admin, "/connections")
    assert.is_nil(r.json.connections[1].who)
    assert.is_nil(r.body:find("ann", 1, true))
    assert.matches('admin_identity = { "sub" }', refusal(http.get(broker.admin, "/connections?who.sub=ann")), 1, true)
    assert.equal(403, http.get(broker, "/events?topic=a&deny=1").status)
    assert.is_nil(broker:logged { msg = "denied" }.who)
  end)

  it("is in the line about a grant that was withdrawn", function()
    local broker = tidegate.start { policy = POLICY, config = { admin_identity = { "sub" } } }
    local c = open(broker, { topic = "a", query = { who = '{"sub":"ann"}' } })
    connections.of(broker, "a")
    broker:reload((POLICY:gsub("if req.query.deny then", "if true then")))
    assert.equal("revoked", c:next().type)
    assert.truthy(broker:logged { msg = "revoked", who = "sub=ann" })
  end)
end)
