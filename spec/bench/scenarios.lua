-- What spec/bench/run.lua measures: arguments of `tidegate-bench`, and the figures that count.
--
--   { name, title, args, figures,
--     history = true       only with servers that keep one
--     own = true           Tidegate alone: it is about what the others do not have
--     beside = { title, ... }    Tidegate alone, alternately with and without: what is here replaces what is above
--     rounds =, cores = "shared"     instead of those of the command line
--     tls, h2, gzip, policy, latest, subscribe, publish, header, workers, log_events     see harness.measure }
--
-- A figure is { label, path into the JSON document, "more" or "less" (which is better), bars }. A bar is { what the
-- ratio to that server ("beside": to the other run) has to be at least, or at most }; { "itself", n } is about
-- the figure and no ratio.
local function figure(label, path, better)
  return function(bars)
    return { label, path, better, bars or {} }
  end
end
local DELIVERIES = figure("deliveries/s", "deliveries.per_s", "more")
local CPU = figure("CPU us per delivery", "server.cpu_us_per_delivery", "less")
local P50 = figure("latency p50 ms", "deliveries.latency_ms.p50", "less")
local P99 = figure("latency p99 ms", "deliveries.latency_ms.p99", "less")
local PUBLISHES = figure("publishes/s", "publishes.per_s", "more")
local ACK = figure("answer p99 ms", "publishes.ack_ms.p99", "less")
local CONNECTS = figure("connects/s", "connections.per_s", "more")
local CONNECT_CPU = figure("CPU us per connect", "server.cpu_us_per_connection", "less")
local PSS = figure("PSS bytes each", "server.pss_bytes_per_connection", "less")
local FURTHER = figure("PSS bytes of each further stream", "server.pss_bytes_per_further_stream", "less")
local LIVE = figure("the last has all after ms", "storm.live_after_ms.max", "less")
local STORM_ANSWER = figure("answer p99 ms", "storm.answer_ms.p99", "less")

local CALM = { { "limit-send", 1.2 } }
local BEFORE_NCHAN = { { "nchan", 1 } }
-- the policy's own loads: every subscriber has a number, events are JSON
local JSON = "/events?topic=json/{topic}"
local TOKEN = "Authorization: Bearer eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJiZW5jaCIsInRlbmFudCI6ImFjbWUiLC"
  .. "JhdWQiOiJzc2UiLCJleHAiOjQxMDI0NDQ4MDB9.jqtnvwG9ySKw20fMLrXTtff52hscNw79tlzi8ZXbBzg"

return {
  { name = "fan-out-1k", title = "1,000 subscribers, 1 topic, 100 B, saturation",
    args = "fan-out --connections 1000",
    figures = { DELIVERIES { { "nchan", 10 }, { "limit-coalesce", 0.6 } }, CPU() } },
  { name = "fan-out-1k-calm", title = "1,000 subscribers at 10 events/s",
    args = "fan-out --connections 1000 --rate 10 --warmup 1 --seconds 10",
    figures = { CPU(CALM), P50(BEFORE_NCHAN), P99(BEFORE_NCHAN) } },
  { name = "fan-out-10k-calm", title = "10,000 subscribers at 1 event/s",
    args = "fan-out --connections 10000 --rate 1 --warmup 0 --seconds 5",
    figures = { CPU(CALM), P50(BEFORE_NCHAN), P99(BEFORE_NCHAN) } },
  { name = "fan-out-10k", title = "10,000 subscribers, saturation",
    args = "fan-out --connections 10000 --window 8", figures = { DELIVERIES { { "nchan", 8 } }, CPU() } },
  { name = "fan-out-16k", title = "200 subscribers, 50 events/s of 16 KiB",
    args = "fan-out --connections 200 --rate 50 --size 16384", figures = { CPU(), P99() } },
  { name = "topics-10k", title = "10,000 topics with 1 subscriber each, 512 publishes in flight",
    args = "topics --connections 10000 --publishers 64 --pipeline 8",
    figures = { DELIVERIES { { "nchan", 1 } }, CPU(), P99() } },
  { name = "replay", title = "replay of 10,000 x 100 B to 200 clients",
    args = "replay --connections 200 --preload 10000", history = true,
    figures = { DELIVERIES { { "nchan", 10 } },
      figure("last client has all after ms", "deliveries.replay_ms.max", "less")(),
      figure("bytes a stored event", "server.pss_bytes_per_event", "less")() } },
  { name = "publish", title = "publish, 16 connections, acknowledged (Tidegate: durable)",
    args = "publish --publishers 16", figures = { PUBLISHES { { "nchan", 0.4 } }, ACK() } },
  { name = "publish-pipelined", title = "publish, 16 connections, 16 requests pipelined on each",
    args = "publish --publishers 16 --pipeline 16", figures = { PUBLISHES(), ACK() } },
  { name = "churn", title = "connect, head of the answer, disconnect; 64 at a time",
    args = "churn", figures = { CONNECTS { { "nchan", 1 } }, CONNECT_CPU() } },
  { name = "idle", title = "10,000 idle connections",
    args = "idle --connections 10000 --seconds 2 --settle 1",
    figures = { PSS { { "itself", 1024 } },
      CONNECTS() } },

  -- TLS: beside the others, then beside Tidegate without it
  { name = "tls-1k", title = "1,000 subscribers with TLS, saturation",
    args = "fan-out --connections 1000", tls = true, figures = { DELIVERIES { { "nchan", 5 } }, CPU() } },
  { name = "tls-1k-calm", title = "1,000 subscribers with TLS at 10 events/s",
    args = "fan-out --connections 1000 --rate 10 --warmup 1 --seconds 10", tls = true,
    figures = { CPU { { "nchan", 0.7 } }, P50(), P99() } },
  { name = "tls-churn", title = "connect with a whole TLS handshake, head of the answer, disconnect; 64 at a time",
    args = "churn", tls = true, figures = { CONNECTS { { "nchan", 1 } }, CONNECT_CPU() } },
  { name = "tls-idle", title = "9,000 idle connections with TLS",
    args = "idle --connections 9000 --seconds 2 --settle 1", tls = true,
    figures = { PSS { { "itself", 1400 } },
      CONNECTS() } },
  { name = "tls-beside-plain", title = "1,000 subscribers with TLS, saturation",
    args = "fan-out --connections 1000", tls = true, beside = { title = "without TLS", tls = false },
    figures = { DELIVERIES { { "beside", 0.5 } }, CPU() } },
  { name = "tls-beside-plain-calm", title = "1,000 subscribers with TLS at 10 events/s",
    args = "fan-out --connections 1000 --rate 10 --warmup 1 --seconds 10", tls = true,
    beside = { title = "without TLS", tls = false }, figures = { CPU { { "beside", 1.25 } }, P50(), P99() } },

  -- HTTP/2, with TLS as browsers want it
  { name = "h2-1k-calm", title = "1,000 subscribers at 10 events/s: 50 connections with HTTP/2, 20 streams each",
    args = "fan-out --connections 1000 --streams-per-connection 20 --rate 10 --warmup 1 --seconds 10", tls = true,
    h2 = true, figures = { CPU { { "nchan", 0.25 } }, P50(), P99() } },
  { name = "h2-1k", title = "1,000 subscribers, saturation: 50 connections with HTTP/2, 20 streams each",
    args = "fan-out --connections 1000 --streams-per-connection 20", tls = true, h2 = true,
    figures = { DELIVERIES(), CPU() } },
  { name = "h2-idle", title = "4,000 idle connections with HTTP/2, 1 stream each",
    args = "idle --connections 4000 --seconds 1 --settle 1", tls = true, h2 = true,
    figures = { PSS { { "nchan", 0.7 } } } },
  { name = "h2-idle-streams", title = "400 idle connections with HTTP/2, 20 streams each",
    args = "idle --connections 8000 --streams-per-connection 20 --seconds 1 --settle 1", tls = true, h2 = true,
    figures = { FURTHER { { "itself", 1300 }, { "nchan", 0.1 } } } },
  { name = "h2-idle-plain", title = "400 idle connections with HTTP/2 without TLS, 1 stream each, then 20", own = true,
    args = "idle --connections 8000 --streams-per-connection 20 --seconds 1 --settle 1", h2 = true,
    figures = { PSS(), FURTHER { { "itself", 1300 } } } },

  -- Tidegate alone
  { name = "gzip", title = "1,000 subscribers at 10 events/s, JSON of 380 B, compressed",
    args = "fan-out --connections 1000 --orders --rate 10 --warmup 1 --seconds 10", gzip = true,
    beside = { title = "not compressed", gzip = false },
    figures = { figure("bytes per delivery", "deliveries.bytes_each", "less") { { "beside", 0.27 } },
      CPU { { "beside", 1.1 } },
      figure("PSS bytes each, in the end", "server.pss_bytes_per_connection_after", "less")() } },
  { name = "gzip-idle", title = "10,000 idle connections, compressed", -- 1.065: 64 bytes more
    args = "idle --connections 10000 --seconds 1 --settle 1", gzip = true,
    beside = { title = "not compressed", gzip = false }, figures = { PSS { { "beside", 1.065 } } } },
  { name = "gzip-saturation", title = "1,000 subscribers, saturation, JSON of 380 B, compressed",
    args = "fan-out --connections 1000 --orders", gzip = true, beside = { title = "not compressed", gzip = false },
    figures = { DELIVERIES(), CPU(), figure("bytes per delivery", "deliveries.bytes_each", "less")() } },
  { name = "lua-100", title = "1,000 subscribers in 100 audiences, saturation, Lua filter and Lua format",
    args = "fan-out --connections 1000", policy = "policy.lua", publish = JSON,
    subscribe = JSON .. "&audience={connection}&of=100&filter=level&format=label",
    beside = { title = "without filter and format", subscribe = JSON },
    figures = { DELIVERIES { { "beside", 0.8 } }, CPU() } },
  { name = "lua-100-json",
    title = "1,000 subscribers in 100 audiences, Lua filter, Lua format that decodes and encodes JSON",
    args = "fan-out --connections 1000", policy = "policy.lua", publish = JSON,
    subscribe = JSON .. "&audience={connection}&of=100&filter=level&format=order",
    beside = { title = "without filter and format", subscribe = JSON },
    figures = { DELIVERIES { { "beside", 0.8 } }, CPU() } },
  { name = "workers-fan-out", title = "1,000 subscribers, saturation, 2 workers",
    args = "fan-out --connections 1000", workers = 2, cores = "shared",
    beside = { title = "1 worker", workers = 1 }, figures = { DELIVERIES { { "beside", 1.3 } } } },
  { name = "workers-policy", title = "2,000 subscribers, each judged and formatted in Lua on its own, 2 workers",
    args = "fan-out --connections 2000", policy = "policy.lua", publish = JSON,
    subscribe = JSON .. "&audience={connection}&filter=level&format=order", workers = 2, cores = "shared",
    beside = { title = "1 worker", workers = 1 }, figures = { DELIVERIES { { "beside", 1.3 } } } },
  { name = "workers-churn", title = "connects with a token (HS256) and a Lua policy, 2 workers",
    args = "churn --connections 128", policy = "token_policy.lua", header = TOKEN, workers = 2, cores = "shared",
    beside = { title = "1 worker", workers = 1 }, figures = { CONNECTS { { "beside", 1.3 } } } },
  { name = "storm", title = "10,000 clients come back within a second, 100 missed events each",
    args = "storm --connections 10000 --topics 100 --publishers 16 --preload 100", own = true,
    figures = { LIVE(), STORM_ANSWER() } },
  { name = "storm-restart", title = "10,000 clients come back after a rolling restart of 2 workers",
    args = "storm --connections 10000 --topics 100 --publishers 16 --preload 100 --drain 20"
      .. " --restart-command {restart}",
    workers = 2, own = true, figures = { LIVE(), STORM_ANSWER() } },
  -- the newest event of each topic: store.latest, whose trigger sees every event that is stored
  { name = "snapshot", title = "snapshot of 10,000 topics x 100 B to 200 clients",
    args = "snapshot --connections 200 --topics 10000", policy = "latest_policy.lua", latest = "bench/**",
    publish = "/events?topic=bench/{run}/{n}", subscribe = "/events?topic=bench/{run}/*&start=latest",
    beside = { title = "replay of 10,000 events", args = "replay --connections 200 --preload 10000",
      latest = false, publish = "/events?topic=bench/{topic}",
      subscribe = "/events?topic=bench/{topic}&last_event_id=earliest" },
    figures = { DELIVERIES { { "beside", 0.5 } },
      figure("last client has all after ms", "deliveries.replay_ms.max", "less")() } },
  { name = "publish-latest", title = "publish to 1,000 topics of store.latest, 16 requests pipelined on each of 16",
    args = "publish --publishers 16 --pipeline 16 --topics 1000", policy = "latest_policy.lua", latest = "bench/**",
    beside = { title = "without store.latest", latest = false },
    figures = { PUBLISHES { { "beside", 0.85 } }, ACK() } },
  { name = "conflate", title = "200 subscribers of 100 topics, 2,000 events/s of 1 KB, 100 read nothing for 40 s",
    args = "conflate --connections 200 --slow 100 --topics 100 --rate 2000 --size 1000 --warmup 2 --seconds 40"
      .. " --drain 20",
    policy = "latest_policy.lua", latest = "bench/**", publish = "/events?topic=bench/{run}/{n}",
    subscribe = "/events?topic=bench/{run}/*&start=latest&lag=200", log_events = 2048, rounds = 1,
    own = true,
    figures = { P99(), figure("PSS after 20 s", "slow.pss_bytes_early", "less")(),
      figure("PSS in the end", "slow.pss_bytes_late", "less")(),
      figure("PSS in the end, of that after 20 s", "slow.pss_growth", "less") { { "itself", 1.05 } } } },
  -- more than their sockets hold, and more than the event log: they come back through pages of the store
  { name = "slow", title = "10,000 subscribers, 4 KB, saturation, 100 of them read nothing for 30 s",
    args = "fan-out --connections 10000 --size 4000 --window 8 --slow 100 --warmup 5 --seconds 30 --drain 20",
    log_events = 256, rounds = 1,
    beside = { title = "all of them read",
      args = "fan-out --connections 10000 --size 4000 --window 8 --warmup 5 --seconds 30 --drain 20" },
    figures = { DELIVERIES(), P99(), figure("PSS after 1 s", "slow.pss_bytes_early", "less")(),
      figure("PSS in the end", "slow.pss_bytes_late", "less")() } },
}
