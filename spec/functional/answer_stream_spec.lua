-- transports: tls h2
-- http.routes with answer = "stream": a POST publishes, and its answer is the stream of what comes behind that event.
local eventually = require "support.eventually"
local http = require "support.http"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

-- A prompt to /ask/NAME is stored as prompts/NAME; answers are published to answers/NAME.
local POLICY = [[
  return {
    api = 1,
    filters = { done = "type == 'done'" },
    authenticate = function(req)
      if req.query.nobody then return tg.deny(401, "who are you") end
      return { sub = "ann", secret = req.headers["x-secret"] or "none",
        expires = req.query.short and os.time() + tonumber(req.query.short) or nil }
    end,
    publish = function(pub, who)
      local what = pub.attrs.what
      if what == "denied" then return tg.deny(403, "not this") end
      if what == "dropped" then return tg.drop "seen before" end
      if what == "slow" then sleep(0.3) end
      pub.attrs.by = who.sub
      return pub
    end,
    subscribe = function(req, who)
      local asked = req.published
      if not asked then
        if req.query.only_published then return tg.deny(403, "a prompt was expected") end
        return { topics = req.topics, filter = "none" }
      end
      assert(req.method == "POST")
      local what = asked.attrs.what
      if what == "refused" then return tg.deny(404, "no such model") end
      if what == "away" then return nil, "the model is away" end
      if what == "noted" then return tg.stored(202) end
      if what == "waiting" then sleep(30) end
      assert(asked.attrs.by == who.sub)
      return {
        topics = { (asked.topic:gsub("^prompts/", "answers/")) }, filter = "none", ends = "done",
        first = asked.type == "with-first" and { { event = "hello", data = who.secret } } or nil,
        fields = { ["X-Conversation"] = asked.key or "none", ["X-Shard"] = "3" },
        quota = what == "counted" and { { key = "q", max = 1, over = "deny" } } or nil,
      }
    end,
  }
]]

local ROUTES = {
  { path = "/ask/{name}", subscribe = true, publish = "raw", topic = "prompts/{name}", answer = "stream" },
  { path = "/envelopes", publish = "envelope", answer = "stream" },
}
local APP = "https://app.example"

local function data(events)
  local list = {}
  for i, ev in ipairs(events) do
    list[i] = ev.data
  end
  return table.concat(list, " ")
end

local function read_to_end(c)
  c:wait_end()
  assert.equal("closed", c.ended)
  assert.is_true(c.whole)
  return data(c.queue)
end

describe("a POST that is answered with a stream", function()
  local broker = tidegate.shared {
    policy = POLICY, config = { http = { routes = ROUTES, cors_origins = { APP } }, sse = { retry_ms = 200 } },
  }

  -- All that was stored of prompts to `name`.
  local function prompts(name)
    local mark = broker():publish("prompts/" .. name, "the end")
    local c = sse.open(broker(), { topic = "prompts/" .. name, last_event_id = "earliest" })
    local list = c:collect_until "the end"
    c:close()
    return list, mark
  end

  local function ask(name, body, options)
    options = options or {}
    options.path, options.post = options.path or "/ask/" .. name, body
    return sse.request(broker(), options)
  end

  local function answer(name, ...)
    local id
    for _, piece in ipairs { ... } do
      id = broker():publish("answers/" .. name, piece, { type = piece == "done" and "done" or nil })
    end
    return id
  end

  it("begins behind the event, has what comes, and ends", function()
    answer("a", "of before")
    local c = ask("a", "why?")
    assert.equal(200, c.status)
    assert.matches("^text/event%-stream", c.headers["content-type"])
    local stored = prompts "a"
    assert.equal("why?", data(stored))
    c:wait("its position", function() return #c.positions > 0 end)
    assert.equal(stored[1].id, c.positions[1].id)
    answer("a", "be", "cause", "done", "too late")
    assert.equal("be cause done", read_to_end(c))
  end)

  it("misses nothing of an application that answers at once", function()
    local app = sse.open(broker(), { topic = "prompts/*" })
    local clients = {}
    for i = 1, 20 do
      clients[i] = assert(sse.start(broker(), { path = "/ask/n" .. i, post = "p" .. i }))
    end
    for _ = 1, #clients do
      local name = app:next().data:gsub("p", "n")
      answer(name, "1", "2", "done")
    end
    for i, c in ipairs(clients) do
      assert.equal("1 2 done", read_to_end(c), i)
    end
    app:close()
  end)

  it("stores nothing where it is denied, by publish or by subscribe", function()
    for what, status in pairs { denied = 403, refused = 404, away = 503 } do
      local r = http.post(broker(), "/ask/no?attr.what=" .. what, "x", { Accept = "text/event-stream" })
      assert.equal(status, r.status, what)
    end
    assert.equal(401, http.post(broker(), "/ask/no?nobody=1", "x").status)
    assert.equal("", data(prompts "no"))
  end)

  it("stores nothing where a quota is full", function()
    local one = ask("quota", "1", { query = { ["attr.what"] = "counted" } })
    assert.equal(200, one.status)
    assert.equal(429, ask("quota", "2", { query = { ["attr.what"] = "counted" } }).status)
    answer("quota", "done")
    assert.equal("done", read_to_end(one))
    eventually("the place is free", function()
      local c = ask("quota", "3", { query = { ["attr.what"] = "counted" } })
      local free = c.status == 200
      c:close()
      return free
    end)
    assert.matches("^1 3", data(prompts "quota"))
  end)

  it("is for who takes a stream", function()
    assert.equal(406, ask("accept", "x", { accept = "application/json" }).status)
    assert.equal(406, ask("accept", "x", { accept = "text/event-stream;q=0, */*" }).status)
    for _, accept in ipairs { "application/json, text/event-stream", "*/*", "text/*" } do
      local c = ask("accept", accept, { accept = accept })
      assert.equal(200, c.status)
      c:close()
    end
    assert.equal("application/json, text/event-stream */* text/*", data(prompts "accept"))
  end)

  it("has no stream where the policy says so, and none where all was dropped", function()
    local r = http.post(broker(), "/ask/noted?attr.what=noted", "x", { Accept = "text/event-stream" })
    assert.same({ 202, "" }, { r.status, r.body })
    assert.equal("x", data(prompts "noted"))
    r = http.post(broker(), "/ask/dropped?attr.what=dropped", "x", { Accept = "text/event-stream" })
    assert.same({ 200, "seen before" }, { r.status, r.json.dropped })
  end)

  it("says fields that the policy wants, to pages of other origins, too", function()
    local c = ask("fields", "x", { query = { key = "c-7" }, headers = { Origin = APP } })
    assert.equal("c-7", c.headers["x-conversation"])
    assert.equal("3", c.headers["x-shard"])
    local exposed = {}
    for _, field in ipairs(c.fields) do
      if field[1]:lower() == "access-control-expose-headers" then
        exposed[#exposed + 1] = field[2]
      end
    end
    assert.matches("X%-Conversation", table.concat(exposed, ", "))
    assert.matches("X%-Shard", table.concat(exposed, ", "))
    c:close()
  end)

  it("gives the answer again to who sends the same key again", function()
    local c = ask("again", "x", { query = { key = "k1" } })
    answer("again", "1")
    assert.equal("1", c:next().data)
    c:reset()
    answer("again", "2", "done")
    assert.equal("1 2 done", read_to_end(ask("again", "x", { query = { key = "k1" } })))
    assert.equal("x", data(prompts "again"))
  end)

  it("can be resumed by GET", function()
    local c = ask("resumed", "x")
    answer("resumed", "1", "2")
    local one = c:next()
    c:reset()
    local back = sse.open(broker(), { path = "/ask/resumed", topic = "answers/resumed", last_event_id = one.id })
    assert.equal("2", back:next().data)
    back:close()
  end)

  it("begins behind the state that `first` shows", function()
    local c = ask("first", "x", { query = { type = "with-first" }, headers = { ["X-Secret"] = "s" } })
    assert.equal(200, c.status)
    answer("first", "done")
    assert.equal("s done", read_to_end(c))
  end)

  it("goes on after a reload: the policy sees again what was published", function()
    local c = ask("reload", "x", { query = { only_published = 1 } })
    assert.equal(200, c.status)
    local function same()
      return broker():metric('tidegate_policy_resubscribes_total{outcome="same"}')
    end
    local before = same()
    assert.equal(200, broker():reload(POLICY .. "-- again").status)
    eventually("it was asked again", function() return same() > before end)
    answer("reload", "still", "done")
    assert.equal("still done", read_to_end(c))
  end)

  it("ends when the identity does", function()
    local c = ask("short", "x", { query = { short = 1 } })
    assert.equal(200, c.status)
    c:wait_end()
    assert.equal("closed", c.ended)
  end)

  it("takes a body that comes behind its head, of whoever authenticate let pass", function()
    local body = ("x"):rep(300000)
    local c = ask("large", body)
    assert.equal(200, c.status)
    assert.equal(body, data(prompts "large"):sub(1, #body))
    answer("large", "small")
    assert.equal("small", c:next().data)
    c:close()
    c = ask("large", body, { query = { short = 1 } })
    c:wait_end() -- with the identity, which was told when there was no body yet
    assert.equal(200, c.status)
    assert.equal(401, ask("large", body, { query = { nobody = 1 } }).status)
  end)

  it("stores nothing for a client that has left while the policy was asked", function()
    local c = assert(sse.start(broker(), { path = "/ask/left?attr.what=waiting", post = "x" }))
    eventually("the hook waits", function() return broker():metric "tidegate_policy_suspended_hooks" > 0 end)
    c:reset()
    eventually("it was given up", function() return broker():metric "tidegate_policy_suspended_hooks" == 0 end)
    assert.equal("", data(prompts "left"))
  end)

  it("takes one event", function()
    local list = http.json.encode { { topic = "prompts/l", data = "1" }, { topic = "prompts/l", data = "2" } }
    local r = http.post(broker(), "/envelopes", list, { ["Content-Type"] = "application/json" })
    assert.equal(400, r.status)
    assert.matches("one event", r.json.detail)
    local c = ask("l", http.json.encode { topic = "prompts/l", data = "one" }, { path = "/envelopes",
      headers = { ["Content-Type"] = "application/json" } })
    assert.equal(200, c.status)
    c:close()
    assert.equal("one", data(prompts "l"))
  end)

  it("leaves no stream behind", function()
    eventually("all have ended", function() return broker():metric "tidegate_subscribers" == 0 end)
    assert.is_nil(broker():logged { sub = "policy", level = "error" })
  end)
end)

describe("on one connection of HTTP/1.1", function()
  local broker = tidegate.shared { policy = POLICY, config = { http = { routes = ROUTES } } }

  it("a prompt waits for what was asked before it, and is the last", function()
    local c = http.connect(broker())
    local function post(target, body)
      assert(c:send(http.render("POST", target, nil, body)))
    end
    post("/events?topic=prompts/order&attr.what=slow", "1")
    post("/ask/order", "2")
    post("/events?topic=prompts/order", "3")
    assert.equal(201, c:response().status)
    local watch = sse.open(broker(), { topic = "prompts/order", last_event_id = "earliest" })
    assert.equal("1 2", data(watch:collect(2)))
    broker():publish("answers/order", "bye", { type = "done" })
    local stream = c:response()
    assert.equal(200, stream.status)
    assert.matches("data: bye", stream.body)
    assert.is_true(c:closed())
    broker():publish("prompts/order", "last")
    assert.equal("last", watch:next().data)
    c:close()
  end)
end)

describe("a POST that is to be answered with a stream, where the store takes nothing,", function()
  it("is told so, and leaves no stream", function()
    local broker = tidegate.start { policy = POLICY, config = {
      http = { routes = ROUTES }, store = { latest = { "prompts/*" }, latest_topics = 1 },
    } }
    local one = sse.request(broker, { path = "/ask/one", post = "x" })
    assert.equal(200, one.status)
    local r = http.post(broker, "/ask/two", "x", { Accept = "text/event-stream" })
    assert.equal(507, r.status)
    assert.matches("latest_topics", r.json.detail)
    eventually("the other one has ended", function() return broker:metric "tidegate_subscribers" == 1 end)
    assert.equal(1, broker:metric "tidegate_publish_failed_total")
  end)
end)
