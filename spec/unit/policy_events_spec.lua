local policies = require "support.policies"

local request, first = policies.request, policies.first_line

describe("policy, on events", function()
  local p

  local function with(parts, options)
    if p then p:close() end
    p = policies.with(parts, options)
    return p
  end

  after_each(function()
    if p then p:close() end
    p = nil
  end)

  describe("publish", function()
    local function publish(code, events, options)
      with({ publish = code }, options)
      local verdict, out, firsts
      local log = policies.capture(function()
        verdict, out, firsts = p:publish(request { method = "POST" }, events)
      end)
      return verdict, out, firsts, log
    end
    local ONE = { { topic = "a/b", type = "t", data = '{"n":1}', key = "k", attrs = '{"x":1}', time_ms = 5 } }

    it("is denied where the policy has no such hook", function()
      with {}
      local v, out = p:publish(request(), ONE)
      assert.same({ "deny", 403, "this policy accepts no publishes", 0 }, { v.kind, v.status, v.reason, #out })
    end)

    it("may pass an event as it is", function()
      local v, out, firsts = publish("return pub", ONE)
      assert.equal("allow", v.kind)
      assert.same(ONE, out)
      assert.same({ 0 }, firsts)
    end)

    it("shows topic, type, raw, attrs, key, source and who", function()
      local _, out = publish([[
        pub.raw = json.encode{ pub.topic, pub.type, pub.raw, pub.attrs.x, pub.key, pub.source, who.sub }
        return pub]], ONE)
      assert.equal('["a/b","t","{\\"n\\":1}",1,"k","http","u"]', out[1].data)
      _, out = publish("pub.raw = json.encode{ pub.type, next(pub.attrs) == nil, pub.key == nil } return pub",
        { { topic = "a", data = "x" } })
      assert.equal('["message",true,true]', out[1].data)
    end)

    it("shows data as filters and formats see it: decoded, the text where it is no JSON, and read-only", function()
      local function shown(code, data)
        local v, out, _, log = publish("pub.raw = json.encode(" .. code .. ") return pub",
          { { topic = "a", data = data } })
        return v.kind == "allow" and out[1].data or first(log).error
      end
      assert.equal('{"n":[1,{"x":null}]}', shown("pub.data", '{ "n": [1, {"x": null}] }'))
      assert.equal("[1,1,true]", shown("{ pub.data.n, pub.data.n, pub.data == pub.data }", '{"n":1}'))
      assert.equal('["no {JSON","string"]', shown("{ pub.data, type(pub.data) }", "no {JSON"))
      assert.equal('["abc"]', shown("{ pub.data }", '"abc"'))
      assert.equal('[2,"new"]',
        shown("{ pub.data.n, (function() pub.raw = '\"new\"' return pub.data end)() }", '{"n":2}'))
      assert.equal("[true]", shown("{ (function() pub.raw = nil return pub.data == nil end)() }", '{"n":2}'))
      assert.matches("pub.data is read-only", shown("(function() pub.data.n = 2 end)()", '{"n":1}'), 1, true)
      assert.matches("pub.data is read-only", shown("(function() pub.data.n.x = 2 end)()", '{"n":{}}'), 1, true)
      local fields = {}
      local keys = shown(
        "(function() local t, _ = {}, pub.data for k in pairs(pub) do t[#t + 1] = k end return t end)()", "{}")
      for k in keys:gmatch '"(%l+)"' do fields[#fields + 1] = k end
      table.sort(fields)
      assert.same({ "attrs", "raw", "source", "topic", "type" }, fields)
    end)

    it("decodes no data that nobody asks for", function()
      local v = publish("return pub", { { topic = "a", data = '{"a":1,"a":2}' } })
      assert.equal("allow", v.kind)
      v = publish("local _ = pub.data return pub", { { topic = "a", data = '{"a":1,"a":2}' } })
      assert.same({ "deny", 400 }, { v.kind, v.status })
    end)

    for code, message in pairs {
      ["local _ = pub.dta"] = "p.lua:4: pub has no field 'dta' (did you mean 'data'?)",
      ["local _ = pub.json"] =
        "pub has no field 'json' (there are: topic, type, raw, attrs, key, source, expires, ttl, data)",
      ["local _ = pub[1]"] = "pub has no field of type number",
      ["pub.tpye = 'x'"] = "p.lua:4: pub has no field 'tpye' (did you mean 'type'?)",
      ["pub[1] = pub"] = "pub has no field of type number",
      ["pub.data = 1"] = "p.lua:4: pub.data is what pub.raw says: set pub.raw = json.encode(...)",
    } do
      it("raises where it is written: " .. code, function()
        local v, _, _, log = publish(code .. " return pub", ONE)
        assert.equal("transient", v.kind)
        assert.matches(message, first(log).error, 1, true)
      end)
    end

    it("may change all of it", function()
      local v, out = publish([[
        return { topic = "c", type = "u", raw = "y", key = "q", attrs = { b = true, a = 1.5 } }]], ONE)
      assert.equal("allow", v.kind)
      local changed = { topic = "c", type = "u", data = "y", key = "q", attrs = '{"a":1.5,"b":true}', time_ms = 5 }
      assert.same({ changed }, out)
      out = select(2, publish("pub.attrs = nil pub.type = nil pub.key = nil return pub", ONE))
      assert.same({ { topic = "a/b", type = "message", data = '{"n":1}', time_ms = 5 } }, out)
      out = select(2, publish("pub.attrs = {} return pub", ONE))
      assert.is_nil(out[1].attrs)
    end)

    it("may say when it expires, by a time or in seconds, whichever it sets last", function()
      local AT, TTL = 1700000060000, { { topic = "a", data = "", time_ms = 1700000000000, expires_ms = 1700000060000 } }
      local NONE = { { topic = "a", data = "", time_ms = 1700000000000 } }
      for _, case in ipairs {
        { "return pub", TTL, AT }, { "return pub", NONE }, { "pub.ttl = 5 return pub", NONE, 1700000005000 },
        { "pub.ttl = math.min(pub.ttl or 60, 30) return pub", NONE, 1700000030000 },
        { "pub.ttl = 5 return pub", TTL, 1700000005000 }, { "pub.ttl = nil return pub", TTL },
        { "pub.expires = nil return pub", TTL }, { "pub.expires = pub.expires - 30.5 return pub", TTL, 1700000029500 },
        { "pub.ttl = 5 pub.expires = 1700000007 return pub", TTL, 1700000007000 },
        { "pub.expires = 1700000007 pub.ttl = 5 pub.ttl = 6 return pub", TTL, 1700000006000 },
        { "pub.expires = '2023-11-14T22:13:30Z' return pub", NONE, 1700000010000 },
        { "return { topic = 'b', raw = '', expires = pub.expires }", TTL, AT },
        { "return { topic = 'b', raw = '' }", TTL },
        { "assert(pub.ttl == nil and pub.expires == nil) return pub", NONE },
      } do
        local v, out = publish(case[1], case[2])
        assert.equal("allow", v.kind, case[1])
        assert.equal(case[3], out[1].expires_ms, case[1])
      end
      for code, message in pairs {
        ["return { topic = 'b', raw = '', expires = 1700000007, ttl = 5 }"] =
          "publication.expires and publication.ttl are both set; set one of them",
        ["pub.ttl = 0 return pub"] = 'publication.ttl: is "0"; seconds were expected: more than 0',
        ["pub.ttl = '5' return pub"] = "publication.ttl: expected seconds, a number, got string",
        ["pub.expires = 60 return pub"] = 'publication.expires: is "60"; a Unix time in seconds was expected',
        ["pub.expires = true return pub"] = "publication.expires: expected Unix seconds, a number, or a text as",
      } do
        local v, _, _, log = publish(code, TTL)
        assert.equal("transient", v.kind)
        assert.matches(message, first(log).error, 1, true)
      end
    end)

    it("may make several events of one, with keys that differ", function()
      local v, out, firsts = publish([[
        if pub.topic == "one" then return pub end
        return { pub, { topic = "x", raw = "1", key = pub.key }, { topic = "y", raw = "2", key = "own" },
          { topic = "z", raw = "3", key = pub.key }, { topic = "z", raw = "4" }, pub }]],
        { { topic = "one", data = "", key = "k" }, { topic = "two", data = "", key = "k" } })
      assert.equal("allow", v.kind)
      assert.same({ 0, 1 }, firsts)
      local keys = {}
      for i, ev in ipairs(out) do keys[i] = ev.topic .. " " .. tostring(ev.key) end
      assert.same({ "one k", "two k", "x k#2", "y own", "z k#4", "z nil", "two k#6" }, keys)
    end)

    it("may make them of an event with any key", function()
      local function keys(key, body)
        local v, out = publish(body, { { topic = "a", data = "", key = key } })
        assert.equal("allow", v.kind, v.reason)
        local list, seen = {}, {}
        for i, ev in ipairs(out) do
          assert.is_nil(seen[ev.key], ev.key)
          seen[ev.key] = true
          assert.is_true(#ev.key <= 255 and utf8.len(ev.key) ~= nil, ev.key)
          list[i] = ev.key
        end
        return list
      end
      assert.same({ "k", "k#3", "k#4" }, keys("k", [[
        return { pub, { topic = "x", raw = "1", key = "k#3" }, { topic = "y", raw = "2", key = "k" } }]]))
      local twice = "return { pub, pub, pub }"
      for _, long in ipairs { ("x"):rep(252), ("x"):rep(253), ("x"):rep(254), ("x"):rep(255), ("\u{20ac}"):rep(85),
        "y" .. ("\u{fc}"):rep(127) } do
        assert.equal(long, keys(long, twice)[1])
        assert.matches("#3$", keys(long, twice)[3])
      end
      -- keys that differ only in what had to be cut off stay different
      assert.not_equal(keys(("x"):rep(254) .. "a", twice)[2], keys(("x"):rep(254) .. "b", twice)[2])
    end)

    it("makes distinct events even of one table returned twice without a key", function()
      local _, out = publish("return { pub, pub }", { { topic = "a", data = "x" } })
      assert.equal(2, #out)
    end)

    it("is all or none, and says which event was in the way", function()
      local v, out = publish("if pub.topic == 'bad' then return tg.deny(403, 'not there') end return pub",
        { { topic = "ok", data = "" }, { topic = "bad", data = "" } })
      assert.same({ "deny", 403, "event 1: not there", 0 }, { v.kind, v.status, v.reason, #out })
      v = publish("return tg.deny(403, 'not there')", { { topic = "bad", data = "" } })
      assert.equal("not there", v.reason)
    end)

    for code, message in pairs {
      ["return true"] = "publish returned boolean: a table",
      [""] = "publish returned nil: a table",
      ["return {}"] = "publication.raw: the data is missing",
      ["return { {} }"] = "publication.raw: the data is missing",
      ["return { pub, 5 }"] = "publication: a table was expected, got number",
      ["return { topic = 'a' }"] = "publication.raw: the data is missing",
      ["return { raw = 'x' }"] = "publication.topic: ",
      ["pub.topic = 'a/*' return pub"] = "publication.topic: ",
      ["pub.topic = 5 return pub"] = "publication.topic: a string was expected, got number",
      ["pub.type = 'a\\nb' return pub"] = "publication.type: ",
      ["pub.key = '' return pub"] = "publication.key: ",
      ["pub.key = ('x'):rep(300) return pub"] = "publication.key: is longer than 255 bytes",
      ["pub.raw = '\\xff' return pub"] = "publication.data: ",
      ["pub.raw = ('x'):rep(101) return pub"] = "publication.data: ",
      ["pub.raw = {} return pub"] = "publication.raw: a string was expected, got table",
      ["pub.attrs = { x = {} } return pub"] = "publication.attrs.x: a string, number or boolean was expected",
      ["pub.attrs = 'x' return pub"] = "publication.attrs: a table was expected, got string",
      ["pub.attrs = { x = ('x'):rep(5000) } return pub"] = "publication.attrs: longer than 4096 bytes",
      ["return { topic = 'a', data = {} }"] = "publication.data: set raw = json.encode(...) instead",
      ["return { topic = 'a', rwa = 'x' }"] = "publication: unknown key 'rwa' (did you mean 'raw'?)",
      ["local t = {} for i = 1, 101 do t[i] = pub end return t"] = "publish returned a list of 101 events, at most 100",
      ["error('x')"] = "p.lua:4: x",
    } do
      it("stores nothing for: " .. code, function()
        local v, out, _, log = publish(code, ONE, { event_bytes = 100 })
        assert.equal("transient", v.kind)
        assert.equal(0, #out)
        local line = first(log)
        assert.matches(message, line.error, 1, true)
        assert.equal("publish", line.hook)
        assert.equal(1, p:metrics().policy_errors_publish)
      end)
    end

    it("bounds what a batch may be blown up to", function()
      local asked = {}
      for i = 1, 50 do asked[i] = { topic = "a", data = ("x"):rep(10000) } end
      local v, out, _, log = publish("local t = {} for i = 1, 100 do t[i] = pub end return t", asked,
        { memory_bytes = 2 * 1024 * 1024 })
      assert.equal("transient", v.kind)
      assert.equal(0, #out)
      assert.matches("the events of one request take more than the policy's memory limit", first(log).error, 1, true)
    end)
  end)

  describe("filters", function()
    local ev = policies.event { topic = "a", data = '{"n":1}', attrs = '{"x":"y"}', id = 9 }

    local function filter(code, params)
      with { filters = { f = code } }
      local binding = assert(p:bind { filter = "f", params = params })
      local yes
      local log = policies.capture(function() yes = p:filter(binding, ev) end)
      p:unbind(binding)
      return yes, log
    end

    it("deliver on true only", function()
      assert.is_true(filter "return true")
      assert.is_true(filter "return ev.data.n == 1 and ev.attrs.x == 'y', 'why'")
      assert.is_false(filter "return false")
      assert.is_false(filter "return false, 'why'")
      for _, code in ipairs {
        "return nil", "", "return 1", "return 'true'", "return {}", "error('x')", "return ev.x",
      } do
        local yes, log = filter(code)
        assert.is_false(yes, code)
        local line = first(log)
        assert.same({ "filter", "f", "9" }, { line.hook, line["function"], line.event })
        assert.equal(1, p:metrics().policy_errors_filter)
      end
    end)

    it("see params read-only, and an empty table where there are none", function()
      assert.is_true(filter("return params.a == 1 and params.none == nil and #params.l == 2 and params.l[2] == 'b'",
        '{"a":1,"l":["a","b"]}'))
      assert.is_true(filter([[local n = 0 for k, v in pairs(params) do n = n + 1 end
        for _, v in ipairs(params.l) do n = n + 1 end return n == 4 and table.concat(params.l, ",") == "a,b"]],
        '{"a":1,"l":["a","b"]}'))
      assert.is_true(filter "return next(params) == nil and params.x == nil")
      for _, code in ipairs { "params.a = 2", "params.new = 1", "params.l[1] = 'z'", "table.insert(params.l, 1)" } do
        local _, log = filter(code .. " return true", '{"a":1,"l":["a","b"]}')
        assert.matches("params is read-only", first(log).error, 1, true)
        assert.equal('{"a":1,"l":["a","b"]}', first(log).params)
      end
    end)

    it("cannot use what would make a shared answer wrong", function()
      for _, code in ipairs { "os.time()", "math.random()" } do
        local yes, log = filter("return " .. code .. " ~= nil")
        assert.is_false(yes)
        assert.matches("not available in filters and formats", first(log).error, 1, true)
      end
      -- but gates can, also after a filter has raised
      assert.equal("allow", p:subscribe(request()).kind)
      with { subscribe = "return { topics = { 'a' }, params = { t = os.time() } }" }
      assert.equal("allow", p:subscribe(request()).kind)
    end)

    it("are bound by name", function()
      with { filters = { f = "return true" }, formats = { g = "return 'x'" } }
      assert.is_nil(p:bind { filter = "g" })
      assert.is_nil(p:bind { format = "f" })
      local none = assert(p:bind {})
      assert.is_true(p:filter(none, ev))
    end)

    it("keep 1,000 bindings apart, and give their memory back", function()
      with({ filters = { f = "return params.i == tonumber(ev.attrs.x)" } }, { memory_bytes = 4 * 1024 * 1024 })
      local start
      for round = 1, 4 do
        for i = 1, 1000 do
          local b = assert(p:bind { filter = "f", params = ('{"i":%d}'):format(i) })
          assert.equal(i % 7 == 0, p:filter(b, policies.event {
            topic = "a", data = "", attrs = ('{"x":"%d"}'):format(i % 7 == 0 and i or 0), id = i }))
          p:unbind(b)
        end
        if round == 2 then start = p:metrics().policy_memory end
      end
      assert.is_true(p:metrics().policy_memory < start + 512 * 1024)
    end)
  end)

  describe("formats", function()
    local ev = policies.event { topic = "a", type = "order", data = '{"n":1,"big":9007199254740993}', id = 9,
      time_ms = 1700000000005, attrs = '{"x":"y"}' }

    local function format(code, event, most)
      with { formats = { f = code } }
      local binding = assert(p:bind { format = "f" })
      local result, data, name
      local log = policies.capture(function() result, data, name = p:format(binding, event or ev, most) end)
      return { result, data, name }, log
    end

    it("make frames of strings and tables, or none", function()
      assert.same({ "deliver", "text", "" }, (format "return 'text'"))
      assert.same({ "deliver", "", "" }, (format "return ''"))
      assert.same({ "deliver", '{"n":1}', "" }, (format "return { data = { n = ev.data.n } }"))
      assert.same({ "deliver", "text", "ev" }, (format "return { data = 'text', event = 'ev' }"))
      assert.same({ "deliver", "5", "" }, (format "return { data = 5 }"))
      assert.same({ "deliver", "false", "" }, (format "return { data = false }"))
      assert.same({ "deliver", "null", "" }, (format "return { data = json.null }"))
      assert.same({ "deliver", '{"big":9007199254740993,"n":1}', "" }, (format "return { data = ev.data }"))
      assert.same({ "deliver", '{"x":"y"}', "" }, (format "return { data = ev.attrs }"))
      assert.equal("skip", format("return nil")[1])
      assert.equal("skip", format("")[1])
    end)

    for code, message in pairs {
      ["return true"] = "format 'f' returned boolean: {data = ..., event = ...}, a string or nil was expected",
      ["return 5"] = "format 'f' returned number",
      ["return {}"] = "frame.data: missing; return nil to leave the event out",
      ["return { data = 'x', evnt = 'y' }"] = "frame: unknown key 'evnt' (did you mean 'event'?)",
      ["return { data = print }"] = "frame.data: a function has no JSON form",
      ["return { data = { a = { print } } }"] = "frame.data.a[1]: a function has no JSON form",
      ["return { data = 'x', event = 5 }"] = "frame.event: a string was expected, got number",
      ["return { data = 'x', event = 'a\\nb' }"] = "frame.event: one line of at most 255 bytes",
      ["return { data = 'x', event = 'a\\rb' }"] = "frame.event: one line",
      ["return { data = 'x', event = 'a\\0b' }"] = "frame.event: one line",
      ["return { data = 'x', event = ('x'):rep(256) }"] = "frame.event: one line",
      ["return '\\xff'"] = "data: not UTF-8",
      ["return ('x'):rep(101)"] = "data: longer than 100 bytes",
      ["return { data = ('x'):rep(101) }"] = "frame.data: longer than 100 bytes",
      ["return { data = { ('x'):rep(101) } }"] = "frame.data: longer than 100 bytes of JSON",
      ["error('x')"] = "p.lua:7: x",
      ["ev.data.n = 2 return { data = ev.data }"] = "event data is read-only",
    } do
      it("deliver nothing for: " .. code, function()
        local out, log = format(code, ev, 100)
        assert.equal("failed", out[1])
        local line = first(log)
        assert.equal("format", line.hook)
        assert.matches(message, line.error, 1, true)
        assert.equal(1, p:metrics().policy_errors_format)
      end)
    end

    it("have two that are built in", function()
      with {}
      local raw, json = assert(p:bind { format = "raw" }), assert(p:bind { format = "json" })
      assert.same({ "deliver", '{"n":1,"big":9007199254740993}', "" }, { p:format(raw, ev) })
      assert.same({ "deliver", '{"id":"9","topic":"a","type":"order","time":1700000000.005,' ..
        '"data":{"n":1,"big":9007199254740993},"attrs":{"x":"y"}}', "" }, { p:format(json, ev) })
      local _, expires = p:format(json,
        policies.event { topic = "a", data = "1", id = 1, time_ms = 0, expires_ms = 1700000000250 })
      assert.equal('{"id":"1","topic":"a","type":"message","time":0.000,"expires":1700000000.250,"data":1,"attrs":{}}',
        expires)
      local function data(text)
        local _, out = p:format(json, policies.event { topic = "a", data = text, id = 1 })
        return (out:match('"data":(.*),"attrs":{}}$'))
      end
      for text, expected in pairs {
        ["plain \"text\"\n\1"] = [["plain \"text\"\n\u0001"]], [""] = '""', ["1e999"] = "1e999",
        ["123456789012345678901234567890"] = "123456789012345678901234567890", [" [1, 2]\n"] = " [1, 2]\n",
        ['{"a":1,"a":2}'] = '{"a":1,"a":2}', ["{"] = '"{"', ["nul"] = '"nul"', ["01"] = '"01"', ["-"] = '"-"',
        ['"\\x"'] = [["\"\\x\""]], ["[1,]"] = '"[1,]"', ["{'a':1}"] = [["{'a':1}"]], ["1 2"] = '"1 2"',
        ["null"] = "null",
      } do
        assert.equal(expected, data(text))
      end
      assert.equal("failed", (p:format(json, ev, 20)))
    end)
  end)

  it("are found again by whoever asks in between, without a heap that grows", function()
    with({ filters = { f = "return ev.attrs.x == params.i and #ev.attrs == 0" } }, { memory_bytes = 2 * 1024 * 1024 })
    local bound, memory = {}, 0
    for i = 1, 100 do bound[i] = assert(p:bind { filter = "f", params = ('{"i":%d}'):format(i) }) end
    for round = 1, 20 do
      local batch = {}
      for k = 1, 20 do
        batch[k] = policies.event { topic = "a", data = "x", id = round * 20 + k, attrs = ('{"x":%d}'):format(k) }
      end
      for i, b in ipairs(bound) do
        for k, ev in ipairs(batch) do assert.equal(i == k, (p:filter(b, ev))) end
      end
      memory = math.max(memory, p:metrics().policy_memory)
    end
    assert.equal(0, p:metrics().policy_errors_filter)
    assert.is_true(memory < 1024 * 1024, memory)
    for _, b in ipairs(bound) do p:unbind(b) end
  end)

  it("are judged in whatever memory the ones before them do not need any more", function()
    with({
      more = "Kept = {} for i = 1, 20000 do Kept[i] = { i } end",
      filters = { f = "return #('x'):rep(30000) > 0" },
    }, { memory_bytes = 4 * 1024 * 1024 })
    local binding = assert(p:bind { filter = "f" })
    for i = 1, 500 do
      local event = policies.event { topic = "a", data = ("x"):rep(100000), id = i }
      assert.is_true((p:filter(binding, event)))
    end
    p:unbind(binding)
  end)
end)
