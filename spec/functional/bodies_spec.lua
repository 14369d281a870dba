-- What a body costs before anybody has been asked who sends it, and all of them together.
local eventually = require "support.eventually"
local http = require "support.http"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

-- Who has the key may publish. The hook waits where it is told to.
local POLICY = [[
  return {
    api = 1,
    authenticate = function(req)
      local wait = tonumber(req.query.wait)
      if wait then sleep(wait) end
      if req.headers["x-api-key"] ~= "secret" then return tg.deny(401, "send your key") end
      return { sub = req.headers["x-sub"] or "user" }
    end,
    subscribe = function() return { topics = { "**" } } end,
    publish = function(pub, who)
      if who.sub ~= "user" then return tg.deny(403, "not " .. who.sub) end
      pub.attrs = { sub = who.sub }
      return pub
    end,
  }
]]
local JSON, KEY = { "Content-Type", "application/json" }, { "X-Api-Key", "secret" }
local MIB = 1 << 20

local function head(path, fields, length)
  local all = { { "Content-Length", tostring(length) } }
  for _, field in ipairs(fields) do all[#all + 1] = field end
  return http.render("POST", path, all)
end

local function begin(broker, bytes)
  local c = assert(http.connect(broker))
  assert(c:send(bytes))
  return c
end

describe("before the body has come", function()
  local broker = tidegate.shared { policy = POLICY }

  -- { what is sent first, the status }: the body never comes
  it("the head decides, and nothing of the body is asked for", function()
    local put = http.render("PUT", "/events", { ["Content-Length"] = "8000000" })
    for _, case in ipairs {
      { head("/events", { JSON }, 8000000), 401 },
      { head("/events?topic=a", {}, 100), 401 },
      { head("/nothing", { KEY, JSON }, 8000000), 404 },
      { put, 405 },
      { head("/events", { KEY, { "Content-Type", "text/xml" } }, 8000000), 415 },
      { head("/events", { KEY }, 8000000), 415 },
      { head("/events?topic=a", { KEY }, 2 * MIB), 413 },
      { head("/events?topic=%", { KEY }, 100), 400 },
      { head("/events?topic=a", { KEY, { "Origin", "https://evil.example" } }, 100), 403 },
      { head("/events?topic=a", { KEY, { "Accept", "text/event-stream" } }, 100), 406 },
      { http.render("POST", "/events", { JSON, { "Transfer-Encoding", "chunked" } }) .. "5\r\n[1,2,", 401 },
    } do
      for _, expect in ipairs { "", "Expect: 100-continue\r\n" } do
        local c = begin(broker(), (case[1]:gsub("\r\n\r\n", "\r\n" .. expect .. "\r\n", 1)))
        local r = assert(c:response())
        assert.equal(case[2], r.status, case[1])
        assert.equal("close", r.headers.connection)
        assert.is_true(c:closed())
      end
    end
    assert.equal(0, broker():metric "tidegate_http_bodies_bytes")
  end)

  it("who may publish is told to continue, once", function()
    local c = begin(broker(), head("/events?topic=a", { KEY, { "Expect", "100-continue" } }, 5))
    assert.equal(100, c:response().status)
    c:send "hello"
    assert.equal(201, c:response().status)
    assert.equal(201, c:request("POST", "/events?topic=a", { KEY }, "x").status)
  end)

  it("authenticate is asked once, and what it said is kept", function()
    local c = begin(broker(), head("/events?topic=a", { KEY, { "X-Sub", "other" } }, 5))
    c:send "he"
    assert.is_nil(c:response { timeout = 0.05 })
    c:send "llo"
    local r = c:response()
    assert.same({ 403, "not other" }, { r.status, r.json.detail })
    c = begin(broker(), head("/events?topic=kept", { KEY }, 5) .. "h")
    c:send "ello"
    assert.equal(201, c:response().status)
  end)

  it("the body waits for an authenticate that waits", function()
    local c = begin(broker(), head("/events?topic=a&wait=0.2", { KEY }, 3 * 65536 + 3) .. "abc")
    c:send(("x"):rep(3 * 65536))
    assert.equal(201, c:response().status)
    c = begin(broker(), head("/events?topic=a&wait=0.2", {}, 3 * 65536 + 3) .. "abc")
    assert.equal(401, c:response().status)
  end)

  it("who leaves meanwhile leaves nothing behind", function()
    for _, path in ipairs { "/events?topic=a&wait=1", "/events?topic=a" } do
      local c = begin(broker(), head(path, { KEY }, 100) .. "abc")
      assert.is_nil(c:response { timeout = 0.05 })
      c:shutdown()
      assert.is_true(c:closed())
    end
    eventually("nothing is under way", function()
      return broker():metric "tidegate_http_bodies_bytes" == 0
        and broker():metric "tidegate_policy_suspended_hooks" == 0
    end)
  end)

  it("the answers keep their order, and so do the events", function()
    local c = begin(broker(), http.render("POST", "/events?topic=order&wait=0.1", { KEY }, "1")
      .. http.render("POST", "/events?topic=order", { KEY }, "2") .. head("/events?topic=order", { KEY }, 2) .. "3")
    c:send("3" .. http.render("GET", "/nothing"))
    local last = 0
    for _ = 1, 3 do
      local r = c:response()
      assert.equal(201, r.status)
      assert.is_true(tonumber(r.json.id) > last)
      last = tonumber(r.json.id)
    end
    assert.equal(404, c:response().status)
  end)

  it("a refusal comes after the answers before it, and nothing behind it is served", function()
    local c = begin(broker(), http.render("POST", "/events?topic=a&wait=0.1", { KEY }, "1")
      .. head("/events?topic=a", {}, 100) .. http.render("POST", "/events?topic=a", { KEY }, "no"))
    assert.equal(201, c:response().status)
    assert.equal(401, c:response().status)
    assert.is_true(c:closed())
  end)

  it("a broken body is refused as before", function()
    local request = http.render("POST", "/events?topic=a", { KEY, { "Transfer-Encoding", "chunked" } })
    local c = begin(broker(), request .. "1\r\n")
    c:send "xy"
    assert.equal(400, c:response().status)
    assert.is_true(c:closed())
  end)

  it("the answers are the same, wherever the bytes are cut", function()
    local all = http.render("POST", "/events?topic=cut", { KEY }, "one")
      .. http.render("POST", "/events?topic=cut", { KEY, { "Transfer-Encoding", "chunked" } })
      .. "2\r\ntw\r\n1\r\no\r\n0\r\n\r\n"
      .. http.render("GET", "/nothing", {}, "abc")
      .. http.render("POST", "/events", { KEY, JSON }, '{"topic":"cut","data":[3]}')
      .. http.render("POST", "/events?topic=cut", {}, "who am I")
    for cut = 1, #all - 1, 3 do
      local c = begin(broker(), all:sub(1, cut))
      c:send(all:sub(cut + 1, cut + 1))
      c:send(all:sub(cut + 2))
      for i, status in ipairs { 201, 201, 404, 201, 401 } do
        local r = assert(c:response())
        assert.equal(status, r.status, ("answer %d, cut at %d"):format(i, cut))
      end
      c:close()
    end
    assert.equal(0, broker():metric "tidegate_http_bodies_bytes")
  end)

  -- Bytes come in while the hook ends its wait: those that came before are first.
  it("the bytes stay in order", function()
    local pieces = {}
    for i = 1, 1500 do pieces[i] = ("%05d"):format(i) end
    local body = table.concat(pieces)
    local stream = sse.open(broker(), { topic = "in-order", headers = { ["X-Api-Key"] = "secret" } })
    for _ = 1, 15 do
      local c = begin(broker(), head("/events?topic=in-order&wait=0.005", { KEY }, #body))
      for _, piece in ipairs(pieces) do assert(c:send(piece)) end
      assert.equal(201, c:response().status)
      assert.is_true(body == stream:next().data)
      c:close()
    end
    stream:close()
  end)

  it("what other methods send is dropped", function()
    local c = begin(broker(), (head("/nothing", {}, 3 * MIB):gsub("^POST", "GET")))
    for _ = 1, 3 do c:send(("x"):rep(MIB)) end
    assert.equal(404, c:response().status)
    assert.equal(404, c:request("GET", "/nothing").status)
  end)
end)

describe("a policy that comes while a body is under way", function()
  it("is asked who sends it", function()
    local broker = tidegate.start { policy = POLICY }
    local c = begin(broker, head("/events?topic=a", { KEY }, 5) .. "he")
    assert.is_nil(c:response { timeout = 0.05 })
    broker:reload((POLICY:gsub('"secret"', '"changed"')))
    c:send "llo"
    assert.equal(401, c:response().status)
  end)

  it("is asked who sends it, also if the one before decides after that", function()
    local broker = tidegate.start { policy = POLICY }
    local c = begin(broker, head("/events?topic=a&wait=1", { KEY }, 5))
    eventually("the hook waits", function() return broker:metric "tidegate_policy_suspended_hooks" == 1 end)
    broker:reload((POLICY:gsub('"secret"', '"changed"')))
    c:send "hello"
    assert.equal(401, c:response().status)
  end)

  -- The new policy is asked in one go with the body: reading that is no work of its hooks.
  it("is not blamed for a body that takes long to read", function()
    local broker = tidegate.start { policy = POLICY, config = { policy = { subscribe_cpu_ms = 10 } } }
    local event = ('{"topic":"a","data":[%s1]}'):format(("1,"):rep(250000))
    local body = ("[%s%s]"):format((event .. ","):rep(7), event)
    local c = begin(broker, head("/events", { KEY, JSON }, #body) .. body:sub(1, 2))
    assert.is_nil(c:response { timeout = 0.05 })
    broker:reload(POLICY .. "-- of later\n")
    c:send(body:sub(3))
    assert.equal(201, c:response().status)
    assert.equal(0, broker:metric 'tidegate_policy_errors_total{hook="authenticate"}')
  end)

  it("without a publish hook refuses at the head", function()
    local broker = tidegate.start { policy = (POLICY:gsub("publish =", "disconnect =")) }
    local r = begin(broker, head("/events", { JSON }, 1000)):response()
    assert.same({ 403, "this policy accepts no publishes" }, { r.status, r.json.detail })
  end)
end)

describe("bodies under way together", function()
  local function start(limits)
    limits.body_bytes, limits.event_bytes = MIB, MIB
    return tidegate.start { policy = POLICY,
      config = { limits = limits, trusted_proxies = { "127.0.0.1" }, event_log = { max_bytes = 2 * MIB } } }
  end
  local function hold(broker, address)
    local c = begin(broker, head("/events?topic=a", { KEY, { "X-Forwarded-For", address } }, MIB))
    c:send(("x"):rep(MIB - 1))
    return c
  end
  local function held(broker, n)
    eventually(n .. " MiB are held", function()
      return broker:metric "tidegate_http_bodies_bytes" == n * (MIB - 1)
    end)
  end

  it("have a bound; beyond it a publisher is told to come back", function()
    local broker = start { bodies_bytes = 3 * MIB, bodies_bytes_per_address = 0 }
    local list = {}
    for i = 1, 3 do list[i] = hold(broker, "192.0.2." .. i) end
    held(broker, 3)
    local r = hold(broker, "192.0.2.4"):response()
    assert.equal(503, r.status)
    assert.equal("5", r.headers["retry-after"])
    assert.equal(1, broker:metric "tidegate_http_bodies_refused_total")
    assert.truthy(broker:logged { msg = "request bodies are refused: too many bytes of them are under way",
      limit = "limits.bodies_bytes" })
    assert.equal(201, http.post(broker, "/events?topic=a", "small ones are no burden", { KEY }).status)
    list[1]:send "x"
    assert.equal(201, list[1]:response().status)
    list[2]:close()
    held(broker, 1)
  end)

  it("beyond a bound are logged once in ten seconds, whatever ends meanwhile", function()
    local broker = start { bodies_bytes = 64 * MIB, bodies_bytes_per_address = MIB }
    local first, from = hold(broker, "192.0.2.1"), os.time()
    held(broker, 1)
    for _ = 1, 3 do
      assert.equal(503, hold(broker, "192.0.2.1"):response().status)
      local other = hold(broker, "192.0.2.2")
      held(broker, 2)
      other:close()
      held(broker, 1)
    end
    local _, said = broker:log():gsub("request bodies are refused", "")
    assert.is_true(said >= 1 and said <= 1 + (os.time() - from + 1) // 10)
    first:close()
  end)

  it("have a bound for each address, and IPv6 network", function()
    local broker = start { bodies_bytes = 0, bodies_bytes_per_address = 2 * MIB }
    local list = { hold(broker, "2001:db8::1"), hold(broker, "2001:db8::2") }
    held(broker, 2)
    assert.equal(503, hold(broker, "2001:db8::3"):response().status)
    list[3] = hold(broker, "2001:db8:0:1::1")
    list[4] = hold(broker, "192.0.2.1")
    held(broker, #list)
  end)
end)
