/* Prometheus text (exposition format 0.0.4) of all metrics of the process. Pure but for
 * metrics_process(). The names, kinds and helps are in the metrics.h of each folder;
 * metrics.c adds those of process, build and store health. */
#ifndef ADMIN_METRICS_METRICS_H
#define ADMIN_METRICS_METRICS_H

#include "auth/metrics.h"
#include "base/strbuf.h"
#include "broker/metrics.h"
#include "lookup/metrics.h"
#include "net/metrics.h"
#include "policy/metrics.h"
#include "quota/metrics.h"
#include "store/metrics.h"
#include "store/store.h"

#include <stdbool.h>
#include <stdint.h>

#define METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* Figures of this process from the kernel; a negative member is unknown and is left out. */
struct process_stats {
    double start_s; /* Unix time */
    double cpu_s;   /* user and system */
    int64_t resident_bytes;
    int64_t open_fds, max_fds;
};

/* What each part of the broker counts; all borrowed. */
struct metrics_sources {
    const struct net_metrics *net;
    const struct net_metrics *admin_net; /* of the admin service; NULL: another process has it */
    const struct auth_metrics *auth;
    const struct broker_metrics *broker;
    const struct policy_metrics *policy;
    const struct lookup_metrics *lookup;
    const struct quota_metrics *quota;
    const struct store_metrics *store;
};

/* Of the admin service: connections that were closed to make room for others. */
__attribute__((warn_unused_result)) int metrics_put_admin_net(const struct net_metrics *admin_net,
                                                              struct strbuf *out);

struct metrics_view {
    struct metrics_sources from;
    const struct store_health *store; /* NULL: not open yet; its series are left out */
    const struct process_stats *process;
    const char *policy_version; /* hash; NULL: unknown, the series is left out */
    const char *policy_label;   /* NULL: none */
    bool ready, draining;
};

/* Appends the page. 0, UV_ENOBUFS or UV_ENOMEM. */
__attribute__((warn_unused_result)) int metrics_render(const struct metrics_view *m,
                                                       struct strbuf *out);

/* Reads /proc and getrusage(); `start_s` is the caller's. */
struct process_stats metrics_process(double start_s);

#endif
