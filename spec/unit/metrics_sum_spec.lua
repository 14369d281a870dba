-- The metrics of several workers on one page.
local native = require "native.workers"
local prometheus = require "support.prometheus"

-- A page of one worker; `start` tells its process from the one before.
local function page(values, start)
  local lines = {
    "# HELP tidegate_a_total A.", "# TYPE tidegate_a_total counter",
    ("tidegate_a_total %d"):format(values.a or 0),
    "# HELP tidegate_streams S.", "# TYPE tidegate_streams gauge", ("tidegate_streams %d"):format(values.streams or 0),
    "# HELP tidegate_head_id H.", "# TYPE tidegate_head_id gauge", ("tidegate_head_id %d"):format(values.head or 0),
    "# HELP tidegate_ready R.", "# TYPE tidegate_ready gauge", ("tidegate_ready %d"):format(values.ready or 1),
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

  it("tell whether any of them is in trouble", function()
    local function gauges(values)
      local lines = {}
      for name, value in pairs(values) do
        lines[#lines + 1] = ("# HELP tidegate_%s X.\n# TYPE tidegate_%s gauge\ntidegate_%s %d\n"):format(
          name, name, name, value)
      end
      return table.concat(lines)
    end
    local v = sum(3, { {
      gauges { database_up = 1, policy_rolled_back = 0, key_sets = 2, key_sets_unavailable = 0 },
      gauges { database_up = 0, policy_rolled_back = 1, key_sets = 2, key_sets_unavailable = 1 },
      gauges { database_up = 1, policy_rolled_back = 1, key_sets = 2, key_sets_unavailable = 1 } } })
    assert.same({ 0, 1, 2, 1 }, { v.tidegate_database_up, v.tidegate_policy_rolled_back, v.tidegate_key_sets,
      v.tidegate_key_sets_unavailable })
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
