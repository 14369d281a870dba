-- transports: tls h2tls
-- POST /events: every form of a body, every refusal, and the rules of a kept connection.
local http = require "support.http"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

local JSON = { ["Content-Type"] = "application/json" }
local NDJSON = { ["Content-Type"] = "application/x-ndjson" }

local ECHO = [[
  return {
    api = 1,
    authenticate = function() return { sub = "x" } end,
    subscribe = function(req)
      return { topics = #req.topics > 0 and req.topics or { "**" }, format = req.query.format or "raw" }
    end,
    publish = function(pub) return pub end,
    formats = {
      all = function(ev)
        return { event = ev.type, data = { topic = ev.topic, raw = ev.raw, attrs = ev.attrs } }
      end,
    },
  }
]]

describe("publishing", function()
  local broker = tidegate.shared { policy = ECHO }

  -- Everything delivered on any topic while `fn` runs, as { id, type, topic, raw, attrs }.
  local function delivered(fn)
    local c = sse.open(broker(), { query = { format = "all" } })
    fn()
    http.post(broker(), "/events?topic=zz/end", "end")
    local list = {}
    while true do
      local ev = c:next()
      local what = http.json.decode(ev.data)
      if what.raw == "end" then
        c:close()
        return list
      end
      list[#list + 1] = { id = ev.id, type = ev.type, topic = what.topic, raw = what.raw, attrs = what.attrs }
    end
  end

  describe("raw", function()
    it("takes the body as it is, with type, key and attributes from the query", function()
      local r
      local list = delivered(function()
        r = http.post(broker(), "/events?topic=raw/a&type=t&attr.cell=u2&attr.n=5", '{ "b": 1,\n"a":2 }',
          { ["Content-Type"] = "text/anything" })
      end)
      assert.equal(201, r.status)
      assert.equal("application/json", r.headers["content-type"])
      assert.same({ { id = r.json.id, type = "t", topic = "raw/a", raw = '{ "b": 1,\n"a":2 }',
        attrs = { cell = "u2", n = "5" } } }, list)
    end)

    it("needs no content type and may be empty", function()
      assert.equal(201, http.post(broker(), "/events?topic=a", "").status)
    end)

    it("answers with the id that subscribers see", function()
      local c = sse.open(broker(), { topic = "answered" })
      local r = http.post(broker(), "/events?topic=answered", "x")
      assert.is_string(r.json.id)
      assert.equal(r.json.id, c:next().id)
    end)
  end)

  describe("envelopes", function()
    it("may be one", function()
      local r
      local list = delivered(function()
        r = http.post(broker(), "/events",
          [[{"topic":"e/1","type":"t","data":"text","attrs":{"a":"x","n":2.5,"b":true}}]], JSON)
      end)
      assert.equal(201, r.status)
      assert.same({ { id = r.json.id, type = "t", topic = "e/1", raw = "text",
        attrs = { a = "x", n = 2.5, b = true } } }, list)
    end)

    it("hold any JSON value as data, stored as its JSON text", function()
      local list = delivered(function()
        for _, data in ipairs { '{"b":1,"a":[true,null]}', "[1,2]", "12345678901234567", "1.5", "true", "null",
          [["quoted \u00e9\n"]] } do
          assert.equal(201, http.post(broker(), "/events", [[{"topic":"v","data":]] .. data .. "}", JSON).status, data)
        end
      end)
      local raw = {}
      for i, ev in ipairs(list) do
        raw[i] = ev.raw
      end
      assert.same({ '{"b":1,"a":[true,null]}', "[1,2]", "12345678901234567", "1.5", "true", "null",
        "quoted \u{e9}\n" }, raw)
    end)

    it("may come with a charset, in any case", function()
      assert.equal(201, http.post(broker(), "/events", [[{"topic":"a","data":"x"}]],
        { ["Content-Type"] = "Application/JSON; charset=UTF-8" }).status)
    end)

    it("may be an array, answered with a list in order", function()
      local r
      local list = delivered(function()
        r = http.post(broker(), "/events",
          [[ [ {"topic":"b","data":"1"}, {"topic":"a","data":"2"}, {"topic":"b","data":"3"} ] ]], JSON)
      end)
      assert.equal(201, r.status)
      assert.equal(3, #r.json)
      for i, ev in ipairs(list) do
        assert.equal(tostring(i), ev.raw)
        assert.equal(r.json[i].id, ev.id)
      end
    end)

    it("may be one a line", function()
      local r
      local list = delivered(function()
        r = http.post(broker(), "/events",
          '{"topic":"n","data":"1"}\n{"topic":"n","data":{"x":2}}\r\n{"topic":"n","data":"3"}\n', NDJSON)
      end)
      assert.equal(201, r.status)
      assert.equal(3, #r.json)
      assert.equal(3, #list)
      assert.equal('{"x":2}', list[2].raw)
      assert.equal(r.json[3].id, list[3].id)
    end)

    it("answers a list of one with a list of one", function()
      assert.equal(1, #http.post(broker(), "/events", [=[[{"topic":"a","data":"x"}]]=], JSON).json)
      assert.equal(1, #http.post(broker(), "/events", [[{"topic":"a","data":"x"}]], NDJSON).json)
    end)
  end)

  describe("with a key", function()
    local n = 0
    local function fresh()
      n = n + 1
      return "key-" .. n
    end

    it("stores once; the second answer is 200 with the original id", function()
      local key = fresh()
      local ways = {
        function() return http.post(broker(), "/events?topic=k&key=" .. key, "a") end,
        function() return http.post(broker(), "/events?topic=k", "a", { ["Idempotency-Key"] = key }) end,
        function()
          return http.post(broker(), "/events", http.json.encode { topic = "k", data = "a", key = key }, JSON)
        end,
      }
      for first = 1, #ways do
        key = fresh()
        local list = delivered(function()
          local r = ways[first]()
          assert.equal(201, r.status)
          assert.is_nil(r.json.duplicate)
          for _, way in ipairs(ways) do
            local again = way()
            assert.equal(200, again.status)
            assert.equal(r.json.id, again.json.id)
            assert.is_true(again.json.duplicate)
          end
        end)
        assert.equal(1, #list)
      end
    end)

    it("is remembered across a restart", function()
      local key = fresh()
      local id = broker():publish("k", "x", { key = key })
      broker():restart()
      local again, r = broker():publish("k", "x", { key = key })
      assert.equal(id, again)
      assert.equal(200, r.status)
    end)

    it("may be repeated within one batch", function()
      local a, b = fresh(), fresh()
      local r
      local list = delivered(function()
        r = http.post(broker(), "/events", http.json.encode {
          { topic = "k", data = "1", key = a },
          { topic = "k", data = "2", key = b },
          { topic = "k", data = "3", key = a },
        }, JSON)
      end)
      assert.equal(2, #list)
      assert.equal(r.json[1].id, r.json[3].id)
      assert.is_true(r.json[3].duplicate)
      assert.is_nil(r.json[1].duplicate)
    end)

    it("tells new from known within one batch", function()
      local key = fresh()
      local id = broker():publish("k", "old", { key = key })
      local r = http.post(broker(), "/events", http.json.encode {
        { topic = "k", data = "old", key = key }, { topic = "k", data = "new", key = fresh() } }, JSON)
      assert.equal(id, r.json[1].id)
      assert.is_true(r.json[1].duplicate)
      assert.is_nil(r.json[2].duplicate)
      assert.is_true(tonumber(r.json[2].id) > tonumber(id))
    end)
  end)

  describe("what is malformed is refused and says why:", function()
    local json_cases = {
      { "not JSON", "{", "JSON" },
      { "nothing", "", "." },
      { "two values", '{"topic":"a","data":"x"} {"topic":"a","data":"x"}', "." },
      { "a number", "3", "object" },
      { "a text", '"x"', "object" },
      { "an empty list", "[]", "." },
      { "a list of lists", "[[]]", "object" },
      { "no topic", '{"data":"x"}', "topic" },
      { "a topic of another type", '{"topic":1,"data":"x"}', "topic" },
      { "an empty topic", '{"topic":"","data":"x"}', "topic" },
      { "a pattern as topic", '{"topic":"a/*","data":"x"}', "topic" },
      { "an empty segment", '{"topic":"a//b","data":"x"}', "topic" },
      { "a control character in the topic", '{"topic":"a\\nb","data":"x"}', "topic" },
      { "a topic of 256 bytes", '{"topic":"' .. ("a"):rep(256) .. '","data":"x"}', "topic" },
      { "no data", '{"topic":"a"}', "data" },
      { "a field nobody knows", '{"topic":"a","data":"x","tpye":"y"}', "tpye" },
      { "the same field twice", '{"topic":"a","topic":"b","data":"x"}', "." },
      { "a line end in the type", '{"topic":"a","data":"x","type":"a\\nid: 1"}', "type" },
      { "a type of another type", '{"topic":"a","data":"x","type":{}}', "type" },
      { "NUL in the key", '{"topic":"a","data":"x","key":"a\\u0000"}', "." },
      { "a key of 256 bytes", '{"topic":"a","data":"x","key":"' .. ("k"):rep(256) .. '"}', "key" },
      { "attributes that are no object", '{"topic":"a","data":"x","attrs":[1]}', "attrs" },
      { "nested attributes", '{"topic":"a","data":"x","attrs":{"a":{}}}', "attrs" },
      { "null attributes", '{"topic":"a","data":"x","attrs":{"a":null}}', "attrs" },
      { "attributes over 4 KiB", '{"topic":"a","data":"x","attrs":{"a":"' .. ("v"):rep(5000) .. '"}}', "attrs" },
      { "bytes that are not UTF-8", '{"topic":"a","data":"\xff"}', "." },
    }
    local function refused(r, status, pattern)
      assert.equal(status, r.status, r.body)
      assert.equal("application/problem+json", r.headers["content-type"])
      assert.equal(status, r.json.status)
      assert.is_string(r.json.title)
      assert.is_true(#r.json.detail >= 10, "a detail that helps: " .. tostring(r.json.detail))
      assert.matches(pattern, r.json.detail)
    end

    for _, case in ipairs(json_cases) do
      it(case[1], function()
        local list = delivered(function()
          refused(http.post(broker(), "/events", case[2], JSON), 400, case[3])
        end)
        assert.same({}, list)
      end)
    end

    it("the second of three envelopes, which is named; nothing is stored", function()
      local list = delivered(function()
        refused(http.post(broker(), "/events",
          '[{"topic":"a","data":"1"},{"topic":"a//b","data":"2"},{"topic":"a","data":"3"}]', JSON), 400, "1.*topic")
      end)
      assert.same({}, list)
    end)

    it("the second of three lines, which is named; nothing is stored", function()
      local list = delivered(function()
        refused(http.post(broker(), "/events",
          '{"topic":"a","data":"1"}\n{"topic":"a"}\n{"topic":"a","data":"3"}\n', NDJSON), 400, "2.*data")
      end)
      assert.same({}, list)
    end)

    it("an NDJSON body without a line", function()
      refused(http.post(broker(), "/events", "\n\n", NDJSON), 400, ".")
    end)

    for what, case in pairs {
      ["a raw body that is not UTF-8"] = { "/events?topic=a", "\xc3(", "UTF%-8" },
      ["an empty topic in the query"] = { "/events?topic=", "x", "topic" },
      ["a pattern in the query"] = { "/events?topic=a/**", "x", "topic" },
      ["a line end in the type"] = { "/events?topic=a&type=x%0Ay", "x", "type" },
      ["a CR in the type"] = { "/events?topic=a&type=x%0Dy", "x", "type" },
      ["a line end in the key"] = { "/events?topic=a&key=x%0Ay", "x", "key" },
      ["a bad escape"] = { "/events?topic=%zz", "x", "." },
      ["a query that is not UTF-8"] = { "/events?topic=%ff", "x", "." },
    } do
      it(what, function()
        refused(http.post(broker(), case[1], case[2]), 400, case[3])
      end)
    end

    it("a content type nobody asked for", function()
      refused(http.post(broker(), "/events", "<a/>", { ["Content-Type"] = "text/xml" }), 415, "application/json")
    end)

    it("what would have to be unpacked, before its body has come", function()
      local codings = { { "gzip" }, { "identity", "br" }, { "GZIP" }, { "gzip, identity" } }
      for _, values in ipairs(codings) do
        local headers = { { "Content-Type", "application/json" } }
        for _, value in ipairs(values) do
          headers[#headers + 1] = { "Content-Encoding", value }
        end
        refused(http.post(broker(), "/events?topic=a", "\31\139\8\0", headers), 415, "without compression")
        refused(http.post(broker(), "/events", '{"topic":"a","data":"x"}', headers), 415, "Content%-Encoding")
        local c = http.connect(broker())
        headers[#headers + 1] = { "Content-Length", "1000" }
        c:send(http.render("POST", "/events?topic=a", headers))
        assert.equal(415, c:response().status)
        c:close()
      end
      assert.equal(201, http.post(broker(), "/events?topic=a", "x", { ["Content-Encoding"] = "identity" }).status)
    end)

    it("a form with parts as data", function()
      local form = "--b\r\nContent-Disposition: form-data; name=x\r\n\r\ny\r\n--b--\r\n"
      for _, kind in ipairs { "multipart/form-data; boundary=b", "Multipart/mixed" } do
        refused(http.post(broker(), "/events?topic=a", form, { ["Content-Type"] = kind }), 415, "%-%-data%-binary")
        refused(http.post(broker(), "/events", form, { ["Content-Type"] = kind }), 415, "application/json")
      end
    end)

    it("no content type and no topic", function()
      local r = http.post(broker(), "/events", "x")
      assert.equal(415, r.status)
      assert.matches("topic", r.json.detail)
    end)
  end)

  describe("on a kept connection", function()
    it("answers many requests one after another", function()
      local c = http.connect(broker())
      local last = 0
      for i = 1, 20 do
        local r = c:request("POST", "/events?topic=ka", nil, "event " .. i)
        assert.equal(201, r.status)
        assert.is_true(tonumber(r.json.id) > last)
        last = tonumber(r.json.id)
      end
    end)

    it("survives a refusal", function()
      local c = http.connect(broker())
      assert.equal(400, c:request("POST", "/events?topic=", nil, "x").status)
      assert.equal(404, c:request("GET", "/nothing").status)
      assert.equal(201, c:request("POST", "/events?topic=a", nil, "x").status)
    end)

    it("closes it when asked to", function()
      local c = http.connect(broker())
      local r = c:request("POST", "/events?topic=a", { Connection = "close" }, "x")
      assert.equal(201, r.status)
      assert.equal("close", r.headers.connection)
      assert.is_true(c:closed())
    end)

    it("closes it after HTTP/1.0", function()
      local c = http.connect(broker())
      c:send "POST /events?topic=a HTTP/1.0\r\nContent-Length: 1\r\n\r\nx"
      assert.equal(201, c:response().status)
      assert.is_true(c:closed())
    end)

    it("answers pipelined requests in order", function()
      local c = http.connect(broker())
      local s = sse.open(broker(), { topic = "pipe" })
      local parts = {}
      for i = 1, 200 do
        parts[i] = i % 50 == 0 and http.render("GET", "/nothing/" .. i)
          or http.render("POST", "/events?topic=pipe", nil, "p" .. i)
      end
      c:send(table.concat(parts))
      local ids = {}
      for i = 1, 200 do
        local r = assert(c:response())
        assert.equal(i % 50 == 0 and 404 or 201, r.status)
        if r.status == 201 then
          ids[#ids + 1] = { i, r.json.id }
        end
      end
      for i, ev in ipairs(s:collect(#ids)) do
        assert.same({ "p" .. ids[i][1], ids[i][2] }, { ev.data, ev.id })
      end
    end)

    it("answers one whose sender has finished sending", function()
      local c = http.connect(broker())
      c:send(http.render("POST", "/events?topic=half", nil, "x"))
      c:shutdown()
      assert.equal(201, c:response().status)
      assert.is_true(c:closed())
    end)
  end)

  describe("bodies", function()
    it("may be announced with Expect: 100-continue", function()
      local c = http.connect(broker())
      c:send(http.render("POST", "/events?topic=exp", { Expect = "100-continue", ["Content-Length"] = "5" }))
      assert.equal(100, c:response().status)
      c:send "hello"
      assert.equal(201, c:response().status)
    end)

    it("that are too large are refused before they are sent", function()
      local c = http.connect(broker())
      c:send(http.render("POST", "/events?topic=exp", { Expect = "100-continue", ["Content-Length"] = "999999999" }))
      assert.equal(413, c:response().status)
      assert.is_true(c:closed())
    end)

    it("with another expectation are refused", function()
      local c = http.connect(broker())
      c:send(http.render("POST", "/events?topic=exp", { Expect = "miracles", ["Content-Length"] = "1" }))
      assert.equal(417, c:response().status)
    end)

    it("may be chunked", function()
      local s = sse.open(broker(), { topic = "chunk" })
      local c = http.connect(broker())
      local head = http.render("POST", "/events?topic=chunk", { ["Transfer-Encoding"] = "chunked" })
      c:send(head .. "5\r\nhello\r\n1;ext=\"a b\"\r\n \r\n00A\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n")
      assert.equal(201, c:response().status)
      assert.equal("hello 0123456789", s:next().data)
      c:send_slowly(head .. "2\r\nhi\r\n0\r\n\r\n")
      assert.equal(201, c:response().status)
      assert.equal("hi", s:next().data)
    end)
  end)
end)

describe("a POST of a client that expects a stream", function()
  local broker = tidegate.shared()

  it("stores JSON that no program may be able to read alike, whichever way it comes", function()
    local odd = [[{"a":"\ud83d","b":18446744073709551615,"b":1,"c":1e400}]]
    local c = sse.open(broker(), { topic = "odd" })
    local envelope = '{"topic":"odd","data":' .. odd .. "}"
    assert.equal(201, http.post(broker(), "/events?topic=odd", odd).status)
    assert.equal(201, http.post(broker(), "/events", envelope, { ["Content-Type"] = "application/json" }).status)
    assert.equal(201, http.post(broker(), "/events", envelope, { ["Content-Type"] = "application/x-ndjson" }).status)
    for _ = 1, 3 do
      assert.equal(odd, c:next().data)
    end
  end)

  it("is refused, instead of publishing at each of its reconnects", function()
    local s = sse.open(broker(), { topic = "a" })
    local before = broker():metric "tidegate_refused_invalid_total"
    local refused = { "text/event-stream", "text/event-stream, text/plain;q=0.5",
      "application/json;q=0, text/event-stream", "Text/Event-Stream;q=0.1" }
    for _, accept in ipairs(refused) do
      local r = http.post(broker(), "/events?topic=a", "again", { Accept = accept })
      assert.equal(406, r.status, accept)
      assert.equal("application/problem+json", r.headers["content-type"])
      assert.matches("^POST publishes.*subscribe with GET", r.json.detail)
    end
    assert.equal(before + #refused, broker():metric "tidegate_refused_invalid_total")
    broker():publish("a", "end")
    assert.same({}, s:collect_until "end")
  end)

  it("publishes where it takes the answer of a publish as well", function()
    for _, accept in ipairs { "*/*", "text/event-stream, */*", "text/event-stream, application/json",
      "text/event-stream;q=0.5, application/*;q=0.1", "text/plain", "application/json", "text/event-stream;q=0" } do
      assert.equal(201, http.post(broker(), "/events?topic=a", "once", { Accept = accept }).status, accept)
    end
  end)
end)

describe("the limits of publishing", function()
  local broker = tidegate.shared { config = { limits = { event_bytes = 1000, batch_events = 3, body_bytes = 4096 } } }

  local function status(path, body, headers)
    local r = http.post(broker(), path, body, headers)
    if r.status >= 400 then
      assert.equal("application/problem+json", r.headers["content-type"])
      assert.is_true(#r.json.detail > 10)
    end
    return r.status
  end
  local function envelope(n)
    return http.json.encode { topic = "a", data = ("x"):rep(n) }
  end

  it("hold for one event", function()
    assert.equal(201, status("/events?topic=a", ("x"):rep(1000)))
    assert.equal(413, status("/events?topic=a", ("x"):rep(1001)))
    assert.equal(201, status("/events", envelope(1000), JSON))
    assert.equal(413, status("/events", envelope(1001), JSON))
    assert.equal(413, status("/events", envelope(1) .. "\n" .. envelope(1001), NDJSON))
  end)

  it("hold for a batch", function()
    local e = envelope(1)
    assert.equal(201, status("/events", "[" .. e .. "," .. e .. "," .. e .. "]", JSON))
    assert.equal(413, status("/events", "[" .. e .. "," .. e .. "," .. e .. "," .. e .. "]", JSON))
    assert.equal(413, status("/events", (e .. "\n"):rep(4), NDJSON))
  end)

  it("hold for a body, however it is framed", function()
    assert.equal(413, status("/events?topic=a", ("x"):rep(4097)))
    local c = http.connect(broker())
    c:send(http.render("POST", "/events?topic=a", { ["Transfer-Encoding"] = "chunked" })
      .. "1000\r\n" .. ("x"):rep(4096) .. "\r\n1\r\n")
    assert.equal(413, c:response().status)
    assert.is_true(c:closed())
  end)
end)

describe("a policy without a publish hook", function()
  local broker = tidegate.shared { policy = [[
    return {
      api = 1,
      authenticate = function() return { sub = "x" } end,
      subscribe = function(req) return { topics = req.topics } end,
    }
  ]] }

  it("lets nobody publish", function()
    local c = sse.open(broker(), { topic = "a" })
    local r = http.post(broker(), "/events?topic=a", "x")
    assert.equal(403, r.status)
    assert.equal("application/problem+json", r.headers["content-type"])
    c:close()
  end)
end)

describe("a policy that changes what is published", function()
  local broker = tidegate.shared { policy = [[
    return {
      api = 1,
      authenticate = function() return { sub = "x" } end,
      subscribe = function(req) return { topics = req.topics } end,
      publish = function(pub)
        if pub.topic == "split" then
          return { { topic = "left", raw = pub.raw }, { topic = "right", raw = pub.raw } }
        elseif pub.topic == "forbidden" then
          return tg.deny(403, "not yours")
        elseif pub.topic == "noise" then
          return tg.drop(pub.raw == "most" and ('"'):rep(512) or '"noise"')
        end
        pub.topic = "moved/" .. pub.topic
        return pub
      end,
    }
  ]] }

  it("may route", function()
    local c = sse.open(broker(), { topic = "moved/a" })
    broker():publish("a", "x")
    assert.equal("x", c:next().data)
  end)

  it("may make several events of one", function()
    local c = sse.open(broker(), { topic = { "left", "right" } })
    local id = broker():publish("split", "x")
    local list = c:collect(2)
    assert.equal("x", list[1].data)
    assert.equal("x", list[2].data)
    assert.equal(id, list[1].id)
  end)

  it("may drop some: the publisher is told which, and why", function()
    local c = sse.open(broker(), { topic = { "**" } })
    local before = broker():metric "tidegate_publish_dropped_total"
    local one = http.post(broker(), "/events?topic=noise", "x")
    assert.same({ 200, { dropped = '"noise"' } }, { one.status, one.json })
    local function batch(...)
      local list = {}
      for i, topic in ipairs { ... } do
        list[i] = { topic = topic, data = topic .. i }
      end
      return http.post(broker(), "/events", http.json.encode(list), JSON)
    end
    local all = batch("noise", "noise")
    assert.same({ 200, { { dropped = '"noise"' }, { dropped = '"noise"' } } }, { all.status, all.json })
    local some = batch("noise", "split", "noise", "a")
    assert.equal(201, some.status)
    assert.same({ '"noise"', '"noise"' }, { some.json[1].dropped, some.json[3].dropped })
    local events = c:collect(3)
    assert.same({ "split2", "split2", "a4" }, { events[1].data, events[2].data, events[3].data })
    assert.same({ events[1].id, events[3].id }, { some.json[2].id, some.json[4].id })
    assert.equal(before + 5, broker():metric "tidegate_publish_dropped_total")
    local most = http.post(broker(), "/events?topic=noise", "most")
    assert.same({ 200, { dropped = ('"'):rep(512) } }, { most.status, most.json })
    broker():publish("b", "next")
    assert.equal("next", c:next().data)
  end)

  it("may refuse one, and with it the batch", function()
    local c = sse.open(broker(), { topic = "moved/**" })
    local r = http.post(broker(), "/events", http.json.encode {
      { topic = "a", data = "1" }, { topic = "forbidden", data = "2" } }, JSON)
    assert.equal(403, r.status)
    assert.matches("not yours", r.json.detail)
    broker():publish("b", "next")
    assert.equal("next", c:next().data)
  end)
end)
