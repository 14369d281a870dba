#include "lua/load/lua_observe.h"

#include "base/alloc.h"
#include "event/topic.h"
#include "lua/vm/lua_shape.h"
#include "lua/vm/lua_vm.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>

/* stack: ..., entry at `t` */
static void lua_observe_topics(lua_State *L, int t, const char *entry, struct lua_observe *out)
{
    char what[64];
    snprintf(what, sizeof what, "%s.topics", entry);
    lua_shape_field(L, t, "topics");
    int list = lua_gettop(L);
    lua_Integer n = lua_shape_list(L, list, what, "topics or patterns", 1, LUA_OBSERVE_TOPICS_MAX);
    out->topics = xcalloc((size_t)n, sizeof *out->topics);
    for (lua_Integer i = 1; i <= n; i++) {
        snprintf(what, sizeof what, "%s.topics[" LUA_INTEGER_FMT "]", entry, i);
        lua_rawgeti(L, list, i);
        struct slice topic = lua_shape_string(L, -1, what);
        const char *bad = topic_pattern_check(topic);
        if (bad) {
            luaL_error(L, "%s: %s", what, bad);
        }
        out->topics[out->n++] = xstrdup(topic.p);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

static void lua_observe_run(lua_State *L, int t, const char *entry, struct lua_observe *out)
{
    lua_Debug ar;
    if (lua_shape_field(L, t, "run") != LUA_TFUNCTION) {
        luaL_error(L, "%s.run: a function was expected, got %s", entry, luaL_typename(L, -1));
    }
    lua_pushvalue(L, -1);
    lua_getinfo(L, ">S", &ar);
    snprintf(out->where, sizeof out->where, "%s:%d", ar.short_src, ar.linedefined);
    out->run = lua_vm_ref(L);
}

void lua_observes_read(lua_State *L, int idx, struct lua_observes *out)
{
    static const char *const keys[] = {"topics", "run", NULL};
    if (lua_isnil(L, idx)) {
        return;
    }
    lua_Integer n = lua_shape_list(L, idx, "observe", "tables {topics = {...}, run = function}", 1,
                                   LUA_OBSERVE_MAX);
    out->v = xcalloc((size_t)n, sizeof *out->v);
    for (lua_Integer i = 1; i <= n; i++) {
        char entry[32];
        struct lua_observe *o = &out->v[out->n++];
        o->run = LUA_NOREF;
        snprintf(entry, sizeof entry, "observe[" LUA_INTEGER_FMT "]", i);
        lua_rawgeti(L, idx, i);
        int t = lua_gettop(L);
        lua_shape_closed(L, t, entry, keys);
        lua_observe_topics(L, t, entry, o);
        lua_observe_run(L, t, entry, o);
        lua_settop(L, t - 1);
    }
}

void lua_observes_unref(lua_State *L, struct lua_observes *all)
{
    for (size_t i = 0; i < all->n; i++) {
        lua_vm_unref(L, all->v[i].run);
    }
}

void lua_observes_clear(struct lua_observes *all)
{
    for (size_t i = 0; i < all->n; i++) {
        for (size_t k = 0; k < all->v[i].n; k++) {
            free(all->v[i].topics[k]);
        }
        free(all->v[i].topics);
    }
    free(all->v);
    *all = (struct lua_observes){.v = NULL};
}

bool lua_observe_wants(const struct lua_observe *o, struct slice topic)
{
    for (size_t i = 0; i < o->n; i++) {
        if (topic_match(slice_str(o->topics[i]), topic)) {
            return true;
        }
    }
    return false;
}
