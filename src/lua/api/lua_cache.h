/* cache.fetch(key, ttl, fn): answers of slow functions, shared by all hooks of the process,
 * whatever policy they belong to; they survive a reload. Values are kept as JSON: everybody gets a
 * copy.
 *
 * Concurrent callers of one key wait for the first one (its flight). When that one dies on the way,
 * its client gone or its time up, the next of them takes the flight over and runs its own function.
 */
#ifndef LUA_API_LUA_CACHE_H
#define LUA_API_LUA_CACHE_H

#include "broker/metrics.h"
#include "net/loop.h"

#include <stddef.h>

struct lua_State;
struct lua_cache;

struct lua_cache_limits {
    size_t bytes;       /* of all values and their keys */
    size_t value_bytes; /* of one value as JSON */
};

/* Made before the first policy, freed after the last. Borrows loop and metrics. */
struct lua_cache *lua_cache_new(struct loop *loop, struct broker_metrics *metrics,
                                const struct lua_cache_limits *limits);
/* NULL is fine. */
void lua_cache_free(struct lua_cache *c);
/* From now on all values are that much older, for tools that set the clock. */
void lua_cache_age(struct lua_cache *c, uint64_t ms);

/* Inside a body: pushes the library table `cache` of policies. */
void lua_cache_open(struct lua_State *L);

#endif
