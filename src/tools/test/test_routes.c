#include "tools/test/test_routes.h"

#include <lauxlib.h>
#include <string.h>

/* The text at the top, which goes: kept in the table at `keep`. NULL: there is none. */
static const char *test_routes_text(lua_State *L, int keep)
{
    const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
    if (text) {
        lua_rawseti(L, keep, (lua_Integer)lua_rawlen(L, keep) + 1);
    } else {
        lua_pop(L, 1);
    }
    return text;
}

/* Which of `names` the field says; the first where there is no such field. */
static unsigned test_routes_choice(lua_State *L, int t, const char *field, const char *const *names)
{
    unsigned i = 0;
    lua_getfield(L, t, field);
    const char *text = lua_tostring(L, -1);
    while (text && names[i] && strcmp(names[i], text) != 0) {
        i++;
    }
    if (!names[i]) {
        luaL_error(L, "routes: %s = \"%s\" is unknown", field, text);
    }
    lua_pop(L, 1);
    return i;
}

/* The route at `t` */
static void test_routes_read(lua_State *L, int t, int keep, struct public_route *out)
{
    static const char *const shapes[] = {"", "envelope", "raw", "form", "cloudevents", NULL};
    static const char *const answers[] = {"json", "id", "empty", "stream", NULL};
    luaL_argcheck(L, lua_istable(L, t), 9, "routes: tables as of http.routes were expected");
    lua_getfield(L, t, "path");
    out->path = test_routes_text(L, keep);
    lua_getfield(L, t, "topic");
    out->topic = test_routes_text(L, keep);
    out->publish = test_routes_choice(L, t, "publish", shapes);
    out->answer = test_routes_choice(L, t, "answer", answers);
    lua_getfield(L, t, "status");
    out->status = (int)lua_tointeger(L, -1);
    lua_getfield(L, t, "subscribe");
    out->subscribe = lua_toboolean(L, -1);
    lua_getfield(L, t, "position_field");
    out->position_field = test_routes_text(L, keep);
    lua_getfield(L, t, "delete");
    out->deletes = lua_toboolean(L, -1);
    lua_pop(L, 3);
    bool fills = out->publish == PUBLISH_RAW || out->publish == PUBLISH_FORM;
    luaL_argcheck(L, out->path && (out->topic || !fills), 9, "routes: path, or topic, is missing");
}

const struct public_routes *test_routes_push(lua_State *L, int idx)
{
    luaL_checktype(L, idx, LUA_TTABLE);
    size_t n = (size_t)lua_rawlen(L, idx);
    struct public_routes *all = lua_newuserdatauv(L, sizeof *all + n * sizeof *all->v, 1);
    struct public_route *v = (struct public_route *)(all + 1);
    memset(v, 0, n * sizeof *v);
    *all = (struct public_routes){v, n};
    lua_newtable(L); /* stack: ..., all, texts */
    int keep = lua_gettop(L);
    for (size_t i = 0; i < n; i++) {
        lua_rawgeti(L, idx, (lua_Integer)i + 1);
        test_routes_read(L, keep + 1, keep, &v[i]);
        lua_settop(L, keep);
    }
    lua_setiuservalue(L, -2, 1);
    return all;
}
