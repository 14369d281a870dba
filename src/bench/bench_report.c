/* See bench_report.h. The document is made once; the text for people is printed from it. */
#include "bench/bench_report.h"

#include "base/require.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>

/* ---------------------------------------------------------------- numbers */

static json_t *bench_report_count(uint64_t n)
{
    return json_integer((json_int_t)n);
}

/* Three digits behind the point are more than any of this is exact to. */
static json_t *number(double value)
{
    return isfinite(value) ? json_real(round(value * 1000) / 1000) : json_null();
}

static json_t *ratio(double value, double by)
{
    return by > 0 ? number(value / by) : json_null();
}

static void bench_report_set(json_t *o, const char *key, json_t *value)
{
    REQUIRE(json_object_set_new(o, key, value) == 0); /* fails without memory only */
}

static json_t *times_ms(const struct bench_hist *h)
{
    json_t *o = json_object();
    bench_report_set(o, "p50", number((double)bench_hist_at(h, 50) / 1e6));
    bench_report_set(o, "p99", number((double)bench_hist_at(h, 99) / 1e6));
    bench_report_set(o, "max", number((double)h->max / 1e6));
    return o;
}

static double bench_report_seconds(uint64_t from_ns, uint64_t to_ns)
{
    return to_ns > from_ns ? (double)(to_ns - from_ns) / 1e9 : 0;
}

/* The measurement: until the last delivery where there was one. */
static double measured_s(const struct bench *b)
{
    bool deliveries = b->to.counts.delivered > b->from.counts.delivered;
    return bench_report_seconds(b->from.at_ns, deliveries ? b->delivery_ns : b->to.at_ns);
}

/* ---------------------------------------------------------------- what is wrong */

static void add_problem(json_t *list, uint64_t n, const char *what)
{
    if (n) {
        REQUIRE(json_array_append_new(list, json_sprintf("%" PRIu64 " %s", n, what)) == 0);
    }
}

static json_t *problems(const struct bench *b)
{
    const struct bench_counts *n = &b->counts;
    json_t *list = json_array();
    add_problem(list, b->lost, "lost");
    add_problem(list, n->doubled, "doubled");
    add_problem(list, n->late, "reordered");
    add_problem(list, n->misrouted, "misrouted");
    add_problem(list, n->stale, "not the newest of their topic");
    add_problem(list, n->damaged, "damaged");
    add_problem(list, n->gaps, "gaps announced");
    add_problem(list, n->failed, "streams not opened");
    add_problem(list, n->cut, "streams ended by the server");
    add_problem(list, n->refused, "publishes refused");
    add_problem(list, b->o->mode == BENCH_CHURN ? 0 : b->opening, "streams without an answer");
    add_problem(list, b->storm.from_ns ? b->o->connections - b->storm.live : 0,
                "streams not live after the storm");
    add_problem(list, b->stop ? 0 : n->published - n->acked - n->refused,
                "publishes without an answer");
    if (b->error[0]) {
        REQUIRE(json_array_append_new(list, json_string(b->error)) == 0);
    }
    return list;
}

/* ---------------------------------------------------------------- the document */

static json_t *connections(const struct bench *b)
{
    json_t *o = json_object();
    bench_report_set(o, "asked", bench_report_count(b->o->connections));
    bench_report_set(o, "opened", bench_report_count(b->counts.opened));
    bench_report_set(o, "failed", bench_report_count(b->counts.failed));
    bench_report_set(o, "ended_by_server", bench_report_count(b->counts.cut));
    double s = b->o->mode == BENCH_CHURN ? measured_s(b)
                                         : bench_report_seconds(b->connect_ns[0], b->connect_ns[1]);
    bench_report_set(o, "per_s", ratio((double)b->counts.opened, s));
    bench_report_set(o, "head_ms", times_ms(&b->first_byte));
    return o;
}

static json_t *publishes(const struct bench *b)
{
    json_t *o = json_object();
    uint64_t acked = b->to.counts.acked - b->from.counts.acked;
    bench_report_set(o, "sent", bench_report_count(b->counts.published));
    bench_report_set(o, "acknowledged", bench_report_count(b->counts.acked));
    bench_report_set(o, "refused", bench_report_count(b->counts.refused));
    if (bench_reads_history(b->o->mode)) {
        return o; /* they went before the measurement */
    }
    bench_report_set(o, "per_s", ratio((double)acked, measured_s(b)));
    bench_report_set(o, "ack_ms", times_ms(&b->ack));
    bench_report_set(o, "behind_ms", number((double)b->behind_ns / 1e6));
    return o;
}

static json_t *deliveries(const struct bench *b)
{
    const struct bench_counts *n = &b->counts;
    json_t *o = json_object();
    uint64_t measured = b->to.counts.delivered - b->from.counts.delivered;
    bench_report_set(o, "received", bench_report_count(n->delivered));
    bench_report_set(o, "per_s", ratio((double)measured, measured_s(b)));
    bench_report_set(o, "lost", bench_report_count(b->lost));
    bench_report_set(o, "doubled", bench_report_count(n->doubled));
    bench_report_set(o, "reordered", bench_report_count(n->late));
    bench_report_set(o, "misrouted", bench_report_count(n->misrouted));
    bench_report_set(o, "damaged", bench_report_count(n->damaged));
    bench_report_set(o, "gaps", bench_report_count(n->gaps));
    bench_report_set(o, "strange", bench_report_count(n->strange));
    bench_report_set(o, "per_read", ratio((double)n->delivered, (double)n->reads));
    bench_report_set(o, "bytes_each",
                     ratio((double)(b->to.counts.bytes - b->from.counts.bytes), (double)measured));
    return o;
}

static json_t *storm(const struct bench *b)
{
    const struct bench_storm *s = &b->storm;
    json_t *o = json_object();
    bench_report_set(o, "live", bench_report_count(s->live));
    bench_report_set(o, "retries", bench_report_count(s->retries));
    bench_report_set(o, "answer_ms", times_ms(&s->answer));
    bench_report_set(o, "live_after_ms", times_ms(&s->live_after));
    return o;
}

static json_t *slow(const struct bench *b)
{
    const struct bench_slow *s = &b->slow;
    json_t *o = json_object();
    bench_report_set(o, "connections", bench_report_count(b->o->slow));
    bench_report_set(o, "received", bench_report_count(s->received));
    bench_report_set(o, "gaps", bench_report_count(s->gaps));
    bench_report_set(o, "ended", bench_report_count(s->ended));
    if (s->pss_from) {
        bench_report_set(o, "pss_bytes_early", bench_report_count(s->pss_from));
        bench_report_set(o, "pss_bytes_late", bench_report_count(s->pss_to));
        bench_report_set(o, "pss_bytes_most", bench_report_count(s->pss_most));
        bench_report_set(o, "pss_growth", ratio((double)s->pss_to, (double)s->pss_from));
    }
    return o;
}

static json_t *server(const struct bench *b)
{
    const struct bench_counts *from = &b->from.counts, *to = &b->to.counts;
    const struct bench_proc *empty = &b->empty.server, *filled = &b->filled.server;
    bool replays = bench_reads_history(b->o->mode);
    double us = (double)(b->to.server.cpu_ns - b->from.server.cpu_ns) / 1e3;
    const struct bench_proc *linked = &b->linked.server;
    bool shared = linked->processes && b->o->connections > b->link_count;
    double each = (double)(replays  ? b->counts.published
                           : shared ? b->link_count
                                    : b->counts.opened);
    double bytes = (double)(shared ? linked : filled)->pss_bytes - (double)empty->pss_bytes;
    json_t *o = json_object();
    bench_report_set(o, "processes", bench_report_count(b->to.server.processes));
    bench_report_set(o, "cores", ratio(us / 1e6, bench_report_seconds(b->from.at_ns, b->to.at_ns)));
    bench_report_set(o, "cpu_us_per_delivery",
                     ratio(us, (double)(to->delivered - from->delivered)));
    bench_report_set(o, "cpu_us_per_publish", ratio(us, (double)(to->acked - from->acked)));
    bench_report_set(o, "cpu_us_per_connection", ratio(us, (double)(to->opened - from->opened)));
    if (filled->processes && empty->processes) {
        bench_report_set(o, "pss_bytes_before", bench_report_count(empty->pss_bytes));
        bench_report_set(o, "pss_bytes", bench_report_count(filled->pss_bytes));
        bench_report_set(o, replays ? "pss_bytes_per_event" : "pss_bytes_per_connection",
                         ratio(bytes, each));
    }
    if (b->after.server.processes && empty->processes) {
        bench_report_set(o, "pss_bytes_per_connection_after",
                         ratio((double)b->after.server.pss_bytes - (double)empty->pss_bytes,
                               (double)b->counts.opened));
    }
    if (shared) {
        bench_report_set(o, "pss_bytes_per_further_stream",
                         ratio((double)filled->pss_bytes - (double)linked->pss_bytes,
                               (double)(b->o->connections - b->link_count)));
    }
    return o;
}

static json_t *bench_report_document(const struct bench *b)
{
    const struct bench_options *o = b->o;
    bool complete = b->to.at_ns != 0, publishing = o->mode != BENCH_CHURN && o->mode != BENCH_IDLE;
    double wall = bench_report_seconds(b->from.at_ns, b->to.at_ns);
    double own = (double)(b->to.own_cpu_ns - b->from.own_cpu_ns) / 1e9;
    double busy = (double)(b->to.machine_busy_ns - b->from.machine_busy_ns) / 1e9;
    double theirs = (double)(b->to.server.cpu_ns - b->from.server.cpu_ns) / 1e9;
    json_t *doc = json_object();
    bench_report_set(doc, "mode", json_string(bench_mode_names[o->mode]));
    bench_report_set(doc, "target", json_sprintf("%s:%u", o->host, (unsigned)o->port));
    bench_report_set(doc, "complete", json_boolean(complete));
    bench_report_set(doc, "topics", bench_report_count(o->topics));
    bench_report_set(doc, "size", bench_report_count(o->size));
    if (complete) {
        bench_report_set(doc, "seconds", number(measured_s(b)));
        bench_report_set(doc, "generator_cores", ratio(own, wall));
    }
    if (o->mode != BENCH_PUBLISH) {
        bench_report_set(doc, "connections", connections(b));
    }
    if (publishing && complete) {
        bench_report_set(doc, "publishes", publishes(b));
    }
    if (publishing && o->mode != BENCH_PUBLISH && complete) {
        json_t *d = deliveries(b);
        bench_report_set(d, bench_reads_history(o->mode) ? "replay_ms" : "latency_ms",
                         times_ms(bench_reads_history(o->mode) ? &b->replay : &b->latency));
        bench_report_set(doc, "deliveries", d);
    }
    if (o->mode == BENCH_STORM && complete) {
        bench_report_set(doc, "storm", storm(b));
    }
    if (o->slow && complete) {
        bench_report_set(doc, "slow", slow(b));
    }
    if (o->pid && complete) {
        bench_report_set(doc, "server", server(b));
        bench_report_set(doc, "other_cores", ratio(busy - own - theirs, wall));
    }
    return doc;
}

/* ---------------------------------------------------------------- text */

static void print_value(const char *key, const json_t *value)
{
    if (json_is_integer(value)) {
        printf("  %-26s %" JSON_INTEGER_FORMAT "\n", key, json_integer_value(value));
    } else if (json_is_real(value)) {
        double v = json_real_value(value);
        printf("  %-26s %.*f\n", key, v >= 1000 ? 0 : 3, v);
    } else if (json_is_object(value)) {
        printf("  %-26s p50 %.3f  p99 %.3f  max %.3f\n", key,
               json_real_value(json_object_get(value, "p50")),
               json_real_value(json_object_get(value, "p99")),
               json_real_value(json_object_get(value, "max")));
    }
}

static void print_text(const json_t *doc)
{
    static const char *const groups[] = {"connections", "publishes", "deliveries",
                                         "storm",       "slow",      "server"};
    printf("%s against %s\n", json_string_value(json_object_get(doc, "mode")),
           json_string_value(json_object_get(doc, "target")));
    print_value("seconds", json_object_get(doc, "seconds"));
    print_value("generator_cores", json_object_get(doc, "generator_cores"));
    print_value("other_cores", json_object_get(doc, "other_cores"));
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) {
        const json_t *group = json_object_get(doc, groups[i]);
        void *it = json_object_iter((json_t *)(uintptr_t)group);
        if (it) {
            printf("%s\n", groups[i]);
        }
        for (; it; it = json_object_iter_next((json_t *)(uintptr_t)group, it)) {
            print_value(json_object_iter_key(it), json_object_iter_value(it));
        }
    }
}

unsigned bench_report_print(const struct bench *b)
{
    json_t *doc = bench_report_document(b), *wrong = problems(b);
    unsigned n = (unsigned)json_array_size(wrong);
    for (unsigned i = 0; i < n; i++) {
        fprintf(stderr, "tidegate-bench: %s\n", json_string_value(json_array_get(wrong, i)));
    }
    if (b->o->json) {
        bench_report_set(doc, "ok", json_boolean(n == 0));
        bench_report_set(doc, "problems", wrong);
        REQUIRE(json_dumpf(doc, stdout, JSON_COMPACT | JSON_REAL_PRECISION(15)) == 0 ||
                ferror(stdout));
        putchar('\n');
    } else {
        print_text(doc);
        printf("%s\n", n ? "NOT WELL" : "all well: nothing lost, doubled or reordered");
        json_decref(wrong);
    }
    json_decref(doc);
    return n;
}
