/* Counters -> Prometheus text. Reads the structs of other folders, owns nothing.
 *
 * The format wants all series of one metric in one group under one HELP and one TYPE line, so the
 * X-macro rows, where several may share a name and differ in labels, are grouped here. */
#include "admin/metrics/metrics.h"

#include "base/program/build_info.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define COUNT(rows) (sizeof(rows) / sizeof *(rows))

struct row {
    const char *kind, *name, *help; /* kind as in net/metrics.h; name may end in {labels} */
    size_t offset;                  /* of a uint64_t in the struct */
};

static const struct row net_rows[] = {
#define X(member, kind, name, help) {#kind, name, help, offsetof(struct net_metrics, member)},
    NET_METRICS(X)
#undef X
};

static const struct row auth_rows[] = {
#define X(member, kind, name, help) {#kind, name, help, offsetof(struct auth_metrics, member)},
    AUTH_METRICS(X)
#undef X
};

static const struct row broker_rows[] = {
#define X(member, kind, name, help) {#kind, name, help, offsetof(struct broker_metrics, member)},
    BROKER_METRICS(X)
#undef X
};

static const struct row audience_rows[] = {
#define X(member, kind, name, help) {#kind, name, help, offsetof(struct audience_metrics, member)},
    AUDIENCE_METRICS(X)
#undef X
};

static const struct row presence_rows[] = {
#define X(member, kind, name, help) {#kind, name, help, offsetof(struct presence_metrics, member)},
    PRESENCE_METRICS(X)
#undef X
};

static const struct row policy_rows[] = {
#define X(member, kind, name, help) {#kind, name, help, offsetof(struct policy_metrics, member)},
    POLICY_METRICS(X)
#undef X
};

static const struct row lookup_rows[] = {
#define X(member, kind, name, help) {#kind, name, help, offsetof(struct lookup_metrics, member)},
    LOOKUP_METRICS(X)
#undef X
};

static const struct row quota_rows[] = {
#define X(member, kind, name, help) {#kind, name, help, offsetof(struct quota_metrics, member)},
    QUOTA_METRICS(X)
#undef X
};

static const struct row store_rows[] = {
#define X(member, kind, name, help) {#kind, name, help, offsetof(struct store_metrics, member)},
    STORE_METRICS(X)
#undef X
};

static const double latency_edges[] = {
#define X(us) us,
    LATENCY_BUCKETS(X)
#undef X
};

/* Escapes as the format wants it: '\\' and line feed everywhere, '"' in label values. */
static int put_escaped(struct strbuf *out, const char *text, bool label)
{
    int rc = 0;
    for (const char *p = text; *p && rc == 0; p++) {
        if (*p == '\\') {
            rc = strbuf_append(out, "\\\\", 2);
        } else if (*p == '\n') {
            rc = strbuf_append(out, "\\n", 2);
        } else if (*p == '"' && label) {
            rc = strbuf_append(out, "\\\"", 2);
        } else {
            rc = strbuf_append(out, p, 1);
        }
    }
    return rc;
}

/* The rule for the values of several workers goes out as a comment, which Prometheus passes over and
 * metrics_sum.c reads. */
static int metrics_put_head(struct strbuf *out, struct slice name, const char *kind,
                            const char *help)
{
    size_t n = strcspn(kind, "_");
    int rc = strbuf_printf(out, "# HELP %.*s ", (int)name.n, name.p);
    rc = rc ? rc : put_escaped(out, help, false);
    rc = rc ? rc : strbuf_printf(out, "\n# TYPE %.*s %.*s\n", (int)name.n, name.p, (int)n, kind);
    return rc || !kind[n]
               ? rc
               : strbuf_printf(out, "# RULE %.*s %s\n", (int)name.n, name.p, kind + n + 1);
}

/* The name of the metric: what stands before the labels. */
static struct slice base_name(const char *name)
{
    return slice_of(name, strcspn(name, "{"));
}

static bool seen_before(const struct row *rows, size_t i)
{
    for (size_t j = 0; j < i; j++) {
        if (slice_eq(base_name(rows[j].name), base_name(rows[i].name))) {
            return true;
        }
    }
    return false;
}

static int put_rows(struct strbuf *out, const struct row *rows, size_t n, const void *values)
{
    int rc = 0;
    for (size_t i = 0; i < n && rc == 0; i++) {
        if (seen_before(rows, i)) {
            continue;
        }
        struct slice name = base_name(rows[i].name);
        rc = metrics_put_head(out, name, rows[i].kind, rows[i].help);
        for (size_t j = i; j < n && rc == 0; j++) {
            if (slice_eq(base_name(rows[j].name), name)) {
                uint64_t value;
                memcpy(&value, (const char *)values + rows[j].offset, sizeof value);
                rc = strbuf_printf(out, "%s %" PRIu64 "\n", rows[j].name, value);
            }
        }
    }
    return rc;
}

static int put_closed(struct strbuf *out, const struct net_metrics *net)
{
    static const char name[] = "tidegate_connections_closed_total";
    int rc = metrics_put_head(out, slice_str(name), "counter",
                              "Connections closed, and streams of HTTP/2 ended, by reason.");
    for (unsigned i = 0; i < CLOSE_REASON_COUNT && rc == 0; i++) {
        rc = strbuf_printf(out, "%s{reason=\"%s\"} %" PRIu64 "\n", name,
                           close_reason_name((enum close_reason)i), net->closed[i]);
    }
    return rc;
}

static int put_counter(struct strbuf *out, const char *name, uint64_t value, const char *help)
{
    int rc = metrics_put_head(out, slice_str(name), "counter", help);
    return rc ? rc : strbuf_printf(out, "%s %" PRIu64 "\n", name, value);
}

int metrics_put_admin_net(const struct net_metrics *admin_net, struct strbuf *out)
{
    int rc = put_counter(out, "tidegate_admin_gave_way_total", admin_net->closed[CLOSE_GAVE_WAY],
                         "Connections to the admin service closed to make room for others: "
                         "their clients asked nothing.");
    return rc ? rc
              : put_counter(out, "tidegate_admin_public_too_fast_total",
                            admin_net->too_fast_requests,
                            "Requests to admin_public refused because their address has sent ten a "
                            "second for a while.");
}

static int put_tls(struct strbuf *out, const struct net_metrics *net)
{
    static const char failures[] = "tidegate_tls_handshake_failures_total";
    static const char expiry[] = "tidegate_tls_certificate_not_after_seconds";
    int rc = metrics_put_head(out, slice_str(failures), "counter", "TLS handshakes that failed.");
    for (unsigned i = 0; i < TLS_FAILURE_COUNT && rc == 0; i++) {
        rc = strbuf_printf(out, "%s{reason=\"%s\"} %" PRIu64 "\n", failures,
                           tls_failure_name((enum tls_failure_kind)i), net->tls_failures[i]);
    }
    if (rc == 0) {
        rc = metrics_put_head(out, slice_str(expiry), "gauge_min",
                              "When a certificate in use expires, Unix time.");
    }
    for (size_t i = 0; i < net->certificate_count && rc == 0; i++) {
        rc = strbuf_printf(out, "%s{certificate=\"", expiry);
        rc = rc ? rc : put_escaped(out, net->certificates[i].name, true);
        rc = rc ? rc : strbuf_printf(out, "\"} %" PRId64 "\n", net->certificates[i].not_after);
    }
    return rc;
}

/* The series of one histogram; `hook`: their label, or NULL. */
static int metrics_put_buckets(struct strbuf *out, const char *name, const char *hook,
                               const struct latency *l)
{
    char labels[64] = "", only[sizeof labels + 2] = "";
    uint64_t below = 0;
    int rc = 0;
    if (hook) {
        snprintf(labels, sizeof labels, "hook=\"%s\"", hook);
        snprintf(only, sizeof only, "{%s}", labels);
    }
    for (unsigned i = 0; i < LATENCY_BUCKET_COUNT && rc == 0; i++) {
        below += l->buckets[i];
        rc = strbuf_printf(out, "%s_bucket{%s%sle=\"", name, labels, hook ? "," : "");
        rc = rc                             ? rc
             : i < LATENCY_BUCKET_COUNT - 1 ? strbuf_printf(out, "%g", latency_edges[i] / 1e6)
                                            : strbuf_append_str(out, "+Inf");
        rc = rc ? rc : strbuf_printf(out, "\"} %" PRIu64 "\n", below);
    }
    return rc ? rc
              : strbuf_printf(out, "%s_sum%s %.9f\n%s_count%s %" PRIu64 "\n", name, only,
                              (double)l->sum_ns / 1e9, name, only, l->count);
}

static int put_latency(struct strbuf *out, const char *name, const char *help,
                       const struct latency *l)
{
    int rc = metrics_put_head(out, slice_str(name), "histogram", help);
    return rc ? rc : metrics_put_buckets(out, name, NULL, l);
}

static int metrics_put_hook_times(struct strbuf *out, const struct policy_metrics *policy)
{
    static const char wall[] = "tidegate_policy_hook_seconds";
    static const char cpu[] = "tidegate_policy_hook_cpu_seconds";
    const struct policy_hook_times *hooks = policy->hooks;
    int rc = metrics_put_head(out, slice_str(wall), "histogram",
                              "From a call of a hook to its return, waiting included; of filters "
                              "and formats in Lua one call in 61.");
    for (unsigned i = 0; i < POLICY_TIMED_HOOKS_MAX && rc == 0; i++) {
        rc = hooks[i].hook ? metrics_put_buckets(out, wall, hooks[i].hook, &hooks[i].wall) : 0;
    }
    rc = rc ? rc
            : metrics_put_head(out, slice_str(cpu), "histogram",
                               "CPU time of these calls: what the loop does nothing else in.");
    for (unsigned i = 0; i < POLICY_TIMED_HOOKS_MAX && rc == 0; i++) {
        rc = hooks[i].hook ? metrics_put_buckets(out, cpu, hooks[i].hook, &hooks[i].cpu) : 0;
    }
    return rc;
}

static int put_gauge(struct strbuf *out, const char *name, const char *kind, const char *help,
                     int64_t value)
{
    if (value < 0) {
        return 0;
    }
    int rc = metrics_put_head(out, slice_str(name), kind, help);
    return rc ? rc : strbuf_printf(out, "%s %" PRId64 "\n", name, value);
}

static int put_build(struct strbuf *out)
{
    static const char name[] = "tidegate_build_info";
    int rc = metrics_put_head(out, slice_str(name), "gauge_max", "The running program.");
    return rc ? rc
              : strbuf_printf(out, "%s{version=\"%s\",commit=\"%s\",date=\"%s\"} 1\n", name,
                              build_info.version, build_info.commit, build_info.date);
}

static int put_policy(struct strbuf *out, const char *version, const char *label)
{
    static const char name[] = "tidegate_policy_info";
    if (!version) {
        return 0;
    }
    int rc = metrics_put_head(
        out, slice_str(name), "gauge_max",
        "The current policy: 12 digits of the SHA-256 of its files, and its label.");
    rc = rc ? rc : strbuf_printf(out, "%s{version=\"", name);
    rc = rc ? rc : put_escaped(out, version, true);
    rc = rc ? rc : strbuf_append_str(out, "\",label=\"");
    rc = rc ? rc : put_escaped(out, label ? label : "", true);
    return rc ? rc : strbuf_append_str(out, "\"} 1\n");
}

static int put_seconds(struct strbuf *out, const char *name, const char *kind, const char *help,
                       double value)
{
    if (value < 0) {
        return 0;
    }
    int rc = metrics_put_head(out, slice_str(name), kind, help);
    return rc ? rc : strbuf_printf(out, "%s %.3f\n", name, value);
}

static int put_store(struct strbuf *out, const struct store_health *store)
{
    if (!store) {
        return 0;
    }
    int rc = put_gauge(out, "tidegate_store_healthy", "gauge_min",
                       "1 while the store takes and gives events; 0: see /readyz and the log.",
                       store->ok ? 1 : 0);
    if (rc == 0) {
        rc = put_gauge(out, "tidegate_store_degraded", "gauge_max",
                       "1: something is wrong although events are stored and delivered: see "
                       "/readyz.",
                       store->degraded ? 1 : 0);
    }
    if (rc == 0) {
        rc = put_gauge(out, "tidegate_store_events", "gauge_max",
                       "Events the store holds; 0 while unknown.", (int64_t)store->events);
    }
    if (rc == 0) {
        rc = put_gauge(
            out, "tidegate_store_size_bytes", "gauge_max",
            "Bytes that the store takes: SQLite's file and write-ahead log, or all tables "
            "of the schema in PostgreSQL, with their indexes.",
            (int64_t)store->bytes);
    }
    return rc;
}

/* Names and meanings are those of the Prometheus client libraries: dashboards know them. */
static int put_process(struct strbuf *out, const struct process_stats *p)
{
    int rc = put_seconds(out, "process_start_time_seconds", "gauge_min",
                         "Unix time at which the process started.", p->start_s);
    if (rc == 0) {
        rc = put_seconds(out, "process_cpu_seconds_total", "counter",
                         "User and system CPU time spent.", p->cpu_s);
    }
    if (rc == 0) {
        rc = put_gauge(out, "process_resident_memory_bytes", "gauge", "Resident memory.",
                       p->resident_bytes);
    }
    if (rc == 0) {
        rc = put_gauge(out, "process_open_fds", "gauge", "Open file descriptors.", p->open_fds);
    }
    if (rc == 0) {
        rc = put_gauge(out, "process_max_fds", "gauge",
                       "Most file descriptors the process may open.", p->max_fds);
    }
    return rc;
}

static int put_latencies(struct strbuf *out, const struct metrics_sources *from)
{
    int rc = put_latency(out, "tidegate_publish_to_socket_seconds",
                         "From a publish request that was complete, or a row that was taken from "
                         "the outbox, to its bytes handed to the sockets of an audience; one "
                         "sample for each event and audience, without streams that are behind.",
                         &from->broker->publish_to_socket);
    rc = rc ? rc
            : put_latency(
                  out, "tidegate_policy_resubscribe_delay_seconds",
                  "How long an open stream waited until `subscribe` ran again for it: after a "
                  "reload, because its grant expired, or because an operator asked for it.",
                  &from->broker->resubscribe_delay);
    rc = rc ? rc : metrics_put_hook_times(out, from->policy);
    rc = rc ? rc
            : put_latency(out, "tidegate_store_append_seconds",
                          "From a publish accepted to its commit.", &from->store->store_append);
    rc = rc ? rc
            : put_latency(out, "tidegate_store_read_seconds", "Reading one page of history.",
                          &from->store->store_read);
    if (rc == 0 && from->store->store_batch.count) {
        rc = put_latency(out, "tidegate_store_batch_seconds",
                         "Moving one batch from the outbox to the events.",
                         &from->store->store_batch);
    }
    if (rc == 0 && from->policy->http_request.count) {
        rc = put_latency(out, "tidegate_http_client_seconds",
                         "From a policy's request to its answer, waiting included.",
                         &from->policy->http_request);
    }
    rc = rc ? rc
            : put_latency(out, "tidegate_streams_barred_seconds",
                          "For how long streams were sent nothing until the policy had answered.",
                          &from->broker->barred_for);
    if (rc == 0 && from->broker->event_page.count) {
        rc = put_latency(out, "tidegate_event_page_seconds",
                         "For how long the loop worked at one page of history as JSON, without "
                         "the policy's hooks and the store.",
                         &from->broker->event_page);
    }
    rc = rc ? rc
            : put_latency(out, "tidegate_observe_seconds",
                          "From the time of an observed event to its effects on this worker's "
                          "streams; the clocks of writers count.",
                          &from->broker->observe);
    if (rc == 0 && from->lookup->database_query.count) {
        rc = put_latency(out, "tidegate_database_query_seconds",
                         "From a policy's query to its answer, waiting included.",
                         &from->lookup->database_query);
    }
    return rc;
}

int metrics_render(const struct metrics_view *m, struct strbuf *out)
{
    int rc = put_build(out);
    if (rc == 0) {
        rc = put_policy(out, m->policy_version, m->policy_label);
    }
    if (rc == 0) {
        rc = put_gauge(out, "tidegate_ready", "gauge_min", "1 when /readyz answers 200.",
                       m->ready ? 1 : 0);
    }
    if (rc == 0) {
        rc = put_gauge(out, "tidegate_draining", "gauge_max",
                       "1 while the broker is shutting down.", m->draining ? 1 : 0);
    }
    const struct metrics_sources *from = &m->from;
    rc = rc ? rc : put_rows(out, net_rows, COUNT(net_rows), from->net);
    rc = rc ? rc : put_closed(out, from->net);
    rc = rc || !from->admin_net ? rc : metrics_put_admin_net(from->admin_net, out);
    rc = rc ? rc : put_tls(out, from->net);
    rc = rc ? rc : put_rows(out, broker_rows, COUNT(broker_rows), from->broker);
    rc = rc ? rc : put_rows(out, audience_rows, COUNT(audience_rows), &from->broker->audience);
    rc = rc ? rc : put_rows(out, presence_rows, COUNT(presence_rows), &from->broker->presence);
    rc = rc ? rc : put_rows(out, policy_rows, COUNT(policy_rows), from->policy);
    rc = rc ? rc : put_rows(out, lookup_rows, COUNT(lookup_rows), from->lookup);
    rc = rc ? rc : put_rows(out, quota_rows, COUNT(quota_rows), from->quota);
    rc = rc ? rc : put_rows(out, store_rows, COUNT(store_rows), from->store);
    rc = rc ? rc : put_rows(out, auth_rows, COUNT(auth_rows), from->auth);
    rc = rc ? rc : put_latencies(out, from);
    if (rc == 0) {
        rc = put_store(out, m->store);
    }
    return rc ? rc : put_process(out, m->process);
}

/* proc(5), statm: total and resident pages. */
static int64_t resident_bytes(void)
{
    char line[128], *total_end, *resident_end;
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f) {
        return -1;
    }
    bool got = fgets(line, sizeof line, f) != NULL;
    (void)fclose(f); /* nothing was written */
    if (!got) {
        return -1;
    }
    (void)strtoll(line, &total_end, 10);
    long long resident = strtoll(total_end, &resident_end, 10);
    return resident_end != total_end ? resident * sysconf(_SC_PAGESIZE) : -1;
}

static int64_t open_fds(void)
{
    /* proc(5): since Linux 6.2 the size is the count. Listing 10,000 takes the loop 7 ms. */
    struct stat st;
    if (stat("/proc/self/fd", &st) == 0 && st.st_size > 0) {
        return st.st_size;
    }
    DIR *d = opendir("/proc/self/fd");
    if (!d) {
        return -1;
    }
    int64_t n = -1; /* the one that reads the folder */
    for (const struct dirent *e = readdir(d); e; e = readdir(d)) {
        n += e->d_name[0] != '.';
    }
    closedir(d);
    return n;
}

struct process_stats metrics_process(double start_s)
{
    struct process_stats p = {.start_s = start_s,
                              .cpu_s = -1,
                              .resident_bytes = resident_bytes(),
                              .open_fds = open_fds(),
                              .max_fds = -1};
    struct rusage use;
    if (getrusage(RUSAGE_SELF, &use) == 0) {
        p.cpu_s = (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
                  (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
    }
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) {
        p.max_fds = (int64_t)limit.rlim_cur;
    }
    return p;
}
