/* Some subscribers read nothing while it is measured: what that does to the server's memory, and
 * what they get afterwards. That it does nothing to the others, their latency tells. */
#ifndef BENCH_BENCH_SLOW_H
#define BENCH_BENCH_SLOW_H

#include "bench/bench_run.h"

void bench_slow_begin(struct bench *b);
/* Once a turn; `ns` since they stopped. */
void bench_slow_step(struct bench *b, uint64_t ns);
/* They read again. */
void bench_slow_end(struct bench *b);
/* Each has got everything, or was told that it has not. */
bool bench_slow_complete(const struct bench *b);

#endif
