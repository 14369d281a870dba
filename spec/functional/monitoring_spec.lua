-- What operators load into Prometheus and Grafana: made from the checklist, accepted by promtool, and about series
-- that the broker has.
local child = require "support.child"
local files = require "support.files"
local http = require "support.http"
local pages = require "support.pages"
local prometheus = require "support.prometheus"
local tidegate = require "support.tidegate"

local read = pages.read

describe("monitoring:", function()
  local broker = tidegate.shared { config = { workers = 2 } }
  local families -- of that broker: its series and their labels

  setup(function()
    families = prometheus.parse(http.get(broker().admin, "/metrics").body).families
  end)

  local function assert_series(expression)
    local count = 0
    for name in expression:gsub('"[^"]*"', '""'):gmatch "[%a_][%w_]*" do
      if name:find "^tidegate_" or name:find "^process_" then
        count = count + 1
        assert.truthy(families[name] or families[name:gsub("_bucket$", "")], name)
      end
    end
    assert.is_true(count > 0, expression)
  end

  for file, script in pairs {
    ["conf/prometheus/alerts.yml"] = "scripts/update_alerts.lua",
    ["conf/grafana/tidegate.json"] = "scripts/update_dashboard.lua",
  } do
    it(("%s is what %s writes"):format(file, script), function()
      local dir = child.directory()
      finally(function() child.remove_tree(dir) end)
      local command = ("mkdir -p '%s/%s' && cp conf/*.md '%s/conf/' && cd '%s' && lua5.4 '%s/%s'")
        :format(dir, file:match "^(.*)/", dir, dir, SPEC_SOURCE_DIR, script)
      local code, _, err = tidegate.run("/bin/sh", { args = { "-c", command }, cwd = SPEC_SOURCE_DIR })
      assert.equal(0, code, err)
      assert.equal(files.read(dir .. "/" .. file), read(file), "run lua5.4 " .. script)
    end)
  end

  it("promtool accepts the alerts", function()
    local promtool = assert(child.find "promtool", "promtool (package prometheus) is not installed")
    local code, out, err = tidegate.run(promtool,
      { args = { "check", "rules", SPEC_SOURCE_DIR .. "/conf/prometheus/alerts.yml" } })
    assert.equal(0, code, out .. err)
  end)

  it("alerts are about series of the broker", function()
    local count = 0
    for expression in read "conf/prometheus/alerts.yml":gmatch "\n +expr: '([^\n]*)'" do
      count = count + 1
      assert_series(expression)
    end
    assert.is_true(count > 30)
  end)

  it("the dashboard shows series of the broker, and labels that they have", function()
    local panels, labels = 0, 0
    for _, panel in ipairs(http.json.decode(read "conf/grafana/tidegate.json").panels) do
      for _, target in ipairs(panel.targets or {}) do
        panels = panels + 1
        assert_series(target.expr)
        local family = families[target.expr:match "tidegate_[%w_]+" or target.expr:match "process_[%w_]+"]
        for label in target.legendFormat:gmatch "{{(.-)}}" do
          if label ~= "instance" and family and family.samples[1] then -- that one is Prometheus' own
            labels = labels + 1
            assert.truthy(family.samples[1].labels[label], target.expr .. ": " .. label)
          end
        end
      end
    end
    assert.is_true(panels > 20 and labels > 4, ("%d, %d"):format(panels, labels))
  end)
end)
