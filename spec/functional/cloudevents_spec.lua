-- transports: h2
-- CloudEvents that are published, and events that are delivered as such: scripts/CLOUDEVENTS.md.
local http = require "support.http"
local sse = require "support.sse"
local tidegate = require "support.tidegate"
local json = http.json

local POLICY = [[
return {
  api = 1,
  authenticate = function() return { sub = "anyone" } end,
  subscribe = function(req)
    return { topics = req.topics, format = req.query.format or "cloudevents", filter = req.query.filter or "none",
      envelope = req.query.envelope == "yes" }
  end,
  filters = { large = "attrs.amount > 5" },
  formats = { own = { keep = { "a" } } },
  publish = function(pub)
    if pub.attrs.source == "/stranger" then return tg.deny(403, "not from there") end
    if pub.attrs.source == "/elsewhere" then pub.topic = "hook/" .. pub.attrs.id end
    return pub
  end,
}
]]

local STRUCTURED = { ["Content-Type"] = "application/cloudevents+json; charset=utf-8" }
local BATCH = { ["Content-Type"] = "application/cloudevents-batch+json" }

local function event(more)
  local ce = { specversion = "1.0", id = "7", source = "/shop", type = "paid", subject = "orders/42" }
  for name, value in pairs(more or {}) do
    ce[name] = value or nil
  end
  return ce
end

describe("CloudEvents", function()
  local broker = tidegate.shared { policy = POLICY, config = {
    sse = { cloudevents_source = "https://events.example.org" },
    http = { webhook_origins = { "sender.example", "other.example" }, routes = {
      { path = "/ce/{who}", publish = "cloudevents", topic = "ce/{who}/{type}", answer = "empty" },
      { path = "/any", publish = "cloudevents" },
    } },
  } }

  local function post(ce, headers, path)
    return http.post(broker(), path or "/events", type(ce) == "string" and ce or json.encode(ce), headers or STRUCTURED)
  end

  -- What a stream of that topic begins with, from `id` on.
  local function delivered(topic, id)
    local c = sse.open(broker(), { topic = topic, last_event_id = tostring(math.tointeger(id) - 1) })
    local ev = c:next()
    c:close()
    return json.decode(ev.data), ev
  end

  it("go out as they came in, whichever way that was", function()
    local ce = event { id = "a", time = "2026-11-30T12:00:00+01:00", dataschema = "http://s/1", region = "n",
      amount = 7, ok = true, data = { sum = 12 }, datacontenttype = "application/json" }
    local r = post(ce)
    assert.equal(201, r.status, r.body)
    assert.same(ce, (delivered("orders/42", r.json.id)))
    ce.id = "b"
    r = post({ ce, event { id = "c" } }, BATCH)
    assert.equal(201, r.status, r.body)
    assert.same(ce, (delivered("orders/42", r.json[1].id)))
    local got, sent = delivered("orders/42", r.json[2].id)
    assert.same(event { id = "c" }, got)
    assert.equal("paid", sent.type)
    local headers = { ["Content-Type"] = "text/xml", ["ce-specversion"] = "1.0", ["ce-id"] = "d",
      ["ce-source"] = "/shop", ["ce-type"] = "paid", ["ce-subject"] = "orders/42", ["ce-note"] = "%E2%82%AC 5" }
    r = post("<a>\n</a>", headers)
    assert.equal(201, r.status, r.body)
    assert.same(event { id = "d", datacontenttype = "text/xml", note = "\u{20ac} 5", data = "<a>\n</a>" },
      (delivered("orders/42", r.json.id)))
  end)

  it("keep bytes that are no text, and what calls itself JSON and is none", function()
    local r = post("\1\2\xff", { ["Content-Type"] = "image/png", ["ce-specversion"] = "1.0", ["ce-id"] = "png",
      ["ce-source"] = "/shop", ["ce-type"] = "paid", ["ce-subject"] = "orders/42" })
    assert.equal(201, r.status, r.body)
    assert.same(event { id = "png", datacontenttype = "image/png", data_base64 = "AQL/" },
      (delivered("orders/42", r.json.id)))
    r = post("{no", { ["Content-Type"] = "application/json", ["ce-specversion"] = "1.0", ["ce-id"] = "no",
      ["ce-source"] = "/shop", ["ce-type"] = "paid", ["ce-subject"] = "orders/42" })
    assert.same(event { id = "no", datacontenttype = "application/json", data_base64 = "e25v" },
      (delivered("orders/42", r.json.id)))
    r = post(event { id = "t", data = "5" })
    assert.same(event { id = "t", data = "5" }, (delivered("orders/42", r.json.id)))
  end)

  it("are stored once, however often and however they are sent", function()
    local first = post(event { id = "once", data = "x" })
    assert.equal(201, first.status)
    for _, again in ipairs { post(event { id = "once", data = "x" }), post("x", { ["Content-Type"] = "application/json",
      ["ce-specversion"] = "1.0", ["ce-id"] = "once", ["ce-source"] = "/shop", ["ce-type"] = "t",
      ["ce-subject"] = "a" }) } do
      assert.equal(200, again.status)
      assert.same({ id = first.json.id, duplicate = true }, again.json)
    end
    assert.equal(201, post(event { id = "once", source = "/other" }).status)
    assert.equal(201, post(event { id = "once", source = "/othe", type = "r" }).status)
  end)

  it("are the policy's to route and to refuse; a batch is all or nothing", function()
    local r = post(event { source = "/stranger" })
    assert.equal(403, r.status)
    r = post({ event { id = "lost" }, event { source = "/stranger" } }, BATCH)
    assert.equal(403, r.status)
    r = post({ event { id = "lost" }, event { source = false } }, BATCH)
    assert.equal(400, r.status)
    assert.truthy(r.json.detail:find("event 1: source: is missing", 1, true), r.json.detail)
    r = post(event { id = "lost" })
    assert.equal(201, r.status) -- and not 200: nothing of the batches was stored
    r = post(event { id = "h", source = "/elsewhere" })
    assert.equal("h", delivered("hook/h", r.json.id).id)
  end)

  it("come to routes of theirs, which take nothing else", function()
    local live = sse.open(broker(), { topic = "ce/**" })
    local r = post(event { id = "r" }, nil, "/ce/ann")
    assert.equal(204, r.status)
    assert.same(event { id = "r" }, json.decode(live:next().data))
    r = post(event { id = "r", source = "/two" }, nil, "/ce/a%2Fb")
    assert.equal(204, r.status)
    live:next()
    live:close()
    local got = delivered("ce/a%2Fb/paid", "1")
    assert.equal("/two", got.source)
    assert.equal(201, post(event { id = "any" }, nil, "/any").status)
    assert.equal(201, post(event { id = "any2" }, nil, "/any?topic=x").status)
    for _, headers in ipairs { { ["Content-Type"] = "application/json" }, { ["Content-Type"] = "text/plain" },
      { ["Content-Type"] = "application/cloudevents+avro" } } do
      r = post(event { id = "r" }, headers, "/any")
      assert.equal(415, r.status)
      assert.truthy(r.json.detail:find("expected a CloudEvent", 1, true), r.json.detail)
    end
    assert.equal(405, http.get(broker(), "/any").status)
    r = post(event { id = "r" }, { ["Content-Type"] = "application/cloudevents+avro" }, "/events")
    assert.equal(415, r.status)
    assert.truthy(r.json.detail:find("; expected application/cloudevents+json or application/cloudevents-batch+json", 1,
      true), r.json.detail)
  end)

  it("are found by filters, attribute by attribute", function()
    local live = sse.open(broker(), { topic = "f", query = { filter = "large" } })
    post(event { id = "f1", subject = "f", amount = 5 })
    post(event { id = "f2", subject = "f", amount = 6 })
    assert.equal("f2", json.decode(live:next().data).id)
    live:close()
  end)

  it("are made of events that are none", function()
    local id = broker():publish("plain/1", "hello\nyou", { type = "said" })
    local got, sent = delivered("plain/1", id)
    assert.equal(id, sent.id)
    assert.truthy(got.time:find "^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ$")
    got.time = nil
    assert.same({ specversion = "1.0", id = tostring(id), source = "https://events.example.org", type = "said",
      subject = "plain/1", datacontenttype = "text/plain", data = "hello\nyou" }, got)
    local r = http.post(broker(), "/events", json.encode { topic = "plain/2", data = { a = 1 }, attrs = { amount = 7,
      share = 0.5, big = 4294967296, ok = true, a_b = 1, source = "me", data = "d", Upper = 1 } },
      { ["Content-Type"] = "application/json" })
    got = delivered("plain/2", r.json.id)
    got.time = nil
    assert.same({ specversion = "1.0", id = r.json.id, source = "https://events.example.org", type = "message",
      subject = "plain/2", data = { a = 1 }, amount = 7, share = "0.5", big = "4294967296", ok = true }, got)
    id = broker():publish("plain/3", "")
    got = delivered("plain/3", id)
    assert.is_nil(got.data)
    assert.is_nil(got.datacontenttype)
  end)

  it("are what an application stores with their attributes", function()
    local r = http.post(broker(), "/events", json.encode { topic = "app", type = "t", data = "text",
      attrs = { specversion = "1.0", id = "1", source = "/app", datacontenttype = "text/plain" } },
      { ["Content-Type"] = "application/json" })
    assert.same({ specversion = "1.0", id = "1", source = "/app", type = "t", datacontenttype = "text/plain",
      data = "text" }, (delivered("app", r.json.id)))
  end)

  it("fill pages of JSON and of lines", function()
    local r = post({ event { id = "p1", subject = "page", data = { sum = 1 } }, event { id = "p2", subject = "page" } },
      BATCH)
    local id = r.json[2].id
    r = http.get(broker(), "/events?topic=page", { Accept = "application/json" })
    assert.same({ event { id = "p1", subject = "page", data = { sum = 1 } }, event { id = "p2", subject = "page" } },
      r.json.events)
    assert.equal(200, r.status)
    r = http.get(broker(), "/events?topic=page", { Accept = "application/x-ndjson" })
    local lines = {}
    for line in r.body:gmatch "[^\n]+" do
      lines[#lines + 1] = json.decode(line)
    end
    assert.same({ "p1", "p2" }, { lines[1].id, lines[2].id })
    assert.truthy(tonumber(lines[3].next) >= tonumber(id))
  end)

  it("are delivered beside other formats of the same event", function()
    local streams = {}
    for _, format in ipairs { "json", "cloudevents", "raw", "own" } do
      streams[format] = sse.open(broker(), { topic = "mixed", query = { format = format } })
    end
    local envelope = sse.open(broker(), { topic = "mixed", query = { envelope = "yes" } })
    for i = 1, 3 do
      broker():publish("mixed", '{"a":' .. i .. ',"b":2}')
      assert.equal('{"a":' .. i .. ',"b":2}', streams.raw:next().data)
      assert.equal('{"a":' .. i .. "}", streams.own:next().data)
      assert.equal("mixed", json.decode(streams.json:next().data).topic)
      local ce = json.decode(streams.cloudevents:next().data)
      assert.same({ "1.0", "mixed" }, { ce.specversion, ce.subject })
      local whole = json.decode(envelope:next().data)
      assert.equal("mixed", whole.topic)
      assert.same(ce, whole.data)
    end
    for _, c in pairs(streams) do
      c:close()
    end
    envelope:close()
  end)

  it("are allowed to those senders of web hooks that the configuration names", function()
    local function ask(path, origin)
      local r = http.request(broker(), "OPTIONS", path, { ["WebHook-Request-Origin"] = origin,
        ["WebHook-Request-Callback"] = "https://confirm.example/?id=1", ["WebHook-Request-Rate"] = "120" })
      return { r.status, r.headers["webhook-allowed-origin"], r.headers["webhook-allowed-rate"], r.headers.allow }
    end
    assert.same({ 200, "sender.example", "*", "POST, OPTIONS" }, ask("/any", "sender.example"))
    assert.same({ 200, "Other.Example", "*", "GET, HEAD, POST, OPTIONS" }, ask("/events", "Other.Example"))
    local before = broker():metric "tidegate_webhooks_not_allowed_total"
    local refused = ask("/any", "stranger.example")
    assert.same({ 204, nil, nil }, { refused[1], refused[2], refused[3] })
    assert.equal(before + 1, broker():metric "tidegate_webhooks_not_allowed_total")
    assert.equal(204, ask("/events")[1])
    assert.equal(204, ask("/", "sender.example")[1]) -- nothing is posted there
    assert.equal(before + 1, broker():metric "tidegate_webhooks_not_allowed_total")
    assert.truthy(broker():logged { origin = "stranger.example", callback = "https://confirm.example/?id=1" })
  end)
end)
