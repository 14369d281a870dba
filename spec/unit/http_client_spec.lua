-- net/http_client against servers that keep the rules, and against servers that do not.
local child = require "support.child"
local eventually = require "support.eventually"
local http_client = require "native.http_client"
local http_server = require "support.http_server"
local uv = require "luv"

describe("the outbound HTTP client", function()
  local client, server

  local function serve(respond)
    server = http_server.start(respond)
    return server
  end

  local function new(options)
    client = http_client.new(options or {})
    return client
  end

  -- Runs both loops until `n` requests are complete; all completions so far.
  local function done(n)
    return eventually(n .. " completions", function()
      local all = client:turn()
      return #all >= n and all, #all
    end)
  end

  local function ask(request)
    local before = #client:turn()
    local token, code, text = client:start(request)
    assert(token, ("%s: %s"):format(code, text))
    return done(before + 1)[before + 1]
  end

  -- Turns the loops a few times more: nothing may come.
  local function settle()
    for _ = 1, 20 do
      client:turn()
      eventually.turn(0.001)
    end
    return client:turn()
  end

  after_each(function()
    if client then
      assert.equal(0, client:close())
    end
    if server then
      server:stop()
    end
    client, server = nil, nil
  end)

  describe("with a server that keeps the rules", function()
    it("gets", function()
      new()
      serve(function(_, c)
        http_server.answer(c, { body = "hello\0\xff", headers = { ["X-Test"] = "  a b " } })
      end)
      local r = ask { url = server.url .. "/a/b?c=d", headers = { { "Authorization", "Bearer x" }, { "X-Empty", "" } } }
      assert.same({ token = 1, status = 200, body = "hello\0\xff", test = "a b" }, r)
      local asked = server.requests[1]
      assert.equal("GET", asked.method)
      assert.equal("/a/b?c=d", asked.target)
      assert.equal("Bearer x", asked.headers.authorization)
      assert.equal("", asked.headers["x-empty"])
      assert.equal("127.0.0.1:" .. server.port, asked.headers.host)
      assert.matches("^tidegate/", asked.headers["user-agent"])
      assert.is_nil(asked.headers["accept-encoding"])
      assert.is_nil(asked.headers.expect)
    end)

    it("posts, small and large, without waiting for 100-continue", function()
      new()
      serve(function(request, c)
        http_server.answer(c, { status = 201, body = tostring(#request.body) })
      end)
      local r = ask { url = server.url, post = true, body = "{}", headers = { { "Content-Type", "application/json" } } }
      assert.equal(201, r.status)
      assert.equal("2", r.body)
      assert.equal("application/json", server.requests[1].headers["content-type"])
      local large = ("x"):rep(2 * 1024 * 1024)
      assert.equal(tostring(#large), ask({ url = server.url, post = true, body = large }).body)
      assert.equal(large, server.requests[2].body)
      assert.is_nil(server.requests[2].headers.expect)
      assert.is_nil(server.requests[2].headers["content-type"])
      assert.equal("0", ask({ url = server.url, post = true }).body)
    end)

    it("takes every complete answer as one, and follows no redirect", function()
      new()
      local other = http_server.start(function(_, c)
        http_server.answer(c, { body = "secret" })
      end)
      serve(function(request, c)
        local status = tonumber(request.target:sub(2))
        http_server.answer(c, { status = status, headers = { Location = other.url .. "/" } })
      end)
      for _, status in ipairs { 301, 302, 303, 307, 308, 404, 500, 503 } do
        local r = ask { url = ("%s/%d"):format(server.url, status) }
        assert.equal(status, r.status)
        assert.equal("", r.body)
      end
      assert.same({}, other.requests)
      other:stop()
    end)

    it("reads chunked bodies, and skips interim answers with their headers", function()
      new()
      serve(function(_, c)
        c:write "HTTP/1.1 103 Early\r\nX-Test: early\r\n\r\n"
        c:write "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
      end)
      local r = ask { url = server.url }
      assert.equal("abcde", r.body)
      assert.is_nil(r.test)
    end)

    it("keeps a connection for the next request, and gets over one that was closed meanwhile", function()
      new()
      serve(function(_, c)
        http_server.answer(c, { body = "x" })
      end)
      assert.equal(200, ask({ url = server.url }).status)
      assert.equal(200, ask({ url = server.url }).status)
      assert.equal(1, server.connections)
      server:hang_up()
      eventually.turn()
      assert.equal(200, ask({ url = server.url }).status)
      assert.equal(2, server.connections)
    end)

    it("keeps no more idle connections than it may", function()
      new { max_active = 6, max_idle = 2 }
      local waiting = {}
      serve(function(_, c)
        waiting[#waiting + 1] = c
        if #waiting == 6 then
          for _, one in ipairs(waiting) do
            http_server.answer(one, { body = "x" })
          end
        end
      end)
      for _ = 1, 6 do
        assert(client:start { url = server.url })
      end
      done(6)
      eventually("the others are closed", function()
        client:turn()
        return server:open() <= 2
      end)
    end)
  end)

  describe("with a server that does not", function()
    local function fails(code, respond, request)
      new()
      serve(respond)
      request = request or {}
      request.url = server.url
      local r = ask(request)
      assert.equal(code, r.error)
      assert.is_string(r.text)
      assert.is_nil(r.status)
      settle()
      return r
    end

    it("gives up when it never answers", function()
      fails("ETIMEDOUT", function() end, { timeout_ms = 50 })
      eventually("the connection is closed", function()
        client:turn()
        return server:open() == 0
      end)
    end)

    it("gives up when it drips", function()
      local drip
      fails("ETIMEDOUT", function(_, c)
        c:write "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
        drip = uv.new_timer()
        drip:start(1, 5, function()
          if not c:is_closing() then
            c:write "x"
          end
        end)
      end, { timeout_ms = 100 })
      drip:close()
    end)

    it("refuses a body that says it is too large before it comes", function()
      fails("EMSGSIZE", function(_, c)
        c:write "HTTP/1.1 200 OK\r\nContent-Length: 100001\r\n\r\n"
      end)
    end)

    it("refuses a body that turns out to be too large", function()
      fails("EMSGSIZE", function(_, c)
        c:write("HTTP/1.1 200 OK\r\n\r\n" .. ("x"):rep(100001))
      end)
    end)

    it("takes a body of just the size that is allowed", function()
      new()
      serve(function(_, c)
        http_server.answer(c, { body = ("x"):rep(100000) })
      end)
      assert.equal(100000, #ask({ url = server.url }).body)
    end)

    it("refuses a head without end", function()
      fails("EMSGSIZE", function(_, c)
        c:write("HTTP/1.1 200 OK\r\n" .. ("X-Test: " .. ("x"):rep(1000) .. "\r\n"):rep(40))
      end)
    end)

    it("sees an answer that breaks off", function()
      fails("ECONNRESET", function(_, c)
        c:write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", function()
          c:close()
        end)
      end)
    end)

    it("sees a chunked answer that breaks off", function()
      fails("ECONNRESET", function(_, c)
        c:write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", function()
          c:close()
        end)
      end)
    end)

    it("refuses chunks that are none", function()
      local r = fails("ECONNRESET", function(_, c)
        c:write "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nab\r\n0\r\n\r\n"
      end)
      assert.matches("chunk", r.text)
    end)

    it("refuses what is not HTTP", function()
      fails("EPROTO", function(_, c)
        c:write "SSH-2.0-OpenSSH_9.2\r\n"
      end)
    end)

    it("refuses a negative length", function()
      fails("EPROTO", function(_, c)
        c:write "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"
      end)
    end)

    it("gives up when it hangs up at once, every time", function()
      fails("ECONNRESET", function(_, c)
        c:close()
      end)
    end)

    it("says so when nobody listens", function()
      new()
      local r = ask { url = ("http://127.0.0.1:%d/"):format(child.free_port()) }
      assert.equal("ENOTCONN", r.error)
      assert.matches("127.0.0.1", r.text)
    end)

    it("says so when there is no such name, without holding the loop up", function()
      new()
      local r = ask { url = "http://nosuch.invalid/", timeout_ms = 5000 }
      assert.is_true(r.error == "ENOTCONN" or r.error == "ETIMEDOUT", r.error)
    end)
  end)

  describe("with TLS", function()
    local dir, listener

    local function certificate(name, san)
      local p = child.start("/usr/bin/openssl", { "req", "-x509", "-newkey", "ec", "-pkeyopt",
        "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=" .. name, "-addext",
        "subjectAltName=" .. san, "-keyout", ("%s/%s.key"):format(dir, name), "-out",
        ("%s/%s.pem"):format(dir, name) })
      local code, why = p:wait(), p:errors()
      p:stop()
      assert.equal(0, code, why)
    end

    local function listen(name, ...)
      listener = child.start("/usr/bin/openssl", { "s_server", "-accept", "127.0.0.1:0", "-www", "-cert",
        ("%s/%s.pem"):format(dir, name), "-key", ("%s/%s.key"):format(dir, name), ... })
      local port = eventually("openssl listens", function()
        return listener:output():match "ACCEPT 127%.0%.0%.1:(%d+)"
      end)
      return ("https://127.0.0.1:%s/"):format(port)
    end

    before_each(function()
      dir = child.directory()
      new()
    end)

    after_each(function()
      if listener then
        listener:stop()
      end
      child.remove_tree(dir)
      listener = nil
    end)

    it("trusts the authority it is given, and only that", function()
      certificate("good", "IP:127.0.0.1")
      certificate("other", "IP:127.0.0.1")
      local url = listen "good"
      assert.equal(200, ask({ url = url, ca_file = dir .. "/good.pem" }).status)
      assert.equal("EACCES", ask({ url = url }).error)
      assert.equal("EACCES", ask({ url = url, ca_file = dir .. "/other.pem" }).error)
      assert.equal("EACCES", ask({ url = url, ca_file = dir .. "/none.pem" }).error)
      assert.equal(200, ask({ url = url, ca_file = dir .. "/good.pem" }).status)
    end)

    it("refuses a certificate of another name", function()
      certificate("else", "DNS:else.example")
      assert.equal("EACCES", ask({ url = listen "else", ca_file = dir .. "/else.pem" }).error)
    end)

    it("refuses what is older than TLS 1.2", function()
      certificate("old", "IP:127.0.0.1")
      local url = listen("old", "-tls1_1", "-cipher", "ALL:@SECLEVEL=0")
      assert.equal("EACCES", ask({ url = url, ca_file = dir .. "/old.pem" }).error)
    end)
  end)

  describe("between start and completion", function()
    local held

    local function hold()
      held = {}
      serve(function(_, c)
        held[#held + 1] = c
      end)
    end

    it("puts no more on the wire than it may, and refuses what does not fit the queue", function()
      new { max_active = 2, max_queued = 3 }
      hold()
      for _ = 1, 5 do
        assert(client:start { url = server.url })
      end
      local _, code = client:start { url = server.url }
      assert.equal("EAGAIN", code)
      assert.equal(1, client:metric "http_client_shed")
      eventually("two are asked", function()
        client:turn()
        return #held == 2
      end)
      settle()
      assert.equal(2, #server.requests)
      assert.equal(2, client:metric "http_client_active")
      assert.equal(3, client:metric "http_client_queued")
      for i = 1, 5 do
        eventually("the next is asked", function()
          client:turn()
          return held[i]
        end)
        http_server.answer(held[i], { body = tostring(i) })
      end
      local tokens = {}
      for i, r in ipairs(done(5)) do
        tokens[i] = r.token
        assert.equal(200, r.status)
      end
      table.sort(tokens)
      assert.same({ 1, 2, 3, 4, 5 }, tokens)
      assert.equal(0, client:metric "http_client_active")
      assert.equal(0, client:metric "http_client_queued")
    end)

    it("counts waiting as time", function()
      new { max_active = 1 }
      hold()
      assert(client:start { url = server.url })
      local r = ask { url = server.url, timeout_ms = 50 }
      assert.equal(2, r.token)
      assert.equal("ETIMEDOUT", r.error)
      assert.equal(1, client:metric "http_client_active")
      assert.equal(0, client:metric "http_client_queued")
    end)

    it("forgets what is cancelled: waiting, asked, or answered but not delivered", function()
      new { max_active = 1 }
      hold()
      local asked = assert(client:start { url = server.url })
      local waiting = assert(client:start { url = server.url })
      local kept = assert(client:start { url = server.url })
      eventually("the first is asked", function()
        client:turn()
        return #held == 1
      end)
      client:cancel(waiting)
      client:cancel(asked)
      eventually("its connection is closed, and the third is asked", function()
        client:turn()
        return server:open() == 1 and #held == 2
      end)
      http_server.answer(held[2], { body = "x" })
      assert.equal(kept, done(1)[1].token)
      client:cancel(kept)
      client:cancel(asked)
      settle()
      assert.equal(1, #client:turn())
    end)

    it("lets a completion cancel another one", function()
      new()
      hold()
      assert(client:start { url = server.url, timeout_ms = 30 })
      local second = assert(client:start { url = server.url, timeout_ms = 30 })
      client:cancel_next(second)
      done(1)
      assert.same({ 1 }, { settle()[1].token })
      assert.equal(1, #client:turn())
    end)

    it("completes everything when it is closed, and leaves nothing open", function()
      new { max_active = 2 }
      hold()
      for _ = 1, 5 do
        assert(client:start { url = server.url })
      end
      eventually("two are asked", function()
        client:turn()
        return #held == 2
      end)
      assert.equal(0, client:close())
      local all = client:turn()
      assert.equal(5, #all)
      for _, r in ipairs(all) do
        assert.equal("ECANCELED", r.error)
      end
    end)

    it("survives a storm of requests that are cancelled at random", function()
      new { max_active = 8, max_queued = 100, max_idle = 3 }
      serve(function(request, c)
        if math.random() < 0.2 then
          c:close()
        else
          http_server.answer(c, { body = request.target })
        end
      end)
      local open, ended = {}, 0
      for i = 1, 1000 do
        local token = client:start { url = ("%s/%d"):format(server.url, i) }
        open[#open + 1] = token
        if #open > 0 and math.random() < 0.3 then
          client:cancel(table.remove(open, math.random(#open)))
        end
        if i % 10 == 0 then
          client:turn()
          eventually.turn(0)
        end
      end
      eventually("all is quiet", function()
        ended = #client:turn()
        return client:metric "http_client_active" == 0 and client:metric "http_client_queued" == 0
      end)
      assert.is_true(ended > 0)
      for _, r in ipairs(client:turn()) do
        assert.is_true(r.error == "ECONNRESET" or r.body == "/" .. r.body:sub(2))
      end
    end)
  end)

  describe("refuses to ask", function()
    it("anything but http and https with a host and without secrets", function()
      for _, url in ipairs { "http://a/", "https://a.example:8443/x?y=z", "http://[::1]:1/", "HTTP://a" } do
        assert.is_true(http_client.check_url(url), url)
      end
      for _, url in ipairs { "", "a", "/x", "//a/b", "ftp://a/", "file:///etc/passwd", "gopher://a/", "http://",
        "http://u:p@a/", "http://u@a/", "http://a/#b", "http://a /", "http://a/\r\nX: y", "http://a:99999/",
        "http://a/\xc3\xa4", "javascript:x", "unix:/x", "http:///x", "http://a\\b" } do
        local ok, why = http_client.check_url(url)
        assert.is_nil(ok, url)
        assert.is_string(why)
      end
    end)

    it("with headers that would break the message", function()
      new()
      for _, header in ipairs { { "", "x" }, { "a b", "x" }, { "a:", "x" }, { "a\r\nb", "x" }, { "a", "x\r\ny: z" },
        { "a", "x\0y" }, { "a", "x\ny" }, { "Content-Length", "5" }, { "transfer-encoding", "chunked" },
        { "Host", "other" }, { "Connection", "close" }, { "Expect", "100-continue" } } do
        local token, code, text = client:start { url = "http://127.0.0.1:1/", headers = { header } }
        assert.is_nil(token)
        assert.equal("EINVAL", code)
        assert.is_string(text)
      end
      assert.equal(0, #settle())
    end)

    it("in no time", function()
      new()
      local _, code = client:start { url = "http://127.0.0.1:1/", timeout_ms = 0 }
      assert.equal("ETIMEDOUT", code)
    end)
  end)

  it("ignores proxies of the environment", function()
    local proxy = http_server.start(function(_, c)
      http_server.answer(c, { body = "proxy" })
    end)
    uv.os_setenv("http_proxy", proxy.url)
    uv.os_setenv("ALL_PROXY", proxy.url)
    new()
    serve(function(_, c)
      http_server.answer(c, { body = "server" })
    end)
    local r = ask { url = server.url }
    uv.os_unsetenv "http_proxy"
    uv.os_unsetenv "ALL_PROXY"
    proxy:stop()
    assert.equal("server", r.body)
  end)
end)
