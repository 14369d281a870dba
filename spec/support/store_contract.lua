-- The contract of store/store.h, held against one kind of store.
--
--   contract("sqlite", { insert = function(d, e) ... end })    in a spec file
--
-- special: insert(d, e): as another program would; new(): a driver (support.store_driver) whose options name the store;
-- date(d, e): makes e as old as its time says, where the store goes by when it took events; forgets = true: it has no
-- retention.
local busted = require "busted"
local store = require "native.store"
local driver = require "support.store_driver"

local describe, it, before_each, after_each = busted.describe, busted.it, busted.before_each, busted.after_each
local assert = require "luassert"
local ev = driver.ev

return function(kind, special)
  describe("store contract: " .. kind, function()
    local d, s

    local function open(options)
      d = special.new and special.new() or driver.new {}
      for k, v in pairs(options) do
        d.options[k] = v
      end
      d.options.kind = kind
      s = assert(d:open()).store
    end
    local function append(...)
      d:append { ... }
    end
    local function settle()
      return d:settle()
    end
    local function read(query)
      return d:read(query)
    end
    local function seek(ms)
      assert(s:seek(ms))
      d.asked = d.asked + 1
      local c = settle()[1]
      assert.is_nil(c.error)
      return c.id
    end
    local function fill(n, more)
      for i = 1, n do
        append(ev("e" .. i, more))
      end
      settle()
      local events = s:tail()
      assert.equal(n, #events)
      return events
    end

    before_each(function()
      open {}
    end)
    after_each(function()
      d:discard()
    end)

    it("draws ids that rise, from above the floor of the clock", function()
      local floor = store.floor((os.time() - 5) * 1000)
      assert.is_true(s:bounds().head > floor)
      local last = s:bounds().head
      for i = 1, 5 do
        append(ev("a" .. i), ev("b" .. i))
      end
      for _, c in ipairs(settle()) do
        assert.is_nil(c.error)
        assert.equal(2, #c.acks)
        for _, ack in ipairs(c.acks) do
          assert.is_true(ack.id > last)
          assert.is_false(ack.duplicate)
          last = ack.id
        end
      end
      assert.equal(last, s:bounds().head)
      assert.is_true(last < 2 ^ 53)
    end)

    it("starts with the leap that says: no id up to here was ever handed out", function()
      local b = s:bounds()
      assert.same({ { after = 0, upto = b.head } }, b.leaps)
      assert.equal(0, b.trimmed)
    end)

    it("hands the tail everything, in order, before it acknowledges", function()
      local inserted = 0
      for i = 1, 50 do
        append(ev("x" .. i), ev("y" .. i), ev("z" .. i))
        if i % 10 == 0 then
          special.insert(d, ev("other" .. i))
          inserted = inserted + 1
        end
      end
      local done = settle()
      assert.is_true(s:run { tail = 150 + inserted })
      local tail, position = s:tail(), {}
      assert.equal(150 + inserted, #tail)
      for i, e in ipairs(tail) do
        assert.is_true(i == 1 or e.id > tail[i - 1].id)
        position[e.id] = i
      end
      for _, c in ipairs(done) do
        for _, ack in ipairs(c.acks) do
          assert.is_true(position[ack.id] <= c.tailed, "acknowledged before the tail heard of it")
        end
      end
    end)

    it("keeps the order of appends, and the fields of events", function()
      local full = { topic = "a/b", type = "made", data = "line\nbreak \u{1F30A}", key = "k", attrs = '{"n":1,"s":"x"}',
        time = 1700000000123 }
      append(full)
      append(ev "", ev("3", { type = "message" }))
      settle()
      local tail = s:tail()
      assert.equal(3, #tail)
      for name, value in pairs(full) do
        assert.equal(value, tail[1][name])
      end
      assert.equal("", tail[2].data)
      assert.equal("message", tail[2].type)
      assert.is_nil(tail[2].key)
      assert.is_nil(tail[2].attrs)
      local page = read { after = 0 }
      assert.same(tail, page.events)
    end)

    it("stores a batch as one: neighbours have neighbouring ids", function()
      for i = 1, 20 do
        append(ev("a" .. i), ev("b" .. i), ev("c" .. i))
      end
      for _, c in ipairs(settle()) do
        assert.equal(c.acks[1].id + 1, c.acks[2].id)
        assert.equal(c.acks[2].id + 1, c.acks[3].id)
      end
    end)

    it("answers a known key with the first event's id, and stores nothing", function()
      append(ev("first", { key = "k" }))
      local first = settle()[1].acks[1].id
      append(ev("again", { key = "k" }), ev("new", { key = "l" }), ev("twice", { key = "l" }), ev "no key")
      local acks = settle()[1].acks
      assert.same({ id = first, duplicate = true }, acks[1])
      assert.is_false(acks[2].duplicate)
      assert.same({ id = acks[2].id, duplicate = true }, acks[3])
      assert.is_false(acks[4].duplicate)
      local data = {}
      for _, e in ipairs(s:tail()) do
        data[#data + 1] = e.data
      end
      assert.same({ "first", "new", "no key" }, data)
      append(ev("only", { key = "k" }))
      assert.same({ { id = first, duplicate = true } }, settle()[1].acks)
      assert.equal(0, #s:tail())
    end)

    it("refuses an empty batch", function()
      local token, why = s:append {}
      assert.is_nil(token)
      assert.equal("EINVAL", why)
    end)

    it("sheds when the queue is full, but takes a large batch when it is empty", function()
      d:discard()
      open { max_queue_events = 4 }
      append(ev "1", ev "2", ev "3", ev "4", ev "5")
      local token, why = s:append { ev "6" }
      assert.is_nil(token)
      assert.equal("EAGAIN", why)
      settle()
      append(ev "7", ev "8")
      append(ev "9", ev "10")
      assert.equal("EAGAIN", select(2, s:append { ev "11" }))
      settle()
      assert.equal(9, #s:tail())
      assert.equal(0, s:metrics().append_queue)
    end)

    it("sheds by bytes as well", function()
      d:discard()
      open { max_queue_bytes = 3000 }
      append(ev(("x"):rep(1000)))
      append(ev(("x"):rep(1000)))
      assert.equal("EAGAIN", select(2, s:append { ev(("x"):rep(1000)) }))
      append(ev(("x"):rep(10)))
      settle()
      append(ev(("x"):rep(1000)))
      settle()
    end)

    describe("pages", function()
      it("hold what lies after `after`, up to `upto`, both exact", function()
        local all = fill(10)
        local head = s:bounds().head
        local function ids(query)
          local page = read(query)
          local list = {}
          for i, e in ipairs(page.events) do
            list[i] = e.id - all[1].id + 1
          end
          return list, page.upto, page.trimmed
        end
        local list, upto, trimmed = ids { after = 0 }
        assert.same({ 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 }, list)
        assert.equal(head, upto) -- asked for all: says how far that was
        assert.equal(0, trimmed)
        assert.same({ 4, 5, 6 }, (ids { after = all[3].id, upto = all[6].id }))
        assert.same({ 4 }, (ids { after = all[3].id, upto = all[4].id }))
        list, upto = ids { after = all[3].id, upto = all[3].id }
        assert.same({}, list)
        assert.equal(all[3].id, upto)
        list, upto = ids { after = all[9].id, upto = head + 100 }
        assert.same({ 10 }, list)
        assert.equal(head, upto)
        list, upto = ids { after = head, upto = head + 100 }
        assert.same({}, list)
        assert.equal(head, upto)
        list, upto = ids { after = 5, upto = 17 } -- before everything
        assert.same({}, list)
        assert.equal(17, upto)
      end)

      it("follow one another without gap or repetition, whatever their size", function()
        local all = fill(23)
        for _, size in ipairs { 1, 2, 7, 22, 23, 24 } do
          local after, got = 0, {}
          repeat
            local page = read { after = after, upto = all[23].id, max_events = size }
            assert.is_true(#page.events <= size)
            assert.is_true(page.upto > after)
            for _, e in ipairs(page.events) do
              assert.is_true(e.id > after and e.id <= page.upto)
              got[#got + 1] = e
            end
            after = page.upto
          until after == all[23].id
          assert.same(all, got)
        end
      end)

      it("are bounded in bytes, but never empty for a large event", function()
        local all = fill(6, { data = ("x"):rep(20000) })
        local cost = all[1].cost
        local page = read { after = 0, max_bytes = 3 * cost + cost // 10 } -- a server may count a little more
        assert.equal(3, #page.events)
        assert.equal(all[3].id, page.upto)
        page = read { after = 0, max_bytes = 3 * cost - 1 }
        assert.equal(2, #page.events)
        page = read { after = all[2].id, max_bytes = 1 }
        assert.equal(1, #page.events)
        assert.equal(all[3].id, page.events[1].id)
        assert.equal(all[3].id, page.upto)
      end)

      it("see everything that was acknowledged before they were asked", function()
        for i = 1, 30 do
          append(ev("e" .. i))
          local id = settle()[1].acks[1].id
          local page = read { after = id - 1 }
          assert.equal(id, page.events[1].id)
        end
      end)
    end)

    it("finds the last event before a time", function()
      local times = { 1000, 2000, 2000, 3000, 5000 }
      for _, t in ipairs(times) do
        append(ev("at " .. t, { time = 1700000000000 + t }))
      end
      settle()
      local tail = s:tail()
      if special.date then
        for _, e in ipairs(tail) do
          special.date(d, e)
        end
      end
      local function seek_index(t)
        local id = seek(1700000000000 + t)
        for i, e in ipairs(tail) do
          if e.id == id then
            return i
          end
        end
        return id
      end
      assert.equal(0, seek_index(0))
      assert.equal(0, seek_index(1000))
      assert.equal(1, seek_index(1001))
      assert.equal(1, seek_index(2000))
      assert.equal(3, seek_index(2001))
      assert.equal(3, seek_index(3000))
      assert.equal(4, seek_index(4999))
      assert.equal(5, seek_index(5001))
    end)

    local retains = special.forgets and function() end or it
    retains("tells whether all that retention has removed was older than a time", function()
      for _, t in ipairs { 1000, 2000, 3000, 4000 } do
        append(ev("at " .. t, { time = 1700000000000 + t }))
      end
      settle()
      local tail = s:tail()
      for _, e in ipairs(special.date and tail or {}) do
        special.date(d, e)
      end
      d:close()
      s = assert(d:open { retain_events = 2 }).store
      d:wait(function() return s:bounds().trimmed == tail[2].id end, 20000)
      for ms, found in pairs { [0] = 0, [1001] = 0, [2000] = 0, [2001] = tail[2].id, [3000] = tail[2].id,
        [3001] = tail[3].id, [4001] = tail[4].id } do
        assert.equal(found, seek(1700000000000 + ms), "older than " .. ms)
      end
    end)

    describe("newest events of topics", function()
      local names = { "score/*", "tick/**", "room/*/m/*", "a/*/b/**", "one", "q'uo?te[x]/*" }

      local function reopen(options)
        d:discard()
        open(options)
      end
      --- Waits until what was there before is looked through.
      local function latest(query)
        query = query or {}
        query.latest = true
        local page
        d:wait(function()
          page = read(query)
          return page.error ~= "EAGAIN"
        end, 30000)
        assert.is_nil(page.error)
        return page
      end
      local function told(page)
        local list = {}
        for _, e in ipairs(page.events) do
          list[#list + 1] = e.topic .. "=" .. e.data
        end
        return table.concat(list, " ")
      end
      local function put(topic, data)
        return assert(d:put { ev(data, { topic = topic }) })[1].id
      end

      it("are those of the topics that are named, in order of their ids, and complete", function()
        reopen { latest = names }
        put("score/1", "1:0")
        local full = { topic = "tick/a/b", type = "made", data = "line\nbreak \u{1F30A}", key = "k",
          attrs = '{"n":1,"s":"x"}', time = 1700000000123 }
        append(full)
        settle()
        put("score/2", "0:0")
        for _, other in ipairs { "score", "score/1/x", "tick", "room/1/m", "room/1/2/m/3", "a/b/c", "a/x/y/b/c", "ones",
          "a/x/b", "q'uo?te[x]/a/b", "q'uoXte[x]/a", "q'uo?tex/a" } do
          put(other, "other")
        end
        for _, named in ipairs { "room/1/m/2", "a/x/b/c", "a/x/b/c/d", "one", "q'uo?te[x]/a" } do
          put(named, "y")
        end
        put("score/1", "1:1")
        local page = latest()
        assert.equal("tick/a/b=line\nbreak \u{1F30A} score/2=0:0 room/1/m/2=y a/x/b/c=y a/x/b/c/d=y one=y "
          .. "q'uo?te[x]/a=y score/1=1:1", told(page))
        for name, value in pairs(full) do
          assert.equal(value, page.events[1][name])
        end
        assert.equal(s:bounds().head, page.upto)
        for i = 2, #page.events do
          assert.is_true(page.events[i].id > page.events[i - 1].id)
        end
      end)

      it("leave out topics whose newest event is empty, until the next one", function()
        reopen { latest = names }
        put("score/1", "1:0")
        put("score/2", "2:0")
        put("score/1", "")
        assert.equal("score/2=2:0", told(latest()))
        append(ev("a", { topic = "score/3" }), ev("", { topic = "score/3" }), ev("", { topic = "score/4" }),
          ev("b", { topic = "score/4" }))
        settle()
        put("score/1", "1:1")
        assert.equal("score/2=2:0 score/4=b score/1=1:1", told(latest()))
      end)

      it("are read by names and by patterns, page by page, up to an id", function()
        reopen { latest = names }
        local ids = {}
        for i = 1, 9 do
          ids[i] = put("score/" .. i, "v" .. i)
        end
        assert.equal("score/2=v2 score/7=v7", told(latest { topics = { "score/7", "score/2", "score/none", "t/1" } }))
        assert.equal("score/7=v7", told(latest { topics = { "score/7", "score/2" }, after = ids[2] }))
        assert.equal("score/2=v2", told(latest { topics = { "score/7", "score/2" }, upto = ids[6] }))
        assert.equal("", told(latest { topics = { "tick/**" } }))
        local after, got = 0, {}
        repeat
          local page = latest { topics = { "score/*" }, after = after, upto = ids[8], max_events = 3 }
          assert.is_true(#page.events <= 3 and page.upto > after)
          got[#got + 1] = told(page)
          after = page.upto
        until after == ids[8]
        assert.equal("score/1=v1 score/2=v2 score/3=v3 score/4=v4 score/5=v5 score/6=v6 score/7=v7 score/8=v8",
          (table.concat(got, " "):gsub("%s+$", "")))
        local page = latest { max_bytes = 1 } -- never empty
        assert.equal("score/1=v1", told(page))
        assert.equal(ids[1], page.upto)
      end)

      it("are found among many by what patterns begin with, and many of them page by page", function()
        reopen { latest = { "room/**", "score/*" }, latest_topics = 10000 }
        local batch, n = {}, 4200
        for i = 1, n do
          batch[i] = ev(tostring(i), { topic = ("room/%d/%d"):format(i % 700, i) })
        end
        for _, e in ipairs { "room/5", "room/50", "room/5/a/b", "room/5/z", "score/1", "room/6/\u{10FFFF}" } do
          batch[#batch + 1] = ev("x", { topic = e })
        end
        d:put(batch)
        local function of(...)
          local list, page = {}, { upto = 0 }
          repeat
            page = latest { topics = { ... }, after = page.upto, max_events = 1000 }
            for i, e in ipairs(page.events) do
              list[#list + 1] = e.topic
              assert.is_true(i == 1 or e.id > page.events[i - 1].id)
            end
          until page.upto == s:bounds().head
          return table.concat(list, " ")
        end
        assert.equal("room/5/5 room/5/705 room/5/1405 room/5/2105 room/5/2805 room/5/3505 room/5/z", of "room/5/*")
        assert.equal("room/5/a/b", of "room/5/*/*")
        assert.equal("room/5/a/b room/5/z score/1", of("score/1", "room/5/z", "room/5/*/b", "room/5/a/**", "none/*"))
        assert.equal("room/5/z", of("room/5/z", "*/5/z", "room/*/z"))
        assert.matches("^room/6/6 .* room/6/\u{10FFFF}$", of "room/6/**")
        local all = 0
        for topic in of("room/*/*", "room/5/*"):gmatch "%S+" do
          all = all + 1
          assert.is_true(all > n or topic == batch[all].topic)
        end
        assert.equal(n + 2, all)
      end)

      it("and then the log have the newest of each, also where a newer one came between two pages", function()
        reopen { latest = names }
        put("score/1", "old")
        put("score/2", "old")
        local head = put("score/3", "old")
        local first = latest { upto = head, max_events = 1 }
        assert.equal("score/1=old", told(first))
        local newer = put("score/2", "new")
        put("score/3", "")
        local second = latest { after = first.upto, upto = head }
        assert.equal(head, second.upto)
        local log, state = read { after = head }, {}
        for _, page in ipairs { first, second, log } do -- the second may have what was replaced, or not
          for _, e in ipairs(page.events) do
            state[e.topic] = e.data ~= "" and e.data or nil
          end
        end
        assert.same({ ["score/1"] = "old", ["score/2"] = "new" }, state)
        assert.equal(newer, log.events[1].id)
      end)

      it("come from other programs, too", function()
        reopen { latest = names }
        special.insert(d, ev("theirs", { topic = "score/9" }))
        assert.is_true(s:run { tail = 1, ms = 20000 })
        assert.equal("score/9=theirs", told(latest()))
      end)

      it("are of a bounded number of topics: an event of a further one is refused, and no other", function()
        reopen { latest = names, latest_topics = 2 }
        assert.equal("", told(latest()))
        put("score/1", "a")
        put("score/2", "a")
        append(ev("no", { topic = "score/3" }))
        append(ev("b", { topic = "score/1" }))
        append(ev("no", { topic = "t/1" }), ev("no", { topic = "score/4" }))
        append(ev("fine", { topic = "t/1" }))
        local done, errors = settle(), {}
        for i, c in ipairs(done) do
          errors[c.token] = c.error or "stored"
          done[i] = c.token
        end
        table.sort(done)
        assert.same({ "ENOBUFS", "stored", "ENOBUFS", "stored" },
          { errors[done[1]], errors[done[2]], errors[done[3]], errors[done[4]] })
        assert.equal("score/2=a score/1=b", told(latest()))
        assert.equal(2, s:metrics().latest_refused)
        put("score/1", "")
        put("score/3", "now there is room")
        assert.equal("score/2=a score/3=now there is room", told(latest()))
      end)

      it("are of the topics that match as subscriptions do", function()
        local patterns = { "a/*", "b/**", "*/a/**", "c/*/*/a", "*/*/c/*/**" }
        local segments, topics = { "a", "b", "c", "aa", "\u{E9}.?" }, {}
        local function matches(pattern, topic)
          local have, want = {}, {}
          for segment in topic:gmatch "[^/]+" do have[#have + 1] = segment end
          for segment in pattern:gmatch "[^/]+" do want[#want + 1] = segment end
          for i, segment in ipairs(want) do
            if segment == "**" then
              return #have >= i
            elseif not have[i] or (segment ~= "*" and segment ~= have[i]) then
              return false
            end
          end
          return #have == #want
        end
        local seed, expected = 4711, {}
        for i = 1, 200 do
          local parts = {}
          for n = 1, i % 5 + 1 do
            seed = (seed * 1103515245 + 12345) % 2147483648
            parts[n] = segments[seed // 65536 % #segments + 1]
          end
          topics[i] = ev("x", { topic = table.concat(parts, "/") })
        end
        reopen { latest = patterns }
        d:put(topics)
        for i = 200, 1, -1 do
          for _, pattern in ipairs(patterns) do
            if matches(pattern, topics[i].topic) then
              expected[topics[i].topic] = true
            end
          end
        end
        local got = {}
        for _, e in ipairs(latest().events) do
          got[e.topic] = true
        end
        assert.same(expected, got)
      end)

      retains("outlive retention", function()
        reopen { latest = names }
        put("score/1", "kept")
        for i = 1, 5 do
          put("t/1", "e" .. i)
        end
        local last = put("score/2", "kept, too")
        put("t/1", "last")
        d:close()
        s = assert(d:open { retain_events = 1 }).store
        d:wait(function() return s:bounds().trimmed >= last end, 30000)
        assert.equal("score/1=kept score/2=kept, too", told(latest()))
      end)

      retains("are looked for in older events when their topics are named, and forgotten when they are not", function()
        reopen {}
        for i = 1, 30 do
          append(ev("v" .. i, { topic = "score/" .. i % 10 }), ev("w" .. i, { topic = "tick/" .. i % 5 }))
        end
        put("score/3", "")
        put("score/5", "newest")
        d:close()
        s = assert(d:open { latest = { "score/*" } }).store
        put("score/4", "")
        put("score/6", "live")
        assert.equal("score/1=v21 score/2=v22 score/7=v27 score/8=v28 score/9=v29 score/0=v30 score/5=newest "
          .. "score/6=live", told(latest()))
        d:close()
        s = assert(d:open { latest = { "tick/*" } }).store
        assert.equal("tick/1=w26 tick/2=w27 tick/3=w28 tick/4=w29 tick/0=w30", told(latest()))
        d:close()
        s = assert(d:open { latest = { "tick/*", "score/5" } }).store
        assert.equal("tick/1=w26 tick/2=w27 tick/3=w28 tick/4=w29 tick/0=w30 score/5=newest", told(latest()))
      end)
    end)

    local function erase(ids)
      assert(s:erase(ids))
      d.asked = d.asked + 1
      local c = settle()[1]
      assert.is_nil(c.error)
      return c
    end

    it("erases events, says so before it answers, and has no gap where they were", function()
      local tail = fill(12)
      local ids = { tail[1].id, tail[4].id, tail[5].id, tail[12].id }
      local c = erase(ids)
      assert.equal(4, c.removed)
      assert.is_true(c.told >= 4)
      assert.same(ids, table.move(s:erased(), 1, 4, 1, {})) -- some may be named again
      assert.equal(0, erase(ids).removed)
      local got, at = {}, tail[1].id - 1
      repeat
        local page = read { after = at, max_events = 3 }
        assert.is_true(page.trimmed <= at and page.upto > at)
        at = page.upto
        for _, e in ipairs(page.events) do
          got[#got + 1] = e.data
        end
      until at == tail[12].id
      assert.same({ "e2", "e3", "e6", "e7", "e8", "e9", "e10", "e11" }, got)
      append(ev "next")
      local acks = settle()[1].acks
      assert.equal(tail[12].id + 1, acks[1].id)
      assert.equal("next", s:tail()[1].data)
      assert.equal(4, s:metrics().store_erased)
    end)

    it("forgets the keys of erased events, and cleans up", function()
      append(ev("1", { key = "a" }), ev("2", { key = "b" }))
      settle()
      erase { s:tail()[1].id }
      local c = erase {}
      assert.equal(0, c.removed)
      append(ev("3", { key = "a" }))
      append(ev("4", { key = "b" }))
      local done = settle()
      assert.same({ false, true }, { done[1].acks[1].duplicate, done[2].acks[1].duplicate })
    end)

    it("finds no time in an empty store", function()
      assert.equal(0, seek(os.time() * 1000))
    end)

    it("says how many events it holds, and that it is well", function()
      fill(3)
      d:wait(function() return s:health().events == 3 end, 20000)
      local h = s:health()
      assert.is_true(h.ok)
      assert.equal("ok", h.detail)
      assert.equal(3, h.events)
    end)

    it("counts commits, their events, and the time they took", function()
      append(ev "1", ev "2")
      append(ev("3", { key = "k" }), ev("3", { key = "k" }))
      settle()
      read { after = 0 }
      local m = s:metrics()
      assert.is_true(m.commits == 1 or m.commits == 2)
      assert.equal(3, m.commit_events)
      assert.equal(2, m.appends_timed)
      assert.equal(1, m.reads_timed)
      assert.equal(0, m.store_errors)
      assert.equal(0, m.rejected_rows)
    end)

    it("completes what it accepted when it is closed, and refuses the rest", function()
      for i = 1, 40 do
        append(ev("e" .. i))
      end
      assert(s:read { after = 0 })
      assert(s:seek(0))
      s:begin_close()
      assert.equal("ECANCELED", select(2, s:append { ev "late" }))
      assert.equal("ECANCELED", select(2, s:read { after = 0 }))
      assert.equal("ECANCELED", select(2, s:seek(0)))
      assert.equal("ECANCELED", select(2, s:erase { 1 }))
      local completions, tail = s:finish_close()
      d.store = nil
      assert.equal(42, #completions)
      assert.equal(40, #tail)
      for _, c in ipairs(completions) do
        assert.is_nil(c.error)
      end
    end)
  end)
end
