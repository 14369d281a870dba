#include "lua/load/lua_sets.h"

#include "base/alloc.h"
#include "lua/vm/lua_shape.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SECONDS_MAX = 30 * 86400, STALE_TIMES = 2 };

static const struct lua_query *lua_sets_find_query(lua_State *L, const struct lua_queries *queries,
                                                   const char *what, struct slice name)
{
    const char *names[FILTER_SETS_MAX * 4];
    size_t n = 0;
    for (size_t i = 0; i < queries->n; i++) {
        if (slice_is(name, queries->v[i].name)) {
            return &queries->v[i];
        }
        if (n < sizeof names / sizeof *names) {
            names[n++] = queries->v[i].name;
        }
    }
    lua_shape_unknown(L, what, "query", name.p, names, n);
    return NULL;
}

/* stack: ..., the table of the set at `t` */
static void lua_sets_read_query(lua_State *L, int policy, int t, const struct lua_queries *queries,
                                struct lua_set *out)
{
    char what[LUA_SHAPE_NAME_MAX + 16];
    snprintf(what, sizeof what, "sets.%s.query", out->name);
    lua_shape_field(L, t, "query");
    struct slice name = lua_shape_string(L, -1, what);
    const struct lua_query *query = lua_sets_find_query(L, queries, what, name);
    if (!query) {
        return; /* not reached: it has raised */
    }
    unsigned parameters = queries->source->ops->parameters(query->query);
    if (parameters) {
        luaL_error(L, "%s: '%s' takes %d argument%s; the query of a set takes none", what,
                   query->name, (int)parameters, parameters == 1 ? "" : "s");
    }
    out->query = xstrdup(query->name);
    lua_shape_field(L, policy, "queries");
    lua_shape_field(L, lua_gettop(L), query->name);
    out->sql = xstrdup(lua_tostring(L, -1)); /* a text: it was declared */
    lua_settop(L, t);
}

static uint64_t lua_sets_seconds(lua_State *L, int t, const char *set, const char *key)
{
    char what[LUA_SHAPE_NAME_MAX + 32];
    snprintf(what, sizeof what, "sets.%s.%s", set, key);
    if (lua_shape_field(L, t, key) == LUA_TNIL) {
        luaL_error(L, "%s: missing; a number of seconds was expected", what);
    }
    lua_Integer seconds = lua_shape_integer(L, lua_gettop(L), what, 1, SECONDS_MAX);
    lua_pop(L, 1);
    return (uint64_t)seconds * 1000;
}

/* stack: ..., name, set */
static void lua_sets_read_one(lua_State *L, int policy, const struct lua_queries *queries,
                              struct lua_sets *out)
{
    static const char *const keys[] = {"query", "every", "stale", NULL};
    char what[LUA_SHAPE_NAME_MAX + 16];
    struct slice name = lua_shape_name(L, -2, "sets");
    int t = lua_gettop(L);
    snprintf(what, sizeof what, "sets.%s", name.p);
    lua_shape_closed(L, t, what, keys);
    if (out->n == FILTER_SETS_MAX) {
        luaL_error(L, "sets: more than %d", (int)FILTER_SETS_MAX);
    }
    out->v = xrealloc(out->v, (out->n + 1) * sizeof *out->v);
    struct lua_set *set = &out->v[out->n];
    *set = (struct lua_set){.name = xstrdup(name.p)};
    out->n++; /* owned from here on, whatever is raised */
    lua_sets_read_query(L, policy, t, queries, set);
    set->every_ms = lua_sets_seconds(L, t, set->name, "every");
    set->stale_ms = lua_sets_seconds(L, t, set->name, "stale");
    if (set->stale_ms < STALE_TIMES * set->every_ms) {
        luaL_error(L, "sets.%s.stale: at least twice `every` was expected: one load may fail",
                   set->name);
    }
}

static int lua_sets_by_name(const void *a, const void *b)
{
    const struct lua_set *x = a, *y = b;
    return strcmp(x->name, y->name);
}

void lua_sets_read(lua_State *L, int policy, const struct lua_queries *queries,
                   struct filter_set *texts, struct lua_sets *out)
{
    int type = lua_shape_field(L, policy, "sets");
    int t = lua_gettop(L);
    if (type != LUA_TNIL && type != LUA_TTABLE) {
        luaL_error(L,
                   "sets: a table of sets {query = name, every = seconds, stale = seconds} was "
                   "expected, got %s",
                   lua_typename(L, type));
    }
    if (type == LUA_TTABLE) {
        lua_pushnil(L);
        while (lua_next(L, t)) {
            lua_sets_read_one(L, policy, queries, out);
            lua_pop(L, 1);
        }
    }
    lua_settop(L, t - 1);
    if (out->n) {
        qsort(out->v, out->n, sizeof *out->v, lua_sets_by_name);
    }
    for (size_t i = 0; i < out->n; i++) {
        (void)filter_set_add_values(texts, out->v[i].name); /* there are not too many */
    }
}

void lua_sets_clear(struct lua_sets *all)
{
    for (size_t i = 0; i < all->n; i++) {
        free(all->v[i].name);
        free(all->v[i].query);
        free(all->v[i].sql);
    }
    free(all->v);
    *all = (struct lua_sets){.v = NULL};
}
