/* Reads tables that policies return: closed schemas, raw access only, errors that name the field.
 * Everything here runs inside a body and raises an error for an invalid value. */
#ifndef LUA_VM_LUA_SHAPE_H
#define LUA_VM_LUA_SHAPE_H

#include "base/slice.h"

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>

/* Replaces a read-only view at `idx` (absolute) by its table. Raises an error unless it is a table all
 * of whose keys are in `names` (NULL-terminated). `what` begins the message. */
void lua_shape_closed(lua_State *L, int idx, const char *what, const char *const *names);
/* Pushes t[name], raw, or the table behind a read-only view; returns its type. */
int lua_shape_field(lua_State *L, int t, const char *name);
/* Raises an error unless the value at `idx` (absolute) is a table with `least` (0 or 1) to `most` elements
 * and no other keys; returns how many. "WHAT: a list of OF was expected". */
lua_Integer lua_shape_list(lua_State *L, int idx, const char *what, const char *of,
                           lua_Integer least, lua_Integer most);
/* The string at `idx`, borrowed while Lua holds it; raises "what: a string was expected, got ...".
 */
struct slice lua_shape_string(lua_State *L, int idx, const char *what);
enum { LUA_SHAPE_NAME_MAX = 64 };
/* The name at `idx` of something the policy defines: letters, digits, _ and -. Raises "what: names
 * are ...". NUL-terminated. */
struct slice lua_shape_name(lua_State *L, int idx, const char *what);
/* A whole number between the bounds (1.0 counts). */
lua_Integer lua_shape_integer(lua_State *L, int idx, const char *what, lua_Integer least,
                              lua_Integer most);
/* A Unix time in seconds that is behind `after_s`. */
lua_Integer lua_shape_time(lua_State *L, int idx, const char *what, lua_Integer after_s,
                           lua_Integer most);
/* A finite number above 0 and up to `most`. */
double lua_shape_positive(lua_State *L, int idx, const char *what, double most);

/* Raises "what: unknown WORD 'given' (did you mean ...)". */
int lua_shape_unknown(lua_State *L, const char *what, const char *word, const char *given,
                      const char *const *names, size_t n);
/* Raises "WHAT has no field 'key' (did you mean ...)" for the key at `idx`. */
int lua_shape_no_field(lua_State *L, const char *what, int idx, const char *const *names, size_t n);

#endif
