/* `observe` of a policy: functions that are run for events of their topics, in log order. */
#ifndef LUA_LOAD_LUA_OBSERVE_H
#define LUA_LOAD_LUA_OBSERVE_H

#include "base/slice.h"

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>

enum { LUA_OBSERVE_MAX = 32, LUA_OBSERVE_TOPICS_MAX = 32 };

struct lua_observe {
    char **topics; /* owned: valid patterns */
    size_t n;
    int run;         /* a reference */
    char where[128]; /* "p.lua:14", where `run` is defined */
};

struct lua_observes {
    struct lua_observe *v; /* owned */
    size_t n;
};

/* Inside a body: reads the value at `idx` (absolute), the policy's `observe`; nil: there is none.
 * Raises for any mistake; what was read by then is released by lua_observes_clear(). */
void lua_observes_read(lua_State *L, int idx, struct lua_observes *out);
/* Inside a body: releases the references. */
void lua_observes_unref(lua_State *L, struct lua_observes *all);
void lua_observes_clear(struct lua_observes *all);
bool lua_observe_wants(const struct lua_observe *o, struct slice topic);

#endif
