-- `tidegate check`: what it says beyond "loads" or "does not load" (cli_spec.lua). A database that is PostgreSQL is in
-- spec/pg/check_spec.lua.
local json = require "dkjson"
local read = require("support.files").read
local tidegate = require "support.tidegate"

local SECRET = ("k"):rep(32)
local POLICIES = SPEC_SOURCE_DIR .. "/scripts/policies/"

-- A directory with these files beside conf.lua.
local function prepare(files, config)
  files["conf.lua"] = files["conf.lua"] or ([[return { policy = { file = "try.lua" }, %s }]]):format(config or "")
  local b = tidegate.prepare { files = files }
  tidegate.forget_later(b)
  return b
end

local function check(policy, options)
  options = options or {}
  local files = options.files or {}
  files["try.lua"] = policy
  local b = options.at or prepare(files, options.config)
  return tidegate.run(tidegate.binary(), { args = { "check", "conf.lua", table.unpack(options) }, cwd = b.dir,
    env = options.env })
end

-- The document of --json, and the exit code.
local function document(policy, options)
  options = options or {}
  options[#options + 1] = "--json"
  local code, out, err = check(policy, options)
  assert.equal("", err)
  local value = json.decode(out)
  assert(value, out)
  return value, code
end

local function only(problems)
  assert.equal(1, #problems, json.encode(problems))
  return problems[1]
end

-- Hooks that find nothing to complain about, but for those given.
local function with(hooks)
  return ([[
local P = { api = 1, version = "try-1" }
function P.authenticate() return { sub = "x" } end
function P.subscribe() return { topics = { "a" }, filter = "none", format = "raw" } end
%s
return P]]):format(hooks)
end

describe("tidegate check", function()
  it("reports keys that cannot be read, and what is wrong with the policy and certificates beside them", function()
    local d, code = document("return {\n api = 1,\n subscribe = function( return end }", { config = [[
      keys = { main = { secret_file = "none" } },
      listen = { { address = "127.0.0.1:0", tls = { { cert = "none.pem", key = "none.key" } } } }]] })
    assert.equal(78, code)
    assert.equal(3, d.errors, json.encode(d.problems))
    local text = json.encode(d.problems)
    for _, wanted in ipairs { "keys.main", "none.pem", "near 'return'" } do
      assert.truthy(text:find(wanted, 1, true), wanted .. " is not in " .. text)
    end
    d, code = document(with "function P.nothing() end" .. "x",
      { config = 'keys = { main = { secret_file = "none" } }' })
    assert.same({ 78, 2 }, { code, d.errors }, json.encode(d.problems))
  end)

  it("warns where a policy wants newest events that no store keeps", function()
    local function warning(grant, config)
      local d = document(with(("function P.subscribe(req) return { filter = 'none', %s } end"):format(grant)),
        { config = config, "--no-luacheck" })
      assert.equal(0, d.errors, json.encode(d.problems))
      local found
      for _, p in ipairs(d.problems) do
        found = p.message:find("latest", 1, true) and p or found
      end
      return found and { found.severity, found.source, found.message }
    end
    local START, LAG = [[topics = { "score/*" }, start = "latest"]],
      [[topics = { "score/*" }, limits = { max_lag = 9, on_lag = "latest" }]]
    for wants, grant in pairs { ['start = "latest"'] = START, ['limits.on_lag = "latest"'] = LAG } do
      assert.same({ "warning", "hooks",
        ("subscribe returns %s, and store.latest names no topics: such clients are refused"):format(wants) },
        warning(grant))
    end
    for _, pattern in ipairs { "score/*", "score/7", "*/*", "**", "score/**" } do
      assert.is_nil(warning(START, ("store = { latest = { 'none', %q } }"):format(pattern)), pattern)
    end
    for _, pattern in ipairs { "scores/*", "score", "score/*/*", "score/7/**" } do
      assert.same({ "warning", "hooks",
        'subscribe returns start = "latest" for topics of which store.latest names none: score/*' },
        warning(START, ("store = { latest = { %q } }"):format(pattern)), pattern)
    end
    -- what the client chose says nothing about the policy
    assert.is_nil(warning([[topics = { req.topics[1] or "sample" }, start = "latest"]], "store = { latest = { 'x' } }"))
    local THERE = [[topics = { "x" }, presence = { topic = "room/1/members", member = "ann" }]]
    assert.is_nil(warning(THERE, "store = { latest = { 'room/*/members/*' } }"))
    assert.same({ "warning", "hooks", "subscribe returns presence, and store.latest does not name its topic: such "
      .. "clients are refused (room/*/members/*)" }, warning(THERE, "store = { latest = { 'room/*' } }"))
  end)

  it("looks at all else although settings are wrong, and says what it could not look at", function()
    local broken = with "function P.publish() return nothing.at_all end"
    local b = prepare({ ["try.lua"] = broken, blocked = "no directory" }, [[
      sse = { heartbeat_s = 0 }, store = { path = "blocked" },
      listen = { "127.0.0.1:0", { address = "127.0.0.1:0", tls = { { cert = "none.pem", key = "none.key" } } } } ]])
    local d, code = document(nil, { at = b, "--no-luacheck" })
    assert.equal(78, code)
    local found = {}
    for _, p in ipairs(d.problems) do
      found[#found + 1] = p.source .. " " .. (p.line or "-") .. " " .. p.message
    end
    table.sort(found)
    assert.equal(4, #found, json.encode(d.problems))
    assert.matches("^configuration 1 sse.heartbeat_s: expected", found[1])
    assert.matches("^configuration 2 listen%[2%].tls%[1%]: .*none.pem", found[2])
    assert.matches("^hooks 4 publish fails for every request", found[3])
    assert.matches("^store 1 store.path: .*blocked: is not a directory", found[4])
    assert.same({}, d.skipped)
    -- what depends on what is wrong is not judged
    d = document(broken, { config = 'keys = { main = { secret = "short" } }', "--no-luacheck" })
    assert.matches("keys.main.secret: expected at least 32 bytes", only(d.problems).message)
    assert.same({ { step = "hooks", reason = "they depend on settings: mend keys.main.secret first" } }, d.skipped)
    d = document(nil, { at = prepare { ["conf.lua"] = "return { polcy = {} }" }, "--no-luacheck" })
    assert.equal(2, #d.problems)
    assert.equal("policy", d.skipped[1].step)
    d = document(nil, { at = prepare { ["conf.lua"] = "return { policy = }" }, "--no-luacheck" })
    assert.equal(1, #d.problems)
    assert.equal("policy, keys, certificates, store", d.skipped[1].step)
  end)

  it("looks at what the store would find, and leaves it as it is", function()
    local function store_of(files, config)
      local b = prepare(files, config)
      files["try.lua"] = files["try.lua"] or with ""
      b:write_file("try.lua", files["try.lua"])
      local d, code = document(nil, { at = b, "--no-luacheck" })
      return code, d.problems, b
    end
    local code, problems, b = store_of({}, 'store = { path = "new" }')
    assert.same({ 0, {} }, { code, problems })
    assert.is_nil(io.open(b.dir .. "/new"))
    code, problems = store_of({}, 'store = { path = "new/" }')
    assert.same({ 0, {} }, { code, problems })
    code, problems = store_of({ ["events.db"] = ("no database "):rep(99) }, 'store = { path = "." }')
    assert.equal(78, code)
    assert.matches("events.db: is not a SQLite database; move it away", only(problems).message)
    -- most programs give their databases no application_id
    local other = "SQLite format 3\0" .. ("\0"):rep(31) .. "\4" .. ("\0"):rep(52)
    code, problems = store_of({ ["events.db"] = other }, 'store = { path = "." }')
    assert.equal(78, code)
    assert.matches("events.db: is a database of another program; move it away", only(problems).message)
    local newer = "SQLite format 3\0" .. ("\0"):rep(47) .. "\99" .. ("\0"):rep(4) .. "TIDG" .. ("\0"):rep(30)
    code, problems = store_of({ ["events.db"] = newer }, 'store = { path = "." }')
    assert.equal(78, code)
    assert.matches("newer Tidegate %(schema 99, this one knows up to %d+%): install that ", only(problems).message)
    code, problems = store_of({}, 'store = { path = "not/there/yet" }')
    assert.equal(0, code) -- another machine may have it
    assert.same({ "warning", "store" }, { only(problems).severity, problems[1].source })
    assert.matches("not/there: there is no such directory", problems[1].message)
  end)

  it("fails for a hook that fails whatever it is asked, and only for such a one", function()
    for hook, policy in pairs {
      authenticate = with "function P.authenticate(req) return { sub = req.query.nobody.sub } end",
      subscribe = with "function P.subscribe(req) return { topics = req.topics[1] .. nil } end",
      publish = with "function P.publish(pub) return pub.nothing.at_all end",
    } do
      local d, code = document(policy)
      assert.equal(78, code, hook)
      local errors = {}
      for _, problem in ipairs(d.problems) do
        errors[#errors + 1] = problem.severity == "error" and problem or nil
      end
      assert.matches("^" .. hook .. " fails for every request that check tries. The first ", only(errors).message)
    end
    for what, hooks in pairs {
      ["it needs a parameter"] = "function P.subscribe(req) return { topics = { tg.topic(req.query.room) } } end",
      ["authenticate denies some"] = [[
        function P.authenticate(req) return req.bearer and { sub = "x" } or tg.deny(401, "no") end
        function P.subscribe(req) return { topics = { tg.topic(req.query.room) } } end]],
      ["it denies some"] = [[
        function P.subscribe(req)
          if not req.query.room then return tg.deny(400, "room") end
          error "never right"
        end]],
      ["nothing is known of what the database has"] = [[
        P.queries = { one = "select 1" }
        function P.subscribe() return { topics = { (db.query "one")[1].topic } } end]],
    } do
      local d, code = document(with(hooks), { config = 'database = { driver = "sqlite", path = "app.db" }' })
      assert.same({ 0, 0 }, { code, d.errors }, what .. json.encode(d.problems))
    end
  end)
end)

describe("tidegate check --json", function()
  it("lists problems with their places, and ends as without it", function()
    local d, code = document "return {\n api = 1,\n subscribe = function( return end }"
    assert.equal(78, code)
    assert.is_false(d.ok)
    assert.equal(1, d.errors)
    local p = only(d.problems)
    assert.same({ "error", "policy", 3 }, { p.severity, p.source, p.line })
    assert.matches("/try%.lua$", p.file)
    assert.matches("^<name> or .- expected", p.message)
  end)

  it("leaves out what is not known", function()
    local policy = with "":gsub(', version = "try%-1"', "")
    local _, out = check(policy, { "--json" })
    assert.is_nil(out:find('"label"', 1, true))
    assert.is_nil(out:find("null", 1, true))
  end)

  it("sends no control characters to a terminal", function()
    local _, _, err = check(with "function P.authenticate() error 'a\27[2Jb\194\155c' end")
    assert.matches("a\\x1B%[2Jb\\x9Bc", err)
    assert.is_nil(err:find "[^%C\n]")
  end)

  it("names the column in a filter text, and the file that was required", function()
    local p = only(document(with "P.filters = { f = [[attrs.a ==\n  $x and and]] }").problems)
    assert.same({ 5, 10 }, { p.line, p.column })
    p = only(document("return require 'more'", { files = { ["more.lua"] = "\nlocal x = nil\nreturn x.y" } }).problems)
    assert.equal(3, p.line)
    assert.matches("/more%.lua$", p.file)
  end)

  it("lists those of a configuration, with what was meant", function()
    local d, code = document(with "", { config = "lisen = {}, sse = { heartbeat_s = 0 }" })
    assert.equal(78, code)
    assert.equal(2, d.errors)
    local by = {}
    for _, p in ipairs(d.problems) do
      assert.same({ "configuration", "conf.lua" }, { p.source, p.file })
      by[p.message:match "^[%w_.]+"] = p
    end
    assert.equal('did you mean "listen"?', by.lisen.hint)
    assert.matches("1 to 3600", by["sse.heartbeat_s"].message)
    assert.equal("try-1", d.policy.label)
    assert.equal(3, only(document(with "", { config = "\n\n}" }).problems).line)
  end)

  it("says what is in a policy, and what its filters read", function()
    local d, code = document(with [[
P.queries = { mine = "select 1 where $1 = 2" }
P.filters = { near = "attrs.cell == $cell and tonumber(data.a.b) > 1 and data.a.b < 9 and has(attrs.cell)",
  slow = function() return true end }
P.formats = { less = { drop = { "a" } }, own = function(ev) return ev.raw end }
function P.publish(pub) return pub end]], { config = 'database = { driver = "sqlite", path = "none.db" }' })
    assert.equal(0, code)
    assert.is_true(d.ok)
    local p = d.policy
    assert.same({ "authenticate", "subscribe", "publish" }, p.hooks)
    assert.same({ { name = "mine", parameters = 1 } }, p.queries)
    assert.equal("try-1", p.label)
    assert.matches("^%x+$", p.version)
    assert.same({ { name = "near", kind = "text", at = "try.lua:5", attrs = { "attrs.cell" }, data = { "data.a.b" } },
      { name = "slow", kind = "lua", at = "try.lua:6", attrs = {}, data = {} } }, p.filters)
    assert.same({ "less", "rules", "own", "lua" }, { p.formats[1].name, p.formats[1].kind, p.formats[2].name,
      p.formats[2].kind })
    assert.same({}, d.problems)
    assert.is_true(d.tried > 10)
  end)

  it("says so when a filter makes the data be scanned", function()
    local code, out = check(with 'P.filters = { f = "attrs.a == data.b.c" }')
    assert.equal(0, code)
    assert.matches("filters   f %(text: attrs%.a, data%.b%.c: scans the data of each event%)", out)
  end)
end)

describe("tidegate check --db", function()
  local CONFIG = 'database = { driver = "sqlite", path = "app.db" }'
  local POLICY = with [[
P.queries = {
  good = "select topic from entitlement where login = $1",
  bad = "select topic from nowhere",
  ["bad-too"] = "select topi from entitlement",
}]]

  it("has every query prepared, and says which are refused", function()
    local b = prepare({ ["try.lua"] = POLICY }, CONFIG)
    assert.equal(0, (tidegate.run("/usr/bin/sqlite3", { args = { b.dir .. "/app.db",
      "create table entitlement (topic text, login text)" } })))
    local d, code = document(nil, { at = b, "--db" })
    assert.equal(78, code)
    assert.equal(2, d.errors)
    assert.same({ "query 'bad': no such table: nowhere", "query 'bad-too': no such column: topi (line 1, column 8)" },
      { d.problems[1].message, d.problems[2].message })
    assert.same({ 6, 7 }, { d.problems[1].line, d.problems[2].line })
    assert.equal(0, select(2, document(nil, { at = b }))) -- nobody has asked the database
  end)

  it("ends with 69 when it is away", function()
    local code, _, err = check(POLICY, { config = CONFIG, "--db" })
    assert.equal(69, code)
    assert.matches("conf.lua: error: the database is away, queries were not prepared: .*app%.db", err)
    local sloppy = POLICY:gsub("return P$", "local unused = 1\n%0")
    assert.equal(69, (check(sloppy, { config = CONFIG, "--db" })))
    assert.equal(78, (check(sloppy, { config = CONFIG, "--db", "--strict" }))) -- with it, that is not all
  end)

  it("says when there is none", function()
    local code, out = check(with "", { "--db", "--no-luacheck" })
    assert.equal(0, code)
    assert.matches("skipped   database: the configuration has none", out)
  end)

  it("says that queries are not prepared without --db", function()
    local code, out = check(with 'P.queries = { q = "select 1" }', { "--no-luacheck", config = CONFIG })
    assert.equal(0, code)
    assert.matches("skipped   database: queries are prepared with --db only", out, 1, true)
  end)

  it("refuses holes between parameters without a database", function()
    local p = only(document(with 'P.queries = { q = "select $1, $3" }', { config = CONFIG }).problems)
    assert.matches("queries.q: skips a parameter", p.message)
  end)
end)

describe("tidegate check, with luacheck,", function()
  local POLICY = with [[
local n = os.getenv
P.formats = { f = function()
  local topic, also = tg.topic("a"), tg.tpic
  undefined(topic, http.get, json.null, string.len, sleep, also)
end }]]

  it("warns of what no policy can see", function()
    local d, code = document(POLICY, { files = { ["more.lua"] = "return 1" } })
    assert.equal(0, code)
    local seen = {}
    for _, p in ipairs(d.problems) do
      assert.same({ "warning", "luacheck" }, { p.severity, p.source })
      assert.matches("/try%.lua$", p.file)
      seen[#seen + 1] = p.line .. ": " .. p.message
    end
    assert.same({ "4: unused variable 'n'", "4: accessing undefined field 'getenv' of global 'os'",
      "6: accessing undefined field 'tpic' of global 'tg'", "7: accessing undefined variable 'undefined'" }, seen)
    assert.equal(11, d.problems[2].column)
  end)

  it("lets --strict make errors of warnings, --no-luacheck do without", function()
    local code, _, err = check(POLICY, { "--strict" })
    assert.equal(78, code)
    assert.matches("0 errors, 4 warnings", err)
    code, _, err = check(POLICY, { "--strict", "--no-luacheck" })
    assert.equal(0, code)
    assert.equal("", err)
  end)

  it("says when it is not there", function()
    local code, out = check(POLICY, { env = { PATH = "/nonexistent" } })
    assert.equal(0, code)
    assert.matches("skipped   luacheck: it is not installed", out)
  end)

  it("says when it does not work", function()
    local b = prepare { ["try.lua"] = POLICY, ["luacheck"] = "#!/bin/sh\necho no module >&2\nexit 4\n" }
    assert.equal(0, (tidegate.run("/bin/chmod", { args = { "+x", b.dir .. "/luacheck" } })))
    local d, code = document(nil, { at = b, env = { PATH = b.dir } })
    assert.equal(0, code)
    assert.same({ { step = "luacheck", reason = "no module " } }, d.skipped)
    b:write_file("luacheck", "#!/bin/sh\nwhile :; do echo 1234567890123456789012345678901234567890; done\n")
    d, code = document(nil, { at = b, env = { PATH = b.dir } })
    assert.equal(0, code)
    assert.matches("luacheck wrote more than 262144 bytes", d.skipped[1].reason)
  end)
end)

describe("tidegate check, calling hooks,", function()
  local function warning(policy, config, severity)
    local p = only(document(policy, { "--no-luacheck", config = config }).problems)
    assert.same({ severity or "warning", "hooks" }, { p.severity, p.source })
    return p
  end

  it("finds nil where a header was expected", function()
    local p = warning(with "function P.authenticate(req)\n  return { sub = req.headers.name:sub(1, 2) }\nend")
    assert.equal(5, p.line)
    assert.matches("^authenticate fails for an anonymous request: attempt to index a nil value", p.message)
  end)

  it("finds wrong return values, and hooks that do not end", function()
    assert.matches("subscribe fails for every request that check tries. The first has no token: .*topics",
      warning(with "function P.subscribe() return { topic = { 'a' } } end", nil, "error").message)
    assert.matches("publish fails for a publish of an event: attempt to index a nil value", warning(with
      "function P.publish(pub) return pub.key:len() > 1 and pub end").message)
    assert.matches("CPU time", only(document(with "function P.authenticate() while true do end end",
      { "--no-luacheck" }).problems).message) -- an error, or a warning where time was short
  end)

  it("finds mistakes in disconnect and reload", function()
    local p = warning(with "function P.disconnect(who, info)\n  return who.sub .. info.none.x\nend")
    assert.equal(5, p.line)
    assert.matches("^disconnect fails for a client that has left: attempt to index a nil value", p.message)
    assert.matches("^reload fails: .*resubscribe", warning(with "function P.reload() return 'all' end").message)
  end)

  it("finds params that a filter misses", function()
    local p = warning(with [[P.filters = { f = "attrs.a == $x" }
      function P.subscribe() return { topics = { "a" }, filter = "f" } end]], nil, "error")
    assert.matches("params.x: missing", p.message)
  end)

  it("finds look-ups whose failure, or whose having no rows, nobody expects", function()
    local config = 'database = { driver = "sqlite", path = "none.db" }'
    local function policy(take)
      return with("P.queries = { q = 'select 1' }\nfunction P.subscribe()\n  local rows, err = db.query 'q'\n" .. take
        .. "\n  return { topics = { rows[1].topic } }\nend")
    end
    local d = document(policy "", { "--no-luacheck", config = config })
    assert.equal(2, #d.problems)
    assert.matches("while databases and servers are away: attempt to index a nil value %(local 'rows'%)",
      d.problems[1].message)
    local p = warning(policy "  if not rows then return nil, err end", config)
    assert.equal(8, p.line)
    assert.matches("while databases have no rows", p.message)
    assert.same({}, document(policy [[  if not rows then return nil, err end
      if not rows[1] then return tg.deny(403, 'x') end]], { "--no-luacheck", config = config }).problems)
  end)

  -- The one about wildcards. (An empty value is a mistake of these policies, too.)
  local function problem(policy)
    local found = {}
    for _, p in ipairs(document(policy, { "--no-luacheck" }).problems) do
      found[#found + 1] = p.message:find "as a part of topics" and p or nil
    end
    return only(found)
  end

  it("finds questions that nobody can answer", function()
    local function error_of(call)
      local policy = with(([[P.queries = { q = "select 1 where $1 = 2" }
        function P.subscribe()
          local x, err = %s
          if not x then return nil, err end
          return { topics = { "a" } }
        end]]):format(call))
      local config = [[database = { driver = "sqlite", path = "none.db" },
        http_targets = { t = { url = "http://127.0.0.1:1" } }]]
      local p = only(document(policy, { "--no-luacheck", config = config }).problems)
      assert.equal("error", p.severity)
      return p.message
    end
    assert.matches("'qq' is called, which the policy does not declare", error_of "db.query('qq', 1)")
    assert.matches("'q' is called with 2 arguments, and takes 1", error_of "db.query('q', nil, nil)")
    assert.matches("'u' is called, which is not a target", error_of "http.get 'u'")
    assert.matches("'qq' is called", error_of "http.get 't' if true then x = db.query 'qq' end")
  end)

  it("finds variables of the file that are another request's after a wait, and only those", function()
    local function found(code)
      local policy = "local user, open, rooms\n" .. with(code)
      return document(policy, { "--no-luacheck", config = [[
        database = { driver = "sqlite", path = "none.db" }, http_targets = { t = { url = "http://127.0.0.1:1" } }]] })
        .problems
    end
    for _, wait in ipairs { "sleep(0.01)", "local x = http.get('t', { path = '/' .. user })",
      "local x = cache.fetch('k', 1, function() return true end)" } do
      local p = only(found(([[function P.subscribe(req)
        user = req.ip
        %s
        return { topics = { tg.topic(user) } }
      end]]):format(wait)))
      assert.equal("warning", p.severity)
      assert.equal(8, p.line)
      assert.matches("^user is one variable for all requests: it is set in line 6, and read here behind the wait in "
        .. "line 7", p.message)
    end
    for _, fine in ipairs {
      "local user = req.ip sleep(0.01) return { topics = { tg.topic(user) } }",
      "user = req.ip local own = user sleep(0.01) return { topics = { tg.topic(own) } }",
      "open = (open or 0) + 1 sleep(0.01) open = open - 1 return { topics = { 'a' } }",
      "if not rooms then sleep(0.01) rooms = { 'a' } end return { topics = rooms }",
      "sleep(0.01) user = req.ip return { topics = { tg.topic(user) } }",
    } do
      assert.same({}, found("function P.subscribe(req) " .. fine .. " end"))
    end
    for name in require("luv").fs_scandir_next, assert(require("luv").fs_scandir(POLICIES)) do
      if name:find "%.lua$" then
        local problems = document(read(POLICIES .. name), { "--no-luacheck" }).problems
        assert.is_nil(json.encode(problems):find("one variable", 1, true), name)
      end
    end
  end)

  it("finds wildcards that a client may slip into topics, and only those", function()
    local p = problem(with [[function P.subscribe(req)
      return { topics = { "room/" .. (req.query.room or "x") .. "/x" } } end]])
    assert.matches('query%.room as a part of topics, even "%*": room/%*/x', p.message)
    problem(with [[function P.authenticate(req) return { sub = req.cookies["room-name"] or "x" } end
      function P.subscribe(_, who) return { topics = { who.sub .. "/**" } } end]])
    for _, fine in ipairs {
      "{ topics = { tg.topic_ok(req.query.room) and 'room/' .. req.query.room or 'x' } }",
      "{ topics = { 'room/*' }, params = { room = req.query.room } }",
      "{ topics = #req.topics > 0 and tg.pattern_ok(req.topics[1]) and req.topics or { 'x' } }",
    } do
      local policy = with("function P.subscribe(req) return " .. fine .. " end")
      assert.same({}, document(policy, { "--no-luacheck" }).problems)
    end
  end)

  it("takes a key set that is not configured for an error", function()
    local policy = with [[function P.authenticate(req)
      local c, err = tg.jwt(req.bearer, { keys = "main", alg = { "HS256" } })
      if not c then return tg.deny(401, err) end
      return { sub = c.sub }
    end]]
    local d, code = document(policy, { "--no-luacheck" })
    assert.equal(78, code)
    assert.matches("unknown key set 'main'", only(d.problems).message)
    assert.equal(0, (check(policy, { config = ('keys = { main = { secret = "%s" } }'):format(SECRET) })))
  end)

  it("takes keys that are not for the algorithm for one, too", function()
    local d, code = document(with [[function P.authenticate(req)
      local c, err = tg.jwt(req.bearer, { keys = "main", alg = { "RS256" } })
      if not c then return tg.deny(401, err) end
      return { sub = c.sub }
    end]], { "--no-luacheck", config = ('keys = { main = { secret = "%s" } }'):format(SECRET) })
    assert.equal(78, code)
    local p = only(d.problems)
    assert.matches("the keys of 'main' are not for RS256", p.message)
    assert.same({ "error" }, { p.severity, p.hint })
  end)

  it("says when authenticate kept all of its requests from the other hooks", function()
    local closed = with [[function P.authenticate(req) return tg.deny(401, "no") end
      function P.subscribe() return nil .. 1 end]]
    local d, code = document(closed, { "--no-luacheck" })
    assert.equal(0, code)
    assert.same({ { step = "hooks", reason = "subscribe was not tried, since authenticate denies all requests that "
      .. 'check makes up: list requests with "who" in a file and name it with --samples (tidegate help check)' } },
      d.skipped)
    d = document(closed .. "\n", { "--no-luacheck", "--samples", "mine", files = { mine = '{"expect": 401}' } })
    assert.matches("^subscribe was not tried", d.skipped[1].reason)
    -- a sample that begins behind authenticate tries it
    d = document(closed .. "\n", { "--no-luacheck", "--samples", "mine", files = { mine = '{"who": {}}' } })
    assert.same({}, d.skipped)
    assert.matches("subscribe fails", only(d.problems).message)
    for _, open in ipairs { "", "function P.subscribe() return tg.deny(403, 'no') end" } do
      assert.same({}, document(with(open), { "--no-luacheck" }).skipped)
    end
  end)

  -- A policy that lets nobody in without a token of this kind.
  local function of_tokens(hooks, alg)
    return with(([[
      local function claims_of(req)
        return tg.jwt(req.bearer or req.cookies.session, { keys = "main", alg = { "%s" }, iss = "https://id.example",
          aud = { "tidegate", "other" }, typ = "at+jwt" })
      end
      function P.authenticate(req)
        local claims, err = claims_of(req)
        if not claims then return tg.deny(401, err) end
        return { sub = claims.sub, team = claims.team, realm = claims.realm and tostring(claims.realm.roles) }
      end
      %s]]):format(alg or "HS256", hooks))
  end
  local HS = ('keys = { main = { secret = "%s" } }'):format(SECRET)

  it("gets past authenticate with tokens that it makes up, and finds hooks that always fail", function()
    for _, case in ipairs {
      { HS, "HS256" }, { 'keys = { main = { jwks_url = "https://id.example/keys" } }', "ES256" },
      { 'keys = { main = { secret_file = "none" } }', "HS384", also = "cannot be read" },
      { 'keys = { main = { jwks_file = "none" } }', "EdDSA", also = "cannot be read" },
    } do
      local d, code = document(of_tokens("function P.subscribe() return nothing.at_all end", case[2]),
        { "--no-luacheck", config = case[1] })
      assert.equal(78, code)
      local p = table.remove(d.problems)
      assert.same({ "error", "hooks", 13 }, { p.severity, p.source, p.line })
      assert.matches("^subscribe fails for every request that check tries. The first has a token with plain claims: ",
        p.message)
      local fetched = { step = "keys", reason = "keys.main: a jwks_url is fetched by a broker only" }
      assert.same(case[2] == "ES256" and { fetched } or {}, d.skipped)
      if case.also then
        p = table.remove(d.problems)
        assert.matches(case.also, p.message)
      end
      assert.same({}, d.problems)
    end
    local d = document(of_tokens "function P.publish() return nothing.at_all end", { "--no-luacheck", config = HS })
    assert.matches("^publish fails for every request that check tries", only(d.problems).message)
  end)

  it("looks at the files of a policy that cannot be loaded, and says what it leaves out", function()
    local d = document("local s = tg.settings { public = \"string\" }\nlocal P = { api = 1 }\n"
      .. "function P.authenticate() return tg.dney(401, s.public) end\nreturn P")
    assert.same({ "error", "policy" }, { d.problems[1].severity, d.problems[1].source })
    assert.matches("public is missing", d.problems[1].message)
    assert.same({ "warning", "luacheck", 3 }, { d.problems[2].severity, d.problems[2].source, d.problems[2].line })
    assert.matches("dney", d.problems[2].message)
    assert.same({ step = "hooks, queries", reason = "the policy cannot be loaded: mend that first" },
      d.skipped[#d.skipped])
    d = document "return { api = 1, subscribe = function( }"
    assert.equal(1, #d.problems) -- what cannot be read is said once
  end)

  it("knows the algorithms of policies that have them from a setting", function()
    for _, name in ipairs { "tenant", "claims" } do
      local d = document(read(POLICIES .. name .. ".lua"), { "--no-luacheck",
        files = { ["conf.lua"] = ([[return { %s, database = { driver = "sqlite", path = "none.db" },
          policy = { file = "try.lua", settings = { alg = { "HS256" } } } }]]):format(HS) } })
      assert.same({}, d.problems)
      for _, skipped in ipairs(d.skipped) do
        assert.are_not.equal("hooks", skipped.step)
      end
      assert.is_true(d.tried > 30)
    end
  end)

  it("finds nothing in hooks that do well with tokens, whatever kind of claims they want", function()
    for _, hooks in ipairs {
      "", "function P.subscribe(_, who) return { topics = { tg.topic('of', who.sub:sub(1, 9)) } } end",
      [[function P.authenticate(req)
        local c, err = tg.jwt(req.bearer, { keys = "main", alg = { "HS256" } })
        if not c then return tg.deny(401, err) end
        local all = {}
        for i, role in ipairs(c.roles or {}) do all[i] = "of/" .. #role end
        return { sub = "x", level = (c.level or 1) + 1, topics = table.concat(all, " "), late = c.exp < 5 }
      end]],
      "function P.subscribe() return tg.deny(403, 'nobody') end",
    } do
      local d, code = document(of_tokens(hooks), { "--no-luacheck", config = HS })
      assert.same({ 0, {}, {} }, { code, d.problems, d.skipped }, hooks)
    end
  end)

  it("finds claims that may be missing, long, or wildcards", function()
    local d, code = document(of_tokens [[function P.subscribe(_, who)
      return { topics = { "teams/" .. who.team .. "/" .. ("y"):rep(60) } } end]], { "--no-luacheck", config = HS })
    assert.equal(0, code)
    local found = {}
    for i, p in ipairs(d.problems) do
      found[i] = p.message
    end
    assert.equal(3, #found, json.encode(found))
    assert.matches("^subscribe fails for a token that has only sub: attempt to concatenate a nil value", found[1])
    assert.matches("^subscribe fails for a token with long claims: topics%[1%]: is longer than", found[2])
    assert.matches('^subscribe grants what the token says as a part of topics, even "%*": teams/%*/y', found[3])
  end)

  it("asks with nonsense, and whatever headers the policy reads", function()
    local p = warning(with [[function P.authenticate(req)
      for _, topic in ipairs(req.topics) do
        if topic:find "%c" then error "control characters" end
      end
      return { sub = "x" }
    end]])
    assert.matches("a request with nonsense: control characters", p.message)
    p = warning(with [[function P.authenticate(req)
      local h = req.headers
      local all = { h.host, h["Host"], h["content-type"], h["Content-Length"], h["transfer-encoding"], h.connection,
        h.expect, h["x-forwarded-for"], h["last-event-id"], h.accept }
      if req.query.room == "1" then error("numbers " .. #all) end
      return { sub = "x" }
    end]])
    assert.matches("a request with numbers: numbers", p.message)
    local d = document(with [[function P.subscribe(req)
      return { topics = { req.query.topic and "of/" .. req.query.topic or "x" } }
    end]], { "--no-luacheck" })
    for _, found in ipairs(d.problems) do
      assert.is_nil(found.message:find "as a part of topics", found.message)
    end
  end)

  it("leaves out what setup does not allow, and all with --no-samples", function()
    local d, code = document(with "function P.setup() error 'needs a database' end", { "--no-luacheck" })
    assert.equal(0, code)
    assert.matches("setup fails while .*needs a database", d.skipped[1].reason)
    d = document(with "function P.authenticate(req) return req.nil_ end", { "--no-luacheck", "--no-samples" })
    assert.same({}, d.problems)
    assert.equal(0, d.tried)
  end)
end)

describe("tidegate check --samples", function()
  local POLICY = with [[
P.filters = { f = function(ev) return ev.attrs.n.x end }
P.queries = { q = "select 1" }
function P.authenticate(req)
  if req.bearer == "db" then
    local rows = db.query "q"
    return { sub = rows and rows[1].name }
  end
  if req.bearer ~= "x" then return tg.deny(401, "no") end
  return { sub = "x" }
end
function P.subscribe(_, who) return { topics = { "of/" .. who.sub }, filter = "none" } end]]

  local function samples(text, ...)
    local d, code = document(POLICY, { "--no-luacheck", "--no-samples", "--samples", "mine", files = { mine = text },
      config = 'database = { driver = "sqlite", path = "none.db" }', ... })
    local seen = {}
    for i, p in ipairs(d.problems) do
      assert.same({ "error", "samples", "mine" }, { p.severity, p.source, p.file })
      seen[i] = (p.line or "-") .. " " .. p.message
    end
    return seen, code, d
  end

  it("passes what answers as expected", function()
    local seen, code, d = samples [[
{"expect": 401}
{"expect": "denied"}

{"bearer": "x", "expect": "granted"}
{"who": {"sub": "y"}, "expect": "granted"}
{"hook": "authenticate", "bearer": "db", "db": {"q": [{"name": "z"}]}}
{"hook": "observe", "event": {"topic": "a"}, "expect": "not-observed"}
]]
    assert.same({}, seen)
    assert.equal(0, code)
    assert.equal(6, d.tried)
  end)

  it("tells what does not, with its line", function()
    local seen, code = samples [[
{"expect": "granted"}
{"bearer": "x", "expect": 403}
{"bearer": "db", "db": {"q": []}, "expect": "transient"}
{"hook": "filter", "name": "f", "event": {"topic": "a"}}
{"hook": "filter", "name": "g", "event": {"topic": "a"}}
{"hook": "connect"}
{"expect": "grant"}
{"topic": "a"}
[]
nonsense
]]
    assert.equal(78, code)
    table.sort(seen)
    assert.equal(10, #seen)
    for i, pattern in ipairs { "^1 .*granted was expected, got denied 401: no", "^10 not JSON",
      "^2 .*403 was expected, got granted of/x", "^3 .*authenticate fails: try.lua:9: attempt to index a nil value",
      "^4 .*filter fails: try.lua:4", "^5 .*no such filter", "^6 .*hook: authenticate", "^7 .*expect: granted",
      '^8 .*unknown field "topic"', "^9 .*a JSON object was expected" } do
      assert.matches(pattern, seen[i])
    end
  end)

  it("answers each sample as if it were the first: what the cache has of others is gone", function()
    local policy = with [[
P.queries = { q = "select 1" }
function P.subscribe(_, who)
  local rows = cache.fetch("q", { ttl = 3600, stale = 3600 }, function() return db.query "q" end)
  if #rows > 0 then return { topics = { "a" } } end
  return tg.deny(403, "no rows")
end]]
    local one = '{"who": {}, "db": {"q": [{"a": 1}]}, "expect": "granted"}\n'
    local none = '{"who": {}, "db": {"q": []}, "expect": 403}\n'
    local d, code = document(policy, { "--no-luacheck", "--no-samples", "--samples", "mine",
      files = { mine = one .. none .. one }, config = 'database = { driver = "sqlite", path = "none.db" }' })
    assert.same({ 0, {} }, { code, d.problems })
  end)

  it("asks each as if no other had taken of a rate, and what it makes up as well", function()
    local policy = [[
local P = { api = 1 }
function P.authenticate(req)
  local ok, wait = tg.rate("login", "all", { per_s = 0.0001, burst = 1 })
  if not ok then return tg.deny(429, "later", { retry_after = wait }) end
  assert(not req.bearer or #req.bearer > 0)
  return { sub = "ann" }
end
function P.subscribe(req, who)
  return { topics = { "a" }, quota = { { key = "user:" .. who.sub, max = 1, over = "deny" } } }
end
function P.publish(pub, who)
  if not tg.rate("publish", who.sub, { per_s = 0.0001, burst = 1 }) then return tg.deny(429, "later") end
  return pub
end
return P
]]
    local publish = '{"hook": "publish", "event": {"topic": "a", "data": 1}, "expect": "granted"}\n'
    local mine = ('{"expect": "granted"}\n'):rep(2) .. publish:rep(2)
    local d, code = document(policy, { "--no-luacheck", "--samples", "mine", files = { mine = mine } })
    assert.same({}, d.problems)
    assert.equal(0, code)
  end)

  it("tells what was expected where an object goes on on the next line, once", function()
    local seen = samples '{"bearer": "x"}\n{\n  "bearer": "x",\n  "expect": "granted"\n}'
    assert.same({ "2 one object on each line, or an array, was expected: this object does not end on its line" }, seen)
    assert.matches("^1 sample: expect: granted, denied, a status", samples '{"expect": "401"}'[1])
  end)

  it("takes a list, too, and refuses a file that is none", function()
    local seen = samples '[{"bearer": "x"},\n {"bearer": "x", "expect": "denied"}]'
    assert.same({ "- sample 2: subscribe: denied was expected, got granted of/x" }, seen)
    assert.equal(78, select(2, samples "[{]"))
    assert.equal(66, (check(POLICY, { "--samples", "none" })))
  end)
end)
