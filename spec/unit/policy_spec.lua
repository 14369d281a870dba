local policies = require "support.policies"

local request, first = policies.request, policies.first_line

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
  local function subscribe(code, rq, functions)
    functions = functions or { filters = { near = "return true" }, formats = { short = "return 'x'" } }
    with { subscribe = code, filters = functions.filters, formats = functions.formats }
    local verdict
    local log = policies.capture(function() verdict = p:subscribe(request(rq)) end)
    return verdict, log
  end

  describe("subscribe", function()
    it("copies every field of a subscription", function()
      local v, log = subscribe [[return {
        topics = { "b/*", "a", "c/**", "a" }, filter = "near", format = "short",
        params = { z = 1, a = { "x", 2, true }, f = 1.5, e = {}, b = false },
        replay = { max_age = 1.5 }, limits = { events_per_s = 0.5, max_lag = 64, on_lag = "skip", every_s = 1.25 },
        heartbeat = 3600, retry_ms = 250, prime = "data", compress = false, ends = "near", envelope = true,
        first = { { event = 'put', data = { a = 1 } }, { data = 'x' } },
        quota = { { key = "u:ann", max = 5, over = "deny" }, { key = "t", max = 1000000, over = "oldest" } } }]]
      assert.equal("", log)
      assert.equal("allow", v.kind)
      assert.equal('{"sub":"u"}', v.identity)
      assert.equal(0, v.expires_ms)
      assert.same({
        topics = { "a", "b/*", "c/**" }, filter = "near", format = "short",
        params = '{"a":["x",2,true],"b":false,"e":[],"f":1.5,"z":1}', no_replay = false, replay_max_age_ms = 1500,
        events_per_s = 0.5, max_lag = 64, on_lag = "skip", heartbeat_s = 3600, retry_ms = 250,
        prime = "data", no_gzip = true, ends = "near", envelope = true, every_ms = 1250,
        first = 'event: put\ndata: {"a":1}\n\ndata: x\n\n',
        quotas = { { key = "u:ann", max = 5, oldest = false }, { key = "t", max = 1000000, oldest = true } },
      }, v.subscription)
    end)

    it("takes where a client without a position begins, and newest events for those that lag", function()
      local function start_of(text)
        return subscribe(("return { topics = { 'a' }, start = '%s' }"):format(text), nil, {}).subscription
      end
      assert.is_nil(start_of "now".start)
      assert.equal("latest", start_of "latest".start)
      assert.equal("earliest", start_of "earliest".start)
      local s = start_of "4711"
      assert.same({ "after", 4711 }, { s.start, s.start_after })
      assert.equal("latest", subscribe("return { topics = { 'a' }, limits = { on_lag = 'latest' } }", nil, {})
        .subscription.on_lag)
    end)

    it("has defaults for all but the topics", function()
      local v = subscribe("return { topics = { '**' } }", nil, {})
      assert.same({ topics = { "**" }, no_replay = false, replay_max_age_ms = 0, events_per_s = 0.0, max_lag = 0,
        on_lag = "default", heartbeat_s = 0, retry_ms = 0 }, v.subscription)
      assert.is_true(subscribe("return { topics = { 'a' }, replay = false }", nil, {}).subscription.no_replay)
      assert.is_false(subscribe("return { topics = { 'a' }, replay = true }", nil, {}).subscription.no_replay)
      local rules = subscribe([[return { topics = { 'a' },
        replay = { since = '2026-01-01T02:00:00.5+02:00', last = 50, gap = false } }]], nil, {}).subscription
      assert.same({ 1767225600500, 50, true, 0 },
        { rules.replay_since_ms, rules.replay_last, rules.replay_no_gap, rules.replay_max_age_ms })
      assert.equal(1700000000250, subscribe("return { topics = { 'a' }, replay = { since = 1700000000.25 } }", nil, {})
        .subscription.replay_since_ms)
      assert.equal("close", subscribe("return { topics = { 'a' }, limits = { on_lag = 'close' } }", nil, {})
        .subscription.on_lag)
      assert.is_nil(subscribe("return { topics = { 'a' }, params = {} }", nil, {}).subscription.params)
      assert.equal("json", subscribe("return { topics = { 'a' }, format = 'json' }", nil, {}).subscription.format)
      assert.equal("raw", subscribe("return { topics = { 'a' }, format = 'raw' }", nil, {}).subscription.format)
    end)

    it("treats equal params as equal, however they were built", function()
      local a = subscribe("local q = {} q.b = 2 q.a = 1 "
        .. "return { topics = { 'a' }, filter = 'near', format = 'raw', params = q }")
      local b = subscribe "return { topics = { 'a' }, filter = 'near', format = 'raw', params = { a = 1, b = 2 } }"
      assert.equal(a.subscription.params, b.subscription.params)
    end)

    it("names a filter and a format where the policy has some: nil is a name that was looked up in vain", function()
      local filters, formats = { near = "return true" }, { short = "return 'x'" }
      for code, functions in pairs {
        ["filter = NAMES.x"] = { filters = filters }, ["format = NAMES.x"] = { formats = formats },
        ["filter = 'near'"] = { filters = filters, formats = formats },
        ["format = 'short'"] = { filters = filters, formats = formats }, [""] = { formats = formats },
      } do
        local v, log = subscribe("local NAMES = {} return { topics = { 'a' }, " .. code .. " }", nil, functions)
        assert.equal("transient", v.kind, code)
        assert.matches(code:find "^filter = '" and "format: missing; a policy that has formats names one of them"
          or code:find "^format = '" and "filter: missing; a policy that has filters names one of them"
          or ": missing; a policy that has f", first(log).error, 1, true)
      end
      local v = subscribe("return { topics = { 'a' }, filter = 'none' }", nil, { filters = filters })
      assert.same({ "allow", nil }, { v.kind, v.subscription.filter })
      v = subscribe("return { topics = { 'a' }, filter = 'none' }", nil, {})
      assert.same({ "allow", nil }, { v.kind, v.subscription.filter })
      v = subscribe("return { topics = { 'a' }, format = 'raw' }", nil, { formats = formats })
      assert.same({ "allow", "raw" }, { v.kind, v.subscription.format })
    end)

    -- Everything else is closed: nothing granted, the client told to come again, one line in the log.
    local bad = {
      ["true"] = "subscribe returned boolean: a table, `tg.deny(status, reason)`, or `nil, \"why\"`",
      ["nil"] = "subscribe returned nil: a table",
      ["false or tg.deny(403, 'no')"] = "drops half of it: give it a `return` of its own",
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
      ["{ topics = { 'a' }, ['filter\\0'] = 'near' }"] = "subscription: unknown key 'filter'",
      ["{ topics = { 'a' }, fitler = 'near' }"] = "subscription: unknown key 'fitler' (did you mean 'filter'?)",
      ["{ topics = { 'a' }, [1] = 1 }"] = "subscription: keys must be names, got a number",
      ["{ topics = { 'a' }, filter = 'neer' }"] = "subscription: unknown filter 'neer' (did you mean 'near'?)",
      ["{ topics = { 'a' }, filter = 'something else' }"] = "unknown filter 'something else' (there are: none, near)",
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
      ["{ topics = { 'a' }, replay = 5 }"] =
        "replay: true, false or {max_age, since, last, gap} was expected, got number",
      ["{ topics = { 'a' }, replay = { max_events = 5 } }"] = "replay: unknown key 'max_events'",
      ["{ topics = { 'a' }, replay = { since = -5 } }"] = "replay.since (Unix seconds): a number above 0",
      ["{ topics = { 'a' }, replay = { since = 1700000000000 } }"] =
        "replay.since (Unix seconds): a number above 0 and up to",
      ["{ topics = { 'a' }, replay = { since = 'noon' } }"] =
        "replay.since: Unix seconds, \"2026-11-30T12:00:00Z\" or \"-15m\" was expected, got 'noon'",
      ["{ topics = { 'a' }, replay = { since = {} } }"] =
        "replay.since (Unix seconds, or ISO 8601): a string was expected",
      ["{ topics = { 'a' }, replay = { last = 0 } }"] = "replay.last (events): a whole number from 1 to 1000",
      ["{ topics = { 'a' }, replay = { last = 1001 } }"] = "replay.last (events): a whole number from 1 to 1000",
      ["{ topics = { 'a' }, replay = { gap = 1 } }"] = "replay.gap: true or false was expected, got number",
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
      ["{ topics = { 'a' }, limits = { every_s = 0 } }"] =
        "limits.every_s (seconds): a number from 0.1 to 3600 was expected, got 0",
      ["{ topics = { 'a' }, limits = { every_s = 0.05 } }"] =
        "limits.every_s (seconds): a number from 0.1 to 3600 was expected, got 0.05",
      ["{ topics = { 'a' }, limits = { every_s = 3601 } }"] =
        "limits.every_s (seconds): a number from 0.1 to 3600 was expected, got 3601",
      ["{ topics = { 'a' }, limits = { every_s = '1' } }"] =
        "limits.every_s (seconds): a number from 0.1 to 3600 was expected, got string",
      ["{ topics = { 'a' }, limits = { every_s = true } }"] =
        "limits.every_s (seconds): a number from 0.1 to 3600 was expected, got boolean",
      ["{ topics = { 'a' }, limits = { every_s = 0/0 } }"] =
        "limits.every_s (seconds): a number from 0.1 to 3600 was expected, got ",
      ["{ topics = { 'a' }, limits = { events_per_s = -1 } }"] = "limits.events_per_s: a number above 0",
      ["{ topics = { 'a' }, limits = { on_lag = 'drop' } }"] =
        "limits.on_lag: \"close\", \"skip\" or \"latest\" was expected, got 'drop'",
      ["{ topics = { 'a' }, start = 'newest' }"] =
        "start: \"latest\", \"now\", \"earliest\" or the id of an event was expected, got 'newest'",
      ["{ topics = { 'a' }, start = 5 }"] = "start: a string was expected, got number",
      ["{ topics = { 'a' }, start = 'latest', replay = false }"] = "start: has no effect with replay = false",
      ["{ topics = { 'a' }, heartbeat = 0 }"] =
        "heartbeat (seconds): a whole number from 1 to 3600 was expected, got 0",
      ["{ topics = { 'a' }, heartbeat = '15' }"] =
        "heartbeat (seconds): a whole number from 1 to 3600 was expected, got string",
      ["{ topics = { 'a' }, expires = os.time() }"] = "expires (Unix seconds, in the future): was ",
      ["{ topics = { 'a' }, expires = os.time() + 1.5 }"] =
        "expires (Unix seconds, in the future): a whole number from",
      ["{ topics = { 'a' }, expires = 'soon' }"] =
        "expires (Unix seconds, in the future): a number such as os.time() + 300 was expected, got string",
      ["{ topics = { 'a' }, expires = 1700000000000 }"] =
        "expires (Unix seconds, in the future): 1700000000000 is in milliseconds: divide by 1000",
      ["{ topics = { 'a' }, every_s = 1 }"] = "every_s belongs into limits: limits = { every_s = 1 }",
      ["{ topics = { 'a' }, on_lag = 'skip' }"] = "on_lag belongs into limits: limits = { on_lag = \"skip\" }",
      ["{ topics = { 'a' }, prime = 'event ' }"] =
        "prime: \"event\", \"id\", \"data\" or \"none\" was expected, got 'event '",
      ["{ topics = { 'a' }, prime = true }"] = "prime: a string was expected, got boolean",
      ["{ topics = { 'a' }, ends = 'nearr' }"] = "unknown filter for `ends` 'nearr' (did you mean 'near'?)",
      ["{ topics = { 'a' }, first = 'x' }"] = "first: a list of {event, data} was expected, got string",
      ["{ topics = { 'a' }, first = { 'x' } }"] = "first[1]: a table was expected, got string",
      ["{ topics = { 'a' }, first = { { data = 'x', id = 1 } } }"] = "first[1]: unknown key 'id'",
      ["{ topics = { 'a' }, first = { { event = 'x' } } }"]
        = "first[1].data: a string, or a table that becomes JSON, was expected, got nil",
      ["{ topics = { 'a' }, first = { { data = 'x' }, { data = print } } }"]
        = "first[2].data: a string, or a table that becomes JSON, was expected, got function",
      ["{ topics = { 'a' }, first = { { data = { x = { print } } } } }"] = "first[1].data",
      ["{ topics = { 'a' }, first = { { data = '\\xff' } } }"] = "first[1].data: not UTF-8",
      ["{ topics = { 'a' }, first = { { event = 'a\\nb', data = 'x' } } }"]
        = "first[1].event: one line of at most 255 bytes of UTF-8 was expected",
      ["{ topics = { 'a' }, first = { { data = ('x'):rep(4089) } } }"]
        = "first[1]: all of `first` may have 4096 bytes (policy.first_bytes)",
      ["{ topics = { 'a' }, mark = 'a b' }"] = "mark: 1 to 64 letters, digits, '-', '_' and '.' were expected",
      ["{ topics = { 'a' }, mark = '' }"] = "mark: 1 to 64 letters",
      ["{ topics = { 'a' }, mark = ('x'):rep(65) }"] = "mark: 1 to 64 letters",
      ["{ topics = { 'a' }, fields = 'x' }"] = "fields: a table was expected, such as",
      ["{ topics = { 'a' }, fields = { ['a b'] = 'x' } }"]
        = "fields: the name of a header field was expected, got 'a b'",
      ["{ topics = { 'a' }, fields = { ['content-length'] = '1' } }"] = "content-length is not for policies to set",
      ["{ topics = { 'a' }, fields = { ['SET-COOKIE'] = 'a=b' } }"] = "SET-COOKIE is not for policies to set",
      ["{ topics = { 'a' }, fields = { A = 5 } }"] = "fields.A: a string was expected, got number",
      ["{ topics = { 'a' }, fields = { A = 'x\\r\\nB: y' } }"] = "fields.A: 1 to 1024 visible characters of ASCII",
      ["{ topics = { 'a' }, fields = { A = '' } }"] = "fields.A: 1 to 1024 visible characters of ASCII",
      ["{ topics = { 'a' }, fields = { A = ('x'):rep(1000), B = ('x'):rep(1000), C = ('x'):rep(99) } }"]
        = "fields: all of them may have 2048 bytes",
      ["tg.stored(202)"] = "subscribe returned tg.stored(): that is for a request that publishes",
      ["tg.stored(404)"] = "200, 201, 202 or 204 was expected",
      ["{ topics = { 'a' }, envelope = 'json' }"] = "envelope: true or false was expected, got string",
      ["{ topics = { 'a' }, ends = true }"] = "ends: a string was expected, got boolean",
      ["{ topics = { 'a' }, compress = 'gzip' }"] = "compress: true or false was expected, got string",
      ["{ topics = { 'a' }, retry_ms = 0 }"] = "retry_ms: a whole number from 1",
      ["{ topics = { 'a' }, presence = 'ann' }"] = "presence: {topic, member, data} was expected, got string",
      ["{ topics = { 'a' }, presence = { topic = 'r/*', member = 'ann' } }"] = "presence.topic: ",
      ["{ topics = { 'a' }, presence = { topic = 'r' } }"] = "presence.member: a string was expected, got nil",
      ["{ topics = { 'a' }, presence = { topic = 'r', member = '' } }"] = "presence.member: 1 byte of UTF-8 or more",
      ["{ topics = { 'a' }, presence = { topic = 'r', member = '\\xff' } }"] = "presence.member: 1 byte of UTF-8",
      ["{ topics = { 'a' }, presence = { topic = 'r', member = ('/'):rep(90) } }"] =
        "presence: topic and member have 254 bytes together, at most",
      ["{ topics = { 'a' }, presence = { topic = 'r', member = 'ann', data = 'x' } }"] =
        "presence.data: a table that becomes JSON was expected, got string",
      ["{ topics = { 'a' }, presence = { topic = 'r', member = 'ann', data = { x = ('x'):rep(1024) } } }"] =
        "presence.data: longer than 1024 bytes",
      ["{ topics = { 'a' }, presence = { topic = 'r', member = 'ann', role = 'x' } }"] = "presence: unknown key 'role'",
      ["{ topics = { 'a' }, quota = 5 }"] = "quota: a list of {key, max, over} was expected, got number",
      ["{ topics = { 'a' }, quota = { key = 'u', max = 5, over = 'deny' } }"] =
        "quota: a list of at most 4 {key, max, over} was expected (no holes, no other keys)",
      ["{ topics = { 'a' }, quota = { 'u' } }"] = "quota[1]: a table was expected, got string",
      ["{ topics = { 'a' }, quota = { { key = 'u', maximum = 5, over = 'deny' } } }"] =
        "quota[1]: unknown key 'maximum'",
      ["{ topics = { 'a' }, quota = { { max = 5, over = 'deny' } } }"] = "quota[1].key: a string was expected, got nil",
      ["{ topics = { 'a' }, quota = { { key = '', max = 5, over = 'deny' } } }"] =
        "quota[1].key: 1 to 128 bytes were expected, got 0",
      ["{ topics = { 'a' }, quota = { { key = ('u'):rep(129), max = 5, over = 'deny' } } }"] =
        "quota[1].key: 1 to 128 bytes were expected, got 129",
      ["{ topics = { 'a' }, quota = { { key = 'u\\xff', max = 5, over = 'deny' } } }"] =
        "quota[1].key: a text in UTF-8 without control characters was expected",
      ["{ topics = { 'a' }, quota = { { key = 'u\\n', max = 5, over = 'deny' } } }"] =
        "quota[1].key: a text in UTF-8 without control characters was expected",
      ["{ topics = { 'a' }, quota = { { key = 'u', max = 0, over = 'deny' } } }"] =
        "quota[1].max (streams): a whole number from 1 to 1000000 was expected, got 0",
      ["{ topics = { 'a' }, quota = { { key = 'u', over = 'deny' } } }"] = "quota[1].max (streams): a whole number",
      ["{ topics = { 'a' }, quota = { { key = 'u', max = 5 } } }"] = "quota[1].over: a string was expected, got nil",
      ["{ topics = { 'a' }, quota = { { key = 'u', max = 5, over = 'newest' } } }"] =
        "quota[1].over: \"deny\" or \"oldest\" was expected, got 'newest'",
      ["{ topics = { 'a' }, quota = { { key = 'u', max = 5, over = 'deny' }, { key = 'u', max = 9, over = 'oldest' } }"
        .. " }"] = "quota[2].key: 'u' is there already",
      ["tg.rate('r')"] = "bad argument #2 to 'rate' (a key of 1 to 1024 bytes was expected)",
      ["tg.rate('', 'k', { per_s = 1 })"] = "bad argument #1 to 'rate' (a name of 1 to 64 bytes was expected)",
      ["tg.rate('r', 1.5, { per_s = 1 })"] = "bad argument #2 to 'rate' (a key of 1 to 1024 bytes was expected)",
      ["tg.rate('r', 'k')"] = "bad argument #3 to 'rate' (table expected, got no value)",
      ["tg.rate('r', 'k', { per_sec = 1 })"] = "options of tg.rate: unknown key 'per_sec' (did you mean 'per_s'?)",
      ["tg.rate('r', 'k', { burst = 1 })"] = "per_s: a number above 0",
      ["tg.rate('r', 'k', { per_s = 0/0 })"] = "per_s: a number above 0",
      ["tg.rate('r', 'k', { per_s = 1, burst = 0 })"] = "burst: a whole number from 1 to 1000000 was expected, got 0",
      ["tg.rate('r', 'k', { per_s = 1e-9 })"] = "per_s: so much that an empty bucket is full again within seven days",
      ["tg.deny(403, 'x', 5)"] = "bad argument #3 to 'deny' (table expected, got number)",
      ["tg.deny(403, 'x', { retry = 5 })"] = "options of tg.deny: unknown key 'retry'",
      ["tg.deny(403, 'x', { retry_after = 0 })"] = "retry_after (seconds): a number above 0",
      ["nil, { status = 403, reason = 'x', retry_after = 'soon' }"] = "denial.retry_after (seconds): a number above 0",
      ["{ topics = { 'a' } }, 'but'"] = "subscribe returned table and string",
      ["nil, 5"] = "subscribe returned nil and number",
      ["nil, {}"] = "denial.status: a whole number",
      ["nil, { status = 200, reason = 'x' }"] = "denial.status: a whole number from 204 to 429 was expected, got 200",
      ["nil, { status = 418, reason = 'x' }"] =
        "denial.status: 204, 400, 401, 403, 404, 409, 410, 413, 422 or 429 was expected, got 418",
      ["nil, { status = 403 }"] = "denial.reason: a string was expected, got nil",
      ["nil, { status = 403, reason = 'a\\nb' }"] = "denial.reason: a text without control characters",
      ["nil, { status = 403, reason = 'x', more = 1 }"] = "denial: unknown key 'more'",
      ["error('boom')"] = "p.lua:3: boom",
      ["req.qury"] = "p.lua:3: request has no field 'qury' (did you mean 'query'?)",
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
      local v = subscribe("local t = {} for i = 1, 100 do t[i] = 't' .. i end return { topics = t }", nil, {})
      assert.equal(100, #v.subscription.topics)
      local _, log = subscribe "local t = {} for i = 1, 101 do t[i] = 't' .. i end return { topics = t }"
      assert.matches("topics: a list of 1 to 100 strings", first(log).error, 1, true)
      _, log = subscribe "local t = { 'a' } for i = 1, 1000000 do t['k' .. i % 5000] = 1 end return { topics = t }"
      assert.matches("topics: a list of 1 to 100 strings", first(log).error, 1, true)
      v = subscribe("local t = {} for i = 1, 32 do t['k' .. i] = i end return { topics = { 'a' }, params = t }", nil,
        {})
      assert.equal("allow", v.kind)
      _, log = subscribe "local t = {} for i = 1, 33 do t['k' .. i] = i end return { topics = { 'a' }, params = t }"
      assert.matches("params: 33 keys, at most 32 were expected", first(log).error, 1, true)
    end)

    it("reads with raw access only", function()
      local v = subscribe [[
        local hostile = { __index = function() error("index") end, __pairs = function() error("pairs") end,
          __eq = function() error("eq") end, __metatable = "locked" }
        return setmetatable({ topics = setmetatable({ "a" }, hostile), params = setmetatable({ x = 1 }, hostile),
          filter = "none", format = "raw" }, hostile)]]
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
      for _, status in ipairs { 400, 401, 403, 404, 409, 410, 413, 422, 429 } do
        local v, log = subscribe("return tg.deny(" .. status .. ", 'because')")
        assert.same({ "deny", status, "because", "" }, { v.kind, v.status, v.reason, log })
      end
      assert.equal(1, subscribe("return tg.deny(429, 'no', { retry_after = 0.2 })").retry_after_s)
      assert.equal(8, subscribe("return tg.deny(403, 'no', { retry_after = 7.01 })").retry_after_s)
      assert.is_nil(subscribe("return tg.deny(403, 'no', { retry_after = nil })").retry_after_s)
      local v, log = subscribe "return nil, 'database is down'"
      assert.same({ "transient", "database is down" }, { v.kind, v.reason })
      assert.equal("database is down", first(log).reason)
      assert.equal(0, p:metrics().policy_errors_subscribe)
    end)

    it("takes tokens of a rate, a second's worth at once where nothing else is said", function()
      local v = subscribe [[
        for i = 1, 3 do
          local ok, wait = tg.rate("fast", 7, { per_s = 2.5 })
          assert(ok == true and wait == nil, i)
        end
        assert(tg.rate("slow", 7, { per_s = 0.0001 }))
        local ok, wait = tg.rate("slow", "7", { per_s = 0.0001 })
        assert(ok == false and wait > 0 and wait <= 10000, wait)
        return { topics = { "a" }, filter = "near", format = "short" }]]
      assert.equal("allow", v.kind)
      with { formats = { short = "return tostring(tg.rate('r', 'k', { per_s = 1 }))" } }
      local log = policies.capture(function()
        p:format(assert(p:bind { format = "short" }), policies.event { topic = "a", data = "x", id = 1 })
      end)
      assert.matches("tg.rate: only hooks may ask for a rate", first(log).error, 1, true)
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

    it("sees when an identity expires that is a read-only view", function()
      with {
        authenticate = "return Box.kept or { sub = 'u' }",
        more = "Box = {}",
        filters = { f = "Box.kept = ev.data return true" },
      }
      local binding = assert(p:bind { filter = "f" })
      local event = policies.event { topic = "a", data = '{"sub":"v","expires":1700000000}', id = 1 }
      assert.is_true((p:filter(binding, event)))
      local v = p:subscribe(request())
      assert.same({ '{"expires":1700000000,"sub":"v"}', 1700000000000 }, { v.identity, v.expires_ms })
      p:unbind(binding)
    end)

    for code, message in pairs {
      ["return true"] = "authenticate returned boolean: a table",
      [""] = "authenticate returned nil: a table",
      ["return { a = {} }"] = "identity.a: a string, number or boolean was expected, got a table",
      ["return { a = print }"] = "identity.a: a string, number or boolean was expected, got a function",
      ["return { 'a' }"] = "identity: the keys of an object must be strings",
      ["return { a = ('x'):rep(2048) }"] = "identity: longer than 2048 bytes",
      ["return { a = '\\xff' }"] = "identity.a: a string that is not UTF-8",
      ["return { expires = 'soon' }"] = "identity.expires (Unix seconds): a number such as os.time() + 300",
      ["return { expires = 1700000000000 }"] = "identity.expires (Unix seconds): 1700000000000 is in milliseconds",
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
      with { authenticate = "return { v = tostring(" .. expression .. ") }" }
      local v
      local log = policies.capture(function() v = p:subscribe(request(rq)) end)
      if v.kind ~= "allow" then return first(log).error end
      return (v.identity:match('^{"v":"(.*)"}$'))
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
      assert.matches("request has no field of type number", eval "req[1]")
      assert.matches("request has no field 'x' to write", eval "(function() req.x = 1 end)()")
    end)

    -- some are made when they are first read: nobody can tell
    it("are all there, whichever were read before, and however", function()
      local rq = { query = { { "topic", "a" }, { "x", "1" } },
        headers = { { "X-Thing", "one" }, { "Authorization", "Bearer abc" }, { "Cookie", "a=1; b=2" } } }
      local names = [[(function()
        local list = {}
        for k, v in pairs(req) do
          assert(type(k) == "string" and req[k] == v)
          list[#list + 1] = k
        end
        table.sort(list)
        return table.concat(list, " ")
      end)()]]
      local all = "bearer cookies headers id ip method params path query query_all topics"
      assert.equal(all, eval(names, rq))
      assert.equal("2" .. all, eval("req.cookies.b .. " .. names, rq))
      assert.equal(all .. "onea", eval(names .. " .. req.headers['x-thing'] .. req.topics[1]", rq))
      for _, field in ipairs { "headers", "cookies", "query", "topics" } do
        assert.equal("true", eval(("req.%s == req.%s"):format(field, field), rq))
      end
      assert.equal("3 2 2 1", eval([[(function()
        local n = {}
        for i, field in ipairs { "headers", "cookies", "query", "topics" } do
          n[i] = 0
          for _ in pairs(req[field]) do n[i] = n[i] + 1 end
        end
        return table.concat(n, " ")
      end)()]], rq))
      local text = eval("json.encode(req):gsub('\"', '')", rq)
      for _, part in ipairs { "cookies:{a:1,b:2}", "x-thing:one", "query:{topic:a,x:1}", "topics:[a]" } do
        assert.matches(part, text, 1, true)
      end
    end)

    it("can be changed where they are there", function()
      local rq = { query = { { "topic", "a" } }, headers = { Cookie = "a=1" } }
      for _, field in ipairs { "headers", "cookies", "query", "topics" } do
        for _, code in ipairs { "req.F = { x = 'mine' } return req.F.x",
          "local _ = req.F req.F = { x = 'mine' } return req.F.x" } do
          assert.equal("mine", eval(("(function() %s end)()"):format(code:gsub("F", field)), rq))
        end
      end
    end)
  end)

  describe("what subscribe sees of a request", function()
    local function eval(expression, rq)
      local code = "return { topics = { 'a' }, params = { v = tostring(" .. expression .. ") } }"
      local v, again
      with { subscribe = code } -- auth = "open"
      policies.capture(function() again = p:subscribe(request(rq)) end)
      with { authenticate = "return {}", subscribe = code }
      local log = policies.capture(function() v = p:subscribe(request(rq)) end)
      assert.same(v.subscription, again.subscription) -- whether it was authenticated or not
      policies.capture(function() again = p:resubscribe(request(rq), "{}") end)
      assert.equal(v.kind, again.kind)
      if v.kind ~= "allow" then return first(log).error end
      assert.same(v.subscription, again.subscription) -- later as at once
      return (v.subscription.params:match('^{"v":"(.*)"}$'))
    end

    local rq = {
      ip = "198.51.100.7", method = "GET", path = "/events",
      query = { { "topic", "a/b" }, { "topic", "c" }, { "lat", "1" }, { "token", "s3cret" }, { "Token", "t" } },
      headers = { Authorization = "Bearer abc", Cookie = "a=1", ["X-Thing"] = "one" },
    }

    it("is what the broker keeps", function()
      for expression, expected in pairs {
        ["req.ip"] = "198.51.100.7", ["req.method"] = "GET", ["req.path"] = "/events", ["req.query.lat"] = "1",
        ["table.concat(req.topics, ' ')"] = "a/b c", ["req.query.token"] = "nil", ["req.query.Token"] = "t",
      } do
        assert.equal(expected, eval(expression, rq), expression)
      end
    end)

    it("is kept without credentials, in memory too", function()
      with {}
      local _, kept = p:resubscribe(request(rq), '{"sub":"u"}')
      assert.matches("lat\0001\0", kept, 1, true)
      assert.is_nil(kept:find("s3cret", 1, true))
    end)

    it("is not what could be a credential, and says so", function()
      for _, field in ipairs { "headers", "cookies", "bearer", "tls" } do
        assert.matches("subscribe sees no request." .. field .. ": it runs again without it when the policy changes",
          eval("req." .. field, rq), 1, true)
      end
      assert.matches("request has no field 'body'", eval("req.body", rq))
    end)

    it("goes with the identity as it was", function()
      with { authenticate = "error('asked')", subscribe = "return { topics = { who.sub }, params = { n = who.n } }" }
      local v = p:resubscribe(request(rq), '{"n":9007199254740993,"sub":"u/1"}')
      assert.same({ "u/1" }, v.subscription.topics)
      assert.equal('{"n":9007199254740993}', v.subscription.params)
      assert.equal('{"n":9007199254740993,"sub":"u/1"}', v.identity)
    end)

    it("may be refused, or fail", function()
      with { subscribe = "if who.sub == 'x' then return tg.deny(403, 'no longer') end return nil, 'later'" }
      local v = p:resubscribe(request(rq), '{"sub":"x"}')
      assert.same({ "deny", 403, "no longer" }, { v.kind, v.status, v.reason })
      policies.capture(function() v = p:resubscribe(request(rq), "{}") end)
      assert.same({ "transient", false }, { v.kind, v.failed })
      with { subscribe = "error('x')" }
      policies.capture(function() v = p:resubscribe(request(rq), "{}") end)
      assert.same({ "transient", true }, { v.kind, v.failed })
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
        for _ = 1, 40 do p:filter(f, ev) end
        for _ = 1, 3 do p:filter(g, ev) p:filter(g, other) end
      end)
      assert.equal(3, select(2, log:gsub("\n", "")))
      assert.equal(46, p:metrics().policy_errors_filter)
      log = policies.capture(function() p:run(1200) end)
      assert.matches('msg="repeated 39 times" policy=p.lua hook=filter error="p.lua:5: event has no', log, 1, true)
      assert.equal(2, select(2, log:gsub("repeated 2 times", "")))
      -- the next one is shown in full again
      log = policies.capture(function() p:filter(f, ev) end)
      assert.matches("p.lua:5: event has no field 'nope' (", first(log).error, 1, true)
      -- what was counted is reported at the latest when the policy ends
      p:filter(f, ev)
      log = policies.capture(function() p:close() end)
      assert.matches('msg="repeated once" ', log, 1, true)
      p = nil
    end)

    it("cannot flood the log with messages that differ", function()
      local filters, bound = {}, {} -- none fails so often that it is put out of use
      for k = 1, 10 do filters["f" .. k] = "error(ev.id)" end
      with({ filters = filters }, { error_log_interval_s = 60 })
      for k = 1, 10 do bound[k] = p:bind { filter = "f" .. k } end
      local log = policies.capture(function()
        for i = 1, 500 do p:filter(bound[i % 10 + 1], policies.event { topic = "a", data = "", id = i }) end
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
