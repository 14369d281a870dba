-- The try-out page in a real browser.
local child = require "support.child"
local eventually = require "support.eventually"
local http = require "support.http"
local tidegate = require "support.tidegate"
local webdriver = require "support.webdriver"

local POLICY = [[
return {
  api = 1,
  authenticate = function() return { sub = "anyone" } end,
  subscribe = function(req)
    if req.topics[1] == "secret" then
      return tg.deny(403, "not for browsers")
    end
    return { topics = req.topics, start = req.topics[1] == "score/*" and "latest" or nil }
  end,
  publish = function(pub)
    if pub.topic == "secret" then
      return tg.deny(403, "nobody writes here")
    end
    return pub
  end,
  version = "<shop> & co",
}
]]

describe("the try-out page", function()
  local browser, broker

  setup(function()
    browser = webdriver.open()
  end)

  teardown(function()
    if browser then
      browser:close()
    end
  end)

  before_each(function()
    broker = tidegate.start {
      policy = POLICY,
      config = { listen = { "127.0.0.1:" .. child.free_port() }, sse = { retry_ms = 200 },
        store = { latest = { "score/*" } } },
    }
  end)

  after_each(function()
    browser:go "about:blank"
  end)

  local function url(path)
    return ("http://%s:%d%s"):format(broker.host, broker.port, path)
  end

  local function wait_state(wanted)
    eventually("the page says " .. wanted, function()
      local state = browser:text "#state"
      return state:find(wanted, 1, true) ~= nil, state
    end, 20)
  end

  local function open_page()
    browser:go(url "/")
    wait_state "open"
  end

  -- The events the page shows, oldest first.
  local function shown()
    return browser:script [[
      return [...document.querySelectorAll("#events li")].reverse().map(li => ({
        id: li.dataset.id, type: li.dataset.type, data: li.querySelector(".data").textContent }))
    ]]
  end

  local function wait_shown(n)
    eventually(n .. " events on the page", function()
      local events = shown()
      return #events >= n, #events .. " events"
    end, 20)
    return shown()
  end

  local function data_of(events)
    local list = {}
    for i, ev in ipairs(events) do
      list[i] = ev.data
    end
    return list
  end

  it("loads from one file, connects, and the console stays silent", function()
    local r = http.get(broker, "/")
    assert.equal(200, r.status)
    assert.truthy(r.headers["content-type"]:find "^text/html")
    assert.truthy(r.headers["content-security-policy"]:find("default-src 'none'", 1, true))
    assert.truthy(r.headers["content-security-policy"]:find("img-src data:", 1, true))
    browser:console()
    open_page()
    assert.equal("Tidegate: try it", browser:script "return document.title")
    local elsewhere = browser:script [[
      return performance.getEntriesByType("resource").map(r => r.name).filter(n => new URL(n).pathname !== "/events")
    ]]
    assert.same({}, elsewhere)
    assert.same({}, browser:console())
  end)

  it("labels every field for assistive technology", function()
    open_page()
    assert.same({}, browser:script [[
      return [...document.querySelectorAll("input, select, textarea")].filter(e => !e.labels.length).map(e => e.id)
    ]])
  end)

  it("shows an event published with its own form", function()
    open_page()
    browser:type("#publish-type", "surprise")
    browser:type("#publish-data", "from the form\nin two lines")
    browser:click "#publish button"
    local ev = wait_shown(1)[1]
    assert.equal("surprise", ev.type)
    assert.equal("from the form\nin two lines", ev.data)
    assert.equal("stored as id " .. ev.id, browser:text "#answer")
    assert.equal(ev.id, browser:text "#last-id")
  end)

  it("shows an event published over HTTP as text, never as markup", function()
    open_page()
    local data = '<img src=x onerror="document.title=\'owned\'"><b>bold</b>'
    local id = broker:publish("demo/hello", data)
    assert.same({ { id = id, type = "message", data = data } }, wait_shown(1))
    assert.equal(0, browser:script "return document.querySelectorAll('#events img, #events b').length")
    assert.equal("Tidegate: try it", browser:script "return document.title")
  end)

  it("prints curl lines that work as pasted", function()
    open_page()
    browser:type("#publish-topic", "demo/hello")
    browser:type("#publish-data", "it's from $curl & co")
    local line = browser:text "#code-publish"
    assert.truthy(line:find("curl ", 1, true) == 1, line)
    local code, out, err = tidegate.run("/bin/sh", { args = { "-c", line } })
    assert.equal(0, code, err)
    assert.equal("it's from $curl & co", wait_shown(1)[1].data)
    assert.truthy(out:find('"id"', 1, true), out)
    assert.equal(("curl -N '%s'"):format(url "/events?topic=demo/hello"), browser:text "#code-subscribe")
  end)

  it("starts at the oldest event when asked to", function()
    for i = 1, 3 do
      broker:publish("demo/hello", "before-" .. i)
    end
    open_page()
    browser:script "document.getElementById('start').value = 'earliest'"
    browser:click "#subscribe button"
    assert.same({ "before-1", "before-2", "before-3" }, data_of(wait_shown(3)))
  end)

  it("finds the events where the configuration puts them", function()
    broker = tidegate.start { policy = POLICY, config = { http = { events_path = "/stream/of-events" } } }
    open_page()
    local r = http.post(broker, "/stream/of-events?topic=demo/hello", "elsewhere")
    assert.equal(201, r.status)
    assert.equal("elsewhere", wait_shown(1)[1].data)
  end)

  it("shows why the policy refuses a stream or an event", function()
    open_page()
    assert.is_false(browser:script "return document.getElementById('why').checkVisibility()")
    browser:type("#topic", "secret")
    browser:click "#subscribe button"
    wait_state "refused"
    assert.truthy(browser:text "#why":find("^403: not for browsers"))
    browser:type("#publish-topic", "secret")
    browser:click "#publish button"
    eventually("the answer says why", function()
      return browser:text "#answer":find("^403: nobody writes here") ~= nil
    end)
    browser:type("#topic", "demo/hello")
    browser:click "#subscribe button"
    wait_state "open"
    assert.equal("", browser:text "#why")
  end)

  it("names the program's version and the policy, whatever the policy's label holds", function()
    open_page()
    local status = http.get(broker.admin, "/status").json
    assert.equal(("Tidegate %s, policy <shop> & co %s"):format(status.version, status.policy.version:sub(1, 12)),
      browser:text "footer")
  end)

  it("shows events of every type, and where the stream is, but no position event", function()
    open_page()
    local id = broker:publish("demo/hello", "x", { type = "never-heard-of" })
    assert.same({ { id = id, type = "never-heard-of", data = "x" } }, wait_shown(1))
  end)

  it("tells the snapshot that a stream begins with from what comes then", function()
    -- The list, oldest first: what each is, and the data.
    local function rows()
      return browser:script [[
        return [...document.querySelectorAll("#events li")].reverse().map(li =>
          [li.className, li.querySelector(".kind").textContent, li.querySelector(".data").textContent].join("|"))
      ]]
    end
    local LIVE = "live||The newest event of each topic was sent. From here on: all that come."
    for _, ev in ipairs { { "score/1", "1:0" }, { "score/2", "0:0" }, { "score/1", "1:1" } } do
      broker:publish(ev[1], ev[2])
    end
    open_page()
    browser:type("#topic", "score/*")
    browser:click "#subscribe button"
    wait_shown(3)
    broker:publish("score/2", "0:1")
    broker:publish("score/2", '{"position":"1"}', { type = "live" }) -- somebody's own
    wait_shown(5)
    browser:click "#pretty"
    local expected = { "event|snapshot|0:0", "event|snapshot|1:1", LIVE, "event||0:1", 'event||{"position":"1"}' }
    assert.same(expected, rows())
    assert.equal("4", browser:text "#count")
    broker:restart()
    broker:publish("score/1", "2:1")
    wait_shown(6)
    expected[6] = "event||2:1" -- it came back to its place: no snapshot
    assert.same(expected, rows())
    browser:click "#pause"
    browser:click "#subscribe button"
    eventually("the snapshot waits", function() return browser:text "#waiting" == ", 3 of them wait" end, 20)
    browser:click "#pause"
    for _, row in ipairs { 'event|snapshot|{"position":"1"}', "event|snapshot|2:1", LIVE } do
      expected[#expected + 1] = row
    end
    assert.same(expected, rows())
  end)

  it("indents JSON without changing a value", function()
    open_page()
    local text = [[{"n":12345678901234567890,"a":[1.50,"x, {y}: \"z\"",[],{ }],"e":{"f":null}}]]
    broker:publish("demo/hello", text)
    local data = wait_shown(1)[1].data
    assert.equal([[
{
  "n": 12345678901234567890,
  "a": [
    1.50,
    "x, {y}: \"z\"",
    [],
    {}
  ],
  "e": {
    "f": null
  }
}]], data)
    browser:click "#pretty"
    assert.equal(text, shown()[1].data)
    broker:publish("demo/hello", "{not JSON")
    browser:click "#pretty"
    assert.equal("{not JSON", wait_shown(2)[2].data)
  end)

  it("filters what it shows, and holds events back while it is paused", function()
    open_page()
    broker:publish("demo/hello", "apple")
    broker:publish("demo/hello", "pear")
    wait_shown(2)
    local function visible()
      return browser:script [[return [...document.querySelectorAll("#events li")].filter(e => e.checkVisibility())
        .map(e => e.querySelector(".data").textContent)]]
    end
    browser:type("#filter", "APPL")
    assert.same({ "apple" }, visible())
    browser:type("#filter", "")
    browser:script [[document.getElementById("filter").dispatchEvent(new Event("input"))]]
    assert.same({ "pear", "apple" }, visible())
    browser:click "#pause"
    assert.equal("true", browser:script "return document.getElementById('pause').getAttribute('aria-pressed')")
    broker:publish("demo/hello", "plum")
    eventually("an event waits", function() return browser:text "#waiting" == ", 1 of them wait" end)
    assert.same({ "pear", "apple" }, visible())
    browser:click "#pause"
    assert.same({ "plum", "pear", "apple" }, visible())
    assert.equal("", browser:text "#waiting")
  end)

  it("continues after restarts of the broker without loss or doubles", function()
    open_page()
    local expected = {}
    local function publish(data)
      expected[#expected + 1] = data
      broker:publish("demo/hello", data)
    end
    for round, stop in ipairs { "stop", "kill" } do
      for i = 1, 5 do
        publish(("live-%d-%d"):format(round, i))
      end
      wait_shown(#expected)
      broker[stop](broker)
      wait_state "connecting"
      broker:start()
      for i = 1, 5 do
        publish(("missed-%d-%d"):format(round, i))
      end
      wait_shown(#expected)
      wait_state "open"
    end
    publish "last"
    wait_shown(#expected)
    eventually.pass(0.5, "a double would show by now")
    local events = shown()
    assert.same(expected, data_of(events))
    for i = 2, #events do
      assert.is_true(tonumber(events[i - 1].id) < tonumber(events[i].id))
    end
    assert.equal("3", browser:text "#opens")
  end)
end)
