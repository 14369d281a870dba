local admin = require "native.admin"
local prometheus = require "support.prometheus"

local members, reasons = admin.names()

local function render(view)
  view.version = view.version or "1.2.3"
  return prometheus.parse(assert(admin.render(view)))
end

describe("the metrics page", function()
  it("gives every counter and gauge exactly one series, with its own value", function()
    local view, expected = {}, {}
    for i, name in ipairs(members) do
      view[name] = 1000 + i
      expected[1000 + i] = name
    end
    local page = render(view)
    for series, value in pairs(page.values) do
      if series:find "^tidegate_" and series:find "{" and expected[value] then
        expected[value] = nil
      end
    end
    assert.same({}, expected)
  end)

  it("says HELP and TYPE once where several series share a name", function()
    local page = render { policy_errors_filter = 7, policy_errors_publish = 9 }
    local errors = page.families.tidegate_policy_errors_total
    assert.equal("counter", errors.type)
    local by_hook = {}
    for _, sample in ipairs(errors.samples) do
      by_hook[sample.labels.hook] = sample.value
    end
    assert.same({ authenticate = 0, subscribe = 0, publish = 9, filter = 7, format = 0, disconnect = 0, observe = 0,
      setup = 0, reload = 0 }, by_hook)
  end)

  it("has a close counter for every reason", function()
    local view = {}
    for i, reason in ipairs(reasons) do
      view[reason] = i
    end
    local seen = {}
    for _, sample in ipairs(render(view).families.tidegate_connections_closed_total.samples) do
      seen[sample.labels.reason] = sample.value
    end
    assert.same(view.draining, seen.draining)
    for i, reason in ipairs(reasons) do
      assert.equal(i, seen[reason], reason)
    end
  end)

  it("names counters _total and says its units", function()
    local page = render { store = { ok = 1 }, policy_version = "x" }
    for name, family in pairs(page.families) do
      assert.equal(family.type == "counter", name:find "_total$" ~= nil, name)
      assert.is_nil(name:find "_ms$" or name:find "_us$" or name:find "_kb$", name)
    end
  end)

  it("turns latencies into cumulative buckets in seconds", function()
    local page = render { store_append = { 1, 100, 101, 5000, 2000000 } }
    local family = page.families.tidegate_store_append_seconds
    assert.equal("histogram", family.type)
    local buckets, last = {}, 0
    for _, sample in ipairs(family.samples) do
      if sample.labels.le then
        buckets[sample.labels.le] = sample.value
        assert.is_true(sample.value >= last, "buckets must not fall")
        last = sample.value
      end
    end
    -- an upper bound belongs to its bucket: le means less or equal
    assert.equal(1, buckets["1e-05"])
    assert.equal(2, buckets["0.0001"])
    assert.equal(3, buckets["0.00025"])
    assert.equal(4, buckets["0.005"])
    assert.equal(4, buckets["1"])
    assert.equal(5, buckets["10"])
    assert.equal(5, buckets["+Inf"])
    assert.equal(5, page.values.tidegate_store_append_seconds_count)
    assert.is_true(math.abs(page.values.tidegate_store_append_seconds_sum - 2.005202) < 1e-9)
    assert.equal(0, page.values.tidegate_store_read_seconds_count)
  end)

  it("escapes what a policy author may write into a version", function()
    local page = render { policy_version = 'a"b\\c\nd' }
    assert.equal('a"b\\c\nd', page.families.tidegate_policy_info.samples[1].labels.version)
  end)

  it("leaves out what is not known", function()
    local page = render {}
    assert.is_nil(page.families.tidegate_policy_info)
    assert.is_nil(page.families.tidegate_store_healthy)
    page = render { store = { ok = 0, events = 4, bytes = 4096 } }
    assert.equal(0, page.values.tidegate_store_healthy)
    assert.equal(4, page.values.tidegate_store_events)
    assert.equal(4096, page.values.tidegate_store_size_bytes)
  end)

  it("prints large counters in full", function()
    assert.equal((1 << 53) - 1, render { head_id = (1 << 53) - 1 }.values.tidegate_head_id)
  end)

  it("describes the process under the names dashboards know", function()
    local page = render {}
    assert.equal(12.5, page.values.process_start_time_seconds)
    assert.is_true(page.values.process_resident_memory_bytes > 1024 * 1024)
    assert.is_true(page.values.process_open_fds >= 3)
    assert.is_true(page.values.process_max_fds > page.values.process_open_fds)
    assert.is_true(page.values.process_cpu_seconds_total > 0)
  end)

  it("fails rather than send half a page", function()
    local page, code = admin.render { version = "1", max = 1000 }
    assert.is_nil(page)
    assert.is_true(code < 0)
  end)
end)

describe("the reader of metrics pages used by the specs", function()
  local function refused(text, why)
    local ok, err = pcall(prometheus.parse, text)
    assert.is_false(ok, text)
    assert.truthy(tostring(err):find(why, 1, true), tostring(err))
  end

  it("refuses pages that break the format", function()
    local head = "# HELP a b\n# TYPE a counter\n"
    refused("a 1\n", "without HELP")
    refused(head .. "a 1\na 2\n", "series twice")
    refused(head .. 'a{x="1"} 1\n# HELP b b\n# TYPE b gauge\na{x="2"} 1\n', "not together")
    refused(head .. head, "HELP twice")
    refused(head .. "a 1", "does not end")
    refused(head .. "a one\n", "not a number")
    refused(head .. 'a{x="1\\t"} 1\n', "bad escape")
    refused("# TYPE a counter\na 1\n", "no HELP")
    assert.equal(1, prometheus.parse(head .. "a 1\n").values.a)
  end)
end)
