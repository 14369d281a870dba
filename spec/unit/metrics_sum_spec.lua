-- The metrics of several workers on one page.
local admin = require "native.admin"
local native = require "native.workers"
local prometheus = require "support.prometheus"

-- A page of one worker; `start` tells its process from the one before.
local function page(values, start)
  local lines = {
    "# HELP tidegate_a_total A.", "# TYPE tidegate_a_total counter",
    ("tidegate_a_total %d"):format(values.a or 0),
    "# HELP tidegate_streams S.", "# TYPE tidegate_streams gauge", ("tidegate_streams %d"):format(values.streams or 0),
    "# HELP tidegate_head_id H.", "# TYPE tidegate_head_id gauge",
    "# RULE tidegate_head_id max", ("tidegate_head_id %d"):format(values.head or 0),
    "# HELP tidegate_ready R.", "# TYPE tidegate_ready gauge",
    "# RULE tidegate_ready min", ("tidegate_ready %d"):format(values.ready or 1),
    "# HELP tidegate_e_total E.", "# TYPE tidegate_e_total counter",
    ('tidegate_e_total{why="x y"} %d'):format(values.e or 0), 'tidegate_e_total{why="b"} 1',
    "# HELP tidegate_t_seconds T.", "# TYPE tidegate_t_seconds histogram",
    ('tidegate_t_seconds_bucket{le="+Inf"} %d'):format(values.t or 0),
    ("tidegate_t_seconds_sum %d"):format(values.t or 0), ("tidegate_t_seconds_count %d"):format(values.t or 0),
    "# HELP process_start_time_seconds P.", "# TYPE process_start_time_seconds gauge",
    ("process_start_time_seconds %.3f"):format(start or 1.5),
  }
  return table.concat(lines, "\n") .. "\n"
end

local function sum(workers, scrapes)
  local text = native.sum(workers, scrapes)
  local values = {}
  for line in text:gmatch "[^\n]+" do
    local key, value = line:match "^([^#].*) (%S+)$"
    if key then
      assert(values[key] == nil, "twice: " .. key)
      values[key] = tonumber(value)
    end
  end
  prometheus.parse(text) -- strictly
  return values
end

describe("the metrics of several workers", function()
  it("are sums, or the greatest or least where a sum would mean nothing", function()
    local v = sum(2, { { page { a = 3, streams = 10, head = 70, e = 5, t = 2 },
      page { a = 4, streams = 20, head = 90, ready = 0, e = 6, t = 3 } } })
    assert.equal(7, v.tidegate_a_total)
    assert.equal(30, v.tidegate_streams)
    assert.equal(90, v.tidegate_head_id)
    assert.equal(0, v.tidegate_ready)
    assert.equal(11, v['tidegate_e_total{why="x y"}'])
    assert.equal(5, v['tidegate_t_seconds_bucket{le="+Inf"}'])
    assert.equal(5, v.tidegate_t_seconds_count)
    assert.equal(4, v['tidegate_worker_a_total{worker="2"}'])
    assert.equal(10, v['tidegate_worker_streams{worker="1"}'])
  end)

  -- Every metric of the program, with the values that three workers show, and what they come to. A metric that is not
  -- named here is added up; one that should not be must stand here, and in the table of metrics.
  it("follow the rule of each metric that the program has", function()
    local greatest, least = {}, {}
    for name in ([[
      tidegate_build_info tidegate_policy_info tidegate_draining tidegate_caught_up_timestamp_seconds
      tidegate_events_tailed_total tidegate_head_id tidegate_key_sets tidegate_key_sets_unavailable
      tidegate_key_sets_failing tidegate_quota_keys tidegate_quota_streams tidegate_rate_keys
      tidegate_observed_events_total tidegate_observe_effects_total
      tidegate_policy_rolled_back tidegate_policy_set_age_seconds tidegate_store_events tidegate_store_head_id
      tidegate_store_leaps_total tidegate_store_latest_filling tidegate_store_latest_topics
      tidegate_store_open_publisher_seconds tidegate_store_outbox_oldest_seconds tidegate_store_rejected_rows_total
      tidegate_store_degraded tidegate_store_partitions tidegate_store_upkeep_timestamp_seconds
      tidegate_store_size_bytes tidegate_store_tail_lag_events tidegate_store_xmin_age
    ]]):gmatch "%S+" do
      greatest[name] = true
    end
    for name in ([[
      tidegate_database_up tidegate_ready tidegate_store_healthy process_start_time_seconds
    ]]):gmatch "%S+" do
      least[name] = true
    end
    local shown = admin.render { policy_version = "2", store = { ok = 1, events = 1, bytes = 1 } }
    local pages = {}
    for worker, value in ipairs { 5, 7, 6 } do
      pages[worker] = shown:gsub("(\n[^#\n][^\n]* )%S+", "%1" .. value):gsub("^([^#\n][^\n]* )%S+", "%1" .. value)
    end
    local seen, totals = 0, {}
    for line in native.sum(3, { pages }):gmatch "[^\n]+" do
      local name, value = line:match "^([%w_]+)[^ ]* (%S+)$"
      if name and not name:find "^tidegate_worker_" then
        totals[name] = tonumber(value)
      end
    end
    for name, total in pairs(totals) do
      assert.equal(greatest[name] and 7 or least[name] and 5 or 18, total, name)
      seen, greatest[name], least[name] = seen + 1, nil, nil
    end
    assert.same({ {}, {} }, { greatest, least }, "not on the page")
    assert.is_true(seen > 100)
  end)

  it("go on counting over the end of a process, however much its successor has counted", function()
    local before = { page({ a = 5, streams = 9, t = 4 }, 1.5), page { a = 100 } }
    for _, first in ipairs { 0, 1, 5, 500 } do
      local v = sum(2, { before, { page({ a = first, streams = 1, t = 1 }, 2.5), page { a = 100 } } })
      assert.equal(105 + first, v.tidegate_a_total)
      assert.equal(1, v.tidegate_streams)
      assert.equal(5, v.tidegate_t_seconds_count)
      assert.equal(5 + first, v['tidegate_worker_a_total{worker="1"}'])
    end
  end)

  it("keep the counters of one that does not answer, but no gauge of it", function()
    local both = { page { a = 5, streams = 3 }, page { a = 7, streams = 4 } }
    local v = sum(2, { both, { page { a = 6, streams = 3 }, false } })
    assert.equal(13, v.tidegate_a_total)
    assert.equal(3, v.tidegate_streams)
    assert.is_nil(v['tidegate_worker_streams{worker="2"}'])
  end)

  it("leave out what is no sample", function()
    local v = sum(1, { { "no metrics at all\n# HELP\n# TYPE x\n\n# HELP y Y.\n# TYPE y gauge\ny\ny z\ny 4" } })
    assert.same({ y = 4, ['tidegate_worker_y{worker="1"}'] = 4 }, v)
  end)
end)
