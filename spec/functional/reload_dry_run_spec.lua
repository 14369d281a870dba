-- A new policy is tried before it takes over, watched afterwards, and rolled back where it is worse.
local eventually = require "support.eventually"
local http = require "support.http"
local policy = require "support.policy_of"
local sse = require "support.sse"
local tidegate = require "support.tidegate"
local uv = require "luv"

local function status(broker)
  return http.get(broker.admin, "/status").json
end

describe("the dry run of a new policy", function()
  it("refuses one that fails where the one in force does not: recent connects", function()
    local broker = tidegate.start { policy = policy { version = "good" } }
    sse.open(broker, { topic = "a" }):close() -- nobody is connected any more
    eventually("the stream is gone", function() return broker:metric "tidegate_subscribers" == 0 end)
    local r = broker:reload(policy { subscribe = "return { topics = req.topic }" })
    assert.same({ 422, "refused" }, { r.status, r.json.result })
    assert.truthy(r.json.error:find("tried on what happened lately, it fails: subscribe: policy.lua:3: request has no "
      .. "field 'topic'", 1, true), r.json.error)
    assert.same({ 1, 1 }, { r.json.dry_run.connects, r.json.dry_run.errors })
    assert.equal("good", status(broker).policy.label)
    assert.equal(0, broker:metric 'tidegate_policy_errors_total{hook="subscribe"}')
    assert.is_nil(broker:logged { msg = "policy error, nothing was granted" })
  end)

  it("refuses one that fails where the one in force does not: recent events", function()
    local use = "return { topics = req.topics, filter = 'f', format = 'g' }"
    local good = { subscribe = use, filters = "f = function(ev) return true end",
      formats = "g = function(ev) return ev.raw end" }
    for what, bad in pairs {
      ["filter f: policy.lua:5: attempt"] = { subscribe = use, formats = good.formats,
        filters = "f = function(ev) return ev.attrs.size > 1 end" },
      ["format g: policy.lua:6: attempt"] = { subscribe = use, filters = good.filters,
        formats = "g = function(ev) return 'x' .. ev.attrs.size end" },
    } do
      local broker = tidegate.start { policy = policy(good) }
      local c = sse.open(broker, { topic = "a" })
      broker:publish("a", "1")
      assert.equal("1", c:next().data)
      local r = broker:reload(policy(bad))
      assert.equal(422, r.status)
      assert.truthy(r.json.error:find(what, 1, true), r.json.error)
      broker:publish("a", "2")
      assert.equal("2", c:next().data)
    end
  end)

  it("does not hold against it what fails now as well", function()
    local use = "return { topics = req.topics, filter = 'f' }"
    local filters = "f = function(ev) return ev.attrs.size + 0 > 1 end"
    local broker = tidegate.start { policy = policy { subscribe = use, filters = filters } }
    local c = sse.open(broker, { topic = "a" })
    broker:publish("a", "1")
    broker:publish("a", "2", { attrs = { size = 2 } })
    assert.equal("2", c:next().data)
    local errors = broker:metric 'tidegate_policy_errors_total{hook="filter"}'
    local r = broker:reload(policy { version = "same", subscribe = use, filters = filters })
    assert.equal("reloaded", r.json.result)
    assert.equal(2, r.json.dry_run.judgements)
    assert.equal(errors, broker:metric 'tidegate_policy_errors_total{hook="filter"}')
  end)

  it("has no effects", function()
    local broker = tidegate.start { policy = policy {} }
    local c = sse.open(broker, { topic = "a" })
    local r = broker:reload(policy { more = [[local subscribe = P.subscribe
      function P.subscribe(req, who)
        log.info("asked") sleep(0.001) log.info("waited") return subscribe(req, who)
      end]] }, "?dry_run=1")
    assert.same({ asked = 1, same = 0, moved = 0, denied = 0, unknown = 1 }, r.json.dry_run.streams)
    assert.is_nil(broker:logged { msg = "asked" })
    assert.is_nil(broker:logged { msg = "waited" })
    c:close()
  end)

  it("leaves no trace in the locals of what takes over", function()
    local function counting(version, note)
      local code = policy { version = version,
        subscribe = [[count[who.sub] = (count[who.sub] or 0) + 1
          if count[who.sub] > 2 then return tg.deny(429, "two are enough") end
          return { topics = req.topics }]],
        more = "function P.setup() setups = setups + 1 if setups > 1 then error('twice') end end "
          .. "function P.disconnect(who) count[who.sub] = count[who.sub] - 1 end -- " .. note }
      return "local count, setups = {}, 0\n" .. code
    end
    local broker = tidegate.start { policy = counting("v0", "") }
    local streams = { sse.open(broker, { topic = "a" }), sse.open(broker, { topic = "a" }) }
    for i = 1, 4 do
      local r = broker:reload(counting("v" .. i, i))
      assert.equal("reloaded", r.json.result, r.body)
      assert.equal(2, r.json.dry_run.connects)
      eventually("all are asked again", function()
        return broker:metric 'tidegate_policy_resubscribes_total{outcome="same"}' == 2 * i
          and broker:metric "tidegate_policy_resubscribes_waiting" == 0
      end)
      broker:publish("a", "after " .. i)
      for _, c in ipairs(streams) do
        assert.equal("after " .. i, c:next().data)
      end
      assert.equal(429, http.get(broker, "/events?topic=a").status)
      broker:reload(counting("dry" .. i, "dry"), "?dry_run=1")
    end
  end)

  it("says on a dry run what would become of the open streams, and what names come and go", function()
    local broker = tidegate.start { policy = policy { filters = "a = function() return true end",
      formats = "one = function(ev) return ev.raw end" } }
    local streams = {}
    for i = 1, 40 do
      streams[i] = sse.open(broker, { topic = "t", query = { user = tostring(i) } })
    end
    local r = broker:reload(policy { subscribe = [[local n = tonumber(who.sub)
        if n <= 10 then return tg.deny(403, "no") end
        if n <= 15 then return nil, "later" end
        return { topics = req.topics, filter = n <= 30 and "b" or "none", format = "raw" }]],
      filters = "b = function() return true end", formats = "one = function(ev) return ev.raw end" }, "?dry_run=1")
    assert.equal(200, r.status, r.body)
    assert.same({ asked = 40, same = 10, moved = 15, denied = 10, unknown = 5 }, r.json.dry_run.streams)
    assert.same({ added = { "b" }, removed = { "a" } }, r.json.filters)
    assert.same({ added = {}, removed = {} }, r.json.formats)
    assert.equal(0, broker:metric "tidegate_policy_resubscribes_waiting")
    broker:publish("t", "all of them")
    for _, c in ipairs(streams) do
      assert.equal("all of them", c:next().data)
    end
  end)
end)

describe("a policy that fails in use", function()
  local GOOD = policy { version = "good" }
  -- its dry run finds nothing: nobody has published "bad" yet
  local BAD = policy { version = "bad",
    more = "function P.publish(pub) if pub.raw == 'bad' then error('x') end return pub end" }

  local function fail(broker, n)
    for _ = 1, n do
      assert.equal(503, http.post(broker, "/events?topic=a", "bad", {}).status)
    end
  end

  it("is rolled back by itself, and not loaded again but by force", function()
    local broker = tidegate.start { policy = GOOD }
    local c = sse.open(broker, { topic = "a" })
    assert.equal("reloaded", broker:reload(BAD).json.result)
    fail(broker, 6)
    eventually("the one before is in force", function() return status(broker).policy.label == "good" end)
    assert.same({ 1, 1 },
      { broker:metric "tidegate_policy_rollbacks_total", broker:metric "tidegate_policy_rolled_back" })
    local line = broker:logged { msg = "rolled back: it fails much more often than the previous one" }
    assert.equal("6", line.errors)
    assert.truthy(line.last_error:find("policy.lua:7: x", 1, true), line.last_error)
    broker:publish("a", "bad")
    assert.equal("bad", c:next().data)
    -- the same files again
    local r = broker:reload()
    assert.same({ 422, "refused" }, { r.status, r.json.result })
    assert.truthy(r.json.error:find("was rolled back", 1, true), r.json.error)
    broker:signal "HUP"
    eventually("that is refused as well", function() return broker:logged { by = "SIGHUP", level = "error" } end)
    assert.equal("good", status(broker).policy.label)
    assert.equal(200, broker:reload(nil, "?force=1").status)
    assert.equal("bad", status(broker).policy.label)
    assert.equal(0, broker:metric "tidegate_policy_rolled_back")
  end)

  it("stays with a few errors, or where nothing was said to the contrary", function()
    local broker = tidegate.start { policy = GOOD, config = { policy = { rollback_s = 0 } } }
    broker:reload(BAD)
    fail(broker, 12)
    local from = eventually.now()
    eventually("two looks at it", function() return eventually.now() - from > 2.2 end)
    assert.equal("bad", status(broker).policy.label)
    assert.equal(0, broker:metric "tidegate_policy_rollbacks_total")
  end)

  it("is rolled back by an operator, there and back again", function()
    local broker = tidegate.start { policy = GOOD, config = { policy = { warm_s = 2 } } }
    local none = http.post(broker.admin, "/policy/rollback", "", {})
    assert.same({ 409, "no-previous" }, { none.status, none.json.result })
    assert.truthy(none.json.error:find("there is no previous policy to roll back to", 1, true))
    broker:reload(BAD)
    assert.equal("good", status(broker).previous_policy.label)
    local r = http.post(broker.admin, "/policy/rollback", "", {})
    assert.same({ 200, "rolled-back", "good" }, { r.status, r.json.result, r.json.policy.label })
    assert.equal("good", status(broker).policy.label)
    assert.equal("bad", http.post(broker.admin, "/policy/rollback", "", {}).json.policy.label)
    eventually("it is too late", function() return status(broker).previous_policy == nil end)
    assert.equal(409, http.post(broker.admin, "/policy/rollback", "", {}).status)
    eventually("it is closed", function() return broker:metric "tidegate_policy_generations" == 1 end)
  end)
end)

describe("a watched policy", function()
  local function label(broker, text)
    eventually("the policy is " .. text, function() return status(broker).policy.label == text end)
  end

  it("is loaded anew when its file changes, is replaced, or a module does", function()
    local broker = tidegate.start { config = { policy = { watch = true } },
      policy = policy { more = "P.version = 'one' .. require 'lib'" }, files = { ["lib.lua"] = "return ''" } }
    label(broker, "one")
    broker:write_file("policy.lua", policy { more = "P.version = 'two' .. require 'lib'" })
    label(broker, "two")
    broker:write_file("new", policy { more = "P.version = 'three' .. require 'lib'" })
    assert(os.rename(broker.dir .. "/new", broker.dir .. "/policy.lua"))
    label(broker, "three")
    broker:write_file("lib.lua", "return '!'")
    label(broker, "three!")
    broker:write_file("policy.lua", "return {")
    eventually("the broken one is refused", function() return broker:logged { by = "watch", level = "error" } end)
    broker:write_file("policy.lua", policy { version = "mended" })
    label(broker, "mended")
  end)

  it("is loaded anew when a symbolic link is turned", function()
    local broker = tidegate.prepare { config = { policy = { watch = true, file = "current/policy.lua" } } }
    tidegate.forget_later(broker)
    for _, name in ipairs { "a", "b" } do
      assert(uv.fs_mkdir(broker.dir .. "/" .. name, 448))
      broker:write_file(name .. "/policy.lua", policy { version = name })
    end
    assert(uv.fs_symlink("a", broker.dir .. "/current"))
    broker:start()
    label(broker, "a")
    assert(uv.fs_symlink("b", broker.dir .. "/next"))
    assert(os.rename(broker.dir .. "/next", broker.dir .. "/current"))
    label(broker, "b")
  end)

  it("names itself at the beginning of a stream where that is wanted", function()
    local broker = tidegate.start { policy = policy {}, config = { policy = { show_version = true } } }
    local c = sse.open(broker, { topic = "a" })
    assert.equal("policy " .. status(broker).policy.version:sub(1, 12), c.comments[1])
    local plain = sse.open(tidegate.start { policy = policy {} }, { topic = "a" })
    assert.same({}, plain.comments)
  end)
end)
