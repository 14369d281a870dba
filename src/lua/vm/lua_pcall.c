#include "lua/vm/lua_pcall.h"

#include "lua/vm/lua_vm.h"

enum { NESTED_MAX = 100 };

/* stack: true, results; or true, error */
static int lua_pcall_finish(lua_State *L, int status, lua_KContext unused)
{
    (void)unused;
    lua_vm_leave_pcall(L);
    if (status == LUA_OK || status == LUA_YIELD) {
        return lua_gettop(L);
    }
    lua_pushboolean(L, 0);
    lua_insert(L, -2);
    return 2;
}

int lua_pcall_limited(lua_State *L)
{
    luaL_checkany(L, 1);
    luaL_checkstack(L, 2, NULL);
    lua_pushboolean(L, 1);
    lua_insert(L, 1);
    if (lua_vm_enter_pcall(L) > NESTED_MAX) {
        lua_vm_leave_pcall(L);
        return luaL_error(L, "pcall nested more than %d times", NESTED_MAX);
    }
    int status = lua_pcallk(L, lua_gettop(L) - 2, LUA_MULTRET, 0, 0, lua_pcall_finish);
    return lua_pcall_finish(L, status, 0);
}
