/* See tool_eval.h; the work is in scripts/lib/eval.lua. */
#include "tools/tool_eval.h"

#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <sysexits.h>

const char *const tool_eval_hooks[] = {"authenticate", "subscribe", "publish", "filter",
                                       "format",       "observe",   NULL};

/* stack: options; answers exit code, text */
static int tool_eval_do_run(lua_State *L)
{
    const struct tool_eval_options *opt = lua_touserdata(L, 1);
    luaL_openlibs(L);
    test_module_preload(L, &opt->module);
    lua_getglobal(L, "require");
    lua_pushliteral(L, "tidegate.eval");
    lua_call(L, 1, 1);
    lua_getfield(L, -1, "run");
    lua_pushstring(L, opt->hook);
    lua_pushstring(L, opt->policy);
    lua_pushlstring(L, opt->input.p, opt->input.n);
    lua_pushboolean(L, opt->json);
    lua_call(L, 4, 2);
    return 2;
}

/* Mistakes of the user are tables {input = text} or {policy = text}; anything else is ours. */
static int complain(lua_State *L)
{
    if (lua_istable(L, -1)) {
        if (lua_getfield(L, -1, "policy") == LUA_TSTRING) {
            fprintf(stderr, "tidegate eval: %s\n", lua_tostring(L, -1));
            return EX_CONFIG;
        }
        if (lua_getfield(L, -2, "input") == LUA_TSTRING) {
            fprintf(stderr, "tidegate eval: input: %s\n", lua_tostring(L, -1));
            return EX_DATAERR;
        }
    }
    const char *text = lua_tostring(L, -1);
    fprintf(stderr, "tidegate eval: %s\n", text ? text : "?");
    return EX_SOFTWARE;
}

int tool_eval_run(const struct tool_eval_options *opt)
{
    lua_State *L = luaL_newstate();
    if (!L) {
        fprintf(stderr, "tidegate eval: no memory for a Lua state\n");
        return EX_OSERR;
    }
    int code;
    lua_pushcfunction(L, tool_eval_do_run);
    lua_pushlightuserdata(L, (void *)(uintptr_t)opt);
    if (lua_pcall(L, 1, 2, 0)) {
        code = complain(L);
    } else {
        code = (int)lua_tointeger(L, -2);
        printf("%s", lua_tostring(L, -1));
    }
    lua_close(L);
    return code;
}
