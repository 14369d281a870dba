/* http.routes as a spec of a policy tells them. */
#ifndef TOOLS_TEST_TEST_ROUTES_H
#define TOOLS_TEST_TEST_ROUTES_H

#include "event/publish/public_route.h"

#include <lua.h>

/* Pushes the routes that the list at `idx` tells, as http.routes does; they live as long as what is pushed. Raises for
 * what is none. */
const struct public_routes *test_routes_push(lua_State *L, int idx);

#endif
