local policies = require "support.policies"

-- Settings as native.policy takes them, from { name = value }; a secret is { secret = text } or { file = path }.
local function list(settings)
  local out = {}
  for name, value in pairs(settings) do
    local kind = math.type(value) or type(value)
    if type(value) == "table" and (value.secret or value.file) then
      kind, value = value.secret and "secret" or "secret_file", value.secret or value.file
    end
    kind = ({ float = "number", table = "list" })[kind] or kind
    out[#out + 1] = { name, kind, kind == "list" and value or tostring(value) }
  end
  table.sort(out, function(a, b) return a[1] < b[1] end)
  return out
end

-- A policy that declares `declaration`, with `code` in subscribe (its answer becomes the identity's `out`).
local function open(declaration, settings, code, top)
  return policies.open_text(([[
local settings = tg.settings %s
local P = { api = 1 }
%s
function P.authenticate(req) local out = (function() %s end)() return { sub = "u", out = out } end
function P.subscribe() return { topics = { "a" } } end
return P
]]):format(declaration, top or "", code or "return 1"), { settings = list(settings) })
end

-- What the code answers; or the line that it logs.
local function run(declaration, settings, code)
  local p = assert(open(declaration, settings, code))
  local log, verdict = policies.capture(p.subscribe, p, policies.request())
  p:close()
  return verdict.kind == "allow" and verdict.identity or (policies.first_line(log).error:gsub("^p.lua:4: ", ""))
end

local function refusal(declaration, settings, top)
  local p, err = open(declaration, settings, nil, top)
  assert.is_nil(p)
  return (err:gsub("^policy %S+: ", ""))
end

local function version(declaration, settings)
  local p = assert(open(declaration, settings))
  local hash = p:version()
  p:close()
  return hash
end

describe("settings of a policy", function()
  it("are there from the declaration on, by the types that it names", function()
    assert.equal('{"out":"https://id 5 2.5 true ann+bob 7","sub":"u"}', run([[{
      issuer = "string", streams = { "integer", default = 5, min = 1 }, share = "number", debug = "boolean",
      admins = "list", more = { "integer", optional = true } }]],
      { issuer = "https://id", share = 2.5, debug = true, admins = { "ann", "bob" }, more = 7 },
      [[local s = tg.settings
        return table.concat({ s.issuer, s.streams, s.share, tostring(s.debug), table.concat(s.admins, "+"), s.more },
          " ")]]))
    -- at the top of the file, too: filters are text that may be made of them
    local p = assert(open('{ least = "integer" }', { least = 3 }, nil,
      'P.filters = { big = "attrs.size >= " .. settings.least }'))
    p:close()
  end)

  it("take texts where they hold what is wanted: those of env() are texts", function()
    assert.equal('{"out":"5 0.5 false a-b","sub":"u"}', run(
      '{ n = "integer", share = "number", on = "boolean", who = "list" }',
      { n = "5", share = "0.5", on = "false", who = "a, b" },
      [[return settings.n .. " " .. settings.share .. " " .. tostring(settings.on) .. " "
        .. table.concat(settings.who, "-")]]))
  end)

  it("that are missing or of another type are all named, with file, line and what was expected", function()
    assert.equal("p.lua:1: policy.settings.hook is missing: expected a secret; "
      .. "policy.settings.issuer: expected a text, "
      .. "found an integer; policy.settings.mode: expected \"fast\", \"safe\", found something else; "
      .. "policy.settings.streams: expected an integer from 1 to 9, found a higher one",
      refusal([[{ hook = "secret", issuer = "string", mode = { "string", one_of = { "fast", "safe" } },
        streams = { "integer", min = 1, max = 9 } }]], { issuer = 5, mode = "quick", streams = 10 }))
    for declaration, found in pairs {
      ['"integer"'] = "an integer, found another text", ['"boolean"'] = "true or false, found another text",
      ['{ "string", max = 3 }'] = "a text of at most 3 bytes, found one of another length",
      ['{ "list", max = 1 }'] = "a list of texts of at most 1 texts, found 2 of them",
    } do
      assert.equal("p.lua:1: policy.settings.x: expected " .. found,
        refusal("{ x = " .. declaration .. " }", { x = "maybe, x" }))
    end
    assert.matches("expected a text, found an empty one", refusal('{ x = "string" }', { x = "" }))
    assert.matches("expected a number, found another text", refusal('{ x = "number" }', { x = "nan" }))
    assert.matches("expected an integer, found another text",
      refusal('{ x = "integer" }', { x = "99999999999999999999" }))
  end)

  it("that the policy does not declare do not load", function()
    assert.equal("policy.settings.isuer: the policy declares no such setting; did you mean 'issuer'?",
      refusal('{ issuer = { "string", default = "x" } }', { isuer = "y" }))
    local p, err = policies.open_text("return { api = 1 }", { settings = list { x = 1 } })
    assert.is_nil(p)
    assert.matches("policy.settings.x: the policy declares no such setting: it calls tg.settings { ... } nowhere",
      err, 1, true)
    p, err = policies.open_text("return { api = 1, settings = {} }")
    assert.is_nil(p)
    assert.matches("settings: declare them with tg.settings { ... } at the top of p.lua", err, 1, true)
  end)

  it("are read only, and unknown names raise", function()
    assert.equal("tg.settings: unknown setting 'isuer'; did you mean 'issuer'?",
      run('{ issuer = "string" }', { issuer = "x" }, "return settings.isuer"))
    assert.equal("tg.settings is read-only", run('{ a = "string" }', { a = "x" }, "settings.a = 1"))
    assert.equal("a setting is read-only", run('{ a = "list" }', { a = { "x" } }, "settings.a[1] = 1"))
    assert.matches("move it to the top of the file", run('{ a = "list" }', { a = { "x" } }, "tg.settings {}"))
    assert.equal('{"out":"a=x b=2","sub":"u"}', run('{ a = "string", b = "integer" }', { a = "x", b = 2 },
      [[local all = {} for name, value in pairs(settings) do all[#all + 1] = name .. "=" .. value end
        table.sort(all) return table.concat(all, " ")]]))
    local p, err = policies.open_text "local x = tg.settings.issuer return { api = 1 }"
    assert.is_nil(p)
    assert.matches(
      'p.lua:1: tg.settings.issuer: no settings are declared yet: write tg.settings { issuer = "string" } before',
      err, 1, true)
  end)

  it("that are lists will do wherever a list is expected", function()
    local dir = policies.directory { ["p.lua"] = [[
      local settings = tg.settings { alg = "list", drop = "list", topics = "list" }
      return {
        api = 1, formats = { f = { drop = settings.drop } },
        observe = { { topics = settings.topics, run = print } },
        authenticate = function(req)
          local claims, err = tg.jwt("x", { keys = "main", alg = settings.alg, aud = settings.topics })
          return { sub = err, list = json.encode(settings.topics), n = #settings.topics }
        end,
        subscribe = function()
          return { topics = settings.topics, format = "f", params = { topics = settings.topics } }
        end,
      }]] }
    local p = assert(policies.open { file = dir .. "/p.lua", keys = { main = { secret = ("k"):rep(32) } },
      settings = list { alg = { "HS256" }, drop = { "secret" }, topics = { "a", "b" } } })
    local log, verdict = policies.capture(p.subscribe, p, policies.request())
    assert.equal("allow", verdict.kind, log)
    assert.matches('"list":"[\\"a\\",\\"b\\"]","n":2', verdict.identity, 1, true)
    assert.equal('{"topics":["a","b"]}', verdict.subscription.params)
    assert.same({ "a", "b" }, verdict.subscription.topics)
    p:close()
    policies.remove(dir)
  end)

  it("may be declared by modules as well, each name once", function()
    local dir = policies.directory {
      ["p.lua"] = [[local lib = require "lib" local s = tg.settings { a = "string" }
        return { api = 1, authenticate = function() return { sub = s.a .. lib.b } end,
                 subscribe = function() return { topics = { "a" } } end }]],
      ["lib.lua"] = 'return { b = tg.settings({ b = "string" }).b }',
      ["twice.lua"] = 'tg.settings { a = "string" } tg.settings { a = "string" }',
    }
    local given = { file = dir .. "/p.lua", settings = list { a = "x", b = "y" } }
    local p = assert(policies.open(given))
    assert.equal('{"sub":"xy"}', p:subscribe(policies.request()).identity)
    p:close()
    given.file = dir .. "/twice.lua"
    local _, err = policies.open(given)
    assert.matches("twice.lua:1: tg.settings: a: is declared already", err, 1, true)
    policies.remove(dir)
  end)

  it("are declared wrongly with an error that says how to mend it", function()
    for declaration, text in pairs {
      ['{ x = "strin" }'] = "x: unknown type 'strin'; did you mean 'string'?",
      ["{ x = {} }"] = "x: unknown type 'nil' (there are: string, secret, integer, number, boolean, list)",
      ['{ x = { "integer", defualt = 1 } }'] = "x: unknown option 'defualt'; did you mean 'default'?",
      ['{ x = { "integer", default = "y" } }'] = "x: default: expected an integer, found another text",
      ['{ x = { "integer", default = 0, min = 1 } }'] =
        "x: default: expected an integer of at least 1, found a lower one",
      ['{ x = { "secret", default = "y" } }'] =
        "x: default: a secret has none, it would stand in the policy; say optional = true",
      ['{ x = { "boolean", min = 1 } }'] =
        "x: min: a number was expected, of an integer, number, string, secret or list",
      ['{ x = { "string", one_of = "a" } }'] = "x: one_of: a list of texts was expected, of a string or list",
      ['{ ["x-y"] = "string" }'] = "x-y: a name of letters, digits and _ was expected, at most 64",
      ["{ 5 }"] = "1: a name of letters, digits and _ was expected, at most 64",
    } do
      assert.equal("p.lua:1: tg.settings: " .. text, refusal(declaration, {}))
    end
    assert.equal("p.lua:1: tg.settings: a table of names and types was expected, got string", refusal('"x"', {}))
  end)

  it("are part of the policy's version, which does not give secrets away", function()
    local declaration = [[{ a = { "string", optional = true }, k = { "secret", optional = true },
      l = { "list", optional = true } }]]
    local seen = {}
    for _, settings in ipairs {
      {}, { a = "x" }, { a = "y" }, { k = { secret = "x" } }, { k = { secret = "y" } }, { k = "y" },
      { l = { "a", "b" } }, { l = { "ab" } }, { l = {} }, { a = "1" }, { a = "x", k = { secret = "x" } },
    } do
      local hash = version(declaration, settings)
      assert.equal(hash, version(declaration, settings))
      assert.is_nil(seen[hash])
      seen[hash] = true
    end
  end)
end)

describe("secrets of a policy", function()
  local HOOK, WORD = '{ hook = "secret" }', "correct horse"

  local function with(code)
    return run(HOOK, { hook = { secret = WORD } }, code)
  end

  it("can be compared and be keys", function()
    assert.equal('{"out":true,"sub":"u"}', with 'return tg.equal(settings.hook, "correct horse")')
    for _, other in ipairs { '"correct horsf"', '"correct hors"', '""', "nil" } do
      assert.equal('{"out":false,"sub":"u"}', with("return tg.equal(" .. other .. ", settings.hook)"))
    end
    assert.equal('{"out":true,"sub":"u"}', with 'return tg.equal("a", "a")')
    assert.equal("tg.equal: a secret or a string was expected, got number", with "return tg.equal(5, settings.hook)")
    -- RFC 4231, case 2; the others by openssl
    local jefe = { hook = { secret = "Jefe" } }
    for more, mac in pairs {
      [""] = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
      [', { alg = "HS256", as = "base64" }'] = "W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM=",
      [', { as = "base64url" }'] = "W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM",
      [', { alg = "HS384" }'] = "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e"
        .. "8e2240ca5e69e2c78b3239ecfab21649",
      [', { alg = "HS512" }'] = "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549"
        .. "758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
    } do
      assert.equal(('{"out":"%s","sub":"u"}'):format(mac),
        run(HOOK, jefe, 'return tg.hmac(settings.hook, "what do ya want for nothing?"' .. more .. ")"))
    end
    assert.equal('{"out":32,"sub":"u"}', run(HOOK, jefe, 'return #tg.hmac("a key", "text", { as = "bytes" })'))
    assert.matches('alg: "HS256", "HS384" or "HS512" was expected',
      with 'return tg.hmac(settings.hook, "", { alg = "none" })')
    assert.matches("unknown option 'algo'", with 'return tg.hmac(settings.hook, "", { algo = "HS256" })')
    assert.matches("the key is empty", with 'return tg.hmac("", "")')
    assert.matches("key: a secret or a string was expected, got nil", with 'return tg.hmac(nil, "")')
    assert.matches("tg.hmac: more than 1048576 bytes",
      with 'return tg.hmac(settings.hook, ("xx"):rep(1 << 19) .. "x")')
  end)

  it("make longer secrets with ..", function()
    assert.equal('{"out":true,"sub":"u"}',
      with 'return tg.equal("Bearer correct horse!", "Bearer " .. settings.hook .. "!")')
    assert.equal('{"out":"<secret hook>","sub":"u"}', with 'return tostring("Bearer " .. settings.hook .. 5)')
    assert.equal("a secret longer than 65536 bytes", with 'return ("x"):rep(1 << 16) .. settings.hook')
    assert.equal("attempt to concatenate a secret and a table", with "return {} .. settings.hook")
  end)

  it("show nothing, wherever they are put", function()
    for code, out in pairs {
      ["return tostring(settings.hook)"] = '{"out":"<secret hook>","sub":"u"}',
      ['return ("%s"):format(settings.hook)'] = '{"out":"<secret hook>","sub":"u"}',
      ["return settings.hook"] = "identity.out: a string, number or boolean was expected, got a secret",
      ["return json.encode { settings.hook }"] = "value[1]: a secret has no JSON form",
      ["error(settings.hook)"] = "an error object that is a userdata, not a text",
      ["error('x' .. settings.hook)"] = "an error object that is a userdata, not a text",
      ["return #settings.hook"] = "attempt to get length of a secret value (field 'hook')",
      ["return settings.hook < 'x'"] = "attempt to compare secret with string",
      ["return settings.hook:byte(1)"] =
        "a secret has no fields and no methods: use it as a key of tg.hmac, in tg.equal, or "
        .. "as a header or body of http.get and http.post",
      ["return string.byte(settings.hook)"] = "bad argument #1 to 'byte' (string expected, got secret)",
      ["return table.concat { settings.hook }"] = "invalid value (userdata) at index 1 in table for 'concat'",
      ["return tg.deny(403, settings.hook)"] = "bad argument #2 to 'deny' (string expected, got secret)",
      ["return tg.topic(settings.hook)"] =
        "bad argument #1 to 'topic' (a string that is one topic segment was expected: "
        .. "not empty, no '/', '*' or control character)",
      ["return setmetatable(settings.hook, {})"] = "bad argument #1 to 'setmetatable' (table expected, got secret)",
      ["log.info('x', { k = settings.hook })"] =
        "log: field 'k': a string, number or boolean was expected, got secret",
      ["return tg.deny(403, 'x', { retry_after = settings.hook })"] =
        "retry_after (seconds): a number above 0 and up to 31622400 was expected, got secret",
      ["return next(settings.hook)"] = "bad argument #1 to 'next' (table expected, got secret)",
    } do
      assert.equal(out, with(code), code)
    end
    local p = assert(open(HOOK, { hook = { secret = WORD } },
      "print(settings.hook) log.info(tostring(settings.hook)) return 1"))
    local log = policies.capture(p.subscribe, p, policies.request())
    p:close()
    assert.matches("<secret hook>", log, 1, true)
    assert.is_nil(log:find(WORD, 1, true))
  end)

  it("are made of plain texts, too, but never become plain texts", function()
    assert.equal('{"out":"<secret hook>","sub":"u"}', run(HOOK, { hook = WORD }, "return tostring(settings.hook)"))
    assert.equal('p.lua:1: policy.settings.hook: expected a text, found a secret: declare it as "secret"',
      refusal('{ hook = "string" }', { hook = { secret = WORD } }))
    assert.equal("p.lua:1: policy.settings.hook: expected a secret of at least 20 bytes, found one of another length",
      refusal('{ hook = { "secret", min = 20 } }', { hook = WORD }))
    assert.equal("p.lua:1: policy.settings.hook: expected a secret of at least 20 bytes, found one of another length",
      refusal('{ hook = { "secret", min = 20 } }', { hook = { secret = WORD } }))
  end)

  it("come from files, without their last newline", function()
    local dir = policies.directory { key = WORD .. "\n", empty = "\n", long = ("x"):rep(4097) }
    assert.equal('{"out":true,"sub":"u"}',
      run(HOOK, { hook = { file = dir .. "/key" } }, 'return tg.equal(settings.hook, "correct horse")'))
    assert.equal("policy.settings.hook: " .. dir .. "/empty is empty",
      refusal(HOOK, { hook = { file = dir .. "/empty" } }))
    assert.equal("policy.settings.hook: cannot read " .. dir .. "/none: no such file or directory",
      refusal(HOOK, { hook = { file = dir .. "/none" } }))
    assert.equal("policy.settings.hook: cannot read " .. dir .. "/long: larger than 4 KiB",
      refusal(HOOK, { hook = { file = dir .. "/long" } }))
    policies.remove(dir)
  end)
end)
