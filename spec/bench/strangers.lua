-- What strangers, who show no credentials, can cost the others.
--
--   lua5.4 spec/bench/strangers.lua [--tidegate FILE] [--rounds N] [--seconds N] [bodies] [heads]
--
-- bodies: 3 connections send 8 MiB of JSON each, again and again, while the latencies of 100 streams are measured;
-- round measures the 100 alone, then beside the strangers. heads: CPU of the broker for each refused request, by what
-- is in its head. Both are right on a busy machine, too, as far as ratios go.
local uv = require "luv"

local CONNECTIONS, BODY_BYTES = 3, 8 * 2 ^ 20

----------------------------------------------------------------- the strangers, a process of their own
-- Until it is ended: sends the request on so many connections; one that was answered, or closed, is made anew. Their
-- number goes to `file`.
local function flood(port, request, file)
  local made = 0
  local signal = uv.new_signal()
  signal:start("sigterm", function()
    local f = assert(io.open(file, "w"))
    f:write(made)
    f:close()
    os.exit(0)
  end)
  local function connect()
    local tcp, over = uv.new_tcp(), false
    local function again()
      if not over then
        over = true
        tcp:close(connect)
      end
    end
    tcp:connect("127.0.0.1", port, function(err)
      if err then
        return again()
      end
      made = made + 1
      tcp:read_start(again)
      tcp:write(request, function(why)
        if why then
          again()
        end
      end)
    end)
  end
  for _ = 1, CONNECTIONS do
    connect()
  end
  uv.run()
end

if arg[1] == "flood" then
  local data = ("{},"):rep((BODY_BYTES - 40) // 3)
  local body = ('{"topic":"bench/x","data":[%s0]}'):format(data)
  flood(tonumber(arg[2]), ("POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    .. "Content-Length: %d\r\n\r\n%s"):format(#body, body), arg[3])
end

----------------------------------------------------------------- the measuring
local harness = dofile((arg[0]:match "^(.*)/[^/]*$" or ".") .. "/harness.lua")
local print, text, median = harness.print, harness.text, harness.median
local options = { tidegate = harness.root .. "/build/release/tidegate", rounds = "5", seconds = "5" }
local words = harness.read_options(options)
local server = harness.choose_servers { tidegate = options.tidegate, only = "tidegate" } [1]
local problems = {}

local function start()
  local process, place = harness.start(server, { policy = "strangers_policy.lua" }, options.tidegate)
  return process or harness.fail("%s", place), place
end

-- A number of /proc/PID/status, in KiB.
local function memory(process, name)
  return tonumber(harness.read(("/proc/%d/status"):format(process.pid)):match(name .. ":%s*(%d+)"))
end

-- Of the process: seconds in user mode, and in the kernel.
local function cpu(process)
  local line = harness.read(("/proc/%d/stat"):format(process.pid)):match "%) (.*)"
  local fields = {}
  for word in line:gmatch "%S+" do
    fields[#fields + 1] = word
  end
  return tonumber(fields[12]) / 100, tonumber(fields[13]) / 100
end

local function p99(process, place)
  local generator = harness.generator(place, 1, "others", { "fan-out", "--json", "--connections", "100", "--rate", "50",
    "--warmup", "0.5", "--seconds", options.seconds, "--port", tostring(place.port), "--pid", tostring(process.pid),
    "--header", "Authorization: Bearer of-the-benchmarks" })
  if not harness.wait("the end", 60, function() return generator.code end) then
    harness.stop(generator)
  end
  local doc, why = harness.document(place, "others")
  if not doc or not doc.ok then
    problems[#problems + 1] = why
  end
  return harness.pick(doc, "deliveries.latency_ms.p99")
end

local function bodies()
  local process, place = start()
  local quiet, beside, ratios, rates = {}, {}, {}, {}
  p99(process, place) -- the first is slower
  local before = memory(process, "VmHWM")
  for round = 1, tonumber(options.rounds) do
    io.stderr:write(("bench: bodies, round %d\n"):format(round))
    quiet[round] = p99(process, place)
    local count, from = place.dir .. "/flood", uv.hrtime()
    local strangers = harness.spawn(1, "nice", { "-n", "10", "lua5.4", arg[0], "flood", tostring(place.port), count },
      { nil, nil, 2 })
    harness.wait("they are at it", 1, function() return false end)
    beside[round] = p99(process, place)
    harness.stop(strangers)
    rates[round] = tonumber(harness.read(count)) / (uv.hrtime() - from) * 1e9
    ratios[round] = beside[round] and quiet[round] and beside[round] / quiet[round]
  end
  print "| load | requests/s | p99 ms of 100 others: quiet | beside | ratio | memory grew by MiB at most |"
  print "|---|---|---|---|---|---|"
  print(("| %d MiB of JSON on %d connections, no credentials | %s | %s | %s | %s | %s |"):format(BODY_BYTES // 2 ^ 20,
    CONNECTIONS, text(median(rates)), text(median(quiet)), text(median(beside)), text(median(ratios)),
    text((memory(process, "VmHWM") - before) / 1024)))
  harness.leave(process, place)
end

-- Sends it n times on one connection, one after the other; how many answers said `status`.
local function ask(place, request, n, status)
  local tcp, sent, answered, good, rest = uv.new_tcp(), 1, 0, 0, ""
  tcp:connect("127.0.0.1", place.port, function(err)
    assert(not err, err)
    tcp:read_start(function(why, data)
      if why or not data then
        answered = n
        return
      end
      rest = rest .. data
      for code in rest:gmatch "HTTP/1%.1 (%d%d%d)" do
        answered = answered + 1
        good = good + (code == status and 1 or 0)
        if sent < n then
          sent = sent + 1
          tcp:write(request)
        end
      end
      rest = rest:match "HTTP/1?%.?1?$" or ""
    end)
    tcp:write(request)
  end)
  while answered < n do
    uv.run "once"
  end
  tcp:close()
  uv.run "nowait"
  return good
end

local function head(target, fields)
  return ("GET /events?topic=a%s HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n%s\r\n"):format(target,
    fields)
end

local function repeated(n, form)
  local list = {}
  for i = 1, n do
    list[i] = form:format(i)
  end
  return table.concat(list)
end

local HEADS = {
  { "three fields", head("", "") },
  { "one field of 15 KiB", head("", ("X-Field: %s\r\n"):format(("v"):rep(15 * 1024))) },
  { "90 fields, 15 KiB", head("", repeated(90, "X-Field-%03d: " .. ("v"):rep(155) .. "\r\n")) },
  { "250 cookies, 15 KiB", head("", "Cookie: " .. repeated(250, "cookie-%03d=" .. ("v"):rep(47) .. "; ")
    .. "last=1\r\n") },
  { "250 parameters, 7 KiB", head(repeated(250, "&param-%03d=" .. ("v"):rep(16)), "") },
}

local function heads()
  local process, place = start()
  local user, all, first = {}, {}, nil
  local n = 4000
  for round = 1, tonumber(options.rounds) do
    io.stderr:write(("bench: heads, round %d\n"):format(round))
    for i, case in ipairs(HEADS) do
      user[i], all[i] = user[i] or {}, all[i] or {}
      local u0, s0 = cpu(process)
      local good = ask(place, case[2], n, "401")
      local u1, s1 = cpu(process)
      if good ~= n then
        problems[#problems + 1] = ("%s: %d of %d were refused with 401"):format(case[1], good, n)
      end
      table.insert(user[i], (u1 - u0) / n * 1e6)
      table.insert(all[i], (u1 - u0 + s1 - s0) / n * 1e6)
    end
  end
  harness.leave(process, place)
  print "| a refused request with | us of CPU in user mode | x three fields | with the kernel's |"
  print "|---|---|---|---|"
  for i, case in ipairs(HEADS) do
    local us = median(user[i])
    first = first or us
    print(("| %s | %s | %s | %s |"):format(case[1], text(us), text(us / first), text(median(all[i]))))
  end
end

print(harness.machine() .. "\n")
for _, part in ipairs(harness.choose({ { name = "bodies", run = bodies }, { name = "heads", run = heads } }, words)) do
  part.run()
  print ""
end
for _, problem in ipairs(problems) do
  print("- " .. problem)
end
os.exit(#problems == 0 and 0 or 1)
