/* The storm: every subscriber loses its stream at once, events are published meanwhile, then all of
 * them come back within a given time, each with the id it saw last. */
#ifndef BENCH_BENCH_STORM_H
#define BENCH_BENCH_STORM_H

#include "bench/bench_phases.h"

extern const struct bench_phase bench_storm_phases[];

#endif
