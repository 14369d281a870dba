/* tidegate_spec: busted under Lua 5.4, in a binary of our own that also holds the C core, so that
 * sanitizers see both. usage: tidegate_spec [busted arguments] */
#include "native.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void preload(lua_State *L, const char *name, lua_CFunction open)
{
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
    lua_pushcfunction(L, open);
    lua_setfield(L, -2, name);
    lua_pop(L, 1);
}

static void set_args(lua_State *L, int argc, char **argv)
{
    enum { OWN = 2 };
    lua_createtable(L, argc + OWN, 1);
    lua_pushstring(L, argv[0]);
    lua_rawseti(L, -2, 0);
    lua_pushliteral(L, "--run=core"); /* of .busted: its settings are of no use to other programs */
    lua_rawseti(L, -2, 1);
    /* also where there is no .busted: it ends what specs have started */
    lua_pushliteral(L, "--helper=" SPEC_SOURCE_DIR "/spec/helper.lua");
    lua_rawseti(L, -2, OWN);
    for (int i = 1; i < argc; i++) {
        lua_pushstring(L, argv[i]);
        lua_rawseti(L, -2, i + OWN);
    }
    lua_setglobal(L, "arg");
    lua_pushstring(L, SPEC_SOURCE_DIR);
    lua_setglobal(L, "SPEC_SOURCE_DIR");
}

int main(int argc, char **argv)
{
    static const char runner[] = "package.path = SPEC_SOURCE_DIR .. '/spec/?.lua;' .. "
                                 "SPEC_SOURCE_DIR .. '/scripts/lib/?.lua;' .. package.path\n"
                                 "assert(_VERSION == 'Lua 5.4', _VERSION)\n"
                                 "require 'busted.runner' { standalone = false }\n";
    signal(SIGPIPE, SIG_IGN);
    lua_State *L = luaL_newstate();
    if (!L) {
        return EXIT_FAILURE;
    }
    memset(lua_getextraspace(L), 0, LUA_EXTRASPACE); /* no struct lua_vm owns it */
    luaL_openlibs(L);
#define X(name) preload(L, "native." #name, native_open_##name);
    NATIVE_MODULES(X)
#undef X
    set_args(L, argc, argv);
    int rc = luaL_dostring(L, runner);
    if (rc) {
        fprintf(stderr, "tidegate_spec: %s\n", lua_tostring(L, -1));
    }
    lua_close(L);
    return rc ? EXIT_FAILURE : EXIT_SUCCESS;
}
