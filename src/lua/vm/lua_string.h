/* The string functions of policies that take patterns. */
#ifndef LUA_VM_LUA_STRING_H
#define LUA_VM_LUA_STRING_H

#include <lua.h>

/* Sets find, match, gmatch and gsub in the table on top of the stack. */
void lua_string_open(lua_State *L);

#endif
