-- Writes conf/grafana/tidegate.json, a dashboard for Grafana with Prometheus as its source.
-- usage: lua5.4 scripts/update_dashboard.lua
-- Every series that it queries is one of the broker's: spec/functional/monitoring_spec.lua compares them.
local FILE = "conf/grafana/tidegate.json"

local function rate(metric, by)
  return ("sum by (%s) (rate(%s[$__rate_interval]))"):format(by or "instance", metric .. '{instance=~"$instance"}')
end
local function gauge(metric)
  return metric .. '{instance=~"$instance"}'
end
local function quantile(q, metric, by)
  return ("histogram_quantile(%s, sum by (%s, le) (rate(%s_bucket{instance=~\"$instance\"}[$__rate_interval])))")
    :format(q, by or "instance", metric)
end

-- Panels: title, unit of Grafana, { expression, legend } ...
local ROWS = {
  { "Overview",
    { "Ready", "none", { gauge "tidegate_ready", "{{instance}}" } },
    { "Streams", "none", { gauge "tidegate_subscribers", "{{instance}}" } },
    { "Events in", "ops", { rate "tidegate_events_published_total", "published {{instance}}" },
      { rate "tidegate_events_tailed_total", "from the store {{instance}}" } },
    { "Events out", "ops", { rate "tidegate_events_delivered_total", "{{instance}}" } },
    { "Publish to socket", "s", { quantile("0.5", "tidegate_publish_to_socket_seconds"), "p50 {{instance}}" },
      { quantile("0.99", "tidegate_publish_to_socket_seconds"), "p99 {{instance}}" } },
  },
  { "Streams",
    { "Connections", "none", { gauge "tidegate_connections", "{{instance}}" } },
    { "Behind the newest event", "none", { gauge "tidegate_subscribers_behind", "{{instance}}" } },
    { "Closed, by reason", "ops", { rate("tidegate_connections_closed_total", "reason"), "{{reason}}" } },
    { "Gaps", "ops", { rate "tidegate_gaps_total", "{{instance}}" } },
    { "Answers, by status class", "ops", { rate("tidegate_http_answers_total", "class"), "{{class}}" } },
    { "Denied, by status", "ops", { rate("tidegate_refused_denied_total", "status"), "{{status}}" } },
    { "Refused for now, by reason", "ops", { rate("tidegate_refused_transient_total", "reason"), "{{reason}}" } },
    { "Bytes", "Bps", { rate "tidegate_sent_bytes_total", "sent {{instance}}" },
      { rate "tidegate_received_bytes_total", "received {{instance}}" } },
  },
  { "Store",
    { "Commit", "s", { quantile("0.5", "tidegate_store_append_seconds"), "p50 {{instance}}" },
      { quantile("0.99", "tidegate_store_append_seconds"), "p99 {{instance}}" } },
    { "Publishes that failed", "ops", { rate "tidegate_publish_failed_total", "{{instance}}" } },
    { "Waiting to be stored", "none", { gauge "tidegate_store_append_queue_events", "{{instance}}" } },
    { "Stored events", "none", { gauge "tidegate_store_events", "{{instance}}" } },
    { "Size", "bytes", { gauge "tidegate_store_size_bytes", "{{instance}}" } },
    { "Oldest row of the outbox", "s", { gauge "tidegate_store_outbox_oldest_seconds", "{{instance}}" } },
    { "Behind the store", "none", { gauge "tidegate_store_tail_lag_events", "{{instance}}" } },
  },
  { "Policy",
    { "Errors, by hook", "ops", { rate("tidegate_policy_errors_total", "hook"), "{{hook}}" } },
    { "Hooks, p99", "s", { quantile("0.99", "tidegate_policy_hook_seconds", "hook"), "{{hook}}" } },
    { "Hooks, p99 of CPU time", "s", { quantile("0.99", "tidegate_policy_hook_cpu_seconds", "hook"), "{{hook}}" } },
    { "Hooks that wait", "none", { gauge "tidegate_policy_suspended_hooks", "{{instance}}" } },
    { "Audiences", "none", { gauge "tidegate_audiences", "{{instance}}" } },
    { "Streams that count for quotas", "none", { gauge "tidegate_quota_streams", "{{instance}}" } },
    { "Quotas and rates that were used up", "ops", { rate "tidegate_quota_denied_total", "denied {{instance}}" },
      { rate "tidegate_quota_ended_total", "ended {{instance}}" },
      { rate "tidegate_rate_refused_total", "rate {{instance}}" } },
    { "Filter and format calls", "ops", { rate "tidegate_policy_filter_calls_total", "filter {{instance}}" },
      { rate "tidegate_policy_format_calls_total", "format {{instance}}" } },
  },
  { "Process",
    { "CPU", "percentunit", { rate "process_cpu_seconds_total", "{{instance}}" } },
    { "Resident memory", "bytes", { gauge "process_resident_memory_bytes", "{{instance}}" } },
    { "Open descriptors", "none", { gauge "process_open_fds", "{{instance}}" } },
    { "TLS handshakes", "ops", { rate "tidegate_tls_handshakes_total", "{{instance}}" } },
    { "Certificate expires in", "s",
      { gauge "tidegate_tls_certificate_not_after_seconds" .. " - time()", "{{certificate}} {{instance}}" } },
  },
}

local function quoted(text)
  return '"' .. text:gsub('[\\"]', "\\%0") .. '"'
end

local panels, id, y = {}, 0, 0
local function add(text, ...)
  id = id + 1
  panels[#panels + 1] = ('    { "id": %d, '):format(id) .. text:format(...) .. " }"
end

for _, row in ipairs(ROWS) do
  add('"type": "row", "title": %s, "collapsed": false, "panels": [],\n'
    .. '      "gridPos": { "x": 0, "y": %d, "w": 24, "h": 1 }', quoted(row[1]), y)
  y = y + 1
  for i = 2, #row do
    local title, unit = row[i][1], row[i][2]
    local targets = {}
    for k = 3, #row[i] do
      local expr, legend = table.unpack(row[i][k])
      targets[#targets + 1] = ('{ "refId": "%s", "expr": %s, "legendFormat": %s }')
        :format(string.char(62 + k), quoted(expr), quoted(legend))
    end
    local place = i - 2
    add('"type": "timeseries", "title": %s, "datasource": { "type": "prometheus", "uid": "${source}" },\n'
      .. '      "gridPos": { "x": %d, "y": %d, "w": 6, "h": 7 },\n'
      .. '      "fieldConfig": { "defaults": { "unit": %s, "min": 0 } },\n      "targets": [%s]',
      quoted(title), place % 4 * 6, y + place // 4 * 7, quoted(unit), table.concat(targets, ", "))
  end
  y = y + (#row + 2) // 4 * 7
end

local out <close> = assert(io.open(FILE, "w"))
assert(out:write([[
{
  "uid": "tidegate", "title": "Tidegate", "tags": ["sse"], "timezone": "browser",
  "schemaVersion": 38, "version": 1,
  "refresh": "10s", "time": { "from": "now-1h", "to": "now" },
  "templating": { "list": [
    { "name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus" },
    { "name": "instance", "label": "Broker", "type": "query",
      "datasource": { "type": "prometheus", "uid": "${source}" },
      "query": { "query": "label_values(tidegate_ready, instance)", "refId": "brokers" }, "refresh": 2,
      "multi": true, "includeAll": true, "current": { "text": "All", "value": "$__all" } }
  ] },
  "panels": [
]], table.concat(panels, ",\n"), "\n  ]\n}\n"))
