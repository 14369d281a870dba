/* A histogram of durations: cumulative buckets in microseconds; the last bucket is +Inf. */
#ifndef BASE_LATENCY_H
#define BASE_LATENCY_H

#include <stdint.h>

#define LATENCY_BUCKETS(X)                                                                         \
    X(100)                                                                                         \
    X(250) X(500) X(1000) X(2500) X(5000) X(10000) X(25000) X(50000) X(100000) X(250000) X(1000000)
enum {
#define X(us) +1
    LATENCY_BUCKET_COUNT = 1 LATENCY_BUCKETS(X)
#undef X
};

struct latency {
    uint64_t buckets[LATENCY_BUCKET_COUNT]; /* not cumulative here */
    uint64_t count, sum_us;
};

static inline void latency_add(struct latency *l, uint64_t us)
{
    static const uint64_t edges[] = {
#define X(edge) edge,
        LATENCY_BUCKETS(X)
#undef X
    };
    unsigned i = 0;
    while (i < LATENCY_BUCKET_COUNT - 1 && us > edges[i]) {
        i++;
    }
    l->buckets[i]++;
    l->count++;
    l->sum_us += us;
}

#endif
