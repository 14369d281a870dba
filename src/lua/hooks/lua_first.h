/* `first` of what subscribe returns: what the stream begins with, as the bytes of its frames. */
#ifndef LUA_HOOKS_LUA_FIRST_H
#define LUA_HOOKS_LUA_FIRST_H

#include "lua/hooks/lua_verdict.h"

/* Reads it in the table at `t` (absolute). Raises an error that names the field. */
void lua_first_read(lua_State *L, int t, struct verdict_draft *d);

#endif
