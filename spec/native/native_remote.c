/* remote/: sse_reader. */
#include "native.h"
#include "remote/client/sse_reader.h"

/* The table at index 3 of the stack gets what the reader reports. */
static void add_text(lua_State *L, const char *list, struct slice text)
{
    lua_getfield(L, 3, list);
    lua_pushlstring(L, text.p, text.n);
    lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
    lua_pop(L, 1);
}

static void on_event(void *ctx, const struct sse_event *ev)
{
    lua_State *L = ctx;
    lua_getfield(L, 3, "events");
    lua_createtable(L, 0, 3);
    lua_pushlstring(L, ev->id.p, ev->id.n);
    lua_setfield(L, -2, "id");
    lua_pushlstring(L, ev->type.p, ev->type.n);
    lua_setfield(L, -2, "type");
    lua_pushlstring(L, ev->data.p, ev->data.n);
    lua_setfield(L, -2, "data");
    lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
    lua_pop(L, 1);
}

static void on_retry(void *ctx, uint64_t ms)
{
    lua_State *L = ctx;
    lua_pushinteger(L, (lua_Integer)ms);
    lua_setfield(L, 3, "retry");
}

static void on_comment(void *ctx, struct slice text)
{
    add_text(ctx, "comments", text);
}

/* sse_read({piece, ...}, max) -> {events, comments, retry, last_id, rc}; a piece `false` begins another
 * stream */
static int l_sse_read(lua_State *L)
{
    static const struct sse_reader_ops ops = {on_event, on_retry, on_comment};
    struct sse_reader r;
    int rc = 0;
    luaL_checktype(L, 1, LUA_TTABLE);
    sse_reader_init(&r, &ops, L, (size_t)luaL_optinteger(L, 2, 1 << 20));
    lua_settop(L, 2);
    lua_newtable(L);
    lua_newtable(L);
    lua_setfield(L, 3, "events");
    lua_newtable(L);
    lua_setfield(L, 3, "comments");
    for (lua_Integer i = 1; rc == 0 && lua_rawgeti(L, 1, i) != LUA_TNIL; i++) {
        size_t n = 0;
        const char *p = lua_tolstring(L, -1, &n);
        if (p) {
            rc = sse_reader_feed(&r, slice_of(p, n));
        } else {
            sse_reader_restart(&r);
        }
        lua_pop(L, 1);
    }
    lua_settop(L, 3);
    struct slice id = sse_reader_last_id(&r);
    lua_pushlstring(L, id.p, id.n);
    lua_setfield(L, 3, "last_id");
    lua_pushinteger(L, rc);
    lua_setfield(L, 3, "rc");
    sse_reader_clear(&r);
    return 1;
}

int native_open_remote(lua_State *L)
{
    static const luaL_Reg functions[] = {{"sse_read", l_sse_read}, {NULL, NULL}};
    luaL_newlib(L, functions);
    return 1;
}
