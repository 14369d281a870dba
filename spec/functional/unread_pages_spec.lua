-- transports: tls h2
-- Pages of history that clients ask for and do not read: bounded memory, and whole in the end.
local eventually = require "support.eventually"
local h2 = require "support.h2"
local http = require "support.http"
local tidegate = require "support.tidegate"
local transport = require "support.transport"

local KIB = 1024
local JSON = { Accept = "application/json" }
local PAGE = "/events?topic=a&last_event_id=0"

describe("pages that are not read", function()
  local function start()
    local broker = tidegate.start { config = { limits = { unread_page_bytes = 3 * KIB * KIB,
      send_buffer_bytes = 16 * KIB } } }
    local batch = {}
    for i = 1, 5 do
      batch[i] = { topic = "a", data = tostring(i):rep(200 * KIB) }
    end
    broker:publish_all(batch)
    return broker, http.get(broker, PAGE, JSON).body
  end

  -- Asks for a page and reads nothing.
  local function ask(broker)
    if transport.h2 then
      local c = h2.connect(broker, { window = 0 })
      return c, c:request("GET", PAGE, nil, { headers = { { "Accept", "application/json" } } })
    end
    local c = assert(http.connect(broker, { rcvbuf = 16 * KIB }))
    c:send(http.render("GET", PAGE, JSON))
    return c
  end

  it("have a bound; beyond it clients are told to come back", function()
    local broker, whole = start()
    assert.equal(0, broker:metric "tidegate_event_page_unread_bytes")
    local list = {}
    for i = 1, 2 do
      list[i] = ask(broker)
      eventually("it waits", function()
        return broker:metric "tidegate_event_page_unread_bytes" == i * #whole
      end)
    end
    local r
    eventually("there is no room for more", function()
      list[#list + 1] = ask(broker)
      r = http.get(broker, PAGE, JSON)
      return r.status == 503
    end)
    assert.is_string(r.headers["retry-after"])
    assert.matches("has not been read", r.json.detail)
    assert.is_true(broker:metric "tidegate_event_pages_refused_total" > 0)
    assert.is_true(broker:metric "tidegate_event_page_unread_bytes" <= 3 * KIB * KIB)
    assert.truthy(broker:logged { msg = "refused for now", status = "503" })
    for _, c in ipairs(list) do
      c:close()
    end
    eventually("there is room again", function()
      return broker:metric "tidegate_event_page_unread_bytes" == 0
    end)
    assert.equal(whole, http.get(broker, PAGE, JSON).body)
  end)

  it("arrive whole, and in the order of the requests, when they are read after all", function()
    local broker, whole = start()
    local c = assert(http.connect(broker, { rcvbuf = 16 * KIB }))
    local nothing = http.render("GET", "/events?topic=b&last_event_id=0", JSON)
    c:send(http.render("GET", PAGE, JSON) .. nothing .. http.render("GET", PAGE, JSON) .. "nonsense\r\n\r\n")
    eventually("one waits", function() return broker:metric "tidegate_event_page_unread_bytes" == #whole end)
    assert.equal(whole, c:response().body)
    assert.same({}, c:response().json.events)
    assert.equal(whole, c:response().body)
    assert.equal(400, c:response().status)
    assert.equal(0, broker:metric "tidegate_event_page_unread_bytes")
  end)
end)
