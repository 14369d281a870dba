/* `sets` of a policy: what in_set() of its filter texts asks, each the answer of one of its queries. */
#ifndef LUA_LOAD_LUA_SETS_H
#define LUA_LOAD_LUA_SETS_H

#include "filter/filter.h"
#include "lua/api/lua_db.h"

#include <lua.h>
#include <stddef.h>
#include <stdint.h>

struct lua_set {
    char *name, *query, *sql; /* owned; `query` is the name of that */
    uint64_t every_ms, stale_ms;
};

struct lua_sets {
    struct lua_set *v; /* owned, sorted by name */
    size_t n;
};

/* Inside a body, before filters are read: reads `sets` of the policy at `policy` (absolute), whose
 * queries are known, and declares them in `texts`, which borrows their names. Raises for any mistake;
 * what was read by then is released by lua_sets_clear(). */
void lua_sets_read(lua_State *L, int policy, const struct lua_queries *queries,
                   struct filter_set *texts, struct lua_sets *out);
void lua_sets_clear(struct lua_sets *all);

#endif
