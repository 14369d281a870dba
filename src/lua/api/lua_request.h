/* Requests in policies: a table, copied once per call of the hooks. Reading an unknown field raises an
 * error, so that a typo does not read as nil. `headers`, `cookies`, `query`, `query_all`, `topics` and `params` are split into tables
 * when they are first read: until then a request costs one block, whatever a stranger sends. */
#ifndef LUA_API_LUA_REQUEST_H
#define LUA_API_LUA_REQUEST_H

#include "policy/policy.h"

#include <lua.h>

/* What names it in log lines, and as `request.id`. */
void lua_request_id(const struct policy_request *rq, struct request_id *out);
/* Inside a body: pushes {id, ip, method, path, params, query, query_all, headers, cookies, bearer, topics,
 * last_event_id, mark, tls}. */
void lua_request_push(lua_State *L, const struct policy_request *rq);
/* The same without the fields that lua_request_strip() removes, which a stored request does not have. */
void lua_request_push_saved(lua_State *L, const struct policy_request *rq);
/* Inside a body: removes headers, cookies, the bearer token, tls and the query parameters that are
 * credentials from the request at `idx` (absolute). `subscribe` sees only what the broker stores, on
 * the first call as well as later, so that it cannot rely on fields that are missing later. */
void lua_request_strip(lua_State *L, int idx);
/* Makes the fields that nothing has read yet where the table at `idx` (absolute) is a request: for what goes over
 * a table without asking its metatable. */
void lua_request_complete(lua_State *L, int idx);

#endif
