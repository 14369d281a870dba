/* Tokens that were verified, so that 10,000 clients that come back at once cost hashes and not
 * signatures. Keyed by a digest of all that decided (see keyring.c), bounded in bytes, the least
 * recently used goes first. */
#ifndef AUTH_JWT_CACHE_H
#define AUTH_JWT_CACHE_H

#include "base/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { JWT_DIGEST_BYTES = 32 };

struct jwt_cache;

/* `max_bytes` 0: nothing is ever kept. */
struct jwt_cache *jwt_cache_new(size_t max_bytes);
/* NULL is fine. */
void jwt_cache_free(struct jwt_cache *c);
/* The claims of a token that is good at `now_s`, borrowed until the next call; absent: unknown, or
 * its time is over. */
struct slice jwt_cache_get(struct jwt_cache *c, const unsigned char digest[JWT_DIGEST_BYTES],
                           int64_t now_s);
/* Keeps a copy of the claims for moments from `from_s` until before `till_s`. */
void jwt_cache_put(struct jwt_cache *c, const unsigned char digest[JWT_DIGEST_BYTES],
                   struct slice claims, int64_t from_s, int64_t till_s);
size_t jwt_cache_bytes(const struct jwt_cache *c);

#endif
