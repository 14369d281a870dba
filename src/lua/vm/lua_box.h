/* C resources that must survive, or end with, an error raised by Lua: boxed in a userdata that is
 * marked to be closed, so they are freed when the stack slot is popped and when it is unwound. */
#ifndef LUA_VM_LUA_BOX_H
#define LUA_VM_LUA_BOX_H

#include "base/strbuf.h"

#include <jansson.h>
#include <lua.h>

struct lua_box {
    json_t *tree;       /* owned; may be NULL */
    struct strbuf text; /* owned */
    int fd;             /* owned; < 0: none */
};

/* Inside a body, once per state before the first push: makes the metatable. */
void lua_box_open(lua_State *L);
/* Pushes an empty box, marked to be closed; `text_max` is the cap of its buffer. Close it with
 * lua_closeslot() or lua_box_pop(), or leave it to the end of the C function. Never lua_pop() or
 * lua_settop() it open: those of Lua 5.4.4 set the top to where it was before the closing, which
 * may have moved the stack (lua.org/bugs.html#5.4.4). */
struct lua_box *lua_box_push(lua_State *L, size_t text_max);
/* Closes and pops the box on top of the stack. */
void lua_box_pop(lua_State *L);

#endif
