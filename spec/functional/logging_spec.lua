-- Log lines: every one can be parsed, none holds a credential, foreign bytes forge nothing.
local http = require "support.http"
local json = require "dkjson"
local logfmt = require "support.logfmt"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

local POLICY = [[
  return {
    api = 1,
    authenticate = function(req)
      if req.query.fail == "authenticate" then error("refused " .. req.ip) end
      if not req.bearer and not req.cookies.sid and not req.query.token then
        return tg.deny(401, "who are you")
      end
      return { sub = "someone" }
    end,
    subscribe = function(req)
      if req.query.fail == "subscribe" then local x = nil; return x.y end
      log.info("subscribed\nlevel=error msg=forged", { path = req.path })
      log.warn('with "quotes" and \\ and \27[31m')
      return { topics = { "a" } }
    end,
    publish = function(pub) return pub end,
  }
]]

describe("the log", function()
  it("holds no credential, at any level", function()
    local broker = tidegate.start { policy = POLICY, config = { log = { level = "debug" },
      policy = { error_log_interval_s = 0 } } }
    local secrets = {
      { headers = { Authorization = "Bearer SECRET-bearer" } },
      { headers = { Authorization = "Basic U0VDUkVU" } },
      { headers = { Cookie = "sid=SECRET-cookie; other=SECRET-other" } },
      { query = { token = "SECRET-token" } },
      { query = { access_token = "SECRET-access" } },
      { headers = { ["X-Api-Key"] = "SECRET-key" }, query = { token = "SECRET-2" } },
      { headers = { ["Proxy-Authorization"] = "SECRET-proxy" } },
      { headers = { Authorization = "Bearer SECRET-bearer" }, query = { fail = "subscribe", jwt = "SECRET-jwt" } },
      { headers = { Cookie = "sid=SECRET-cookie" }, query = { fail = "authenticate" } },
      { headers = { Authorization = "Bearer SECRET-bearer", Accept = "text/html" } },
      { headers = { Authorization = "Bearer SECRET-bearer" }, last_event_id = "nonsense", path = "/nothing" },
    }
    for _, options in ipairs(secrets) do
      local c = sse.request(broker, options)
      c:close()
      http.post(broker, "/events?topic=a&" .. http.query(options.query or {}), "SECRET-body", options.headers)
    end
    -- malformed requests are logged, too
    for _, bytes in ipairs {
      "GET /events?token=SECRET-target HTTP/1.1\r\nAuthorization: Bearer SECRET-x\r\n\r\n",
      "GET /events HTTP/1.1\r\nHost: a\r\nAuthorization : Bearer SECRET-y\r\n\r\n",
      "GET /events?token=SECRET-" .. ("z"):rep(20000),
      "SECRET\1 / HTTP/1.1\r\n\r\n",
      "POST /events?topic=a HTTP/1.1\r\nHost: a\r\nCookie: SECRET\r\nContent-Length: x\r\n\r\nSECRET",
    } do
      local c = http.connect(broker)
      c:send(bytes)
      c:response()
      c:close()
    end
    http.get(broker.admin, "/connections")
    broker:stop()
    local log = broker:log()
    local at = log:find("SECRET", 1, true) or log:find("U0VDUkVU", 1, true)
    assert.is_nil(at, at and log:sub(math.max(1, at - 300), at + 100))
    assert.is_true(#broker:log_lines() > 10)
  end)

  it("is logfmt: time, level, subsystem and message in every line", function()
    local broker = tidegate.start { policy = POLICY, config = { log = { level = "debug" } } }
    sse.open(broker, { headers = { Authorization = "Bearer x" } })
    sse.request(broker, { query = { token = "x", fail = "subscribe" } }):close()
    sse.request(broker, { query = { token = "\"\n\27[31m level=error" }, last_event_id = "\" x=y" }):close()
    http.post(broker, "/events?topic=%0Amsg=forged", "x", { Authorization = "Bearer x" })
    http.get(broker, "/\"%0Alevel=error")
    broker:stop()
    local n = 0
    for line in broker:log():gmatch "([^\n]*)\n" do
      local fields, why = logfmt.parse(line)
      assert(fields, ("%s: %s"):format(why, line))
      assert.matches("^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ$", fields.ts)
      assert.matches("^[a-z]+$", fields.level)
      assert.is_true(fields.level ~= "error" or fields.sub == "policy", line)
      assert.is_true(fields.msg ~= "forged", line)
      assert.is_string(fields.sub)
      assert.is_string(fields.msg)
      n = n + 1
    end
    assert.is_true(n > 5)
    assert.equal("", (broker:log():gsub("[^\n]*\n", "")))
  end)

  it("holds nothing that a terminal obeys, and is UTF-8, whatever clients send", function()
    local broker = tidegate.start { policy = [[
      return {
        api = 1,
        authenticate = function(req)
          local long = { a = ("\u{1F600}"):rep(1000) }
          for i = 0, 3 do log.warn(("x"):rep(i), long) end -- the cut falls on each byte of a character
          error("bad: " .. req.query.x .. (req.query.raw and "\xff\xc2\x9b\x9b31m" or ""))
        end,
        subscribe = function() return nil end,
      }
    ]], config = { policy = { error_log_interval_s = 0 } } }
    local hostile = "\u{9b}31m\27[31m\u{85}\u{202e}\u{2066}\u{2069}\u{200f}\u{61c}\u{2028}\u{feff}\127"
    sse.request(broker, { query = { x = hostile .. "plain\u{e9}\u{4e2d}\u{1F600}" } }):close()
    sse.request(broker, { query = { x = "a", raw = "1" } }):close()
    broker:stop()
    local log = broker:log()
    assert.is_number(utf8.len(log), "it is UTF-8")
    for _, code in utf8.codes(log) do
      local function within(first, last) return code >= first and code <= last end
      local control = (code < 32 and code ~= 10) or within(127, 159) or code == 0x61c or code == 0xfeff
        or within(0x200e, 0x200f) or within(0x2028, 0x202e) or within(0x2066, 0x2069)
      assert.is_false(control, ("U+%04X"):format(code))
    end
    for _, text in ipairs { [[\xc2\x9b31m\x1b[31m\xc2\x85\xe2\x80\xae\xe2\x81\xa6]], "plain\u{e9}\u{4e2d}\u{1F600}",
      [[\xff\xc2\x9b\x9b31m]] } do
      assert.truthy(log:find(text, 1, true), text)
    end
  end)

  it("tells what a policy logs, with its file and line", function()
    local broker = tidegate.start { policy = POLICY }
    sse.open(broker, { headers = { Authorization = "Bearer x" } })
    local found = 0
    for _, line in ipairs(broker:log_lines()) do
      if (line.text or line.msg):find("subscribed\nlevel=error msg=forged", 1, true) then
        found = found + 1
      end
    end
    assert.equal(1, found, broker:log())
  end)

  it("is quiet: publishing writes no line", function()
    local broker = tidegate.start()
    local before = #broker:log_lines()
    for _ = 1, 50 do
      broker:publish("a", "x")
    end
    assert.equal(before, #broker:log_lines(), broker:log())
  end)
end)

describe("the log as JSON", function()
  it("has one object a line, with the keys of the other format", function()
    local broker = tidegate.start { policy = POLICY, config = { listen = { "unix:@DIR/public" },
      admin = "unix:@DIR/admin", log = { format = "json", level = "debug" }, policy = { error_log_interval_s = 0 } } }
    local at = { unix = broker.dir .. "/public" }
    http.get(at, "/events?topic=**&fail=subscribe&token=x", { Accept = "text/event-stream" })
    http.get(at, "/" .. ("%C3%A4%22%5C%0A%FF"):rep(900), { Authorization = "Bearer x" })
    http.get(at, "/events?fail=authenticate", { Accept = "text/event-stream" })
    local n, seen = 0, {}
    for line in broker:log():gmatch "([^\n]*)\n" do
      local o, _, why = json.decode(line)
      assert.is_table(o, ("%s: %s"):format(why, line))
      assert.matches("^%d+%-%d+%-%d+T%d+:%d+:%d+%.%d+Z$", o.ts)
      assert.is_string(o.level)
      assert.is_string(o.sub)
      seen[o.msg] = o
      n = n + 1
    end
    assert.is_true(n > 3)
    assert.is_string(seen.ready.version)
    assert.is_number(seen.ready.head)
  end)
end)
