local policies = require "support.policies"

-- Which results a format shares: by what it has read of its params.
describe("policy, results of formats", function()
  local p
  local ev = policies.event { topic = "a", data = '{"n":1}', id = 9 }

  local function open(code, more)
    if p then p:close() end
    p = policies.with { formats = { f = code }, filters = { g = "return params.cell ~= nil" }, more = more }
    return p
  end

  after_each(function()
    if p then p:close() end
    p = nil
  end)

  -- Whether what came of it for the first params is found for the others.
  local function shares(first, ...)
    local found, others = {}, { ... }
    policies.capture(function()
      local one = assert(p:bind { format = "f", params = first })
      local key = p:format_key(one, ev)
      assert.is_true(key > 0)
      assert.same(key, (p:format_key(one, ev)))
      for i, params in ipairs(others) do
        local other = assert(p:bind { format = "f", params = params or nil })
        found[i] = false
        for _, k in ipairs(p:format_keys(other)) do
          found[i] = found[i] or k == key
        end
        p:unbind(other)
      end
      p:unbind(one)
    end)
    return found
  end

  it("are shared by audiences that differ in what is not read", function()
    open "return params.role .. ev.data.n"
    assert.same({ true, true, false, false }, shares('{"cell":"a","role":"x"}', '{"cell":"b","role":"x"}',
      '{"role":"x"}', '{"cell":"a","role":"y"}', "{}"))
    open "return ev.raw"
    assert.same({ true, true, true }, shares('{"a":1}', '{"b":2}', false, "{}"))
  end)

  it("tell 1, 1.0 and \"1\" apart, and what is missing from what is there", function()
    open "return tostring(params.a)"
    assert.same({ false, false, false, false, true },
      shares('{"a":1}', '{"a":1.0}', '{"a":"1"}', "{}", '{"a":true}', '{"a":1,"b":2}'))
    assert.same({ false, true }, shares("{}", '{"a":1}', '{"b":1}'))
  end)

  it("depend on whole lists, and on names with any bytes", function()
    open "return params.l[1] .. (params['a\"\\n'] or '')"
    assert.same({ false, true, false },
      shares('{"l":["x","y"]}', '{"l":["x","z"]}', '{"l":["x","y"],"m":1}', '{"a\\"\\n":"q","l":["x","y"]}'))
  end)

  it("depend on all of params for who looks at them as a whole", function()
    for _, code in ipairs {
      "local t = {} for k in pairs(params) do t[#t + 1] = k end return #t .. ''", "return (next(params)) or ''",
      "return #params .. ''", "return { data = params }", "return json.encode(params)",
      "return { data = { inner = params } }", "for i in ipairs(params) do end return json.encode({ params })",
    } do
      open(code)
      assert.same({ false, true }, shares('{"a":1}', '{"a":1,"b":2}', '{"a":1}'), code)
    end
  end)

  it("depend on what was read on the way that was taken", function()
    open "if params.role == 'admin' then return 'all' end return 'cell ' .. params.cell"
    assert.same({ true, false }, shares('{"cell":"a","role":"admin"}', '{"cell":"b","role":"admin"}',
      '{"cell":"a","role":"viewer"}'))
    assert.same({ false, true, false }, shares('{"cell":"a","role":"viewer"}', '{"cell":"b","role":"viewer"}',
      '{"cell":"a","role":"viewer","x":1}', '{"cell":"a","role":"admin"}'))
  end)

  it("that are errors or nothing are shared, too", function()
    open "local x = params.role return nil"
    assert.same({ true, false }, shares('{"cell":"a","role":"x"}', '{"role":"x"}', '{"role":"y"}'))
    open "error(params.role)"
    assert.same({ true, false }, shares('{"cell":"a","role":"x"}', '{"role":"x"}', '{"role":"y"}'))
  end)

  it("are found for many ways of reading", function()
    open [[local out = {} for i = 1, 40 do local n = "k" .. i
      if params.n & (1 << (i % 20)) ~= 0 then out[#out + 1] = tostring(params[n]) end end
      return table.concat(out, ",")]]
    for n = 1, 64 do
      local params = ('{"k1":1,"k40":5,"n":%d}'):format(n)
      assert.same({ true, false }, shares(params, params,
        ('{"k1":2,"k40":6,"n":%d}'):format(n | 3)))
    end
    open("local s = '' for i = 1, 100 do s = s .. tostring(params[('x'):rep(20) .. i]) end return s")
    assert.same({ true, false }, shares('{"a":1}', '{"a":1}', '{"a":2}'))
  end)

  it("of rules, and of the built-in format, depend on the event alone", function()
    p = assert(policies.open_text("local P = { api = 1, formats = { f = { drop = { 'n' } }, g = {} } }\n"
      .. "function P.authenticate() return {} end function P.subscribe() return { topics = { 'a' } } end return P"))
    assert.same({ true, true }, shares('{"a":1}', '{"a":2}', false))
    local g, json = assert(p:bind { format = "g" }), assert(p:bind { format = "json", params = '{"a":1}' })
    assert.same(p:format_keys(g), { (p:format_key(g, ev)) })
    assert.same(p:format_keys(json), { (p:format_key(json, ev)) })
    assert.are_not.same(p:format_keys(g), p:format_keys(json))
  end)

  it("of one format are never found for another, nor later for other params", function()
    open("return params.a", "P.formats.h = function(ev, params) return 'h' .. params.a end")
    local seen = {}
    for i = 1, 200 do
      for _, name in ipairs { "f", "h" } do
        local b = assert(p:bind { format = name, params = ('{"a":"%d"}'):format(i) })
        local key = p:format_key(b, ev)
        assert.is_nil(seen[key])
        seen[key] = true
        p:unbind(b)
      end
    end
  end)

  it("are told apart by what a filter has read, too: a format may find what it kept", function()
    open "return 'x'"
    local b = assert(p:bind { filter = "g", format = "f", params = '{"cell":1}' })
    assert.is_true((p:filter(b, ev)))
    local key = p:format_key(b, ev)
    local other = assert(p:bind { filter = "g", format = "f", params = '{"cell":2}' })
    assert.are_not.same({ key }, p:format_keys(other))
    p:unbind(b)
    p:unbind(other)
  end)
end)
