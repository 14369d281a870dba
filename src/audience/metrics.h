/* Counters and gauges of audiences and of what is rendered for them; admin/metrics/metrics.c prints them.
 * X(member, kind, name, help): as in net/metrics.h. */
#ifndef AUDIENCE_METRICS_H
#define AUDIENCE_METRICS_H

#include <stdint.h>

#define AUDIENCE_METRICS(X)                                                                        \
    X(audiences, gauge, "tidegate_audiences",                                                      \
      "Different subscriptions among the open streams; close to tidegate_subscribers means that "  \
      "policy work is not shared.")                                                                \
    X(frames, counter, "tidegate_frames_made_total", "Event frames rendered.")                     \
    X(expired, counter, "tidegate_events_expired_total",                                           \
      "Events left out because they had expired, once for each audience or page they were for.")   \
    X(filter_calls, counter, "tidegate_policy_filter_calls_total", "Filter evaluations.")          \
    X(filter_probes, counter, "tidegate_policy_filter_index_probes_total",                         \
      "Attributes looked up among the values that filter texts want, instead of asking each.")     \
    X(format_calls, counter, "tidegate_policy_format_calls_total", "Format evaluations.")          \
    X(format_cache_hits, counter, "tidegate_policy_format_cache_hits_total",                       \
      "Format results shared with audiences that the format cannot tell apart.")                   \
    X(conflated, counter, "tidegate_conflated_events_total",                                       \
      "Events that a newer one of their topic took the place of (limits.every_s), once for all "   \
      "streams of an audience.")                                                                   \
    X(conflated_early, counter, "tidegate_conflation_early_total",                                 \
      "Intervals of limits.every_s that ended early: too many topics, or an event log too small "  \
      "for what an interval brings.")                                                              \
    X(gzip_streams, gauge, "tidegate_gzip_streams", "Open event streams that are compressed.")     \
    X(gzip_plain, counter, "tidegate_gzip_plain_bytes_total",                                      \
      "Bytes of events for compressed streams, as they are.")                                      \
    X(gzip_sent, counter, "tidegate_gzip_compressed_bytes_total",                                  \
      "The same bytes as they were sent.")                                                         \
    X(gzip_encoders, gauge, "tidegate_gzip_encoders",                                              \
      "Audiences that have an encoder, of 272 KiB each: see compress.bytes.")                      \
    X(gzip_epochs, counter, "tidegate_gzip_epochs_total",                                          \
      "Times an encoder was emptied, so that streams could join.")

struct audience_metrics {
#define X(member, kind, name, help) uint64_t member;
    AUDIENCE_METRICS(X)
#undef X
};

#endif
