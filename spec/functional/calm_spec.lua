-- A broker that has little to do lets the processor sleep: every wake-up costs more than what is done in it.
local uv = require "luv"

local eventually = require "support.eventually"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

-- How often its threads have gone to sleep since they began (proc(5): status).
local function sleeps(broker)
  local total, tasks = 0, ("/proc/%d/task"):format(broker.pid)
  local scan = assert(uv.fs_scandir(tasks))
  for thread in uv.fs_scandir_next, scan do
    local f = assert(io.open(tasks .. "/" .. thread .. "/status"))
    total = total + tonumber(f:read("a"):match "\nvoluntary_ctxt_switches:%s*(%d+)")
    f:close()
  end
  return total
end

describe("a calm broker", function()
  local broker = tidegate.shared()

  it("sleeps when nothing happens", function()
    local c = sse.open(broker(), { topic = "calm" })
    broker():publish("calm", "first")
    c:next()
    eventually.pass(0.5, "what the stream and the event began has ended")
    local before, from = sleeps(broker()), eventually.now()
    eventually.pass(2, "what would wake it up has the time for it")
    local each_s = (sleeps(broker()) - before) / (eventually.now() - from)
    assert.is_true(each_s < 15, ("woke up %.1f times a second"):format(each_s))
    c:close()
  end)

  it("wakes up a few times for each event", function()
    local c = sse.open(broker(), { topic = "calm" })
    local before = sleeps(broker())
    for i = 1, 20 do
      broker():publish("calm", "event " .. i)
      c:next()
      eventually.pass(0.1, "it is calm before the next")
    end
    local each = (sleeps(broker()) - before) / 20
    assert.is_true(each < 20, ("woke up %.1f times for each event"):format(each))
    c:close()
  end)
end)
