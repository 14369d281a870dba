/* The pattern functions of policies give the answers of Lua's own: results, captures and errors. */
#include "lua/vm/lua_string.h"

#include <lauxlib.h>
#include <lualib.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* chunk(ours, which, text, pattern, extra, init): compares, as text, what both answer. What takes
 * us too many steps is not given to Lua. */
static const char compare[] =
    "local ours, which, text, pattern, extra, init = ...\n"
    "local theirs = string\n"
    "local function show(...)\n"
    "  local t = table.pack(...)\n"
    "  for i = 1, t.n do t[i] = math.type(t[i]) or type(t[i]); t[i] = t[i] .. ':' .. "
    "tostring((select(i, ...))) end\n"
    "  return table.concat(t, '|')\n"
    "end\n"
    "local function all(lib)\n"
    "  if which == 0 then return show(pcall(lib.find, text, pattern, init)) end\n"
    "  if which == 1 then return show(pcall(lib.match, text, pattern, init)) end\n"
    "  if which == 2 then return show(pcall(lib.find, text, pattern, init, true)) end\n"
    "  if which == 3 then return show(pcall(lib.gsub, text, pattern, extra, init)) end\n"
    "  if which == 4 then return show(pcall(lib.gsub, text, pattern, { [extra] = 'x', a = false, b "
    "= 1 })) end\n"
    "  if which == 5 then return show(pcall(lib.gsub, text, pattern, function(a, b) return b or a "
    "end)) end\n"
    "  local out = {}\n"
    "  local ok, e = pcall(function()\n"
    "    for a, b in lib.gmatch(text, pattern, init) do out[#out + 1] = show(a, b) end\n"
    "  end)\n"
    "  return show(ok, e) .. table.concat(out, ';')\n"
    "end\n"
    "local a = all(ours)\n"
    "if a:find('too many steps', 1, true) then return true end\n"
    "local b = all(theirs)\n"
    "return a == b, a, b\n";

static struct {
    lua_State *L;
} fuzz;

static lua_State *state(void)
{
    if (!fuzz.L) {
        fuzz.L = luaL_newstate();
        memset(lua_getextraspace(fuzz.L), 0, LUA_EXTRASPACE);
        luaL_openlibs(fuzz.L);
    }
    return fuzz.L;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 4) {
        return 0;
    }
    lua_State *L = state();
    size_t pattern = data[1] % 32, extra = data[2] % 8;
    const char *p = (const char *)data + 4;
    size -= 4;
    pattern = pattern > size ? size : pattern;
    extra = extra > size - pattern ? size - pattern : extra;
    if (luaL_loadstring(L, compare) != LUA_OK) {
        abort();
    }
    lua_newtable(L);
    lua_string_open(L);
    lua_pushinteger(L, data[0] % 7);
    lua_pushlstring(L, p + pattern + extra, size - pattern - extra);
    lua_pushlstring(L, p, pattern);
    lua_pushlstring(L, p + pattern, extra);
    lua_pushinteger(L, (int8_t)data[3] / 4);
    if (lua_pcall(L, 6, 3, 0) != LUA_OK || !lua_toboolean(L, -3)) {
        fprintf(stderr, "ours:   %s\nLua's:  %s\n", luaL_tolstring(L, -2, NULL),
                luaL_tolstring(L, -2, NULL));
        abort();
    }
    lua_settop(L, 0);
    return 0;
}
