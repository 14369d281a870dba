/* C resources that must survive, or end with, an error raised by Lua: boxed in a userdata that is
 * marked to be closed, so they are freed when the stack slot is popped and when it is unwound. */
#ifndef LUA_LUA_BOX_H
#define LUA_LUA_BOX_H

#include "base/strbuf.h"

#include <jansson.h>
#include <lua.h>

struct lua_box {
    json_t *tree;       /* owned; may be NULL */
    struct strbuf text; /* owned */
    int fd;             /* owned; < 0: none */
};

/* Pushes an empty box, marked to be closed; `text_max` is the cap of its buffer. Close it with
 * lua_closeslot() or leave it to the end of the C function. */
struct lua_box *lua_box_push(lua_State *L, size_t text_max);

#endif
