/* The gating hooks, as bodies of a question's job: they run in a coroutine, so any of these hooks
 * may wait. What hooks return is copied into C. */
#ifndef LUA_POLICY_LUA_GATES_H
#define LUA_POLICY_LUA_GATES_H

#include <lua.h>

/* authenticate, then subscribe: the question's draft holds the verdict. */
int lua_gate_subscribe(lua_State *L);
/* authenticate, then publish for each of the asked events. On VERDICT_ALLOW `out` has the events
 * and the answer's first[i] the index of the first made of asked event i. */
int lua_gate_publish(lua_State *L);
/* subscribe alone, on a kept request and a known identity */
int lua_gate_resubscribe(lua_State *L);
/* disconnect(who, info) */
int lua_gate_disconnect(lua_State *L);
/* setup{version, previous} */
int lua_gate_setup(lua_State *L);

#endif
