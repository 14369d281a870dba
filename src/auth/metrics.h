/* Counters and gauges of the auth folder; admin/metrics/metrics.c prints them. Plain integers: one thread.
 */
#ifndef AUTH_METRICS_H
#define AUTH_METRICS_H

#include <stdint.h>

/* X(member, kind, name, help). Kind: counter or gauge. The values of several workers are added up.
 * _max or _min after the kind: the maximum or minimum is taken, because a sum would mean nothing. */
#define AUTH_METRICS(X)                                                                            \
    X(tokens_verified, counter, "tidegate_tokens_total{result=\"verified\"}",                      \
      "Tokens that policies verified, by result; cached: verified before.")                        \
    X(tokens_cached, counter, "tidegate_tokens_total{result=\"cached\"}", "")                      \
    X(tokens_refused, counter, "tidegate_tokens_total{result=\"refused\"}", "")                    \
    X(tokens_unanswered, counter, "tidegate_tokens_total{result=\"unanswered\"}", "")              \
    X(token_cache_bytes, gauge, "tidegate_token_cache_bytes", "Memory of cached verified tokens.") \
    X(key_sets, gauge_max, "tidegate_key_sets", "Key sets of the configuration.")                  \
    X(key_sets_unavailable, gauge_max, "tidegate_key_sets_unavailable",                            \
      "Key sets without keys: not fetched yet, or too long ago.")                                  \
    X(key_sets_failing, gauge_max, "tidegate_key_sets_failing",                                    \
      "Key sets whose source could not be read the last time; the keys there are stay.")           \
    X(key_reads, counter, "tidegate_key_reads_total{result=\"ok\"}",                               \
      "Times keys were fetched, or read again from a changed file.")                               \
    X(key_read_failures, counter, "tidegate_key_reads_total{result=\"failed\"}", "")

struct auth_metrics {
#define X(member, kind, name, help) uint64_t member;
    AUTH_METRICS(X)
#undef X
};

#endif
