/* Copies a table of settings (dotted path -> value) into a C struct described by a table of keys.
 * Helper of lua_config.c. */
#ifndef CONFIG_LUA_STRUCT_H
#define CONFIG_LUA_STRUCT_H

#include "config/lua_config.h"

#include <lua.h>

/* NULL when there is none of that path. */
const struct lua_config_key *lua_struct_find(const struct lua_config_spec *spec, const char *path);
/* Zeroes every key's place. */
void lua_struct_blank(const struct lua_config_spec *spec, void *out);
/* Frees what a copy put there, and zeroes it. */
void lua_struct_clear(const struct lua_config_spec *spec, void *out);

/* The two below raise Lua errors: call them protected. */

/* Schema and keys must mirror each other; raises naming the path where they do not.
 * Stack: table of dotted path -> kind at -1; it is emptied. */
void lua_struct_check(lua_State *L, const struct lua_config_spec *spec);
/* Copies every key; after a raise lua_struct_clear() frees what was copied so far.
 * Stack: table of dotted path -> value at -1, unchanged. */
void lua_struct_copy(lua_State *L, const struct lua_config_spec *spec, void *out);

#endif
