/* base/: hash, jitter, nearest, read_file, slots, strbuf. */
#include "base/container/id_set.h"
#include "base/container/slots.h"
#include "base/hash.h"
#include "base/jitter.h"
#include "base/program/read_file.h"
#include "base/strbuf.h"
#include "base/text/nearest.h"
#include "native.h"

#include <uv.h>

static int l_hash(lua_State *L)
{
    struct hash_key key = {(uint64_t)luaL_checkinteger(L, 1), (uint64_t)luaL_checkinteger(L, 2)};
    size_t n;
    const char *p = luaL_checklstring(L, 3, &n);
    lua_pushinteger(L, (lua_Integer)hash_bytes(&key, p, n));
    return 1;
}

/* slots_script{ {"add"}, {"get", id}, {"del", id} }: runs a script on one table, returns the
 * answers. */
static int l_slots_script(lua_State *L)
{
    static int things[1];
    struct slots s;
    slots_init(&s);
    lua_newtable(L);
    lua_Integer n = luaL_len(L, 1);
    for (lua_Integer i = 1; i <= n; i++) {
        lua_rawgeti(L, 1, i);
        lua_rawgeti(L, -1, 1);
        lua_rawgeti(L, -2, 2);
        const char *op = lua_tostring(L, -2);
        uint64_t id = (uint64_t)lua_tointeger(L, -1);
        lua_pop(L, 3);
        if (strcmp(op, "add") == 0) {
            lua_pushinteger(L, (lua_Integer)slots_add(&s, things));
        } else if (strcmp(op, "get") == 0) {
            lua_pushboolean(L, slots_get(&s, id) != NULL);
        } else {
            slots_del(&s, id);
            lua_pushboolean(L, 1);
        }
        lua_rawseti(L, 2, i);
    }
    slots_clear(&s);
    return 1;
}

/* strbuf_fill(max, piece, times) -> length reached, last return code */
static int l_strbuf_fill(lua_State *L)
{
    struct strbuf b;
    size_t n;
    const char *piece = luaL_checklstring(L, 2, &n);
    int rc = 0;
    strbuf_init(&b, (size_t)luaL_checkinteger(L, 1));
    for (lua_Integer i = luaL_checkinteger(L, 3); i > 0 && rc == 0; i--) {
        rc = strbuf_append(&b, piece, n);
    }
    lua_Integer len = (lua_Integer)b.len;
    strbuf_clear(&b);
    lua_pushinteger(L, len);
    lua_pushinteger(L, rc);
    return 2;
}

/* nearest(given, names) -> name or nil */
static int l_nearest(lua_State *L)
{
    enum { NAMES_MAX = 16 };
    const char *names[NAMES_MAX];
    size_t n = (size_t)luaL_len(L, 2), len;
    const char *given = luaL_checklstring(L, 1, &len);
    luaL_argcheck(L, n <= NAMES_MAX, 2, "too many");
    for (size_t i = 0; i < n; i++) {
        lua_rawgeti(L, 2, (lua_Integer)i + 1);
        names[i] = lua_tostring(L, -1);
    }
    lua_pushstring(L, nearest_name(names, n, slice_of(given, len)));
    return 1;
}

/* read_file(path, max) -> text, error name or nil */
static int l_read_file(lua_State *L)
{
    struct strbuf b;
    strbuf_init(&b, (size_t)luaL_checkinteger(L, 2));
    int rc = read_file(luaL_checkstring(L, 1), &b);
    lua_pushlstring(L, b.len ? b.data : "", b.len);
    lua_pushstring(L, rc ? uv_err_name(rc) : NULL);
    strbuf_clear(&b);
    return 2;
}

/* jitter(least, most, n) -> n numbers */
static int l_jitter(lua_State *L)
{
    struct jitter j;
    jitter_init(&j);
    lua_newtable(L);
    for (lua_Integer i = 1; i <= luaL_checkinteger(L, 3); i++) {
        lua_pushinteger(L, (lua_Integer)jitter_between(&j, (uint64_t)luaL_checkinteger(L, 1),
                                                       (uint64_t)luaL_checkinteger(L, 2)));
        lua_rawseti(L, -2, i);
    }
    return 1;
}

/* id_set_script({ { "add" | "has" | "pass", id, [how many from there on] }, ... }) -> a boolean (pass: the count) for each */
static int l_id_set_script(lua_State *L)
{
    struct id_set s = {.v = NULL};
    lua_newtable(L);
    for (lua_Integer i = 1; i <= luaL_len(L, 1); i++) {
        lua_rawgeti(L, 1, i);
        lua_rawgeti(L, -1, 1);
        lua_rawgeti(L, -2, 2);
        lua_rawgeti(L, -3, 3);
        const char *what = lua_tostring(L, -3);
        uint64_t id = (uint64_t)lua_tointeger(L, -2), n = (uint64_t)luaL_optinteger(L, -1, 1);
        lua_pop(L, 4);
        if (strcmp(what, "add") == 0) {
            bool all = true;
            for (uint64_t k = 0; k < n; k++) {
                all = id_set_add(&s, id + k) && all;
            }
            lua_pushboolean(L, all);
        } else if (strcmp(what, "has") == 0) {
            lua_pushboolean(L, id_set_has(&s, id));
        } else {
            id_set_pass(&s, id);
            lua_pushinteger(L, (lua_Integer)id_set_count(&s));
        }
        lua_rawseti(L, -2, i);
    }
    id_set_clear(&s);
    return 1;
}

int native_open_base(lua_State *L)
{
    static const luaL_Reg functions[] = {{"hash", l_hash},
                                         {"id_set_script", l_id_set_script},
                                         {"jitter", l_jitter},
                                         {"nearest", l_nearest},
                                         {"read_file", l_read_file},
                                         {"slots_script", l_slots_script},
                                         {"strbuf_fill", l_strbuf_fill},
                                         {NULL, NULL}};
    luaL_newlib(L, functions);
    return 1;
}
