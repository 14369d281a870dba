/* Events in policies: a read-only userdata that owns a reference to an immutable event, so a script
 * may keep it; freed by __gc. */
#ifndef LUA_API_LUA_EVENT_H
#define LUA_API_LUA_EVENT_H

#include "event/event.h"
#include "lua/api/lua_json.h"

#include <lua.h>

/* Inside a body, once per state before the first push: makes the metatable. */
void lua_event_open(lua_State *L);
/* Inside a body: pushes the userdata of `ev`. The one of the last event is cached, because many
 * audiences evaluate the same event in a row. */
void lua_event_push(lua_State *L, struct event *ev);
/* Inside a body: pushes what the data is, read-only: decoded from JSON, or the text where it is not JSON.
 * `what` names it in the error of a write; a constant. False, and nothing pushed: it is JSON that cannot be
 * read safely. */
bool lua_event_push_data(lua_State *L, struct slice data, const char *what,
                         struct lua_json_error *why);

#endif
