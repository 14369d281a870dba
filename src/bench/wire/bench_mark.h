/* What every payload begins with: which run, topic and place in its topic's order, and when it was
 * sent. Made of characters that survive URLs, JSON texts and forms. Pure. */
#ifndef BENCH_WIRE_BENCH_MARK_H
#define BENCH_WIRE_BENCH_MARK_H

#include "base/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BENCH_MARK_MAX = 68 };

struct bench_mark {
    uint32_t run, topic;
    uint64_t seq;     /* 0, 1, 2 ... within its topic; like the next, below 10^19 */
    uint64_t sent_ns; /* monotonic */
};

/* Returns how many bytes of `out` were written; there is no NUL behind them. */
size_t bench_mark_write(char out[BENCH_MARK_MAX], const struct bench_mark *m);
/* The first mark in `text`; `*at` is where it begins. */
bool bench_mark_find(struct slice text, struct bench_mark *out, size_t *at);

#endif
