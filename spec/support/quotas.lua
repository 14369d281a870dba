-- What is promised of quotas, whatever the store and however many workers there are: spec/functional/quota_spec.lua and
-- spec/pg/quota_spec.lua hold them against brokers.
local assert = require "luassert"
local busted = require "busted"
local eventually = require "support.eventually"
local http = require "support.http"
local sse = require "support.sse"

local it = busted.it
local M = {}

-- The client says who it is and what it counts for; "REVISION" makes policies differ, "WHO" is the name of its key.
M.POLICY = [[
local revision = "REVISION"
return {
  api = 1,
  authenticate = function(req)
    local q = req.query
    if q.login then
      local ok, wait = tg.rate("login", q.sub, { per_s = 0.01, burst = 2 })
      if not ok then
        return tg.deny(429, "too many logins", { retry_after = wait })
      end
    end
    return { sub = q.sub or "anyone" }
  end,
  subscribe = function(req, who)
    local q = req.query
    if q.pause then
      sleep(tonumber(q.pause))
    end
    local quota = { { key = "WHO:" .. who.sub, max = tonumber(q.max or 5), over = q.over or "deny" } }
    if q.tenant then
      quota[2] = { key = "tenant:" .. q.tenant, max = 3, over = "deny" }
    end
    return { topics = { "a" }, quota = q.free and {} or quota }
  end,
  publish = function(pub, who)
    local ok, wait = tg.rate("publish", who.sub, { per_s = 0.01, burst = 20 })
    if not ok then
      return tg.deny(429, "at most 20 at once", { retry_after = wait })
    end
    return pub
  end,
}
]]

-- A policy that differs from all others.
function M.policy(revision, who)
  return (M.POLICY:gsub("REVISION", revision):gsub("WHO", who or "user"))
end

function M.query(sub, more)
  local query = { sub = sub }
  for name, value in pairs(more or {}) do
    query[name] = value
  end
  return { topic = "a", query = query }
end

function M.open(broker, sub, more)
  return sse.open(broker, M.query(sub, more))
end

-- The status, and the answer.
function M.try(broker, sub, more)
  local c = sse.request(broker, M.query(sub, more))
  local body = c.status ~= 200 and c:rest_of_body() or nil
  if c.status ~= 200 then
    c:close()
  end
  return c.status, c, body and http.json.decode(body)
end

function M.counted(broker)
  return http.get(broker.admin, "/status").json.quota.streams
end

function M.wait_counted(broker, n)
  local last
  local ok = pcall(eventually, "that many streams count", function()
    last = M.counted(broker)
    return last == n
  end)
  assert(ok, ("%d streams count, %d were expected"):format(last, n))
end

-- Those of the clients whose stream is still open.
function M.still_open(clients)
  local open = {}
  for i, c in ipairs(clients) do
    if not c.gone then
      open[#open + 1] = i
    end
  end
  return open
end

-- Waits for the last event of a stream that a newer one has displaced.
function M.displaced(c)
  local ev = c:next()
  assert.equal("revoked", ev.type)
  assert.equal("closed", c:wait_end())
  c.gone = true
  return http.json.decode(ev.data).reason
end

--- Declares specs. start(config) -> a broker with M.policy "1"; `config` may be nil.
function M.specify(start)
  it("deny the sixth stream, with a reason, and let one in when another has ended", function()
    local broker, clients = start(), {}
    for i = 1, 5 do
      clients[i] = M.open(broker, "ann")
    end
    local status, c, problem = M.try(broker, "ann")
    assert.equal(429, status)
    assert.equal("all 5 streams that may be open at a time are open: close one first", problem.detail)
    assert.equal("5", c.headers["retry-after"])
    assert.equal(1, broker:metric "tidegate_quota_denied_total")
    assert.equal(1, broker:metric 'tidegate_refused_denied_total{status="429"}')
    local line = broker:logged { msg = "denied by a quota" }
    assert.same({ "429", "user:ann", problem.request_id }, { line.status, line.key, line.request })
    clients[6] = M.open(broker, "bob")
    clients[3]:close()
    M.wait_counted(broker, 5)
    clients[7] = M.open(broker, "ann", { last_event_id = "0" })
    assert.equal(429, (M.try(broker, "ann")))
    broker:publish("a", "x")
    for _, i in ipairs { 1, 2, 4, 5, 6, 7 } do
      assert.equal("x", clients[i]:next().data)
    end
  end)

  it("end the oldest stream where the policy says so, with a reason, whatever worker has it", function()
    local broker, clients = start(), {}
    for i = 1, 12 do
      clients[i] = M.open(broker, "ann", { max = 3, over = "oldest" })
      if i > 3 then
        assert.equal("a newer stream took the place of this one: at most 3 may be open", M.displaced(clients[i - 3]))
        assert.is_true(clients[i - 3].retry_ms >= 15000, clients[i - 3].retry_ms)
      end
    end
    assert.same({ 10, 11, 12 }, M.still_open(clients))
    broker:publish("a", "x")
    for i = 10, 12 do
      assert.equal("x", clients[i]:next().data)
    end
    M.wait_counted(broker, 3)
    assert.equal(9, broker:metric "tidegate_quota_ended_total")
    assert.equal(9, broker:metric 'tidegate_connections_closed_total{reason="quota"}')
  end)

  it("let exactly so many in of those who come at the same time", function()
    local broker, clients, statuses = start(), {}, {}
    for i = 1, 24 do
      clients[i] = assert(sse.start(broker, M.query "ann"))
    end
    for _, c in ipairs(clients) do
      c:wait("an answer", function() return c.status end)
      statuses[c.status] = (statuses[c.status] or 0) + 1
    end
    assert.same({ [200] = 5, [429] = 19 }, statuses)
  end)

  it("count a stream for several keys or for none of them", function()
    local broker, clients = start(), {}
    for i = 1, 3 do
      clients[i] = M.open(broker, "u" .. i, { tenant = "acme" })
    end
    local status, _, problem = M.try(broker, "u4", { tenant = "acme" })
    assert.equal(429, status)
    assert.matches("^all 3 streams", problem.detail)
    assert.equal(6, M.counted(broker))
    for _, c in ipairs(clients) do
      c:close()
    end
    M.wait_counted(broker, 0)
  end)

  it("give back the count of a client that leaves while `subscribe` waits, before and after", function()
    local broker = start()
    for _ = 1, 3 do
      local c = assert(sse.start(broker, M.query("ann", { max = 1, pause = 30 })))
      eventually("subscribe waits", function() return broker:metric "tidegate_policy_suspended_hooks" > 0 end)
      assert.equal(0, M.counted(broker))
      c:close()
      eventually("it waits no more", function() return broker:metric "tidegate_policy_suspended_hooks" == 0 end)
    end
    M.open(broker, "ann", { max = 1 }):close()
    M.wait_counted(broker, 0)
    M.open(broker, "ann", { max = 1 })
  end)

  it("go along when a subscription is asked again", function()
    local broker = start()
    local ann, free = M.open(broker, "ann"), M.open(broker, "x", { free = 1 })
    local bob = M.open(broker, "bob", { tenant = "t" })
    assert.equal(3, M.counted(broker))
    assert.equal(200, broker:reload(M.policy("2", "person")).status)
    eventually("ann counts for another key", function()
      local keys = {}
      for _, c in ipairs(http.get(broker.admin, "/connections").json.connections) do
        for _, q in ipairs(c.quota) do
          keys[#keys + 1] = q.key
        end
      end
      table.sort(keys)
      return table.concat(keys, " ") == "person:ann person:bob tenant:t"
    end)
    assert.equal(3, M.counted(broker))
    -- one stream for each: it stays with who has it, and who comes later is denied
    local one = M.policy("3", "person"):gsub("tonumber%(q.max or 5%)", "1")
    assert.equal(200, broker:reload(one).status)
    assert.equal(429, (M.try(broker, "ann")))
    -- one stream for all: the others may not go on
    assert.equal(200, broker:reload((M.policy("4", "all"):gsub('"all:" .. who.sub, max = tonumber%(q.max or 5%)',
      '"all", max = 1'))).status)
    eventually("one of them had to end", function()
      return broker:metric 'tidegate_policy_resubscribes_total{outcome="revoked"}' == 1
    end)
    assert.equal(429, (M.try(broker, "ann")))
    broker:publish("a", "x")
    assert.equal("x", free:next().data)
    local over = { ann:next(), bob:next() }
    M.wait_counted(broker, over[2].type == "message" and 2 or 1) -- bob has a tenant as well
    table.sort(over, function(a, b) return a.type < b.type end)
    assert.same({ "message", "revoked" }, { over[1].type, over[2].type })
    assert.matches("^all 1 streams", http.json.decode(over[2].data).reason)
  end)

  it("tell operators which keys are used up", function()
    local broker = start()
    local ann = M.open(broker, "ann", { max = 1 })
    M.open(broker, "bob", { max = 2, over = "oldest" })
    assert.equal(429, (M.try(broker, "ann", { max = 1 })))
    local quota = http.get(broker.admin, "/status").json.quota
    assert.same({
      streams = 2, keys = 2, most = 100000, full_keys = 1,
      full = { { key = "user:ann", streams = 1, max = 1, denied = 1 } },
    }, quota)
    assert.equal(2, broker:metric "tidegate_quota_streams")
    assert.equal(2, broker:metric "tidegate_quota_keys")
    ann:close()
    M.wait_counted(broker, 1)
    local connections = http.get(broker.admin, "/connections").json.connections
    assert.same({ { key = "user:bob", max = 2, over = "oldest" } }, connections[1].quota)
  end)

  it("have `tg.rate` count for all workers, and say when to come back", function()
    local broker = start()
    local batch = { ["Content-Type"] = "application/x-ndjson" } -- `publish` runs for each event of it
    assert.equal(201, http.post(broker, "/events?sub=ann", ('{"topic":"a","data":1}\n'):rep(20), batch).status)
    for _ = 1, 5 do
      local r = http.post(broker, "/events?topic=a&sub=ann", "x")
      assert.equal(429, r.status)
      assert.equal("at most 20 at once", r.json.detail)
      local after = tonumber(r.headers["retry-after"])
      assert.is_true(after > 50 and after <= 100, after)
    end
    assert.equal(201, http.post(broker, "/events?topic=a&sub=bob", "x").status)
    assert.equal(5, broker:metric "tidegate_rate_refused_total")
    assert.equal(2, broker:metric "tidegate_rate_keys")
    -- in authenticate; what a dry run of a reload asks takes nothing
    M.open(broker, "eve", { login = 1 })
    for i = 2, 4 do
      assert.equal(200, broker:reload(M.policy(tostring(i))).status)
    end
    M.open(broker, "eve", { login = 1 })
    assert.equal(429, (M.try(broker, "eve", { login = 1 })))
  end)
end

return M
