/* An LRU cache of verified tokens, bounded in bytes: 10,000 clients that reconnect at once cost
 * hashes, not signatures. The key is a digest of the token and of all options that decided (see
 * keyring.c). */
#ifndef AUTH_JWT_CACHE_H
#define AUTH_JWT_CACHE_H

#include "base/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { JWT_DIGEST_BYTES = 32 };

struct jwt_cache;

/* `max_bytes` 0: the cache stays empty. */
struct jwt_cache *jwt_cache_new(size_t max_bytes);
/* NULL is fine. */
void jwt_cache_free(struct jwt_cache *c);
/* The claims of a token that is valid at `now_s`, borrowed until the next call; absent: unknown, or
 * not valid at that time. */
struct slice jwt_cache_get(struct jwt_cache *c, const unsigned char digest[JWT_DIGEST_BYTES],
                           int64_t now_s);
/* Stores a copy of the claims, valid from `from_s` until before `till_s`. */
void jwt_cache_put(struct jwt_cache *c, const unsigned char digest[JWT_DIGEST_BYTES],
                   struct slice claims, int64_t from_s, int64_t till_s);
size_t jwt_cache_bytes(const struct jwt_cache *c);

#endif
