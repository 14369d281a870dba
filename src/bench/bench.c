/* See bench.h. One thread, one loop: every turn (and every millisecond) the phase at hand is asked
 * whether it is over, and the publishers send what they may. */
#include "bench/bench.h"

#include "base/alloc.h"
#include "base/require.h"
#include "bench/bench_link.h"
#include "bench/bench_phases.h"
#include "bench/bench_pub.h"
#include "bench/bench_report.h"
#include "bench/bench_storm.h"
#include "bench/bench_sub.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sysexits.h>

enum { OWN_FILES = 64, FIELDS_MAX = 64 * 1024, CHURN_SOURCES = 8 };

struct runner {
    struct bench b;
    uv_check_t turn;
    uv_timer_t tick;
    uv_signal_t sigint, sigterm;
    const struct bench_phase *phase; /* NULL: closing */
    uint64_t phase_ns;
};

static void close_handle(uv_handle_t *h, void *runner)
{
    struct runner *r = runner;
    bool own = h == (uv_handle_t *)&r->turn || h == (uv_handle_t *)&r->tick ||
               h == (uv_handle_t *)&r->sigint || h == (uv_handle_t *)&r->sigterm;
    if (own && !uv_is_closing(h)) {
        uv_close(h, NULL);
    }
}

static void bench_finish(struct runner *r)
{
    r->phase = NULL;
    bench_pubs_forgive_unanswered(&r->b);
    bench_subs_count_lost(&r->b);
    bench_subs_close(&r->b);
    bench_pubs_close(&r->b);
    uv_walk(&r->b.loop, close_handle, r);
}

static void bench_enter(struct runner *r, const struct bench_phase *phase)
{
    r->phase = phase;
    r->phase_ns = uv_hrtime();
    phase->begin(&r->b);
}

static void step(struct runner *r)
{
    if (!r->phase) {
        return;
    }
    bool done = r->phase->done(&r->b, uv_hrtime() - r->phase_ns);
    if (r->b.stop) {
        bench_finish(r);
        return;
    }
    if (done && r->phase[1].name) {
        bench_enter(r, r->phase + 1);
    } else if (done) {
        bench_finish(r);
        return;
    }
    bench_links_flush(&r->b);
    bench_pubs_pump(&r->b);
}

static void on_turn(uv_check_t *h)
{
    step(h->data);
}

static void bench_on_tick(uv_timer_t *h)
{
    (void)h; /* it wakes the loop: on_turn does the rest */
}

static void bench_on_signal(uv_signal_t *h, int signum)
{
    struct runner *r = h->data;
    (void)signum;
    if (r->phase && strcmp(r->phase->name, "measure") == 0 && !r->b.enough) {
        r->b.enough = true;
        return;
    }
    bench_note(&r->b, "interrupted");
    r->b.stop = true;
}

/* One file a connection; the soft limit goes up to the hard one. */
static int bench_raise_file_limit(const struct bench_options *o)
{
    struct rlimit limit;
    uint64_t need = o->connections + o->publishers + OWN_FILES;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return 0; /* then connections say what is wrong */
    }
    if (need > limit.rlim_max) {
        fprintf(stderr,
                "tidegate-bench: %" PRIu64 " connections need %" PRIu64
                " open files, the limit is %" PRIu64 " (ulimit -Hn)\n",
                o->connections, need, (uint64_t)limit.rlim_max);
        return UV_EMFILE;
    }
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit); /* then connections say what is wrong */
    return 0;
}

static int init_fields(struct bench *b)
{
    const struct bench_options *o = b->o;
    bool v6 = o->to.ss_family == AF_INET6;
    strbuf_init(&b->fields, FIELDS_MAX);
    int rc = strbuf_printf(&b->fields, "Host: %s%s%s:%u\r\n", v6 ? "[" : "", o->host, v6 ? "]" : "",
                           (unsigned)o->port);
    for (size_t i = 0; i < o->header_count && rc == 0; i++) {
        rc = strbuf_printf(&b->fields, "%s\r\n", o->headers[i]);
    }
    strbuf_init(&b->wanted, 2 * FIELDS_MAX);
    rc = rc ? rc : strbuf_append(&b->wanted, b->fields.data, b->fields.len);
    return rc ? rc : strbuf_append_str(&b->wanted, bench_accept(o));
}

static int init_handles(struct runner *r)
{
    uv_loop_t *loop = &r->b.loop;
    int rc = uv_loop_init(loop);
    if (rc) {
        return rc;
    }
    r->turn.data = r->tick.data = r->sigint.data = r->sigterm.data = r;
    rc = uv_check_init(loop, &r->turn);
    rc = rc ? rc : uv_timer_init(loop, &r->tick);
    rc = rc ? rc : uv_signal_init(loop, &r->sigint);
    rc = rc ? rc : uv_signal_init(loop, &r->sigterm);
    rc = rc ? rc : uv_check_start(&r->turn, on_turn);
    rc = rc ? rc : uv_timer_start(&r->tick, bench_on_tick, 1, 1);
    rc = rc ? rc : uv_signal_start(&r->sigint, bench_on_signal, SIGINT);
    return rc ? rc : uv_signal_start(&r->sigterm, bench_on_signal, SIGTERM);
}

static unsigned source_addresses(const struct bench_options *o)
{
    uint64_t needed = (o->connections + BENCH_CONNS_PER_ADDRESS - 1) / BENCH_CONNS_PER_ADDRESS;
    if (!o->local) {
        return 0;
    }
    /* churn leaves ports in TIME_WAIT behind */
    return o->mode == BENCH_CHURN ? CHURN_SOURCES : needed > 1 ? (unsigned)needed : 0;
}

static int init(struct runner *r, const struct bench_options *o)
{
    struct bench *b = &r->b;
    b->o = o;
    int rc = init_fields(b);
    rc = rc ? rc : init_handles(r);
    if (rc) {
        return rc;
    }
    if (getrandom(&b->run, sizeof b->run, 0) != (ssize_t)sizeof b->run) {
        b->run = (uint32_t)uv_hrtime();
    }
    bench_net_init(&b->net, &b->loop, &o->to, source_addresses(o));
    rc = o->tls ? bench_net_use_tls(&b->net, o->resume) : 0;
    b->topics = xcalloc(o->topics, sizeof *b->topics);
    bench_subs_init(b);
    bench_pubs_init(b);
    return rc;
}

static void clear(struct runner *r)
{
    bench_subs_clear(&r->b);
    bench_pubs_clear(&r->b);
    bench_net_clear(&r->b.net);
    free(r->b.topics);
    strbuf_clear(&r->b.fields);
    strbuf_clear(&r->b.wanted);
    free(r);
}

int bench_run(const struct bench_options *o)
{
    if (bench_raise_file_limit(o)) {
        return EX_OSERR;
    }
    struct runner *r = xcalloc(1, sizeof *r);
    int rc = init(r, o);
    if (rc) {
        fprintf(stderr, "tidegate-bench: %s\n", uv_strerror(rc));
        clear(r);
        return EX_OSERR;
    }
    bench_enter(r, o->mode == BENCH_STORM ? bench_storm_phases : bench_phases_of(o->mode));
    (void)uv_run(&r->b.loop, UV_RUN_DEFAULT);
    REQUIRE(uv_loop_close(&r->b.loop) == 0);
    unsigned wrong = bench_report_print(&r->b);
    clear(r);
    return wrong ? 1 : EX_OK;
}
