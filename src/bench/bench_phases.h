/* A run is a list of phases: connect, warm up, measure ... */
#ifndef BENCH_BENCH_PHASES_H
#define BENCH_BENCH_PHASES_H

#include "bench/bench_run.h"

struct bench_phase {
    const char *name;
    void (*begin)(struct bench *b);
    /* Asked once a turn, and every millisecond; `ns` is how long the phase has lasted. */
    bool (*done)(struct bench *b, uint64_t ns);
};

/* Parts of phases that bench_storm.c shares. */
bool bench_no_progress(const struct bench *b, double seconds);
void bench_begin_measuring(struct bench *b);
void bench_end_measuring(struct bench *b);
void bench_phase_begin_connect(struct bench *b);
bool bench_phase_done_connect(struct bench *b, uint64_t ns);
void bench_phase_begin_publishers(struct bench *b);
bool bench_phase_done_publishers(struct bench *b, uint64_t ns);

/* Those of `mode`, which is not BENCH_STORM; the last one has no name. */
const struct bench_phase *bench_phases_of(enum bench_mode mode);

#endif
