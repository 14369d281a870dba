/* base/: hash, slots, strbuf. */
#include "base/hash.h"
#include "base/slots.h"
#include "base/strbuf.h"
#include "native.h"

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

int native_open_base(lua_State *L)
{
    static const luaL_Reg functions[] = {{"hash", l_hash},
                                         {"slots_script", l_slots_script},
                                         {"strbuf_fill", l_strbuf_fill},
                                         {NULL, NULL}};
    luaL_newlib(L, functions);
    return 1;
}
