/* Histogram of durations: buckets that grow with the value, 128 to an octave, so that a percentile
 * is off by less than 1 % and recording costs no more than a count. */
#ifndef BENCH_MEASURE_BENCH_HIST_H
#define BENCH_MEASURE_BENCH_HIST_H

#include <stdint.h>

enum { BENCH_HIST_BUCKETS = 58 * 128 };

struct bench_hist {
    uint64_t n, max, counts[BENCH_HIST_BUCKETS];
};

void bench_hist_add(struct bench_hist *h, uint64_t value);
/* The value below or at which `percent` of all lie; 0 when there are none. */
uint64_t bench_hist_at(const struct bench_hist *h, double percent);

#endif
