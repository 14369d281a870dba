/* What a run found, for people and for programs. */
#ifndef BENCH_BENCH_REPORT_H
#define BENCH_BENCH_REPORT_H

#include "bench/bench_run.h"

/* Prints to stdout, and what is wrong to stderr. Returns how many things are wrong. */
unsigned bench_report_print(const struct bench *b);

#endif
