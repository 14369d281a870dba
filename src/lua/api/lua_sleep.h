/* sleep(seconds): the simplest function that waits. */
#ifndef LUA_API_LUA_SLEEP_H
#define LUA_API_LUA_SLEEP_H

#include <lua.h>

int lua_sleep(lua_State *L);

#endif
