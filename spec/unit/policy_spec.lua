local policies = require "support.policies"
local logfmt = require "support.logfmt"

local request = policies.request

describe("policy", function()
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

  -- The verdict on a subscription returned by `code`, and the log.
  local function subscribe(code, rq)
    with { subscribe = code, filters = { near = "return true" }, formats = { short = "return 'x'" } }
    local verdict
    local log = policies.capture(function() verdict = p:subscribe(request(rq)) end)
    return verdict, log
  end

  -- Reads the first line of a log.
  local function first(log)
    return assert(logfmt.parse(assert(log:match("^[^\n]+"), "nothing was logged")))
  end

  describe("subscribe", function()
    it("copies every field of a subscription", function()
      local v, log = subscribe [[return {
        topics = { "b/*", "a", "c/**", "a" }, filter = "near", format = "short",
        params = { z = 1, a = { "x", 2, true }, f = 1.5, e = {}, b = false },
        replay = { max_age = 1.5 }, limits = { events_per_s = 0.5, max_lag = 64, on_lag = "skip" },
        heartbeat = 3600, retry_ms = 250 }]]
      assert.equal("", log)
      assert.equal("allow", v.kind)
      assert.equal('{"sub":"u"}', v.identity)
      assert.equal(0, v.expires_ms)
      assert.same({
        topics = { "a", "b/*", "c/**" }, filter = "near", format = "short",
        params = '{"a":["x",2,true],"b":false,"e":[],"f":1.5,"z":1}', no_replay = false, replay_max_age_ms = 1500,
        events_per_s = 0.5, max_lag = 64, on_lag = "skip", heartbeat_s = 3600, retry_ms = 250,
      }, v.subscription)
    end)

    it("has defaults for all but the topics", function()
      local v = subscribe "return { topics = { '**' } }"
      assert.same({ topics = { "**" }, no_replay = false, replay_max_age_ms = 0, events_per_s = 0.0, max_lag = 0,
        on_lag = "default", heartbeat_s = 0, retry_ms = 0 }, v.subscription)
      assert.is_true(subscribe("return { topics = { 'a' }, replay = false }").subscription.no_replay)
      assert.equal("close", subscribe("return { topics = { 'a' }, limits = { on_lag = 'close' } }").subscription.on_lag)
      assert.is_nil(subscribe("return { topics = { 'a' }, params = {} }").subscription.params)
      assert.equal("json", subscribe("return { topics = { 'a' }, format = 'json' }").subscription.format)
      assert.equal("raw", subscribe("return { topics = { 'a' }, format = 'raw' }").subscription.format)
    end)

    it("treats equal params as equal, however they were built", function()
      local a = subscribe "local q = {} q.b = 2 q.a = 1 return { topics = { 'a' }, params = q }"
      local b = subscribe "return { topics = { 'a' }, params = { a = 1, b = 2 } }"
      assert.equal(a.subscription.params, b.subscription.params)
    end)

    -- Everything else is closed: nothing granted, the client told to come again, one line in the log.
    local bad = {
      ["true"] = "subscribe returned boolean: a table, `tg.deny(status, reason)`, or `nil, \"why\"`",
      ["nil"] = "subscribe returned nil: a table",
      [""] = "subscribe returned nil: a table",
      ["false"] = "subscribe returned boolean",
      ["'a'"] = "subscribe returned string",
      ["{}"] = "topics: a list of topic names or patterns was expected, got nil",
      ["{ topics = {} }"] = "topics: a list of 1 to 100 strings was expected",
      ["{ topics = 'a' }"] = "topics: a list of topic names or patterns was expected, got string",
      ["{ topics = { a = 'b' } }"] = "topics: a list of 1 to 100 strings was expected (no holes, no other keys)",
      ["{ topics = { 'a', nil, 'b' } }"] = "topics: a list of 1 to 100 strings was expected (no holes",
      ["{ topics = { 'a', x = 'b' } }"] = "topics: a list of 1 to 100 strings was expected (no holes",
      ["{ topics = { 'a', 5 } }"] = "topics[2]: a string was expected, got number",
      ["{ topics = { { 'a', '**' } } }"] =
        "topics[1]: a string was expected, got table; join segments with tg.topic(...)",
      ["{ topics = { '' } }"] = "topics[1]: ",
      ["{ topics = { 'a//b' } }"] = "topics[1]: ",
      ["{ topics = { '**/a' } }"] = "topics[1]: ",
      ["{ topics = { 'a*' } }"] = "topics[1]: ",
      ["{ topics = { ('x'):rep(256) } }"] = "topics[1]: ",
      ["{ topics = { '\\xff' } }"] = "topics[1]: ",
      ["{ topics = { 'a' }, topcs = 1 }"] = "subscription: unknown key 'topcs' (did you mean 'topics'?)",
      ["{ topics = { 'a' }, fitler = 'near' }"] = "subscription: unknown key 'fitler' (did you mean 'filter'?)",
      ["{ topics = { 'a' }, [1] = 1 }"] = "subscription: keys must be names, got a number",
      ["{ topics = { 'a' }, filter = 'neer' }"] = "subscription: unknown filter 'neer' (did you mean 'near'?)",
      ["{ topics = { 'a' }, filter = 'something else' }"] = "unknown filter 'something else' (there is: near)",
      ["{ topics = { 'a' }, filter = 1 }"] = "filter: a string was expected, got number",
      ["{ topics = { 'a' }, filter = function() end }"] = "filter: a string was expected, got function",
      ["{ topics = { 'a' }, format = 'jsn' }"] = "subscription: unknown format 'jsn' (did you mean 'json'?)",
      ["{ topics = { 'a' }, format = 'shrt' }"] = "subscription: unknown format 'shrt' (did you mean 'short'?)",
      ["{ topics = { 'a' }, params = 'x' }"] = "params: a table was expected, got string",
      ["{ topics = { 'a' }, params = { 1 } }"] = "params: the keys of an object must be strings",
      ["{ topics = { 'a' }, params = { f = print } }"] =
        "params.f: a string, number or boolean was expected, got a function",
      ["{ topics = { 'a' }, params = { t = { x = 1 } } }"] = "params.t: a list (keys 1..n) was expected",
      ["{ topics = { 'a' }, params = { t = { {} } } }"] =
        "params.t[1]: a string, number or boolean was expected, got a table",
      ["{ topics = { 'a' }, params = { n = 0/0 } }"] = "params.n: NaN has no JSON form",
      ["{ topics = { 'a' }, params = { n = 1/0 } }"] = "params.n: an infinite number has no JSON form",
      ["{ topics = { 'a' }, params = { n = json.null } }"] =
        "params.n: a string, number or boolean was expected, got a json.null",
      ["{ topics = { 'a' }, params = { s = '\\xff' } }"] = "params.s: a string that is not UTF-8",
      ["{ topics = { 'a' }, params = { s = ('x'):rep(1100) } }"] = "params: longer than 1024 bytes",
      ["{ topics = { 'a' }, replay = true }"] = "replay: false or {max_age = seconds} was expected, got boolean",
      ["{ topics = { 'a' }, replay = { max_events = 5 } }"] = "replay: unknown key 'max_events'",
      ["{ topics = { 'a' }, replay = { max_age = 0 } }"] = "replay.max_age (seconds): a number above 0",
      ["{ topics = { 'a' }, replay = { max_age = 0/0 } }"] = "replay.max_age (seconds): a number above 0",
      ["{ topics = { 'a' }, replay = { max_age = 1/0 } }"] = "replay.max_age (seconds): a number above 0",
      ["{ topics = { 'a' }, replay = { max_age = '5' } }"] =
        "replay.max_age (seconds): a number above 0 and up to 3155760000 was expected, got string",
      ["{ topics = { 'a' }, limits = 5 }"] = "limits: a table was expected, got number",
      ["{ topics = { 'a' }, limits = { max_lagg = 5 } }"] = "limits: unknown key 'max_lagg' (did you mean 'max_lag'?)",
      ["{ topics = { 'a' }, limits = { max_lag = 0 } }"] = "limits.max_lag (events): a whole number from 1",
      ["{ topics = { 'a' }, limits = { max_lag = 1.5 } }"] =
        "limits.max_lag (events): a whole number from 1 to 9007199254740991 was expected, got 1.5",
      ["{ topics = { 'a' }, limits = { events_per_s = -1 } }"] = "limits.events_per_s: a number above 0",
      ["{ topics = { 'a' }, limits = { on_lag = 'drop' } }"] =
        "limits.on_lag: \"close\" or \"skip\" was expected, got 'drop'",
      ["{ topics = { 'a' }, heartbeat = 0 }"] =
        "heartbeat (seconds): a whole number from 1 to 3600 was expected, got 0",
      ["{ topics = { 'a' }, heartbeat = '15' }"] =
        "heartbeat (seconds): a whole number from 1 to 3600 was expected, got string",
      ["{ topics = { 'a' }, retry_ms = 0 }"] = "retry_ms: a whole number from 1",
      ["{ topics = { 'a' } }, 'but'"] = "subscribe returned table and string",
      ["nil, 5"] = "subscribe returned nil and number",
      ["nil, {}"] = "denial.status: a whole number",
      ["nil, { status = 200, reason = 'x' }"] = "denial.status: a whole number from 400 to 429 was expected, got 200",
      ["nil, { status = 418, reason = 'x' }"] = "denial.status: 400, 401, 403, 404 or 429 was expected, got 418",
      ["nil, { status = 403 }"] = "denial.reason: a string was expected, got nil",
      ["nil, { status = 403, reason = 'a\\nb' }"] = "denial.reason: a text without control characters",
      ["nil, { status = 403, reason = 'x', more = 1 }"] = "denial: unknown key 'more'",
      ["error('boom')"] = "p.lua:3: boom",
      ["req.qury"] = "p.lua:3: request has no field 'qury'",
      ["nothing.x"] = "p.lua:3: attempt to index a nil value (global 'nothing')",
    }
    for code, message in pairs(bad) do
      it("grants nothing for: " .. code, function()
        local v, log = subscribe("local function f() return " .. code .. " end return f()")
        assert.equal("transient", v.kind)
        assert.equal("policy error", v.reason)
        assert.same({}, v.subscription.topics)
        local line = first(log)
        assert.matches(message, line.error, 1, true)
        assert.equal("subscribe", line.hook)
        assert.equal("7", line.request)
        assert.equal("p.lua", line.policy)
        assert.matches("^p%.lua:%d+$", line.at)
        assert.equal(1, p:metrics().policy_errors_subscribe)
        assert.equal(0, p:metrics().policy_errors_authenticate)
      end)
    end

    it("bounds topics and params", function()
      local v = subscribe "local t = {} for i = 1, 100 do t[i] = 't' .. i end return { topics = t }"
      assert.equal(100, #v.subscription.topics)
      local _, log = subscribe "local t = {} for i = 1, 101 do t[i] = 't' .. i end return { topics = t }"
      assert.matches("topics: a list of 1 to 100 strings", first(log).error, 1, true)
      _, log = subscribe "local t = { 'a' } for i = 1, 1000000 do t['k' .. i % 5000] = 1 end return { topics = t }"
      assert.matches("topics: a list of 1 to 100 strings", first(log).error, 1, true)
      v = subscribe "local t = {} for i = 1, 32 do t['k' .. i] = i end return { topics = { 'a' }, params = t }"
      assert.equal("allow", v.kind)
      _, log = subscribe "local t = {} for i = 1, 33 do t['k' .. i] = i end return { topics = { 'a' }, params = t }"
      assert.matches("params: 33 keys, at most 32 were expected", first(log).error, 1, true)
    end)

    it("reads with raw access only", function()
      local v = subscribe [[
        local hostile = { __index = function() error("index") end, __pairs = function() error("pairs") end,
          __eq = function() error("eq") end, __metatable = "locked" }
        return setmetatable({ topics = setmetatable({ "a" }, hostile), params = setmetatable({ x = 1 }, hostile) },
          hostile)]]
      assert.equal("allow", v.kind)
      assert.equal('{"x":1}', v.subscription.params)
      -- inherited fields are not there
      local _, log = subscribe "return setmetatable({}, { __index = { topics = { 'a' } } })"
      assert.matches("topics: a list", first(log).error, 1, true)
      _, log = subscribe "local t = {} t.topics = { t } return t"
      assert.matches("topics[1]: a string was expected, got table", first(log).error, 1, true)
      _, log = subscribe "local t = {} t.t = t return { topics = { 'a' }, params = t }"
      assert.matches("params.t: a list", first(log).error, 1, true)
    end)

    it("passes denials on, and keeps the reasons of transients for the log", function()
      for _, status in ipairs { 400, 401, 403, 404, 429 } do
        local v, log = subscribe("return tg.deny(" .. status .. ", 'because')")
        assert.same({ "deny", status, "because", "" }, { v.kind, v.status, v.reason, log })
      end
      local v, log = subscribe "return nil, 'database is down'"
      assert.same({ "transient", "database is down" }, { v.kind, v.reason })
      assert.equal("database is down", first(log).reason)
      assert.equal(0, p:metrics().policy_errors_subscribe)
    end)

    it("says what memory was short for, and goes on", function()
      with({ subscribe = "local t = {} for i = 1, 1e7 do t[i] = { i } end" }, { memory_bytes = 128 * 1024 })
      local log = policies.capture(function()
        assert.equal("transient", p:subscribe(request()).kind)
      end)
      assert.equal("not enough memory: the policy's limit is 131072 bytes", first(log).error)
      assert.is_true(p:metrics().policy_memory <= 128 * 1024)
    end)
  end)

  describe("authenticate", function()
    local function identify(code)
      with { authenticate = code, subscribe = "return { topics = { 'a' }, params = { who = json.encode(who) } }" }
      local verdict
      local log = policies.capture(function() verdict = p:subscribe(request()) end)
      return verdict, log
    end

    it("hands a copy of the identity to subscribe", function()
      local v = identify "return { sub = 'u', n = 9007199254740993, f = 1.5, ok = true, expires = 1700000000 }"
      assert.equal('{"expires":1700000000,"f":1.5,"n":9007199254740993,"ok":true,"sub":"u"}', v.identity)
      assert.equal(1700000000000, v.expires_ms)
      assert.matches("9007199254740993", v.subscription.params, 1, true)
      v = identify "return {}"
      assert.equal("{}", v.identity)
    end)

    for code, message in pairs {
      ["return true"] = "authenticate returned boolean: a table",
      [""] = "authenticate returned nil: a table",
      ["return { a = {} }"] = "identity.a: a string, number or boolean was expected, got a table",
      ["return { a = print }"] = "identity.a: a string, number or boolean was expected, got a function",
      ["return { 'a' }"] = "identity: the keys of an object must be strings",
      ["return { a = ('x'):rep(2048) }"] = "identity: longer than 2048 bytes",
      ["return { a = '\\xff' }"] = "identity.a: a string that is not UTF-8",
      ["return { expires = 'soon' }"] = "identity.expires (Unix seconds): a whole number",
      ["return { expires = 1700000000000 }"] = "identity.expires (Unix seconds): a whole number",
      ["return { expires = -1 }"] = "identity.expires (Unix seconds): a whole number",
      ["error{}"] = "an error object that is a table",
    } do
      it("grants nothing for: " .. code, function()
        local v, log = identify(code)
        assert.equal("transient", v.kind)
        assert.is_nil(v.identity and v.kind == "allow" or nil)
        local line = first(log)
        assert.equal("authenticate", line.hook)
        assert.matches(message, line.error, 1, true)
        assert.equal(1, p:metrics().policy_errors_authenticate)
        assert.equal(0, p:metrics().policy_errors_subscribe)
      end)
    end

    it("may deny or ask to come again; subscribe is not asked then", function()
      with { authenticate = "return tg.deny(401, 'who are you')", subscribe = "error('asked')" }
      local v = p:subscribe(request())
      assert.same({ "deny", 401, "who are you" }, { v.kind, v.status, v.reason })
      with { authenticate = "return nil, 'later'", subscribe = "error('asked')" }
      policies.capture(function() v = p:subscribe(request()) end)
      assert.same({ "transient", "later" }, { v.kind, v.reason })
    end)

    it("may be missing where the configuration allows it", function()
      p = policies.open_text("return { api = 1, subscribe = function(_, who) return { topics = { 'a' }, " ..
        "params = { empty = next(who) == nil } } end }", { auth_open = true })
      local v = p:subscribe(request())
      assert.same({ "allow", "{}", '{"empty":true}' }, { v.kind, v.identity, v.subscription.params })
    end)
  end)

  describe("requests", function()
    local function eval(expression, rq)
      with { subscribe = "return { topics = { 'a' }, params = { v = tostring(" .. expression .. ") } }" }
      local v
      local log = policies.capture(function() v = p:subscribe(request(rq)) end)
      if v.kind ~= "allow" then return first(log).error end
      return (v.subscription.params:match('^{"v":"(.*)"}$'))
    end

    it("have these fields", function()
      local rq = {
        id = 4294967297, ip = "198.51.100.7", method = "POST", path = "/events", last_event_id = "42",
        query = { { "topic", "a/b" }, { "topic", "c" }, { "lat", "1" }, { "lat", "2" } },
        headers = { { "X-Thing", "one" }, { "x-thing", "two" }, { "Authorization", "bearer  abc.def " },
          { "Cookie", "a=1; b = x=y ;c" }, { "cookie", "a=2; d=\"q\"" } },
      }
      for expression, expected in pairs {
        ["req.id"] = "4294967297", ["req.ip"] = "198.51.100.7", ["req.method"] = "POST", ["req.path"] = "/events",
        ["req.last_event_id"] = "42", ["req.query.lat"] = "1", ["req.query.none"] = "nil",
        ["table.concat(req.topics, ' ')"] = "a/b c", ["req.headers['x-thing']"] = "one, two",
        ["req.headers['X-Thing']"] = "nil", ["req.bearer"] = "abc.def", ["req.cookies.a"] = "1",
        ["req.cookies.b"] = "x=y", ["req.cookies.c"] = "nil", ["req.tls"] = "nil",
        ["req.headers.cookie"] = 'a=1; b = x=y ;c; a=2; d=\\"q\\"', ["req.cookies.d"] = '\\"q\\"',
      } do
        assert.equal(expected, eval(expression, rq), expression)
      end
    end)

    it("have nil for what is absent and an error for what does not exist", function()
      assert.equal("nil", eval "req.bearer")
      assert.equal("nil", eval "req.last_event_id")
      assert.equal("0", eval "#req.topics")
      assert.equal("nil", eval("req.bearer", { headers = { Authorization = "Basic abc" } }))
      assert.equal("nil", eval("req.bearer", { headers = { Authorization = "Bearer" } }))
      assert.matches("request has no field 'body'", eval "req.body")
      assert.matches("request has no field 'number'", eval "req[1]")
      assert.matches("request has no field 'x' to write", eval "(function() req.x = 1 end)()")
    end)
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
      ["pub.key = ('x'):rep(255) return { pub, pub }"] = "publication.key: ",
      ["pub.raw = '\\xff' return pub"] = "publication.data: ",
      ["pub.raw = ('x'):rep(101) return pub"] = "publication.data: ",
      ["pub.raw = {} return pub"] = "publication.raw: a string was expected, got table",
      ["pub.attrs = { x = {} } return pub"] = "publication.attrs.x: a string, number or boolean was expected",
      ["pub.attrs = 'x' return pub"] = "publication.attrs: a table was expected, got string",
      ["pub.attrs = { x = ('x'):rep(5000) } return pub"] = "publication.attrs: longer than 4096 bytes",
      ["pub.data = 1 return pub"] = "publication: unknown key 'data'",
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

  it("tells the disconnect hook who left, and why", function()
    p = policies.open_text [[
      return { api = 1, authenticate = function() return {} end, subscribe = function() return { topics = { 'a' } } end,
        disconnect = function(who, info) log.info(json.encode{ who, info }) if who.bad then error("x") end end }]]
    local wants
    local log = policies.capture(function() wants = p:disconnected('{"sub":"u"}', 12, 1.5) end)
    assert.is_true(wants)
    assert.equal('[{"sub":"u"},{"delivered":12,"reason":"lagged","seconds":1.5}]', first(log).msg)
    policies.capture(function() p:disconnected('{"bad":true}', 0, 0) end)
    assert.equal(1, p:metrics().policy_errors_disconnect)
    with {}
    assert.is_false(p:disconnected("{}", 0, 0))
  end)

  describe("errors in the log", function()
    it("come with a traceback, and name the definition where the hook had returned", function()
      with { subscribe = "\nlocal function deep(t)\nreturn t.x.y\nend\nlocal s = deep({})\nreturn s" }
      local line = first(policies.capture(function() p:subscribe(request()) end))
      assert.equal("p.lua:5", line.at)
      assert.equal("p.lua:5: in deep\np.lua:7: in function", line.traceback)
      with { subscribe = "return 5" }
      line = first(policies.capture(function() p:subscribe(request()) end))
      assert.equal("p.lua:3", line.at)
      assert.is_nil(line.traceback)
    end)

    it("are shown once per interval and counted", function()
      with({ filters = { f = "return ev.nope", g = "error('of ' .. ev.topic)" } }, { error_log_interval_s = 1 })
      local f, g = p:bind { filter = "f" }, p:bind { filter = "g" }
      local ev = policies.event { topic = "a", data = "", id = 1 }
      local other = policies.event { topic = "b", data = "", id = 2 }
      local log = policies.capture(function()
        for _ = 1, 50 do p:filter(f, ev) end
        for _ = 1, 3 do p:filter(g, ev) p:filter(g, other) end
      end)
      assert.equal(3, select(2, log:gsub("\n", "")))
      assert.equal(56, p:metrics().policy_errors_filter)
      log = policies.capture(function() p:run(1200) end)
      assert.matches('msg="repeated 49 times" policy=p.lua hook=filter error="p.lua:5: event has no', log, 1, true)
      assert.equal(2, select(2, log:gsub("repeated 2 times", "")))
      -- the next one is shown in full again
      log = policies.capture(function() p:filter(f, ev) end)
      assert.equal("p.lua:5: event has no field 'nope'", first(log).error)
      -- what was counted is reported at the latest when the policy ends
      p:filter(f, ev)
      log = policies.capture(function() p:close() end)
      assert.matches("repeated 1 times", log, 1, true)
      p = nil
    end)

    it("cannot flood the log with messages that differ", function()
      with({ filters = { f = "error(ev.id)" } }, { error_log_interval_s = 60 })
      local f = p:bind { filter = "f" }
      local log = policies.capture(function()
        for i = 1, 500 do p:filter(f, policies.event { topic = "a", data = "", id = i }) end
      end)
      assert.equal(64, select(2, log:gsub("\n", "")))
      log = policies.capture(function() p:close() end)
      assert.matches("errors=436", log, 1, true)
      p = nil
    end)
  end)

  it("keeps stack and memory over 10,000 questions of every kind", function()
    with({
      subscribe = "local q = req.query.x if q == 'bad' then error(q) end " ..
        "return { topics = { 'a' }, params = { q = q } }",
      publish = "return { pub, pub }", filters = { f = "return ev.data.n > 0" },
      formats = { g = "return { data = { n = ev.data.n } }" },
    }, { memory_bytes = 2 * 1024 * 1024, error_log_interval_s = 60 })
    policies.capture(function()
      local b = p:bind { filter = "f", format = "g" }
      for i = 1, 2500 do
        p:subscribe(request { query = { x = i % 3 == 0 and "bad" or tostring(i) } })
        p:publish(request(), { { topic = "a", data = tostring(i) } })
        local ev = policies.event { topic = "a", data = i % 5 == 0 and "x" or '{"n":1}', id = i }
        p:filter(b, ev)
        p:format(b, ev)
      end
    end)
    assert.equal(0, p:metrics().policy_stack_repairs)
    assert.is_true(p:metrics().policy_memory < 1024 * 1024)
    policies.capture(function() p:close() end)
    p = nil
  end)
end)
