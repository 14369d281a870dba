/* Events in policies: a read-only userdata that owns a reference to an immutable event, so a script
 * may keep it; freed by __gc. */
#ifndef LUA_API_LUA_EVENT_H
#define LUA_API_LUA_EVENT_H

#include "event/event.h"

#include <lua.h>

/* Inside a body, once per state before the first push: makes the metatable. */
void lua_event_open(lua_State *L);
/* Inside a body: pushes the userdata of `ev`. The one of the last event is cached, because many
 * audiences evaluate the same event in a row. */
void lua_event_push(lua_State *L, struct event *ev);

#endif
