/* Counters and gauges of the database that policies query; admin/metrics/metrics.c prints them.
 * X(member, kind, name, help): as in net/metrics.h. */
#ifndef LOOKUP_METRICS_H
#define LOOKUP_METRICS_H

#include "base/latency.h"

#include <stdint.h>

#define LOOKUP_METRICS(X)                                                                          \
    X(database_up, gauge_min, "tidegate_database_up",                                              \
      "1: the database that policies ask is connected.")                                           \
    X(database_queries, counter, "tidegate_database_queries_total", "Queries of policies.")        \
    X(database_errors, counter, "tidegate_database_errors_total",                                  \
      "Queries that failed, were too slow, or found the database away.")                           \
    X(database_shed, counter, "tidegate_database_shed_total",                                      \
      "Queries given up because too many waited.")                                                 \
    X(database_queued, gauge, "tidegate_database_queued", "Queries that wait for a connection.")   \
    X(database_running, gauge, "tidegate_database_running", "Queries the database works on.")

struct lookup_metrics {
#define X(member, kind, name, help) uint64_t member;
    LOOKUP_METRICS(X)
#undef X
    struct latency database_query; /* tidegate_database_query_seconds: asked to answered */
};

#endif
