#include "bench/measure/bench_order.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

static void remove_hole(struct bench_order *o, size_t i)
{
    o->hole_count--;
    memmove(&o->holes[i], &o->holes[i + 1], (o->hole_count - i) * sizeof *o->holes);
}

static void insert_hole(struct bench_order *o, size_t i, uint64_t from, uint64_t to)
{
    if (!o->holes) {
        o->holes = xcalloc(BENCH_ORDER_HOLES, sizeof *o->holes);
    }
    if (o->hole_count == BENCH_ORDER_HOLES) {
        o->given_up += o->holes[0].to - o->holes[0].from;
        remove_hole(o, 0);
        i = i ? i - 1 : 0;
    }
    memmove(&o->holes[i + 1], &o->holes[i], (o->hole_count - i) * sizeof *o->holes);
    o->holes[i] = (struct bench_hole){from, to};
    o->hole_count++;
}

/* Takes `seq` out of hole `i`, which holds it. */
static void bench_order_fill(struct bench_order *o, size_t i, uint64_t seq)
{
    struct bench_hole *h = &o->holes[i];
    uint64_t to = h->to;
    if (h->from == seq) {
        h->from++;
    } else {
        h->to = seq;
        if (seq + 1 < to) {
            insert_hole(o, i + 1, seq + 1, to);
        }
        return;
    }
    if (h->from == h->to) {
        remove_hole(o, i);
    }
}

enum bench_order_kind bench_order_take(struct bench_order *o, uint64_t seq)
{
    if (seq >= o->next) {
        if (seq > o->next) {
            insert_hole(o, o->hole_count, o->next, seq);
        }
        o->next = seq + 1;
        return BENCH_ORDER_GOOD;
    }
    for (size_t i = 0; i < o->hole_count; i++) {
        if (seq >= o->holes[i].from && seq < o->holes[i].to) {
            bench_order_fill(o, i, seq);
            return BENCH_ORDER_LATE;
        }
    }
    return BENCH_ORDER_DOUBLED;
}

uint64_t bench_order_missing(const struct bench_order *o, uint64_t total)
{
    uint64_t missing = o->given_up + (total > o->next ? total - o->next : 0);
    for (size_t i = 0; i < o->hole_count; i++) {
        missing += o->holes[i].to - o->holes[i].from;
    }
    return missing;
}

void bench_order_clear(struct bench_order *o)
{
    free(o->holes);
    *o = (struct bench_order){0};
}
