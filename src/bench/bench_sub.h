/* The subscribers: they open streams and check what comes. */
#ifndef BENCH_BENCH_SUB_H
#define BENCH_BENCH_SUB_H

#include "bench/bench_run.h"

void bench_subs_init(struct bench *b);
/* Opens more of them, with a bound on those under way; once a turn until all have been told to. */
void bench_subs_open_more(struct bench *b);
/* Those that were to be opened so far (b->sub_most) have been, or not. */
static inline bool bench_subs_all_answered(const struct bench *b)
{
    return b->sub_next == b->sub_most && b->opening == 0;
}
/* No stream is open, opening or closing. */
bool bench_subs_idle(const struct bench *b);
/* Of a storm: opens those again whose turn has come, `ns` after its start. */
void bench_subs_return(struct bench *b, uint64_t ns);
/* The slow ones stop, or go on, reading. */
void bench_subs_pause_slow(struct bench *b, bool on);
/* What the slow ones still have to get. */
uint64_t bench_subs_slow_missing(const struct bench *b);
/* Counts what each of them misses of what was published into b->lost. */
void bench_subs_count_lost(struct bench *b);
void bench_subs_close(struct bench *b);
/* When no handle is left. */
void bench_subs_clear(struct bench *b);

#endif
