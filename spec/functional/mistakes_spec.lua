-- Mistakes that newcomers and operators make: what is printed says what is wrong, where, and what to do about it.
-- Each row is one of a trial with 34 of them. Rows that other specs hold to the word:
--   5, 6, 8, 11   spec/unit/config_spec.lua: variables that are not set, contradictions, open brokers, drivers
--   12, 13        spec/pg/start_spec.lua, spec/pg/migrate_spec.lua: PostgreSQL that does not let the broker in
--   14            spec/pg/start_spec.lua, too: a schema of a newer version
--   15            spec/pg/lineage_spec.lua: PostgreSQL is stopped while the broker serves
--   17            spec/functional/listen_spec.lua: ports below 1024; spec/unit/store_sqlite_spec.lua: foreign files
--   18            spec/unit/store_sqlite_faults_spec.lua: the disk is full
--   23            spec/functional/misspelt_spec.lua
--   24            spec/functional/answers_spec.lua
--   27            spec/functional/bodies_spec.lua
--   28            spec/functional/tokens_spec.lua, spec/unit/jwt_spec.lua
--   30, 31        spec/functional/denials_spec.lua
--   32            spec/functional/restart_spec.lua, spec/functional/explain_cli_spec.lua
--   33            spec/functional/foreign_spec.lua, spec/functional/h2_spec.lua
--   34            spec/pg/insert_spec.lua, spec/pg/large_spec.lua
local http = require "support.http"
local tidegate = require "support.tidegate"

-- The command on a configuration of that text: exit code, and what it wrote.
local function run(command, conf, options)
  options = options or {}
  local files = options.files or {}
  files["conf.lua"] = conf
  local b = tidegate.prepare { files = files }
  tidegate.forget_later(b)
  local code, out, err = tidegate.run(tidegate.binary(), { args = { command, options.name or "conf.lua",
    table.unpack(options) }, cwd = b.dir })
  return code, out .. err, b
end

local function check(conf, options)
  options = options or {}
  table.insert(options, "--no-luacheck")
  table.insert(options, "--no-samples")
  return run("check", conf, options)
end

local function has(text, ...)
  for _, words in ipairs { ... } do
    assert.truthy(text:find(words, 1, true), ("%q is not in:\n%s"):format(words, text))
  end
end

describe("a mistake in the configuration:", function()
  it("1, words that are misspelt; all of them, with their lines", function()
    local conf = [[
return {
  lisen = { "127.0.0.1:0" },
  polcy = { file = "policy.lua" },
  sse = { heartbeat = 3 },
  store = {
    retain_age = 4 },
}]]
    for _, command in ipairs { check, function(text) return run("serve", text) end } do
      local code, text = command(conf)
      assert.equal(78, code)
      has(text, "conf.lua:2: ", 'lisen: unknown key; did you mean "listen"?', "conf.lua:3: ",
        'polcy: unknown key; did you mean "policy"?', "conf.lua:4: ", 'sse.heartbeat: unknown key; did you mean '
        .. '"heartbeat_s"?', "conf.lua:6: ", 'store.retain_age: unknown key; did you mean "retain_age_s"?')
    end
  end)

  it("2, wrong types; all of them, with their lines", function()
    local code, text = check [[
return { policy = { file = "policy.lua" },
  workers = "four",
  admin = 5,
  http = { page = "yes", cors_origins = "http://x" },
  sse = { heartbeat_s = "15",
    retry_ms = 1.5 },
  limits = 5, listen = 8080 }]]
    assert.equal(78, code)
    has(text, 'conf.lua:2: error: workers: expected an integer from 1 to 64 (workers), or "auto", found "four"',
      "conf.lua:3: error: admin: expected", "conf.lua:4: error: http.page: expected true or false",
      "conf.lua:4: error: http.cors_origins: expected a list", "conf.lua:5: error: sse.heartbeat_s: expected",
      "conf.lua:6: error: sse.retry_ms: expected", "conf.lua:7: error: limits: expected a table of settings, found 5",
      "conf.lua:7: error: listen: expected a list", "8 errors")
  end)

  it("3, a missing comma", function()
    local code, text = check 'return {\n  listen = { "127.0.0.1:0" }\n  policy = { file = "policy.lua" } }'
    assert.equal(78, code)
    has(text, "conf.lua:3: error: '}' expected (to close '{' at line 1) near 'policy'; is a comma missing before it?")
  end)

  it("4, no return", function()
    local code, text = check 'config = { policy = { file = "policy.lua" } }'
    assert.equal(78, code)
    has(text, "conf.lua:1: error: config is assigned, and the file returns nothing: it must end in `return { ... }`")
    code, text = check 'local config = { policy = { file = "policy.lua" } }'
    assert.equal(78, code)
    has(text, "conf.lua: error: the file must end in `return { ... }`, but it returned nothing: write `return`")
    code, text = check '{ policy = { file = "policy.lua" } }'
    assert.equal(78, code)
    has(text, "conf.lua:1: error: unexpected symbol near '{'; write `return` before the {")
  end)

  it("7, no authenticate", function()
    local code, text = check('return { policy = { file = "open.lua" } }',
      { files = { ["open.lua"] = "return { api = 1, subscribe = function() end }" } })
    assert.equal(78, code)
    has(text, "open.lua: error: authenticate: missing", 'Add the hook, or set auth = "open" in the configuration')
  end)

  it("9, certificates where they do not belong", function()
    for _, settings in ipairs { 'tls = { cert = "c", key = "k" }', 'tls_cert = "c"', "ssl = true", "cert = 'c'" } do
      local code, text = check('return {\n' .. settings .. ',\npolicy = { file = "policy.lua" } }')
      assert.equal(78, code)
      has(text, "conf.lua:2: error: ", ": unknown key; certificates belong to a listener: listen = { { address = ",
        "conf/TLS.md")
    end
  end)

  it("10, a connection string; the word that is wrong is named, and no password", function()
    local function conninfo(text)
      local code, all = check(('return { policy = { file = "policy.lua" },\nstore = { driver = "postgres", '
        .. 'conninfo = %q } }'):format(text))
      assert.equal(78, code)
      has(all, "conf.lua:2: error: store.conninfo: ")
      for _, secret in ipairs { "geheim", "hunter" } do
        assert.is_nil(all:find(secret, 1, true), all)
      end
      return all
    end
    has(conninfo "host=db dbnam=shop password=geheim", '"dbnam" is not an option of libpq; did you mean "dbname"?')
    has(conninfo "postgresql://u:geheim@h/d?ssmode=a", '"ssmode" is not an option of libpq; did you mean "sslmode"?')
    has(conninfo "host=db password=x geheim=1", 'a word before a "=" is not an option of libpq')
    has(conninfo "host=db password=geheim hunter2", 'a word has no "=" after it; a value with spaces needs single '
      .. "quotes")
    has(conninfo "host=db password='geheim", "a single quote is not closed")
  end)

  it("16, a port that is taken: the last line is the reason", function()
    local b = tidegate.start { supervised = true }
    local taken = ("%s:%d"):format(b.admin.host, b.admin.port)
    for _, options in ipairs { {}, { "--single" } } do
      local code, text = run("serve", ('return { listen = { "127.0.0.1:0" }, admin = %q,\n  policy = { file = '
        .. '"policy.lua" } }'):format(taken), options)
      assert.equal(69, code)
      has(text:match "[^\n]*\n$", "level=error", "code=69", "cannot listen on " .. taken .. ": address already in use",
        "another process listens there: stop it, or choose another address")
    end
  end)

  it("17, a directory of the store that cannot be: what to do, also by check, which names the option", function()
    local code, text = run("serve", 'return { listen = { "127.0.0.1:0" }, admin = false, store = { path = "not/there" '
      .. '},\n  policy = { file = "policy.lua" } }', { "--single" })
    assert.equal(69, code)
    has(text, "not/there: cannot make this directory: no such file or directory; make the one above it, or choose "
      .. "another store.path")
    code, text = check('return { policy = { file = "policy.lua" } }', { "--store", "conf.lua" })
    assert.equal(78, code)
    has(text, "error: store.path: ", "conf.lua: is not a directory; expected one for events.db")
    assert.is_nil(text:find("conf.lua:1", 1, true), text)
  end)

  it("19, a file that is not there, a directory", function()
    for name, words in pairs {
      ["none.lua"] = "none.lua: error: cannot read this configuration file: no such file or directory: `tidegate init",
      ["."] = ".: error: cannot read this configuration file: illegal operation on a directory: name a file",
    } do
      local code, text = check("", { name = name })
      assert.equal(78, code)
      has(text, words)
    end
  end)

  it("20, a policy that is not there: the last line is the reason, whatever came before", function()
    local conf = 'return { listen = { "127.0.0.1:0" }, admin = false,\n  policy = { file = "none.lua" } }'
    local code, text = check(conf)
    assert.equal(78, code)
    has(text, "conf.lua:2: error: policy.file: cannot read none.lua: No such file or directory: is policy.file of the "
      .. "configuration right?")
    for _, options in ipairs { {}, { "--single" } } do
      code, text = run("serve", conf, options)
      assert.equal(78, code)
      has(text:match "[^\n]*\n$", "level=error", "none.lua: cannot read none.lua: No such file or directory",
        "is policy.file of the configuration right?", "code=78")
    end
  end)

  it("14, a store of a newer version: the program is to be replaced, and not to be started again", function()
    local conf = [[return { listen = { "127.0.0.1:0" }, admin = false, store = { path = "." },
      policy = { file = "policy.lua" } }]]
    local b = tidegate.start { config = { store = { path = "." } } }
    b:stop()
    local db = require "native.store".sql(b.dir .. "/events.db")
    assert(db "PRAGMA user_version = 99")
    db:close()
    b:write_file("conf.lua", conf)
    local code, out, err = tidegate.run(tidegate.binary(), { args = { "serve", "conf.lua", "--single" }, cwd = b.dir })
    assert.equal(78, code, out .. err)
    has(err, "was written by a newer Tidegate (schema 99, this one knows up to ")
    code, out, err = tidegate.run(tidegate.binary(), { args = { "check", "conf.lua", "--no-luacheck", "--no-samples" },
      cwd = b.dir })
    assert.equal(78, code, out .. err)
    has(err, "store.path: ", "by a newer Tidegate (schema 99, this one knows up to ")
  end)
end)

describe("a mistake in a request:", function()
  local broker = tidegate.shared {
    policy = [[
local mistakes = {
  nothing = function() return nothing.at_all end,
  number = function() return 5 end,
  key = function() return { topics = { "a" }, fliter = "x" } end,
  head = function(req) return { topics = { req.headers.host } } end,
}
return {
  api = 1,
  authenticate = function(req) return { sub = req.query.who or "x" } end,
  subscribe = function(req, who)
    return mistakes[who.sub] and mistakes[who.sub](req) or { topics = req.topics }
  end,
  publish = function(pub, who) return who.sub == "x" and pub or mistakes[who.sub](pub) end,
}]],
    config = { sse = { refusal_hold_s = 0 } },
  }

  local function detail_of(status, target, body, type)
    local r = http.post(broker(), "/events" .. target, body, { ["Content-Type"] = type })
    assert.equal(status, r.status, r.body)
    assert.equal(r.headers["x-request-id"], r.json.request_id)
    return r.json.detail
  end

  it("21, an envelope that is none: what, in which one, at which byte", function()
    for body, words in pairs {
      ['{"topic": }'] = { "JSON: expected a value (byte 10)" },
      ['{"topic":"a","dta":1}'] = { 'unknown field "dta"; did you mean "data"?' },
      ['{"topic":"a"}'] = { "data: is missing; expected a string or any JSON value" },
      ['[{"topic":"a","data":1},{"topic":"b","dat":1}]'] = { 'envelope 1: unknown field "dat"; did you mean' },
    } do
      has(detail_of(400, "", body, "application/json"), table.unpack(words))
    end
    has(detail_of(400, "", '{"topic":"a","data":1}\n{"topic":"a"}\n', "application/x-ndjson"), "line 2: data: is "
      .. "missing")
  end)

  it("22, a body that does not say what it is: the ways that there are", function()
    has(detail_of(415, "", "hello", "application/x-www-form-urlencoded"), "application/json or application/x-ndjson",
      "?topic=NAME in the query where the body is the data itself")
  end)

  it("25, topics that are none: which rule they break", function()
    for topic, words in pairs {
      ["/a"] = "topic: has an empty segment ('/' at the start or end, or '//')", ["a//b"] = "has an empty segment",
      ["a/**/b"] = "topic: holds '*', which only patterns may hold", ["a%00b"] = "bad %-escape, or is not UTF-8",
      ["%ff"] = "bad %-escape, or is not UTF-8", [("x"):rep(256)] = "topic: is longer than 255 bytes",
    } do
      has(detail_of(400, "?topic=" .. topic, "x", "text/plain"), words)
    end
  end)

  it("26, attributes that are none: which one, and what it is", function()
    for attrs, words in pairs {
      ['{"ok":1,"of":{"x":1}}'] = 'attrs: "of" is an object; expected a string, number or boolean',
      ['{"of":[1]}'] = 'attrs: "of" is an array; expected', ['{"of":null}'] = 'attrs: "of" is null; expected',
      ["5"] = "attrs: expected an object of strings, numbers and booleans",
    } do
      has(detail_of(400, "", ('{"topic":"a","data":1,"attrs":%s}'):format(attrs), "application/json"), words)
    end
  end)

  it("29, a hook that fails: the client learns under which id the log says where and why", function()
    local told = "the policy could not decide%s; the log of the broker says why"
    local function check_line(r, detail, hook, ...)
      has(r.json and r.json.detail or r.body, detail)
      local line = broker():logged { msg = "policy error, nothing was granted", request = r.headers["x-request-id"] }
      has(assert(line, broker():log()).error, ...)
      has(line.at, "policy.lua:")
      assert.equal(hook, line.hook)
    end
    for who, words in pairs {
      nothing = { "policy.lua:2: attempt to index a nil value (global 'nothing')" },
      number = { "publish returned number: a table, `tg.deny(status, reason)`, or `nil, \"why\"` (try again later)" },
    } do
      local r = http.post(broker(), "/events?topic=a&who=" .. who, "x", { ["Content-Type"] = "text/plain" })
      check_line(r, told:format "; nothing was stored", "publish", table.unpack(words))
    end
    for who, words in pairs {
      key = { "unknown key 'fliter' (did you mean 'filter'?)" },
      head = { "subscribe sees no request.headers", "Read it in authenticate" },
    } do
      check_line(http.get(broker(), "/events?topic=a&who=" .. who), told:format "", "subscribe", table.unpack(words))
    end
  end)
end)
