-- The Mercure hub of scripts/policies/mercure.lua and programs that nobody here wrote: Symfony's Mercure component
-- publishes, with a token of PyJWT; two libraries for JavaScript read, and come back where the broker was killed.
local child = require "support.child"
local eventually = require "support.eventually"
local http = require "support.http"
local roster = require "clients.roster"
local tidegate = require "support.tidegate"

local HUB = "/.well-known/mercure"
local SECRET = "!ChangeThisMercureHubJWTSecretKey!" -- what Symfony's recipe writes into .env

local function token(claims)
  local process = child.start("/usr/bin/python3", { "-c",
    "import json, jwt, sys; print(jwt.encode(json.loads(sys.argv[1]), sys.argv[2], algorithm='HS256'), end='')",
    http.json.encode(claims), SECRET })
  assert.equal(0, process:wait(60), process:errors())
  local text = process:output()
  process:stop()
  return text
end

local function lines(process)
  local list = {}
  for line in process:output():gmatch "[^\n]+" do
    list[#list + 1] = line
  end
  return list
end

describe("a Mercure hub", function()
  local broker, url, publisher

  setup(function()
    broker = tidegate.start {
      policy_file = SPEC_SOURCE_DIR .. "/scripts/policies/mercure.lua", keep = true,
      config = {
        listen = { "127.0.0.1:" .. child.free_port() },
        http = { routes = { { path = HUB, subscribe = true, position_field = "Last-Event-ID", publish = "form",
          topic = "mercure", answer = "id", status = 200 } } },
        policy = { settings = { alg = { "HS256" }, need_expiry = false } }, keys = { main = { secret = SECRET } },
        sse = { retry_ms = 200 },
      },
    }
    url = ("http://%s:%d%s"):format(broker.host, broker.port, HUB)
    publisher = token { mercure = { publish = { "*" } } }
  end)
  teardown(function()
    broker:dispose()
  end)

  local function publish(updates)
    local process = roster.start("symfony/mercure", "mercure.php", url,
      { TOKEN = publisher, UPDATES = http.json.encode(updates) })
    assert.equal(0, process:wait(60), process:errors())
    local ids = lines(process)
    process:stop()
    assert.equal(#updates, #ids)
    return ids
  end

  for name, file in pairs { ["eventsource 2"] = "eventsource.mjs",
    ["@microsoft/fetch-event-source"] = "callbacks.mjs" } do
    it("is read by " .. name, function()
      local ann = token { sub = "ann", exp = os.time() + 3600,
        mercure = { subscribe = { "https://a.example/users/ann/{?topic}" } } }
      local reader = roster.start(name, file, url .. "?" .. http.query {
        topic = { "https://a.example/books/{id}", "last" }, authorization = ann })
      finally(function() reader:stop() end)
      local function events()
        local list = {}
        for _, line in ipairs(lines(reader)) do
          local said = http.json.decode(line)
          if said.event and said.event ~= "position" then
            list[#list + 1] = said
          end
        end
        return list
      end
      local function opened(times)
        eventually("the stream is open", function()
          return select(2, reader:output():gsub('"open":true', "")) >= times
        end, 60)
      end
      opened(1)
      local ids = publish {
        { topics = "https://a.example/books/1", data = '{"n":1}', id = "urn:uuid:1", retry = 500 },
        { topics = "https://a.example/books/2", data = "not for ann", private = true },
        { topics = { "https://a.example/books/2",
          "https://a.example/users/ann/?topic=https%3A%2F%2Fa.example%2Fbooks%2F2" },
          data = "zwei\nZeilen, ü", private = true, type = "added" },
      }
      eventually("two updates", function() return #events() >= 2 end, 60)
      broker:kill()
      broker:start()
      ids[4] = publish({ { topics = "last", data = "end" } })[1]
      eventually("the last update", function() return #events() >= 3 end, 60)
      assert.same({
        { event = "message", id = ids[1], data = '{"n":1}' },
        { event = "added", id = ids[3], data = "zwei\nZeilen, ü" },
        { event = "message", id = ids[4], data = "end" },
      }, events())
    end)
  end
end)
