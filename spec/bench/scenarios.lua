-- What spec/bench/run.lua measures: arguments of `tidegate bench`, and the figures that count.
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
}
