/* Counters and gauges of policies: hooks, their calls of services, the cache, reloads.
 * admin/metrics/metrics.c prints them. X(member, kind, name, help): as in net/metrics.h. */
#ifndef POLICY_METRICS_H
#define POLICY_METRICS_H

#include "base/latency.h"

#include <stdint.h>

#define POLICY_METRICS(X)                                                                          \
    X(filter_mismatches, counter, "tidegate_policy_filter_type_mismatches_total",                  \
      "Comparisons of filter texts whose types did not fit together: false.")                      \
    X(filter_set_refused, counter, "tidegate_policy_set_refused_total",                            \
      "Events not delivered to an audience because its filter asked a set without values.")        \
    X(set_loads_ok, counter, "tidegate_policy_set_loads_total{result=\"ok\"}",                     \
      "Loads of the sets of policies.")                                                            \
    X(set_loads_failed, counter, "tidegate_policy_set_loads_total{result=\"failed\"}", "")         \
    X(sets, gauge, "tidegate_policy_sets", "Sets in memory, of all policies in memory.")           \
    X(set_entries, gauge, "tidegate_policy_set_entries", "Values in them.")                        \
    X(set_bytes, gauge, "tidegate_policy_set_bytes", "Their memory.")                              \
    X(set_age_s, gauge_max, "tidegate_policy_set_age_seconds",                                     \
      "How long ago the set was loaded whose last good load was the longest ago.")                 \
    X(sets_stale, gauge, "tidegate_policy_sets_stale",                                             \
      "Sets without values: filters that ask them let nothing through.")                           \
    X(policy_errors_authenticate, counter, "tidegate_policy_errors_total{hook=\"authenticate\"}",  \
      "Policy hooks that raised, ran out of memory or returned what they must not.")               \
    X(policy_errors_subscribe, counter, "tidegate_policy_errors_total{hook=\"subscribe\"}", "")    \
    X(policy_errors_publish, counter, "tidegate_policy_errors_total{hook=\"publish\"}", "")        \
    X(policy_errors_filter, counter, "tidegate_policy_errors_total{hook=\"filter\"}", "")          \
    X(policy_errors_format, counter, "tidegate_policy_errors_total{hook=\"format\"}", "")          \
    X(policy_errors_disconnect, counter, "tidegate_policy_errors_total{hook=\"disconnect\"}", "")  \
    X(policy_errors_observe, counter, "tidegate_policy_errors_total{hook=\"observe\"}", "")        \
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
    X(policy_queued, gauge, "tidegate_policy_queued_hooks",                                        \
      "Hooks that do not wait yet, because as many wait as policy.suspended and "                  \
      "policy.suspended_per_address allow.")                                                       \
    X(policy_overdue_authenticate, counter,                                                        \
      "tidegate_policy_overdue_total{hook=\"authenticate\"}",                                      \
      "Of these errors: calls stopped because they used up their CPU time.")                       \
    X(policy_overdue_subscribe, counter, "tidegate_policy_overdue_total{hook=\"subscribe\"}", "")  \
    X(policy_overdue_publish, counter, "tidegate_policy_overdue_total{hook=\"publish\"}", "")      \
    X(policy_overdue_filter, counter, "tidegate_policy_overdue_total{hook=\"filter\"}", "")        \
    X(policy_overdue_format, counter, "tidegate_policy_overdue_total{hook=\"format\"}", "")        \
    X(policy_overdue_observe, counter, "tidegate_policy_overdue_total{hook=\"observe\"}", "")      \
    X(policy_overdue_disconnect, counter, "tidegate_policy_overdue_total{hook=\"disconnect\"}",    \
      "")                                                                                          \
    X(cache_hits, counter, "tidegate_policy_cache_hits_total",                                     \
      "cache.fetch answered from memory.")                                                         \
    X(cache_misses, counter, "tidegate_policy_cache_misses_total",                                 \
      "cache.fetch ran its function.")                                                             \
    X(cache_shared, counter, "tidegate_policy_cache_shared_total",                                 \
      "cache.fetch waited for the function another hook ran.")                                     \
    X(cache_forgotten, counter, "tidegate_policy_cache_forgotten_total", "Calls of cache.forget.") \
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
      "Orders to reload the policy.")                                                              \
    X(policy_reloads_unchanged, counter, "tidegate_policy_reloads_total{result=\"unchanged\"}",    \
      "")                                                                                          \
    X(policy_reloads_refused, counter, "tidegate_policy_reloads_total{result=\"refused\"}", "")    \
    X(policy_rollbacks, counter, "tidegate_policy_rollbacks_total",                                \
      "Policies that were rolled back: they failed much more often, or by an operator.")           \
    X(policy_rolled_back, gauge_max, "tidegate_policy_rolled_back",                                \
      "1: the newest policy failed and was rolled back; until the next one is in force.")          \
    X(policy_quarantined, gauge, "tidegate_policy_quarantined",                                    \
      "Filters and formats out of use until the policy is reloaded: they failed too often.")       \
    X(policy_quarantined_calls, counter, "tidegate_policy_quarantined_calls_total",                \
      "Events not delivered to an audience because its filter or format is out of use.")           \
    X(policy_memory, gauge, "tidegate_policy_memory_bytes", "Memory of the policy's Lua state.")   \
    X(policy_stack_repairs, counter, "tidegate_policy_stack_repairs_total",                        \
      "Unbalanced Lua stacks repaired: a defect of the broker, report it.")

/* Of one hook, from its first call on: tidegate_policy_hook_seconds{hook=}, asked to returned, waiting
 * included, and tidegate_policy_hook_cpu_seconds{hook=}. */
struct policy_hook_times {
    const char *hook; /* static; NULL: not called yet */
    struct latency wall, cpu;
};
enum { POLICY_TIMED_HOOKS_MAX = 16 };

struct policy_metrics {
#define X(member, kind, name, help) uint64_t member;
    POLICY_METRICS(X)
#undef X
    struct latency http_request; /* tidegate_http_client_seconds: asked to answered */
    struct policy_hook_times hooks[POLICY_TIMED_HOOKS_MAX]; /* in no order */
};

#endif
