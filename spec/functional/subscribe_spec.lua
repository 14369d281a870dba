-- transports: tls h2tls
-- GET /events: the answer, what is granted, and everything that is not an event stream.
local eventually = require "support.eventually"
local http = require "support.http"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

describe("the first packet of an event stream", function()
  local broker = tidegate.shared { config = { sse = { retry_ms = 2000 } } }

  it("holds the head, a retry and the start position, so that clients open at once", function()
    local id = broker():publish("first/packet", "x")
    for _ = 1, 20 do
      local c = sse.open(broker(), { topic = "first/packet" })
      local body = c.first_read
      assert.matches("retry: %d+\n", body)
      assert.matches(('\nid: %s\nevent: position\ndata: {"position":"%s"}\n\n$'):format(id, id), body)
      assert.equal(id, c.start_id)
      c:close()
    end
  end)

  it("spreads the reconnections: retry differs per connection, around the configured time", function()
    local seen, different = {}, 0
    for _ = 1, 20 do
      local c = sse.open(broker(), { topic = "a" })
      assert.is_true(c.retry_ms >= 1000 and c.retry_ms <= 4000, "retry: " .. c.retry_ms)
      if not seen[c.retry_ms] then
        seen[c.retry_ms], different = true, different + 1
      end
      c:close()
    end
    assert.is_true(different >= 10, different .. " different values in 20 connections")
  end)

  it("has the fields that keep proxies and caches out of the way", function()
    local c = sse.open(broker(), { topic = "a" })
    assert.equal("text/event-stream; charset=utf-8", c.headers["content-type"])
    assert.equal("no-store, no-transform", c.headers["cache-control"])
    assert.equal("Accept, Accept-Encoding", c.headers["vary"])
    assert.equal("no", c.headers["x-accel-buffering"])
    assert.is_nil(c.headers["content-length"])
    assert.is_nil(c.headers["access-control-allow-origin"])
  end)

  it("lets a client that saw nothing but it resume without loss", function()
    local c = sse.open(broker(), { topic = "early/leaver" })
    c:close()
    local id = broker():publish("early/leaver", "meanwhile")
    local back = sse.open(broker(), { topic = "early/leaver", last_event_id = c.last_id })
    assert.same({ type = "message", data = "meanwhile", id = id }, back:next())
  end)
end)

describe("the position of a stream", function()
  -- What a stream begins with, behind its `retry:`.
  local function first(broker, options)
    options.topic = "prime"
    options.keep_bytes = true
    local c = sse.request(broker, options)
    c:wait("a retry", function() return c:bytes():find "^retry: %d+\n" end)
    broker:publish("prime", "behind it")
    c:collect_until "behind it"
    local bytes = c:bytes():gsub("^retry: %d+\n", "")
    c:close()
    return bytes
  end

  local function with(prime, in_policy)
    return tidegate.start {
      config = { sse = { prime = not in_policy and prime or nil } },
      policy = ([[
        return {
          api = 1,
          authenticate = function() return { sub = "x" } end,
          subscribe = function(req) return { topics = req.topics, prime = %s } end,
          publish = function(pub) return pub end,
        }
      ]]):format(in_policy and ("%q"):format(prime) or "nil"),
    }
  end

  local expected = {
    event = 'id: %s\nevent: position\ndata: {"position":"%s"}\n\n',
    id = "id: %s\n\n",
    data = "id: %s\ndata:\n\n",
    none = "",
  }
  for prime, form in pairs(expected) do
    for _, in_policy in ipairs { false, true } do
      it(("is told as %q where the %s says so"):format(prime, in_policy and "policy" or "configuration"), function()
        local broker = with(prime, in_policy)
        local id = broker:publish("prime", "before")
        local bytes = first(broker, {})
        local want = form:gsub("%%s", id)
        assert.equal(want, bytes:gsub("id: %d+\ndata: behind it\n\n$", ""))
      end)
    end
  end

  it("reaches readers that record an id only with an event, as WebKit does", function()
    local broker = with("event")
    broker:publish("other", "x")
    local c = sse.open(broker, { topic = "prime" })
    local recorded -- by the last event that was dispatched
    for _, ev in ipairs(c.positions) do
      recorded = ev.id
    end
    c:close()
    local id = broker:publish("prime", "meanwhile")
    local back = sse.open(broker, { topic = "prime", last_event_id = recorded })
    assert.same({ type = "message", data = "meanwhile", id = id }, back:next())
  end)

  it("is told by the gap where there is one", function()
    local broker = with("event")
    local id = broker:publish("prime", "before")
    local bytes = first(broker, { last_event_id = "nonsense" })
    assert.matches(("^id: %s\nevent: gap\ndata: [^\n]*\n\nid: %%d+\ndata: behind it\n\n$"):format(id), bytes)
  end)

  it("may have another name", function()
    local broker = tidegate.start { config = { sse = { position_event = "tide" } } }
    local id = broker:publish("prime", "before")
    assert.matches(('^id: %s\nevent: tide\ndata: {"position":"%s"}\n\n'):format(id, id), first(broker, {}))
  end)
end)

describe("topics", function()
  local broker = tidegate.shared()

  -- What a subscriber of `asked` gets of one event on each of `published`, by topic.
  local function received(asked, published)
    local c = sse.open(broker(), { topic = asked })
    for _, topic in ipairs(published) do
      broker():publish(topic, topic)
    end
    broker():publish_all { { topic = "end", data = "end" }, { topic = "end/of", data = "end" },
      { topic = "end/of/it", data = "end" } }
    local list = {}
    for _, ev in ipairs(c:collect_until("end")) do
      list[#list + 1] = ev.data
    end
    c:close()
    return list
  end

  it("are names", function()
    assert.same({ "a/b" }, received({ "a/b", "end" }, { "a", "a/b", "a/b/c", "b" }))
  end)

  it("may be several, and one event is delivered once however many match", function()
    assert.same({ "a", "b" }, received({ "a", "b", "*", "end" }, { "a", "b", "a/b" }))
  end)

  it("may have * for one level", function()
    assert.same({ "a/b", "a/c" }, received({ "a/*", "end" }, { "a", "a/b", "a/b/c", "b/a", "a/c" }))
  end)

  it("may end in ** for one level or more", function()
    assert.same({ "a/b", "a/b/c" }, received({ "a/**", "end" }, { "a", "a/b", "a/b/c", "b/a" }))
  end)

  it("may have * in the middle", function()
    assert.same({ "a/x/c", "a/y/c" }, received({ "a/*/c", "end" }, { "a/x/c", "a/c", "a/x/d", "a/y/c", "a/x/c/d" }))
  end)

  it("may be left to the policy", function()
    assert.same({ "a", "a/b/c" }, received(nil, { "a", "a/b/c" }))
  end)

  it("are decoded as a query is", function()
    local c = sse.open(broker(), { path = "/events?topic=caf%C3%A9/a+b" })
    broker():publish("caf\u{e9}/a b", "yes")
    assert.equal("yes", c:next().data)
  end)
end)

describe("what the policy grants", function()
  local broker = tidegate.shared { policy = [[
    return {
      api = 1,
      authenticate = function() return { sub = "x" } end,
      subscribe = function(req) return { topics = { "granted" } } end,
      publish = function(pub) return pub end,
    }
  ]] }

  it("counts, not what the client asked for", function()
    local c = sse.open(broker(), { topic = "wanted" })
    broker():publish("wanted", "no")
    broker():publish("granted", "yes")
    assert.equal("yes", c:next().data)
  end)
end)

describe("content negotiation", function()
  local broker = tidegate.shared()

  for accept, status in pairs {
    ["text/event-stream"] = 200, ["*/*"] = 200, ["text/*"] = 200, ["text/event-stream;q=0.3, */*;q=0.1"] = 200,
    ["application/json, text/event-stream"] = 200, ["Text/Event-Stream"] = 200,
    ["text/html"] = 406, ["image/*"] = 406, ["text/event-stream;q=0"] = 406,
    ["application/json;q=0, application/xml"] = 406,
  } do
    it(("answers %d to Accept: %s"):format(status, accept), function()
      local c = sse.request(broker(), { request = http.render("GET", "/events?topic=a", { Accept = accept }) })
      assert.equal(status, c.status)
      if status == 406 then
        assert.equal("application/problem+json", c.headers["content-type"])
        assert.matches("text/event%-stream", c:rest_of_body())
      end
    end)
  end

  it("takes no Accept for any", function()
    assert.equal(200, sse.request(broker(), { request = http.render("GET", "/events?topic=a") }).status)
  end)
end)

describe("methods and paths", function()
  local broker = tidegate.shared()

  it("answers HEAD with the head of the stream and nothing else", function()
    local c = http.connect(broker())
    c:send(http.render("HEAD", "/events?topic=a", { Accept = "text/event-stream", Connection = "close" }))
    local r = c:response { head = true }
    assert.equal(200, r.status)
    assert.equal("text/event-stream; charset=utf-8", r.headers["content-type"])
    assert.is_nil(r.headers["content-length"]) -- RFC 9110, 8.6: only what GET would have
    assert.is_true(c:closed())
    assert.equal(0, broker():metric "tidegate_subscribers")
  end)

  it("serves HTTP/1.0, where Host is optional", function()
    local c = sse.open(broker(), { request = "GET /events?topic=old HTTP/1.0\r\n\r\n" })
    broker():publish("old", "news")
    assert.equal("news", c:next().data)
  end)

  it("takes the absolute form of a target", function()
    local request = "GET http://localhost:1/events?topic=abs HTTP/1.1\r\nHost: localhost:1\r\n\r\n"
    local c = sse.open(broker(), { request = request })
    broker():publish("abs", "x")
    assert.equal("x", c:next().data)
  end)

  it("answers 404 with a problem document to unknown paths", function()
    for _, path in ipairs { "/nothing", "/events/", "/event", "/metrics", "/healthz", "/connections" } do
      local r = http.get(broker(), path)
      assert.equal(404, r.status, path)
      assert.equal("application/problem+json", r.headers["content-type"])
      assert.equal(404, r.json.status)
      assert.is_string(r.json.title)
    end
  end)

  it("answers 405 with Allow to other methods", function()
    for _, method in ipairs { "PUT", "DELETE", "PATCH", "BREW" } do
      local r = http.request(broker(), method, "/events")
      assert.equal(405, r.status, method)
      for _, allowed in ipairs { "GET", "HEAD", "POST", "OPTIONS" } do
        assert.matches("%f[%w]" .. allowed .. "%f[%W]", r.headers.allow)
      end
    end
  end)

  it("serves the try-out page", function()
    local r = http.get(broker(), "/")
    assert.equal(200, r.status)
    assert.matches("^text/html", r.headers["content-type"])
    assert.matches("EventSource", r.body)
  end)
end)

describe("the configured surface", function()
  local broker = tidegate.shared { config = { http = { events_path = "/hub/stream", page = false,
    content_type = "text/event-stream" } } }

  it("has its path, its content type and no page", function()
    local c = sse.open(broker(), { path = "/hub/stream", topic = "a" })
    assert.equal("text/event-stream", c.headers["content-type"])
    assert.equal(201, http.post(broker(), "/hub/stream?topic=a", "x").status)
    assert.equal("x", c:next().data)
    assert.equal(404, http.get(broker(), "/events?topic=a").status)
    local r = http.get(broker(), "/")
    assert.same({ 200, "events are at /hub/stream\n" }, { r.status, r.body })
  end)
end)

describe("other origins", function()
  local broker = tidegate.shared { config = { http = { cors_origins = { "https://app.example" },
    cors_credentials = true, cors_max_age_s = 77 } } }
  local good, evil = "https://app.example", "https://evil.example"

  it("get a preflight answer where they are listed", function()
    local r = http.request(broker(), "OPTIONS", "/events", { Origin = good,
      ["Access-Control-Request-Method"] = "POST", ["Access-Control-Request-Headers"] = "content-type" })
    assert.equal(204, r.status)
    assert.equal(good, r.headers["access-control-allow-origin"])
    assert.equal("true", r.headers["access-control-allow-credentials"])
    assert.matches("POST", r.headers["access-control-allow-methods"])
    assert.matches("content%-type", r.headers["access-control-allow-headers"]:lower())
    assert.equal("77", r.headers["access-control-max-age"])
    assert.matches("[Oo]rigin", r.headers.vary)
  end)

  it("get nothing where they are not", function()
    local r = http.request(broker(), "OPTIONS", "/events", { Origin = evil, ["Access-Control-Request-Method"] = "GET" })
    assert.is_nil(r.headers["access-control-allow-origin"])
    local c = sse.open(broker(), { topic = "a", headers = { Origin = evil } })
    assert.is_nil(c.headers["access-control-allow-origin"])
  end)

  it("may read streams, answers and errors", function()
    local c = sse.open(broker(), { topic = "a", headers = { Origin = good } })
    assert.equal(good, c.headers["access-control-allow-origin"])
    assert.equal("true", c.headers["access-control-allow-credentials"])
    assert.matches("[Oo]rigin", c.headers.vary)
    local r = http.post(broker(), "/events?topic=a", "x", { Origin = good })
    assert.equal(good, r.headers["access-control-allow-origin"])
    r = http.post(broker(), "/events?topic=", "x", { Origin = good })
    assert.equal(400, r.status)
    assert.equal(good, r.headers["access-control-allow-origin"])
  end)
end)

describe("odd clients", function()
  local broker = tidegate.shared()

  it("may send one byte at a time", function()
    local c = sse.open(broker(), { topic = "slow/sender", slowly = true })
    broker():publish("slow/sender", "x")
    assert.equal("x", c:next().data)
  end)

  it("may send the request in two pieces anywhere", function()
    local bytes = http.render("GET", "/events?topic=cut", { Accept = "text/event-stream" })
    for cut = 1, #bytes - 1, 7 do
      local c = http.connect(broker())
      c:send(bytes:sub(1, cut))
      c:send(bytes:sub(cut + 1))
      assert.equal(200, c:head().status)
      c:close()
    end
  end)

  it("are freed when they close, half close or reset", function()
    for _, leave in ipairs { "close", "shutdown", "reset" } do
      local c = sse.open(broker(), { topic = "leaving" })
      eventually("it is counted", function() return broker():metric "tidegate_subscribers" >= 1 end)
      c[leave](c)
      eventually("it is freed after " .. leave, function()
        return broker():metric "tidegate_subscribers" == 0
      end)
      if leave == "shutdown" then
        c:wait_end()
      end
    end
  end)

  it("that say nonsense are told so, and disconnected", function()
    for what, bytes in pairs {
      ["no Host"] = "GET /events HTTP/1.1\r\n\r\n",
      ["two Hosts"] = "GET /events HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
      ["bare LF"] = "GET /events HTTP/1.1\nHost: a\n\n",
      ["bare CR"] = "GET /events HTTP/1.1\r\nHost: a\rX: b\r\n\r\n",
      ["folding"] = "GET /events HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n",
      ["space before the colon"] = "GET /events HTTP/1.1\r\nHost : a\r\n\r\n",
      ["control character"] = "GET /events HTTP/1.1\r\nHost: a\r\nX: \1\r\n\r\n",
      ["method"] = "GE(T /events HTTP/1.1\r\nHost: a\r\n\r\n",
      ["length and coding"] = "POST /events HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n"
        .. "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
      ["two lengths"] = "POST /events HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
      ["signed length"] = "POST /events HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na",
      ["chunk size"] = "POST /events?topic=a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
      ["another authority"] = "GET http://b/events HTTP/1.1\r\nHost: a\r\n\r\n",
      ["a TLS hello"] = "\22\3\1\2\0\1\0\1\252\3\3",
    } do
      local c = http.connect(broker())
      c:send(bytes)
      local r = assert(c:response(), what)
      assert.equal(400, r.status, what)
      assert.equal("application/problem+json", r.headers["content-type"], what)
      assert.is_true(#(r.json.detail or "") > 10, what)
      assert.is_true(c:closed(), what)
      c:close()
    end
  end)

  it("that speak another version of HTTP are refused", function()
    local c = http.connect(broker())
    c:send "GET /events HTTP/2.0\r\nHost: a\r\n\r\n"
    assert.equal(505, c:response().status)
    assert.is_true(c:closed())
  end)
end)
