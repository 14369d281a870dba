/* A bounded LRU cache of texts, each with the time until which it is fresh. Knows nothing of Lua;
 * times are the caller's, of any clock. */
#ifndef BASE_CONTAINER_VALUE_CACHE_H
#define BASE_CONTAINER_VALUE_CACHE_H

#include "base/slice.h"

#include <stdint.h>

enum { VALUE_CACHE_KEY_MAX_BYTES = 1024 };

struct value_cache;

struct cached_value {
    struct slice text;    /* borrowed until the cache is changed */
    uint64_t fresh_until; /* ms */
    uint64_t expired_at;  /* when it first expired; it is stale from then on */
};

struct value_cache_figures {
    uint64_t bytes, entries, evictions;
};

struct value_cache *value_cache_new(size_t max_bytes);
/* NULL is fine. */
void value_cache_free(struct value_cache *c);
/* False: unknown. Marks the value as used. */
bool value_cache_get(struct value_cache *c, struct slice key, struct cached_value *out);
/* Replaces the value of the key. A value that does not fit is not stored. */
void value_cache_put(struct value_cache *c, struct slice key, struct slice text,
                     uint64_t fresh_until);
/* No effect if the key is unknown. */
void value_cache_del(struct value_cache *c, struct slice key);
/* Lets a stale value be used until `fresh_until`. */
void value_cache_extend(struct value_cache *c, struct slice key, uint64_t fresh_until);
struct value_cache_figures value_cache_figures(const struct value_cache *c);

#endif
