-- The programs of scripts/LANGUAGES.md, as they stand there but for the address: each reads a stream, resumes behind
-- its last complete event when the stream is ended or breaks off, and ends when it is denied.
local child = require "support.child"
local eventually = require "support.eventually"
local files = require "support.files"
local http = require "support.http"
local http_server = require "support.http_server"
local pages = require "support.pages"
local tidegate = require "support.tidegate"
local tree = require "support.tree"

local POLICY = [[
local P = { api = 1 }
function P.authenticate(req)
  if req.method ~= "POST" and req.bearer ~= "good" then
    return tg.deny(401, "another token was expected")
  end
  return { sub = "ann" }
end
function P.subscribe(req) return { topics = req.topics } end
function P.publish(pub) return pub end
return P]]

-- The heading, the language of its fence, the file, and what runs it.
local PROGRAMS = {
  { "Node.js", "js", "events.js", "exec node events.js" },
  { "Python", "python", "events.py", "exec python3 -B events.py" },
  { "Go", "go", "events.go", "go build -o events events.go && exec ./events" },
  { "PHP", "php", "events.php", "exec php events.php" },
  { "Java", "java", "Events.java", "exec java Events.java" },
}

local function program_of(heading, language, address)
  local page = pages.read "scripts/LANGUAGES.md"
  local code = page:match("\n## " .. heading:gsub("%p", "%%%0") .. "\n.-\n```" .. language .. "\n(.-)\n```\n")
  assert(code, heading .. ": no program on the page")
  local placed, n = code:gsub("127%.0%.0%.1:8080", address)
  assert.equal(1, n, heading)
  return placed .. "\n"
end

describe("programs of the page on languages", function()
  local broker, dir, running

  setup(function()
    dir = child.directory()
  end)
  teardown(function()
    tree.remove(dir)
  end)
  before_each(function()
    running = {}
    broker = tidegate.start { policy = POLICY, config = { sse = { retry_ms = 200 } } }
  end)
  after_each(function()
    for _, p in ipairs(running) do
      p:stop()
    end
  end)

  local function start_all(token, ports)
    for i, about in ipairs(PROGRAMS) do
      local address = "127.0.0.1:" .. (ports and ports[i] or broker.addresses[1].port)
      local at = dir .. "/" .. about[2] .. token
      tidegate.run("/bin/mkdir", { args = { "-p", at } })
      files.write(at .. "/" .. about[3], program_of(about[1], about[2], address))
      files.write(at .. "/token.txt", token .. "\n")
      running[i] = child.start("/bin/sh", { "-c", ("cd '%s' && %s"):format(at, about[4]) },
        { env = { GOCACHE = dir .. "/go", GO111MODULE = "off" } })
    end
  end

  local function all_print(text)
    for i, about in ipairs(PROGRAMS) do
      eventually(about[1] .. " prints " .. text, function()
        return running[i]:output():find(text, 1, true) ~= nil
      end, 60)
    end
  end

  it("read, and resume where their stream was ended", function()
    start_all "good"
    eventually("all are connected", function()
      return broker:metric "tidegate_subscribers" == #PROGRAMS
    end, 120)
    local first = broker:publish("orders/1", '{"a":1,\n"b":"ü"}')
    all_print(first .. ' message {"a":1,\n"b":"ü"}\n')
    local ended = http.request(broker.admin, "DELETE", "/connections?topic=orders/**")
    assert.equal(202, ended.status, ended.body)
    local second = broker:publish("orders/2", "while they are away")
    all_print(second .. " message while they are away\n")
    for i, about in ipairs(PROGRAMS) do
      local _, times = running[i]:output():gsub(' message {"a":1,', "")
      assert.equal(1, times, about[1])
    end
  end)

  it("resume behind the last complete event where the connection breaks off, and end where there is no more", function()
    local stream = "retry: 100\n\nid: 7\ndata: a\u{2028}b\n\nid: 9\ndata: half\n"
    local servers, ports = {}, {}
    for i in ipairs(PROGRAMS) do
      servers[i] = http_server.start(function(request, client)
        if request.headers["last-event-id"] then
          http_server.answer(client, { status = 204 })
        else
          client:write(("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
            .. "Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n"):format(#stream, stream))
          client:shutdown() -- no last chunk
        end
      end)
      ports[i] = servers[i].port
    end
    start_all("broken", ports)
    for i, about in ipairs(PROGRAMS) do
      local code = running[i]:wait(120)
      local requests = servers[i].requests
      servers[i]:stop()
      assert.equal(1, code, about[1] .. ": " .. running[i]:errors())
      assert.equal("7 message a\u{2028}b\n", running[i]:output(), about[1])
      assert.equal("7", requests[#requests].headers["last-event-id"], about[1])
    end
  end)

  it("end where they are denied, and say why", function()
    start_all "bad"
    for i, about in ipairs(PROGRAMS) do
      assert.equal(1, running[i]:wait(120), about[1] .. ": " .. running[i]:errors())
      assert.matches("another token was expected", running[i]:errors(), 1, true)
    end
  end)
end)
