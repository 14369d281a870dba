/* Texts by key, with a time they are fresh until, in a bounded amount of memory: who was not asked
 * for longest leaves first. Knows nothing of Lua; times are the caller's, of any clock. */
#ifndef BASE_VALUE_CACHE_H
#define BASE_VALUE_CACHE_H

#include "base/slice.h"

#include <stdint.h>

enum { VALUE_CACHE_KEY_MAX_BYTES = 1024 };

struct value_cache;

struct cached_value {
    struct slice text;    /* borrowed until the cache is changed */
    uint64_t fresh_until; /* ms */
    uint64_t expired_at;  /* when it was due for the first time: later than that it is old */
};

struct value_cache_figures {
    uint64_t bytes, entries, evictions;
};

struct value_cache *value_cache_new(size_t max_bytes);
/* NULL is fine. */
void value_cache_free(struct value_cache *c);
/* False: unknown. Counts as being asked for. */
bool value_cache_get(struct value_cache *c, struct slice key, struct cached_value *out);
/* Replaces what is there; what does not fit is not kept. */
void value_cache_put(struct value_cache *c, struct slice key, struct slice text,
                     uint64_t fresh_until);
/* Nothing where it is unknown. */
void value_cache_del(struct value_cache *c, struct slice key);
/* Still good for that long, though it is old. */
void value_cache_extend(struct value_cache *c, struct slice key, uint64_t fresh_until);
struct value_cache_figures value_cache_figures(const struct value_cache *c);

#endif
