-- Tags: the names by which a policy, and operators, reach streams that are open.
local eventually = require "support.eventually"
local http = require "support.http"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

-- Who may come is known to the publish hook: of one worker.
local POLICY = [[
local P = { api = 1 }
local may = {}
function P.authenticate(req)
  return { sub = req.query.who }
end
function P.subscribe(req, who)
  if may[who.sub] == false then
    return tg.deny(403, "no longer yours")
  end
  local user = "user:" .. who.sub
  return { topics = req.topics, tags = { user, "room:" .. (req.query.room or "none"), user } }
end
function P.publish(pub)
  local name, value = pub.topic:match "^may/(%a+)/(%a+)$"
  if name then
    may[name] = value == "yes"
  end
  return pub
end
return P
]]

describe("tags of a subscription", function()
  local broker = tidegate.shared { policy = POLICY }

  local function open(who, room)
    return sse.open(broker(), { query = { who = who, topic = "news", room = room } })
  end
  local function list(query)
    return http.get(broker().admin, "/connections?" .. query).json
  end

  it("select streams, and are shown, each once", function()
    local a, b, c = open("ann", "red"), open("ann", "blue"), open("bob", "red")
    local found = list "tag=user:ann"
    assert.equal(2, found.matched)
    assert.is_false(found.truncated)
    assert.same({ "room:red", "user:ann" }, found.connections[1].tags)
    assert.equal(2, list("tag=room:red").matched)
    assert.equal(0, list("tag=room:green").matched)
    assert.equal(1, #list("tag=user%3Aann&limit=1").connections)
    assert.equal(400, http.get(broker().admin, "/connections?reason=x").status)
    assert.equal(400, http.get(broker().admin, "/connections?tag=a&tag=b").status)
    for _, one in ipairs { a, b, c } do
      one:close()
    end
    eventually("the tags are gone with their streams", function() return list("tag=room:red").matched == 0 end)
  end)

  it("end streams, which are told why", function()
    local ann, bob = open "ann", open "bob"
    local r = http.request(broker().admin, "DELETE", "/connections?tag=user:ann&reason=moved%20out")
    assert.equal(202, r.status)
    assert.equal(1, r.json.streams)
    local last = ann:next()
    assert.same({ "revoked", '{"reason":"moved out"}' }, { last.type, last.data })
    ann:wait_end()
    broker():publish("news", "still here")
    assert.equal("still here", bob:next().data)
    assert.equal(0, http.request(broker().admin, "DELETE", "/connections?tag=user:ann").json.streams)
    assert.equal(400, http.request(broker().admin, "DELETE", "/connections").status)
  end)

  it("have the policy asked again about streams, which get nothing before it has answered", function()
    local ann, bob = open "ann", open "bob"
    broker():publish("may/ann/no", "x")
    local r = http.request(broker().admin, "POST", "/connections/resubscribe?tag=user:ann")
    assert.equal(202, r.status)
    assert.equal(1, r.json.streams)
    broker():publish("news", "for bob")
    local last = ann:next()
    assert.same({ "revoked", '{"reason":"no longer yours"}' }, { last.type, last.data })
    ann:wait_end()
    assert.equal("for bob", bob:next().data)
    broker():publish("may/ann/yes", "x")
    assert.equal(0, broker():metric "tidegate_streams_barred")
  end)

  it("are replaced by those of the next answer", function()
    local moving = tidegate.start { policy = [[
      local n = 0
      return { api = 1, authenticate = function() return {} end,
        subscribe = function() n = n + 1 return { topics = { "a" }, tags = { "n" .. n } } end,
        publish = function(pub) return pub end }]] }
    local c = sse.open(moving)
    local function total(tag)
      return http.get(moving.admin, "/connections?tag=" .. tag).json.matched
    end
    assert.same({ 1, 0 }, { total "n1", total "n2" })
    http.request(moving.admin, "POST", "/connections/resubscribe?tag=n1")
    eventually("it has the new one", function() return total "n2" == 1 end)
    assert.equal(0, total "n1")
    moving:publish("a", "on")
    assert.equal("on", c:next().data)
  end)

  it("are checked", function()
    local function refused(tags, why)
      local one = tidegate.start { policy = ([[return { api = 1, authenticate = function() return {} end,
        subscribe = function() return { topics = { "a" }, tags = %s } end }]]):format(tags) }
      assert.equal(503, http.get(one, "/events").status)
      assert.is_truthy(one:log():find(why, 1, true), one:log())
      one:stop()
    end
    refused('"user:ann"', "tags: a list of texts was expected, got string")
    refused('{ "" }', "tags[1]: a text of 1 to 64 bytes was expected")
    refused('{ "a", ("x"):rep(65) }', "tags[2]: a text of 1 to 64 bytes was expected")
    refused('{ "a\\n" }', "tags[1]: a text in UTF-8 without control characters was expected")
    refused('{ "1", "2", "3", "4", "5", "6", "7", "8", "9" }', "tags: a list of at most 8 texts was expected")
    refused('{ a = "b" }', "tags: a list of at most 8 texts was expected (no holes, no other keys)")
  end)
end)

describe("orders about streams", function()
  it("select them as lists do, by identities where operators may see them", function()
    local broker = tidegate.start { policy = POLICY, config = { admin_identity = { "sub" } } }
    local ann = sse.open(broker, { query = { who = "ann", topic = "news" } })
    local bob = sse.open(broker, { query = { who = "bob", topic = "news" } })
    local function order(method, path)
      return http.request(broker.admin, method, path)
    end
    assert.equal(1, order("POST", "/connections/resubscribe?who.sub=ann&topic=news").json.streams)
    assert.equal(0, order("DELETE", "/connections?tag=user:ann&who.sub=bob").json.streams)
    assert.equal(1, order("DELETE", "/connections?who.sub=ann&reason=bye").json.streams)
    assert.equal('{"reason":"bye"}', ann:next().data)
    for _, wrong in ipairs { "", "?limit=1", "?who.name=ann", "?reason=x", "?tag=a&reason=" .. ("x"):rep(257) } do
      assert.equal(400, order("DELETE", "/connections" .. wrong).status, wrong)
    end
    broker:publish("news", "on")
    assert.equal("on", bob:next().data)
  end)
end)

describe("tags of streams of several workers", function()
  it("reach them all", function()
    local broker = tidegate.start { policy = POLICY, config = { workers = 2, admin = "unix:@DIR/admin" } }
    local all = {}
    for i = 1, 8 do
      all[i] = sse.open(broker, { query = { who = i % 2 == 0 and "ann" or "bob", topic = "news" } })
    end
    assert.equal(4, http.get(broker.admin, "/connections?tag=user:ann").json.matched)
    local function run(...)
      return tidegate.run(tidegate.binary(), { args = { ... }, cwd = broker.dir })
    end
    local code, out = run("connections", "--tag", "user:ann")
    assert.equal(0, code)
    assert.matches("4 of", out)
    code, out = run("kick", "--tag", "user:ann", "--ask")
    assert.same({ 0, "asked about 4 streams\n" }, { code, out })
    code, out = run("kick", "--tag", "user:ann", "--reason", "all out")
    assert.same({ 0, "closed 4 streams\n" }, { code, out })
    for i = 2, 8, 2 do
      assert.equal('{"reason":"all out"}', all[i]:next().data)
    end
    code = run("kick", "--tag", "user:ann")
    assert.equal(66, code)
    assert.equal(64, (run("kick", "1-1", "--ask")))
    assert.equal(64, (run("kick", "--tag", "a", "--ask", "--reason", "x")))
    code, out = run("kick", "--tag", "user:bob", "--topic", "other", "--ask")
    assert.same({ 66, "" }, { code, out })
    code, out = run("kick", "--topic", "news", "--ask")
    assert.same({ 0, "asked about 4 streams\n" }, { code, out })
    assert.equal(4, http.get(broker.admin, "/connections").json.total)
  end)
end)
