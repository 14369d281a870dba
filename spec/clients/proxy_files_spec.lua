-- conf/proxies: the files as they are, but for ports and paths, in the proxies of Debian, all at once. An EventSource
-- behind them must get each event at once, and outlive a broker that is away: it gives up for good on any status but
-- 200.
local child = require "support.child"
local eventually = require "support.eventually"
local files = require "support.files"
local http = require "support.http"
local sse = require "support.sse"
local tidegate = require "support.tidegate"
local uv = require "luv"

local read, write = files.read, files.write

local FOLDER = SPEC_SOURCE_DIR .. "/conf/proxies/"
local AWAY_S = 2

-- Denies requests with X-Ask, with the scheme that it is told.
local POLICY = [[
  return {
    api = 1,
    authenticate = function(req)
      if req.headers["x-ask"] then
        return tg.deny(403, req.headers["x-forwarded-proto"] or "http")
      end
      return {}
    end,
    subscribe = function() return { topics = { "t" } } end,
    publish = function(pub) return pub end,
  }
]]

-- `text` with each pair { from, to } replaced, which must be there.
local function replaced(text, pairs_of)
  for _, pair in ipairs(pairs_of) do
    local from = pair[1]:gsub("%W", "%%%0")
    assert(text:find(pair[1], 1, true), pair[1] .. " is not in the file")
    text = text:gsub(from, (pair[2]:gsub("%%", "%%%%")))
  end
  return text
end

-- How each is run: file(dir, broker's port, own port) makes the configuration, and answers the command.
local PROXIES = {
  nginx = function(dir, broker, own)
    write(dir .. "/tidegate.conf", replaced(read(FOLDER .. "nginx.conf"),
      { { "127.0.0.1:8080", "127.0.0.1:" .. broker }, { "listen 80;", ("listen 127.0.0.1:%d;"):format(own) } }))
    local temp = {}
    for _, name in ipairs { "client_body", "proxy", "fastcgi", "uwsgi", "scgi" } do
      temp[#temp + 1] = ("%s_temp_path %s/%s;"):format(name, dir, name)
    end
    write(dir .. "/nginx.conf", ("daemon off; pid %s/pid; error_log stderr; events {} "):format(dir)
      .. ("http { access_log off; %s include %s/tidegate.conf; }"):format(table.concat(temp, " "), dir))
    return "/usr/sbin/nginx", { "-e", "stderr", "-c", dir .. "/nginx.conf" }
  end,
  haproxy = function(dir, broker, own)
    write(dir .. "/haproxy.cfg", replaced(read(FOLDER .. "haproxy.cfg"),
      { { "127.0.0.1:8080", "127.0.0.1:" .. broker }, { "bind :80", "bind 127.0.0.1:" .. own },
        { "/etc/haproxy/", FOLDER }, { "maxconn 20000", "maxconn 200" } }))
    return "/usr/sbin/haproxy", { "-db", "-f", dir .. "/haproxy.cfg" }
  end,
  caddy = function(dir, broker, own)
    write(dir .. "/Caddyfile", "{\n\tadmin off\n\tdefault_bind 127.0.0.1\n}\n" .. replaced(read(FOLDER .. "Caddyfile"),
      { { "127.0.0.1:8080", "127.0.0.1:" .. broker }, { "\n:80 {", ("\n:%d {"):format(own) } }))
    return "/usr/bin/caddy", { "run", "--adapter", "caddyfile", "--config", dir .. "/Caddyfile" }
  end,
  apache = function(dir, broker, own)
    local modules = {}
    for _, name in ipairs { "mpm_event", "authz_core", "mime", "proxy", "proxy_http", "proxy_balancer", "slotmem_shm",
      "lbmethod_byrequests", "headers", "rewrite", "alias", "unique_id" } do
      modules[#modules + 1] = ("LoadModule %s_module /usr/lib/apache2/modules/mod_%s.so\n"):format(name, name)
    end
    write(dir .. "/apache.conf", table.concat(modules) .. ([[
      ServerRoot %s
      DefaultRuntimeDir %s
      PidFile %s/pid
      ErrorLog %s/error.log
      ServerName localhost
      TypesConfig /dev/null
    ]]):format(dir, dir, dir, dir) .. replaced(read(FOLDER .. "apache.conf"), {
      { "127.0.0.1:8080", "127.0.0.1:" .. broker },
      { "127.0.0.1:8079", "127.0.0.1:" .. child.free_port() }, { "Listen 80", "Listen 127.0.0.1:" .. own },
      { "*:80>", "127.0.0.1:" .. own .. ">" }, { "/etc/apache2/", FOLDER } }))
    return "/usr/sbin/apache2", { "-DFOREGROUND", "-f", dir .. "/apache.conf" }
  end,
  varnish = function(dir, broker, own)
    write(dir .. "/default.vcl", replaced(read(FOLDER .. "varnish.vcl"), { { '"8080"', ('"%d"'):format(broker) } }))
    return "/usr/sbin/varnishd", { "-F", "-j", "none", "-n", dir .. "/varnish", "-f", dir .. "/default.vcl",
      "-a", "127.0.0.1:" .. own, "-s", "malloc,8m", "-p", "vcc_allow_inline_c=off" }
  end,
  h2o = function(dir, broker, own)
    write(dir .. "/h2o.conf", "num-threads: 1\n" .. replaced(read(FOLDER .. "h2o.conf"),
      { { "127.0.0.1:8080", "127.0.0.1:" .. broker }, { "user: nobody\n", "" },
        { "max-connections: 20000", "max-connections: 200" },
        { "port: 80", ("host: 127.0.0.1\n      port: %d"):format(own) } }))
    return "/usr/bin/h2o", { "-c", dir .. "/h2o.conf" }
  end,
}

describe("a stream behind a proxy of conf/proxies", function()
  local started = {}

  teardown(function()
    for _, proxy in ipairs(started) do
      proxy.process:stop()
      child.remove_tree(proxy.dir)
    end
  end)

  local function start(name, broker_port)
    local dir, port = child.directory(), child.free_port()
    local path, args = PROXIES[name](dir, broker_port, port)
    assert(uv.fs_chmod(dir, tonumber("777", 8)))
    local all = { "--pdeathsig", "TERM" }
    if uv.getuid() == 0 then
      table.move({ "--reuid=nobody", "--regid=nogroup", "--clear-groups" }, 1, 3, #all + 1, all)
    end
    all[#all + 1] = "--"
    all[#all + 1] = path
    table.move(args, 1, #args, #all + 1, all)
    local process = child.start(assert(child.find "setpriv"), all,
      { env = { HOME = dir, XDG_DATA_HOME = dir, XDG_CONFIG_HOME = dir } })
    return { name = name, dir = dir, process = process, target = { host = "127.0.0.1", port = port } }
  end

  it("gets events at once, outlives a broker that is away, and goes on exactly where it was", function()
    local port = child.free_port()
    local broker = tidegate.start { policy = POLICY, config = {
      listen = { "127.0.0.1:" .. port }, trusted_proxies = { "127.0.0.1" },
      http = { hosts = { "events.example" } }, sse = { refusal_hold_s = 0 } } }
    for name in pairs(PROXIES) do
      started[#started + 1] = start(name, port)
    end
    local function each(what, check, timeout)
      for _, proxy in ipairs(started) do
        eventually(proxy.name .. ": " .. what, function()
          for _, other in ipairs(started) do
            other.follower:step()
          end
          local f = proxy.follower
          return check(proxy), ("%d events, %d connects, last id %s\n%s"):format(#f.events, f.connects,
            tostring(f.last_id), proxy.process:errors():sub(-800))
        end, timeout)
      end
    end
    for _, proxy in ipairs(started) do
      eventually(proxy.name .. " listens", function()
        local c = http.connect(proxy.target)
        if c then
          c:close()
        end
        return c ~= nil, proxy.process:errors()
      end)
      -- the client sees the end of an answer by that of its connection
      proxy.follower = sse.follower(proxy.target, { topic = "t", headers = { Connection = "close" } })
    end
    each("is connected", function(proxy)
      local c = proxy.follower.client
      return c and c.status == 200 and #c.positions > 0
    end)

    broker:publish("t", "one")
    each("got what was published", function(proxy) return #proxy.follower.events == 1 end)
    for _, proxy in ipairs(started) do
      local r = http.post(proxy.target, "/events?topic=t", proxy.name)
      assert.equal(201, r.status, proxy.name)
      local of_broker = #r.headers["x-request-id"] == 16
      assert.equal(proxy.name == "varnish" or proxy.name == "h2o", of_broker, proxy.name .. ": who names the request")
      for _, method in ipairs { "GET", "POST" } do -- what a client says of itself is not passed on
        local denied = http.request(proxy.target, method, "/events?topic=t",
          { ["X-Ask"] = "1", ["X-Forwarded-Proto"] = "https" }, method == "POST" and "x" or nil)
        assert.equal(403, denied.status, proxy.name)
        assert.equal("http", denied.json.detail, proxy.name .. " " .. method)
      end
    end
    each("got what came through the others", function(proxy) return #proxy.follower.events == 1 + #started end)

    broker:stop()
    local back = eventually.now() + AWAY_S
    repeat -- step() fails for any status but 200
      for _, proxy in ipairs(started) do
        proxy.follower:step()
      end
      eventually.turn()
    until eventually.now() >= back
    for _, proxy in ipairs(started) do
      local r = http.post(proxy.target, "/events?topic=t", "lost")
      assert.is_true(r.status >= 502 and r.status <= 504, ("%s answers a publish with %d"):format(proxy.name, r.status))
    end
    broker:start()
    local last = broker:publish("t", "back")
    each("goes on", function(proxy) return proxy.follower.last_id == last end, 30)
    for _, proxy in ipairs(started) do
      local events = proxy.follower.events
      assert.equal(2 + #started, #events, proxy.name)
      for i = 2, #events do
        assert.is_true(tonumber(events[i].id) > tonumber(events[i - 1].id))
      end
      assert.equal("back", events[#events].data)
    end
  end)
end)
