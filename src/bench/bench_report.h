/* What a run found, for people and for programs. */
#ifndef BENCH_BENCH_REPORT_H
#define BENCH_BENCH_REPORT_H

#include "bench/bench_run.h"

/* Prints the report to stdout and the problems to stderr. Returns the number of problems. */
unsigned bench_report_print(const struct bench *b);

#endif
