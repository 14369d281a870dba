/* pcall of policies: as Lua's, but nested only so deep.
 *
 * Lua's own depth of calls from C ends at 200, except in coroutines, where each caught error frees
 * the C stack again: a hook could nest hundreds of thousands. An overdue hook is brought down by an
 * error in each of them, and catching one takes a look at every frame. */
#ifndef LUA_VM_LUA_PCALL_H
#define LUA_VM_LUA_PCALL_H

#include <lua.h>

int lua_pcall_limited(lua_State *L);

#endif
