-- Quotas of streams, and rates: counted in C, for all workers. What holds for PostgreSQL as well is in
-- support/quotas.lua.
local eventually = require "support.eventually"
local http = require "support.http"
local quotas = require "support.quotas"
local sse = require "support.sse"
local tidegate = require "support.tidegate"
local uv = require "luv"

local function start(config)
  config.policy = config.policy or {}
  config.policy.resubscribe_per_s = config.policy.resubscribe_per_s or 100000
  config.drain = { retry_ms = 100, timeout_s = 20 }
  return tidegate.start { policy = quotas.policy "1", config = config }
end

local function status(broker)
  local ok, r = pcall(http.get, broker.admin, "/status") -- the admin process is another one during a restart
  return ok and r.status == 200 and r.json
end

it("quotas that displace one stream twice end it once", function()
  local broker = tidegate.start { policy = [[
local P = { api = 1 }
function P.authenticate() return { sub = "ann" } end
function P.subscribe(req)
  return { topics = req.topics, quota = {
    { key = "user:ann", max = 1, over = "oldest" }, { key = "address:1", max = 1, over = "oldest" } } }
end
return P]] }
  local first = sse.open(broker, { topic = "a" })
  for _ = 1, 3 do
    local second = sse.open(broker, { topic = "a" })
    assert.equal("revoked", first:next().type)
    first:wait("its end", function() return first.ended end)
    first = second
  end
  assert.equal(1, broker:metric "tidegate_subscribers")
  assert.equal(3, broker:metric 'tidegate_connections_closed_total{reason="quota"}')
end)

for workers = 1, 2 do
  describe(("quotas, %d worker%s,"):format(workers, workers == 1 and "" or "s"), function()
    quotas.specify(function()
      return start { workers = workers }
    end)

    it("stay right through 100 reloads and rollbacks", function()
      local broker, clients = start { workers = workers }, {}
      for i = 1, 5 do
        clients[i] = quotas.open(broker, "ann")
      end
      local other
      for i = 1, 100 do
        local r = i % 10 == 0 and http.post(broker.admin, "/policy/rollback", "", {})
          or broker:reload(quotas.policy(tostring(i + 1)))
        assert.equal(200, r.status, r.body)
        if i % 10 == 5 then -- and somebody comes and goes
          other = other and other:close() or quotas.open(broker, "bob")
        end
      end
      assert.equal(429, (quotas.try(broker, "ann")))
      eventually("all were asked again", function()
        return broker:metric "tidegate_policy_resubscribes_waiting" == 0
      end)
      quotas.wait_counted(broker, other and 6 or 5)
      clients[1]:close()
      quotas.wait_counted(broker, other and 5 or 4)
      quotas.open(broker, "ann")
      assert.equal(429, (quotas.try(broker, "ann")))
    end)

    it("refuse for now what cannot be counted, and name the setting", function()
      local broker = start {
        workers = workers, policy = { quota_streams = 2, rate_keys = 2 }, sse = { refusal_hold_s = 0 },
      }
      local first = quotas.open(broker, "ann")
      quotas.open(broker, "bob")
      local refused = sse.request(broker, quotas.query "eve")
      assert.equal(200, refused.status)
      assert.equal("closed", refused:wait_end())
      assert.matches("too many streams are counted", table.concat(refused.comments, "\n"))
      assert.equal(1, broker:metric "tidegate_quota_no_room_total")
      assert.equal(1, broker:metric 'tidegate_refused_transient_total{reason="overload"}')
      assert.is_truthy(broker:log():find("raise policy.quota_streams", 1, true))
      quotas.open(broker, "free", { free = 1 })
      first:close()
      quotas.wait_counted(broker, 1)
      quotas.open(broker, "eve")
      -- rates: two keys, neither full again for an hour
      assert.equal(201, http.post(broker, "/events?topic=a&sub=ann", "x").status)
      assert.equal(201, http.post(broker, "/events?topic=a&sub=bob", "x").status)
      local r = http.post(broker, "/events?topic=a&sub=eve", "x")
      assert.equal(429, r.status)
      assert.is_true(tonumber(r.headers["retry-after"]) >= 1)
      assert.equal(201, http.post(broker, "/events?topic=a&sub=ann", "x").status)
      assert.equal(1, broker:metric "tidegate_rate_no_room_total")
      assert.is_truthy(broker:log():find("raise policy.rate_keys", 1, true))
    end)
  end)
end

describe("quotas", function()
  it("count each stream of a connection of HTTP/2, and none of HEAD", function()
    local broker, streams = start {}, {}
    for i = 1, 3 do
      streams[i] = sse.open(broker, { topic = "a", query = { sub = "ann", max = 3 }, transport = "h2" })
    end
    assert.equal(429, sse.request(broker, { topic = "a", query = { sub = "ann", max = 3 }, transport = "h2" }).status)
    assert.equal(3, quotas.counted(broker))
    http.request(broker, "HEAD", "/events?topic=a&sub=eve&max=1")
    assert.equal(3, quotas.counted(broker))
    streams[1]:close()
    quotas.wait_counted(broker, 2)
  end)

  it("survive a worker that is killed: what it counted is given back, the rest stays", function()
    local broker = start { workers = 2 }
    for _ = 1, 5 do
      quotas.open(broker, "ann")
    end
    local before = status(broker).workers
    local killed = before[1].subscribers > 0 and 1 or 2
    local left = 5 - before[killed].subscribers
    uv.kill(before[killed].pid, "sigkill")
    eventually("it has a successor, which serves", function()
      local s = status(broker)
      return s and s.workers[killed].pid ~= before[killed].pid and s.workers[killed].ready
    end)
    quotas.wait_counted(broker, left)
    for _ = left + 1, 5 do
      quotas.open(broker, "ann")
    end
    assert.equal(429, (quotas.try(broker, "ann")))
  end)

  it("stay right while workers are replaced one by one and streams move", function()
    local broker = start { workers = 2 }
    local clients, most = {}, 0
    for i = 1, 4 do
      clients[i] = quotas.open(broker, "ann", { max = 4 })
    end
    for _ = 1, 20 do -- as many as the rate allows
      assert.equal(201, http.post(broker, "/events?topic=a&sub=bob", "x").status)
    end
    broker:signal "USR2"
    local last
    eventually("the restart has ended", function()
      for i, c in ipairs(clients) do -- who was sent away comes back
        c:pump()
        if c.ended then
          local code, again = quotas.try(broker, "ann", { max = 4 })
          clients[i] = code == 200 and again or c
        end
      end
      last = status(broker)
      most = math.max(most, last and last.quota ~= http.json.null and last.quota.streams or 0)
      return last and last.restart.count == 1 and last.restart.state ~= "running"
    end, 60)
    assert.equal("done", last.restart.state, last.restart.error)
    assert.is_true(most <= 4, most)
    assert.equal(429, http.post(broker, "/events?topic=a&sub=bob", "x").status)
    eventually("all are back", function()
      local open = 0
      for i, c in ipairs(clients) do
        c:pump()
        if c.ended then
          local code, again = quotas.try(broker, "ann", { max = 4 })
          clients[i] = code == 200 and again or c
        else
          open = open + 1
        end
      end
      return open == 4
    end)
    assert.equal(429, (quotas.try(broker, "ann", { max = 4 })))
    quotas.wait_counted(broker, 4)
    -- oldest first: the order is kept, too
    quotas.open(broker, "ann", { max = 4, over = "oldest" })
    eventually("one of them has ended", function()
      local ended = 0
      for _, c in ipairs(clients) do
        c:pump()
        ended = ended + (c.ended and 1 or 0)
      end
      return ended == 1
    end)
  end)

  it("are right after streams came and went, policies were replaced and workers killed, all at once", function()
    local broker, clients, kills = start { workers = 2 }, {}, 0
    math.randomseed(7)
    local function tidy()
      for i, c in pairs(clients) do
        c:pump()
        if c.ended then
          c:close()
          clients[i] = nil
        end
      end
    end
    for step = 1, 400 do
      local at = math.random(20)
      if clients[at] then
        clients[at]:close()
        clients[at] = nil
      else -- who reaches a worker that is being killed has no answer
        local over = math.random() < 0.5 and "oldest" or "deny"
        local terms = { max = 3, over = over, tenant = step % 4 == 0 and "t" or nil }
        local ok, c = pcall(sse.start, broker, quotas.query("u" .. math.random(3), terms))
        clients[at] = ok and c or nil
      end
      if step % 40 == 0 then
        tidy()
        pcall(broker.reload, broker, quotas.policy(tostring(step), step % 80 == 0 and "user" or "person"))
      end
      local s = step % 100 == 50 and status(broker)
      if s and s.workers[1].ready and s.workers[2].ready and kills < 3 then
        kills = kills + 1
        uv.kill(s.workers[math.random(2)].pid, "sigkill")
      end
    end
    assert.is_true(kills > 0)
    local last
    local settled = pcall(eventually, "each stream that is open counts, and no other", function()
      tidy()
      local s = status(broker)
      local ok, r = pcall(http.get, broker.admin, "/connections")
      if not ok or not s or not s.ready then
        return false
      end
      local n, by_key, over = 0, {}, 0
      for _, c in ipairs(r.json.connections) do
        for _, q in ipairs(c.quota) do
          n = n + 1
          by_key[q.key] = (by_key[q.key] or 0) + 1
          over = math.max(over, by_key[q.key])
        end
      end
      last = ("%d places, %d counted, %d of one key"):format(n, s.quota.streams, over)
      return n == s.quota.streams and over <= 3
    end)
    assert(settled, last)
    for _, c in pairs(clients) do
      c:close()
    end
    quotas.wait_counted(broker, 0)
  end)
end)
