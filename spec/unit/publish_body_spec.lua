local envelope = require "native.publish_body"

local JSON, NDJSON = "application/json", "application/x-ndjson"

local function parse(rq)
  rq.body = rq.body or ""
  return envelope.parse(rq)
end

local function json(body, rq)
  rq = rq or {}
  rq.content_type, rq.body = JSON, body
  return parse(rq)
end

local function ndjson(body, rq)
  rq = rq or {}
  rq.content_type, rq.body = NDJSON, body
  return parse(rq)
end

local function data_of(value)
  local events, _, text = json('{"topic":"t","data":' .. value .. "}")
  return assert(events, text)[1].data
end

local function attrs_of(value)
  local events, _, text = json('{"topic":"t","data":"","attrs":' .. value .. "}")
  return assert(events, text)[1].attrs
end

describe("a raw body", function()
  it("is the data, byte for byte, whatever its content type says", function()
    for _, body in ipairs { "hello", "", ' { "b":1,\n"a":2 } ', "\u{FEFF}x", "a\r\nb", '{"topic":"x","data":"y"}' } do
      for _, content_type in ipairs { "text/plain", JSON, NDJSON, "application/x-www-form-urlencoded", "" } do
        local events, is_batch = parse { query = "topic=a/b", content_type = content_type, body = body }
        assert.same({ { topic = "a/b", type = "message", data = body, time_ms = 1234 } }, events)
        assert.is_false(is_batch)
      end
    end
  end)

  it("takes type, key and attributes from the query", function()
    local query = "topic=a&type=order%20created&key=k1&attr.b=2&attr.a=x+y&attr.c=&other=1"
    local events = parse { query = query, body = "x" }
    assert.same({ { topic = "a", type = "order created", key = "k1", attrs = '{"a":"x y","b":"2","c":""}', data = "x",
      time_ms = 1234 } }, events)
  end)

  it("prefers the Idempotency-Key field", function()
    assert.equal("h", parse { query = "topic=a&key=q", idempotency_key = "h" }[1].key)
    assert.equal("h", parse { query = "topic=a", idempotency_key = "h" }[1].key)
  end)

  it("may be as long as an event may be", function()
    assert.equal(1000, #parse { query = "topic=a", body = ("x"):rep(1000) }[1].data)
  end)
end)

describe("an envelope", function()
  it("holds all fields of an event", function()
    local events, is_batch = json [[ { "attrs": {"n": 1, "b": true, "a": "x"}, "key":"k", "type":"t", "data":"d",
      "topic":"a/b" } ]]
    assert.same({ { topic = "a/b", type = "t", key = "k", data = "d", attrs = '{"a":"x","b":true,"n":1}',
      time_ms = 1234 } }, events)
    assert.is_false(is_batch)
  end)

  it("needs a topic and data only", function()
    assert.same({ { topic = "a", type = "message", data = "", time_ms = 1234 } }, (json '{"topic":"a","data":""}'))
    assert.equal("message", json('{"topic":"a","data":"","type":""}')[1].type)
  end)

  it("gives the text of a string, and of any other value its JSON as it was written", function()
    local same = { "null", "true", "false", "0", "-0", "1.10", "1e5", "1E+005", "0.1", "12345678901234567890",
      "18446744073709551616", "3.14159265358979323846264338327950288", "{}", "[]", '{"b":1,"a":{"d":[],"c":null}}',
      [==[["\u00e9","\/","\u0000"," a : [ b "]]==], '{"\\u0061":1}', ("[" .. ("9"):rep(300) .. "]") }
    for _, value in ipairs(same) do assert.equal(value, data_of(value)) end
    assert.equal("a\"\n\u{e9}\u{1F600}", data_of [["a\"\n\u00e9\ud83d\ude00"]])
    assert.equal("", data_of '""')
    assert.equal('{"a":[1,"b c",{"d":null}]}', data_of ' {\n "a" : [ 1 ,\t"b c" , { "d" : null } ] }\r\n ')
  end)

  it("may spell its names with escapes", function()
    assert.same({ { topic = "a", type = "message", data = "[1]", time_ms = 1234 } },
      (json [[{"\u0074opic":"\u0061","d\u0061ta": [ 1 ]}]]))
  end)

  it("has its content type in any case, with parameters", function()
    for _, t in ipairs { "application/json", "Application/JSON", "application/json; charset=utf-8",
      "application/json;x", "application/json \t; a=b" } do
      assert.equal(1, #parse { content_type = t, body = '{"topic":"a","data":"x"}' })
    end
  end)

  it("takes the Idempotency-Key field for its key", function()
    assert.equal("h", json('{"topic":"a","data":"","key":"own"}', { idempotency_key = "h" })[1].key)
    assert.equal("own", json('{"topic":"a","data":"","key":"own"}')[1].key)
  end)

  -- A tree of it took 100 times as long as the text, and 80 times its memory.
  it("costs no more than its bytes, whatever they are", function()
    local function cpu(value, event_bytes)
      local least = math.huge
      for _ = 1, 3 do
        local start = os.clock()
        json('{"topic":"t","data":' .. value .. "}", { event_bytes = event_bytes })
        least = math.min(least, os.clock() - start)
      end
      return least
    end
    local n = 1 << 20
    for _, limit in ipairs { 1000, n } do
      local plain = cpu('"' .. ("x"):rep(n - 2) .. '"', limit)
      for _, part in ipairs { "{},", "[],", '"",', "1,", '{"a":0},', "[[[]]]," } do
        local value = "[" .. part:rep((n - 4) // #part) .. "0]"
        assert.is_true(cpu(value, limit) < 12 * plain + 0.002, part)
      end
    end
    local attrs = '{"a":[' .. ("{},"):rep(n // 3) .. "0]}"
    local plain = cpu('"' .. ("x"):rep(n - 2) .. '"', n)
    assert.is_true(cpu('"","attrs":' .. attrs, n) < 12 * plain + 0.002)
  end)

  it("may hold in its data what only some readers take", function()
    for _, value in ipairs { '{"b":1,"b":2}', "1e999", '{"a":' .. ("["):rep(400) .. ("]"):rep(400) .. "}" } do
      assert.equal(value, data_of(value))
    end
  end)

  it("leaves the query to the policy", function()
    assert.same({ { topic = "a", type = "message", data = "x", time_ms = 1234 } },
      (json('{"topic":"a","data":"x"}', { query = "key=secret&type=x&attr.a=1" })))
  end)

  it("stores attributes in one form, whatever their order and spelling", function()
    assert.equal('{"a":1,"b":"\u{e9}"}', attrs_of [[ {"b":"\u00e9", "a":1} ]])
    assert.equal('{"B":1,"a":2,"aa":3,"b":4,"\u{e9}":5}', attrs_of '{"\u{e9}":5,"b":4,"aa":3,"a":2,"B":1}')
    assert.equal('{"a":9223372036854775807,"b":-9223372036854775808}',
      attrs_of '{"a":9223372036854775807,"b":-9223372036854775808}')
    assert.equal('{"a":0.1,"b":48.2,"c":0.30000000000000004,"d":1.0,"e":1e300}',
      attrs_of '{"a":0.10000000000000001,"b":48.20,"c":0.30000000000000004,"d":1.00,"e":1E300}')
    assert.is_nil(attrs_of "{}")
  end)
end)

describe("a batch", function()
  local three = { '{"topic":"a","data":"1"}', '{"topic":"b","data":{"x": 2}}', '{"topic":"a","data":"3","key":"k"}' }
  local want = {
    { topic = "a", type = "message", data = "1", time_ms = 1234 },
    { topic = "b", type = "message", data = '{"x":2}', time_ms = 1234 },
    { topic = "a", type = "message", data = "3", key = "k", time_ms = 1234 },
  }

  it("is an array, in order", function()
    local events, is_batch = json(" [ " .. table.concat(three, " , ") .. " ]\n")
    assert.same(want, events)
    assert.is_true(is_batch)
  end)

  it("is one envelope a line; empty lines and CR do no harm", function()
    for _, body in ipairs { table.concat(three, "\n"), table.concat(three, "\n") .. "\n",
      table.concat(three, "\r\n") .. "\r\n", "\n\n" .. table.concat(three, "\n \n") .. "\n\n" } do
      local events, is_batch = ndjson(body)
      assert.same(want, events)
      assert.is_true(is_batch)
    end
  end)

  it("of one is a batch", function()
    assert.is_true(select(2, json("[" .. three[1] .. "]")))
    assert.is_true(select(2, ndjson(three[1])))
  end)

  it("may be as large as the limit", function()
    assert.equal(3, #json("[" .. table.concat(three, ",") .. "]", { batch_events = 3 }))
    assert.equal(3, #ndjson(table.concat(three, "\n"), { batch_events = 3 }))
  end)
end)

-- 2023-11-14T22:13:20Z
local NOW = 1700000000000

describe("when an event expires", function()
  local function of(fields)
    local events, _, text = json('{"topic":"t","data":"",' .. fields .. "}", { now = NOW })
    return events and events[1].expires_ms, text
  end
  local function of_query(query)
    local events, _, text = parse { query = "topic=t&" .. query, now = NOW }
    return events and events[1].expires_ms, text
  end

  it("is a time, or so many seconds from now on", function()
    for fields, ms in pairs {
      ['"ttl":1'] = NOW + 1000, ['"ttl":0.0001'] = NOW + 1, ['"ttl":1e2'] = NOW + 100000,
      ['"ttl":315619200'] = NOW + 315619200000,
      ['"expires":1700000060'] = NOW + 60000, ['"expires":1700000060.25'] = NOW + 60250,
      ['"expires":1.70000006e9'] = NOW + 60000,
      ['"expires":1700000060250'] = NOW + 60250, ['"expires":"1700000060"'] = NOW + 60000,
      ['"expires":"2023-11-14T22:14:20Z"'] = NOW + 60000, ['"expires":"2023-11-14T23:14:20.5+01:00"'] = NOW + 60500,
      ['"expires":"2023-11-15"'] = NOW + 6400000, ['"expires":1600000000'] = 1600000000000, -- has passed
    } do
      assert.equal(ms, (of(fields)), fields)
    end
    for query, ms in pairs {
      ["ttl=1.5"] = NOW + 1500, ["expires=1700000060.5"] = NOW + 60500, ["expires=2023-11-14T22:14:20Z"] = NOW + 60000,
    } do
      assert.equal(ms, (of_query(query)), query)
    end
    assert.equal(NOW + 5000, ndjson('{"topic":"t","data":"","ttl":5}', { now = NOW })[1].expires_ms)
    assert.is_nil((of('"type":"x"')))
  end)

  it("is refused where it is none, or more than ten years ahead", function()
    local time = "; a Unix time in seconds was expected, or 2026-11-30T12:00:00Z; ttl is for seconds from now"
    local seconds = "; seconds were expected: more than 0, at most 315619200 (ten years)"
    local texts = "expires: expected a Unix time in seconds, or a text as \"2026-11-30T12:00:00Z\", got "
    for fields, text in pairs {
      ['"ttl":0'] = 'ttl: is "0"' .. seconds, ['"ttl":-5'] = 'ttl: is "-5"' .. seconds,
      ['"ttl":315619201'] = 'ttl: is "315619201"' .. seconds, ['"ttl":1e400'] = 'ttl: is "1e400"' .. seconds,
      ['"ttl":"60"'] = "ttl: expected a number of seconds, got a string",
      ['"ttl":null'] = "ttl: expected a number of seconds, got null",
      ['"expires":60'] = 'expires: is "60"' .. time, ['"expires":-1700000060'] = 'expires: is "-1700000060"' .. time,
      ['"expires":"-15m"'] = 'expires: is "-15m"' .. time, ['"expires":"tomorrow"'] = 'expires: is "tomorrow"' .. time,
      ['"expires":""'] = 'expires: is ""' .. time, ['"expires":"2023-02-30"'] = 'expires: is "2023-02-30"' .. time,
      ['"expires":"\\u00e9\\n"'] = 'expires: is "???"' .. time,
      ['"expires":1e30'] = 'expires: is "1e+30"' .. time,
      ['"expires":2100000000'] = 'expires: is "2100000000"; at most ten years from now were expected',
      ['"expires":"2034-01-01"'] = 'expires: is "2034-01-01"; at most ten years from now were expected',
      ['"expires":true'] = texts .. "a boolean", ['"expires":null'] = texts .. "null",
      ['"expires":"1999-01-01"'] = "expires: expected a time between 2001 and 2286",
      ['"expires":1700000060,"ttl":60'] = "expires, ttl: are both there; give one of them",
    } do
      assert.equal(text, (select(2, of(fields))), fields)
    end
    assert.equal('ttl: is "1h"' .. seconds, (select(2, of_query "ttl=1h")))
    assert.equal("expires, ttl: are both there; give one of them", (select(2, of_query "ttl=1&expires=1700000060")))
    assert.equal("ttl: is in the query more than once", (select(2, of_query "ttl=1&ttl=2")))
  end)
end)

-- Every way to be refused: { what is sent, status, the whole text }
describe("a refusal says which envelope, which field, what was expected:", function()
  local unknown = "; an envelope has topic, data, type, key, attrs, expires, ttl"
  local cloudevent = "; this looks like a CloudEvent: send it as Content-Type: application/cloudevents+json"
  local content = "; expected application/json or application/x-ndjson, or ?topic=NAME in the query where the body is "
    .. "the data itself"
  local no_binary = "; encode binary data, for instance as Base64"
  local scalars = "attrs: expected an object of strings, numbers and booleans"
  local empty = "body: is empty; expected an envelope such as " .. '{"topic":"orders/42","data":"hello"}'
  local batch_key = 'Idempotency-Key: names one event, the body is a batch; give each envelope a "key" of its own'
  local e = '{"topic":"a","data":"x"}'

  local function check(case)
    local rq, status, text = case[1], case[2], case[3]
    local events, got, message = parse(rq)
    assert.is_nil(events)
    assert.same({ status, text }, { got, message })
  end

  it("of a raw body", function()
    local nul = "data: holds a NUL character, which clients do not receive alike" .. no_binary
    for _, case in ipairs {
      { { query = "topic=" }, 400, "topic: is empty; expected segments separated by '/'" },
      { { query = "topic" }, 400, "topic: is empty; expected segments separated by '/'" },
      { { query = "topic=a/*" }, 400, "topic: holds '*', which only patterns may hold" },
      { { query = "topic=a//b" }, 400, "topic: has an empty segment ('/' at the start or end, or '//')" },
      { { query = "topic=a%0Ab" }, 400, "topic: holds a control character" },
      { { query = "topic=" .. ("x"):rep(256) }, 400, "topic: is longer than 255 bytes" },
      { { query = "topic=a&topic=b" }, 400, "topic: is in the query more than once" },
      { { query = "topic=a&type=b&type=b" }, 400, "type: is in the query more than once" },
      { { query = "topic=a&key=b&key=" }, 400, "key: is in the query more than once" },
      { { query = "topic=a&attr.x=1&attr.y=1&attr.x=2" }, 400, "attr.x: is in the query more than once" },
      { { query = "topic=a&attr.=1" }, 400, "attrs: a name is empty" },
      { { query = "topic=a&attr.x=" .. ("v"):rep(4096) }, 400, "attrs: are longer than 4096 bytes of JSON" },
      { { query = "topic=a&type=x%0Ay" }, 400, "type: holds CR, LF or NUL; it is sent on one line" },
      { { query = "topic=a&key=x%0Dy" }, 400, "key: holds CR, LF or NUL" },
      { { query = "topic=a&key=" }, 400, "key: is empty; leave it out, or give each event its own" },
      { { query = "topic=a", idempotency_key = "" }, 400, "key: is empty; leave it out, or give each event its own" },
      { { query = "topic=a", idempotency_key = "\xff" }, 400, "key: is not valid UTF-8" },
      { { query = "topic=a", idempotency_key = ("k"):rep(256) }, 400, "key: is longer than 255 bytes" },
      { { query = "topic=a", body = "abc\xc3(" }, 400, "body: is not valid UTF-8 (byte 3)" .. no_binary },
      { { query = "topic=a", body = "a\0b" }, 400, nul },
      { { query = "topic=a", body = ("x"):rep(1001) }, 413, "data: is 1001 bytes long; an event may hold 1000" },
    } do check(case) end
  end)

  it("of a content type", function()
    for _, case in ipairs {
      { { body = e }, 415, "Content-Type: is missing" .. content },
      { { body = e, content_type = "text/xml; charset=x" }, 415, 'Content-Type: is "text/xml; charset=x"' .. content },
      { { body = e, content_type = "application/jsonp" }, 415, 'Content-Type: is "application/jsonp"' .. content },
      { { body = e, content_type = "x/\xff\u{e9}" }, 415, 'Content-Type: is "x/???"' .. content },
      { { body = e, content_type = ("x"):rep(100) }, 415, 'Content-Type: is "' .. ("x"):rep(60) .. '..."' .. content },
    } do check(case) end
  end)

  it("of one envelope", function()
    for _, case in ipairs {
      { "", 400, empty }, { " \r\n\t", 400, empty },
      { "\xff", 400, "body: is not valid UTF-8 (byte 0)" .. no_binary },
      { "{", 400, "JSON: expected the name of a field in double quotes, the text ends (byte 1)" },
      { '{"topic":"a","data":"x"', 400, "JSON: expected ',' or '}', the text ends (byte 23)" },
      { '{"topic":"a","data":"x', 400, "JSON: the string does not end, the text ends (byte 22)" },
      { '{"topic":"a","data":x}', 400, "JSON: expected a value (byte 20)" },
      { '{"topic":"a","data":tru}', 400, "JSON: expected a value (byte 20)" },
      { '{"topic":"a","data":-x}', 400, "JSON: expected a digit (byte 21)" },
      { '{"topic":"a","data":01}', 400, "JSON: expected ',' or '}' (byte 21)" },
      { '{"topic":"a","data":[1 2]}', 400, "JSON: expected ',' or ']' (byte 23)" },
      { '{"topic":"a","data":{"a" 1}}', 400, "JSON: expected ':' (byte 25)" },
      { '{"topic":"a","data":{1:1}}', 400, "JSON: expected a string (byte 21)" },
      { '{"topic":"a","data":"\t"}', 400, "JSON: a control character in a string must be escaped (byte 22)" },
      { '{"topic":"a","data":"\\x"}', 400, "JSON: unknown escape (byte 23)" },
      { '{"topic":"a","data":"\\u12"}', 400, "JSON: expected four hexadecimal digits (byte 25)" },
      { '{"topic" "a"}', 400, "JSON: expected ':' (byte 9)" },
      { '{"topic":"a",}', 400, "JSON: expected the name of a field in double quotes (byte 13)" },
      { '{"topic":"a"} x', 400, "JSON: expected nothing behind the envelope (byte 14)" },
      { e .. e, 400, "JSON: expected nothing behind the envelope (byte 24)" },
      { "\u{e9}", 400, "JSON: expected a value (byte 0)" },
      { '{"topic":"a","topic":"b"}', 400, "topic: is there more than once" },
      { '{"topic":"a","d\\u0061ta":1,"data":2}', 400, "data: is there more than once" },
      { '{"topic":"a","data":"\\ud800"}', 400, "JSON: half of a surrogate pair is no character (byte 27)" },
      { '{"topic":"a","data":' .. ("["):rep(3000) .. ("]"):rep(3000) .. "}", 400,
        "JSON: nested more than 512 deep (byte 533)" },
      { "3", 400, "expected an envelope, which is an object, got a number" },
      { '"x"', 400, "expected an envelope, which is an object, got a string" },
      { "null", 400, "expected an envelope, which is an object, got null" },
      { "true", 400, "expected an envelope, which is an object, got a boolean" },
      { "{}", 400, "topic: is missing; expected a string" },
      { '{"data":"x"}', 400, "topic: is missing; expected a string" },
      { '{"topic":1,"data":"x"}', 400, "topic: expected a string, got a number" },
      { '{"topic":null,"data":"x"}', 400, "topic: expected a string, got null" },
      { '{"topic":["a"],"data":"x"}', 400, "topic: expected a string, got an array" },
      { '{"topic":"","data":"x"}', 400, "topic: is empty; expected segments separated by '/'" },
      { '{"topic":"a/**","data":"x"}', 400, "topic: holds '*', which only patterns may hold" },
      { '{"topic":"a\\u0000","data":"x"}', 400, "topic: holds a control character" },
      { '{"topic":"a"}', 400, "data: is missing; expected a string or any JSON value" },
      { '{"topic":"a","data":"x\\u0000"}', 400,
        "data: holds a NUL character, which clients do not receive alike" .. no_binary },
      { '{"topic":"a","data":"x","type":{}}', 400, "type: expected a string, got an object" },
      { '{"topic":"a","data":"x","type":"a\\nid: 1"}', 400, "type: holds CR, LF or NUL; it is sent on one line" },
      { '{"topic":"a","data":"x","key":true}', 400, "key: expected a string, got a boolean" },
      { '{"topic":"a","data":"x","key":""}', 400, "key: is empty; leave it out, or give each event its own" },
      { '{"topic":"a","data":"x","key":"a\\u0000"}', 400, "key: holds CR, LF or NUL" },
      { '{"topic":"a","data":"x","attrs":[1]}', 400, scalars },
      { '{"topic":"a","data":"x","attrs":null}', 400, scalars },
      { '{"topic":"a","data":"x","attrs":{"a":1,"b":{}}}', 400,
        'attrs: "b" is an object; expected a string, number or boolean' },
      { '{"topic":"a","data":"x","attrs":{"a":[1]}}', 400,
        'attrs: "a" is an array; expected a string, number or boolean' },
      { '{"topic":"a","data":"x","attrs":{"a":null}}', 400,
        'attrs: "a" is null; expected a string, number or boolean' },
      { '{"topic":"a","data":"x","attrs":{"":1}}', 400, "attrs: a name is empty" },
      { '{"topic":"a","data":"x","attrs":{"a":9223372036854775808}}', 400,
        "attrs: too big integer near '9223372036854775808' (byte 24)" },
      { '{"topic":"a","data":"x","attrs":{"a":"' .. ("v"):rep(4090) .. '"}}', 400,
        "attrs: are longer than 4096 bytes of JSON" },
      { '{"topic":"a","data":"x","attrs":{"a":1,"a":2}}', 400,
        "attrs: duplicate object key near '\"a\"' (byte 10)" },
      { '{"topic":"a","data":"x","attrs":{"a":"' .. (" "):rep(30000) .. '"}}', 400,
        "attrs: are longer than 4096 bytes of JSON" },
      { '{"topic":"a","data":"x","tpye":"y"}', 400, 'unknown field "tpye"; did you mean "type"?' },
      { '{"Topic":"a","data":"x"}', 400, 'unknown field "Topic"; did you mean "topic"?' },
      { '{"topics":"a","data":"x"}', 400, 'unknown field "topics"; did you mean "topic"?' },
      { '{"topic":"a","dta":"x"}', 400, 'unknown field "dta"; did you mean "data"?' },
      { '{"topic":"a","data":"x","keys":"x"}', 400, 'unknown field "keys"; did you mean "key"?' },
      { '{"topic":"a","data":"x","attributes":{}}', 400, 'unknown field "attributes"' .. unknown },
      { '{"topic":"a","data":"x","id":"7"}', 400, 'unknown field "id"' .. unknown },
      { '{"specversion":"1.0","id":"1"}', 400, 'unknown field "specversion"' .. cloudevent },
      { '{"id":"1","source":"/a","specversion":"1.0"}', 400, 'unknown field "id"' .. cloudevent },
      { '{"":1}', 400, 'unknown field ""' .. unknown },
      { '{"' .. ("q\u{e9}"):rep(40) .. '":1}', 400, 'unknown field "' .. ("q??"):rep(20) .. '..."' .. unknown },
      { '{"topic":"a","data":"' .. ("x"):rep(1001) .. '"}', 413, "data: is 1001 bytes long; an event may hold 1000" },
      { '{"topic":"a","data":[' .. ("1,"):rep(500) .. '1]}', 413, "data: is 1003 bytes long; an event may hold 1000" },
    } do check { { content_type = JSON, body = case[1] }, case[2], case[3] } end
  end)

  it("of an array", function()
    for _, case in ipairs {
      { "[]", 400, "body: is an empty array; expected at least one envelope" },
      { " [ ] ", 400, "body: is an empty array; expected at least one envelope" },
      { "[", 400, "envelope 0: JSON: expected a value, the text ends (byte 0)" },
      { "[,]", 400, "envelope 0: JSON: expected a value (byte 0)" },
      { "[" .. e .. ",]", 400, "envelope 1: JSON: expected a value (byte 0)" },
      { "[" .. e .. ", {", 400,
        "envelope 1: JSON: expected the name of a field in double quotes, the text ends (byte 1)" },
      { "[" .. e, 400, "envelope 0: JSON: expected ',' or ']' behind it" },
      { "[" .. e .. e .. "]", 400, "envelope 0: JSON: expected ',' or ']' behind it" },
      { "[" .. e .. "}", 400, "envelope 0: JSON: expected ',' or ']' behind it" },
      { "[" .. e .. "] x", 400, "JSON: expected nothing behind the array" },
      { "[[]]", 400, "envelope 0: expected an envelope, which is an object, got an array" },
      { "[" .. e .. ",3]", 400, "envelope 1: expected an envelope, which is an object, got a number" },
      { "[" .. e .. ',{"topic":"a//b","data":"2"},' .. e .. "]", 400,
        "envelope 1: topic: has an empty segment ('/' at the start or end, or '//')" },
      { "[" .. e .. "," .. e .. ',{"topic":"a","data":"2","tipe":""}]', 400,
        'envelope 2: unknown field "tipe"; did you mean "type"?' },
      { "[" .. e .. ',{"topic":"a","data":x}]', 400, "envelope 1: JSON: expected a value (byte 20)" },
      { "[" .. e .. ',{"topic":"a","data":"' .. ("x"):rep(1001) .. '"}]', 413,
        "envelope 1: data: is 1001 bytes long; an event may hold 1000" },
      { "[" .. (e .. ","):rep(3) .. e .. "]", 413, "envelope 3: one request may hold 3 events at most" },
    } do check { { content_type = JSON, body = case[1], batch_events = 3 }, case[2], case[3] } end
    check { { content_type = JSON, body = "[" .. e .. "]", idempotency_key = "k" }, 400, batch_key }
  end)

  it("of lines", function()
    for _, case in ipairs {
      { "", 400, empty }, { "\n\r\n \n", 400, empty },
      { e .. "\n{\n", 400, "line 2: JSON: expected the name of a field in double quotes, the text ends (byte 1)" },
      { '{"topic":"a",\n"data":"x"}', 400,
        "line 1: JSON: expected the name of a field in double quotes, the text ends (byte 13)" },
      { e .. e, 400, "line 1: JSON: expected nothing behind the envelope (byte 24)" },
      { "\n\n" .. e .. '\n\n{"topic":"a"}\n', 400, "line 5: data: is missing; expected a string or any JSON value" },
      { "[" .. e .. "]", 400, "line 1: expected an envelope, which is an object, got an array" },
      { e .. "\n" .. '{"topic":"a","data":"' .. ("x"):rep(1001) .. '"}', 413,
        "line 2: data: is 1001 bytes long; an event may hold 1000" },
      { ("\n" .. e):rep(4), 413, "line 5: one request may hold 3 events at most" },
    } do check { { content_type = NDJSON, body = case[1], batch_events = 3 }, case[2], case[3] } end
    check { { content_type = NDJSON, body = e, idempotency_key = "k" }, 400, batch_key }
  end)
end)

describe("canonical attributes", function()
  it("are equal texts for equal objects", function()
    assert.equal('{"a":true,"b":false}', (envelope.attrs '{"b":false,"a":true}'))
    assert.equal("{}", (envelope.attrs "{}"))
    assert.equal([[{"a":"\u0001\n\"\\"}]], (envelope.attrs [[{"a":"\u0001\n\"\\"}]]))
    assert.equal("attrs: a value holds a NUL character", select(2, envelope.attrs [[{"a":"\u0000"}]]))
  end)

  it("leave the buffer as it was when they are refused", function()
    local text, bad = envelope.attrs '{"a":1,"b":[]}'
    assert.same({ "", "attrs: expected strings, numbers and booleans as values" }, { text, bad })
    for max = 0, 6 do
      text, bad = envelope.attrs('{"a":1}', max)
      assert.same({ "", "attrs: are longer than 4096 bytes of JSON" }, { text, bad })
    end
    assert.equal('{"a":1}', (envelope.attrs('{"a":1}', 7)))
  end)

  it("end at 4096 bytes", function()
    local most = '{"a":"' .. ("v"):rep(4088) .. '"}'
    assert.equal(4096, #most)
    assert.equal(most, (envelope.attrs(most)))
    local _, bad = envelope.attrs('{"a":"' .. ("v"):rep(4089) .. '"}')
    assert.equal("attrs: are longer than 4096 bytes of JSON", bad)
    local many = {}
    for i = 1, 2000 do many[i] = ('"%d":1'):format(i) end
    _, bad = envelope.attrs("{" .. table.concat(many, ",") .. "}")
    assert.equal("attrs: are longer than 4096 bytes of JSON", bad)
  end)
end)

describe("JSON text", function()
  it("is cut into values", function()
    local values, rest = envelope.values [[ {"a":[1,"]}"]} "x\"y" 12 true [] ]]
    assert.same({ '{"a":[1,"]}"]}', [["x\"y"]], "12", "true", "[]" }, values)
    assert.equal("", rest)
  end)

  it("is not cut where a value does not end", function()
    for _, text in ipairs { "", "  ", "{", "[[]", '"', '"\\"', '{"}', ",", "]", ":" } do
      assert.same({}, (envelope.values(text)), text)
    end
  end)

  it("loses white space outside strings only", function()
    assert.equal([[{"a b":[1,"\" ",2]}]], envelope.compact [[ { "a b" : [ 1 , "\" " , 2 ] } ]])
    assert.equal('"unfinished ', envelope.compact ' "unfinished ')
  end)
end)
