/* See bench_phases.h. Every phase is bounded: by a time, or by a time without progress. */
#include "bench/bench_phases.h"

#include "bench/bench_pub.h"
#include "bench/bench_slow.h"
#include "bench/bench_sub.h"

#include <inttypes.h>

enum { CONNECT_PATIENCE_S = 10, RUN_MAX_S = 3600 };

static uint64_t ns_of(double seconds)
{
    return (uint64_t)(seconds * 1e9);
}

bool bench_no_progress(const struct bench *b, double seconds)
{
    uint64_t now = uv_hrtime();
    return now > b->progress_ns && now - b->progress_ns > ns_of(seconds);
}

/* ---------------------------------------------------------------- samples */

static void bench_phases_take_sample(struct bench *b, struct bench_sample *s, bool memory)
{
    struct err e = {0};
    pid_t pid = (pid_t)b->o->pid;
    s->machine_busy_ns = bench_proc_machine_busy_ns();
    if (pid && (memory ? bench_proc_sample(pid, &s->server, &e)
                       : bench_proc_sample_cpu(pid, &s->server, &e))) {
        bench_note(b, "%s", e.text);
        b->stop = true;
    }
    s->own_cpu_ns = bench_proc_own_cpu_ns();
    s->counts = b->counts;
    s->at_ns = uv_hrtime();
}

void bench_begin_measuring(struct bench *b)
{
    bench_phases_take_sample(b, &b->from, false);
    b->measuring = true;
    b->progress_ns = b->from.at_ns;
}

void bench_end_measuring(struct bench *b)
{
    b->measuring = false;
    bench_phases_take_sample(b, &b->to, false);
}

/* ---------------------------------------------------------------- connecting */

void bench_phase_begin_connect(struct bench *b)
{
    bench_phases_take_sample(b, &b->empty, true);
    b->connect_ns[0] = b->progress_ns = uv_hrtime();
}

bool bench_phase_done_connect(struct bench *b, uint64_t ns)
{
    (void)ns;
    bench_subs_open_more(b);
    b->connect_ns[1] = uv_hrtime();
    if (!bench_subs_all_answered(b) && !bench_no_progress(b, CONNECT_PATIENCE_S)) {
        return false;
    }
    if (b->opening) {
        bench_note(b, "subscribe: %" PRIu64 " connections without an answer", b->opening);
    }
    b->stop |= b->counts.opened == 0; /* nobody is there to measure */
    return true;
}

void bench_phase_begin_publishers(struct bench *b)
{
    b->progress_ns = uv_hrtime();
    bench_pubs_open(b);
}

bool bench_phase_done_publishers(struct bench *b, uint64_t ns)
{
    if (ns > ns_of(CONNECT_PATIENCE_S) && !bench_pubs_ready(b)) {
        bench_note(b, "the publishing connections do not open");
        b->stop = true;
    }
    return bench_pubs_ready(b);
}

static void begin_settle(struct bench *b)
{
    (void)b;
}

static bool done_settle(struct bench *b, uint64_t ns)
{
    if (ns < ns_of(b->o->settle)) {
        return false;
    }
    bench_phases_take_sample(b, &b->filled, true);
    return true;
}

/* ---------------------------------------------------------------- publishing */

static void begin_warmup(struct bench *b)
{
    uint64_t each = (b->o->connections + b->o->topics - 1) / b->o->topics;
    b->window = b->o->rate > 0 ? 0 : (int64_t)(b->o->window * each);
    bench_pubs_start(b, b->o->events ? b->o->events : UINT64_MAX, UINT64_MAX);
}

static bool done_warmup(struct bench *b, uint64_t ns)
{
    return ns >= ns_of(b->o->warmup) || b->events_left == 0;
}

static void begin_measure(struct bench *b)
{
    bench_begin_measuring(b);
    bench_slow_begin(b);
}

static bool done_measure(struct bench *b, uint64_t ns)
{
    bench_slow_step(b, ns);
    bool stuck = b->o->rate == 0 && bench_no_progress(b, b->o->drain);
    bool over = ns >= (b->o->events ? ns_of(RUN_MAX_S) : ns_of(b->o->seconds)) || b->enough;
    if (!over && !stuck && b->events_left) {
        return false;
    }
    b->publishing = false;
    return true;
}

static void begin_drain(struct bench *b)
{
    bench_slow_end(b);
    b->progress_ns = uv_hrtime();
}

static bool done_drain(struct bench *b, uint64_t ns)
{
    (void)ns;
    bool complete = b->undelivered <= 0 && bench_pubs_waiting(b) == 0 && bench_slow_complete(b);
    if (!complete && !bench_no_progress(b, b->o->drain)) {
        return false;
    }
    bench_end_measuring(b);
    bench_phases_take_sample(b, &b->after, true);
    return true;
}

/* ---------------------------------------------------------------- replay */

static void begin_preload(struct bench *b)
{
    bench_phases_take_sample(b, &b->empty, true);
    b->progress_ns = uv_hrtime();
    bench_pubs_start(b, UINT64_MAX, b->o->preload);
}

static bool done_preload(struct bench *b, uint64_t ns)
{
    (void)ns;
    uint64_t all = b->o->preload * b->o->topics;
    bool complete = b->counts.published == all && bench_pubs_waiting(b) == 0;
    b->stop |= !complete && bench_no_progress(b, b->o->drain);
    if (b->stop) {
        bench_note(b, "preload: %" PRIu64 " of %" PRIu64 " were acknowledged", b->counts.acked,
                   all);
    }
    b->publishing = !complete;
    return complete;
}

static void begin_replay(struct bench *b)
{
    bench_begin_measuring(b);
    b->connect_ns[0] = b->from.at_ns;
}

static bool done_replay(struct bench *b, uint64_t ns)
{
    (void)ns;
    bench_subs_open_more(b);
    if (!bench_subs_all_answered(b)) {
        b->connect_ns[1] = uv_hrtime();
    }
    bool complete = bench_subs_all_answered(b) && b->counts.replayed >= b->counts.opened;
    if (!complete && !bench_no_progress(b, b->o->drain)) {
        return false;
    }
    bench_end_measuring(b);
    return true;
}

/* ---------------------------------------------------------------- churn, idle */

static void begin_churn(struct bench *b)
{
    bench_begin_measuring(b);
    b->reopening = true;
}

static bool done_churn(struct bench *b, uint64_t ns)
{
    bench_subs_open_more(b);
    bool enough = b->o->events && b->counts.opened >= b->o->events;
    if (ns < ns_of(b->o->seconds) && !enough && b->counts.failed < b->o->connections &&
        !bench_no_progress(b, CONNECT_PATIENCE_S)) {
        return false;
    }
    b->reopening = false;
    bench_end_measuring(b);
    return true;
}

/* With HTTP/2 each connection gets one stream first: what it costs, and then what each further one does. */
static void begin_link(struct bench *b)
{
    bench_phase_begin_connect(b);
    b->sub_most = b->o->streams > 1 ? b->link_count : b->o->connections;
}

static bool done_linked(struct bench *b, uint64_t ns)
{
    if (b->o->streams == 1) {
        return true; /* all are there, and settle in the phase after the next */
    }
    if (ns < ns_of(b->o->settle)) {
        return false;
    }
    bench_phases_take_sample(b, &b->linked, true);
    b->sub_most = b->o->connections;
    b->progress_ns = uv_hrtime();
    return true;
}

static bool done_hold(struct bench *b, uint64_t ns)
{
    if (ns < ns_of(b->o->seconds)) {
        return false;
    }
    bench_phases_take_sample(b, &b->filled, true);
    bench_end_measuring(b);
    return true;
}

/* ---------------------------------------------------------------- which */

static const struct bench_phase deliver[] = {
    {"connect", bench_phase_begin_connect, bench_phase_done_connect},
    {"publishers", bench_phase_begin_publishers, bench_phase_done_publishers},
    {"settle", begin_settle, done_settle},
    {"warm-up", begin_warmup, done_warmup},
    {"measure", begin_measure, done_measure},
    {"drain", begin_drain, done_drain},
    {NULL, NULL, NULL},
};

static const struct bench_phase *const publish = &deliver[1];

static const struct bench_phase replay[] = {
    {"publishers", bench_phase_begin_publishers, bench_phase_done_publishers},
    {"preload", begin_preload, done_preload},
    {"settle", begin_settle, done_settle},
    {"replay", begin_replay, done_replay},
    {NULL, NULL, NULL},
};

static const struct bench_phase churn[] = {
    {"churn", begin_churn, done_churn},
    {NULL, NULL, NULL},
};

static const struct bench_phase idle[] = {
    {"connect", begin_link, bench_phase_done_connect},
    {"settle", begin_settle, done_linked},
    {"further streams", begin_settle, bench_phase_done_connect},
    {"settle", begin_settle, done_settle},
    {"hold", bench_begin_measuring, done_hold},
    {NULL, NULL, NULL},
};

const struct bench_phase *bench_phases_of(enum bench_mode mode)
{
    switch (mode) {
    case BENCH_PUBLISH:
        return publish;
    case BENCH_REPLAY:
    case BENCH_SNAPSHOT:
        return replay;
    case BENCH_CHURN:
        return churn;
    case BENCH_IDLE:
        return idle;
    case BENCH_STORM: /* see bench_storm.h */
    case BENCH_FAN_OUT:
    case BENCH_TOPICS:
    case BENCH_CONFLATE:
    case BENCH_MODE_COUNT:
        break;
    }
    return deliver;
}
