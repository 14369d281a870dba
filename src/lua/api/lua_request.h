/* A request as policies see it: a table, copied once per question. Plain fields; an unknown one
 * raises, so that a typo is an error and not a nil. */
#ifndef LUA_API_LUA_REQUEST_H
#define LUA_API_LUA_REQUEST_H

#include "broker/policy.h"

#include <lua.h>

/* Inside a body, once per state before the first push: makes the metatable. */
void lua_request_open(lua_State *L);
/* Inside a body: pushes {id, ip, method, path, query, headers, cookies, bearer, topics,
 * last_event_id}. */
void lua_request_push(lua_State *L, const struct policy_request *rq);
/* The same without what lua_request_strip() takes out; of a kept request there is nothing else. */
void lua_request_push_kept(lua_State *L, const struct policy_request *rq);
/* Inside a body: takes headers, cookies, the bearer token and the query parameters that are
 * credentials out of the request at `idx` (absolute). Subscribe sees only what the broker keeps, at
 * once as well as later, so that it cannot come to rely on what will not be there. */
void lua_request_strip(lua_State *L, int idx);

#endif
