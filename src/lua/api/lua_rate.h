/* tg.rate(): token buckets that all policies of all workers share. */
#ifndef LUA_API_LUA_RATE_H
#define LUA_API_LUA_RATE_H

#include "base/log_pace.h"
#include "quota/metrics.h"
#include "quota/rate_table.h"

#include <lua.h>

/* The owner of the broker owns it; it outlives the policies. */
struct lua_rates {
    struct rate_table *table;
    uint64_t (*now_ns)(void *ctx); /* never goes back */
    void *ctx;
    struct quota_metrics *metrics;
    struct log_pace pace; /* of lines about a table that is full */
};

/* tg.rate(name, key, {per_s, burst}) -> true; false, seconds to wait */
int lua_rate(lua_State *L);

#endif
