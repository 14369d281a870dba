-- What a page of history costs (GET with Accept: application/json), from the event log and from the store: CPU of the
-- loop, and of all threads (one reads the store), for each request, one after the other on one connection; and how
-- long the answer takes. From the root of the tree:
--   build/release/tidegate_spec spec/bench/pages.lua     (PAGES_REQUESTS=n for another number)
local http = require "support.http"
local tidegate = require "support.tidegate"
local uv = require "luv"

local EVENTS, REQUESTS = 1000, tonumber(os.getenv "PAGES_REQUESTS" or 300)
local BAR_MS = 2

-- The events of a page: each once, in order, with its data.
local function check(page, ids)
  assert.equal(EVENTS, #page.events)
  for i, ev in ipairs(page.events) do
    assert.same({ ids[i], ("x"):rep(100 - #tostring(i)) .. i }, { ev.id, ev.data })
  end
end

-- CPU of the thread that runs the loop, in ms: /proc counts it in ns.
local function loop_ms(broker)
  local f = assert(io.open(("/proc/%d/task/%d/schedstat"):format(broker.pid, broker.pid)))
  local ns = f:read "n"
  f:close()
  return ns / 1e6
end

local function measure(name, event_log)
  local broker = tidegate.start { config = { event_log = event_log } }
  local batch, ids = {}, {}
  for i = 1, EVENTS do
    batch[i] = { topic = "page", data = ("x"):rep(100 - #tostring(i)) .. i }
  end
  for i, ack in ipairs(broker:publish_all(batch)) do
    ids[i] = ack.id
  end
  local connection = assert(http.connect(broker))
  local request = http.render("GET", "/events?topic=page&last_event_id=0&limit=" .. EVENTS,
    { Accept = "application/json" })
  local function ask()
    assert(connection:send(request))
    local r = assert(connection:response())
    assert.equal(200, r.status, r.body)
    return r
  end
  check(ask().json, ids)
  local loop, cpu, times = loop_ms(broker), broker:cpu_seconds(), {}
  for i = 1, REQUESTS do
    local from = uv.hrtime()
    ask()
    times[i] = (uv.hrtime() - from) / 1e6
  end
  loop, cpu = (loop_ms(broker) - loop) / REQUESTS, (broker:cpu_seconds() - cpu) / REQUESTS * 1000
  check(ask().json, ids)
  table.sort(times)
  local p50, p99 = times[REQUESTS // 2], times[REQUESTS * 99 // 100]
  print(("| %s | %.2f | %.2f | %.2f | %.2f | %s |"):format(name, loop, cpu, p50, p99,
    loop <= BAR_MS and "met" or "**not met**"))
end

it("prints what a page costs", function()
  print(("A page of %d events of 100 B in JSON; the bar is %g ms of the loop.\n"):format(EVENTS, BAR_MS))
  print "| events are in | loop ms a page | all threads ms | answer p50 ms | p99 ms | met? |"
  print "|---|---|---|---|---|---|"
  measure("memory", { max_events = 65536 })
  measure("the store", { max_events = 16, page_events = 1000 })
end)
