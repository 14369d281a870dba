/* `tidegate-bench`: loads a broker, this one or any other that speaks server-sent events, and
 * checks for every subscriber that nothing was lost, doubled or reordered. */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include "bench/bench_options.h"

/* Runs, and prints the report on stdout. Answers the exit code: 0 all is well, 1 something was
 * lost, doubled, reordered, refused, or did not open (stderr says what), 71 the system lacks
 * something. */
int bench_run(const struct bench_options *o);

#endif
