/* lua/: string.find, match, gmatch and gsub of policies, put into the specs' own state to be
 * compared with Lua's. */
#include "lua/vm/lua_string.h"
#include "native.h"

int native_open_pattern(lua_State *L)
{
    lua_newtable(L);
    lua_string_open(L);
    return 1;
}
