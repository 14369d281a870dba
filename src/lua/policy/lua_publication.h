/* Events on their way in, as the `publish` hook sees and returns them. */
#ifndef LUA_POLICY_LUA_PUBLICATION_H
#define LUA_POLICY_LUA_PUBLICATION_H

#include "event/event.h"

#include <lua.h>

enum { PUBLICATION_OUTPUTS_MAX = 100 }; /* events made of one */

/* What the outputs of one batch are collected in; owned outside the body. */
struct publication_out {
    struct event_list events; /* owned */
    size_t max_data;          /* bytes of data of one event */
    size_t bytes_left;        /* what all made of this batch may still cost */
};

/* Inside a body: pushes the mutable table {topic, type, raw, attrs, key, source}. */
void lua_publication_push(lua_State *L, const struct event *ev);
/* Reads the table at `idx` (absolute), one publication or a list of them, made of `asked`, and
 * appends the events. Raises on what may not become an event. */
void lua_publication_read(lua_State *L, int idx, struct event *asked, struct publication_out *out);

#endif
