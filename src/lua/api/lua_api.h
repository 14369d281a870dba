/* What policies may call besides the Lua libraries: tg, log, json, cache, print, sleep. */
#ifndef LUA_API_LUA_API_H
#define LUA_API_LUA_API_H

#include <lua.h>
#include <stdbool.h>

enum { DENY_REASON_MAX_BYTES = 512 };

/* May a denial carry that status: 400 401 403 404 429. */
bool lua_api_deny_status_ok(lua_Integer status);
/* NULL, or what is wrong with the text of a denial; a constant. */
const char *lua_api_deny_reason_check(const char *reason, size_t n);

/* Inside a body: sets tg, log, json, cache, print and sleep in the table on top of the stack. */
void lua_api_open(lua_State *L);

#endif
