-- Events that an operator takes out for good: out of the store, out of memory, and out of the files.
local erasures = require "support.erasures"
local eventually = require "support.eventually"
local files = require "support.files"
local http = require "support.http"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

local P1, replay = erasures.P1, erasures.replay

local MARK = "secret-of-p1-"

local function audit(broker)
  local lines = {}
  for _, line in ipairs(broker:log_lines()) do
    if line.msg == "events erased" then
      lines[#lines + 1] = line
    end
  end
  return lines
end

local function bytes_of(broker)
  local dir, all = broker.dir .. "/store/events.db", {}
  for _, name in ipairs { dir, dir .. "-wal" } do
    local f = io.open(name, "rb")
    if f then
      all[#all + 1] = f:read "a"
      f:close()
    end
  end
  return table.concat(all)
end

for _, workers in ipairs { 1, 2 } do
  describe(("erase, with workers = %d,"):format(workers), function()
    local broker
    local function start(more, kept, limits)
      broker = tidegate.start { config = { workers = workers, event_log = more, store = kept, limits = limits } }
    end

    -- Each worker has read its pages by then: several streams reach both.
    local function replay_all(n)
      local last
      for _ = 1, workers * 2 do
        last = replay(broker, n)
      end
      return last
    end

    local function erased_everywhere(expected)
      eventually("no worker has them", function()
        for _ = 1, workers * 2 do
          for i, data in ipairs(replay(broker, #expected)) do
            if data ~= expected[i] then
              return false
            end
          end
        end
        return true
      end, 30)
    end

    it("takes events out of the log in memory, and leaves no gap", function()
      start()
      local others = erasures.fill(broker, 30, MARK)
      assert.equal(30, #replay_all(30))
      local live = sse.open(broker, { topic = "**" })
      local r = broker:erase(P1)
      assert.equal(200, r.status, r.body)
      assert.same({ 30, 10, 10, false }, { r.json.examined, r.json.matched, r.json.erased, r.json.dry_run })
      erased_everywhere(others)
      local few = sse.open(broker, { topic = "crm/**", last_event_id = "0", query = { limit = 12 } })
      local data = {}
      for i, ev in ipairs(few:collect(12, 30)) do
        data[i] = ev.data
      end
      assert.same({ table.unpack(others, 1, 12) }, data)
      local page = http.get(broker, "/events?topic=crm/**&last_event_id=0", { Accept = "application/json" })
      assert.equal(#others, #page.json.events, page.body)
      local id = broker:publish("crm/c1", "later")
      assert.is_true(math.tointeger(id) > math.tointeger(r.json.upto))
      assert.equal("later", live:next().data) -- nobody was told
      assert.equal(10, broker:metric "tidegate_store_erased_events_total")
      assert.equal(0, broker:metric "tidegate_gaps_total")
      broker:restart()
      others[#others + 1] = "later"
      assert.same(others, replay(broker, #others))
      assert.equal(0, broker:metric "tidegate_gaps_total")
    end)

    it("takes events out of the pages that were read", function()
      start { max_events = 16, page_events = 8 }
      local others = erasures.fill(broker, 60, MARK)
      assert.equal(60, #replay_all(60))
      assert.equal(20, broker:erase(P1).json.erased)
      erased_everywhere(others)
      assert.equal(0, broker:metric "tidegate_gaps_total")
    end)

    it("takes events from streams that are behind, and none of the others", function()
      broker = tidegate.start { config = { workers = workers, limits = { send_buffer_bytes = 4096 },
        sse = { turn_bytes = 16384 } } }
      local slow = {}
      for i = 1, 4 do
        slow[i] = sse.open(broker, { topic = "crm/**", rcvbuf = 4096, gzip = i % 2 == 0 })
      end
      local filler, others = ("x"):rep(3000), {}
      for i = 1, 200 do
        local own, data = i % 3 == 0, i .. " " .. filler -- those are to be erased
        broker:publish("crm/c" .. i % 7, data, { attrs = { person = own and "p1" or "p2" } })
        others[#others + 1] = not own and data or nil
      end
      assert.equal(200, #replay_all(200))
      local r = broker:erase(P1)
      assert.equal(66, r.json.erased, r.body)
      erased_everywhere(others)
      broker:publish("crm/c1", "end")
      for i, c in ipairs(slow) do
        local at, sent = 1, 0
        for _, ev in ipairs(c:collect_until("end", 60)) do
          if ev.data == others[at] then
            at = at + 1
          else -- it was on its way already
            assert.equal(0, tonumber(ev.data:match "^%d+") % 3)
            sent = sent + 1
          end
        end
        assert.equal(#others + 1, at, "stream " .. i)
        assert.is_true(sent < 66, "stream " .. i)
      end
      assert.equal(0, broker:metric "tidegate_gaps_total")
    end)

    it("takes events out of memory that retention has removed from the store", function()
      start({}, { retain_events = 5 }, { send_buffer_bytes = 16384 })
      local slow = {}
      for n = 1, workers * 2 do -- who is behind is sent what the log has
        slow[n] = sse.open(broker, { topic = "crm/**", rcvbuf = 4096 })
      end
      local mark = MARK .. ("x"):rep(16384)
      local others = erasures.fill(broker, 60, mark)
      eventually("retention has removed", function()
        return broker:metric "tidegate_store_retention_removed_total" >= 55
      end, 30)
      local r = broker:erase(P1)
      assert.equal(200, r.status, r.body)
      assert.is_true(r.json.matched <= 2)
      eventually.pass(workers > 1 and 1.5 or 0, "the others look at the store")
      for _, c in ipairs(slow) do
        for _, ev in ipairs(c:collect_until(others[#others])) do
          local n = ev.data:find(MARK, 1, true) and tonumber(ev.data:match "%d+$") or 0
          assert.is_true(n < 30, "event " .. n) -- those before were on their way
        end
      end
    end)

    it("leaves no byte of them in the files, and one line in the log", function()
      start()
      erasures.fill(broker, 30, MARK)
      assert.truthy(bytes_of(broker):find(MARK, 1, true))
      assert.equal(200, broker:erase(P1).status)
      assert.is_nil(bytes_of(broker):find(MARK, 1, true))
      local lines = audit(broker)
      assert.equal(1, #lines)
      assert.equal("127.0.0.1", lines[1].client)
      assert.same({ P1.topic, P1.where, "10" }, { lines[1].topic, lines[1].where, tostring(lines[1].erased) })
      assert.is_nil(broker:log():find(MARK, 1, true))
    end)

    it("changes nothing in a dry run", function()
      start()
      erasures.fill(broker, 90, MARK)
      local r = broker:erase { topic = P1.topic, where = P1.where, dry_run = true }
      assert.equal(200, r.status, r.body)
      assert.same({ 30, 0, true, 20 }, { r.json.matched, r.json.erased, r.json.dry_run, #r.json.events })
      assert.same({ "id", "topic" }, (function()
        local names = {}
        for name in pairs(r.json.events[1]) do names[#names + 1] = name end
        table.sort(names)
        return names
      end)())
      assert.is_nil(r.body:find(MARK, 1, true))
      assert.equal(90, #replay(broker, 90))
      assert.equal(0, #audit(broker))
    end)

    if workers == 2 then return end -- what follows is the store's

    it("goes on where a crash has ended it", function()
      start()
      local filler, others = ("x"):rep(4000), {}
      for batch = 0, 9 do
        local list = {}
        for i = 1, 200 do
          local p1 = i % 2 == 0
          list[i] = { topic = "crm/c", data = (p1 and MARK or "plain ") .. batch * 200 + i .. filler,
            attrs = { person = p1 and "p1" or "p2" } }
          others[#others + 1] = not p1 and list[i].data or nil
        end
        broker:publish_all(list)
      end
      local c = http.connect(broker.admin)
      local body = http.json.encode(P1)
      c:send(http.render("POST", "/erase", { ["Content-Length"] = #body, ["Content-Type"] = "application/json" }, body))
      eventually("it has begun", function()
        local ok, n = pcall(broker.metric, broker, "tidegate_store_erased_events_total")
        return ok and n > 0
      end, 30)
      broker:kill()
      broker:start()
      local r = broker:erase(P1)
      assert.equal(200, r.status, r.body)
      assert.is_true(r.json.erased < 1000)
      assert.is_nil(bytes_of(broker):find(MARK, 1, true))
      assert.same(others, replay(broker, #others))
      assert.equal(0, broker:metric "tidegate_gaps_total")
    end)
  end)
end

describe("erase", function()
  local broker = tidegate.shared { config = { admin_public = "127.0.0.1:0" } }

  it("refuses orders that are wrong, and says where", function()
    for _, case in ipairs {
      { { topic = "a", where = "attrs.x = 1" }, "where: line 1, column 9" },
      { { topic = "a", where = "attrs.x == $x" }, "where: .*x" },
      { { topic = "a//b" }, "topic: " },
      { { where = "true" }, "topic: is missing" },
      { { topic = "a", wher = "attrs.x == 1" }, "wher: is not known" },
      { { topic = "a", dry_run = "yes" }, "dry_run: expected true or false" },
      { { topic = 5 }, "topic: expected a string" },
    } do
      local r = broker():erase(case[1])
      assert.equal(400, r.status)
      assert.matches(case[2], r.json.detail)
    end
    local r = http.post(broker().admin, "/erase", "{")
    assert.equal(400, r.status)
    assert.matches("line 1", r.json.detail)
    assert.equal(0, #audit(broker()))
  end)

  it("is for who reaches the admin service, and for no web page", function()
    local body = http.json.encode(P1)
    assert.equal(403, http.post(broker().admin, "/erase", body, { Origin = "http://localhost" }).status)
    assert.equal(404, http.post(broker(), "/erase", body).status)
    local line = broker():logged { msg = "listening", server = "admin_public" }
    local at = { host = "127.0.0.1", port = tonumber(line.address:match ":(%d+)$") }
    assert.equal(404, http.post(at, "/erase", body).status)
    assert.equal(405, http.get(broker().admin, "/erase").status)
  end)

  it("lets a key of an erased event be used again", function()
    broker():publish("keys", "once", { key = "order-of-p1", attrs = { person = "p1" } })
    assert.equal(1, broker():erase { topic = "keys" }.json.erased)
    assert.is_nil(bytes_of(broker()):find("order-of-p1", 1, true))
    local _, r = broker():publish("keys", "again", { key = "order-of-p1" })
    assert.equal(201, r.status)
  end)

  it("overwrites what retention has removed before", function()
    local own = tidegate.start { config = { store = { retain_events = 5 } } }
    erasures.fill(own, 60, MARK)
    eventually("retention has removed", function()
      return own:metric "tidegate_store_retention_removed_total" >= 50
    end, 30)
    assert.equal(200, own:erase(P1).status)
    local all = bytes_of(own)
    assert.is_nil(all:find(MARK, 1, true))
    assert.truthy(all:find("plain", 1, true))
  end)
end)

describe("erase", function()
  it("takes out what only store.latest has kept", function()
    local own = tidegate.start { config = { store = { retain_events = 5, latest = { "crm/*" } } } }
    erasures.fill(own, 6, MARK)
    local later = {}
    for i = 1, 40 do
      later[i] = { topic = "noise", data = tostring(i) }
    end
    own:publish_all(later)
    eventually("retention has removed", function()
      return own:metric "tidegate_store_retention_removed_total" >= 41
    end, 30)
    local r = own:erase { topic = "crm/**", where = P1.where, dry_run = true }
    assert.same({ 1, "crm/c0" }, { r.json.matched, r.json.events[1].topic }) -- crm/c1 is of somebody else
    assert.equal(1, own:erase(P1).json.erased)
    assert.is_nil(bytes_of(own):find(MARK, 1, true))
    eventually("it is counted", function() return own:metric "tidegate_store_latest_topics" == 1 end, 30)
  end)
end)

describe("erase", function()
  it("takes events out of snapshots that were read", function()
    local own = tidegate.start { config = { store = { latest = { "crm/*" } } }, policy = [[
      return { api = 1, authenticate = function() return { sub = "anyone" } end,
        subscribe = function(req) return { topics = req.topics, start = "latest" } end,
        publish = function(pub) return pub end }
    ]] }
    erasures.fill(own, 6, MARK) -- crm/c0 is about p1, crm/c1 is not
    local function topics_until_live()
      local c, list = sse.open(own, { topic = "crm/*" }), {}
      local ev = c:next()
      while ev.type ~= "live" do
        list[#list + 1] = ev.data
        ev = c:next()
      end
      c:close()
      return list
    end
    assert.same({ "plain 5", MARK .. "6" }, topics_until_live())
    assert.equal(2, own:erase(P1).json.erased)
    assert.same({ "plain 5" }, topics_until_live())
  end)
end)

describe("tidegate erase", function()
  for _, workers in ipairs { 1, 2 } do
    it(("counts, erases, and refuses, with workers = %d"):format(workers), function()
      local broker = tidegate.start { config = { workers = workers, admin = "unix:@DIR/admin" } }
      local others = erasures.fill(broker, 30, MARK)
      local function run(...)
        return tidegate.run(tidegate.binary(), { args = { "erase", ... }, cwd = broker.dir })
      end
      local code, out, err = run("--topic", P1.topic, "--where", P1.where, "--dry-run")
      assert.same({ 0, "" }, { code, err })
      assert.matches("^%d+  crm/c1\n", out)
      assert.matches("\n10 events would be erased; 30 examined\n$", out)
      assert.equal(64, (run("--topic", P1.topic))) -- nobody can be asked
      assert.equal(64, (run "--yes"))
      assert.equal(64, (run("--topic", P1.topic, "--where", "", "--yes"))) -- a variable of a shell that is not set
      code, _, err = run("--topic", "\xff", "--yes")
      assert.equal(64, code)
      assert.matches("erase: --topic or --where: is not UTF-8\n", err, 1, true)
      code, out, err = run("--topic", P1.topic, "--where", "attrs.person =", "--yes")
      assert.same({ 65, "" }, { code, out })
      assert.matches("where: line 1, column ", err)
      -- on a terminal it asks, and a document stays one
      local function ask(answer)
        return tidegate.run("/bin/sh", { cwd = broker.dir, args = { "-c",
          ([[echo %s | script -qec "'%s' erase --topic '%s' --where 'attrs.person == \"none\"' --json >out" /dev/null]])
            :format(answer, tidegate.binary(), P1.topic) } })
      end
      code, out = ask "no"
      assert.equal(1, code)
      assert.matches("0 events would be erased; 30 examined\r\nErase them, for good%? Type yes: ", out)
      assert.matches("nothing was erased", out)
      assert.equal("", files.read(broker.dir .. "/out"))
      assert.equal(0, (ask "yes"))
      assert.equal(0, http.json.decode(files.read(broker.dir .. "/out")).erased)
      code, out = run("--topic", P1.topic, "--where", P1.where, "--yes", "--conf", "tidegate.lua")
      assert.same({ 0, "10 events were erased; 30 examined\n" }, { code, out })
      code, out = run("--topic", P1.topic, "--where", P1.where, "--yes", "--json")
      assert.same({ 0, 0 }, { code, http.json.decode(out).matched })
      eventually("they are gone", function() return replay(broker, 1)[1] == others[1] end)
      assert.equal("unix", audit(broker)[1].client)
    end)
  end
end)
