/* Counters and gauges of the store; admin/metrics/metrics.c prints them. X(member, kind, name, help): as in net/metrics.h. */
#ifndef STORE_METRICS_H
#define STORE_METRICS_H

#include "base/latency.h"

#include <stdint.h>

#define STORE_METRICS(X)                                                                           \
    X(rejected_rows, counter_max, "tidegate_store_rejected_rows_total",                            \
      "Rows written by others that cannot be delivered (bad topic, type, UTF-8 or size).")         \
    X(commits, counter, "tidegate_store_commits_total", "Group commits.")                          \
    X(commit_events, counter, "tidegate_store_commit_events_total", "Events in group commits.")    \
    X(append_queue, gauge, "tidegate_store_append_queue_events",                                   \
      "Events that wait for the next group commit.")                                               \
    X(retained_removed, counter, "tidegate_store_retention_removed_total",                         \
      "Events removed by retention.")                                                              \
    X(store_erased, counter, "tidegate_store_erased_events_total",                                 \
      "Events erased from the store by order of an operator.")                                     \
    X(store_errors, counter, "tidegate_store_errors_total", "Store operations that failed.")       \
    X(store_reconnects, counter, "tidegate_store_connections_lost_total",                          \
      "Connections to the store that broke or could not be made.")                                 \
    X(latest_topics, gauge_max, "tidegate_store_latest_topics",                                    \
      "Topics of store.latest that have a newest event.")                                          \
    X(latest_refused, counter, "tidegate_store_latest_refused_total",                              \
      "Publishes refused because their topic would be one more than store.latest_topics.")         \
    X(latest_filling, gauge_max, "tidegate_store_latest_filling",                                  \
      "1: the store looks through older events for topics that store.latest names since "          \
      "recently; snapshots wait.")                                                                 \
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
    X(upkeep_latest_s, gauge_max, "tidegate_store_upkeep_timestamp_seconds{step=\"latest\"}", "")  \
    X(upkeep_topics_s, gauge_max, "tidegate_store_upkeep_timestamp_seconds{step=\"topics\"}", "")  \
    X(upkeep_expired_s, gauge_max, "tidegate_store_upkeep_timestamp_seconds{step=\"expired\"}",    \
      "")                                                                                          \
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
      "Leaps of the ids seen at run time: the server was restarted, or another one took over.")    \
    X(store_stale_answers, counter, "tidegate_store_stale_answers_total",                          \
      "Reads that were answered by a server that does not order any more: not believed.")

struct store_metrics {
#define X(member, kind, name, help) uint64_t member;
    STORE_METRICS(X)
#undef X
    struct latency store_append; /* tidegate_store_append_seconds: accepted to committed */
    struct latency store_read;   /* tidegate_store_read_seconds: one page */
    struct latency store_batch;  /* tidegate_store_batch_seconds: outbox to events */
};

#endif
