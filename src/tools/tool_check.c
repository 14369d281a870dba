/* See tool_check.h; the work is in scripts/lib/check.lua. */
#include "tools/tool_check.h"

#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <sysexits.h>

/* stack: options; answers the exit code and the texts for stdout and stderr */
static int tool_check_do_run(lua_State *L)
{
    const struct tool_check_options *opt = lua_touserdata(L, 1);
    luaL_openlibs(L);
    test_module_preload(L, &opt->module);
    lua_getglobal(L, "require");
    lua_pushliteral(L, "tidegate.check");
    lua_call(L, 1, 1);
    lua_getfield(L, -1, "run");
    lua_pushstring(L, opt->facts);
    lua_call(L, 1, 3);
    return 3;
}

int tool_check_run(const struct tool_check_options *opt)
{
    lua_State *L = luaL_newstate();
    int code = EX_SOFTWARE;
    if (!L) {
        fprintf(stderr, "tidegate check: no memory for a Lua state\n");
        return EX_OSERR;
    }
    lua_pushcfunction(L, tool_check_do_run);
    lua_pushlightuserdata(L, (void *)(uintptr_t)opt);
    if (lua_pcall(L, 1, 3, 0)) {
        const char *text = lua_tostring(L, -1);
        fprintf(stderr, "tidegate check: %s\n", text ? text : "?");
    } else {
        code = (int)lua_tointeger(L, -3);
        printf("%s", lua_tostring(L, -2));
        fprintf(stderr, "%s", lua_tostring(L, -1));
    }
    lua_close(L);
    return code;
}
