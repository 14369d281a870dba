#include "lua/vm/lua_box.h"

#include "lua/vm/lua_vm.h"

#include <lauxlib.h>
#include <unistd.h>

static const char *const box_type = "tidegate.box";

/* Both __close and __gc: whichever comes first empties it. */
static int box_close(lua_State *L)
{
    struct lua_box *b = lua_touserdata(L, 1);
    json_decref(b->tree);
    b->tree = NULL;
    strbuf_clear(&b->text);
    if (b->fd >= 0) {
        close(b->fd);
        b->fd = -1;
    }
    return 0;
}

void lua_box_open(lua_State *L)
{
    static const luaL_Reg methods[] = {{"__close", box_close}, {"__gc", box_close}, {NULL, NULL}};
    lua_vm_closer(L, box_close);
    luaL_newmetatable(L, box_type);
    luaL_setfuncs(L, methods, 0);
    lua_pop(L, 1);
}

struct lua_box *lua_box_push(lua_State *L, size_t text_max)
{
    luaL_checkstack(L, 4, NULL);
    struct lua_box *b = lua_newuserdatauv(L, sizeof *b, 0); /* stack: box */
    *b = (struct lua_box){.fd = -1};
    strbuf_init(&b->text, text_max);
    luaL_setmetatable(L, box_type);
    lua_toclose(L, -1);
    return b;
}

void lua_box_pop(lua_State *L)
{
    lua_closeslot(L, -1);
    lua_pop(L, 1);
}
