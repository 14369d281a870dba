-- What /metrics says of durations: from a publish to the sockets, and of each hook.
local connections = require "support.connections"
local eventually = require "support.eventually"
local http = require "support.http"
local http_server = require "support.http_server"
local sse = require "support.sse"
local store = require "native.store"
local tidegate = require "support.tidegate"

local DELIVERY = "tidegate_publish_to_socket_seconds"

-- How many samples a histogram has, and their sum in seconds. 0, 0: it has no such series yet.
local function figures(b, name, hook)
  local labels = hook and ('{hook="%s"}'):format(hook) or ""
  local page = "\n" .. http.get(b.admin, "/metrics").body
  local function value(part)
    local _, upto = page:find("\n" .. name .. part .. labels .. " ", 1, true)
    return upto and tonumber(page:match("^%S+", upto + 1)) or 0
  end
  return value "_count", value "_sum"
end

local function event_log(b)
  return store.sql(b.dir .. "/store/events.db")
end

describe("the time from publish to socket", function()
  local broker = tidegate.shared { policy = [[
    return { api = 1, authenticate = function() return {} end, publish = function(pub) return pub end,
      filters = { nothing = function() return false end },
      formats = { skip = function() return nil end },
      subscribe = function(req)
        return { topics = req.topics, filter = req.query.filter or "none", format = req.query.format or "raw" }
      end } ]] }

  it("has a sample for each event and audience, however many streams that has", function()
    local b = broker()
    local clients = {}
    for i, topics in ipairs { "a", "a", "a", "**", "other" } do
      clients[i] = sse.open(b, { topic = topics })
    end
    local silent = {
      sse.open(b, { topic = "a", query = { filter = "nothing" } }),
      sse.open(b, { topic = "a", query = { format = "skip" } }),
    }
    local before, sum_before = figures(b, DELIVERY)
    local from = eventually.now()
    for i = 1, 10 do
      b:publish("a", tostring(i))
      for k = 1, 4 do
        assert.equal(tostring(i), clients[k]:next().data)
      end
    end
    local count, sum = figures(b, DELIVERY)
    assert.equal(20, count - before)
    assert.is_true(sum > sum_before and sum - sum_before < 2 * (eventually.now() - from), sum)
    for _, c in ipairs(silent) do c:close() end
  end)

  it("begins when the request is complete: the commit is part of it", function()
    local b = broker()
    local c, db = sse.open(b, { topic = "slow" }), event_log(b)
    local _, before = figures(b, DELIVERY)
    local requests = b:metric "tidegate_http_requests_total"
    assert(db "BEGIN IMMEDIATE") -- nobody else can store anything
    local publisher = http.connect(b)
    assert(publisher:send(http.render("POST", "/events?topic=slow", {}, "x")))
    eventually("the request is there", function() return b:metric "tidegate_http_requests_total" > requests end)
    local from = eventually.now()
    eventually.pass(0.1, "that is what is measured")
    local held = eventually.now() - from
    assert(db "ROLLBACK")
    db:close()
    assert.equal("x", c:next().data)
    local _, sum = figures(b, DELIVERY)
    assert.is_true(sum - before >= held, ("%f, %f"):format(sum - before, held))
    assert.equal(201, publisher:response().status)
    publisher:close()
  end)

  it("has no samples of the past", function()
    local b = broker()
    local first = b:publish("past", "1")
    b:publish("past", "2")
    local before = figures(b, DELIVERY)
    local c = sse.open(b, { topic = "past", headers = { ["Last-Event-ID"] = first } })
    assert.equal("2", c:next().data)
    assert.equal(before, (figures(b, DELIVERY)))
  end)

  it("of rows that others insert begins with the insert, if they do not claim another time", function()
    local b = broker()
    local c, db = sse.open(b, { topic = "row" }), event_log(b)
    local function insert(age_s)
      local _, before = figures(b, DELIVERY)
      local time = math.floor((require "luv".gettimeofday() - age_s) * 1000)
      assert(db(("INSERT INTO events(topic, data, created) VALUES ('row', 'x', %d)"):format(time)))
      assert.equal("x", c:next().data)
      local _, sum = figures(b, DELIVERY)
      return sum - before
    end
    assert.is_true(insert(40) >= 39)
    assert.is_true(insert(3e6) < 1000)
    assert.is_true(insert(-3e6) < 1000)
    db:close()
  end)
end)

describe("the histograms of several workers", function()
  it("are added up", function()
    local b = tidegate.start { config = { workers = 2 } }
    local by_worker = connections.on_each(b, 2)
    local audiences = b:metric "tidegate_audiences"
    local before = figures(b, DELIVERY)
    b:publish("a", "x")
    for _, c in pairs(by_worker) do
      assert.equal("x", c:next().data)
    end
    eventually("each audience has its sample", function() return figures(b, DELIVERY) - before == audiences end)
    assert.equal(1, (figures(b, "tidegate_policy_hook_seconds", "publish")))
  end)
end)

describe("the time of hooks", function()
  local function start(more, targets)
    return tidegate.start { policy = ([[
      return { api = 1,
        authenticate = function(req) return { sub = "x" } end,
        publish = function(pub)
          local n = 0
          for i = 1, pub.type == "long" and 1000000 or 0 do n = n + i end
          return pub
        end,
        filters = { odd = function(ev) return ev.id %% 2 == 1 end, text = "type ~= 'x'" },
        formats = { plain = function(ev) return { data = ev.data } end },
        %s
      } ]]):format(more), config = { http_targets = targets or {}, policy = { publish_cpu_ms = 1000 } } }
  end

  local function wall(b, hook) return figures(b, "tidegate_policy_hook_seconds", hook) end
  local function cpu(b, hook) return figures(b, "tidegate_policy_hook_cpu_seconds", hook) end

  it("counts what a hook waits for as wall time, and as no CPU time", function()
    local waiting
    local server = http_server.start(function(_, client) waiting = client end)
    finally(function() server:stop() end)
    local b = start([[subscribe = function(req)
      http.get "app"
      return { topics = req.topics, filter = "none", format = "raw" }
    end]], { app = { url = server.url } })
    local c = http.connect(b)
    assert(c:send(http.render("GET", "/events?topic=a", {})))
    eventually("the hook waits", function() return waiting end)
    local from = eventually.now()
    eventually.pass(0.1, "that is what is measured")
    local held = eventually.now() - from
    http_server.answer(waiting, {})
    assert.equal(200, c:head().status)
    local count, sum = wall(b, "subscribe")
    assert.is_true(count == 1 and sum >= held, sum)
    local cpu_count, cpu_sum = cpu(b, "subscribe")
    assert.is_true(cpu_count == 1 and cpu_sum > 0 and cpu_sum < sum - held + 0.002, cpu_sum)
    count, sum = wall(b, "authenticate")
    assert.is_true(count == 1 and sum < held, sum)
    c:close()
  end)

  it("is of each event of a batch, and of each hook of a request on its own", function()
    local b = start [[subscribe = function(req) return { topics = req.topics, filter = "none", format = "raw" } end,
      disconnect = function() end, setup = function() end, reload = function() return "keep" end,
      observe = { { topics = { "b" }, run = function() end } }]]
    local short = { topic = "a", data = "1" }
    b:publish_all { short, { topic = "a", data = "1", type = "long" }, short }
    assert.same({ 1, 3 }, { (wall(b, "authenticate")), (wall(b, "publish")) })
    local _, sum = cpu(b, "publish")
    local _, before = cpu(b, "authenticate")
    assert.is_true(sum > 10 * before, ("%f %f"):format(sum, before))
    local _, all = wall(b, "publish")
    assert.is_true(all >= sum, ("%f %f"):format(all, sum))
    sse.open(b, { topic = "a" }):close()
    eventually("disconnect has run", function() return wall(b, "disconnect") == 1 end)
    b:publish("b", "1")
    eventually("observe has run", function() return wall(b, "observe") == 1 end)
    assert.equal(1, (cpu(b, "observe")))
    assert.same({ 1, 0 }, { (wall(b, "setup")), (wall(b, "reload")) })
    b:reload(b:read_file "policy.lua" .. "\n")
    assert.same({ 3, 1 }, { (wall(b, "setup")), (wall(b, "reload")) }) -- once for the dry run, and then for good
  end)

  it("of filters and formats is that of the first call and then of one in 61; texts have none", function()
    local b = start [[subscribe = function(req)
      return { topics = req.topics, filter = req.query.filter or "none", format = req.query.format or "raw" }
    end]]
    local text = sse.open(b, { topic = "a", query = { filter = "text" } })
    b:publish("a", "1")
    assert.equal("1", text:next().data)
    assert.same({ 0, 0 }, { (wall(b, "filter")), (wall(b, "format")) })
    text:close()
    eventually("it has gone", function() return b:metric "tidegate_subscribers" == 0 end)
    local c = sse.open(b, { topic = "a", query = { filter = "odd", format = "plain" } })
    local batch = {}
    for i = 1, 123 do batch[i] = { topic = "a", data = tostring(i) } end
    b:publish_all(batch)
    eventually("all have passed", function()
      local calls = b:metric "tidegate_policy_filter_calls_total"
      return calls >= 123, calls
    end)
    c:close()
    local count, sum = wall(b, "filter")
    assert.is_true(count == 3 and sum > 0, count)
    assert.equal(1 + (b:metric "tidegate_policy_format_calls_total" - 1) // 61, (cpu(b, "format")))
  end)
end)
