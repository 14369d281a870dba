/* All hooks of the process that wait, of every policy: their tickets, limits and figures. Made before
 * the first policy, freed after the last. lua_coro.h describes how hooks wait. */
#ifndef LUA_VM_LUA_WAITS_H
#define LUA_VM_LUA_WAITS_H

#include "net/loop.h"
#include "policy/metrics.h"

#include <stdint.h>

struct lua_waits;

struct lua_waits_limits {
    unsigned suspended;             /* hooks that wait, in all */
    unsigned suspended_per_address; /* of one client; 0: no cap */
    unsigned queued; /* hooks that wait for their turn to wait; 0: they end at once */
};

/* Borrows loop and metrics. */
struct lua_waits *lua_waits_new(struct loop *loop, struct policy_metrics *metrics,
                                const struct lua_waits_limits *limits);
/* NULL is fine. No hook may wait. */
void lua_waits_free(struct lua_waits *w);
struct loop *lua_waits_loop(const struct lua_waits *w);
/* Cancels the job of that token (lua_job.token), if it waits. */
void lua_waits_cancel(struct lua_waits *w, uint64_t token);

#endif
