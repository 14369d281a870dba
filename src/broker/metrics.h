/* Counters and gauges of the broker, its policy and its store; admin/metrics.c prints them. */
#ifndef BROKER_METRICS_H
#define BROKER_METRICS_H

#include <stdint.h>

/* X(member, kind, name, help). Kind: counter or gauge. Of several workers the values are added up;
 * _max or _min behind the kind: a sum would mean nothing, the greatest or the least counts. */
#define BROKER_METRICS(X)                                                                          \
    X(subscribers, gauge, "tidegate_subscribers", "Open event streams.")                           \
    X(audiences, gauge, "tidegate_audiences",                                                      \
      "Different subscriptions among the open streams; close to tidegate_subscribers means that "  \
      "policy work is not shared.")                                                                \
    X(subscribed, counter, "tidegate_subscribed_total", "Event streams opened.")                   \
    X(refused_denied, counter, "tidegate_refused_denied_total",                                    \
      "Requests the policy denied (4xx).")                                                         \
    X(refused_invalid, counter, "tidegate_refused_invalid_total",                                  \
      "Requests refused for what they are (400, 404, 405, 406, 413, 415): the log at level debug " \
      "says why.")                                                                                 \
    X(refused_cross_site, counter, "tidegate_refused_cross_site_total",                            \
      "Publishes refused because a page of another site sent them: see http.cors_origins.")        \
    X(refused_transient, counter, "tidegate_refused_transient_total",                              \
      "Requests refused for now: store, policy error, overload, draining.")                        \
    X(refusals_held, gauge, "tidegate_refused_streams_held",                                       \
      "Streams refused for now that are held open for sse.refusal_hold_s.")                        \
    X(published, counter, "tidegate_events_published_total",                                       \
      "Events stored on behalf of HTTP publishers, duplicates not counted.")                       \
    X(publish_duplicates, counter, "tidegate_publish_duplicates_total",                            \
      "Publishes whose key was known: answered with the first id.")                                \
    X(publish_failed, counter, "tidegate_publish_failed_total",                                    \
      "Publish requests that failed in the store or were shed.")                                   \
    X(tailed, counter_max, "tidegate_events_tailed_total",                                         \
      "Events that became visible, whoever wrote them.")                                           \
    X(rejected_rows, counter_max, "tidegate_store_rejected_rows_total",                            \
      "Rows written by others that cannot be delivered (bad topic, type, UTF-8 or size).")         \
    X(delivered, counter, "tidegate_events_delivered_total", "Event frames handed to the kernel.") \
    X(gaps, counter, "tidegate_gaps_total", "gap events sent: history a client missed for good.")  \
    X(positions, counter, "tidegate_positions_told_total",                                         \
      "Quiet streams told how far they have come, instead of a heartbeat or at their end.")        \
    X(lag_skips, counter, "tidegate_lag_skips_total",                                              \
      "Streams moved to the head because they were too far behind.")                               \
    X(behind, gauge, "tidegate_subscribers_behind",                                                \
      "Streams that are not at the head: resuming, slow or rate limited.")                         \
    X(caught_up_s, gauge_max, "tidegate_caught_up_timestamp_seconds",                              \
      "Unix time at which a stream that was behind last got to the head.")                         \
    X(frames, counter, "tidegate_frames_made_total", "Event frames rendered.")                     \
    X(filter_calls, counter, "tidegate_policy_filter_calls_total", "Filter evaluations.")          \
    X(filter_probes, counter, "tidegate_policy_filter_index_probes_total",                         \
      "Attributes looked up among the values that filter texts want, instead of asking each.")     \
    X(filter_mismatches, counter, "tidegate_policy_filter_type_mismatches_total",                  \
      "Comparisons of filter texts whose types did not fit together: false.")                      \
    X(format_calls, counter, "tidegate_policy_format_calls_total", "Format evaluations.")          \
    X(format_cache_hits, counter, "tidegate_policy_format_cache_hits_total",                       \
      "Format results shared with audiences that the format cannot tell apart.")                   \
    X(log_events, gauge, "tidegate_log_events", "Events in the in-memory event log.")              \
    X(log_bytes, gauge, "tidegate_log_bytes", "Bytes of the in-memory event log.")                 \
    X(head_id, gauge_max, "tidegate_head_id", "Id of the newest event.")                           \
    X(pages_read, counter, "tidegate_store_pages_read_total",                                      \
      "Pages of history read from the store.")                                                     \
    X(pages_shared, counter, "tidegate_store_pages_shared_total",                                  \
      "Page requests answered by a page read for another subscriber.")                             \
    X(commits, counter, "tidegate_store_commits_total", "Group commits.")                          \
    X(commit_events, counter, "tidegate_store_commit_events_total", "Events in group commits.")    \
    X(append_queue, gauge, "tidegate_store_append_queue_events",                                   \
      "Events that wait for the next group commit.")                                               \
    X(retained_removed, counter, "tidegate_store_retention_removed_total",                         \
      "Events removed by retention.")                                                              \
    X(store_errors, counter, "tidegate_store_errors_total", "Store operations that failed.")       \
    X(store_reconnects, counter, "tidegate_store_connections_lost_total",                          \
      "Connections to the store that broke or could not be made.")                                 \
    X(store_is_leader, gauge, "tidegate_store_sequencer_is_leader",                                \
      "1: this broker moves the outbox into the events; one of all brokers does.")                 \
    X(store_batches, counter, "tidegate_store_batches_total", "Batches moved from the outbox.")    \
    X(store_batch_rows, counter, "tidegate_store_batch_rows_total", "Rows of those batches.")      \
    X(store_outbox_duplicates, counter, "tidegate_store_outbox_duplicates_total",                  \
      "Rows of the outbox whose key was known: dropped.")                                          \
    X(store_sweep_found, counter, "tidegate_store_sweep_found_total",                              \
      "Rows of the outbox that only the sweep found: of long transactions.")                       \
    X(store_outbox_oldest_s, gauge_max, "tidegate_store_outbox_oldest_seconds",                    \
      "Age of the oldest visible row of the outbox.")                                              \
    X(store_open_publisher_s, gauge_max, "tidegate_store_open_publisher_seconds",                  \
      "Age of the oldest transaction that has written to the outbox, prepared ones too: its "      \
      "events wait for it.")                                                                       \
    X(store_xmin_age, gauge_max, "tidegate_store_xmin_age",                                        \
      "Transactions since the oldest snapshot, prepared transaction or replication slot: what "    \
      "keeps vacuum from cleaning up.")                                                            \
    X(store_partitions, gauge_max, "tidegate_store_partitions",                                    \
      "Partitions of the events: too many make deep replays expensive.")                           \
    X(store_sessions_ended, counter, "tidegate_store_sessions_ended_total",                        \
      "Sessions of frozen brokers that were ended, for they may hold locks.")                      \
    X(upkeep_figures_s, gauge_max, "tidegate_store_upkeep_timestamp_seconds{step=\"figures\"}",    \
      "Unix time at which a step of the upkeep last succeeded; 0: never, for another broker's.")   \
    X(upkeep_sessions_s, gauge_max, "tidegate_store_upkeep_timestamp_seconds{step=\"sessions\"}",  \
      "")                                                                                          \
    X(upkeep_partitions_s, gauge_max,                                                              \
      "tidegate_store_upkeep_timestamp_seconds{step=\"partitions\"}", "")                          \
    X(upkeep_events_s, gauge_max, "tidegate_store_upkeep_timestamp_seconds{step=\"events\"}", "")  \
    X(upkeep_keys_s, gauge_max, "tidegate_store_upkeep_timestamp_seconds{step=\"keys\"}", "")      \
    X(upkeep_rejected_s, gauge_max, "tidegate_store_upkeep_timestamp_seconds{step=\"rejected\"}",  \
      "")                                                                                          \
    X(upkeep_writers_s, gauge_max, "tidegate_store_upkeep_timestamp_seconds{step=\"writers\"}",    \
      "")                                                                                          \
    X(upkeep_vacuum_s, gauge_max, "tidegate_store_upkeep_timestamp_seconds{step=\"vacuum\"}", "")  \
    X(store_head_seq, gauge_max, "tidegate_store_head_id",                                         \
      "Newest id of the store, as last seen.")                                                     \
    X(store_tail_lag, gauge_max, "tidegate_store_tail_lag_events",                                 \
      "How far this broker is behind the newest id of the store.")                                 \
    X(store_leaps, counter_max, "tidegate_store_leaps_total",                                      \
      "Leaps of the ids seen at run time: the server was started anew, or another one took over.") \
    X(store_stale_answers, counter, "tidegate_store_stale_answers_total",                          \
      "Reads that were answered by a server that does not order any more: not believed.")          \
    X(policy_errors_authenticate, counter, "tidegate_policy_errors_total{hook=\"authenticate\"}",  \
      "Policy hooks that raised, ran out of memory or returned what they must not.")               \
    X(policy_errors_subscribe, counter, "tidegate_policy_errors_total{hook=\"subscribe\"}", "")    \
    X(policy_errors_publish, counter, "tidegate_policy_errors_total{hook=\"publish\"}", "")        \
    X(policy_errors_filter, counter, "tidegate_policy_errors_total{hook=\"filter\"}", "")          \
    X(policy_errors_format, counter, "tidegate_policy_errors_total{hook=\"format\"}", "")          \
    X(policy_errors_disconnect, counter, "tidegate_policy_errors_total{hook=\"disconnect\"}", "")  \
    X(policy_suspended, gauge, "tidegate_policy_suspended_hooks",                                  \
      "Questions to the policy whose hook waits for something.")                                   \
    X(policy_shed, counter, "tidegate_policy_shed_total",                                          \
      "Questions given up because too many waited already: see policy.suspended.")                 \
    X(policy_timeouts, counter, "tidegate_policy_timeouts_total",                                  \
      "Questions given up because their hook waited too long.")                                    \
    X(policy_cancelled, counter, "tidegate_policy_cancelled_total",                                \
      "Questions dropped because the client left while their hook waited.")                        \
    X(policy_stale, counter, "tidegate_policy_stale_completions_total",                            \
      "Answers of services that came when no hook waited for them any more.")                      \
    X(policy_overdue_authenticate, counter,                                                        \
      "tidegate_policy_overdue_total{hook=\"authenticate\"}",                                      \
      "Of these errors: calls stopped because they used up their CPU time.")                       \
    X(policy_overdue_subscribe, counter, "tidegate_policy_overdue_total{hook=\"subscribe\"}", "")  \
    X(policy_overdue_publish, counter, "tidegate_policy_overdue_total{hook=\"publish\"}", "")      \
    X(policy_overdue_filter, counter, "tidegate_policy_overdue_total{hook=\"filter\"}", "")        \
    X(policy_overdue_format, counter, "tidegate_policy_overdue_total{hook=\"format\"}", "")        \
    X(policy_overdue_disconnect, counter, "tidegate_policy_overdue_total{hook=\"disconnect\"}",    \
      "")                                                                                          \
    X(cache_hits, counter, "tidegate_policy_cache_hits_total",                                     \
      "cache.fetch answered from memory.")                                                         \
    X(cache_misses, counter, "tidegate_policy_cache_misses_total",                                 \
      "cache.fetch ran its function.")                                                             \
    X(cache_shared, counter, "tidegate_policy_cache_shared_total",                                 \
      "cache.fetch waited for the function another hook ran.")                                     \
    X(cache_stale, counter, "tidegate_policy_cache_stale_total",                                   \
      "cache.fetch answered with an old value because the function failed.")                       \
    X(cache_evictions, counter, "tidegate_policy_cache_evictions_total",                           \
      "Values that left the cache for want of room: see cache.bytes.")                             \
    X(cache_entries, gauge, "tidegate_policy_cache_entries", "Values in the cache.")               \
    X(cache_bytes, gauge, "tidegate_policy_cache_bytes", "Bytes of the cache.")                    \
    X(policy_overdue_setup, counter, "tidegate_policy_overdue_total{hook=\"setup\"}", "")          \
    X(policy_overdue_reload, counter, "tidegate_policy_overdue_total{hook=\"reload\"}", "")        \
    X(policy_errors_setup, counter, "tidegate_policy_errors_total{hook=\"setup\"}", "")            \
    X(policy_errors_reload, counter, "tidegate_policy_errors_total{hook=\"reload\"}", "")          \
    X(policy_generations, gauge, "tidegate_policy_generations",                                    \
      "Policies in memory: the one in force, and those of the past.")                              \
    X(policy_reloads_ok, counter, "tidegate_policy_reloads_total{result=\"ok\"}",                  \
      "Orders to load the policy anew.")                                                           \
    X(policy_reloads_unchanged, counter, "tidegate_policy_reloads_total{result=\"unchanged\"}",    \
      "")                                                                                          \
    X(policy_reloads_refused, counter, "tidegate_policy_reloads_total{result=\"refused\"}", "")    \
    X(policy_rollbacks, counter, "tidegate_policy_rollbacks_total",                                \
      "Policies that were rolled back: they failed much more often, or by an operator.")           \
    X(policy_rolled_back, gauge_max, "tidegate_policy_rolled_back",                                \
      "1: the newest policy failed and was rolled back; until the next one is in force.")          \
    X(resubscribes_waiting, gauge, "tidegate_policy_resubscribes_waiting",                         \
      "Open streams about which the policy is going to be asked again.")                           \
    X(resubscribes_same, counter, "tidegate_policy_resubscribes_total{outcome=\"same\"}",          \
      "Open streams the policy was asked about again, by what came of it.")                        \
    X(resubscribes_moved, counter, "tidegate_policy_resubscribes_total{outcome=\"moved\"}", "")    \
    X(resubscribes_revoked, counter, "tidegate_policy_resubscribes_total{outcome=\"revoked\"}",    \
      "")                                                                                          \
    X(resubscribes_later, counter, "tidegate_policy_resubscribes_total{outcome=\"later\"}", "")    \
    X(resubscribes_gave_up, counter, "tidegate_policy_resubscribes_total{outcome=\"gave-up\"}",    \
      "")                                                                                          \
    X(resubscribes_reconnected, counter,                                                           \
      "tidegate_policy_resubscribes_total{outcome=\"reconnect\"}", "")                             \
    X(database_up, gauge_min, "tidegate_database_up",                                              \
      "1: the database that policies ask is connected.")                                           \
    X(database_queries, counter, "tidegate_database_queries_total", "Queries of policies.")        \
    X(database_errors, counter, "tidegate_database_errors_total",                                  \
      "Queries that failed, were too slow, or found the database away.")                           \
    X(database_shed, counter, "tidegate_database_shed_total",                                      \
      "Queries given up because too many waited.")                                                 \
    X(database_queued, gauge, "tidegate_database_queued", "Queries that wait for a connection.")   \
    X(database_running, gauge, "tidegate_database_running", "Queries the database works on.")      \
    X(policy_quarantined, gauge, "tidegate_policy_quarantined",                                    \
      "Filters and formats out of use until the policy is reloaded: they failed too often.")       \
    X(policy_quarantined_calls, counter, "tidegate_policy_quarantined_calls_total",                \
      "Events not delivered to an audience because its filter or format is out of use.")           \
    X(policy_memory, gauge, "tidegate_policy_memory_bytes", "Memory of the policy's Lua state.")   \
    X(policy_stack_repairs, counter, "tidegate_policy_stack_repairs_total",                        \
      "Unbalanced Lua stacks repaired: a defect of the broker, report it.")

/* Latency: cumulative buckets in microseconds; the last bucket is +Inf. */
#define LATENCY_BUCKETS(X)                                                                         \
    X(100)                                                                                         \
    X(250) X(500) X(1000) X(2500) X(5000) X(10000) X(25000) X(50000) X(100000) X(250000) X(1000000)
enum {
#define X(us) +1
    LATENCY_BUCKET_COUNT = 1 LATENCY_BUCKETS(X)
#undef X
};

struct latency {
    uint64_t buckets[LATENCY_BUCKET_COUNT]; /* not cumulative here */
    uint64_t count, sum_us;
};

static inline void latency_add(struct latency *l, uint64_t us)
{
    static const uint64_t edges[] = {
#define X(edge) edge,
        LATENCY_BUCKETS(X)
#undef X
    };
    unsigned i = 0;
    while (i < LATENCY_BUCKET_COUNT - 1 && us > edges[i]) {
        i++;
    }
    l->buckets[i]++;
    l->count++;
    l->sum_us += us;
}

struct broker_metrics {
#define X(member, kind, name, help) uint64_t member;
    BROKER_METRICS(X)
#undef X
    struct latency store_append;   /* tidegate_store_append_seconds: accepted to committed */
    struct latency store_read;     /* tidegate_store_read_seconds: one page */
    struct latency http_request;   /* tidegate_http_client_seconds: asked to answered */
    struct latency database_query; /* tidegate_database_query_seconds: asked to answered */
    struct latency store_batch;    /* tidegate_store_batch_seconds: outbox to events */
};

#endif
