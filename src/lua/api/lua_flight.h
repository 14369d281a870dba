/* Flights of cache.fetch: one shared call of a function for a key, and the hooks that wait for it, of
 * every policy. The hooks continue from the loop's flush step, never from inside the call that ended
 * the flight. */
#ifndef LUA_API_LUA_FLIGHT_H
#define LUA_API_LUA_FLIGHT_H

#include "base/strbuf.h"
#include "base/value_cache.h"
#include "lua/vm/lua_coro.h"

enum flight_state {
    FLIGHT_RUNS,
    FLIGHT_ORPHANED, /* its owner ended: the first hook that waits must run its function */
    FLIGHT_LANDED,   /* `text` is the value */
    FLIGHT_FAILED,   /* `error` says why */
};

struct flight {
    enum flight_state state; /* RUNS may be set, the others by flights_end() */
    const lua_State *owner;  /* while it RUNS; for comparison only */
    struct strbuf text, error;
    size_t key_len;
    char key[VALUE_CACHE_KEY_MAX_BYTES];
};

struct flights;

/* A hook that waits continues with `outcome`, whose `ud` is the flight: in ORPHANED it must set RUNS
 * and run its function. Borrows the loop. */
struct flights *flights_new(struct loop *loop, size_t value_bytes, lua_coro_push outcome);
/* No flight may be left. */
void flights_free(struct flights *fs);
/* The one of that key that RUNS or is ORPHANED, or NULL. */
struct flight *flights_find(const struct flights *fs, struct slice key);
struct flight *flights_add(struct flights *fs, struct slice key);
/* Ends the flight; it is freed in the next flush step, unless a hook takes it over. */
void flights_end(struct flights *fs, struct flight *f, enum flight_state state);
/* Lets one more hook wait; pass the result to lua_coro_wait(). */
struct lua_wait flights_join(struct flight *f, struct lua_waits *waits, uint64_t ticket);

#endif
