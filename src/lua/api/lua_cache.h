/* cache.fetch(key, ttl, fn): caches results of slow functions for all hooks of the process, of every
 * policy; they survive a reload. Values are stored as JSON: each caller gets a copy.
 *
 * Concurrent callers of one key share one call of the function (a shared call) and wait for it. If its
 * owner ends early, because its client disconnected or its time is up, the next caller takes over the
 * shared call and runs its own function. */
#ifndef LUA_API_LUA_CACHE_H
#define LUA_API_LUA_CACHE_H

#include "net/loop.h"
#include "policy/metrics.h"

#include <stddef.h>

struct lua_State;
struct lua_cache;

struct lua_cache_limits {
    size_t bytes;       /* of all values and their keys */
    size_t value_bytes; /* of one value as JSON */
};

/* Made before the first policy, freed after the last. Borrows loop and metrics. */
struct lua_cache *lua_cache_new(struct loop *loop, struct policy_metrics *metrics,
                                const struct lua_cache_limits *limits);
/* NULL is fine. */
void lua_cache_free(struct lua_cache *c);
/* Makes all values `ms` older, for tools that set the clock. */
void lua_cache_age(struct lua_cache *c, uint64_t ms);

/* Inside a body: pushes the library table `cache` of policies. */
void lua_cache_open(struct lua_State *L);

#endif
