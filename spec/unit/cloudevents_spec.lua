-- CloudEvents in publish bodies: scripts/CLOUDEVENTS.md.
local json = require "dkjson"
local parse = require("native.publish_body").parse

local ONE, MANY = "application/cloudevents+json", "application/cloudevents-batch+json"

-- A complete one, with what `more` says; false takes an attribute away.
local function event(more)
  local ce = { specversion = "1.0", id = "7", source = "/shop", type = "com.example.paid", subject = "orders/42" }
  for name, value in pairs(more or {}) do
    ce[name] = value or nil
  end
  return ce
end

local function structured(ce, rq)
  rq = rq or {}
  rq.content_type, rq.body = rq.content_type or ONE, type(ce) == "string" and ce or json.encode(ce)
  return parse(rq)
end

local function binary(ce, body, rq)
  rq = rq or {}
  rq.headers, rq.body = {}, body or ""
  for name, value in pairs(ce) do
    rq.headers["ce-" .. name] = tostring(value)
  end
  return parse(rq)
end

local function attrs(ev)
  return (json.decode(ev.attrs))
end

describe("a CloudEvent", function()
  it("is an event of its type, with all other attributes in attrs, and a key of source and id", function()
    local events, is_batch = structured(event { data = { a = 1 }, amount = 7, region = "n", ok = true,
      time = "2026-11-30T12:00:00.5+01:00", dataschema = "http://s/1" })
    assert.is_false(is_batch)
    assert.same({ { topic = "orders/42", type = "com.example.paid", key = "/shop 7", data = '{"a":1}', time_ms = 1234,
      attrs = '{"amount":7,"dataschema":"http://s/1","id":"7","ok":true,"region":"n","source":"/shop",'
        .. '"specversion":"1.0","subject":"orders/42","time":"2026-11-30T12:00:00.5+01:00"}' } }, events)
  end)

  it("is the same event in all three modes", function()
    local ce = event { region = "n", datacontenttype = "text/plain" }
    local want = structured(event { region = "n", datacontenttype = "text/plain", data = 'say "hello"' })
    ce.datacontenttype = nil
    assert.same(want, (binary(ce, 'say "hello"', { content_type = "text/plain" })))
    ce.datacontenttype, ce.data = "text/plain", 'say "hello"'
    local batch, is_batch = structured({ ce }, { content_type = MANY })
    assert.same(want, batch)
    assert.is_true(is_batch)
  end)

  it("has the topic that the query names, its subject, or its source", function()
    for topic, ce in pairs { ["orders/42"] = event(), ["shop/7"] = event { subject = false, source = "shop/7" } } do
      assert.equal(topic, structured(ce)[1].topic)
      assert.equal(topic, binary(ce)[1].topic)
      assert.equal("q", structured(ce, { query = "topic=q" })[1].topic)
      assert.equal("q", binary(ce, "x", { query = "topic=q" })[1].topic)
    end
    local _, status, why = structured(event { subject = "/blobs//x" })
    assert.equal(400, status)
    assert.truthy(why:find("subject: is \"/blobs//x\", which is no topic", 1, true), why)
    _, status, why = binary(event { subject = false })
    assert.equal(400, status)
    assert.truthy(why:find("ce-source: is \"/shop\", which is no topic", 1, true), why)
  end)

  it("has the topic that its route makes of the path and of itself", function()
    local route = { route = "/ce/{who}", path = "/ce/ann%2Fb", topic = "in/{who}/{source}/{type}/{subject}",
      cloudevents = 1 }
    local function to() return { route = route.route, path = route.path, topic = route.topic, cloudevents = 1 } end
    assert.equal("in/ann%2Fb/%2Fshop/com.example.paid/orders%2F42", structured(event(), to())[1].topic)
    assert.equal("in/ann%2Fb/%2Fshop/com.example.paid/orders%2F42", binary(event(), "", to())[1].topic)
    local _, status, why = structured(event { subject = false }, to())
    assert.equal(400, status)
    assert.equal("subject: is missing; the route makes the topic of it", why)
    local rq = to()
    rq.query = "topic=other"
    _, status = structured(event(), rq)
    assert.equal(400, status)
    rq = to()
    rq.content_type, rq.body = "application/json", '{"topic":"a","data":"x"}'
    _, status, why = parse(rq)
    assert.equal(415, status)
    assert.truthy(why:find("expected a CloudEvent", 1, true), why)
  end)

  it("keeps JSON as its text, a string of another type as its characters", function()
    local function data(text, of)
      return assert(structured((json.encode(event(of)):gsub("}$", ',"data":' .. text .. "}"))))[1].data
    end
    for _, text in ipairs { '"hello"', "5", "1.10", "null", "true", '{"b":[1,null]}', '"5"', "12345678901234567890" } do
      assert.equal(text, data(text))
      assert.equal(text, data(text, { datacontenttype = "application/vnd.x+json; charset=utf-8" }))
    end
    assert.equal('{"a":[1,"b c"]}', data ' { "a" : [ 1 , "b c" ] } ')
    assert.equal("<a>\n</a>", data('"<a>\\n</a>"', { datacontenttype = "text/xml" }))
    assert.equal("", structured(event())[1].data)
    local _, status, why = structured(event { datacontenttype = "text/plain", data = { 1 } })
    assert.equal(400, status)
    assert.equal('data: is an array, but datacontenttype says "text/plain"; expected a string', why)
  end)

  it("keeps bytes as text where they are, else as Base64", function()
    for bytes, base64 in pairs { ["hello"] = "aGVsbG8=", ["{}"] = "e30=", ["\u{fc}?>"] = "w7w/Pg==" } do
      local ev = structured(event { data_base64 = base64 })[1]
      assert.equal(bytes, ev.data)
      assert.is_nil(attrs(ev).data_base64)
    end
    for bytes, base64 in pairs { ["\1\2\xff"] = "AQL/", ["a\0b"] = "YQBi", ["\xff\xfe"] = "//4=" } do
      for _, ev in ipairs { structured(event { data_base64 = base64 })[1], binary(event(), bytes)[1],
        structured((json.encode(event { data_base64 = base64 }):gsub("/", "\\/")))[1] } do
        assert.equal(base64, ev.data)
        assert.is_true(attrs(ev).data_base64)
      end
    end
    for _, bad in ipairs { "AQL", "AQL/=", "A===", "AQ=/", "AR==", "A_-/", " AQL/", "====", "AQL/\n" } do
      local _, status, why = structured(event { data_base64 = bad })
      assert.equal(400, status, bad)
      assert.equal("data_base64: is not Base64 with padding", why)
    end
    assert.equal("", structured(event { data_base64 = "" })[1].data)
  end)

  it("has its values in the head as the HTTP binding says", function()
    for given, value in pairs {
      ["plain"] = "plain", ["Euro%20%E2%82%AC%20%F0%9F%98%80"] = "Euro \u{20ac} \u{1f600}",
      ['"quoted \\"x\\" %25"'] = 'quoted "x" %',
      ["50%"] = "50%", ["%zz"] = "%zz", ["a%2"] = "a%2", ['"'] = '"',
    } do
      assert.equal(value, attrs(binary(event { note = given })[1]).note)
    end
    local _, status, why = binary(event { note = "%FF" })
    assert.equal(400, status)
    assert.equal("ce-note: is not valid UTF-8 when decoded", why)
    _, status, why = binary(event { note = "%0A" })
    assert.equal(400, status)
    assert.equal("ce-note: holds control characters", why)
    _, status, why = binary(event { datacontenttype = "text/plain" })
    assert.equal(400, status)
    assert.equal("ce-datacontenttype: expected in Content-Type", why)
    local ev = binary({ ID = "7", Source = "/s", SpecVersion = "1.0", TYPE = "t" }, "", { query = "topic=a" })[1]
    assert.same({ "/s 7", "t" }, { ev.key, ev.type })
  end)

  it("takes the Idempotency-Key for its key, and a digest where source and id are long", function()
    assert.equal("k", structured(event(), { idempotency_key = "k" })[1].key)
    local long = structured(event { id = ("i"):rep(250) })[1].key
    assert.truthy(long:find "^cloudevent %x+$")
    assert.equal(#"cloudevent " + 64, #long)
    assert.not_equal(long, structured(event { id = ("i"):rep(249) .. "j" })[1].key)
    local _, status, why = structured({ event() }, { content_type = MANY, idempotency_key = "k" })
    assert.equal(400, status)
    assert.truthy(why:find "^Idempotency%-Key", why)
  end)

  it("is refused with the name of what is wrong, and what was expected", function()
    for why, more in pairs {
      ["id: is missing; expected a text that no other event of its source has"] = { id = false },
      ['id: is ""; expected a text that no other event of its source has'] = { id = "" },
      ["id: is no text; expected a text that no other event of its source has"] = { id = 7 },
      ['source: is missing; expected a URI without spaces, such as "/sensors/7"'] = { source = false },
      ['source: is "a b"; expected a URI without spaces, such as "/sensors/7"'] = { source = "a b" },
      ['specversion: is "0.3"; expected "1.0"'] = { specversion = "0.3" },
      ['specversion: is missing; expected "1.0"'] = { specversion = false },
      ['type: is missing; expected a text such as "com.example.order.paid"'] = { type = false },
      ['time: is "yesterday"; expected a time of RFC 3339, such as "2026-11-30T12:00:00Z"'] = { time = "yesterday" },
      ['time: is "2026-11-30T12:00:00"; expected a time of RFC 3339, such as "2026-11-30T12:00:00Z"']
        = { time = "2026-11-30T12:00:00" },
      ['datacontenttype: is "json"; expected a media type, such as "application/json"'] = { datacontenttype = "json" },
      ['subject: is ""; expected a text that is not empty'] = { subject = "" },
      ["a_b: names have lower-case letters and digits"] = { a_b = "x" },
      ['Subject: names have lower-case letters and digits; did you mean "subject"?'] = { Subject = "x" },
      ["note: holds control characters"] = { note = "a\nb" },
      ["note: is an object; expected a string, number or boolean"] = { note = { a = 1 } },
      ["data_base64: is there beside data; expected one"] = { data = "x", data_base64 = "AAAA" },
      ["data_base64: expected a string, got a number"] = { data_base64 = 5 },
      ["type: is longer than 255 bytes"] = { type = ("t"):rep(256) },
      ["attrs: are longer than 4096 bytes of JSON"] = { note = ("n"):rep(4097) },
      ["attributes: are longer than 4096 bytes of JSON"] = { note = ("n"):rep(6 * 4096) },
    } do
      local events, status, text = structured(event(more))
      assert.is_nil(events, why)
      assert.same({ 400, why }, { status, text })
    end
    local _, status, why = structured((json.encode(event()):gsub("}$", ',"id":"8"}')))
    assert.same({ 400, "id: is there more than once" }, { status, why })
    _, status, why = binary { id = "1" }
    assert.same({ 400, 'ce-source: is missing; expected a URI without spaces, such as "/sensors/7"' }, { status, why })
    local broken = { "5", "[]", "{", '{"id":"7"', '{"id" "7"}', '{"id":"7",}', json.encode(event()) .. "x", "" }
    for _, text in ipairs(broken) do
      local events
      events, status = structured(text)
      assert.is_nil(events, text)
      assert.equal(400, status)
    end
  end)

  it("treats null as an attribute that is not there", function()
    local ev = structured((json.encode(event()):gsub("}$", ',"time":null,"note":null}')))[1]
    assert.same({ id = "7", source = "/shop", specversion = "1.0", subject = "orders/42" }, attrs(ev))
  end)

  it("is as long as an event may be, in any mode", function()
    local limits = { event_bytes = 100 }
    local function with(rq)
      return setmetatable(rq, { __index = limits })
    end
    local function status_of(...)
      return select(2, ...)
    end
    assert.equal(413, status_of(structured(event { data = ("x"):rep(99) }, with {})))
    assert.truthy(structured(event { data = ("x"):rep(98) }, with {}))
    assert.equal(413, status_of(binary(event(), ("x"):rep(101), with {})))
    assert.truthy(binary(event(), ("x"):rep(100), with {}))
    assert.equal(413, status_of(binary(event(), ("\xff"):rep(76), with {})))
    assert.equal(100, #binary(event(), ("\xff"):rep(75), with {})[1].data)
    assert.equal(413, status_of(structured(event { data_base64 = ("/"):rep(104) }, with {})))
  end)

  it("is data like any other where the route says so", function()
    local body = json.encode(event())
    local ev = structured(body, { route = "/raw", path = "/raw", topic = "t" })[1]
    assert.same({ "t", body }, { ev.topic, ev.data })
  end)
end)

describe("a batch of CloudEvents", function()
  local function batch(list, rq)
    rq = rq or {}
    rq.content_type = MANY
    return structured(list, rq)
  end

  it("is all or nothing, and says which is wrong", function()
    local events = batch { event { id = "1" }, event { id = "2", data = "x" }, event { id = "1", source = "/b" } }
    local keys = {}
    for i, ev in ipairs(events) do keys[i] = ev.key end
    assert.same({ "/shop 1", "/shop 2", "/b 1" }, keys)
    local _, status, why = batch { event { id = "1" }, event { id = false } }
    assert.same({ 400, "event 1: id: is missing; expected a text that no other event of its source has" },
      { status, why })
    _, status, why = batch({ event { id = "1" }, event { id = "2" }, event { id = "3" } }, { batch_events = 2 })
    assert.equal(413, status, why)
    for _, text in ipairs { "[]", "{}", "", "[5]", "[" .. json.encode(event()),
      "[" .. json.encode(event()) .. ",]" } do
      local none
      none, status = batch(text)
      assert.is_nil(none, text)
      assert.equal(400, status, text)
    end
  end)
end)
