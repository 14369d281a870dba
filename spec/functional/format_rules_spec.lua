-- Format rules, from the policy to what the browser gets.
local http = require "support.http"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

-- name -> the rules, the data published, the data delivered
local CASES = {
  round = { "{ round = { lat = 2, ['at.*'] = 0, n = 3 } }",
    '{"lat":48.13743,"at":[11.5, 12.5 ,13.51],"n":7,"other":1.23456}',
    '{"lat":48.14,"at":[12, 12 ,14],"n":7,"other":1.23456}' },
  round_numbers = { "{ round = { v = 2 } }",
    '{"v":[1.0,2.50,-0.001,1e3,12345678901234567890,0.005,-1.239,1e-300,1.5E+3]}',
    '{"v":[1,2.5,0,1000,12345678901234567890,0.01,-1.24,0,1500]}' },
  round_others = { "{ round = { v = 2 } }", '{"v":[null,"1.234",true,{"a":1.234},[1.234]],"w":1e999}',
    '{"v":[null,null,null,null,[1.23]],"w":1e999}' },
  round_too_large = { "{ round = { v = 2 } }", '{"v":1e999}', '{"v":null}' },
  cut = { "{ cut = { text = 3, empty = 0 } }", [[{"text":"a\"b\u00e9c","empty":"x","z":"abcdef"}]],
    [[{"text":"a\"b","empty":"","z":"abcdef"}]] },
  cut_characters = { "{ cut = { t = 2 } }",
    [[{"t":["äöü","\ud83d\ude00\ud83d\ude00\ud83d\ude00","😀😀😀","ab","\n\t\r"]}]],
    [[{"t":["äö","\ud83d\ude00\ud83d\ude00","😀😀","ab","\n\t"]}]] },
  cut_others = { "{ cut = { t = 2 } }", '{"t":[12345,true,null,{"a":"long"}]}', '{"t":[null,null,null,null]}' },
  rename = { "{ rename = { user_id = 'who', ['items.p'] = 'a \"price\"' } }",
    '{ "user_id" : 5,"items":[{"p":1},{"q":2}]}', '{ "who" : 5,"items":[{"a \\"price\\"":1},{"q":2}]}' },
  rename_taken = { "{ rename = { a = 'b' } }", '[{"b":1,"a":2,"c":3},{"b":4}]', '[{"b":2,"c":3},{"b":4}]' },
  rename_swap = { "{ rename = { a = 'b', b = 'a' } }", '{"a":1,"b":2}', '{"b":1,"a":2}' },
  rename_and_others = { "{ rename = { ssn = 'id' }, mask = { ssn = '***' }, drop = { 'x' } }",
    '{"ssn":1,"x":2}', '{"id":"***"}' },
  rename_kept = { "{ keep = { 'a.b' }, rename = { a = 'z', c = 'y' } }",
    '{"a":{"b":1,"x":2},"c":3}', '{"z":{"b":1}}' },
  rounds_only_what_is_kept = { "{ keep = { 'a.b' }, round = { a = 1 } }", '{"a":1.25,"c":1}', '{}' },
  set = { "{ set = { seen_as = '$role', v = 2, ok = true, cost = '$$5' } }", '{"v":1,"n":1.0}',
    '{"n":1.0,"cost":"$5","ok":true,"seen_as":"guest","v":2}' },
  set_beats_rename = { "{ rename = { user = 'seen_as', ['a.user'] = 'seen_as' }, set = { seen_as = 'x' } }",
    '{"user":"ann","seen_as":1,"a":{"user":2}}', '{"a":{"seen_as":2},"seen_as":"x"}' },
  set_empty = { "{ set = { a = 1 } }", '{ }', '{"a":1}' },
  set_drops = { "{ drop = { '*' }, set = { a = 1 } }", '{"x":1,"y":2}', '{"a":1}' },
  first_counts = { "{ mask = { ['a.x'] = 0 }, cut = { ['*.x'] = 1 }, round = { ['*.x'] = 1 } }",
    '{"a":{"x":5.55},"b":{"x":5.55},"c":{"x":"abc"}}', '{"a":{"x":0},"b":{"x":5.5},"c":{"x":null}}' },
}
local function policy()
  local formats = {}
  for name, case in pairs(CASES) do
    formats[#formats + 1] = ("  %s = %s,"):format(name, case[1])
  end
  return ([[
local P = { api = 1 }
local KEY = tg.settings { key = "secret" }.key
P.formats = {
%s
  hash = { hash = { "user.id", "ids" }, hash_key = KEY },
  hash_by_another_key = { hash = { "user.id", "ids" }, hash_key = KEY .. "!" },
}
function P.authenticate() return { sub = "x" } end
function P.publish(pub) return pub end
function P.subscribe(req)
  return { topics = req.topics, format = req.query.format, params = { role = req.query.role, list = { 1 } } }
end
return P]]):format(table.concat(formats, "\n"))
end

describe("format rules", function()
  local broker

  local function open(format, role)
    return sse.open(broker, { query = { topic = "t/" .. format, format = format, role = role or "guest" } })
  end

  before_each(function()
    broker = tidegate.start { policy = policy(),
      config = { policy = { settings = { key = { raw = 'secret "a secret of this policy"' } } } } }
  end)

  it("make of an event what they say", function()
    local clients = {}
    for name in pairs(CASES) do
      clients[name] = open(name)
    end
    for name, case in pairs(CASES) do
      broker:publish("t/" .. name, case[2])
      assert.equal(case[3], clients[name]:next().data, name)
    end
  end)

  it("hash equal values to equal texts, which only the key can make", function()
    local a, b = open "hash", open "hash_by_another_key"
    local data = [=[{"user":{"id":"ann"},"ids":["\u0061nn",1,"1",1.0,true,null,{"id":1},["ann"]]}]=]
    broker:publish("t/hash", data)
    local pattern = '^{"user":{"id":"(%x+)"},"ids":%["(%x+)","(%x+)","(%x+)","(%x+)","(%x+)",null,null,%["(%x+)"%]%]}$'
    local function texts(client)
      local got = table.pack(client:next().data:match(pattern))
      assert.equal(7, got.n)
      return got
    end
    local with = texts(a)
    -- printf 'sann' | openssl dgst -sha256 -hmac 'a secret of this policy'
    assert.equal("7f1e1a8e2f08b8b108b459f54b4c3641", with[1])
    assert.same({ with[1], with[1] }, { with[2], with[7] })
    local seen = {}
    for i = 2, 6 do
      assert.is_nil(seen[with[i]], "two of them are equal")
      seen[with[i]] = true
    end
    broker:publish("t/hash_by_another_key", data)
    assert.are_not.equal(with[1], texts(b)[1])
  end)

  it("take a name that a client repeats for what it is", function()
    local c = open "rename_taken"
    broker:publish("t/rename_taken", '{' .. ('"b":1,'):rep(100000) .. '"a":2}')
    assert.equal('{"b":2}', c:next(30).data)
    broker:publish("t/rename_taken", '{' .. ('"b":1,'):rep(100000) .. '"c":2}')
    assert.equal(6 * 100000 + #'{"c":2}', #c:next(30).data)
  end)

  it("run once for all whose params are equal in what they read", function()
    local guests, staff = { open "set", open "set" }, { open("set", "staff"), open("set", "staff") }
    broker:publish("t/set", '{"n":1}')
    for i = 1, 2 do
      assert.matches('"seen_as":"guest"', guests[i]:next().data)
      assert.matches('"seen_as":"staff"', staff[i]:next().data)
    end
    assert.equal(2, broker:metric "tidegate_policy_format_calls_total")
  end)

  it("deliver nothing where they cannot set a member", function()
    local c = open "set"
    broker:publish("t/set", "[1]")
    broker:publish("t/set", "{}")
    assert.matches('"seen_as"', c:next().data)
    assert.equal(1, broker:metric 'tidegate_policy_errors_total{hook="format"}')
    assert.matches("set: the data is not an object", broker:log())
  end)
end)

describe("a subscription whose format sets a param", function()
  it("is an error where params has it not", function()
    local broker = tidegate.start { policy = [[
local P = { api = 1 }
P.formats = { f = { set = { a = "$role" } } }
function P.authenticate() return { sub = "x" } end
function P.subscribe(req)
  return { topics = req.topics, format = "f", params = { rolle = "x", role = req.query.role and {} } }
end
return P]] }
    for _, target in ipairs { "/events?topic=t", "/events?topic=t&role=list" } do
      assert.equal(503, http.get(broker, target).status)
    end
    assert.matches("set reads $role, but params has no text, number or boolean of that name", broker:log(), 1, true)
  end)
end)
