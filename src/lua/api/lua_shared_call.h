/* Shared calls of cache.fetch: one call of a function for a key, and the hooks that wait for it, of
 * every policy. The hooks continue from the loop's flush step, never from inside the call that ended
 * the shared call. */
#ifndef LUA_API_LUA_SHARED_CALL_H
#define LUA_API_LUA_SHARED_CALL_H

#include "base/container/value_cache.h"
#include "base/strbuf.h"
#include "lua/vm/lua_coro.h"

enum shared_call_state {
    SHARED_CALL_RUNS,
    SHARED_CALL_ORPHANED, /* its owner ended: the first hook that waits must run its function */
    SHARED_CALL_LANDED,   /* `text` is the value */
    SHARED_CALL_FAILED,   /* `error` says why */
};

struct shared_call {
    enum shared_call_state state; /* RUNS may be set, the others by shared_calls_end() */
    const lua_State *owner;       /* while it RUNS; for comparison only */
    struct strbuf text, error;
    size_t key_len;
    char key[VALUE_CACHE_KEY_MAX_BYTES];
};

struct shared_calls;

/* A hook that waits continues with `outcome`, whose `ud` is the shared call: in ORPHANED it must set RUNS
 * and run its function. Borrows the loop. */
struct shared_calls *shared_calls_new(struct loop *loop, size_t value_bytes, lua_coro_push outcome);
/* No shared call may be left. */
void shared_calls_free(struct shared_calls *fs);
/* The one of that key that RUNS or is ORPHANED, or NULL. */
struct shared_call *shared_calls_find(const struct shared_calls *fs, struct slice key);
struct shared_call *shared_calls_add(struct shared_calls *fs, struct slice key);
/* Who comes later does not find it; who waits gets what comes of it. */
void shared_calls_hide(struct shared_calls *fs, struct slice key);
/* May its value be kept? Not where it was hidden: what it knows is from before. */
bool shared_call_findable(const struct shared_call *f);
/* Ends the shared call; it is freed in the next flush step, unless a hook takes it over. */
void shared_calls_end(struct shared_calls *fs, struct shared_call *f, enum shared_call_state state);
/* Lets one more hook wait; pass the result to lua_coro_wait(). */
struct lua_wait shared_calls_join(struct shared_call *f, struct lua_waits *waits, uint64_t ticket);

#endif
