#include "bench/bench_storm.h"

#include "bench/bench_pub.h"
#include "bench/bench_sub.h"

#include <inttypes.h>
#include <stdlib.h>

/* ---------------------------------------------------------------- before, cut */

static void begin_events(struct bench *b)
{
    b->window = 0;
    b->progress_ns = uv_hrtime();
    bench_pubs_start(b, UINT64_MAX, b->o->preload);
}

/* All were acknowledged; those who are there have got them. */
static bool done_events(struct bench *b, uint64_t ns)
{
    (void)ns;
    bool complete = b->counts.published == b->storm.events * b->o->topics &&
                    bench_pubs_waiting(b) == 0 && (b->storm.cutting || b->undelivered <= 0);
    if (!complete && bench_no_progress(b, b->o->drain)) {
        bench_note(b, "storm: %" PRIu64 " of %" PRIu64 " events were acknowledged", b->counts.acked,
                   b->counts.published);
        b->stop = true;
    }
    b->publishing = !complete;
    return complete;
}

static void begin_before(struct bench *b)
{
    b->storm.events = b->o->preload;
    begin_events(b);
}

static void on_command_end(uv_process_t *p, int64_t status, int signum)
{
    struct bench *b = p->data;
    if (status || signum) {
        bench_note(b, "--restart-command ended with code %d, signal %d", (int)status, signum);
        b->stop = true;
    }
    b->storm.command_ended = true;
    uv_close((uv_handle_t *)p, NULL);
}

static void run_command(struct bench *b)
{
    char sh[] = "/bin/sh", option[] = "-c";
    char *args[] = {sh, option, (char *)(uintptr_t)b->o->restart_command, NULL};
    uv_stdio_container_t stdio[3] = {{.flags = UV_IGNORE},
                                     {.flags = UV_INHERIT_FD, .data.fd = 2},
                                     {.flags = UV_INHERIT_FD, .data.fd = 2}};
    uv_process_options_t options = {
        .exit_cb = on_command_end, .file = sh, .args = args, .stdio = stdio, .stdio_count = 3};
    b->storm.command.data = b;
    int rc = uv_spawn(&b->loop, &b->storm.command, &options);
    if (rc) {
        bench_note(b, "--restart-command: %s", uv_strerror(rc));
        b->storm.command_ended = b->stop = true;
        uv_close((uv_handle_t *)&b->storm.command, NULL);
    }
}

static void begin_cut(struct bench *b)
{
    b->storm.cutting = true;
    b->progress_ns = uv_hrtime();
    bench_pubs_close(b);
    if (b->o->restart_command) {
        run_command(b);
    } else {
        b->storm.command_ended = true;
        bench_subs_close(b);
    }
}

static bool done_cut(struct bench *b, uint64_t ns)
{
    (void)ns;
    if (b->storm.command_ended && bench_subs_idle(b) && bench_pubs_idle(b)) {
        return true;
    }
    if (b->storm.command_ended && bench_no_progress(b, b->o->drain)) {
        bench_note(b, "storm: not every stream ended");
        b->stop = true;
    }
    return false;
}

/* ---------------------------------------------------------------- away, back, after */

static void begin_missed(struct bench *b)
{
    b->storm.events += b->o->preload;
    begin_events(b);
}

static void begin_storm(struct bench *b)
{
    bench_begin_measuring(b);
    b->storm.from_ns = b->from.at_ns;
    b->connect_ns[0] = b->from.at_ns;
}

static bool done_storm(struct bench *b, uint64_t ns)
{
    bench_subs_return(b, ns);
    if (b->storm.live < b->o->connections && !bench_no_progress(b, b->o->drain + b->o->spread)) {
        return false;
    }
    b->storm.live_all_ns = uv_hrtime() - b->storm.from_ns;
    b->connect_ns[1] = uv_hrtime();
    return true;
}

static void begin_after(struct bench *b)
{
    b->storm.cutting = false;
    b->storm.events += 1;
    b->window = 0;
    b->progress_ns = uv_hrtime();
    bench_pubs_start(b, UINT64_MAX, 1);
}

static bool done_after(struct bench *b, uint64_t ns)
{
    (void)ns;
    bool complete = b->counts.published == b->storm.events * b->o->topics &&
                    bench_pubs_waiting(b) == 0 && b->undelivered <= 0;
    if (!complete && !bench_no_progress(b, b->o->drain)) {
        return false;
    }
    b->publishing = false;
    bench_end_measuring(b);
    return true;
}

const struct bench_phase bench_storm_phases[] = {
    {"connect", bench_phase_begin_connect, bench_phase_done_connect},
    {"publishers", bench_phase_begin_publishers, bench_phase_done_publishers},
    {"before", begin_before, done_events},
    {"cut", begin_cut, done_cut},
    {"publishers again", bench_phase_begin_publishers, bench_phase_done_publishers},
    {"missed", begin_missed, done_events},
    {"storm", begin_storm, done_storm},
    {"after", begin_after, done_after},
    {NULL, NULL, NULL},
};
