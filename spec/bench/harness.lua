-- One run: a server started on a core of its own, `tidegate-bench` against it on another, its document.
-- Shared by run.lua (a table of ratios), scale.lua (curves) and fifty_thousand.lua.
local json = require "dkjson"
local uv = require "luv"

local M = {}

local HERE = arg[0]:match "^(.*)/[^/]*$" or "."
M.here = HERE
M.root = assert(uv.fs_realpath(HERE .. "/../.."))
local tree = dofile(M.root .. "/spec/support/tree.lua")

function M.fail(...)
  io.stderr:write("bench: ", string.format(...), "\n")
  os.exit(1)
end

-- Words of the command line: values of `--name value` into `options` (whose keys are the names there are; a value of
-- false is an option without default), "list" into options.list, the rest into the set that is returned.
function M.read_options(options)
  local words, i = {}, 1
  while arg[i] do
    local name = arg[i]:match "^%-%-(%l+)$"
    if name == "list" then
      options.list = true
    elseif name then
      if options[name] == nil or not arg[i + 1] then
        M.fail("%s: unknown, or without its value (see the head of %s)", arg[i], arg[0])
      end
      i = i + 1
      options[name] = arg[i]
    else
      words[arg[i]] = true
    end
    i = i + 1
  end
  return words
end

-- Those of `list` that are named in the set `words`, all if none is.
function M.choose(list, words)
  local chosen, all = {}, not next(words)
  for _, item in ipairs(list) do
    if all or words[item.name] then
      chosen[#chosen + 1] = item
      words[item.name] = nil
    end
  end
  if next(words) then
    M.fail("%s: there is no such (--list names them)", next(words))
  end
  return chosen
end

-- The servers that are installed and wanted; options: only, also, tidegate.
function M.choose_servers(options)
  if not uv.fs_access(options.tidegate, "X") then
    M.fail("%s is not there: make build, or --tidegate FILE", options.tidegate)
  end
  options.tidegate = uv.fs_realpath(options.tidegate)
  local all, list = dofile(HERE .. "/servers.lua"), {}
  for _, s in ipairs(options.also and dofile(options.also) or {}) do
    all[#all + 1] = s
  end
  for _, s in ipairs(all) do
    local missing = s.available and s.available(options.tidegate)
    local asked = not options.only or ("," .. options.only .. ","):find("," .. s.name .. ",", 1, true)
    if asked and missing then
      io.stderr:write("bench: without ", s.name, ": ", missing, "\n")
    elseif asked then
      list[#list + 1] = s
    end
  end
  return #list > 0 and list or M.fail "no server to measure"
end

----------------------------------------------------------------- what is printed
local lines = {}

function M.print(text)
  print(text)
  io.stdout:flush()
  lines[#lines + 1] = text
end

-- Puts all that was printed into `file`, between `<!-- NAME -->` and `<!-- end of NAME -->`.
function M.record(file, name)
  local first, last = "<!-- " .. name .. " -->\n", "<!-- end of " .. name .. " -->"
  local f = assert(io.open(file))
  local text = f:read "a"
  f:close()
  local _, from = text:find(first, 1, true)
  local to = text:find(last, 1, true)
  if not from or not to then
    M.fail("%s: has no lines %q and %q", file, first:sub(1, -2), last)
  end
  f = assert(io.open(file, "w"))
  assert(f:write(text:sub(1, from), "\n", table.concat(lines, "\n"), "\n\n", text:sub(to)))
  assert(f:close())
end

function M.machine()
  local system, distribution = uv.os_uname(), "unknown system"
  local f = io.open "/etc/os-release"
  if f then
    distribution = f:read("a"):match 'PRETTY_NAME="([^"]*)"' or distribution
    f:close()
  end
  return ("%d cores (%s), %.0f GiB, %s %s, %s; load average at the start %.1f."):format(M.cores, uv.cpu_info()[1].model,
    uv.get_total_memory() / 2 ^ 30, system.sysname, system.release, distribution, (uv.loadavg()))
end

----------------------------------------------------------------- processes
M.cores = #uv.cpu_info()
M.shared = false -- do server and generator share all cores?

-- The program with all files it may open, on a core of its own where there are two.
local function pinned(core, program, args)
  local line = { "-c", 'ulimit -n "$(ulimit -Hn)"; exec "$@"', "sh" }
  if M.cores > 1 and not M.shared then
    table.move({ "taskset", "-c", tostring(core) }, 1, 3, #line + 1, line)
  end
  line[#line + 1] = program
  table.move(args, 1, #args, #line + 1, line)
  return "/bin/sh", line
end

function M.spawn(core, program, args, stdio, cwd)
  local process = {}
  local path, line = pinned(core, program, args)
  local handle, pid
  handle, pid = uv.spawn(path, { args = line, stdio = stdio, cwd = cwd }, function(code, signal)
    process.code = signal ~= 0 and -signal or code
    handle:close()
  end)
  process.pid = handle and pid or M.fail("%s: %s", program, pid)
  return process
end

function M.wait(what, seconds, condition)
  local deadline = uv.hrtime() + seconds * 1e9
  while not condition() do
    if uv.hrtime() > deadline then
      return false, what .. " not within " .. seconds .. " s"
    end
    uv.run "nowait"
    uv.sleep(10)
  end
  return true
end

function M.stop(process)
  for _, signal in ipairs { "sigterm", "sigkill" } do
    if not process.code then
      uv.kill(process.pid, signal)
      M.wait("the end", 10, function() return process.code end)
    end
  end
end

local function free_port()
  local s = uv.new_tcp()
  assert(s:bind("127.0.0.1", 0))
  local port = s:getsockname().port
  s:close()
  uv.run "nowait"
  return port
end

local function listening(port)
  local answer
  local s = uv.new_tcp()
  s:connect("127.0.0.1", port, function(err)
    answer = err or "open"
    s:close()
  end)
  M.wait("an answer", 1, function() return answer end)
  return answer == "open"
end

function M.read(path)
  local f = assert(io.open(path))
  local text = f:read "a"
  f:close()
  return text
end

----------------------------------------------------------------- one run
-- `tidegate-bench` with these arguments, on `core`; its document goes to `name` in the directory of `place`. `yields`:
-- it gives way to others on that core.
function M.generator(place, core, name, args, yields)
  local out = assert(uv.fs_open(place.dir .. "/" .. name, "w", 384))
  local err = assert(uv.fs_open(place.dir .. "/" .. name .. ".err", "w", 384))
  local program = place.tidegate:gsub("[^/]*$", "tidegate-bench")
  if yields then
    program, args = "nice", { "-n", "10", program, table.unpack(args) }
  end
  local process = M.spawn(core, program, args, { nil, out, err })
  uv.fs_close(out)
  uv.fs_close(err)
  return process
end

-- When it has ended: the document, or nil; and what is wrong with it.
function M.document(place, name)
  local doc = json.decode(M.read(place.dir .. "/" .. name))
  return doc, doc and table.concat(doc.problems, "; ") or M.read(place.dir .. "/" .. name .. ".err")
end

local function generate(server, process, work, place)
  local args = {}
  for word in work.args:gmatch "%S+" do
    args[#args + 1] = word == "{restart}" and server.restart(place) or word
  end
  if not work.args:find("--seconds", 1, true) then
    table.move({ "--seconds", work.seconds or "5" }, 1, 2, #args + 1, args)
  end
  if work.tls then
    args[#args + 1] = "--tls"
  end
  if work.h2 then
    args[#args + 1] = "--h2"
  end
  if work.gzip then
    args[#args + 1] = "--gzip"
  end
  if work.header then
    table.move({ "--header", work.header }, 1, 2, #args + 1, args)
  end
  local subscribe = work.subscribe or args[1] == "replay" and server.paths.replay or server.paths.subscribe
  table.move({ "--json", "--port", tostring(place.port), "--pid", tostring(process.pid), "--publish-path",
    work.publish or server.paths.publish, "--subscribe-path", subscribe }, 1, 9, #args + 1, args)
  local bench = M.generator(place, 1, "result", args)
  local ended, why = M.wait("the end of the run", 600, function() return bench.code end)
  if not ended then
    M.stop(bench)
    return nil, why
  end
  return M.document(place, "result")
end

-- A certificate for this machine, without an authority.
function M.certificate(dir)
  local tls = { cert = dir .. "/cert.pem", key = dir .. "/key.pem", pem = dir .. "/both.pem" }
  assert(os.execute(("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=localhost"
    .. " -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout %s -out %s 2>/dev/null && cat %s %s >%s"):format(
    tls.key, tls.cert, tls.cert, tls.key, tls.pem)))
  return tls
end

-- The server, listening: its process and its place. Or nil, why, and the place. M.leave() ends it.
function M.start(server, work, binary)
  local place = {
    dir = assert(uv.fs_mkdtemp((os.getenv "TMPDIR" or "/tmp") .. "/tidegate-bench-XXXXXX")),
    port = free_port(), tidegate = binary, root = M.root, policy = work.policy and M.here .. "/" .. work.policy,
    workers = work.workers, log_events = work.log_events, addresses = work.addresses, inner_port = free_port(),
    h2 = work.h2, gzip = work.gzip, latest = work.latest and ("%q"):format(work.latest),
  }
  place.tls = work.tls and M.certificate(place.dir) or nil
  place.policy = place.policy and uv.fs_realpath(place.policy)
  local log = assert(uv.fs_open(place.dir .. "/log", "w", 384))
  local program, args = server.command(place)
  local process = M.spawn(0, program, args, { nil, log, log }, place.dir)
  uv.fs_close(log)
  local up, why = M.wait(server.name .. " listens", 20, function()
    return process.code or listening(place.port)
  end)
  if not up or process.code then
    why = ("%s did not start: %s\n%s"):format(server.name, why or "it ended", M.read(place.dir .. "/log"))
    return nil, why, M.leave(process, place)
  end
  return process, place
end

function M.leave(process, place)
  M.stop(process)
  tree.remove(place.dir)
end

-- `work`: args (the words behind `tidegate-bench`), seconds (where args do not say), header (of every request);
-- tls = true: with TLS; h2 = true: subscribers speak HTTP/2; gzip = true: streams are compressed; Tidegate only:
-- policy (a file beside this one), latest (a pattern of store.latest), workers, log_events, addresses, and subscribe
-- and publish, paths instead of those of the server. Returns the document, or nil; and what is wrong with it.
function M.measure(server, work, binary)
  local process, place = M.start(server, work, binary)
  if not process then
    return nil, place
  end
  local doc, why = generate(server, process, work, place)
  M.leave(process, place)
  return doc, why
end

----------------------------------------------------------------- figures
-- A number of a document: "deliveries.latency_ms.p50"; nil when it is not there.
function M.pick(doc, path)
  for key in path:gmatch "[^.]+" do
    doc = type(doc) == "table" and doc[key] or nil
  end
  return type(doc) == "number" and doc or nil
end

function M.median(list)
  table.sort(list)
  local n = #list
  return n > 0 and (list[(n + 1) // 2] + list[n // 2 + 1]) / 2 or nil
end

-- As people read it.
function M.text(value)
  if not value then
    return "-"
  elseif value >= 1000 then
    local digits = ("%.0f"):format(value)
    return (digits:reverse():gsub("(%d%d%d)", "%1,"):reverse():gsub("^,", ""))
  end
  return (value >= 100 and "%.0f" or value >= 10 and "%.1f" or "%.2f"):format(value)
end

return M
