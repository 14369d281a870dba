-- A browser that has had the last piece of an answer comes back once, and stays quiet: scripts/policies/answers.lua.
local child = require "support.child"
local eventually = require "support.eventually"
local files = require "support.files"
local http = require "support.http"
local tidegate = require "support.tidegate"
local tokens = require "support.tokens"
local webdriver = require "support.webdriver"

local SECRET = ("s"):rep(32)

local function token(claims)
  claims.iss, claims.aud, claims.exp = "https://id.example", "tidegate", os.time() + 3600
  return tokens.sign("HS256", SECRET, claims)
end

describe("a browser that reads an answer", function()
  local browser

  setup(function() browser = webdriver.open() end)
  teardown(function()
    if browser then
      browser:close()
    end
  end)

  it("is quiet behind the end, and whoever opens the answer later is, too", function()
    local broker = tidegate.start {
      policy = files.read(SPEC_SOURCE_DIR .. "/scripts/policies/answers.lua"),
      config = { listen = { "127.0.0.1:" .. child.free_port() }, sse = { retry_ms = 100 },
        keys = { main = { secret = SECRET } } },
    }
    local headers = { Authorization = "Bearer " .. token { sub = "model-1", role = "producer" } }
    local function piece(seq, text, type)
      broker:publish("answers/ann/7", text, { attrs = { seq = seq }, type = type, headers = headers })
    end
    local function open()
      browser:go(("http://%s:%d/"):format(broker.host, broker.port))
      browser:script([[
        document.cookie = "access_token=" + arguments[0]
        window.seen = []
        window.source = new EventSource("/events?conversation=7&last_event_id=earliest")
        source.onmessage = (e) => seen.push(e.data)
        source.addEventListener("done", (e) => seen.push("the last: " + e.data))
      ]], token { sub = "ann" })
    end
    local function wait_quiet()
      eventually("the EventSource is closed", function()
        return browser:script "return source.readyState === EventSource.CLOSED"
      end, 30)
      assert.same({ "Tide", "gate", "the last: !" }, browser:script "return seen")
    end
    piece(1, "Tide")
    open()
    piece(2, "gate")
    piece(2, "gate")
    piece(3, "!", "done")
    wait_quiet()
    open()
    wait_quiet()
    assert.equal(2, broker:metric "tidegate_subscribed_total")
    assert.equal(2, broker:metric "tidegate_nothing_more_total")
    assert.equal(2, broker:metric "tidegate_streams_ended_total")
    assert.equal(0, broker:metric "tidegate_subscribers")
    assert.equal(1, broker:metric "tidegate_publish_duplicates_total")
    assert.equal(401, http.get(broker, "/events?conversation=7").status)
  end)
end)
