/* `fields` of what subscribe returns: fields that the head of the answer has besides. */
#ifndef LUA_HOOKS_LUA_FIELDS_H
#define LUA_HOOKS_LUA_FIELDS_H

#include "lua/hooks/lua_verdict.h"

/* Reads it in the table at `t` (absolute). Raises an error that names the field. */
void lua_fields_read(lua_State *L, int t, struct verdict_draft *d);

#endif
