/* Random delays, so that many actors do not act at the same moment: clients that reconnect, cached
 * values that expire, connections to a database. Not for secrets. */
#ifndef BASE_JITTER_H
#define BASE_JITTER_H

#include "base/hash.h"

#include <stdint.h>

struct jitter {
    uint64_t state; /* never 0 */
};

static inline void jitter_init(struct jitter *j)
{
    struct hash_key random;
    hash_key_init(&random);
    j->state = random.k0 | 1U;
}

/* Evenly from `least` to `most`, both included; xorshift64 (Marsaglia, "Xorshift RNGs", 2003). */
static inline uint64_t jitter_between(struct jitter *j, uint64_t least, uint64_t most)
{
    j->state ^= j->state << 13U;
    j->state ^= j->state >> 7U;
    j->state ^= j->state << 17U;
    return least + j->state % (most - least + 1);
}

/* `ms` spread over half to one and a half of it. */
static inline unsigned jitter_around(struct jitter *j, unsigned ms)
{
    return (unsigned)jitter_between(j, ms / 2, (uint64_t)ms / 2 + ms);
}

#endif
