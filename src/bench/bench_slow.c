#include "bench/bench_slow.h"

#include "bench/bench_sub.h"

enum { SAMPLE_NS = 1000000000 };

static void bench_slow_sample(struct bench *b, uint64_t *into)
{
    struct bench_proc now;
    struct err e;
    if (b->o->pid && bench_proc_sample((pid_t)b->o->pid, &now, &e) == 0) {
        *into = now.pss_bytes;
        b->slow.pss_most = now.pss_bytes > b->slow.pss_most ? now.pss_bytes : b->slow.pss_most;
    }
}

void bench_slow_begin(struct bench *b)
{
    if (b->o->slow) {
        bench_subs_pause_slow(b, true);
    }
}

void bench_slow_step(struct bench *b, uint64_t ns)
{
    struct bench_slow *s = &b->slow;
    /* not at once: buffers fill first, also those of the kernel where streams are conflated for long */
    bool filled = b->o->mode != BENCH_CONFLATE || (double)ns > b->o->seconds * 5e8;
    if (b->o->slow && filled && ns - s->sampled_ns >= SAMPLE_NS) {
        s->sampled_ns = ns;
        bench_slow_sample(b, s->pss_from ? &s->pss_to : &s->pss_from);
    }
}

void bench_slow_end(struct bench *b)
{
    if (b->o->slow) {
        bench_subs_pause_slow(b, false);
    }
}

bool bench_slow_complete(const struct bench *b)
{
    bool none = b->o->slow == 0 && b->o->mode != BENCH_CONFLATE;
    return none || bench_subs_slow_missing(b) == 0;
}
