/* A request as policies see it: a table, copied once per question. Plain fields; an unknown one
 * raises, so that a typo is an error and not a nil. */
#ifndef LUA_LUA_REQUEST_H
#define LUA_LUA_REQUEST_H

#include "broker/policy.h"

#include <lua.h>

/* Inside a body, once per state before the first push: makes the metatable. */
void lua_request_open(lua_State *L);
/* Inside a body: pushes {id, ip, method, path, query, headers, cookies, bearer, topics,
 * last_event_id}. */
void lua_request_push(lua_State *L, const struct policy_request *rq);

#endif
