-- What could keep the loop busy for good, as code of a policy.
--
-- { what, code, how it ends }: "stopped" by the budget, "bounded" (it may end either way, but it ends), or
-- the text of the error. Preparing may already take more than a budget: then "stopped" is as good.
return {
  { "an endless loop", "while true do end", "stopped" },
  { "a loop without a body of its own", "::again:: goto again", "stopped" },
  { "endless tail calls", "local function f() return f() end f()", "stopped" },
  { "pcall around the loop, for ever", "local function f() while true do end end while true do pcall(f) end",
    "stopped" },
  { "pcall as a tail call", "return pcall(function() while true do end end)", "stopped" },
  { "a tree of pcalls", "local function f() pcall(f) pcall(f) end f()", "stopped" },
  { "xpcall with a handler that loops", "xpcall(error, function() while true do end end)", "global 'xpcall'" },
  { "a coroutine made before", "coroutine.wrap(function() while true do end end)()", "global 'coroutine'" },
  { "deep recursion", "local function f() return 1 + f() end return f()", "bounded" },
  { "recursion by a metamethod", "local t t = setmetatable({}, { __index = function(_, k) return t[k .. 'x'] end }) "
    .. "return t.a", "C stack overflow" },
  { "recursion through gsub", "local function f() return (('a'):gsub('a', f)) end return f()", "C stack overflow" },
  { "recursion through sort", "local function f() table.sort({ 1, 2, 3 }, f) end f()", "C stack overflow" },

  { "a finalizer", "setmetatable({}, { __gc = function() while true do end end })", "__gc is not available" },
  { "a length of one's own", "setmetatable({}, { __len = function() return 1 << 53 end })", "__len is not available" },
  { "a length added later", "local mt = {} local t = setmetatable({}, mt) mt.__len = function() return 1 << 53 end "
    .. "table.insert(t, 1)", "a table with __len is not a list" },
  { "a finalizer added later", "local mt = {} for i = 1, 1000 do setmetatable({}, mt) end "
    .. "mt.__gc = function() while true do end end local t for i = 1, 1e5 do t = {} end return 'x'", "bounded" },

  { "rep of nothing", "return ('').rep('', 1e15 // 1)", "more than 1000000 repetitions" },
  { "rep of nothing as a method", "return (''):rep(1 << 60)", "more than 1000000 repetitions" },
  { "rep into gigabytes", "return ('x'):rep(1e9 // 1)", "more than 1000000 repetitions" },
  { "rep of rep", "local s = 'x' while true do s = s:rep(2) end", "bytes" },
  { "doubling concatenation", "local s = 'x' while true do s = s .. s end", "not enough memory" },
  { "ever more tables", "local t = {} while true do t[#t + 1] = {} end", "bounded" },

  { "find that backtracks", "return ('a'):rep(300):find(('a*'):rep(6) .. 'b')", "bounded" },
  { "match that backtracks", "return ('x'):rep(1000):match(('.-'):rep(4) .. 'y')", "bounded" },
  { "gmatch that backtracks", "for _ in ('a'):rep(300):gmatch(('a*'):rep(6) .. 'b') do end", "bounded" },
  { "gsub that backtracks", "return (('a'):rep(300):gsub(('a*'):rep(6) .. 'b', ''))", "bounded" },
  { "the same, caught", "while true do pcall(string.find, ('a'):rep(300), ('a*'):rep(6) .. 'b') end", "stopped" },
  { "a plain find with bad luck", "return ('a'):rep(1e6 // 1):find(('a'):rep(500000) .. 'b', 1, true) or 'x'", "x" },
  { "a set as long as the text", "return ('a'):rep(100000):find('[' .. ('b'):rep(100000) .. ']')", "too many steps" },
  { "a function of gsub that loops", "return (('a'):gsub('a', function() while true do end end))", "stopped" },
  { "a table of gsub that loops", "return (('a'):gsub('a', setmetatable({}, "
    .. "{ __index = function() while true do end end })))", "stopped" },
  { "gsub that grows", "local s = 'x' while true do s = s:gsub('x', ('x'):rep(1000)) end", "bounded" },
  { "an iterator of gmatch in vain", "while true do for _ in ('abc'):gmatch '.' do end end", "stopped" },

  { "format with a width", "return ('%1000000d'):format(1)", "invalid conversion" },
  { "format with a precision", "return ('%.1000000f'):format(1)", "invalid conversion" },
  { "format of a huge text", "local s = ('x'):rep(1e6 // 1) while true do s = ('%s%s'):format(s, s) end", "bounded" },
  { "format that asks an object",
    "return ('%s'):format(setmetatable({}, { __tostring = function() while true do end end }))",
    "stopped" },
  { "pack of megabytes", "return string.pack('c1000000000', '')", "sizes of more than 6 digits" },
  { "pack with padding", "return #string.pack(('c999999'):rep(1000), '')", "bounded" },
  { "unpack beyond the end", "return string.unpack('c2147483647', 'x')", "data string too short" },
  { "byte of everything", "return ('x'):rep(1e6 // 1):byte(1, -1)", "bounded" }, -- by the stack, or by memory
  { "char of everything", "return #string.char(table.unpack(table.pack(('x'):rep(9e5 // 1):byte(1, 9e5 // 1))))",
    "bounded" },

  { "concat beyond the list", "return table.concat({}, '', 1, 1 << 60)", "more than 1000000 elements" },
  { "concat over all integers", "return table.concat({}, '', math.mininteger, math.maxinteger)", "more than 1000000" },
  { "concat asking __index", "return table.concat(setmetatable({}, { __index = function() while true do end end }), "
    .. "'', 1, 1000000)", "stopped" },
  { "concat along a chain of tables", "local last = {} for i = 1, 1000 do last[i] = 'x' end local t = last "
    .. "for i = 1, 1900 do t = setmetatable({}, { __index = t }) end "
    .. "while true do table.concat(t, '', 1, 1000) end", "stopped" },
  { "concat of a million numbers", "local t = {} for i = 1, 1e6 do t[i] = i / 3 end return table.concat(t)",
    "bounded" },
  { "unpack beyond the list", "return table.unpack({}, 1, 1 << 30)", "more than 1000000 elements" },
  { "unpack over all integers", "return table.unpack({}, math.mininteger, math.maxinteger)", "more than 1000000" },
  { "unpack along a chain", "local t = {} for i = 1, 1900 do t = setmetatable({}, { __index = t }) end "
    .. "select('#', table.unpack(t, 1, 900000))", "stopped" },
  { "move over all integers", "table.move({}, 1, math.maxinteger - 1, 2)", "more than 1000000 elements" },
  { "move along a chain", "local t = {} for i = 1, 1900 do t = setmetatable({}, { __index = t }) end "
    .. "table.move(t, 1, 1000000, 1, {})", "stopped" },
  { "insert with a position far away", "table.insert({}, 1 << 40, 'x')", "position out of bounds" },
  { "insert at the front, for ever", "local t = {} while true do table.insert(t, 1, 1) end", "stopped" },
  { "insert into holes along a chain",
    "local t = { n = 1 } for i = 1, 1900 do t = setmetatable({}, { __index = t }) end "
    .. "t[1], t[2], t[4] = 1, 2, 4 while true do table.insert(t, 1, 1) table.remove(t, 1) end", "stopped" },
  { "sort with an order that is none", "local t = {} for i = 1, 50000 do t[i] = i % 7 end "
    .. "table.sort(t, function() return true end)", "bounded" },
  { "sort with an order that loops", "table.sort({ 1, 2, 3 }, function() while true do end end)", "stopped" },
  { "sort by a function of C, for ever", "local t = {} for i = 1, 5000 do t[i] = i end "
    .. "while true do table.sort(t, math.ult) end", "stopped" },
  { "sort of long equal texts", "local t = {} for i = 1, 5000 do t[i] = ('x'):rep(100000) .. i % 2 "
    .. "t[i] = t[i > 2 and i - 2 or i] end while true do table.sort(t) end", "stopped" },
  { "sort with __lt", "local mt = { __lt = function() while true do end end } "
    .. "table.sort { setmetatable({}, mt), setmetatable({}, mt) }", "stopped" },
  { "pack of a million", "return table.pack(table.unpack({}, 1, 900000)).n", "bounded" },

  { "utf8.len of a long text", "local s = ('ä'):rep(400000) while true do utf8.len(s) end", "stopped" },
  { "utf8.offset of a long text", "local s = ('ä'):rep(400000) while true do utf8.offset(s, -1, 1) end", "bounded" },
  { "utf8.codepoint of a long text", "return utf8.codepoint(('x'):rep(1e6 // 1), 1, -1)", "string slice too long" },
  { "utf8.codes of a long text", "while true do for _ in utf8.codes(('ä'):rep(10000)) do end end", "stopped" },
  { "os.date with a long format", "return #os.date(('%c'):rep(10000), 0)", "a format longer than 1024 bytes" },
  { "os.date of a year far away", "return os.date('%c', 1 << 60)", "cannot be represented" },
  { "os.time asking __index", "return os.time(setmetatable({}, { __index = function() while true do end end }))",
    "stopped" },

  { "tostring that asks", "return tostring(setmetatable({}, { __tostring = function() while true do end end }))",
    "stopped" },
  { "tostring of itself",
    "local t t = setmetatable({}, { __tostring = function() return tostring(t) end }) return tostring(t)",
    "C stack overflow" },
  { "tonumber of a long text", "return tonumber(('1'):rep(1e6 // 1), 10) and 'x'", "x" },
  { "print that asks", "print(setmetatable({}, { __tostring = function() while true do end end }))", "stopped" },
  { "an __index chain that closes",
    "local a, b = {}, {} setmetatable(a, { __index = b }) setmetatable(b, { __index = a }) "
    .. "return a.x", "'__index' chain too long" },
  { "a __newindex chain that closes", "local a, b = {}, {} setmetatable(a, { __newindex = b }) "
    .. "setmetatable(b, { __newindex = a }) a.x = 1", "'__newindex' chain too long" },
  { "an iterator without end", "for _ in function() return 1 end do end", "stopped" },
  { "pairs without end",
    "for _ in pairs(setmetatable({}, { __pairs = function() return function() return 1 end end })) do end",
    "stopped" },
  { "ipairs without end", "for _ in ipairs(setmetatable({}, { __index = function() return 1 end })) do end",
    "stopped" },
  { "next again and again", "local t = { 1 } while true do next(t) end", "stopped" },
  { "a numeric loop over all integers", "for _ = math.mininteger, math.maxinteger do end", "stopped" },
  { "__close that loops", "local t <close> = setmetatable({}, { __close = function() while true do end end })",
    "stopped" },
  { "a hundred of them", "local mt = { __close = function() while true do end end } local function f(n) "
    .. "local t <close> = setmetatable({}, mt) if n > 0 then f(n - 1) end end f(100)", "stopped" },
  { "__close while an error is raised",
    "local t <close> = setmetatable({}, { __close = function() while true do end end }) "
    .. "error 'x'", "stopped" },
  { "__concat, __eq and __call that loop", "local f = function() while true do end end "
    .. "local t = setmetatable({}, { __concat = f, __eq = f, __call = f }) pcall(t) return t .. t", "stopped" },
  { "a __call that is the table itself", "local mt = {} local t = setmetatable({}, mt) mt.__call = t t()", "stopped" },
  { "the same through pcall, for ever", "local mt = {} local t = setmetatable({}, mt) mt.__call = t "
    .. "while true do pcall(t) end", "stopped" },
  { "two whose __call is the other", "local a, b = {}, {} setmetatable(a, { __call = b }) "
    .. "setmetatable(b, { __call = a }) a()", "stopped" },
  { "a long chain of __call", "local f = function() end for i = 1, 50000 do f = setmetatable({}, { __call = f }) end "
    .. "return f()", "bounded" },
  { "an error object that loops", "error(setmetatable({}, { __tostring = function() while true do end end, "
    .. "__index = function() while true do end end }))", "an error object that is a table" },
  { "the same, caught and shown",
    "local _, e = pcall(error, setmetatable({}, { __tostring = function() while true do end end })) "
    .. "return tostring(e)", "stopped" },

  { "json.encode of itself", "local t = {} t.t = t return json.encode(t)", "nested deeper" },
  { "json.encode of a doubling tree", "local t = {} for i = 1, 60 do t = { t, t } end return #json.encode(t)",
    "bounded" },
  { "json.encode of an emptied table, often",
    "local t = {} for i = 1, 1e5 do t[i] = 1 end for i = 1, 1e5 do t[i] = nil end "
    .. "local list = {} for i = 1, 100000 do list[i] = t end return #json.encode(list)", "bounded" },
  { "json.decode of many brackets", "while true do json.decode(('[]'):rep(1000, ',')) end", "stopped" },
  { "json.decode of deep brackets", "return (json.decode(('['):rep(1e6 // 1)))", "nil" },
  { "tg.topic with a million segments",
    "return tg.topic(table.unpack(table.pack(('x'):rep(9e5 // 1):byte(1, 9e5 // 1))))",
    "a string that is one topic segment" },
  { "setting fields of the log for ever", "while true do json.array() end", "stopped" },
}
