/* A histogram of durations. Its buckets are fixed, so that a sample is a few comparisons, and the values of
 * several workers can be added up. The last bucket is +Inf. */
#ifndef BASE_LATENCY_H
#define BASE_LATENCY_H

#include <stdint.h>

/* Upper bounds in microseconds. */
#define LATENCY_BUCKETS(X)                                                                         \
    X(10)                                                                                          \
    X(50)                                                                                          \
    X(100)                                                                                         \
    X(250)                                                                                         \
    X(500)                                                                                         \
    X(1000)                                                                                        \
    X(2500) X(5000) X(10000) X(25000) X(50000) X(100000) X(250000) X(1000000) X(2500000) X(10000000)
enum {
#define X(us) +1
    LATENCY_BUCKET_COUNT = 1 LATENCY_BUCKETS(X)
#undef X
};

struct latency {
    uint64_t buckets[LATENCY_BUCKET_COUNT]; /* not cumulative here */
    uint64_t count, sum_ns;
};

static inline void latency_add_ns(struct latency *l, uint64_t ns)
{
    static const uint64_t edges_ns[] = {
#define X(us) us##ULL * 1000,
        LATENCY_BUCKETS(X)
#undef X
    };
    unsigned i = 0;
    while (i < LATENCY_BUCKET_COUNT - 1 && ns > edges_ns[i]) {
        i++;
    }
    l->buckets[i]++;
    l->count++;
    l->sum_ns += ns;
}

static inline void latency_add(struct latency *l, uint64_t us)
{
    latency_add_ns(l, us * 1000);
}

#endif
