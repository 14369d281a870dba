/* See tool_test.h. busted (Debian: lua-busted) is found where Lua finds its modules; specs are the
 * operator's own code, so they get the full libraries, which policies never do. */
#include "tools/tool_test.h"

#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>

static void set_words(lua_State *L, const struct tool_test_options *opt)
{
    lua_Integer n = 0;
    lua_newtable(L);
    lua_pushliteral(L, "tidegate test");
    lua_rawseti(L, -2, 0);
    if (opt->json) {
        lua_pushliteral(L, "--output=json");
        lua_rawseti(L, -2, ++n);
    }
    for (size_t i = 0; i < opt->count; i++) {
        lua_pushstring(L, opt->words[i]);
        lua_rawseti(L, -2, ++n);
    }
    lua_setglobal(L, "arg");
}

/* output_lost() -> could something on stdout not be written? */
static int l_output_lost(lua_State *L)
{
    lua_pushboolean(L, fflush(stdout) != 0 || ferror(stdout));
    return 1;
}

/* busted ends the process itself when it has run, with 0 or 1: success is not said of a result that
 * nobody can read. */
static int tool_test_do_run(lua_State *L)
{
    static const char runner[] =
        "local output_lost, code_lost = ...\n"
        "local exit = os.exit\n"
        "os.exit = function(code, close)\n"
        "  if (code == true or code == 0) and output_lost() then\n"
        "    io.stderr:write 'tidegate: the output could not be written\\n'\n"
        "    code = code_lost\n"
        "  end\n"
        "  exit(code, close)\n"
        "end\n"
        "local found, runner = pcall(require, 'busted.runner')\n"
        "if not found then\n"
        "  error('busted is needed to run specs (Debian: apt-get install "
        "lua-busted): ' .. runner:match '^[^\\n]*', 0)\n"
        "end\n"
        "runner { standalone = false }\n";
    const struct tool_test_options *opt = lua_touserdata(L, 1);
    luaL_openlibs(L);
    test_module_preload(L, &opt->module);
    set_words(L, opt);
    if (luaL_loadstring(L, runner)) {
        return lua_error(L);
    }
    lua_pushcfunction(L, l_output_lost);
    lua_pushinteger(L, EX_IOERR);
    lua_call(L, 2, 0);
    return 0;
}

int tool_test_run(const struct tool_test_options *opt)
{
    lua_State *L = luaL_newstate();
    if (!L) {
        fprintf(stderr, "tidegate test: no memory for a Lua state\n");
        return EX_OSERR;
    }
    lua_pushcfunction(L, tool_test_do_run);
    lua_pushlightuserdata(L, (void *)(uintptr_t)opt);
    int rc = lua_pcall(L, 1, 0, 0);
    if (rc) {
        const char *text = lua_tostring(L, -1);
        fprintf(stderr, "tidegate test: %s\n", text ? text : "?");
    }
    lua_close(L);
    return rc ? EX_UNAVAILABLE : EX_OK;
}
