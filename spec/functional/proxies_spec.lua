-- The client's address as the policy sees it, behind proxies that are trusted and that are not.
local eventually = require "support.eventually"
local http = require "support.http"
local tidegate = require "support.tidegate"
local tls = require "support.tls"

-- Answers every request with the address.
local POLICY = [[
  return {
    api = 1,
    authenticate = function(req) return tg.deny(403, "<" .. req.ip .. ">") end,
    subscribe = function() return nil end,
  }
]]

local function ip(target, forwarded, options)
  local headers = {}
  for _, value in ipairs(type(forwarded) == "table" and forwarded or { forwarded }) do
    headers[#headers + 1] = { "X-Forwarded-For", value }
  end
  local r = http.get(target, "/events?topic=a", headers, options)
  assert.equal(403, r.status)
  return r.json.detail:match "<(.-)>"
end

describe("behind a trusted proxy the address", function()
  local broker = tidegate.shared { policy = POLICY, config = {
    listen = { "127.0.0.1:0", "unix:@DIR/s" },
    trusted_proxies = { "127.0.0.1", "10.0.0.0/8", "2001:db8::/32" },
  } }

  for forwarded, expected in pairs {
    ["198.51.100.7"] = "198.51.100.7",
    [" 198.51.100.7 "] = "198.51.100.7",
    ["192.0.2.66, 198.51.100.7"] = "198.51.100.7", -- what the client made up is on the left
    ["198.51.100.7, 10.1.2.3"] = "198.51.100.7",
    ["192.0.2.66,198.51.100.7,10.1.2.3,127.0.0.1"] = "198.51.100.7",
    ["10.9.9.9"] = "10.9.9.9", -- all are trusted: the farthest
    ["2001:db9::1"] = "2001:db9::1",
    ["192.0.2.1, 2001:db8::5"] = "192.0.2.1",
    ["198.51.100.7, nonsense"] = "127.0.0.1",
    ["198.51.100.7, nonsense, 10.1.2.3"] = "10.1.2.3",
    ["unknown"] = "127.0.0.1",
    ["198.51.100.7;drop"] = "127.0.0.1",
    [""] = "127.0.0.1",
  } do
    it(("is %s for X-Forwarded-For: %s"):format(expected, forwarded), function()
      assert.equal(expected, ip(broker(), forwarded))
    end)
  end

  it("is the peer without the field", function()
    assert.equal("127.0.0.1", ip(broker(), {}))
  end)

  it("is read from all such fields as one list", function()
    assert.equal("198.51.100.7", ip(broker(), { "192.0.2.66", "198.51.100.7" }))
  end)

  it("is the peer where that is not trusted, whatever it says", function()
    assert.equal("127.0.0.2", ip(broker(), "198.51.100.7", { from = "127.0.0.2" }))
  end)

  it("is not believed from a Unix socket that is not trusted", function()
    assert.equal("unix", ip(broker().addresses[2], "198.51.100.7"))
  end)
end)

describe("a trusted Unix socket", function()
  local broker = tidegate.shared { policy = POLICY,
    config = { listen = { "unix:@DIR/s" }, trusted_proxies = { "unix" } } }

  it("says who the client is", function()
    assert.equal("198.51.100.7", ip(broker().addresses[1], "198.51.100.7"))
  end)
end)

describe("without trusted proxies", function()
  local broker = tidegate.shared { policy = POLICY }

  it("nobody is believed", function()
    assert.equal("127.0.0.1", ip(broker(), "198.51.100.7"))
  end)
end)

describe("the limit of connections for an address", function()
  -- A proxy's own connections are not counted; what its clients have under way is.
  it("counts the clients behind a trusted proxy, an IPv6 network as one", function()
    local broker = tidegate.start { config = { trusted_proxies = { "127.0.0.1" },
      limits = { max_connections_per_address = 2 } } }
    local function open(client)
      local c = http.connect(broker)
      c:send(http.render("GET", "/events?topic=a", { ["X-Forwarded-For"] = client }))
      return c:head().status, c
    end
    for _, clients in ipairs {
      { "6.6.6.6", "6.6.6.6", "6.6.6.6" }, { "2001:db8::1", "2001:db8::2", "2001:db8::3:4" },
    } do
      local status, first = open(clients[1])
      assert.equal(200, status)
      assert.equal(200, open(clients[2]))
      assert.equal(429, open(clients[3]))
      local part = http.connect(broker)
      part:send(http.render("POST", "/events?topic=a",
        { ["X-Forwarded-For"] = clients[3], ["Content-Length"] = "100" }))
      assert.equal(429, part:response().status)
      first:close()
      eventually("there is room again", function() return open(clients[3]) == 200 end)
    end
    assert.equal(200, open "192.0.2.9")
    assert.equal(200, open "2001:db8:0:1::1")
    assert.is_true(broker:metric "tidegate_refused_per_address_total" >= 4)
    assert.equal(1, select(2, broker:log():gsub('level=warn [^\n]*holds too many[^\n]* client=6%.6%.6%.6 ', "")))
  end)

  it("is a part of all places, and not for this machine, unless it is set", function()
    local broker = tidegate.start { config = { trusted_proxies = { "127.0.0.1" }, limits = { max_connections = 80 } } }
    local list = {}
    local function open_all(client)
      local refused = 0
      for i = 1, 66 do
        list[i] = http.connect(broker)
        list[i]:send(http.render("GET", "/events?topic=a", { ["X-Forwarded-For"] = client }))
        refused = refused + (list[i]:head().status == 429 and 1 or 0)
      end
      for i = 1, 66 do list[i]:close() end
      eventually("they are gone", function() return broker:metric "tidegate_connections" == 0 end)
      return refused
    end
    assert.equal(2, open_all "192.0.2.1")
    assert.equal(0, open_all "127.0.0.9")
  end)

  it("does not count a trusted proxy as one client", function()
    local broker = tidegate.start { config = { trusted_proxies = { "127.0.0.1" },
      limits = { max_connections_per_address = 2 } } }
    local list = {}
    for i = 1, 6 do
      list[i] = http.connect(broker)
      assert.equal(404, list[i]:request("GET", "/nothing").status)
    end
  end)
end)

describe("the rates of an address", function()
  -- Sends until something is refused; at one a second, ten at once, that comes soon. Returns how many were let
  -- through, and the answer.
  local function until_refused(send)
    for i = 0, 1000 do
      local r = send()
      if not r or r.status == 429 then
        return i, r
      end
    end
    error "nothing was refused"
  end

  local function start(limits)
    return tidegate.start { config = { trusted_proxies = { "127.0.0.1" }, limits = limits } }
  end

  local function asks(broker, method, client)
    local c = http.connect(broker)
    return function()
      return c:request(method, "/events?topic=a", { ["X-Forwarded-For"] = client }, method == "POST" and "x" or nil)
    end
  end

  it("bound the requests of each client behind a trusted proxy, but not its publishes", function()
    local broker = start { new_connections_per_address_per_s = 1 }
    local n, r = until_refused(asks(broker, "HEAD", "192.0.2.1"))
    assert.is_true(n >= 10, n)
    assert.equal(429, r.status)
    assert.equal("5", r.headers["retry-after"])
    assert.equal(201, asks(broker, "POST", "192.0.2.1")().status)
    assert.equal(200, asks(broker, "HEAD", "192.0.2.2")().status)
    local proxy = asks(broker, "HEAD")
    for _ = 1, 30 do
      assert.equal(200, proxy().status)
    end
    assert.equal(1, broker:metric 'tidegate_refused_too_fast_total{what="connections"}')
    assert.truthy(broker:logged {
      msg = "refused a client that is too fast; raise the limit if many share its address", client = "192.0.2.1",
      limit = "limits.new_connections_per_address_per_s" })
  end)

  it("bound publishes, before their body has come", function()
    local broker = start { publishes_per_address_per_s = 1 }
    local n, r = until_refused(asks(broker, "POST", "2001:db8::1"))
    assert.is_true(n >= 10, n)
    assert.equal("5", r.headers["retry-after"])
    assert.equal(201, asks(broker, "POST", "2001:db8:0:1::1")().status)
    assert.equal(200, asks(broker, "HEAD", "2001:db8::1")().status)
    until_refused(function()
      local c = http.connect(broker)
      c:send(http.render("POST", "/events?topic=a", { ["X-Forwarded-For"] = "2001:db8::2", ["Content-Length"] = "100",
        Expect = "100-continue" }))
      local head = c:head()
      c:close()
      return head
    end)
    assert.is_true(broker:metric 'tidegate_refused_too_fast_total{what="publishes"}' >= 2)
  end)

  it("close connections without an answer, before a TLS handshake", function()
    local ca = tls.authority()
    local cert = ca:issue { names = { "a.example" } }
    local broker = tidegate.start { config = { listen = { "127.0.0.1:0", tls.listener { cert } },
      limits = { new_connections_per_address_per_s = 1 } } }
    local n, r = until_refused(function()
      local c = http.connect(broker.addresses[1], { from = "127.0.0.2" })
      c:send(http.render("GET", "/nothing", { Connection = "close" }))
      local answer = c:response()
      c:close()
      return answer
    end)
    assert.is_nil(r)
    assert.is_true(n >= 10, n)
    local function refused()
      return broker:metric 'tidegate_refused_too_fast_total{what="connections"}'
    end
    local before, open = refused(), {}
    eventually("one is refused", function()
      open[#open + 1] = http.connect(broker.addresses[2], { from = "127.0.0.3" })
      return refused() > before
    end)
    assert.is_true(#open > 10, #open)
    for _, c in ipairs(open) do
      c:close()
    end
    ca:remove()
  end)
end)
