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

/* stack: +1 {lcov, min}, or nil where nothing is recorded */
static void push_coverage(lua_State *L, const struct tool_test_options *opt)
{
    if (!opt->module.cover) {
        lua_pushnil(L);
        return;
    }
    lua_createtable(L, 0, 2);
    lua_pushstring(L, opt->lcov);
    lua_setfield(L, -2, "lcov");
    if (opt->min > 0) {
        lua_pushnumber(L, opt->min);
        lua_setfield(L, -2, "min");
    }
}

/* Answers the exit code, where busted does not end the process itself, as it does where specs have failed. Success is
 * not said of a result that nobody can read. */
static int tool_test_do_run(lua_State *L)
{
    static const char runner[] =
        "local output_lost, code_lost, json, coverage = ...\n"
        "local exit = os.exit\n"
        "local function finish(code)\n"
        "  local passed = code == true or code == 0\n"
        "  if coverage then\n"
        "    local out = json and io.stderr or io.stdout\n"
        "    local problems = require 'tidegate.test.coverage'.finish(coverage, out)\n"
        "    for _, text in ipairs(problems) do\n"
        "      io.stderr:write('tidegate test: ', text, '\\n')\n"
        "    end\n"
        "    passed = passed and #problems == 0\n"
        "    code = passed and 0 or code ~= true and code ~= 0 and code or 1\n"
        "  end\n"
        "  local measured = require 'tidegate.test.native'.measured()\n"
        "  if measured then\n"
        "    require 'tidegate.test.bench'.report(measured, json and io.stderr or io.stdout)\n"
        "  end\n"
        "  if passed and output_lost() then\n"
        "    io.stderr:write 'tidegate: the output could not be written\\n'\n"
        "    code = code_lost\n"
        "  end\n"
        "  return code\n"
        "end\n"
        "os.exit = function(code, close) exit(finish(code), close) end\n"
        "local found, runner = pcall(require, 'busted.runner')\n"
        "if not found then\n"
        "  error('busted is needed to run specs (Debian: apt-get install "
        "lua-busted): ' .. runner:match '^[^\\n]*', 0)\n"
        "end\n"
        "runner { standalone = false }\n"
        "return finish(0)\n";
    const struct tool_test_options *opt = lua_touserdata(L, 1);
    luaL_openlibs(L);
    test_module_preload(L, &opt->module);
    set_words(L, opt);
    if (luaL_loadstring(L, runner)) {
        return lua_error(L);
    }
    lua_pushcfunction(L, l_output_lost);
    lua_pushinteger(L, EX_IOERR);
    lua_pushboolean(L, opt->json);
    push_coverage(L, opt);
    lua_call(L, 4, 1);
    return 1;
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
    int rc = lua_pcall(L, 1, 1, 0), code = EX_UNAVAILABLE;
    if (rc) {
        const char *text = lua_tostring(L, -1);
        fprintf(stderr, "tidegate test: %s\n", text ? text : "?");
    } else {
        code = (int)lua_tointeger(L, -1);
    }
    lua_close(L);
    return code;
}
