/* The events that one subscriber got of its topic: none may be lost, doubled or out of order. */
#ifndef BENCH_MEASURE_BENCH_ORDER_H
#define BENCH_MEASURE_BENCH_ORDER_H

#include <stddef.h>
#include <stdint.h>

enum { BENCH_ORDER_HOLES = 256 };

struct bench_hole {
    uint64_t from, to; /* to: exclusive */
};

/* All zero at first. */
struct bench_order {
    uint64_t next;            /* above everything seen */
    struct bench_hole *holes; /* owned; what was jumped over, the oldest first */
    size_t hole_count;
    uint64_t given_up; /* in holes beyond BENCH_ORDER_HOLES: they count as lost for good */
};

enum bench_order_kind { BENCH_ORDER_GOOD, BENCH_ORDER_LATE, BENCH_ORDER_DOUBLED };

/* LATE: it had been jumped over, so the order was broken; it is not missing any more. */
enum bench_order_kind bench_order_take(struct bench_order *o, uint64_t seq);
/* How many of 0 ... total-1 have not come. */
uint64_t bench_order_missing(const struct bench_order *o, uint64_t total);
void bench_order_clear(struct bench_order *o);

#endif
