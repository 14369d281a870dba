/* Read-only views of tables that many calls share.
 *
 * A view is an empty table whose metatable reads from the real one. Indexing, pairs, ipairs, # and the
 * sandbox's next work; a write raises an error. */
#ifndef LUA_VM_LUA_READONLY_H
#define LUA_VM_LUA_READONLY_H

#include <lua.h>
#include <stdbool.h>

/* Replaces the table on top of the stack by a view of it. `what` names it in the error of a write
 * ("event attrs"); a constant. */
void lua_readonly_wrap(lua_State *L, const char *what);
/* The same for the whole tree: tables inside become views when they are reached. */
void lua_readonly_wrap_deep(lua_State *L, const char *what);
/* A view that records in lua_host.reads which keys are read, also through lua_readonly_real(). Its
 * keys are strings. */
void lua_readonly_wrap_recorded(lua_State *L, const char *what);
/* When the value at `idx` is a view: pushes the real table and returns true. Else pushes nothing.
 */
bool lua_readonly_real(lua_State *L, int idx);
/* next(view, key), with the arguments at 1 and 2: pushes the pair, or nil; returns how many. */
int lua_readonly_next(lua_State *L);

#endif
