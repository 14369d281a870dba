/* pcall of policies: as Lua's, but with a limit on nesting.
 *
 * Lua limits nested calls from C to 200, but not in coroutines, where each caught error frees the C
 * stack again: a hook could nest hundreds of thousands. The watchdog stops an overdue hook by an
 * error in each of them, and catching one costs a walk over every frame. */
#ifndef LUA_VM_LUA_PCALL_H
#define LUA_VM_LUA_PCALL_H

#include <lua.h>

int lua_pcall_limited(lua_State *L);

#endif
