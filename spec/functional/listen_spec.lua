-- Where it listens, and when it refuses to.
local http = require "support.http"
local sse = require "support.sse"
local tidegate = require "support.tidegate"
local uv = require "luv"

describe("listening", function()
  it("works on IPv4, IPv6 and Unix sockets at once", function()
    local broker = tidegate.start { config = {
      listen = { "127.0.0.1:0", "[::1]:0", "unix:@DIR/public", "127.0.0.1:0" },
    } }
    assert.equal(4, #broker.addresses)
    local clients = {}
    for i, address in ipairs(broker.addresses) do
      clients[i] = sse.open(address, { topic = "a" })
    end
    for i, address in ipairs(broker.addresses) do
      assert.equal(201, http.post(address, "/events?topic=a", "via " .. i).status)
    end
    for _, c in ipairs(clients) do
      for i = 1, 4 do
        assert.equal("via " .. i, c:next().data)
      end
    end
  end)

  it("says which address is in use, and ends", function()
    local first = tidegate.start()
    local taken = ("127.0.0.1:%d"):format(first.port)
    local code, log = tidegate.start_refused { config = { listen = { taken } } }
    assert.is_true(code ~= 0)
    assert.matches(taken, log, 1, true)
    assert.matches("in use", log)
    assert.equal(404, http.get(first, "/nothing").status)
  end)

  it("says the same of the admin address", function()
    local first = tidegate.start()
    local taken = ("127.0.0.1:%d"):format(first.admin.port)
    local code, log = tidegate.start_refused { config = { admin = taken } }
    assert.is_true(code ~= 0)
    assert.matches(taken, log, 1, true)
  end)

  it("takes over the Unix socket that a killed process left, not one that is served", function()
    local broker = tidegate.start { config = { listen = { "unix:@DIR/public" } } }
    local path = broker.addresses[1].unix
    local code = tidegate.start_refused { config = { listen = { "unix:" .. path } } }
    assert.is_true(code ~= 0)
    assert.equal(404, http.get(broker.addresses[1], "/nothing").status)
    broker:kill()
    assert.is_truthy(uv.fs_stat(path))
    broker:start()
    assert.equal(404, http.get(broker.addresses[1], "/nothing").status)
    broker:stop()
    assert.is_nil(uv.fs_stat(path), "a clean end leaves no socket")
  end)

  it("does not begin with an address that it has twice, and says where", function()
    for _, workers in ipairs { 1, 2 } do
      local code, log = tidegate.start_refused { config = { workers = workers, admin = "unix:@DIR/s",
        listen = { "127.0.0.1:0", "unix:@DIR/s" } } }
      assert.equal(78, code)
      assert.matches('admin: "unix:%S+/s" is taken by listen%[2%]', log)
    end
  end)

  it("does not replace a file that is no socket", function()
    local code, log = tidegate.start_refused { config = { listen = { "unix:@DIR/precious" } },
      files = { precious = "keep me" } }
    assert.is_true(code ~= 0)
    assert.matches("precious", log)
  end)
end)

describe("an open policy", function()
  local OPEN = [[
    return {
      api = 1,
      subscribe = function(req) return { topics = req.topics } end,
      publish = function(pub) return pub end,
    }
  ]]

  it("needs the configuration to say so", function()
    local code, log = tidegate.start_refused { policy = OPEN }
    assert.equal(78, code)
    assert.matches("authenticate", log)
  end)

  it("is served on loopback and Unix sockets then", function()
    local broker = tidegate.start { policy = OPEN,
      config = { policy = { auth = "open" }, listen = { "127.0.0.1:0", "unix:@DIR/s" } } }
    assert.equal(201, http.post(broker, "/events?topic=a", "x").status)
  end)

  for _, address in ipairs { "0.0.0.0:0", "[::]:0" } do
    it("is refused on " .. address, function()
      local code, log = tidegate.start_refused { policy = OPEN,
        config = { policy = { auth = "open" }, listen = { "127.0.0.1:0", address } } }
      assert.equal(78, code)
      assert.matches("allow_open_public", log)
      assert.is_nil(log:find("msg=listening", 1, true))
    end)
  end

  it("is served to everybody where that is what somebody wants", function()
    local broker = tidegate.start { policy = OPEN,
      config = { policy = { auth = "open", allow_open_public = true }, listen = { "0.0.0.0:0" } } }
    assert.equal(201, http.post({ host = "127.0.0.1", port = broker.port }, "/events?topic=a", "x").status)
  end)
end)
