/* The functions that policies may call besides the Lua libraries: tg, log, json, cache, print, sleep. */
#ifndef LUA_API_LUA_API_H
#define LUA_API_LUA_API_H

#include <lua.h>
#include <stdbool.h>

enum { DENY_REASON_MAX_BYTES = 512, DENY_RETRY_AFTER_MAX_S = 366 * 86400 };

/* The valid statuses of a denial, for messages. */
#define LUA_API_DENY_STATUSES "204, 400, 401, 403, 404, 409, 410, 413, 422 or 429"
/* Is it one of them? */
bool lua_api_deny_status_ok(lua_Integer status);
/* The same for tg.stored(). */
#define LUA_API_STORED_STATUSES "200, 201, 202 or 204"
bool lua_api_stored_status_ok(lua_Integer status);
/* NULL if the text of a denial is valid, else a constant that says what is wrong with it. */
const char *lua_api_deny_reason_check(const char *reason, size_t n);

/* Inside a body: sets tg, log, json, cache, print and sleep in the table on top of the stack. */
void lua_api_open(lua_State *L);

#endif
