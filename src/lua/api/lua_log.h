/* log.info, log.warn and print of policies: one line of the broker's log each. */
#ifndef LUA_API_LUA_LOG_H
#define LUA_API_LUA_LOG_H

#include <lua.h>

/* Pushes the library table `log` of policies. */
void lua_log_open(lua_State *L);
/* print(...): its arguments as one text, on level info. */
int lua_log_print(lua_State *L);

#endif
