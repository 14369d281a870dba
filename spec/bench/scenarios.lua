-- What spec/bench/run.lua measures: arguments of `tidegate bench`, and the figures that count.
--
-- workers, log_events: of Tidegate. restarts: only the first server is measured (the others have no such restart, or
-- ids that `tidegate bench` cannot resume from).
--
-- A figure is { label, path into the JSON document, "more" or "less" (which is better) }.
local DELIVERIES = { "deliveries/s", "deliveries.per_s", "more" }
local CPU = { "CPU us per delivery", "server.cpu_us_per_delivery", "less" }
local P50 = { "latency p50 ms", "deliveries.latency_ms.p50", "less" }
local P99 = { "latency p99 ms", "deliveries.latency_ms.p99", "less" }
local PUBLISHES = { "publishes/s", "publishes.per_s", "more" }
local ACK = { "answer p99 ms", "publishes.ack_ms.p99", "less" }

return {
  { name = "fan-out-1k", title = "1,000 subscribers, 1 topic, 100 B, saturation",
    args = "fan-out --connections 1000", figures = { DELIVERIES, CPU } },
  { name = "fan-out-1k-calm", title = "the same at 10 events/s",
    args = "fan-out --connections 1000 --rate 10 --warmup 0.2", figures = { CPU, P50, P99 } },
  { name = "fan-out-10k-calm", title = "10,000 subscribers at 1 event/s",
    args = "fan-out --connections 10000 --rate 1 --warmup 0 --seconds 5", figures = { CPU, P50, P99 } },
  { name = "fan-out-10k", title = "10,000 subscribers, saturation",
    args = "fan-out --connections 10000 --window 8", figures = { DELIVERIES, CPU } },
  { name = "fan-out-16k", title = "200 subscribers, 50 events/s of 16 KiB",
    args = "fan-out --connections 200 --rate 50 --size 16384", figures = { CPU, P99 } },
  { name = "topics-10k", title = "10,000 topics with 1 subscriber each, saturation",
    args = "topics --connections 10000", figures = { DELIVERIES, CPU, P99 } },
  { name = "replay", title = "replay of 10,000 x 100 B to 200 clients",
    args = "replay --connections 200 --preload 10000",
    figures = { DELIVERIES, { "last client has all after ms", "deliveries.replay_ms.max", "less" },
      { "bytes a stored event", "server.pss_bytes_per_event", "less" } } },
  { name = "publish", title = "publish, 16 connections, acknowledged (Tidegate: durable)",
    args = "publish --publishers 16", figures = { PUBLISHES, ACK } },
  { name = "publish-pipelined", title = "the same with 16 requests pipelined on each",
    args = "publish --publishers 16 --pipeline 16", figures = { PUBLISHES, ACK } },
  { name = "churn", title = "connect, head of the answer, disconnect; 64 at a time",
    args = "churn", figures = { { "connects/s", "connections.per_s", "more" },
      { "CPU us per connect", "server.cpu_us_per_connection", "less" } } },
  { name = "idle", title = "10,000 idle connections",
    args = "idle --connections 10000 --seconds 2 --settle 1",
    figures = { { "PSS bytes each", "server.pss_bytes_per_connection", "less" },
      { "connects/s", "connections.per_s", "more" } } },
  { name = "storm", title = "10,000 clients come back within a second, 100 missed events each",
    args = "storm --connections 10000 --topics 100 --publishers 16 --preload 100", restarts = true,
    figures = { { "the last has all after ms", "storm.live_after_ms.max", "less" },
      { "answer p99 ms", "storm.answer_ms.p99", "less" } } },
  { name = "storm-restart", title = "the same after a rolling restart of 2 workers",
    args = "storm --connections 10000 --topics 100 --publishers 16 --preload 100 --drain 20"
      .. " --restart-command {restart}",
    workers = 2, restarts = true,
    figures = { { "the last has all after ms", "storm.live_after_ms.max", "less" },
      { "answer p99 ms", "storm.answer_ms.p99", "less" } } },
  -- more than their sockets hold, and more than the event log: they come back through pages of the store
  { name = "slow", title = "10,000 subscribers, 4 KB, saturation, 100 of them read nothing for 30 s",
    args = "fan-out --connections 10000 --size 4000 --window 8 --slow 100 --warmup 5 --seconds 30 --drain 20",
    log_events = 256, restarts = true,
    figures = { DELIVERIES, P99, { "PSS after 1 s", "slow.pss_bytes_early", "less" },
      { "PSS in the end", "slow.pss_bytes_late", "less" } } },
  { name = "slow-none", title = "the same, all of them read",
    args = "fan-out --connections 10000 --size 4000 --window 8 --warmup 5 --seconds 30 --drain 20",
    log_events = 256, restarts = true, figures = { DELIVERIES, P99 } },
}
