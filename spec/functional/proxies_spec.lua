-- The client's address as the policy sees it, behind proxies that are trusted and that are not.
local http = require "support.http"
local tidegate = require "support.tidegate"

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
