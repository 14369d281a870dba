/* Counters and gauges of the broker; admin/metrics/metrics.c prints them. X(member, kind, name, help): as in net/metrics.h. */
#ifndef BROKER_METRICS_H
#define BROKER_METRICS_H

#include "audience/metrics.h"
#include "base/latency.h"
#include "presence/metrics.h"

#include <stdint.h>

#define BROKER_METRICS(X)                                                                          \
    X(subscribers, gauge, "tidegate_subscribers", "Open event streams.")                           \
    X(subscribed, counter, "tidegate_subscribed_total", "Event streams opened.")                   \
    X(denied_204, counter, "tidegate_refused_denied_total{status=\"204\"}",                        \
      "Requests the policy denied, by the status it chose.")                                       \
    X(denied_400, counter, "tidegate_refused_denied_total{status=\"400\"}", "")                    \
    X(denied_401, counter, "tidegate_refused_denied_total{status=\"401\"}", "")                    \
    X(denied_403, counter, "tidegate_refused_denied_total{status=\"403\"}", "")                    \
    X(denied_404, counter, "tidegate_refused_denied_total{status=\"404\"}", "")                    \
    X(denied_429, counter, "tidegate_refused_denied_total{status=\"429\"}", "")                    \
    X(refused_invalid, counter, "tidegate_refused_invalid_total",                                  \
      "Requests refused for what they are (4xx, not by the policy): \"refused request\" in the "   \
      "log says why.")                                                                             \
    X(webhooks_not_allowed, counter, "tidegate_webhooks_not_allowed_total",                        \
      "senders of web hooks that asked to be allowed and are not in http.webhook_origins")         \
    X(foreign_origins, counter, "tidegate_foreign_origins_total",                                  \
      "Requests of pages whose origin is not in http.cors_origins: browsers hide the answers.")    \
    X(redirected_publishes, counter, "tidegate_https_redirects_total{what=\"publishes\"}",         \
      "Requests without TLS that were sent to https (redirect_https). What a publish holds has "   \
      "gone over the wire in clear.")                                                              \
    X(redirected_others, counter, "tidegate_https_redirects_total{what=\"others\"}", "")           \
    X(refused_cross_site, counter, "tidegate_refused_cross_site_total",                            \
      "Publishes refused because a page of another site sent them: see http.cors_origins.")        \
    X(refused_policy, counter, "tidegate_refused_transient_total{reason=\"policy\"}",              \
      "Requests refused for now: the policy could not decide, the store is away, too much waits, " \
      "the broker shuts down.")                                                                    \
    X(refused_store, counter, "tidegate_refused_transient_total{reason=\"store\"}", "")            \
    X(refused_overload, counter, "tidegate_refused_transient_total{reason=\"overload\"}", "")      \
    X(refused_draining, counter, "tidegate_refused_transient_total{reason=\"draining\"}", "")      \
    X(refusals_held, gauge, "tidegate_refused_streams_held",                                       \
      "Streams refused for now that are held open for sse.refusal_hold_s.")                        \
    X(published, counter, "tidegate_events_published_total",                                       \
      "Events stored on behalf of HTTP publishers, duplicates not counted.")                       \
    X(publish_duplicates, counter, "tidegate_publish_duplicates_total",                            \
      "Publishes whose key was known: answered with the first id.")                                \
    X(publish_dropped, counter, "tidegate_publish_dropped_total",                                  \
      "Events that publish has dropped with tg.drop(): answered, and not stored.")                 \
    X(publish_failed, counter, "tidegate_publish_failed_total",                                    \
      "Publish requests that failed in the store or were shed.")                                   \
    X(tailed, counter_max, "tidegate_events_tailed_total",                                         \
      "Events that became visible, of all writers.")                                               \
    X(delivered, counter, "tidegate_events_delivered_total", "Event frames handed to the kernel.") \
    X(firsts, counter, "tidegate_streams_with_first_total",                                        \
      "Streams that began with frames of their own: see `first` of subscriptions.")                \
    X(firsts_shared, counter, "tidegate_streams_first_shared_total",                               \
      "Of these: streams whose frames were those of another one.")                                 \
    X(ended, counter, "tidegate_streams_ended_total",                                              \
      "Streams that were given their last event: `ends` of subscriptions, until=, limit=.")        \
    X(gaps, counter, "tidegate_gaps_total", "gap events sent: history a client missed for good.")  \
    X(snapshots, counter, "tidegate_snapshots_total",                                              \
      "Streams that were sent the newest event of each topic: at their start, where retention "    \
      "took what they had yet to see, or because they were too far behind.")                       \
    X(positions, counter, "tidegate_positions_told_total",                                         \
      "Quiet streams told how far they have come, instead of a heartbeat or at their end.")        \
    X(nothing_more, counter, "tidegate_nothing_more_total",                                        \
      "Reconnects of streams that had come to their end: answered 204.")                           \
    X(event_pages, counter, "tidegate_event_pages_total",                                          \
      "Pages of history as JSON that were answered, 304 included.")                                \
    X(event_pages_known, counter, "tidegate_event_pages_not_modified_total",                       \
      "Of these: 304, the client had it.")                                                         \
    X(event_page_events, counter, "tidegate_event_page_events_total",                              \
      "Events in pages of history as JSON.")                                                       \
    X(event_page_unread, gauge, "tidegate_event_page_unread_bytes",                                \
      "Bytes of pages of history as JSON that their clients have asked for and not taken.")        \
    X(event_pages_refused, counter, "tidegate_event_pages_refused_total",                          \
      "Pages of history as JSON that were refused because too many were being made, or "           \
      "limits.unread_page_bytes had not been taken.")                                              \
    X(lag_skips, counter, "tidegate_lag_skips_total",                                              \
      "Streams moved to the head because they were too far behind.")                               \
    X(behind, gauge, "tidegate_subscribers_behind",                                                \
      "Streams that are not at the head: resuming, slow or rate limited.")                         \
    X(caught_up_s, gauge_max, "tidegate_caught_up_timestamp_seconds",                              \
      "Unix time at which a stream that was behind last got to the head.")                         \
    X(erased_forgotten, counter, "tidegate_erased_ahead_forgotten_total",                          \
      "Erased events that had yet to come, and were too many to be remembered.")                   \
    X(log_events, gauge, "tidegate_log_events", "Events in the in-memory event log.")              \
    X(log_bytes, gauge, "tidegate_log_bytes", "Bytes of the in-memory event log.")                 \
    X(head_id, gauge_max, "tidegate_head_id", "Id of the newest event.")                           \
    X(pages_read, counter, "tidegate_store_pages_read_total",                                      \
      "Pages of history read from the store.")                                                     \
    X(pages_shared, counter, "tidegate_store_pages_shared_total",                                  \
      "Page requests answered by a page read for another subscriber.")                             \
    X(resubscribes_waiting, gauge, "tidegate_policy_resubscribes_waiting",                         \
      "Open streams about which the policy is going to be asked again.")                           \
    X(barred, gauge, "tidegate_streams_barred",                                                    \
      "Of these: streams that are sent nothing until the policy has answered.")                    \
    X(observed, counter_max, "tidegate_observed_events_total",                                     \
      "Events that the policy's observe was run for.")                                             \
    X(observe_ask_again, counter_max, "tidegate_observe_effects_total{effect=\"ask_again\"}",      \
      "What observe, or an operator by tag, has ordered.")                                         \
    X(observe_end_streams, counter_max, "tidegate_observe_effects_total{effect=\"end_streams\"}",  \
      "")                                                                                          \
    X(observe_ask_all, counter_max, "tidegate_observe_effects_total{effect=\"ask_all\"}", "")      \
    X(reached_asked, counter, "tidegate_reached_streams_total{what=\"asked_again\"}",              \
      "Streams that this reached by their tags.")                                                  \
    X(reached_ended, counter, "tidegate_reached_streams_total{what=\"ended\"}", "")                \
    X(resubscribes_same, counter, "tidegate_policy_resubscribes_total{outcome=\"same\"}",          \
      "Open streams the policy was asked about again, by what came of it.")                        \
    X(resubscribes_moved, counter, "tidegate_policy_resubscribes_total{outcome=\"moved\"}", "")    \
    X(resubscribes_revoked, counter, "tidegate_policy_resubscribes_total{outcome=\"revoked\"}",    \
      "")                                                                                          \
    X(resubscribes_later, counter, "tidegate_policy_resubscribes_total{outcome=\"later\"}", "")    \
    X(resubscribes_gave_up, counter, "tidegate_policy_resubscribes_total{outcome=\"gave-up\"}",    \
      "")                                                                                          \
    X(resubscribes_reconnected, counter,                                                           \
      "tidegate_policy_resubscribes_total{outcome=\"reconnect\"}", "")

struct broker_metrics {
#define X(member, kind, name, help) uint64_t member;
    BROKER_METRICS(X)
#undef X
    struct latency publish_to_socket; /* tidegate_publish_to_socket_seconds */
    struct latency resubscribe_delay; /* tidegate_policy_resubscribe_delay_seconds */
    struct audience_metrics audience;
    struct presence_metrics presence;
    struct latency event_page; /* tidegate_event_page_seconds */
    struct latency barred_for; /* tidegate_streams_barred_seconds */
    struct latency observe;    /* tidegate_observe_seconds: from an event's time to its effects */
};

#endif
