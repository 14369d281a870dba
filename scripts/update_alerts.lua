-- Writes conf/prometheus/alerts.yml from the on-call checklist of conf/OPERATIONS.md: a rule for each metric of a row.
-- usage: lua5.4 scripts/update_alerts.lua
-- "it rises", "0", "1", "above 5" are read from the table. Rows that say more than that have their rules here.
local PAGE, RULES = "conf/OPERATIONS.md", "conf/prometheus/alerts.yml"

-- By metric: expressions, `false` where a figure is for looking at and not for waking somebody.
local SPECIAL = {
  tidegate_ready = { "tidegate_ready == 0", severity = "critical" },
  tidegate_store_healthy = { "tidegate_store_healthy == 0", severity = "critical" },
  tidegate_store_append_seconds = {
    "histogram_quantile(0.99, sum by (instance, le) (rate(tidegate_store_append_seconds_bucket[5m]))) > 0.1",
  },
  tidegate_publish_to_socket_seconds = {
    "histogram_quantile(0.99, sum by (instance, le) (rate(tidegate_publish_to_socket_seconds_bucket[5m]))) > 1",
  },
  tidegate_policy_hook_cpu_seconds = {
    "histogram_quantile(0.99, sum by (instance, hook, le) "
      .. '(rate(tidegate_policy_hook_cpu_seconds_bucket{hook!~"setup|reload"}[5m]))) > 0.01',
  },
  tidegate_streams_barred = { "min_over_time(tidegate_streams_barred[1m]) > 0", wait = "1m" },
  tidegate_streams_barred_seconds = false, -- for the row of the one above
  tidegate_policy_resubscribe_delay_seconds = false, -- long on purpose after a reload
  tidegate_policy_suspended_hooks = false, -- near a limit of the configuration
  tidegate_store_latest_topics = false, -- the same
  tidegate_store_latest_filling = { "min_over_time(tidegate_store_latest_filling[30m]) == 1", wait = "30m" },
  tidegate_policy_cache_evictions_total = { "rate(tidegate_policy_cache_evictions_total[15m]) > 10", wait = "15m" },
  tidegate_refused_invalid_total = { "rate(tidegate_refused_invalid_total[5m]) > 1", wait = "10m" },
  tidegate_refused_denied_total = { "rate(tidegate_refused_denied_total[5m]) > 1", wait = "10m" },
  tidegate_gaps_total = { "rate(tidegate_gaps_total[5m]) > 0", wait = "10m" },
  tidegate_subscribers_behind = {
    "tidegate_subscribers_behind > 10 and tidegate_subscribers_behind > 0.1 * tidegate_subscribers", wait = "10m",
  },
  tidegate_caught_up_timestamp_seconds = false, -- for a restart that somebody watches
  tidegate_audiences = false, -- a cost, no fault
  tidegate_connections_closed_total = {
    'rate(tidegate_connections_closed_total{reason=~"dead-peer|lagged|head-timeout"}[5m]) > 1', wait = "10m",
  },
  tidegate_store_sequencer_is_leader = {
    "max(tidegate_store_sequencer_is_leader) == 0", wait = "1m", severity = "critical",
  },
  tidegate_store_upkeep_timestamp_seconds = {
    "max by (step) (tidegate_store_upkeep_timestamp_seconds) > 0 and "
      .. "time() - max by (step) (tidegate_store_upkeep_timestamp_seconds) > 3600",
  },
  tidegate_store_partitions = { "tidegate_store_partitions > 300" },
  tidegate_store_xmin_age = { "tidegate_store_xmin_age > 1e7", wait = "1h" },
  tidegate_store_tail_lag_events = {
    "tidegate_store_tail_lag_events > 1000 and deriv(tidegate_store_tail_lag_events[5m]) > 0",
  },
}

local function rules_of(metric, when)
  local name = metric:match "^[%w_]+"
  local special = SPECIAL[name]
  if special ~= nil then
    return special
  end
  local number = when:match "^above (%d+)$" or when:match "^above (%d+),"
  if number then
    return { ("%s > %s"):format(metric:gsub("{.*", ""), number) }
  end
  if when:find "^it rises" or when:find "^they rise" then
    return { ("increase(%s[5m]) > 0"):format((metric:gsub("{([%w_]+)=}", ""))), wait = "0m" }
  end
  if when == "0" or when == "1" then
    return { ("%s == %s"):format(name, when) }
  end
  error(('%s: row of %s: "%s" is none of "it rises", "0", "1", "above N": add it to SPECIAL'):format(PAGE, name, when))
end

-- tidegate_store_append_seconds -> TidegateStoreAppendSeconds
local function camel(name)
  return (name:gsub("_total$", ""):gsub("_?(%a)([%w]*)", function(a, b) return a:upper() .. b end))
end

local function quoted(text)
  return "'" .. text:gsub("'", "''") .. "'"
end

local file <close> = assert(io.open(PAGE))
local text = file:read "a"
local checklist = assert(text:match "\n## On%-call checklist\n\n|[^\n]*\n|[^\n]*\n(.-)\n\n",
  PAGE .. " has no checklist")
local out, seen = {
  "# Generated from the on-call checklist of conf/OPERATIONS.md by scripts/update_alerts.lua: change that table.",
  "groups:", "  - name: tidegate", "    rules:",
}, {}
for row in checklist:gmatch "[^\n]+" do
  local metrics, when, advice = row:match "^| (.-) | (.-) | (.*) |$"
  assert(metrics, PAGE .. ": no row of three columns: " .. row)
  for metric in metrics:gmatch "`([^`]+)`" do
    local name = metric:match "^[%w_]+"
    local rule = rules_of(metric, when)
    if rule then
      assert(not seen[name], PAGE .. ": " .. name .. " has two rows")
      seen[name] = true
      out[#out + 1] = "      - alert: " .. camel(name)
      out[#out + 1] = "        expr: " .. quoted(rule[1])
      out[#out + 1] = "        for: " .. (rule.wait or "5m")
      out[#out + 1] = ("        labels: { severity: %s }"):format(rule.severity or "warning")
      out[#out + 1] = "        annotations:"
      out[#out + 1] = "          summary: " .. quoted(("%s: %s"):format(name, when))
      out[#out + 1] = "          description: " .. quoted(advice:gsub("%[([^%]]+)%]%b()", "%1"):gsub("{{", "{ {"))
    end
  end
end
local rules <close> = assert(io.open(RULES, "w"))
assert(rules:write(table.concat(out, "\n"), "\n"))
