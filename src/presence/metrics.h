/* Counters and gauges of presence; admin/metrics/metrics.c prints them. X(member, kind, name, help): as in
 * net/metrics.h. */
#ifndef PRESENCE_METRICS_H
#define PRESENCE_METRICS_H

#include <stdint.h>

#define PRESENCE_METRICS(X)                                                                        \
    X(members, gauge, "tidegate_presence_members",                                                 \
      "Members that streams of a worker are for, or were until a moment ago. At most "             \
      "presence.members for each worker.")                                                         \
    X(waiting, gauge, "tidegate_presence_waiting",                                                 \
      "Of these: members whose coming or going the store has yet to take.")                        \
    X(joined, counter, "tidegate_presence_joined_total",                                           \
      "Members announced: the first stream of theirs was opened, or their data is new.")           \
    X(left, counter, "tidegate_presence_left_total",                                               \
      "Members whose last stream has ended: announced with an event without data.")                \
    X(swept, counter, "tidegate_presence_swept_total",                                             \
      "Members that left because the broker that held their streams is gone.")                     \
    X(unsaid, counter, "tidegate_presence_unannounced_total",                                      \
      "Members that left unannounced with a broker that is gone: a CHECK or a trigger of the "     \
      "database refuses the event, which is in tidegate.rejected.")                                \
    X(lost, counter, "tidegate_presence_leases_lost_total",                                        \
      "Times that a broker announced its members anew, because others had taken it for gone.")     \
    X(not_kept, counter, "tidegate_presence_refused_total{reason=\"not_kept\"}",                   \
      "Streams refused because no pattern of store.latest matches the topic of their member, or "  \
      "there are as many members as presence.members lets; members not announced because there "   \
      "are as many topics as store.latest_topics lets.")                                           \
    X(full, counter, "tidegate_presence_refused_total{reason=\"members\"}", "")                    \
    X(topics_full, counter, "tidegate_presence_refused_total{reason=\"latest_topics\"}", "")       \
    X(failed, counter, "tidegate_presence_failed_total",                                           \
      "Times that the store did not take what it was told of members; it is told again.")

struct presence_metrics {
#define X(member, kind, name, help) uint64_t member;
    PRESENCE_METRICS(X)
#undef X
};

#endif
