/* Subscribers of all topics whose newest events count (modes snapshot and conflate): a snapshot has that of each topic, and
 * no other, once, and then `live`; a stream that is conflated may miss some, and has the newest of each topic in the end. */
#ifndef BENCH_BENCH_NEWEST_H
#define BENCH_BENCH_NEWEST_H

#include "bench/bench_subscriber.h"

static inline bool bench_newest_counts(enum bench_mode mode)
{
    return mode == BENCH_SNAPSHOT || mode == BENCH_CONFLATE;
}

void bench_newest_init(struct bench_sub *s);
void bench_newest_clear(struct bench_sub *s);
void bench_newest_take(struct bench_sub *s, const struct bench_sse_event *ev, uint64_t now);
/* Topics whose newest event it has not. */
uint64_t bench_newest_missing(const struct bench_sub *s);

#endif
