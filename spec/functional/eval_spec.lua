-- `tidegate eval`: one question to a policy, answered for those who write them. `tidegate test`: policy_tools_spec.lua.
local json = require "dkjson"
local tidegate = require "support.tidegate"
local tokens = require "support.tokens"
local tools = require "support.policy_tools"

local POLICY, run = tools.policy, tools.run
local LIMIT = 1 << 20 -- limits.event_bytes, as it is by default

describe("tidegate eval", function()
  local function eval(hook, input, ...)
    return run({ ["input.json"] = type(input) == "string" and input or json.encode(input) },
      { "eval", hook, "--policy", "mine.lua", "--input", "input.json", ... })
  end

  it("says what subscribe grants, for people and as JSON", function()
    local request = { topics = { "a/b" }, bearer = "secret", cookies = { name = "ann" } }
    local code, out = eval("subscribe", request)
    assert.equal(0, code)
    assert.matches("^granted\n", out)
    assert.matches('topics: %["a/b"%]', out)
    code, out = eval("subscribe", request, "--json")
    assert.equal(0, code)
    local v = json.decode(out)
    assert.equal("granted", v.kind)
    assert.equal("ann", v.identity.sub)
    assert.same({ owner = "ann" }, v.subscription.params)
  end)

  it("says what observe would do about an event, without doing it", function()
    local files = { ["mine.lua"] = [[
      return { api = 1, authenticate = function() return {} end,
        subscribe = function() return { topics = { "a" }, tags = { "b", "a" } } end,
        observe = { { topics = { "right/*" }, run = function(ev)
          if ev.raw == "bad" then error "no such right" end
          cache.forget("k")
          tg.ask_again("user:" .. ev.topic:match "[^/]*$")
          tg.end_streams("room:1", "closed")
        end } } }]] }
    local function observe(topic, data, ...)
      files["input.json"] = json.encode { event = { topic = topic, data = data } }
      return run(files, { "eval", "observe", "--policy", "mine.lua", "--input", "input.json", ... })
    end
    local code, out = observe("right/ann", "gone", "--json")
    assert.equal(0, code)
    assert.same({ result = "observed", forgotten = 1, effects = { { effect = "ask_again", tag = "user:ann" },
      { effect = "end_streams", tag = "room:1", reason = "closed" } } }, json.decode(out))
    assert.equal(1, (observe("other", "x")))
    code, out = observe("right/ann", "bad")
    assert.equal(75, code)
    assert.matches("^failed\n", out)
    assert.matches("mine%.lua:4: no such right", out)
    files["input.json"] = "{}"
    code, out = run(files, { "eval", "subscribe", "--policy", "mine.lua", "--input", "input.json", "--json" })
    assert.equal(0, code)
    assert.same({ "a", "b" }, json.decode(out).subscription.tags)
  end)

  it("shows what a stream would begin with", function()
    local code, out = run({ ["input.json"] = "{}", ["mine.lua"] = [[
      return { api = 1, authenticate = function() return { sub = "ann" } end, subscribe = function()
        return { topics = { "t" }, filter = "none", first = { { event = "put", data = { a = 1 } }, { data = "b" } } }
      end }
    ]] }, { "eval", "subscribe", "--policy", "mine.lua", "--input", "input.json", "--json" })
    assert.equal(0, code)
    assert.equal('event: put\ndata: {"a":1}\n\ndata: b\n\n', json.decode(out).subscription.first)
  end)

  it("shows what a stream would count for, and takes tokens of rates that nobody else has", function()
    local files = { ["input.json"] = "{}", ["mine.lua"] = [[
      return { api = 1, authenticate = function() return { sub = "ann" } end,
        publish = function(pub) return tg.deny(429, "no", { retry_after = 1.5 }) end,
        subscribe = function(req, who)
          local rule = { per_s = 0.001, burst = 2 }
          assert(tg.rate("r", who.sub, rule) and tg.rate("r", who.sub, rule))
          local ok, wait = tg.rate("r", who.sub, rule)
          assert(not ok and wait > 900 and wait <= 1000)
          return { topics = { "a" }, quota = { { key = "user:" .. who.sub, max = 5, over = "oldest" } } }
        end }]] }
    local code, out = run(files, { "eval", "subscribe", "--policy", "mine.lua", "--input", "input.json", "--json" })
    assert.equal(0, code, out)
    assert.same({ { key = "user:ann", max = 5, over = "oldest" } }, json.decode(out).subscription.quota)
    files["input.json"] = '{"event": {"topic": "a", "data": 1}}'
    code, out = run(files, { "eval", "publish", "--policy", "mine.lua", "--input", "input.json" })
    assert.equal(1, code)
    assert.equal("denied\n  reason: no\n  retry_after: 2\n  status: 429\n", out)
  end)

  it("takes the answers of databases and servers from the input", function()
    local request = { topics = { "db" }, bearer = "secret", db = { topics_of = { { topic = "t" } } } }
    local code, out = eval("subscribe", request, "--json")
    assert.equal(0, code)
    assert.same({ "t" }, json.decode(out).subscription.topics)
    request.db = nil
    assert.equal(75, (eval("subscribe", request)))
  end)

  it("says whom authenticate takes the client for", function()
    local code, out = eval("authenticate", { bearer = "secret", cookies = { name = "ann" } }, "--json")
    assert.equal(0, code)
    local v = json.decode(out)
    assert.equal("ann", v.identity.sub)
    assert.is_nil(v.subscription)
    code, out = eval("authenticate", "{}")
    assert.equal(1, code)
    assert.equal("denied\n  reason: bring the token\n  status: 401\n", out)
    code, out = eval("authenticate", { bearer = "broken" })
    assert.equal(75, code)
    assert.matches("mine%.lua:5: no such thing", out)
  end)

  it("says whom authenticate takes the client for where nobody may publish", function()
    local code, out = run({ ["input.json"] = "{}",
      ["mine.lua"] = [[
        return { api = 1, subscribe = function() end, authenticate = function() return { a = 1 } end }]] },
      { "eval", "authenticate", "--policy", "mine.lua", "--input", "input.json", "--json" })
    assert.equal(0, code)
    assert.same({ kind = "granted", identity = { a = 1 } }, json.decode(out))
  end)

  it("shows every term of a grant, integers as such", function()
    local code, out = run({ ["input.json"] = "{}", ["mine.lua"] = [[
      return { api = 1, authenticate = function() return { n = 1, expires = 2000000001 } end,
        subscribe = function()
          return { topics = { "a" }, expires = 2000000000, heartbeat = 20, retry_ms = 250,
            limits = { max_lag = 64, events_per_s = 2.5, every_s = 1.5 }, replay = { max_age = 60 } }
        end }]] }, { "eval", "subscribe", "--policy", "mine.lua", "--input", "input.json" })
    assert.equal(0, code)
    for _, line in ipairs { "expires: 2000000000", "expires: 2000000001", "heartbeat: 20", "retry_ms: 250",
      "max_lag: 64", "every_s: 1.5", "events_per_s: 2.5", "replay_max_age: 60" } do
      assert.truthy((out .. "\n"):find(" " .. line .. "\n", 1, true), line .. " is not in\n" .. out)
    end
  end)

  it("starts from an identity", function()
    local code, out = eval("subscribe", { topics = { "a" }, who = { sub = "ben" } }, "--json")
    assert.equal(0, code)
    assert.same({ owner = "ben" }, json.decode(out).subscription.params)
    local event = { topic = "n", data = 1 }
    assert.equal(0, (eval("publish", { who = { sub = "writer" }, event = event })))
    assert.equal(1, (eval("publish", { who = { sub = "reader" }, event = event })))
    assert.equal(65, (eval("authenticate", { who = { sub = "ben" } })))
  end)

  it("verifies tokens with the keys of the configuration, and says when there are none", function()
    local secret = ("k"):rep(32)
    local files = {
      ["tokens.lua"] = [[
        return { api = 1, subscribe = function() end, authenticate = function(req)
          local c, err = tg.jwt(req.bearer, { keys = "main", alg = { "HS256" } })
          if not c then return tg.deny(401, err) end
          return { sub = c.sub }
        end }]],
      ["conf.lua"] = 'return { policy = { file = "tokens.lua" }, keys = { main = { secret = "' .. secret .. '" } } }',
      ["input.json"] = json.encode { bearer = tokens.sign("HS256", secret, { sub = "ann", exp = os.time() + 3600 }) },
    }
    local words = { "eval", "authenticate", "conf.lua", "--input", "input.json" }
    local code, out = run(files, words)
    assert.equal(0, code, out)
    assert.matches("sub: ann", out)
    files["tokens.lua"] = files["tokens.lua"]:gsub("HS256", "RS256")
    files["input.json"] = json.encode { bearer = tokens.sign("RS256", tokens.key "RS256", { sub = "ann" }) }
    files["conf.lua"] = [[
      return { policy = { file = "tokens.lua" }, keys = { main = { jwks_url = "http://127.0.0.1:1/keys" } } }]]
    code, out = run(files, words)
    assert.equal(75, code)
    assert.matches("reason: tg.jwt: keys of 'main': ", out)
    words[3], words[6], words[7] = "--json", "--policy", "tokens.lua"
    code, out = run(files, words)
    assert.equal(75, code)
    assert.matches("unknown key set 'main': the configuration names none", json.decode(out).error)
  end)

  it("says who is denied, with what the client is told", function()
    local code, out = eval("subscribe", { topics = { "a" } })
    assert.equal(1, code)
    assert.same("denied\n  reason: bring the token\n  status: 401\n", out)
  end)

  it("ends with 75 when the policy fails, and shows file and line", function()
    local code, out = eval("subscribe", { bearer = "broken" })
    assert.equal(75, code)
    assert.equal("transient\n  error: mine.lua:5: no such thing\n", out)
    code, out = eval("subscribe", { bearer = "broken" }, "--json")
    assert.equal(75, code)
    assert.same({ kind = "transient", error = "mine.lua:5: no such thing" }, json.decode(out))
    local _, _, err = run({ ["input.json"] = "{}", ["mine.lua"] = [[
      local function deep(x)
        return x.y.z
      end
      return { api = 1, subscribe = function() end, authenticate = function()
        local z = deep {}
        return z
      end }
    ]] }, { "eval", "subscribe", "--policy", "mine.lua", "--input", "input.json" })
    assert.matches("mine%.lua:2: in .-mine%.lua:5: in ", err) -- how it got there
  end)

  it("shows what publish stores", function()
    local code, out = eval("publish",
      { bearer = "secret", cookies = { name = "writer" }, event = { topic = "n", data = { a = 1 } } }, "--json")
    assert.equal(0, code)
    local v = json.decode(out)
    assert.same({ { topic = "n", type = "message", data = '{"a":1}', attrs = { owner = "ann" } } }, v.events)
    assert.equal(1, (eval("publish", { bearer = "secret", event = { topic = "n", data = 1 } })))
  end)

  it("lets formats return what delivery would send: more than a publish may hold, and not without end", function()
    local function format(bytes)
      return run({ ["input.json"] = json.encode { name = "long", event = { topic = "n", data = 1 } },
        ["mine.lua"] = ([[
          return { api = 1, authenticate = function() end, subscribe = function() end,
            formats = { long = function()
              local part = string.rep("x", %d)
              return { data = part .. part .. part .. "%s" }
            end } }]]):format(bytes // 3, ("x"):rep(bytes % 3)),
        ["conf.lua"] = [[
          return { listen = { "127.0.0.1:0" }, store = { path = "." },
            policy = { file = "mine.lua", filter_cpu_ms = 10000 } }]] },
        { "eval", "format", "conf.lua", "--input", "input.json", "--json" })
    end
    local code, out = format(LIMIT + 1)
    assert.equal(0, code)
    assert.equal(LIMIT + 1, #json.decode(out).data)
    assert.equal(75, (format(2 * LIMIT + 4097)))
  end)

  it("asks filters and formats", function()
    local event = { topic = "n", data = { text = "hi" }, attrs = { owner = "ann" } }
    assert.equal(0, (eval("filter", { name = "mine", params = { owner = "ann" }, event = event })))
    local code, out = eval("filter", { name = "mine", params = { owner = "ben" }, event = event })
    assert.equal(1, code)
    assert.matches("^filtered", out)
    code, out = eval("format", { name = "short", event = event }, "--json")
    assert.equal(0, code)
    assert.equal("hi", json.decode(out).data)
    code = eval("format", { name = "short", event = { topic = "n", data = "no JSON" } })
    assert.equal(75, code)
  end)

  it("says why a filter said no, and when it failed", function()
    local policy = { ["mine.lua"] = [[return { api = 1, authenticate = function() end, subscribe = function() end,
      filters = {
        why = function() return false, "too \27[31mlate" end,
        broken = function(ev) return ev.attrs.n.x end,
        text = "attrs.owner == $owner and attrs.n > 1",
      } }]], ["input.json"] = "" }
    local function filter(name, ...)
      policy["input.json"] = json.encode { name = name, params = { owner = "ben" },
        event = { topic = "a", data = 1, attrs = { owner = "ann" } } }
      return run(policy, { "eval", "filter", "--policy", "mine.lua", "--input", "input.json", ... })
    end
    local code, out = filter "why"
    assert.equal(1, code)
    assert.equal("filtered\n  reason: too \\x1B[31mlate\n", out)
    assert.equal("too \27[31mlate", json.decode((select(2, filter("why", "--json")))).reason)
    code, out = filter "broken"
    assert.equal(75, code)
    assert.matches("^failed\n  error: mine%.lua:4: attempt to index a nil value", out)
    assert.equal("failed", json.decode((select(2, filter("broken", "--json")))).result)
    code, out = filter "text"
    assert.equal(1, code)
    assert.matches("^filtered\n  lines:\n    .*attrs%.owner.*ann", out)
    assert.is_true(#json.decode((select(2, filter("text", "--json")))).lines > 0)
  end)

  it("fails when its output cannot be written, as test does", function()
    local b = tidegate.prepare { files = { ["mine.lua"] = POLICY, ["a_spec.lua"] = 'it("passes", function() end)' } }
    tidegate.forget_later(b)
    for _, command in ipairs { "eval authenticate --policy mine.lua", "test --json a_spec.lua", "test a_spec.lua" } do
      local code, _, err = tidegate.run("/bin/sh", { cwd = b.dir, args = {
        "-c", [[echo '{"bearer":"secret"}' | "$0" ]] .. command .. " >/dev/full", tidegate.binary(),
      } })
      assert.equal(74, code, command .. ": " .. err)
      assert.matches("the output could not be written", err)
    end
  end)

  it("reads standard input", function()
    local b = tidegate.prepare { files = { ["mine.lua"] = POLICY } }
    tidegate.forget_later(b)
    local code, out = tidegate.run("/bin/sh", { cwd = b.dir, args = {
      "-c", [[echo '{"topics":["a"],"bearer":"secret"}' | "$0" eval subscribe --policy mine.lua]], tidegate.binary(),
    } })
    assert.equal(0, code)
    assert.matches("^granted", out)
    assert.equal(66, (run({}, { "eval", "subscribe", "--policy", "mine.lua", "--input", "none.json" })))
  end)

  it("refuses wrong input, naming it", function()
    for input, pattern in pairs {
      ["{"] = "not JSON: line 1", ["[]"] = "object was expected", ['{"topic":[]}'] = 'unknown field "topic"',
      ['{"ip":"x"}'] = "ip: an IPv4", ['{"topics":"a"}'] = "topics: a list", ['{"topics":[1]}'] = "topics%[1%]: a text",
      ['{"topics":{}}'] = "topics: a list", ['{"query":{"a":[]}}'] = "query.a: a string",
      ['{"bearer":1}'] = "bearer: a text",
      ['{"who":{"a":null}}'] = "who.a: a string", ['{"headers":{"a":"b\\n"}}'] = "a line break",
    } do
      local code, _, err = eval("subscribe", input)
      assert.equal(65, code, input)
      assert.matches(pattern, err)
    end
    local code, _, err = eval("filter", { name = "nobody", event = { topic = "a", data = 1 } })
    assert.equal(65, code)
    assert.matches("the policy has no such filter: 'nobody'", err, 1, true)
    assert.is_nil(err:find("params", 1, true))
    _, _, err = run({ ["mine.lua"] = [[return { api = 1, authenticate = function() end, subscribe = function() end,
      formats = { slim = { keep = { "id" } } } }]],
      ["input.json"] = json.encode { name = "slm", event = { topic = "a", data = 1 } } },
      { "eval", "format", "--policy", "mine.lua", "--input", "input.json" })
    assert.matches("the policy has no such format: 'slm'; did you mean 'slim'?", err, 1, true)
    code, _, err = run({ ["mine.lua"] = [[return { api = 1, authenticate = function() end, subscribe = function() end,
      filters = { mine = "attrs.owner == $owner" } }]],
      ["input.json"] = json.encode { name = "mine", params = { other = 1 }, event = { topic = "a", data = 1 } } },
      { "eval", "filter", "--policy", "mine.lua", "--input", "input.json" })
    assert.equal(65, code)
    assert.matches("cannot use these params: .*owner", err)
    code, _, err = eval("format", { name = "short", event = { topic = "a/*", data = 1 } })
    assert.equal(65, code)
    assert.matches("topic", err)
  end)

  it("refuses wrong words with 64, a broken policy with 78", function()
    for _, words in ipairs { { "eval" }, { "eval", "filtr", "--policy", "x" },
      { "eval", "filter", "--policy" }, { "eval", "filter", "a", "b" }, { "eval", "filter", "a", "--x" } } do
      assert.equal(64, (run({}, words)))
    end
    local code, _, err = run({ ["mine.lua"] = "return 5", ["input.json"] = "{}" },
      { "eval", "subscribe", "--policy", "mine.lua", "--input", "input.json" })
    assert.equal(78, code)
    assert.matches("mine%.lua", err)
  end)
end)
