/* Keyed hash for tables whose keys clients choose (topics, addresses): SipHash-1-3 (Aumasson,
 * Bernstein: "SipHash: a fast short-input PRF"), so that a client cannot provoke collisions. */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

struct hash_key {
    uint64_t k0, k1;
};

/* A random key; one per table. */
void hash_key_init(struct hash_key *key);
uint64_t hash_bytes(const struct hash_key *key, const void *p, size_t n);

/* Chains of a table that never grows: a power of two, and as many as keys at least. */
static inline uint32_t hash_chains_for(uint32_t keys)
{
    uint32_t n = 16;
    while (n < keys) {
        n *= 2;
    }
    return n;
}

#endif
