local config = require "native.config"
local config_schema = require "config_schema"
local schema = require "schema"

local EINVAL, EFAULT = -22, -14
local POLICY = { ["policy.file"] = '"p.lua"' } -- the one required setting

-- The tests write each configuration into the same file.
local path = os.tmpname()

local function write(text)
  local file <close> = assert(io.open(path, "w"))
  assert(file:write(text))
end

local function load(text, overrides)
  write(text)
  return config.load(path, overrides)
end

-- The problems as a list of lines, in which "FILE" stands for the path. Settings are without their place, unless
-- `placed`.
local function problems_of(text, overrides, placed)
  local settings, problems, rc = load(text, overrides)
  assert.is_nil(settings)
  assert.equal(EINVAL, rc)
  local lines = {}
  for line in problems:gmatch "([^\n]*)\n" do
    local from, to = line:find(path, 1, true)
    line = from and line:sub(1, from - 1) .. "FILE" .. line:sub(to + 1) or line
    local setting = line:match "^FILE:%d+: (%l[%w_]*[.:%[].*)$" or line:match "^FILE:%d+: (top level: .*)$"
    lines[#lines + 1] = not placed and setting or line
  end
  return lines
end

-- { ["a.b"] = "1", ["a.m.x.c"] = "2", d = "3" } -> "return { a = { b = 1, m = { x = { c = 2 } } }, d = 3 }"
local function render(settings)
  local root = {}
  for key, literal in pairs(settings) do
    local at = root
    for section in key:gmatch "([%w_]+)%." do
      at[section] = at[section] or {}
      at = at[section]
    end
    at[key:match "[%w_]+$"] = literal
  end
  local function text_of(node)
    if type(node) == "string" then
      return node
    end
    local items = {}
    for name, child in pairs(node) do
      items[#items + 1] = name .. " = " .. text_of(child)
    end
    return "{ " .. table.concat(items, ", ") .. " }"
  end
  return "return " .. text_of(root)
end

local function with(changes)
  local settings = {}
  for _, from in ipairs { POLICY, changes } do
    for key, literal in pairs(from) do
      settings[key] = literal
    end
  end
  return render(settings)
end

-- Other problems may stand beside it: an entry may lack what it must have.
local function assert_line(wanted, lines)
  assert.truthy(("\n" .. table.concat(lines, "\n") .. "\n"):find("\n" .. wanted .. "\n", 1, true),
    wanted .. "\nis not in\n" .. table.concat(lines, "\n"))
end

describe("configuration", function()
  teardown(function()
    os.remove(path)
  end)

  it("needs nothing but a policy", function()
    local c = assert(load 'return { policy = { file = "p.lua" } }')
    assert.same({ "127.0.0.1:8080" }, c.listen)
    assert.equal("127.0.0.1:8081", c.admin)
    assert.equal(15, c.heartbeat_s)
    assert.equal(604800, c.retain_age_s)
    assert.equal("close", c.on_lag)
    assert.equal("event", c.prime)
    assert.equal(10, c.drain_timeout_s)
    assert.equal(0, c.cors_origins)
    assert.is_true(c.page)
  end)

  it("takes what is given", function()
    local c = assert(load [[
      local second = 1
      return {
        listen = { "[::1]:0", "unix:/run/t.sock", "0.0.0.0:80" }, admin = false,
        http = { page = false, cors_origins = { "https://app.example", "http://localhost:3000" } },
        sse = { heartbeat_s = 30 * second, on_lag = "skip" }, policy = { file = "/x/p.lua" },
      }]])
    assert.same({ "[::1]:0", "unix:/run/t.sock", "0.0.0.0:80" }, c.listen)
    assert.is_nil(c.admin)
    assert.is_false(c.page)
    assert.equal(2, c.cors_origins)
    assert.equal(30, c.heartbeat_s)
    assert.equal("skip", c.on_lag)
    assert.equal("/x/p.lua", c.policy_file)
  end)

  describe("of every key", function()
    local function range(field)
      local text = ("an integer from %d to %d (%s)"):format(field.min, field.max, field.unit)
      return field.words and text .. ', or "auto"' or text
    end

    -- what the message says is expected; spelled out here, so that a change of the wording is noticed
    local function of_choices(choices)
      local quoted = '"' .. table.concat(choices, '", "') .. '"'
      return (quoted:gsub(', ("[^"]*")$', " or %1"))
    end

    local function expected(field)
      if field.kind == "integer" then
        return range(field)
      elseif field.kind == "boolean" then
        return "true or false"
      elseif field.kind == "list" then
        return ("a list of %d to %d texts, each %s"):format(field.min or 0, field.max,
          field.of.expect or of_choices(field.of.choices))
      elseif field.kind == "map" then
        return ("a table of at most %d entries NAME = { ... }"):format(field.max or 64)
      elseif field.kind == "values" then
        return ("a table of at most %d entries NAME = VALUE"):format(field.max)
      elseif field.kind == "array" then
        return ("a list of %d to %d, each %s"):format(field.min or 0, field.max or 64, field.expect)
      elseif field.choices then
        return of_choices(field.choices)
      end
      return field.expect .. (field.off and ", or false" or "")
    end

    for _, leaf in ipairs(schema.leaves(config_schema.fields)) do
      local key, field = leaf.path, leaf.field

      it(key .. " has a doc, and a default that is right", function()
        assert.truthy(field.doc and #field.doc > 10)
        assert.truthy(field.required or field.default ~= nil or field.kind == "map")
      end)

      it(key .. " of a wrong type", function()
        local wrong = field.kind == "boolean" and '"yes"' or field.kind == "integer" and '"5"' or "12"
        assert.same({ ("%s: expected %s, found %s"):format(key, expected(field), wrong) },
          problems_of(with { [key] = wrong }))
        assert.same({ ("%s: expected %s, found a function"):format(key, expected(field)) },
          problems_of(with { [key] = "function() end" }))
      end)

      it(key .. " with a typo", function()
        local section, name = key:match "^(.-)([%w_]+)$"
        local typo = section .. name:sub(1, -2) .. "x"
        if #name > 4 then
          local last = problems_of(with { [typo] = "1" })
          assert.truthy(last[1]:find(typo .. ': unknown key; did you mean "', 1, true), last[1])
          assert.equal(1, #last)
        end
        local problems = problems_of(with { [section .. "qqqqqqqq"] = "1" })
        assert.equal(1, #problems)
        assert.equal(section .. "qqqqqqqq: unknown key; ", problems[1]:match "^.-; ")
        assert.truthy(problems[1]:find "known here: [%l_]" or problems[1]:find "config%-reference", problems[1])
      end)

      if field.kind == "integer" then
        it(key .. " out of range", function()
          for _, bad in ipairs { field.min - 1, field.max + 1 } do
            assert.same({ ("%s: expected %s, found %d"):format(key, range(field), bad) },
              problems_of(with { [key] = tostring(bad) }))
          end
          assert.same({ ("%s: expected %s, found 0.5"):format(key, range(field)) }, problems_of(with { [key] = "0.5" }))
        end)
      elseif field.kind == "map" then
        for _, inner in ipairs(field.fields) do
          local inner_key = ("%s.x.%s"):format(key, inner.name)
          it(inner_key .. " has a doc, a default that is right, and a type", function()
            assert.truthy(inner.doc and #inner.doc > 10)
            assert.truthy(inner.required or inner.default ~= nil)
            local problems = problems_of(with { [inner_key] = "function() end" })
            assert_line(("%s: expected %s, found a function"):format(inner_key, expected(inner)), problems)
            local typo = inner_key .. "_"
            assert_line(('%s: unknown key; did you mean "%s"?'):format(typo, inner.name),
              problems_of(with { [typo] = "1" }))
          end)
        end
      elseif field.kind == "text" then
        it(key .. " empty or over-long", function()
          for _, bad in ipairs { "", ("y"):rep(4097) } do
            local found = problems_of(with { [key] = ('"%s"'):format(bad) })
            assert.equal(1, #found)
            assert.truthy(found[1]:find(("%s: expected %s, found"):format(key, expected(field)), 1, true), found[1])
          end
        end)
      end
    end
  end)

  describe("whose settings contradict one another", function()
    local cases = {
      { { ["sse.position_event"] = '"gap"' },
        "sse.position_event: is the name of sse.gap_event, too: choose another one" },
      { { ["sse.revoked_event"] = '"position"' },
        "sse.position_event: is the name of sse.revoked_event, too: choose another one" },
      { { ["sse.end_event"] = '"position"' },
        "sse.end_event: is the name of sse.position_event, too: choose another one" },
      { { ["sse.heartbeat_s"] = "60" }, "sse.dead_peer_s: expected more than sse.heartbeat_s (60), found 60" },
      { { ["event_log.page_bytes"] = "4096" },
        "event_log.page_bytes: expected at least sse.turn_bytes (262144), found 4096" },
      { { ["event_log.page_cache_bytes"] = "1" },
        "event_log.page_cache_bytes: expected 0, or at least event_log.page_bytes (1048576), found 1" },
      { { ["event_log.max_bytes"] = "65536" },
        "event_log.max_bytes: expected at least limits.event_bytes (1048576), found 65536" },
      { { ["limits.body_bytes"] = "1024" },
        "limits.body_bytes: expected at least limits.event_bytes (1048576), found 1024" },
      { { ["limits.head_bytes"] = "1024" },
        "limits.head_bytes: expected at least limits.target_bytes (8192), found 1024" },
      { { ["store.max_queue_events"] = "999" },
        "store.max_queue_events: expected at least limits.batch_events (1000), found 999" },
      { { ["store.max_queue_bytes"] = "65536" },
        "store.max_queue_bytes: expected at least limits.body_bytes (8388608), found 65536" },
      { { ["http.events_path"] = '"/"' },
        'http.events_path: is "/", where the try-out page is: choose another path, or set http.page = false' },
      { { ["http.cors_origins"] = '{ "*", "https://a.example" }' },
        'http.cors_origins: "*" means every origin and must stand alone' },
      { { ["http.cors_origins"] = '{ "*" }', ["http.cors_credentials"] = "true" },
        'http.cors_credentials: cannot be true while http.cors_origins is { "*" }: list the origins instead' },
    }
    for _, case in ipairs(cases) do
      it(case[2], function()
        assert.same({ case[2] }, problems_of(with(case[1])))
      end)
    end

    it("is fine where a zero means none", function()
      assert.truthy(load(with { ["event_log.page_cache_bytes"] = "0" }))
      assert.truthy(load(with { ["http.events_path"] = '"/"', ["http.page"] = "false" }))
    end)
  end)

  describe("of an open broker", function()
    local refusal = 'policy.auth = "open" admits every client, and other machines can reach this address: '
      .. 'listen on 127.0.0.1, or give the policy an authenticate hook and set policy.auth = "policy", '
      .. "or set policy.allow_open_public = true if it is meant to be public"
    local open = { ["policy.auth"] = '"open"' }

    it("is local unless it says that public is meant", function()
      assert.truthy(load(with(open)))
      assert.truthy(load(with { ["policy.auth"] = '"open"', listen = '{ "[::1]:1", "127.9.9.9:1", "unix:/x" }' }))
      for _, address in ipairs { "0.0.0.0:80", "[::]:80", "192.0.2.1:80", "[::ffff:192.0.2.1]:80" } do
        local settings = { ["policy.auth"] = '"open"', listen = ('{ "127.0.0.1:1", "%s" }'):format(address) }
        assert.same({ "listen: " .. refusal }, problems_of(with(settings)))
        settings["policy.allow_open_public"] = "true"
        assert.truthy(load(with(settings)))
        settings["policy.allow_open_public"], settings["policy.auth"] = nil, nil
        assert.truthy(load(with(settings)))
      end
    end)

    it("is told what to do where only the service manager knows the address", function()
      local problem = problems_of(with { ["policy.auth"] = '"open"', listen = '{ "systemd:public" }' })[1]
      assert.matches('^listen: policy.auth = "open" admits every client, and only the service manager knows where '
        .. 'the socket "systemd:public" listens: set policy.allow_open_public = true if', problem)
    end)

    it("cannot be made public by an option either", function()
      assert.same({ "--listen: " .. refusal }, problems_of(with(open), { listen = { "0.0.0.0:80" } }))
      assert.truthy(load(with { ["policy.auth"] = '"open"', listen = '{ "0.0.0.0:80" }' }, { listen = { "[::1]:1" } }))
    end)
  end)

  it("tells what is wrong with a listener, and where", function()
    local certificate = '{ cert = "c", key = "k" }'
    local NO_TLS = "has no effect: this listener has no tls; give it certificates "
      .. "(tls = { { cert = ..., key = ... } }), or remove this"
    for text, problem in pairs {
      ['{ {} }'] = 'listen[1].address: is required: expected "HOST:PORT", "[IPV6]:PORT" or "unix:/path"',
      ['{ { address = "x" } }'] = 'listen[1].address: "x": expected IPV4:PORT, [IPV6]:PORT or unix:/PATH '
        .. "(all addresses: 0.0.0.0:PORT, [::]:PORT)",
      ['{ 5 }'] = 'listen[1]: expected "HOST:PORT", "[IPV6]:PORT" or "unix:/path", found 5',
      ['{ "[::1]:1", { address = "[::1]:2", tsl = {} } }'] = 'listen[2].tsl: unknown key; did you mean "tls"?',
      ['{ { address = "[::1]:2", tls = { { cert = "c" } } } }'] =
        "listen[1].tls[1].key: is required: expected the path of a file",
      ['{ { address = "[::1]:2", tls = { "c" } } }'] = 'listen[1].tls[1]: expected a table of settings, found "c"',
      ['{ { address = "[::1]:2", tls = { cert = "c" } } }'] =
        'listen[1].tls: expected a list of 0 to 64, each { cert = ..., key = ... }, found the key "cert"',
      ['{ { address = "[::1]:2", tls = { { cert = "c", key = "k", names = { "a b" } } } } }'] =
        'listen[1].tls[1].names[1]: expected a host name such as "a.example" or "*.a.example", found "a b"',
      ['{ { address = "[::1]:2", client = "required" } }'] = "listen[1].client: " .. NO_TLS,
      ['{ { address = "[::1]:2", client = "required", tls = { ' .. certificate .. " } } }"] =
        'listen[1].client_ca: is needed for client = "required"',
      ['{ { address = "[::1]:2", client_ca = "x" } }'] = "listen[1].client_ca: " .. NO_TLS,
      ['{ { address = "[::1]:2", client_crl = "x" } }'] = "listen[1].client_crl: " .. NO_TLS,
      ['{ { address = "[::1]:2", client = "optional", client_crl = "x" } }'] = "listen[1].client: " .. NO_TLS,
      ['{ { address = "[::1]:2", client_ca = "x", tls = { ' .. certificate .. " } } }"] =
        'listen[1].client_ca: has no effect with client = "none": set client = "required" or "optional"',
    } do
      local found = problems_of(with { listen = text })
      table.sort(found)
      assert.equal(problem, found[1], text)
    end
    local good = '{ "[::1]:1", { address = "unix:/x", tls = { ' .. certificate .. " } } }"
    assert.same({ "[::1]:1", "unix:/x" }, assert(load(with { listen = good })).listen)
  end)

  it("tells which address, network or origin is wrong, and why", function()
    local found = problems_of(with {
      listen = '{ "127.0.0.1:1", "localhost:8080" }',
      admin = '"0.0.0.0:8081"',
      trusted_proxies = '{ "10.0.0.0/8", "10.0.0.0/33", "unix" }',
      ["http.cors_origins"] = '{ "https://a.example/", "https://a.example", "https://b.example:443", "HTTP://c" }',
    })
    assert.equal(6, #found)
    assert.truthy(found[1]:find('listen[2]: "localhost:8080": ', 1, true), found[1])
    assert.equal('admin: "0.0.0.0:8081" can be reached from other machines: '
      .. "expected a loopback address or a Unix socket", found[2])
    assert.truthy(found[3]:find('trusted_proxies[2]: "10.0.0.0/33"', 1, true), found[3])
    assert.truthy(found[4]:find('http.cors_origins[1]: expected an origin such as ', 1, true), found[4])
    assert.equal('http.cors_origins[3]: "https://b.example:443" never matches, '
      .. "browsers leave the default port out: write it without :443", found[5])
    assert.truthy(found[6]:find("http.cors_origins[4]: expected an origin", 1, true), found[6])
  end)

  it("tells which pattern of origins never matches, or matches too much", function()
    assert.truthy(load(with {
      ["http.cors_origins"] = '{ "https://*.app.example", "http://*.localhost:3000", "https://*.a.co.uk:444" }' }))
    local found = problems_of(with { ["http.cors_origins"] = '{ "https://a*.b.example", "https://*", "https://*.com",'
      .. ' "https://*.*.b.example", "https://a.*.b.example" }' })
    assert.equal(5, #found)
    for i, problem in ipairs(found) do
      assert.truthy(problem:find(i == 3 and "would match too much" or "never matches", 1, true), problem)
    end
  end)

  describe("says on which line", function()
    it("each wrong setting stands, of those that are not there their table", function()
      assert.same({
        "FILE:3: admin: expected a loopback \"HOST:PORT\", \"[::1]:PORT\" or \"unix:/path\", or false, found 5",
        'FILE:10: http.pag: unknown key; did you mean "page"?',
        'FILE:6: sse.heartbeat: unknown key; did you mean "heartbeat_s"?',
        "FILE:4: policy.file: is required: expected the path of a Lua file",
        'FILE:12: lisen: unknown key; did you mean "listen"?',
      }, problems_of([[
local web = { -- http = {
  cors_origins = { "https://a.example" } }
local t = { admin = 5,
  policy = {},
  sse = { retry_ms = 1000, --[=[ heartbeat = 1,
    ]=] heartbeat = 5 },
  http = web,
}
t.log = { level = "info" }
web.pag = true
t["tls"] = {}
t.lisen = {}
return t]], nil, true))
    end)

    it("an item of a list stands", function()
      assert.same({
        'FILE:3: listen[2].tls[1].key: is required: expected the path of a file',
        'FILE:4: listen[3]: expected "HOST:PORT", "[IPV6]:PORT" or "unix:/path", found 5',
      }, problems_of([[
return { policy = { file = "p" }, listen = { "127.0.0.1:1",
  { address = "127.0.0.1:2", tls = {
    { cert = "c" } } },
  5 } }]], nil, true))
    end)

    it("contradictions stand, and addresses that are taken twice", function()
      assert.same({ "FILE:2: sse.dead_peer_s: expected more than sse.heartbeat_s (60), found 20" },
        problems_of("return { policy = { file = 'p' },\nsse = { dead_peer_s = 20, heartbeat_s = 60 } }", nil, true))
      assert.same({ 'FILE:3: listen[2]: "127.0.0.1:80" is taken by listen[1] ("127.0.0.1:80"): remove one, or change '
        .. "its address" }, problems_of('return { policy = { file = "p" }, listen = {\n"127.0.0.1:80",\n"127.0.0.1:80"'
        .. "} }", nil, true))
    end)

    it("no option stands", function()
      assert.same({ '--admin: "x": expected IPV4:PORT, [IPV6]:PORT or unix:/PATH (all addresses: 0.0.0.0:PORT, '
        .. "[::]:PORT)" }, problems_of(with {}, { admin = "x" }, true))
    end)
  end)

  it("says what settings of other programs are here", function()
    for name, words in pairs { tls_cert = "conf/TLS.md", ssl = "conf/TLS.md", port = 'listen = { "127.0.0.1:8080" }',
      database_url = "store.conninfo", log_level = "log.level" } do
      assert.truthy(problems_of(with { [name] = "1" })[1]:find(words, 1, true), name)
    end
    assert.truthy(problems_of(with { ["tls.cert"] = "'x'" })[1]:find("conf/TLS.md", 1, true))
  end)

  describe("file", function()
    it("that cannot be read", function()
      local _, problems, rc = config.load "/does/not/exist.lua"
      assert.equal(EINVAL, rc)
      assert.equal("/does/not/exist.lua: cannot read this configuration file: no such file or directory: "
        .. "`tidegate init DIR` makes one\n", problems)
      _, problems = config.load "/tmp"
      assert.equal("/tmp: cannot read this configuration file: illegal operation on a directory: "
        .. "name a file, such as the tidegate.lua in it\n", problems)
      write((" "):rep((1 << 20) + 1))
      _, problems = config.load(path)
      assert.equal(path .. ": cannot read this configuration file: larger than 1 MiB: a configuration is data, is this "
        .. "one?\n", problems)
    end)

    it("with a syntax error", function()
      for text, problem in pairs {
        ["return {\n  a = 1\n\n"] = "4: '}' expected (to close '{' at line 1) near <eof>; a closing } is missing",
        ["return {\n  a = 1\n b = 2 }"] = "3: '}' expected (to close '{' at line 1) near 'b'; is a comma missing "
          .. "before it?",
        ["return { a = 1 { b } }"] = "1: '}' expected near '{'; is a comma missing before it?",
        ["return { listen: 5 }"] = "1: <name> expected near '5'; write NAME = value instead of NAME: value",
        ['return { "listen": 5 }'] = "1: '}' expected near ':'; write NAME = value instead of NAME: value",
        ['return { "listen" = 5 }'] = "1: '}' expected near '='; a comma or a } is missing before it",
        ["return { a = 'x }"] = "1: unfinished string near <eof>; its closing quote is missing",
        ["return { a = 1 } }"] = "1: <eof> expected near '}'; nothing may follow `return { ... }`: is a } before it "
          .. "one too many?",
        ["return { a = , }"] = "1: unexpected symbol near ','; a value is missing before it",
        ["{ a = 1 }"] = "1: unexpected symbol near '{'; write `return` before the {",
        ["return { a = 1 +* 2 }"] = "1: unexpected symbol near '*'; a configuration is one Lua table: return { NAME = "
          .. "value, ... }",
      } do
        assert.same({ "FILE:" .. problem }, problems_of(text))
      end
    end)

    it("that raises", function()
      assert.same({ "FILE:2: attempt to index a nil value (local 'a')" }, problems_of "local a\nreturn a.b")
    end)

    it("that returns no table", function()
      local words = "the file must end in `return { ... }`, but it returned "
      local nothing = words .. "nothing: write `return` before the table that holds the settings"
      assert.same({ nothing }, problems_of "")
      assert.same({ nothing }, problems_of "local t = {}")
      assert.same({ nothing }, problems_of "return nil, {}")
      assert.same({ words .. "a string" }, problems_of "return 'x'")
      assert.same({ words .. "a function" }, problems_of "return env")
    end)

    it("that never ends", function()
      for _, loop in ipairs { "while true do end", "local function f() return f() end f()", "::again:: goto again",
        "for i = 1, math and 1 or 1 do end" } do
        local found = problems_of("\n" .. loop)
        assert.equal(1, #found)
        assert.truthy(found[1]:find("^FILE:2: "), found[1])
      end
      assert.same({ "FILE:2: still running after 5 million instructions: a configuration file is data, "
        .. "is there a loop in it?" }, problems_of "\nwhile true do end")
    end)

    it("that allocates without end", function()
      for _, greedy in ipairs {
        "local s = 'x' while true do s = s .. s end",
        "local t = {} for i = 1, 1e9 do t[i] = {} end",
        "local t = {} for i = 1, 1e9 do t[i] = i end",
      } do
        assert.same({ "FILE: needs more than 16 MiB of memory: a configuration file is data" }, problems_of(greedy))
      end
    end)

    it("that recurses without end", function()
      local found = problems_of "local function f() return 1 + f() end\nf()"
      assert.equal(1, #found)
      assert.truthy(found[1]:find("stack overflow", 1, true) or found[1]:find("MiB of memory", 1, true), found[1])
    end)

    it("that returns something huge is told what is wrong with it, not more", function()
      local found = problems_of "local t = {} for i = 1, 100000 do t['key' .. i] = i end return t"
      assert.equal(101, #found)
      found = problems_of [[
        local t = {}
        for i = 1, 300000 do t[i] = "x" end
        return { listen = t, policy = { file = "p" } }]]
      assert.same({ "listen: expected a list of 1 to 64, each \"HOST:PORT\", \"[IPV6]:PORT\" or \"unix:/path\", "
        .. "or a table, found 300000" }, found)
      found = problems_of "local t = { policy = { file = 'p' } } t.sse = t return t"
      for i, name in ipairs { "sse.policy", "sse.sse" } do
        assert.equal(name .. ": unknown key", found[i]:match "^[^;]*")
      end
      assert.equal(2, #found)
    end)

    it("that is bytecode", function()
      local found = problems_of(string.dump(function() return {} end))
      assert.equal(1, #found)
      assert.truthy(found[1]:find("attempt to load a binary chunk", 1, true), found[1])
    end)

    it("reaches nothing", function()
      for name in ("print os io require load string pcall setmetatable _G listen"):gmatch "%S+" do
        assert.same({ ("FILE:2: unknown name %s: a configuration file has only env(name, default), secret(value), "
          .. "its own locals, and data"):format(name) }, problems_of("\nlocal x = " .. name))
      end
      assert.same({ "FILE:1: listen is assigned but not local: write local listen = ..." },
        problems_of "listen = {} return { listen = listen }")
      assert.same({ "FILE:1: config is assigned, and the file returns nothing: it must end in `return { ... }`, with "
        .. "all settings in that table" }, problems_of "config = {}")
      assert.truthy(problems_of("return ('x'):rep(1)")[1]:find "attempt to index a string value")
    end)
  end)

  describe("from the environment", function()
    before_each(function()
      config.setenv("TG_SPEC_SECRET", "hunter2")
      config.setenv("TG_SPEC_NUMBER", "7777")
      config.setenv("TG_SPEC_ON", "false")
      config.setenv("TG_SPEC_EMPTY", "")
      config.setenv("TG_SPEC_UNSET")
    end)

    it("takes texts, and numbers and booleans where the default is one", function()
      local c = assert(load [[return {
        listen = { "127.0.0.1:" .. env("TG_SPEC_NUMBER") },
        sse = { heartbeat_s = env("TG_SPEC_UNSET", 7) },
        http = { page = env("TG_SPEC_ON", true) },
        store = { retain_age_s = env("TG_SPEC_NUMBER", 1) },
        policy = { file = "/" .. env("TG_SPEC_SECRET") .. env("TG_SPEC_EMPTY") },
      }]])
      assert.same({ "127.0.0.1:7777" }, c.listen)
      assert.equal(7, c.heartbeat_s)
      assert.equal(7777, c.retain_age_s)
      assert.is_false(c.page)
      assert.equal("/hunter2", c.policy_file)
    end)

    it("tells every variable that is missing, with its line, and all else that is wrong", function()
      local function is_not_set(line, name)
        local words = 'FILE:%d: the environment variable %s is not set: set it, or give a default: env("%s", default)'
        return words:format(line, name, name)
      end
      assert.same({
        is_not_set(2, "TG_SPEC_UNSET"),
        is_not_set(4, "TG_SPEC_GONE"),
        "sse.heartbeat_s: expected an integer from 1 to 3600 (seconds), found 0",
      }, problems_of [[
return {
  listen = { "127.0.0.1:" .. env("TG_SPEC_UNSET") },
  sse = { heartbeat_s = 0 },
  policy = { file = env "TG_SPEC_GONE" },
}]])
    end)

    it("advises no default for a secret that is missing", function()
      assert.same({
        "FILE:2: the environment variable TG_SPEC_UNSET is not set: set it",
        "FILE:3: the environment variable TG_SPEC_GONE is not set: set it",
        'FILE:4: the environment variable TG_SPEC_FILE is not set: set it, or give a default: '
          .. 'env("TG_SPEC_FILE", default)',
      }, problems_of [[
return {
  keys = { main = { secret = env "TG_SPEC_UNSET" } },
  policy = { file = "p.lua", settings = { hook = secret(env "TG_SPEC_GONE"),
    other = secret { file = env "TG_SPEC_FILE" } } },
}]])
    end)

    it("is told how to call env", function()
      for _, call in ipairs { "env()", "env(1)", "env('a b')", "env(env('TG_SPEC_SECRET'))" } do
        assert.same({ "FILE:1: env(name, default): name must be the name of an environment variable" },
          problems_of("local x = " .. call))
      end
      assert.same({ "FILE:1: the environment variable TG_SPEC_SECRET must hold a number" },
        problems_of "local x = env('TG_SPEC_SECRET', 5)")
      assert.same({ "FILE:1: the environment variable TG_SPEC_SECRET must be true or false" },
        problems_of "local x = env('TG_SPEC_SECRET', true)")
    end)

    it("never shows a value in a message", function()
      local places = {
        "return { listen = { env('TG_SPEC_SECRET') } }",
        "return { listen = { 'x' .. env('TG_SPEC_SECRET') .. 'y' } }",
        "return { listen = env('TG_SPEC_SECRET') }",
        "return { admin = '0.0.0.0:' .. env('TG_SPEC_NUMBER') }",
        "return { trusted_proxies = { env('TG_SPEC_SECRET') } }",
        "return { http = { cors_origins = { 'https://' .. env('TG_SPEC_SECRET') .. ':443' } } }",
        "return { log = { level = env('TG_SPEC_SECRET') } }",
        "return { sse = { heartbeat_s = env('TG_SPEC_SECRET') } }",
        "return { sse = { heartbeat_s = env('TG_SPEC_NUMBER', 1) } }",
        "return { sse = { dead_peer_s = 3, heartbeat_s = env('TG_SPEC_NUMBER', 1) } }",
        "return { sse = env('TG_SPEC_SECRET') }",
        "return { [env('TG_SPEC_SECRET')] = 1 }",
        "return { [env('TG_SPEC_NUMBER', 1)] = 1 }",
        "return { http = { [env('TG_SPEC_SECRET')] = 1 } }",
        "return { listen = { '127.0.0.1:1', [env('TG_SPEC_SECRET')] = 1 } }",
        "local x = _ENV[env('TG_SPEC_SECRET')]",
        "_ENV[env('TG_SPEC_SECRET')] = 1",
        "local k = env('TG_SPEC_SECRET') local t = {} t[k]()",
        "local k = env('TG_SPEC_SECRET') k()",
        "for i = 1, env('TG_SPEC_SECRET') do end",
        "return env('TG_SPEC_SECRET')",
      }
      for _, text in ipairs(places) do
        local all = table.concat(problems_of(text), "\n")
        assert.is_nil(all:find("hunter2", 1, true), text .. "\n" .. all)
        assert.is_nil(all:find("7777", 1, true), text .. "\n" .. all)
      end
      local named = problems_of "return { policy = { file = 'p', auth = env('TG_SPEC_SECRET') } }"
      assert.same({ 'policy.auth: expected "policy" or "open", '
        .. "found a value made of the environment variable TG_SPEC_SECRET (not shown)" }, named)
    end)
  end)

  describe("and the command line", function()
    it("replaces what the file says", function()
      local c = assert(load(with { listen = '{ "127.0.0.1:1", "127.0.0.1:2" }', ["store.path"] = '"/a"' },
        { listen = { "127.0.0.1:3" }, admin = "127.0.0.1:4", store = "/b", policy = "/c.lua" }))
      assert.same({ "127.0.0.1:3" }, c.listen)
      assert.equal("127.0.0.1:4", c.admin)
      assert.equal("/b", c.store_path)
      assert.equal("/c.lua", c.policy_file)
      assert.same({ "[::1]:1", "unix:/x" }, assert(load(with {}, { listen = { "[::1]:1", "unix:/x" } })).listen)
      assert.is_nil(assert(load(with {}, { admin = "none" })).admin)
    end)

    it("can be all the configuration there is", function()
      assert.equal("/p.lua", assert(load("return {}", { policy = "/p.lua" })).policy_file)
    end)

    it("obeys the same rules, named by the option", function()
      assert.same({
        '--listen: "x": expected IPV4:PORT, [IPV6]:PORT or unix:/PATH (all addresses: 0.0.0.0:PORT, [::]:PORT)',
        '--admin: "192.0.2.1:1" can be reached from other machines: expected a loopback address or a Unix socket',
        '--store: expected the path of a directory, found ""',
      }, problems_of(with {}, { listen = { "[::1]:1", "x" }, admin = "192.0.2.1:1", store = "" }))
    end)
  end)

  it("names both places where an address is taken twice", function()
    local function problem(first, what, second, place)
      return ('%s: "%s" is taken by listen[%d] ("%s"): remove one, or change its address')
        :format(first, what, place or 1, second)
    end
    local cases = { -- listen, the problem of its second entry
      ['"127.0.0.1:80", "127.0.0.1:80"'] = { "127.0.0.1:80", "127.0.0.1:80" },
      ['"127.0.0.1:80", { address = "0.0.0.0:80" }'] = { "0.0.0.0:80", "127.0.0.1:80" },
      ['"[::]:80", "[::1]:80"'] = { "[::1]:80", "[::]:80" },
      ['"[::1]:80", "[0:0::1]:80"'] = { "[0:0::1]:80", "[::1]:80" },
      ['"unix:/a", "unix:/a"'] = { "unix:/a", "unix:/a" },
    }
    for list, texts in pairs(cases) do
      assert.same({ problem("listen[2]", table.unpack(texts)) }, problems_of(with { listen = "{ " .. list .. " }" }))
    end
    assert.same({ problem("admin", "127.0.0.1:81", "0.0.0.0:81", 2) },
      problems_of(with { listen = '{ "[::1]:81", "0.0.0.0:81" }', admin = '"127.0.0.1:81"' }))
    assert.same({ problem("admin", "unix:/a", "unix:/a") },
      problems_of(with { listen = '{ "unix:/a" }', admin = '"unix:/a"' }))
    assert.same({ problem("admin_public", "0.0.0.0:80", "127.0.0.1:80") },
      problems_of(with { listen = '{ "127.0.0.1:80" }', admin_public = '"0.0.0.0:80"' }))
    assert.same({ '--admin: "127.0.0.1:1" is taken by --listen[1] ("127.0.0.1:1"): remove one, or change its address' },
      problems_of(with {}, { listen = { "127.0.0.1:1" }, admin = "127.0.0.1:1" }))
    for _, good in ipairs { '"127.0.0.1:0", "127.0.0.1:0"', '"127.0.0.1:1", "127.0.0.2:1"', '"[::]:1", "0.0.0.0:1"',
      '"unix:/a", "systemd:a", "systemd:a"', '"127.0.0.1:1", "127.0.0.1:2", "[::1]:1", "unix:/a", "unix:/b"' } do
      assert.truthy(load(with { listen = "{ " .. good .. " }" }))
    end
  end)

  describe("paths", function()
    local function dirname(name)
      return name:match "^(.*)/[^/]*$"
    end

    it("of the file start where it is, those of options where we are", function()
      local base = dirname(path)
      local parent = dirname(base) or ""
      local cases = {
        ["data"] = base .. "/data",
        ["./data"] = base .. "/data",
        ["../data"] = parent .. "/data",
        ["..//./../../data"] = "/data",
        ["a/../b"] = base .. "/a/../b", -- `a` may be a symbolic link
        ["..data"] = base .. "/..data",
        ["/x/../y"] = "/x/../y",
      }
      for given, wanted in pairs(cases) do
        local c = assert(load(with { ["store.path"] = ("%q"):format(given), ["policy.file"] = ("%q"):format(given) }))
        assert.equal(wanted, c.store_path)
        assert.equal(wanted, c.policy_file)
      end
      local pipe <close> = assert(io.popen "pwd -P")
      local here = pipe:read "l"
      local c = assert(load(with {}, { store = "d", policy = "./p.lua" }))
      assert.equal(here .. "/d", c.store_path)
      assert.equal(here .. "/p.lua", c.policy_file)
    end)
  end)

  describe("schema and struct", function()
    local number = '{ name = "number", kind = "integer", default = 5, min = 1, max = 9, doc = "" }'
    local text = '{ name = "text", kind = "text", default = "x", doc = "" }'

    local function load_pair(...)
      write "return {}"
      return config.load_pair(path, "return { doc = '', fields = {" .. table.concat({ ... }, ", ") .. "} }")
    end

    it("mirror each other", function()
      assert.same({ number = 5, text = "x" }, load_pair(number, text))
    end)

    local map = [[{ name = "things", kind = "map", doc = "", fields = {
      { name = "size", kind = "integer", default = 7, min = 1, max = 9, doc = "" },
      { name = "label", kind = "text", off = true, default = false, doc = "" },
      { name = "items", kind = "list", of = { kind = "text" }, default = {}, doc = "" } } }]]

    local function load_map(conf, field)
      write(conf)
      return config.load_map(path, "return { doc = '', fields = {" .. (field or map) .. "} }")
    end

    it("mirror each other in the entries of a map, in the order of their names", function()
      assert.same({}, load_map "return {}")
      assert.same({
        { name = "a-1", size = 7, items = { "i", "j" } },
        { name = "b", size = 2, label = "x", items = {} },
        { name = "c", size = 7, items = {} },
      }, load_map [[return { things = { c = {}, b = { size = 2, label = "x" }, ["a-1"] = { items = { "i", "j" } } } }]])
      local settings, problems, rc = load_map "return { things = { a = { items = { 'x' } }, b = { size = 0 } } }"
      assert.is_nil(settings)
      assert.equal(EINVAL, rc)
      assert.equal(path .. ":1: things.b.size: expected an integer from 1 to 9, found 0\n", problems)
      settings, problems, rc = load_map("return {}", (map:gsub('"label"', '"other"')))
      assert.is_nil(settings)
      assert.equal(EFAULT, rc)
      assert.equal("internal error: things.*.label is in the struct but not in the schema\n", problems)
      local more = map:gsub('doc = "", fields = {', '%0 { name = "on", kind = "boolean" },')
      settings, problems = load_map("return {}", more)
      assert.is_nil(settings)
      assert.equal("internal error: things.*.on is in the schema but not in the struct\n", problems)
    end)

    it("that do not are an error of the program, whatever the file says", function()
      local function failure(...)
        local settings, problems, rc = load_pair(...)
        assert.is_nil(settings)
        assert.equal(EFAULT, rc)
        return problems
      end
      assert.equal("internal error: text is in the struct but not in the schema\n", failure(number))
      local more = '{ name = "more", kind = "section", fields = {' .. text:gsub('"text"', '"deep"', 1) .. "} }"
      assert.equal("internal error: more.deep is in the schema but not in the struct\n", failure(number, text, more))
      assert.equal("internal error: number is of kind text in the schema, integer in the struct\n",
        failure(text, (text:gsub('"text"', '"number"', 1))))
    end)
  end)

  describe("in the tree", function()
    local function read(name)
      local file <close> = assert(io.open(SPEC_SOURCE_DIR .. "/" .. name))
      return file:read "a"
    end

    it("is documented in conf/REFERENCE.md as it is", function()
      local reference, rc = config.reference()
      assert.equal(0, rc)
      local start, stop = "<!-- config reference: generated -->\n", "<!-- end of config reference -->"
      local readme = read "conf/REFERENCE.md"
      local _, from = readme:find(start, 1, true)
      local to = readme:find(stop, 1, true)
      assert.truthy(from and to, "conf/REFERENCE.md lacks the markers of the configuration reference")
      assert.is_true(reference == readme:sub(from + 1, to - 1),
        "conf/REFERENCE.md differs from the schema: run lua5.4 scripts/update_reference.lua")
    end)

    it("has a default that loads, is local, and keeps its data in the tree", function()
      local c = assert(config.load(SPEC_SOURCE_DIR .. "/conf/tidegate.lua"))
      assert.same({ "127.0.0.1:8080" }, c.listen)
      assert.truthy(c.store_path:find "[^.]/data$")
      assert.truthy(c.policy_file:find "/scripts/policies/open.lua$")
    end)

    it("shows the true default of each key that its example leaves out", function()
      for name, literal in read("conf/tidegate.lua"):gmatch "\n%s*%-%- ([%l_]+) = ([^\n]-),[ \n]" do
        local value = assert(_G.load("return " .. literal))()
        local matches = 0
        for _, leaf in ipairs(schema.leaves(config_schema.fields)) do
          local default = leaf.field.default
          if leaf.field.name == name then
            matches = matches + (pcall(assert.same, default, value) and 1 or 0)
          end
        end
        assert.is_true(matches > 0, name .. " = " .. literal .. " is not the default")
      end
    end)
  end)
end)
