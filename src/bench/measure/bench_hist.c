#include "bench/measure/bench_hist.h"

#include <math.h>

enum { PER_OCTAVE = 128, PER_OCTAVE_BITS = 7 };

/* Values below PER_OCTAVE have a bucket each; above, the highest 8 bits choose it. */
static unsigned bucket_of(uint64_t value)
{
    if (value < PER_OCTAVE) {
        return (unsigned)value;
    }
    unsigned shift = 63U - (unsigned)__builtin_clzll(value) - PER_OCTAVE_BITS;
    return (shift + 1) * PER_OCTAVE + (unsigned)((value >> shift) & (PER_OCTAVE - 1));
}

/* The middle of a bucket. */
static uint64_t value_of(unsigned bucket)
{
    if (bucket < PER_OCTAVE) {
        return bucket;
    }
    unsigned shift = bucket / PER_OCTAVE - 1;
    uint64_t low = ((uint64_t)PER_OCTAVE + bucket % PER_OCTAVE) << shift;
    return low + ((1ULL << shift) >> 1);
}

void bench_hist_add(struct bench_hist *h, uint64_t value)
{
    h->n++;
    h->counts[bucket_of(value)]++;
    if (value > h->max) {
        h->max = value;
    }
}

uint64_t bench_hist_at(const struct bench_hist *h, double percent)
{
    uint64_t rank = (uint64_t)ceil((double)h->n * percent / 100), seen = 0;
    for (unsigned i = 0; i < BENCH_HIST_BUCKETS && h->n; i++) {
        seen += h->counts[i];
        if (seen >= rank && seen) {
            uint64_t value = value_of(i);
            return value < h->max ? value : h->max;
        }
    }
    return h->max;
}
