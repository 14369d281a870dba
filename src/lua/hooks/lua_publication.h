/* Events to publish, as the `publish` hook gets and returns them. */
#ifndef LUA_HOOKS_LUA_PUBLICATION_H
#define LUA_HOOKS_LUA_PUBLICATION_H

#include "event/event.h"

#include <lua.h>

enum { PUBLICATION_OUTPUTS_MAX = 100 }; /* events made of one */

/* Collects the results for one batch; owned outside the body. */
struct publication_out {
    struct event_list events; /* owned */
    size_t max_data;          /* bytes of data of one event */
    size_t bytes_left;        /* bytes that further events of this batch may use */
};

/* Inside a body: pushes the mutable table {topic, type, raw, attrs, key, source}. Its field `data`, the
 * value of `raw`, is decoded when it is read; any other field raises an error. */
void lua_publication_push(lua_State *L, const struct event *ev);
/* Reads the table at `idx` (absolute), one publication or a list of them, made from `asked`, and
 * appends the events. Raises an error for an invalid event. */
void lua_publication_read(lua_State *L, int idx, struct event *asked, struct publication_out *out);

#endif
