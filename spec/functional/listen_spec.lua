-- Where it listens, and when it refuses to.
local http = require "support.http"
local sse = require "support.sse"
local eventually = require "support.eventually"
local tree = require "support.tree"
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

describe("the file of a Unix socket", function()
  for _, supervised in ipairs { false, true } do
    it("has the mode and the group that the address says" .. (supervised and ", under a supervisor" or ""), function()
      local group = io.popen("id -gn"):read "l"
      local broker = tidegate.start { supervised = supervised, config = {
        listen = { "unix:@DIR/public?mode=0660&group=" .. group }, admin = "unix:@DIR/admin?mode=0666" } }
      assert.equal(broker.dir .. "/public", broker.addresses[1].unix)
      assert.equal(432, uv.fs_stat(broker.dir .. "/public").mode & 511) -- 0660
      assert.equal(438, uv.fs_stat(broker.dir .. "/admin").mode & 511)
      assert.equal(200, http.get(broker.admin, "/readyz").status)
      broker:kill() -- what is left over is replaced, as always
      broker:start()
      assert.equal(432, uv.fs_stat(broker.dir .. "/public").mode & 511)
    end)
  end

  for text, why in pairs {
    ["?mode=0999"] = "a mode from 0600 to 0777", ["?mode=0060"] = "a mode from 0600 to 0777", ["?"] = "were expected",
    ["?mod=0660"] = "were expected", ["?mode=0660&"] = "were expected",
    ["?group=no-such-group"] = 'there is no group',
  } do
    it("is refused with " .. text, function()
      local code, log = tidegate.start_refused { config = { listen = { "unix:@DIR/public" .. text } } }
      assert.is_true(code == 78 or code == 69, log)
      assert.matches(why, log, 1, true)
    end)
  end

  it("is not left behind where its group cannot be had", function()
    for _, workers in ipairs { 1, 2 } do
      local broker = tidegate.prepare { config = { workers = workers,
        listen = { "unix:@DIR/first", "unix:@DIR/second?group=no-such-group" } } }
      tidegate.forget_later(broker)
      local code, _, err = tidegate.run(tidegate.binary(), { args = { "serve", broker.conf_path }, timeout = 60 })
      assert.equal(69, code, err)
      assert.matches("no-such-group", err, 1, true)
      assert.is_nil(uv.fs_stat(broker.dir .. "/first"))
      assert.is_nil(uv.fs_stat(broker.dir .. "/second"))
    end
  end)
end)

describe("the address for probes", function()
  for _, supervised in ipairs { false, true } do
    it("gives health and metrics to everybody who reads, and nothing else; supervised: " .. tostring(supervised),
      function()
        local broker = tidegate.start { supervised = supervised, config = { admin_public = "0.0.0.0:0" } }
        local at
        eventually("it listens", function()
          local line = broker:logged { msg = "listening", server = "admin_public" }
          at = line and { host = "127.0.0.1", port = tonumber(line.address:match ":(%d+)$") }
          return at
        end)
        for _, path in ipairs { "/healthz", "/readyz", "/metrics" } do
          local r = http.get(at, path, { Host = "10.1.2.3:9090" })
          assert.equal(200, r.status, path)
        end
        assert.matches("tidegate_ready 1\n", http.get(at, "/metrics").body, 1, true)
        assert.equal(405, http.post(at, "/readyz", "").status)
        for _, path in ipairs { "/status", "/connections", "/drain", "/" } do
          assert.equal(404, http.get(at, path).status, path)
          assert.equal(404, http.post(at, path, "").status, path)
        end
        assert.equal(200, http.get(broker.admin, "/status").status)
        local r -- anyone may ask, but not as often as they like
        eventually("asking without end is refused", function()
          for _ = 1, 50 do
            r = http.get(at, "/healthz")
            if r.status ~= 200 then
              return true
            end
          end
        end)
        assert.equal(429, r.status)
        assert.is_truthy(tonumber(r.headers["retry-after"]))
        assert.equal(200, http.get(broker.admin, "/healthz").status)
        assert.is_true(broker:metric "tidegate_admin_public_too_fast_total" >= 1)
        assert.is_truthy(broker:logged { msg = "refused a client that asks too often", limit = "admin_public" })
      end)
  end

  it("is taken as soon as another program gives it back, and the log says so meanwhile", function()
    local other = uv.new_tcp()
    finally(function()
      if not other:is_closing() then
        other:close()
      end
    end)
    assert(other:bind("127.0.0.1", 0))
    assert(other:listen(1, function() end))
    local at = { host = "127.0.0.1", port = other:getsockname().port }
    local text = "127.0.0.1:" .. at.port
    local broker = tidegate.start { supervised = true, config = { admin_public = text } }
    eventually("the log says that probes get no answer", function()
      local line = broker:logged { sub = "supervisor", admin_public = text }
      return line and line.error:find(text, 1, true)
    end)
    assert.equal(200, http.get(broker.admin, "/readyz").status)
    other:close()
    eventually("it listens", function()
      return broker:logged { msg = "listening", server = "admin_public" }
    end)
    assert.equal(200, http.get(at, "/readyz").status)
  end)
end)

describe("settings of the environment", function()
  it("come after options and before the file, and `check` says which are in force", function()
    local dir = tidegate.directory()
    finally(function() tree.remove(dir) end)
    local env = { TIDEGATE_LISTEN = "127.0.0.1:0, [::1]:0", TIDEGATE_STORE = dir .. "/store" }
    local broker = tidegate.start { env = env, config = { listen = { "127.0.0.1:1", "127.0.0.1:2" } } }
    assert.equal(2, #broker.addresses)
    assert.is_truthy(uv.fs_stat(dir .. "/store"))
    local function check(vars, ...)
      return tidegate.run(tidegate.binary(), { args = { "check", broker.conf_path, ... }, env = vars })
    end
    local code, out, err = check { TIDEGATE_LISTEN = "127.0.0.1:0", TIDEGATE_ADMIN = "none", TIDEGATE_POLICY = "",
      TIDEGATE_ADMIN_PUBLIC = "" }
    assert.equal(0, code, err)
    assert.matches("settings  from TIDEGATE_LISTEN, TIDEGATE_ADMIN\n", out, 1, true)
    code, out, err = check { TIDEGATE_ADMIN_PUBLIC = "0.0.0.0:0" }
    assert.equal(0, code, err)
    assert.matches("settings  from TIDEGATE_ADMIN_PUBLIC\n", out, 1, true)
    code, out, err = check { TIDEGATE_ADMIN = "none", TIDEGATE_ADMIN_PUBLIC = "0.0.0.0:0" }
    assert.equal(78, code)
    assert.matches("TIDEGATE_ADMIN_PUBLIC: needs admin", out .. err, 1, true)
    code, out, err = check { TIDEGATE_ADMIN = "127.0.0.1:9090", TIDEGATE_ADMIN_PUBLIC = "127.0.0.1:9090" }
    assert.equal(78, code)
    assert.matches("TIDEGATE_ADMIN_PUBLIC", out .. err, 1, true)
    code, out, err = check({ TIDEGATE_LISTEN = "nonsense" }, "--listen", "127.0.0.1:0")
    assert.equal(0, code, err)
    assert.is_nil(out:find("TIDEGATE_", 1, true))
    code, out, err = check { TIDEGATE_LISTEN = "nonsense" }
    assert.equal(78, code)
    assert.matches("TIDEGATE_LISTEN", out .. err, 1, true)
    code, out, err = check { TIDEGATE_LISTEN = ("127.0.0.1:0,"):rep(64) .. "127.0.0.1:0" }
    assert.equal(78, code)
    assert.matches("64", out .. err, 1, true)
  end)
end)
