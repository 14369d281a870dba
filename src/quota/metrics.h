/* Counters and gauges of quotas and rates; admin/metrics/metrics.c prints them. X(member, kind, name, help): as in
 * net/metrics.h. Workers share the tables, so the gauges of each are those of all. */
#ifndef QUOTA_METRICS_H
#define QUOTA_METRICS_H

#include <stdint.h>

#define QUOTA_METRICS(X)                                                                           \
    X(quota_streams, gauge_max, "tidegate_quota_streams",                                          \
      "Open streams that count for a quota, of all workers; for each of its keys a stream counts " \
      "once. At most policy.quota_streams.")                                                       \
    X(quota_keys, gauge_max, "tidegate_quota_keys", "Keys of quotas that have streams.")           \
    X(quota_denied, counter, "tidegate_quota_denied_total",                                        \
      "Streams denied, or ended when their subscription changed, because their key had its "       \
      "streams.")                                                                                  \
    X(quota_ended, counter, "tidegate_quota_ended_total",                                          \
      "Streams ended because a newer one of their key took their place.")                          \
    X(quota_no_room, counter, "tidegate_quota_no_room_total",                                      \
      "Streams refused for now because as many count as policy.quota_streams lets.")               \
    X(rate_keys, gauge_max, "tidegate_rate_keys",                                                  \
      "Keys of tg.rate in memory, of all workers. At most policy.rate_keys.")                      \
    X(rate_refused, counter, "tidegate_rate_refused_total",                                        \
      "Times that tg.rate said no because the rate of its key was used up.")                       \
    X(rate_no_room, counter, "tidegate_rate_no_room_total",                                        \
      "Times that tg.rate said no because there was no room for the key: see policy.rate_keys.")

struct quota_metrics {
#define X(member, kind, name, help) uint64_t member;
    QUOTA_METRICS(X)
#undef X
};

#endif
