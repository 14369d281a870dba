-- How PostgreSQL finds what history asks for: by an index, and few rows of many. The server says it (auto_explain).
local eventually = require "support.eventually"
local http = require "support.http"
local pg = require "support.pg"
local sse = require "support.sse"

local POLICY = [[
return {
  api = 1,
  authenticate = function() return {} end,
  subscribe = function(req) return { topics = req.topics, start = req.query.start } end,
  publish = function(pub) return pub end,
}
]]

describe("the plans of PostgreSQL", function()
  local server = pg.shared { settings = { session_preload_libraries = "auto_explain",
    ["auto_explain.log_min_duration"] = "0", ["auto_explain.log_analyze"] = "on", ["auto_explain.log_timing"] = "off",
    ["auto_explain.log_nested_statements"] = "on" } }
  local db, broker, from

  before_each(function()
    local filled = db
    db = db or server():database()
    broker = db:broker { policy = POLICY, config = { event_log = { max_events = 16 },
      store = { latest = { "room/*/*", "tick/**" }, partition_ids = 5000 } } }
    if filled then
      return
    end
    db:sql [[INSERT INTO tidegate.outbox (topic, data)
             SELECT CASE WHEN n % 10 = 0 THEN 'noise' ELSE 'room/' || n % 1000 || '/' || n END, n::text
             FROM generate_series(1, 12000) n]]
    eventually("all are there", function() return db:sql "SELECT count(*) FROM tidegate.latest" == "10800" end, 60)
    eventually("all have come", function() return broker:metric "tidegate_events_tailed_total" == 12000 end, 60)
    broker:restart()
  end)

  local function begin()
    from = #server():log()
  end

  -- The plans since then of statements that have that text: one text.
  local function plans(text)
    local found = {}
    for plan in (server():log():sub(from + 1) .. "\n2"):gmatch "plan:\n(.-)\n%f[%d]" do
      if plan:find(text, 1, true) then
        found[#found + 1] = plan
      end
    end
    return table.concat(found, "\n")
  end

  -- No table is read as a whole, and no more rows than that. Rows of tables and indexes, those that were read for
  -- nothing included.
  local function reads_few(plan, table_name, most)
    assert.not_equal("", plan)
    assert.is_nil(plan:match("Seq Scan on " .. table_name .. "[^\n]*"), plan)
    local rows = 0
    local scan_line = "Index[^\n]* Scan[^\n]* on " .. table_name .. "[^\n]*rows=(%d+) loops=%d+%)"
    for scan, rest in plan:gmatch(scan_line .. "(.-)%f[-\0]") do
      rows = rows + tonumber(scan) + tonumber(rest:match "Rows Removed by Filter: (%d+)" or 0)
    end
    assert.is_true(rows > 0 and rows <= most, rows .. " rows were read:\n" .. plan)
  end

  local function snapshot(topic)
    local n, c = 0, sse.open(broker, { topic = topic, query = { start = "latest" } })
    while c:next(60).type ~= "live" do
      n = n + 1
    end
    c:close()
    return n
  end

  it("find the newest events of a pattern, or a name, by the index on topics", function()
    eventually("the store is ready", function() return snapshot "room/1/1" == 1 end, 30)
    for topic, n in pairs { ["room/5/*"] = 12, ["room/5/**"] = 12, ["room/5/5"] = 1, ["none/*"] = 0 } do
      begin()
      assert.equal(n, snapshot(topic))
      eventually("it says how", function() return plans "WITH few" ~= "" end, 30)
      if n > 0 then
        reads_few(plans "WITH few", "latest", 4 * n)
      end
      assert.is_nil(plans "WITH few":match "Seq Scan on latest")
    end
  end)

  it("fold the newest events without reading the others, also those that were made when there were few", function()
    local fresh = server():database()
    local one = fresh:broker { policy = POLICY, config = { store = { latest = { "room/*/*" } } } }
    eventually("they are kept", function()
      return fresh:sql "SELECT count(*) FROM pg_trigger WHERE tgname = 'latest_follow'" ~= "0"
    end)
    local session = fresh:session(pg.OWNER) -- in which the plans are made once, and held on to
    local function fold()
      session:run "SELECT tidegate.latest_fold('{room/*/*}', 9000000000000000, 65536);"
    end
    one:publish("room/1/11", "first")
    for _ = 1, 8 do
      one:publish("room/1/11", "first")
      fold()
    end
    fresh:sql "ANALYZE tidegate.latest" -- of a table that small all is read
    for round = 1, 8 do
      local batch = {}
      for i = 1, 20 do
        batch[i] = { topic = ("room/1/%d"):format(round * 10 + i), data = i == 20 and round > 1 and "" or "v" .. round }
      end
      if round == 8 then
        fold()
        begin()
      end
      one:publish_all(batch)
    end
    fold()
    assert.equal("89|10,10,19", fresh:sql [[SELECT s.topics || '|' || (SELECT string_agg(n::text, ',') FROM
      (SELECT count(*) n FROM tidegate.latest WHERE data IN ('v1', 'v2', 'v8') GROUP BY data ORDER BY 1) x)
      FROM tidegate.latest_state s]])
    local parts = { "INSERT INTO tidegate.latest ", "DELETE FROM tidegate.latest l WHERE", "GROUP BY e.topic" }
    for _, part in ipairs(parts) do
      local plan = plans(part)
      assert.not_equal("", plan, part)
      assert.is_nil(plan:match "Seq Scan on latest l[^\n]*", plan)
      assert.is_nil(plan:match "Seq Scan on events[^\n]*", plan)
    end
    assert.truthy(plans "INSERT INTO tidegate.latest ":find "Index Cond: %(%(seq = ANY[^\n]*seq >[^\n]*seq <=")
    assert.equal("", session:errors())
    one:stop()
  end)

  it("read no page of all newest events from the beginning", function()
    begin()
    assert.equal(10800, snapshot "room/**")
    local reads = 0
    for scan in plans "WITH few":gmatch "latest_seq_idx on latest l[^\n]*rows=(%d+)" do
      reads = reads + tonumber(scan)
    end
    assert.is_true(reads >= 10800 and reads < 2 * 10800, reads .. "\n" .. plans "WITH few")
  end)

  it("find a time, and a window of history, by the ids", function()
    begin()
    local c = sse.open(broker, { topic = "noise", query = { since = "-10m", limit = 2 } })
    assert.equal("10", c:next(30).data)
    c:close()
    reads_few(plans "x.seq >= mid AND x.seq <= hi", "events_%d+", 60)
    begin()
    local head = math.tointeger(tonumber(db:sql "SELECT seq FROM tidegate.head"))
    local first = math.tointeger(tonumber(db:sql "SELECT min(seq) FROM tidegate.events"))
    local r = http.get(broker, ("/events?topic=**&last_event_id=%d&until=%d"):format(first + 3000, first + 3020),
      { Accept = "application/json" })
    assert.equal(20, #r.json.events, r.body)
    assert.is_true(first + 12000 < head + 100)
    reads_few(plans "sum(p.cost)", "events_%d+", 40)
  end)
end)
